"""Rendering: compiled once, sandboxed, and given out in pieces.

Jinja2 hands a rendered template out as a sequence of strings, of which most are the template's own text and the rest the
values put in. Their concatenation is the result. Keeping them apart until the request is built lets a bulk call carry what
is the same in all of its messages once (`compose/factor.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Template, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import RenderFailed
from .blank import is_blank
from .content import Content
from .environment import broken, environment
from .text import html_to_text

MAX_WHY = 300  # characters of what a template or the sandbox says

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNDEFINED = re.compile(r"^'([^']+)' is undefined$")
_NO_ATTRIBUTE = re.compile(r"^'?(.+?)'? has no attribute '([^']+)'$")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message's content; at least one of the bodies is there."""

    subject: str
    html: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Pieces:
    """The same in pieces, to be joined. `text` is None where the text part has to be made from the HTML."""

    subject: str
    html: list[str] | None
    text: list[str] | None

    def join(self) -> Rendered:
        html = "".join(self.html) if self.html is not None else None
        text = "".join(self.text) if self.text is not None else html_to_text(html or "")
        return Rendered(self.subject, html, text)


class Compiled:
    """A content that is ready to be rendered. Raises TemplateBroken where a part of it does not compile."""

    def __init__(self, content: Content) -> None:
        self.name = content.name
        env = environment(content.files)
        self._subject = self._compile(env, content.subject)
        self._html = self._compile(env, content.html) if content.html else None
        self._text = self._compile(env, content.text) if content.text else None
        for file in content.files:
            self._compile(env, file)
        self._globals = dict(env.globals)

    def _compile(self, env: ImmutableSandboxedEnvironment, file: str) -> Template:
        try:
            return env.get_template(file)
        except Exception as error:
            raise broken(self.name, file, error) from None

    def pieces(self, data: Mapping[str, Any]) -> Pieces:
        """Render for one recipient. Raises RenderFailed, which names the variable that is missing."""
        variables = {**self._globals, **data}
        try:
            subject = "".join(_render(self._subject, variables)).strip()
            html = _render(self._html, variables) if self._html else None
            text = _render(self._text, variables) if self._text else None
        except UndefinedError as error:
            raise RenderFailed(name=self.name, why=_name_the_missing(error)) from None
        except RecursionError:
            raise RenderFailed(name=self.name, why="the template extends, includes or calls itself without end") from None
        except UnicodeEncodeError as error:
            half = f"U+{ord(error.object[error.start]):04X}"
            raise RenderFailed(name=self.name, why=f"the template makes half a character for this row: {half}") from None
        except Exception as error:
            # A template may divide by a recipient's zero, or call what the sandbox forbids: that row fails, not the worker.
            why = f"the template failed on this row: {type(error).__name__}: {error}"[:MAX_WHY]
            raise RenderFailed(name=self.name, why=why) from None
        if not subject:
            raise RenderFailed(name=self.name, why="the subject is empty for this row")
        if _CONTROL.search(subject):
            raise RenderFailed(name=self.name, why="the subject has a line break or control character for this row")
        if is_blank(html, text):
            raise RenderFailed(name=self.name, why="the message is empty for this row: a reader sees nothing of its HTML or text")
        return Pieces(subject, html, text)

    def render(self, data: Mapping[str, Any]) -> Rendered:
        return self.pieces(data).join()


def _render(template: Template, variables: dict[str, Any]) -> list[str]:
    # `shared` takes the variables as they are: without it Jinja2 copies them, and its globals one by one, for every part.
    # `str`, because escaped values are Markup, which escapes what it is added to.
    pieces = list(map(str, template.root_render_func(template.new_context(variables, shared=True))))
    for piece in pieces:
        if not piece.isascii():
            piece.encode()  # half of a surrogate pair, which a template can make, fits into no request
    return pieces


def _name_the_missing(error: UndefinedError) -> str:
    text = str(error)
    if match := _UNDEFINED.match(text):
        return f"the template uses '{match[1]}', which this row does not have"
    if match := _NO_ATTRIBUTE.match(text):
        return f"the template uses '{match[2]}' of a value that does not have it"
    return f"the template uses a value that this row does not have: {text}"
