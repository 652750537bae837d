"""What a mail client does not show of an HTML body: previews, spacers and what is there for Outlook alone.

Only what the element itself says, in its attributes or by a class that the mail's own style hides. Where it is not clear, it
is taken for shown: a preview too much in the text part is better than a sentence too few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from .tags import Tag, attributes_of

MAX_AHEAD = 2000  # characters in which a link is looked for that only Outlook is not to see

# Possessive quantifiers: no value, however long, is tried in a second way.
_UNIT = r"(?:px|pt|em|rem|ex|%)?+"
_LAST = r"\s*+(?:!\s*+important\s*+)?+(?:;|$)"
_ZERO = r"\s*+:\s*+-?+(?:0++(?:\.0*+)?+|\.0++)" + _UNIT + _LAST
_GONE = re.compile(r"(?:^|[;\s])(?:display\s*+:\s*+none|visibility\s*+:\s*+(?:hidden|collapse)|opacity" + _ZERO + ")")
_NO_ROOM = re.compile(r"(?:^|[;\s])(?:max-height|max-width|height|width)" + _ZERO)
_CUT_OFF = re.compile(r"overflow(?:-[xy])?\s*+:\s*+(?:hidden|clip)")
_NO_HEIGHT = re.compile(r"(?:^|[;\s])max-height" + _ZERO)
_OVER = re.compile(r"position\s*+:\s*+(?:relative|absolute)|overflow\s*+:\s*+visible")
_NOT_OUTLOOK = re.compile(r"mso-hide\s*+:\s*+all")
_FONT_SIZE = re.compile(r"(?:^|[;\s])font-size\s*+:\s*+([^;!]*+)")
_TINY = re.compile(r"(?:0++(?:\.0*+)?+|\.0++)(?:[a-z]++|%)?+\s*+|(?:0*+1(?:\.0*+)?+|0*+\.\d++)(?:px|pt)\s*+")
_SPACED = re.compile(r"white-space\s*+:\s*+(?:pre|break-spaces)")
# Most tags have none of these, and need not be taken apart.
_OF_INTEREST = re.compile(r"display|visibility|opacity|max-|mso-hide|font-size|white-space|overflow|hidden|class")
_COMMENT = re.compile(r"/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)")
_CLASS = re.compile(r"[a-z0-9]*\.([a-z0-9_-]+)")
_BRACE = re.compile(r"[{}]")


class Size(Enum):
    """What an element does to the size of the text in it."""

    SAME = 0
    TINY = 1  # too small to be read
    SET = 2


class Look(NamedTuple):
    hidden: bool = False
    size: Size = Size.SAME
    spaced: bool = False  # white space and line ends are kept


PLAIN = Look()


class Looks:
    """`html` is the whole source, in which a tag's neighbours are looked up."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._hidden_classes: set[str] = set()

    def learn(self, style: str) -> None:
        """A `<style>` of the mail: the classes that it hides on every screen. What stands in `@media` is for some."""
        for selectors, rules in _rules(_COMMENT.sub("", style.lower())):
            if _hides(rules):
                self._hidden_classes.update(match[1] for one in selectors.split(",") if (match := _CLASS.fullmatch(one.strip())))

    def of(self, tag: Tag) -> Look:
        if not tag.attributes or not _OF_INTEREST.search(tag.attributes.lower()):
            return PLAIN
        found = attributes_of(tag)
        style = found.get("style", "").lower()
        hidden = (
            "hidden" in found
            or found.get("aria-hidden", "").strip().lower() == "true"
            or bool(style and (_hides(style) or self._for_others(tag, style)))
            or bool(self._hidden_classes and not self._hidden_classes.isdisjoint(found.get("class", "").lower().split()))
        )
        return Look(hidden, _size(style, found), bool(style and _SPACED.search(style)))

    def _for_others(self, tag: Tag, style: str) -> bool:
        """Hidden from Outlook: a preview. But the button that all the others see beside Outlook's own is so, too."""
        if not _NOT_OUTLOOK.search(style) or tag.name == "a":
            return False
        ahead = self._html[tag.place : tag.place + MAX_AHEAD].lower()
        return "<a" not in ahead.partition(f"</{tag.name}")[0]


def _hides(style: str) -> bool:
    if _GONE.search(style) or (_NO_ROOM.search(style) and _CUT_OFF.search(style)):
        return True
    return bool(_NO_HEIGHT.search(style) and not _OVER.search(style))


def _size(style: str, found: Mapping[str, str]) -> Size:
    """A class may set it, which is not known here."""
    sizes = _FONT_SIZE.findall(style) if "font-size" in style else ()
    if sizes:
        return Size.TINY if _TINY.fullmatch(sizes[-1].strip()) else Size.SET
    return Size.SET if "class" in found else Size.SAME


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
