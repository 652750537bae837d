"""What the messages of one content are made from, and how one recipient's message is made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..data import plain
from ..errors import RenderFailed
from ..ledger.spec import Entry, Literal, Spec
from ..templates import Compiled, Pieces
from ..templates.handlebars import MissingAttribute, Template
from ..templates.names import LINK, ROW
from ..templates.values import seen
from ..unsubscribe.tokens import Tokens, has_token, unsubscribe_headers
from .link import NO_LINK, given_links, link_needs_token
from .request import Item, Loaded, Mime, Values
from .variables import own_variables

HELD_BYTES = 8 << 20  # of attachments, in the messages of one chunk that are held at a time
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def recipients(spec: Spec, entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """To, Cc and Bcc of one message."""
    to = spec.to or (() if spec.cc or spec.bcc else (f"{entry.name} <{entry.to}>" if entry.name else entry.to,))
    return to, spec.cc or tuple(entry.cc), spec.bcc or tuple(entry.bcc)


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template that SES has, as far as it is known here: to see that a row has every variable.

    SES itself says that one is missing only afterwards, in an event, with the message lost.
    """

    name: str
    parts: tuple[Template, ...] | None  # None: not known, so nothing is checked and SES decides
    sources: tuple[str, ...] = ()  # of the parts

    @property
    def has_blocks(self) -> bool:
        """Whether a row's data decides how long it takes to look at a row."""
        return any(part.plain is None for part in self.parts or ())

    @property
    def mentions(self) -> frozenset[str]:
        """Of what the service gives to each row. Whether it uses the link is not always known, so it gets it."""
        return frozenset((LINK,))

    def values(self, data: dict[str, Any]) -> Values:
        """Raises RenderFailed, which names the variable that is missing."""
        try:
            for part in self.parts or ():
                part.check(data)
        except MissingAttribute as error:
            raise self.lacks(error.path) from None
        return Values(plain(data).decode())

    def lacks(self, path: str) -> RenderFailed:
        """The row does not have this variable."""
        why = NO_LINK if path == LINK else f"the template {self.name} uses '{path}', which this row does not have"
        return RenderFailed(name=self.name, why=why)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A template that somebody else renders, who gives `MessageBuilder.item` what became of it."""

    mentions: frozenset[str]  # as of Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageBuilder:
    spec: Spec
    source: Compiled | Elsewhere | Literal | StoredTemplate | Mime
    files: tuple[Loaded, ...]
    tokens: Tokens
    _shared: Mapping[str, Any] = field(init=False)  # what all rows have, as a template sees it
    _mentions: frozenset[str] = field(init=False)  # of what the service gives to each row, what the content uses
    _has_unsubscribe: bool = field(init=False)
    _needs_token: bool = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        ways = [way for way in (spec.unsubscribe_url, spec.unsubscribe_mailto) if way]
        together = len(spec.to) + len(spec.cc) + len(spec.bcc) > 1
        object.__setattr__(self, "_shared", seen(spec.data))
        object.__setattr__(self, "_has_unsubscribe", bool(ways))
        source = self.source
        mentions = (
            source.mentions - spec.data.keys() if isinstance(source, Compiled | Elsewhere | StoredTemplate) else frozenset()
        )
        needs_token = any(map(has_token, ways)) or link_needs_token(spec, mentions)
        object.__setattr__(self, "_mentions", mentions)
        object.__setattr__(self, "_needs_token", not together and needs_token)

    @property
    def size(self) -> int:
        """Bytes of the attachments, or of the caller's own message."""
        own = len(self.source.data) if isinstance(self.source, Mime) else 0
        return own + sum(loaded.file.size for loaded in self.files)

    def at_once(self, most: int) -> int:
        """How many messages may be held at a time: each has the attachments in it, and more than once while it is made."""
        return max(1, min(most, HELD_BYTES // (self.size + 1)))

    def check(self) -> None:
        """Raises ConfigError where no message can be made, whoever it is for: the key is missing that signs its token."""
        if self._needs_token:
            self.tokens.make("", "")

    def item(
        self,
        chunk: str,
        position: int,
        entry: Entry,
        attempt: int,
        leave_out: Collection[str] = (),
        content: Pieces | Values | None = None,
    ) -> Item:
        """One recipient's message, without those of its addresses that are to be left out of the envelope, which are not all.
        `content`: what was made elsewhere. Raises RenderFailed where its data does not fit the template.
        """
        to, cc, bcc = recipients(self.spec, entry)
        # By all whom it was for, so that what a message to several does not carry stays off it.
        addresses = (*to, *cc, *bcc)
        token = self._token(addresses)
        headers = self._unsubscribe(token, len(addresses)) if self._has_unsubscribe else NO_HEADERS
        if leave_out:
            to, cc, bcc = (tuple(one for one in addresses if one not in leave_out) for addresses in (to, cc, bcc))
        return Item(
            position=position,
            attempt=attempt,
            tag=f"{chunk}-{position}-{attempt}",  # an ids.Attempt
            to=to,
            cc=cc,
            bcc=bcc,
            tags=entry.tags,
            headers=headers,
            content=content if content is not None else self._content(entry, token),
        )

    def data(self, entry: Entry) -> dict[str, Any]:
        """What a template of ours has of this row: what the service gives to it, and its own data, but not what all rows have."""
        to, cc, bcc = recipients(self.spec, entry)
        return self._own(entry, self._token((*to, *cc, *bcc)))

    def all_data(self, entry: Entry) -> dict[str, Any]:
        """What a template that SES has gets of this row."""
        return self._whole(self.data(entry), entry)

    def _content(self, entry: Entry, token: str) -> Pieces | Values | Mime:
        source = self.source
        if isinstance(source, Mime):
            return source
        if isinstance(source, Literal):
            html, text = ([part] if part is not None else None for part in (source.html, source.text))
            return Pieces(source.subject, html, text)
        own = self._own(entry, token)
        if isinstance(source, Compiled):
            return source.pieces(own, self._shared)
        assert isinstance(source, StoredTemplate), "whoever renders it gives what was made of it"
        return source.values(self._whole(own, entry))

    def _own(self, entry: Entry, token: str) -> dict[str, Any]:
        given: dict[str, Any] = {} if "email" in self.spec.data else {"email": entry.to}
        if self._mentions:
            given |= given_links(self.spec, self._mentions, token)
        if ROW in self._mentions:
            given[ROW] = entry.data  # for names that are no words: `row["First Name"]`
        return {**given, **own_variables(entry)}

    def _whole(self, own: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
        """Without what only a template of ours understands: why something is not there."""
        known = {name: value for name, value in own.items() if isinstance(value, str)}
        return {**known, **self.spec.data, **own_variables(entry)}

    def _token(self, addresses: Sequence[str]) -> str:
        return self.tokens.make(addresses[0], self.spec.stream) if self._needs_token and len(addresses) == 1 else ""

    def _unsubscribe(self, token: str, recipients: int) -> Mapping[str, str]:
        """A token is one recipient's, and each of several who get the same message could unsubscribe the others by it."""
        url, mailto = self.spec.unsubscribe_url, self.spec.unsubscribe_mailto
        if recipients > 1:
            url, mailto = (None if has_token(way) else way for way in (url, mailto))
        return unsubscribe_headers(url, mailto, token)
