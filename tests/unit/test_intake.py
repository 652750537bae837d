"""From rows to chunks: every row once and in order, and no chunk larger than a worker can take, whatever the list."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.compose.message_builder import recipients as addressees
from mailer.intake.chunks import CHUNK_BYTES, STORE_BYTES, STORE_CHUNKS, ChunkWriter, ListDigest, entry_of
from mailer.ledger import Spec
from mailer.ledger.archive import Chunk, pack, unpack
from mailer.ledger.intake import CHUNK_ROWS, NewChunk
from mailer.ledger.records import Record
from mailer.ledger.spec import Entry, pack_entries, unpack_entries
from mailer.message.email import Lane, Outcome
from mailer.recipients import MAX_ROW_BYTES, BadRow, Recipient, Row

SPEC = Spec(lane=Lane.BULK, from_address="news@example.com")
MOST_EXPANDED = 48 << 20  # bytes that the rows of one chunk take in a worker


class Kept:
    """Stands in for the ledger."""

    def __init__(self) -> None:
        self.calls: list[list[NewChunk]] = []
        self.intake = self

    async def add_chunks(self, id: str, first: int, chunks: Sequence[NewChunk]) -> None:
        assert first == sum(map(len, self.calls))
        self.calls.append(list(chunks))

    @property
    def chunks(self) -> list[NewChunk]:
        return [chunk for call in self.calls for chunk in call]


async def taken_in(*batches: list[Row]) -> tuple[Kept, ChunkWriter]:
    kept = Kept()
    intake = ChunkWriter(kept, "c1", SPEC)  # type: ignore[arg-type]
    for batch in batches:
        await intake.add(batch)
    await intake.flush()
    return kept, intake


def entries(chunk: NewChunk) -> list[Entry]:
    return unpack_entries(pack_entries(chunk.rows))


def person(row: int, **data: Any) -> Recipient:
    return Recipient(row, f"u{row}@example.org", data)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["good", "bad", "long", "longest"]), max_size=700), max_size=6))
def test_every_row_is_in_one_chunk_in_its_order_and_no_chunk_is_too_large(kinds: list[list[str]]) -> None:
    sizes = {"good": 10, "long": 20_000, "longest": MAX_ROW_BYTES - 100}
    rows: list[list[Row]] = []
    number = 0
    for batch in kinds:
        rows.append([])
        for kind in batch[: 20 if "longest" in batch else None]:
            number += 1
            bad = BadRow(number, "nobody", Outcome.REJECTED, f"line {number}: bad")
            rows[-1].append(bad if kind == "bad" else person(number, x="y" * sizes[kind]))
    kept, intake = asyncio.run(taken_in(*rows))
    everyone = [row for batch in rows for row in batch]
    assert [entry.row for chunk in kept.chunks for entry in entries(chunk)] == [row.row for row in everyone]
    assert [outcome for chunk in kept.chunks for outcome in chunk.outcomes] == [
        row.outcome if isinstance(row, BadRow) else Outcome.QUEUED for row in everyone
    ]
    for chunk in kept.chunks:
        found = entries(chunk)
        assert len(found) == len(chunk.outcomes) <= CHUNK_ROWS
        assert sum(len(entry.data.get("x", "")) for entry in found) <= CHUNK_BYTES
        assert {position: f"line {found[position].row}: bad" for position in chunk.reasons} == chunk.reasons
    assert (intake.rows, intake.chunks) == (len(everyone), len(kept.chunks))
    assert sum(intake.counts.values()) == len(everyone)


async def test_short_rows_make_full_chunks_whatever_the_batches() -> None:
    rows = [person(number, name="Ana") for number in range(1, 5001)]
    for size in (1, 7, 499, 500, 501, 1000, 5000):
        kept, _ = await taken_in(*[list[Row](rows[first : first + size]) for first in range(0, 5000, size)])
        assert [len(chunk.outcomes) for chunk in kept.chunks] == [CHUNK_ROWS] * 10
        assert all(len(call) <= STORE_CHUNKS for call in kept.calls)


async def test_long_rows_wait_in_a_few_megabytes() -> None:
    class Forgetful(Kept):
        async def add_chunks(self, id: str, first: int, chunks: Sequence[NewChunk]) -> None:
            await super().add_chunks(id, first, [NewChunk([], chunk.outcomes, {}) for chunk in chunks])

    intake = ChunkWriter(Forgetful(), "c1", SPEC)  # type: ignore[arg-type]
    value = "y" * (MAX_ROW_BYTES - 100)
    tracemalloc.start()
    try:
        for number in range(1, 201):  # 50 MB
            await intake.add([person(number, x=value)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * STORE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["[],", "{},", "0.5,", '"",', '{"a":1},', "[[[]]],"])
async def test_what_a_chunk_becomes_in_a_worker_is_bounded(piece: str) -> None:
    value = orjson.loads(f"[{piece * ((MAX_ROW_BYTES - 200) // len(piece))}0]")
    kept, _ = await taken_in([person(number, x=value) for number in range(1, 5)])
    packed = [pack_entries(chunk.rows) for chunk in kept.chunks]
    for one in packed:
        tracemalloc.start()
        try:
            found = unpack_entries(one)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(found) > 1
        assert peak < MOST_EXPANDED


async def test_names_numbers_and_all_else_of_a_row_come_back() -> None:
    row = Recipient(
        1,
        "bo@example.org",
        {"id": Decimal("9400110200881234567890"), "nested": [{"sum": Decimal("-12345678901234567890.10")}], "n": 1},
        ("c@example.org",),
        ("d@example.org",),
        {"plan": "plus"},
        "Jörg Berg",
    )
    kept, _ = await taken_in([row, person(2)])
    found, plain = entries(kept.chunks[0])
    assert found == entry_of(row)._replace(cc=["c@example.org"], bcc=["d@example.org"])
    assert (found.data["id"], str(found.data["nested"][0]["sum"])) == (row.data["id"], "-12345678901234567890.10")
    assert addressees(SPEC, found)[0] == ("=?utf-8?q?J=C3=B6rg_Berg?= <bo@example.org>",)
    assert addressees(SPEC, plain)[0] == ("u2@example.org",)
    records = [Record(Outcome.SENT, updated_at=1), Record(Outcome.QUEUED, updated_at=1)]
    again, _ = unpack(pack("c1-0", [found, plain], Chunk(records, b"", {})))
    assert again == [found, plain]


def test_rows_of_a_chunk_that_was_stored_before_have_no_name() -> None:
    packed = pack_entries([[1, "a@example.org"], [2, "b@example.org", {}], [3, "c@example.org", {}, ["d@example.org"], [], {}]])
    assert [entry.name for entry in unpack_entries(packed)] == ["", "", ""]


def test_two_lists_are_the_same_whatever_their_batches() -> None:
    rows: list[Row] = [person(1, x=1), BadRow(2, "nobody", Outcome.REJECTED, "line 3: bad"), person(3, x=2)]

    def digest(*batches: Sequence[Row]) -> str:
        found = ListDigest()
        for batch in batches:
            found.add(batch)
        return found.text()

    assert digest(rows) == digest(rows[:1], rows[1:]) == digest(*[[row] for row in rows])
    assert digest(rows) != digest(rows[:2])
    assert digest(rows) != digest([Recipient(1, "u1@example.org", {"x": 1}, name="Ana"), *rows[1:]])
