"""What a reader made of a list: for a person to look at before anything is sent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

from ..message.email import Outcome
from .encoding import By
from .header import Header
from .mappings import Mappings
from .names import MAX_COLUMN, listed, near_email, variable
from .reading import Reading
from .reserved import NAMES, Reserved
from .row import BadRow, Recipient, Row, printable

SAMPLE_ROWS: Final = 20  # usable rows that are kept to be shown
MOST_REASONS: Final = 100  # that are told apart
SHOWN_REASONS: Final = 3
SHOWN_NAMES: Final = 8  # of columns, in an error
FIRST_LINES: Final = 5  # of each reason
OTHER: Final = "for other reasons"

_WHERE = re.compile(r"\Aline \d+: ")
_QUOTED = re.compile(r"""\"'\"|'.'|'[^']*'""")
_ONE = 3  # characters of one in quotes
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}


class Format(StrEnum):
    CSV = "CSV"
    ADDRESSES = "addresses, one a line"
    NDJSON = "NDJSON"
    ROWS = "rows of a program"


class Role(StrEnum):
    """What a column is for."""

    ADDRESS = "address"
    CC = "cc"
    BCC = "bcc"
    TAGS = "tags"
    DATA = "data"
    DOUBLED = "doubled"  # another column has the same name, so that no template can use it
    UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str  # as the list has it, and as a template has it in `row["…"]`
    role: Role
    variables: tuple[str, ...]  # under which a template has its value


class Why(NamedTuple):
    """Rows that cannot be used for the same reason."""

    reason: str  # with … in place of what differs from row to row
    rows: int
    first: tuple[int, ...]  # the first lines of a file; of a program's rows, their numbers


class LeftOut(NamedTuple):
    """A list that is left out, as it was read."""

    source: str  # what errors call it
    addresses: int  # each counted once
    rows: int
    unusable: int  # rows without an address that can be used
    why: str  # half a sentence about those; "" where there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """`columns` are those of the header row; of NDJSON and a program's rows, the keys of the first ones.

    What is known grows while the list is read: the counts are of the rows so far.
    """

    source: str  # what errors call the list
    format: Format
    encoding: str | None = None  # as people write it; None where a program gave the rows
    encoding_by: By | None = None  # what decided
    examples: tuple[str, ...] = ()  # where it was guessed: words with letters outside ASCII, as they were read
    doubtful: bool = False  # they look like no language that is written in that encoding
    delimiter: str | None = None
    header_line: int | None = None  # None: there is no header row
    columns: tuple[Column, ...] = ()
    rows: int = 0
    usable: int = 0
    duplicates: int = 0
    rejected: int = 0
    reasons: tuple[Why, ...] = ()  # of those that are rejected, the commonest first
    sample: tuple[Recipient, ...] = ()  # the first that can be sent to

    @property
    def variables(self) -> frozenset[str]:
        """All that a template can use of a row, `row["…"]` aside."""
        return frozenset({"email", "row", *(name for column in self.columns for name in column.variables)})

    @property
    def doubled(self) -> tuple[str, ...]:
        """Names that more than one column has."""
        return tuple(dict.fromkeys(column.name for column in self.columns if column.role is Role.DOUBLED))

    @property
    def plain(self) -> bool:
        """Every row can be sent to, and nothing was guessed: the list is as it is documented."""
        taken_for_data = any(name.lower() in NAMES for name in self.named(Role.DATA))
        known = self.named(Role.ADDRESS) in (("email",), ()) and self.encoding_by is not By.LOOKS
        return known and not taken_for_data and self.usable == self.rows

    def named(self, role: Role) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.role is role)

    def sentences(self) -> list[str]:
        """What a person should know: how the list was read, how many of its rows can be sent to, and why the others cannot."""
        parts = [self.format.value]
        if self.encoding is not None:
            instance = f", for instance: {', '.join(self.examples)}" if self.examples else ""
            guess = f" (guessed{instance}; --encoding says another)" if self.encoding_by is By.LOOKS else ""
            parts.append(self.encoding + guess)
        if self.format is Format.CSV:
            parts.append(f"{_DELIMITERS.get(self.delimiter or '', self.delimiter)} between the cells")
        parts += [f"{role.value} in {listed(names)}" for role in _SHOWN if (names := self.named(role))]
        data = [name for name in self.named(Role.DATA) if name.lower() in NAMES]
        if data:
            parts.append(f"{listed(data)} taken for data, as the first value in it is no address or name=value")
        counts = [f"{self.usable:,} of {self.rows:,} rows can be sent to"]
        counts += [f"{n:,} {what}" for n, what in ((self.duplicates, "duplicate"), (self.rejected, "rejected")) if n]
        return [f"{self.source}: {', '.join(parts)}", ", ".join(counts), *map(self._why, self.reasons[:SHOWN_REASONS])]

    def _why(self, why: Why) -> str:
        place = "row" if self.format is Format.ROWS else "line"
        more = ", …" if why.rows > len(why.first) else ""
        return f"{why.rows:,} rejected: {why.reason} ({place} {', '.join(map(str, why.first))}{more})"


_SHOWN: Final = (Role.ADDRESS, Role.CC, Role.BCC, Role.TAGS)


@dataclass(slots=True)
class Tally:
    """Counts rows while they are read. Bounded, whatever the list."""

    rows: int = 0
    duplicates: int = 0
    rejected: int = 0
    sample: list[Recipient] = field(default_factory=list)
    _reasons: Counter[str] = field(default_factory=Counter)
    _first: dict[str, list[int]] = field(default_factory=dict)

    def add(self, rows: Sequence[Row], lines: Sequence[int]) -> None:
        self.rows += len(rows)
        for index, row in enumerate(rows):
            if not isinstance(row, BadRow):
                continue
            if row.outcome is Outcome.DUPLICATE:
                self.duplicates += 1
                continue
            self.rejected += 1
            self._count(row.reason, lines[index] if lines else row.row)
        if len(self.sample) < SAMPLE_ROWS:
            good = (row for row in rows if isinstance(row, Recipient))
            self.sample += islice(good, SAMPLE_ROWS - len(self.sample))

    def _count(self, reason: str, line: int) -> None:
        reason = general(reason)
        if reason not in self._reasons and len(self._reasons) >= MOST_REASONS:
            reason = OTHER
        self._reasons[reason] += 1
        first = self._first.setdefault(reason, [])
        if len(first) < FIRST_LINES:
            first.append(line)

    def reasons(self) -> tuple[Why, ...]:
        return tuple(Why(reason, rows, tuple(self._first[reason])) for reason, rows in self._reasons.most_common())


def nothing_to_use(found: Understood) -> str:
    """Of a list that cannot be used: what its rows have, and what is likely meant; the end of a sentence."""
    names = [column.name for column in found.columns if column.name]
    parts = [f"its rows have: {listed(map(printable, names[:SHOWN_NAMES]))}" + (" and others" if names[SHOWN_NAMES:] else "")]
    if not names:
        return "give it a column `email`."
    if not found.named(Role.ADDRESS) and (near := near_email(names)):
        parts.append(f"did you mean `email` by `{printable(near, MAX_COLUMN)}`?")
        return "; ".join(parts)
    return f"{'; '.join(parts)}."


def general(reason: str) -> str:
    """A reason without what differs from row to row: its line, and what the row has in it. A single character stays: it is
    what the address must not have."""
    return _QUOTED.sub(lambda found: found[0] if len(found[0]) == _ONE else "…", _WHERE.sub("", reason, count=1))


def columns_of_header(header: Header, reading: Reading, reserved: Reserved) -> tuple[Column, ...]:
    mapped: dict[int, list[str]] = {}
    ours: dict[int, Role] = {}
    for name, column in reading.columns.items():
        if column and (index := header.where(column)) is not None:
            if name in NAMES:
                ours[index] = Role(name)
            else:
                mapped.setdefault(index, []).append(name)
    found = []
    for index, name in enumerate(header.names):
        role, variables = _role(index, name, header, reading, reserved), tuple[str, ...]()
        if role is Role.DATA:
            variables = tuple(dict.fromkeys(filter(None, (variable(name), *mapped.get(index, ())))))
        elif role is Role.ADDRESS:
            variables = ("email",)
        found.append(Column(name=name, role=ours.get(index, role), variables=variables))
    return tuple(found)


def _role(index: int, name: str, header: Header, reading: Reading, reserved: Reserved) -> Role:
    if index == header.email:
        return Role.ADDRESS
    if not name:
        return Role.UNNAMED
    if name in header.doubled:
        return Role.DOUBLED
    if name.lower() in NAMES and name.lower() not in reading.columns and reserved.known(name.lower()):
        return Role(name.lower())
    return Role.DATA


def columns_of_rows(sample: Sequence[Recipient], mappings: Mappings) -> tuple[Column, ...]:
    """`sample` are the first rows that can be used; where there are none, all keys of the first rows are shown."""
    names = dict.fromkeys(name for row in sample for name in row.data) if sample else mappings.keys
    found = [Column(name=name, role=Role.ADDRESS, variables=("email",)) for name in mappings.addressed]
    names = {name: None for name in names if name not in mappings.addressed}
    return tuple(found + [Column(name=name, role=Role.DATA, variables=tuple(filter(None, (variable(name),)))) for name in names])
