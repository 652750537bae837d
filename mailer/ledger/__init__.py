"""The ledger: the truth about every campaign, message and recipient. A job in a queue is only a wake-up."""

from .ledger import ActiveCampaign, LeasedChunk, Ledger
from .records import Record
from .scripts import Added, Applied, Change, ClaimStatus, EventUpdate, Key, Lease, LeaseStatus, Sent, Settled, Settlement
from .spec import Entry, File, Guard, Literal, Route, Spec
from .status import CampaignStatus, MessageStatus, RecipientStatus, Reputation

__all__ = [
    "ActiveCampaign",
    "Added",
    "Applied",
    "CampaignStatus",
    "Change",
    "ClaimStatus",
    "Entry",
    "EventUpdate",
    "File",
    "Guard",
    "Key",
    "Lease",
    "LeaseStatus",
    "LeasedChunk",
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
]
