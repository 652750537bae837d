"""Everything that is thrown at a worker: messages and campaigns by name. Whoever adds to a corpus of this folder adds to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mailer import Campaign, Email

from . import bodies, lists, mime, templates

FROM = "Letter <letter@example.com>"
BODY_CHARS = 250_000
MIME_BYTES = 1_000_000
CSV_BYTES, NDJSON_BYTES = 50_000, 600_000  # of a list: some thousand rows, or some of the largest


def messages() -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of one message each."""
    for group in (templates.SIZES, templates.STEPS, templates.SLOW, templates.MEMORY):
        for name, source in group.items():
            yield name, {"html": source, "data": templates.DATA}
    for name in bodies.PIECES:
        yield f"{name}, as it is", {"html": bodies.body(name, BODY_CHARS)}
    yield "a body of 4 MB", {"html": "<p>x</p>" * (1 << 19)}
    yield "a text of 4 MB", {"text": "x\n" * (1 << 21)}
    yield "data of 1 MB", {"html": "{{ a }}", "data": {"a": ["<"] * 200_000}}
    for name in mime.HOSTILE:
        yield f"MIME: {name}", {"raw": mime.hostile(name, MIME_BYTES)}


def campaigns(folder: Path) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """The fields of a campaign, and its list, each. `folder`: for lists that are files."""
    for name in ("lists in lists", "tables in tables", "formatting in formatting"):
        half = bodies.body(name, BODY_CHARS // 2)
        yield f"{name}, in rows", {"html": "<p>{{ a|safe }}</p>"}, rows(20, {"a": half})
    yield "two loops, for many", {"html": templates.STEPS["two loops"]}, rows(60, {})
    yield "numbers, for many", {"html": templates.SLOW["numbers that are read"]}, rows(30, {})
    yield "loops of rows", {"html": "{% for i in a %}{{ a }}{% endfor %}"}, rows(20, {"a": list(range(3000))})
    yield (
        "one row of many",
        {"html": "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}x"},
        [{"email": f"row{i}@example.org", "n": 99_999 if i == 30 else 2} for i in range(60)],
    )
    yield "macros", {"html": "{% macro m(x) %}<b>{{ x }}</b>{% endmacro %}{{ m(name) }}"}, rows(100, {"name": "Ana"})
    for number, (name, make) in enumerate(lists.HOSTILE.items()):
        content = make()
        kind, most = ("ndjson", NDJSON_BYTES) if content.startswith(b"{") else ("csv", CSV_BYTES)
        path = folder / f"{number}.{kind}"
        path.write_bytes(content if content.startswith(b"\x1f\x8b") else content[:most])
        yield f"list: {name}", {"html": "<p>Dear {{ email }}</p>"}, path


def email(**more: Any) -> Email:
    content = {} if "raw" in more else {"subject": "s"}
    return Email(**{"to": "hostile@example.org", "from_": FROM, **content, **more})


def campaign(**more: Any) -> Campaign:
    return Campaign(**{"from_": FROM, "subject": "s", **more})


def rows(count: int, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"email": f"row{i}@example.org", **data} for i in range(count)]
