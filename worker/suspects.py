"""Chunks with which a worker was lost: it died, or it hung and was ended.

What a worker dies of is rarely what it works on, so once means nothing. From then on each step that could be dangerous, loading,
rendering and planning, is marked in the ledger before it begins, and only deaths at a mark count. One marked step at a time runs
in a process, so that nobody is found at a mark for another's sake. After a death among several recipients those are worked on
one by one; whoever was at the mark LOST times in a row is `failed`. A worker that was only cut off takes its death back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from mailer import metrics
from mailer.ids import container_of, is_message
from mailer.ledger import Lease, Settlement
from mailer.ledger.records import unpack_records
from mailer.message.email import Outcome
from mailer.tasks import to_the_end

from . import settle
from .runtime import Runtime
from .settle import LeaseContext

log = structlog.get_logger()

LOST = 3  # deaths of workers
REASON = "its worker died or hung three times while working on it"
LOADING = "all"  # the mark while a chunk is loaded


async def given_up(runtime: Runtime, chunk: str, lease: Lease) -> bool:
    """Fail what cannot even be loaded: a message that took LOST workers with it, a chunk at whose loading they died."""
    at_loading = lease.suspects == LOADING and lease.deaths >= LOST
    if lease.starts < LOST or not (is_message(chunk) or at_loading):
        return False
    records = list(unpack_records(lease.records))
    queued = [position for position, record in enumerate(records) if record.outcome is Outcome.QUEUED]
    settlements = [
        Settlement(position=position, attempt=records[position].attempts, outcome=Outcome.FAILED, reason=REASON)
        for position in queued
    ]
    await runtime.ledger.work.settle(chunk, settlements)
    await runtime.ledger.work.release(chunk, fence=lease.fence)
    log.error("recipients are given up: workers died or hung while working on them", chunk=chunk, recipients=len(queued))
    if lane := await runtime.lane(container_of(chunk)):
        metrics.record_outcomes(lane, Outcome.FAILED, len(queued))
    return True


async def told_apart(runtime: Runtime, context: LeaseContext) -> None:
    """Fail the recipient at whose mark workers died, and have those worked on singly of whom one may be the next."""
    first, _, last = context.work.suspects.partition("-")
    if not last:
        return
    among = {position for position in context.queued if int(first) <= position <= int(last)}
    if first == last and context.work.deaths >= LOST and among:
        position = among.pop()
        context.queued.remove(position)
        log.error(
            "a recipient is given up: workers died or hung while working on it", chunk=context.work.chunk, position=position
        )
        failed = context.settlement(position, context.attempts[position], Outcome.FAILED, reason=REASON)
        await to_the_end(settle.settle(runtime, context, [failed]))
    context.suspected |= among
    context.singly |= among


@asynccontextmanager
async def loading(runtime: Runtime, chunk: str, lease: Lease) -> AsyncIterator[None]:
    """Around the loading of a chunk."""
    if not lease.starts:
        yield
        return
    async with _marked(runtime, chunk, lease.fence, LOADING, innocent=lease.suspects == LOADING):
        yield


@asynccontextmanager
async def working(runtime: Runtime, context: LeaseContext, positions: Sequence[int]) -> AsyncIterator[None]:
    """Around what could be dangerous about these recipients, or, without any, about what all have in common."""
    work = context.work
    if not work.starts:
        yield
        return
    mark = f"{min(positions)}-{max(positions)}" if positions else LOADING
    async with _marked(runtime, work.chunk, work.fence, mark, innocent=work.suspects in ("", mark)):
        yield
    context.harmless = context.harmless or bool(positions)


@asynccontextmanager
async def _marked(runtime: Runtime, chunk: str, fence: int, mark: str, *, innocent: bool) -> AsyncIterator[None]:
    work = runtime.ledger.work
    async with runtime.one_suspect:
        await work.mark(chunk, fence=fence, mark=mark)
        done = False
        try:
            yield
            done = True
        finally:  # whatever it was, this worker lives
            await to_the_end(work.mark(chunk, fence=fence, mark="", innocent=innocent and done))
