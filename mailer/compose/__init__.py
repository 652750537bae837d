"""From rendered messages to SES requests: which call carries which of them, and what is in it. Pure functions."""

from .plan import Call, Item, Operation, plan

__all__ = ["Call", "Item", "Operation", "plan"]
