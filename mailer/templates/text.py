"""The text part of an HTML body."""

from __future__ import annotations

import re
from html import unescape

import html2text

_TAG = re.compile(r"<[^<>]*>")
_HUGE = re.compile(r"&#[0-9]{9,};?")  # no character; and `int` raises where there are more than 4300 digits
_BLANKS = re.compile(r"\s+")
_ESCAPED = re.compile(r"\\([\\\[\]()])")


class _Reader(html2text.HTML2Text):
    """Text to be read as it is: without the backslashes that keep Markdown from taking `1.` for a list."""

    def handle_data(self, data: str, entity_char: bool = False) -> None:
        super().handle_data(data, entity_char=True)

    def handle_tag(self, tag: str, attrs: dict[str, str | None], start: bool) -> None:
        if tag == "a":
            attrs.pop("title", None)  # what a mouse shows
        if tag != "img":
            super().handle_tag(tag, attrs, start)
        elif start:
            self.handle_data(attrs.get("alt") or "")
        self.quiet = max(self.quiet, 0)  # an end tag too many would silence all that follows

    def o(self, data: str, puredata: bool = False, force: bool | str = False) -> None:
        if data.startswith("](") and not puredata:  # the address of a link
            data = _BLANKS.sub(" ", _ESCAPED.sub(r"\1", data))
        super().o(data, puredata, force)


def html_to_text(html: str) -> str:
    """The text part of an HTML body: links kept, images by their alt text, no wrapping (SES encodes long lines)."""
    converter = _Reader(bodywidth=0)
    converter.ignore_tables = True
    converter.ignore_emphasis = True
    converter.protect_links = True
    converter.unicode_snob = True
    html = _HUGE.sub("\N{REPLACEMENT CHARACTER}", html)
    try:
        text = converter.handle(html)
    except Exception:  # it stops at some of what browsers take, `<![x[` for one
        text = unescape(_TAG.sub(" ", html))
    return str(text).strip() + "\n"
