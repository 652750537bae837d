"""docs/settings.md, from the fields of Settings and Sender."""

from __future__ import annotations

from collections.abc import Sequence

from mailer.message.sender import ListUnsubscribe, Sender
from mailer.settings import SUBJECTS, Settings

from .fields import Described, fields_of
from .markdown import code, fill, table


def by_subject() -> dict[str, list[Described]]:
    """Title of the subject → its settings."""
    found: dict[str, list[Described]] = {}
    for one in fields_of(Settings):
        if title := SUBJECTS.get(one.name):
            found[title] = rows = []
        rows.append(one)
    return found


def page(text: str) -> str:
    blocks = {f"settings: {title}": _settings(some) for title, some in by_subject().items()}
    blocks["sender"] = _keys(list(fields_of(Sender)))
    blocks["list_unsubscribe"] = _keys(list(fields_of(ListUnsubscribe)))
    return fill(text, blocks)


def _settings(some: Sequence[Described]) -> str:
    rows = [(code(f"MAILER_{one.name.upper()}"), one.values, one.shown_default, one.description) for one in some]
    return table(("variable", "values", "default", "meaning"), rows)


def _keys(some: Sequence[Described]) -> str:
    rows = [(code(one.name), one.values, one.shown_default, one.description) for one in some]
    return table(("key", "values", "default", "meaning"), rows)
