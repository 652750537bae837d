"""Files of suppressed addresses: what other services export, our own export, and the two forms that SES itself has.

A CSV has a column of addresses under one of the names that lists of recipients may have, too, and may have `reason`, `stream`,
`since` and `list`; without a header row it is SES's `address,REASON`. An NDJSON line is `{"email": …}` with the same keys, or
SES's `{"emailAddress": …, "reason": …}`. A row is an entry, so one that cannot be used costs no other.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from .. import private
from ..address import cell
from ..errors import InvalidAddress, InvalidEmail, RecipientsError
from ..ledger.suppressed import OwnEntry, Reason, SesEntry
from ..recipients.blocks import ByteSource, suffix
from ..recipients.csv_rows import records_of
from ..recipients.csv_table import Unreadable, counts
from ..recipients.encoding import why_broken
from ..recipients.header import Header, find_header
from ..recipients.lines import Block
from ..recipients.names import rank, squeezed
from ..recipients.ndjson_rows import ARRAY
from ..recipients.reading import AS_IT_IS, Reading
from .entries import checked_stream, shown

FIELDS = ("email", "list", "reason", "stream", "since")
MAX_REASON = 100  # characters of a reason that are looked at
_BARE = ("email", "reason")  # of a file without a header row, as SES has it
_REASON_COLUMNS = ("suppressionreason", "suppressiontype", "bouncetype", "type")
# Squeezed: what other services call what we know.
_REASONS = {
    Reason.BOUNCE: frozenset(("bounce", "bounced", "hardbounce", "hardbounced", "hardbounces", "permanent", "permanentbounce")),
    Reason.COMPLAINT: frozenset(("complaint", "complained", "spamcomplaint", "spam", "spamreport", "abuse", "abusereport")),
    Reason.UNSUBSCRIBE: frozenset(("unsubscribe", "unsubscribed", "unsub", "optout", "optedout")),
    Reason.MANUAL: frozenset(("manual", "manualsuppression")),
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # a spreadsheet runs what begins like this


class Format(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"


class List(StrEnum):
    OWN = "own"
    SES = "ses"


class Line(NamedTuple):
    number: int  # in the file, from 1
    address: str
    reason: Reason | None
    stream: str | None
    since: datetime | None
    list: List | None
    unknown_reason: bool = False  # the row names a reason that is none of ours


class Unusable(NamedTuple):
    number: int
    why: str


class _Bad(Exception):
    """Why a line cannot be used."""


# ---- reading -------------------------------------------------------------------------------------------------------


def format_of(name: str) -> Format | None:
    """By the end of a file's name, with or without `.gz`; None where that does not say."""
    return {".csv": Format.CSV, ".ndjson": Format.NDJSON, ".jsonl": Format.NDJSON}.get(suffix(name))


def read(file: ByteSource, format: Format | None, reading: Reading = AS_IT_IS) -> Iterator[Line | Unusable]:
    """Every row that is not blank. Raises RecipientsError where the file as a whole cannot be used."""
    blocks = file.blocks(reading.encoding)
    for block in blocks:
        beginning = block.data.lstrip()[:1]
        if beginning:
            blocks = chain([block], blocks)
            if format is Format.NDJSON or (format is None and beginning == b"{"):
                return _ndjson(blocks, file, reading)
            if beginning == b"[":
                raise RecipientsError(source=file.name, why=ARRAY)
            return _csv(blocks, file, reading)
    return iter(())


def _csv(blocks: Iterator[Block], file: ByteSource, reading: Reading) -> Iterator[Line | Unusable]:
    found = find_header(file.name, blocks, reading, bare=_BARE)
    header, columns = found.header, _columns(found.header)
    for records, _ in records_of(found):
        for number, fields in zip(records.lines, records.found, strict=True):
            if isinstance(fields, Unreadable):
                yield Unusable(number, fields.why)
            elif any(cells := list(map(str.strip, fields))):
                # What is damaged beside the address does not matter: who is left out here is sent to.
                if records.odd and (why := why_broken("".join(cells[header.email : header.email + 1]), file.encoding)):
                    yield Unusable(number, why)
                elif len(cells) > header.width and any(cells[header.width :]):
                    yield Unusable(number, counts(len(cells), header.width))
                else:
                    named = {name: _unguarded(cells[index]) for name, index in columns.items() if index < len(cells)}
                    yield _line(number, named)


def _columns(header: Header) -> dict[str, int]:
    """Where our fields are; the reason also as Postmark calls it."""
    columns = {name: index for index, name in enumerate(map(str.lower, header.names)) if name in FIELDS}
    others = [index for index, name in enumerate(header.names) if squeezed(name) in _REASON_COLUMNS]
    if others:
        columns.setdefault("reason", others[0])
    columns["email"] = header.email
    return columns


def _ndjson(blocks: Iterator[Block], file: ByteSource, reading: Reading) -> Iterator[Line | Unusable]:
    for block in blocks:
        if block.too_long:
            yield Unusable(block.line, "is too long")
            continue
        for number, line in enumerate(block.data.splitlines(), block.line):
            if line.strip():
                try:
                    yield _line(number, _json(line, file, reading))
                except _Bad as error:
                    yield Unusable(number, str(error))


def _line(number: int, fields: Mapping[str, str]) -> Line | Unusable:
    try:
        return _entry(number, fields)
    except _Bad as error:
        return Unusable(number, str(error))


def _entry(number: int, fields: Mapping[str, str]) -> Line:
    given = fields.get("email", "")
    try:
        _, address = cell(given)
    except InvalidAddress as error:
        raise _Bad(f"{shown(given)}: {error}" if given else str(error)) from None
    reason, unknown = _reason(fields.get("reason", ""))
    return Line(
        number,
        address,
        reason,
        _stream(fields.get("stream", "")),
        _since(fields.get("since", "")),
        _list(fields.get("list", "")),
        unknown,
    )


def _reason(text: str) -> tuple[Reason | None, bool]:
    """The reason of a row, and whether it has one that is none of ours: then it is as if it had none."""
    word = squeezed(text[:MAX_REASON])
    known = next((reason for reason, words in _REASONS.items() if word in words), None)
    return known, bool(word) and known is None


def _list(text: str) -> List | None:
    """Other services have a column of that name for lists of theirs, which are no lists of ours."""
    return next((one for one in List if one.value == text.lower()), None)


def _stream(text: str) -> str | None:
    if not text:
        return None
    try:
        return checked_stream(text)
    except InvalidEmail as error:
        raise _Bad(str(error)) from None


def _since(text: str) -> datetime | None:
    if not text.strip():
        return None
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    raise _Bad(f"since {shown(text)} is not a time with a zone, as 2026-12-24T17:00:00Z is one")


def _json(line: bytes, file: ByteSource, reading: Reading) -> Mapping[str, str]:
    try:
        item = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        broken = why_broken(line.decode("utf-8", "surrogateescape"), file.encoding)
        raise _Bad(broken or f"is not JSON: {error.msg} (column {error.colno})") from None
    if not isinstance(item, dict):
        raise _Bad("is not a JSON object")
    email = reading.email_column or min((key for key in item if rank(key) in (0, 1)), key=lambda key: rank(key) or 0, default="")
    fields = {}
    for key, value in item.items():
        name = "email" if key == email else key.lower()
        if name not in FIELDS or value is None:
            continue
        if not isinstance(value, str):
            raise _Bad(f"{shown(key)} is not a text")
        fields[name] = value
    return fields


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
