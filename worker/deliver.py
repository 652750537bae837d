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
from mailer.compose.material import Material
from mailer.email import Mode
from mailer.errors import MailerError, StoreFailed, UnknownRoute
from mailer.gates.quota import Admission, Verdict
from mailer.ids import container_of, is_message
from mailer.ledger import ClaimStatus, LeaseStatus, Sent, Spec, Work
from mailer.ledger.limiter import Wish
from mailer.ses.gateway import Answer
from mailer.ses.refusals import classify_question
from mailer.tasks import to_the_end

from . import alike, settle, suspects
from .gate import gated
from .make import made, planned, stop_where_everybody_fails
from .material import load
from .room import Busy
from .runtime import LEASE_MS, Runtime
from .settle import Shift

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
        if isinstance(work, Work):
            await _shift(runtime, work)
            return
        say = log.warning if work in (LeaseStatus.GONE, LeaseStatus.UNREAD) else log.debug
        say("chunk not taken", chunk=chunk, why=work.value)
        if work is LeaseStatus.OVER and not is_message(chunk):
            await _feed(runtime, chunk)
    except (RedisError, OSError) as error:
        runtime.outage.tell(error, "taking up a chunk", chunk=chunk)
    finally:
        runtime.working.pop(chunk, None)


async def _leased(runtime: Runtime, chunk: str) -> Work | LeaseStatus:
    lease = await runtime.ledger.scripts.lease(chunk, owner=runtime.owner, lease_ms=LEASE_MS, doubt=runtime.doubt)
    if lease.status is not LeaseStatus.OK:
        return lease.status
    if await suspects.given_up(runtime, chunk, lease):
        return LeaseStatus.OVER
    async with suspects.loading(runtime, chunk, lease):
        return await runtime.ledger.work(chunk, lease)


async def _shift(runtime: Runtime, work: Work) -> None:
    shift = Shift.of(work)
    heartbeat = asyncio.create_task(_heartbeat(runtime, shift))
    try:
        await suspects.told_apart(runtime, shift)
        async with runtime.file_room.held(_room(work.spec)):
            if await _reached(runtime, shift) and (material := await _loaded(runtime, shift)) and await gated(runtime, shift):
                await _send_queued(runtime, shift, material)
                await stop_where_everybody_fails(runtime, shift)
    except Busy as busy:
        shift.delay_s = busy.again_s
    except Exception:
        shift.delay_s = max(shift.delay_s, ERROR_PAUSE_S)  # whatever it is, at once it would be the same again
        raise
    finally:
        heartbeat.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat
        await to_the_end(_give_back(runtime, shift))


# ---- load ----------------------------------------------------------------------------------------------------------


async def _reached(runtime: Runtime, shift: Shift) -> bool:
    """Find the way to the account that sends this, with credentials for it."""
    try:
        shift.reach = await runtime.reaches.of(shift.work.spec)
        # Before anything is claimed: credentials that cannot be had then put nobody in doubt.
        await shift.reach.gateway.credentials()
    except UnknownRoute as error:
        await settle.stop(runtime, shift, str(error))
        return False
    except Exception as error:
        await settle.act_on_refusal(runtime, shift, classify_question(error))
        return False
    return True


async def _loaded(runtime: Runtime, shift: Shift) -> Material | None:
    """What the messages are made from. Where that cannot be used, the whole campaign stops, with one reason."""
    try:
        async with suspects.working(runtime, shift, ()):
            return await load(runtime, shift.reach, shift.work.spec)
    except MailerError as error:
        await settle.stop(runtime, shift, str(error))
        return None


async def _send_queued(runtime: Runtime, shift: Shift, material: Material) -> None:
    deadline = time.monotonic() + SLICE_S
    most = MAX_ENTRIES if choose(material.spec).bulk else material.at_once(SINGLES)
    while shift.queued and not shift.over and not shift.lost.is_set() and not runtime.stopping.is_set():
        if time.monotonic() >= deadline:
            return
        if shift.expired():
            await to_the_end(settle.expire(runtime, shift))
            return
        if time.monotonic() - shift.gated_at > GATE_EVERY_S and not await gated(runtime, shift):
            return
        positions = _next(shift, shift.reach.quota.call_size(most, material.spec.max_rate))
        async with suspects.working(runtime, shift, positions):
            calls, length = await made(runtime, shift, material, positions, bulk=shift.singly.isdisjoint(positions))
        try:
            async with runtime.text_room.held(length * COPIES if length > LARGE_CHARS else 0):
                for together in _together(calls, material.at_once(SINGLES)):
                    if shift.over:
                        break
                    await _admit_and_send(runtime, shift, material, together)
        except Busy as busy:
            shift.over, shift.delay_s = True, busy.again_s


def _next(shift: Shift, most: int) -> list[int]:
    """The positions that are next, with at most so many recipients; one at least. They are not queued any more."""
    spec, entries, count = shift.work.spec, shift.work.entries, 0
    most = min(most, alike.PROBES) if shift.turn else most
    at_once = 1 if shift.queued[0] in shift.singly else MAX_ENTRIES
    for taken, position in enumerate(shift.queued):
        entry = entries[position]
        count += len(spec.to or (1,)) + len(spec.cc or entry.cc) + len(spec.bcc or entry.bcc)
        if taken == at_once or (taken and (count > most or position in shift.singly)):
            break
    else:
        taken = len(shift.queued)
    positions, shift.queued = shift.queued[:taken], shift.queued[taken:]
    return positions


# ---- admit ---------------------------------------------------------------------------------------------------------


def _together(calls: Sequence[Call], at_once: int) -> Iterator[Sequence[Call]]:
    """The calls that are made at the same time: one of SendBulkEmail, or some of SendEmail."""
    singles = [call for call in calls if call.operation is Operation.SEND_EMAIL]
    yield from ([call] for call in calls if call.operation is Operation.SEND_BULK_EMAIL)
    for first in range(0, len(singles), at_once):
        yield singles[first : first + at_once]


async def _admit_and_send(runtime: Runtime, shift: Shift, material: Material, calls: Sequence[Call]) -> None:
    """Make the calls when it is their turn; where only SendEmail calls have theirs, send the messages by those."""
    admission = await _admitted(runtime, shift, calls)
    if admission.verdict is Verdict.GO:
        granted = await _granted(runtime, shift, material, calls, admission)
        await to_the_end(_send(runtime, shift, granted, admission))
    elif admission.verdict is Verdict.SINGLES and material.spec.mode is Mode.BULK:  # asked for: then it waits
        shift.over, shift.delay_s = True, settle.CALLS_PAUSE_S
    elif admission.verdict is Verdict.SINGLES:
        items, at_once = calls[0].items, material.at_once(SINGLES)
        for first in range(0, len(items), at_once):
            singles = await planned(runtime, shift, material, items[first : first + at_once], bulk=False)
            if singles and not shift.over:
                await _admit_and_send(runtime, shift, material, singles)


async def _admitted(runtime: Runtime, shift: Shift, calls: Sequence[Call]) -> Admission:
    """Wait for the recipients' turn in the account's quota. What has to wait longer gives its lease back meanwhile."""
    chunk, spec, started = shift.work.chunk, shift.work.spec, time.monotonic()
    wish = Wish(
        lane=spec.lane,
        recipients=sum(call.recipients for call in calls),
        least=calls[0].items[0].recipients,
        asker=chunk,
        flow=MESSAGES if is_message(chunk) else container_of(chunk),
        own_rate=spec.max_rate,
        bulk=calls[0].operation is Operation.SEND_BULK_EMAIL,
    )
    admission = await shift.reach.quota.admit(wish, patience_s=PATIENCE_S)
    metrics.record_admission_wait(spec.lane, time.monotonic() - started)
    if admission.verdict is Verdict.LATER:
        shift.over, shift.delay_s = True, admission.retry_s
    elif admission.reason:
        await settle.park(runtime, shift, admission.reason)
        if admission.verdict is Verdict.STALE:
            shift.delay_s = settle.STALE_S
    return admission


async def _granted(
    runtime: Runtime, shift: Shift, material: Material, calls: Sequence[Call], admission: Admission
) -> Sequence[Call]:
    """As much of the calls as there is room for; the rest is next again."""
    if admission.recipients >= sum(call.recipients for call in calls):
        return calls
    items = [item for call in calls for item in call.items]
    taken = sum(count <= admission.recipients for count in accumulate(item.recipients for item in items))
    shift.queued = [item.position for item in items[taken:]] + shift.queued
    if calls[0].operation is Operation.SEND_EMAIL:
        return calls[:taken]
    return await planned(runtime, shift, material, items[:taken])


# ---- claim, dispatch, settle ---------------------------------------------------------------------------------------


async def _send(runtime: Runtime, shift: Shift, calls: Sequence[Call], admission: Admission) -> None:
    """Claim, call, settle. Once the claim is stored this runs to its end, whatever happens to the job around it."""
    chunk, quota = shift.work.chunk, shift.reach.quota
    items = [item for call in calls for item in call.items]
    if not items:
        await quota.give_back(admission)
        return
    rows = [(item.position, item.attempt) for item in items]
    # A claim whose answer got lost is repeated and not given up: it may be stored, and then nobody else may send these.
    began = time.monotonic()
    claim = await settle.until_stored(
        runtime,
        shift,
        lambda: runtime.ledger.scripts.claim(chunk, fence=shift.work.fence, mode=calls[0].mode, rows=rows, lease_ms=LEASE_MS),
    )
    given = claim is ClaimStatus.OK and time.monotonic() - began < PLACE_S
    if not given:
        await _unclaim(runtime, shift, rows)
        await quota.give_back(admission)
    if claim is ClaimStatus.EXPIRED:
        shift.queued = [item.position for item in items] + shift.queued
        await settle.expire(runtime, shift)
        return
    if not given:
        shift.over = True
        if claim is ClaimStatus.CONFLICT:
            log.warning("a recipient was not free to be claimed; the chunk is taken up again", chunk=chunk)
        return
    await quota.until(admission)
    answers = [answer for found in await asyncio.gather(*(_call(shift, call) for call in calls)) for answer in found]
    kept = await alike.kept(runtime, shift, items, answers)
    settlements = [
        settle.answered(shift, item, answer, kept=item.position in kept.positions)
        for item, answer in zip(items, answers, strict=True)
    ]
    accepted = sum(item.recipients for item, answer in zip(items, answers, strict=True) if answer.refusal is None)
    sent = Sent(
        account=shift.reach.account, recipients=sum(call.recipients for call in calls), accepted=accepted, place=admission.place
    )
    await settle.settle(runtime, shift, settlements, sent)
    if shift.turn and accepted:
        shift.turn = False
        await runtime.holds.let_go(shift.holds)
    await settle.act_on(runtime, shift, calls, answers, admission.place)
    shift.again_s = max(shift.again_s, kept.again_s)
    if kept.held_s:
        await settle.park(runtime, shift, kept.reason, kept.held_s)


async def _unclaim(runtime: Runtime, shift: Shift, rows: Sequence[tuple[int, int]]) -> None:
    """A claim that is not given in the end, or too late, may be stored: by its first try, whose answer was lost. (The client of
    Redis tries again by itself, so that cannot be told here.) But no call was made by it, and nobody else knows that."""
    chunk = shift.work.chunk
    try:
        n = await settle.until_stored(runtime, shift, lambda: runtime.ledger.unclaim(chunk, fence=shift.work.fence, rows=rows))
    except StoreFailed as error:
        log.error("a claim that was not used could not be taken back: its chunk is archived", chunk=chunk, reason=str(error))
        return
    if n:
        log.warning("recipients whose claim was not used are queued again", chunk=chunk, recipients=n)


async def _call(shift: Shift, call: Call) -> list[Answer]:
    answers, took = await shift.reach.gateway.send(call.operation.value, call.params, call.body)
    refused = next((a.refusal.kind.value for a in answers if a.refusal), None)
    metrics.record_ses_call(call.operation.value, refused or "accepted", took)
    return answers


# ---- the lease -----------------------------------------------------------------------------------------------------


async def _give_back(runtime: Runtime, shift: Shift) -> None:
    chunk, fence, lane = shift.work.chunk, shift.work.fence, shift.work.spec.lane
    delay_ms = int((shift.delay_s if shift.over or shift.queued else max(shift.delay_s, shift.again_s)) * 1000)
    try:
        harmless = not shift.work.starts or (shift.harmless and shift.suspected.isdisjoint(shift.queued))
        more = await runtime.ledger.scripts.release(chunk, fence=fence, delay_ms=delay_ms, harmless=harmless)
        if more and not delay_ms:
            await runtime.queue.wake(lane, chunk, fence)
        if not more and not is_message(chunk):
            await _feed(runtime, chunk)
    except (RedisError, OSError) as error:
        runtime.outage.tell(error, "giving back a lease, which runs out", chunk=chunk)
        runtime.unreturned[chunk] = fence  # and is given back later: else it would count as lost with this worker


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


def _room(spec: Spec) -> int:
    """The memory that a chunk's attachments take while its messages are made; of small ones it does not matter."""
    size = sum(file.size for file in spec.files)
    return size * COPIES if size > LARGE_CHARS else 0
