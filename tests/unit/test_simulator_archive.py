"""What a simulator has accepted is there again when it is started anew, in the same file."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailer.simulator import Archive, mime
from mailer.simulator.limits import DAY_S

from .checked_ses import Checked, Json, bulk, entry, raw, simple, simulator, with_simple

FILES = [{"FileName": "a.pdf", "RawContent": b"\xff\0", "ContentTransferEncoding": "BASE64", "ContentDescription": "é"}]
IMAGE = {"FileName": "l.png", "RawContent": b"png", "ContentId": "l", "ContentDisposition": "INLINE"}


OPENED: list[Archive] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(path: Path, **changes: Any) -> Archive:
    OPENED.append(Archive(path, **{"keep": 100, **changes}))
    return OPENED[-1]


def started(path: Path, keep: int = 100) -> Checked:
    ses = simulator(tenants=("acme",), contact_lists=("readers",), max_send_rate=100_000)
    ses.keep_in(opened(path, keep=keep))
    return ses


def everything() -> list[tuple[str, Json]]:
    listed = {"ListManagementOptions": {"ContactListName": "readers", "TopicName": "t"}}
    structured = with_simple(
        Headers=[{"Name": "X-A", "Value": "b"}, {"Name": "X-A", "Value": "c"}],
        Attachments=[*FILES, IMAGE],
        Body={"Html": {"Data": "<a href='{{amazonSESUnsubscribeUrl}}'>é"}},
    )
    failing = {"Template": {"TemplateContent": {"Subject": "s", "Text": "{{missing}}"}}}
    return [
        ("SendEmail", {**structured, **listed, "ReplyToAddresses": ["r@example.com"], "TenantName": "acme"}),
        ("SendEmail", simple(ConfigurationOverrides={"Tracking": {}}, EmailTags=[{"Name": "a", "Value": "b"}])),
        ("SendEmail", simple(Content=failing)),
        (
            "SendEmail",
            raw(b"From: n@example.com\r\nTo: a@x.org\r\nBcc: b@x.org\r\n\r\n\xff", FromEmailAddress="Zo <z@example.com>"),
        ),
        ("SendBulkEmail", bulk(entry("c@example.org", {"name": "Ana"}), entry("d@example.org"))),
    ]


def seen(ses: Checked) -> list[tuple[Json, bytes | None]]:
    return [(json.loads(json.dumps(message.json())), mime.assemble(message, "eu-west-1")) for message in ses.mailroom]


def test_a_message_of_each_kind_is_there_again_to_the_letter(tmp_path: Path) -> None:
    ses = started(tmp_path / "messages.db")
    for operation, body in everything():
        ses.do(operation, body)
    again = started(tmp_path / "messages.db")
    before, after = seen(ses), seen(again)
    assert len(after) == 6
    for (shown, whole), (shown_again, whole_again) in zip(before, after, strict=True):
        assert shown_again == shown
        assert whole_again == whole
    assert list(again.log) == list(ses.log)
    for name in ("accepted", "recipients", "suppressed", "rendering_failures"):
        assert again.counts[name] == ses.counts[name]
    assert again.quota.used() == ses.quota.used() > 0
    again.do("SendEmail", simple())
    assert len(started(tmp_path / "messages.db").mailroom) == 7


def test_what_was_sent_before_the_last_24_hours_does_not_count_against_the_quota(tmp_path: Path) -> None:
    ses = started(tmp_path / "messages.db")
    ses.do("SendEmail", simple())
    ses.clock.now += DAY_S + 2
    later = simulator()
    later.clock.now = ses.clock.now
    later.keep_in(opened(tmp_path / "messages.db"))
    assert (later.quota.used(), len(later.mailroom)) == (0, 1)


def test_a_reset_forgets_them_for_good(tmp_path: Path) -> None:
    ses = started(tmp_path / "messages.db")
    ses.do("SendEmail", simple())
    ses.reset()
    assert len(started(tmp_path / "messages.db").mailroom) == 0


def test_the_file_is_bounded_by_number_and_by_bytes(tmp_path: Path) -> None:
    ses = started(tmp_path / "number.db", keep=5)
    for _ in range(250):
        ses.do("SendEmail", simple())
    kept = [message.accepted.id for message in opened(tmp_path / "number.db")]
    assert 5 <= len(kept) < 105
    assert kept == [one.id for one in ses.log][-len(kept) :]
    archive = opened(tmp_path / "bytes.db", keep=1000, keep_bytes=100_000)
    noise = simple()
    for _ in range(200):
        noise["Content"]["Simple"]["Body"]["Text"]["Data"] = os.urandom(2000).hex()
        ses.do("SendEmail", noise)
        archive.add(next(iter(ses.mailroom)))
    assert 20 <= sum(1 for _ in archive) <= 50
    assert next(iter(ses.mailroom)).accepted.id in {message.accepted.id for message in archive}


def test_a_row_that_cannot_be_read_is_left_out_and_the_others_are_there(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    ses = started(path)
    for _ in range(3):
        ses.do("SendEmail", simple())
    with sqlite3.connect(path) as database:
        database.execute("UPDATE messages SET message = 'x' WHERE number = 2")
    database.close()
    assert len(started(path).mailroom) == 2


def test_a_file_that_is_none_of_ours_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("notes " * 500)
    with pytest.raises(
        ValueError, match=r"notes\.txt cannot be read \(file is not a database\); remove it, or name another file$"
    ):
        Archive(path, keep=1)
    assert path.read_text() == "notes " * 500
    with pytest.raises(IsADirectoryError):
        Archive(tmp_path, keep=1)


def test_a_disk_that_is_full_keeps_nobody_from_sending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ses = started(tmp_path / "messages.db")
    assert ses.archive is not None
    ses.archive.close()
    message_id = ses.do("SendEmail", simple())["MessageId"]
    assert capsys.readouterr().err.startswith(f"message {message_id} is not kept: ")


ACCEPT = """
import sys
from pathlib import Path
from tests.unit.test_simulator_archive import simple, started
ses = started(Path(sys.argv[1]))
print(ses.do("SendEmail", simple())["MessageId"], flush=True)
input()
"""


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ACCEPT, str(tmp_path / "messages.db")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        message_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert [message.accepted.id for message in started(tmp_path / "messages.db").mailroom] == [message_id]
