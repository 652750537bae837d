"""Rendering: compiled once, sandboxed, and given out in pieces.

Jinja2 hands a rendered template out as a sequence of strings, of which most are the template's own text and the rest the
values put in. Their concatenation is the result. Keeping them apart until the request is built lets a bulk call carry what
is the same in all of its messages once (`compose/factor.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from jinja2 import Template

from ..errors import RenderFailed, TemplateBroken
from .blank import is_blank
from .bounds import MAX_CHARS, TooLarge
from .caps import Capped, oversize
from .content import Content
from .environment import broken, environment
from .failures import why
from .filters import now
from .names import GIVEN, NOW
from .text import text_part
from .values import seen

NOTHING: Mapping[str, Any] = MappingProxyType({})
_WHITE = re.compile(r"[ \t-\r\x1c-\x1f\x85\u2028\u2029]+")  # not the blanks that keep words together
_AT_ONCE = 32  # pieces that are taken before their length is looked at; each is a text that is below MAX_CHARS
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # the others


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message's content; at least one of the bodies is there."""

    subject: str
    html: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Pieces:
    """The same in pieces, to be joined. `text` is None where the text part has to be made from the HTML, and empty where there
    is none beside the HTML."""

    subject: str
    html: list[str] | None
    text: list[str] | None

    def join(self) -> Rendered:
        html = "".join(self.html) if self.html is not None else None
        text = text_part(html or "") if self.text is None else "".join(self.text)
        return Rendered(self.subject, html, text or (None if html else ""))


class Compiled:
    """A content that is ready to be rendered. Raises TemplateBroken where a part of it does not compile."""

    def __init__(self, content: Content) -> None:
        self.name = content.name
        if not content.files[content.subject].strip():
            raise TemplateBroken(name=content.name, file=content.subject, line=1, why="it is empty, and so would each subject be")
        as_html, as_text = environment(content.files, html=True), environment(content.files, html=False)
        if said := oversize(content.files, as_html):
            raise TemplateBroken(name=content.name, file=content.html or content.text or content.subject, line=1, why=said)
        self._subject = self._compile(as_text, content.subject)
        self._html = self._compile(as_html, content.html) if content.html else None
        self._text = self._compile(as_text, content.text) if content.text else None
        for file in content.files.keys() - {content.subject, content.html, content.text}:
            self._compile(as_html if self._html else as_text, file)
        self._globals = dict(as_text.globals)
        self.mentions = GIVEN & (
            as_html.used | as_text.used
        )  # what the service gives to each row: none of it is made for nothing

    def _compile(self, env: Capped, file: str) -> Template:
        try:
            return env.get_template(file)
        except Exception as error:
            raise broken(self.name, file, error) from None

    def pieces(self, data: Mapping[str, Any], shared: Mapping[str, Any] = NOTHING) -> Pieces:
        """Render for one recipient: `data` is the row's, `shared` what `seen` made of the data that all rows have.

        Raises RenderFailed, which names the variable that is missing.
        """
        variables = {**self._globals, **shared, **seen(data)}
        if NOW in self.mentions:
            variables.setdefault(NOW, now())
        try:
            subject = _one_line("".join(_render(self._subject, variables)))
            html = _render(self._html, variables) if self._html else None
            text = _render(self._text, variables) if self._text else None
        except Exception as error:
            # A template may divide by a recipient's zero, or call what the sandbox forbids: that row fails, not the worker.
            raise RenderFailed(name=self.name, why=why(error)) from None
        if not subject:
            raise RenderFailed(name=self.name, why="the subject is empty for this row")
        if is_blank(html, text):
            raise RenderFailed(name=self.name, why="the message is empty for this row: a reader sees nothing of its HTML or text")
        return Pieces(subject, html, text)

    def render(self, data: Mapping[str, Any]) -> Rendered:
        return self.pieces(data).join()


def _one_line(subject: str) -> str:
    """White space is one blank, as a file's last line end or a cell of several lines; no other control character remains."""
    if subject.isprintable() and "  " not in subject:
        return subject.strip(" ")
    return _WHITE.sub(" ", _CONTROL.sub("", subject)).strip(" ")


def _render(template: Template, variables: dict[str, Any]) -> list[str]:
    environment = template.environment
    if isinstance(environment, Capped):
        environment.begin()
    # Not by `new_context`, which copies variables or globals for every part; the variables have the globals among them.
    made = template.root_render_func(environment.context_class(environment, variables, template.name, template.blocks))
    pieces = list(islice(made, _AT_ONCE))
    length, waiting = sum(map(len, pieces)), len(pieces) == _AT_ONCE
    while waiting and length <= MAX_CHARS:
        some = list(islice(made, _AT_ONCE))
        length, waiting = length + sum(map(len, some)), len(some) == _AT_ONCE
        pieces += some
    if length > MAX_CHARS:
        raise TooLarge(f"the message is larger than {MAX_CHARS:,} characters")
    if not (whole := "".join(pieces)).isascii():
        whole.encode()  # half of a surrogate pair, which a template can make, fits into no request
    return list(map(str, pieces))  # escaped values are Markup, which escapes what it is added to
