"""Addresses in a body that show nothing to a reader, or lead a reader nowhere: a sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from ..ledger.spec import Spec
from ..templates.tags import Tag, attributes_of, tokens

SHOWN = 3  # values of a kind in one sentence
MAX_SHOWN = 60  # characters of one of them

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:|[a-zA-Z]:[\\/]")
_DRIVE = re.compile(r"[a-zA-Z]:[\\/]")  # of Windows
_WEB = re.compile(r"https?:", re.IGNORECASE)
_OWN_MACHINE = re.compile(
    r"[^.:\s]+|.*\.(?:localhost|local|internal|test)|127\.[0-9.]+|0\.0\.0\.0|::1|10\.[0-9.]+|192\.168\.[0-9.]+"
    r"|172\.(?:1[6-9]|2[0-9]|3[01])\.[0-9.]+"
)
_SHOWS = ("src", "background", "poster")
_LINKS = {"a": ("href",), "area": ("href",), "link": ("href",), "form": ("action",)}
_CANDIDATE = re.compile(r",\s|\s,")  # of a srcset: an address may have a comma in it
_URL = re.compile(r"url\(\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\"')]*+))|@import\s++(?:\"([^\"]*+)\"|'([^']*+)')", re.IGNORECASE)
_CSS_COMMENT = re.compile(r"/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)")


def address_hints(spec: Spec, html: Sequence[str]) -> Iterator[str]:
    shown, linked = dict[str, None](), dict[str, None]()  # in order, each once
    for body in html:
        for tag in tokens(body):
            if isinstance(tag, Tag) and not tag.ends:
                attributes = attributes_of(tag)
                shown |= dict.fromkeys(_shown(tag, attributes))
                for name in (name for name in _LINKS.get(tag.name, ()) if name in attributes):
                    linked[attributes[name].strip()] = None
    attached = {file.content_id for file in spec.files}
    if missing := [one for one in shown if one.lower().startswith("cid:") and unquote(one[4:]) not in attached]:
        attach = f"attach it as FILE;cid={missing[0][4:44]}"
        yield f"the HTML shows {listed(missing)}, and no attachment has that content id; {attach}"
    every = [*shown, *(one for one in linked if one not in shown)]
    if relative := [one for one in every if _is_relative(one)]:
        yield f"the HTML has addresses that lead nowhere from a mail: {listed(relative)}; write them whole, with https://"
    if own := [one for one in every if _is_of_own_machine(one)]:
        yield f"the HTML has addresses that only your own machine or network reaches: {listed(own)}"
    if broken := [one for one in every if _has_no_host(one)]:
        yield f"the HTML has addresses without the name of a server: {listed(broken)}; write them as https://example.com/page"


def _shown(tag: Tag, attributes: Mapping[str, str]) -> Iterator[str]:
    """The addresses of what is shown without a click."""
    yield from (attributes[name].strip() for name in _SHOWS if name in attributes)
    yield from (one.split()[0] for one in _CANDIDATE.split(attributes.get("srcset", "")) if one.strip())
    style = tag.text if tag.name == "style" else attributes.get("style", "")
    yield from (_address_in(match) for match in _URL.finditer(_CSS_COMMENT.sub("", style)))


def _address_in(match: re.Match[str]) -> str:
    return next(filter(None, match.groups()), "").strip()


def _is_relative(address: str) -> bool:
    return bool(address) and not _SCHEME.match(address) and not address.startswith(("#", "{{"))


def _is_of_own_machine(address: str) -> bool:
    host = _host(address)
    return address.lower().startswith("file:") or bool(_DRIVE.match(address)) or bool(host and _OWN_MACHINE.fullmatch(host))


def _has_no_host(address: str) -> bool:
    host = _host(address)
    return host is not None and (not host or any(map(str.isspace, host)))


def _host(address: str) -> str | None:
    """Of a web page; None for other addresses, and "" where none can be made out."""
    if not _WEB.match(address):
        return None
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def listed(values: Iterable[str]) -> str:
    """Some of the values, quoted and cut."""
    given = list(values)
    shown = [f"'{one if len(one) <= MAX_SHOWN else one[:MAX_SHOWN] + '…'}'" for one in given[:SHOWN]]
    return ", ".join(shown) + (f" and {len(given) - SHOWN} more" if len(given) > SHOWN else "")
