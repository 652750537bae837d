"""The ledger: the truth about every campaign, message and recipient. A job in a queue is only a wake-up."""

from .ledger import ActiveCampaign, Ledger, Work
from .records import Record
from .scripts import Added, Change, ClaimStatus, Happening, Heard, Key, Lease, LeaseStatus, Sent, Settled, Settlement
from .spec import Entry, File, Guard, Literal, Route, Spec
from .status import CampaignStatus, MessageStatus, RecipientStatus, Reputation

__all__ = [
    "ActiveCampaign",
    "Added",
    "CampaignStatus",
    "Change",
    "ClaimStatus",
    "Entry",
    "File",
    "Guard",
    "Happening",
    "Heard",
    "Key",
    "Lease",
    "LeaseStatus",
    "Ledger",
    "Literal",
    "MessageStatus",
    "RecipientStatus",
    "Record",
    "Reputation",
    "Route",
    "Sent",
    "Settled",
    "Settlement",
    "Spec",
    "Work",
]
