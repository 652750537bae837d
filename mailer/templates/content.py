"""A template with everything that it includes, as one value: what a campaign or message keeps of the templates folder.

A worker renders from this and not from its own copy of the folder, so that an edit or a deploy in the middle of a campaign
does not change what the other half of the list gets.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ..errors import TemplateBroken

MAX_BYTES = 16 << 20  # of a template as JSON, where each character may take six


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """`files` maps a name to Jinja2 source; `subject`, `html` and `text` are names in it. One of the bodies is there."""

    name: str  # what an error calls it
    files: Mapping[str, str]
    subject: str
    html: str | None
    text: str | None

    def dump(self) -> bytes:
        return zlib.compress(orjson.dumps(self, option=orjson.OPT_SORT_KEYS), 6)

    @classmethod
    def load(cls, packed: bytes) -> Content:
        """Raises TemplateBroken for what is larger than any template of ours."""
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(packed, MAX_BYTES)
        if not unpacking.eof:
            raise TemplateBroken(
                name="stored with it", file="it", line=1, why="it is larger than a template may be, or not whole"
            )
        return cls(**orjson.loads(text))

    @classmethod
    def inline(cls, *, subject: str, html: str | None, text: str | None, name: str = "given inline") -> Content:
        """Content that was given in the call and not as a folder. It can include nothing."""
        parts = {"subject.txt": subject, "body.html": html, "body.txt": text}
        return cls(
            name=name,
            files={name: source for name, source in parts.items() if source is not None},
            subject="subject.txt",
            html="body.html" if html is not None else None,
            text="body.txt" if text is not None else None,
        )
