"""Rows as they are read → chunks of the ledger, written a few at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from typing import Any

import orjson
from redis.exceptions import RedisError

from ..data import dumps
from ..errors import CampaignGone, RecipientsError
from ..ledger import Entry, Ledger, Spec
from ..ledger.intake import CHUNK_ROWS, NewChunk
from ..message.checks import display_name
from ..message.email import Outcome
from ..recipients import BadRow, Recipient, Row
from ..recipients.understood import general

SHARED = "has cc or bcc, and the campaign a `contact_list`, which SES manages for messages to one recipient only"
ALIVE_EVERY_S = 10.0  # a reader that says nothing for two minutes is taken for dead
KEPT_REASONS = 200  # why rows cannot be used: so many are counted each for itself
STORE_CHUNKS = 8  # chunks written to Redis in one round trip while a list is read: some 250 kB
STORE_BYTES = 4 << 20  # of JSON that wait to be written, of a list with long rows
CHUNK_BYTES = 1 << 20  # of JSON in a chunk, of a list with long rows: in a worker it may be 25 times as much


def usable(spec: Spec, row: Row) -> Row:
    """The row, or what becomes of it where this campaign cannot be sent to it."""
    if spec.contact_list is not None and isinstance(row, Recipient) and (row.cc or row.bcc):
        return BadRow(row.row, row.address, Outcome.REJECTED, SHARED)
    return row


async def first_usable(rows: AsyncIterable[list[Row]]) -> Recipient:
    """Raises RecipientsError where the list has none."""
    why = ""
    async for batch in rows:
        for row in batch:
            if isinstance(row, Recipient):
                return row
            why = why or row.reason
    raise RecipientsError(source="the list", why=f"has no row that can be used; the first: {why}")


class ListDigest:
    """Tells whether two lists are the same, row for row."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, rows: Sequence[Row]) -> None:
        self._hash.update(_written(rows) + b",")

    def text(self) -> str:
        return self._hash.hexdigest()[:32]


class ChunkWriter:
    """Chunks are cut by rows, and by bytes as the rows are stored: a list of long rows has shorter chunks.

    What waits to be written is JSON already, so it takes no more memory than it says.
    """

    def __init__(self, ledger: Ledger, id: str, spec: Spec, *, with_digest: bool = False) -> None:
        self._ledger = ledger
        self._id = id
        self._spec = spec
        self._pending: list[NewChunk] = []  # the last may be added to
        self._bytes: list[int] = []  # of each of them
        self.rows = 0
        self.chunks = 0
        self.counts: Counter[Outcome] = Counter()
        self.reasons: Counter[str] = Counter()  # of the rows that are rejected or left out
        self.digest = ListDigest() if with_digest else None

    async def add(self, rows: list[Row]) -> None:
        if self.digest:
            self.digest.add(rows)
        if self._spec.contact_list is not None:
            rows = [usable(self._spec, row) for row in rows]
        at = 0
        while at < len(rows):
            room = CHUNK_ROWS - len(self._pending[-1].outcomes) if self._pending else 0
            part = rows[at : at + (room or CHUNK_ROWS)]
            at += len(part)
            self._put(part)
            if len(self._pending) > STORE_CHUNKS or sum(self._bytes) > STORE_BYTES:
                await self._write(len(self._pending) - 1)
        self.rows += len(rows)

    def _put(self, rows: Sequence[Row]) -> None:
        """Into the last chunk, or into new ones where it has no room. There are no more than a chunk may have."""
        written = _written(rows)
        if len(written) > CHUNK_BYTES and len(rows) > 1:
            half = len(rows) // 2
            self._put(rows[:half])
            self._put(rows[half:])
            return
        last = self._pending[-1] if self._pending else None
        if last is None or len(last.outcomes) + len(rows) > CHUNK_ROWS or self._bytes[-1] + len(written) > CHUNK_BYTES:
            last = NewChunk([], [], {})
            self._pending.append(last)
            self._bytes.append(0)
        last.rows.append(orjson.Fragment(written))
        self._bytes[-1] += len(written)
        for row in rows:
            if isinstance(row, BadRow):
                last.reasons[len(last.outcomes)] = row.reason
                last.outcomes.append(row.outcome)
            else:
                last.outcomes.append(Outcome.QUEUED)

    async def stay_alive(self) -> None:
        """Say every now and then that the list is being read, however long its next rows take. For ever."""
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            with suppress(RedisError, OSError, CampaignGone):  # whoever writes the next chunks is told
                await self._ledger.intake.keep_reading(self._id, self.chunks)

    async def flush(self) -> None:
        await self._write(len(self._pending))

    async def _write(self, count: int) -> None:
        chunks, self._pending, self._bytes = self._pending[:count], self._pending[count:], self._bytes[count:]
        for chunk in chunks:
            self.counts.update(chunk.outcomes)
            self._count_reasons(chunk)
        await self._ledger.intake.add_chunks(self._id, self.chunks, chunks)
        self.chunks += len(chunks)

    def _count_reasons(self, chunk: NewChunk) -> None:
        for position, why in chunk.reasons.items():
            if chunk.outcomes[position] in (Outcome.REJECTED, Outcome.SUPPRESSED):
                reason = general(why)
                known = reason in self.reasons or len(self.reasons) < KEPT_REASONS
                self.reasons[reason if known else "other reasons"] += 1


def entry_of(row: Recipient) -> Entry:
    return Entry(row.row, row.address, row.data, row.cc, row.bcc, row.tags, display_name(row.name, row.address))


def _written(rows: Sequence[Row]) -> bytes:
    """Rows as a chunk's payload has them: what stands between the brackets around all of them."""
    return dumps([_entry(row) for row in rows])[1:-1]


def _entry(row: Row) -> list[Any]:
    """A row as `Entry` reads it."""
    if isinstance(row, BadRow):
        return [row.row, row.to]
    if row.name:
        return [row.row, row.address, row.data, row.cc, row.bcc, row.tags, display_name(row.name, row.address)]
    if row.cc or row.bcc or row.tags:
        return [row.row, row.address, row.data, row.cc, row.bcc, row.tags]
    return [row.row, row.address, row.data]
