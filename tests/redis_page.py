"""docs/redis.md, read: its tables of keys and of fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs/redis.md").read_text(encoding="utf-8")


def rows(head: str) -> Iterator[list[str]]:
    """Those of every table whose first columns are called so."""
    lines = PAGE.splitlines()
    for place, line in enumerate(lines):
        if line.startswith(head):
            for row in lines[place + 2 :]:
                if not row.startswith("|"):
                    break
                yield [cell.strip() for cell in row.strip("|").split(" | ")]


def documented() -> dict[str, dict[str, list[str]]]:
    """Key → field → who writes it."""
    found = dict[str, dict[str, list[str]]]()
    for key, block in re.findall(r"^### Fields of `(\w+)`\n(.*?)(?=^###? |\Z)", PAGE, re.MULTILINE | re.DOTALL):
        table = re.findall(r"^\| `([^`]+)` \| .* \| ([^|]*) \|$", block, re.MULTILINE)
        found[key] = {field: [one.strip() for one in writers.split(",")] for field, writers in table}
    return found


def pattern(text: str) -> re.Pattern[str]:
    """`<…>` and `…` stand for anything that has a character."""
    return re.compile(re.escape(re.sub(r"<\w+>|…", "\0", text)).replace("\0", ".+"), re.DOTALL)


KEYS = {row[0].strip("`"): row for row in rows("| key | in Redis |")}
FIELDS = documented()
