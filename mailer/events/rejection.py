"""Why an SNS message is not believed: a fixed list, so that it can be counted, and nothing of the message is in it."""

from __future__ import annotations

from enum import StrEnum


class SnsRejection(StrEnum):
    TOO_LARGE = "it is larger than SNS makes them"
    NOT_SNS = "it is not in SNS's form; raw message delivery is not signed, so it has to be off for a subscription over HTTP"
    FIELDS = "a field is missing, or not of the form that SNS gives it"
    HEADERS = "its headers name another type or id than it does"
    TYPE = "its type is not known"
    TOPIC = "its topic is not one of MAILER_EVENTS_TOPIC_ARNS"
    OLD = "it is older than an hour"
    FUTURE = "it is from the future"
    VERSION = "its signature version is neither 1 nor 2"
    CERTIFICATE_URL = "its certificate is not at the address that SNS has in the topic's region"
    CERTIFICATE_BROKEN = "its certificate cannot be read"
    CERTIFICATE_NAME = "its certificate is not one of SNS in the topic's region"
    CERTIFICATE_DATES = "its certificate is not valid at this time"
    CERTIFICATE_CHAIN = "its certificate does not come from a certificate authority that is trusted here"
    SIGNATURE = "its signature does not fit"
    SUBSCRIBE_URL = "its confirmation address is not the one that SNS has for the topic and the token"
    SEEN = "the same id was seen before"
    # It could not be found out; SNS tries again.
    UNREACHABLE = "its certificate cannot be fetched"
    SLOW = "its certificate is still being fetched"
    BUSY = "too many certificates were asked for in the last minute"
