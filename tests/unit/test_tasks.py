"""A step that must not be torn apart is not, however often somebody tries."""

from __future__ import annotations

import asyncio

import pytest

from mailer.tasks import to_the_end


async def test_a_step_runs_to_its_end_through_several_cancellations_and_the_cancellation_goes_on() -> None:
    done = False

    async def step() -> str:
        nonlocal done
        await asyncio.sleep(0.2)
        done = True
        return "stored"

    task = asyncio.create_task(to_the_end(step()))
    for _ in range(4):
        await asyncio.sleep(0.03)
        task.cancel()
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


async def test_its_result_and_its_error_come_out() -> None:
    async def good() -> int:
        return 1

    async def bad() -> int:
        raise LookupError("x")

    assert await to_the_end(good()) == 1
    with pytest.raises(LookupError):
        await to_the_end(bad())
