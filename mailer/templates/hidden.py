"""What a mail client does not show of an HTML body, and how it sets what it shows: previews, spacers, boxes, struck-out prices.

An element's own attributes say it, or a rule of the mail's own style: by class, id or name, also below others (`body .preview`).
Where it is not clear, the element is taken for shown: a preview too much in the text part is better than a sentence too few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, Protocol

from .tags import Tag, attributes_of

MAX_RULES, MAX_DEEP = 50, 20  # rules for one class, id or name, and in all those for what stands in another element
KEPT, KEPT_CHARS = 512, 500  # styles of elements whose look is kept, and their characters
MAX_ABOVE = 32  # elements around one in which a rule's other names are looked for

# Possessive quantifiers: no value, however long, is tried in a second way.
_ZERO = re.compile(r"-?+(?:0++(?:\.0*+)?+|\.0++)(?:px|pt|em|rem|ex|%)?+")
_TINY = re.compile(r"(?:0++(?:\.0*+)?+|\.0++)(?:[a-z]++|%)?+|(?:0*+1(?:\.0*+)?+|0*+\.\d++)(?:px|pt)")
_FAR_OFF = re.compile(r"-(?:[1-9]\d{3,}+(?:\.\d*+)?+(?:px|pt|%)|999(?:px|pt)|[1-9]\d{2,}+(?:\.\d*+)?+(?:em|rem|ex|%))")
_DECLARATION = re.compile(r"(?<![a-z-])([a-z-]++)\s*+:([^;]*+)")
# Most tags and rules have none of these, and need not be taken apart.
_OF_STYLE = r"display|visibility|opacity|max-|white-space|overflow|text-indent|position|line-through|float"
_OF_RULES = re.compile(_OF_STYLE)
_OF_INTEREST = re.compile(rf"{_OF_STYLE}|hidden|font-size|class")
_OR_ID = re.compile(rf"{_OF_INTEREST.pattern}|\bid\b")
_COMMENT = re.compile(r"/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)")
_COMPOUND = re.compile(r"([a-z][a-z0-9-]*+)?((?:[.#][a-z0-9_-]++)*+)")
_KEY = re.compile(r"[.#][a-z0-9_-]++")
_BRACE = re.compile(r"[{}]")
_ZEROS = ("opacity", "max-height", "max-width", "height", "width")
_PLACES = ("text-indent", "left", "top", "right", "bottom", "margin-left")
_EVERYWHERE = ("html", "body", "*")
_BOXES = frozenset(["inline-block", "inline-flex", "inline-grid", "inline-table", "table-cell"])
_ROWS = frozenset(["flex", "inline-flex", "grid", "inline-grid", "-webkit-flex", "-ms-flexbox", "-webkit-box"])
_LINES = frozenset(["block", "flex", "grid", "list-item", "table", "table-row", "flow-root"])


class Size(Enum):
    """What an element does to the size of the text in it."""

    SAME = 0
    TINY = 1  # too small to be read
    SET = 2


class Box(Enum):
    """How the text of an element stands beside the text around it."""

    INLINE = 0
    APART = 1  # on the same line, with room between
    LINES = 2


class Look(NamedTuple):
    hidden: bool = False
    size: Size = Size.SAME
    spaced: bool = False  # white space and line ends are kept
    struck: bool = False
    box: Box = Box.INLINE
    parts: bool = False  # what stands in it stands apart from each other


PLAIN = Look()
Declared = dict[str, tuple[str, bool]]  # property → its value, and whether that is `!important`


class Around(Protocol):
    """An element that is open."""

    name: str

    def keys(self) -> frozenset[str]: ...


class _Rule(NamedTuple):
    """Of what its selector names, each is the keys of an element, as {"td", ".a", "#b"} of `td.a#b`."""

    subject: frozenset[str]
    around: tuple[frozenset[str], ...]  # from the innermost
    declared: Declared


class Looks:
    """Of the elements of one mail."""

    def __init__(self) -> None:
        self._rules: dict[str, list[_Rule]] = {}  # by an id or class of the element, or by its name where the rule has neither
        self._deep = 0  # rules for what stands in another element
        self.by_name = False  # whether a rule is for all elements of a name
        self._interest = _OF_INTEREST

    def learn(self, style: str) -> None:
        """A `<style>` of the mail: what its rules do on every screen. What stands in `@media` is for some."""
        for selectors, rules in _rules(_COMMENT.sub("", style.lower())):
            if not _OF_RULES.search(rules):
                continue
            declared = {name: value for name, value in _declared(rules).items() if name != "font-size"}
            if "display" in declared or _hides(declared) or _struck(declared) or _box(declared) is Box.APART:
                for selector in selectors.split(","):
                    if parts := _selector(selector):
                        self._add_rule(_Rule(parts[0], tuple(parts[1:]), declared))

    def _add_rule(self, rule: _Rule) -> None:
        key = min(rule.subject)  # an id, where it has one, or a class
        known = self._rules.setdefault(key, [])
        if len(known) < MAX_RULES and (not rule.around or self._deep < MAX_DEEP):
            known.append(rule)
            self._deep += bool(rule.around)
            self.by_name = self.by_name or key[0] not in "#."
            if key.startswith("#"):
                self._interest = _OR_ID

    def of(self, tag: Tag, around: Sequence[Around]) -> Look:
        if not (self._interest.search(tag.attributes.lower()) or tag.name in self._rules):
            return PLAIN
        found = attributes_of(tag)
        style = found.get("style", "").lower()
        declared = self._by_rules(tag.name, found, around) if self._rules else None
        if declared:
            _add(declared, _declared(style))
            look = _look(declared)
        elif style:
            look = _look_of(style) if len(style) <= KEPT_CHARS else _look(_declared(style))
        else:
            look = PLAIN
        if "hidden" in found or found.get("aria-hidden", "").strip().lower() == "true":
            look = look._replace(hidden=True)
        if look.size is Size.SAME and "class" in found:  # which may set it to what is not known here
            look = look._replace(size=Size.SET)
        return look

    def _by_rules(self, name: str, found: Mapping[str, str], around: Sequence[Around]) -> Declared:
        keys, above = keys_of(name, found), None
        declared: Declared = {}
        for key in sorted(keys, reverse=True):  # an id counts for more than a class, and a class than a name
            for rule in self._rules.get(key, ()):
                if rule.subject <= keys:
                    if rule.around and above is None:
                        above = [element.keys() for element in around[: -MAX_ABOVE - 1 : -1]]
                    if not rule.around or _stands_in(rule.around, above or ()):
                        _add(declared, rule.declared)
        return declared


def keys_of(name: str, found: Mapping[str, str]) -> frozenset[str]:
    """An element's name, classes and id, as a selector writes them."""
    keys = [name, *(f".{one}" for one in found.get("class", "").lower().split())]
    if one := found.get("id", "").strip().lower():
        keys.append(f"#{one}")
    return frozenset(keys)


def _stands_in(wanted: Sequence[frozenset[str]], above: Sequence[frozenset[str]]) -> bool:
    """Whether all these are around it, from the innermost to the outermost, whatever stands between them."""
    left = iter(above)
    return all(any(one <= keys for keys in left) for one in wanted)


def _selector(text: str) -> list[frozenset[str]]:
    """`body td.a #b` from the right; none where it has more than names, classes, ids and blanks."""
    found = list[frozenset[str]]()
    for word in reversed(text.split()):
        if word in _EVERYWHERE and found:
            continue
        match = _COMPOUND.fullmatch(word)
        if match is None or word in _EVERYWHERE:
            return []
        found.append(frozenset([*([match[1]] if match[1] else []), *_KEY.findall(match[2])]))
    return found


def _declared(style: str) -> Declared:
    if "/*" in style:
        style = _COMMENT.sub("", style)
    found: Declared = {}
    for name, value in _DECLARATION.findall(style):
        value, _, important = value.partition("!")
        if (value := value.strip()) and (important or name not in found or not found[name][1]):
            found[name] = value, important.strip() == "important"
    return found


def _add(found: Declared, later: Declared) -> None:
    """The later value counts, but for an earlier one that is `!important`."""
    for name, (value, important) in later.items():
        if important or name not in found or not found[name][1]:
            found[name] = value, important


def _value(declared: Declared, name: str) -> str:
    return declared[name][0] if name in declared else ""


def _hides(declared: Declared) -> bool:
    if _value(declared, "display") == "none" or _value(declared, "visibility") in ("hidden", "collapse"):
        return True
    zeros = [name for name in _ZEROS if name in declared and _ZERO.fullmatch(declared[name][0])]
    position = _value(declared, "position")
    if zeros:
        overflow = [_value(declared, name) for name in ("overflow", "overflow-x", "overflow-y")]
        if "opacity" in zeros or any(one.startswith(("hidden", "clip")) for one in overflow):
            return True
        if "max-height" in zeros and position not in ("relative", "absolute") and not overflow[0].startswith("visible"):
            return True
    places = _PLACES if position in ("absolute", "fixed") else ("text-indent",)
    return any(name in declared and _FAR_OFF.fullmatch(declared[name][0]) for name in places)


def _struck(declared: Declared) -> bool:
    return any("line-through" in _value(declared, name) for name in ("text-decoration", "text-decoration-line"))


def _box(declared: Declared) -> Box:
    display = _value(declared, "display")
    if display in _BOXES or _value(declared, "float") in ("left", "right"):
        return Box.APART
    return Box.LINES if display in _LINES else Box.INLINE


def _look(declared: Declared) -> Look:
    size = _value(declared, "font-size")
    return Look(
        _hides(declared),
        Size.SAME if not size else Size.TINY if _TINY.fullmatch(size) else Size.SET,
        _value(declared, "white-space").startswith(("pre", "break-spaces")),
        _struck(declared),
        _box(declared),
        _value(declared, "display") in _ROWS,
    )


@lru_cache(maxsize=KEPT)
def _look_of(style: str) -> Look:
    return _look(_declared(style))


def _rules(style: str) -> Iterator[tuple[str, str]]:
    """Selectors and declarations of the rules that stand in no other."""
    place = 0
    while (begin := style.find("{", place)) >= 0:
        selectors = style[place:begin].rpartition(";")[2].rpartition("}")[2]
        close, inner = style.find("}", begin), style.find("{", begin + 1)
        if 0 <= inner < close:  # `@media … { … { … } }`
            place = _end_of_group(style, inner + 1)
            continue
        if close < 0:
            return
        yield selectors, style[begin + 1 : close]
        place = close + 1


def _end_of_group(style: str, place: int) -> int:
    """The end of a group two of whose braces are open."""
    depth = 2
    for match in _BRACE.finditer(style, place):
        depth += 1 if match[0] == "{" else -1
        if not depth:
            return match.end()
    return len(style)
