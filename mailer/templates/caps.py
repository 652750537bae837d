"""The sandbox with bounds: each operation has its own (`bounds.py`), and the rounds of all loops of a part are counted.

Nothing of a template is worked out when it is compiled. What is left to a clever author ends where a worker renders in a
process of its own, with its deadline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from string import Formatter
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import Environment, Template, TemplateSyntaxError, nodes, pass_environment
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from markupsafe import Markup

from .bounds import (
    CAPPED,
    MAX_CHARS,
    MAX_WIDTH,
    TooLarge,
    add,
    check_call,
    joined,
    multiply,
    power,
    refuse_text,
    refuse_width,
    remainder,
    then_weighed,
    weighed,
)
from .values import Method

MAX_STEPS = 1_000_000  # rounds of loops in one part of one message
CALL_STEPS = 10  # a call or an include takes as long as so many rounds
MAX_SOURCE = 1 << 20  # characters of a template with all that it includes
MAX_TOKENS = 40_000  # names, signs and blanks in its tags; `{{ a }}` has five. They are compiled within a second

_NUMBER = re.compile(r"[0-9]+")
COUNTED = "counted by the sandbox"  # a filter that no template can name
_TOO_DEEP = re.compile(r"recursion|too many (?:statically )?nested|too many levels of indentation|s_push|stack", re.IGNORECASE)


# ---- `"{:>5}".format(x)` ---------------------------------------------------------------------------------------------


class _Bounded(Formatter):
    """Beside the sandbox's own formatters."""

    _length = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        for number in _NUMBER.findall(format_spec):
            if len(number) > 4 or int(number) > MAX_WIDTH:
                refuse_width(number[:20])
        text = super().format_field(value, format_spec)
        self._length += len(text)
        if self._length > MAX_CHARS:
            refuse_text()
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
        super().__init__(optimized=False, finalize=then_weighed(finalize) if finalize else weighed, **options)
        self.binop_table |= {"*": multiply, "**": power, "%": remainder, "+": add}
        self.filters |= {**CAPPED, COUNTED: _counted}
        self.joined = joined
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
            refuse_text()
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
            check_call(function.__name__, owner, args, kwargs)
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
