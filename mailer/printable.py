"""What others say, as text that a terminal shows and does not obey: reasons of mail servers, names, cells of lists."""

from __future__ import annotations

import re

# Control characters, those of C1 too (\x9b is a terminal's CSI), what breaks a line, what turns the direction of writing, and
# halves of surrogate pairs, which cannot be written at all.
_NOT_SHOWN = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE = re.compile(f"[{_NOT_SHOWN}]")
_IN_A_TEXT = re.compile(f"(?![\n\t])[{_NOT_SHOWN}]")
# The same, of those that JSON may hold as they are, as UTF-8 has them.
_IN_JSON = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")
_SIGN = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    return _UNPRINTABLE.sub(_SIGN, text)


def printable_text(text: str) -> str:
    """Line ends and tabs stay."""
    return _IN_A_TEXT.sub(_SIGN, text)


def one_line(text: str) -> str:
    """Part of it may be somebody else's: no line breaks, nothing that a terminal would obey."""
    return printable(" ".join(text.split()))


def escaped(text: str) -> str:
    """For a log: each such character as Python writes it."""
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def escaped_text(text: str) -> str:
    """The same of several lines."""
    return _IN_A_TEXT.sub(lambda match: repr(match[0])[1:-1], text)


def escaped_json(packed: bytes) -> bytes:
    """The same JSON, for programs and for a terminal: what a terminal would obey is written as JSON may write any character."""
    return _IN_JSON.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), packed)
