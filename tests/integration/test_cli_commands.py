"""`mailer …` as its user meets it: real processes, a real Valkey, a simulated SES and a worker, all from one `mailer dev`."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from .forks import Forks

MAILER = str(Path(sys.executable).with_name("mailer"))
CAMPAIGN = {"id", "name", "state", "reason", "rows", "counts", "rate", "created_at", "finished_at", "twice", "reasons"} | {
    "delayed", "reputation", "lane",
}  # fmt: skip
MESSAGE = {"id", "to", "state", "reason", "ses_message_id", "mode", "attempts", "updated_at"}
LINE = ["id", "row", "to", "state", "ses_message_id", "reason", "attempts", "updated_at"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
MIME = b"From: News <news@example.com>\nTo: ana@example.org\nCc: bo@example.org\nSubject: Whole\n\nDear Ana\n"
GOT = {"sent", "delivered"}  # SES reports a second after it has accepted a message
NO_ID = "There is no message or campaign '{}' here; `mailer campaign list` shows the campaigns."


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    out: str
    err: str


class Installation:
    """A folder as a user has one, and the variables that point `mailer` at the simulated account."""

    def __init__(self, folder: Path, variables: Mapping[str, str], forks: Forks | None = None) -> None:
        self.folder = folder
        self._forks = forks
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("MAILER_", "AWS_"))}
        self.environment = {**ours, **variables, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [MAILER, *words], cwd=self.folder, env={**self.environment, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def fresh(self, *words: str, **environment: str) -> Said:
        """In a process that imports everything itself."""
        process = self.start(*words, **environment)
        out, err = process.communicate("", timeout=30)
        return Said(process.returncode, out, err)

    def mailer(self, *words: str, stdin: str = "", **environment: str) -> Said:
        assert self._forks
        return Said(*self._forks.run(words, self.folder, {**self.environment, **environment}, stdin))

    def json(self, *words: str) -> Any:
        said = self.mailer(*words, "--json")
        assert (said.status, said.err) == (0, "")
        return json.loads(said.out)


def read_exports(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    lines = [shlex.split(process.stdout.readline()) for _ in range(9)]
    assert [line[0] for line in lines] == ["export"] * 9
    return dict(line[1].split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("cli")
    dev = Installation(folder, {}).start("dev", "--dir", "stack", "--rate", "2000")
    forks = Forks()
    try:
        work = folder / "work"
        fill(work)
        yield Installation(work, read_exports(dev), forks)
    finally:
        forks.close()
        dev.send_signal(signal.SIGINT)
        dev.communicate(timeout=60)


def fill(folder: Path) -> None:
    """Lists and templates, good and bad."""
    letters = {
        "letter": ("Hello {{ name }}", "<p>{{ name }}</p><p>To unsubscribe, write to leave@example.com.</p>"),
        "wrong": ("Hello {{ name }}", "<p>{% if vip %}Our offer{% endif %} {{ name }} <img src='logo.png'></p>"),
        "broken": ("Hello {{ name", "x"),
        "outside": ("Hello", '{% include "../../secret.html" %}'),
    }
    for name, (subject, html) in letters.items():
        path = folder / "templates" / name
        path.mkdir(parents=True)
        (path / "subject.txt").write_text(subject)
        (path / "body.html").write_text(html)
    (folder / "mailer.toml").write_text(
        '[senders.news]\nfrom = "News <news@example.com>"\nlist_unsubscribe = {mailto = "leave@example.com?subject={token}"}\n'
    )
    good = "email,name\na@example.org,Ana\nb@example.org,Bo\n"
    files = {
        "logo.png": PNG, "notes;old.txt": b"notes", "virus.exe": b"MZ", "message.eml": MIME, "8bit.eml": MIME + b"Gr\xfc\xdfe",
        "headless.eml": b"no header at all", "huge.bin": bytes(31_457_281),
        "good.csv": good.encode(),
        "good.csv.gz": gzip.compress(good.encode()),
        "cut.csv.gz": gzip.compress(good.encode())[:-12],
        "vip.csv": b"email,name,vip\na@example.org,Ana,TRUE\nb@example.org,Bo,FALSE\n",
        "columns.csv": b"post,name\na@example.org,Ana\n",
        "empty.csv": b"",
        "bad.csv": b"email\nnobody\n",
        "cyrillic.csv": "email,name\na@example.org,Ана\nb@example.org,Борис\n".encode("cp1251"),
        "pages.csv": b"<!DOCTYPE html><html><head><title>Sign in</title>",
        "secret.csv": b"[default]\naws_secret_access_key = hunter2\n",
        "mixed.csv": b"email,name\na@example.org,Ana,x\nb@example.org," + b"x" * 1_000_000
        + b"\nnobody,No\nc@example.org,Cy\nC@example.org,Cy\nd@example.org,D\n",
        "mixed.ndjson": b'{"email": "a@example.org", "data": {"name": "A"}}\n{"email": "b@example.org", "name": "B"}\n'
        b'{"email": 1}\n[]\n{\n',
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)


# ---- what is wrong gets one sentence ---------------------------------------------------------------------------------

SEND = ("send", "--from", "news@example.com", "--to", "ana@example.org")
HI = ("--subject", "Hi", "--text", "Hi")
START = ("campaign", "start", "--sender", "news")
TO_LIST = (*START, "--template", "letter", "--recipients")
WITH = (*START, "--recipients", "good.csv")
NONE = "a CSV needs a header row with a column `email`, and a row for each recipient."
NO_COLUMN = "no column whose name says that it holds addresses, as `email` does"
NAME_IT = "Rename the column that holds the addresses, or name it with --email-column."
ONE_CONTENT = "give one content: --template, --ses-template, or --subject with --html-file or --text-file"
WRITE_TIME = "write it as 2026-12-24T18:00:00+01:00, …T17:00:00Z or 2026-12-24 18:00 Europe/Berlin"
NO_TIME = "is no time that there is in UTC; give a year between 2 and 9998"
JINJA = "a tag never ends; write }} or %} behind it."

BAD: dict[tuple[str, ...], str] = {
    (*TO_LIST, "columns.csv"): f"columns.csv has {NO_COLUMN}; its header row has: post, name. {NAME_IT}",
    (*TO_LIST, "columns.csv", "--email-column", "mail"): "columns.csv has no column `mail`; "
    f"its header row has: post, name. {NAME_IT}",
    (*TO_LIST, "good.csv", "--column", "cc=Copy"): "good.csv has no column `Copy` (--column cc=…); "
    "its header row has: email, name. Correct the name.",
    (*TO_LIST, "pages.csv"): "pages.csv: is a web page (HTML), not a list; it may be a page to sign in at, "
    "in place of the download: export the list again, as CSV",
    (*TO_LIST, "secret.csv"): f"secret.csv: has {NO_COLUMN}, in its first line; put a header row above the rows, "
    "as `email,name` is one",
    (*TO_LIST, "/dev/zero"): "/dev/zero cannot be read: it is a device, not a file.",
    (*TO_LIST, "empty.csv"): f"empty.csv has no recipients; {NONE}",
    (*TO_LIST, "-"): f"standard input has no recipients; {NONE}",
    (*TO_LIST, "cyrillic.csv"): "cyrillic.csv is not UTF-8 (line 2 has the byte 0xc0), and does not look like Windows-1252 "
    "either. Save it as UTF-8, in Excel as “CSV UTF-8”, or name its encoding with --encoding, such as windows-1250, "
    "windows-1251 or mac-roman.",
    (*TO_LIST, "cut.csv.gz"): "cut.csv.gz is incomplete: its gzip data ends or breaks after 2 lines. Copy the file again.",
    (*TO_LIST, "none.csv"): "none.csv cannot be read: there is no such file.",
    (*TO_LIST, "templates"): "templates cannot be read: it is a folder, not a file.",
    (*WITH, "--template", "none"): "There is no template 'none' in templates; it has: broken, letter, outside, wrong.",
    (*WITH, "--template", "broken"): f"Template broken does not compile: broken/subject.txt, line 1: {JINJA}",
    (*WITH, "--template", "outside"): "Template outside reaches outside the templates folder: "
    "'../../secret.html' is not a file inside it.",
    (*WITH, "--template", "../letter"): "Template ../letter reaches outside the templates folder: "
    "'../letter' is not a file inside it.",
    WITH: f"the campaign: {ONE_CONTENT}",
    (*WITH, "--subject", "x", "--html-file", "none"): "--html-file: none cannot be read: No such file or directory",
    (*SEND, *HI, "--tag", "a b=c"): "--tag: tag 'a b': SES takes A-Z a-z 0-9 _ - and at most 256 characters, "
    "for name and value",
    (*SEND, *HI, "--configuration-set", "a b"): "--configuration-set: 'a b' must have 1 to 64 characters, "
    "each of A-Z a-z 0-9 _ -",
    (*SEND, *HI, "--header", "Subject: x"): "--header: header Subject is set from its own field, not from headers",
    (*SEND, "--subject", "Hi\nBcc: x@example.org", "--text", "x"): "--subject: must be one line without control characters",
    ("send", "--to", "a@example.org", "--sender", "none", *HI): "There is no sender 'none'; there are: news.",
    (*SEND, "--subject", "{{ name", "--text", "x", "--data", "{}"): "Template given inline does not compile: "
    f"subject.txt, line 1: {JINJA}",
    ("send", "--from", "news", "--to", "a@example.org", *HI): "--from: an email address must have an @-sign",
    (*SEND, *HI, "--expires-at", "2020-01-01T00:00Z"): "--expires-at: is in the past, so nothing would be sent",
    (*SEND, *HI, "--send-at", "2020-01-01T00:00Z"): "--send-at: 2020-01-01T00:00:00+00:00 is over; "
    "give a time that is still to come",
    (*WITH, "--template", "letter", "--send-at", "2020-01-01 09:00 Europe/Berlin"): "--send-at: 2020-01-01T08:00:00+00:00 "
    "is over; give a time that is still to come",
    (*SEND, *HI, "--attach", "none.pdf"): "--attach: none.pdf cannot be read: No such file or directory",
    (*SEND, *HI, "--attach", "templates"): "--attach: templates cannot be read: Is a directory",
    (*SEND, *HI, "--attach", "huge.bin"): "--attach: huge.bin has more than 31,457,280 bytes, "
    "which are the 40 MB that SES takes, in base64",
    (*SEND, *HI, "--attach", "virus.exe"): "--attach: `filename` 'virus.exe' cannot be attached: SES refuses .exe files; "
    "send a link, or the file in a .zip",
    (*SEND, *HI, "--attach", "logo.png;type=x"): "--attach: `type` 'x' is no content type, as application/pdf is one",
    ("send", "--raw", "none.eml"): "--raw: none.eml cannot be read: No such file or directory",
    ("send", "--raw", "headless.eml"): "--raw: must have headers, an empty line and a body",
    ("send", "--raw", "-"): "--raw: must have headers, an empty line and a body",
    ("send", "--raw", "message.eml", *HI): "the message: give one content: "
    "--template, --ses-template, --subject with --html or --text, or --raw",
    ("send", "--raw", "message.eml", "--attach", "logo.png"): "--raw: is a whole message: "
    "put headers and attachments into it, and leave --data out",
    (*SEND, "--ses-template", "welcome", "--mode", "simple"): "This content cannot go in mode simple: "
    "a template that is stored in SES goes as template or bulk.",
    (*SEND, *HI, "--topic", "weekly"): "--topic: goes with --contact-list",
    (*SEND, *HI, "--idempotency-key", ""): "--idempotency-key: must be a text of 1 to 256 characters",
    ("explain", *SEND[1:], "--mode", "raw", "--ses-template", "welcome"): "This content cannot go in mode raw: "
    "SES itself fills in a stored template.",
    ("explain", *SEND[1:], "--subject", "{{ nothing }}", "--text", "x", "--data", "{}"): "the template uses 'nothing', "
    "which its `data` does not have",
    ("explain", "--sender", "news", "--template", "letter", "--recipients", "none.csv"): "none.csv cannot be read: "
    "there is no such file.",
    ("explain", "--sender", "news", "--template", "letter", "--recipients", "bad.csv"): "the list: has no row that can be used; "
    "the first: line 2: an email address must have an @-sign",
    ("explain", "--sender", "none", "--to", "a@example.org", *HI): "There is no sender 'none'; there are: news.",
    ("status", "m0"): NO_ID.format("m0"),
    ("status", "\x1b[31m"): NO_ID.format("�[31m"),
    ("campaign", "status", "c0", "--json"): NO_ID.format("c0"),
    ("campaign", "report", "c0"): NO_ID.format("c0"),
    ("campaign", "pause", "m0"): "m0 is a message, and only a campaign can be paused. Show the message with: mailer status m0",
    ("campaign", "pause", "c0"): NO_ID.format("c0"),
    ("account", "--sender", "none"): "There is no sender 'none'; there are: news.",
    ("campaign", "status", "m0"): "m0 is the id of a message; show it with: mailer status m0",
}  # fmt: skip

# Not written as the option wants it.
UNREADABLE: dict[tuple[str, ...], str] = {
    (*WITH, "--template", "letter", "--data", "{"): "--data: not JSON: unexpected end of data: line 1 column 2 (char 1)",
    (*SEND, *HI, "--data", "[1]"): '--data: must be a JSON object, like {"name": "Ana"}',
    (*SEND, *HI, "--tag", "novalue"): "--tag: 'novalue' must be name=value",
    (*SEND, *HI, "--send-at", "tomorrow"): f"--send-at: 'tomorrow' is not a time; {WRITE_TIME}",
    (*SEND, *HI, "--send-at", "2026-12-24T18:00"): f"--send-at: '2026-12-24T18:00' needs a time zone; {WRITE_TIME}",
    (*SEND, *HI, "--expires-at", "0001-01-01T00:00+14:00"): f"--expires-at: '0001-01-01T00:00+14:00' {NO_TIME}",
    (*WITH, "--template", "letter", "--send-at", ""): f"--send-at: '' is not a time; {WRITE_TIME}",
    (*SEND, *HI, "--attach", "."): "--attach: '.' names no file; write FILE, or FILE;type=…;cid=…",
    (*SEND, *HI, "--attach", "logo.png;kind=x"): "--attach: 'kind=x' is not known; "
    "a file may have ;type=… ;cid=… and ;filename=…",
    (*WITH, "--template", "letter", "--attach", "logo.png;cid=a;cid=b"): "--attach: cid is given twice",
    (*SEND, *HI, "--header", "x"): "--header: 'x' must be name:value",
    (*WITH, "--template", "letter", "--max-bounce-rate", "5"): "--max-bounce-rate: '5' must be above 0% and at most 100%; "
    "write it as 5%, or as 0.05",
    (*WITH, "--template", "letter", "--max-complaint-rate", "x"): "--max-complaint-rate: 'x' is not a part of a whole; "
    "write it as 5%, or as 0.05",
    (*WITH, "--template", "letter", "--encoding", "klingon"): "--encoding: there is no encoding 'klingon'; "
    "some are utf-8, windows-1252, windows-1250, mac-roman and utf-16",
    (*WITH, "--template", "letter", "--delimiter", "ab"): "--delimiter: 'ab' is not one character that can stand between cells, "
    "as ; is one",
    (*WITH, "--template", "letter", "--column", "name"): "--column: 'name' must be name=value",
    (*WITH, "--template", "letter", "--column", "name="): "--column: `name` names no column; "
    "an empty one switches off cc, bcc, tags or send_at only",
    (*WITH, "--template", "letter", "--max-rate", "0"): "--max-rate: '0' must be a number, at least 0.00028 "
    "(one an hour); it is in recipients per second",
    (*SEND, *HI, "--send-at", "2026-12-24 09:00 Europe/Berln"): "--send-at: '2026-12-24 09:00 Europe/Berln': "
    "there is no time zone 'Europe/Berln'; is Europe/Berlin meant?",
}  # fmt: skip

ELSEWHERE = {"MAILER_REDIS_URL": "redis://:secret@127.0.0.1:1/0"}
NOTHING_ANSWERS = "Redis at redis://***@127.0.0.1:1/0 cannot be used: nothing answers there. Start it, or set MAILER_REDIS_URL."
# What is wrong with the settings, whatever the command.
BAD_SETTINGS: list[tuple[tuple[str, ...], dict[str, str], str]] = [
    (("status", "m0"), ELSEWHERE, NOTHING_ANSWERS),
    (("worker",), ELSEWHERE, NOTHING_ANSWERS),
    (("campaign", "list"), {"MAILER_CONFIG": "none.toml"}, "MAILER_CONFIG: there is no file none.toml; name one, or unset it"),
    (("campaign", "list"), {"MAILER_CONFIG": "good.csv"}, "good.csv: not TOML: "),
]

WRONG_WORDS: dict[tuple[str, ...], str] = {
    (): "",
    ("none",): "No such command 'none'.",
    ("send", "--to"): "Option '--to' requires an argument.",
    ("campaign", "report", "c0", "--format", "csv", "--json"): "give either --json or --format csv, not both",
    (*SEND, *HI, "more"): "Got unexpected extra argument(s) (more)",
    (*SEND, *HI, "--lane", "fast"): "Invalid value for '--lane': 'fast' is not one of transactional, bulk",
    (*SEND, *HI, "--mode", "fast"): "Invalid value for '--mode': 'fast' is not one of auto, simple, raw, template, bulk",
    ("explain", *SEND[1:], *HI, "--lane", "fast"): "'fast' is not one of transactional, bulk",
    ("campaign", "report", "c0", "--format", "xml"): "'xml' is not one of ndjson, csv",
    ("send", "--from", "news@example.com", *HI, "--cc", "ana@example.org"): "give --to ADDRESS, once for each recipient",
    ("explain", "--from", "news@example.com", *HI, "--bcc", "ana@example.org"): "give --to ADDRESS, once for each recipient",
    ("send", "--from", "news@example.com", *HI): "give --to ADDRESS, once for each recipient",
    (*SEND, "--sender", "news", *HI): "give either --from or --sender, not both",
    (*WITH, "--from", "news@example.com", "--template", "letter"): "give either --from or --sender, not both",
    ("send", "--to", "a@example.org", *HI): "give --from ADDRESS or --sender NAME",
    ("send",): "give --to ADDRESS, once for each recipient",
    ("explain",): "give --to ADDRESS, once for each recipient",
    (*START, "--template", "letter"): "Missing option '--recipients'",
    ("explain", *SEND[1:], *HI, "--recipients", "good.csv"): "--to goes with one message, not with --recipients",
    ("campaign", "report", "c0", "--state", "gone"): "'gone' is not one of queued, claimed, sent, ",
    ("campaign", "reschedule", "c0"): "Missing option '--send-at'",
    (
        "explain",
        "--sender",
        "news",
        "--recipients",
        "good.csv",
        "--text",
        "x",
        "--text-file",
        "good.csv",
    ): "give either --text or --text-file, not both",
    ("explain", *SEND[1:], *HI, "--wait"): "No such option",
    ("explain", *SEND[1:], *HI, "--max-rate", "3"): "--max-rate goes with --recipients",
    (*WITH, "--template", "letter", "--guard-after", "0"): "Invalid value for '--guard-after'",
    ("campaign", "list", "--limit", "0"): "Invalid value for '--limit'",
    ("demo", "--rate", "x"): "Invalid value for '--rate'",
}


@pytest.fixture(scope="module")
def answers(here: Installation) -> Mapping[tuple[str, ...], Said]:
    """Of all the commands above."""
    return {words: here.mailer(*words) for words in (*BAD, *UNREADABLE, *WRONG_WORDS)}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_what_cannot_be_done_is_one_sentence(answers: Mapping[tuple[str, ...], Said], words: tuple[str, ...]) -> None:
    assert answers[words] == Said(1, "", f"mailer: {BAD[words]}\n")


@pytest.mark.parametrize("words", UNREADABLE, ids=" ".join)
def test_what_an_option_cannot_read_is_one_sentence_and_status_2(
    answers: Mapping[tuple[str, ...], Said], words: tuple[str, ...]
) -> None:
    assert answers[words] == Said(2, "", f"mailer: {UNREADABLE[words]}\n")


@pytest.mark.parametrize("words", WRONG_WORDS, ids=" ".join)
def test_wrong_words_are_status_2(answers: Mapping[tuple[str, ...], Said], words: tuple[str, ...]) -> None:
    said = answers[words]
    assert (said.status, said.out) == (2, "")
    assert re.match(r"Usage: mailer|Error: ", said.err)
    assert WRONG_WORDS[words] in said.err
    assert not re.search("Traceback|Value error", said.err)


@pytest.mark.parametrize(("words", "variables", "sentence"), BAD_SETTINGS)
def test_wrong_settings_are_one_sentence(
    here: Installation, words: tuple[str, ...], variables: dict[str, str], sentence: str
) -> None:
    said = here.mailer(*words, **variables)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith(f"mailer: {sentence}")


def test_a_mistake_in_the_program_is_one_sentence_and_a_traceback_for_debug(here: Installation, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import mailer.client as c\nc.Mailer.status = lambda self, id: {}[id]\n")
    said = here.fresh("status", "m0", PYTHONPATH=str(tmp_path))
    sentence = (
        "mailer: this is a mistake in the program, not in what you typed: KeyError: 'm0'. MAILER_LOG_LEVEL=DEBUG shows where.\n"
    )
    assert said == Said(1, "", sentence)
    said = here.fresh("status", "m0", PYTHONPATH=str(tmp_path), MAILER_LOG_LEVEL="DEBUG")
    assert "Traceback (most recent call last)" in said.err
    assert said.err.endswith(sentence)


# ---- sending ---------------------------------------------------------------------------------------------------------


def test_send_prints_an_id_that_status_knows(here: Installation) -> None:
    said = here.mailer(
        "send", "--sender", "news", "--to", "ana@example.org", "--cc", "b@example.org", "--bcc", "c@example.org",
        "--reply-to", "d@example.org", "--template", "letter", "--data", '{"name": "Ana"}', "--header", "X-A: b",
        "--tag", "a=b", "--lane", "bulk", "--wait",
    )  # fmt: skip
    assert said.status == 0
    assert re.fullmatch(r"hint: this message goes to 3 recipients, and an unsubscribe token is one recipient's, .*\n", said.err)
    assert re.fullmatch(r"m[0-9a-z]{18}\n", said.out)
    status = here.json("status", said.out.strip())
    assert set(status) == MESSAGE
    assert (status["id"], status["to"]) == (said.out.strip(), ["ana@example.org"])
    assert status["state"] in GOT
    assert (status["mode"], status["attempts"], status["reason"]) == ("simple", 1, "")
    assert TIME.fullmatch(status["updated_at"])
    shown = here.mailer("status", status["id"])
    assert status["ses_message_id"] in shown.out


def test_send_json(here: Installation) -> None:
    assert set(here.json(*SEND, *HI)) == {"id"}
    assert set(here.json(*SEND, *HI, "--wait")) == MESSAGE


def test_send_wait_says_why_it_was_refused(here: Installation) -> None:
    said = here.mailer("send", "--from", "x@elsewhere.example", "--to", "a@example.org", *HI, "--wait", "--json")
    assert said.status == 1
    assert json.loads(said.out)["state"] == "rejected"
    assert said.err.startswith(
        "mailer: it was not sent, it is rejected: The sender x@elsewhere.example is not verified in SES (region eu-west-1). "
    )
    assert said.err.count("\n") == 1


def test_send_wait_without_a_worker_says_so_and_ctrl_c_ends_it(here: Installation) -> None:
    process = here.start(*SEND, *HI, "--wait", MAILER_NAMESPACE="unserved")
    assert process.stdout is not None
    assert process.stderr is not None
    id = process.stdout.readline().strip()
    assert process.stderr.readline() == "no worker has taken it yet; is `mailer worker` running?\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, "")
    assert err == f"it will be sent without being waited for; see it with: mailer status {id}\n"


def got(here: Installation, to: str) -> list[dict[str, Any]]:
    """What the simulated SES accepted for this address, newest first."""
    with urlopen(f"{here.environment['AWS_ENDPOINT_URL_SESV2']}/_simulator/messages?to={to}") as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())["messages"]
    return found


def delivered(here: Installation, to: str, *words: str, stdin: str = "") -> dict[str, Any]:
    """The one message that this sends to the address, as SES has it."""
    said = here.mailer("send", "--sender", "news", "--to", to, *words, "--wait", stdin=stdin)
    assert (said.status, said.err) == (0, "")
    (message,) = got(here, to)
    return message


def create(here: Installation, path: str, body: Mapping[str, Any]) -> None:
    request = Request(f"{here.environment['AWS_ENDPOINT_URL_SESV2']}/v2/email/{path}", json.dumps(body).encode(), method="POST")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=simulated/20260101/eu-west-1/ses/aws4_request")
    with urlopen(request) as answer:
        assert answer.status == 200


@pytest.fixture(scope="module")
def welcome(here: Installation) -> str:
    content = {"Subject": "Welcome, {{name}}", "Text": "Dear {{name}}"}
    create(here, "templates", {"TemplateName": "welcome", "TemplateContent": content})
    return "welcome"


def test_attachments_keep_name_type_and_place(here: Installation) -> None:
    message = delivered(
        here, "files@example.org", "--subject", "Hi", "--html", '<img src="cid:logo">', "--mode", "raw",
        "--attach", "logo.png;cid=<logo>", "--attach", 'logo.png;type=text/plain; charset=utf-8;filename="a b.txt"',
        "--attach", '"notes;old.txt"',
    )  # fmt: skip
    mail = message_from_string(message["raw"], policy=policy.default)
    parts = {part.get_filename(): part for part in mail.walk() if part.get_filename()}
    assert parts.keys() == {"logo.png", "a b.txt", "notes;old.txt"}
    assert parts["logo.png"]["Content-ID"] == "<logo>"
    assert parts["logo.png"].get_content_disposition() == "inline"
    assert parts["logo.png"].get_payload(decode=True) == PNG
    assert parts["a b.txt"]["Content-Type"].params["charset"] == "utf-8"
    assert [part.get_content_type() for part in parts.values()] == ["image/png", "text/plain", "text/plain"]


def test_a_whole_message_from_a_file_and_from_standard_input(here: Installation) -> None:
    said = here.mailer("send", "--raw", "message.eml", "--wait")
    assert (said.status, said.err) == (0, "")
    message = got(here, "ana@example.org")[0]
    assert (message["subject"], message["to"], message["cc"]) == ("Whole", ["ana@example.org"], ["bo@example.org"])
    other = delivered(here, "piped@example.org", "--raw", "-", "--tag", "a=b", stdin=MIME.decode())
    assert (other["to"], other["cc"], other["tags"]["a"]) == (["piped@example.org"], [], "b")
    assert "leave@example.com" in other["headers"]["List-Unsubscribe"]


def test_a_stored_template(here: Installation, welcome: str) -> None:
    message = delivered(here, "stored@example.org", "--ses-template", welcome, "--data", '{"name": "Ana"}')
    assert (message["subject"], message["text"]) == ("Welcome, Ana", "Dear Ana")
    said = here.mailer("send", "--sender", "news", "--to", "a@example.org", "--ses-template", welcome, "--wait")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "it is failed" in said.err
    assert "uses 'name'" in said.err


@pytest.mark.parametrize(
    ("mode", "operation"), [("simple", "SendEmail"), ("raw", "SendEmail"), ("template", "SendEmail"), ("bulk", "SendBulkEmail")]
)
def test_the_mode_that_is_asked_for(here: Installation, mode: str, operation: str) -> None:
    message = delivered(here, f"{mode}@example.org", *HI, "--mode", mode)
    assert (message["operation"], message["subject"], message["raw"] is not None) == (operation, "Hi", mode == "raw")


def test_a_contact_list_is_left_to_ses(here: Installation) -> None:
    words = (*HI, "--contact-list", "readers", "--topic", "weekly")
    message = delivered(here, "reader@example.org", *words)
    assert "leave@example.com" not in str(message["headers"])
    request = here.json("explain", "--sender", "news", "--to", "reader@example.org", *words)["request"]
    assert request["ListManagementOptions"] == {"ContactListName": "readers", "TopicName": "weekly"}


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_send_at_is_said_and_waited_for(here: Installation) -> None:
    due = at(2.5)
    said = here.mailer(*SEND[:-1], "later@example.org", *HI, "--send-at", due, "--wait", "--json")
    assert said.status == 0
    assert re.fullmatch(
        r"it is to be sent at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ; waiting until then \(Ctrl-C ends the waiting only\)\n", said.err
    )
    assert json.loads(said.out)["state"] in GOT
    (message,) = got(here, "later@example.org")
    assert message["at"] >= datetime.fromisoformat(due).timestamp() - 0.01


def test_ctrl_c_while_waiting_for_the_time(here: Installation) -> None:
    process = here.start(*SEND, *HI, "--send-at", at(3600), "--wait")
    assert process.stdout is not None
    assert process.stderr is not None
    id = process.stdout.readline().strip()
    assert process.stderr.readline().startswith("it is to be sent at ")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", f"it will be sent without being waited for; see it with: mailer status {id}\n")
    assert process.returncode == 130
    assert here.json("status", id)["state"] == "queued"
    assert "to be sent at" in here.mailer("status", id).out


def test_what_expires_is_not_sent(here: Installation) -> None:
    due = datetime.now(UTC) + timedelta(seconds=4)
    times = ("--send-at", due.isoformat(), "--expires-at", (due + timedelta(milliseconds=1)).isoformat())
    said = here.mailer(*SEND[:-1], "expired@example.org", *HI, *times, "--wait")
    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("mailer: it was not sent, it is expired: ")
    assert got(here, "expired@example.org") == []


def test_an_idempotency_key_sends_once(here: Installation) -> None:
    words = ("send", "--sender", "news", "--to", "once@example.org", "--idempotency-key", "once-1", "--wait")
    first, again = here.mailer(*words, *HI), here.mailer(*words, *HI)
    assert (again.status, again.out) == (0, first.out)
    assert len(got(here, "once@example.org")) == 1
    other = here.mailer(*words, "--subject", "Other", "--text", "x")
    sentence = f"mailer: The idempotency key 'once-1' was used for {first.out.strip()}, which has other content. "
    assert other == Said(1, "", f"{sentence}Use another key for other content.\n")


# ---- explain ---------------------------------------------------------------------------------------------------------

NOWHERE = {"MAILER_REDIS_URL": "redis://127.0.0.1:1/0", "AWS_ENDPOINT_URL_SESV2": "http://127.0.0.1:1"}


def test_explain_asks_nobody(here: Installation) -> None:
    for words in (("--to", "a@example.org", *HI), ("--recipients", "good.csv", "--template", "letter")):
        said = here.mailer("explain", "--sender", "news", *words, **NOWHERE)
        assert (said.status, said.err) == (0, "")
        assert re.match(r"operation +Send(Bulk)?Email *\nmode +(simple|bulk) *\n", said.out)


def test_explain_json_is_what_is_sent(here: Installation) -> None:
    words = ("--sender", "news", "--to", "same@example.org", *HI, "--attach", "logo.png;cid=logo", "--tag", "a=b")
    found = here.json("explain", *words)
    assert list(found) == ["operation", "mode", "reasons", "near", "hints", "request"]
    assert (found["operation"], found["mode"], found["near"]) == ("SendEmail", "simple", [])
    assert found["request"]["Content"]["Simple"]["Attachments"][0]["RawContent"] == b64encode(PNG).decode()
    message = delivered(here, *words[3:])
    assert {pair["Name"]: pair["Value"] for pair in found["request"]["Content"]["Simple"]["Headers"]} == message["headers"]
    assert message["tags"].keys() == {tag["Name"] for tag in found["request"]["EmailTags"]}


HINTS = [
    "{% if vip %} holds also for 'FALSE', because that is a text, and only an empty one is false; write {% if vip == 'TRUE' %}",
    "the HTML has addresses that lead nowhere from a mail: 'logo.png'; write them whole, with https://",
    "the mail has no unsubscribe link that a reader sees",
]


def test_what_a_reader_would_see_wrongly_is_said_by_explain_and_at_the_start(here: Installation) -> None:
    words = ("--sender", "news", "--template", "wrong", "--recipients", "vip.csv")
    assert here.json("explain", *words)["hints"] == HINTS
    shown = here.mailer("explain", *words).out
    assert all(f"  {hint}\n" in shown for hint in HINTS)
    said = here.mailer("campaign", "start", *words)
    assert said.status == 0
    assert [line for line in said.err.splitlines() if line.startswith("hint: ")] == [f"hint: {hint}" for hint in HINTS]
    assert here.json("explain", "--sender", "news", "--template", "letter", "--recipients", "vip.csv")["hints"] == []


def test_explain_for_a_person_cuts_base64_and_obeys_nothing(here: Installation) -> None:
    encoded = b64encode(PNG).decode()
    text = "two  blanks \x1b[31m \x9b2J"
    said = here.mailer("explain", *SEND[1:], "--subject", "Hi", "--text", text, "--attach", "logo.png")
    assert (said.status, said.err) == (0, "")
    assert encoded[:1024] in said.out
    assert encoded not in said.out
    assert f"… ({len(encoded):,} characters)" in said.out
    assert "two  blanks" in said.out
    assert not re.search("[\x1b\x9b]", said.out)


def test_explain_names_the_limits_that_are_close(here: Installation) -> None:
    headers = [word for number in range(14) for word in ("--header", f"X-{number}: x")]
    said = here.mailer("explain", *SEND[1:], *HI, *headers)
    assert "  headers: 14 of 15 headers\n" in said.out
    found = here.json("explain", *SEND[1:], *HI, *headers)
    assert found["near"] == [{"name": "headers", "used": 14, "limit": 15, "unit": "headers"}]


# ---- campaigns -------------------------------------------------------------------------------------------------------


def check_campaign(status: Mapping[str, Any]) -> None:
    assert set(status) == CAMPAIGN
    assert sum(status["counts"].values()) == status["rows"]
    assert TIME.fullmatch(status["created_at"])
    assert status["finished_at"] is None or TIME.fullmatch(status["finished_at"])


def watched(here: Installation, *words: str, stdin: str = "") -> dict[str, Any]:
    """A campaign that has come to its end."""
    said = here.mailer(*TO_LIST, *words, "--watch", "--json", stdin=stdin)
    assert said.status == 0
    status: dict[str, Any] = json.loads(said.out)
    check_campaign(status)
    assert status["state"] == "finished"
    return status


def reported(here: Installation, id: str) -> dict[str, Any]:
    """The same campaign once SES has reported on everybody, after which nothing of it changes any more."""
    deadline = time.monotonic() + 20
    while "sent" in (status := here.json("campaign", "status", id))["counts"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    check_campaign(status)
    return dict(status)


@pytest.mark.parametrize("source", ["good.csv", "good.csv.gz", "-"])
def test_a_list_from_a_file_and_from_a_pipe(here: Installation, source: str) -> None:
    stdin = (here.folder / "good.csv").read_text() if source == "-" else ""
    assert reported(here, watched(here, source, stdin=stdin)["id"])["counts"] == {"delivered": 2}


@pytest.mark.parametrize(
    ("source", "states", "lines"),
    [
        ("mixed.csv", ["rejected", "rejected", "rejected", "delivered", "duplicate", "delivered"], [2, 3, 4, 6]),
        ("mixed.ndjson", ["delivered", "delivered", "rejected", "rejected", "rejected"], [3, 4, 5]),
    ],
)
def test_the_report_has_every_row_once(here: Installation, source: str, states: list[str], lines: list[int]) -> None:
    status = reported(here, watched(here, source)["id"])
    assert status["rows"] == len(states)
    said = here.mailer("campaign", "report", status["id"])
    report = [json.loads(line) for line in said.out.splitlines()]
    assert [list(line) for line in report] == [LINE] * len(states)
    assert [line["row"] for line in report] == list(range(1, len(states) + 1))
    assert [line["state"] for line in report] == states
    assert {state: states.count(state) for state in states} == status["counts"]
    assert [int(found[1]) for line in report if (found := re.match(r"line (\d+): ", line["reason"]))] == lines
    for line in report:
        assert (line["state"] == "delivered") == (line["ses_message_id"] is not None)
        assert TIME.fullmatch(line["updated_at"])
    assert here.mailer("campaign", "report", status["id"], "--json").out == said.out
    table = list(csv.DictReader(here.mailer("campaign", "report", status["id"], "--format", "csv").out.splitlines()))
    assert [[row["row"], row["state"], row["id"]] for row in table] == [[str(r["row"]), r["state"], r["id"]] for r in report]


def test_status_of_a_recipient_is_its_line_of_the_report_and_of_a_message_the_same(here: Installation) -> None:
    id = reported(here, watched(here, "mixed.csv")["id"])["id"]
    report = [json.loads(line) for line in here.mailer("campaign", "report", id).out.splitlines()]
    for line in report:
        assert here.json("status", line["id"]) == line
        shown = " ".join(here.mailer("status", line["id"]).out.split())
        assert f"recipient {line['id']} row {line['row']} " in shown
        assert f"state {line['state']}" in shown
    wrong = f"{line['id'].rpartition('-')[0]}-{len(report)}"
    said = here.mailer("status", wrong)
    assert (said.status, said.out, said.err) == (1, "", f"mailer: {NO_ID.format(wrong)}\n")
    message = here.json(
        "send", "--from", "news@example.com", "--to", "ana@example.org", "--subject", "Hello", "--text", "x", "--wait"
    )
    found = here.json("status", f"{message['id']}-0-0")
    assert list(found) == LINE
    assert found["state"] in GOT
    assert (found["to"], found["ses_message_id"]) == ("ana@example.org", message["ses_message_id"])


def test_start_status_list_and_watch_show_the_same(here: Installation) -> None:
    name = "A name that is " + "rather long, " * 20 + "so that a table of 80 columns would like to cut it"
    said = here.mailer(*TO_LIST, "good.csv", "--name", name)
    assert said.status == 0
    assert said.err.splitlines() == [
        "good.csv: CSV, UTF-8, comma between the cells, address in `email`",
        "2 of 2 rows will be sent to",
        "from News <news@example.com>, subject of the first: Hello Ana, about 1 s",
    ]
    assert re.fullmatch(r"c[0-9a-z]{18}\n", said.out)
    id = said.out.strip()
    followed = here.mailer("campaign", "watch", id)
    assert followed.status == 0
    assert re.search(r"^finished: 2 sent, 0 left of 2, [\d,]+/s$", followed.err, re.MULTILINE)
    status = reported(here, id)
    assert status["name"] == name
    assert here.json("status", id) == status
    assert status in here.json("campaign", "list")
    for words in (["campaign", "list"], ["status", id]):
        shown = here.mailer(*words).out
        assert any(id in line for line in shown.splitlines())
        assert any(name in line for line in shown.splitlines())
        assert "\x1b" not in shown


def test_a_campaign_that_is_stopped_is_no_success(here: Installation) -> None:
    said = here.mailer(*TO_LIST, "good.csv", "--configuration-set", "none", "--watch", "--json")
    status = json.loads(said.out)
    assert (said.status, status["state"]) == (1, "stopped")
    assert said.err.splitlines()[-1] == f"mailer: campaign {status['id']} is stopped: {status['reason']}"


def test_a_campaign_is_paused_resumed_and_cancelled(here: Installation) -> None:
    id = here.mailer(*TO_LIST, "good.csv", "--send-at", at(3600), "--max-rate", "5", "--max-bounce-rate", "4 %").out.strip()
    resume = f"mailer campaign resume {id}"
    said = [here.mailer("campaign", "pause", id).err for _ in range(2)]
    assert said == [
        f"campaign {id} is paused; to let it go on: {resume}\n",
        f"campaign {id} is already paused: somebody paused it; to let it go on: {resume}\n",
    ]
    assert [one["state"] for one in here.json("campaign", "list") if one["id"] == id] == ["paused"]
    assert f"  {id}: paused (somebody paused it; to let it go on: {resume}); 0 sent, 2 left of 2" in here.mailer("account").out
    said = [here.mailer("campaign", "resume", id).err for _ in range(2)]
    for text, beginning in zip(said, (f"campaign {id} is planned", f"campaign {id} is already planned"), strict=True):
        assert re.fullmatch(rf"{beginning} \(to be sent at .+Z\); to follow it: mailer campaign watch {id}\n", text)
    status = here.json("campaign", "cancel", id)
    check_campaign(status)
    assert (status["state"], status["counts"], status["finished_at"] is None) == ("cancelled", {"cancelled": 2}, False)
    assert here.mailer("campaign", "cancel", id) == Said(
        0, "", f"campaign {id} is already cancelled; 0 were sent before, 2 will not be\n"
    )
    assert here.mailer("campaign", "resume", id) == Said(1, "", f"mailer: Campaign {id} is cancelled, so it cannot be resumed.\n")


def test_a_message_or_campaign_is_cancelled_by_its_id(here: Installation) -> None:
    letter = ("send", "--from", "news@example.com", "--to", "ana@example.org", "--subject", "s", "--text", "t")
    id, other = (here.mailer(*letter, "--send-at", at(3600)).out.strip() for _ in range(2))
    said = [here.mailer("cancel", id) for _ in range(2)]
    assert said == [Said(0, "", f"message {id} is cancelled\n"), Said(0, "", f"message {id} was cancelled before\n")]
    found = here.json("cancel", other)
    assert (found.keys(), found["state"], found["reason"]) == (MESSAGE, "cancelled", "somebody cancelled it before it was sent")
    sent = here.mailer(*letter, "--wait").out.split()[0]
    too_late = f"mailer: Message {sent} is sent, so it cannot be cancelled; that is possible only before SES gets it.\n"
    assert here.mailer("cancel", sent) == Said(1, "", too_late)
    campaign = here.mailer(*TO_LIST, "good.csv", "--send-at", at(3600)).out.strip()
    assert here.mailer("cancel", campaign) == Said(
        0, "", f"campaign {campaign} is cancelled; 0 were sent before, 2 will not be\n"
    )
    for unknown in ("m0", "c0", "x"):
        assert here.mailer("cancel", unknown) == Said(1, "", f"mailer: {NO_ID.format(unknown)}\n")
    refused = here.mailer("campaign", "cancel", id)
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert f"a message with `mailer cancel {id}`" in refused.err


ACCOUNT = ["account", "region", "production", "sending_enabled", "enforcement"]
QUOTA = ["max_send_rate", "max_24h", "sent_24h", "refreshed_at"]


def change_account(here: Installation, **changes: Any) -> None:
    url = f"{here.environment['AWS_ENDPOINT_URL_SESV2']}/_simulator/account"
    request = Request(url, json.dumps(changes).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    with urlopen(request) as answer:
        assert answer.status == 200


def test_the_account_at_a_glance_and_what_to_do_about_it(here: Installation) -> None:
    found = here.json("account")
    assert list(found)[:9] == [*ACCOUNT, *QUOTA]
    assert (found["account"], found["region"], found["production"], found["max_send_rate"]) == (None, "eu-west-1", True, 2000)
    assert TIME.fullmatch(found["refreshed_at"])
    said = here.mailer("account")
    assert (said.status, said.err) == (0, "")
    try:
        change_account(here, production=False, sending_enabled=False, enforcement="PROBATION", max_24h=200, sent_24h=200)
        said = here.mailer("account", "--refresh", MAILER_NAMESPACE="glance", MAILER_MAX_SEND_RATE="5")
    finally:
        change_account(here, production=True, sending_enabled=True, enforcement="HEALTHY", max_24h=50_000, sent_24h=0)
    assert said.status == 0
    shown = dict(re.split(r" {2,}", line.rstrip(), maxsplit=1) for line in said.out.splitlines() if "  " in line.strip())
    assert shown["access"] == "sandbox: it may send to verified addresses only"
    assert shown["sending"] == "PAUSED for this account"
    assert shown["standing"].startswith("PROBATION: ")
    assert shown["send rate"] == "2,000 recipients/s; this service keeps to 5/s (MAILER_MAX_SEND_RATE)"
    assert shown["24 h quota"] == "200 of 200 recipients used, 100 %: 200 counted by SES"
    hints = said.err.splitlines()
    assert all(line.startswith("hint: ") for line in hints)
    for words in ("Support Center", "put-account-sending-attributes", "create-email-identity", "production access", "is used up"):
        assert sum(words in line for line in hints) == 1, words


def test_an_account_that_cannot_be_asked(here: Installation) -> None:
    nowhere = {"AWS_ENDPOINT_URL_SESV2": "http://127.0.0.1:1"}
    said = here.mailer("account", "--refresh", "--json", **nowhere)
    assert (said.status, json.loads(said.out)["max_send_rate"]) == (0, 2000)
    assert re.fullmatch(r"warning: SES could not be asked, so this was read .+ ago: SES was not reached: .+\n", said.err)
    said = here.mailer("account", MAILER_NAMESPACE="never", **nowhere)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith("mailer: SES in eu-west-1 does not tell the state of the account: SES was")
    said = here.mailer("account", AWS_REGION="", AWS_DEFAULT_REGION="")
    assert said == Said(1, "", "mailer: AWS: You must specify a region. (set AWS_REGION)\n")


def test_ctrl_c_leaves_a_campaign_running_and_a_list_that_was_not_read_unsent(here: Installation) -> None:
    process = here.start(*TO_LIST, "good.csv", "--watch", MAILER_NAMESPACE="unserved")
    assert process.stdout is not None
    assert process.stderr is not None
    id = process.stdout.readline().strip()
    while (line := process.stderr.readline()) and not line.startswith("running"):
        pass
    assert line == "running: 0 sent, 2 left of 2, 0/s\n"
    process.send_signal(signal.SIGINT)
    assert (
        process.communicate(timeout=10)[1] == f"it goes on without being watched; to watch it again: mailer campaign watch {id}\n"
    )
    assert process.returncode == 130

    before = here.json("campaign", "list")
    process = here.start(*TO_LIST, "-")
    assert process.stdin is not None
    process.stdin.write("email,name\n" + "".join(f"u{n}@example.org,U\n" for n in range(20_000)))
    process.stdin.flush()
    while len(here.json("campaign", "list")) == len(before):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert process.communicate() == (
        "",
        "stopped; nothing is sent, unless the list was read to its end: then `mailer campaign list` shows it\n",
    )
    assert here.json("campaign", "list") == before


def test_a_campaign_takes_the_options_of_a_message(here: Installation, welcome: str) -> None:
    key = ("--idempotency-key", "june")
    words = (*START, "--recipients", "good.csv", "--ses-template", welcome, "--attach", "logo.png", "--mode", "bulk", *key)
    due = at(2)
    said = here.mailer(*words, "--send-at", due, "--expires-at", at(600), "--watch", "--json")
    assert said.status == 0
    assert re.search(r"^planned \(to be sent at 20.+\): 0 sent, 2 left of 2, 0/s$", said.err, re.MULTILINE)
    status = json.loads(said.out)
    assert (status["state"], sum(status["counts"].values())) == ("finished", 2)
    assert status["counts"].keys() <= GOT
    message = next(one for one in got(here, "b@example.org") if one["tags"]["mailer_id"].startswith(status["id"]))
    assert (message["operation"], message["subject"]) == ("SendBulkEmail", "Welcome, Bo")
    assert [one["name"] for one in message["attachments"]] == ["logo.png"]
    assert message["at"] >= datetime.fromisoformat(due).timestamp() - 0.01


def test_a_campaign_under_the_same_key_is_the_same(here: Installation) -> None:
    words = (*TO_LIST, "good.csv", "--idempotency-key", "july")
    first, again = here.mailer(*words), here.mailer(*words)
    assert (again.status, again.out, again.err) == (0, first.out, "")
    other = here.mailer(*TO_LIST, "mixed.csv", "--idempotency-key", "july")
    assert (other.status, other.out) == (1, "")
    assert other.err.startswith("mailer: The idempotency key 'july' was used for ")


def test_a_campaign_with_a_contact_list_and_modes(here: Installation) -> None:
    for more in (["--contact-list", "readers", "--topic", "weekly"], ["--mode", "simple"]):
        status = watched(here, "good.csv", *more)
        found = [one for one in got(here, "b@example.org") if one["tags"]["mailer_id"].startswith(status["id"])]
        assert [one["operation"] for one in found] == ["SendEmail"]


def test_a_dry_run_of_a_test_sends_nothing_and_shows_what_would_be_sent(here: Installation) -> None:
    words = (*TO_LIST, "good.csv", "--test-to", "dry@example.org", "--exclude", "leave.csv")
    (here.folder / "leave.csv").write_text("a@example.org\n")
    said = here.mailer(*words, "--dry-run")
    assert (said.status, said.out) == (0, "")
    shown = "the message of b@example.org, the first row that is sent to, would be sent to dry@example.org, subject: Hello Bo"
    assert said.err.splitlines()[-2:] == [shown, "nothing was sent: it was a dry run"]
    assert json.loads(here.mailer(*words, "--dry-run", "--json").out) == {
        "to": "dry@example.org",
        "row": "b@example.org",
        "subject": "Hello Bo",
    }
    id = here.mailer(*words).out.strip()
    assert here.mailer("status", id).status == 0
    while here.json("status", id)["state"] in ("queued", "claimed"):
        time.sleep(0.02)
    assert len(got(here, "dry@example.org")) == 1  # the one that was no dry run


@pytest.mark.parametrize("option", [("--watch",), ("--idempotency-key", "k")])
def test_what_is_of_a_campaign_only_is_refused_beside_a_test(here: Installation, option: tuple[str, ...]) -> None:
    said = here.mailer(*TO_LIST, "good.csv", "--test-to", "never@example.org", *option)
    assert (said.status, said.out) == (2, "")
    assert f"{option[0]}: is for a campaign, and --test-to sends one message; leave it out" in " ".join(said.err.split())
    assert got(here, "never@example.org") == []


def test_a_list_to_leave_out_that_is_in_doubt_starts_nothing_where_nobody_is_asked(here: Installation) -> None:
    (here.folder / "doubt.csv").write_text("email\na@example.org\nnobody\n")
    before = [one["id"] for one in here.json("campaign", "list")]
    said = here.mailer(*TO_LIST, "good.csv", "--exclude", "doubt.csv", "--yes")
    assert (said.status, said.out) == (1, "")
    why = "doubt.csv: 1 row has no address that can be used (line 3: an email address must have an @-sign): whoever they are for"
    assert f"mailer: {why}" in said.err
    assert "to be left out: 1 address of doubt.csv" in said.err
    assert [one["id"] for one in here.json("campaign", "list")] == before
    shown = here.mailer(*TO_LIST, "good.csv", "--exclude", "doubt.csv", "--dry-run", "--json")
    assert json.loads(shown.out)["left_out"] == [{"source": "doubt.csv", "addresses": 1, "rows": 2, "unusable": 1}]


def test_a_list_without_a_row_that_can_be_sent_to_starts_nothing(here: Installation) -> None:
    (here.folder / "typo.ndjson").write_text('{"emial": "a@example.org"}\n{"emial": "b@example.org"}\n')
    before = [one["id"] for one in here.json("campaign", "list")]
    said = here.mailer(*TO_LIST, "typo.ndjson")
    assert (said.status, said.out) == (1, "")
    assert said.err.splitlines()[-1].startswith(
        "mailer: typo.ndjson: none of its 2 rows can be sent to. The reason: has no `email`;"
    )
    assert [one["id"] for one in here.json("campaign", "list")] == before


def test_hints_are_said_and_no_part_of_the_data(here: Installation) -> None:
    said = here.mailer("campaign", "start", "--from", "news@example.com", "--template", "letter", "--recipients", "good.csv")
    assert said.status == 0
    assert re.fullmatch(r"c[0-9a-z]{18}\n", said.out)
    hints = [line for line in said.err.splitlines() if line.startswith("hint: ")]
    assert len(hints) == 1
    assert hints[0].startswith("hint: these messages carry no List-Unsubscribe header, ")


def test_a_text_that_is_taken_for_a_number_is_told_before_anything_is_sent(here: Installation) -> None:
    (here.folder / "points.csv").write_text("email,points\nana@example.org,\nbo@example.org,12\n")
    (here.folder / "points.txt").write_text("{% if points and points > 10 %}Many{% else %}Few{% endif %} points.")
    words = ("--sender", "news", "--subject", "Points", "--text-file", "points.txt", "--recipients", "points.csv", "--dry-run")
    said = here.mailer("campaign", "start", *words)
    assert said.status == 0
    assert (
        "hint: 1 of the first 2 rows would fail: the template failed on this row, in line 1 of body.txt: it compares a text "
        "with a number by >; for a number, write `|int` or `|float` behind the text\n"
    ) in said.err
    assert said.err.endswith("nothing was sent: it was a dry run\n")


# ---- output ----------------------------------------------------------------------------------------------------------


def test_a_reader_that_has_enough_is_no_error(here: Installation) -> None:
    rows = "email,name\n" + "".join(f"u{n}@example.org,U\n" for n in range(3000))
    id = watched(here, "-", stdin=rows)["id"]
    for words in (f"report {id}", f"report {id} --format csv", "list"):
        script = f"set -o pipefail; {shlex.quote(MAILER)} campaign {words} | head -n 1"
        done = subprocess.run(["bash", "-c", script], cwd=here.folder, env=here.environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


def test_output_that_cannot_be_written(here: Installation) -> None:
    script = f"{shlex.quote(MAILER)} campaign list --json > /dev/full"
    env = {name: value for name, value in here.environment.items() if name != "PYTHONUNBUFFERED"}  # else nothing is left to flush
    done = subprocess.run(["bash", "-c", script], cwd=here.folder, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "mailer: the system says: No space left on device.\n")


def test_help_goes_to_standard_output_and_is_not_cut(here: Installation) -> None:
    for command in ("", "campaign", "suppression"):
        said = here.mailer(*command.split(), "--help")
        assert (said.status, said.err) == (0, "")
        assert said.out.startswith("Usage: mailer")
        assert not re.search(r"\w\.\.\.", said.out)


def test_retry_sends_again_to_those_that_failed_and_says_how_many(here: Installation) -> None:
    rows = "email,name\na@example.org,Ana\nb@example.org,\n"
    (here.folder / "retry.csv").write_text(rows)
    (here.folder / "templates" / "strict").mkdir(exist_ok=True)
    (here.folder / "templates" / "strict" / "subject.txt").write_text("Hello {{ name if name else missing }}")
    (here.folder / "templates" / "strict" / "body.txt").write_text("x")
    said = here.mailer("campaign", "start", "--recipients", "retry.csv", "--template", "strict", "--sender", "news", "--watch")
    id = said.out.split()[0]
    assert here.json("campaign", "status", id)["counts"]["failed"] == 1
    again = here.mailer("campaign", "retry", id, "--state", "failed")
    assert (again.status, again.out) == (0, "")
    assert f"campaign {id}: 1 recipient" in again.err
    here.mailer("campaign", "watch", id)
    assert here.json("campaign", "status", id)["counts"]["failed"] == 1
    nobody = here.mailer("campaign", "retry", id, "--state", "unknown")
    assert (nobody.status, "has no recipients that are unknown" in nobody.err) == (0, True)
    words = here.mailer("campaign", "retry", id, "--state", "sent")
    assert (words.status, "failed, unknown" in words.err) == (2, True)
    missing = here.mailer("campaign", "retry", "c1m85badtpadyb0w2kk", "--state", "failed")
    assert (missing.status, missing.err) == (1, f"mailer: {NO_ID.format('c1m85badtpadyb0w2kk')}\n")


def test_a_campaign_that_nobody_got_is_no_success_and_says_why(here: Installation) -> None:
    (here.folder / "upper.csv").write_text("email,name,other\na@example.org,,1\nb@example.org,,\nbroken,x,\n")
    said = here.mailer("campaign", "start", "--recipients", "upper.csv", "--template", "strict", "--sender", "news", "--watch")
    id, _, shown = said.out.partition("\n")
    assert said.status == 1
    why = "the template uses 'missing', which this row does not have"
    assert f"campaign {id} is finished, and nobody got it; the commonest reason (2 of 3): {why}. See: " in said.err
    assert re.search(rf"WHY NOT +RECIPIENTS\n{why} +2\n", shown)


def test_a_report_with_data_of_those_who_failed_is_the_next_list(here: Installation) -> None:
    (here.folder / "half.csv").write_text("email,name,city\na@example.org,Ana,Rome\nb@example.org,,Kiel\n")
    words = ("--template", "strict", "--sender", "news", "--watch")
    id = here.mailer("campaign", "start", "--recipients", "half.csv", *words).out.split()[0]
    report = here.mailer("campaign", "report", id, "--state", "failed", "--with-data", "--format", "csv")
    (line,) = csv.DictReader(report.out.splitlines())
    assert (report.status, line["email"], line["city"], line["state"]) == (0, "b@example.org", "Kiel", "failed")


def test_a_campaign_gets_another_time(here: Installation) -> None:
    words = ("--recipients", "good.csv", "--template", "letter", "--sender", "news", "--send-at", "2030-01-01T00:00:00Z")
    id = here.mailer("campaign", "start", *words).out.strip()
    said = here.mailer("campaign", "reschedule", id, "--send-at", "2031-02-03T04:05:06+01:00")
    assert (said.status, said.out, said.err) == (0, "", f"campaign {id} is to be sent at 2031-02-03 03:05:06Z\n")
    assert here.json("campaign", "status", id)["reason"] == "to be sent at 2031-02-03T03:05:06Z"
    here.mailer("campaign", "cancel", id)


def test_version_help_and_completion(here: Installation) -> None:
    version = here.mailer("--version")
    assert (version.status, re.fullmatch(r"mailer \d+\.\d+\.\d+\n", version.out) is not None) == (0, True)
    assert here.mailer("campaign", "-h").out == here.mailer("campaign", "--help").out
    words = {"COMP_WORDS": "mailer campaign re", "COMP_CWORD": "2", "_MAILER_COMPLETE": "complete_bash"}
    assert here.fresh(**words).out.split() == ["resume", "reschedule", "retry", "report"]


def test_bodies_come_from_files(here: Installation) -> None:
    (here.folder / "page.html").write_text("<p>From a file</p>")
    said = here.mailer(
        "explain", "--sender", "news", "--to", "a@example.org", "--subject", "Hi", "--html-file", "page.html", "--json"
    )
    assert "<p>From a file</p>" in said.out
    assert said.status == 0
