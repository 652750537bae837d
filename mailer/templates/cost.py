"""What rendering a template can cost at most, read from its source; or that it cannot be told.

A worker renders a template in its event loop only where this shows that no row, whatever its data, holds the loop up: plain
output, conditions, and loops that do not stand in each other, with filters whose time and result grow with their value and no
faster. Everything else (macros, imports, arithmetic, what Jinja2 adds tomorrow) is rendered in a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from jinja2 import nodes

from .caps import COUNTED, count_tokens
from .content import Content
from .environment import environment

MAX_SOURCE = 1 << 16  # characters of it with all that it includes, so that it is compiled in a moment
MAX_TOKENS = 4_000  # as above
MAX_COST = 1_000_000  # about 10 ns each: a hundredth of a second for a row
_MAX_LOCALES = 6  # formats and locales of its dates and numbers: reading a locale takes some hundredths of a second
_MAX_VISITS = 20_000  # nodes that are looked at, with files that are included many times

# In the unit of MAX_COST.
_STEP, _OUTPUT, _LOOP, _ROUND, _INCLUDE, _FORMAT = 20, 60, 500, 300, 2_000, 2_000
_PRINTED = 10  # a value may be printed as Python writes it, and escaped


class Cost(NamedTuple):
    """`fixed`, and `data` for each byte of the row's data; and again for each round of a loop, of which the longest list in the
    data has as many as it has items."""

    fixed: int
    data: int
    round: int
    round_data: int
    text: int  # characters of the longest text that the template itself writes
    items: int  # of the longest list that it writes

    def room(self, longest: int = 0) -> int:
        """Bytes of data that a row may have to be rendered where everything else waits for it, with a list of so many items in
        it; negative: none may."""
        rounds = max(self.items, longest)
        left = MAX_COST - self.fixed - rounds * self.round
        return left // max(1, self.data + rounds * self.round_data) - self.text if left >= 0 else -1

    @property
    def has_loops(self) -> bool:
        """Else `longest` does not matter."""
        return self.round > 0


def measure(content: Content) -> Cost | None:
    """None where it is not known to be cheap. Raises what Jinja2 does for a template that does not compile."""
    env = environment(content.files, html=True)
    if sum(map(len, content.files.values())) > MAX_SOURCE or count_tokens(content.files, env, MAX_TOKENS) > MAX_TOKENS:
        return None
    meter = _Meter({name: env.parse(source, name) for name, source in content.files.items()})
    with suppress(_NotCheap, RecursionError):
        for part in (content.subject, content.html, content.text):
            if part is not None:
                meter.template(part)
        return meter.cost() if meter.cost().fixed <= MAX_COST else None
    return None


def longest(value: Any) -> int:
    """The most rounds that a loop over a part of a row's data has."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return max([len(value), *map(longest, value.values())])
    if isinstance(value, list | tuple | set | frozenset):
        return max([len(value), *map(longest, value)])
    return 0


class _NotCheap(Exception):
    pass


# Name → how many times as long as its value the result is at most.
_GROWTH = {
    **dict.fromkeys(("safe", "trim", "first", "last", "reverse", "list", "default", "d"), 1),
    **dict.fromkeys(("upper", "lower", "title", "capitalize"), 3),
    **dict.fromkeys(("string", "sum", "truncate"), 2),
    **dict.fromkeys(("e", "escape"), 5),
    **dict.fromkeys(("urlencode", "tojson"), 6),
    **dict.fromkeys(("length", "count", "int", "float", "abs", "round", "wordcount"), 0),
}
_FORMATS = frozenset(("date", "time", "datetime", "strftime", "number", "percent", "currency", "money"))
_PLAIN = frozenset(("e", "escape", "safe", "upper", "lower", "title", "capitalize", "string", "urlencode", "tojson", "list"))
_METHODS = {
    **dict.fromkeys(("strip", "lstrip", "rstrip", "get", "items", "keys", "values", "removeprefix", "removesuffix"), 1),
    **dict.fromkeys(("upper", "lower", "title", "capitalize", "casefold", "swapcase"), 3),
    **dict.fromkeys(("startswith", "endswith", "isdigit", "isalpha", "isupper", "islower", "count", "find"), 0),
    "split": 4,
}
_TESTS = frozenset(
    (
        *("defined", "undefined", "none", "true", "false", "boolean", "string", "number", "integer", "float", "mapping"),
        *("sequence", "iterable", "odd", "even", "divisibleby", "sameas", "lower", "upper", "in"),
        *("eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">="),
    )
)


class _Meter:
    """Adds up what the parts of a template cost. Raises _NotCheap for what it does not know."""

    def __init__(self, trees: Mapping[str, nodes.Template]) -> None:
        self._trees = trees
        self._open: list[str] = []  # files that are being gone through
        self._blocks: list[Mapping[str, nodes.Block]] = []  # of the files that extend each other, the outermost last
        self._level = 0
        self._items: frozenset[str] | None = None  # in a loop: the names of its items
        self._block = ""
        self._locales = set[Any]()
        self._visits = self._text = self._list = 0
        self._once, self._each = [0, 0], [0, 0]  # fixed, and for each byte of the data

    def cost(self) -> Cost:
        (fixed, data), (fixed_each, data_each) = self._once, self._each
        return Cost(fixed, data, fixed_each, data_each, self._text, self._list)

    def _charge(self, fixed: int, data: int = 0, *, of_item: bool = False) -> None:
        """`of_item`: what the rounds of a loop have of the data is not more than all of it."""
        kept = self._once if self._items is None else self._each
        kept[0] += fixed
        (self._once if of_item else kept)[1] += data
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise _NotCheap

    # ---- statements ------------------------------------------------------------------------------

    def template(self, name: str) -> None:
        """With the files that it extends."""
        chain, blocks, level = list[nodes.Template](), self._blocks, self._level
        while name:
            if name in self._open or name not in self._trees:
                raise _NotCheap
            self._open.append(name)
            tree = self._trees[name]
            chain.append(tree)
            extends = [node for node in tree.body if isinstance(node, nodes.Extends)]
            name = _constant(extends[0].template) if extends else ""
        self._blocks = [{block.name: block for block in tree.find_all(nodes.Block)} for tree in chain]
        for self._level, tree in enumerate(chain):
            self._all(tree.body)
        del self._open[-len(chain) :]
        self._blocks, self._level = blocks, level

    def _all(self, body: list[nodes.Node]) -> None:
        for node in body:
            self._statement(node)

    def _statement(self, node: nodes.Node) -> None:
        match node:
            case nodes.Output():
                for one in node.nodes:
                    self._output(one)
            case nodes.If():
                self._value(node.test)
                self._all([*node.body, *node.elif_, *node.else_])
            case nodes.For():
                self._loop(node)
            case nodes.Block() if self._items is None:
                around, self._block = self._block, node.name
                self._all(node.body)
                self._block = around
            case nodes.Include():
                self._include(_constant(node.template))
            case nodes.Assign(target=nodes.Name()):
                if self._value(node.node) > 1:
                    raise _NotCheap
            case nodes.Extends():
                self._charge(_INCLUDE)
            case _:
                raise _NotCheap

    def _include(self, name: str) -> None:
        self._charge(_INCLUDE)
        items, block = self._items, self._block
        if items is not None:
            self._items = frozenset()  # the names may stand for something else there
        self.template(name)
        self._items, self._block = items, block

    def _output(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.TemplateData):
            self._charge(_OUTPUT + len(node.data))
        else:
            self._charge(_OUTPUT, _PRINTED * self._value(node), of_item=self._is_of_item(node))

    def _loop(self, node: nodes.For) -> None:
        if self._items is not None or node.recursive:
            raise _NotCheap
        values = node.iter
        if isinstance(values, nodes.Filter) and values.name == COUNTED and values.node is not None:
            values = values.node
        if isinstance(values, nodes.List | nodes.Tuple):
            self._list = max(self._list, len(values.items))
        elif any(call.node.attr == "split" for call in values.find_all(nodes.Call) if isinstance(call.node, nodes.Getattr)):
            raise _NotCheap  # the list is not one of the data's
        if self._value(values) > 2:
            raise _NotCheap
        self._charge(_LOOP)
        self._items = _names(node.target) - frozenset(name for one in node.body for name in _names(one, "store"))
        self._charge(_ROUND)
        if node.test is not None:
            self._value(node.test)
        self._all(node.body)
        self._items = None
        self._all(node.else_)

    def _is_of_item(self, node: nodes.Node) -> bool:
        """Whether all that it is made of belongs to the item of this round."""
        return self._items is not None and _names(node) <= self._items

    # ---- expressions -----------------------------------------------------------------------------

    def _value(self, node: nodes.Node) -> int:
        """How many times as long as the data the value is at most."""
        self._charge(_STEP)
        match node:
            case nodes.Const():
                self._text = max(self._text, len(node.value) if isinstance(node.value, str) else 0)
                return int(isinstance(node.value, str))
            case nodes.Name():
                return 1
            case nodes.Getattr(node=nodes.Name(name="loop"), attr=attribute):
                return int(attribute in ("previtem", "nextitem"))
            case nodes.Getattr():
                return self._value(node.node)
            case nodes.Getitem():
                self._value(node.arg)
                return self._value(node.node)
            case nodes.Slice():
                return max((self._value(one) for one in (node.start, node.stop, node.step) if one is not None), default=0)
            case nodes.Not():
                return min(self._value(node.node), 0)
            case nodes.And() | nodes.Or():
                return max(self._value(node.left), self._value(node.right))
            case nodes.CondExpr():
                self._value(node.test)
                return max(self._value(node.expr1), self._value(node.expr2) if node.expr2 is not None else 0)
            case nodes.List() | nodes.Tuple():
                return sum(map(self._value, node.items))
            case nodes.Concat():
                return self._gone_through(sum(map(self._value, node.nodes)), node)
            case nodes.Compare():
                return min(0, self._gone_through(self._value(node.expr) + sum(self._value(one.expr) for one in node.ops), node))
            case _:
                return self._operation(node)

    def _gone_through(self, growth: int, node: nodes.Node) -> int:
        self._charge(_STEP, growth, of_item=self._is_of_item(node))
        return growth

    def _operation(self, node: nodes.Node) -> int:
        match node:
            case nodes.Neg() | nodes.Pos():
                self._value(node.node)
                return 0
            case nodes.Add():
                return self._gone_through(self._value(node.left) + self._value(node.right), node)
            case nodes.Sub() | nodes.Div() | nodes.FloorDiv():  # of numbers only
                return min(0, self._gone_through(self._value(node.left) + self._value(node.right), node))
            case nodes.Mod(left=nodes.Getattr(node=nodes.Name(name="loop")), right=nodes.Const(value=int())):
                return 0
            case nodes.Filter() if node.node is not None and node.dyn_args is None and node.dyn_kwargs is None:
                return self._filter(node, node.node)
            case nodes.Test() if node.name in _TESTS and node.dyn_args is None and node.dyn_kwargs is None:
                return min(0, self._gone_through(self._value(node.node) + sum(map(self._value, node.args or ())), node))
            case nodes.Call() if node.dyn_args is None and node.dyn_kwargs is None:
                return self._call(node)
        raise _NotCheap

    def _filter(self, node: nodes.Filter, value: nodes.Expr) -> int:
        length, args = self._value(value), [*node.args, *(pair.value for pair in node.kwargs)]
        if node.name in ("default", "d"):
            return max([length, *map(self._value, args)])
        if not all(isinstance(arg, nodes.Const) for arg in args) or (args and node.name in _PLAIN):
            raise _NotCheap
        constants = [arg.value for arg in args if isinstance(arg, nodes.Const)]
        if node.name in _FORMATS:
            self._charge(_FORMAT)
            self._locales.update(constants)  # among formats
            if len(self._locales) > _MAX_LOCALES:
                raise _NotCheap
            growth = 0
        elif node.name in ("join", "replace"):
            growth = 2 + max((len(one) for one in constants if isinstance(one, str)), default=0)
        elif node.name in _GROWTH:
            growth = _GROWTH[node.name]
        else:
            raise _NotCheap
        return self._bounded(length, growth, value)

    def _bounded(self, length: int, growth: int, value: nodes.Node) -> int:
        """A value, and what is made of it. In a loop it may be made again and again of the same."""
        self._gone_through(length * max(1, growth), value)
        if length * growth > 1000:
            raise _NotCheap
        return length * growth

    def _call(self, node: nodes.Call) -> int:
        if not all(isinstance(arg, nodes.Const) for arg in node.args) or node.kwargs:
            raise _NotCheap
        if isinstance(node.node, nodes.Name) and node.node.name == "super" and not node.args:
            return self._super()
        if not isinstance(node.node, nodes.Getattr):
            raise _NotCheap
        method, owner = node.node.attr, node.node.node
        if isinstance(owner, nodes.Name) and owner.name == "loop" and method == "cycle":
            return 0
        if method not in _METHODS:
            raise _NotCheap
        return self._bounded(self._value(owner), _METHODS[method], owner)

    def _super(self) -> int:
        """What the block has in the file that is extended, once more."""
        level = self._level
        for above in range(level + 1, len(self._blocks)):
            if self._block in self._blocks[above]:
                self._level = above
                self._all(self._blocks[above][self._block].body)
                break
        self._level = level
        return 0


def _names(node: nodes.Node, context: str = "") -> frozenset[str]:
    """The names in it; with a context, those that are used so."""
    found = [node] if isinstance(node, nodes.Name) else node.find_all(nodes.Name)
    return frozenset(name.name for name in found if context in ("", name.ctx))


def _constant(node: nodes.Node) -> str:
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return node.value
    raise _NotCheap
