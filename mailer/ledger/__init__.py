"""The ledger: the truth about every campaign, message and recipient. A job in a queue is only a wake-up."""

from .intake import Added, Key
from .ledger import Ledger
from .lifecycle import ActiveCampaign
from .records import Record
from .spec import Entry, File, Guard, Literal, Route, Spec
from .status import CampaignStatus, MessageStatus, RecipientStatus, Reputation
from .work import Applied, Change, ClaimStatus, EventUpdate, Lease, LeasedChunk, LeaseStatus, Sent, Settled, Settlement

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
