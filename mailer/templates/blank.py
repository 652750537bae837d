"""Does a reader see anything of a message?

Asked of every message, so what is found of a template's own text is kept. Where all that could be seen is in hidden elements, the
HTML is read as for the text part. Where it is not sure, something is seen: a message that shows little must not be held back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from .hidden import Looks, Size
from .tags import Tag, Token, attributes_of
from .text import Reader, TooMuch

MAX_READ = 10_000  # characters of HTML that is read as a whole for a message: ten milliseconds, in which all else waits
MAX_LOOKED_AT = 100_000  # before a start
KEPT_CHARS = 20_000  # of a piece whose answer is kept; 256 of them take 5 MB at most

# White space, what has no width, and the references to both.
_NOTHING = re.compile(
    r"(?:[\s\u00ad\u034f\u115f\u180e\u200b-\u200f\u2060-\u2064\ufeff]|&(?:nbsp|ensp|emsp|thinsp|zwnj|zwj|lrm|rlm|shy);"
    r"|&#(?:9|10|13|32|160|173|847|820[0-7]|8288|65279);|&#[xX](?:a0|A0|ad|AD|34[fF]|200[b-fB-F]);)*+"
)
_TAG = re.compile(r"<(/?)([a-zA-Z][\w:-]*)")
_NO_TAG = re.compile(r"<!doctype\b|<!\[(?:if|endif)\b|<\?|</", re.IGNORECASE)
_SEEN = frozenset(("img", "svg", "picture", "video", "audio", "canvas", "input", "button", "hr", "iframe", "object", "embed"))
_UNSEEN = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("style", "script", "title", "template")}
_TEXT, _IN_TAG, _IN_COMMENT = "", ">", "-->"  # places; within an element that is not seen, the place is its name
_AS_A_WHOLE = frozenset(("select", "textarea", "xmp", "noembed", "noframes"))
_LOOKS = Looks()  # of what elements themselves say
_VOID = frozenset(("br", "hr", "img", "input", "meta", "link", "area", "base", "col", "wbr"))


class State(NamedTuple):
    place: str = _TEXT
    hidden: str = ""  # the element that hides what is read, by its name
    depth: int = 0  # elements of that name in each other
    tiny: bool = False  # it hides by the size of its text, and another element in it may set that anew
    hid: bool = False  # whether anything was hidden
    short: bool = True  # the HTML is short enough to be read as a whole; else nothing of it is taken for hidden


def is_blank(html: Sequence[str] | None, text: Sequence[str] | None) -> bool:
    """`html` and `text` are pieces to be joined; None where there is no such part."""
    for piece in text or ():
        if _NOTHING.fullmatch(piece) is None:
            return False
    if html and len(html[0]) <= KEPT_CHARS and _shows(html[0]):
        return False
    state = State(short=sum(map(len, html or ())) <= MAX_READ)
    for piece in html or ():
        after = _kept_scan(state, piece) if len(piece) <= KEPT_CHARS else _scan(state, piece)
        if after is None:
            return False
        state = after
    return shows_nothing("".join(html or ())) if state.hid else state.place == _TEXT


def shows_nothing(html: str) -> bool:
    """Whether a reader sees nothing of this HTML, also because it is hidden. It takes as long as the text part does."""
    if len(html) > MAX_LOOKED_AT or "aria-hidden" in html.lower():  # that hides from a screen reader only
        return False
    eyes = _Eyes(html)
    try:
        return _NOTHING.fullmatch(eyes.read()) is not None and not eyes.saw
    except TooMuch:
        return False


class _Eyes(Reader):
    """Reads HTML, and notes what is seen of it beside text."""

    saw = False

    def _take(self, token: Token) -> None:
        if isinstance(token, Tag) and not (token.ends or self._hidden or self.saw):
            name, attributes = token.name, token.attributes
            seen = (
                name in _SEEN
                or name in _AS_A_WHOLE
                or name.startswith("v:")
                or "background=" in attributes
                or "url(" in attributes
            )
            self.saw = seen and not (_is_pixel(token) or self._looks.of(token, self._open).hidden)
        super()._take(token)


def _is_pixel(tag: Tag) -> bool:
    """An image of a pixel, which counts readers."""
    found = attributes_of(tag) if tag.name == "img" else {}
    return all(found.get(side, "").strip().removesuffix("px") in ("0", "1") for side in ("width", "height"))


def _scan(state: State, html: str) -> State | None:
    """The state behind this piece of HTML; None where something of it is seen."""
    at = 0
    while True:
        place = state.place
        if place in _UNSEEN:
            end = _UNSEEN[place].search(html, at)
            if end is None:
                return None if _cut(html, f"</{place}") else state
            at, state = end.end(), state._replace(place=_IN_TAG)
        elif place:
            found = html.find(place, at)
            if found < 0:
                return None if "background" in html[at:] or _cut(html, place) else state
            if place == _IN_TAG and not state.hidden and "background" in html[at:found]:
                return None
            at, state = found + len(place), state._replace(place=_TEXT)
        else:
            match = _NOTHING.match(html, at)
            assert match is not None
            at = match.end()
            if state.hidden and html[at : at + 1] != "<":
                at = html.find("<", at)
            if at in (-1, len(html)):
                return state
            begun = _begun(html, at, state)
            if begun is None:
                return None
            state, at = begun


def _cut(html: str, end: str) -> bool:
    """Whether the piece may have the first characters of this end, and the next piece the rest."""
    return any(html[-count:].lower() == end[:count] for count in range(1, len(end)))


_kept_scan = lru_cache(maxsize=256)(_scan)


@lru_cache(maxsize=256)
def _shows(piece: str) -> bool:
    """Whether a first piece shows something, however long the rest is."""
    return _scan(State(), piece) is None


def _begun(html: str, at: int, state: State) -> tuple[State, int] | None:
    """The state in what begins at this place, and where its inside begins; None where it is seen."""
    if html.startswith("<!--", at):
        return state._replace(place=_IN_COMMENT), at + 4
    tag = _TAG.match(html, at)
    if tag is None:
        if _NO_TAG.match(html, at):
            return state._replace(place=_IN_TAG), at + 1
        return (state, at + 1) if state.hidden else None
    name, end = tag[2].lower(), html.find(">", tag.end())
    if tag.end() == len(html):  # the name may go on in the next piece
        return None
    whole = Tag(name, html[tag.end() : end], bool(tag[1]), 0) if end >= 0 else None
    if state.hidden:
        state = _in_hidden(state, name, whole, ends=bool(tag[1]))
    elif (name in _SEEN or name.startswith("v:")) and not (state.short and whole and (_is_pixel(whole) or _hides(whole))):
        return None
    elif state.short and whole and not whole.ends and name not in _VOID and _hides(whole):
        state = state._replace(hidden=name, depth=1, tiny=not _LOOKS.of(whole, ()).hidden)
    if state.hidden or (whole and name == "img"):
        state = state._replace(hid=True)
    if name in _UNSEEN and not tag[1] and end >= 0 and html[end - 1] != "/":
        return state._replace(place=name), end + 1
    return state._replace(place=_IN_TAG), tag.end()


def _in_hidden(state: State, name: str, whole: Tag | None, *, ends: bool) -> State:
    """Behind a tag in a hidden element. Which elements end where another does, `shows_nothing` knows."""
    if name == state.hidden:
        depth = state.depth + (-1 if ends else 1)
        return state._replace(depth=depth) if depth else state._replace(hidden="", depth=0, tiny=False)
    if state.tiny and (whole is None or name in ("table", *_SEEN) or _LOOKS.of(whole, ()).size is not Size.SAME):
        return state._replace(hidden="", depth=0, tiny=False)
    return state


def _hides(tag: Tag) -> bool:
    look = _LOOKS.of(tag, ())
    return (look.hidden and "aria-hidden" not in tag.attributes.lower()) or look.size is Size.TINY
