"""NDJSON → rows: one JSON object a line, `{"email": …, "data": {…}}` or flat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from ..data import read
from ..errors import RecipientsError
from .blocks import ByteSource
from .encoding import Encoding, why_broken
from .lines import Block
from .mappings import Mappings
from .names import rank
from .row import MAX_ROW_BYTES, STRINGS, TOO_LONG, Group, Recipient, Refused, Row, check_data, check_depth, kind, rejected

NO_OBJECT: Final = "begins with a line that is no JSON object, as each line of NDJSON is one; name the file .csv where it is CSV"
PRETTY: Final = "is JSON over several lines, and a list has one object a line (NDJSON); with jq: jq -c . FILE > list.ndjson"
ARRAY: Final = (
    "is one JSON array, and a list has one object a line, without commas (NDJSON); with jq: jq -c '.[]' FILE > list.ndjson"
)
_WRAPPED: Final = "is one JSON object with the list inside, and a list has one object a line (NDJSON); with jq: jq -c '{}[]' FILE"
_NO_NUMBER = re.compile(rb"(?<![\w-])-?(?:NaN|Infinity|undefined|None)\b")
_SEPARATOR = b"\x1e"  # RFC 7464 has one before each text


def ndjson_rows(file: ByteSource, blocks: Iterator[Block], mappings: Mappings) -> Iterator[Group]:
    """Rows as they come. A bad line is a bad row. Raises RecipientsError where the first shows that it is other JSON."""
    row = 0
    for block in blocks:
        group = Group([], [], len(block.data))
        lines = [block.data] if block.too_long else block.data.splitlines()
        for number, line in enumerate(lines, block.line):
            line = line.strip().removeprefix(_SEPARATOR)
            if not line:
                continue
            row += 1
            group.lines.append(number)
            if block.too_long:
                if row == 1:
                    raise RecipientsError(
                        source=file.name, why=f"its first line is longer than {MAX_ROW_BYTES:,} bytes; it {PRETTY}"
                    )
                group.rows.append(rejected(row, line.decode(errors="replace"), f"line {number}: ", TOO_LONG))
            else:
                if row == 1 and _goes_on(lines[number - block.line :]):
                    raise RecipientsError(source=file.name, why=PRETTY)
                group.rows.append(_row(row, line, number, file, mappings))
        yield group


def _goes_on(lines: Sequence[bytes]) -> bool:
    """Whether an object that the first line begins goes on in the second."""
    first, *others = (line for line in map(bytes.strip, lines) if line)
    if first.endswith((b"{", b"[", b":")):
        return True
    return not first.endswith((b"}", b"},")) and bool(others) and not others[0].startswith(b"{")


def _row(row: int, line: bytes, number: int, file: ByteSource, mappings: Mappings) -> Row:
    where = f"line {number}: "
    try:
        item = _object(line, row, file)
        found = mappings.row(row, item, where)
        if 2 * len(line) > MAX_ROW_BYTES and isinstance(found, Recipient):
            check_data(found.data)
    except Refused as error:
        return mappings.damaged(row, line) or rejected(row, line.decode(errors="replace"), where, str(error))
    return found


def _object(line: bytes, row: int, file: ByteSource) -> dict[str, Any]:
    """Raises Refused; RecipientsError where the first line is the beginning of something else."""
    check_depth(line)
    try:
        item = read(line[:-1] if line.endswith(b"},") else line)
    except orjson.JSONDecodeError as error:
        raise Refused(why_not_json(line, error, file.encoding)) from None
    if not isinstance(item, dict):
        raise Refused(f"is {kind(item)}, not an object")
    if row == 1 and (key := _wrapped(item)):
        raise RecipientsError(source=file.name, why=_WRAPPED.format(key))
    return item


def why_not_json(line: bytes, error: orjson.JSONDecodeError, encoding: Encoding) -> str:
    """Half a sentence about a line that does not parse."""
    text = line.decode("utf-8", "surrogateescape")
    if broken := why_broken(text, encoding):
        return broken
    bare = STRINGS.sub(b'""', line)
    if word := _NO_NUMBER.search(bare):
        return f"has {word[0].decode()} in it, which JSON does not have; write null"
    if "infinity" in error.msg:
        return "has a number in it that is too large; write it as a text, in quotes"
    return f"is not JSON: {error.msg} (column {error.colno})"


def _wrapped(item: dict[str, Any]) -> str:
    """The path of a list of recipients inside an object that is none itself, as `.contacts`; "" where there is none."""
    if any(isinstance(key, str) and rank(key) in (0, 1) for key in item):
        return ""
    for key, value in item.items():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and any(rank(name) in (0, 1) for name in first) and key.isidentifier() and key.isascii():
            return f".{key}"
    return ""
