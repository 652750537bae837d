"""Content of a part as SES takes it: 7-bit, in lines of at most 998 characters, without a NUL or a CR that stands alone."""

from __future__ import annotations

import re
from base64 import encodebytes
from binascii import Error, a2b_base64, a2b_qp, b2a_qp
from typing import NamedTuple

from .fields import MAX_LINE

IDENTITY = frozenset(("", "7bit", "8bit", "binary"))  # Content-Transfer-Encodings that change nothing
_TOO_LONG = re.compile(rb"^[^\n]{%d}[^\r\n]" % MAX_LINE, re.MULTILINE)
_WRONG = re.compile(rb"[\x00\x80-\xff]|\r(?!\n)")
_ASCII = bytes(range(128))
_MANY = 6  # of so many bytes one is not ASCII: base64 is shorter, and nobody could read the other


class Fault(NamedTuple):
    """What keeps SES from taking some bytes."""

    at: int
    what: str  # half a sentence, without the line

    def told(self, line: int) -> str:
        return f"{self.what} in line {line}"


def fault(content: bytes) -> Fault | None:
    """The first one. Line breaks are CRLF."""
    if found := _TOO_LONG.search(content):
        return Fault(found.start(), f"has more than {MAX_LINE} characters")
    if content.isascii() and b"\0" not in content and content.count(b"\r") == content.count(b"\r\n"):
        return None
    found = _WRONG.search(content)
    return found and Fault(found.start(), "is not 7-bit text")


def encode(content: bytes, *, text: bool) -> tuple[str, bytes]:
    """The name of the encoding, and the content in it. `text`: its lines are lines, so that it may stay readable."""
    lines = content.replace(b"\r\n", b"\n")
    others = len(content.translate(None, _ASCII))
    if text and b"\r" not in lines and others * _MANY < len(content):
        return "quoted-printable", b2a_qp(lines, istext=True).replace(b"\n", b"\r\n")
    return "base64", encodebytes(content).replace(b"\n", b"\r\n").removesuffix(b"\r\n")


def decode(content: bytes, encoding: str) -> bytes | None:
    """What was encoded so that SES does not take it; None where it cannot be read."""
    if encoding == "quoted-printable":
        return a2b_qp(content)
    if encoding == "base64":
        try:
            return a2b_base64(content.translate(None, b" \t\r\n"), strict_mode=True)
        except Error:
            return None
    return None


def charset_of(content: bytes) -> str:
    """Of text that says none, or one that it cannot be in."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"
