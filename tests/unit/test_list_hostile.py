"""Lists that are made to hurt, or are no lists: a sentence, a bounded time, a bounded memory."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import socket
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailer.errors import EmptyRecipients, RecipientsError, RecipientsNotFound
from mailer.recipients import MAX_ROW_BYTES, BadRow, Recipient, open_recipients
from mailer.recipients.header import MAX_COLUMNS
from mailer.recipients.lines import blocks_of

from ..hostile.lists import HEAD, HOSTILE
from .test_list_encodings import read
from .test_recipients_csv import addresses, reasons, rows_of_blocks

MOST_MEMORY = 64 << 20  # bytes that a reader takes, whatever the list; the addresses for finding repeats aside
MOST_CPU_S = 8.0  # per megabyte of a list, however it is made; one that is as it should be takes 0.1 s

# ---- what is no list -----------------------------------------------------------------------------------------------

CSV = b"email,name\nana@example.org,Ana\n"


def zipped(*names: str, content: bytes = CSV) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("list.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))
    return file.getvalue()


FOREIGN = {
    "list.zip": (zipped("list.csv", "__MACOSX/._list.csv"), "is a zip archive; unpack it"),
    "list.csv": (zipped("list.csv"), "is a zip archive; unpack it"),
    "list.xlsx": (zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), "is an Excel workbook (.xlsx); in Excel"),
    "fake.xlsx": (b"PK\x03\x04" + bytes(200), "is an Excel workbook (.xlsx)"),
    "renamed.csv": (zipped("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook (.xlsx)"),
    "list.ods": (zipped("mimetype", content=b"application/vnd.oasis.opendocument.spreadsheet"), "is a LibreOffice spreadsheet"),
    "list.numbers": (zipped("Index/Document.iwa"), "is a Numbers document"),
    "list.docx": (zipped("[Content_Types].xml", "word/document.xml"), "is a Word document"),
    "list.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "is an Excel workbook, an old one (.xls) or one with"),
    "list.csv.bz2": (bz2.compress(CSV), "is packed with bzip2"),
    "list.csv.xz": (lzma.compress(CSV), "is packed with xz"),
    "list.csv.zst": (b"\x28\xb5\x2f\xfd\x24\x00", "is packed with zstd"),
    "list.7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7z archive"),
    "list.tar": (tarred(), "is a tar archive"),
    "list.tar.gz": (gzip.compress(tarred()), "is a tar archive"),
    "list.pdf": (b"%PDF-1.7\n%\xe2\xe3", "is a PDF"),
    "page.csv": (b"\n <!DOCTYPE html><html><title>Sign in</title>", "is a web page (HTML), not a list; it may be a page to"),
    "table.xls": (b"\xef\xbb\xbf<table><tr><td>email</td></tr></table>", "is a web page (HTML)"),
    "page16.csv": ("\ufeff<html>".encode("utf-16-le"), "is a web page (HTML)"),
    "list.xml": (b'<?xml version="1.0"?><Workbook>', "is XML, not a list"),
    "list.rtf": (rb"{\rtf1\ansi", "is a text document (RTF)"),
    "people.vcf": (b"BEGIN:VCARD\r\nVERSION:3.0", "is a file of contacts (vCard)"),
    "people.ldif": (b"dn: cn=Ana,mail=ana@example.org\n", "is an LDIF file; export the address book as CSV"),
    "data.parquet": (b"PAR1\x15\x04", "is a Parquet file"),
    "db.csv": (b"SQLite format 3\x00" + bytes(100), "is an SQLite database"),
    "noise": (bytes(range(256)) * 20, "is no text, so it is no list"),
    "zeros.csv": (bytes(5000), "is no text, so it is no list"),
    "array.json": (b' [{"email": "ana@example.org"}]', "is one JSON array, and a list has one object a line"),
    "array.ndjson": (b'[{"email": "ana@example.org"}]', "is one JSON array"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_no_list_is_told_as_what_it_is(name: str, tmp_path: Path) -> None:
    content, why = FOREIGN[name]
    with pytest.raises(RecipientsError) as caught:
        read(content, tmp_path, name)
    assert str(caught.value).startswith(f"{tmp_path}/{name}: {why}")
    assert "ana@" not in str(caught.value)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
async def test_a_list_is_a_regular_file(kind: str, tmp_path: Path) -> None:
    path = "/dev/zero" if kind == "device" else str(tmp_path / "list.csv")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
    with pytest.raises(RecipientsNotFound, match=f"cannot be read: it is a {kind}, not a file"):
        async with open_recipients(path):
            raise AssertionError


@pytest.mark.parametrize("text", ["email,name\nana@example.org,Ana", "x" * 5000])
async def test_a_list_that_is_given_in_place_of_its_path_is_not_quoted(text: str) -> None:
    with pytest.raises(RecipientsError) as caught:
        async with open_recipients(text):
            raise AssertionError
    assert str(caught.value) == (
        f"what was given: is a text of {len(text):,} characters, and not the name of a file; "
        "give a path, or an iterable of mappings"
    )


def test_a_line_without_an_end_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def read1(self, size: int, /) -> bytes:
            return b"x" * size

    monkeypatch.setattr("mailer.recipients.lines.MAX_LINE_BYTES", 1_000_000)
    with pytest.raises(RecipientsError, match="line 1 has no end within 1,000,000 bytes; this is no list"):
        list(blocks_of(Endless(), "standard input"))


# ---- time and memory -----------------------------------------------------------------------------------------------


class Taken(NamedTuple):
    cpu_s: float
    megabytes: float  # of the list, unpacked
    peak: int | None  # bytes that it took above what the process had; None where there is no /proc


def measure(name: str, folder: Path) -> Taken:
    content = HOSTILE[name]()
    size = len(gzip.decompress(content)) if content.startswith(b"\x1f\x8b") else len(content)
    path = folder / f"list{'.ndjson' if content.startswith(b'{') else '.csv'}"
    path.write_bytes(content)
    del content

    async def read_all() -> None:
        with suppress(RecipientsError):
            async with open_recipients(path) as recipients:
                async for _ in recipients:
                    pass

    before = memory("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the highest of this process so far is forgotten
    began = time.process_time()  # what else the machine does is not in it
    asyncio.run(read_all())
    taken = time.process_time() - began
    after = memory("VmHWM")
    return Taken(taken, size / 1e6, None if after is None or before is None else after - before)


def memory(name: str) -> int | None:
    """A line of /proc/self/status, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Taken]:
    """In a process of its own, of which nothing but the lists makes the memory grow."""
    folder = tmp_path_factory.mktemp("hostile")
    with get_context("spawn").Pool(1) as pool:
        return {name: pool.apply(measure, (name, folder)) for name in HOSTILE}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_with_the_list_and_memory_does_not(name: str, taken: dict[str, Taken]) -> None:
    found = taken[name]
    assert found.cpu_s < 0.5 + MOST_CPU_S * found.megabytes
    assert found.peak is None or found.peak < MOST_MEMORY


def test_a_list_that_unpacks_to_hundreds_of_times_its_size_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match="unpacks to more than 400 times its size, so it is no list"):
        read(gzip.compress(HEAD + b"x" * (80 << 20)), tmp_path, "list.csv.gz")


@pytest.mark.parametrize("count", [MAX_COLUMNS, MAX_COLUMNS + 1])
def test_a_csv_has_a_thousand_columns_at_most(count: int, tmp_path: Path) -> None:
    names = ["email", *(f"c{number}" for number in range(count - 1))]
    content = f"{','.join(names)},,,\nana@example.org\n".encode()
    if count > MAX_COLUMNS:
        with pytest.raises(RecipientsError, match="has 1,001 columns, and 1,000 are the most; keep those that the template uses"):
            read(content, tmp_path)
    else:
        assert addresses(read(content, tmp_path)[0]) == ["ana@example.org"]


@pytest.mark.parametrize("char", ["\\", "\x01", "é", "💌"])
def test_a_row_is_as_long_as_it_is_stored(char: str, tmp_path: Path) -> None:
    """Though its line is short enough: a control character takes six bytes in JSON."""
    value = char * (MAX_ROW_BYTES * 3 // 4 // len(char.encode()))
    good = "".join(f"u{number}@example.org,{number}\n" for number in range(1000))
    rows, _ = read(f"email,x\n{good}ana@example.org,{value}\nbo@example.org,Bo\n".encode(), tmp_path)
    assert addresses(rows)[-1] == "bo@example.org"
    if char.isascii():
        assert "bytes as JSON, and 262,144 are the most that SES takes" in reasons(rows)[0][2]
    else:
        assert len(addresses(rows)) == 1002


def test_a_row_behind_a_line_that_is_too_long_is_read_also_where_it_is_the_first(tmp_path: Path) -> None:
    rows, _ = read(HEAD + b"x" * 600_000 + b"\nana@example.org,Ana\n", tmp_path)
    assert (addresses(rows), len(reasons(rows))) == (["ana@example.org"], 1)


def test_a_value_nested_too_deep_costs_its_row(tmp_path: Path) -> None:
    for depth in (101, 252, 1000, 5000):
        content = b'{"email":"a@example.org","x":' + b"[" * depth + b"]" * depth + b'}\n{"email":"b@example.org","x":[[1]]}\n'
        rows, _ = read(content, tmp_path, "list.ndjson")
        assert addresses(rows) == ["b@example.org"]
        assert reasons(rows)[0][2] == "line 1: has more than 100 lists or objects in each other"


def test_brackets_in_a_text_are_no_nesting(tmp_path: Path) -> None:
    rows, _ = read(b'{"email":"a@example.org","x":"' + b'[{\\"' * 500 + b'"}\n', tmp_path, "list.ndjson")
    assert addresses(rows) == ["a@example.org"]


# ---- read line by line, it is the same ------------------------------------------------------------------------------


def pieces() -> Iterator[list[bytes]]:
    lines = [
        b'a@example.org,"x\n',
        b'y",z\n',
        b'"\n',
        b"b@example.org,B\n",
        b'c@example.org,"C"\n',
        b'd@example.org,"a"b\n',
        b",\n",
    ]
    for first in lines:
        for second in lines:
            for third in lines:
                yield [first, second, third, b"e@example.org,E\n"]


def test_where_blocks_end_changes_nothing_after_a_row_that_is_wrong() -> None:
    for lines in pieces():
        whole = rows_of_blocks([b"email,name\n" + b"".join(lines)])
        assert rows_of_blocks([b"email,name\n", *lines]) == whole
        assert sum(isinstance(row, Recipient) and row.address == "e@example.org" for row in whole) == 1 or any(
            isinstance(row, Recipient) and "e@example.org" in str(row.data) for row in whole
        )


def test_an_empty_list_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(EmptyRecipients):
        read(HEAD + b",\n" * 10, tmp_path)


def test_the_bounds_hold_for_what_a_program_hands_over() -> None:
    def items() -> Iterator[dict[str, Any]]:
        for number in range(60):
            yield {"email": f"u{number}@example.org", "x": "y" * (MAX_ROW_BYTES - 100)}

    async def largest() -> int:
        async with open_recipients(items()) as recipients:
            return max([sum(not isinstance(row, BadRow) for row in batch) async for batch in recipients])

    assert asyncio.run(largest()) <= 5
