"""CSV → rows.

Cells at the end of a row that are missing are empty; empty ones beyond the header row, and rows of empty cells, are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from ..errors import InvalidAddress
from ..message.address import as_text, cell
from ..report import OWN, unguarded
from .blocks import ByteSource
from .csv_table import Records, Unreadable, counts, parse
from .encoding import why_broken
from .header import ADDRESSES, Found, Header, find_header, unquoted
from .lines import Block
from .reading import Reading
from .reserved import NAMES, Reserved
from .row import MAX_ROW_BYTES, TOO_LONG, Group, Recipient, Refused, Row, check_data, extras, rejected

GROUP_BYTES: Final = 512 * 1024  # of rows as they are stored, after which a group is handed on
_JSON: Final = 6  # bytes that a character may take in JSON, and bytes around a name and a value

_TEXT_MARK = "'"  # by which Excel keeps a cell a text


def csv_rows(
    file: ByteSource,
    blocks: Iterator[Block],
    reading: Reading,
    reserved: Reserved,
    kind: type[CsvRows] | None = None,
    bare: tuple[str, ...] = ADDRESSES,
) -> tuple[Header, Iterator[Group]]:
    """The header row, and the rows as they come. `bare`: as `find_header` has it.

    Raises NoEmailColumn, EmptyRecipients, NotUtf8, and RecipientsError.
    """
    found = find_header(file.name, blocks, reading, bare, own=kind is None)
    rows = (kind or CsvRows)(file, found.header, reading, reserved)
    return found.header, rows.groups(records_of(found))


def records_of(found: Found) -> Iterator[tuple[Records, int]]:
    """The records that follow a header row, and the bytes of each stretch of them."""
    header, text, line, odd, blocks = found
    # Rows are bounded here, so the module's own limit of 131,072 characters a field is only in the way.
    csv.field_size_limit(max(csv.field_size_limit(), 4 * MAX_ROW_BYTES))
    records, size = parse(text, line, header, final=False, odd=odd), len(text)
    for block in blocks:
        yield records, size
        text, line, size = records.rest, records.rest_line, len(block.data)
        if block.too_long:
            records = parse(text, line, header, final=True, odd=records.odd)
            too_long = Unreadable(block.data.decode(errors="replace"), TOO_LONG)
            lines, rows = [*records.lines, block.line], [*records.found, too_long]
            records = Records(lines, rows, odd=records.odd, formulas=records.formulas)
        else:
            more, odd = block.text()
            records = parse(
                text + more, line if text else block.line, header, final=False, odd=odd or (records.odd and bool(text))
            )
    yield records, size
    yield parse(records.rest, records.rest_line, header, final=True, odd=records.odd), 0


class CsvRows:
    """Fields → rows, numbered from 1."""

    def __init__(self, file: ByteSource, header: Header, reading: Reading, reserved: Reserved) -> None:
        self._file = file
        self._header = header
        self._reserved = reserved
        self._row = 0
        names = {name: index for index, name in enumerate(header.names) if name and index != header.email}
        variables = {name: index for name, index in names.items() if name not in header.doubled}
        for ours, column in reading.columns.items():
            if column and ours not in NAMES and (index := header.where(column)) is not None:
                variables[ours] = index
        self._names = tuple(variables)
        self._pick = _picker(*variables.values())
        self._extras = _extra_columns(header, reading)
        self._reach = (
            header.width if header.report else 1 + max((index for index, name in enumerate(header.names) if name), default=0)
        )
        # Bytes of each row as it is stored that do not depend on its values.
        self._overhead = sum(len(name.encode("utf-8", "surrogateescape")) + _JSON for name in variables)

    def groups(self, stretches: Iterator[tuple[Records, int]]) -> Iterator[Group]:
        for records, size in stretches:
            yield from self._check(records, size)

    def _check(self, records: Records, size: int) -> Iterator[Group]:
        group, most = Group([], [], 0), max(1, GROUP_BYTES // max(self._overhead, 1))
        long = self._overhead + _JSON * records.longest > MAX_ROW_BYTES
        for line, fields in zip(records.lines, records.found, strict=True):
            if isinstance(fields, list):
                fields = self._texts(fields, records.formulas)
                if not any(fields):
                    continue
            self._row += 1
            group.lines.append(line)
            group.rows.append(self._row_of(line, fields, records.odd, long))
            if len(group.rows) >= most:
                group.size = GROUP_BYTES
                yield group
                group = Group([], [], 0)
        group.size = size + len(group.rows) * self._overhead
        yield group

    def _texts(self, fields: list[str], formulas: bool) -> list[str]:
        """The values of cells, without what programs put around them."""
        if self._header.report:
            return list(map(unguarded, fields))
        if not self._header.quotes:
            return [unquoted("".join(fields).strip())]
        fields = list(map(str.strip, fields))
        return list(map(as_text, fields)) if formulas else fields

    def _row_of(self, line: int, fields: list[str] | Unreadable, odd: bool, long: bool) -> Row:
        header, number = self._header, self._row
        try:
            if isinstance(fields, Unreadable):
                raise Refused(fields.why)
            if odd and (why := self._why_odd(fields)):
                raise Refused(why)
            if len(fields) < self._reach:
                fields += [""] * (self._reach - len(fields))
            elif len(fields) > header.width and any(fields[header.width :]):
                raise Refused(counts(len(fields), header.width))
            name, address = cell(fields[header.email].removeprefix(_TEXT_MARK))
            data = dict(zip(self._names, self._pick(fields), strict=True))
            if long:
                check_data(data)
            if self._extras:
                return self._with_extras(Recipient(number, address, data, name=name), fields)
            return Recipient(number, address, data, name=name) if name else Recipient(number, address, data)
        except (InvalidAddress, Refused) as error:
            return rejected(number, self._shown(fields), f"line {line}: ", str(error))

    def _with_extras(self, row: Recipient, fields: list[str]) -> Recipient:
        values = dict.fromkeys(NAMES, "")
        for name, index, own in self._extras:
            if self._header.report or self._reserved.is_ours(name, fields[index], documented=own == name):
                values[name] = fields[index]
                if own:
                    row.data.pop(own, None)
        return Recipient(row.row, row.address, row.data, *extras(*values.values()), row.name)

    def _why_odd(self, fields: list[str]) -> str:
        text = "".join(fields)
        return "has a NUL byte in it" if "\0" in text else why_broken(text, self._file.encoding)

    def _shown(self, fields: list[str] | Unreadable) -> str:
        """What a bad row shows of itself: its address if it is where it should be."""
        if isinstance(fields, Unreadable):
            return fields.beginning.rstrip("\r\n")
        email = self._header.email
        return fields[email] if len(fields) > email else fields[0]


def _extra_columns(header: Header, reading: Reading) -> list[tuple[str, int, str]]:
    """cc, bcc and tags: the index of their column, and its name where that is their own and so no variable when they are ours."""
    found = []
    for name in NAMES:
        column = reading.columns.get(name)
        if column == "":
            continue
        if header.report and column is None:
            found.append((name, header.width - OWN + NAMES.index(name), ""))
            continue
        index = header.where(column) if column else _own(header, name)
        if index is not None:
            own = header.names[index] if header.names[index].lower() == name else ""
            found.append((name, index, own))
    return found


def _own(header: Header, name: str) -> int | None:
    return next((index for index, one in enumerate(header.names) if one.lower() == name), None)


def _picker(*columns: int) -> Callable[[list[str]], Sequence[str]]:
    if len(columns) > 1:
        return itemgetter(*columns)
    # itemgetter of one index gives the item itself, and of none there is none.
    return lambda fields: [fields[index] for index in columns]
