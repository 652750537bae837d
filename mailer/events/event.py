"""One thing that SES says of one message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from ..ids import Attempt
from ..message.checks import RESERVED_TAG

_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_MAX_ATTEMPT = 64  # characters of an id that can be ours: 19 of the container, and three numbers of up to 14 digits


class EventType(StrEnum):
    """As SES spells it in `eventType`."""

    SEND = "Send"
    DELIVERY = "Delivery"
    BOUNCE = "Bounce"
    COMPLAINT = "Complaint"
    REJECT = "Reject"
    RENDERING_FAILURE = "Rendering Failure"
    DELIVERY_DELAY = "DeliveryDelay"
    SUBSCRIPTION = "Subscription"
    OPEN = "Open"
    CLICK = "Click"
    RECEIVED = "Received"  # of mail that SES took in for the account: nothing that was sent, and somebody else's business
    TEST = "test"  # not of a message: SES tries a topic out when it is attached
    OTHER = "other"  # a type that is not known here; to be counted, and left alone


@dataclass(frozen=True, slots=True)
class Concerned:
    """A recipient that an event names. The texts are of the other side's mail server: shown, never acted upon."""

    address: str  # normalised; as SES has it where it is none that this service sends to
    status: str = ""  # RFC 3463, as 5.1.1
    diagnostic: str = ""  # one line, without control characters


@dataclass(frozen=True, slots=True)
class Preferences:
    unsubscribe_all: bool
    topics: Mapping[str, bool]  # topic → opted in; topics that SES does not name are not there


@dataclass(frozen=True, slots=True)
class Subscription:
    """A recipient changed what they want of a contact list that SES keeps."""

    contact_list: str
    source: str  # as UnsubscribeHeader
    new: Preferences
    old: Preferences | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Types and sub types are SES's own words, and new ones can come at any time. What is not said is empty."""

    type: EventType
    time: datetime | None = None  # UTC; of what happened, where SES says it, else of the message
    ses_message_id: str = ""  # never empty, except in types `test`, `other` and `Received`
    tags: Mapping[str, str] = field(default_factory=lambda: _NO_TAGS)  # none in identity notifications
    sender: str = ""  # of a subscription: the address in From, else that of the envelope; normalised
    destination: tuple[str, ...] = ()  # everyone who gets the message, normalised
    recipients: tuple[Concerned, ...] = ()  # whom a delivery, bounce, complaint or delay names
    bounce_type: str = ""  # Permanent, Transient, Undetermined
    bounce_subtype: str = ""
    complaint_type: str = ""  # the mail provider's word: abuse, fraud, not-spam, …
    complaint_subtype: str = ""  # OnAccountSuppressionList: it was not sent; else empty
    delay_type: str = ""  # MailboxFull, RecipientServerError, …
    delay_ends: datetime | None = None  # UTC; until then SES tries to deliver it
    reason: str = ""  # of a reject or a rendering failure; one line
    feedback_id: str = ""  # of a bounce or complaint: the same one can come twice
    subscription: Subscription | None = None

    @property
    def attempt(self) -> Attempt | None:
        """What our own tag says; None where the message is not one of ours, or the event brings no tags."""
        text = self.tags.get(RESERVED_TAG, "")
        if not 0 < len(text) <= _MAX_ATTEMPT:
            return None
        try:
            return Attempt.parse(text)
        except ValueError:
            return None
