r"""The part of Handlebars that SES templates use, as SES behaves: values go in verbatim, and a missing one is an error.

In stored templates: ``{{x}}``, ``{{a.b}}``; the blocks ``{{#if x}}``, ``{{#unless x}}``, ``{{#each list}}`` and ``{{#with x}}``
with ``{{else}}`` and ``{{else if y}}``; ``this``, ``../x``, ``@index``, ``@first``, ``@last`` and ``@key``; inline partials,
``{{#* inline "n"}} … {{/inline}}`` and ``{{> n}}``, of the same part; ``{{~x~}}``, comments, and ``\{{`` for two braces that
mean themselves. In inline templates: ``{{x}}`` and ``{{a.b}}`` only. ``{{{x}}}`` is refused everywhere, as by SES.

Source: SES developer guide, "Advanced email personalization"; what the guide leaves open is as in handlebars.js.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

MAX_DEPTH = 64  # blocks and partials in each other, so that no template ends the stack
MAX_NODES = 250_000  # of a template with its partials put in; without any, SES's 500 KB have room for half of it
# SES puts these in after it has rendered the template ("Subscription management", "Custom open and click domains").
RESERVED = frozenset({"amazonSESUnsubscribeUrl", "ses:openTracker"})

_NAME = r"[^\s!\"#%-,./;<=>@\[-^`{-~]+"  # an identifier of handlebars.js
_PATH = re.compile(rf"(?:\.\./)*(?:this|\.|@?{_NAME}|\[[^\]]*\])(?:[./](?:{_NAME}|\[[^\]]*\]))*")
_SEGMENT = re.compile(rf"\[([^\]]*)\]|({_NAME})")
_INDEX = re.compile(r"[0-9]{1,9}")
_OPEN = re.compile(r"\{\{")
_AFTER_ESCAPE = re.compile(r"\{\{|\\\{\{|\\\\\{\{")
_TAG = re.compile(r"\{\{(?P<left>~?)(?:!(?=--).*?--|!(?!--).*?|(?P<inside>[^!].*?|))(?P<right>~?)\}\}", re.DOTALL)
_INLINE = re.compile(r"\*\s*inline\s+(?:\"([^\"]*)\"|'([^']*)')")
_PARTIAL = re.compile(rf">\s*(?:\"([^\"]*)\"|'([^']*)'|({_NAME}))")
_MISSING = object()
_BLOCKS = frozenset({"if", "unless", "each", "with"})


class TemplateSyntaxError(ValueError):
    """The template is not one that SES takes, or uses what is not known here."""


class MissingAttribute(LookupError):
    """A value that the template names is not in the data."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Attribute '{path}' is not present in the rendering data.")
        self.path = path  # as the template spells it: `a.b`, `../a`, `@index`


class Path(NamedTuple):
    """``../a.b`` is ``Path("../a.b", 1, "", ("a", "b"))``; ``@index`` is ``Path("@index", 0, "index", ())``."""

    text: str
    up: int
    special: str
    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class If:
    path: Path
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Each:
    path: Path
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class With:
    path: Path
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Partial:
    name: str
    partials: Mapping[str, tuple[Node, ...]]  # those of the whole part; it may be defined behind its use


Node = str | Path | If | Each | With | Partial


class Scope(NamedTuple):
    """Where a path is looked up: the data, what ``@…`` means there, and the scope around it."""

    data: Any
    special: Mapping[str, Any]
    outer: Scope | None


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled part (subject, text or html)."""

    nodes: tuple[Node, ...]
    plain: tuple[Path, ...] | None  # the distinct paths, where nothing but substitution is used; None where blocks are

    def render(self, data: Mapping[str, Any]) -> str:
        """The text. Raises MissingAttribute."""
        return "".join(map(_text, _walk(self.nodes, Scope(data, {}, None))))

    def check(self, data: Mapping[str, Any]) -> None:
        """Raises MissingAttribute where `render` would, without building the text."""
        scope = Scope(data, {}, None)
        if self.plain is None:
            for _ in _walk(self.nodes, scope):
                pass
        else:
            for path in self.plain:
                _value(path, scope)


def compile_template(source: str, *, inline: bool = False) -> Template:
    """Raises TemplateSyntaxError; with `inline` also for anything but simple substitution."""
    parser = _Parser(_tokens(source, inline=inline), inline)
    nodes, _ = parser.until(None)
    _Weight(parser.partials).of(nodes, 0)
    plain = tuple(dict.fromkeys(node for node in nodes if isinstance(node, Path)))
    return Template(nodes, plain if all(isinstance(node, str | Path) for node in nodes) else None)


def merge(defaults: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Objects merge key by key, deeply; lists and everything else are replaced whole."""
    result = dict(defaults)
    for key, value in entry.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


# ---- parsing -------------------------------------------------------------------------------------------------------


class _Tag(str):
    """What stands between ``{{`` and ``}}``; a plain str among the tokens is literal text."""

    __slots__ = ()


def _tokens(source: str, *, inline: bool) -> Iterator[str]:
    text: list[str] = []  # what stands since the last tag, in pieces
    place, trim = 0, False  # trim: the last tag ends with `~`
    while match := _OPEN.search(source, place):
        start = match.start()
        before = source[place:start]
        if before.endswith("\\") and not before.endswith("\\\\"):
            after = _AFTER_ESCAPE.search(source, start + 2)  # an escape lasts until the next opening of any kind
            place = after.start() if after else len(source)
            text.append(before[:-1] + source[start:place])
            continue
        text.append(before[:-1] if before.endswith("\\\\") else before)
        tag = _tag(source, start)
        if inline and (tag["left"] or tag["right"]):
            raise TemplateSyntaxError(f"{tag[0]} is not supported in an inline template")
        literal = "".join(text)
        literal = literal.lstrip() if trim else literal
        yield literal.rstrip() if tag["left"] else literal
        if tag["inside"] is not None:
            yield _Tag(tag["inside"].strip())
        text, place, trim = [], tag.end(), bool(tag["right"])
    literal = "".join([*text, source[place:]])
    yield literal.lstrip() if trim else literal


def _tag(source: str, start: int) -> re.Match[str]:
    """The tag that starts there; `inside` is None for a comment."""
    tag = _TAG.match(source, start)
    if source.startswith("{{{", start) or (tag and (tag["inside"] or "").startswith("{")):
        raise TemplateSyntaxError("triple braces are not supported; write {{name}}, which is inserted verbatim")
    if tag is None:
        raise TemplateSyntaxError(f"a tag is not closed: {source[start : start + 40]!r}")
    return tag


@dataclass(slots=True)
class _Parser:
    tokens: Iterator[str]
    inline: bool
    partials: dict[str, tuple[Node, ...]] = field(default_factory=dict)
    depth: int = 0

    def until(self, block: str | None) -> tuple[tuple[Node, ...], str]:
        """Nodes up to the tag that ends the block, and that tag: ``else``, ``else if x``, ``/if``, or "" at the end."""
        nodes: list[Node] = []
        for token in self.tokens:
            if not isinstance(token, _Tag):
                if token:
                    nodes.append(str(token))
            elif token.startswith("/") or _is_else(token):
                end = f"/{token[1:].strip()}" if token.startswith("/") else str(token)
                if block is None or (end != f"/{block}" and (block == "inline" or not _is_else(end))):
                    raise TemplateSyntaxError(f"{{{{{token}}}}} closes nothing that is open there")
                return tuple(nodes), end
            elif (node := self._node(token)) is not None:
                nodes.append(node)
        if block is not None:
            raise TemplateSyntaxError(f"{{{{#{block}}}}} is not closed")
        return tuple(nodes), ""

    def _node(self, token: str) -> Node | None:
        if not token.startswith(("#", ">")):
            return f"{{{{{token}}}}}" if token in RESERVED else self._path(token)
        if self.inline:
            raise TemplateSyntaxError(f"{{{{{token}}}}} is not supported in an inline template")
        head = token[1:].strip()
        if token.startswith(">"):
            return Partial(_quoted(_PARTIAL, token), self.partials)
        if head.startswith("*"):
            self._define(_quoted(_INLINE, head))
            return None
        return self._block(head, _words(head)[0])

    def _define(self, name: str) -> None:
        if name in self.partials:
            raise TemplateSyntaxError(f"there are two inline partials '{name}'")
        self._enter()
        self.partials[name] = ()  # taken, also by those inside it
        self.partials[name], _ = self.until("inline")
        self.depth -= 1

    def _block(self, head: str, closes: str) -> If | Each | With:
        """The block up to ``{{/closes}}``: the name of the first block, where this one hangs on an ``{{else if x}}``."""
        name, argument = _words(head)
        if name not in _BLOCKS:
            raise TemplateSyntaxError(f"{{{{#{head}}}}} is not supported")
        self._enter()
        path = self._path(argument)
        then, end = self.until(closes)
        otherwise: tuple[Node, ...] = ()
        if chained := end[4:].strip() if end.startswith("else") else "":
            otherwise = (self._block(chained, closes),)
        elif _is_else(end):
            otherwise, end = self.until(closes)
            if _is_else(end):
                raise TemplateSyntaxError(f"{{{{#{closes}}}}} has two {{{{else}}}}")
        self.depth -= 1
        if name == "each":
            return Each(path, then, otherwise)
        if name == "with":
            return With(path, then, otherwise)
        return If(path, then, otherwise) if name == "if" else If(path, otherwise, then)

    def _enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TemplateSyntaxError(f"more than {MAX_DEPTH} blocks stand in each other")

    def _path(self, text: str) -> Path:
        if not _PATH.fullmatch(text):
            raise TemplateSyntaxError(f"{{{{{text}}}}} is not supported")
        up = text.count("../")
        rest = text[3 * up :]
        if self.inline and (up or rest.startswith("@") or rest.split(".")[0] == "this"):
            raise TemplateSyntaxError(f"{{{{{text}}}}} is not supported in an inline template")
        if rest.startswith("@"):
            return Path(text, up, rest[1:], ())
        segments = tuple(match[1] if match[1] is not None else match[2] for match in _SEGMENT.finditer(rest))
        return Path(text, up, "", segments[1:] if segments[:1] == ("this",) and not rest.startswith("[") else segments)


def _is_else(tag: str) -> bool:
    return tag == "^" or _words(tag)[0] == "else"


def _words(head: str) -> tuple[str, str]:
    """``if  a b`` → ``if`` and ``a b``."""
    name, *rest = head.split(maxsplit=1) or [""]
    return name, rest[0] if rest else ""


def _quoted(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.fullmatch(text)
    if match is None:
        raise TemplateSyntaxError(f"{{{{{text}}}}} is not supported")
    return next(group for group in match.groups() if group is not None)


@dataclass(slots=True)
class _Weight:
    """How large and deep a template is with its partials put in. A few lines can make a billion nodes, or never end."""

    partials: Mapping[str, tuple[Node, ...]]
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    def of(self, nodes: tuple[Node, ...], depth: int) -> tuple[int, int]:
        """The number of nodes, and how deep they go below `depth`."""
        if depth > MAX_DEPTH:
            raise TemplateSyntaxError(f"more than {MAX_DEPTH} blocks and partials stand in each other")
        size, height = len(nodes), 0
        for node in nodes:
            if isinstance(node, Partial):
                inner = [self._partial(node.name, depth + 1)]
            elif isinstance(node, If | Each | With):
                inner = [self.of(node.then, depth + 1), self.of(node.otherwise, depth + 1)]
            else:
                continue
            size += sum(part[0] for part in inner)
            height = max(height, 1 + max(part[1] for part in inner))
        if depth + height > MAX_DEPTH or size > MAX_NODES:
            raise TemplateSyntaxError(f"its partials make more than {MAX_NODES} parts, or stand more than {MAX_DEPTH} deep")
        return size, height

    def _partial(self, name: str, depth: int) -> tuple[int, int]:
        if name not in self.partials:
            raise TemplateSyntaxError(f"there is no inline partial '{name}' in this part")
        if name in self.open:
            raise TemplateSyntaxError(f"the inline partial '{name}' is part of itself")
        if name not in self.known:
            self.open.append(name)
            self.known[name] = self.of(self.partials[name], depth)
            self.open.pop()
        size, height = self.known[name]
        if depth + height > MAX_DEPTH:
            raise TemplateSyntaxError(f"more than {MAX_DEPTH} blocks and partials stand in each other")
        return size, height


# ---- rendering -----------------------------------------------------------------------------------------------------


def _find(path: Path, scope: Scope) -> Any:
    for _ in range(path.up):
        if scope.outer is None:
            return _MISSING
        scope = scope.outer
    if path.special:
        return scope.special.get(path.special, _MISSING)
    value = scope.data
    for segment in path.segments:
        if isinstance(value, dict) and segment in value:
            value = value[segment]
        elif isinstance(value, list) and _INDEX.fullmatch(segment) and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return _MISSING
    return value


def _value(path: Path, scope: Scope) -> Any:
    value = _find(path, scope)
    if value is _MISSING:
        raise MissingAttribute(path.text)
    return value


def _walk(nodes: tuple[Node, ...], scope: Scope) -> Iterator[Any]:
    """The values that make the text, in order."""
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Path):
            yield _value(node, scope)
        elif isinstance(node, If):
            yield from _walk(node.then if _true(_find(node.path, scope)) else node.otherwise, scope)
        elif isinstance(node, Each):
            yield from _each(node, scope)
        elif isinstance(node, With):
            value = _find(node.path, scope)
            there = _true(value) or (isinstance(value, int | float) and value is not False)  # a 0 is there
            yield from _walk(node.then, Scope(value, scope.special, scope)) if there else _walk(node.otherwise, scope)
        else:
            yield from _walk(node.partials[node.name], scope)


def _each(node: Each, scope: Scope) -> Iterator[Any]:
    value = _find(node.path, scope)
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    if not pairs:
        yield from _walk(node.otherwise, scope)
    for index, (key, item) in enumerate(pairs):
        special = {"index": index, "key": key, "first": index == 0, "last": index == len(pairs) - 1}
        yield from _walk(node.then, Scope(item, special, scope))


def _true(value: Any) -> bool:
    """What Handlebars takes for true: an empty object is, an empty list, string, 0, null and a missing value are not."""
    return value is not _MISSING and (isinstance(value, dict) or bool(value))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # more than 250 lists in each other, or no JSON at all
        return "[object Object]"
