"""Encoded words (RFC 2047): text that is not ASCII, in a header. Both ways take a time that grows with the text only."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, a2b_qp
from collections.abc import Iterator
from email.charset import Charset

_UTF_8 = Charset("utf-8")
_BYTES = 45  # of text in one word, which may have 75 characters: so many fit in base64
# A word may have 75 characters. Those that mail programs write longer are read as far as this.
_WORD = re.compile(r"=\?([!->@-~]{1,40})\?([BbQq])\?([!->@-~]{0,500})\?=")
_BETWEEN = re.compile(r"(?<=\?=)[ \t]+(?==\?[!->@-~]{1,40}\?[BbQq]\?)")  # two words are one text
_NO_CHARSETS = frozenset(("idna", "punycode"))  # Python has them beside the charsets, and they take n² steps


def encode_words(text: str) -> str:
    """In one line, with blanks between the words at which it can be folded."""
    return " ".join(map(_UTF_8.header_encode, _pieces(text)))


def _pieces(text: str) -> Iterator[str]:
    """No character is cut in two."""
    start = 0
    while start < len(text):
        length = next(n for n in (45, 22, 15, 11) if n == 11 or len(text[start : start + n].encode()) <= _BYTES)
        yield text[start : start + length]
        start += length


def decode_words(text: str) -> str:
    """What cannot be decoded stays as it is."""
    return _WORD.sub(_decoded, _BETWEEN.sub("", text)) if "=?" in text else text


def _decoded(match: re.Match[str]) -> str:
    charset, encoding, content = match.groups()
    try:
        data = a2b_base64(content) if encoding in "Bb" else a2b_qp(content, header=True)
    except (Error, ValueError):
        return match[0]
    return _decode(data, charset.partition("*")[0], "replace") or match[0]


def decode_bytes(value: bytes, charset: str = "") -> str:
    """Bytes of a header that should be ASCII and often are not: UTF-8, else in the charset given, else in Windows-1252."""
    for name in ("utf-8", charset, "windows-1252"):
        if (text := _decode(value, name)) is not None:
            return text
    return value.decode("latin-1")


def _decode(data: bytes, charset: str, errors: str = "strict") -> str | None:
    """None where the bytes are no text in that charset, or where there is no such charset."""
    if charset.lower() in _NO_CHARSETS:
        return None
    try:
        return data.decode(charset, errors)
    except (LookupError, ValueError):  # ValueError: a charset with a NUL in its name, too
        return None
