"""How many bytes of large messages a process holds at a time: who needs more than is free waits, in turn."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

MOST_WAITING = 8  # chunks; others are put off, so that their places in the lane are free for what is small
AGAIN_S = (0.2, 1.0)  # after which those are looked at again


class Busy(Exception):
    """There is no place now. `again_s`: when to ask again."""

    def __init__(self, again_s: float) -> None:
        super().__init__(again_s)
        self.again_s = again_s


class Room:
    """`most` bytes in all; one that needs more than that has it alone."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """Raises Busy."""
        size = min(size, self._most)
        if size:
            await self._take(size)
        try:
            yield
        finally:
            self._free += size
            self._let_in()

    async def _take(self, size: int) -> None:
        if size <= self._free and not self._waiting:
            self._free -= size
            return
        if len(self._waiting) >= MOST_WAITING:
            raise Busy(random.uniform(*AGAIN_S))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in at the same moment
                self._free += size
            with suppress(ValueError):
                self._waiting.remove((size, turn))
            self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)
