"""Notifications of identities. They carry no tags, so SES's message id tells whose they are.

The id is known once SES's answer is settled, and a notification can be faster than that: it waits for its message (`waiting.py`).
The first notification of this kind has campaigns put into the index from then on (MAILER_EVENTS_INDEX=auto), and what was sent
before it as far as Redis has it (`note_older`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import datetime

import orjson
import structlog

from mailer.events import Concerned, Event, EventType
from mailer.ids import Attempt, chunk_id
from mailer.message.checks import RESERVED_TAG
from mailer.settings import Index

from .runtime import Runtime

log = structlog.get_logger()

EVERY_S = 1.0
MOST = 10_000  # that wait at the same time
STAY_MS = 30 * 86_400_000  # campaigns stay in the index so long after the last notification
SETTLING_MS = 5000  # by then every worker knows that they are
SLICE_S = 0.5  # of putting message ids of before into the index
SLICE_CHUNKS = 20
TURN_MS = 10_000
HOUR_S = 3600.0
DAY_S = 86_400
MAX_LIFE_S = 30 * DAY_S  # of the index

_KINDS = frozenset({EventType.DELIVERY, EventType.BOUNCE, EventType.COMPLAINT})
BETTER = "give the configuration set an event destination, for its events carry tags"


async def match(runtime: Runtime, events: Sequence[Event]) -> tuple[list[Event], Set[int]]:
    """The events, each without tags with the one of its message where that is known; and the places of those that wait for it."""
    places = [place for place, event in enumerate(events) if event.type in _KINDS and not event.tags]
    if not places:
        return list(events), frozenset()
    if runtime.settings.events_index is Index.OFF:
        text = "notifications without tags fit no message here, because MAILER_EVENTS_INDEX is off"
        runtime.repeats.tell(log.warning, "untagged", text, every_s=HOUR_S, do=BETTER)
        await _remember(runtime, await runtime.ledger.now_ms())
        await count(runtime, "lost", len(places))
        return list(events), frozenset()
    await _seen(runtime)
    found = await runtime.ledger.sent_ids.find(events[place].ses_message_id for place in places)
    waiting = {place for place in places if events[place].ses_message_id not in found}
    waiting = await _wait(runtime, events, waiting)
    await count(runtime, "matched", sum(events[place].ses_message_id in found for place in places))
    return [tagged(event, found) for event in events], waiting


def tagged(event: Event, found: dict[str, Attempt]) -> Event:
    attempt = None if event.tags else found.get(event.ses_message_id)
    return event if attempt is None else replace(event, tags={RESERVED_TAG: str(attempt)})


async def count(runtime: Runtime, what: str, n: int) -> None:
    """For `mailer doctor`."""
    if n:
        await runtime.ledger.redis.hincrby(runtime.ledger.keys.untagged, what, n)


# ---- those that wait -----------------------------------------------------------------------------------------------


async def _wait(runtime: Runtime, events: Sequence[Event], places: Set[int]) -> set[int]:
    """Which of them wait; where too many do, they fit no message."""
    if not places:
        return set()
    key, now = runtime.ledger.keys.unmatched, await runtime.ledger.now_ms()
    room = MOST - await runtime.ledger.redis.zcard(key)
    waiting = set(sorted(places)[: max(0, room)])
    if waiting:  # what is there already keeps its time
        await runtime.ledger.redis.zadd(key, {pack(events[place]): now for place in waiting}, nx=True)
    await lost(runtime, len(places) - len(waiting))
    return waiting


async def lost(runtime: Runtime, n: int) -> None:
    """So many fit no message that was sent from here."""
    if n:
        await count(runtime, "lost", n)
        text = "notifications without tags fit no message that was sent from here, or one that is forgotten"
        runtime.repeats.tell(log.warning, "untagged", text, every_s=HOUR_S, events=n, do=BETTER)


def pack(event: Event) -> bytes:
    """What is needed of it once its message is known. The same event is the same bytes."""
    concerned = [
        (one.address, one.status[:64], one.diagnostic[:500] if place == 0 else "") for place, one in enumerate(event.recipients)
    ]
    said = (event.bounce_type, event.bounce_subtype, event.complaint_type, event.complaint_subtype)
    return orjson.dumps((event.type.value, event.ses_message_id, event.time, event.destination, concerned, said))


def unpack(packed: bytes) -> Event:
    type, id, moment, destination, concerned, said = orjson.loads(packed)
    bounce_type, bounce_subtype, complaint_type, complaint_subtype = said
    return Event(
        type=EventType(type),
        ses_message_id=id,
        time=None if moment is None else datetime.fromisoformat(moment),
        destination=tuple(destination),
        recipients=tuple(Concerned(*one) for one in concerned),
        bounce_type=bounce_type,
        bounce_subtype=bounce_subtype,
        complaint_type=complaint_type,
        complaint_subtype=complaint_subtype,
    )


# ---- whether campaigns are in the index ------------------------------------------------------------------------------


async def _seen(runtime: Runtime) -> None:
    """One has come. Where it is the first for a long time, campaigns go into the index, also those that Redis has already."""
    redis, keys, now = runtime.ledger.redis, runtime.ledger.keys, await runtime.ledger.now_ms()
    at, on = await redis.hmget(keys.untagged, "seen", "on")
    if on is None or now - int(at or 0) > STAY_MS:
        if campaigns := await redis.zrange(keys.campaigns, 0, -1):
            await redis.zadd(keys.unnoted, dict.fromkeys(campaigns, 0), nx=True)
        await redis.hset(keys.untagged, "on", now)
        text = "notifications without tags come in: SES's message ids are kept to find their messages"
        log.info(text, setting=runtime.settings.events_index.value, do=BETTER)
    await _remember(runtime, now)
    runtime.ledger.noting.campaigns = True


async def _remember(runtime: Runtime, now_ms: int) -> None:
    key = runtime.ledger.keys.untagged
    await runtime.ledger.redis.hset(key, "seen", now_ms)
    await runtime.ledger.redis.pexpire(key, STAY_MS)


async def decide(runtime: Runtime) -> None:
    """What this worker puts into the index as it settles; and note some of what was settled before."""
    setting, noting = runtime.settings.events_index, runtime.ledger.noting
    noting.life_s = DAY_S + min(MAX_LIFE_S, -(-runtime.settings.retention_s // DAY_S) * DAY_S)
    noting.messages = setting is not Index.OFF
    if setting is Index.OFF:
        noting.campaigns = False
        return
    now = await runtime.ledger.now_ms()
    seen, on = await runtime.ledger.redis.hmget(runtime.ledger.keys.untagged, "seen", "on")
    wanted = seen is not None and now - int(seen) <= STAY_MS
    noting.campaigns = setting is Index.ON or wanted
    if wanted and on is not None and now - int(on) >= SETTLING_MS:
        await note_older(runtime)


async def note_older(runtime: Runtime) -> None:
    """Put message ids of campaigns that were settled before into the index: by one worker at a time, for SLICE_S."""
    redis, keys, ends = runtime.ledger.redis, runtime.ledger.keys, time.monotonic() + SLICE_S
    if not await redis.exists(keys.unnoted) or not await redis.set(keys.unnoted_turn, runtime.owner, nx=True, px=TURN_MS):
        return
    try:
        while time.monotonic() < ends and (first := await redis.zrange(keys.unnoted, 0, 0, withscores=True)):
            (id, reached), chunks = first[0], int(await redis.hget(keys.container(first[0][0].decode()), "chunks") or 0)
            end = min(int(reached) + SLICE_CHUNKS, chunks)
            for number in range(int(reached), end):
                await runtime.ledger.sent_ids.note_chunk(chunk_id(id.decode(), number))
            if end >= chunks:
                await redis.zrem(keys.unnoted, id)
            else:
                await redis.zadd(keys.unnoted, {id: end}, xx=True)
    finally:
        await redis.delete(keys.unnoted_turn)
