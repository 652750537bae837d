"""The documents that are generated from the code: `python -m tests.docs` writes them, `make docs-text` runs it.

Each generator is a function from the present text of a file to the text that it should have. In a page of Markdown only what
stands between markers is generated; all around it is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from . import cli, example, metrics, settings

ROOT = Path(__file__).parents[2]

GENERATORS: Mapping[str, Callable[[str], str]] = {
    "docs/settings.md": settings.page,
    "deploy/mailer.toml.example": example.file,
    "docs/cli.md": cli.page,
    "docs/metrics.md": metrics.page,
}


def generated(name: str) -> str:
    """What the file should have. Raises ValueError where it lacks a marker."""
    return GENERATORS[name]((ROOT / name).read_text(encoding="utf-8"))
