"""Files, standard input, gzip: found out by content, read in blocks, and told apart when they are broken."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import sqlite3
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import BrokenGzip, EmptyRecipients, RecipientsError, RecipientsNotFound
from mailer.recipients import BATCH_ROWS, MAX_ROW_BYTES, Recipient, Row, Seen, Source, open_recipients
from mailer.recipients.blocks import ByteSource
from mailer.recipients.lines import CHUNK_BYTES

CSV = b"email,name\nana@example.com,Ana\nbo@example.com,Bo\n"
NDJSON = b'\n {"email":"ana@example.com","name":"Ana"}\n{"email":"bo@example.com","name":"Bo"}\n'
ROWS = [Recipient(1, "ana@example.com", {"name": "Ana"}), Recipient(2, "bo@example.com", {"name": "Bo"})]


async def rows_of(source: Source) -> list[Row]:
    async with open_recipients(source) as recipients:
        return [row async for batch in recipients for row in batch]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", CSV),
        ("LIST.CSV.GZ", CSV),
        ("list.ndjson", NDJSON),
        ("list.jsonl.gz", NDJSON),
        ("list", CSV),
        ("list", NDJSON),
        ("list.txt", b"\xef\xbb\xbf" + NDJSON),
        ("list.gz", NDJSON),
        ("list.json", NDJSON),
        ("list.tsv", CSV.replace(b",", b"\t")),
    ],
)
async def test_format_and_compression_are_found_out(name: str, content: bytes, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert await rows_of(path) == ROWS
    assert await rows_of(str(path)) == ROWS


async def test_gzip_members_one_after_the_other_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "list.csv.gz"
    path.write_bytes(gzip.compress(CSV[:20]) + gzip.compress(CSV[20:]))
    assert await rows_of(path) == ROWS


@pytest.mark.parametrize("scheme", ["s3://bucket/list.csv", "https://example.com/list.csv"])
async def test_a_url_is_refused_with_a_way_out(scheme: str) -> None:
    for source in (scheme, Path(scheme)):
        with pytest.raises(RecipientsError, match=r"(s3|https):// cannot be read, only files, s3:// and standard input"):
            await rows_of(source)


async def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(RecipientsNotFound, match="there is no such file"):
        await rows_of(tmp_path / "none.csv")
    with pytest.raises(RecipientsNotFound, match="it is a folder, not a file"):
        await rows_of(tmp_path)
    with pytest.raises(RecipientsNotFound, match="cannot be read"):
        await rows_of("a\x00b")
    if os.getuid():
        (tmp_path / "closed.csv").touch(mode=0)
        with pytest.raises(RecipientsNotFound, match="Permission denied"):
            await rows_of(tmp_path / "closed.csv")


# ---- broken gzip ---------------------------------------------------------------------------------------------------


def many(count: int) -> bytes:
    return b"email,name\n" + b"".join(b"user%d@example.com,%s\n" % (n, os.urandom(12).hex().encode()) for n in range(count))


async def test_a_truncated_gzip_file_is_broken_and_says_how_far_it_went(tmp_path: Path) -> None:
    path = tmp_path / "list.csv.gz"
    path.write_bytes(gzip.compress(many(20_000))[:-20_000])
    seen = 0
    with pytest.raises(BrokenGzip) as caught:  # noqa: PT012
        async with open_recipients(path) as recipients:
            async for batch in recipients:
                seen += len(batch)
    assert 10_000 < seen <= caught.value.fields["lines"] < 20_000


@pytest.mark.parametrize("size", [0, 1, 2, 5, 12])
async def test_the_beginning_of_a_gzip_file_is_a_broken_one(size: int, tmp_path: Path) -> None:
    path = tmp_path / "list.csv.gz"
    path.write_bytes(gzip.compress(CSV)[:size])
    with pytest.raises(BrokenGzip) as caught:
        await rows_of(path)
    assert caught.value.fields["lines"] == 0


async def test_damaged_gzip_data_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "list.csv.gz"
    whole = gzip.compress(many(5000))
    for at, byte in ((len(whole) // 2, whole[len(whole) // 2] ^ 0xFF), (len(whole) - 6, whole[-6] ^ 0xFF), (3, 0xFF)):
        path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        with pytest.raises(BrokenGzip):
            await rows_of(path)


async def test_a_plain_file_under_a_gzip_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.csv.gz"
    path.write_bytes(CSV)
    assert await rows_of(path) == ROWS


# ---- standard input ------------------------------------------------------------------------------------------------


class Piped:
    """Stands in for sys.stdin: a pipe that the test writes into."""

    def __init__(self) -> None:
        read, self.write_fd = os.pipe()
        self.buffer = os.fdopen(read, "rb")


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Piped]:
    pipe = Piped()
    monkeypatch.setattr(sys, "stdin", pipe)
    yield pipe
    pipe.buffer.close()


@pytest.mark.parametrize("content", [CSV, NDJSON, gzip.compress(CSV, mtime=0)])
async def test_standard_input_is_read_as_it_comes_and_left_open(content: bytes, piped: Piped) -> None:
    reading = asyncio.create_task(rows_of("-"))
    for byte in content:
        os.write(piped.write_fd, bytes([byte]))
        await asyncio.sleep(0)
    os.close(piped.write_fd)
    assert await reading == ROWS
    assert not piped.buffer.closed


async def test_a_reader_that_waits_for_standard_input_can_be_cancelled(piped: Piped) -> None:
    reading = asyncio.create_task(rows_of("-"))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(reading, 5)
    os.close(piped.write_fd)


async def test_standard_input_from_a_file_has_a_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(CSV)
    with (tmp_path / "list").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        async with open_recipients("-") as recipients:
            assert recipients.progress() == (len(CSV), len(CSV))
            assert [row async for batch in recipients for row in batch] == ROWS


async def test_standard_input_that_is_no_file_at_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CSV)))
    assert await rows_of("-") == ROWS
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(RecipientsError, match="standard input: there is none here"):
        await rows_of("-")


async def test_empty_standard_input_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(EmptyRecipients, match="standard input has no recipients"):
            await rows_of("-")


async def test_a_disk_without_room_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(self: Seen, keys: list[str]) -> list[int]:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Seen, "repeats", full)
    (tmp_path / "list.csv").write_bytes(CSV)
    with pytest.raises(RecipientsError, match=r"database or disk is full\); set TMPDIR"):
        await rows_of(tmp_path / "list.csv")


# ---- progress and bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
async def test_progress_goes_from_nothing_to_all_of_the_bytes_on_disk(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(gzip.compress(many(20_000)) if zipped else many(20_000))
    size = path.stat().st_size
    steps = []
    async with open_recipients(path) as recipients:
        async for batch in recipients:
            assert len(batch) <= BATCH_ROWS
            steps.append(recipients.progress())
    assert {total for _, total in steps} == {size}
    read = [count for count, _ in steps]
    assert read == sorted(read)
    assert read[0] <= 4 * CHUNK_BYTES
    assert read[-1] == size


async def test_batches_are_full_but_for_the_last(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(many(5500))
    async with open_recipients(path) as recipients:
        assert [len(batch) async for batch in recipients] == [1000] * 5 + [500]
        assert recipients.rows == 5500


class Endless(io.RawIOBase):
    """A line of `total` bytes that does not end."""

    def __init__(self, total: int) -> None:
        self.left = total

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return b"x" * size


@pytest.mark.slow
def test_a_line_that_does_not_end_takes_no_more_memory_than_a_row_may_have() -> None:
    source = ByteSource("list", Endless(1 << 28), None)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        [block] = list(source.blocks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        source.close()
    assert block.too_long
    assert source.bytes_read == 1 << 28
    assert peak < 4 * MAX_ROW_BYTES


def test_a_gzip_bomb_is_unpacked_in_pieces() -> None:
    zipped = gzip.compress(b"x" * (64 << 20), 9)
    source = ByteSource("list.gz", io.BytesIO(zipped), len(zipped))
    tracemalloc.start()
    try:
        [block] = list(source.blocks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        source.close()
    assert block.too_long
    assert peak < 8 * MAX_ROW_BYTES


_line = st.text("ab\u00e9", max_size=6).map(str.encode)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(_line, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=30),
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
)
def test_blocks_are_whole_lines_wherever_the_reads_are_cut(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(line + end for line, end in lines)

    class Cut(io.BytesIO):
        turn = 0

        def read1(self, size: int | None = -1) -> bytes:
            self.turn += 1
            return super().read(min(size or 0, cuts[self.turn % len(cuts)]))

    source = ByteSource("list", Cut(data), None)
    blocks = list(source.blocks())
    source.close()
    assert b"".join(block.data for block in blocks) == data
    at = 0
    for block in blocks:
        assert block.line == 1 + len(data[:at].splitlines()), "the line number is right"
        at += len(block.data)
        assert at == len(data) or block.data.endswith((b"\n", b"\r"))
        assert not (block.data.endswith(b"\r") and data[at : at + 1] == b"\n"), "a \\r\\n is not cut in two"
