"""The way of a message through a worker, one chunk at a time: load, gate, render, plan, admit, claim, dispatch, settle.

A chunk is worked on under a lease, for a slice of time; what is not done by then goes back to the queue, behind the others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from mailer import metrics
from mailer.compose import Call, Item, plan
from mailer.compose.plan import MAX_ENTRIES
from mailer.email import Outcome
from mailer.errors import RenderFailed, TemplateError
from mailer.gates.quota import Verdict
from mailer.ids import Attempt, chunk_number, container_of, is_message
from mailer.ledger import ClaimStatus, Entry, LeaseStatus, Literal, Settlement, Work
from mailer.ses.gateway import Answer
from mailer.ses.refusals import Kind
from mailer.templates import Compiled, Pieces

from .runtime import LEASE_MS, Runtime

log = structlog.get_logger()
T = TypeVar("T")

SLICE_S = 5.0  # a job's share of the lane before others get their turn
MAX_FAILURES = 8  # refused as "try again" this often, a recipient has failed; with the backoff below that takes 2 minutes
BACKOFF_S = (0.5, 60.0)  # doubling from the first to the second, with jitter
RATE_PAUSE_S = 1.0  # the send rate is per second
STALE_S = 1.0  # the account's state is being read: a moment, as a rule
PARK_S = 10.0  # how often what waits for something outside is tried again
SETTLE_RETRY_S = (0.1, 2.0)
SETTLE_AT_STOP_S = 10.0  # how long a worker that is told to stop waits for a Redis that is gone

_PARKING = {Kind.DAILY, Kind.CREDENTIALS, Kind.PAUSED, Kind.PAUSED_SET, Kind.SUSPENDED, Kind.UNREACHABLE}


@dataclass(slots=True)
class Shift:
    """One lease being worked on: what the steps have found out for those that follow."""

    work: Work
    queued: list[int]  # positions, in order, still to be sent
    failures: dict[int, int]
    attempts: dict[int, int]
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False  # nothing more to do here in this shift
    delay_s: float = 0.0  # when to look at the chunk again
    finished: bool = False


async def deliver(runtime: Runtime, chunk: str) -> None:
    """Work on a chunk for one slice. Never raises for what Redis or SES do: the lease runs out and the reaper sees to it."""
    try:
        work = await runtime.ledger.lease(chunk, owner=runtime.owner, lease_ms=LEASE_MS)
        if not isinstance(work, Work):
            say = log.warning if work is LeaseStatus.GONE else log.debug
            say("chunk not taken", chunk=chunk, why=work.value)
            if work is LeaseStatus.OVER and not is_message(chunk):
                await _feed(runtime, chunk)
            return
        await _shift(runtime, work)
    except (RedisError, OSError) as error:
        log.warning("redis does not answer; the chunk is taken up again", chunk=chunk, error=type(error).__name__)


async def _shift(runtime: Runtime, work: Work) -> None:
    records = work.records
    shift = Shift(
        work=work,
        queued=[i for i, record in enumerate(records) if record.outcome is Outcome.QUEUED],
        failures={i: record.failures for i, record in enumerate(records) if record.failures},
        attempts={i: record.attempts for i, record in enumerate(records)},
    )
    heartbeat = asyncio.create_task(_heartbeat(runtime, shift))
    try:
        await _send_queued(runtime, shift)
    finally:
        heartbeat.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat
        await _persist(_give_back(runtime, shift))


async def _send_queued(runtime: Runtime, shift: Shift) -> None:
    source = await _source(runtime, shift)
    if source is None:
        return
    deadline = time.monotonic() + SLICE_S
    while shift.queued and not shift.over and not shift.lost.is_set() and not runtime.stopping.is_set():
        if time.monotonic() >= deadline:
            return
        size = runtime.quota.call_size(MAX_ENTRIES)
        positions, shift.queued = shift.queued[:size], shift.queued[size:]
        items = await _render(runtime, shift, source, positions)
        for call in plan(shift.work.spec, items):
            if shift.over or not await _admitted(runtime, shift, call):
                break
            await _persist(_send(runtime, shift, call))


async def _source(runtime: Runtime, shift: Shift) -> Compiled | Literal | None:
    """What the chunk's messages are made from. A template that does not work stops the whole campaign, with one reason."""
    spec = shift.work.spec
    if spec.literal is not None:
        return spec.literal
    try:
        compiled = await runtime.compiled(spec)
    except TemplateError as error:
        await _stop(runtime, shift, str(error))
        return None
    if compiled is None:
        await _stop(runtime, shift, "its template is not in Redis any more; start it again")
    return compiled


async def _render(runtime: Runtime, shift: Shift, source: Compiled | Literal, positions: Sequence[int]) -> list[Item]:
    """The messages of these recipients. A row whose data does not fit the template fails alone."""
    items, failed = [], []
    for position in positions:
        entry = shift.work.entries[position]
        try:
            pieces = _pieces(shift, source, entry)
        except RenderFailed as error:
            failed.append(_settlement(shift, position, shift.attempts[position], Outcome.FAILED, reason=str(error)))
        else:
            items.append(_item(shift, position, entry, pieces))
    if failed:
        await _persist(_settle(runtime, shift, failed))
    return items


def _pieces(shift: Shift, source: Compiled | Literal, entry: Entry) -> Pieces:
    if isinstance(source, Literal):
        html = [source.html] if source.html is not None else None
        return Pieces(source.subject, html, [source.text] if source.text is not None else None)
    return source.pieces({"email": entry.to, **shift.work.spec.data, **entry.data})


def _item(shift: Shift, position: int, entry: Entry, pieces: Pieces) -> Item:
    chunk, spec, attempt = shift.work.chunk, shift.work.spec, shift.attempts[position] + 1
    return Item(
        position=position,
        attempt=attempt,
        tag=str(Attempt(container_of(chunk), chunk_number(chunk), position, attempt)),
        to=spec.to or (entry.to,),
        cc=spec.cc or tuple(entry.cc),
        bcc=spec.bcc or tuple(entry.bcc),
        tags=entry.tags,
        pieces=pieces,
    )


async def _admitted(runtime: Runtime, shift: Shift, call: Call) -> bool:
    """Wait for the call's turn in the account's quota. What has to wait longer than a slice gives its lease back."""
    lane, started = shift.work.spec.lane, time.monotonic()
    admission = await runtime.quota.admit(call.recipients, lane, patience_s=SLICE_S)
    metrics.record_admission_wait(lane, time.monotonic() - started)
    if admission.verdict is Verdict.GO:
        return True
    if admission.verdict is Verdict.LATER:
        shift.over, shift.delay_s = True, admission.retry_s
    else:
        await _park(runtime, shift, admission.reason)
        if admission.verdict is Verdict.STALE:
            shift.delay_s = STALE_S
    return False


async def _send(runtime: Runtime, shift: Shift, call: Call) -> None:
    """Claim, call, settle. Once the claim is stored this runs to its end, whatever happens to the job around it."""
    chunk = shift.work.chunk
    rows = [(item.position, item.attempt) for item in call.items]
    claim = await runtime.ledger.scripts.claim(chunk, fence=shift.work.fence, mode=call.mode, rows=rows)
    if claim is not ClaimStatus.OK:
        shift.over = True
        if claim is ClaimStatus.CONFLICT:
            log.error("a recipient was not free to be claimed; the chunk is taken up again", chunk=chunk)
        return
    answers, took = await runtime.gateway.send(call.operation.value, call.params, call.body)
    refused = next((a.refusal.kind.value for a in answers if a.refusal), None)
    metrics.record_ses_call(call.operation.value, refused or "accepted", took)
    settlements = [_answered(shift, item, answer) for item, answer in zip(call.items, answers, strict=True)]
    await _settle(runtime, shift, settlements)
    await _act_on(runtime, shift, call, answers)


def _answered(shift: Shift, item: Item, answer: Answer) -> Settlement:
    """One recipient's result. The table of refusals has decided what it is; this says what the ledger keeps of it."""
    refusal = answer.refusal
    if refusal is None:
        return _settlement(shift, item.position, item.attempt, Outcome.SENT, message_id=answer.message_id)
    outcome, failed = Outcome.QUEUED, False
    if refusal.kind is Kind.AMBIGUOUS:
        outcome = Outcome.UNKNOWN
    elif refusal.kind in (Kind.MESSAGE, Kind.SANDBOX) or (refusal.kind is Kind.CONFIG and is_message(shift.work.chunk)):
        outcome = Outcome.REJECTED
    elif refusal.kind is Kind.RETRY:
        failed = True
        shift.failures[item.position] = shift.failures.get(item.position, 0) + 1
        if shift.failures[item.position] >= MAX_FAILURES:
            outcome = Outcome.FAILED
    return _settlement(shift, item.position, item.attempt, outcome, reason=refusal.reason, failed=failed)


def _settlement(
    shift: Shift,
    position: int,
    attempt: int,
    outcome: Outcome,
    *,
    message_id: str | None = None,
    reason: str | None = None,
    failed: bool = False,
) -> Settlement:
    shift.attempts[position] = attempt
    return Settlement(position=position, attempt=attempt, outcome=outcome, message_id=message_id, reason=reason, failed=failed)


async def _act_on(runtime: Runtime, shift: Shift, call: Call, answers: Sequence[Answer]) -> None:
    """What the refusals of a call mean for the rest of the chunk and its campaign."""
    refusals = {a.refusal.kind: a.refusal for a in answers if a.refusal}
    container = container_of(shift.work.chunk)
    if (config := refusals.get(Kind.CONFIG)) and not is_message(container):
        await _stop(runtime, shift, config.reason)
    elif parking := next((r for kind, r in refusals.items() if kind in _PARKING), None):
        await _park(runtime, shift, f"waiting: {parking.reason}")
    elif Kind.RATE in refusals:
        metrics.record_throttled(sum(1 for a in answers if a.refusal and a.refusal.kind is Kind.RATE))
        shift.over, shift.delay_s = True, RATE_PAUSE_S * random.uniform(1, 2)
    elif Kind.RETRY in refusals:
        worst = max(shift.failures.get(item.position, 1) for item in call.items)
        first, most = BACKOFF_S
        shift.over, shift.delay_s = True, min(most, first * 2 ** (worst - 1)) * random.uniform(0.5, 1.5)


async def _park(runtime: Runtime, shift: Shift, reason: str) -> None:
    """It waits for something outside, costs no attempt, and goes on by itself."""
    shift.over, shift.delay_s = True, PARK_S * random.uniform(0.8, 1.2)
    await runtime.ledger.park(container_of(shift.work.chunk), reason)


async def _stop(runtime: Runtime, shift: Shift, reason: str) -> None:
    """A configuration error. A campaign stops with one reason and keeps its recipients queued; a message is refused."""
    shift.over = True
    container = container_of(shift.work.chunk)
    log.warning("stopped by a configuration error", id=container, reason=reason)
    if not is_message(container):
        await runtime.ledger.stop(container, reason)
        return
    await _settle(runtime, shift, [_settlement(shift, 0, shift.attempts[0], Outcome.REJECTED, reason=reason)])


async def _settle(runtime: Runtime, shift: Shift, settlements: Sequence[Settlement]) -> None:
    """Store what was learnt. Nobody else knows it, so this waits for Redis as long as the worker may run."""
    pause, longest = SETTLE_RETRY_S
    stopping_for = 0.0
    while True:
        try:
            settled = await runtime.ledger.scripts.settle(shift.work.chunk, settlements)
            break
        except (RedisError, OSError) as error:
            if stopping_for > SETTLE_AT_STOP_S:
                log.error("stopped without redis: these results are lost, and their recipients unknown", chunk=shift.work.chunk)
                raise
            log.warning("a result waits for redis", chunk=shift.work.chunk, error=type(error).__name__)
            await asyncio.sleep(pause)
            stopping_for += pause if runtime.stopping.is_set() else 0
            pause = min(pause * 2, longest)
    shift.over = shift.over or settled.closed
    shift.finished = shift.finished or settled.finished
    lane, age = shift.work.spec.lane, time.time() - shift.work.created_ms / 1000
    for outcome in {s.outcome for s in settlements} - {Outcome.QUEUED}:
        count = sum(s.outcome is outcome for s in settlements)
        metrics.record_outcomes(lane, outcome, count)
        if outcome is Outcome.SENT:
            metrics.record_delivery(lane, age, count)


async def _give_back(runtime: Runtime, shift: Shift) -> None:
    chunk, fence, lane = shift.work.chunk, shift.work.fence, shift.work.spec.lane
    delay_ms = int(shift.delay_s * 1000)
    try:
        more = await runtime.ledger.scripts.release(chunk, fence=fence, delay_ms=delay_ms)
        if more and not delay_ms:
            await runtime.queue.wake(lane, chunk, fence)
        if not more and not is_message(chunk):
            await _feed(runtime, chunk)
    except (RedisError, OSError) as error:
        log.warning("a lease was not given back; it runs out", chunk=chunk, error=type(error).__name__)


async def _feed(runtime: Runtime, chunk: str) -> None:
    """Another of the campaign's chunks may come into its window."""
    lane = await runtime.ledger.lane(container_of(chunk))
    if lane is not None:
        await runtime.feed(container_of(chunk), lane)


async def _heartbeat(runtime: Runtime, shift: Shift) -> None:
    """Keep the lease. When it is lost nothing more is claimed under it."""
    while True:
        await asyncio.sleep(LEASE_MS / 3000)
        with suppress(RedisError, OSError):
            if not await runtime.ledger.scripts.renew(shift.work.chunk, fence=shift.work.fence, lease_ms=LEASE_MS):
                log.warning("lost the lease of a chunk", chunk=shift.work.chunk)
                shift.lost.set()
                return


async def _persist(step: Awaitable[T]) -> T:
    """Run a step to its end also when the job is cancelled meanwhile; the cancellation goes on afterwards."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
