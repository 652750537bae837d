"""A campaign's report with its rows: a table for spreadsheets, and a list again with the data that it was made of.

What a spreadsheet would run as a formula is kept a text by an apostrophe, in every cell and name of a column. Reading such a
table takes that apostrophe away again, and only that one: it stands where it was put by rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

LINE: Final = ("id", "row", "to", "state", "ses_message_id", "reason", "attempts", "updated_at")  # what became of a row
EXTRAS: Final = ("cc", "bcc", "tags")
OWN: Final = len(EXTRAS) + len(LINE)  # columns at the end that are no data

GUARD: Final = "'"
# What a spreadsheet takes for the beginning of a formula, also full-width and after what it may take for the end of a cell.
_BEGINS: Final = frozenset("=+-@＝＋－＠\t\r")
_ENDS: Final = frozenset(";,\t\r\n|")
_BETWEEN: Final = re.compile("[\\s\"'\u200b\ufeff]")
_RISKY = re.compile("[=+\\-@＝＋－＠\t\r]")  # a cell without any of these needs no look


def header(columns: Sequence[str]) -> list[str]:
    """The names of a table's columns; `columns` are those of the data. One of ours that is called like one of these is marked."""
    names = ("email", *columns, *EXTRAS)
    return [*map(guarded, names), *(f"report_{name}" if name in names else name for name in LINE)]


def is_report(names: Sequence[str]) -> bool:
    """Whether these are the columns of such a table."""
    if len(names) <= OWN or names[0] != "email" or tuple(names[-OWN : -len(LINE)]) != EXTRAS:
        return False
    return all(name in (one, f"report_{one}") for name, one in zip(names[-len(LINE) :], LINE, strict=True))


def guarded(text: str) -> str:
    if _RISKY.search(text) is None:
        return text
    return "".join(GUARD + char if begins else char for char, begins in _begun(text))


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    if GUARD not in text or _RISKY.search(text) is None:
        return text
    kept: list[str] = []
    for char, begins in _begun(text):
        if begins and kept and kept[-1] == GUARD:
            kept.pop()
        kept.append(char)
    return "".join(kept)


def _begun(text: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether a formula may begin with it. An apostrophe more or less before it changes nothing."""
    beginning = True
    for char in text:
        yield char, beginning and char in _BEGINS
        beginning = char in _ENDS or (beginning and _BETWEEN.match(char) is not None)
