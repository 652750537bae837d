"""Files of suppressed addresses: what other services export, our own export, and the two forms that SES itself has.

A CSV has a column of addresses under one of the names that lists of recipients may have, too, and may have `reason`, `stream`,
`since` and `list`; without a header row it is SES's `address,REASON`. An NDJSON line is `{"email": …}` with the same keys, or
SES's `{"emailAddress": …, "reason": …}`. A row is an entry, so one that cannot be used costs no other. Of an export of all
contacts, those who are sent to by its column `status` are left out.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from .. import private
from ..errors import InvalidEmail, RecipientsError
from ..recipients.addresses import BARE, OFF, AddressMappings, of_cells, of_damaged, of_item
from ..recipients.blocks import ByteSource, suffix
from ..recipients.csv_rows import records_of
from ..recipients.csv_table import Unreadable
from ..recipients.header import Header, find_header
from ..recipients.lines import Block
from ..recipients.names import squeezed
from ..recipients.ndjson_rows import ARRAY, why_not_json
from ..recipients.reading import AS_IT_IS, Reading
from ..recipients.reserved import Reserved
from ..recipients.row import Refused
from .entries import checked_stream
from .lists import OwnEntry, Reason, SesEntry

FIELDS = ("email", "list", "reason", "stream", "since")
MAX_REASON = 100  # characters of a reason that are looked at
_REASON_COLUMNS = ("suppressionreason", "suppressiontype", "bouncetype", "type")
# Squeezed: what other services call what we know.
_REASONS = {
    Reason.BOUNCE: frozenset(
        ("bounce", "bounced", "hardbounce", "hardbounced", "hardbounces", "permanent", "permanentbounce", "cleaned")
    ),
    Reason.COMPLAINT: frozenset(("complaint", "complained", "spamcomplaint", "spam", "spamreport", "abuse", "abusereport")),
    Reason.UNSUBSCRIBE: frozenset(("unsubscribe", "unsubscribed", "unsub", "optout", "optedout")),
    Reason.MANUAL: frozenset(("manual", "manualsuppression")),
}
_STATUS_COLUMNS = ("status", "state", "subscriptionstatus", "subscriberstatus", "memberstatus", "marketingstatus", "emailstatus")
# Squeezed: the status of people who are sent to, in exports of all contacts (Mailchimp, listmonk, Klaviyo).
_SENT_TO = frozenset(("subscribed", "enabled", "confirmed", "optedin", "optin"))
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # a spreadsheet runs what begins like this


class Format(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"


class List(StrEnum):
    OWN = "own"
    SES = "ses"


class Line(NamedTuple):
    """An address; a row with several of them is as many lines of the same number."""

    number: int  # in the file, from 1
    address: str
    reason: Reason | None
    stream: str | None
    since: datetime | None
    list: List | None
    unknown_reason: bool = False  # the row names a reason that is none of ours
    left_out: bool = False  # it has a stream or a time that cannot be used, and is taken without it


class Unusable(NamedTuple):
    number: int
    why: str


class Subscribed(NamedTuple):
    """A row whose status says that its address is sent to, as a whole audience or all contacts of a service have it."""

    number: int


Row = Line | Unusable | Subscribed


# ---- reading -------------------------------------------------------------------------------------------------------


def format_of(name: str) -> Format | None:
    """By the end of a file's name, with or without `.gz`; None where that does not say."""
    return {".csv": Format.CSV, ".ndjson": Format.NDJSON, ".jsonl": Format.NDJSON}.get(suffix(name))


def read(file: ByteSource, format: Format | None, reading: Reading = AS_IT_IS) -> Iterator[Row]:
    """Every row that is not blank. Raises RecipientsError where the file as a whole cannot be used."""
    blocks = file.blocks(reading.encoding, ascii_matters=True)
    for block in blocks:
        beginning = block.data.lstrip()[:1]
        if beginning:
            blocks = chain([block], blocks)
            if format is Format.NDJSON or (format is None and beginning == b"{"):
                return _ndjson(blocks, file, AddressMappings(file.name, reading, Reserved(reading)))
            if beginning == b"[":
                raise RecipientsError(source=file.name, why=ARRAY)
            return _csv(blocks, file, replace(reading, columns=OFF))
    return iter(())


def _csv(blocks: Iterator[Block], file: ByteSource, reading: Reading) -> Iterator[Row]:
    found = find_header(file.name, blocks, reading, bare=BARE)
    header, columns = found.header, _columns(found.header)
    for records, _ in records_of(found):
        for number, fields in zip(records.lines, records.found, strict=True):
            if isinstance(fields, Unreadable):
                cells = []
            elif not any(cells := list(map(str.strip, fields))):
                continue
            try:
                addresses = of_cells(header, fields if isinstance(fields, Unreadable) else cells, file.encoding)
            except Refused as error:
                yield Unusable(number, str(error))
                continue
            yield from _lines(number, addresses, {name: _unguarded(cells[at]) for name, at in columns.items() if at < len(cells)})


def _columns(header: Header) -> dict[str, int]:
    """Where our fields are."""
    return {name: header.names.index(column) for name, column in _names(header.names).items()}


def _names(names: Sequence[str]) -> dict[str, str]:
    """Our fields → what the file calls them: the reason also as Postmark does."""
    found = {name.lower(): name for name in reversed(names) if name.lower() in FIELDS[1:]}
    for ours, words in (("reason", _REASON_COLUMNS), ("status", _STATUS_COLUMNS)):
        if others := [name for name in names if squeezed(name) in words]:
            found.setdefault(ours, others[0])
    return found


def _ndjson(blocks: Iterator[Block], file: ByteSource, mappings: AddressMappings) -> Iterator[Row]:
    for block in blocks:
        if block.too_long:
            yield Unusable(block.line, "is too long")
            continue
        for number, line in enumerate(block.data.splitlines(), block.line):
            if line.strip():
                try:
                    item, addresses = _json(line, file)
                    yield from _lines(number, addresses or of_item(item, mappings), _fields(item))
                except Refused as error:
                    yield Unusable(number, str(error))


def _lines(number: int, addresses: Sequence[str], fields: Mapping[str, str]) -> Iterator[Row]:
    """`fields` are what the row has beside: a mistake in one of them keeps nobody off the list."""
    status = squeezed(fields.get("status", "")[:MAX_REASON])
    if status in _SENT_TO:
        yield Subscribed(number)
        return
    reason, unknown = _reason(fields.get("reason", ""))
    if reason is None and not unknown:
        reason, _ = _reason(status)
    stream, since = _stream(fields.get("stream", "")), _since(fields.get("since", ""))
    left_out = any(read is None and fields.get(name, "").strip() for name, read in (("stream", stream), ("since", since)))
    for address in addresses:
        yield Line(number, address, reason, stream, since, _list(fields.get("list", "")), unknown, left_out)


def _reason(text: str) -> tuple[Reason | None, bool]:
    """The reason of a row, and whether it has one that is none of ours: then it is as if it had none."""
    word = squeezed(text[:MAX_REASON])
    known = next((reason for reason, words in _REASONS.items() if word in words), None)
    return known, bool(word) and known is None


def _list(text: str) -> List | None:
    """Other services have a column of that name for lists of theirs, which are no lists of ours."""
    return next((one for one in List if one.value == text.lower()), None)


def _stream(text: str) -> str | None:
    """None where it is none: then the address gets nothing of any stream."""
    if not text.strip():
        return None
    try:
        return checked_stream(text)
    except InvalidEmail:
        return None


def _since(text: str) -> datetime | None:
    """A date is its beginning, and a time without a zone is in UTC; None where it is no time."""
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None


def _json(line: bytes, file: ByteSource) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The object, or, of a line that is damaged, the one address that stands in it. Raises Refused."""
    try:
        item = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        item, addresses = of_damaged(line)
        if not item and not addresses:
            raise Refused(why_not_json(line, error, file.encoding)) from None
        return item, addresses
    if not isinstance(item, dict):
        raise Refused("is not a JSON object")
    return item, ()


def _fields(item: Mapping[str, Any]) -> dict[str, str]:
    """What a row has beside its address, as texts."""
    names = _names(list(item))
    found = {name: item[key] for name, key in names.items() if item[key] is not None}
    return {name: value if isinstance(value, str) else str(value) for name, value in found.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _unguarded(text: str) -> str:
    """Without the mark by which a spreadsheet keeps a cell a text; our own export has it, too."""
    return text.removeprefix("'")


def _guarded(text: str) -> str:
    """A text that a spreadsheet would run as a formula is kept a text: addresses and streams are somebody else's words."""
    return f"'{text}" if text[:1] in _FORMULA else text


# ---- writing -------------------------------------------------------------------------------------------------------


def as_row(entry: OwnEntry | SesEntry) -> dict[str, str | None]:
    """The entry as the commands show it."""
    if isinstance(entry, OwnEntry):
        return _row(entry.address, List.OWN, entry.reason.value, entry.stream or None, entry.since)
    return _row(entry.address, List.SES, entry.reason.lower(), None, entry.updated_at)


def _row(address: str, list: List, reason: str, stream: str | None, since: datetime) -> dict[str, str | None]:
    moment = since.astimezone(UTC).isoformat(timespec="milliseconds" if since.microsecond else "seconds")
    return dict(zip(FIELDS, (address, list.value, reason, stream, moment.replace("+00:00", "Z")), strict=True))


class Writer:
    """Entries → a file as `read` takes it."""

    def __init__(self, file: BinaryIO, format: Format) -> None:
        self._file = file
        self._csv = format is Format.CSV
        if self._csv:
            self._write(FIELDS)

    def add(self, row: Mapping[str, str | None]) -> None:
        if self._csv:
            self._write([_guarded(row[name] or "") for name in FIELDS])
        else:
            self._file.write(orjson.dumps({name: value for name, value in row.items() if value is not None}) + b"\n")

    def _write(self, values: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        self._file.write(text.getvalue().encode())


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which nobody else may read, gzipped where its name ends in `.gz`.

    It takes its name once the body has ended: where that raises, a file of that name stays as it was. A device, pipe or link
    is written to as it is. Raises OSError.
    """
    there = os.path.lexists(path)
    if there and not stat.S_ISREG(path.lstat().st_mode):
        with open(path, "wb") as device, _packed(path, device) as target:
            yield target
        return
    if there:
        path.open("ab").close()  # whoever may not write to it may not replace it
    beside = path.with_name(f".mailer-{secrets.token_hex(8)}")
    try:
        with private.create(beside) as file, _packed(path, file) as target:
            if there:
                shutil.copymode(path, beside)
            yield target
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def _packed(path: Path, file: BinaryIO) -> Iterator[BinaryIO]:
    if path.suffix.lower() != ".gz":
        yield file
        return
    with gzip.GzipFile(path.name, "wb", fileobj=file) as target:
        yield target  # type: ignore[misc]
