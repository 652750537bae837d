"""The header row of a CSV: where it is, what stands between its cells, and which column holds the addresses."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain, islice
from typing import Final, NamedTuple

from ..errors import EmptyRecipients, InvalidAddress, NoEmailColumn, RecipientsError
from ..message.address import cell, stripped
from ..report import OWN, is_report, unguarded
from .csv_table import DELIMITERS, END, Layout, fields_of
from .lines import Block
from .names import RESERVED, SEND_AT, listed, looks_like_names, near_email, rank, squeezed
from .reading import Reading
from .row import MAX_ROW_BYTES, printable

MAX_COLUMNS: Final = 1000
FILL_FILE: Final = "a CSV needs a header row with a column `email`, and a row for each recipient"
TITLE_LINES: Final = 30  # above a header row in which one is looked for, to say where it is

ADDRESSES: Final = ("email",)  # the column of a list without a header row: each line is an address, whatever else is in it

_SEP = re.compile(r'\s*"?sep=([^"\w\s]|\t)"?[;,\t|]*\s*', re.IGNORECASE)
_WHOLE_LINE = "\x1f"  # a delimiter that no list has


class Found(NamedTuple):
    header: Header
    rest: str  # the text that follows it in its block
    line: int  # on which that text starts
    odd: bool  # the text has a byte that is NUL or not of the list's encoding
    blocks: Iterator[Block]  # what follows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Layout):
    names: tuple[str, ...]  # of all columns, as they stand there; "" for a column without one
    line: int | None  # of the header row; None: there is none
    report: bool = False  # it is a campaign's report with its rows: the last columns say what became of them
    doubled: frozenset[str] = frozenset()  # names that two columns have, so that nobody can use them

    def where(self, name: str) -> int | None:
        """The index of a column that is there, as `find_header` has made sure."""
        return next(iter(places(self.names, name)), None)


def places(names: Sequence[str], name: str) -> list[int]:
    """The columns of that name, as it stands there; where there is none, in another case; then in another spelling."""
    for same in (str, str.lower, squeezed):
        if found := [index for index, one in enumerate(names) if one and same(one) == same(name)]:
            return found
    return []


def find_header(
    source: str, blocks: Iterator[Block], reading: Reading, bare: tuple[str, ...] = ADDRESSES, *, own: bool = True
) -> Found:
    """Takes as many blocks as it needs. `bare`: the columns of a list that begins with an address, and has no header row.
    `own`: `reading` was said of this list, and not of another one beside it.

    Raises NoEmailColumn, EmptyRecipients, and RecipientsError for a header of no use.
    """
    text, line, odd, delimiter = "", 1, False, reading.delimiter
    lines: list[str] = []
    found = None
    for block in blocks:
        if block.too_long:
            if not lines:
                raise RecipientsError(source=source, why=f"line {block.line} is too long for a header row")
            blocks = chain([block], blocks)
            found = _Search(source, lines, line, reading, delimiter, bare, own).header()
            break
        line = line if text else block.line
        more, broken = block.text()
        text, odd = text + more, odd or broken
        lines, line = _without_blanks(StringIO(text, newline="").readlines(), line)
        if len(lines) > 1 and (match := _SEP.fullmatch(lines[0])):
            delimiter = delimiter or match[1]
            lines, line = _without_blanks(lines[1:], line + 1)
        text = "".join(lines)
        # A header row over several lines may go on in the next block.
        if len(lines) > 1:
            found = _Search(source, lines, line, reading, delimiter, bare, own).header()
            if found or len(text) > MAX_ROW_BYTES:
                break
    else:
        if not lines:
            raise EmptyRecipients(source=source, do=FILL_FILE)
        found = _Search(source, lines, line, reading, delimiter, bare, own).header()
    if found is None:
        raise RecipientsError(source=source, why=f"the header row on line {line} opens a quote and never closes it")
    header, count = found
    return Found(header, "".join(lines[count:]), line + count, odd, blocks)


def _without_blanks(lines: list[str], line: int) -> tuple[list[str], int]:
    blank = next((index for index, one in enumerate(lines) if not one.isspace()), len(lines))
    return lines[blank:], line + blank


class _Columns(NamedTuple):
    rank: int  # how surely the addresses are in it; less is surer
    names: list[str]
    email: int
    delimiter: str
    lines: int  # that the header row takes


class _Search:
    """For the header row in lines of which the first is not blank."""

    def __init__(
        self,
        source: str,
        lines: list[str],
        line: int,
        reading: Reading,
        delimiter: str | None,
        bare: tuple[str, ...],
        own: bool,
    ) -> None:
        self._source, self._lines, self._line = source, lines, line
        self._email_column = reading.email_column
        self._reading = reading
        self._bare = bare
        self._own = own
        self._delimiters = (delimiter,) if delimiter else DELIMITERS

    def header(self) -> tuple[Header, int] | None:
        """The header row and how many lines it takes; None where it is not all there."""
        rows, problems = self._rows(0)
        columns = [found for delimiter, names, count in rows if (found := self._columns(names, delimiter, count))]
        if columns:
            return self._checked(min(columns, key=lambda one: (one.rank, -len(one.names))))
        if any(END in problem for problem in problems):
            return None
        if not rows:
            raise self._refused(f"the header row on line {self._line} cannot be read: {problems[0]}")
        names = max((names for _, names, _ in rows), key=len)
        if not (self._own and self._email_column) and (header := self._of_bare_list(names)):
            return header, 0
        raise self._missing(names)

    def _rows(self, at: int) -> tuple[list[tuple[str, list[str], int]], list[str]]:
        """The first record from a line on as each delimiter has it, with its number of lines; and why the others have none."""
        rows, problems = [], []
        for delimiter in self._delimiters:
            reader = csv.reader(islice(self._lines, at, None), delimiter=delimiter, strict=True, skipinitialspace=True)
            try:
                names = [stripped(name) for name in next(reader)]
                rows.append((delimiter, names, reader.line_num))
            except csv.Error as error:
                problems.append(str(error))
        return rows, problems

    def _columns(self, names: list[str], delimiter: str, count: int) -> _Columns | None:
        """Where the addresses are; None where these are no names of columns with one for them."""
        if is_report(names):
            return _Columns(0, names, 0, delimiter, count)
        if self._email_column is not None:
            where = places(names, self._email_column)
            if where or self._own:
                return _Columns(0, names, self._only(where, names), delimiter, count) if where else None
        ranks = [rank(name) if name else None for name in names]
        for best in (0, 1):
            if found := [index for index, one in enumerate(ranks) if one == best]:
                return _Columns(best, names, self._only(found, names), delimiter, count)
        for index in (index for index, one in enumerate(ranks) if one == 2):
            if self._has_address(index, delimiter, count):
                return _Columns(2, names, index, delimiter, count)
        return None

    def _only(self, found: list[int], names: list[str]) -> int:
        """The one of the columns; raises where there are more."""
        if len(found) > 1:
            twice = [printable(names[index]) for index in found]
            how = "rename or remove one" if len(set(twice)) == 1 or not self._own else "say which it is with --email-column"
            raise self._refused(f"has more than one column of addresses: {listed(twice)}; {how}")
        return found[0]

    def _has_address(self, index: int, delimiter: str, at: int) -> bool:
        """Whether the first row has an address in that column."""
        try:
            fields = fields_of(self._lines[at : at + 1], delimiter)
            return "@" in cell(fields[index])[1]
        except (csv.Error, StopIteration, IndexError, InvalidAddress):
            return False

    def _checked(self, columns: _Columns) -> tuple[Header, int]:
        """A column without a name is out of reach for a template; so is a name that two have."""
        names = columns.names
        if all(len(name) > 1 and name[0] == name[-1] == "'" for name in names):
            why = "has its cells in single quotes, and a CSV has double quotes"
            raise self._refused(f"{why}: write \"email\",\"name\" in place of 'email','name'")
        if is_report(names):
            names = [*map(unguarded, names[:-OWN]), *[""] * OWN]
        used = next((index for index in range(len(names), 0, -1) if names[index - 1]), 0)
        if used > MAX_COLUMNS:
            raise self._refused(f"has {used:,} columns, and {MAX_COLUMNS:,} are the most; keep those that the template uses")
        lower = Counter(name.lower() for name in names if name)
        for name in RESERVED | {SEND_AT}:
            if lower[name] > 1 and not is_report(columns.names) and name not in self._reading.columns and name != "email":
                raise self._refused(
                    f"there are two columns `{name}`; rename or remove one, or switch it off with --column {name}="
                )
        if lower[SEND_AT] and not is_report(columns.names) and SEND_AT not in self._reading.columns:
            why = "has a column `send_at`, and a campaign is sent at one time; give that with --send-at, and remove the column"
            raise self._refused(f"{why}, or keep it as data with --column send_at=")
        header = Header(
            delimiter=columns.delimiter,
            width=len(names),
            email=columns.email,
            names=tuple(names),
            line=self._line,
            report=is_report(columns.names),
            doubled=frozenset(name for name, count in Counter(names).items() if name and count > 1),
        )
        for ours, column in self._reading.columns.items():
            if column and len(found := places(names, column)) != 1 and not is_report(columns.names):
                what = f"`{printable(column, 80)}` (--column {ours}=…)"
                if found:
                    raise self._refused(f"has two columns {what}; rename or remove one")
                raise self._no_column(what, names, mapped=True)
        return header, columns.lines

    # ---- there is none ---------------------------------------------------------------------------------------------

    def _of_bare_list(self, names: Sequence[str]) -> Header | None:
        """Of a list whose first line is an address; raises where there are addresses in it, and it is no such list."""
        line = self._lines[0].strip()
        if "@" not in line:
            return None
        if len(self._bare) > 1 and _is_address(names[0]):
            delimiter = next((one for one in self._delimiters if one in line), ",")
            return Header(delimiter=delimiter, width=len(self._bare), email=0, names=self._bare, line=None)
        if _is_address(unquoted(line)):
            return Header(delimiter=_WHOLE_LINE, width=1, email=0, names=ADDRESSES, line=None, quotes=False)
        found = sum(map(_is_address, names))
        if found > 1:
            raise self._refused("has several addresses in its first line; write one a line, below a line `email`")
        if found:
            why = f"has no header row: line {self._line} has an address in it"
            raise self._refused(f"{why}; put a line above it that names the columns, as `email,name` does")
        return None

    def _missing(self, names: Sequence[str]) -> RecipientsError:
        """Why no column of addresses is known."""
        if self._email_column is None or not self._own:
            for at in range(1, min(len(self._lines), TITLE_LINES)):
                if not self._lines[at].isspace() and any(self._columns(*row) for row in _reordered(self._rows(at)[0])):
                    return self._refused(f"its header row seems to be line {self._line + at}; remove the lines above that")
            return self._no_column("", names)
        return self._no_column(f"`{printable(self._email_column, 80)}`", names)

    def _no_column(self, what: str, names: Sequence[str], *, mapped: bool = False) -> RecipientsError:
        shown = [printable(name, 80) for name in names]
        what = f"has no column {what}" if what else "has no column whose name says that it holds addresses, as `email` does"
        if not looks_like_names(shown):
            return self._refused(f"{what}, in its first line; put a header row above the rows, as `email,name` is one")
        if mapped:
            how = "Correct the name"
        elif self._own:
            how = "Rename the column that holds the addresses, or name it with --email-column"
        else:
            how = "Call the column that holds the addresses `email`"
        if not mapped and (near := near_email(names)):
            how = f"Did you mean `email` by `{printable(near, 80)}`? {how}"
        return NoEmailColumn(source=self._source, what=what, columns=", ".join(shown), how=how)

    def _refused(self, why: str) -> RecipientsError:
        return RecipientsError(source=self._source, why=why)


def _reordered(rows: list[tuple[str, list[str], int]]) -> Iterator[tuple[list[str], str, int]]:
    for delimiter, names, count in rows:
        yield names, delimiter, count


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1] else text


def _is_address(text: str) -> bool:
    try:
        cell(text)
    except InvalidAddress:
        return False
    return True
