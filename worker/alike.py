"""Refusals that repeat: one that holds for all messages may be worded as if it were about each of them.

So nobody is given up on the first word of SES. Who is refused is tried once more, after the others; where LIMIT of them in a
row are refused alike, the campaign waits, and one call at a time is tried until SES accepts somebody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailer.compose import Item
from mailer.ids import container_of, is_message
from mailer.ses.answers import Answer
from mailer.ses.refusals import Kind, Refusal

from . import settle
from .runtime import Runtime
from .settle import LeaseContext

LIMIT = 10  # different recipients of a campaign in a row
TRIES = 10  # of a recipient whom SES refuses, where nobody else has been accepted and not everybody was refused
AGAIN_S = (0.5, 4.0)  # before the second try, where nobody else is left in the chunk, and before a later one
PROBES = 10  # recipients of a call that is tried while the campaign waits


@dataclass(frozen=True, slots=True)
class Kept:
    """Who is not given up."""

    positions: frozenset[int] = frozenset()
    held_s: float = 0.0  # the campaign waits for so long
    reason: str = ""  # for this
    again_s: float = 0.0  # when those are tried again, where nobody else is left in the chunk


async def kept(runtime: Runtime, context: LeaseContext, items: Sequence[Item], answers: Sequence[Answer]) -> Kept:
    """Who of those whom SES refuses for good is tried again. A message has nobody beside it, so it is not."""
    groups = dict[str, list[tuple[Item, Refusal]]]()
    for item, (_, refusal) in zip(items, answers, strict=True):
        if refusal is not None and _is_last(context, item, refusal):
            groups.setdefault(refusal.alike, []).append((item, refusal))
    found = Kept()
    if is_message(context.work.chunk):
        return found
    accepted = any(answer.refusal is None for answer in answers)
    for alike, refused in groups.items():
        found = await _refused_alike(runtime, context, found, alike, refused, accepted)
    return found


def _is_last(context: LeaseContext, item: Item, refusal: Refusal) -> bool:
    """It would be given up now; what SES refuses for the moment, now or the next time."""
    if refusal.kind is Kind.RETRY:
        return context.failures.get(item.position, 0) + 2 >= settle.MAX_FAILURES
    return refusal.kind is Kind.MESSAGE and not refusal.alone


async def _refused_alike(
    runtime: Runtime, context: LeaseContext, found: Kept, alike: str, refused: Sequence[tuple[Item, Refusal]], accepted: bool
) -> Kept:
    chunk, refusal = context.work.chunk, refused[0][1]
    recipients = {f"{chunk}-{item.position}": item.attempt for item, _ in refused}
    reason = (
        f"waiting: SES refused {LIMIT} recipients in a row for the same reason: {refusal.reason}; nobody is given up, a few are "
        "tried every now and then, and when SES accepts them the others follow"
    )
    said = await settle.until_stored(
        runtime,
        context,
        lambda: runtime.holds.refused(
            container_of(chunk),
            recipients,
            alike=alike,
            others_accepted=accepted,
            limit=LIMIT,
            tries=TRIES,
            reason=reason,
            pauses=settle.pauses(),
        ),
        for_ever=True,  # what SES has answered is known to nobody else
    )
    given_up = said.given_up if refusal.kind is Kind.MESSAGE or said.held_s else frozenset(recipients)  # RETRY has had its tries
    positions = {item.position for item, _ in refused if f"{chunk}-{item.position}" not in given_up}
    first, later = AGAIN_S
    return Kept(
        found.positions | positions,
        said.held_s or found.held_s,
        reason if said.held_s else found.reason,
        max(found.again_s, first if said.tries < 2 else later) if positions else found.again_s,
    )
