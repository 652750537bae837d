"""The parts of the command line that need no process: words in, text out."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rich.console import Console

from mailer import Campaign, Email, State
from mailer.cli import _explain, output
from mailer.cli.output import Report, one_line
from mailer.cli.parsers import (
    WrongWords,
    parse_attachments,
    parse_data,
    parse_pairs,
    parse_rate,
    parse_share,
    parse_time,
    read_mime,
    read_text,
)
from mailer.errors import InvalidEmail, MailerError, MaybeStored
from mailer.ledger import CampaignStatus, RecipientStatus

HOW = "write it as 2026-12-24T18:00:00+01:00, …T17:00:00Z or 2026-12-24 18:00 Europe/Berlin"
NOW = datetime(2026, 6, 1, 12, 30, 1, tzinfo=UTC)


def test_pairs_keep_what_follows_the_first_separator() -> None:
    assert parse_pairs(["X-A: b: c", "X-B:"], ":", "--header") == {"X-A": "b: c", "X-B": ""}
    assert parse_pairs(None, "=", "--tag") == {}


def test_line_breaks_of_a_header_are_left_for_the_model_to_refuse() -> None:
    assert parse_pairs(["X-A: b\r\nBcc: x@example.org"], ":", "--header") == {"X-A": "b\r\nBcc: x@example.org"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["novalue"], "--tag: 'novalue' must be name=value"),
        (["=v"], "--tag: '=v' must be name=value"),
        (["a=b", "a=c"], "--tag: 'a' is given twice"),
    ],
)
def test_pairs_that_are_none(values: list[str], sentence: str) -> None:
    with pytest.raises(MailerError) as raised:
        parse_pairs(values, "=", "--tag")
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), ("5 %", 0.05), (" 0.1% ", 0.001), ("0.05", 0.05), (".5", 0.5), ("1", 1.0), ("100%", 1.0), ("5.%", 0.05)],
)
def test_a_share_is_a_percentage_or_a_part_of_one(text: str, share: float) -> None:
    assert parse_share(text, "--max-bounce-rate") == share
    assert parse_share(None, "--max-bounce-rate") is None


@pytest.mark.parametrize("text", ["5", "0", "0%", "101%", "-1%", "1,5%", "nan", "inf", "1e-3", "%", "", "5%%", "٥%"])
def test_a_share_that_is_none(text: str) -> None:
    with pytest.raises(WrongWords, match=r"write it as 5%, or as 0\.05"):
        parse_share(text, "--max-bounce-rate")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", "", "1e-15", "1e-300", "0.00027"])
def test_a_rate_that_is_none(text: str) -> None:
    assert (parse_rate("2.5", "--max-rate"), parse_rate("0.00028", "--max-rate")) == (2.5, 0.00028)
    with pytest.raises(WrongWords, match=r"must be a number, at least 0\.00028 \(one an hour\); it is in recipients per second$"):
        parse_rate(text, "--max-rate")


def test_data_is_an_object_or_nothing() -> None:
    assert parse_data(None) is None
    assert parse_data('{"name": "Zoë"}') == {"name": "Zoë"}
    for text in ("[1]", "1", "{", ""):
        with pytest.raises(MailerError, match="--data"):
            parse_data(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-06-01T14:30:01+02:00", NOW),
        ("2026-06-01T12:30:01Z", NOW),
        (" 20260601T123001Z ", NOW),
        ("2026-06-01T12:30:01.250+00:00", NOW.replace(microsecond=250_000)),
    ],
)
def test_a_time_is_iso_8601_with_a_zone(text: str, moment: datetime) -> None:
    found = parse_time(text, "--send-at")
    assert (found, found and found.utcoffset()) == (moment, timedelta())
    assert parse_time(None, "--send-at") is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("2026-06-01T12:30:01", f"needs a time zone; {HOW}"),
        ("2026-06-01", f"needs a time zone; {HOW}"),
        ("in an hour", f"is not a time; {HOW}"),
        ("2026-13-01T00:00Z", f"is not a time; {HOW}"),
        ("9999-12-31T23:00-14:00", "is no time that there is in UTC; give a year between 2 and 9998"),
        ("", f"is not a time; {HOW}"),
    ],
)
def test_a_time_that_is_none(text: str, what: str) -> None:
    with pytest.raises(MailerError) as raised:
        parse_time(text, "--send-at")
    assert str(raised.value) == f"--send-at: {text!r} {what}"


@pytest.mark.parametrize(
    ("word", "name", "kind", "content_id"),
    [
        ("a.pdf", "a.pdf", "application/pdf", None),
        ("a.pdf;type=text/plain", "a.pdf", "text/plain", None),
        ("a.pdf;cid=x", "a.pdf", "application/pdf", "x"),
        ("a.pdf;cid=<x@y>;filename=b.txt", "b.txt", "text/plain", "x@y"),
        ('a.pdf ; type=text/calendar; method=REQUEST ;filename="b; c.ics"', "b; c.ics", "text/calendar; method=REQUEST", None),
        ('a.pdf;type=text/plain;charset="utf-8";cid=x', "a.pdf", 'text/plain; charset="utf-8"', "x"),
        ('"b;c=\\"d.txt"', 'b;c="d.txt', "text/plain", None),
        ("a.pdf;", "a.pdf", "application/pdf", None),
    ],
)
def test_an_attachment_as_curl_has_it(tmp_path: Path, word: str, name: str, kind: str, content_id: str | None) -> None:
    for file in ("a.pdf", 'b;c="d.txt'):
        Path(file).write_bytes(b"content")
    (found,) = parse_attachments([word])
    assert (found.name, found.content_type, found.content_id, found.content) == (name, kind, content_id, b"content")
    assert found.inline is (content_id is not None)
    assert parse_attachments(None) == []


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("", "'' names no file; write FILE, or FILE;type=…;cid=…"),
        (";cid=x", "';cid=x' names no file; write FILE, or FILE;type=…;cid=…"),
        ("a.pdf;x", "'x' is not known; a file may have ;type=… ;cid=… and ;filename=…"),
        ("a.pdf;method=REQUEST", "'method=REQUEST' is not known; a file may have ;type=… ;cid=… and ;filename=…"),
        ("a.pdf;type=a/b;type=c/d", "type is given twice"),
        (
            "a.pdf;filename=x.exe",
            "`filename` 'x.exe' cannot be attached: SES refuses .exe files; send a link, or the file in a .zip",
        ),
        ("a\0b", "'a\\x00b' is not the name of a file"),
    ],
)
def test_an_attachment_that_is_none(word: str, why: str) -> None:
    Path("a.pdf").write_bytes(b"content")
    with pytest.raises(MailerError) as raised:
        parse_attachments([word])
    assert str(raised.value) == f"--attach: {why}"


def test_no_more_of_a_file_is_read_than_can_be_sent() -> None:
    why = "/dev/zero has more than 31,457,280 bytes, which are the 40 MB that SES takes, in base64"
    for read in (read_mime, lambda file: parse_attachments([file])):
        with pytest.raises(MailerError, match=why):
            read("/dev/zero")


def test_a_body_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes("Grüße".encode())
    assert read_text(path, "--html-file") == "Grüße"
    path.write_bytes(b"\xff")
    for bad in (path, tmp_path, tmp_path / "none"):
        with pytest.raises(MailerError, match="--html-file: "):
            read_text(bad, "--html-file")


def test_one_line_has_nothing_that_a_terminal_obeys() -> None:
    assert one_line("a\r\n  b\x1b[31m\x9b2J\u2028c\x00") == "a b�[31m�2J c�"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MailerError(why="why"), "why"),
        (
            RedisConnectionError("Error 111 connecting to x. Connection refused."),
            "Redis stopped answering: nothing answers there. Nothing is lost; run the command again when it is back.",
        ),
        (
            MaybeStored(id="m1", why="nothing answers there", again=""),
            "It is not known whether m1 was stored: Redis did not answer (nothing answers there). Look with `mailer status "
            "m1` before you send it again.",
        ),
        (OSError(28, "No space left on device"), "the system says: No space left on device."),
        (OSError(13, "Permission denied", "/etc/x"), "the system says: Permission denied (/etc/x)."),
        (
            KeyError("id"),
            "this is a mistake in the program, not in what you typed: KeyError: 'id'. MAILER_LOG_LEVEL=DEBUG shows where.",
        ),
    ],
)
def test_every_exception_has_a_sentence(error: Exception, sentence: str) -> None:
    assert _explain(error) == sentence


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Email(to="a@example.org", text="x", subject="y"), "the message: give either --from or --sender"),
        (lambda: Campaign(template="x"), "the campaign: give either --from or --sender"),
        (lambda: Email(to="a@example.org", from_="x", template="y"), "--from: an email address must have an @-sign"),
        (lambda: Campaign(from_="a@example.org", template="y", topic="z"), "--topic: goes with --contact-list"),
        (
            lambda: Email(raw="Subject: x\n\nbody", to="a@example.org"),
            "--raw: has no From addresses, and SES takes one; give --from or --sender",
        ),
    ],
)
def test_an_error_of_a_model_names_options_as_they_are_typed(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidEmail) as raised:
        make()
    assert _explain(raised.value) == sentence


def test_each_option_that_an_error_may_name_is_one_of_a_command() -> None:
    from mailer.cli import typed
    from mailer.cli.app import COMMANDS

    there = set[str]()
    for name, group in (("send", None), ("campaign", "start"), ("suppression", "add"), ("suppression", "list")):
        command = COMMANDS[name].load(name)
        found = command if group is None else command.commands[group]
        there |= {option for parameter in found.params for option in parameter.opts}
    assert {*typed._OPTIONS.values(), *typed._FILES.values()} <= there


def test_a_cell_that_a_spreadsheet_would_run_is_kept_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("csv")
    report.add(RecipientStatus("c1-0-0", 1, '=HYPERLINK("x")', "rejected", None, "line 2: has, commas", 0, NOW))
    report.close()
    assert capsys.readouterr().out == (
        '"id","row","to","state","ses_message_id","reason","attempts","updated_at"\n'
        '"c1-0-0","1","\'=HYPERLINK(""x"")","rejected","","line 2: has, commas","0","2026-06-01T12:30:01Z"\n'
    )


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_cuts_no_id(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=screen, width=width))
    id = "c1m85cprajnbhpxz4nq"
    output.campaign_table([CampaignStatus(id, "a long [name] " * 5, State.RUNNING, "", 1000, {"queued": 1000}, 0.0, NOW, None)])
    assert id in screen.getvalue()
    assert max(map(len, screen.getvalue().splitlines())) <= width


def test_the_outcomes_shown_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=screen, width=80))
    counts = {"sent": 1200, "rejected": 3, "duplicate": 2, "unknown": 1}
    output.outcome_table(CampaignStatus("c1", "", State.FINISHED, "", 1206, counts, 0.0, NOW, NOW))
    assert [line.split() for line in screen.getvalue().splitlines()] == [
        ["OUTCOME", "RECIPIENTS"],
        ["sent", "1,200"],
        ["rejected", "3"],
        ["duplicate", "2"],
        ["unknown", "1"],
        ["rows", "read", "1,206"],
    ]
