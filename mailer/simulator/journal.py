"""What the simulator accepted: one short line for every message, and the whole message for the newest ones.

A million messages must fit. So the lines are kept as NDJSON, compressed a block at a time (about 60 bytes a message), and
the whole messages are bounded by number and by bytes.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from urllib.parse import urlencode

import orjson

from ..templates import handlebars
from .attachments import Attachment
from .limits import Headers
from .shown import Shown, by_name, read_mime
from .wire import Json

UNSUBSCRIBE_URL = "{{amazonSESUnsubscribeUrl}}"  # in the HTML and text of a message that is sent with list management
MAX_LINKS = 2  # the occurrences, from the first, that SES replaces
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
class SimpleContent:
    subject: str
    html: str | None
    text: str | None
    headers: Headers
    attachments: tuple[Attachment, ...]

    def show(self) -> Shown:
        return Shown(
            subject=self.subject,
            html=self.html,
            text=self.text,
            headers=by_name(self.headers),
            attachments=tuple(item.show() for item in self.attachments),
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
    headers: Headers
    attachments: tuple[Attachment, ...]

    def show(self) -> Shown:
        files = tuple(item.show() for item in self.attachments)
        if self.parts.why_not(self.data) is not None:
            return Shown(headers=by_name(self.headers), attachments=files)
        subject, html, text = (
            None if part is None else part.render(self.data) for part in (self.parts.subject, self.parts.html, self.parts.text)
        )
        return Shown(subject=subject or "", html=html, text=text, headers=by_name(self.headers), attachments=files)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawContent:
    mime: bytes  # as it was received
    from_: str | None  # FromEmailAddress, where it was given; it stands instead of the header

    def show(self) -> Shown:
        return read_mime(self.mime)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """ListManagementOptions: the contact list, and the topic, that the recipient can leave."""

    contact_list: str
    topic: str | None

    def link(self, message_id: str) -> str:
        """SES's leads to a page of its own. This one leads nowhere: `.invalid` is reserved for that (RFC 6761)."""
        values = {"list": self.contact_list, "message": message_id}
        return f"https://simulated-ses.invalid/unsubscribe?{urlencode({**values, 'topic': self.topic} if self.topic else values)}"


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
    subscription: Subscription | None = None
    overrides: Json | None = None  # ConfigurationOverrides of the call

    def show(self) -> Shown:
        shown = self.content.show()
        if self.subscription is None or isinstance(self.content, RawContent):
            return shown
        link = self.subscription.link(self.accepted.id)
        html, text = (part and part.replace(UNSUBSCRIBE_URL, link, MAX_LINKS) for part in (shown.html, shown.text))
        return replace(shown, html=html, text=text)

    def json(self) -> Json:
        shown = self.show()
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
            "attachments": [item.json() for item in shown.attachments],
            "raw": shown.raw,
            "configuration_overrides": self.overrides,
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
