"""Calls of SES's suppression operations at the pace that SES takes: as fast as it answers, until it says that it is too fast."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..ses.refusals import Kind, classify_question

T = TypeVar("T")

SLOW_S = 1.05  # between two calls once SES has complained: AWS has limited these operations to one a second
TRIES = 7  # of one call that is throttled, on top of the client's own; some two minutes
MAX_PAUSE_S = 30.0
_TOO_FAST = (Kind.RATE, Kind.CALLS)


class WriteThrottle:
    def __init__(
        self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._next = 0.0  # by the clock; the earliest time of the next call
        self.slow = False

    async def call(self, ask: Callable[[], Awaitable[T]], *, waiting: Callable[[], Awaitable[object]] | None = None) -> T:
        """What the call gives. `waiting` is run before each pause. Raises what the call raises; throttling is waited out."""
        for tries in range(1, TRIES + 1):
            await self._turn()
            try:
                return await ask()
            except Exception as error:
                if tries == TRIES or classify_question(error).kind not in _TOO_FAST:
                    raise
            self.slow = True
            if waiting is not None:
                await waiting()
            await self._sleep(min(2.0 ** (tries - 1), MAX_PAUSE_S) * random.uniform(0.75, 1.25))
        raise AssertionError

    async def _turn(self) -> None:
        if self.slow:
            now = self._clock()
            at = max(self._next, now)
            self._next = at + SLOW_S
            if at > now:
                await self._sleep(at - now)
