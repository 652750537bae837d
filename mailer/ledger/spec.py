"""What Redis holds of a campaign or message besides its recipients: everything a worker needs to build the requests."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from ..data import dumps, loads
from ..message.email import Lane, Mode
from ..message.sender import Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """Content that is sent as it is."""

    subject: str
    html: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An attachment; its content is stored once, under its digest."""

    name: str
    content_type: str
    content_id: str | None
    description: str | None
    inline: bool
    digest: str
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way to an AWS account: all of it empty is the worker's own credentials, region and endpoint."""

    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    external_id: str | None = None

    @classmethod
    def of(cls, sender: Sender) -> Route:
        return cls(
            region=sender.region, endpoint_url=sender.endpoint_url, role_arn=sender.role_arn, external_id=sender.external_id
        )

    @property
    def parts(self) -> str:
        """Which of them are given, by name. What they are may come from anybody."""
        return ", ".join(one.name for one in fields(self) if getattr(self, one.name) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """When a campaign is paused: a part of its e-mails, above 0; 1 is never."""

    max_bounce_rate: float
    max_complaint_rate: float
    after: int  # e-mails whose fate is known, before the first judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One content and everything that goes on each of its messages.

    Exactly one of `content`, `literal`, `ses_template` and `raw` is set.
    """

    lane: Lane
    from_address: str  # `Name <address>`, encoded for SES
    name: str = ""
    mode: Mode = Mode.AUTO
    reply_to: tuple[str, ...] = ()
    feedback_address: str | None = None
    identity_arn: str | None = None
    feedback_identity_arn: str | None = None
    configuration_set: str | None = None
    tenant: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: str | None = None  # digest of a stored Content
    literal: Literal | None = None
    ses_template: str | None = None  # name or ARN of a template that is stored in SES
    raw: str | None = None  # digest of a stored MIME message
    header_senders: tuple[tuple[str, str], ...] = ()  # its Sender and Return-Path: (header, address), verified as From is
    files: tuple[File, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    to: tuple[str, ...] = ()  # of a message; a campaign's rows have their own
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    contact_list: str | None = None
    topic: str | None = None
    unsubscribe_url: str | None = None  # with `{token}`
    unsubscribe_mailto: str | None = None
    link_url: str | None = None  # what `{{ unsubscribe_url }}` is in a body, with `{token}`; also where the headers are others
    stream: str = ""  # the sender profile's name, which an unsubscribe token carries
    route: Route = Route()
    expires_ms: int | None = None
    max_rate: float | None = None  # of a campaign: recipients per second, below the account's own

    def dump(self) -> bytes:
        return zlib.compress(dumps(self), 1)

    @classmethod
    def load(cls, packed: bytes) -> Spec:
        found = loads(zlib.decompress(packed))
        if found["literal"] is not None:
            found["literal"] = Literal(**found["literal"])
        for name in ("reply_to", "to", "cc", "bcc"):
            found[name] = tuple(found[name])
        found["files"] = tuple(File(**one) for one in found["files"])
        found["header_senders"] = tuple((name, address) for name, address in found.get("header_senders", ()))
        found |= {"lane": Lane(found["lane"]), "mode": Mode(found["mode"]), "route": Route(**found["route"])}
        return cls(**found)

    @property
    def blobs(self) -> list[str]:
        """Digests of everything that is stored beside it."""
        return [digest for digest in (self.content, self.raw, *(file.digest for file in self.files)) if digest]


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Entry(NamedTuple):
    """One row as a chunk's payload holds it. Rows that cannot be sent keep their place, for the report.

    A tuple, as are the other values that are made for every recipient: a frozen dataclass takes three times as long to make.
    """

    row: int  # place in the source, from 1
    to: str
    data: Mapping[str, Any] = _NOTHING
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    tags: Mapping[str, str] = _NOTHING
    name: str = ""  # what stands before `<to>` in a header: ASCII, in quotes or encoded words where it has to be


def pack_entries(entries: Sequence[Any]) -> bytes:
    """`[row, to, data]`, `[row, to, data, cc, bcc, tags]` or `[…, name]` each → the payload: JSON, zlib level 1."""
    return zlib.compress(dumps(entries), 1)


def unpack_entries(packed: bytes) -> list[Entry]:
    return [Entry(*fields) for fields in loads(zlib.decompress(packed))]
