"""Does a reader see anything of a message?

Asked of every message, so what is found of a template's own text is kept. Where it is not sure, something is seen: a message that
shows little must not be held back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

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
_TEXT, _IN_TAG, _IN_COMMENT = "", ">", "-->"  # states; within an element that is not seen, the state is its name


def is_blank(html: Sequence[str] | None, text: Sequence[str] | None) -> bool:
    """`html` and `text` are pieces to be joined; None where there is no such part."""
    return not _shows_html(html or ()) and not any(_NOTHING.fullmatch(piece) is None for piece in text or ())


def _shows_html(pieces: Sequence[str]) -> bool:
    state = _TEXT
    for piece in pieces:
        after = _kept_scan(state, piece) if len(piece) <= KEPT_CHARS else _scan(state, piece)
        if after is None:
            return True
        state = after
    return state != _TEXT


def _scan(state: str, html: str) -> str | None:
    """The state behind this piece of HTML; None where something of it is seen."""
    place = 0
    while True:
        if state in _UNSEEN:
            end = _UNSEEN[state].search(html, place)
            if end is None:
                return None if _cut(html, f"</{state}") else state
            place, state = end.end(), _IN_TAG
        elif state:
            found = html.find(state, place)
            if found < 0:
                return None if "background" in html[place:] or _cut(html, state) else state
            if state == _IN_TAG and "background" in html[place:found]:
                return None
            place, state = found + len(state), _TEXT
        else:
            match = _NOTHING.match(html, place)
            assert match is not None
            place = match.end()
            if place == len(html):
                return _TEXT
            begun = _begun(html, place)
            if begun is None:
                return None
            state, place = begun


def _cut(html: str, end: str) -> bool:
    """Whether the piece may have the first characters of this end, and the next piece the rest."""
    return any(html[-count:].lower() == end[:count] for count in range(1, len(end)))


_kept_scan = lru_cache(maxsize=256)(_scan)


def _begun(html: str, place: int) -> tuple[str, int] | None:
    """What begins at this place, and where its inside begins; None where it is seen."""
    if html.startswith("<!--", place):
        return _IN_COMMENT, place + 4
    tag = _TAG.match(html, place)
    if tag is None:
        return (_IN_TAG, place + 1) if _NO_TAG.match(html, place) else None
    name = tag[2].lower()
    if name in _SEEN or name.startswith("v:") or tag.end() == len(html):  # the name may go on in the next piece
        return None
    end = html.find(">", tag.end())
    if name in _UNSEEN and not tag[1] and end >= 0 and html[end - 1] != "/":
        return name, end + 1
    return _IN_TAG, tag.end()
