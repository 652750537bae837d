"""What is the same in all messages of a bulk call goes into its template once; what differs becomes a slot of it.

The template language of SES is Handlebars, of which inline content supports only the substitution `{{name}}`. A value is
put in as it is (SES escapes nothing and does not look for tags in it), so the message that SES assembles is exactly the one
that was rendered here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from itertools import count as count_up

from ..templates.text import html_to_text

# Text that Handlebars would read as a tag: it is carried as a value instead.
_TAG = re.compile(r"(\\*\{\{+)")
# A value of HTML that is more than text which was escaped.
_MARKUP = re.compile(r"<|&(?!(?:amp|lt|gt|#34|#39);)")
_BLANKS = re.compile(r"\s+")


@dataclass(slots=True)
class Slots:
    """The slots of one call: name → a value for each message. Parts that vary in the same way share a slot."""

    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _names: dict[tuple[str, ...], str] = field(default_factory=dict)

    def name(self, values: tuple[str, ...]) -> str:
        name = self._names.get(values)
        if name is None:
            name = self._names[values] = f"v{len(self._names)}"
            self.values[name] = values
        return name


Segment = str | tuple[str, ...]  # the same in all messages, or one value for each


def segments(rows: Sequence[list[str]]) -> list[Segment]:
    """Pieces of the same part of several messages → alternating runs of what is the same and what differs."""
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        return [tuple("".join(row) for row in rows)]
    count = len(rows)
    found: list[Segment] = []
    for column in zip(*rows, strict=True):
        first = column[0]
        same = column.count(first) == count
        last = found[-1] if found else None
        if same and isinstance(last, str):
            found[-1] = last + first
        elif same:
            found.append(first)
        elif isinstance(last, tuple):
            found[-1] = tuple(map(str.__add__, last, column))
        else:
            found.append(column)
    return found


def template(parts: Sequence[Segment], count: int, slots: Slots) -> str:
    """The Handlebars source that gives back each of the `count` messages from its values in `slots`."""
    out: list[str] = []
    pending: tuple[str, ...] | None = None  # a slot whose last characters may still come
    for segment in _guard(parts, count):
        if isinstance(segment, tuple):
            pending = segment if pending is None else tuple(map(str.__add__, pending, segment))
            continue
        if pending is not None:
            # `}` after a tag would be read as part of it.
            rest = segment.lstrip("}")
            closing = segment[: len(segment) - len(rest)]
            pending = tuple(value + closing for value in pending) if closing else pending
            segment = rest
            if not segment:
                continue
            out.append("{{" + slots.name(pending) + "}}")
            pending = None
        # `{` and `\` before a tag would, too: they go into the slot that follows.
        kept = segment.rstrip("{\\")
        out.append(kept)
        if len(kept) != len(segment):
            pending = (segment[len(kept) :],) * count
    if pending is not None:
        out.append("{{" + slots.name(pending) + "}}")
    return "".join(out)


def _guard(parts: Sequence[Segment], count: int) -> list[Segment]:
    """Text that contains `{{` becomes a value."""
    found: list[Segment] = []
    for part in parts:
        if isinstance(part, str) and "{{" in part:
            found += [(text,) * count if i % 2 else text for i, text in enumerate(_TAG.split(part)) if text]
        else:
            found.append(part)
    return found


def text_segments(html_parts: Sequence[Segment], count: int) -> list[Segment]:
    """The text part of HTML in segments. The conversion is slow, so it is done on the frame that the messages share.

    Each message gets the text that its own HTML would have given, as long as its values are nothing but text. Two things may
    differ: blanks beside a value that is empty or begins or ends with one, and links whose whole address is a value, which
    are always `[text](<address>)`. Where values are more than text, each message is converted.
    """
    values = [part for part in html_parts if isinstance(part, tuple)]
    frame = _text_frame(tuple(None if isinstance(part, tuple) else part for part in html_parts))
    if values and (frame is None or any(map(_MARKUP.search, chain.from_iterable(values)))):
        columns = [part if isinstance(part, tuple) else (part,) * count for part in html_parts]
        return [tuple(html_to_text("".join(row)) for row in zip(*columns, strict=True))]
    return [part if isinstance(part, str) else tuple(map(_as_read, values[part])) for part in frame or ()]


@lru_cache(maxsize=256)
def _text_frame(parts: tuple[str | None, ...]) -> tuple[str | int, ...] | None:
    """HTML with None for each slot → its text, with the slots' numbers; or None where a slot does more than hold text."""
    text = "".join(filter(None, parts))
    if None not in parts:
        return (html_to_text(text),)
    mark, numbers = _mark(text), count_up()
    frame = "".join(f"{mark}{next(numbers)}{mark}" if part is None else part for part in parts)
    if not mark or re.search(rf"(?i)<pre\b|</?\w*{mark}|<ol\b[^>]*{mark}", frame):
        return None
    found = re.split(f"{mark}([0-9]+){mark}", html_to_text(frame))
    return tuple(int(text) if i % 2 else text for i, text in enumerate(found) if text)


def _mark(text: str) -> str:
    """A character that is not in the text, neither as it is nor by its number (`&#xe000;`); "" where all of them are."""
    lower = text.lower()
    codes = range(0xE000, 0xF900)  # Unicode's private use
    free = (chr(code) for code in codes if chr(code) not in text and f"{code:x}" not in lower and str(code) not in text)
    return next(free, "")


def _as_read(value: str) -> str:
    return _BLANKS.sub(" ", html.unescape(value))
