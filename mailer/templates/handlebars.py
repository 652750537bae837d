r"""The part of Handlebars that SES templates use, as SES behaves: values go in verbatim, and a missing one is an error.

In stored templates: ``{{x}}``, ``{{a.b}}``, ``{{#if x}} … {{else}} … {{/if}}``, ``{{#each list}} … {{/each}}`` with
``this``, ``../x``, ``@index``, ``@first``, ``@last`` and ``@key``, comments, and ``\{{`` for two braces that mean themselves.
In inline templates: ``{{x}}`` and ``{{a.b}}`` only. ``{{{x}}}`` is refused everywhere, as by SES.

Source: SES developer guide, "Advanced email personalization"; the lexer rules for backslashes are those of handlebars.js.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

_NAME = r"[^\s!\"#%-,./;<=>@\[-^`{-~]+"  # an identifier of handlebars.js
_PATH = re.compile(rf"(?:\.\./)*(?:this|\.|@?{_NAME}|\[[^\]]*\])(?:[./](?:{_NAME}|\[[^\]]*\]))*")
_SEGMENT = re.compile(rf"\[([^\]]*)\]|({_NAME})")
_OPEN = re.compile(r"\{\{")
_AFTER_ESCAPE = re.compile(r"\{\{|\\\{\{|\\\\\{\{")
_MISSING = object()
_ELSE = frozenset({"else", "^"})


class TemplateSyntaxError(ValueError):
    """The template is not one that SES takes."""


class MissingAttribute(LookupError):
    """A value that the template names is not in the data."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Attribute '{path}' is not present in the rendering data.")


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
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node = str | Path | If | Each


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
        return "".join(_walk(self.nodes, Scope(data, {}, None)))

    def check(self, data: Mapping[str, Any]) -> None:
        """Raises MissingAttribute where `render` would, without building the text."""
        scope = Scope(data, {}, None)
        if self.plain is None:
            for _ in _walk(self.nodes, scope):
                pass
        else:
            for path in self.plain:
                if _find(path, scope) is _MISSING:
                    raise MissingAttribute(path.text)


def compile_template(source: str, *, inline: bool = False) -> Template:
    """Raises TemplateSyntaxError; with `inline` also for anything but simple substitution."""
    nodes, rest = _Parser(_tokens(source), inline).block(None)
    if rest:
        raise TemplateSyntaxError(f"{{{{{rest}}}}} closes nothing")
    plain = tuple(dict.fromkeys(node for node in nodes if isinstance(node, Path)))
    return Template(nodes, None if any(isinstance(node, If | Each) for node in nodes) else plain)


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


def _tokens(source: str) -> Iterator[str]:
    place = 0
    while match := _OPEN.search(source, place):
        start = match.start()
        before = source[place:start]
        if before.endswith("\\") and not before.endswith("\\\\"):
            after = _AFTER_ESCAPE.search(source, start + 2)  # an escape lasts until the next opening of any kind
            end = after.start() if after else len(source)
            yield before[:-1] + source[start:end]
            place = end
            continue
        yield before[:-1] if before.endswith("\\\\") else before
        place = yield from _tag(source, start)
    yield source[place:]


def _tag(source: str, start: int) -> Generator[str, None, int]:
    """One tag, and as the return value the place behind it."""
    if source.startswith("{{{", start):
        raise TemplateSyntaxError("triple braces are not supported; write {{name}}, which is inserted verbatim")
    close = "--}}" if source.startswith("{{!--", start) else "}}"
    end = source.find(close, start + 2)
    if end < 0:
        raise TemplateSyntaxError(f"a tag is not closed: {source[start : start + 40]!r}")
    if not source.startswith("{{!", start):
        yield _Tag(source[start + 2 : end].strip())
    return end + len(close)


@dataclass(slots=True)
class _Parser:
    tokens: Iterator[str]
    inline: bool

    def block(self, name: str | None) -> tuple[tuple[Node, ...], str]:
        """Nodes up to the tag that ends the block `name`, and that tag: ``else``, ``/if``, ``/each``, or "" at the end."""
        nodes: list[Node] = []
        for token in self.tokens:
            if not isinstance(token, _Tag):
                if token:
                    nodes.append(str(token))
            elif token.startswith("/") or token in _ELSE:
                if name is None or token not in {*_ELSE, f"/{name}"}:
                    raise TemplateSyntaxError(f"{{{{{token}}}}} closes nothing that is open there")
                return tuple(nodes), str(token)
            elif token.startswith("#"):
                nodes.append(self._open(token))
            else:
                nodes.append(self._path(token))
        if name is not None:
            raise TemplateSyntaxError(f"{{{{#{name}}}}} is not closed")
        return tuple(nodes), ""

    def _open(self, token: str) -> Node:
        name, _, argument = token[1:].strip().partition(" ")
        if self.inline or name not in {"if", "each"}:
            raise TemplateSyntaxError(f"{{{{{token}}}}} is not supported" + " in an inline template" * self.inline)
        path = self._path(argument.strip())
        body, end = self.block(name)
        otherwise: tuple[Node, ...] = ()
        if end in _ELSE:
            otherwise, end = self.block(name)
            if end in _ELSE:
                raise TemplateSyntaxError(f"{{{{#{name}}}}} has two {{{{else}}}}")
        return If(path, body, otherwise) if name == "if" else Each(path, body, otherwise)

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
        elif isinstance(value, list) and segment.isdecimal() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return _MISSING
    return value


def _walk(nodes: tuple[Node, ...], scope: Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Path):
            value = _find(node, scope)
            if value is _MISSING:
                raise MissingAttribute(node.text)
            yield _text(value)
        elif isinstance(node, If):
            yield from _walk(node.then if _true(_find(node.path, scope)) else node.otherwise, scope)
        else:
            yield from _each(node, scope)


def _each(node: Each, scope: Scope) -> Iterator[str]:
    value = _find(node.path, scope)
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    if not pairs:
        yield from _walk(node.otherwise, scope)
    for index, (key, item) in enumerate(pairs):
        special = {"index": index, "key": key, "first": index == 0, "last": index == len(pairs) - 1}
        yield from _walk(node.body, Scope(item, special, scope))


def _true(value: Any) -> bool:
    """What Handlebars takes for true: an empty object is, an empty list, string, 0, null and a missing value are not."""
    return value is not _MISSING and (isinstance(value, dict) or bool(value))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()
