"""What a parked campaign waits for, as a class: a metric's labels are few, and the reason is a sentence."""

from __future__ import annotations

import re
from enum import StrEnum


class Parked(StrEnum):
    QUOTA = "quota"  # of 24 hours
    PAUSED = "account_paused"
    SUSPENDED = "account_suspended"
    SET = "configuration_set"  # sending is paused for it
    SENDER = "sender"  # SES refuses what one sender sends, though the account may send
    ALIKE = "refused_alike"  # SES refuses one recipient after another for the same reason
    CREDENTIALS = "credentials"
    UNREACHABLE = "unreachable"  # SES, or what is between it and us
    SUPPRESSION = "suppression_list"  # SES's has not been read
    STORE = "store"
    ACCOUNT = "account_unknown"  # its state has not been read
    OTHER = "other"


# The first that fits. The sentences are those of `gates`, `ses/refusals.py` and `worker/settle.py`; a test has them all.
_WORDS = (
    (Parked.SENDER, r"though the account may send"),
    (Parked.ALIKE, r"in a row for the same reason"),
    (Parked.QUOTA, r"24 h quota|daily (message|sending) quota|24-hour window"),
    (Parked.SET, r"paused for the configuration set|resume sending in the configuration set"),
    (Parked.SUSPENDED, r"suspended|shut ?down|AWS Support Center"),
    (Parked.PAUSED, r"sending is paused|sending paused"),
    (Parked.SUPPRESSION, r"suppression list"),
    (Parked.STORE, r"\bthe store\b"),
    (Parked.CREDENTIALS, r"credential|AWS_PROFILE|aws sso login|security token|signature|clock"),
    (Parked.UNREACHABLE, r"not reached|did not get the whole request|no answer of SES|check the network"),
    (Parked.ACCOUNT, r"state of the SES account"),
)
_PATTERNS = tuple((parked, re.compile(words, re.IGNORECASE)) for parked, words in _WORDS)


def class_of(reason: str) -> Parked:
    return next((parked for parked, pattern in _PATTERNS if pattern.search(reason)), Parked.OTHER)
