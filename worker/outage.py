"""What the log says of a Redis that is away or refuses: when that begins, once a minute while it lasts, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from mailer.queue import advise_redis, explain_redis, is_refused, passes

log = structlog.get_logger()

TOLD_EVERY_S = 60.0
MOST = 100  # reasons that are remembered


class Outage:
    """Of one process: many loops meet the same outage, and one line is enough."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}  # reason → when
        self._lasting = set[str]()  # reasons that do not pass by themselves
        self._since: float | None = None

    def tell(self, error: BaseException, doing: str, **ids: object) -> None:
        """`doing`: what it kept from being done, in a few words."""
        reason, now = explain_redis(error), self._clock()
        if not passes(error):
            self._lasting.add(reason)
        elif self._since is None:
            self._since = now
        if len(self._told) >= MOST:
            self._told.clear()
            self._lasting.clear()
        due = now - self._told.get(reason, float("-inf")) >= TOLD_EVERY_S
        if due:
            self._told[reason] = now
        say = log.warning if due else log.debug
        event = "redis refuses what it is asked for" if is_refused(error) else "redis does not answer"
        say(event, reason=reason, do=advise_redis(error), doing=doing, **ids)

    def over(self) -> None:
        """Redis has just taken a write. What it refuses for good it refuses still."""
        if self._since is not None:
            log.info("redis takes writes again", after_s=round(self._clock() - self._since, 1))
            self._since, self._told = None, {reason: at for reason, at in self._told.items() if reason in self._lasting}
