"""Bounds on what a few characters of a template can make: a text, a list, a number, a width, a loop without end.

They hold wherever a template is compiled or rendered, in an application's own process, too. Nothing of a template is worked out
when it is compiled. What is left to a clever author ends where a worker renders in a process of its own, with its deadline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from string import Formatter
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn

from jinja2 import Environment, Template, TemplateSyntaxError, nodes, pass_environment, pass_eval_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import FILTERS
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from markupsafe import Markup

from .values import Method, Unfit

MAX_CHARS = 1 << 22  # of a text that a template makes; a message is larger than SES takes long before
MAX_ITEMS = 100_000  # of a list that a template makes; as Jinja2's own for `range`
MAX_BITS = 1 << 14  # of a whole number: 4,900 digits, more than Python writes
MAX_WIDTH = 1_000  # characters that something is filled up to
MAX_STEPS = 1_000_000  # rounds of loops in one part of one message
CALL_STEPS = 10  # a call or an include takes as long as so many rounds
MAX_SOURCE = 1 << 20  # characters of a template with all that it includes
MAX_TOKENS = 40_000  # names, signs and blanks in its tags; `{{ a }}` has five. They are compiled within a second

_CONTAINERS = (list, tuple, dict, set, frozenset)
COUNTED = "counted by the sandbox"  # a filter that no template can name
_NUMBER = re.compile(r"[0-9]+")
_FORMAT = re.compile(r"%(?:\([^)]*+\))?+[-#0 +]*+(\*|[0-9]*+)(?:\.(\*|[0-9]*+))?+")
_TOO_DEEP = re.compile(r"recursion|too many (?:statically )?nested|too many levels of indentation|s_push|stack", re.IGNORECASE)


class TooLarge(Unfit):
    """What a template makes is larger than it may be."""


def _refuse_text() -> NoReturn:
    raise TooLarge(f"it makes a text of more than {MAX_CHARS:,} characters")


def _refuse_width(width: object) -> NoReturn:
    raise TooLarge(f"it fills something up to {width} characters, and {MAX_WIDTH:,} are the most")


# ---- operators -------------------------------------------------------------------------------------------------------


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, int) and hasattr(right, "__len__"):
        _check_length(right, len(right) * left)
    elif isinstance(right, int) and hasattr(left, "__len__"):
        _check_length(left, len(left) * right)
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        _check_bits(left.bit_length() * right)
    return left**right


def _add(left: Any, right: Any) -> Any:
    if hasattr(left, "__len__") and hasattr(right, "__len__"):
        _check_length(left, len(left) + len(right))
    return left + right


def _remainder(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        _check_format(left, right if isinstance(right, tuple) else (right,))
    return left % right


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise TooLarge("it makes a number of more than 4,000 digits")


def _check_length(what: Any, length: int) -> None:
    if isinstance(what, str | bytes):
        if length > MAX_CHARS:
            _refuse_text()
    elif length > MAX_ITEMS:
        raise TooLarge(f"it makes a list of more than {MAX_ITEMS:,} items")


def _check_width(width: Any) -> None:
    if isinstance(width, int) and abs(width) > MAX_WIDTH:
        _refuse_width(width)


def _check_format(format: str, values: Sequence[Any]) -> None:
    """`%5.2f`: widths, and how often the longest value can be put in."""
    found = _FORMAT.findall(format)
    for width in (one for pair in found for one in pair if one):
        if width == "*" or len(width) > 4 or int(width) > MAX_WIDTH:
            _refuse_width("a value's" if width == "*" else width[:20])
    longest = max((_weigh(value) for value in values), default=0)
    if len(format) + len(found) * longest > MAX_CHARS:
        _refuse_text()


def _joined(join: Callable[[Iterable[Any]], Any], values: Sequence[Any]) -> Any:
    """`a ~ b`."""
    _weigh(values)
    return join(values)


def _printed(value: Any) -> Any:
    """What `{{ … }}` prints: a list may hold the same long text many times."""
    if type(value) is not str and isinstance(value, _CONTAINERS):
        _weigh(value)
    return value


def _then_printed(finalize: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def printed(value: Any) -> Any:
        return value if type(value) is str else _printed(finalize(value))

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
        _refuse_text()
    return MAX_CHARS - left


# ---- methods and filters ---------------------------------------------------------------------------------------------


def _check_call(method: str, owner: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
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


# ---- `"{:>5}".format(x)` ---------------------------------------------------------------------------------------------


class _Bounded(Formatter):
    """Beside the sandbox's own formatters."""

    _length = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        for number in _NUMBER.findall(format_spec):
            if len(number) > 4 or int(number) > MAX_WIDTH:
                _refuse_width(number[:20])
        text = super().format_field(value, format_spec)
        self._length += len(text)
        if self._length > MAX_CHARS:
            _refuse_text()
        return text


class _TextFormatter(_Bounded, SandboxedFormatter): ...


class _MarkupFormatter(_Bounded, SandboxedEscapeFormatter): ...


# ---- loops -----------------------------------------------------------------------------------------------------------


class _Counted:
    """What a loop goes through, each round counted."""

    def __init__(self, environment: Capped, values: Any, steps: int = 1) -> None:
        self._environment, self._values, self._steps = environment, values, steps

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._environment.step(self._steps)
            yield value

    def __len__(self) -> int:
        return len(self._values)


@pass_environment
def _counted(environment: Capped, values: Any) -> _Counted:
    return _Counted(environment, values)


class _Generator(CodeGenerator):
    """Works out nothing while it compiles: what a template says in a few characters may take hours, or all memory."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        if frame.eval_ctx.volatile:
            join = "(markup_join if context.eval_ctx.volatile else str_join)"
        else:
            join = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        self.write(f"environment.joined({join}, (")
        for one in node.nodes:
            self.visit(one, frame)
            self.write(", ")
        self.write("))")

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier, frame: Frame) -> None:
        if not all(isinstance(option.value, nodes.Const) for option in node.options):
            self.fail("`autoescape` takes true or false", node.lineno)
        super().visit_ScopedEvalContextModifier(node, frame)


class Capped(ImmutableSandboxedEnvironment):
    """The sandbox with these bounds. One thread renders at a time: the steps are counted for the part that is rendered."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(["*", "**", "%", "+"])

    def __init__(self, **options: Any) -> None:
        finalize = options.pop("finalize", None)
        super().__init__(optimized=False, finalize=_then_printed(finalize) if finalize else _printed, **options)
        self.binop_table |= {"*": _multiply, "**": _power, "%": _remainder, "+": _add}
        self.filters |= {**CAPPED, COUNTED: _counted}
        self.joined = _joined
        self.steps = 0

    def begin(self) -> None:
        """A part of a message is to be rendered."""
        self.steps = 0

    def step(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise TooLarge(f"its loops and calls take more than {MAX_STEPS:,} steps")

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """What macros, blocks and `{% set %}…{% endset %}` make of their pieces."""
        pieces = list(parts)
        if sum(map(len, pieces)) > MAX_CHARS:
            _refuse_text()
        return "".join(pieces)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, COUNTED, [], [], None, None, lineno=loop.lineno)
        return tree

    def get_template(self, name: str | Template, parent: str | None = None, globals: Any = None) -> Template:
        """Also of an include, each time."""
        self.step(CALL_STEPS)
        return super().get_template(name, parent, globals)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        __self.step(CALL_STEPS)
        function = __obj.function if isinstance(__obj, Method) else __obj
        owner = function.__self__ if isinstance(function, BuiltinMethodType | MethodType) else None
        if isinstance(owner, str | bytes | bytearray | int):
            _check_call(function.__name__, owner, args, kwargs)
        elif isinstance(__obj, LoopContext) and args:
            args = (_Counted(__self, args[0], CALL_STEPS), *args[1:])
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text: str = value.__self__
        whole = value.__name__ == "format_map"

        def bounded(*args: Any, **named: Any) -> str:
            if whole and (named or len(args) != 1):
                raise TypeError("format_map() takes exactly one argument")
            escape = isinstance(text, Markup)
            formatter = _MarkupFormatter(self, escape=Markup.escape) if escape else _TextFormatter(self)
            made = formatter.vformat(text, () if whole else args, args[0] if whole else named)
            return Markup(made) if escape else made  # noqa: S704  # its formatter escapes what is put in

        bounded.__name__ = value.__name__
        return bounded


# ---- at intake -------------------------------------------------------------------------------------------------------


def oversize(files: Mapping[str, str], environment: Environment) -> str:
    """Why a template of these files is not compiled: half a sentence; "" where it may be."""
    if (size := sum(map(len, files.values()))) > MAX_SOURCE:
        return f"it has {size:,} characters, and {MAX_SOURCE:,} are the most, with all that it includes"
    if count_tokens(files, environment, MAX_TOKENS) > MAX_TOKENS:
        return f"its tags, {{{{ … }}}} and {{% … %}}, have more than {MAX_TOKENS:,} words and signs, with all that it includes"
    return ""


def count_tokens(files: Mapping[str, str], environment: Environment, most: int) -> int:
    """How many tokens Jinja2 reads of these files; more than `most` are not counted, nor what is behind an error."""
    found = 0
    for source in files.values():
        with suppress(TemplateSyntaxError):
            for _ in islice(environment.lexer.tokeniter(source, None), most + 1 - found):
                found += 1
    return found


def too_deep(error: BaseException) -> bool:
    """Whether Python's own limits say that things stand too deep in each other."""
    return isinstance(error, RecursionError | MemoryError) or bool(_TOO_DEEP.search(str(error)))
