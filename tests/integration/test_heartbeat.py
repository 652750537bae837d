"""Which workers are alive, and that everybody is told where nobody sends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from mailer import Campaign, Email, Lane, Mailer, Settings, State
from mailer.accounts.overview import view_account
from mailer.cli import account as account_command
from mailer.cli import campaign as campaign_command
from mailer.cli import campaign_watch
from mailer.cli import status as status_command
from mailer.cli.account import account_json
from mailer.cli.accounts import open_reach
from mailer.ledger import census as census_module
from mailer.ledger.census import take
from mailer.ledger.parking import Parked
from mailer.ledger.workers import LIFE_S, nobody_serves, said, served
from mailer.simulator import Simulator
from worker import heartbeat
from worker.runtime import Runtime

from ..conftest import running_worker
from .test_delivery import FROM, letter, rows, settled
from .test_doctor import OK, WRONG, changed, look, told


async def served_by(mailer: Mailer, lane: Lane) -> bool:
    return served(await mailer.workers())[lane] > 0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_lane_that_has_work_and_no_worker_is_wrong_whoever_has_asked_ses_meanwhile(
    settings: Settings, ses: Simulator
) -> None:
    bulk_only = changed(settings, lanes=(Lane.BULK,))
    async with Mailer(settings) as mailer:
        id = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="Hello", text="…"))
        await mailer.start_campaign(Campaign(from_=FROM, subject="Hello", text="…"), [{"email": "bo@example.org"}])
        async with open_reach(settings, mailer._ledger, None) as ses_account:
            await view_account(settings, mailer._ledger, ses_account, refresh=True)  # as `mailer account --refresh` does
        found = told(await look(settings), "worker")
        assert (found[0], found[1].partition(" → ")[0]) == (
            WRONG, "no worker serves the transactional lane and the bulk lane, so nothing of it is sent: 2 recipients wait"
        )  # fmt: skip
        async with running_worker(bulk_only):
            await until(lambda: served_by(mailer, Lane.BULK))
            found = told(await look(settings), "worker")
            assert (found[0], found[1]) == (
                WRONG, "no worker serves the transactional lane, so nothing of it is sent: 1 recipient waits → start one "
                "(mailer worker), with transactional in its MAILER_LANES",
            )  # fmt: skip
            async with running_worker(changed(settings, lanes=(Lane.TRANSACTIONAL,))):
                await until(lambda: served_by(mailer, Lane.TRANSACTIONAL))
                await settled(mailer, id)
                assert told(await look(settings), "worker")[0] is OK


async def test_a_worker_says_who_it_is_what_it_serves_and_what_it_does_and_is_gone_when_it_stops(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    assert await mailer.workers() == []
    async with running_worker(settings) as runtime:
        await until(lambda: served_by(mailer, Lane.BULK))
        (worker,) = await mailer.workers()
        assert (worker.host, worker.pid, worker.owner) == (socket.gethostname(), os.getpid(), runtime.owner)
        assert (worker.lanes, worker.serving) == (settings.lanes, settings.lanes)
        assert (worker.doing, worker.since, worker.version) == ("idle", runtime.since, "0.1.0")
        keys = runtime.ledger.keys
        assert 0 < await runtime.redis.ttl(keys.worker(runtime.owner)) <= LIFE_S
        runtime.working = {f"c{n}-{chunk}": None for n in range(5) for chunk in range(9)}
        assert heartbeat.of(runtime, worker.seen_at).doing == "sending c0, c1, c2 and 2 more"
    assert await mailer.workers() == []
    assert await mailer._redis.exists(keys.workers, keys.worker(runtime.owner)) == 0


async def test_a_worker_that_dies_is_gone_a_moment_later_and_its_name_does_not_stay(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    async with Runtime(settings) as dead, Runtime(settings) as alive:
        for runtime in (dead, alive):
            runtime.serving.add(Lane.BULK)
            await heartbeat.beat(runtime)
            await heartbeat.beat(runtime)  # nothing new, and no time has passed
        assert len(await mailer.workers()) == 2
        await mailer._redis.delete(dead.ledger.keys.worker(dead.owner))  # as when its time is over
        assert [one.owner for one in await mailer.workers()] == [alive.owner]
        await mailer._redis.zadd(alive.ledger.keys.workers, {dead.owner: 1})
        alive.serving.clear()
        await heartbeat.beat(alive)
        assert await mailer._redis.zrange(alive.ledger.keys.workers, 0, -1) == [alive.owner.encode()]
        assert served(await mailer.workers()) == {Lane.TRANSACTIONAL: 0, Lane.BULK: 0}


@pytest.mark.parametrize("lane", list(Lane))
async def test_status_and_account_say_where_no_worker_is_and_who_is_there(
    settings: Settings,
    ses: Simulator,
    mailer: Mailer,
    lane: Lane,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAILER_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("MAILER_NAMESPACE", settings.namespace)
    other = next(one for one in Lane if one is not lane)
    message = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="Hello", text="…", lane=lane))
    campaign = await mailer.start_campaign(Campaign(from_=FROM, subject="Hello", text="…", lane=lane), rows(3))

    async def shown() -> list[str]:
        await status_command._message(message, False)
        await campaign_command.show(campaign, False)
        await account_command._account(None, False, False)
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    async with running_worker(settings.model_copy(update={"lanes": (other,)})):
        await until(lambda: served_by(mailer, other))
        sentence = f"workers no worker serves the {lane.value} lane, so nothing of it is sent; start one (mailer worker), with "
        lines = await shown()
        assert sum(line.startswith(sentence) for line in lines) == 2
        assert f"workers 1: {socket.gethostname()}:{os.getpid()} ({other.value}); idle" in lines
        waiting = next(line for line in lines if line.startswith("recipients that wait"))
        assert f" 4 {lane.value}, the oldest since 20" in waiting
        async with open_reach(settings, mailer._ledger, None) as ses_account:
            found = account_json(await view_account(settings, mailer._ledger, ses_account, refresh=False))
        assert (found["waiting"][lane.value]["recipients"], len(found["workers"])) == (4, 1)


async def test_watch_says_within_seconds_that_nobody_sends_and_no_more_when_somebody_does(
    settings: Settings, ses: Simulator, mailer: Mailer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_watch, "WATCH_EVERY_S", 0.02)
    monkeypatch.setattr(campaign_watch, "SAY_EVERY_S", 0.02)
    id = await mailer.start_campaign(letter(), rows(3))
    watching = asyncio.create_task(campaign_watch.follow(mailer, id))
    await asyncio.sleep(0.5)
    said_before = capsys.readouterr().err
    assert f"({nobody_serves([Lane.BULK])})" in said_before
    async with running_worker(settings):
        assert (await watching).state is State.FINISHED
    assert capsys.readouterr().err.splitlines()[-1].startswith("finished: 3 sent")


async def test_what_waits_is_counted_by_lane_wherever_it_is_and_what_waits_for_a_person_or_its_time_is_not(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    ledger, first = mailer._ledger, await mailer.start_campaign(letter(), rows(925))
    paused = await mailer.start_campaign(letter(), rows(100))
    await mailer.pause(paused)
    later = datetime.now(UTC) + timedelta(hours=1)
    await mailer.start_campaign(letter(send_at=later), rows(10))
    for more in ({}, {}, {"send_at": later}, {"lane": Lane.BULK}):
        await mailer.send(Email(to="ana@example.org", from_=FROM, subject="Hello", text="…", **more))
    census = await take(ledger)
    assert {lane: (one.recipients, one.jobs) for lane, one in census.lanes.items()} == {
        Lane.TRANSACTIONAL: (2, 2), Lane.BULK: (926, 3),
    }  # fmt: skip
    assert census.busy == list(Lane)
    created = int((await ledger.report.campaign(first)).created_at.timestamp())
    assert census.lanes[Lane.BULK].oldest_ms // 1000 == created
    assert {state: n for state, n in census.campaigns.items() if n} == {State.RUNNING: 1, State.PAUSED: 1, State.PLANNED: 1}
    await ledger.lifecycle.park(first, "waiting for the 24 h quota, about 310/h come free")
    census = await take(ledger)
    assert (census.lanes[Lane.BULK].recipients, census.lanes[Lane.BULK].jobs) == (926, 3)
    assert {parked: n for parked, n in census.parked.items() if n} == {Parked.QUOTA: 1}


async def test_of_many_messages_some_are_looked_at(
    settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "MESSAGES", 10)
    for _ in range(40):
        await mailer.send(Email(to="ana@example.org", from_=FROM, subject="Hello", text="…"))
    waiting = (await take(mailer._ledger)).lanes[Lane.TRANSACTIONAL]
    assert (waiting.recipients, waiting.jobs) == (40, 40)


def test_the_sentence_names_the_lanes_and_some_workers_by_their_place() -> None:
    assert nobody_serves(list(Lane)) == (
        "no worker serves the transactional lane and the bulk lane, so nothing of it is sent; start one (mailer worker)"
    )
    assert said([]) == ""
