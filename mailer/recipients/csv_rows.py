"""CSV → rows.

The csv module does the parsing, in its strict mode: what follows a closing quote must be a delimiter, and a quote that is open
at the end is an error. So a stray quote shows a line or two on, not a million rows on. The row it is in is rejected, and reading
goes on with the line after the one on which that row started: nobody in between is lost.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from operator import itemgetter
from typing import Any, Final

from ..address import normalise
from ..errors import EmptyRecipients, InvalidAddress, NoEmailColumn, RecipientsError
from .blocks import Block
from .row import MAX_ROW_BYTES, RESERVED, TOO_LONG, Group, Recipient, Refused, Row, extras, printable, rejected

DELIMITERS: Final = (",", ";", "\t")  # in the order of preference

_END = "unexpected end of data"  # what the csv module says of a quote that is open at the end
_OPEN = f"opens a quote and does not close it within {MAX_ROW_BYTES:,} characters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header row says."""

    delimiter: str
    width: int  # columns
    email: int  # index of the column
    extras: tuple[int | None, int | None, int | None] | None  # indices of cc, bcc and tags; None where there is none of them
    names: tuple[str, ...]  # of the columns that are template variables
    pick: Callable[[list[str]], Sequence[str]]  # the fields of those columns


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of which there are no fields."""

    beginning: str
    why: str


@dataclass(slots=True)
class Records:
    """What one stretch of text holds."""

    lines: Sequence[int]  # the physical line on which each row starts
    found: Iterable[list[str] | Unreadable]  # the fields of each, to be taken once; no fields for a blank line
    rest: str = ""  # the beginning of a row that the text does not finish
    rest_line: int = 0
    nul: bool = False  # there is a NUL byte somewhere in it


def csv_rows(source: str, blocks: Iterator[Block]) -> Iterator[Group]:
    """Rows as they come. Raises NoEmailColumn, EmptyRecipients, NotUtf8, and RecipientsError for a header that is no use."""
    # Rows are bounded here, so the module's own limit of 131,072 characters a field is only in the way.
    csv.field_size_limit(max(csv.field_size_limit(), 4 * MAX_ROW_BYTES))
    header, text, line = _header(source, blocks)
    row = 0
    records = parse(text, line, header, final=False)
    for block in blocks:
        group = _check(records, header, row, len(block.data))
        yield group
        row += len(group.rows)
        text, line = records.rest, records.rest_line
        if block.too_long:
            records = parse(text, line, header, final=True)
            too_long = Unreadable(block.data.decode(errors="replace"), TOO_LONG)
            records = Records([*records.lines, block.line], [*records.found, too_long], nul=records.nul)
        else:
            records = parse(text + block.text(source), line if text else block.line, header, final=False)
    group = _check(records, header, row, 0)
    yield group
    yield _check(parse(records.rest, records.rest_line, header, final=True), header, row + len(group.rows), 0)


# ---- the header ----------------------------------------------------------------------------------------------------


def _header(source: str, blocks: Iterator[Block]) -> tuple[Header, str, int]:
    """The header, the text that follows it in its block, and the line on which that text starts."""
    text, line = "", 1
    for block in blocks:
        if block.too_long:
            raise RecipientsError(source=source, why=f"line {block.line} is too long for a header row")
        line = line if text else block.line
        text += block.text(source)
        lines = StringIO(text, newline="").readlines()
        blank = next((index for index, one in enumerate(lines) if not one.isspace()), len(lines))
        lines, line = lines[blank:], line + blank
        text = "".join(lines)
        # A header row over several lines may go on in the next block.
        if lines and ((used := _try_header(source, lines, line)) or len(text) > MAX_ROW_BYTES):
            break
    else:
        if not text:
            raise EmptyRecipients(source=source)
        used = None
    if used is None:
        raise RecipientsError(source=source, why=f"the header row on line {line} opens a quote and never closes it")
    header, count = used
    return header, "".join(lines[count:]), line + count


def _try_header(source: str, lines: list[str], line: int) -> tuple[Header, int] | None:
    """The header and how many lines it takes; None where it is not all there.

    The delimiter is the one under which there is a column `email`, and most columns.
    """
    best: tuple[list[str], str, int] | None = None
    columns: list[str] = []
    problems = []
    for delimiter in DELIMITERS:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            names = [name.strip() for name in next(reader)]
        except csv.Error as error:
            problems.append(str(error))
            continue
        columns = max(columns, names, key=len)
        if any(name.lower() == "email" for name in names) and (best is None or len(names) > len(best[0])):
            best = names, delimiter, reader.line_num
    if best is not None:
        return _layout(source, *best[:2]), best[2]
    if any(_END in problem for problem in problems):
        return None
    if not columns:
        raise RecipientsError(source=source, why=f"the header row on line {line} cannot be read: {problems[0]}")
    raise NoEmailColumn(source=source, columns=printable(", ".join(columns)))


def _layout(source: str, names: list[str], delimiter: str) -> Header:
    """A column without a name is out of reach for a template, so it is left out; a name that two have is an error."""
    keys = [name.lower() if name.lower() in RESERVED else name for name in names]
    where = {key: index for index, key in enumerate(keys)}
    if twice := [key for index, key in enumerate(keys) if key and where[key] != index]:
        raise RecipientsError(source=source, why=f"there are two columns `{printable(twice[0], 80)}`; rename or remove one")
    variables = {key: index for key, index in where.items() if key and key not in RESERVED}
    others = (where.get("cc"), where.get("bcc"), where.get("tags"))
    return Header(
        delimiter=delimiter,
        width=len(names),
        email=where["email"],
        extras=None if others == (None, None, None) else others,
        names=tuple(variables),
        pick=_picker(*variables.values()),
    )


def _picker(*columns: int) -> Callable[[list[str]], Sequence[str]]:
    if len(columns) > 1:
        return itemgetter(*columns)
    # itemgetter of one index gives the item itself, and of none there is none.
    return lambda fields: [fields[index] for index in columns]


# ---- rows ----------------------------------------------------------------------------------------------------------


def parse(text: str, line: int, header: Header, *, final: bool) -> Records:
    """Rows of `text`, whose first line is `line`. Unless `final`, a row that is open at its end is handed back as `rest`."""
    nul = "\0" in text
    if '"' not in text:
        return _parse_plain(text, line, header.delimiter, nul=nul)
    lines = StringIO(text, newline="").readlines()
    starts: list[int] = []
    found: list[list[str] | Unreadable] = []
    at = 0
    while at < len(lines):
        at, problem = _parse_from(at, lines, line, header, starts, found)
        if problem is None:
            break
        if problem == _OPEN and not final and sum(map(len, lines[at:])) <= MAX_ROW_BYTES:
            return Records(starts, found, "".join(lines[at:]), line + at, nul=nul)
        starts.append(line + at)
        found.append(Unreadable(lines[at], problem))
        at += 1
    return Records(starts, found, nul=nul)


def _parse_plain(text: str, line: int, delimiter: str, *, nul: bool) -> Records:
    """Without a quote a row is a line, and a field what lies between delimiters: a fifth of the csv module's time."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.removesuffix("\n").split("\n") if text else []
    # One by one: thousands of lists at a time would set the garbage collector to work.
    return Records(range(line, line + len(lines)), (one.split(delimiter) if one else [] for one in lines), nul=nul)


def _parse_from(
    at: int, lines: list[str], line: int, header: Header, starts: list[int], found: list[list[str] | Unreadable]
) -> tuple[int, str | None]:
    """Reads on from lines[at] to the end, or to the first row that cannot be trusted: where that is, and why not."""
    reader = csv.reader(map(lines.__getitem__, range(at, len(lines))), delimiter=header.delimiter, strict=True)
    width, base = header.width, at
    try:
        for fields in reader:
            end = base + reader.line_num
            if end - at > 1 and (doubt := _doubt(fields, lines[at:end], width)):
                return at, doubt
            starts.append(line + at)
            found.append(fields)
            at = end
    except csv.Error as error:
        return at, _OPEN if _END in str(error) else f"its quotes are not as CSV has them: {error}"
    return at, None


def _doubt(fields: list[str], lines: list[str], width: int) -> str | None:
    """Why a row over several lines is more likely a stray quote that has swallowed its neighbours; None where it is not."""
    if len(fields) != width:
        return f"{_counts(fields, width)}, read over {len(lines)} lines; is a quote missing?"
    if sum(map(len, lines)) > MAX_ROW_BYTES:
        return TOO_LONG
    return None


def _counts(fields: list[str], width: int) -> str:
    return f"has {len(fields)} field{'s' * (len(fields) != 1)}, and the header row has {width}"


def _check(records: Records, header: Header, row: int, size: int) -> Group:
    """Fields → rows, numbered from `row` + 1."""
    email, width, names, pick, extra = header.email, header.width, header.names, header.pick, header.extras
    nul = records.nul
    rows: list[Row] = []
    lines: list[int] = []
    for line, fields in zip(records.lines, records.found, strict=True):
        if isinstance(fields, list) and (not fields or (len(fields) == 1 and fields[0].isspace())):
            continue
        row += 1
        lines.append(line)
        try:
            if isinstance(fields, Unreadable):
                raise Refused(fields.why)
            if len(fields) != width:
                raise Refused(_counts(fields, width))
            if nul and any("\0" in one for one in fields):
                raise Refused("has a NUL byte in it")
            address, data = normalise(fields[email]), dict(zip(names, pick(fields), strict=True))
            if extra is None:
                rows.append(Recipient(row, address, data))
            else:
                rows.append(Recipient(row, address, data, *_extras(fields, *extra)))
        except (InvalidAddress, Refused) as error:
            rows.append(rejected(row, _shown(fields, email), f"line {line}: ", str(error)))
    return Group(rows, lines, size)


def _shown(fields: list[str] | Unreadable, email: int) -> str:
    """What a bad row shows of itself: its address if it is where it should be."""
    if isinstance(fields, Unreadable):
        return fields.beginning.rstrip("\r\n")
    return fields[email] if len(fields) > email else fields[0]


def _extras(fields: list[str], *columns: int | None) -> Any:
    return extras(*("" if index is None else fields[index] for index in columns))
