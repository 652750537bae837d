"""Which SES call carries which messages.

In order: two or more messages that share everything outside their data → `SendBulkEmail` with an inline template; else, and
where a message does not fit into one, `SendEmail` simple. Limits: SES developer guide, "Service quotas" (50 entries a
call) and "Sending personalized email" (1 MB of JSON for a request with inline content, 262,144 characters of data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from ..ledger.records import Mode
from ..ledger.spec import Spec
from ..templates.render import Pieces
from .factor import Segment, Slots, segments, template, text_segments

MAX_ENTRIES = 50
MAX_REQUEST_BYTES = 1_000_000  # SES says 1 MB; the smaller of its two readings
MAX_DATA_CHARS = 262_144


class Operation(StrEnum):
    SEND_EMAIL = "SendEmail"
    SEND_BULK_EMAIL = "SendBulkEmail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One message that is ready to go. `tag` is the value of `mailer_id`, which names this attempt."""

    position: int
    attempt: int
    tag: str
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    pieces: Pieces

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


def plan(spec: Spec, items: Sequence[Item]) -> list[Call]:
    """The calls that carry these messages, each message in exactly one."""
    if len(items) < 2:
        return [_simple(spec, item) for item in items]
    calls = []
    for first in range(0, len(items), MAX_ENTRIES):
        calls += _bulk(spec, items[first : first + MAX_ENTRIES])
    return calls


def _bulk(spec: Spec, items: Sequence[Item]) -> list[Call]:
    if len(items) < 2:
        return [_simple(spec, item) for item in items]
    call = _bulk_call(spec, items)
    if call is not None:
        return [call]
    half = len(items) // 2
    return _bulk(spec, items[:half]) + _bulk(spec, items[half:])


def _bulk_call(spec: Spec, items: Sequence[Item]) -> Call | None:
    """The bulk call for these messages, or None where it would be too large."""
    slots, count = Slots(), len(items)
    content = {"Subject": template(segments([[item.pieces.subject] for item in items]), count, slots)}
    html: list[Segment] = []
    if items[0].pieces.html is not None:
        html = segments([item.pieces.html or [] for item in items])
        content["Html"] = template(html, count, slots)
    text = text_segments(html, count) if items[0].pieces.text is None else segments([item.pieces.text or [] for item in items])
    content["Text"] = template(text, count, slots)

    names = list(slots.values)
    data = [orjson.dumps(dict(zip(names, values, strict=True))).decode() for values in zip(*slots.values.values(), strict=True)]
    data = data or ["{}"] * count
    if max(map(len, data)) > MAX_DATA_CHARS:
        return None
    common = _tag_list(spec.tags)
    default: dict[str, Any] = {"TemplateContent": content, "TemplateData": "{}"}
    if spec.headers:
        default["Headers"] = _headers(spec)
    params = {
        **_envelope(spec),
        "DefaultContent": {"Template": default},
        "BulkEmailEntries": [
            {
                "Destination": _destination(item),
                "ReplacementTags": [{"Name": "mailer_id", "Value": item.tag}, *(_tags(spec, item) if item.tags else common)],
                "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": values}},
            }
            for item, values in zip(items, data, strict=True)
        ],
    }
    body = orjson.dumps(params)
    if len(body) > MAX_REQUEST_BYTES:
        return None
    return Call(operation=Operation.SEND_BULK_EMAIL, mode=Mode.BULK, params=params, body=body, items=items)


def _simple(spec: Spec, item: Item) -> Call:
    rendered = item.pieces.join()
    body: dict[str, Any] = {}
    if rendered.html is not None:
        body["Html"] = _utf8(rendered.html)
    if rendered.text is not None:
        body["Text"] = _utf8(rendered.text)
    simple: dict[str, Any] = {"Subject": _utf8(rendered.subject), "Body": body}
    if spec.headers:
        simple["Headers"] = _headers(spec)
    params = {
        **_envelope(spec),
        "Destination": _destination(item),
        "Content": {"Simple": simple},
        "EmailTags": [{"Name": "mailer_id", "Value": item.tag}, *_tags(spec, item)],
    }
    return Call(operation=Operation.SEND_EMAIL, mode=Mode.SIMPLE, params=params, body=orjson.dumps(params), items=[item])


def _envelope(spec: Spec) -> dict[str, Any]:
    """What both operations call alike."""
    members = {
        "FromEmailAddress": spec.from_address,
        "FromEmailAddressIdentityArn": spec.identity_arn,
        "ReplyToAddresses": list(spec.reply_to),
        "FeedbackForwardingEmailAddress": spec.feedback_address,
        "FeedbackForwardingEmailAddressIdentityArn": spec.feedback_identity_arn,
        "ConfigurationSetName": spec.configuration_set,
        "TenantName": spec.tenant,
    }
    return {name: value for name, value in members.items() if value}


def _destination(item: Item) -> dict[str, list[str]]:
    destination = {"ToAddresses": list(item.to)}
    if item.cc:
        destination["CcAddresses"] = list(item.cc)
    if item.bcc:
        destination["BccAddresses"] = list(item.bcc)
    return destination


def _tags(spec: Spec, item: Item) -> list[dict[str, str]]:
    return _tag_list({**spec.tags, **item.tags})


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in tags.items()]


def _headers(spec: Spec) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in spec.headers.items()]


def _utf8(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}
