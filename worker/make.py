"""From recipients to SES's calls: render and plan, where neither holds up what else a worker does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter

from mailer.compose import Call, Item, Planned, plan
from mailer.compose.message_builder import MessageBuilder
from mailer.compose.shared_template import TextElsewhere
from mailer.ids import container_of
from mailer.intake.selection import GOT
from mailer.ledger.records import MAX_ATTEMPTS
from mailer.message.email import Outcome
from mailer.tasks import to_the_end

from . import settle
from .children import Broken
from .render import TEXT_CHARS, Row, chars
from .room import Busy
from .runtime import Runtime
from .settle import LeaseContext

LARGE_BYTES = 256 << 10  # of attachments, or of messages that go one by one: encoding those is felt by all that runs beside it
EVERYBODY = 20  # recipients at least, of a chunk in which no message can be made
LARGE_CHARS = 4 << 20  # of the messages of a bulk call, most of which they have in common


async def made(
    runtime: Runtime, context: LeaseContext, material: MessageBuilder, positions: Sequence[int], *, bulk: bool
) -> tuple[list[Call], int]:
    """The calls for these recipients, and how many characters their messages have. Who is not in them is settled, or queued again
    where there was no time or place to render it."""
    try:
        items, length = await _rendered(runtime, context, material, positions)
        return (await planned(runtime, context, material, items, length, bulk=bulk) if items else []), length
    except Busy as busy:
        waiting = [position for position in positions if position not in context.queued]
        context.queued = waiting + context.queued
        context.over, context.delay_s = True, busy.again_s
    except Broken as broken:
        await settle.stop(runtime, context, str(broken))
    return [], 0


async def _rendered(
    runtime: Runtime, context: LeaseContext, material: MessageBuilder, positions: Sequence[int]
) -> tuple[list[Item], int]:
    """The messages of these recipients. A row whose data does not fit the template fails alone."""
    rows, failed = [], []
    for position in positions:
        attempt = context.attempts[position] + 1
        if attempt > MAX_ATTEMPTS:
            why = f"given up after {MAX_ATTEMPTS:,} attempts"
            failed.append(context.settlement(position, MAX_ATTEMPTS, Outcome.FAILED, reason=why))
        else:
            rows.append(Row(position, context.work.entries[position], attempt, tuple(context.left_out.get(position, ()))))
    items, length = list[Item](), 0
    if rows:
        batch = await runtime.rendering.batch(context.work.spec.lane, context.work.chunk, material, rows)
        items, length = batch.items, batch.chars
        context.queued = [row.position for row in batch.left] + context.queued
        context.made += len(items)
        context.unmade += len(batch.failed)
        failed += [
            context.settlement(row.position, context.attempts[row.position], Outcome.FAILED, reason=why)
            for row, why in batch.failed
        ]
        if batch.hopeless and not context.is_message:
            await settle.stop(runtime, context, batch.hopeless)
    if failed:
        await to_the_end(settle.settle(runtime, context, failed))
    return items, length


async def stop_where_everybody_fails(runtime: Runtime, context: LeaseContext) -> None:
    """Stop a campaign of which a whole chunk failed while nobody has got it: the other chunks would fail for the same reason."""
    if context.is_message or context.made or context.queued or context.unmade < EVERYBODY:
        return
    id = container_of(context.work.chunk)
    status = await runtime.ledger.report.campaign(id)
    if GOT & status.counts.keys() or not status.reasons:
        return
    why, n = max(status.reasons.items(), key=itemgetter(1))
    failed = status.counts.get(Outcome.FAILED, 0)
    reason = (
        f"the first {failed:,} recipients failed, and nobody has got it; the commonest reason ({n:,} of {failed:,}): {why}. "
        f"Mend the template, then: mailer campaign retry {id} --state failed --template NAME"
    )
    await settle.stop(runtime, context, reason)


async def planned(
    runtime: Runtime,
    context: LeaseContext,
    material: MessageBuilder,
    items: Sequence[Item],
    length: int | None = None,
    *,
    bulk: bool = True,
) -> list[Call]:
    """The calls that carry them, in all `length` characters. What no call can carry is rejected alone. Raises Busy."""
    length = sum(map(chars, items)) if length is None else length
    try:
        found = await _planned(material, items, length, bulk=bulk)
    except TextElsewhere:
        items = await runtime.rendering.with_texts(context.work.spec.lane, items)
        found = await _planned(material, items, length, bulk=bulk)
    if found.refused:
        rejected = [
            context.settlement(item.position, item.attempt - 1, Outcome.REJECTED, reason=why) for item, why in found.refused
        ]
        await to_the_end(settle.settle(runtime, context, rejected))
    return found.calls


async def _planned(material: MessageBuilder, items: Sequence[Item], length: int, *, bulk: bool) -> Planned:
    """Raises TextElsewhere."""
    if material.size > LARGE_BYTES or length > (LARGE_CHARS if bulk and len(items) > 1 else LARGE_BYTES):
        return await asyncio.to_thread(plan, material.spec, items, material.files, bulk=bulk, most_text=TEXT_CHARS)
    return plan(material.spec, items, material.files, bulk=bulk, most_text=TEXT_CHARS)
