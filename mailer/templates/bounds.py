"""Bounds on what one operation of a template makes: an operator, a filter, a method of a text or number.

They hold wherever a template is compiled or rendered, in an application's own process, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import pass_environment, pass_eval_context
from jinja2.filters import FILTERS
from jinja2.nodes import EvalContext

from .values import Unfit

MAX_CHARS = 1 << 22  # of a text that a template makes; a message is larger than SES takes long before
MAX_ITEMS = 100_000  # of a list that a template makes; as Jinja2's own for `range`
MAX_BITS = 1 << 14  # of a whole number: 4,900 digits, more than Python writes
MAX_WIDTH = 1_000  # characters that something is filled up to

_CONTAINERS = (list, tuple, dict, set, frozenset)
_FORMAT = re.compile(r"%(?:\([^)]*+\))?+[-#0 +]*+(\*|[0-9]*+)(?:\.(\*|[0-9]*+))?+")


class TooLarge(Unfit):
    """What a template makes is larger than it may be."""


def refuse_text() -> NoReturn:
    raise TooLarge(f"it makes a text of more than {MAX_CHARS:,} characters")


def refuse_width(width: object) -> NoReturn:
    raise TooLarge(f"it fills something up to {width} characters, and {MAX_WIDTH:,} are the most")


# ---- operators -------------------------------------------------------------------------------------------------------


def multiply(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, int) and hasattr(right, "__len__"):
        _check_length(right, len(right) * left)
    elif isinstance(right, int) and hasattr(left, "__len__"):
        _check_length(left, len(left) * right)
    return left * right


def power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        _check_bits(left.bit_length() * right)
    return left**right


def add(left: Any, right: Any) -> Any:
    if hasattr(left, "__len__") and hasattr(right, "__len__"):
        _check_length(left, len(left) + len(right))
    return left + right


def remainder(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        _check_format(left, right if isinstance(right, tuple) else (right,))
    return left % right


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise TooLarge("it makes a number of more than 4,000 digits")


def _check_length(what: Any, length: int) -> None:
    if isinstance(what, str | bytes):
        if length > MAX_CHARS:
            refuse_text()
    elif length > MAX_ITEMS:
        raise TooLarge(f"it makes a list of more than {MAX_ITEMS:,} items")


def _check_width(width: Any) -> None:
    if isinstance(width, int) and abs(width) > MAX_WIDTH:
        refuse_width(width)


def _check_format(format: str, values: Sequence[Any]) -> None:
    """`%5.2f`: widths, and how often the longest value can be put in."""
    found = _FORMAT.findall(format)
    for width in (one for pair in found for one in pair if one):
        if width == "*" or len(width) > 4 or int(width) > MAX_WIDTH:
            refuse_width("a value's" if width == "*" else width[:20])
    longest = max((_weigh(value) for value in values), default=0)
    if len(format) + len(found) * longest > MAX_CHARS:
        refuse_text()


def joined(join: Callable[[Iterable[Any]], Any], values: Sequence[Any]) -> Any:
    """`a ~ b`."""
    _weigh(values)
    return join(values)


def weighed(value: Any) -> Any:
    """What `{{ … }}` prints: a list may hold the same long text many times."""
    if type(value) is not str and isinstance(value, _CONTAINERS):
        _weigh(value)
    return value


def then_weighed(finalize: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def printed(value: Any) -> Any:
        return value if type(value) is str else weighed(finalize(value))

    return printed


def _weigh(value: Any) -> int:
    """About how long the text of it is; a short item of a list has four characters. Raises TooLarge above MAX_CHARS."""
    left, waiting = MAX_CHARS, [value]
    while waiting and left >= 0:
        one = waiting.pop()
        if isinstance(one, str | bytes):
            left -= len(one)
            continue
        left -= 4
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, _CONTAINERS):
            waiting += one
    if left < 0:
        refuse_text()
    return MAX_CHARS - left


# ---- methods and filters ---------------------------------------------------------------------------------------------


def check_call(method: str, owner: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
    """A method of Python's own texts, bytes and numbers."""
    given = [*args, *named.values()]
    if method in ("center", "ljust", "rjust", "zfill", "expandtabs", "to_bytes"):
        for width in given:
            _check_width(width)
    if method == "expandtabs":
        size, tab = owner.count("\t" if isinstance(owner, str) else b"\t"), given[0] if given else 8
        _check_length(owner, len(owner) + size * tab if isinstance(tab, int) else 0)
    elif method == "replace" and len(args) > 1:
        _check_replace(owner, *args[:3])
    elif method == "join" and args and isinstance(args[0], list | tuple | str):
        _check_join(owner, args[0])
    elif method == "translate":
        raise TooLarge("it uses `translate`; the filter `replace` does as well")


def _check_replace(text: Any, old: Any, new: Any, count: Any = None) -> None:
    if not (isinstance(text, str | bytes) and hasattr(old, "__len__") and hasattr(new, "__len__")):
        return
    places = text.count(old)
    if isinstance(count, int) and count >= 0:
        places = min(places, count)
    _check_length(text, len(text) + places * len(new))


def _check_join(between: Any, values: Sequence[Any]) -> None:
    _weigh(values)
    _check_length("", len(values) * len(between) if hasattr(between, "__len__") else 0)


def do_center(value: str, width: int = 80) -> str:
    _check_width(width)
    return str(FILTERS["center"](value, width))


def do_indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> Any:
    _check_width(len(width) if isinstance(width, str) else width)
    each = len(width) if isinstance(width, str) else width
    _check_length("", len(value) + (value.count("\n") + 1) * each)
    return FILTERS["indent"](value, width, first, blank)


@pass_environment
def do_wordwrap(
    environment: Any,
    value: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> Any:
    _check_width(len(wrapstring or ""))
    _check_length("", len(value) + len(value) // max(1, width) * len(wrapstring or ""))
    return FILTERS["wordwrap"](environment, value, width, break_long_words, wrapstring, break_on_hyphens)


@pass_eval_context
def do_replace(eval_ctx: EvalContext, s: Any, old: Any, new: Any, count: int | None = None) -> Any:
    _check_replace(s if isinstance(s, str) else str(s), old, new, count)
    return FILTERS["replace"](eval_ctx, s, old, new, count)


@pass_eval_context
def do_join(eval_ctx: EvalContext, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> Any:
    values = list(value)
    if attribute is None:
        _check_join(d, values)
    return FILTERS["join"](eval_ctx, values, d, attribute)


def do_format(value: str, *args: Any, **named: Any) -> Any:
    _check_format(str(value), (*args, *named.values()))
    return FILTERS["format"](value, *args, **named)


def do_batch(value: Iterable[Any], linecount: int, fill_with: Any = None) -> Any:
    _check_length((), linecount)
    return FILTERS["batch"](value, linecount, fill_with)


@pass_eval_context
def do_slice(eval_ctx: EvalContext, value: Iterable[Any], slices: int, fill_with: Any = None) -> Any:
    _check_length((), slices)
    return FILTERS["slice"](eval_ctx, value, slices, fill_with)


def do_round(value: float, precision: int = 0, method: Any = "common") -> Any:
    if isinstance(precision, int) and abs(precision) > 308:
        raise TooLarge(f"it rounds to {precision} digits, and no number has so many")
    return FILTERS["round"](value, precision, method)


@pass_eval_context
def do_tojson(eval_ctx: EvalContext, value: Any, indent: int | None = None) -> Any:
    _check_width(indent)
    return FILTERS["tojson"](eval_ctx, value, indent)


CAPPED: Mapping[str, Callable[..., Any]] = {
    "batch": do_batch,
    "center": do_center,
    "format": do_format,
    "indent": do_indent,
    "join": do_join,
    "replace": do_replace,
    "round": do_round,
    "slice": do_slice,
    "tojson": do_tojson,
    "wordwrap": do_wordwrap,
}
