"""The text part of many messages that have most of their HTML in common, made of that once.

In place of each value stands a mark; the text that is made of the HTML with the marks has them where the values go. That holds
as long as a value is nothing but text, and stands where text does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count, repeat
from typing import NamedTuple

from .tags import Comment, Tag, Token, attributes_of, decoded, decoded_attribute
from .text import INVISIBLE, Reader, TooMuch, link

KEPT = 32  # frames of at most KEPT_CHARS each, so at most 16 MB with their keys
KEPT_CHARS = 1 << 18

# A value of HTML that is more than text which was escaped.
_MARKUP = re.compile(r"<|&(?!(?:amp|lt|gt|#34|#39);)")
_QUOTE = re.compile(r"[\"']")
_TEXT = re.compile(rf"[^\s{INVISIBLE.pattern[1:]}")
_WORDED = re.compile(r"[\w$€£¥+-](?:.*[\w$€£¥%])?", re.DOTALL)
_BLANKS = re.compile(r"\s+")
_ODD_BLANKS = re.compile(r"[^\S ]|  ")
_APART = "\0"
_QUOTED = re.compile(r"=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
# Attributes that decide what is shown, or what an item is numbered.
_DECIDING = frozenset(["style", "class", "id", "hidden", "aria-hidden", "start", "value"])


class Link(NamedTuple):
    """What stands behind a link of whose text or address a part is a value: see `text.link`."""

    text: tuple[str | int, ...]
    address: tuple[str | int, ...]


class Frame(NamedTuple):
    """Text, the numbers of slots, and the links that depend on slots."""

    parts: tuple[str | int | Link, ...]
    quoted: frozenset[int]  # slots that stand in an attribute
    prefixed: frozenset[int]  # slots in lists and quotations: a line of theirs is there only where it has text
    worded: frozenset[int]  # slots in struck-out text, and those that stand apart from text beside them: as words do

    def takes(self, values: Sequence[tuple[str, ...]]) -> bool:
        """Whether these values, by slot and message, are what the frame was made for: text, escaped."""
        return not any(
            (_MARKUP.search(_APART.join(column)) and any(map(_MARKUP.search, column)))
            or (slot in self.quoted and any(map(_QUOTE.search, column)))
            or (slot in self.prefixed and not all(map(_TEXT.search, column)))
            or (slot in self.worded and not all(map(_WORDED.fullmatch, column)))
            for slot, column in enumerate(values)
        )

    def segments(self, values: Sequence[tuple[str, ...]]) -> list[str | tuple[str, ...]]:
        """The text part: what all messages have in common, and tuples of what each has of its own."""
        read = [_column_as_read(column) for column in values]
        found: list[str | tuple[str, ...]] = []
        for place, part in enumerate(self.parts):
            if isinstance(part, str):
                found.append(part)
            elif isinstance(part, int):
                found.append(tuple(map(self._strip(place), read[part])))
            else:
                found.append(_links(part, read, values))
        return found

    def _strip(self, place: int) -> Callable[[str], str]:
        """Of two blanks one stays: which of a value's ends the text around it parts from other words already."""
        before = self.parts[place - 1] if place else " "
        after = self.parts[place + 1] if place + 1 < len(self.parts) else " "
        left, right = (isinstance(part, str) and part[at].isspace() for part, at in ((before, -1), (after, 0)))
        return str.strip if left and right else str.lstrip if left else str.rstrip if right else str


class _Opaque(Exception):
    """A slot does more than hold text."""


def frame(parts: Sequence[str | None]) -> Frame | None:
    """HTML, with None for each slot → its frame; None where a slot does more than hold text. Raises TooMuch."""
    key = tuple(parts)
    return _kept(key) if sum(map(len, filter(None, key))) <= KEPT_CHARS else _frame(key)


def as_read(value: str) -> str:
    """A value of HTML, as a reader sees it."""
    value = decoded(value)
    return _BLANKS.sub(" ", value if value.isascii() else INVISIBLE.sub("", value))


def _column_as_read(column: tuple[str, ...]) -> tuple[str, ...]:
    """Most values are read as they are; to see that of all at once is quicker."""
    joined = _APART.join(column)
    if "&" not in joined and joined.isascii() and not _ODD_BLANKS.search(joined):
        return column
    return tuple(map(as_read, column))


def _frame(parts: tuple[str | None, ...]) -> Frame | None:
    mark, numbers = _mark("".join(filter(None, parts))), count()
    html = "".join(f"{mark}{next(numbers)}{mark}" if part is None else part for part in parts)
    # Beside a slot these would read its value as a part of themselves.
    if not mark or re.search(rf"(?:<[!/?]?[\w:-]*+|&#?\w*+){mark}", html):
        return None
    try:
        return _Marked(html, mark).frame()
    except _Opaque:
        return None


_kept = lru_cache(maxsize=KEPT)(_frame)


def _mark(text: str) -> str:
    """A character that is not in the text, neither as it is nor by its number (`&#xe000;`); "" where all of them are."""
    lower = text.lower()
    codes = range(0xE000, 0xF900)  # Unicode's private use
    free = (chr(code) for code in codes if chr(code) not in text and f"{code:x}" not in lower and str(code) not in text)
    return next(free, "")


def _links(one: Link, read: Sequence[tuple[str, ...]], values: Sequence[tuple[str, ...]]) -> str | tuple[str, ...]:
    texts = _together(one.text, read)
    slots = [part for part in one.address if isinstance(part, int)]
    addresses = _together(one.address, {slot: tuple(map(decoded_attribute, values[slot])) for slot in slots} or values)
    found = tuple(map(link, texts, addresses))
    return found[0] if found.count(found[0]) == len(found) else found


def _together(parts: tuple[str | int, ...], columns: Sequence[tuple[str, ...]] | Mapping[int, tuple[str, ...]]) -> Iterable[str]:
    """What these parts are for each message."""
    if len(parts) == 1 and isinstance(parts[0], int):
        return columns[parts[0]]
    if all(isinstance(part, str) for part in parts):
        return repeat("".join(map(str, parts)), len(columns[0]))
    return map("".join, zip(*(repeat(part) if isinstance(part, str) else columns[part] for part in parts), strict=False))


class _Marked(Reader):
    """Reads HTML with marks in it. Raises _Opaque where a value would be more than text."""

    def __init__(self, html: str, mark: str) -> None:
        super().__init__(html)
        self._mark_char = mark
        self._slot = re.compile(f"{mark}([0-9]+){mark}")
        self._late: list[Link] = []
        self._quoted: set[int] = set()
        self._prefixed: set[int] = set()
        self._worded: set[int] = set()
        self._now = ""  # the text that is being taken

    def frame(self) -> Frame:
        """Raises _Opaque, TooMuch."""
        text = self.read()
        parts: list[str | int | Link] = []
        for number, part in enumerate(re.split(f"{self._mark_char}(L?[0-9]+){self._mark_char}", text)):
            if number % 2:
                parts.append(self._late[int(part[1:])] if part.startswith("L") else int(part))
            elif part:
                parts.append(part)
        return Frame(tuple(parts), frozenset(self._quoted), frozenset(self._prefixed), frozenset(self._worded))

    def _take(self, token: Token) -> None:
        if isinstance(token, Tag) and (self._mark_char in token.attributes or self._mark_char in token.text):
            self._check(token)
        elif isinstance(token, Comment) and re.search(f"{self._mark_char}-?>", token.text):
            raise _Opaque
        super()._take(token)

    def _check(self, tag: Tag) -> None:
        if tag.name == "style" and self._mark_char in tag.text:
            raise _Opaque
        names = [name for name, value in attributes_of(tag).items() if self._mark_char in name + value]
        if not _DECIDING.isdisjoint(names):
            raise _Opaque
        inside = [
            slot for match in _QUOTED.finditer(tag.attributes) for slot in self._slots("".join(filter(None, match.groups())))
        ]
        if len(inside) < len(self._slots(tag.attributes)):
            raise _Opaque
        self._quoted.update(inside)

    def _slots(self, text: str) -> list[int]:
        return [int(number) for number in self._slot.findall(text)]

    def _split(self, text: str) -> tuple[str | int, ...]:
        parts = self._slot.split(text)
        return tuple(int(part) if number % 2 else part for number, part in enumerate(parts) if part)

    def _text(self, text: str) -> None:
        if self._spaced and self._mark_char in text:
            raise _Opaque
        if self.lines.prefixed:
            self._prefixed.update(self._slots(text))
        if self._struck is not None:
            self._worded.update(self._slots(text))
        self._now = text
        super()._text(text)

    def _keep_apart(self, last: str, first: str) -> None:
        marks = [last, first].count(self._mark_char)
        if marks:
            beside = self._slots(self.lines.parts[-1])[-1:] if last == self._mark_char else []
            beside += self._slots(self._now)[:1] if first == self._mark_char else []
            if self._apart != "box" or len(beside) < marks:
                raise _Opaque
            self._worded.update(beside)
        super()._keep_apart(*("x" if one == self._mark_char else one for one in (last, first)))

    def _add_address(self, text: str, address: str) -> None:
        if self._mark_char not in text + address:
            super()._add_address(text, address)
            return
        late = f"{self._mark_char}L{len(self._late)}{self._mark_char}"
        self._late.append(Link(self._split(text), self._split(address)))
        self._write_address(text, late)


__all__ = ["Frame", "TooMuch", "as_read", "frame"]
