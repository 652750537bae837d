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

import html2text
from jinja2 import DictLoader, StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import RenderFailed, TemplateBroken
from .content import Content

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNDEFINED = re.compile(r"^'([^']+)' is undefined$")
_NO_ATTRIBUTE = re.compile(r"^'?(.+?)'? has no attribute '([^']+)'$")
_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")  # Jinja2's own, without lipsum


def environment(files: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(
        loader=DictLoader(files),
        autoescape=lambda name: name is None or not name.endswith(".txt"),
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
    )
    env.globals = {name: env.globals[name] for name in _GLOBALS}
    return env


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
        except TemplateSyntaxError as error:
            why = (error.message or "it cannot be parsed").rstrip(".")
            raise TemplateBroken(name=self.name, file=error.name or file, line=error.lineno, why=why) from None
        except JinjaError as error:
            raise TemplateBroken(name=self.name, file=file, line=1, why=str(error) or type(error).__name__) from None

    def pieces(self, data: Mapping[str, Any]) -> Pieces:
        """Render for one recipient. Raises RenderFailed, which names the variable that is missing."""
        variables = {**self._globals, **data}
        try:
            subject = "".join(_render(self._subject, variables)).strip()
            html = _render(self._html, variables) if self._html else None
            text = _render(self._text, variables) if self._text else None
        except UndefinedError as error:
            raise RenderFailed(name=self.name, why=_name_the_missing(error)) from None
        except Exception as error:
            # A template may divide by a recipient's zero, or call what the sandbox forbids: that row fails, not the worker.
            raise RenderFailed(name=self.name, why=f"the template failed on this row: {type(error).__name__}: {error}"[:300]) from None
        if not subject:
            raise RenderFailed(name=self.name, why="the subject is empty for this row")
        if _CONTROL.search(subject):
            raise RenderFailed(name=self.name, why="the subject has a line break or control character for this row")
        return Pieces(subject, html, text)

    def render(self, data: Mapping[str, Any]) -> Rendered:
        return self.pieces(data).join()


def _render(template: Template, variables: dict[str, Any]) -> list[str]:
    # `shared` takes the variables as they are: without it Jinja2 copies them, and its globals one by one, for every part.
    return list(template.root_render_func(template.new_context(variables, shared=True)))


def _name_the_missing(error: UndefinedError) -> str:
    text = str(error)
    if match := _UNDEFINED.match(text):
        return f"the template uses '{match[1]}', which this row does not have"
    if match := _NO_ATTRIBUTE.match(text):
        return f"the template uses '{match[2]}' of a value that does not have it"
    return f"the template uses a value that this row does not have: {text}"


def html_to_text(html: str) -> str:
    """The text part of an HTML body: links kept, images by their alt text, no wrapping (SES encodes long lines)."""
    converter = html2text.HTML2Text(bodywidth=0)
    converter.images_to_alt = True
    converter.ignore_tables = True
    converter.ignore_emphasis = True
    converter.protect_links = True
    converter.unicode_snob = True
    return str(converter.handle(html)).strip() + "\n"
