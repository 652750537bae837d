"""From rendered messages to SES requests: which call carries which of them, and what is in it. Pure functions."""

from .limits import MAX_ENTRIES
from .plan import Choice, Planned, choose, plan
from .request import Call, Item, Loaded, Mime, Operation, Values

__all__ = ["MAX_ENTRIES", "Call", "Choice", "Item", "Loaded", "Mime", "Operation", "Planned", "Values", "choose", "plan"]
