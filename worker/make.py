"""From recipients to SES's calls: render and plan, where neither holds up what else a worker does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter

from mailer.compose import Call, Item, Planned, plan
from mailer.compose.factor import TextElsewhere
from mailer.compose.material import Material
from mailer.email import Outcome
from mailer.ids import container_of
from mailer.ledger.records import MAX_ATTEMPTS
from mailer.selection import GOT
from mailer.tasks import to_the_end

from . import settle
from .children import Broken
from .render import TEXT_CHARS, Row, chars
from .room import Busy
from .runtime import Runtime
from .settle import Shift

LARGE_BYTES = 256 << 10  # of attachments, or of messages that go one by one: encoding those is felt by all that runs beside it
EVERYBODY = 20  # recipients at least, of a chunk in which no message can be made
LARGE_CHARS = 4 << 20  # of the messages of a bulk call, most of which they have in common


async def made(
    runtime: Runtime, shift: Shift, material: Material, positions: Sequence[int], *, bulk: bool
) -> tuple[list[Call], int]:
    """The calls for these recipients, and how many characters their messages have. Who is not in them is settled, or queued again
    where there was no time or place to render it."""
    try:
        items, length = await _rendered(runtime, shift, material, positions)
        return (await planned(runtime, shift, material, items, length, bulk=bulk) if items else []), length
    except Busy as busy:
        waiting = [position for position in positions if position not in shift.queued]
        shift.queued = waiting + shift.queued
        shift.over, shift.delay_s = True, busy.again_s
    except Broken as broken:
        await settle.stop(runtime, shift, str(broken))
    return [], 0


async def _rendered(runtime: Runtime, shift: Shift, material: Material, positions: Sequence[int]) -> tuple[list[Item], int]:
    """The messages of these recipients. A row whose data does not fit the template fails alone."""
    rows, failed = [], []
    for position in positions:
        attempt = shift.attempts[position] + 1
        if attempt > MAX_ATTEMPTS:
            why = f"given up after {MAX_ATTEMPTS:,} attempts"
            failed.append(shift.settlement(position, MAX_ATTEMPTS, Outcome.FAILED, reason=why))
        else:
            rows.append(Row(position, shift.work.entries[position], attempt, tuple(shift.left_out.get(position, ()))))
    items, length = list[Item](), 0
    if rows:
        batch = await runtime.rendering.batch(shift.work.spec.lane, shift.work.chunk, material, rows)
        items, length = batch.items, batch.chars
        shift.queued = [row.position for row in batch.left] + shift.queued
        shift.made += len(items)
        shift.unmade += len(batch.failed)
        failed += [
            shift.settlement(row.position, shift.attempts[row.position], Outcome.FAILED, reason=why) for row, why in batch.failed
        ]
        if batch.hopeless and not shift.is_message:
            await settle.stop(runtime, shift, batch.hopeless)
    if failed:
        await to_the_end(settle.settle(runtime, shift, failed))
    return items, length


async def stop_where_everybody_fails(runtime: Runtime, shift: Shift) -> None:
    """Stop a campaign of which a whole chunk failed while nobody has got it: the other chunks would fail for the same reason."""
    if shift.is_message or shift.made or shift.queued or shift.unmade < EVERYBODY:
        return
    id = container_of(shift.work.chunk)
    status = await runtime.ledger.campaign(id)
    if GOT & status.counts.keys() or not status.reasons:
        return
    why, n = max(status.reasons.items(), key=itemgetter(1))
    failed = status.counts.get(Outcome.FAILED.label, 0)
    reason = (
        f"the first {failed:,} recipients failed, and nobody has got it; the commonest reason ({n:,} of {failed:,}): {why}. "
        f"Mend the template, then: mailer campaign retry {id} --state failed --template NAME"
    )
    await settle.stop(runtime, shift, reason)


async def planned(
    runtime: Runtime, shift: Shift, material: Material, items: Sequence[Item], length: int | None = None, *, bulk: bool = True
) -> list[Call]:
    """The calls that carry them, in all `length` characters. What no call can carry is rejected alone. Raises Busy."""
    length = sum(map(chars, items)) if length is None else length
    try:
        found = await _planned(material, items, length, bulk=bulk)
    except TextElsewhere:
        items = await runtime.rendering.with_texts(shift.work.spec.lane, items)
        found = await _planned(material, items, length, bulk=bulk)
    if found.refused:
        rejected = [
            shift.settlement(item.position, item.attempt - 1, Outcome.REJECTED, reason=why) for item, why in found.refused
        ]
        await to_the_end(settle.settle(runtime, shift, rejected))
    return found.calls


async def _planned(material: Material, items: Sequence[Item], length: int, *, bulk: bool) -> Planned:
    """Raises TextElsewhere."""
    if material.size > LARGE_BYTES or length > (LARGE_CHARS if bulk and len(items) > 1 else LARGE_BYTES):
        return await asyncio.to_thread(plan, material.spec, items, material.files, bulk=bulk, most_text=TEXT_CHARS)
    return plan(material.spec, items, material.files, bulk=bulk, most_text=TEXT_CHARS)
