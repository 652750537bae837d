"""The way of a message through a worker, one chunk at a time: load, gate, render, plan, admit, claim, dispatch, settle.

A chunk is worked on under a lease, for a slice of time; what is not done by then goes back to the queue, behind the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate

import structlog
from redis.exceptions import RedisError

from mailer import metrics
from mailer.compose import MAX_ENTRIES, Call, Operation, choose
from mailer.compose.message_builder import MessageBuilder
from mailer.errors import MailerError, StoreFailed, UnknownRoute
from mailer.ids import container_of, is_message
from mailer.ledger import ClaimStatus, LeasedChunk, LeaseStatus, Sent, Spec
from mailer.message.email import Mode
from mailer.quota.gate import Admission, AdmissionStatus
from mailer.quota.limiter import RateRequest
from mailer.ses.answers import Answer
from mailer.ses.refusals import classify_question
from mailer.tasks import to_the_end

from . import alike, settle, suspects
from .content import load
from .gate import gated
from .make import made, planned, stop_where_everybody_fails
from .room import Busy
from .runtime import LEASE_MS, Runtime
from .settle import LeaseContext

log = structlog.get_logger()

MESSAGES = "messages"  # their turn is one, as a campaign's is
GATE_EVERY_S = 1.0  # somebody may have been suppressed meanwhile
PATIENCE_S = 2.0  # of a wait for the quota, with the chunk in hand; then others get the place in this process
SLICE_S = 5.0  # a job's share of the lane before others get their turn
PLACE_S = 5.0  # for which an admission holds without a call, as UNANSWERED of the scripts; then others have its place in the rate
ERROR_PAUSE_S = 5.0  # after an error that nobody foresaw
LARGE_CHARS = 1 << 20  # of messages that are held in memory together
COPIES = 4  # of a message, while a call is made of it: its pieces, the request, what is on its way
SINGLES = 10  # SendEmail calls under one claim: as many are in doubt when a worker dies, and one settle serves them all


async def deliver(runtime: Runtime, chunk: str) -> None:
    """Work on a chunk for one slice. Never raises for what Redis or SES do: the lease runs out and the reaper sees to it."""
    runtime.working[chunk] = None
    try:
        work = await _leased(runtime, chunk)
        if isinstance(work, LeasedChunk):
            await _work_on(runtime, work)
            return
        say = log.warning if work in (LeaseStatus.GONE, LeaseStatus.UNREAD) else log.debug
        say("chunk not taken", chunk=chunk, why=work.value)
        if work is LeaseStatus.OVER and not is_message(chunk):
            await _feed(runtime, chunk)
    except (RedisError, OSError) as error:
        runtime.outage.tell(error, "taking up a chunk", chunk=chunk)
    finally:
        runtime.working.pop(chunk, None)


async def _leased(runtime: Runtime, chunk: str) -> LeasedChunk | LeaseStatus:
    lease = await runtime.ledger.work.lease(chunk, owner=runtime.owner, lease_ms=LEASE_MS, doubt=runtime.doubt)
    if lease.status is not LeaseStatus.OK:
        return lease.status
    if await suspects.given_up(runtime, chunk, lease):
        return LeaseStatus.OVER
    async with suspects.loading(runtime, chunk, lease):
        return await runtime.ledger.work.load(chunk, lease)


async def _work_on(runtime: Runtime, work: LeasedChunk) -> None:
    context = LeaseContext.of(work)
    heartbeat = asyncio.create_task(_heartbeat(runtime, context))
    try:
        await suspects.told_apart(runtime, context)
        async with runtime.file_room.held(_room(work.spec)):
            if (
                await _reached(runtime, context)
                and (material := await _loaded(runtime, context))
                and await gated(runtime, context)
            ):
                await _send_queued(runtime, context, material)
                await stop_where_everybody_fails(runtime, context)
    except Busy as busy:
        context.delay_s = busy.again_s
    except Exception:
        context.delay_s = max(context.delay_s, ERROR_PAUSE_S)  # whatever it is, at once it would be the same again
        raise
    finally:
        heartbeat.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat
        await to_the_end(_give_back(runtime, context))


# ---- load ----------------------------------------------------------------------------------------------------------


async def _reached(runtime: Runtime, context: LeaseContext) -> bool:
    """Find the way to the account that sends this, with credentials for it."""
    try:
        context.ses_account = await runtime.ses_accounts.of(context.work.spec)
        # Before anything is claimed: credentials that cannot be had then put nobody in doubt.
        await context.ses_account.gateway.credentials()
    except UnknownRoute as error:
        await settle.stop(runtime, context, str(error))
        return False
    except Exception as error:
        await settle.act_on_refusal(runtime, context, classify_question(error))
        return False
    return True


async def _loaded(runtime: Runtime, context: LeaseContext) -> MessageBuilder | None:
    """What the messages are made from. Where that cannot be used, the whole campaign stops, with one reason."""
    try:
        async with suspects.working(runtime, context, ()):
            return await load(runtime, context.ses_account, context.work.spec)
    except MailerError as error:
        await settle.stop(runtime, context, str(error))
        return None


async def _send_queued(runtime: Runtime, context: LeaseContext, material: MessageBuilder) -> None:
    deadline = time.monotonic() + SLICE_S
    most = MAX_ENTRIES if choose(material.spec).bulk else material.at_once(SINGLES)
    while context.queued and not context.over and not context.lost.is_set() and not runtime.stopping.is_set():
        if time.monotonic() >= deadline:
            return
        if context.expired():
            await to_the_end(settle.expire(runtime, context))
            return
        if time.monotonic() - context.gated_at > GATE_EVERY_S and not await gated(runtime, context):
            return
        positions = _next(context, context.ses_account.quota.call_size(most, material.spec.max_rate))
        async with suspects.working(runtime, context, positions):
            calls, length = await made(runtime, context, material, positions, bulk=context.singly.isdisjoint(positions))
        try:
            async with runtime.text_room.held(length * COPIES if length > LARGE_CHARS else 0):
                for together in _together(calls, material.at_once(SINGLES)):
                    if context.over:
                        break
                    await _admit_and_send(runtime, context, material, together)
        except Busy as busy:
            context.over, context.delay_s = True, busy.again_s


def _next(context: LeaseContext, most: int) -> list[int]:
    """The positions that are next, with at most so many recipients; one at least. They are not queued any more."""
    spec, entries, count = context.work.spec, context.work.entries, 0
    most = min(most, alike.PROBES) if context.turn else most
    at_once = 1 if context.queued[0] in context.singly else MAX_ENTRIES
    for taken, position in enumerate(context.queued):
        entry = entries[position]
        count += len(spec.to or (1,)) + len(spec.cc or entry.cc) + len(spec.bcc or entry.bcc)
        if taken == at_once or (taken and (count > most or position in context.singly)):
            break
    else:
        taken = len(context.queued)
    positions, context.queued = context.queued[:taken], context.queued[taken:]
    return positions


# ---- admit ---------------------------------------------------------------------------------------------------------


def _together(calls: Sequence[Call], at_once: int) -> Iterator[Sequence[Call]]:
    """The calls that are made at the same time: one of SendBulkEmail, or some of SendEmail."""
    singles = [call for call in calls if call.operation is Operation.SEND_EMAIL]
    yield from ([call] for call in calls if call.operation is Operation.SEND_BULK_EMAIL)
    for first in range(0, len(singles), at_once):
        yield singles[first : first + at_once]


async def _admit_and_send(runtime: Runtime, context: LeaseContext, material: MessageBuilder, calls: Sequence[Call]) -> None:
    """Make the calls when it is their turn; where only SendEmail calls have theirs, send the messages by those."""
    admission = await _admitted(runtime, context, calls)
    if admission.status is AdmissionStatus.GO:
        granted = await _granted(runtime, context, material, calls, admission)
        await to_the_end(_send(runtime, context, granted, admission))
    elif admission.status is AdmissionStatus.SINGLES and material.spec.mode is Mode.BULK:  # asked for: then it waits
        context.over, context.delay_s = True, settle.CALLS_PAUSE_S
    elif admission.status is AdmissionStatus.SINGLES:
        items, at_once = calls[0].items, material.at_once(SINGLES)
        for first in range(0, len(items), at_once):
            singles = await planned(runtime, context, material, items[first : first + at_once], bulk=False)
            if singles and not context.over:
                await _admit_and_send(runtime, context, material, singles)


async def _admitted(runtime: Runtime, context: LeaseContext, calls: Sequence[Call]) -> Admission:
    """Wait for the recipients' turn in the account's quota. What has to wait longer gives its lease back meanwhile."""
    chunk, spec, started = context.work.chunk, context.work.spec, time.monotonic()
    wish = RateRequest(
        lane=spec.lane,
        recipients=sum(call.recipients for call in calls),
        least=calls[0].items[0].recipients,
        asker=chunk,
        flow=MESSAGES if is_message(chunk) else container_of(chunk),
        own_rate=spec.max_rate,
        bulk=calls[0].operation is Operation.SEND_BULK_EMAIL,
    )
    admission = await context.ses_account.quota.admit(wish, patience_s=PATIENCE_S)
    metrics.record_admission_wait(spec.lane, time.monotonic() - started)
    if admission.status is AdmissionStatus.LATER:
        context.over, context.delay_s = True, admission.retry_s
    elif admission.reason:
        await settle.park(runtime, context, admission.reason)
        if admission.status is AdmissionStatus.STALE:
            context.delay_s = settle.STALE_S
    return admission


async def _granted(
    runtime: Runtime, context: LeaseContext, material: MessageBuilder, calls: Sequence[Call], admission: Admission
) -> Sequence[Call]:
    """As much of the calls as there is room for; the rest is next again."""
    if admission.recipients >= sum(call.recipients for call in calls):
        return calls
    items = [item for call in calls for item in call.items]
    taken = sum(count <= admission.recipients for count in accumulate(item.recipients for item in items))
    context.queued = [item.position for item in items[taken:]] + context.queued
    if calls[0].operation is Operation.SEND_EMAIL:
        return calls[:taken]
    return await planned(runtime, context, material, items[:taken])


# ---- claim, dispatch, settle ---------------------------------------------------------------------------------------


async def _send(runtime: Runtime, context: LeaseContext, calls: Sequence[Call], admission: Admission) -> None:
    """Claim, call, settle. Once the claim is stored this runs to its end, whatever happens to the job around it."""
    chunk, quota = context.work.chunk, context.ses_account.quota
    items = [item for call in calls for item in call.items]
    if not items:
        await quota.give_back(admission)
        return
    rows = [(item.position, item.attempt) for item in items]
    # A claim whose answer got lost is repeated and not given up: it may be stored, and then nobody else may send these.
    began = time.monotonic()
    claim = await settle.until_stored(
        runtime,
        context,
        lambda: runtime.ledger.work.claim(chunk, fence=context.work.fence, mode=calls[0].mode, rows=rows, lease_ms=LEASE_MS),
    )
    given = claim is ClaimStatus.OK and time.monotonic() - began < PLACE_S
    if not given:
        await _unclaim(runtime, context, rows)
        await quota.give_back(admission)
    if claim is ClaimStatus.EXPIRED:
        context.queued = [item.position for item in items] + context.queued
        await settle.expire(runtime, context)
        return
    if not given:
        context.over = True
        if claim is ClaimStatus.CONFLICT:
            log.warning("a recipient was not free to be claimed; the chunk is taken up again", chunk=chunk)
        return
    await quota.until(admission)
    answers = [answer for found in await asyncio.gather(*(_call(context, call) for call in calls)) for answer in found]
    kept = await alike.kept(runtime, context, items, answers)
    settlements = [
        settle.answered(context, item, answer, kept=item.position in kept.positions)
        for item, answer in zip(items, answers, strict=True)
    ]
    accepted = sum(item.recipients for item, answer in zip(items, answers, strict=True) if answer.refusal is None)
    sent = Sent(
        account=context.ses_account.account,
        recipients=sum(call.recipients for call in calls),
        accepted=accepted,
        place=admission.place,
    )
    await settle.settle(runtime, context, settlements, sent)
    if context.turn and accepted:
        context.turn = False
        await runtime.holds.let_go(context.holds)
    await settle.act_on(runtime, context, calls, answers, admission.place)
    context.again_s = max(context.again_s, kept.again_s)
    if kept.held_s:
        await settle.park(runtime, context, kept.reason, kept.held_s)


async def _unclaim(runtime: Runtime, context: LeaseContext, rows: Sequence[tuple[int, int]]) -> None:
    """A claim that is not given in the end, or too late, may be stored: by its first try, whose answer was lost. (The client of
    Redis tries again by itself, so that cannot be told here.) But no call was made by it, and nobody else knows that."""
    chunk = context.work.chunk
    try:
        n = await settle.until_stored(
            runtime, context, lambda: runtime.ledger.work.unclaim(chunk, fence=context.work.fence, rows=rows)
        )
    except StoreFailed as error:
        log.error("a claim that was not used could not be taken back: its chunk is archived", chunk=chunk, reason=str(error))
        return
    if n:
        log.warning("recipients whose claim was not used are queued again", chunk=chunk, recipients=n)


async def _call(context: LeaseContext, call: Call) -> list[Answer]:
    answers, took = await context.ses_account.gateway.send(call.operation.value, call.params, call.body)
    refused = next((a.refusal.kind.value for a in answers if a.refusal), None)
    metrics.record_ses_call(call.operation.value, refused or "accepted", took)
    return answers


# ---- the lease -----------------------------------------------------------------------------------------------------


async def _give_back(runtime: Runtime, context: LeaseContext) -> None:
    chunk, fence, lane = context.work.chunk, context.work.fence, context.work.spec.lane
    delay_ms = int((context.delay_s if context.over or context.queued else max(context.delay_s, context.again_s)) * 1000)
    try:
        harmless = not context.work.starts or (context.harmless and context.suspected.isdisjoint(context.queued))
        more = await runtime.ledger.work.release(chunk, fence=fence, delay_ms=delay_ms, harmless=harmless)
        if more and not delay_ms:
            await runtime.queue.wake(lane, chunk, fence)
        if not more and not is_message(chunk):
            await _feed(runtime, chunk)
    except (RedisError, OSError) as error:
        runtime.outage.tell(error, "giving back a lease, which runs out", chunk=chunk)
        runtime.unreturned[chunk] = fence  # and is given back later: else it would count as lost with this worker


async def _feed(runtime: Runtime, chunk: str) -> None:
    """Another of the campaign's chunks may come into its window."""
    lane = await runtime.ledger.lifecycle.lane(container_of(chunk))
    if lane is not None:
        await runtime.feed(container_of(chunk), lane)


async def _heartbeat(runtime: Runtime, context: LeaseContext) -> None:
    """Keep the lease. When it is lost nothing more is claimed under it."""
    while True:
        await asyncio.sleep(LEASE_MS / 3000)
        with suppress(RedisError, OSError):
            if not await runtime.ledger.work.renew(context.work.chunk, fence=context.work.fence, lease_ms=LEASE_MS):
                log.warning("lost the lease of a chunk", chunk=context.work.chunk)
                context.lost.set()
                return


def _room(spec: Spec) -> int:
    """The memory that a chunk's attachments take while its messages are made; of small ones it does not matter."""
    size = sum(file.size for file in spec.files)
    return size * COPIES if size > LARGE_CHARS else 0
