"""Files of suppressed addresses: CSV, NDJSON, and the two forms in which SES exports and imports its list.

A CSV has a header row with a column `email`, and may have `reason`, `stream`, `since` and `list`; without a header row it is
SES's `address,REASON`. An NDJSON line is `{"email": …}` with the same keys, or SES's `{"emailAddress": …, "reason": …}`.
A line is an entry, so one that cannot be used costs no other.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from ..address import normalise
from ..errors import InvalidAddress, InvalidEmail, RecipientsError
from ..ledger.suppressed import OwnEntry, Reason, SesEntry
from ..recipients.blocks import Block, suffix
from .entries import checked_stream, shown

FIELDS = ("email", "list", "reason", "stream", "since")
_DELIMITERS = (",", ";", "\t")
_EMAIL = ("email", "emailaddress", "email_address")
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


class Unusable(NamedTuple):
    number: int
    why: str


class _Bad(Exception):
    """Why a line cannot be used."""


# ---- reading -------------------------------------------------------------------------------------------------------


def format_of(name: str) -> Format | None:
    """By the end of a file's name, with or without `.gz`; None where that does not say."""
    return {".csv": Format.CSV, ".ndjson": Format.NDJSON, ".jsonl": Format.NDJSON}.get(suffix(name))


def read(name: str, blocks: Iterator[Block], format: Format | None) -> Iterator[Line | Unusable]:
    """Every line that is not blank. Raises RecipientsError where the file as a whole cannot be used."""
    lines = _lines(blocks)
    first = next(lines, None)
    if first is None:
        return
    number, line = first
    if format is None:
        format = Format.NDJSON if isinstance(line, bytes) and line.lstrip()[:1] == b"{" else Format.CSV
    columns = _columns(name, line) if format is Format.CSV else None
    parse = columns.fields if columns else _json
    for number, line in lines if columns and columns.header else chain([first], lines):
        yield line if isinstance(line, Unusable) else _line(number, line, parse)


def _lines(blocks: Iterator[Block]) -> Iterator[tuple[int, bytes | Unusable]]:
    """The lines that are not blank, by their numbers."""
    for block in blocks:
        if block.too_long:
            yield block.line, Unusable(block.line, "is too long")
            continue
        for number, line in enumerate(block.data.splitlines(), block.line):
            if line and not line.isspace():
                yield number, line


def _line(number: int, line: bytes, parse: Callable[[str], Mapping[str, str]]) -> Line | Unusable:
    try:
        return _entry(number, parse(line.decode()))
    except UnicodeDecodeError:
        return Unusable(number, "is not UTF-8")
    except _Bad as error:
        return Unusable(number, str(error))


def _entry(number: int, fields: Mapping[str, str]) -> Line:
    given = fields.get("email", "")
    try:
        address = normalise(given)
    except InvalidAddress as error:
        raise _Bad(f"{shown(given)}: {error}" if given else str(error)) from None
    return Line(
        number,
        address,
        _one_of(Reason, fields.get("reason", ""), "reason"),
        _stream(fields.get("stream", "")),
        _since(fields.get("since", "")),
        _one_of(List, fields.get("list", ""), "list"),
    )


def _one_of(kind: Any, text: str, name: str) -> Any:
    word = text.strip().lower()
    if not word:
        return None
    try:
        return kind(word)
    except ValueError:
        raise _Bad(f"{name} {shown(text)} is not one of {', '.join(kind)}") from None


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


def _json(text: str) -> Mapping[str, str]:
    try:
        item = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _Bad(f"is not JSON: {error.msg} (column {error.colno})") from None
    if not isinstance(item, dict):
        raise _Bad("is not a JSON object")
    fields = {}
    for key, value in item.items():
        name = "email" if key.lower() in _EMAIL else key.lower()
        if name not in FIELDS or value is None:
            continue
        if not isinstance(value, str):
            raise _Bad(f"{shown(key)} is not a text")
        fields[name] = value
    return fields


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the fields of a CSV's lines are."""

    names: Sequence[str]
    delimiter: str
    header: bool  # the first line says so, and is no entry

    def fields(self, text: str) -> Mapping[str, str]:
        values = _split(text, self.delimiter)
        if len(values) > len(self.names):
            raise _Bad(f"has {len(values)} fields, and {len(self.names)} are the most")
        return {name: _unguarded(value) for name, value in zip(self.names, values, strict=False)}


def _columns(name: str, first: bytes | Unusable) -> Columns:
    """By the first line. Raises RecipientsError."""
    text = first.decode(errors="replace") if isinstance(first, bytes) else ""
    for delimiter in _DELIMITERS:
        with suppress(_Bad):
            words = [word.strip().lower() for word in _split(text, delimiter)]
            if any(word in _EMAIL for word in words):
                return Columns(["email" if word in _EMAIL else word for word in words], delimiter, True)
    if "@" not in text:
        why = "has neither a header row with a column `email`, nor an address in its first line"
        raise RecipientsError(source=name, why=why)
    return Columns(["email", "reason"], next((one for one in _DELIMITERS if one in text), ","), False)  # as SES has it


def _split(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration) as error:
        raise _Bad(f"its quotes are not as CSV has them: {error}") from None


def _unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:2] in _FORMULA else text


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
    """A file to write to, gzipped where its name ends in `.gz`. It takes its name once the body has ended: where that raises, a
    file of that name stays as it was. A device, pipe or link is written to as it is. Raises OSError."""
    there = os.path.lexists(path)
    if there and not stat.S_ISREG(path.lstat().st_mode):
        with path.open("wb") as file, _packed(path, file) as target:
            yield target
        return
    if there:
        path.open("ab").close()  # whoever may not write to it may not replace it
    beside = path.with_name(f".mailer-{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file, _packed(path, file) as target:
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
