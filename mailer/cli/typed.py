"""What is wrong with a message or campaign, in the words that were typed: options in the place of Python's fields."""

from __future__ import annotations

import re

from ..errors import InvalidEmail
from ..message.email import Campaign, Email

_OTHERS = {"headers": "--header", "tags": "--tag", "attachments": "--attach", "from_": "--from"}
_FILES = {"html": "--html-file", "text": "--text-file"}  # a campaign has bodies from files only
_MODELS = {"Email": "the message", "Campaign": "the campaign"}
_FIELDS = {field.alias or name for kind in (Email, Campaign) for name, field in kind.model_fields.items()}
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _FIELDS | {"idempotency_key", "reason", "stream", "limit"}} | _OTHERS
_NAME = re.compile(r"(?:\ban? )?`(\w+)`")
_IN_PYTHON = re.compile(r"[;,] in Python (?:it is )?`from_`")


def as_typed(error: InvalidEmail) -> str:
    """The error's sentence for whoever typed options."""
    field, why = error.fields.get("field"), error.fields.get("why")
    if field is None or why is None:  # as of a mode that is refused: it says itself what it is about
        return str(error)
    names = _OPTIONS | (_FILES if field == "Campaign" else {})
    words = _NAME.sub(lambda found: names.get(found[1], found[0]), _IN_PYTHON.sub("", why))
    if field not in _MODELS:
        return f"{names.get(field, field)}: {words}"
    option, space, rest = words.partition(" ")
    if space and option in names.values():
        return f"{option}: {rest}"
    return f"{_MODELS[field]}: {words}"
