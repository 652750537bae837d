"""What a worker's log says of Redis."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from redis._parsers import BaseParser
from redis.exceptions import ConnectionError, OutOfMemoryError, RedisError, TimeoutError
from structlog.testing import capture_logs

from worker.outage import TOLD_EVERY_S, Outage

Lines = list[MutableMapping[str, Any]]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines


def loud(said: Lines) -> list[tuple[str, str, str]]:
    return [(one["log_level"], one["event"], one.get("reason", "")) for one in said if one["log_level"] != "debug"]


@pytest.mark.parametrize(
    "answer",
    [
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOPERM User x has no permissions to run the 'info' command",
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "LOADING Redis is loading the dataset in memory",
        "ERR value is not an integer or out of range script: 1, on @user_script:9.",
        "ERR max number of clients reached",
    ],
)
def test_a_refusal_is_never_called_silence_and_has_the_reason_and_what_to_do(said: Lines, clock: Clock, answer: str) -> None:
    error = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]
    assert isinstance(error, RedisError)
    Outage(clock).tell(error, "reap")
    (line,) = said
    assert line["event"] == "redis refuses what it is asked for"
    assert (line["log_level"], line["doing"]) == ("warning", "reap")
    assert line["reason"]
    assert line["do"]


def test_each_reason_is_told_once_a_minute_whoever_meets_it(said: Lines, clock: Clock) -> None:
    outage = Outage(clock)
    for doing in ("reap", "archive", "reap"):
        outage.tell(TimeoutError("Timeout reading from h:1"), doing)
        outage.tell(OutOfMemoryError("command not allowed"), doing)
    assert loud(said) == [
        ("warning", "redis does not answer", "it does not answer in time"),
        ("warning", "redis refuses what it is asked for", "its memory is full (maxmemory)"),
    ]
    clock.now += TOLD_EVERY_S
    outage.tell(TimeoutError("Timeout reading from h:1"), "reap")
    assert len(loud(said)) == 3


def test_its_end_is_told_once_with_how_long_it_was(said: Lines, clock: Clock) -> None:
    outage = Outage(clock)
    outage.over()
    outage.tell(ConnectionError("Error 111 connecting to h:1. Connection refused."), "reap")
    clock.now += 12.34
    outage.over()
    outage.over()
    assert loud(said) == [
        ("warning", "redis does not answer", "nothing answers there"),
        ("info", "redis takes writes again", ""),
    ]
    assert said[-1]["after_s"] == 12.3
    outage.tell(ConnectionError("Error 111 connecting to h:1. Connection refused."), "reap")
    assert len(loud(said)) == 3, "the next one is told at once"


def test_what_is_refused_for_good_does_not_end_with_the_next_write(said: Lines, clock: Clock) -> None:
    outage = Outage(clock)
    for _ in range(3):
        outage.tell(BaseParser.parse_error("NOPERM User x has no permissions to run the 'info' command"), "start")  # type: ignore[no-untyped-call]
        outage.tell(TimeoutError("Timeout reading from h:1"), "start")
        outage.over()
    assert [event for _, event, _ in loud(said)].count("redis refuses what it is asked for") == 1
