"""Rows as they are read → chunks of the ledger, written a few at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import suppress
from typing import Any

import orjson
from redis.exceptions import RedisError

from .checks import display_name
from .data import dumps
from .email import Outcome
from .errors import CampaignGone, RecipientsError
from .ledger import Entry, Ledger, Spec
from .ledger.ledger import CHUNK_ROWS, NewChunk
from .recipients import BadRow, Recipient, Recipients, Row
from .recipients.understood import general

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


async def first_usable(rows: Recipients) -> Entry:
    """Raises RecipientsError where the list has none."""
    why = ""
    async for batch in rows:
        for row in batch:
            if isinstance(row, Recipient):
                return entry_of(row)
            why = why or row.reason
    raise RecipientsError(source="the list", why=f"has no row that can be used; the first: {why}")


class ListDigest:
    """Tells whether two lists are the same, row for row."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self.add_entry(_entry(row))

    def add_entry(self, entry: bytes) -> None:
        self._hash.update(entry)

    def text(self) -> str:
        return self._hash.hexdigest()[:32]


class Intake:
    """Chunks are cut by rows, and by bytes as the rows are stored: a list of long rows has shorter chunks.

    What waits to be written is JSON already, so it takes no more memory than it says.
    """

    def __init__(self, ledger: Ledger, id: str, spec: Spec, *, with_digest: bool = False) -> None:
        self._ledger = ledger
        self._id = id
        self._spec = spec
        self._pending: list[NewChunk] = []  # the last may be added to
        self._pending_bytes = 0
        self._last_bytes = 0  # of the last chunk
        self.rows = 0
        self.chunks = 0
        self.counts: Counter[Outcome] = Counter()
        self.reasons: Counter[str] = Counter()  # of the rows that are rejected or left out
        self.digest = ListDigest() if with_digest else None

    async def add(self, rows: list[Row]) -> None:
        for row in rows:
            entry = _entry(row)
            if self.digest:
                self.digest.add_entry(entry)
            used = usable(self._spec, row)
            self._put(entry if used is row else _entry(used), used)
            if len(self._pending) > STORE_CHUNKS or self._pending_bytes - self._last_bytes > STORE_BYTES:
                await self._write(len(self._pending) - 1)
        self.rows += len(rows)

    def _put(self, entry: bytes, row: Row) -> None:
        if not self._pending or len(self._pending[-1].rows) >= CHUNK_ROWS or self._last_bytes + len(entry) > CHUNK_BYTES:
            self._pending.append(NewChunk([], [], {}))
            self._last_bytes = 0
        chunk = self._pending[-1]
        if isinstance(row, BadRow):
            chunk.reasons[len(chunk.rows)] = row.reason
        chunk.rows.append(orjson.Fragment(entry))
        chunk.outcomes.append(row.outcome if isinstance(row, BadRow) else Outcome.QUEUED)
        self._last_bytes += len(entry)
        self._pending_bytes += len(entry)

    async def stay_alive(self) -> None:
        """Say every now and then that the list is being read, however long its next rows take. For ever."""
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            with suppress(RedisError, OSError, CampaignGone):  # whoever writes the next chunks is told
                await self._ledger.keep_reading(self._id, self.chunks)

    async def flush(self) -> None:
        await self._write(len(self._pending))

    async def _write(self, count: int) -> None:
        chunks, self._pending = self._pending[:count], self._pending[count:]
        self._pending_bytes = self._last_bytes if self._pending else 0
        for chunk in chunks:
            self.counts.update(chunk.outcomes)
            self._count_reasons(chunk)
        await self._ledger.add_chunks(self._id, self.chunks, chunks)
        self.chunks += len(chunks)

    def _count_reasons(self, chunk: NewChunk) -> None:
        for position, why in chunk.reasons.items():
            if chunk.outcomes[position] in (Outcome.REJECTED, Outcome.SUPPRESSED):
                reason = general(why)
                known = reason in self.reasons or len(self.reasons) < KEPT_REASONS
                self.reasons[reason if known else "other reasons"] += 1


def entry_of(row: Recipient) -> Entry:
    return Entry(row.row, row.address, row.data, row.cc, row.bcc, row.tags, display_name(row.name, row.address))


def _entry(row: Row) -> bytes:
    """A row as a chunk's payload has it, and as `Entry` reads it."""
    if isinstance(row, BadRow):
        return dumps([row.row, row.to])
    fields: list[Any] = [row.row, row.address, row.data]
    if row.cc or row.bcc or row.tags or row.name:
        fields += [row.cc, row.bcc, row.tags]
    if row.name:
        fields.append(display_name(row.name, row.address))
    return dumps(fields)
