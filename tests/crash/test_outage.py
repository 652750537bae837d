"""Redis is away from a worker for longer than its lease, just when it stores a claim: it made no call, so nobody is in doubt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mailer import Settings, State
from worker.runtime import LEASE_MS

from ..servers import RedisServer
from .proxy import Stop, What
from .world import BULK, CAMPAIGN, FIRST, LOST, MEET_S, Mail, World, about, assert_same, check_ids, mail, opened

pytestmark = pytest.mark.timeout(120)

CLAIM = Stop(name="claim", when=LOST, about=CAMPAIGN, what=What.APART)  # it is stored


async def check(world: World, sent: Mail) -> None:
    status = await sent.over(nobody=["unknown"])
    assert (status.state, status.counts) == (State.FINISHED, {"sent": status.rows})
    await check_ids(world, sent, "sent")


async def redis_stops(world: World, server: RedisServer) -> None:
    """For all workers, for longer than a lease."""
    async with mail(world) as sent, world.watched(sent.settings, about(CLAIM, sent)) as watch:
        await asyncio.wait_for(watch.apart.wait(), MEET_S)
        async with world.worker(sent.settings) as second, world.worker(sent.settings) as third:
            await asyncio.gather(second.ready(), third.ready())
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(LEASE_MS / 1000 + 0.5)
            await asyncio.to_thread(server.start)
            watch.apart.clear()
            await check(world, sent)


async def another_takes_the_chunk(world: World) -> None:
    """Redis is away from one worker only, and its lease has run out: another one finds the claim, and cannot know."""
    async with mail(world) as sent, world.watched(sent.settings, about(CLAIM, sent)) as watch:
        await asyncio.wait_for(watch.apart.wait(), MEET_S)
        assert BULK not in watch.asked
        chunk = sent.chunks[0]
        await sent.ledger.redis.hset(sent.ledger.keys.chunk(chunk), "until", 1)
        await sent.ledger.redis.zadd(sent.ledger.keys.due, {chunk: 1})
        async with world.worker(sent.settings):
            status = await sent.over()
            assert_same("unknown", await sent.in_state("unknown"), FIRST)
            assert status.state is State.FINISHED
            watch.apart.clear()
            await check(world, sent)


async def test_whom_a_worker_knows_that_it_did_not_call_for_is_sent_to_once_when_redis_is_back(
    settings: Settings, own_server: RedisServer, server: RedisServer, tmp_path: Path
) -> None:
    async with (
        opened(settings.model_copy(update={"redis_url": own_server.url}), tmp_path) as one,
        opened(settings, tmp_path) as other,
    ):
        await asyncio.gather(redis_stops(one, own_server), another_takes_the_chunk(other))
