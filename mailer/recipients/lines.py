"""A stream of bytes → blocks of whole lines. A few blocks at a time are in memory, however long the lines are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ..errors import RecipientsError
from .row import MAX_ROW_BYTES, MAX_SHOWN

CHUNK_BYTES: Final = 64 * 1024  # of one read; below MAX_ROW_BYTES, so only the first line of a block can be too long
MAX_LINE_BYTES: Final = 1 << 30  # of a line that is read to its end; what has a longer one is no list

_HEAD_BYTES = 4 * MAX_SHOWN  # of a line that is too long: enough for what is shown of it, in any script
# What an editor counts as the end of a line. A \r that ends the data may be half of a \r\n, so it is no end yet.
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive whole lines; or the beginning of one line that is longer than a row may be."""

    line: int  # the physical line with which it starts, from 1
    data: bytes
    too_long: bool = False  # `data` is the beginning of a line over MAX_ROW_BYTES, the rest of which has been skipped

    def text(self) -> tuple[str, bool]:
        """The block decoded, and whether a byte of it is not UTF-8; such a byte stands there as a lone surrogate."""
        try:
            return self.data.decode(), False
        except UnicodeDecodeError:
            return self.data.decode("utf-8", "surrogateescape"), True

    def with_data(self, data: bytes) -> Block:
        return replace(self, data=data)


def count_lines(data: bytes) -> int:
    """Line ends in `data`: \\n, \\r\\n, and \\r alone."""
    lines = data.count(b"\n")
    if b"\r" in data:
        lines += data.count(b"\r") - data.count(b"\r\n")
    return lines


def blocks_of(stream: Stream, source: str) -> Iterator[Block]:
    """All of the stream. Raises RecipientsError where a line has no end."""
    rest = too_long = b""  # the beginning of a line, and of one that is being skipped
    line, more, skipped = 1, True, 0
    while more:
        chunk = stream.read1(CHUNK_BYTES)
        more, data = bool(chunk), rest + chunk
        if too_long or len(data) > MAX_ROW_BYTES:
            end = _LINE_END.search(data)
            if more and end is None:
                skipped += len(data)
                if skipped > MAX_LINE_BYTES:
                    raise RecipientsError(
                        source=source, why=f"line {line} has no end within {MAX_LINE_BYTES:,} bytes; this is no list"
                    )
                too_long, rest = too_long or data[:_HEAD_BYTES], b"\r" if data.endswith(b"\r") else b""
                continue
            if too_long or end is None or end.start() > MAX_ROW_BYTES:
                yield Block(line, too_long or data[:_HEAD_BYTES], too_long=True)
                too_long, skipped, data = b"", 0, b"" if end is None else data[end.end() :]
                line += 1
        cut = 1 + max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) if more else len(data)
        rest, data = data[cut:], data[:cut]
        if data:
            yield Block(line, data)
            line += count_lines(data)
