"""Unsubscribe links on the page of a message. They are https, which nothing serves on a developer's machine: those that have one
of our own tokens lead to the unsubscribe page of a worker here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from ..errors import InvalidToken
from ..unsubscribe.tokens import Tokens
from .shown import Shown

# `["` and more in base64, or packed, and the signature (itsdangerous: 20 bytes of SHA-1).
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])(?:Wy[I-L]|\.eJ)[A-Za-z0-9_-]{1,2000}\.[A-Za-z0-9_-]{27}")
_URL = re.compile(r"https://[^\s\"'<>]{1,3000}")
_HREF = re.compile(r"((?<![\w-])href\s*=\s*[\"']?)(https://[^\s\"'<>]{1,3000})", re.IGNORECASE)


class Links:
    """`page`: what the address of the page begins with, the token follows. `keys`: those that sign the tokens."""

    def __init__(self, page: str | None, keys: Sequence[str]) -> None:
        self._page = page if keys else None
        self._tokens = Tokens(list(keys))

    def here(self, url: str) -> str | None:
        """The address on this machine; None where the URL has no token of ours."""
        if self._page is None or (found := _TOKEN.search(url)) is None:
            return None
        try:
            self._tokens.read(found[0])
        except InvalidToken:
            return None
        return f"{self._page}{found[0]}"

    def of(self, shown: Shown) -> str | None:
        """The message's unsubscribe page: of its header, or the first in its parts."""
        header = next((value for name, value in shown.headers.items() if name.lower() == "list-unsubscribe"), "")
        found = (self.here(one[0]) for text in (header, shown.html, shown.text) for one in _URL.finditer(text or ""))
        return next(filter(None, found), None)

    def in_html(self, html: str) -> str:
        """The links of that HTML lead here, in a window of their own: the frame that shows it loads nothing."""

        def change(link: re.Match[str]) -> str:
            here = self.here(link[2])
            return f'target="_blank" rel="noopener" {link[1]}{here}' if here else link[0]

        return _HREF.sub(change, html)

    def in_text(self, text: str) -> Markup:
        """The text as HTML, with those addresses as links."""
        parts, end = list[Markup](), 0
        for url in _URL.finditer(text):
            if here := self.here(url[0]):
                link = Markup('<a href="{}" target="_blank" rel="noopener">{}</a>').format(here, url[0])
                parts += [escape(text[end : url.start()]), link]
                end = url.end()
        return Markup("").join([*parts, escape(text[end:])])
