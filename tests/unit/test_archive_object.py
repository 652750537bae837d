"""The object of an archived chunk: what goes in comes out, and the same chunk gives the same bytes."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.ledger import Entry, Record
from mailer.ledger.archive import REASONS, Chunk, archive_name, pack, token_of, unpack
from mailer.ledger.records import MESSAGE_ID_BYTES
from mailer.message.email import Mode, Outcome

CHUNK = "c01k8x7t3q9r5v2m0ab-7"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, lambda v: st.lists(v, max_size=3))
RECORDS = st.builds(
    Record,
    st.sampled_from(Outcome),
    st.sampled_from(Mode),
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**32 - 1),
)
ENTRIES = st.builds(
    Entry,
    st.integers(1, 2**40),
    TEXT,
    st.dictionaries(TEXT, VALUES, max_size=3),
    st.lists(TEXT, max_size=2),
    st.lists(TEXT, max_size=2),
    st.dictionaries(TEXT, TEXT, max_size=2),
)


@st.composite
def chunks(draw: st.DrawFn) -> tuple[list[Entry], Chunk]:
    entries = draw(st.lists(ENTRIES, min_size=1, max_size=6))
    records, ids, details = [draw(RECORDS) for _ in entries], bytearray(), dict[bytes, bytes]()
    for position, record in enumerate(records):
        packed = draw(st.binary(min_size=MESSAGE_ID_BYTES, max_size=MESSAGE_ID_BYTES) | st.just(bytes(MESSAGE_ID_BYTES)))
        ids += packed
        if not packed.strip(b"\0") and draw(st.booleans()):
            details[b"i%d" % position] = b"an id of another form"
        reason = draw(st.none() | TEXT)
        if reason and reason != REASONS.get(record.outcome):
            details[b"%d" % position] = reason.encode()
        if draw(st.booleans()):
            details[b"e%d" % position] = draw(TEXT).encode()  # what others keep of a recipient
    return entries, Chunk(records, bytes(ids) if ids.strip(b"\0") else b"", details)


def plain(entries: list[Entry]) -> list[Any]:
    return [[e.row, e.to, dict(e.data), list(e.cc), list(e.bcc), dict(e.tags)] for e in entries]


@pytest.mark.slow
@given(chunks())
def test_a_chunk_comes_back_as_it_was(chunk: tuple[list[Entry], Chunk]) -> None:
    entries, known = chunk
    packed = pack(CHUNK, entries, known)
    assert pack(CHUNK, entries, known) == packed
    again, found = unpack(packed)
    assert (plain(again), found) == (plain(entries), known)
    lines = gzip.decompress(packed).split(b"\n")
    assert lines.pop() == b""
    assert [orjson.loads(line)["id"] for line in lines] == [f"{CHUNK}-{n}" for n in range(len(entries))]


@given(st.text("0123456789abcdef", min_size=40, max_size=40))
def test_a_token_is_never_what_stands_for_none(digest: str) -> None:
    assert token_of(digest).strip(b"\0")
    assert archive_name(CHUNK, token_of("0" * 40)) == "c01k8x7t3q9r5v2m0ab/7-00000001.ndjson.gz"
