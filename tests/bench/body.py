"""What every contender sends: one template of about 3 kB, and recipients that are the same in every run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import jinja2

TEMPLATES_DIR = Path(__file__).with_name("templates")
TEMPLATE = "newsletter"
SENDER = "letter@example.com"
FIELDS = ("email", "name", "city", "plan", "link")

# Names that need escaping or are not ASCII are part of the work that a real list makes.
_NAMES = ("Ana", "Björn", "Chloé", "Dmitri", "Eilidh", "Fatima", "Grace O'Neill", "Hiroko", "Ines & Tom", "Jorge")
_CITIES = ("Lisbon", "Zürich", "Nagoya", "Leeds", "Montréal", "Nairobi", "Gdańsk")
_PLANS = ("free", "team", "business")


def row(i: int) -> dict[str, str]:
    # Knuth's multiplicative hash: tokens that a compressor cannot guess, the same in every run.
    token = (i * 2_654_435_761) % 2**32
    return {
        "email": f"user{i}@example.com",
        "name": _NAMES[i % len(_NAMES)],
        "city": _CITIES[i % len(_CITIES)],
        "plan": _PLANS[i % len(_PLANS)],
        "link": f"https://news.example.com/r/{token:08x}",
    }


def rows(n: int, start: int = 0) -> Iterator[dict[str, str]]:
    return (row(i) for i in range(start, start + n))


def write_csv(path: Path, n: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows(n))


def source(part: str) -> str:
    """The text of a part of the template: `subject.txt` or `body.html`."""
    return (TEMPLATES_DIR / TEMPLATE / part).read_text(encoding="utf-8")


class Renderer:
    """Jinja2 as an application uses it: compiled once, rendered for each recipient."""

    def __init__(self) -> None:
        self._subject = jinja2.Environment(autoescape=False).from_string(source("subject.txt"))
        self._html = jinja2.Environment(autoescape=True).from_string(source("body.html"))

    def __call__(self, data: dict[str, str]) -> tuple[str, str]:
        return self._subject.render(data), self._html.render(data)


def html_bytes() -> int:
    """Size of one rendered HTML body."""
    return len(Renderer()(row(0))[1].encode())
