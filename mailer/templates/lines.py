"""Text set in lines, as a reader of plain text wants it: what stands beside what, and where a line ends.

Nothing is written twice and nothing is gone through again, so that the time for it grows with the text alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_LEVELS = 5  # of lists and quotations that are indented; what is deeper stands where the fifth does


@dataclass(slots=True)
class Row:
    """A row of a table. Its cells stand on one line with a blank between them, unless one of them has lines of its own."""

    depth: int  # rows around it
    ends: int  # line ends that are to come before it
    cells: int = 0  # that have text
    begins: int | None = None  # the line end before its first text, by its place among the parts
    between: list[tuple[int, str]] = field(default_factory=list)  # place of what parts two cells, and the line end for it


class Lines:
    """Text goes in from left to right. A line end is written when text follows it, so there is none too many."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._blank = False  # is to come before the next text
        self._ends = 0  # line ends that are to come before it: 0, 1, or 2 for an empty line
        self._quotes = self._quoted = 0  # how deep in quotations; how deep the last line was
        self._indents = [""]  # of the lists that are open, each with that of the lists around it
        self._mark = ""  # of a list's item: it is to come at the beginning of the next line
        self._rows: list[Row] = []
        self._empty: list[Row] = []  # those whose cell has no text yet: always the innermost
        self._parted: Row | None = None  # the row whose next cell begins
        self._in_lines = 0  # so many rows, from the outermost, have a cell with lines of its own

    def text(self) -> str:
        return "".join(self.parts).strip() + "\n"

    # ---- words -----------------------------------------------------------------------------------

    def flow(self, text: str) -> None:
        """Text in which a run of white space is one blank."""
        words = text.split()
        if words:
            self._blank = self._blank or text[0].isspace()
            self.word(" ".join(words))
        if text[-1:].isspace():
            self._blank = True

    def word(self, text: str) -> None:
        """Text as it is, after what is to come before it."""
        if self._parted is not None:
            self._part(self._parted)
        elif not self.parts:
            self.parts.append(self._begin())
        elif self._ends:
            self._end_line()
        elif self._blank:
            self.parts.append(" ")
        if self._empty:
            for row in self._empty:
                row.cells += 1
            self._empty.clear()
        self._ends, self._blank, self._parted = 0, False, None
        self.parts.append(text)

    def keep(self, text: str) -> None:
        """Text whose blanks and line ends are kept, but for more than one empty line."""
        for number, line in enumerate(text.split("\n")):
            if number:
                self.next_line()
            if line.strip():
                self.word(line.rstrip())
            if line[-1:].isspace():
                self._blank = True

    def attach(self, text: str) -> None:
        """Text that belongs to the last word, also where a block has ended since."""
        self.parts.append(text)

    def blank(self) -> None:
        self._blank = True

    @property
    def last(self) -> str:
        """The last character, where the next word would stand right behind it."""
        beside = not (self._blank or self._ends or self._parted)
        return self.parts[-1][-1:] if beside and self.parts else ""

    # ---- lines -----------------------------------------------------------------------------------

    def end(self, lines: int = 1) -> None:
        """What follows begins a line; 2: after an empty one."""
        self._ends = max(self._ends, lines)
        self._blank = False

    def next_line(self) -> None:
        """`<br>`: the second makes an empty line, and more do not make more."""
        self._ends = min(self._ends + 1, 2)
        self._blank = False

    def _begin(self) -> str:
        """The beginning of a line."""
        indent = self._mark or self._indents[-1]
        self._mark, self._quoted = "", min(self._quotes, MAX_LEVELS)
        return "> " * self._quoted + indent

    def _line_end(self, lines: int) -> str:
        between = ("> " * min(self._quotes, self._quoted)).rstrip()  # that many both lines have
        return f"\n{between}" * (lines - 1) + "\n" + self._begin()

    def _end_line(self) -> None:
        around = len(self._rows) - len(self._empty)
        self._in_lines = max(self._in_lines, around)
        for row in self._empty:
            if row.begins is None and not row.cells:
                row.begins = len(self.parts)
        self.parts.append(self._line_end(self._ends))

    # ---- quotations and lists ----------------------------------------------------------------------

    def quote(self, step: int) -> None:
        """1 begins a quotation, -1 ends it."""
        self._quotes += step

    def item(self, mark: str) -> None:
        """An item of a list begins: `mark` stands before its first line, and blanks before the others."""
        self.end()
        self._mark = self._indents[-1] + mark
        self._indents.append(self._indents[-1] + " " * len(mark) if len(self._indents) <= MAX_LEVELS else self._indents[-1])

    def item_ends(self) -> None:
        self._mark = ""  # still there where it is empty
        self._indents.pop()
        self.end()

    @property
    def prefixed(self) -> bool:
        """Whether something stands before the text of a line."""
        return self._quotes > 0 or len(self._indents) > 1

    # ---- tables ------------------------------------------------------------------------------------

    def row(self) -> None:
        self.end()
        self._rows.append(Row(len(self._rows), self._ends))

    def cell(self) -> None:
        """A cell of the innermost row begins; the one before it is over."""
        row = self._rows[-1]
        if not (self._empty and self._empty[-1] is row):
            self._empty.append(row)
            if row.cells:
                self._parted = row

    def _part(self, row: Row) -> None:
        """Between two cells: a blank, unless the row turns out to have lines."""
        if self._mark:
            self._in_lines = max(self._in_lines, row.depth + 1)
        lines = max(self._ends, 1)
        mark = self._mark
        row.between.append((len(self.parts), self._line_end(lines)))
        self.parts.append(f" {mark.lstrip()}")

    def row_ends(self) -> None:
        row = self._rows.pop()
        if self._empty and self._empty[-1] is row:
            self._empty.pop()
        if self._parted is row:
            self._parted = None
        in_lines = self._in_lines > row.depth
        self._in_lines = min(self._in_lines, row.depth)
        if in_lines:
            for place, line_end in row.between:
                self.parts[place] = line_end
        alone = in_lines or row.cells == 1  # a row of one cell is a paragraph: mails are laid out by tables
        if row.begins is not None:
            before, _, prefix = self.parts[row.begins].rpartition("\n")
            between = before.lstrip("\n") or ("> " * min(self._quotes, MAX_LEVELS)).rstrip()
            self.parts[row.begins] = f"\n{between}" * ((2 if alone else row.ends) - 1) + f"\n{prefix}"
        if row.cells:
            self._ends, self._blank = 0, False  # what its last cell asked for
        self.end(2 if alone and row.cells else 1)
