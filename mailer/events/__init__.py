"""What SES says of messages that it took: read from every form that it comes in, and believed only where it is SES's own.

    read(body)                      an SQS message's body, or the Message of an SNS notification → Event
    Verifier(…).believe(body)       the body of an SNS request over HTTP → Believed, whose `message` is for `read`

A queue's policy says who may put something in it, so what comes from SQS is read without a signature. Over HTTP anyone
can call, so nothing is read there that SNS did not sign, for a topic of ours, within the last hour.
"""

from .certificates import Certificates, Trust
from .event import Concerned, Event, EventType, Preferences, Subscription
from .rejection import SnsRejection
from .shapes import read
from .sns import Believed, MessageType, Topic, Verifier
from .web import fetch

__all__ = [
    "Believed",
    "Certificates",
    "Concerned",
    "Event",
    "EventType",
    "MessageType",
    "Preferences",
    "SnsRejection",
    "Subscription",
    "Topic",
    "Trust",
    "Verifier",
    "fetch",
    "read",
]
