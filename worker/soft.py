"""Addresses that bounce softly again and again: after so many messages, where the installation wants that, they are suppressed.

An address is kept as a digest, with digests of the messages that bounced, so an event that comes twice counts once. A delivery
begins the count anew, and so does LIFE_S without a bounce.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import structlog

from mailer.events import Event, EventType
from mailer.identities.sandbox import is_mailbox_simulator
from mailer.suppression.lists import NewEntry, Reason

from .meaning import soft_bounced
from .runtime import Runtime

log = structlog.get_logger()

LIFE_S = 90 * 86_400


async def suppress_repeated(runtime: Runtime, events: Sequence[Event]) -> None:
    """Count the soft bounces of these events, and suppress who has as many as the setting says. May be repeated."""
    most, keys = runtime.settings.soft_bounces_suppress, runtime.ledger.keys
    if not most:
        return
    counted = list[str]()
    async with runtime.redis.pipeline(transaction=False) as pipe:
        for event in events:
            if event.type is EventType.DELIVERY and event.destination:
                pipe.unlink(*map(keys.soft_bounces, event.destination))
            for address in soft_bounced(event):
                if not is_mailbox_simulator(address):
                    pipe.sadd(keys.soft_bounces(address), _digest(event.ses_message_id))
                    pipe.expire(keys.soft_bounces(address), LIFE_S)
                    counted.append(address)
        for address in counted:
            pipe.scard(keys.soft_bounces(address))
        found = await pipe.execute()
    counts = dict(zip(counted, map(int, found[len(found) - len(counted) :]), strict=True))
    if often := [address for address, n in counts.items() if n >= most]:
        new = await runtime.suppressed.add([NewEntry(address, Reason.BOUNCE) for address in often])
        # Only now: a crash before this counts them again.
        await runtime.redis.unlink(*map(keys.soft_bounces, often))
        log.info("addresses that bounced softly again and again are suppressed", addresses=sum(new), bounces=most)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:8]
