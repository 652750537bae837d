"""Faults on demand, so that a sender can be tried against the ways in which SES and the network go wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .refusals import Refusal, Status


class Kind(StrEnum):
    """What happens to a call that a fault hits."""

    LATENCY = "latency"  # it is served `seconds` later
    ERROR = "error"  # it is answered with `code`, `status` and `message`; nothing is accepted
    INTERNAL_ERROR = "internal_error"  # HTTP 500 InternalFailure; nothing is accepted
    CUT_BEFORE = "cut_before"  # the connection is closed; nothing was accepted
    CUT_AFTER = "cut_after"  # everything is accepted, then the connection is closed without an answer
    ENTRY_STATUS = "entry_status"  # entries of a SendBulkEmail call get `entry_status` and are not accepted


class Fault(BaseModel):
    """One rule. Which calls it hits: those of `operation`, of them the `nth` (from 1) or a share of `probability`, `count` times.

    For ENTRY_STATUS the probability is that of each entry, and `count` counts entries.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    operation: str | None = None
    probability: float = Field(1.0, ge=0, le=1)
    nth: int | None = Field(None, ge=1)
    count: int | None = Field(None, ge=1)
    seconds: float = Field(0.0, ge=0)
    code: str = "InternalFailure"
    status: int = Field(500, ge=400, le=599)
    message: str = "Injected by a fault rule."
    entry_status: Status = Status.TRANSIENT_FAILURE

    @model_validator(mode="after")
    def _entries_are_not_accepted(self) -> Fault:
        if self.entry_status is Status.SUCCESS:
            raise ValueError("SUCCESS is not a fault")
        return self


@dataclass(slots=True)
class Hit:
    """What the rules make of one call."""

    latency: float = 0.0  # seconds
    refusal: Refusal | None = None
    cut_before: bool = False
    cut_after: bool = False
    entries: list[int] = field(default_factory=list)  # indices into Faults.rules, of ENTRY_STATUS rules


class Faults:
    """The rules in force. Seeded, so that the same calls in the same order meet the same faults."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.set(())

    def set(self, rules: Sequence[Fault]) -> None:
        """Replaces all rules and starts their counts, and the random numbers, again."""
        self.rules = tuple(rules)
        self.fired: Counter[int] = Counter()  # by index of the rule
        self._seen: Counter[int] = Counter()  # calls of the rule's operation
        self._random = random.Random(self._seed)

    def on_call(self, operation: str) -> Hit:
        hit = Hit()
        for index, rule in enumerate(self.rules):
            if rule.operation not in {None, operation}:
                continue
            self._seen[index] += 1
            if rule.nth is not None and self._seen[index] != rule.nth:
                continue
            if rule.kind is Kind.ENTRY_STATUS:
                hit.entries.append(index)
            elif self._fires(index, rule):
                _apply(rule, hit)
        return hit

    def on_entry(self, hit: Hit) -> Refusal | None:
        """What becomes of the next entry of a bulk call."""
        for index in hit.entries:
            rule = self.rules[index]
            if self._fires(index, rule):
                return Refusal(rule.code, rule.message, bulk=rule.entry_status, http_status=rule.status)
        return None

    def _fires(self, index: int, rule: Fault) -> bool:
        if rule.count is not None and self.fired[index] >= rule.count:
            return False
        if rule.probability < 1 and self._random.random() >= rule.probability:
            return False
        self.fired[index] += 1
        return True


def _apply(rule: Fault, hit: Hit) -> None:
    if rule.kind is Kind.LATENCY:
        hit.latency += rule.seconds
    elif rule.kind is Kind.CUT_BEFORE:
        hit.cut_before = True
    elif rule.kind is Kind.CUT_AFTER:
        hit.cut_after = True
    elif rule.kind is Kind.INTERNAL_ERROR:
        hit.refusal = hit.refusal or Refusal("InternalFailure", "The request processing has failed.", http_status=500)
    else:
        hit.refusal = hit.refusal or Refusal(rule.code, rule.message, http_status=rule.status)
