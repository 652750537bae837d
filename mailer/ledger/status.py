"""What is told of a campaign, a message or a recipient: read from what Redis has of them, or from an archived chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..message.email import Lane, Mode, Outcome, State
from .archive import Chunk
from .records import STATE_BYTES
from .spec import Entry

# SES's own limits: above the first it puts an account under review, above the second it may pause it.
# (Developer guide, "Sending review process FAQs".)
BOUNCE_LIMITS = (0.05, 0.10)
COMPLAINT_LIMITS = (0.001, 0.005)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reputation:
    """E-mails by what SES judges an account by, and a guard a campaign: those that SES tried to deliver."""

    known: int = 0  # of which it is known whether they arrived
    bounced: int = 0  # of them, for good; what may arrive another time is not counted
    delivered: int = 0  # the complained about included
    complained: int = 0

    def __add__(self, other: Reputation) -> Reputation:
        return Reputation(
            known=self.known + other.known,
            bounced=self.bounced + other.bounced,
            delivered=self.delivered + other.delivered,
            complained=self.complained + other.complained,
        )

    @property
    def bounce_rate(self) -> float:
        return self.bounced / self.known if self.known else 0.0

    @property
    def complaint_rate(self) -> float:
        return self.complained / self.delivered if self.delivered else 0.0


@dataclass(frozen=True, slots=True)
class CampaignStatus:
    id: str
    name: str
    state: State
    reason: str
    rows: int
    counts: dict[str, int]  # outcome → recipients; adds up to rows
    rate: float  # recipients accepted by SES per second, from the first to the last, without the time for which it stood still
    created_at: datetime
    finished_at: datetime | None
    twice: int = 0  # recipients that SES accepted twice, as its events tell
    # Why recipients are failed, rejected or suppressed → how many; the commonest reason first. Numbers and addresses are "…".
    reasons: dict[str, int] = field(default_factory=dict)
    delayed: int = 0  # recipients that are `sent`, and to whom SES could not deliver it yet
    reputation: Reputation = Reputation()
    lane: Lane = Lane.BULK

    @property
    def left(self) -> int:
        """Recipients of which nobody knows yet what becomes of them."""
        return self.counts.get(Outcome.QUEUED, 0) + self.counts.get(Outcome.CLAIMED, 0)

    @property
    def over(self) -> bool:
        """Nothing more becomes of it by itself."""
        return self.state in (State.FINISHED, State.STOPPED) or (self.state is State.CANCELLED and not self.left)


@dataclass(frozen=True, slots=True)
class MessageStatus:
    id: str
    to: tuple[str, ...]
    state: str
    reason: str
    ses_message_id: str | None
    mode: str | None
    attempts: int
    updated_at: datetime
    lane: Lane = Lane.TRANSACTIONAL


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """A line of the report. The last four fields are the row as its list had it."""

    id: str
    row: int
    to: str
    state: str
    ses_message_id: str | None
    reason: str
    attempts: int
    updated_at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    name: str = ""  # beside the address in the list; as a header has it


def outcome_counts(found: Mapping[bytes, bytes]) -> dict[Outcome, int]:
    return {outcome: n for outcome in Outcome if (n := int(found.get(b"n:" + STATE_BYTES[outcome], 0)))}


def campaign_status(id: str, found: Mapping[bytes, bytes]) -> CampaignStatus:
    counts = outcome_counts(found)
    took_ms = float(found.get(b"settled", 0)) - float(found.get(b"started", 0)) - float(found.get(b"idle", 0))
    accepted = sum(counts.get(o, 0) for o in (Outcome.SENT, Outcome.DELIVERED, Outcome.BOUNCED, Outcome.COMPLAINED))
    created = _time(found[b"created"])
    assert created is not None
    return CampaignStatus(
        id=id,
        name=found.get(b"name", b"").decode(),
        state=State(found[b"state"].decode()),
        reason=found.get(b"reason", b"").decode(),
        rows=int(found[b"rows"]),
        counts={outcome.value: n for outcome, n in counts.items()},
        rate=round((accepted - int(found.get(b"first", 0))) * 1000 / took_ms, 1) if took_ms > 0 else 0.0,
        created_at=created,
        finished_at=_time(found.get(b"finished")),
        twice=int(found.get(b"twice", 0)),
        reasons=_reasons(found),
        delayed=int(found.get(b"delayed", 0)),
        reputation=reputation_of({name: found.get(name.encode()) for name in JUDGED_BY}),
        lane=Lane(found.get(b"lane", Lane.BULK.value.encode()).decode()),
    )


JUDGED_BY = ("n:d", "n:b", "n:m", "m:bn", "m:bs", "m:bx", "m:mx")  # counters of a campaign


def reputation_of(found: Mapping[str, bytes | None]) -> Reputation:
    """As `judged` of lua/lib/common.lua."""
    delivered, bounced, complained, notices, soft, untried, listed = (int(found[name] or 0) for name in JUDGED_BY)
    complained -= listed
    delivered += complained
    return Reputation(
        known=delivered + bounced - untried,
        bounced=bounced - notices - soft - untried,
        delivered=delivered,
        complained=complained,
    )


def _reasons(found: Mapping[bytes, bytes]) -> dict[str, int]:
    counted = [(int(n), name[4:].decode(errors="replace")) for name, n in found.items() if name.startswith(b"why:")]
    return {reason: n for n, reason in sorted(counted, key=lambda one: (-one[0], one[1])) if n > 0}


def message_status(id: str, to: tuple[str, ...], known: Chunk, waiting: str, lane: Lane) -> MessageStatus:
    """`waiting`: why it is not sent yet, or was stopped. Of a message that is queued it says more than SES's last refusal."""
    (record,) = known.records
    why = _why(known, 0)
    return MessageStatus(
        id=id,
        to=to,
        state=record.outcome.value,
        reason=(waiting or why) if record.outcome is Outcome.QUEUED else (why or waiting),
        ses_message_id=known.message_id(0),
        mode=None if record.mode is Mode.AUTO else record.mode.value,
        attempts=record.attempts,
        updated_at=datetime.fromtimestamp(record.updated_at, UTC),
        lane=lane,
    )


def report_lines(chunk: str, entries: Sequence[Entry], known: Chunk) -> list[RecipientStatus]:
    return [
        RecipientStatus(
            id=f"{chunk}-{position}",
            row=entry.row,
            to=entry.to,
            state=record.outcome.value,
            ses_message_id=known.message_id(position),
            reason=_why(known, position),
            attempts=record.attempts,
            updated_at=datetime.fromtimestamp(record.updated_at, UTC),
            data=entry.data,
            cc=entry.cc,
            bcc=entry.bcc,
            tags=entry.tags,
            name=entry.name,
        )
        for position, (entry, record) in enumerate(zip(entries, known.records, strict=True))
    ]


def _why(known: Chunk, position: int) -> str:
    reason = known.reason(position)
    if delay := known.details.get(b"w%d" % position, b"").decode():
        reason = "; ".join(filter(None, (reason, delay)))
    if others := known.details.get(b"d%d" % position, b"").decode():
        reason = "; ".join(filter(None, (reason, f"SES accepted it again, as {others}")))
    return reason


def _time(ms: bytes | float | None) -> datetime | None:
    return datetime.fromtimestamp(float(ms) / 1000, UTC) if ms else None
