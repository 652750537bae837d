"""Rows as they are read → chunks of the ledger, written a few at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from .data import dumps
from .email import Outcome
from .errors import CampaignGone
from .ledger import Ledger, Spec
from .ledger.ledger import CHUNK_ROWS, NewChunk
from .recipients import BadRow, Recipient, Row

SHARED = "has cc or bcc, and the campaign a `contact_list`, which SES manages for messages to one recipient only"
ALIVE_EVERY_S = 10.0  # a reader that says nothing for two minutes is taken for dead
KEPT_REASONS = 200  # why rows cannot be used: so many are counted each for itself
STORE_CHUNKS = 8  # chunks written to Redis in one round trip while a list is read: some 250 kB


def usable(spec: Spec, row: Row) -> Row:
    """The row, or what becomes of it where this campaign cannot be sent to it."""
    if spec.contact_list is not None and isinstance(row, Recipient) and (row.cc or row.bcc):
        return BadRow(row.row, row.address, Outcome.REJECTED, SHARED)
    return row


class ListDigest:
    """Tells whether two lists are the same, row for row."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self._hash.update(dumps([row.row, row.to] if isinstance(row, BadRow) else _entry(row)))

    def text(self) -> str:
        return self._hash.hexdigest()[:32]


class Intake:
    def __init__(self, ledger: Ledger, id: str, spec: Spec, *, with_digest: bool = False) -> None:
        self._ledger = ledger
        self._id = id
        self._spec = spec
        self._pending: list[Row] = []
        self.rows = 0
        self.chunks = 0
        self.counts: Counter[Outcome] = Counter()
        self.reasons: Counter[str] = Counter()  # of the rows that are rejected
        self.digest = ListDigest() if with_digest else None

    async def add(self, rows: list[Row]) -> None:
        if self.digest:
            self.digest.add(rows)
        self._pending += [usable(self._spec, row) for row in rows] if self._spec.contact_list is not None else rows
        self.rows += len(rows)
        if len(self._pending) >= CHUNK_ROWS * STORE_CHUNKS:
            await self._write(len(self._pending) // CHUNK_ROWS * CHUNK_ROWS)

    async def stay_alive(self) -> None:
        """Say every now and then that the list is being read, however long its next rows take. For ever."""
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            with suppress(RedisError, OSError, CampaignGone):  # whoever writes the next chunks is told
                await self._ledger.keep_reading(self._id, self.chunks)

    async def flush(self) -> None:
        await self._write(len(self._pending))

    async def _write(self, count: int) -> None:
        rows, self._pending = self._pending[:count], self._pending[count:]
        chunks = [_chunk(rows[first : first + CHUNK_ROWS]) for first in range(0, count, CHUNK_ROWS)]
        for chunk in chunks:
            self.counts.update(chunk.outcomes)
            self._count_reasons(chunk)
        await self._ledger.add_chunks(self._id, self.chunks, chunks)
        self.chunks += len(chunks)

    def _count_reasons(self, chunk: NewChunk) -> None:
        for position, reason in chunk.reasons.items():
            if chunk.outcomes[position] is Outcome.REJECTED:
                known = reason in self.reasons or len(self.reasons) < KEPT_REASONS
                self.reasons[reason if known else "other reasons"] += 1


def _chunk(rows: list[Row]) -> NewChunk:
    entries: list[list[Any]] = []
    outcomes: list[Outcome] = []
    reasons: dict[int, str] = {}
    for position, row in enumerate(rows):
        if isinstance(row, BadRow):
            entries.append([row.row, row.to])
            outcomes.append(row.outcome)
            reasons[position] = row.reason
        else:
            entries.append(_entry(row))
            outcomes.append(Outcome.QUEUED)
    return NewChunk(entries, outcomes, reasons)


def _entry(row: Recipient) -> list[Any]:
    if row.cc or row.bcc or row.tags:
        return [row.row, row.address, row.data, row.cc, row.bcc, row.tags]
    return [row.row, row.address, row.data]
