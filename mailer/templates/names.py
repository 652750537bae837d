"""The variables of a template: which it needs, and which it can do without."""

from __future__ import annotations

from collections.abc import Iterator
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
    required: frozenset[str]  # a row without it fails
    optional: frozenset[str]  # somewhere it is only asked for: by `default`, `if`, `or`, `is defined`
    conditions: frozenset[str]  # of both: decides by itself about a part, as in `{% if vip %}`


def variables(content: Content) -> Names:
    """Of all files of a template, without those that it sets itself. Raises what Jinja2 raises where one does not parse."""
    used, asked, conditions, own = set[str](), set[str](), set[str](), set[str]()
    env = environment({}, html=False)
    for name, source in content.files.items():
        tree = env.parse(source, name=name)
        used |= meta.find_undeclared_variables(tree)
        own |= {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
        for test in _tests(tree):
            conditions |= set(_operands(test))
        asked |= set(_asked(tree))
    used -= own  # a file that is included sees what the one that includes it has set
    asked |= conditions
    return Names(required=frozenset(used - asked), optional=frozenset(used & asked), conditions=frozenset(used & conditions))


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
