"""The header block of a message or of a part: its fields, and what is done to those that SES would not take as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import decode_params, unquote
from typing import NamedTuple
from urllib.parse import quote

from .words import decode_bytes, decode_words, encode_words

MAX_LINE = 998  # characters without the line break: SES takes 1,000 with it (RFC 5322 2.1.1)
MAX_FIELDS = 2000  # of one header block; a message that went through many hands has a hundred
MAX_STRUCTURED = 16_384  # characters of a field whose value is taken apart: Content-Type, Content-Disposition
_LINE = 76  # characters after which a field that has to be written anew goes on in the next line
_SHOWN = 60  # characters of what was given, in an error

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_PIECE = re.compile(rb"(?<=[^ \t])(?=[ \t]+[^ \t])")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^;\s]*))', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_WITH_PARAMETERS = frozenset(("content-type", "content-disposition"))
# In these an encoded word would be taken for what the header says.
_VERBATIM = """
    arc-authentication-results arc-message-signature arc-seal content-id content-location content-transfer-encoding date
    dkim-signature domainkey-signature list-archive list-help list-id list-owner list-post list-subscribe list-unsubscribe
    list-unsubscribe-post message-id mime-version return-path
"""
_AS_THEY_ARE = frozenset(_VERBATIM.split())


class Field(NamedTuple):
    """One header field. A tuple, as a message may have a million."""

    name: str  # as it was written
    value: bytes  # behind the colon, with the line breaks in it (CRLF)
    line: int  # of what was given, from 1

    @property
    def key(self) -> str:
        return self.name.lower()

    @property
    def unfolded(self) -> bytes:
        return self.value.replace(b"\r\n", b"").strip(b" \t")

    @property
    def text(self) -> str:
        return decode_bytes(self.unfolded)

    def written(self) -> bytes:
        return self.name.encode("ascii") + b":" + self.value + b"\r\n"


def new_field(name: str, value: str) -> Field:
    """One that was not there."""
    return Field(name, b" " + value.encode("ascii"), 0)


def read_fields(block: bytes, line: int, *, strict: bool = True) -> tuple[list[Field], int]:
    """The fields of a header block, each line of which ends with CRLF, and how many bytes of it they take.

    That is less than all where a line is no header. `line`: the number of the first one. If `strict`, raises ValueError where
    a character is in it that could make two headers of one.
    """
    found: list[Field] = []
    name, lines, first, taken = "", list[bytes](), line, 0
    for number, text in enumerate(block.removesuffix(b"\r\n").split(b"\r\n") if block else (), line):
        match = _FIELD.match(text)
        if text[:1] in (b" ", b"\t") and name:
            if text.strip(b" \t"):  # a line of blanks says nothing, and some take it for the end of the headers
                lines.append(text)
        elif match:
            if len(found) >= MAX_FIELDS:
                raise ValueError(f"has more than {MAX_FIELDS:,} headers")
            if name:
                found.append(Field(name, b"\r\n".join(lines), first))
            name, lines, first = match[1].decode(), [text[match.end() :]], number
        else:
            break
        taken += len(text) + 2
    if name:
        found.append(Field(name, b"\r\n".join(lines), first))
    if strict and (wrong := _CONTROL.search(block, 0, taken)):
        where = line + block.count(b"\r\n", 0, wrong.start())
        what = "a carriage return (CR) in the middle of" if wrong[0] == b"\r" else "a control character in"
        raise ValueError(f"has {what} line {where}, which is a header; no header may have that")
    return found, min(taken, len(block))


def needs_repair(given: Field) -> bool:
    return not given.value.isascii() or _long(given)


def repaired(given: Field, charset: str) -> Field:
    """The field as SES takes it: ASCII, in lines that are short enough. `charset`: of text that is not UTF-8.

    Raises ValueError.
    """
    if not given.value.isascii():
        if given.key in _AS_THEY_ARE:
            raise ValueError(f"has characters that are not ASCII in line {given.line}, in the header {given.name[:_SHOWN]}")
        given = given._replace(value=b" " + _ascii(given, charset).encode("ascii"))
    return given._replace(value=_folded(given)) if _long(given) else given


def _long(given: Field) -> bool:
    if len(given.name) + 1 + len(given.value) <= MAX_LINE:
        return False
    first, *others = given.value.split(b"\r\n")
    return len(given.name) + 1 + len(first) > MAX_LINE or any(len(one) > MAX_LINE for one in others)


def _ascii(given: Field, charset: str) -> str:
    text = decode_bytes(given.unfolded, charset)
    if given.key not in _WITH_PARAMETERS:
        return encode_words(decode_words(text))
    return with_parameters(text, {})


def _folded(given: Field) -> bytes:
    """A break goes before a blank, never into a word: unfolding gives the value back. Raises ValueError."""
    lines, room = [b""], MAX_LINE - len(given.name) - 1
    for piece in _PIECE.split(given.value.replace(b"\r\n", b"")):
        if lines[-1] and len(lines[-1]) + len(piece) > (_LINE - len(given.name) - 1 if len(lines) == 1 else _LINE):
            lines.append(b"")
            room = MAX_LINE
        if len(lines[-1]) + len(piece) > room:
            what = f"has more than {MAX_LINE} characters in line {given.line}, in the header {given.name[:_SHOWN]},"
            raise ValueError(f"{what} and no blank at which it could go on in the next line")
        lines[-1] += piece
    return b"\r\n".join(lines)


# ---- values with parameters: `text/plain; charset=utf-8` -----------------------------------------------------------------


def value_of(given: Field | None) -> str:
    """The value without its parameters, in lower case."""
    return "" if given is None else given.text[:MAX_STRUCTURED].partition(";")[0].strip().lower()


def parameters(given: Field | None) -> dict[str, str]:
    """By name in lower case, the first of each; what is in sections or percent-encoded (RFC 2231) is put together.

    Raises ValueError.
    """
    plain = dict(reversed(pairs(given)))
    if not any("*" in name for name in plain):
        return plain
    try:
        decoded = decode_params([("", ""), *((name, f'"{value}"') for name, value in plain.items())])[1:]
    except (LookupError, ValueError, TypeError):  # sections without end, a number that is none
        return plain
    return {name: _collapsed(value) for name, value in decoded}


def pairs(given: Field | None) -> list[tuple[str, str]]:
    """The parameters as they are written, without their quotes. Raises ValueError."""
    if given is None:
        return []
    if len(given.value) > MAX_STRUCTURED:
        raise ValueError(
            f"has a {given.name} of {len(given.value):,} characters in line {given.line}; {MAX_STRUCTURED:,} will do"
        )
    return _pairs(given.text)


def _pairs(text: str) -> list[tuple[str, str]]:
    return [
        (name.lower(), _ESCAPED.sub(r"\1", quoted) if quoted else bare.strip('"'))
        for name, quoted, bare in _PARAMETER.findall(text)
    ]


def _collapsed(value: str | tuple[str | None, str | None, str]) -> str:
    if isinstance(value, str):
        return unquote(value)
    return decode_bytes(unquote(value[2]).encode("latin-1", "replace"), value[0] or "")


def with_parameters(text: str, changed: Mapping[str, str]) -> str:
    """The value with some of its parameters changed or added: ASCII, folded. Raises ValueError."""
    if len(text) > MAX_STRUCTURED:
        raise ValueError(f"has a header of {len(text):,} characters that are not ASCII; {MAX_STRUCTURED:,} will do")
    values = {**dict(reversed(_pairs(text))), **changed}
    first = "".join(char for char in text.partition(";")[0].strip() if " " < char < "\x7f")
    return ";\r\n ".join([first, *(_parameter(name, value) for name, value in values.items())])


def _parameter(name: str, value: str) -> str:
    name = "".join(char for char in name if " " < char < "\x7f")
    if value.isascii():
        escaped = value.replace("\\", r"\\").replace('"', r"\"")
        return f'{name}="{escaped}"'
    return f"{name.rstrip('*')}*=utf-8''{quote(value, safe='')}"
