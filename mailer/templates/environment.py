"""The sandbox that templates are compiled and run in."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jinja2 import DictLoader, StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.environment import TemplateModule
from jinja2.lexer import TOKEN_COMMENT
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import TemplateBroken

MAX_QUOTED = 40  # characters of a template that an error repeats

_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")  # Jinja2's own, without lipsum
_MARKUP = re.compile(r"[{}<]")
_BLANKS = re.compile(r"\s+")
_CSS_ID = re.compile(r"[\w\\]|-[\w-]")


class _Template(Template):
    """A file that is imported is run anew for each row. Jinja2 keeps the first run, and with it what a macro stored there."""

    def _get_default_module(self, ctx: Context | None = None) -> TemplateModule:
        return self.make_module()


class _Environment(ImmutableSandboxedEnvironment):
    template_class = _Template

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        self._check_comments(source, name, filename)
        return super()._parse(source, name, filename)

    def _check_comments(self, source: str, name: str | None, filename: str | None) -> None:
        """`{#` is also CSS without blanks, `@media(…){#hero{…}}`, and as a comment it takes half the mail away."""
        if "{#" not in source:
            return
        try:
            for line, kind, text in self.lexer.tokeniter(source, name, filename):
                if kind == TOKEN_COMMENT and _MARKUP.search(text):
                    why = f"the comment {_quoted('{#' + text)} holds {{, }} or <, and the mail would lose that; {_instead(text)}"
                    raise TemplateSyntaxError(why, line, name, filename)
        except TemplateSyntaxError as error:
            if error.message != "Missing end of comment tag":
                raise
            begun = source.rpartition("#}")[2].partition("{#")[2]
            instead = _instead(begun) if _CSS_ID.match(begun) else "end it with #}"
            why = f"{_quoted('{#' + begun)} begins a comment of Jinja2 that never ends; {instead}"
            raise TemplateSyntaxError(why, error.lineno, name, filename) from None


def _instead(comment: str) -> str:
    if _CSS_ID.match(comment):
        return "in CSS, write a blank after the brace, `{ #hero`, or put the style between {% raw %} and {% endraw %}"
    return "to leave markup out, write {% if false %} before it and {% endif %} after it"


def _quoted(text: str) -> str:
    """A piece of a template, for an error: one line, and not all of it."""
    text = _BLANKS.sub(" ", text).strip()
    return f"`{text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + '…'}`"


def environment(files: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    env = _Environment(
        loader=DictLoader(files),
        autoescape=lambda name: name is None or not name.endswith(".txt"),
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
    )
    env.globals = {name: env.globals[name] for name in _GLOBALS}
    return env


def broken(name: str, file: str, error: Exception) -> TemplateBroken:
    """What Jinja2 raised on compiling. Python's own errors are among it: for 25 loops in each other, or 3000 brackets."""
    if isinstance(error, TemplateSyntaxError):
        file, line, why = error.name or file, error.lineno, error.message or "it cannot be parsed"
    else:
        line, why = 1, str(error) or type(error).__name__
    return TemplateBroken(name=name, file=file, line=line, why=why.rstrip("."))
