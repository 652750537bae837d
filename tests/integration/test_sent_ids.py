"""Whose message it is, by SES's message id alone."""

from __future__ import annotations

import secrets

import pytest

from mailer import Settings
from mailer.ids import Attempt, new_campaign_id, new_message_id
from mailer.ledger import ClaimStatus, Ledger
from mailer.ledger.sent_ids import DAY_MS
from mailer.message.email import Outcome
from mailer.queue import connect, disconnect

from ..servers import RedisServer
from .test_ledger import SPEC, campaign, claim, settled, take


def ses_id() -> str:
    """As SES makes them."""
    text = secrets.token_hex(27)
    return "-".join((text[:16], text[16:24], text[24:28], text[28:32], text[32:36], text[36:48], text[48:]))


async def send(ledger: Ledger, chunk: str, ids: dict[int, str]) -> None:
    """SES accepts these positions of a chunk under these ids."""
    work = await take(ledger, chunk)
    assert await claim(ledger, work, *ids) is ClaimStatus.OK
    await ledger.work.settle(chunk, [settled(position, Outcome.SENT, message_id=id) for position, id in ids.items()])
    await ledger.work.release(chunk, fence=work.fence)


async def a_message(ledger: Ledger) -> str:
    id = new_message_id()
    await ledger.intake.add_message(id, SPEC, keep_s=3600, patience_ms=1000)
    return id


@pytest.fixture
def on(ledger: Ledger) -> Ledger:
    ledger.noting.messages = ledger.noting.campaigns = True
    return ledger


async def test_each_recipient_is_found_by_the_id_that_it_was_settled_with_and_nobody_by_another(on: Ledger) -> None:
    id, message = await campaign(on, 300, 200), await a_message(on)
    ids = [ses_id() for _ in range(500)]
    await send(on, f"{id}-0", dict(enumerate(ids[:300])))
    await send(on, f"{id}-1", dict(enumerate(ids[300:])))
    own = "of-another-form"
    await send(on, f"{message}-0", {0: own})
    expected = {one: Attempt(id, n // 300, n % 300, 1) for n, one in enumerate(ids)}
    expected[own] = Attempt(message, 0, 0, 1)
    others = [ses_id() for _ in range(500)]
    assert await on.sent_ids.find([*ids, own, *others, ""]) == expected


async def test_campaigns_are_noted_where_that_is_wanted_and_those_of_before_from_what_redis_has(ledger: Ledger) -> None:
    noting = ledger.noting
    id, message = await campaign(ledger, 3), await a_message(ledger)
    ids, own = [ses_id(), "of-another-form", ses_id()], ses_id()
    noting.messages = True
    await send(ledger, f"{id}-0", dict(enumerate(ids[:2])))
    await send(ledger, f"{message}-0", {0: own})
    assert list(await ledger.sent_ids.find([*ids, own])) == [own]
    noting.campaigns = True
    await send(ledger, f"{id}-0", {2: ids[2]})
    assert set(await ledger.sent_ids.find([*ids, own])) == {ids[2], own}
    for _ in range(2):
        assert await ledger.sent_ids.note_chunk(f"{id}-0") == 3
    assert await ledger.sent_ids.find(ids) == {one: Attempt(id, 0, n, 1) for n, one in enumerate(ids)}
    assert await ledger.sent_ids.note_chunk("cnowhere-0") == 0


async def test_the_index_is_by_day_is_looked_through_as_far_as_it_lives_and_then_forgotten(
    ledger: Ledger, namespace: str
) -> None:
    key = f"{namespace}:clock"
    clock = (
        "local function now_us() local t = redis.call('TIME') "
        f"return t[1] * 1000000 + t[2] + (redis.call('GET', '{key}') or 0) end\n"
    )
    moved = Ledger(ledger.redis, namespace, clock)
    moved.noting.campaigns = True
    found = dict[str, Attempt]()
    for day in range(8):
        await ledger.redis.set(key, day * DAY_MS * 1000)
        id, one = await campaign(moved, 1), ses_id()
        await send(moved, f"{id}-0", {0: one})
        found[one] = Attempt(id, 0, 0, 1)
    assert await moved.sent_ids.find(found) == found
    names = [name async for name in ledger.redis.scan_iter(match=f"{namespace}:ids:*", count=1000)]
    assert len(names) == 16  # of each day the chunk's name and one entry
    for name in names:
        assert 7 * 86_400 < await ledger.redis.ttl(name) <= 8 * 86_400


async def test_it_costs_a_campaign_less_than_twenty_bytes_a_recipient(server: RedisServer, namespace: str) -> None:
    redis = connect(Settings(redis_url=server.url))
    try:
        ledger = Ledger(redis, namespace)
        id, used = new_campaign_id(), [0]
        for first in (0, 60):  # the second time all the strings are there: a day's 4,096 cost 0.5 MB, once
            for number in range(first, first + 60):
                await ledger.redis.hset(ledger.keys.chunk(f"{id}-{number}"), "size", 500)
                await redis.set(ledger.keys.message_ids(f"{id}-{number}"), secrets.token_bytes(27 * 500))
                assert await ledger.sent_ids.note_chunk(f"{id}-{number}") == 500
            used.append(0)
            async for name in redis.scan_iter(match=f"{ledger.keys.sent_ids}*", count=1000):
                used[-1] += int(await redis.memory_usage(name) or 0)
        assert (used[2] - used[1]) / 30_000 < 20
    finally:
        await disconnect(redis)
