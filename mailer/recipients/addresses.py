"""The addresses of lists of people who are to get nothing: every row counts, whatever else of it is damaged.

Who is lost here is sent to. So a bad byte, a quote or a field too many costs no row, several addresses of a cell count each, and
what a row has beside its address is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ..errors import InvalidAddress
from ..message.address import every, only
from .csv_rows import CsvRows
from .csv_table import Unreadable, counts
from .encoding import Encoding, why_broken
from .header import Header
from .mappings import Mappings
from .names import SEND_AT
from .reading import Reading
from .reserved import NAMES
from .row import Recipient, Refused, Row, kind, printable, rejected

BARE: Final = ("email", "reason")  # of a file without a header row, as SES exports its suppression list
OFF: Final = dict.fromkeys((*NAMES, SEND_AT), "")


def reading_of(reading: Reading) -> Reading:
    """How such a list is read: the column of the addresses may be said, and all others are data."""
    return Reading(email_column=reading.email_column, columns=OFF)


def of_cells(header: Header, fields: list[str] | Unreadable, encoding: Encoding) -> tuple[str, ...]:
    """The addresses of a row of a CSV, one at least. Raises Refused."""
    if isinstance(fields, Unreadable):
        cells, why = fields.beginning.rstrip("\r\n").split(header.delimiter), fields.why
    else:
        cells, why = fields, ""
        if len(cells) > header.width and any(cells[header.width :]):
            why = counts(len(cells), header.width)
    damaged = bool(why)
    places = range(len(cells)) if header.line is None else (header.email,)
    found = list[str]()
    for text in (cells[place] for place in places if place < len(cells)):
        try:
            found += every(text.strip().removeprefix("'"))
        except InvalidAddress as error:
            shown = f"{printable(text, 60)!r}: {error}" if text.strip() else str(error)
            why = why or why_broken(text, encoding) or shown
    if not found and damaged:
        found += only(" ".join(cells))
    if not found:
        raise Refused(why or "the address is empty")
    return tuple(dict.fromkeys(found))


def of_value(value: Any, key: str) -> tuple[str, ...]:
    """The addresses of a value of JSON, one at least. Raises Refused."""
    texts = value if isinstance(value, list | tuple) else [value]
    found, why = list[str](), ""
    for text in texts:
        try:
            if not isinstance(text, str):
                raise Refused(f"`{printable(key, 80)}` is {kind(text)}, not a text")
            found += every(text)
        except (InvalidAddress, Refused) as error:
            why = why or (
                f"{printable(text, 60)!r}: {error}" if isinstance(error, InvalidAddress) and text.strip() else str(error)
            )
    if not found:
        raise Refused(why or "the address is empty")
    return tuple(dict.fromkeys(found))


def of_item(item: Mapping[str, Any], mappings: Mappings) -> tuple[str, ...]:
    """The addresses of a mapping, one at least. Raises Refused."""
    found, why = list[str](), ""
    for key in mappings.email_keys(item):
        try:
            found += of_value(item[key], key)
        except Refused as error:
            why = why or str(error)
    if not found:
        raise Refused(why)
    return tuple(dict.fromkeys(found))


def of_damaged(line: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A line that is not JSON: the object that it is but for some bytes, or else the one address that stands in it."""
    text = line.decode(errors="replace")
    try:
        item = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}, only(text)
    return (item, ()) if isinstance(item, dict) else ({}, ())


class AddressRows(CsvRows):
    """Each row becomes a Recipient of its first address, with the others as its `cc`, or a BadRow."""

    def _row_of(self, line: int, fields: list[str] | Unreadable, odd: bool, long: bool) -> Row:
        try:
            first, *others = of_cells(self._header, fields, self._file.encoding)
        except Refused as error:
            return rejected(self._row, self._shown(fields), f"line {line}: ", str(error))
        return Recipient(self._row, first, {}, tuple(others))


class AddressMappings(Mappings):
    """The same of mappings."""

    OWN = False

    def row(self, number: int, item: Mapping[str, Any], where: str) -> Row:
        try:
            first, *others = of_item(item, self)
        except Refused as error:
            return rejected(number, "", where, str(error))
        return Recipient(number, first, {}, tuple(others))

    def damaged(self, number: int, line: bytes) -> Row | None:
        item, found = of_damaged(line)
        if item:
            row = self.row(number, item, "")
            return row if isinstance(row, Recipient) else None
        return Recipient(number, found[0], {}) if found else None
