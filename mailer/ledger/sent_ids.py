"""Under which message id SES accepted a recipient's message: for notifications of identities, which carry no tag of ours.

Messages that are sent alone are always noted, 23 bytes each. Campaigns are from the first notification without tags on, 10 bytes
a recipient; what was settled before that is noted from the ids that the chunks have (`note_chunk`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..ids import Attempt, is_message, place_of
from ..redis.client import RedisClient
from ..redis.scripts import Scripts
from .keys import Keys
from .records import MESSAGE_ID_BYTES, unpack_message_id

MARK_BYTES = 7  # as in lua/lib/sent_ids.lua
DAY_MS = 86_400_000
TOGETHER = 50  # ids that one script looks up: some milliseconds with ten million ids a day
NO_MARK = bytes(MARK_BYTES)


@dataclass(slots=True)
class Noting:
    """What is noted as it is settled. Whoever settles changes it."""

    prefix: str
    life_s: int = 8 * 86_400
    messages: bool = False
    campaigns: bool = False

    def marks(self, chunk: str, ids: Iterable[str | None]) -> bytes:
        """Of a chunk's message ids; empty where they are not noted."""
        wanted = self.messages if is_message(chunk) else self.campaigns
        return b"".join(mark(id) if id else NO_MARK for id in ids) if wanted else b""


def mark(id: str) -> bytes:
    return hashlib.sha256(id.encode(errors="surrogatepass")).digest()[:MARK_BYTES]


class SentIds:
    """The index of one installation. `noting` says what goes into it."""

    def __init__(self, redis: RedisClient, keys: Keys, scripts: Scripts, noting: Noting) -> None:
        self._redis, self._keys, self._scripts, self._noting = redis, keys, scripts, noting

    async def find(self, ids: Iterable[str]) -> dict[str, Attempt]:
        """Whose they are, as far as that is known. The number of the attempt is not: it is 1."""
        wanted, days = list(dict.fromkeys(ids)), await self._days()
        found = await self._look(wanted, days[:2])  # nearly all are of today or yesterday
        if len(days) > 2 and (missing := [id for id in wanted if id not in found]):
            found |= await self._look(missing, days[2:])
        return found

    async def _days(self) -> list[int]:
        today = await self._scripts.now_ms() // DAY_MS
        return [today - ago for ago in range(self._noting.life_s // 86_400 + 1)]

    async def _look(self, ids: Sequence[str], days: Sequence[int]) -> dict[str, Attempt]:
        found = dict[str, Attempt]()
        for first in range(0, len(ids), TOGETHER):
            some = ids[first : first + TOGETHER]
            marks = b"".join(map(mark, some))
            for id, recipient in zip(some, await self._scripts.run("locate", [], self._keys.sent_ids, marks, *days), strict=True):
                if recipient and (place := place_of(recipient.decode())) is not None:
                    chunk, position = place
                    container, _, number = chunk.partition("-")
                    found[id] = Attempt(container, int(number), position, 1)
        return found

    async def note_chunk(self, chunk: str) -> int:
        """Note all ids that Redis has of a chunk; how many. O(recipients in it). May be repeated."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._keys.message_ids(chunk))
            pipe.hgetall(self._keys.details(chunk))
            packed, details = await pipe.execute()
        found = list[tuple[int, str]]()
        for position in range(len(packed or b"") // MESSAGE_ID_BYTES):
            id = unpack_message_id(packed[position * MESSAGE_ID_BYTES : (position + 1) * MESSAGE_ID_BYTES])
            if id is not None:
                found.append((position, id))
        for field, value in details.items():
            if field[:1] in (b"i", b"d") and field[1:].isdigit():  # of another form, or those of a recipient that got it twice
                found += [(int(field[1:]), id) for id in value.decode().split()]
        if found:
            entries = b"".join(mark(id) + struct.pack(">H", position) for position, id in found)
            noting = self._noting
            await self._scripts.run("note", [self._keys.chunk(chunk)], noting.prefix, noting.life_s, chunk, entries)
        return len(found)
