"""The sandbox that templates are compiled and run in."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import DictLoader, StrictUndefined, Template, TemplateSyntaxError
from jinja2.environment import TemplateModule
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import TemplateBroken

_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")  # Jinja2's own, without lipsum


class _Template(Template):
    """A file that is imported is run anew for each row. Jinja2 keeps the first run, and with it what a macro stored there."""

    def _get_default_module(self, ctx: Context | None = None) -> TemplateModule:
        return self.make_module()


def environment(files: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(
        loader=DictLoader(files),
        autoescape=lambda name: name is None or not name.endswith(".txt"),
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
    )
    env.template_class = _Template
    env.globals = {name: env.globals[name] for name in _GLOBALS}
    return env


def broken(name: str, file: str, error: Exception) -> TemplateBroken:
    """What Jinja2 raised on compiling. Python's own errors are among it: for 25 loops in each other, or 3000 brackets."""
    if isinstance(error, TemplateSyntaxError):
        file, line, why = error.name or file, error.lineno, error.message or "it cannot be parsed"
    else:
        line, why = 1, str(error) or type(error).__name__
    return TemplateBroken(name=name, file=file, line=line, why=why.rstrip("."))
