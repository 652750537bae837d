"""What SES said of each message of a call."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.utils import getaddresses
from typing import Any, NamedTuple

from ..message.address import bare
from ..message.mime import header_senders
from .refusals import Refusal, classify_entry, unusable

HEAD_CHARS = 87_384  # of a whole message in base64, in which its headers are looked for: 64 KiB
_MESSAGE_ID = re.compile(r"[!-~]{1,200}")  # SES's have 60 characters; other stand-ins' look otherwise


class Answer(NamedTuple):
    """What SES said about one message: exactly one of the two is set."""

    message_id: str | None
    refusal: Refusal | None


NO_RESULT = Answer(None, unusable("SES answered without a result for this message"))


def accepted(result: Mapping[str, Any]) -> Answer:
    message_id = result.get("MessageId")
    if isinstance(message_id, str) and _MESSAGE_ID.fullmatch(message_id):
        return Answer(message_id, None)
    return NO_RESULT


def entry(result: Mapping[str, Any], params: Mapping[str, Any], message: Mapping[str, Any]) -> Answer:
    if result.get("Status") == "SUCCESS":
        return accepted(result)
    return Answer(None, classify_entry(result, from_address=ours(params), to=theirs(message)))


def ours(params: Mapping[str, Any]) -> str:
    """Our own addresses of a call, comma-separated: they tell an unverified sender from an unverified recipient."""
    found = [params.get("FromEmailAddress", ""), params.get("FeedbackForwardingEmailAddress", "")]
    content = params.get("Content")
    if isinstance(content, Mapping) and (raw := content.get("Raw")):
        found += [address for _, address in header_senders(base64.b64decode(raw["Data"][:HEAD_CHARS]))]
    return ", ".join(address for _, address in getaddresses(list(filter(None, found))))


def theirs(message: Mapping[str, Any]) -> list[str]:
    """Whom a message of a call is for, without their names."""
    lists = message.get("Destination", {}).values()
    return [bare(mailbox) for mailboxes in lists for mailbox in mailboxes]
