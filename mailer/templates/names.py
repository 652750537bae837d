"""The variables of a template: which it needs, and which it can do without."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jinja2 import meta, nodes

from .content import Content
from .environment import environment

# What the service itself gives to each row. A row's own value of that name comes first.
EMAIL, ROW, LINK, SES_LINK, NOW = "email", "row", "unsubscribe_url", "amazonSESUnsubscribeUrl", "now"
_OF_ROW = "\0"  # before the name of a key of the row, which no variable has in its name
_ASKS = ("default", "d", "defined", "undefined")
_TEXTS = frozenset(("trim", "string", "lower", "upper", "title", "capitalize", "escape", "e", "safe"))
GIVEN = frozenset((EMAIL, ROW, LINK, SES_LINK, NOW))


class Tested(NamedTuple):
    """A value that a condition asks about: its own truth, or whether it is a `constant` that no text is equal to."""

    name: str
    of_row: bool = False  # it is `row["name"]`
    constant: str | None = None  # `true`, `false` or a number, as the template has it
    differs: bool = False  # it asks whether the value is another

    def __str__(self) -> str:
        written = f'row["{self.name}"]' if self.of_row else self.name
        return written if self.constant is None else f"{written} {self.sign} {self.constant}"

    @property
    def sign(self) -> str:
        return "!=" if self.differs else "=="

    @property
    def read(self) -> str:
        """What is read: the variable, or `_OF_ROW` and the key."""
        return _OF_ROW + self.name if self.of_row else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    required: frozenset[str]  # a row without it fails, whatever else it has
    optional: frozenset[str]  # it is behind a condition, or only asked for: by `default`, `if`, `or`, `is defined`
    keys: frozenset[str] = frozenset()  # required of the row itself, as in `{{ row["First Name"] }}`
    tested: frozenset[Tested] = frozenset()  # what conditions ask of values, as `{% if vip %}` or `{% if row["VIP"] == true %}`


def variables(content: Content) -> Names:
    """Of all files of a template, without those that it sets itself. Raises what Jinja2 raises where one does not parse."""
    used, asked, tested, own = set[str](), set[str](), set[Tested](), set[str]()
    env = environment({}, html=False)
    trees = {name: env.parse(source, name=name) for name, source in content.files.items()}
    for tree in trees.values():
        used |= meta.find_undeclared_variables(tree)
        own |= {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
        for test in _tests(tree):
            tested |= set(_operands(test))
        asked |= set(_asked(tree)) | {one.read for one in tested}
        tested |= set(_comparisons(tree)) | set(_texts(tree))
    used -= own  # a file that is included sees what the one that includes it has set
    parts = [part for part in (content.subject, content.html, content.text) if part is not None]
    needed = set(_needed(parts, trees)) - asked
    required = frozenset(used & needed)
    keys = frozenset(name[len(_OF_ROW) :] for name in needed if name.startswith(_OF_ROW) and ROW in used)
    return Names(required=required, optional=frozenset(used - required), keys=keys, tested=frozenset(_given(tested, used)))


def _needed(parts: Sequence[str], trees: Mapping[str, nodes.Template]) -> Iterator[str]:
    """The names that are read for every row: none behind a condition, or in a block that another file may replace."""
    seen = set(parts)
    waiting: list[tuple[nodes.Node, bool]] = [(trees[part], False) for part in parts]  # and whether its blocks may be replaced
    while waiting:
        node, extended = waiting.pop()
        if (found := _value(node)) and not (isinstance(node, nodes.Getattr) and hasattr(dict, node.attr)):
            yield found.read
        if isinstance(node, nodes.Name):
            continue
        if isinstance(node, nodes.Include | nodes.Extends) and isinstance(node.template, nodes.Const):
            name = str(node.template.value)
            if name in trees and name not in seen:
                seen.add(name)
                waiting.append((trees[name], extended or isinstance(node, nodes.Extends)))
        elif not (extended and isinstance(node, nodes.Block)):
            waiting += [(one, extended) for one in _reached(node)]


def _reached(node: nodes.Node) -> Iterable[nodes.Node]:
    """The parts of a node that are come to whatever the data is."""
    if isinstance(node, nodes.If | nodes.CondExpr):
        return [node.test]
    if isinstance(node, nodes.And | nodes.Or):
        return [node.left]
    if isinstance(node, nodes.For):
        return [node.iter]
    if isinstance(node, nodes.Filter) and node.name in _ASKS:
        return [node.node] if node.node is not None else []
    if isinstance(node, nodes.CallBlock):
        return [node.call]
    if isinstance(node, nodes.Macro):
        return []
    if isinstance(node, nodes.Assign | nodes.With | nodes.Call):  # what is only handed on may never be used
        return [one for one in node.iter_child_nodes() if not isinstance(one, nodes.Name)]
    return node.iter_child_nodes()


def _tests(tree: nodes.Node) -> Iterator[nodes.Node]:
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.If | nodes.CondExpr):
            yield node.test


def _operands(node: nodes.Node | None) -> Iterator[Tested]:
    """The values whose own truth a condition asks for."""
    if isinstance(node, nodes.And | nodes.Or):
        yield from _operands(node.left)
        yield from _operands(node.right)
    elif isinstance(node, nodes.Not):
        yield from _operands(node.node)
    elif found := _value(node):
        yield found


def _value(node: nodes.Node | None) -> Tested | None:
    """`vip`, or `row["VIP"]` and `row.VIP`."""
    if isinstance(node, nodes.Name):
        return Tested(node.name)
    if isinstance(node, nodes.Getattr | nodes.Getitem) and isinstance(node.node, nodes.Name) and node.node.name == ROW:
        key = node.attr if isinstance(node, nodes.Getattr) else node.arg.value if isinstance(node.arg, nodes.Const) else None
        return Tested(key, of_row=True) if isinstance(key, str) else None
    return None


def _texts(tree: nodes.Node) -> Iterator[Tested]:
    """The values whose own text a condition asks for: `{% if vip|trim %}`."""
    return (
        found for test in _tests(tree) if isinstance(test, nodes.Filter) and test.name in _TEXTS and (found := _value(test.node))
    )


def _comparisons(tree: nodes.Node) -> Iterator[Tested]:
    """The values that are held against what no text is equal to: `vip == true`, `1 != row["VIP"]`, `vip is true`."""
    for test in tree.find_all(nodes.Test):
        if test.name in ("true", "false") and (found := _value(test.node)):
            yield found._replace(constant=test.name)
    for node in tree.find_all(nodes.Compare):
        if len(node.ops) == 1 and node.ops[0].op in ("eq", "ne"):
            sides = node.expr, node.ops[0].expr
            for one, other in (sides, sides[::-1]):
                if isinstance(other, nodes.Const) and isinstance(other.value, int | float) and (found := _value(one)):
                    constant = str(other.value).lower() if isinstance(other.value, bool) else str(other.value)
                    yield found._replace(constant=constant, differs=node.ops[0].op == "ne")


def _given(tested: Iterable[Tested], used: Collection[str]) -> Iterator[Tested]:
    """Without those that the template sets itself."""
    return (one for one in tested if (ROW if one.of_row else one.name) in used)


def _asked(tree: nodes.Node) -> Iterator[str]:
    """The variables that have something to stand in for them."""
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Or):
            yield from (one.read for one in _operands(node.left))
        elif isinstance(node, nodes.Filter | nodes.Test) and node.name in _ASKS and (found := _value(node.node)):
            yield found.read
