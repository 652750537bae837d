"""Markdown: generated blocks between markers, tables, code in sentences."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

WIDTH = 120
_BLOCK = re.compile(r"(<!-- generated: ([^>]+?) -->\n).*?(<!-- end -->\n)", re.DOTALL)
# In a help text: options, variables, tables of mailer.toml, URLs, a lone hyphen and quoted examples are code.
_CODE = re.compile(
    r"""`[^`]*`|--[a-z][\w-]*|\bMAILER_\w+|\[senders\.NAME\]|\bs3://\S+\w|(?<= )-(?= for standard)|(?<= with )-(?=,)"""
    r"""|'[^']*[{;:][^']*'"""
)


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """The page with each block between its markers. Raises ValueError where the page and the blocks are not the same set."""
    there = [match[2] for match in _BLOCK.finditer(text)]
    if sorted(there) != sorted(blocks):
        raise ValueError(f"the page has the blocks {sorted(there)}, and not {sorted(blocks)}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]].strip()}\n\n{match[3]}", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(text: str) -> str:
    return f"`{text}`"


def codes(values: Iterable[object]) -> str:
    return ", ".join(code(str(value)) for value in values)


def with_code(text: str) -> str:
    """A help text, with what is code in backticks."""
    return _CODE.sub(lambda match: match[0] if match[0].startswith("`") else code(match[0].strip("'")), text)


def paragraphs(text: str) -> str:
    """Each paragraph wrapped."""
    found = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))
    return "\n\n".join(textwrap.fill(part, WIDTH, break_long_words=False, break_on_hyphens=False) for part in found)
