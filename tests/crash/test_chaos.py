"""The short form of `make chaos`: everything that can go wrong at once, in campaigns that are small and sent slowly."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .chaos import Plan, Trouble, run

SLOW = 150.0  # recipients per second, so that what goes wrong goes wrong in the middle
PLANS = (
    Plan(seed=1, events=True, troubles=(Trouble.KILLS, Trouble.REDIS, Trouble.KEYS), rows=1000, rate=SLOW, troubled_s=20),
    Plan(seed=2, events=False, troubles=(Trouble.KILLS, Trouble.STOPS), rows=1000, rate=SLOW, troubled_s=35, stops=1, stop_s=17),
)


@pytest.mark.timeout(200)
async def test_through_crashes_of_everything_nobody_is_lost_and_nobody_is_sent_to_twice(tmp_path: Path) -> None:
    folders = [tmp_path / str(plan.seed) for plan in PLANS]
    for folder in folders:
        folder.mkdir()
    for result in await asyncio.gather(*map(run, PLANS, folders)):
        assert not result.wrong, f"{result.plan}: {result.wrong}"
        assert all(result.done[trouble] for trouble in result.plan.troubles), result.done
