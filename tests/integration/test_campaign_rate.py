"""A campaign's rate is that of the time in which it was sent, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from mailer import State
from mailer.message.email import Outcome

from ..servers import RedisServer
from .limiter import World, world
from .test_ledger import campaign, claim, settled, take

DAY_S = 86_400

Still = Callable[[World, str], Awaitable[object]]


async def paused(world: World, id: str) -> None:
    control = world.ledger.control
    await control.pause(id)
    await world.later(DAY_S)
    await control.resume(id)


async def parked(world: World, id: str) -> None:
    await world.ledger.lifecycle.park(id, "waiting")
    await world.later(DAY_S / 2)
    await world.ledger.lifecycle.park(id, "waiting for something else")
    await world.later(DAY_S / 2)


async def stopped(world: World, id: str) -> None:
    await world.ledger.lifecycle.stop(id, "because")
    await world.later(DAY_S)
    await world.ledger.control.resume(id)


@pytest.mark.parametrize("still", [paused, parked, stopped])
async def test_time_for_which_a_campaign_stands_still_is_not_part_of_its_rate(server: RedisServer, still: Still) -> None:
    async with world(server.url) as moved:
        id = await campaign(moved.ledger, 31)
        work = await take(moved.ledger, f"{id}-0", lease_ms=10 * DAY_S * 1000)
        for position in range(11):  # 10 a second
            await claim(moved.ledger, work, position)
            await moved.ledger.work.settle(work.chunk, [settled(position, Outcome.SENT)])
            await moved.later(0.1)
        await still(moved, id)
        for position in range(11, 31):
            await claim(moved.ledger, work, position)
            await moved.ledger.work.settle(work.chunk, [settled(position, Outcome.SENT)])
            await moved.later(0.1)
        status = await moved.ledger.report.campaign(id)
        assert (status.state, status.counts) == (State.FINISHED, {"sent": 31})
        assert 9 < status.rate <= 10.5


async def test_the_time_between_the_end_and_a_retry_is_not_part_of_its_rate(server: RedisServer) -> None:
    async with world(server.url) as moved:
        id = await campaign(moved.ledger, 22)
        work = await take(moved.ledger, f"{id}-0", lease_ms=10 * DAY_S * 1000)
        for position in range(22):
            await claim(moved.ledger, work, position)
            outcome = Outcome.SENT if position < 11 else Outcome.FAILED
            await moved.ledger.work.settle(work.chunk, [settled(position, outcome)])
            await moved.later(0.1)
        await moved.ledger.work.release(work.chunk, fence=work.fence, delay_ms=0)
        await moved.later(DAY_S)
        await moved.ledger.control.retry(id, {Outcome.FAILED}, 0, chunks=1)
        work = await take(moved.ledger, f"{id}-0", lease_ms=10 * DAY_S * 1000)
        for position in range(11, 22):
            await claim(moved.ledger, work, position, attempt=2)
            await moved.ledger.work.settle(work.chunk, [settled(position, Outcome.SENT, attempt=2)])
            await moved.later(0.1)
        assert 5 < (await moved.ledger.report.campaign(id)).rate < 11
