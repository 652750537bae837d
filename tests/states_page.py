"""docs/states.md, read: its diagrams, its tables of changes, and its tables of words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = (Path(__file__).parents[1] / "docs/states.md").read_text(encoding="utf-8")


class Arrow(NamedTuple):
    was: str  # `[*]`: it was not there
    script: str
    now: str


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def diagram(title: str, *, first: bool = False) -> set[Arrow]:
    """The arrows between two states; or, with `first`, those from nothing to one."""
    block = re.search(r"```mermaid\n(.*?)```", section(title), re.DOTALL)
    assert block is not None, title
    found = re.findall(r"^ +(\S+) --> (\S+): (.+)$", block[1], re.MULTILINE)
    every = {Arrow(was, script.strip(), now) for was, now, scripts in found for script in scripts.split(",")}
    return {arrow for arrow in every if arrow.now != "[*]" and (arrow.was == "[*]") == first}


def changes(title: str) -> set[Arrow]:
    """The rows `| from | script | to | when |`, an arrow for each script and pair of states."""
    cells = [[words(cell) for cell in row[:3]] for row in rows(title, "from")]
    found = {Arrow(a, script, b) for was, scripts, now in cells for a in was for script in scripts for b in now}
    return {arrow for arrow in found if arrow.was != arrow.now}


def rows(title: str, head: str) -> list[list[str]]:
    """Those of the table of that section whose first column is called so, without the head."""
    lines = section(title).splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith(f"| {head} |"))
    end = next((place for place in range(begin, len(lines)) if not lines[place].startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[begin + 2 : end]]


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)
