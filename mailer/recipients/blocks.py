"""The bytes of a file or of standard input, plain or gzipped, in any encoding, as blocks of whole lines in UTF-8."""

from __future__ import annotations

import gzip
import io
import os
import select
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..errors import BrokenGzip, RecipientsError, RecipientsNotFound
from ..regular import NotAFile, open_regular
from .encoding import BOM, UTF_8, Encoding, Recoded, decided, guessed
from .foreign import HEAD_BYTES, foreign, foreign_text
from .lines import CHUNK_BYTES, Block, Stream, blocks_of, count_lines

PIPE_POLL_MS: Final = 200  # how soon a reader that waits for a pipe notices that nobody wants it any more
SMALL_BYTES: Final = 64 << 20  # of what is unpacked, below which it is of no interest how small it was packed
MAX_PATH: Final = 4096  # characters of a path, Linux's PATH_MAX
MOST_MARKS: Final = 4  # byte order marks at the beginning: some programs write it twice
MOST_TIMES: Final = 400  # larger may a list be than packed: what is more is one byte over and over

_GZIP_MAGIC = b"\x1f\x8b"


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


class _Unpacked:
    """A gzipped stream that is not let become anything: MOST_TIMES as much as was packed."""

    def __init__(self, packed: _Counted, stream: BinaryIO, source: str) -> None:
        self._packed, self._source = packed, source
        self._stream = gzip.GzipFile(fileobj=stream, mode="rb")
        self._count = 0

    def read1(self, size: int, /) -> bytes:
        data = self._stream.read1(size)
        self._count += len(data)
        if self._count > max(SMALL_BYTES, MOST_TIMES * self._packed.count):
            why = f"unpacks to more than {MOST_TIMES} times its size, so it is no list; give the list unpacked where it is one"
            raise RecipientsError(source=self._source, why=why)
        return data


class _Ahead:
    """A stream at whose beginning one can look."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ahead = b""
        self._broken: Exception | None = None  # what is wrong with it behind that

    def look(self, size: int) -> bytes:
        """The first `size` bytes, fewer only where there are no more; reading begins with them all the same."""
        try:
            while len(self._ahead) < size and not self._broken and (data := self._stream.read1(size - len(self._ahead))):
                self._ahead += data
        except Exception as error:  # in its turn: what comes before it can be read
            self._broken = error
        return self._ahead

    def skip(self, size: int) -> None:
        """Of what has been looked at."""
        self._ahead = self._ahead[size:]

    def read1(self, size: int, /) -> bytes:
        if not self._ahead:
            if self._broken:
                raise self._broken
            return self._stream.read1(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data


class ByteSource:
    """An open file or standard input."""

    def __init__(self, name: str, raw: BinaryIO, total: int | None, *, waits: bool = False, owned: bool = True) -> None:
        self.name = name  # what error messages call it
        self.total = total  # bytes, as they lie on disk; None where nobody knows
        self.encoding = UTF_8  # known once the first block is there that is not ASCII
        self._raw = raw
        self._owned = owned
        self._counted = _Counted(raw, waits=waits)
        self._plain: io.BufferedReader[Any] = io.BufferedReader(self._counted, CHUNK_BYTES)
        self._lines = 0  # whole lines handed out

    @property
    def bytes_read(self) -> int:
        return self._counted.count

    def stop(self) -> None:
        """From any thread: a read that waits comes back soon, with nothing."""
        self._counted.stopped = True

    def close(self) -> None:
        """Standard input stays open, for it is not ours."""
        self._plain.close()
        if self._owned:
            self._raw.close()

    def blocks(self, encoding: str | None = None, *, ascii_matters: bool = False) -> Iterator[Block]:
        """All of it in UTF-8, without a byte order mark. `encoding`: what the caller says of it. `ascii_matters`: nothing
        else does, so an encoding that is not known is read as Windows-1252, which has ASCII in it as nearly all others have.

        Raises BrokenGzip; RecipientsNotFound where the disk or the pipe fails; NotUtf8 where the encoding is not known;
        RecipientsError where it is no list at all.
        """
        try:
            for block in self._blocks(encoding, ascii_matters):
                self._lines = block.line - 1 + (0 if block.too_long else count_lines(block.data))
                yield block
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise BrokenGzip(source=self.name, lines=self._lines) from None
        except OSError as error:
            raise RecipientsNotFound(source=self.name, why=error.strerror or str(error)) from None
        except UnicodeError:  # of a codec that does not ask what is to become of a mistake
            why = f"is not {self.encoding.name}; leave the encoding out, or say another one"
            raise RecipientsError(source=self.name, why=why) from None

    def _blocks(self, said: str | None, ascii_matters: bool) -> Iterator[Block]:
        stream = _Ahead(self._unpacked())
        head = stream.look(HEAD_BYTES)
        if why := foreign(head, suffix(self.name)):
            raise RecipientsError(source=self.name, why=why)
        try:
            known = decided(head, said)
        except ValueError as error:
            raise RecipientsError(source=self.name, why=str(error)) from None
        if known is not None:
            codec, self.encoding = known
            if codec != "utf-8":
                stream = _Ahead(Recoded(stream, codec))
        for _ in range(MOST_MARKS):
            if stream.look(len(BOM)).startswith(BOM):
                stream.skip(len(BOM))
        if why := foreign_text(stream.look(HEAD_BYTES)):
            raise RecipientsError(source=self.name, why=why)
        blocks = blocks_of(stream, self.name)
        return blocks if known is not None else guessed(self.name, blocks, self._found, ascii_matters=ascii_matters)

    def _found(self, encoding: Encoding) -> None:
        self.encoding = encoding

    def _unpacked(self) -> Stream:
        """gzip shows in the first two bytes; a name in .gz counts only where there is less than that, a copy that failed."""
        head = self._counted.look(len(_GZIP_MAGIC))
        if len(head) < 2 and _GZIP_MAGIC.startswith(head) and self.name.lower().endswith(".gz"):
            raise EOFError
        return _Unpacked(self._counted, self._plain, self.name) if head == _GZIP_MAGIC else self._plain


def open_path(path: str) -> ByteSource:
    """Opens a regular file, or standard input for `-`. Raises RecipientsNotFound, RecipientsError."""
    if path == "-":
        return _standard_input()
    if len(path) > MAX_PATH or "\n" in path:
        why = f"is a text of {len(path):,} characters, and not the name of a file; give a path, or an iterable of mappings"
        raise RecipientsError(source="what was given", why=why)
    try:
        raw, size = open_regular(path)
    except NotAFile as error:
        more = "; to read from a pipe, give `-` and pipe into it" if error.kind == "a pipe" else ""
        raise RecipientsNotFound(source=path, why=f"{error.strerror}{more}") from None
    except OSError as error:
        raise RecipientsNotFound(source=path, why=error.strerror or str(error)) from None
    return ByteSource(path, raw, size)


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
