"""Every form that an event of SES comes in → an Event.

    SES's own JSON                  raw message delivery, or the Message of a notification that was verified already
    an SNS envelope around it       SNS to SQS as it is by default
    an EventBridge event around it  a rule with the queue as its target
    an SNS envelope around that     a rule with a topic as its target

Two systems of SES publish: configuration sets (`eventType`, all types, with the message's tags) and identities
(`notificationType`, three types, without tags). Unknown types and fields are nothing to be afraid of; a field of the
wrong type counts as not there, unless the meaning of the event depends on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from ..errors import InvalidAddress, NotAnEvent
from ..message.address import normalise
from ..message.checks import MAX_ADDRESS, MAX_RECIPIENTS
from .event import Concerned, Event, EventType, Preferences, Subscription

MAX_BODY: Final = 1 << 20  # bytes of a message, SQS quota
_MAX_ID = 128  # characters; SES's message ids have 60
_MAX_WORD = 256  # characters of a type, a status, a list's or a topic's name; the longest of SES's own have under 70
_MAX_TEXT = 1000  # characters of what a mail server said
_MAX_TOPICS = 100  # of one contact list; SES allows 20
_WRAPS = 2  # SNS around EventBridge is the deepest there is

_TESTS = ("Successfully validated SNS topic for Amazon SES event publishing",)  # the text of a message, not JSON
_TEST_TYPES = frozenset({"AmazonSnsSubscriptionSucceeded"})  # the same of identity notifications

Json = dict[str, Any]
_TYPES = {type.value: type for type in EventType if type not in (EventType.TEST, EventType.OTHER, EventType.RECEIVED)}
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # as `surrogateescape` keeps a byte


def read(body: bytes | str) -> Event:
    """Raises NotAnEvent, and nothing else, whatever the body is."""
    if len(body) > MAX_BODY:
        raise NotAnEvent(why="it is larger than a message can be")
    for _ in range(_WRAPS + 1):
        if _is_test(body):
            return Event(type=EventType.TEST)
        found = _object(body)
        if "eventType" in found or "notificationType" in found:
            return _event(found)
        if found.get("source") == "aws.ses" and isinstance(detail := found.get("detail"), dict):
            return _event(detail) if "eventType" in detail or "notificationType" in detail else Event(type=EventType.OTHER)
        body = _message(found)
    raise NotAnEvent(why="there are too many envelopes around it")


def _is_test(body: bytes | str) -> bool:
    if len(body) > _MAX_TEXT or body[:1] in (b"{", "{"):
        return False
    text = body if isinstance(body, str) else body.decode(errors="replace")
    return text.strip().startswith(_TESTS)


def _object(body: bytes | str) -> Json:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = _mended(body)
    if not isinstance(found, dict):
        raise NotAnEvent(why="it is not a JSON object")
    return found


def _mended(body: bytes | str) -> Any:
    """What orjson refuses, and a mail server's words may have brought into an event: bytes that are not UTF-8 are taken for
    Latin-1, control characters as they are, and half of a surrogate pair becomes a question mark."""
    text = body if isinstance(body, str) else body.decode(errors="surrogateescape")
    if isinstance(body, bytes):
        text = _NOT_UTF_8.sub(lambda byte: chr(ord(byte[0]) - 0xDC00), text)
    try:
        found = json.loads(text.lstrip("\ufeff"), strict=False)
        return orjson.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        raise NotAnEvent(why="it is not JSON") from None


def _message(envelope: Json) -> str:
    """What an SNS envelope carries."""
    if envelope.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        raise NotAnEvent(why="it asks to confirm a subscription of the queue, which is done where the queue is set up")
    message = envelope.get("Message")
    if envelope.get("Type") != "Notification" or not isinstance(message, str):
        raise NotAnEvent(why="it has neither the form of SES, nor of SNS, nor of EventBridge")
    return message


def _event(found: Json) -> Event:
    name = found.get("eventType", found.get("notificationType"))
    if not isinstance(name, str):
        raise NotAnEvent(why="its type is not a text")
    if name in _TEST_TYPES:
        return Event(type=EventType.TEST)
    mail = found.get("mail")
    if not isinstance(mail, dict):
        mail = {}
    ses_message_id = _id(mail.get("messageId"))
    if found.get("notificationType") == EventType.RECEIVED.value:
        return Event(type=EventType.RECEIVED, ses_message_id=ses_message_id)
    type = _TYPES.get(name, EventType.OTHER)
    if type is EventType.OTHER:
        return Event(type=type, ses_message_id=ses_message_id)
    if not ses_message_id:
        raise NotAnEvent(why="it does not say which message it is of")
    key, read_block = _BLOCKS[type]
    block = found.get(key)
    if not isinstance(block, dict):
        if type in _TELLING or block is not None:
            raise NotAnEvent(why="what it says of the message is not there")
        block = {}
    return Event(
        type=type,
        time=_moment(block.get("timestamp")) or _moment(mail.get("timestamp")),
        ses_message_id=ses_message_id,
        tags=_tags(mail.get("tags")),
        sender=_sender(mail) if type is EventType.SUBSCRIPTION else "",
        destination=tuple(map(_address, _texts(mail.get("destination")))),
        **read_block(block),
    )


# ---- the block of each type ----------------------------------------------------------------------------------------


def _nothing(_: Json) -> Json:
    return {}


def _delivery(block: Json) -> Json:
    said = _text(block.get("smtpResponse"))
    return {"recipients": tuple(Concerned(_address(text), "", said) for text in _texts(block.get("recipients")))}


def _bounce(block: Json) -> Json:
    return {
        "recipients": _concerned(block.get("bouncedRecipients")),
        "bounce_type": _word(block.get("bounceType")),
        "bounce_subtype": _word(block.get("bounceSubType")),
        "feedback_id": _id(block.get("feedbackId")),
    }


def _complaint(block: Json) -> Json:
    return {
        "recipients": _concerned(block.get("complainedRecipients")),
        "complaint_type": _word(block.get("complaintFeedbackType")),
        "complaint_subtype": _word(block.get("complaintSubType")),
        "feedback_id": _id(block.get("feedbackId")),
    }


def _reject(block: Json) -> Json:
    return {"reason": _text(block.get("reason"))}


def _failure(block: Json) -> Json:
    return {"reason": _text(block.get("errorMessage"))}


def _delay(block: Json) -> Json:
    return {
        "recipients": _concerned(block.get("delayedRecipients")),
        "delay_type": _word(block.get("delayType")),
        "delay_ends": _moment(block.get("expirationTime")),
    }


def _subscription(block: Json) -> Json:
    new = _preferences(block.get("newTopicPreferences"))
    if new is None:
        raise NotAnEvent(why="what it says of the message is not there")
    said = Subscription(
        contact_list=_word(block.get("contactList")),
        source=_word(block.get("source")),
        new=new,
        old=_preferences(block.get("oldTopicPreferences")),
    )
    return {"subscription": said}


_BLOCKS: Final[dict[EventType, tuple[str, Callable[[Json], Json]]]] = {
    EventType.SEND: ("send", _nothing),
    EventType.DELIVERY: ("delivery", _delivery),
    EventType.BOUNCE: ("bounce", _bounce),
    EventType.COMPLAINT: ("complaint", _complaint),
    EventType.REJECT: ("reject", _reject),
    EventType.RENDERING_FAILURE: ("failure", _failure),
    EventType.DELIVERY_DELAY: ("deliveryDelay", _delay),
    EventType.SUBSCRIPTION: ("subscription", _subscription),
    EventType.OPEN: ("open", _nothing),
    EventType.CLICK: ("click", _nothing),
}
# Without their block nobody could tell a hard bounce from a soft one, or who wants what.
_TELLING: Final = frozenset({EventType.BOUNCE, EventType.COMPLAINT, EventType.SUBSCRIPTION})


def _preferences(value: object) -> Preferences | None:
    if not isinstance(value, dict):
        return None
    topics: dict[str, bool] = {}
    for item in _items(value.get("topicSubscriptionStatus"), _MAX_TOPICS):
        if isinstance(item, dict) and (name := _word(item.get("topicName"))):
            status = item.get("subscriptionStatus")
            if status == "OptIn" or status == "OptOut":
                topics[name] = status == "OptIn"
    # Booleans are written as such or, here and there in SES's documentation, in quotation marks.
    return Preferences(unsubscribe_all=value.get("unsubscribeAll") in (True, "true"), topics=topics)


def _concerned(value: object) -> tuple[Concerned, ...]:
    return tuple(
        Concerned(_address(item["emailAddress"]), _word(item.get("status")), _text(item.get("diagnosticCode")))
        for item in _items(value, MAX_RECIPIENTS)
        if isinstance(item, dict) and isinstance(item.get("emailAddress"), str)
    )


# ---- values --------------------------------------------------------------------------------------------------------


def _items(value: object, most: int) -> list[Any]:
    return value[:most] if isinstance(value, list) else []


def _texts(value: object) -> Iterable[str]:
    return [item for item in _items(value, MAX_RECIPIENTS) if isinstance(item, str)]


def _tags(value: object) -> dict[str, str]:
    """SES gives a list for each name, with one text in it."""
    if not isinstance(value, dict):
        return {}
    return {name: texts[0] for name, texts in value.items() if isinstance(texts, list) and texts and isinstance(texts[0], str)}


def _sender(mail: Json) -> str:
    headers = mail.get("commonHeaders")
    written = list(_texts(headers.get("from"))) if isinstance(headers, dict) else []
    source = mail.get("source")
    if not written and isinstance(source, str):
        written = [source]
    return _address(written[0]) if written else ""


def _address(text: str) -> str:
    """Some come as `Name <address>`, or in angle brackets, as a mail server had them."""
    if "<" in text:
        text = text.rpartition("<")[2].partition(">")[0]
    try:
        return normalise(text)
    except InvalidAddress:
        return _one_line(text[:MAX_ADDRESS])


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _id(value: object) -> str:
    """Visible ASCII, because ids become part of keys and logs; empty where it is anything else."""
    if isinstance(value, str) and len(value) <= _MAX_ID and value.isascii() and value.isprintable() and " " not in value:
        return value
    return ""


def _word(value: object) -> str:
    return _one_line(value[:_MAX_WORD]) if isinstance(value, str) else ""


def _text(value: object) -> str:
    return _one_line(value[:_MAX_TEXT]) if isinstance(value, str) else ""


def _one_line(text: str) -> str:
    """A mail server's words are shown on terminals: nothing in them may move a cursor or change the direction of writing."""
    if text.isprintable():
        return text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
