"""HTTP connections that cannot be held for nothing: uvicorn has no time limit for a request to arrive, nor for its answer.

Whoever opens connections and sends nothing, or a byte now and then, would take all that a process may open, and its sending
with them. A request's headers have HEADERS_S, and all of it with its answer ANSWER_S. Beyond MOST connections the one goes that
has waited longest for a request, so that somebody who asks at once is always heard.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 5.0
ANSWER_S = 30.0
MOST = 100
INVALID_EVERY_S = 60.0  # between two lines about requests that are no HTTP


class Bounded(H11Protocol):
    """For `uvicorn.Config(http=…)`."""

    _timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0  # the loop's time; 0: a request is being answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > MOST:
            idle = [one for one in self.connections if isinstance(one, Bounded) and one._idle_since]
            min(idle, key=lambda one: one._idle_since).give_up()  # this one is among them

    def connection_lost(self, exc: Exception | None) -> None:
        self._within(None)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # the headers are there
            self._idle_since = 0.0
            self._within(ANSWER_S)

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()  # which may find the next request in what has arrived

    def _wait(self) -> None:
        self._idle_since = self.loop.time()
        self._within(HEADERS_S)

    def _within(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.give_up)

    def give_up(self) -> None:
        self._within(None)
        self.connections.discard(self)  # at once: others are counted before the loop has closed it
        self.transport.abort()


class _NowAndThen(logging.Filter):
    """uvicorn says of each request that is no HTTP that it is none, and anyone can send such."""

    def __init__(self) -> None:
        super().__init__()
        self._said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.getMessage() != "Invalid HTTP request received.":
            return True
        now = time.monotonic()
        if now - self._said < INVALID_EVERY_S:
            return False
        self._said = now
        return True


_FILTER = _NowAndThen()


def bounds() -> dict[str, Any]:
    """For `uvicorn.Config`."""
    logging.getLogger("uvicorn.error").addFilter(_FILTER)  # the same one again is not added
    return {"http": Bounded}
