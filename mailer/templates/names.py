"""The variables of a template: which it needs, and which it can do without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import meta, nodes

from .content import Content
from .environment import environment

# What the service itself gives to each row. A row's own value of that name comes first.
EMAIL, ROW, LINK, SES_LINK, NOW = "email", "row", "unsubscribe_url", "amazonSESUnsubscribeUrl", "now"
_ASKS = ("default", "d", "defined", "undefined")
GIVEN = frozenset((EMAIL, ROW, LINK, SES_LINK, NOW))


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    required: frozenset[str]  # a row without it fails, whatever else it has
    optional: frozenset[str]  # it is behind a condition, or only asked for: by `default`, `if`, `or`, `is defined`
    conditions: frozenset[str]  # of both: decides by itself about a part, as in `{% if vip %}`


def variables(content: Content) -> Names:
    """Of all files of a template, without those that it sets itself. Raises what Jinja2 raises where one does not parse."""
    used, asked, conditions, own = set[str](), set[str](), set[str](), set[str]()
    env = environment({}, html=False)
    trees = {name: env.parse(source, name=name) for name, source in content.files.items()}
    for tree in trees.values():
        used |= meta.find_undeclared_variables(tree)
        own |= {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
        for test in _tests(tree):
            conditions |= set(_operands(test))
        asked |= set(_asked(tree))
    used -= own  # a file that is included sees what the one that includes it has set
    asked |= conditions
    parts = [part for part in (content.subject, content.html, content.text) if part is not None]
    required = frozenset(used & set(_needed(parts, trees)) - asked)
    return Names(required=required, optional=frozenset(used - required), conditions=frozenset(used & conditions))


def _needed(parts: Sequence[str], trees: Mapping[str, nodes.Template]) -> Iterator[str]:
    """The names that are read for every row: none behind a condition, or in a block that another file may replace."""
    seen = set(parts)
    waiting: list[tuple[nodes.Node, bool]] = [(trees[part], False) for part in parts]  # and whether its blocks may be replaced
    while waiting:
        node, extended = waiting.pop()
        if isinstance(node, nodes.Name) and node.ctx == "load":
            yield node.name
        elif isinstance(node, nodes.Include | nodes.Extends) and isinstance(node.template, nodes.Const):
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


def _operands(node: nodes.Node) -> Iterator[str]:
    """The variables whose own truth a condition asks for."""
    if isinstance(node, nodes.Name):
        yield node.name
    elif isinstance(node, nodes.And | nodes.Or):
        yield from _operands(node.left)
        yield from _operands(node.right)
    elif isinstance(node, nodes.Not):
        yield from _operands(node.node)


def _asked(tree: nodes.Node) -> Iterator[str]:
    """The variables that have something to stand in for them."""
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Or):
            yield from _operands(node.left)
        elif isinstance(node, nodes.Filter | nodes.Test) and node.name in _ASKS and isinstance(node.node, nodes.Name):
            yield node.node.name
