"""What an event of SES means: for its recipient's line of the ledger, for its campaign's guard, and for our suppression list."""

from __future__ import annotations

from mailer.events import Event, EventType
from mailer.identities.sandbox import is_mailbox_simulator
from mailer.ids import Attempt
from mailer.ledger import EventUpdate
from mailer.ledger.work import Manner
from mailer.message.email import Outcome
from mailer.suppression.lists import NewEntry, Reason

MAX_REASON = 500  # characters

_STATES = {
    EventType.SEND: Outcome.SENT,
    EventType.DELIVERY_DELAY: Outcome.SENT,
    EventType.DELIVERY: Outcome.DELIVERED,
    EventType.BOUNCE: Outcome.BOUNCED,
    EventType.COMPLAINT: Outcome.COMPLAINED,
    EventType.REJECT: Outcome.REJECTED,
    EventType.RENDERING_FAILURE: Outcome.FAILED,
}
_HARD = "Permanent"
# SES did not try to deliver: the address is on a list at SES already, or left one topic. An entry of our own list would last.
_LISTED = frozenset({"OnAccountSuppressionList", "OnTenantSuppressionList", "UnsubscribedRecipient", "EmailValidationSuppressed"})
_NOT_TRIED = _LISTED | {"Suppressed"}  # and what hard-bounced lately for another of SES's customers
# Of a bounce that is not permanent: SES has no word for what failed. Automatic replies come under `General`.
_NO_FAILURE = frozenset({"", "General", "Undetermined"})
_OF_THE_MESSAGE = frozenset({"MessageTooLarge", "ContentRejected", "AttachmentRejected"})  # another one may get through
_NOT_SPAM = "not-spam"  # a complaint's type: the recipient says that it is none


def happening(event: Event, attempt: Attempt) -> EventUpdate | None:
    """What the ledger is told; None where the event says nothing of the message's fate."""
    outcome, manner = _STATES.get(event.type), Manner.PLAIN
    if outcome is Outcome.BOUNCED:
        manner = _bounced(event)
    elif outcome is Outcome.COMPLAINED and event.complaint_type == _NOT_SPAM:
        outcome = Outcome.DELIVERED
    elif outcome is Outcome.COMPLAINED and event.complaint_subtype in _NOT_TRIED:
        manner = Manner.UNTRIED
    elif event.type is EventType.DELIVERY_DELAY:
        manner = Manner.DELAYED
    if outcome is None:
        return None
    return EventUpdate(attempt.position, attempt.attempt, outcome, event.ses_message_id, _reason(event)[:MAX_REASON], manner)


def _bounced(event: Event) -> Manner:
    """SES's own bounce rate has the permanent bounces of mail that was tried, and so have our guards."""
    if event.bounce_subtype in _NOT_TRIED:
        return Manner.UNTRIED
    if event.bounce_type == _HARD:
        return Manner.PLAIN
    return Manner.NOTICE if event.bounce_subtype in _NO_FAILURE else Manner.SOFT


def _reason(event: Event) -> str:
    if event.type is EventType.BOUNCE:
        return _said(event, "/".join(filter(None, (event.bounce_type, event.bounce_subtype))) or "bounced")
    if event.type is EventType.COMPLAINT and event.complaint_type != _NOT_SPAM:
        return _said(event, ", ".join(filter(None, (event.complaint_type, event.complaint_subtype))) or "complaint")
    if event.type is EventType.DELIVERY_DELAY:
        return _delayed(event)
    if event.type is EventType.REJECT:
        return f"SES accepted it and did not send it: {event.reason or 'rejected'}"
    if event.type is EventType.RENDERING_FAILURE:
        return f"SES accepted it and could not render it: {event.reason or 'no reason was given'}"
    return ""


def _delayed(event: Event) -> str:
    until = f"; SES tries until {event.delay_ends:%Y-%m-%d %H:%M} UTC" if event.delay_ends else ""
    said = _said(event, f"delayed ({event.delay_type})" if event.delay_type else "delayed")
    return said[: MAX_REASON - len(until)] + until


def _said(event: Event, what: str) -> str:
    """With what the other side's server said; and whom it is of, where the message was for several."""
    if not event.recipients:
        return what
    one = event.recipients[0]
    text = " ".join(filter(None, (one.status, one.diagnostic)))
    whom = f"{one.address}: " if len(event.destination) > 1 else ""
    return f"{whom}{what}: {text}" if text else f"{whom}{what}"


# ---- suppression ---------------------------------------------------------------------------------------------------


def suppressions(event: Event) -> list[NewEntry]:
    """Whom nothing is to be sent to any more: who does not exist, and who complained."""
    reason = None
    if event.type is EventType.BOUNCE and event.bounce_type == _HARD and event.bounce_subtype not in _LISTED:
        reason = Reason.BOUNCE
    if event.type is EventType.COMPLAINT and event.complaint_type != _NOT_SPAM and event.complaint_subtype not in _LISTED:
        reason = Reason.COMPLAINT
    if reason is None:
        return []
    named = tuple(one.address for one in event.recipients)
    if not named and len(event.destination) == 1:
        named = event.destination
    # The mailbox simulator's addresses are there to be written to again; SES puts them on no list either.
    return [NewEntry(address, reason) for address in named if not is_mailbox_simulator(address)]


def soft_bounced(event: Event) -> list[str]:
    """Addresses to which a message could not be delivered for a reason that may pass, and that is not in the message itself.
    A notice without a status is an automatic reply: that address works."""
    if event.type is not EventType.BOUNCE or event.bounce_type != "Transient" or event.bounce_subtype in _OF_THE_MESSAGE:
        return []
    named = event.bounce_subtype not in _NO_FAILURE
    return [one.address for one in event.recipients if named or one.status.startswith(("4.", "5."))]


def left_a_list(event: Event) -> bool:
    """Whether a Subscription event says that its recipient does not want this mail any more."""
    if event.subscription is None:
        return False
    new, old = event.subscription.new, event.subscription.old
    if new.unsubscribe_all:
        return True
    return any(not wanted and (old is None or old.topics.get(topic, True)) for topic, wanted in new.topics.items())
