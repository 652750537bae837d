"""The sandbox that templates are compiled and run in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, time
from decimal import Decimal
from functools import partial, wraps
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

from jinja2 import DictLoader, Template, TemplateSyntaxError, nodes
from jinja2.environment import TemplateModule
from jinja2.lexer import TOKEN_COMMENT
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from ..errors import TemplateBroken
from .caps import Capped, too_deep
from .elsewhere import meant, quoted
from .filters import FILTERS, strftime
from .values import NULL, Method, Missing, Null, default, printed

_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")  # Jinja2's own, without lipsum
_OF_DATES = frozenset(
    (
        *("year", "month", "day", "hour", "minute", "second", "microsecond", "weekday", "isoweekday", "isoformat"),
        *("date", "time", "timestamp", "replace"),
    )
)
_METHODS = (BuiltinMethodType, FunctionType, MethodType)
_ITERATORS = ("batch", "items", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "unique")
_MARKUP = re.compile(r"[{}<]")
_CSS_ID = re.compile(r"[\w\\]|-[\w-]")


class _Template(Template):
    """A file that is imported is run anew for each row. Jinja2 keeps the first run, and with it what a macro stored there."""

    def _get_default_module(self, ctx: Context | None = None) -> TemplateModule:
        return self.make_module()


class Environment(Capped):
    """Data is JSON: a key comes before a method of the same name, as in `{{ order.items }}`."""

    template_class = _Template
    used: set[str]  # the names that the files parsed so far look up; those that they set are among them
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        if attribute == "strftime" and isinstance(obj, date | time):
            return Method(partial(strftime, obj), attribute)
        return self._method(super().getattr(obj, attribute), attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict):
            try:
                return obj[argument]
            except (LookupError, TypeError):  # and it is no method either
                return self.undefined(obj=obj, name=argument)
        return self._method(super().getitem(obj, argument), argument)

    def _method(self, value: Any, name: Any) -> Any:
        return Method(value, str(name)) if isinstance(value, _METHODS) and self.is_safe_callable(value) else value

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Dates have methods that make a text of any length."""
        return super().is_safe_attribute(obj, attr, value) and (attr in _OF_DATES or not isinstance(obj, date | time))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """A Decimal and a float, which every `1.2` in a template is, make a Decimal; Python refuses it."""
        if isinstance(left, Decimal) and isinstance(right, float):
            right = Decimal(repr(right))
        elif isinstance(right, Decimal) and isinstance(left, float):
            left = Decimal(repr(left))
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        self._check_comments(source, name, filename)
        tree = super()._parse(source, name, filename)
        self.used |= {node.name for node in tree.find_all(nodes.Name)}
        for output in tree.find_all(nodes.Output):  # `{{ none }}`: constants are escaped before they are given to `finalize`
            output.nodes = [node for node in output.nodes if not (isinstance(node, nodes.Const) and node.value is None)]
        for used in tree.find_all(nodes.Filter):
            if used.name in ("currency", "money") and not (used.args or used.kwargs):
                why = f"the filter `{used.name}` has no currency; write it as price|{used.name}('EUR')"
                raise TemplateSyntaxError(why, used.lineno, name, filename)
        return tree

    def _check_comments(self, source: str, name: str | None, filename: str | None) -> None:
        """`{#` is also CSS without blanks, `@media(…){#hero{…}}`, and as a comment it takes half the mail away."""
        if "{#" not in source:
            return
        try:
            for line, kind, text in self.lexer.tokeniter(source, name, filename):
                if kind == TOKEN_COMMENT and _MARKUP.search(text):
                    why = f"the comment {quoted('{#' + text)} holds {{, }} or <, and the mail would lose that; {_instead(text)}"
                    raise TemplateSyntaxError(why, line, name, filename)
        except TemplateSyntaxError as error:
            if error.message != "Missing end of comment tag":
                raise
            begun = source.rpartition("#}")[2].partition("{#")[2]
            instead = _instead(begun) if _CSS_ID.match(begun) else "end it with #}"
            why = f"{quoted('{#' + begun)} begins a comment of Jinja2 that never ends; {instead}"
            raise TemplateSyntaxError(why, error.lineno, name, filename) from None


def _instead(comment: str) -> str:
    if _CSS_ID.match(comment):
        return "in CSS, write a blank after the brace, `{ #hero`, or put the style between {% raw %} and {% endraw %}"
    return "to leave markup out, write {% if false %} before it and {% endif %} after it"


def environment(files: Mapping[str, str], *, html: bool) -> Environment:
    """For the HTML part, or for what is read as text. It is the part that decides about escaping, not the name of an included
    file: values are escaped in a `.txt` that `body.html` includes."""
    env = Environment(
        loader=DictLoader(files), autoescape=html, undefined=Missing, finalize=printed, auto_reload=False, cache_size=-1
    )
    env.used = set()
    env.globals = {name: env.globals[name] for name in _GLOBALS} | {"range": Method(safe_range, "range")}
    env.filters |= {name: _listed(env.filters[name]) for name in _ITERATORS}
    env.filters |= {**FILTERS, "default": default, "d": default}
    env.tests["none"] = _is_none
    env.policies["json.dumps_function"] = _json
    return env


def _listed(iterator: Callable[..., Any]) -> Callable[..., Any]:
    """A filter with a list for its result: an iterator has no length, and as a text it is an address in memory."""

    @wraps(iterator)
    def listed(*args: Any, **kwargs: Any) -> Any:
        found = iterator(*args, **kwargs)
        return found if isinstance(found, str) else list(found)

    return listed


def _is_none(value: Any) -> bool:
    return value is None or value is NULL


def _json(value: Any, **options: Any) -> str:
    """What the filter `tojson` writes."""
    return json.dumps(value, default=_for_json, **options)


def _for_json(value: Any) -> Any:
    if isinstance(value, Null):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, date | time) else str(value)  # which fails for what is not there


def broken(name: str, file: str, error: Exception) -> TemplateBroken:
    """What Jinja2 raised on compiling. Python's own errors are among it: for 25 loops in each other, or 3000 brackets."""
    if isinstance(error, TemplateSyntaxError):
        file, line, why = error.name or file, error.lineno, _said(error)
    elif too_deep(error):
        line, why = 1, "its blocks, brackets or operators stand too deep in each other"
    else:
        line, why = 1, str(error) or type(error).__name__
    return TemplateBroken(name=name, file=file, line=line, why=why.rstrip("."))


def _said(error: TemplateSyntaxError) -> str:
    return meant((error.message or "it cannot be parsed").rstrip("."), error.source or "", error.lineno)
