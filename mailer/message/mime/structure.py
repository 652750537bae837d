"""A walk through the parts of a message, whose line breaks are CRLF. It takes a time that grows with the message only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .fields import Field, pairs, parameters, read_fields, value_of
from .transfer import IDENTITY
from .words import decode_words

MAX_DEPTH = 100  # parts inside each other; a mail that is forwarded as an attachment adds two
MAX_PARTS = 1000
MAX_BOUNDARY = 200  # characters; RFC 2046 allows 70
ENCODING, TYPE, DISPOSITION = "content-transfer-encoding", "content-type", "content-disposition"

_Stretch = tuple[int, int]  # from the first byte to behind the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the message, or a part of it, is in the whole."""

    start: int
    end: int
    depth: int = 0
    kind: str = "text/plain"  # where it has no Content-Type
    signed: bool = False  # a signature is over it


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The message, or a part of it, read."""

    place: Place
    body: int  # where it begins
    fields: list[Field]
    first: Mapping[str, Field]  # of each name, which is in lower case
    kind: str  # the content type
    encoding: str
    inner: tuple[Place, ...] = ()
    gaps: tuple[_Stretch, ...] = ()  # before the first and behind the last of them, for nobody to read

    @property
    def file_names(self) -> Iterator[str]:
        """As readers may understand them, each way that it is written. Raises ValueError."""
        for key, name in ((DISPOSITION, "filename"), (TYPE, "name")):
            given = self.first.get(key)
            if given is not None and b"name" in given.value.lower():
                as_written = [value for own, value in pairs(given) if own.partition("*")[0] == name]
                yield from map(decode_words, filter(None, (parameters(given).get(name, ""), *as_written)))


def walk(data: bytes, line: int = 1, *, strict: bool = True) -> Iterator[Part]:
    """The message itself, and every part in it, in their order. `line`: the number of the first one.

    Raises ValueError where there are too many of them, and, if `strict`, where a header has a character that no header may have.
    """
    waiting, count, at = [Place(start=0, end=len(data))], 0, 0
    while waiting:
        place, count = waiting.pop(), count + 1
        if place.depth >= MAX_DEPTH:
            raise ValueError(f"has more than {MAX_DEPTH} parts inside each other")
        if count > MAX_PARTS:
            raise ValueError(f"has more than {MAX_PARTS:,} parts")
        line, at = line + data.count(b"\r\n", at, place.start), place.start
        part = _read(data, place, line, strict)
        yield part
        waiting += reversed(part.inner)


def _read(data: bytes, place: Place, line: int, strict: bool) -> Part:
    fields, body = _head(data, place, line, strict)
    first = {one.key: one for one in reversed(fields)}
    kind, encoding = value_of(first.get(TYPE)) or place.kind, value_of(first.get(ENCODING))
    inner: tuple[Place, ...] = ()
    gaps: tuple[_Stretch, ...] = ()
    if encoding in IDENTITY and kind == "message/rfc822":
        inner = (Place(start=body, end=place.end, depth=place.depth + 1, signed=place.signed),)
    elif encoding in IDENTITY and kind.startswith("multipart/"):
        boundary = parameters(first.get(TYPE)).get("boundary", "").rstrip()
        if boundary.isascii() and 1 <= len(boundary) <= MAX_BOUNDARY:
            stretches, gaps = _between(data, boundary.encode(), body, place.end)
            inner = tuple(_places(stretches, place, kind))
    return Part(
        place=place, body=body, fields=fields, first=first, kind=kind, encoding=encoding, inner=inner, gaps=gaps if inner else ()
    )


def _places(stretches: list[_Stretch], outer: Place, kind: str) -> Iterator[Place]:
    inside = "message/rfc822" if kind == "multipart/digest" else "text/plain"
    for number, (start, end) in enumerate(stretches):
        signed = outer.signed or (kind == "multipart/signed" and number == 0)
        yield Place(start=start, end=end, depth=outer.depth + 1, kind=inside, signed=signed)


def _head(data: bytes, place: Place, line: int, strict: bool) -> tuple[list[Field], int]:
    """The fields, and where the body begins: behind the empty line, or at the first line that is no header."""
    if data.startswith(b"\r\n", place.start, place.end):
        return [], place.start + 2
    blank = data.find(b"\r\n\r\n", place.start, place.end)
    end = place.end if blank < 0 else blank + 2
    fields, taken = read_fields(data[place.start : end], line, strict=strict)
    whole = place.start + taken == end and blank >= 0
    return fields, blank + 4 if whole else place.start + taken


def _between(data: bytes, boundary: bytes, body: int, end: int) -> tuple[list[_Stretch], tuple[_Stretch, ...]]:
    """The stretches between the lines of a boundary, and those before and behind them."""
    mark, found, gaps = b"\r\n--" + boundary, list[_Stretch](), list[_Stretch]()
    place, opened = body - 2, -1  # the line break of the empty line can be the first one's
    while (at := data.find(mark, place, end)) >= 0:
        place = at + len(mark)
        line_end = data.find(b"\r\n", place, end)
        line_end = end if line_end < 0 else line_end
        rest = data[place:line_end]
        closing = rest.startswith(b"--")
        if rest[2 if closing else 0 :].strip(b" \t"):
            continue  # another boundary, which begins alike
        if opened < 0:
            gaps.append((body, at))
        else:
            found.append((opened, max(opened, at)))
        if len(found) > MAX_PARTS:
            raise ValueError(f"has more than {MAX_PARTS:,} parts")
        opened, place = -1 if closing else min(line_end + 2, end), line_end
        if closing:
            gaps.append((line_end, end))
            break
    if opened >= 0:
        found.append((opened, end))
    return found, tuple(gaps)
