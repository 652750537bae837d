"""What a log line looks like, and what can never be in one."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
import uvicorn.config
from arq.logs import default_log_config

from mailer.log import REDACTED, configure_logging
from mailer.message.email import Lane
from mailer.settings import LogFormat


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(format: LogFormat | None = LogFormat.JSON, level: str = "INFO", stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream or io.StringIO()
    configure_logging(format, level, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_the_message_the_fields_and_the_time_in_utc() -> None:
    stream = configured()
    structlog.stdlib.get_logger("mailer.x").info("chunk settled", campaign="c-1", n=50, lane=Lane.BULK, share=0.5, why=None)
    [line] = lines(stream)
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(seconds=5)
    assert line == {
        "event": "chunk settled", "campaign": "c-1", "n": 50, "lane": "bulk", "share": 0.5, "why": None,
        "level": "info", "logger": "mailer.x",
    }  # fmt: skip


def test_the_standard_library_writes_the_same_lines_once() -> None:
    logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)
    logging.config.dictConfig(default_log_config(verbose=False))
    stream = configured()
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("arq.worker").warning("late")
    assert [(line["event"], line["logger"]) for line in lines(stream)] == [
        ("Started server process [7]", "uvicorn.error"),
        ("late", "arq.worker"),
    ]


@pytest.mark.parametrize("name", ["arq.worker", "botocore.endpoint", "aiobotocore.httpsession"])
def test_libraries_that_log_arguments_are_quiet_at_every_level(name: str) -> None:
    stream = configured(level="DEBUG")
    logging.getLogger(name).info("job(%r)", {"secret": 1})
    logging.getLogger("mailer").debug("seen")
    assert [line["event"] for line in lines(stream)] == ["seen"]
    configure_logging(LogFormat.JSON, "ERROR", stream=stream)
    logging.getLogger(name).warning("not seen")
    assert len(lines(stream)) == 1


def test_the_level_holds_for_both_and_can_be_changed() -> None:
    stream = configured(level="WARNING")
    log = structlog.stdlib.get_logger("mailer.level")
    log.info("no")
    configured(level="INFO", stream=stream)
    log.info("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_configuring_again_replaces_our_handler_and_leaves_those_of_others() -> None:
    others = [handler for handler in logging.getLogger().handlers if type(handler) is not logging.StreamHandler]
    first, second = configured(), configured()
    logging.getLogger("mailer").info("once")
    assert (first.getvalue(), len(lines(second))) == ("", 1)
    assert logging.getLogger().handlers[:-1] == others


@dataclass
class Row:
    email: str


# Each with the parts of it that must not be left over.
ADDRESSES = {
    "ana@example.com": ("ana", "example"),
    "Ana <ana.maria+tag@mail.example.co.uk>": ("ana.maria", "tag", "example"),
    "o'neill@example.com": ("neill", "o'", "example"),
    '"ana maria"@example.com': ("ana", "maria", "example"),
    "анна@пример.рф": ("анна", "пример", r"\u043d", r"\xd0"),
    "ana%40example.com": ("ana%", "example"),
    "mailto:ana@example.com?subject=x": ("ana", "example"),
    "bounce+ana=example.com@mail.test": ("ana=", "example", "mail.test"),
    "ana@[192.0.2.1]": ("ana", "192.0"),
    "ana@example.com,bob@example.org": ("ana", "bob", "example"),
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("format", list(LogFormat))
def test_no_line_holds_an_address(address: str, format: LogFormat) -> None:
    stream = configured(format)
    log = structlog.stdlib.get_logger("mailer.x")
    log.warning(f"sent to {address}", to=address, rows=[{"email": address, address: 1}], row=Row(address), raw=address.encode())
    log.bind(who=(address,)).warning("again", error=ValueError(address))
    logging.getLogger("aiohttp.client").warning("refused %s", address, extra={"to": address})
    try:
        raise RuntimeError(address) from ValueError(f"bad row: {address}")
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("botocore").exception("failed too")
    written = stream.getvalue()
    assert REDACTED in written
    assert written.count("RuntimeError: ") == 2
    shown = written.replace("tests/unit/", "").replace("_an_address", "")
    assert not [part for part in ADDRESSES[address] if part in shown], shown


def test_what_only_has_an_at_sign_stays() -> None:
    stream = configured()
    logging.getLogger("mailer").info("3 @ 5/s, @app.get, id c-1.42")
    assert lines(stream)[0]["event"] == "3 @ 5/s, @app.get, id c-1.42"


@pytest.mark.parametrize("format", list(LogFormat))
def test_a_text_cannot_forge_a_line_or_colour_the_terminal(format: LogFormat) -> None:
    stream = configured(format)
    structlog.stdlib.get_logger("mailer.x").info("a\nb", reason="c\r\n2026-01-01 [error] forged\x1b[31m\u2028d")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("format", list(LogFormat))
@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "\u202egnp", "\x90q\x9c", "\ud800", "a\rb"])
def test_no_text_commands_a_terminal_not_even_one_of_a_traceback(format: LogFormat, text: str) -> None:
    stream = configured(format)
    log = structlog.stdlib.get_logger("mailer.x")
    log.warning(f"a {text}", reason=text, **{f"key{text}": 1})
    logging.getLogger("uvicorn.error").warning("b %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        log.exception("failed")
    written = stream.getvalue()
    assert written.count("RuntimeError: ") == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", written)
    written.encode()


def test_a_traceback_keeps_its_lines_and_shows_no_local_variables() -> None:
    stream = configured(LogFormat.CONSOLE)

    def fails(password: str) -> None:
        raise RuntimeError("broken")

    try:
        fails("opensesame" * 2)
    except RuntimeError:
        structlog.stdlib.get_logger("mailer.x").exception("failed")
    assert "Traceback (most recent call last):\n" in stream.getvalue()
    assert "opensesame" * 2 not in stream.getvalue()


def test_the_format_follows_the_terminal_and_so_do_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    written = {}
    for format, stream in ((None, Terminal()), (None, io.StringIO()), (LogFormat.CONSOLE, io.StringIO())):
        configured(format, stream=stream)
        structlog.stdlib.get_logger("mailer.y").info("hello", n=1)
        written[format, stream.isatty()] = stream.getvalue()
    assert "\x1b[" in written[None, True]
    assert json.loads(written[None, False])["event"] == "hello"
    assert "hello" in written[LogFormat.CONSOLE, False]
    assert "\x1b[" not in written[LogFormat.CONSOLE, False]
    assert not written[LogFormat.CONSOLE, False].startswith("{")


def test_standard_error_is_the_default_and_standard_output_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogFormat.JSON, "INFO")
    logging.getLogger("mailer").info("hello")
    sys.stderr.flush()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_what_arq_says_of_a_job_is_a_warning_without_a_traceback() -> None:
    stream = io.StringIO()
    configure_logging(LogFormat.JSON, "INFO", stream=stream)
    configure_logging(LogFormat.JSON, "INFO", stream=stream)
    try:
        raise TimeoutError
    except TimeoutError as error:
        logging.getLogger("arq.worker").exception("%6.2fs ! %s failed, %s", 66.8, "c1-0:0:deliver", type(error).__name__)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["event"], line["level"]) == (" 66.80s ! c1-0:0:deliver failed, TimeoutError", "warning")
    assert "exception" not in line
