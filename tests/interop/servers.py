"""Two simulated SES that others wrote: how they are started, what they cannot do, and what they hold of a message.

What a server cannot do is declared here, with the reason. The tests make sure that a declaration is still true: what is
said to be refused has to be refused in that way, and what a server holds of a message must have no members that are not
read here.
"""

from __future__ import annotations

import base64
import email
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.message import Message as Part
from email.utils import getaddresses
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict, Field

from mailer.ses.refusals import Kind

from ..bench.servers import free_port, process
from . import node

VERIFIED = "example.com"  # the domain of every sender here that a server may know
# Both want a signature, and neither checks it. The first takes the service and the region from it.
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/ses/aws4_request, SignedHeaders=host, Signature=x"}
ACCOUNT: Mapping[str, Any] = {
    "DedicatedIpAutoWarmupEnabled": False,
    "Details": {
        "AdditionalContactEmailAddresses": [],
        "ContactLanguage": "EN",
        "MailType": "MARKETING",
        "ReviewDetails": {"CaseId": "1", "Status": "GRANTED"},
        "UseCaseDescription": "tests",
        "WebsiteURL": "https://example.com",
    },
    "EnforcementStatus": "HEALTHY",
    "ProductionAccessEnabled": True,
    "SendingEnabled": True,
    "SendQuota": {"Max24HourSend": 50_000, "MaxSendRate": 14, "SentLast24Hours": 3},
    "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE"]},
}


class Ability(StrEnum):
    """What a message needs of a server. The value stands in the names of the tests."""

    SIMPLE = "SendEmail simple"
    RAW = "SendEmail raw"
    STORED = "SendEmail stored template"
    INLINE = "SendEmail inline template"
    BULK_STORED = "SendBulkEmail stored template"
    BULK_INLINE = "SendBulkEmail inline template"
    BULK_TO_NAMES = "SendBulkEmail to names"  # `Name <address>` in an entry's destination
    RAW_IMAGES = "SendEmail raw with images inside"


class Mailbox(NamedTuple):
    """As a person reads it: nothing is encoded."""

    name: str
    address: str


class Attachment(NamedTuple):
    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None  # of an image inside the HTML


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What was put in. A server holds some of the fields."""

    sender: Mailbox
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    subject: str
    html: str | None = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()

    @property
    def body(self) -> str | None:
        """All that there is of the bodies on a server that holds one: the HTML, or else the text."""
        return self.text if self.html is None else self.html


Held = Mapping[str, Any]  # field of Message (or `body`) → its value, for the fields that a server keeps


class Cannot(NamedTuple):
    """How a server refuses what it cannot do."""

    kind: Kind
    code: str
    why: str


class Server(ABC):
    """A running server."""

    name: ClassVar[str]
    env: ClassVar[Mapping[str, str]] = {}
    cannot: ClassVar[Mapping[Ability, Cannot]]
    loses: ClassVar[Mapping[Ability, Mapping[str, str]]]  # fields that are taken without a word and not kept, and why

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, headers=SIGNED, timeout=10, trust_env=False)

    @classmethod
    @abstractmethod
    def argv(cls, port: int) -> Sequence[str]:
        """Raises Unavailable."""

    @abstractmethod
    def answers(self) -> bool: ...

    @abstractmethod
    def held(self) -> Mapping[str, Held]:
        """Id of a message → what is there of it, for all that were sent."""

    def prepare(self) -> None:  # noqa: B027
        """What has to be there before a message can be sent: nothing, as a rule."""

    def store_template(self, name: str, *, subject: str, html: str | None = None, text: str | None = None) -> None:
        """Put a template there, in place of the one of that name."""
        self._http.delete(f"/v2/email/templates/{name}")
        parts = {"Subject": subject, "Html": html, "Text": text}
        content = {part: source for part, source in parts.items() if source is not None}
        self._post("/v2/email/templates", {"TemplateName": name, "TemplateContent": content})

    def _get(self, path: str) -> httpx.Response:
        return self._http.get(path).raise_for_status()

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        self._http.post(path, json=body).raise_for_status()

    def _is_there(self, path: str) -> bool:
        try:
            return self._http.get(path).is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()


# ---- moto ----------------------------------------------------------------------------------------------------------


class _Strict(BaseModel):
    """A member that is not named here is one that the server has learnt to keep: it is to be compared, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _MotoMessage(_Strict):
    id: str
    source: str
    subject: str
    body: str
    destinations: dict[str, list[str]]


class _MotoRaw(_Strict):
    id: str
    source: str
    destinations: list[str]
    raw_data: str


_NO_TEMPLATES = Cannot(Kind.AMBIGUOUS, "500", "templates are not written yet: it breaks on them")
_NO_BULK = Cannot(Kind.UNREACHABLE, "404", "it has no such operation, and answers with a page of HTML")
_NO_TAGS = {"tags": "dropped"}


class Moto(Server):
    name = "moto"
    cannot: ClassVar = {
        Ability.STORED: _NO_TEMPLATES,
        Ability.INLINE: _NO_TEMPLATES,
        Ability.BULK_STORED: _NO_BULK,
        Ability.BULK_INLINE: _NO_BULK,
        Ability.BULK_TO_NAMES: _NO_BULK,
    }
    loses: ClassVar = {
        Ability.SIMPLE: {
            "html": "one body is kept, as `body`",
            "text": "one body is kept, as `body`",
            "reply_to": "dropped",
            "headers": "dropped",
            "attachments": "dropped",
            **_NO_TAGS,
        },
        Ability.RAW: _NO_TAGS,
    }

    @classmethod
    def argv(cls, port: int) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    def answers(self) -> bool:
        return self._is_there("/moto-api/data.json")

    def prepare(self) -> None:
        self._post("/v2/email/identities", {"EmailIdentity": VERIFIED})

    def store_template(self, name: str, *, subject: str, html: str | None = None, text: str | None = None) -> None:
        """It cannot, and need not: see `cannot`."""

    def held(self) -> Mapping[str, Held]:
        kept = self._get("/moto-api/data.json").json()["ses"]
        simple = (_MotoMessage(**message) for message in kept["Message"])
        raw = (_MotoRaw(**message) for message in kept["RawMessage"])
        return {message.id: _moto_simple(message) for message in simple} | {message.id: _moto_raw(message) for message in raw}


def _moto_simple(message: _MotoMessage) -> Held:
    destinations = {name: mailboxes(addresses) for name, addresses in message.destinations.items()}
    return {
        "sender": mailbox(message.source),
        "to": destinations.get("ToAddresses", ()),
        "cc": destinations.get("CcAddresses", ()),
        "bcc": destinations.get("BccAddresses", ()),
        "subject": message.subject,
        "body": message.body,
    }


def _moto_raw(message: _MotoRaw) -> Held:
    found = parsed(message.raw_data)
    seen = {*found["to"], *found["cc"]}
    return {
        **found,
        "sender": mailbox(message.source),
        "bcc": tuple(box for box in mailboxes(message.destinations) if box not in seen),
    }


# ---- aws-ses-v2-local ----------------------------------------------------------------------------------------------


class _LocalDestination(_Strict):
    to: list[str]
    cc: list[str]
    bcc: list[str]


class _LocalBody(_Strict):
    html: str | None = None
    text: str | None = None


class _LocalHeader(_Strict):
    name: str
    value: str


class _LocalMessage(_Strict):
    message_id: str = Field(alias="messageId")
    sender: str = Field(alias="from")
    reply_to: list[str] = Field(alias="replyTo")
    destination: _LocalDestination
    subject: str
    body: _LocalBody
    attachments: list[dict[str, Any]]
    headers: list[_LocalHeader] = Field(default_factory=list)
    at: int


class SesLocal(Server):
    name = "aws-ses-v2-local"
    env: ClassVar = {"AWS_SES_ACCOUNT": json.dumps(ACCOUNT)}
    cannot: ClassVar = {
        Ability.BULK_TO_NAMES: Cannot(Kind.RETRY, "FAILED", "it takes the whole of `Name <address>` for the address"),
    }
    loses: ClassVar = {
        Ability.SIMPLE: _NO_TAGS,
        Ability.RAW: {"bcc": "recipients are read from the MIME alone", "headers": "dropped", **_NO_TAGS},
        Ability.STORED: _NO_TAGS,
        Ability.INLINE: _NO_TAGS,
        Ability.BULK_STORED: {"attachments": "dropped", **_NO_TAGS},
        Ability.BULK_INLINE: {"attachments": "dropped", **_NO_TAGS},
        Ability.RAW_IMAGES: {"html": "the image is put into it, as a data: URL"},
    }

    @classmethod
    def argv(cls, port: int) -> Sequence[str]:
        binary = node.node()
        if binary is None:
            raise node.Unavailable("there is no node on PATH that is new enough, with npm; run: make interop")
        return [str(binary), str(node.cli("aws-ses-v2-local")), "--host", "127.0.0.1", "--port", str(port)]

    def answers(self) -> bool:
        return self._is_there("/health-check")

    def held(self) -> Mapping[str, Held]:
        messages = [_LocalMessage(**message) for message in self._get("/store").json()["emails"]]
        return {message.message_id: _local(message) for message in messages}


def _local(message: _LocalMessage) -> Held:
    return {
        "sender": mailbox(message.sender),
        "to": mailboxes(message.destination.to),
        "cc": mailboxes(message.destination.cc),
        "bcc": mailboxes(message.destination.bcc),
        "reply_to": mailboxes(message.reply_to),
        "subject": message.subject,
        "html": message.body.html or None,  # an empty one, where a template has none
        "text": message.body.text or None,
        "headers": {header.name: header.value for header in message.headers},
        "attachments": tuple(
            Attachment(one["filename"], one["contentType"], base64.b64decode(one["content"]), _content_id(one.get("contentId")))
            for one in message.attachments
        ),
    }


# ---- reading -------------------------------------------------------------------------------------------------------


def mailboxes(values: Sequence[str]) -> tuple[Mailbox, ...]:
    # Not with `email.policy.default`: it leaves a blank between two encoded words (RFC 2047 section 6.2 says: none).
    return tuple(
        Mailbox(str(make_header(decode_header(name))), f"{local}@{domain.encode('idna').decode('idna')}")
        for name, address in getaddresses(values)
        for local, _, domain in [address.rpartition("@")]
    )


def mailbox(value: str) -> Mailbox:
    """Read with the standard library: `=?utf-8?…?= <a@xn--…>` → the name and the address that it stands for."""
    [box] = mailboxes([value])
    return box


def parsed(raw: str) -> Held:
    """What a MIME message says, but for what is only in the request around it."""
    message = email.message_from_string(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)

    boxes = {name: mailboxes(email.message_from_string(raw).get_all(name, [])) for name in ("to", "cc", "reply-to")}
    bodies = {kind: message.get_body((kind,)) for kind in ("html", "plain")}
    texts = {kind: part.get_content().replace("\r\n", "\n") if part else None for kind, part in bodies.items()}
    return {
        "to": boxes["to"],
        "cc": boxes["cc"],
        "reply_to": boxes["reply-to"],
        "subject": message["subject"],
        "html": texts["html"],
        "text": texts["plain"],
        "headers": {name: value for name, value in message.items() if name.lower() not in _WRITTEN},
        "attachments": tuple(_attachment(part) for part in message.walk() if part.get_filename() is not None),
    }


def _attachment(part: Part[str, str]) -> Attachment:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return Attachment(part.get_filename() or "", part.get_content_type(), content, _content_id(part["Content-ID"]))


def _content_id(value: str | None) -> str | None:
    return value.removeprefix("<").removesuffix(">") if value else None


_WRITTEN = frozenset(
    ("from", "to", "cc", "reply-to", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding")
)


# ---- running -------------------------------------------------------------------------------------------------------

SERVERS: Mapping[str, type[Server]] = {kind.name: kind for kind in (Moto, SesLocal)}


@contextmanager
def running(kind: type[Server]) -> Iterator[Server]:
    """Raises Unavailable."""
    port = free_port()
    with process(kind.name, kind.argv(port), kind.env) as child:
        server = kind(f"http://127.0.0.1:{port}")
        try:
            child.wait_until(server.answers)
            server.prepare()
            yield server
        finally:
            server.close()
