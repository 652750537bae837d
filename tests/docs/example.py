"""deploy/mailer.toml.example, from the fields of Settings and Sender."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from mailer.message.sender import Sender

from .fields import Described, fields_of
from .settings import by_subject

WIDTH = 120
SET = {"from", "reply_to", "tags"}  # keys of the sender that are not commented out
HEAD = """\
# Settings of an installation, and its sender profiles. Copy this file to mailer.toml, and uncomment what you change.
#
# A line that is commented out has the default of its setting, or an example where the default is "unset". An environment
# variable wins over this file: MAILER_REDIS_URL over redis_url, and so on. AWS's own variables (AWS_REGION, AWS_PROFILE, …)
# are read from the environment only.
"""
LAST = """
[senders.accounts]
from = "Example <no-reply@example.com>"
"""


def file(_: str) -> str:
    return "".join((HEAD, *_parts(), LAST))


def _parts() -> Iterator[str]:
    for title, some in by_subject().items():
        yield f"\n# ---- {title} ".ljust(WIDTH + 1, "-") + "\n"
        if title == "Senders":
            yield f"\n{_comment(some[0].description)}"
            yield "\n[senders.news]\n"
            yield "\n".join(_line(one, commented=one.name not in SET) for one in fields_of(Sender))
        else:
            yield "".join(f"\n{_line(one, commented=True)}" for one in some)


def _line(one: Described, *, commented: bool) -> str:
    return f"{_comment(one.description)}{'# ' if commented else ''}{one.name} = {toml(one.example)}\n"


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value if isinstance(value, bool | int | float) else str(value), ensure_ascii=False)
