"""What an answer of SES means for its recipients, for the rest of their chunk, and for the campaign."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from mailer import metrics
from mailer.accounts.access import SesAccount
from mailer.compose import Call, Item, Operation
from mailer.errors import NotKnown, StoreFailed
from mailer.ids import container_of, is_message
from mailer.ledger import LeasedChunk, Sent, Settled, Settlement
from mailer.ledger.holds import Pauses
from mailer.ledger.records import Record
from mailer.message.address import bare, identities_of
from mailer.message.email import Outcome
from mailer.queue import explain_redis, passes
from mailer.quota.limiter import Throttle
from mailer.ses.answers import Answer
from mailer.ses.refusals import Kind, Refusal
from mailer.ses.rules import DO_BETWEEN

from .runtime import Runtime

log = structlog.get_logger()
T = TypeVar("T")

MAX_FAILURES = 8  # refused as "try again" this often, a recipient has failed; with the backoff below that takes 2 minutes
BACKOFF_S = (0.5, 60.0)  # doubling from the first to the second, with jitter
RATE_PAUSE_S = 1.0  # the send rate is per second
CALLS_PAUSE_S = 0.2  # between two looks whether there is a place for a SendBulkEmail call
STALE_S = 1.0  # the account's state is being read: a moment, as a rule
PARK_S = 10.0  # how often what waits for something outside is tried again
HELD_S = 1.0  # the first time; then twice as long each time, up to that
MAX_REASON = 500  # characters
TAKE_BACKS = 3  # of a chunk that is archived again in the moment in which it is taken back
RETRY_S = (0.1, 2.0)
RETRY_AT_STOP_S = 10.0  # how long a worker that is told to stop waits for a Redis that is gone
REFUSED_S = 3.0  # how long a claim is repeated that Redis refuses for what it is
TOLD_EVERY_S = 60.0  # how often the same trouble of one call is logged

_PARKING = {Kind.DAILY, Kind.CREDENTIALS, Kind.PAUSED, Kind.PAUSED_SET, Kind.SUSPENDED, Kind.UNREACHABLE}


@dataclass(slots=True)
class LeaseContext:
    """One lease being worked on: what the steps have found out for those that follow."""

    work: LeasedChunk
    queued: list[int]  # positions, in order, still to be sent
    failures: dict[int, int]
    attempts: dict[int, int]
    clock_ms: int  # what is to be added to this machine's clock to get Redis's
    ses_account: SesAccount = field(init=False)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False  # nothing more to do here in this shift
    delay_s: float = 0.0  # when to look at the chunk again
    finished: bool = False
    gated_at: float = 0.0  # of time.monotonic()
    configuration_set: str | None = None  # that holds for these messages, whether named or the From identity's default
    left_out: dict[int, Mapping[str, str]] = field(default_factory=dict)  # position → address that is not sent to → why
    again_s: float = 0.0  # when to look at the chunk again, where only those are left whom SES has refused
    singly: set[int] = field(default_factory=set)  # positions to be sent alone: SES refused the call that they were in
    turn: bool = False  # what it is held for is tried by the next call; `holds` are let go where SES accepts it
    holds: tuple[str, ...] = ()  # keys of what it may be held by
    suspected: set[int] = field(default_factory=set)  # positions of which one may have cost workers their lives
    made: int = 0  # messages
    unmade: int = 0  # recipients whose message cannot be made
    harmless: bool = False  # some of it was worked on, and the worker lives

    @classmethod
    def of(cls, work: LeasedChunk) -> LeaseContext:
        records = work.records
        return cls(
            work=work,
            queued=sorted(
                (i for i, record in enumerate(records) if record.outcome is Outcome.QUEUED), key=lambda i: _turn(records[i])
            ),
            failures={i: record.failures for i, record in enumerate(records) if record.failures},
            attempts={i: record.attempts for i, record in enumerate(records)},
            clock_ms=work.now_ms - int(time.time() * 1000),
        )

    @property
    def is_message(self) -> bool:
        return is_message(self.work.chunk)

    def expired(self) -> bool:
        """Before waiting for anything. The claim asks again, and its word is the last."""
        expires = self.work.spec.expires_ms
        return expires is not None and time.time() * 1000 + self.clock_ms >= expires

    def settlement(
        self,
        position: int,
        attempt: int,
        outcome: Outcome,
        *,
        message_id: str | None = None,
        reason: str | None = None,
        failed: bool = False,
    ) -> Settlement:
        self.attempts[position] = attempt
        return Settlement(
            position=position, attempt=attempt, outcome=outcome, message_id=message_id, reason=reason, failed=failed
        )


def _turn(record: Record) -> int:
    """Whom SES refused for good comes after those who were not tried yet; whom it refused for the moment keeps the place."""
    return 0 if 0 < record.failures < MAX_FAILURES - 1 else record.attempts


def answered(context: LeaseContext, item: Item, answer: Answer, *, kept: bool = False) -> Settlement:
    """One recipient's result. The table of refusals has decided what it is; this says what the ledger keeps of it. `kept`: it is
    tried again all the same."""
    refusal = answer.refusal
    if refusal is None:
        why = without(context.left_out.get(item.position))
        return context.settlement(item.position, item.attempt, Outcome.SENT, message_id=answer.message_id, reason=why)
    outcome, failed = Outcome.QUEUED, False
    if kept:
        pass
    elif refusal.kind is Kind.AMBIGUOUS:
        outcome = Outcome.UNKNOWN
    elif refusal.kind in (Kind.MESSAGE, Kind.SANDBOX) or (refusal.kind is Kind.CONFIG and is_message(context.work.chunk)):
        outcome = Outcome.REJECTED
    elif refusal.kind is Kind.RETRY:
        failed = True
        context.failures[item.position] = context.failures.get(item.position, 0) + 1
        if context.failures[item.position] >= MAX_FAILURES:
            outcome = Outcome.FAILED
    return context.settlement(item.position, item.attempt, outcome, reason=refusal.reason, failed=failed)


def without(left_out: Mapping[str, str] | None) -> str | None:
    """What the ledger says of a message that not all got it was for."""
    if not left_out:
        return None
    text = "sent without " + ", ".join(f"{bare(mailbox)} ({why})" for mailbox, why in left_out.items())
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


async def act_on(runtime: Runtime, context: LeaseContext, calls: Sequence[Call], answers: Sequence[Answer], place: str) -> None:
    """What the refusals of these calls mean for the rest of the chunk, its campaign, and all that share the account."""
    quota = context.ses_account.quota
    refusals = {a.refusal.kind: a.refusal for a in answers if a.refusal}
    if refusals.keys() & {Kind.RATE, Kind.CALLS}:
        metrics.record_throttled(sum(1 for a in answers if a.refusal and a.refusal.kind in (Kind.RATE, Kind.CALLS)))
    if Kind.PAUSED_SET in refusals and context.configuration_set:
        await context.ses_account.register.pause_set(context.configuration_set)
    await _forget_identities(context, calls, answers)
    if (foreign := next((r for r in refusals.values() if r.foreign), None)) and all(a.refusal for a in answers):
        await _await_ses(runtime, context, foreign)
        return
    for kind in (Kind.CONFIG, *_PARKING):
        if kind in refusals:
            await act_on_refusal(runtime, context, refusals[kind])
            return
    if Kind.CALLS in refusals and calls[0].operation is Operation.SEND_BULK_EMAIL:
        # Its recipients are free again and go on at once, by SendEmail where there is no place for another bulk call.
        context.queued = [item.position for call in calls for item in call.items] + context.queued
        await quota.refused(Throttle.CALLS, place)
    elif refusals.keys() & {Kind.RATE, Kind.CALLS}:
        if len(refusals) == 1 and calls[0].operation is Operation.SEND_BULK_EMAIL:
            # All of it, though our own limiter keeps the rate: SES may mean the calls. If it does not, fewer cost little.
            await quota.refused(Throttle.CALLS)
        await quota.refused(Throttle.RATE)
        context.over, context.delay_s = True, RATE_PAUSE_S * random.uniform(1, 2)
    elif Kind.BESIDE in refusals:
        again = [
            item.position for item, a in zip(_items(calls), answers, strict=True) if a.refusal and a.refusal.kind is Kind.BESIDE
        ]
        context.queued = again + context.queued
        if len(again) == len(answers):  # SES does not say whose fault it was
            context.singly.update(again)
    elif Kind.RETRY in refusals:
        worst = max(context.failures.get(item.position, 1) for call in calls for item in call.items)
        first, most = BACKOFF_S
        context.over, context.delay_s = True, min(most, first * 2 ** (worst - 1)) * random.uniform(0.5, 1.5)


async def _forget_identities(context: LeaseContext, calls: Sequence[Call], answers: Sequence[Answer]) -> None:
    """Those that SES says are not verified are looked up anew."""
    spec, wrong = context.work.spec, set[str]()
    for item, (_, refusal) in zip(_items(calls), answers, strict=True):
        if refusal is not None and refusal.kind is Kind.SANDBOX:
            wrong.update(item.to, item.cc, item.bcc)
        elif refusal is not None and refusal.kind is Kind.CONFIG and "not verified" in refusal.reason:
            wrong.update(filter(None, (spec.from_address, spec.feedback_address)))
    if wrong:
        await context.ses_account.register.forget(name for mailbox in wrong for name in identities_of(mailbox))


def _items(calls: Sequence[Call]) -> list[Item]:
    return [item for call in calls for item in call.items]


async def act_on_refusal(runtime: Runtime, context: LeaseContext, refusal: Refusal) -> None:
    """One that holds for everything that would follow: a configuration error stops it, and what may pass is waited for."""
    if refusal.kind is Kind.CONFIG:
        await stop(runtime, context, refusal.reason)
        return
    if refusal.kind in (Kind.PAUSED, Kind.SUSPENDED):
        await _await_sending(runtime, context, refusal)
        return
    reason = f"waiting: {refusal.reason}"
    if refusal.kind is Kind.DAILY:
        await context.ses_account.quota.refused(Throttle.DAILY)  # for all workers at once
        reason = await context.ses_account.quota.daily_reason()
    await park(runtime, context, reason)


async def _await_ses(runtime: Runtime, context: LeaseContext, refusal: Refusal) -> None:
    """Somebody else answers in its place. Before more is sent, SES has to answer a question; and then few are tried at first, for
    what keeps a question from nobody may still keep a message."""
    why, account = f"{refusal.said} ({DO_BETWEEN})", context.ses_account.account
    await runtime.accounts.doubt(account, why)
    held_s = await runtime.holds.hold(runtime.holds.sender(account, context.work.spec), f"waiting: {why}", pauses())
    await park(runtime, context, f"waiting: {why}", held_s)


async def _await_sending(runtime: Runtime, context: LeaseContext, refusal: Refusal) -> None:
    """SES has one code for an account, a tenant and a configuration set of which sending is paused, and words them alike. So the
    account is asked: where it may send, only those wait whose sender is the same."""
    if await runtime.sending_is_off(context.ses_account):
        await park(runtime, context, f"waiting: {refusal.reason}")
        return
    if refusal.kind is Kind.PAUSED and context.configuration_set and await _set_awaited(runtime, context, refusal):
        return
    spec = context.work.spec
    sender = bare(spec.from_address) + (f" by tenant {spec.tenant}" if spec.tenant else "")
    reason = f"waiting: SES refuses what {sender} sends, though the account may send: {refusal.reason}"
    held_s = await runtime.holds.hold(runtime.holds.sender(context.ses_account.account, spec), reason, pauses())
    await park(runtime, context, reason, held_s)


def pauses() -> Pauses:
    """Between two that are tried of what SES refuses."""
    return Pauses(min(HELD_S, PARK_S), PARK_S)


async def _set_awaited(runtime: Runtime, context: LeaseContext, refusal: Refusal) -> bool:
    """True where it is the configuration set, or cannot be known: the others that share the account go on."""
    name = context.configuration_set or ""
    try:
        if not await context.ses_account.register.is_set_paused(name):
            return False
        why = set_paused(name)
    except NotKnown:
        why = f"waiting: {refusal.reason}"
    await park(runtime, context, why)
    return True


def set_paused(name: str) -> str:
    return f"waiting: sending is paused for the configuration set {name}; resume it in SES"


async def park(runtime: Runtime, context: LeaseContext, reason: str, again_s: float | None = None) -> None:
    """It waits for something outside, costs no attempt, and goes on by itself; `again_s`: when that is worth a look."""
    context.over, context.delay_s = True, min(PARK_S, PARK_S if again_s is None else again_s) * random.uniform(0.8, 1.2)
    await runtime.ledger.lifecycle.park(container_of(context.work.chunk), reason)


async def stop(runtime: Runtime, context: LeaseContext, reason: str) -> None:
    """A configuration error. A campaign stops with one reason and keeps its recipients queued; a message is refused."""
    context.over = True
    container = container_of(context.work.chunk)
    if not is_message(container):
        await runtime.ledger.lifecycle.stop(container, reason)  # said by telling.py, once for all of its chunks
        return
    log.warning("stopped by a configuration error", id=container, reason=reason)
    if 0 in context.queued:  # not settled by an answer yet
        await settle(runtime, context, [context.settlement(0, context.attempts[0], Outcome.REJECTED, reason=reason)])


async def expire(runtime: Runtime, context: LeaseContext) -> None:
    """Its time is over: what is left of the chunk is not sent any more."""
    context.over = True
    reason = "it could not be handed to SES before its expires_at"
    positions, context.queued = context.queued, []
    rows = [context.settlement(i, context.attempts[i], Outcome.EXPIRED, reason=reason) for i in positions]
    await settle(runtime, context, rows)


async def settle(runtime: Runtime, context: LeaseContext, settlements: Sequence[Settlement], sent: Sent | None = None) -> None:
    """Store what was learnt. Nobody else knows it."""
    settled = await until_stored(
        runtime,
        context,
        lambda: _stored(runtime, context.work.chunk, settlements, sent),
        for_ever=True,
    )
    context.over = context.over or settled.closed
    context.finished = context.finished or settled.finished
    metrics.record_duplicates(settled.twice)
    metrics.record_settle()
    lane, age = context.work.spec.lane, time.time() + (context.clock_ms - context.work.created_ms) / 1000
    for outcome in {s.outcome for s in settlements} - {Outcome.QUEUED}:
        count = sum(s.outcome is outcome for s in settlements)
        metrics.record_outcomes(lane, outcome, count)
        if outcome is Outcome.SENT:
            metrics.record_delivery(lane, age, count)


async def _stored(runtime: Runtime, chunk: str, settlements: Sequence[Settlement], sent: Sent | None) -> Settled:
    """An answer that comes very late meets a chunk that is archived, and has it taken back; again, where it was archived
    in that very moment."""
    settled = await runtime.ledger.work.settle(chunk, settlements, sent)
    try:
        for _ in range(TAKE_BACKS):
            if not settlements or settled.late < len(settlements) or not await runtime.ledger.work.unarchive(chunk):
                break
            settled = await runtime.ledger.work.settle(chunk, settlements, sent)
    except StoreFailed as error:
        log.error("a late answer of SES could not be stored: its chunk is archived", chunk=chunk, reason=str(error))
    return settled


async def until_stored(runtime: Runtime, context: LeaseContext, step: Callable[[], Awaitable[T]], *, for_ever: bool = False) -> T:
    """Run a claim or settle, which may be repeated, until Redis has answered: as long as the worker may run, and a little
    longer where it is told to stop. What is not stored then is in doubt.

    Where Redis is there and refuses it in a way that does not pass by itself, as a script's error does not, a claim ends its
    shift after REFUSED_S: nothing has been sent. A result goes on being tried (`for_ever`): it is known to nobody else.
    """
    pause, longest = RETRY_S
    stopping_for = refused_for = 0.0
    trouble = _Trouble(context.work.chunk)
    while True:
        try:
            return await step()
        except (RedisError, OSError) as error:
            trouble.tell(error)
            if stopping_for > RETRY_AT_STOP_S:
                log.error("stopped without redis: these recipients are in doubt", chunk=context.work.chunk)
                raise
            if refused_for >= REFUSED_S and not for_ever:
                raise
            await asyncio.sleep(pause)
            stopping_for += pause if runtime.stopping.is_set() else 0
            refused_for += 0 if passes(error) else pause
            pause = min(pause * 2, longest)


class _Trouble:
    """What keeps a claim or result from being stored: each kind of it is told when it begins, and once a minute."""

    def __init__(self, chunk: str) -> None:
        self._chunk = chunk
        self._told: dict[type[BaseException], float] = {}

    def tell(self, error: BaseException) -> None:
        kind, now = type(error), time.monotonic()
        if now - self._told.get(kind, float("-inf")) < TOLD_EVERY_S:
            return
        self._told[kind] = now
        if passes(error):
            log.warning("a claim or result waits for redis", chunk=self._chunk, error=kind.__name__, reason=explain_redis(error))
        else:
            log.error("redis refuses a claim or result", chunk=self._chunk, error=kind.__name__, reason=explain_redis(error))
