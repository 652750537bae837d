"""The text part of an HTML body: what a reader of plain text would want of it, and no markup of any kind.

Headings and paragraphs are lines with an empty one between, the cells of a table's row stand apart on one line, items of lists
have `- ` or their number, a link is `text (address)`, an image its alternative text. Words that stand apart on the screen have a
blank between them, and struck-out text is `~~120.00~~`. What a mail client does not show is left out (`hidden.py`). The time for
it grows with the length of the HTML and with nothing else.
"""

from __future__ import annotations

import re
import time
from itertools import islice
from unicodedata import category
from urllib.parse import unquote

from .hidden import PLAIN, Box, Looks, Size, keys_of
from .lines import Lines
from .tags import RAW, Comment, Tag, Token, attributes_of, decoded, tokens

MAX_HTML = 1 << 20  # characters; Gmail shows a tenth of that
BUDGET_S = 1.0  # of the processor's time: three times what MAX_HTML of a newsletter takes
_LOOK_EVERY = 512  # tokens

INVISIBLE = re.compile("[\u00ad\u034f\u200b\u2060\ufeff]")  # with which previews are filled up
_VOIDS = "area base br col embed hr img input link meta param source track wbr"
_PARAGRAPH_NAMES = "p h1 h2 h3 h4 h5 h6 ul ol dl table blockquote pre figure form fieldset menu dir"
_LINE_NAMES = """
    address article aside body caption center dd details dialog div dt figcaption footer header html legend li main nav section
    summary tbody tfoot thead tr
"""
_VOID = frozenset(_VOIDS.split())
_UNSHOWN = frozenset(["select", "datalist", "svg", "template", "xml"])
_PARAGRAPHS, _LINES = frozenset(_PARAGRAPH_NAMES.split()), frozenset(_LINE_NAMES.split())
_BLOCKS = _PARAGRAPHS | _LINES
_LISTS = frozenset(["ul", "ol", "menu", "dir"])
_SCRIPTS = frozenset(["sup", "sub"])
_BOXES = frozenset(["label", "button", "meter", "progress", "output", "object", "video", "audio", "canvas"])
_STRUCK = frozenset(["s", "strike", "del"])
_OF_WORDS = _BOXES | _STRUCK
_INLINE = Box.INLINE
STRIKE = "~~"  # before and behind struck-out text
_AFTER_WORDS, _BEFORE_WORDS = frozenset(".,;:!?)]}%…»”’"), frozenset("([{«“‘¿¡")  # what stands right beside words
_CELLS = ("td", "th")
_ROWS = ("tr", *_CELLS)
_SET = _BLOCKS | {*_CELLS}  # set apart by what they are
_GROUPS = ("tbody", "thead", "tfoot", *_ROWS)
_OF_TABLES = frozenset([*_GROUPS, "caption"])
_BOUNDS = frozenset(["table", "caption", *_CELLS])  # an end tag inside of one ends nothing outside of it
_CLOSED_BY = {"td": _CELLS, "th": _CELLS, "tr": _ROWS, **dict.fromkeys(("tbody", "thead", "tfoot"), _GROUPS)}
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,6})")
_NO_ADDRESS = re.compile(r"(?:#|javascript:|data:|about:|cid:|$)", re.IGNORECASE)
_WEB = re.compile(r"https?://[!-~]+")  # as nearly all are: nothing of it has to be mended
_SCHEME = re.compile(r"(?:mailto|tel|sms):", re.IGNORECASE)
_SAME = re.compile(r"(?:https?://)?(?:www\.)?", re.IGNORECASE)


class TooMuch(Exception):
    """The HTML is larger than the text part of a mail is made from."""


def text_part(html: str) -> str | None:
    """The text part of a body; None where it has no text, or is too large for one to be made."""
    try:
        text = html_to_text(html)
    except TooMuch:
        return None
    return text if text.strip() else None


def html_to_text(html: str) -> str:
    """Raises TooMuch."""
    return Reader(html).read()


def link(text: str, address: str) -> str:
    """What stands behind the text of a link: its address, where the text is another."""
    if not _WEB.fullmatch(address):
        address = "".join(address.split("\n")).strip()
        address = address.replace("\r", "").replace("\t", "").replace(" ", "%20")
        if _NO_ADDRESS.match(address):
            return ""
        if match := _SCHEME.match(address):
            address = unquote(address[match.end() :].partition("?")[0])
    text = " ".join(text.split())
    if not text:
        return address
    return "" if " " not in text and _bare(text) == _bare(address) else f" ({address})"


def _bare(address: str) -> str:
    """`https://www.example.com/` and `example.com` are the same to a reader."""
    return address[_SAME.match(address).end() :].rstrip("/").casefold()  # type: ignore[union-attr]  # it matches everywhere


class _Element:
    """An open element, and how it was before it."""

    __slots__ = ("_keys", "before", "box", "name", "shown", "strikes", "tag")

    def __init__(self, tag: Tag, box: Box, before: tuple[bool, bool, bool, bool], shown: bool, strikes: bool) -> None:
        self.tag, self.name, self.box, self.before, self.shown, self.strikes = tag, tag.name, box, before, shown, strikes
        self._keys: frozenset[str] | None = None

    def keys(self) -> frozenset[str]:
        """Its name, classes and id, for the rules of what stands in it."""
        if self._keys is None:
            self._keys = keys_of(self.name, attributes_of(self.tag))
        return self._keys


class Reader:
    """Goes through the HTML once. Which elements a tag ends is what the HTML standard says, as far as it can be seen."""

    def __init__(self, html: str) -> None:
        if len(html) > MAX_HTML:
            raise TooMuch
        self._html = html.replace("\r\n", "\n").replace("\r", "\n") if "\r" in html else html
        self.lines = Lines()
        self._looks = Looks()
        self._open: list[_Element] = []
        self._places: dict[str, list[int]] = {}  # name → places of the open elements of that name
        self._bounds, self._tables = [-1], [-1]  # places of those that are open
        self._lists: list[tuple[int, int | None]] = []  # its place, and the number of its next item
        self._link: tuple[int, str] | None = None  # where its text begins among the parts, and its address
        self._hidden = self._tiny = self._spaced = False
        self._parts = False  # what stands in the innermost element stands apart
        self._struck: bool | None = None  # False: struck-out text begins with the next word
        self._apart: str | None = None  # after a "link", before what is raised or lowered ("script"), or beside a "box"

    def read(self) -> str:
        """Raises TooMuch."""
        until, stream = time.thread_time() + BUDGET_S, tokens(self._html)
        while some := list(islice(stream, _LOOK_EVERY)):
            for token in some:
                self._take(token)
            if time.thread_time() > until:
                raise TooMuch
        self._close_to(0)
        return self.lines.text()

    def _take(self, token: Token) -> None:
        if isinstance(token, str):
            if not (self._hidden or self._tiny):
                self._text(decoded(token))
        elif isinstance(token, Comment):
            pass
        elif token.ends:
            self._end_tag(token.name)
        elif token.name in RAW:
            if token.name == "style":
                self._looks.learn(token.text)
        elif token.name in _VOID:
            self._void(token)
        elif not (":" in token.name and token.attributes.endswith("/")):  # `<o:p/>`
            self._start_tag(token)

    def _text(self, text: str) -> None:
        if not text.isascii():
            text = INVISIBLE.sub("", text)
        if self._struck is False:
            text = self._strike(text)
        if self._spaced:
            self.lines.keep(text)
            return
        if self._apart and text:
            if last := self.lines.last:
                self._keep_apart(last, text[0])
            self._apart = None
        self.lines.flow(text)

    def _keep_apart(self, last: str, first: str) -> None:
        """Where nothing stands between: a price of 19 and its raised 99 are not 1999, and an address ends before a word."""
        if self._apart == "box":
            apart = first not in _AFTER_WORDS and last not in _BEFORE_WORDS and category(first) != "So"  # emoji, ®
        else:
            apart = first.isalnum() if self._apart == "link" else first.isdigit() and last.isdigit()
        if apart:
            self.lines.blank()

    def _strike(self, text: str) -> str:
        """Where this has the first word of struck-out text: marks it, and gives the text behind the mark."""
        words = text.lstrip()
        if not words:
            return text
        if len(words) < len(text):
            self.lines.blank()
        self._apart, self._struck = "box", None
        self._text(STRIKE)
        self._struck = True
        return words

    def _end_strike(self) -> None:
        if self._struck:
            self.lines.attach(STRIKE)
            self._apart = "box"
        self._struck = None

    def _set_apart(self, box: Box) -> None:
        if box is Box.LINES:
            self.lines.end()
        else:
            self._apart = "box"

    # ---- elements --------------------------------------------------------------------------------

    def _start_tag(self, tag: Tag) -> None:
        name = tag.name
        self._imply_ends(name)
        if name in _CELLS and self._place("tr") < self._tables[-1]:
            self._start_tag(Tag("tr", "", False, tag.place))
        look = self._looks.of(tag, self._open) if tag.attributes or self._looks.by_name else PLAIN
        shown = not (self._hidden or look.hidden or name in _UNSHOWN)
        strikes, box = False, _INLINE
        if shown and (look is not PLAIN or self._parts or name in _OF_WORDS):
            strikes = self._struck is None and (look.struck or name in _STRUCK)
            if name not in _SET:
                box = Box.APART if look.box is _INLINE and (self._parts or name in _BOXES) else look.box
        place = len(self._open)
        self._places.setdefault(name, []).append(place)
        before = self._hidden, self._tiny, self._spaced, self._parts
        self._open.append(_Element(tag, box, before, shown, strikes))
        if name in _BOUNDS:
            self._bounds.append(place)
        if name == "table":
            self._tables.append(place)
        self._hidden = not shown
        if look.size is not Size.SAME or name == "table":  # of which many clients do not hand the size on
            self._tiny = look.size is Size.TINY
        self._spaced = self._spaced or look.spaced or name == "pre"
        self._parts = look.parts
        if shown:
            if strikes:
                self._struck = False
            if box is not _INLINE:
                self._set_apart(box)
            self._begin(tag, place)

    def _begin(self, tag: Tag, place: int) -> None:
        name, lines = tag.name, self.lines
        if name in _CELLS:
            if self._place("tr") > self._tables[-1]:
                lines.cell()
            else:
                lines.blank()
        elif name in _BLOCKS:
            self._end_line(name)
            if name == "tr":
                lines.row()
            elif name in _LISTS:
                self._lists.append((place, _number(tag, "start", 1) if name == "ol" else None))
            elif name == "li":
                lines.item(self._mark(tag))
            elif name == "blockquote":
                lines.quote(1)
        elif name == "a":
            self._begin_link(attributes_of(tag).get("href"))
        elif name in _SCRIPTS:
            self._apart = "script"
        elif name == "q":
            lines.word('"')

    def _over(self, name: str) -> None:
        """An element that is shown has ended."""
        if name == "tr":
            self.lines.row_ends()
        elif name == "li":
            self.lines.item_ends()
        elif name == "blockquote":
            self.lines.quote(-1)
        elif name in _LISTS:
            self._lists.pop()
        elif name == "a":
            self._end_link()
        elif name == "q":
            self.lines.attach('"')
        if name in _BLOCKS:
            self._end_line(name)

    def _end_line(self, name: str) -> None:
        paragraph = name in _PARAGRAPHS and not (name in _LISTS and self._lists)
        self.lines.end(2 if paragraph else 1)

    def _imply_ends(self, name: str) -> None:
        """The elements that end where this one begins, without a tag of their own."""
        if name in _CLOSED_BY:
            open_ = [place for one in _CLOSED_BY[name] if (place := self._place(one)) > self._tables[-1]]
            self._close_to(min(open_, default=len(self._open)))
        elif name == "li":
            self._close_above("li", max(self._bounds[-1], self._lists[-1][0] if self._lists else -1))
        elif name == "a":
            self._close_above("a", self._bounds[-1])
        if name in _BLOCKS:
            self._close_above("p", self._bounds[-1])

    def _end_tag(self, name: str) -> None:
        if name == "br":
            self._void(Tag("br", "", False, 0))
        elif name == "p" and self._place("p") <= self._bounds[-1]:
            self._end_line("p")
        elif name == "table":
            self._close_above(name, -1)
        else:
            self._close_above(name, self._tables[-1] if name in _OF_TABLES else self._bounds[-1])

    def _place(self, name: str) -> int:
        """Of the innermost open element of that name; -1 where there is none."""
        places = self._places.get(name)
        return places[-1] if places else -1

    def _close_above(self, name: str, bound: int) -> None:
        place = self._place(name)
        if place > bound:
            self._close_to(place)

    def _close_to(self, place: int) -> None:
        """This element ends, and with it all that are open in it."""
        while len(self._open) > place:
            element = self._open.pop()
            self._places[element.name].pop()
            if element.name in _BOUNDS:
                self._bounds.pop()
            if element.name == "table":
                self._tables.pop()
            if element.shown:
                if element.strikes:
                    self._end_strike()
                self._over(element.name)
                if element.box is not _INLINE:
                    self._set_apart(element.box)
            self._hidden, self._tiny, self._spaced, self._parts = element.before

    # ---- what is not only text -------------------------------------------------------------------

    def _void(self, tag: Tag) -> None:
        name = tag.name
        if name == "hr":
            self._close_above("p", self._bounds[-1])
        if self._hidden or name not in ("br", "hr", "img", "area") or self._looks.of(tag, self._open).hidden:
            return
        if name == "br":
            self.lines.next_line()
        elif name == "hr":
            self.lines.end(2)
        elif name == "img":
            self._apart = "box"
            self._text(attributes_of(tag).get("alt", ""))
            self._apart = "box"
        else:
            found = attributes_of(tag)
            self.lines.end()
            self._begin_link(found.get("href"))
            self._text(found.get("alt", ""))
            self._end_link()
            self.lines.end()

    def _mark(self, tag: Tag) -> str:
        """What stands before an item of a list."""
        place, number = self._lists[-1] if self._lists else (-1, None)
        if number is None:
            return "- "
        number = _number(tag, "value", number)
        self._lists[-1] = place, number + 1
        return f"{number}. "

    def _begin_link(self, address: str | None) -> None:
        self._end_link()  # one inside of another, which nobody can follow
        if address is not None:
            self._link = len(self.lines.parts), address

    def _end_link(self) -> None:
        if self._link is not None:
            begins, address = self._link
            self._link = None
            self._add_address("".join(self.lines.parts[begins:]), address)

    def _add_address(self, text: str, address: str) -> None:
        if behind := link(text, address):
            self._write_address(text, behind)

    def _write_address(self, text: str, behind: str) -> None:
        if text.strip():
            self.lines.attach(behind)
        else:
            self.lines.blank()
            self.lines.word(behind)
        self._apart = "link"


def _number(tag: Tag, name: str, otherwise: int) -> int:
    match = _NUMBER.match(attributes_of(tag).get(name, "")) if name in tag.attributes.lower() else None
    return int(match[1]) if match else otherwise
