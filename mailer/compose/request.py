"""One request to SES: the messages that go into it, and the members that its kinds have in common."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import MIMEPart
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from ..ledger.spec import File, Spec
from ..message.email import Mode
from ..templates.render import Pieces


class Operation(StrEnum):
    SEND_EMAIL = "SendEmail"
    SEND_BULK_EMAIL = "SendBulkEmail"


class Values(NamedTuple):
    """Content of a message whose template SES has: the data, as JSON."""

    json: str


class Mime(NamedTuple):
    """Content of a message that the caller made whole."""

    data: bytes


class Loaded:
    """An attachment with its content at hand."""

    def __init__(self, file: File, content: bytes) -> None:
        self.file = file
        self.content = content
        self.part: MIMEPart | None = None  # of a message that is put together here (`raw.py`), once it has been made

    @cached_property
    def base64(self) -> str:
        return base64.b64encode(self.content).decode()


_NOTHING: Mapping[str, str] = MappingProxyType({})


class Item(NamedTuple):
    """One message that is ready to go. `tag` is the value of `mailer_id`, which names this attempt.

    A tuple, as one is made for every recipient: a frozen dataclass takes three times as long to make.
    """

    position: int
    attempt: int
    tag: str
    to: tuple[str, ...]
    content: Pieces | Values | Mime
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    tags: Mapping[str, str] = _NOTHING
    headers: Mapping[str, str] = _NOTHING  # this recipient's own

    @property
    def recipients(self) -> int:
        """What SES counts against the quota: every address of To, Cc and Bcc."""
        return len(self.to) + len(self.cc) + len(self.bcc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. The result for `items[i]` is the i-th of the answer.

    `body` is `params` as it is sent. It is written here and not by botocore, whose serializer takes a fifth of the time of a
    whole delivery, because the operation's members are all in the body and named as they are on the wire.
    """

    operation: Operation
    mode: Mode
    params: dict[str, Any]
    body: bytes
    items: Sequence[Item]

    @property
    def recipients(self) -> int:
        return sum(item.recipients for item in self.items)


def send_email(mode: Mode, spec: Spec, item: Item, content: Mapping[str, Any], *, reply_to: bool = True) -> Call:
    params = {
        **envelope(spec, reply_to=reply_to),
        "Destination": destination(item),
        "Content": content,
        "EmailTags": tag_list({"mailer_id": item.tag, **spec.tags, **item.tags}),
    }
    if spec.contact_list:
        options = {"ContactListName": spec.contact_list, "TopicName": spec.topic}
        params["ListManagementOptions"] = {name: value for name, value in options.items() if value}
    return Call(operation=Operation.SEND_EMAIL, mode=mode, params=params, body=orjson.dumps(params), items=[item])


def envelope(spec: Spec, *, reply_to: bool = True) -> dict[str, Any]:
    """What both operations call alike."""
    members = {
        "FromEmailAddress": spec.from_address,
        "FromEmailAddressIdentityArn": spec.identity_arn,
        "ReplyToAddresses": list(spec.reply_to) if reply_to else None,
        "FeedbackForwardingEmailAddress": spec.feedback_address,
        "FeedbackForwardingEmailAddressIdentityArn": spec.feedback_identity_arn,
        "ConfigurationSetName": spec.configuration_set,
        "TenantName": spec.tenant,
    }
    return {name: value for name, value in members.items() if value}


def destination(item: Item) -> dict[str, list[str]]:
    if not item.cc and not item.bcc:
        return {"ToAddresses": list(item.to)}
    addresses = {"ToAddresses": list(item.to), "CcAddresses": list(item.cc), "BccAddresses": list(item.bcc)}
    return {name: value for name, value in addresses.items() if value}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in tags.items()]


def header_list(headers: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in headers.items()]


def merged(ours: Mapping[str, str], own: Mapping[str, str]) -> Mapping[str, str]:
    """A message's own headers over those that all have; names are compared without regard to case."""
    if not own:
        return ours
    names = {name.lower() for name in own}
    return {**{name: value for name, value in ours.items() if name.lower() not in names}, **own}


def message_size(simple: Mapping[str, Any], files: Sequence[Loaded]) -> int:
    """Bytes of the message that SES makes of simple content: its texts, too, counted in base64, as which they may be sent."""
    texts = [part["Data"] for part in (simple["Subject"], *simple["Body"].values())]
    return sum((len(text.encode()) + 2) // 3 * 4 for text in texts) + attached_size(files)


def attached_size(files: Sequence[Loaded]) -> int:
    return sum(len(loaded.base64) for loaded in files)


def attachment_list(files: Sequence[Loaded]) -> list[dict[str, str]]:
    """Content as base64, which is what botocore makes of bytes."""
    return [_attachment(loaded) for loaded in files]


def _attachment(loaded: Loaded) -> dict[str, str]:
    file = loaded.file
    members = {
        "FileName": file.name,
        "ContentType": file.content_type,
        "ContentDisposition": "INLINE" if file.inline else "ATTACHMENT",
        "ContentDescription": file.description,
        "ContentId": file.content_id,
        "ContentTransferEncoding": "BASE64",  # SES's default is 7-bit, which a binary file does not survive
    }
    return {"RawContent": loaded.base64, **{name: value for name, value in members.items() if value}}
