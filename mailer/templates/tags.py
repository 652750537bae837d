"""HTML in tokens: tags and the text between them, in a time that grows with the length and with nothing else.

It follows the tokenizer of the HTML standard as far as a reader sees a difference. The parser of Python 3.11 goes back to
the beginning at each unfinished comment, tag or attribute, and so takes minutes for 100 kB of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.entities import html5
from typing import NamedTuple

# A quote counts only after `=`. The possessive `*+` gives nothing back, so a tag is gone through once.
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)((?:[^>\"'=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?|[\"'])*+)>")
_ATTRIBUTE = re.compile(r"([^\s/>=\"'][^\s/>=]*+)(?:\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>]*+)))?")
_OPENS_TAG = re.compile(r"</?[a-zA-Z]")
_LESS_THAN = re.compile(r"(?:<(?![a-zA-Z/!?]))+")
# Their content is text to the tokenizer, up to their own end tag.
RAW = ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in RAW}
_HUGE = re.compile(r"&#[0-9]{9,};?")  # no character; and `int` raises where there are more than 4300 digits
_IN_ATTRIBUTE = re.compile(r"&(?:(#[0-9]{1,8};?|#[xX][0-9a-fA-F]{1,8};?)|([a-zA-Z][a-zA-Z0-9]*+)(;|(?!=)))")


class Tag(NamedTuple):
    """`<name attributes>`, or `</name>`. Of an element of RAW, `text` is the content, and its end tag is not told."""

    name: str
    attributes: str  # as they are written
    ends: bool
    place: int  # behind it, in the HTML
    text: str = ""


class Comment(NamedTuple):
    """`<!-- … -->` and what else a browser takes for a comment, as `<![if !mso]>`."""

    text: str


Token = str | Tag | Comment


def tokens(html: str) -> Iterator[Token]:
    """Strings are text, with its references as they are written. Nothing comes of a tag or comment that does not end."""
    place, end = 0, len(html)
    while place < end:
        start = html.find("<", place)
        if start < 0:
            yield html[place:]
            return
        if start > place:
            yield html[place:start]
        if match := _TAG.match(html, start):
            tag, place = _tag(html, match)
            yield tag
        elif match := _LESS_THAN.match(html, start):
            yield match[0]
            place = match.end()
        elif _OPENS_TAG.match(html, start):
            return
        else:
            text, place = _comment(html, start)
            yield Comment(text)


def _tag(html: str, match: re.Match[str]) -> tuple[Tag, int]:
    slash, name, attributes = match.groups()
    name, place = name.lower(), match.end()
    if slash or name not in _RAW_END:
        return Tag(name, attributes, bool(slash), place), place
    last = _RAW_END[name].search(html, place)
    if last is None:
        return Tag(name, attributes, False, place, html[place:]), len(html)
    close = html.find(">", last.end())
    return Tag(name, attributes, False, place, html[place : last.start()]), close + 1 if close >= 0 else len(html)


def _comment(html: str, start: int) -> tuple[str, int]:
    if not html.startswith("<!--", start):
        close = html.find(">", start)
        return (html[start + 2 : close], close + 1) if close >= 0 else (html[start + 2 :], len(html))
    if html.startswith((">", "->"), start + 4):
        return "", html.index(">", start) + 1
    close = html.find("-->", start + 4)
    return (html[start + 4 : close], close + 3) if close >= 0 else (html[start + 4 :], len(html))


def attributes_of(tag: Tag) -> dict[str, str]:
    """Name in lower case → value, decoded. Of two with one name the first counts."""
    found: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(tag.attributes):
        if (name := name.lower()) not in found:
            found[name] = decoded_attribute("".join(values))
    return found


def decoded(text: str) -> str:
    """Text with its references resolved."""
    return unescape(_HUGE.sub("\N{REPLACEMENT CHARACTER}", text)) if "&" in text else text


def decoded_attribute(value: str) -> str:
    """An attribute's value with its references resolved. One without `;` stays as it is before `=`, a letter or a digit: the
    parameters of `?a=1&copy=2` mean themselves."""
    return _IN_ATTRIBUTE.sub(_character, _HUGE.sub("\N{REPLACEMENT CHARACTER}", value)) if "&" in value else value


def _character(match: re.Match[str]) -> str:
    number, name, end = match.groups()
    return unescape(match[0]) if number else html5.get(name + end, match[0])
