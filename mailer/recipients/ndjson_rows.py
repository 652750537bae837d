"""NDJSON → rows: one JSON object a line, `{"email": …, "data": {…}}` or flat."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from .blocks import Block
from .row import TOO_LONG, Group, Row, kind, mapping_row, rejected


def ndjson_rows(source: str, blocks: Iterator[Block]) -> Iterator[Group]:
    """Rows as they come. A bad line is a bad row; raises NotUtf8."""
    row = 0
    for block in blocks:
        group = Group([], [], len(block.data))
        lines = [block.data] if block.too_long else block.data.splitlines()
        for number, line in enumerate(lines, block.line):
            if not line or line.isspace():
                continue
            row += 1
            group.lines.append(number)
            if block.too_long:
                group.rows.append(rejected(row, line.decode(errors="replace"), f"line {number}: ", TOO_LONG))
            else:
                group.rows.append(_row(row, line, number, source))
        yield group


def _row(row: int, line: bytes, number: int, source: str) -> Row:
    where = f"line {number}: "
    try:
        item = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        text = Block(number, line).text(source)  # raises NotUtf8, which orjson does not tell from other mistakes
        return rejected(row, text, where, f"is not JSON: {error.msg} (column {error.colno})")
    if not isinstance(item, dict):
        return rejected(row, line.decode(), where, f"is {kind(item)}, not an object")
    return mapping_row(row, item, where)
