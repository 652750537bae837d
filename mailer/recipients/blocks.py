"""The bytes of a file or of standard input, plain or gzipped, as blocks of whole lines. A few blocks at a time are in memory."""

from __future__ import annotations

import gzip
import io
import os
import re
import select
import stat
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from ..errors import BrokenGzip, NotUtf8, RecipientsError, RecipientsNotFound
from .row import MAX_ROW_BYTES, MAX_SHOWN

CHUNK_BYTES: Final = 64 * 1024  # of one read; below MAX_ROW_BYTES, so only the first line of a block can be too long
PIPE_POLL_MS: Final = 200  # how soon a reader that waits for a pipe notices that nobody wants it any more

_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 4 * MAX_SHOWN  # of a line that is too long: enough for what is shown of it, in any script
# What an editor counts as the end of a line. A \r that ends the data may be half of a \r\n, so it is no end yet.
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive whole lines; or the beginning of one line that is longer than a row may be."""

    line: int  # the physical line with which it starts, from 1
    data: bytes
    too_long: bool = False  # `data` is the beginning of a line over MAX_ROW_BYTES, the rest of which has been skipped

    def text(self, source: str) -> str:
        """The block decoded. Raises NotUtf8 with line and byte."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            line = self.line + count_lines(self.data[: error.start])
            raise NotUtf8(source=source, line=line, byte=f"0x{self.data[error.start]:02x}") from None


def count_lines(data: bytes) -> int:
    """Line ends in `data`: \\n, \\r\\n, and \\r alone."""
    lines = data.count(b"\n")
    if b"\r" in data:
        lines += data.count(b"\r") - data.count(b"\r\n")
    return lines


class _Counted(io.RawIOBase):
    """A raw stream that counts what is read from it. A wait for a pipe can be ended from another thread."""

    def __init__(self, raw: BinaryIO, *, waits: bool) -> None:
        self._raw = raw
        self._read1 = getattr(raw, "read1", raw.read)  # what is there now, not all that is asked for
        self._waits = waits and hasattr(select, "poll")
        self._ahead = b""  # read, and not handed out yet
        self.count = 0
        self.stopped = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._ahead or self._receive(len(buffer))
        data, self._ahead = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def look(self, size: int) -> bytes:
        """The first `size` bytes, fewer only where there are no more; reading begins with them all the same."""
        while len(self._ahead) < size and (data := self._receive(size - len(self._ahead))):
            self._ahead += data
        return self._ahead

    def _receive(self, size: int) -> bytes:
        data: bytes | None = None
        while data is None and not self.stopped:  # None: the descriptor is non-blocking and has nothing
            if not self._waits or self._ready():
                data = self._read1(size)
        self.count += len(data or b"")
        return data or b""

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._raw.fileno(), select.POLLIN)
        return bool(poll.poll(PIPE_POLL_MS))


class ByteSource:
    """An open file or standard input."""

    def __init__(self, name: str, raw: BinaryIO, total: int | None, *, waits: bool = False, owned: bool = True) -> None:
        self.name = name  # what error messages call it
        self.total = total  # bytes, as they lie on disk; None where nobody knows
        self._raw = raw
        self._owned = owned
        self._counted = _Counted(raw, waits=waits)
        self._plain: io.BufferedReader[Any] = io.BufferedReader(self._counted, CHUNK_BYTES)
        self._stream: io.BufferedReader[Any] | gzip.GzipFile = self._plain
        self._lines = 0  # whole lines handed out

    @property
    def bytes_read(self) -> int:
        return self._counted.count

    def stop(self) -> None:
        """From any thread: a read that waits comes back soon, with nothing."""
        self._counted.stopped = True

    def close(self) -> None:
        """Standard input stays open, for it is not ours."""
        self._stream.close()
        self._plain.close()
        if self._owned:
            self._raw.close()

    def blocks(self) -> Iterator[Block]:
        """All of it but for a BOM. Raises BrokenGzip, and RecipientsNotFound where the disk or the pipe fails."""
        try:
            self._unzip()
            yield from self._blocks()
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise BrokenGzip(source=self.name, lines=self._lines) from None
        except OSError as error:
            raise RecipientsNotFound(source=self.name, why=error.strerror or str(error)) from None

    def _unzip(self) -> None:
        """gzip shows in the first two bytes; a name in .gz counts only where there is less than that, a copy that failed."""
        head = self._counted.look(len(_GZIP_MAGIC))
        if len(head) < 2 and _GZIP_MAGIC.startswith(head) and self.name.lower().endswith(".gz"):
            raise EOFError
        if head == _GZIP_MAGIC:
            self._stream = gzip.GzipFile(fileobj=self._plain, mode="rb")

    def _blocks(self) -> Iterator[Block]:
        rest = self._beginning()
        too_long = b""  # the beginning of a line that is being skipped
        line, more = 1, True
        while more:
            chunk = self._stream.read1(CHUNK_BYTES)
            more, data = bool(chunk), rest + chunk
            if too_long or len(data) > MAX_ROW_BYTES:
                end = _LINE_END.search(data)
                if more and end is None:
                    too_long, rest = too_long or data[:_HEAD_BYTES], b"\r" if data.endswith(b"\r") else b""
                    continue
                if too_long or end is None or end.start() > MAX_ROW_BYTES:
                    yield Block(line, too_long or data[:_HEAD_BYTES], too_long=True)
                    too_long, data = b"", b"" if end is None else data[end.end() :]
                    line += 1
            cut = 1 + max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) if more else len(data)
            rest, data = data[cut:], data[:cut]
            if data:
                yield Block(line, data)
                line += count_lines(data)
                self._lines = line - 1

    def _beginning(self) -> bytes:
        data = b""
        while len(data) < len(_BOM) and (more := self._stream.read1(len(_BOM) - len(data))):
            data += more
        return data.removeprefix(_BOM)


def open_path(path: str) -> ByteSource:
    """Opens a file, or standard input for `-`. Raises RecipientsNotFound."""
    if path == "-":
        return _standard_input()
    try:
        raw = cast(BinaryIO, open(path, "rb", buffering=0))  # noqa: SIM115 closed by ByteSource.close
    except IsADirectoryError:
        raise RecipientsNotFound(source=path, why="it is a folder, not a file") from None
    except FileNotFoundError:
        raise RecipientsNotFound(source=path, why="there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RecipientsNotFound(source=path, why=getattr(error, "strerror", None) or str(error)) from None
    size = _size(raw.fileno())
    return ByteSource(path, raw, size, waits=size is None)


def _standard_input() -> ByteSource:
    name = "standard input"
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise RecipientsError(source=name, why="there is none here, or it is not one of bytes")
    try:
        fd = stream.fileno()
    except (OSError, ValueError):  # what a test or a notebook has put in its place
        return ByteSource(name, stream, None, owned=False)
    size = _size(fd)
    return ByteSource(name, stream, size, waits=size is None, owned=False)


def _size(fd: int) -> int | None:
    """Bytes of a regular file; None for pipes, terminals and the like."""
    status = os.fstat(fd)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def suffix(path: str) -> str:
    """`.csv`, `.ndjson` … of a path, in lower case, without a `.gz` behind it."""
    return Path(path.lower().removesuffix(".gz")).suffix
