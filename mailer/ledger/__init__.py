"""The ledger: the truth about every campaign, message and recipient. A job in a queue is only a wake-up."""

from .ledger import CampaignStatus, Ledger, MessageStatus, RecipientStatus, Work
from .records import Mode, Record
from .scripts import ClaimStatus, LeaseStatus, Settled, Settlement
from .spec import Entry, Literal, Spec

__all__ = [
    "CampaignStatus",
    "ClaimStatus",
    "Entry",
    "LeaseStatus",
    "Ledger",
    "Literal",
    "MessageStatus",
    "Mode",
    "RecipientStatus",
    "Record",
    "Settled",
    "Settlement",
    "Spec",
    "Work",
]
