"""What is the same in all messages of a bulk call goes into its template once; what differs becomes a slot of it.

The template language of SES is Handlebars, of which inline content supports only the substitution `{{name}}`. A value is
put in as it is (SES escapes nothing and does not look for tags in it), so the message that SES assembles is exactly the one
that was rendered here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..templates.frame import TooMuch, frame
from ..templates.text import html_to_text

# Text that Handlebars would read as a tag: it is carried as a value instead.
_TAG = re.compile(r"(\\*\{\{+)")
_MARKUP = re.compile(r"([<>\"'])")
FRAME_CHARS = 1 << 16  # of what messages have in common: it is read once and kept


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


class TextElsewhere(Exception):
    """There is more HTML to be read for text parts than the caller has time for."""


def text_segments(html_parts: Sequence[Segment], count: int, most: int | None = None) -> list[Segment] | None:
    """The text part of HTML in segments. The conversion is slow, so it is done on the frame that the messages share. None: there
    is no text part, for a message has no text or is too large for one.

    Each message gets the text that its own HTML would have given, as long as its values are nothing but text. Only blanks and
    line ends may differ, beside a value that is empty. Where values are more than text, each message is converted; raises
    TextElsewhere where those have more than `most` characters.
    """
    html_parts = opened(html_parts)
    values = [part for part in html_parts if isinstance(part, tuple)]
    if most is not None and sum(len(part) for part in html_parts if isinstance(part, str)) > FRAME_CHARS:
        raise TextElsewhere
    try:
        found = frame([None if isinstance(part, tuple) else part for part in html_parts])
        if found is not None and found.takes(values):
            return _there(found.segments(values))
        columns = [part if isinstance(part, tuple) else (part,) * count for part in html_parts]
        if most is not None and sum(len(value) for column in columns for value in column) > most:
            raise TextElsewhere
        return _there([tuple(html_to_text("".join(row)) for row in zip(*columns, strict=True))])
    except TooMuch:
        return None


def opened(parts: Sequence[Segment]) -> list[Segment]:
    """HTML in smaller segments, of which fewer have markup in their values."""
    return [one for part in parts for one in _opened(part)]


def _opened(part: Segment) -> list[Segment]:
    """A segment whose values are of the same markup in each message, as a macro's are, and what stands in that markup."""
    if isinstance(part, str) or not any("<" in value for value in part):
        return [part]
    rows = [_MARKUP.split(value) for value in part]
    if any(row[1::2] != rows[0][1::2] for row in rows):
        return [part]
    return segments(rows)


def _there(parts: list[Segment]) -> list[Segment] | None:
    """A text part is there for all messages of a call, or for none."""
    if any(part.strip() for part in parts if isinstance(part, str)):
        return parts
    columns = [part for part in parts if isinstance(part, tuple)]
    return parts if any(value.strip() for column in columns for value in column) else None
