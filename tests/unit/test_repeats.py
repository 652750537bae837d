"""Log lines that would repeat."""

from __future__ import annotations

from typing import Any

from mailer.repeats import KEPT, Repeats


class Log:
    def __init__(self) -> None:
        self.now, self.lines = 0.0, list[tuple[str, dict[str, Any]]]()
        self.repeats = Repeats(every_s=60, clock=lambda: self.now)

    def say(self, text: str, **fields: Any) -> None:
        self.lines.append((text, fields))


def test_the_same_is_told_when_it_begins_and_then_once_a_minute_with_how_often_it_was() -> None:
    log = Log()
    for _ in range(1000):
        log.repeats.tell(log.say, "redis", "away", reason="refused")
        log.now += 0.125
    assert log.lines == [
        ("away", {"reason": "refused"}),
        ("away", {"reason": "refused", "times": 480}),
        ("away", {"reason": "refused", "times": 480}),
    ]


def test_another_state_and_another_thing_are_told_at_once() -> None:
    log = Log()
    for what in ("refused", "refused", "full", "refused"):
        log.repeats.tell(log.say, "redis", what, what)
    log.repeats.tell(log.say, "ses", "refused", "refused")
    assert [text for text, _ in log.lines] == ["refused", "full", "refused", "refused"]


def test_a_change_is_told_once_however_long_it_lasts_and_its_end_once() -> None:
    log = Log()
    assert not log.repeats.over(log.say, "account", "goes on")
    for what in ("paused", "paused", "enabled", "paused"):
        log.repeats.change(log.say, "account", what, what)
        log.now += 3600
    assert log.repeats.seen("account") == "paused"
    assert [log.repeats.over(log.say, "account", "goes on") for _ in range(3)] == [True, False, False]
    assert [text for text, _ in log.lines] == ["paused", "enabled", "paused", "goes on"]


def test_no_more_than_a_bounded_number_of_things_is_kept() -> None:
    log = Log()
    for number in range(10 * KEPT):
        log.repeats.tell(log.say, number, "x")
    assert len(log.repeats._said) == KEPT
    assert log.repeats.seen(0) is None
