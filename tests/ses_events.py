"""Events as SES publishes them, in every form that they come in. The values are made up; the shapes are SES's
(developer guide, "Contents of event data that Amazon SES publishes to Amazon SNS", and "Amazon SNS notification contents").
"""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]

ATTEMPT = "c01k8x7t3q9r5v2m0ab-12-340-2"
SES_ID = "0107019a1b2c3d4e-5f60718a-9bac-4dce-8f01-23456789abcd-000000"
ANA = "ana@example.org"
TEST_TEXT = "Successfully validated SNS topic for Amazon SES event publishing."

_TAGS = {
    "mailer_id": [ATTEMPT],
    "team": ["growth"],
    "ses:operation": ["SendBulkEmail"],
    "ses:configuration-set": ["bulk"],
    "ses:source-ip": ["198.51.100.4"],
    "ses:from-domain": ["news.example.com"],
    "ses:caller-identity": ["mailer"],
}
_HEADERS = [
    {"name": "From", "value": "News <letter@news.example.com>"},
    {"name": "To", "value": ANA},
    {"name": "Subject", "value": "Hello"},
    {"name": "MIME-Version", "value": "1.0"},
    {"name": "Content-Type", "value": 'multipart/alternative; boundary="----=_Part_1"'},
]

BLOCKS: dict[str, tuple[str, Json]] = {
    "Send": ("send", {}),
    "Delivery": (
        "delivery",
        {
            "timestamp": "2026-11-05T03:00:02.000Z",
            "processingTimeMillis": 1880,
            "recipients": [ANA],
            "smtpResponse": "250 2.6.0 Message received",
            "reportingMTA": "a8-50.smtp-out.eu-west-1.amazonses.com",
        },
    ),
    "Bounce": (
        "bounce",
        {
            "feedbackId": "0107019a1b2c9999-aaaa-000000",
            "bounceType": "Permanent",
            "bounceSubType": "NoEmail",
            "bouncedRecipients": [
                {"emailAddress": ANA, "action": "failed", "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 no such user"}
            ],
            "timestamp": "2026-11-05T03:00:03.000Z",
            "reportingMTA": "dns; a8-50.smtp-out.eu-west-1.amazonses.com",
        },
    ),
    "Complaint": (
        "complaint",
        {
            "feedbackId": "0107019a1b2c8888-bbbb-000000",
            "complaintSubType": None,
            "complainedRecipients": [{"emailAddress": ANA}],
            "timestamp": "2026-11-06T09:00:00.000Z",
            "userAgent": "Some feedback loop",
            "complaintFeedbackType": "abuse",
            "arrivalDate": "2026-11-06T08:59:00.000Z",
        },
    ),
    "Reject": ("reject", {"reason": "Bad content"}),
    "Rendering Failure": (
        "failure",
        {"templateName": "welcome", "errorMessage": "Attribute 'first' is not present in the rendering data."},
    ),
    "DeliveryDelay": (
        "deliveryDelay",
        {
            "timestamp": "2026-11-05T03:10:00.000Z",
            "delayType": "MailboxFull",
            "expirationTime": "2026-11-05T17:00:00.000Z",
            "delayedRecipients": [{"emailAddress": ANA, "status": "4.2.2", "diagnosticCode": "smtp; 452 4.2.2 mailbox full"}],
        },
    ),
    "Subscription": (
        "subscription",
        {
            "contactList": "readers",
            "timestamp": "2026-11-05T08:00:00.000Z",
            "source": "UnsubscribeHeader",
            "newTopicPreferences": {
                "unsubscribeAll": False,
                "topicSubscriptionStatus": [
                    {"topicName": "news", "subscriptionStatus": "OptOut"},
                    {"topicName": "offers", "subscriptionStatus": "OptIn"},
                ],
            },
            "oldTopicPreferences": {
                "unsubscribeAll": False,
                "topicSubscriptionStatus": [
                    {"topicName": "news", "subscriptionStatus": "OptIn"},
                    {"topicName": "offers", "subscriptionStatus": "OptIn"},
                ],
            },
        },
    ),
    "Open": ("open", {"ipAddress": "198.51.100.7", "timestamp": "2026-11-05T05:00:00.000Z", "userAgent": "Mozilla/5.0"}),
    "Click": (
        "click",
        {
            "ipAddress": "198.51.100.7",
            "timestamp": "2026-11-05T05:01:00.000Z",
            "userAgent": "Mozilla/5.0",
            "link": "https://example.com/x?a=1",
            "linkTags": {"place": ["top", "second"]},
            "isBotEvent": "Likely",
        },
    ),
}
_BARE = ("DeliveryDelay", "Rendering Failure")  # SES's examples of these have no headers
_DETAIL_TYPES = {
    "Send": "Email Sent",
    "Delivery": "Email Delivered",
    "Bounce": "Email Bounced",
    "Complaint": "Email Complaint Received",
    "Reject": "Email Rejected",
    "Rendering Failure": "Email Rendering Failed",
    "DeliveryDelay": "Email Delivery Delayed",
    "Subscription": "Email Subscribed",
    "Open": "Email Opened",
    "Click": "Email Clicked",
}


def published(type: str, **block: Any) -> Json:
    """What a configuration set publishes. `block` replaces fields of the type's own object."""
    key, fields = BLOCKS[type]
    mail: Json = {
        "timestamp": "2026-11-05T03:00:00.120Z",
        "source": "News <letter@news.example.com>",
        "sourceArn": "arn:aws:ses:eu-west-1:444455556666:identity/news.example.com",
        "sendingAccountId": "444455556666",
        "messageId": SES_ID,
        "destination": [ANA],
        "headersTruncated": False,
        "tags": dict(_TAGS),
    }
    if type not in _BARE:
        mail["headers"] = _HEADERS
        mail["commonHeaders"] = {
            "from": ["News <letter@news.example.com>"],
            "to": [ANA],
            "messageId": SES_ID,
            "subject": "Hello",
        }
    return {"eventType": type, "mail": mail, key: {**fields, **block}}


NOTIFIED = ("Bounce", "Complaint", "Delivery")


def notified(type: str, *, headers: bool = False, **block: Any) -> Json:
    """What an identity notifies of: no tags, and headers where the identity is set so."""
    event = published(type, **block)
    event["notificationType"] = event.pop("eventType")
    mail = event["mail"]
    for name in ("tags", *(() if headers else ("headers", "commonHeaders", "headersTruncated"))):
        mail.pop(name, None)
    mail |= {"sourceIp": "203.0.113.5", "callerIdentity": "mailer"}
    if type != "Complaint":
        event[BLOCKS[type][0]]["remoteMtaIp"] = "192.0.2.9"
    return event


def in_sns(message: str, topic: str = "arn:aws:sns:eu-west-1:444455556666:ses-events") -> Json:
    """A notification as SNS puts it into a queue."""
    return {
        "Type": "Notification",
        "MessageId": "f8c2a0de-1111-5222-9333-444455556666",
        "TopicArn": topic,
        "Subject": "Amazon SES Email Event Notification",
        "Message": message,
        "Timestamp": "2026-11-05T03:00:04.123Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE==",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",
        "UnsubscribeURL": f"https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={topic}:1",
    }


def in_eventbridge(event: Json) -> Json:
    return {
        "version": "0",
        "id": "12345678-9abc-def0-1234-56789abcdef0",
        "detail-type": _DETAIL_TYPES[event["eventType"]],
        "source": "aws.ses",
        "account": "444455556666",
        "time": "2026-11-05T03:00:05Z",
        "region": "eu-west-1",
        "resources": ["arn:aws:ses:eu-west-1:444455556666:configuration-set/bulk"],
        "detail": event,
    }


def forms(event: Json) -> dict[str, str]:
    """The same event as the body of an SQS message, in each form that there is."""
    text = json.dumps(event)
    found = {"raw": text, "sns": json.dumps(in_sns(text))}
    if "eventType" in event:
        bridged = json.dumps(in_eventbridge(event))
        found |= {"eventbridge": bridged, "eventbridge in sns": json.dumps(in_sns(bridged))}
    return found
