"""README.md and docs/: their blocks of code, their headings and links.

A block that cannot run has a comment before it, which no reader sees: `<!-- not run: needs Docker -->`, and
`<!-- not typed: … -->` where it is Python that type checkers cannot follow, `<!-- not run, not typed: … -->` for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
_FENCE = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (not run|not typed|not run, not typed): (.+) -->\n\Z")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]\[]*\]\(([^()\s]+)\)|!\[[^\]]*\]\(([^()\s]+)\)")
_COMMAND = re.compile(r"\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    page: str
    line: int
    heading: str  # the one above it
    language: str
    source: str
    not_run: str = ""  # why; "" where it is run
    not_typed: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Step(NamedTuple):
    command: str
    shown: list[str]  # lines of its output; … stands for anything


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text, found = text_of(page), list[Block]()
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = _HEADING.findall(_FENCE.sub("", before))
        mark = _MARK.search(before)
        found.append(
            Block(
                page=page,
                line=before.count("\n") + 1,
                heading=headings[-1][1] if headings else "",
                language=match[2],
                source=match[3],
                not_run=mark[2] if mark and mark[1].startswith("not run") else "",
                not_typed=mark is not None and mark[1].endswith("not typed"),
            )
        )
    return found


def all_blocks(language: str = "") -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if language in ("", block.language)]


def steps(block: Block) -> list[Step]:
    """The commands of a console, each with what it printed."""
    return [Step(command, shown.splitlines()) for command, shown in _COMMAND.findall(block.source)]


def prose(page: str) -> str:
    """The page without blocks of code, with as many lines."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text_of(page))


def anchors(page: str) -> set[str]:
    """What GitHub calls the headings in an address."""
    found, seen = set[str](), dict[str, int]()
    for _, heading in _HEADING.findall(prose(page)):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
    return found


def links(page: str) -> Iterator[tuple[str, str]]:
    """File and heading of each link to something of this repository, as they are written."""
    for target, image in _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page))):
        address = target or image
        if not re.match(r"[a-z]+:", address):
            file, _, heading = address.partition("#")
            yield file, heading
