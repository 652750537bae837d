"""What SES would publish of an accepted message, in the form of configuration sets: Send, and what became of each recipient.

SES's own test addresses behave as they do at SES: `bounce@`, `complaint@`, `suppressionlist@` and the rest of
`simulator.amazonses.com`, with or without a label (`bounce+1@`). Everybody else gets the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from .journal import Accepted
from .limits import domain_of, mailbox
from .wire import Json

_BOUNCE = {"bounceType": "Permanent", "bounceSubType": "General"}
_SUPPRESSED = {"bounceType": "Permanent", "bounceSubType": "OnAccountSuppressionList"}
_SAID = {"action": "failed", "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 user unknown"}


def events_of(entry: Accepted, *, account: str, simulator_domain: str) -> Iterator[Json]:
    """In the order in which they happen."""
    mail = _mail(entry, account)
    if entry.failure is not None:
        failure = {"templateName": "template", "errorMessage": entry.failure}
        yield {"eventType": "Rendering Failure", "mail": mail, "failure": failure}
        return
    yield {"eventType": "Send", "mail": mail, "send": {}}
    for text in entry.recipients:
        address = mailbox(text)
        name = address.partition("@")[0].partition("+")[0].lower() if domain_of(address) == simulator_domain else ""
        if text in entry.suppressed:
            yield _bounced(mail, address, _SUPPRESSED, {})
        elif name == "bounce":
            yield _bounced(mail, address, _BOUNCE, _SAID)
        elif name == "suppressionlist":
            yield _bounced(mail, address, {**_BOUNCE, "bounceSubType": "Suppressed"}, {})
        else:
            said = {
                "processingTimeMillis": 500,
                "smtpResponse": "250 2.6.0 Message received",
                "reportingMTA": "simulated.invalid",
            }
            yield {"eventType": "Delivery", "mail": mail, "delivery": {**_at(mail), "recipients": [address], **said}}
            if name == "complaint":
                block = {"complainedRecipients": [{"emailAddress": address}], "complaintFeedbackType": "abuse"}
                more = {"feedbackId": f"{entry.id}-c", "complaintSubType": None}
                yield {"eventType": "Complaint", "mail": mail, "complaint": {**_at(mail), **block, **more}}


def _bounced(mail: Json, address: str, kind: Json, said: Json) -> Json:
    block = {**kind, "bouncedRecipients": [{"emailAddress": address, **said}], "feedbackId": f"{mail['messageId']}-b"}
    return {"eventType": "Bounce", "mail": mail, "bounce": {**_at(mail), **block}}


def _at(mail: Json) -> dict[str, Any]:
    return {"timestamp": mail["timestamp"]}


def _mail(entry: Accepted, account: str) -> Json:
    tags = {name: [value] for name, value in entry.tags.items()}
    if entry.configuration_set:
        tags["ses:configuration-set"] = [entry.configuration_set]
    moment = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "timestamp": moment,
        "messageId": entry.id,
        "source": entry.sender,
        "sendingAccountId": account,
        "destination": [mailbox(text) for text in entry.recipients],
        "headersTruncated": False,
        "tags": tags,
    }
