"""Idempotency keys: a call that is made again with the same key gives what the first one gave."""

from __future__ import annotations

import hashlib
import re

from ..data import plain
from ..errors import InvalidEmail
from ..ledger import Key
from ..message.checks import whole
from ..message.email import Campaign, Email

MAX_KEY = 256  # characters of an idempotency key  # characters
_BOUNDARY = re.compile(rb'(boundary="?)([^"\r\n;]{12,})')  # a shorter one is not made up  # a shorter one is not made up
_DELIMITER = re.compile(rb"^--([^\r\n]*)", re.MULTILINE)
_BY_SES = re.compile(rb"^(?:Date|Message-ID):[^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n", re.MULTILINE | re.IGNORECASE)


def idempotency_key(text: str | None, given: Email | Campaign) -> Key | None:
    """The key with a digest of what the caller gave, a template by its name: an edit of its files between two tries does not
    make a retry an error. Raises InvalidEmail."""
    if text is None:
        return None
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_KEY:
        raise InvalidEmail(field="idempotency_key", why=f"must be a text of 1 to {MAX_KEY} characters")
    try:
        whole(text)
    except ValueError as error:
        raise InvalidEmail(field="idempotency_key", why=str(error)) from None
    fields = given.model_dump(exclude={"attachments", "raw"})
    files = [(file.model_dump(exclude={"content"}), hashlib.sha256(file.content).hexdigest()) for file in given.attachments]
    raw = given.raw if isinstance(given, Email) else None
    content = plain([type(given).__name__, fields, files, hashlib.sha256(_stable(raw or b"")).hexdigest()])
    return Key(text, hashlib.sha256(content).hexdigest()[:32])


def _stable(mime: bytes) -> bytes:
    """Without what a caller's library makes up anew each time it writes the same message: boundaries, and what SES replaces."""
    made_up = {boundary for _, boundary in _BOUNDARY.findall(mime)}

    def without(line: re.Match[bytes]) -> bytes:
        text = line[1].rstrip()
        return b"--" if text in made_up else b"----" if text.removesuffix(b"--") in made_up else line[0]

    mime = _BOUNDARY.sub(rb"\1", _DELIMITER.sub(without, mime))
    head, blank, body = mime.partition(b"\r\n\r\n")
    return _BY_SES.sub(b"", head + b"\r\n") + blank + body
