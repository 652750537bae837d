"""A message that kills or hangs its worker is given up after three of them. Nobody else pays for it, and no deploy does that."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailer import Email, Mailer, Settings
from mailer.simulator import Fault, Kind
from worker.suspects import REASON
from worker.watchdog import EXIT_CODE

from .poison import POISON
from .test_control import Place, letter, place, together
from .test_processes import accepted, rows
from .workers import Worker, Workers

ENDS = {"dies": -signal.SIGKILL, "hangs": EXIT_CODE}
INNOCENT = [f"ana{i}@example.org" for i in range(10)]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    async with Workers(tmp_path) as workers:
        yield workers


@asynccontextmanager
async def kept_up(here: Place, **extra: str) -> AsyncIterator[list[int]]:
    """A worker that is started again when it ends, as a service manager does; gives how those ended."""
    ended = list[int]()

    async def keep() -> None:
        while True:
            one = await start(here, **extra)
            ended.append(await one.ended(120))

    keeping = asyncio.create_task(keep())
    try:
        yield ended
    finally:
        keeping.cancel()


async def start(here: Place, **extra: str) -> Worker:
    return await here.workers.start(here.settings, AWS_ENDPOINT_URL_SESV2=here.url, MAILER_BULK_CALLS_PER_S="unlimited", **extra)


async def send(mailer: Mailer, to: str) -> str:
    return await mailer.send(Email(to=to, from_="letter@example.com", subject="s", text="t"))


async def ends(mailer: Mailer, id: str) -> tuple[str, str]:
    while (status := await mailer.status(id)).state in ("queued", "claimed"):
        await asyncio.sleep(0.05)
    return status.state, status.reason


async def a_message(here: Place, how: str) -> None:
    poison = await send(here.mailer, f"{POISON}@example.org")
    others = [await send(here.mailer, to) for to in INNOCENT]
    async with asyncio.timeout(60), kept_up(here, TEST_POISON=how) as ended:
        assert await ends(here.mailer, poison) == ("failed", REASON)
        states = {(await ends(here.mailer, id))[0] for id in others}
        assert states <= {"sent", "unknown"}  # that died with a worker, which may have called SES for them
    assert ended == [ENDS[how]] * 3
    found = accepted(here.ses)
    assert set(found.values()) == {1}
    assert found.keys() <= set(INNOCENT)
    assert "unknown" in states or found.keys() == set(INNOCENT)


async def some_of_many(here: Place, how: str, *guilty: int) -> None:
    people = rows(120)
    for number in guilty:
        people[number]["email"] = f"{POISON}{number}@example.org"
    id = await here.mailer.start_campaign(letter(), people)
    async with kept_up(here, TEST_POISON=how) as ended:
        assert await here.over(id, within=60) == {"sent": 120 - len(guilty), "failed": len(guilty)}
    failed = {(line.to, line.reason) async for line in here.mailer.outcomes(id) if line.state == "failed"}
    assert failed == {(f"{POISON}{number}@example.org", REASON) for number in guilty}
    assert set(ended) == {ENDS[how]}
    assert len(ended) <= 3 * len(guilty)
    assert accepted(here.ses) == Counter(row["email"] for row in people if POISON not in row["email"])


async def test_who_takes_workers_along_is_failed_after_three_starts_and_nobody_else(workers: Workers, settings: Settings) -> None:
    async with (
        place(workers, settings, "message-dies") as one,
        place(workers, settings, "message-hangs") as two,
        place(workers, settings, "row-dies") as three,
        place(workers, settings, "row-hangs") as four,
        place(workers, settings, "rows-die") as five,
    ):
        await together(
            a_message(one, "dies"),
            a_message(two, "hangs"),
            some_of_many(three, "dies", 37),
            some_of_many(four, "hangs", 119),
            some_of_many(five, "dies", 20, 80),
        )


async def test_workers_that_are_killed_and_replaced_ten_times_fail_nobody(workers: Workers, settings: Settings) -> None:
    """Whatever they were at. The leases are short, so that each death is found before the next."""
    dice, people, short = random.Random(5), rows(500), {"TEST_POISON": "dies"}
    async with place(workers, settings, "killed") as here:
        here.ses.faults.set([Fault(kind=Kind.LATENCY, operation="SendBulkEmail", probability=0.5, seconds=0.5)])
        id = await here.mailer.start_campaign(letter(max_rate=40), people)
        others = [await send(here.mailer, to) for to in INNOCENT]
        for turn in range(10):
            one = await start(here, **short)
            await asyncio.sleep(dice.uniform(0.7, 1.5))
            assert "queued" in await here.counts(id), "the campaign was over before it could be disturbed"
            one.signal(signal.SIGTERM if turn % 3 == 2 else signal.SIGKILL)
            await one.ended()
        async with kept_up(here, **short) as ended:
            counts = await here.until(id, lambda counts: not counts.keys() & {"queued", "claimed"}, within=60)
            messages = {(await ends(here.mailer, one))[0] for one in others}
        assert ended == []
        assert counts.keys() <= {"sent", "unknown"}
        assert messages <= {"sent", "unknown"}
        assert sum(counts.values()) == len(people)
        assert set(accepted(here.ses).values()) == {1}
