"""Why a template failed on a row, in our own words: what Python says of it is for who writes Python.

A reason names what the template does, the kinds of the values, and the place, "line 3 of letter/body.html".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import TracebackType

from jinja2 import Template, TemplateNotFound, TemplatesNotFound, UndefinedError
from jinja2.exceptions import SecurityError

from .values import Unfit

MAX_WHY = 300  # characters

_KINDS = {
    **dict.fromkeys(("str", "Markup"), "a text"),
    **dict.fromkeys(("int", "float", "Decimal", "decimal.Decimal"), "a number"),
    **dict.fromkeys(("list", "tuple", "generator", "list_iterator"), "a list"),
    **dict.fromkeys(("NoneType", "Null"), "null"),
    **dict.fromkeys(("set", "frozenset"), "a set"),
    **dict.fromkeys(("date", "datetime", "datetime.date", "datetime.datetime", "Now"), "a date"),
    **dict.fromkeys(("time", "datetime.time"), "a time"),
    **dict.fromkeys(("timedelta", "datetime.timedelta"), "a length of time"),
    **dict.fromkeys(("function", "method", "builtin_function_or_method", "type"), "a function"),
    "bool": "true or false",
    "dict": "an object",
}
_NUMBER = "for a number, write `|int` or `|float` behind the text"


def why(error: Exception) -> str:
    """The reason of a row that fails. The exception's traceback says where."""
    if isinstance(error, UndefinedError) or (isinstance(error, SecurityError) and str(error).startswith("the template ")):
        return str(error)[:MAX_WHY]
    if isinstance(error, RecursionError):
        return "the template extends, includes or calls itself without end"
    if isinstance(error, UnicodeEncodeError):
        return f"the template makes half a character for this row: U+{ord(error.object[error.start]):04X}"
    return f"the template failed on this row{_place(error.__traceback__)}: {_what(error)}"[:MAX_WHY]


def _place(trace: TracebackType | None) -> str:
    """The innermost line of a template that was being run."""
    found = ""
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template):
            found = f", in line {template.get_corresponding_lineno(trace.tb_lineno)} of {template.name}"
        trace = trace.tb_next
    return found


def _what(error: Exception) -> str:
    text = str(error)
    if isinstance(error, Unfit):
        return text
    if isinstance(error, TemplatesNotFound):
        return f"it includes one of {', '.join(map(str, error.templates))}, and none of them is there"
    if isinstance(error, TemplateNotFound):
        return f"it includes '{error.name}', which is not there"
    if isinstance(error, ZeroDivisionError):
        return "it divides by zero"
    if isinstance(error, MemoryError):
        return "it makes something that is too large"
    if isinstance(error, LookupError):
        return "it uses a name or a place that is not there"
    for pattern, saying in _SAYINGS:
        if match := pattern.search(text):
            return saying.format_map(_words(match.groupdict()))
    words = _TYPE.sub(lambda match: _kind(match[1]), text)
    return f"it cannot be worked out ({words.rstrip('.')})" if words else "it cannot be worked out"


def _words(found: Mapping[str, str]) -> dict[str, str]:
    """`kind` and `other` are types, `word` is a name or operator; `hint` says how a text becomes a number, where that helps."""
    kinds = {name: _kind(found[name]) for name in ("kind", "other") if found.get(name)}
    hint = f"; {_NUMBER}" if "a text" in kinds.values() and set(kinds.values()) <= {"a text", "a number"} else ""
    return {**found, **kinds, "hint": hint}


def _kind(name: str) -> str:
    return _KINDS.get(name.rpartition(".")[2], _KINDS.get(name, "something else"))


_TYPE = re.compile(r"'([\w.]+)'(?: object)?")
_CALL = r"(?:\w+\.)*(?:do_|test_)?(?P<word>\w+)\(\)"
_SAYINGS = [
    (re.compile(pattern), saying)
    for pattern, saying in (
        (
            r"'(?P<word>\S+)' not supported between instances of '(?P<kind>[\w.]+)' and '(?P<other>[\w.]+)'",
            "it compares {kind} with {other} by {word}{hint}",
        ),
        (r"(?:compare|subtract) offset-naive and offset-aware", "of two times, one has a zone and one has none"),
        (
            r"unsupported operand type\(s\) for (?P<word>\S+?)(?: or pow\(\))?: '(?P<kind>[\w.]+)' and '(?P<other>[\w.]+)'",
            "it cannot work out {kind} {word} {other}{hint}",
        ),
        (
            r"can only concatenate (?P<kind>\w+) \(not \"(?P<other>[\w.]+)\"\)",
            "it cannot work out {kind} + {other}{hint}; to join texts, write `~`",
        ),
        (r"can't multiply sequence by non-int", f"it multiplies a text or a list by what is no whole number; {_NUMBER}"),
        (r"bad operand type for (?:unary .|abs\(\)): '(?P<kind>[\w.]+)'", "it calculates with {kind}{hint}"),
        (r"type (?P<kind>[\w.]+) doesn't define __(?P<word>\w+)__", "it uses `{word}` on {kind}{hint}"),
        (r"'(?P<kind>[\w.]+)' object is not iterable", "it goes through {kind}, and only a list can be gone through"),
        (r"argument must be iterable|not reversible|cannot unpack", "it goes through a value that is no such list"),
        (r"Can only get item pairs", "it uses `items` on a value that is no object"),
        (r"must be a string or a real number", "it takes for a number what is none"),
        (r"unhashable type: '(?P<kind>[\w.]+)'", "it takes {kind} for a key"),
        (r"'(?P<kind>[\w.]+)' object is not callable", "it calls {kind} as if it were a function"),
        (r"argument of type '[\w.]+' is not|'in <string>' requires string", "it uses `in` on values that it is not for"),
        (r"object of type '(?P<kind>[\w.]+)' has no len", "it asks for the length of {kind}"),
        (r"'(?P<kind>[\w.]+)' object has no attribute '(?P<word>\w+)'", "it uses '{word}' of {kind} that does not have it"),
        (
            r"must be real number, not|real number is required, not|Unknown format code '\w' for object of type 'str'",
            f"it formats as a number what is none; {_NUMBER}",
        ),
        (r"[Uu]nknown format code|Invalid format spec|unsupported format", "its format does not fit the value"),
        (
            r"not all arguments converted|not enough arguments for format|Replacement index",
            "its format wants more or fewer values",
        ),
        (rf"{_CALL} missing .* argument: '(?P<other>\w+)'", "`{word}` is used without a value that it needs"),
        (rf"{_CALL} got an unexpected keyword argument '(?P<name>\w+)'", "`{word}` has nothing called `{name}`"),
        (rf"{_CALL} takes .* positional arguments? but", "`{word}` is given too many values"),
        (r"Range too big", "it counts through more than 100,000 numbers"),
        (
            r"Exceeds the limit .* digits|too large to convert|Result too large|cannot fit 'int'",
            "it makes something that is too large",
        ),
        (r"is not safely callable", "it calls what no template may"),
    )
]
