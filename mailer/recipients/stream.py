"""Any source of recipients → a stream of batches of rows."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import chain
from types import TracebackType
from typing import Any, BinaryIO, Final, TypeVar

from ..errors import EmptyRecipients, RecipientsError
from ..message.address import dedup_key
from ..message.email import Outcome
from .addresses import BARE, AddressMappings, AddressRows, reading_of
from .blocks import ByteSource, open_path, suffix
from .csv_rows import csv_rows
from .header import FILL_FILE, Header
from .iterable_rows import async_rows, iterable_rows
from .mappings import Mappings
from .ndjson_rows import ARRAY, NO_OBJECT, ndjson_rows
from .reading import AS_IT_IS, Reading
from .reserved import Reserved
from .row import BadRow, Group, Recipient, Row, kind
from .seen import Seen
from .understood import Format, Tally, Understood, columns_of_header, columns_of_rows

BATCH_ROWS: Final = 1000  # rows of one batch: some 5 ms of work
BATCH_BYTES: Final = 512 * 1024  # of the source, after which a batch is full: rows can be 256 KiB each, and 25 times that as data

Source = str | os.PathLike[str] | Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
T = TypeVar("T")


# Opens an object of S3, by bucket and key: its bytes and how many there are. Raises RecipientsNotFound.
Remote = Callable[[str, str], tuple[BinaryIO, int]]


def open_recipients(
    source: Source,
    *,
    reading: Reading = AS_IT_IS,
    repeats: bool = False,
    addresses_only: bool = False,
    batch_rows: int = BATCH_ROWS,
    remote: Remote | None = None,
) -> Recipients:
    """The rows of `source`: the path of a regular file (CSV or NDJSON, plain or gzipped), `-` for standard input, or an iterable
    of mappings; where `remote` is given, also `s3://bucket/key`. With `repeats`, an address may have several rows. With
    `addresses_only` it is a list of people who are to get nothing: see `addresses`.

    `async with` opens it, reads the first rows and raises what is wrong with the source as a whole: RecipientsNotFound,
    NoEmailColumn, EmptyRecipients, NotUtf8, BrokenGzip, RecipientsError (their base). Of these, NotUtf8, BrokenGzip and
    RecipientsNotFound can still come later, from rows further down. What an iterable raises itself comes out as it is.
    """
    return Recipients(
        source, reading=reading, repeats=repeats, addresses_only=addresses_only, batch_rows=batch_rows, remote=remote
    )


class Recipients:
    """An open source. Iterating it gives `list[Row]`: every row of the source once, in its order, `row` from 1.

    Files and iterables are read in a thread of their own, the same from the first row to the last, so that neither a slow disk
    nor a million rows stop the event loop. Async iterables are read where they live, on the loop.
    """

    def __init__(
        self,
        source: Source,
        *,
        reading: Reading = AS_IT_IS,
        repeats: bool = False,
        addresses_only: bool = False,
        batch_rows: int = BATCH_ROWS,
        remote: Remote | None = None,
    ) -> None:
        self.rows = 0  # handed out so far
        self._source = source
        self._reading = reading_of(reading) if addresses_only else reading
        self._repeats = repeats or addresses_only
        self._addresses_only = addresses_only
        self._reserved = Reserved(self._reading)
        self._format = Format.ROWS
        self._header: Header | None = None  # of a CSV
        self._tally = Tally()
        self._batch_rows = batch_rows
        self._remote = remote
        self._name = "what was given"
        self._mappings = self._new_mappings()
        self._file: ByteSource | None = None
        self._seen = Seen()
        self._groups: Iterator[Group] | None = None
        self._async_groups: AsyncIterator[Group] | None = None
        self._first: list[Row] | None = None  # read at once, so that opening tells what is wrong
        self._pool: ThreadPoolExecutor | None = None

    def progress(self) -> tuple[int, int | None]:
        """(bytes read, bytes in all). Of a gzipped file, those on disk. All is None for a pipe; iterables give (0, None)."""
        return (0, None) if self._file is None else (self._file.bytes_read, self._file.total)

    @property
    def understood(self) -> Understood:
        """What has been made of the list so far. What its header row says is there once it is open; the counts grow."""
        header, file, tally = self._header, self._file, self._tally
        return Understood(
            source=self._name,
            format=self._format,
            encoding=file.encoding.name if file else None,
            encoding_by=file.encoding.by if file else None,
            examples=file.encoding.examples if file else (),
            doubtful=file is not None and file.encoding.doubtful,
            delimiter=header.delimiter if header and header.quotes else None,
            header_line=header.line if header else None,
            columns=columns_of_header(header, self._reading, self._reserved)
            if header
            else columns_of_rows(tally.sample, self._mappings),
            rows=tally.rows,
            usable=tally.rows - tally.duplicates - tally.rejected,
            duplicates=tally.duplicates,
            rejected=tally.rejected,
            reasons=tally.reasons(),
            sample=tuple(tally.sample),
        )

    async def __aenter__(self) -> Recipients:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="recipients")
        try:
            await self._open()
            self._first = await self._next_batch()
            if self._first is None:
                do = "give it at least one row, as {'email': …}" if self._format is Format.ROWS else FILL_FILE
                raise EmptyRecipients(source=self._name, do=do)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._close()

    def __aiter__(self) -> Recipients:
        return self

    async def __anext__(self) -> list[Row]:
        batch, self._first = self._first, None
        if batch is None and (batch := await self._next_batch()) is None:
            raise StopAsyncIteration
        self.rows += len(batch)
        return batch

    # ---- opening and closing -----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        source, limits = self._source, (self._batch_rows, BATCH_BYTES)
        if isinstance(source, str | os.PathLike):
            path = os.fspath(source)
            self._groups = _sliced(await self._in_thread(lambda: self._open_file(path)), *limits)
        elif isinstance(source, AsyncIterable):
            self._async_groups = async_rows(source, self._mappings, *limits)
        elif isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray):
            self._groups = iterable_rows(source, self._mappings, *limits)
        else:
            why = f"is {kind(source)}; give a path, or an iterable of mappings with `email`"
            raise RecipientsError(source=self._name, why=why)

    def _open_file(self, path: str) -> Iterator[Group]:
        if scheme := re.match(r"(\w\w+):/", path):  # one slash, because Path("s3://bucket/key") has only one left
            self._file = self._open_remote(path, scheme[1])
        else:
            self._file = open_path(path)
        self._name = self._file.name
        return self._reader(path, self._file)

    def _reader(self, path: str, file: ByteSource) -> Iterator[Group]:
        """By the first byte that is not blank: `{` begins NDJSON. Where that does not say, by the name."""
        blocks = file.blocks(self._reading.encoding, ascii_matters=self._addresses_only)
        suffixes = suffix(path)
        for block in blocks:
            beginning = block.data.lstrip()[:1]
            if not beginning:
                continue
            if beginning == b"[" and suffixes != ".csv":
                raise RecipientsError(source=file.name, why=ARRAY)
            blocks = chain([block], blocks)
            if beginning not in (b"{", b"\x1e") and suffixes in (".ndjson", ".jsonl"):
                raise RecipientsError(source=file.name, why=NO_OBJECT)
            if beginning in (b"{", b"\x1e"):
                self._format = Format.NDJSON
                self._mappings = self._new_mappings()
                return ndjson_rows(file, blocks, self._mappings)
            more = (AddressRows, BARE) if self._addresses_only else ()
            self._header, groups = csv_rows(file, blocks, self._reading, self._reserved, *more)
            self._format = Format.CSV if self._header.quotes else Format.ADDRESSES
            return groups
        raise EmptyRecipients(source=file.name, do=FILL_FILE)

    def _new_mappings(self) -> Mappings:
        kind = AddressMappings if self._addresses_only else Mappings
        return kind(self._name, self._reading, self._reserved)

    def _open_remote(self, path: str, scheme: str) -> ByteSource:
        bucket, _, key = path.partition(":")[2].lstrip("/").partition("/")
        if scheme != "s3" or self._remote is None:
            why = f"{scheme}:// cannot be read, only files, s3:// and standard input; copy the file here, or pipe it into `-`"
            raise RecipientsError(source=path, why=why)
        if not bucket or not key:
            raise RecipientsError(source=path, why="names no object; write s3://bucket/key")
        raw, size = self._remote(bucket, key)
        return ByteSource(f"s3://{bucket}/{key}", raw, size)

    async def _close(self) -> None:
        """Closes in the thread of the source, after what it is doing now; that goes on even if the wait for it is cancelled."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._file is not None:
            self._file.stop()
        closing = asyncio.wrap_future(pool.submit(self._close_in_thread))
        pool.shutdown(wait=False)
        if isinstance(self._async_groups, AsyncGenerator):
            await self._async_groups.aclose()
        await asyncio.shield(closing)

    def _close_in_thread(self) -> None:
        try:
            if isinstance(self._groups, Generator):
                self._groups.close()
        finally:
            self._seen.close()
            if self._file is not None:
                self._file.close()

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def _in_thread(self, function: Callable[[], T]) -> T:
        if self._pool is None:
            raise RuntimeError("open it first: async with open_recipients(...) as recipients")
        # With the caller's context variables, as asyncio.to_thread has it.
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, function)

    async def _next_batch(self) -> list[Row] | None:
        groups = self._async_groups
        if groups is None:
            return await self._in_thread(self._next_in_thread)
        group = await anext(groups, None)
        return None if group is None else await self._in_thread(lambda: self._without_repeats(group))

    def _next_in_thread(self) -> list[Row] | None:
        group = None if self._groups is None else next(self._groups, None)
        return None if group is None else self._without_repeats(group)

    def _without_repeats(self, group: Group) -> list[Row]:
        """The rows, with a BadRow in place of each whose address was there before. A row that was rejected was never there."""
        rows = group.rows
        if self._repeats:
            self._tally.add(rows, group.lines)
            return rows
        try:
            repeats = self._seen.repeats([dedup_key(row.address) for row in rows if isinstance(row, Recipient)])
        except sqlite3.Error as error:
            why = f"the temporary file for finding repeats failed ({error}); set TMPDIR to a folder with room and start again"
            raise RecipientsError(source=self._name, why=why) from None
        if repeats:
            good = [index for index, row in enumerate(rows) if isinstance(row, Recipient)]
            for index in map(good.__getitem__, repeats):
                row, where = rows[index], f"line {group.lines[index]}: " if group.lines else ""
                if isinstance(row, Recipient):
                    rows[index] = BadRow(row.row, row.address, Outcome.DUPLICATE, f"{where}same address as an earlier row")
        self._tally.add(rows, group.lines)
        return rows


def _sliced(groups: Iterator[Group], most: int, size: int) -> Iterator[Group]:
    """Groups of any length → groups of `most` rows, fewer where they are longer than `size` bytes together."""
    waiting = Group([], [], 0)
    for group in groups:
        waiting.rows += group.rows
        waiting.lines += group.lines
        waiting.size += group.size
        while len(waiting.rows) >= most or (waiting.rows and waiting.size >= size):
            yield Group(waiting.rows[:most], waiting.lines[:most], 0)
            waiting = Group(waiting.rows[most:], waiting.lines[most:], 0)
    if waiting.rows:
        yield waiting
