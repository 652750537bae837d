"""Text of a CSV → records, in a time that grows with its length and not faster, whatever its quotes are.

The csv module does the parsing, in its strict mode: what follows a closing quote must be a delimiter, and a quote that is open
at the end is an error. So a stray quote shows a line or two on, not a million rows on. The row it is in is rejected, and reading
goes on with the line after the one on which that row started: nobody in between is lost.

To start again at each such line would read what follows it once for each. So once a text has a row that is wrong, the rest of
it is read line by line (`_Careful`): what a line does that begins inside quotes does not depend on where they were opened.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import accumulate
from typing import Final

from .row import MAX_ROW_BYTES

DELIMITERS: Final = (",", ";", "\t", "|")  # in the order of preference

END: Final = "unexpected end of data"  # what the csv module says of a quote that is open at the end
_OPEN = "opens a quote and does not close it"
_LONG = f"{_OPEN} within {MAX_ROW_BYTES:,} characters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What parsing has to know of the header row."""

    delimiter: str
    width: int  # columns
    email: int  # index of the column of addresses
    quotes: bool = True  # have a meaning


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
    odd: bool = False  # a byte somewhere in it is NUL or not of the list's encoding
    formulas: bool = False  # a cell may be ="x"
    longest: int = MAX_ROW_BYTES  # characters of a row, at most


def parse(text: str, line: int, layout: Layout, *, final: bool, odd: bool = False) -> Records:
    """Rows of `text`, whose first line is `line`. Unless `final`, a row that is open at its end is handed back as `rest`."""
    odd = odd or "\0" in text
    if '"' not in text or not layout.quotes:
        return _parse_plain(text, line, layout.delimiter, odd=odd)
    lines = StringIO(text, newline="").readlines()
    starts: list[int] = []
    found: list[list[str] | Unreadable] = []
    at, right = _parse_while_right(lines, line, layout, starts, found)
    if not right:
        careful = _Careful(lines, layout)
        while at < len(lines):
            fields, end = careful.read(at, final=final)
            if fields is None:
                return Records(starts, found, "".join(lines[at:]), line + at, odd=odd, formulas='="' in text)
            starts.append(line + at)
            found.append(fields)
            at = end
    return Records(starts, found, odd=odd, formulas='="' in text, longest=len(text))


def fields_of(lines: Iterable[str], delimiter: str, *, strict: bool = True) -> list[str]:
    """The fields of the first record. Raises csv.Error; StopIteration where there is none."""
    return next(csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=True))


def _parse_plain(text: str, line: int, delimiter: str, *, odd: bool) -> Records:
    """Without a quote a row is a line, and a field what lies between delimiters: a fifth of the csv module's time."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.removesuffix("\n").split("\n") if text else []
    # One by one: thousands of lists at a time would set the garbage collector to work.
    found = (one.split(delimiter) if one else [] for one in lines)
    return Records(range(line, line + len(lines)), found, odd=odd, longest=max(map(len, lines), default=0))


def _parse_while_right(
    lines: list[str], line: int, layout: Layout, starts: list[int], found: list[list[str] | Unreadable]
) -> tuple[int, bool]:
    """Reads to the end, or to the first row that cannot be trusted: the index of its line, and whether all were right."""
    reader = csv.reader(lines, delimiter=layout.delimiter, strict=True, skipinitialspace=True)
    at = 0
    try:
        for fields in reader:
            end = reader.line_num
            if end - at > 1 and (len(fields) != layout.width or sum(map(len, lines[at:end])) > MAX_ROW_BYTES):
                return at, False
            starts.append(line + at)
            found.append(fields)
            at = end
    except csv.Error:
        return at, False
    return at, True


class _Inside:
    """What lines do that begin inside quotes, each looked at once."""

    def __init__(self, lines: list[str], layout: Layout) -> None:
        self._lines, self._layout = lines, layout
        self._first = self._end = 0  # all lines from the one to before the other stay inside
        self._fields = [0]  # that they add together, from the first on
        self._addresses = [0]  # how many of them have an address where a row has it
        self._ends = False  # the line after them does not stay inside
        self.why = ""  # of the line that does not stay inside: why it is wrong; "" where the quotes end there as they should
        self.last: list[str] = []  # its fields

    def end(self, at: int) -> int | None:
        """The first line from `at` on, which grows from call to call, that does not stay inside; None where all do."""
        if at > self._end:
            self._first = self._end = at
            self._fields, self._addresses, self._ends = [0], [0], False
        while not self._ends and self._end < len(self._lines):
            text = '"' + self._lines[self._end]
            try:
                self.last, self.why = fields_of([text], self._layout.delimiter), ""
            except csv.Error as error:
                if END in str(error):
                    more = fields_of([text], self._layout.delimiter, strict=False)
                    self._fields.append(self._fields[-1] + len(more) - 1)
                    self._addresses.append(self._addresses[-1] + self.has_address(self._end))
                    self._end += 1
                    continue
                self.last, self.why = [], str(error)
            self._ends = True
        return self._end if self._ends else None

    def fields(self, at: int) -> int:
        """How many the lines from `at` to the end add."""
        return self._fields[-1] - self._fields[at - self._first] + len(self.last) - 1

    def addresses(self, at: int) -> int:
        """How many of the lines from `at` to the end are likely rows of their own."""
        return self._addresses[-1] - self._addresses[at - self._first] + self.has_address(self._end)

    def has_address(self, at: int) -> bool:
        fields = self._lines[at].split(self._layout.delimiter, self._layout.email + 1)
        return len(fields) > self._layout.email and "@" in fields[self._layout.email]


class _Careful:
    """Rows one at a time, from a text in which at least one is wrong."""

    def __init__(self, lines: list[str], layout: Layout) -> None:
        self._lines, self._layout = lines, layout
        self._inside = _Inside(lines, layout)
        self._ends = [0, *accumulate(map(len, lines))]  # characters before each line

    def read(self, at: int, *, final: bool) -> tuple[list[str] | Unreadable | None, int]:
        """The row that begins with a line, and the line after it; None where more text is needed to tell."""
        lines, delimiter = self._lines, self._layout.delimiter
        try:
            return fields_of(lines[at : at + 1], delimiter), at + 1
        except csv.Error as error:
            if END not in str(error):
                if (fields := _with_blanks(lines[at], delimiter)) is not None:
                    return fields, at + 1
                return self._wrong(at, f"its quotes are not as CSV has them: {error}")
        end = self._inside.end(at + 1)
        if end is None:
            if not final and self._ends[-1] - self._ends[at] <= MAX_ROW_BYTES:
                return None, at
            return self._wrong(at, _LONG if self._ends[-1] - self._ends[at] > MAX_ROW_BYTES else _OPEN)
        if self._ends[end + 1] - self._ends[at] > MAX_ROW_BYTES:
            return self._wrong(at, _LONG)
        if self._inside.why:
            return self._wrong(at, f"its quotes are not as CSV has them: {self._inside.why}")
        count = len(fields_of(lines[at : at + 1], delimiter, strict=False)) + self._inside.fields(at + 1)
        if why := self._doubt(at, end, count):
            return self._wrong(at, why)
        return fields_of(lines[at : end + 1], delimiter), end + 1

    def _doubt(self, at: int, end: int, count: int) -> str:
        """Why a row over several lines is more likely a stray quote that has swallowed its neighbours; "" where it is not."""
        width = self._layout.width
        # The first field of the last line is the end of one that began before it, so it is no cell of its own.
        cells = self._inside.last[1:]
        too_many = count > width and (count - width > len(cells) or any(map(str.strip, cells[width - count :])))
        if not too_many and not (count < width and self._inside.addresses(at + 1)):
            return ""
        return f"{counts(count, width)}, read over {end + 1 - at} lines; is a quote missing?"

    def _wrong(self, at: int, why: str) -> tuple[Unreadable, int]:
        return Unreadable(self._lines[at], why), at + 1


def _with_blanks(line: str, delimiter: str) -> list[str] | None:
    """The fields of a line with blanks between a closing quote and the delimiter, as in `"Ana" ,x`; None where it is another one.

    Readers that take such a line at all agree on its fields, but for the blanks, which no value keeps here.
    """
    bare = re.escape(delimiter)
    field = re.compile(rf' *("(?:[^"]|"")*+")[ \t]*(?=[{bare}\r\n]|$)|[^{bare}"\r\n]*')
    found, at = list[str](), 0
    while (match := field.match(line, at)) is not None:
        found.append(match[1] or match[0])
        at = match.end()
        if at == len(line) or line[at] in "\r\n":
            return fields_of([delimiter.join(found)], delimiter)
        if line[at] != delimiter:
            return None
        at += 1
    return None


def counts(fields: int, width: int) -> str:
    return f"has {fields} field{'s' * (fields != 1)}, and the header row has {width}"
