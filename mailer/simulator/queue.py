"""A standard queue as SQS has it: a message that was received is hidden for a while, and comes again until it is deleted.

The events of a large campaign must fit. So what waits for the first time is kept compressed, a block at a time (about 60
bytes an event), and is bounded by number and by bytes.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple
from uuid import UUID, uuid4

from .wire import Json

MAX_WAITING = 1_000_000  # messages; beyond that, and beyond the bytes, the oldest are dropped
MAX_WAITING_BYTES = 268_435_456  # as they are kept
MAX_IN_FLIGHT = 120_000  # of a standard queue (SQS developer guide, "Amazon SQS message quotas")
MAX_RECEIVES = 5  # then a message goes to the dead-letter queue
BLOCK_MESSAGES = 1024
BLOCK_BYTES = 524_288  # compressing them takes some 4 ms, which is the longest pause that a call sees
_SEPARATOR = b"\0"  # which SQS takes in no message
_RECEIPT = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,9})")
_PREFIX = uuid4().int >> 64 << 64
_NUMBERS = count(1)  # never again the same, so that a receipt from before a reset deletes nothing


class Received(NamedTuple):
    id: str
    receipt: str
    body: bytes
    times: int  # that it was received so far, this one included


class BadReceipt(ValueError):
    """It is none that this queue has given out."""


@dataclass(slots=True)
class _Held:
    """A message that was received at least once, and is not deleted."""

    number: int
    body: bytes
    times: int
    until: float  # it is hidden
    among: dict[int, _Held]  # where it stands: those hidden for the same time, or those that are there again


@dataclass(slots=True)
class _Backlog:
    """First in, first out. The two ends are plain, what is between them is compressed."""

    head: deque[bytes] = field(default_factory=deque)
    blocks: deque[bytes] = field(default_factory=deque)
    tail: list[bytes] = field(default_factory=list)
    tail_bytes: int = 0
    size: int = 0  # messages
    kept_bytes: int = 0

    def append(self, record: bytes) -> None:
        self.tail.append(record)
        self.tail_bytes += len(record)
        self.kept_bytes += len(record)
        self.size += 1
        if len(self.tail) == BLOCK_MESSAGES or self.tail_bytes >= BLOCK_BYTES:
            if self.head or self.blocks:
                packed = zlib.compress(_SEPARATOR.join(self.tail), 1)
                self.kept_bytes += len(packed) - self.tail_bytes
                self.blocks.append(packed)
            else:
                self.head.extend(self.tail)
            self.tail, self.tail_bytes = [], 0

    def popleft(self) -> bytes:
        if not self.head:
            if self.blocks:
                packed = self.blocks.popleft()
                self.head.extend(zlib.decompress(packed).split(_SEPARATOR))
                self.kept_bytes += sum(map(len, self.head)) - len(packed)
            else:
                self.head.extend(self.tail)
                self.tail, self.tail_bytes = [], 0
        record = self.head.popleft()
        self.kept_bytes -= len(record)
        self.size -= 1
        return record


class Queue:
    """No I/O; not safe for threads, it lives in one event loop."""

    def __init__(self, *, visibility_s: float, clock: Callable[[], float], dead: Queue | None = None) -> None:
        """`visibility_s`: how long a received message is hidden, where the receiver does not say. `clock`: seconds, monotonic."""
        self.visibility_s, self.dead = visibility_s, dead
        self._clock = clock
        self._arrived = asyncio.Event()
        self.pollers = 0  # that wait for something to arrive
        self.waits = True  # False while the server stops
        self.clear()

    def clear(self) -> None:
        self._new = _Backlog()
        self._later: list[tuple[float, int, bytes]] = []  # a heap: when it is due, number, body
        self._again: dict[int, _Held] = {}  # those that were not deleted in time
        self._hidden: dict[float, dict[int, _Held]] = {}  # by the time for which they are hidden; so each in the order of its end
        self._held: dict[int, _Held] = {}
        self.deleted = self.dropped = self.died = 0

    # ---- what goes in ----

    def put(self, body: bytes, *, delay_s: float = 0.0, number: int | None = None) -> str:
        """The message's id. `body` is text in UTF-8 without NUL."""
        number = next(_NUMBERS) if number is None else number
        if delay_s > 0:
            heappush(self._later, (self._clock() + delay_s, number, body))
        else:
            self._append(number, body)
        while self._new.size + len(self._later) > MAX_WAITING or self._new.kept_bytes > MAX_WAITING_BYTES:
            if self._new.size:
                self._new.popleft()
            else:
                heappop(self._later)
            self.dropped += 1
        return _id(number)

    def _append(self, number: int, body: bytes) -> None:
        self._new.append(b"%x %b" % (number, body))
        self._arrived.set()

    # ---- what goes out ----

    def take(self, most: int, visibility_s: float | None = None) -> list[Received]:
        """What is there, `most` at most; hidden from now on for `visibility_s`."""
        now = self._advance()
        hide_s = self.visibility_s if visibility_s is None else visibility_s
        found = list[Received]()
        while len(found) < most and self._in_flight < MAX_IN_FLIGHT and (held := self._next()) is not None:
            held.times += 1
            held.until = now + hide_s
            held.among = self._hidden.setdefault(hide_s, {})
            held.among[held.number] = self._held[held.number] = held
            receipt = f"{held.number:x}-{held.times}"
            found.append(Received(_id(held.number), receipt, held.body, held.times))
        return found

    def _next(self) -> _Held | None:
        """Of those that are there; it stands nowhere then."""
        while self._again:
            number = next(iter(self._again))
            held = self._again.pop(number)
            del self._held[number]
            if self.dead is None or held.times < MAX_RECEIVES:
                return held
            self.dead.put(held.body, number=number)
            self.died += 1
        if not self._new.size:
            return None
        name, _, body = self._new.popleft().partition(b" ")
        return _Held(int(name, 16), body, 0, 0.0, self._again)

    async def arrival(self, within_s: float) -> None:
        """Returns when there may be something to take, at the latest after `within_s`."""
        self._arrived.clear()
        now = self._clock()
        ends = [now + within_s, *(next(iter(some.values())).until for some in self._hidden.values() if some)]
        ends += [self._later[0][0]] if self._later else []
        self.pollers += 1
        try:
            async with asyncio.timeout(max(0.0, min(ends) - now)):
                await self._arrived.wait()
        except TimeoutError:
            pass  # nothing has come, or a message that was hidden or delayed is due: the caller looks again
        finally:
            self.pollers -= 1

    def let_wait(self, allowed: bool) -> None:
        """Whether who comes may wait for something to arrive. Where not, those who wait go."""
        self.waits = allowed
        self._arrived.set()

    def delete(self, receipt: str) -> None:
        """With a receipt that is not the newest of its message nothing happens, as SQS documents it. Raises BadReceipt."""
        match = _RECEIPT.fullmatch(receipt)
        if match is None:
            raise BadReceipt(receipt)
        held = self._held.get(int(match[1], 16))
        if held is not None and held.times == int(match[2]):
            del held.among[held.number], self._held[held.number]
            self.deleted += 1
            self._arrived.set()  # for who waits because too many are in flight

    def _advance(self) -> float:
        """What is due, or hidden no longer, is there. Returns the time."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            _, number, body = heappop(self._later)
            self._append(number, body)
        for hide_s, some in list(self._hidden.items()):
            while some:
                number, held = next(iter(some.items()))
                if held.until > now:
                    break
                del some[number]
                held.among = self._again
                self._again[number] = held
            if not some:
                del self._hidden[hide_s]
        return now

    # ---- how much ----

    @property
    def _in_flight(self) -> int:
        return len(self._held) - len(self._again)

    def counts(self) -> Json:
        """Messages that are there, hidden, not yet due; deleted, given up, dropped since the start. And calls that wait."""
        self._advance()
        return {
            "waiting": self._new.size + len(self._again),
            "in_flight": self._in_flight,
            "delayed": len(self._later),
            "deleted": self.deleted,
            "dead": self.died,
            "dropped": self.dropped,
            "pollers": self.pollers,
        }


def _id(number: int) -> str:
    return str(UUID(int=_PREFIX | number))
