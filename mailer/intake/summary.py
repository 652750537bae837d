"""What a campaign is about to do, for a person to look at before any of it is sent."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..compose.message_builder import MessageBuilder
from ..errors import RenderFailed
from ..ledger import Ledger, Spec
from ..ledger.spec import Route
from ..message.email import Outcome
from ..quota.state import AccountStates
from ..recipients import Understood
from ..recipients.understood import LeftOut
from ..templates import Pieces
from .chunks import ChunkWriter, entry_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A campaign whose list has been read and stored, and of which nothing has been sent."""

    id: str
    name: str
    from_address: str
    subject: str | None  # of the first row that has one; None: SES has the template, or no row could be rendered
    rows: int
    counts: Mapping[str, int]  # outcome → rows; `queued` are those that will be sent to
    reasons: Mapping[str, int]  # why rows are rejected or left out → how many, the commonest first
    understood: Understood  # how the list was read
    left_out: Sequence[LeftOut] = ()  # the lists whose addresses are left out
    doubts: Sequence[str] = ()  # why nobody should start it who has not looked at it, a sentence each
    send_at: datetime | None
    rate: float | None  # recipients per second that the account and the campaign allow; None: not known

    @property
    def to_send(self) -> int:
        return self.counts.get(Outcome.QUEUED, 0)

    @property
    def seconds(self) -> float | None:
        """How long it takes at that rate, where nothing else is sent; None where the rate is not known."""
        return None if self.rate is None else self.to_send / self.rate


Confirm = Callable[[Summary], Awaitable[bool]]  # False: nothing of it is sent, and nothing is left of it


async def summarise(
    ledger: Ledger,
    id: str,
    material: MessageBuilder,
    read: ChunkWriter,
    understood: Understood,
    send_at: datetime | None,
    *,
    left_out: Sequence[LeftOut] = (),
    doubts: Sequence[str] = (),
) -> Summary:
    spec = material.spec
    return Summary(
        id=id,
        name=spec.name,
        from_address=spec.from_address,
        subject=_subject(material, understood),
        rows=read.rows,
        counts={outcome.value: n for outcome in Outcome if (n := read.counts.get(outcome, 0))},
        reasons=dict(read.reasons.most_common()),
        understood=understood,
        left_out=tuple(left_out),
        doubts=tuple(doubts),
        send_at=send_at,
        rate=await _rate(ledger, spec),
    )


def _subject(material: MessageBuilder, understood: Understood) -> str | None:
    for row in understood.sample:
        try:
            content = material.item("", 0, entry_of(row), 1).content
        except RenderFailed:
            continue
        return content.subject if isinstance(content, Pieces) else None
    return None


async def _rate(ledger: Ledger, spec: Spec) -> float | None:
    """Of the worker's own account only: which one a role leads to is known to those who may assume it."""
    region = _region(spec.route)
    known = await AccountStates(ledger).load(region) if region else None
    if known is None:
        return spec.max_rate
    return min(known.max_send_rate, spec.max_rate or known.max_send_rate) or None


def _region(route: Route) -> str | None:
    return None if route.role_arn else route.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
