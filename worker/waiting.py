"""Notifications without tags whose message was not known when they came: looked for again, until it is, or never will be."""

from __future__ import annotations

from collections.abc import Sequence

from mailer import metrics

from .events import apply
from .runtime import Runtime
from .untagged import TURN_MS, count, lost, tagged, unpack

WAIT_MS = 600_000  # a notification can be faster than the answer to the call, and not by more than that
WAIT_FOR_INDEX_MS = 2 * 3_600_000  # while message ids of before are being put into the index
YOUNG_MS, OLD_EVERY_S = 15_000, 30  # those that came lately are looked at each second, the others each half minute
TOGETHER = 500


async def look_again(runtime: Runtime) -> None:
    """By one worker at a time."""
    redis, keys = runtime.ledger.redis, runtime.ledger.keys
    if not await redis.exists(keys.unmatched) or not await redis.set(keys.unmatched_turn, runtime.owner, nx=True, px=TURN_MS):
        return
    try:
        now = await runtime.ledger.now_ms()
        every_one = await redis.set(keys.unmatched_all, 1, nx=True, ex=OLD_EVERY_S)
        patience_ms = WAIT_FOR_INDEX_MS if await redis.exists(keys.unnoted) else WAIT_MS
        since, kept = 0 if every_one else now - YOUNG_MS, 0
        while found := await redis.zrangebyscore(keys.unmatched, since, now, start=kept, num=TOGETHER, withscores=True):
            kept += len(found) - await _look(runtime, found, now - patience_ms)
    finally:
        await redis.delete(keys.unmatched_turn)


async def _look(runtime: Runtime, found: Sequence[tuple[bytes, float]], oldest_ms: float) -> int:
    """How many of these do not wait any more."""
    waiting = [unpack(packed) for packed, _ in found]
    known = await runtime.ledger.sent_ids.find(event.ses_message_id for event in waiting)
    places = [place for place, event in enumerate(waiting) if event.ses_message_id in known]
    left = await apply(runtime, [tagged(waiting[place], known) for place in places]) if places else frozenset[int]()
    matched = [place for n, place in enumerate(places) if n not in left]
    over = [place for place, (_, at) in enumerate(found) if at < oldest_ms and place not in places]
    if done := [found[place][0] for place in (*matched, *over)]:
        await runtime.ledger.redis.zrem(runtime.ledger.keys.unmatched, *done)
    await count(runtime, "matched", len(matched))
    if over:
        for place in over:
            metrics.record_event(waiting[place].type.value)
        metrics.record_unmatched(len(over))
        await lost(runtime, len(over))
    return len(done)
