"""What the pages and the JSON show of a message's content."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message as MimeMessage
from typing import Any

from ..message.mime.structure import walk
from ..message.mime.words import decode_bytes, decode_words
from .limits import Headers
from .wire import Json

MAX_WORK = 3_000_000  # lines times parts inside each other: what a page waits a second for
_TEXTS = frozenset({"text/html", "text/plain"})
_LINE_BREAK = re.compile(rb"\r\n?|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An attachment or an inline image."""

    name: str
    content_type: str
    content: bytes  # decoded
    content_id: str | None = None
    inline: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    def json(self) -> Json:
        return {
            "name": self.name,
            "content_type": self.content_type,
            "size": self.size,
            "content_id": self.content_id,
            "inline": self.inline,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A message's content, rendered."""

    subject: str = ""
    html: str | None = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[File, ...] = ()
    raw: str | None = None


def read_mime(mime: bytes) -> Shown:
    """What there is to see in a message that may be malformed: nothing in it is a reason not to show the rest."""
    lines = _LINE_BREAK.sub(b"\r\n", mime)
    try:
        depth = max(part.place.depth for part in walk(lines, strict=False))
    except ValueError:
        depth = len(lines)
    if lines.count(b"\n") * depth > MAX_WORK:  # the standard library looks at each line as often
        return Shown(raw=mime.decode("utf-8", "replace"))
    message = message_from_bytes(mime)
    texts: dict[str, str] = {}
    files: list[File] = []
    for part in _leaves(message):
        kind = part.get_content_type()
        if kind in _TEXTS and kind not in texts and part.get_content_disposition() != "attachment" and not file_name(part):
            texts[kind] = _decoded(part)
        elif part is not message:
            files.append(_file(part, kind))
    headers = tuple((name, _readable(value)) for name, value in message.raw_items())
    return Shown(
        subject=next((value for name, value in headers if name.lower() == "subject"), ""),
        html=texts.get("text/html"),
        text=texts.get("text/plain"),
        headers=by_name(headers),
        attachments=tuple(files),
        raw=mime.decode("utf-8", "replace"),
    )


def by_name(headers: Headers) -> dict[str, str]:
    """A header that is there more than once, as `Received` may be, has all its values in one."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def file_name(part: MimeMessage) -> str | None:
    try:
        name = part.get_filename()
    except Exception:  # Python's parser, on parameters that nobody writes
        return None
    return None if name is None else _readable(name)


def _leaves(part: MimeMessage) -> Iterator[MimeMessage]:
    """The parts that have content. A message that is attached is one, whatever it consists of."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for inner in part.get_payload():
            yield from _leaves(inner)  # type: ignore[arg-type]  # a list of messages, where it is multipart
    else:
        yield part


def _file(part: MimeMessage, kind: str) -> File:
    content = part.get_payload(decode=True)
    identifier = str(part.get("Content-ID", "")).strip().removeprefix("<").removesuffix(">")
    return File(
        name=file_name(part) or kind,
        content_type=kind,
        content=content if isinstance(content, bytes) else str(part.get_payload(0)).encode("utf-8", "replace"),
        content_id=identifier or None,
        inline=part.get_content_disposition() == "inline",
    )


def _readable(value: Any) -> str:
    """A header's value in one line, with its encoded words decoded."""
    data = str(value).encode("utf-8", "surrogateescape")
    return decode_words(decode_bytes(_LINE_BREAK.sub(b"", data)).strip())


def _decoded(part: MimeMessage) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    try:
        return content.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):  # a charset that nobody knows
        return content.decode("utf-8", "replace")
