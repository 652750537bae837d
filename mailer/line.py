"""A Mailer's line to Redis: of one event loop, and with one error of ours for all that Redis does not do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from .errors import OtherLoop
from .queue import unavailable
from .settings import Settings


class Line:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None  # the first one that it is used in

    def check_loop(self) -> None:
        """Raises OtherLoop: its connections are of the loop that they were made in."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise OtherLoop

    @contextmanager
    def asking(self, known: str = "") -> Iterator[None]:
        """Around what asks Redis, and nothing else. Raises RedisUnavailable; `known` is what that means for the caller."""
        self.check_loop()
        try:
            yield
        except (RedisError, OSError) as error:
            # Without its cause: redis-py quotes the command, and in that is what recipients are to be sent.
            raise unavailable(error, self._settings, known=known) from None
