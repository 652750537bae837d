"""Addresses out of a header. The standard library reads each of them, and gets no more of a header at a time than one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import policy
from email.errors import InvalidHeaderDefect
from email.header import decode_header, make_header
from typing import Any

from .fields import Field
from .words import encode_words

MAX_ADDRESSES = 1000  # of one header; SES takes 50 recipients a message
MAX_FIELD = 100_000  # characters of one header
MAX_WRITTEN = 1000  # characters of one address as it is written, with its name in encoded words
_FIELDS = "from sender reply-to to cc bcc resent-from resent-sender resent-reply-to resent-to resent-cc resent-bcc"
ADDRESS_FIELDS = frozenset(_FIELDS.split())

_SHOWN = 60  # characters of what was given, in an error
_SPECIAL = re.compile(r'"|\\.|[(),:;<>]', re.DOTALL)
_QUOTED = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_IN_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)
_NO_WORD = "=!?"  # for `=?`: the library puts a blank between the parts of a long encoded name


def read_addresses(given: Field) -> list[tuple[str, str]]:
    """(name, address) of each; a group's too. Raises ValueError where that header is anything but addresses."""
    if len(given.value) > MAX_FIELD:
        raise ValueError(f"has {len(given.value):,} characters in the header {given.name}, and SES takes 50 recipients")
    text, found = given.text, list[tuple[str, str]]()
    for one in _separated(text, given):
        if len(one) > MAX_WRITTEN:
            raise ValueError(f"has an address of {len(one):,} characters in the header {given.name}")
        found += _read(one, text, given)
        if len(found) > MAX_ADDRESSES:
            raise ValueError(f"has more than {MAX_ADDRESSES:,} addresses in the header {given.name}, and SES takes 50 recipients")
    return found


def _separated(text: str, given: Field) -> Iterator[str]:
    """The text between commas that stand in no name, comment or `<…>`; groups (`Team: a@x, b@x;`) are taken apart, too."""
    start = place = 0
    group = angle = False
    while special := _SPECIAL.search(text, place):
        place, sign = special.end(), special[0]
        if sign == '"':
            end = _QUOTED.match(text, place)
            if end is None:
                raise _no_addresses(text, given)
            place = end.end()
        elif sign == "(":
            place = _comment_end(text, place, given)
        elif sign in "<>":
            angle = sign == "<"
        elif sign == ":" and not angle:
            group, start = True, place  # what was before it is the group's name
        elif (sign == "," and not angle) or (sign == ";" and group):
            yield text[start : special.start()]
            group, start = group and sign == ",", place
    yield text[start:]


def _comment_end(text: str, place: int, given: Field) -> int:
    depth = 1
    while depth:
        sign = _IN_COMMENT.search(text, place)
        if sign is None:
            raise _no_addresses(text, given)
        depth += {"(": 1, ")": -1}.get(sign[0], 0)
        place = sign.end()
    return place


def _read(one: str, text: str, given: Field) -> list[tuple[str, str]]:
    if not one.strip():
        return []
    try:
        header: Any = policy.default.header_factory("To", one.strip().replace("=?", _NO_WORD))
        found = [(_decoded(each.display_name), each.addr_spec) for each in header.addresses]
    except Exception:  # the library's parser raises IndexError and more
        raise ValueError(f"has a header {given.name} that cannot be read") from None
    if any(isinstance(defect, InvalidHeaderDefect) for defect in header.defects):
        raise _no_addresses(text, given)
    return found


def _decoded(name: str) -> str:
    return str(make_header(decode_header(name.replace(_NO_WORD, "=?"))))


def _no_addresses(text: str, given: Field) -> ValueError:
    shown = text.strip()[:_SHOWN]
    why = f"has a header {given.name} that is not a list of addresses: {shown!r}"
    return ValueError(f'{why}; commas stand between them, and a name with , or ; in "quotes"')


def written(addresses: list[tuple[str, str]], given: Field) -> list[str]:
    """As they are written in a header: ASCII. Raises ValueError."""
    return [_written(name, address, given) for name, address in addresses]


def _written(name: str, address: str, given: Field) -> str:
    if not address.isascii():
        local, _, domain = address.rpartition("@")
        try:
            address = f"{local}@{domain.encode('idna').decode()}"
        except UnicodeError:
            address = local
        if not address.isascii() or "@" not in address:
            raise ValueError(f"has an address that is not ASCII in line {given.line}, in the header {given.name}")
    if not name:
        return address
    return f"{quoted(name) if name.isascii() else encode_words(name)} <{address}>"


def quoted(name: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", name)
    return f'"{escaped}"'
