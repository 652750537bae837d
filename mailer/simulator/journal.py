"""What the simulator accepted: one short line for every message, and the whole message for the newest ones.

A million messages must fit. So the lines are kept as NDJSON, compressed a block at a time (about 60 bytes a message), and
the whole messages are bounded by number and by bytes.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import chain, islice
from typing import Any

import orjson

from ..templates import handlebars
from .limits import Attachment
from .wire import Json

LINES_PER_BLOCK = 1024  # about 300 kB; compressing it takes some 3 ms, which is the longest pause that a call sees
KEEP_BYTES = 268_435_456  # of request bytes behind the whole messages, so that large attachments cannot fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One accepted message, as the log keeps it for good."""

    id: str
    at: float  # seconds since 1970
    operation: str
    sender: str  # From, as given
    recipients: tuple[str, ...]  # To, Cc, Bcc, as given
    tags: dict[str, str]
    configuration_set: str | None = None
    suppressed: tuple[str, ...] = ()  # those of `recipients` that it is not delivered to
    failure: str | None = None  # why it could not be rendered; then it is delivered to nobody

    def line(self) -> bytes:
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A message's content, rendered."""

    subject: str = ""
    html: str | None = None
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    attachments: tuple[str, ...] = ()
    raw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleContent:
    subject: str
    html: str | None
    text: str | None
    headers: dict[str, str]
    attachments: tuple[Attachment, ...]

    def show(self) -> Shown:
        return Shown(
            subject=self.subject,
            html=self.html,
            text=self.text,
            headers=self.headers,
            attachments=tuple(item.name for item in self.attachments),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A compiled template. A part that is an error says why this inline template cannot be rendered."""

    subject: handlebars.Template | None
    html: handlebars.Template | None
    text: handlebars.Template | None
    error: str | None = None

    def why_not(self, data: Json) -> str | None:
        """What SES would report in a Rendering Failure event, or None."""
        if self.error is not None:
            return self.error
        try:
            for part in (self.subject, self.html, self.text):
                if part is not None:
                    part.check(data)
        except handlebars.MissingAttribute as error:
            return str(error)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplatedContent:
    """Template and data; rendered only when someone looks."""

    parts: Parts
    data: Json
    headers: dict[str, str]
    attachments: tuple[Attachment, ...]

    def show(self) -> Shown:
        names = tuple(item.name for item in self.attachments)
        if self.parts.why_not(self.data) is not None:
            return Shown(headers=self.headers, attachments=names)
        subject, html, text = (
            None if part is None else part.render(self.data) for part in (self.parts.subject, self.parts.html, self.parts.text)
        )
        return Shown(subject=subject or "", html=html, text=text, headers=self.headers, attachments=names)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawContent:
    mime: bytes

    def show(self) -> Shown:
        message = message_from_bytes(self.mime, _class=EmailMessage, policy=policy.default)
        bodies = {kind: message.get_body((kind,)) for kind in ("html", "plain")}
        return Shown(
            subject=str(message.get("Subject", "")),
            html=_decoded(bodies["html"]),
            text=_decoded(bodies["plain"]),
            headers={name: str(value) for name, value in message.items()},
            attachments=tuple(part.get_filename() or part.get_content_type() for part in message.iter_attachments()),
            raw=self.mime.decode("utf-8", "replace"),
        )


def _decoded(part: Any) -> str | None:
    if part is None:
        return None
    payload = part.get_payload(decode=True) or b""
    try:
        return str(payload.decode(part.get_content_charset("utf-8"), "replace"))
    except LookupError:  # a charset that nobody knows is no reason not to show the rest
        return str(payload.decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One accepted message, whole."""

    accepted: Accepted
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    reply_to: tuple[str, ...]
    content: SimpleContent | TemplatedContent | RawContent
    size: int  # request bytes, its share of the call

    def json(self) -> Json:
        shown = self.content.show()
        return {
            **orjson.loads(self.accepted.line()),
            "to": self.to,
            "cc": self.cc,
            "bcc": self.bcc,
            "reply_to": self.reply_to,
            "subject": shown.subject,
            "html": shown.html,
            "text": shown.text,
            "headers": shown.headers,
            "attachments": shown.attachments,
            "raw": shown.raw,
        }


@dataclass(slots=True)
class Log:
    """Every accepted message's line, oldest first. Iterating gives Accepted; `lines` gives NDJSON a block at a time."""

    _blocks: list[bytes] = field(default_factory=list)
    _tail: list[bytes] = field(default_factory=list)

    def add(self, entry: Accepted) -> None:
        self._tail.append(entry.line())
        if len(self._tail) == LINES_PER_BLOCK:
            self._blocks.append(zlib.compress(b"".join(self._tail), 1))
            self._tail = []

    def __len__(self) -> int:
        return len(self._blocks) * LINES_PER_BLOCK + len(self._tail)

    def lines(self) -> Iterator[bytes]:
        """The log as it is now; what is accepted while it is read is not in it."""
        blocks, tail = tuple(self._blocks), b"".join(self._tail)  # taken here, not when the first line is asked for
        return chain(map(zlib.decompress, blocks), (tail,))

    def __iter__(self) -> Iterator[Accepted]:
        for block in self.lines():
            for line in block.splitlines():
                entry = orjson.loads(line)
                yield Accepted(**{**entry, "recipients": tuple(entry["recipients"]), "suppressed": tuple(entry["suppressed"])})


@dataclass(slots=True)
class Mailroom:
    """The newest whole messages, bounded by number and by bytes."""

    keep: int
    keep_bytes: int = KEEP_BYTES
    _messages: OrderedDict[str, Message] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def add(self, message: Message) -> None:
        self._messages[message.accepted.id] = message
        self._bytes += message.size
        while self._messages and (len(self._messages) > self.keep or self._bytes > self.keep_bytes):
            self._bytes -= self._messages.popitem(last=False)[1].size

    def get(self, message_id: str) -> Message | None:
        return self._messages.get(message_id)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        """Newest first."""
        return reversed(self._messages.values())

    def page(self, offset: int, limit: int, to: str = "") -> tuple[int, list[Message]]:
        """How many match in all, and `limit` of them from `offset`, newest first; `to` is a part of a recipient's address."""
        if not to:
            return len(self), list(islice(self, offset, offset + limit))
        wanted = to.lower()
        found = [message for message in self if any(wanted in address.lower() for address in message.accepted.recipients)]
        return len(found), found[offset : offset + limit]
