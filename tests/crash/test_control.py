"""Deploys, stalls and a person's word in the middle of a campaign: real workers, each scenario with a namespace and an SES of
its own, several beside each other. SES's log is the judge of who got what, and when.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailer import Campaign, CampaignId, Mailer, Settings, State
from mailer.simulator import Fault, Kind, Simulator, SimulatorConfig
from mailer.simulator import serve as serve_ses

from .test_processes import accepted, rows
from .workers import Worker, Workers

SOON_S = 1.0  # within which a person's word is effective, from when the call returned
WAKING_S = 0.5  # more, for a machine that does other things: workers look into their queue 20 times a second
RATE = 200.0  # recipients per second of these campaigns
DEPLOY_SLACK_S = 2.0  # what ten deploys and slow calls may add to the time that the rate needs
DRAIN_S = 5.0  # a slow call of one second and what a loaded machine makes of it


def letter(max_rate: float | None = None) -> Campaign:
    return Campaign(name="June", from_="letter@example.com", template="letter", max_rate=max_rate)


@dataclass(frozen=True, slots=True)
class Place:
    """One installation: a namespace, an SES and worker processes."""

    workers: Workers
    settings: Settings
    mailer: Mailer
    ses: Simulator
    url: str

    async def start(self, n: int = 1, *, url: str | None = None) -> list[Worker]:
        extra = {"AWS_ENDPOINT_URL_SESV2": url or self.url, "MAILER_BULK_CALLS_PER_S": "unlimited"}
        started = [await self.workers.start(self.settings, **extra) for _ in range(n)]
        await asyncio.gather(*(one.ready() for one in started))
        return started

    async def counts(self, id: str) -> dict[str, int]:
        return (await self.mailer.campaign(id)).counts

    async def until(self, id: str, condition: Callable[[dict[str, int]], bool], within: float = 30) -> dict[str, int]:
        async with asyncio.timeout(within):
            while not condition(counts := await self.counts(id)):
                await asyncio.sleep(0.02)
        return counts

    async def over(self, id: str, within: float = 40) -> dict[str, int]:
        async with asyncio.timeout(within):
            return (await self.mailer.wait(CampaignId(id), every_s=0.05)).counts

    async def people(self, id: str, *states: str) -> set[str]:
        return {line.to async for line in self.mailer.outcomes(id) if line.state in states}


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    async with Workers(tmp_path) as workers:
        yield workers


@asynccontextmanager
async def place(workers: Workers, settings: Settings, name: str) -> AsyncIterator[Place]:
    simulator = Simulator(SimulatorConfig(max_send_rate=5000, max_24h=1_000_000))
    own = settings.model_copy(update={"namespace": f"{settings.namespace}{name}"})
    async with serve_ses(simulator) as url, Mailer(own) as mailer:
        yield Place(workers, own, mailer, simulator, url)


async def together(*scenarios: Awaitable[None]) -> None:
    """All to their end, and the first that failed."""
    failed = [found for found in await asyncio.gather(*scenarios, return_exceptions=True) if found is not None]
    if failed:
        raise failed[0]


# ---- deploys -------------------------------------------------------------------------------------------------------


async def deploys(here: Place, seed: int) -> None:
    """Three workers, each replaced again and again: the new one is ready, then the old one is told to stop, maybe twice."""
    dice, n, in_the_middle = random.Random(seed), 3200, 0
    here.ses.faults.set([Fault(kind=Kind.LATENCY, operation="SendBulkEmail", probability=0.3, seconds=1)])
    running = await here.start(3)
    id = await here.mailer.start_campaign(letter(max_rate=RATE), rows(n))
    ends = list[asyncio.Task[None]]()
    for turn in range(10):
        running += await here.start()
        if turn % 3:  # else most of them wait for their turn in the rate
            await here.until(id, lambda counts: "claimed" in counts or "queued" not in counts)
        in_the_middle += "queued" in await here.counts(id)
        ends.append(asyncio.create_task(stopped(running.pop(0), again_after_s=dice.uniform(0, 0.2) if turn % 2 else None)))
        await asyncio.sleep(dice.uniform(0, 0.3))
    await asyncio.gather(*ends)
    assert in_the_middle >= 7, "the campaign was over before it could be disturbed"
    counts = await here.over(id)
    assert counts == {"sent": n}
    assert (len(accepted(here.ses)), set(accepted(here.ses).values())) == (n, {1})
    at = [entry.at for entry in here.ses.log]
    assert max(at) - min(at) < n / RATE + DEPLOY_SLACK_S


async def stopped(worker: Worker, *, again_after_s: float | None) -> None:
    told = time.monotonic()
    worker.signal(signal.SIGTERM)
    if again_after_s is not None:
        await asyncio.sleep(again_after_s)
        worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert time.monotonic() - told < DRAIN_S
    assert "Traceback" not in worker.log.read_text()


# ---- stalls --------------------------------------------------------------------------------------------------------


async def stalled(here: Place, how: signal.Signals, *, waiting: bool = False) -> None:
    """A worker stops for longer than its lease, with most of its chunk still to be sent, and another goes on with that: either
    with a call under way, or while it waits for its turn in the rate, after which a claim is what comes next.

    Each has its SES, so that it is known who sent what.
    """
    n, max_rate = (80, 20.0) if waiting else (500, None)
    other = Simulator(SimulatorConfig(max_send_rate=5000, max_24h=1_000_000))
    for simulator, seconds in ((here.ses, 0.0 if waiting else 1.0), (other, 4.0)):  # until well after the first is back
        simulator.faults.set([Fault(kind=Kind.LATENCY, operation="SendBulkEmail", seconds=seconds)])
    async with serve_ses(other) as url:
        (one,) = await here.start()
        id = await here.mailer.start_campaign(letter(max_rate), rows(n))
        await here.until(id, lambda _: here.ses.faults.fired[0] > 0)  # SES has its call
        one.signal(how)
        while waiting and (
            "sent" not in (counts := await here.counts(id)) or "claimed" in counts
        ):  # it has to be between two calls
            one.signal(signal.SIGCONT)
            await asyncio.sleep(0.01)
            one.signal(how)
        await here.start(url=url)
        await here.until(id, lambda counts: "claimed" in counts and (waiting or counts.get("unknown") == 50))
        own = len(here.ses.log)
        if waiting:
            await asyncio.sleep(10 / (max_rate or 1))  # then the rate has room again, and it gets what it waited for
        if how is signal.SIGSTOP:
            one.signal(signal.SIGCONT)
        await here.until(id, lambda counts: "unknown" not in counts)
        await asyncio.sleep(1)  # it claims at once, if it does; the other one has the chunk for longer
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        assert len(here.ses.log) == own < n
        other.faults.set([])
        assert await here.over(id) == {"sent": n}
    found = accepted(here.ses) + accepted(other)
    assert (len(found), set(found.values())) == (n, {1})
    assert "Traceback" not in one.log.read_text()


# ---- a person's word -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Person:
    """Somebody at several terminals, who says each word at all of them at once, and once more."""

    here: Place
    id: str
    terminals: Sequence[Mailer]
    running: list[Worker]
    dice: random.Random
    kills: int = 0
    held: int = 0  # pauses that were long enough to be looked at

    async def say(self, word: Callable[[Mailer], Awaitable[bool]]) -> None:
        changed = await asyncio.gather(*(word(terminal) for terminal in self.terminals))
        before = await self.here.counts(self.id)
        assert sorted(changed) == [*[False] * (len(changed) - 1), True]
        assert await word(self.dice.choice(self.terminals)) is False
        after = await self.here.counts(self.id)
        assert sum(before.values()) == sum(after.values()) == (await self.here.mailer.campaign(self.id)).rows

    async def pause_and_resume(self, *, killing: bool) -> None:
        await self.say(lambda terminal: terminal.pause(self.id))
        since = time.time()
        before = await self.here.counts(self.id)
        if killing:
            await self.kill()
        await asyncio.sleep(self.dice.choice([0, 0.3, SOON_S + 0.4]))
        counts, until = await self.here.counts(self.id), time.time()
        assert counts["queued"] >= before["queued"], "claimed while it was paused"
        late = [entry.at for entry in self.here.ses.log if since + SOON_S < entry.at < until]
        assert late == []
        self.held += until - since > SOON_S
        await self.say(lambda terminal: terminal.resume(self.id))
        resumed = time.time()
        if not self.kills:  # else the chunks that come next may be a dead worker's, until its lease is over
            async with asyncio.timeout(10):
                while not (later := [entry.at for entry in self.here.ses.log if entry.at >= until]):
                    await asyncio.sleep(0.02)
            assert later[0] - resumed < SOON_S + WAKING_S

    async def kill(self) -> None:
        old = self.running.pop(self.dice.randrange(len(self.running)))
        old.signal(signal.SIGKILL)
        self.running += await self.here.start()
        await old.ended()
        self.kills += 1

    async def cancel(self) -> None:
        await self.say(lambda terminal: terminal.cancel(self.id))
        since, counts = time.time(), await self.here.counts(self.id)
        assert counts.keys() <= {"sent", "claimed", "cancelled", "unknown"}
        assert counts["cancelled"] > 0
        await asyncio.sleep(SOON_S + 0.3)
        assert [entry.at for entry in self.here.ses.log if entry.at > since + SOON_S] == []


async def minds_changed(here: Place, seed: int, *, killing: bool = False, cancelled: bool) -> None:
    """Pause and resume at random instants, then cancel, or the end and a retry of who is in doubt."""
    dice, n = random.Random(seed), 2400
    here.ses.faults.set([Fault(kind=Kind.LATENCY, operation="SendBulkEmail", seconds=0.1)])
    async with AsyncExitStack() as stack:
        terminals = [here.mailer, *[await stack.enter_async_context(Mailer(here.settings)) for _ in range(2)]]
        running = await here.start(2)
        id = await here.mailer.start_campaign(letter(max_rate=1.25 * RATE), rows(n))
        person = Person(here, id, terminals, running, dice)
        await here.until(id, lambda counts: counts.get("sent", 0) > 0)
        for turn in range(5):
            await asyncio.sleep(dice.uniform(0, 0.4))
            if killing and turn % 2:
                await person.kill()
            await person.pause_and_resume(killing=killing and turn % 2 == 0)
        assert person.held > 0
        if cancelled:
            await person.cancel()
        counts = await here.over(id)
        found, unknown = accepted(here.ses), await here.people(id, "unknown")
        assert set(found.values()) == {1}
        assert sum(counts.values()) == n
        assert counts.keys() <= {"sent", "unknown", *(["cancelled"] if cancelled else [])}
        assert bool(unknown) <= killing
        assert await here.people(id, "sent") <= set(found)
        assert not await here.people(id, "cancelled") & set(found)
        if unknown and not cancelled:
            await retried(person, unknown)


async def retried(person: Person, unknown: set[str]) -> None:
    """Who is in doubt gets it, once more where SES had accepted it; nobody else does, however often a retry is asked for."""
    here, id, before = person.here, person.id, accepted(person.here.ses)
    queued = await asyncio.gather(*(terminal.retry(id, ["unknown"]) for terminal in person.terminals))
    since = time.time()
    assert sum(queued) == len(unknown)
    assert await here.mailer.retry(id, ["unknown"]) == 0
    counts, status = await here.over(id), await here.mailer.campaign(id)
    assert (counts, status.state) == ({"sent": status.rows}, State.FINISHED)
    assert accepted(here.ses) - before == Counter(unknown)
    assert min(entry.at for entry in here.ses.log if entry.at > since) - since < SOON_S + WAKING_S


# ---- all of it -----------------------------------------------------------------------------------------------------


@pytest.mark.alone
async def test_a_campaign_goes_on_through_ten_deploys_and_does_what_it_is_told_within_a_second(
    workers: Workers, settings: Settings
) -> None:
    async with (
        place(workers, settings, "deploys") as first,
        place(workers, settings, "finished") as second,
        place(workers, settings, "cancelled") as third,
    ):
        await together(deploys(first, 1), minds_changed(second, 2, cancelled=False), minds_changed(third, 3, cancelled=True))


async def test_workers_that_stall_or_die_while_people_change_their_minds_send_to_nobody_twice(
    workers: Workers, settings: Settings
) -> None:
    async with (
        place(workers, settings, "stopped") as first,
        place(workers, settings, "waiting") as second,
        place(workers, settings, "hung") as third,
        place(workers, settings, "finished") as fourth,
        place(workers, settings, "cancelled") as fifth,
    ):
        await together(
            stalled(first, signal.SIGSTOP),
            stalled(second, signal.SIGSTOP, waiting=True),
            stalled(third, signal.SIGUSR1),
            minds_changed(fourth, 4, killing=True, cancelled=False),
            minds_changed(fifth, 5, killing=True, cancelled=True),
        )
