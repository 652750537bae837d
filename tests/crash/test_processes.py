"""Real worker processes, killed, stopped and cut off from Redis in the middle of a campaign. SES's own log is the judge."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mailer import Campaign, CampaignId, Email, Lane, Mailer, Settings, State
from mailer.ledger.intake import CHUNK_ROWS
from mailer.simulator import AccountChange, Fault, Kind, Simulator, SimulatorConfig, change_account
from worker.lanes import MAX_JOBS

from ..conftest import simulated_ses
from ..servers import RedisServer
from .workers import worker

ROWS = 3000
RATE = 600.0  # recipients per second, so that a campaign takes five seconds and is hit in the middle


@pytest.fixture
async def slow_ses(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=RATE, max_24h=1_000_000)) as simulator:
        simulator.faults.set([Fault(kind=Kind.LATENCY, operation="SendBulkEmail", seconds=0.05)])
        yield simulator


@pytest.fixture
def durable_server() -> Iterator[RedisServer]:
    """One that has on its disk what it answered to."""
    server = RedisServer(appendfsync="always")
    server.start()
    yield server
    server.remove()


def rows(n: int = ROWS) -> list[dict[str, str]]:
    return [{"email": f"u{i}@example.org", "name": f"N{i}"} for i in range(n)]


def letter() -> Campaign:
    return Campaign(name="June", from_="letter@example.com", template="letter")


def accepted(ses: Simulator) -> Counter[str]:
    return Counter(address for entry in ses.log for address in entry.recipients)


async def over(mailer: Mailer, id: str, within: float = 80) -> dict[str, int]:
    async with asyncio.timeout(within):
        status = await mailer.wait(CampaignId(id), every_s=0.1)
    assert status.state is State.FINISHED
    return status.counts


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_redis_going_away_and_coming_back_needs_no_restart_and_costs_nothing_but_time(
    durable_server: RedisServer, slow_ses: Simulator, templates: Path, tmp_path: Path, how: signal.Signals, namespace: str
) -> None:
    settings = Settings(redis_url=durable_server.url, namespace=namespace, templates_dir=templates)
    async with worker(settings, tmp_path) as one:
        await one.ready()
        async with Mailer(settings) as mailer:
            id = await mailer.start_campaign(letter(), rows())
            await asyncio.sleep(1.5)
        await asyncio.to_thread(durable_server.stop, how)
        await asyncio.sleep(1)
        assert (await one.get("/healthz"))[0] == 200
        status, body = await one.get("/readyz")
        assert (status, json.loads(body or b'{"redis": {"ok": false}}')["redis"]["ok"]) == (503, False)
        await asyncio.to_thread(durable_server.start)
        async with Mailer(settings) as mailer:
            assert await over(mailer, id) == {"sent": ROWS}
            assert not one.status.done()
            await one.ready()
        assert accepted(slow_ses) == Counter({row["email"]: 1 for row in rows()})
        assert "Traceback" not in one.log.read_text()


async def test_two_workers_share_a_campaign_and_no_chunk_is_worked_on_by_both(
    settings: Settings, slow_ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    count = (MAX_JOBS[Lane.BULK] + 2) * CHUNK_ROWS  # more chunks than one of them works on at a time
    change_account(slow_ses, AccountChange(max_send_rate=2.5 * RATE))
    async with worker(settings, tmp_path) as one, worker(settings, tmp_path) as two:
        await one.ready()
        await two.ready()
        id = await mailer.start_campaign(letter(), rows(count))
        assert await over(mailer, id) == {"sent": count}
        sent = [(await w.get("/metrics"))[1] for w in (one, two)]
    assert set(accepted(slow_ses).values()) == {1}
    assert slow_ses.counts["throttled"] == 0
    per_worker = [_metric(text, 'mailer_recipients_total{lane="bulk",state="sent"}') for text in sent]
    assert sum(per_worker) == count
    assert min(per_worker) > 0


def _metric(text: bytes, name: str) -> float:
    return next(float(line.rsplit(" ", 1)[1]) for line in text.decode().splitlines() if line.startswith(name + " "))


@pytest.mark.parametrize("lane", ["BulkSettings", "TransactionalSettings"])
async def test_a_lane_is_served_the_plain_arq_way(
    settings: Settings, slow_ses: Simulator, mailer: Mailer, tmp_path: Path, lane: str
) -> None:
    arq = str(Path(sys.executable).parent / "arq")
    async with worker(settings, tmp_path, arq, f"worker.{lane}") as one:
        if lane == "BulkSettings":
            id = await mailer.start_campaign(letter(), rows(200))
            assert await over(mailer, id) == {"sent": 200}
        else:
            message = await mailer.send(Email(to="a@example.org", from_="b@example.com", subject="s", text="t"))
            async with asyncio.timeout(20):
                while (await mailer.status(message)).state != "sent":
                    await asyncio.sleep(0.05)
        one.signal(signal.SIGTERM)
        await one.ended()
        text = one.log.read_text()
    assert "Traceback" not in text
    assert "example.org" not in text


async def test_a_lane_that_a_process_does_not_serve_is_left_to_others(
    settings: Settings, slow_ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    async with worker(settings, tmp_path, MAILER_LANES="transactional") as one:
        await one.ready()
        id = await mailer.start_campaign(letter(), rows(10))
        message = await mailer.send(Email(to="a@example.org", from_="b@example.com", subject="s", text="t"))
        async with asyncio.timeout(20):
            while (await mailer.status(message)).state != "sent":
                await asyncio.sleep(0.05)
        assert (await mailer.campaign(id)).counts == {"queued": 10}


async def test_the_worker_says_in_one_line_what_is_wrong_at_its_start(settings: Settings, tmp_path: Path) -> None:
    table = [
        ({"MAILER_REDIS_URL": "redis://127.0.0.1:9/0"}, "Redis at redis://127.0.0.1:9/0 cannot be used: nothing answers there."),
        ({"MAILER_REDIS_URL": "redis://:secret@127.0.0.1:9/0"}, "Redis at redis://***@127.0.0.1:9/0 cannot be used"),
        ({"MAILER_REDIS_URL": "http://x"}, "use redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"),
        ({"MAILER_LANES": "express"}, "`lanes`"),
        ({"AWS_REGION": ""}, "set AWS_REGION"),
    ]
    for extra, words in table:
        async with worker(settings, tmp_path, **extra) as one:
            assert await one.ended() == 1
            text = one.log.read_text()
        assert words in text
        assert len(text.strip().splitlines()) == 1
        assert "Traceback" not in text
        assert "secret" not in text


@pytest.mark.parametrize("name", ["BulkSettings", "TransactionalSettings"])
async def test_arqs_own_command_says_in_one_line_what_is_wrong_at_its_start(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    arq = (str(Path(sys.executable).parent / "arq"), f"worker.{name}")
    for extra, words in (
        ({"MAILER_REDIS_URL": "redis://127.0.0.1:9/0"}, "nothing answers there"),
        ({"AWS_REGION": ""}, "AWS_REGION"),
    ):
        async with worker(settings, tmp_path, *arq, **extra) as one:
            assert await one.ended() == 1
            text = one.log.read_text()
        assert words in text
        assert len(text.strip().splitlines()) == 1


async def test_a_call_that_is_under_way_while_redis_restarts_is_settled_before_the_worker_ends(
    own_server: RedisServer, ses: Simulator, templates: Path, tmp_path: Path, namespace: str
) -> None:
    ses.faults.set([Fault(kind=Kind.LATENCY, operation="SendBulkEmail", seconds=5)])
    settings = Settings(redis_url=own_server.url, namespace=namespace, templates_dir=templates)
    async with worker(settings, tmp_path, MAILER_BULK_CALLS_PER_S="unlimited") as one:
        await one.ready()
        async with Mailer(settings) as mailer:
            id = await mailer.start_campaign(letter(), rows(50))
            async with asyncio.timeout(10):
                while (await mailer.campaign(id)).counts.get("claimed") != 50:
                    await asyncio.sleep(0.05)
        await asyncio.to_thread(own_server.stop)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(own_server.start)
        await asyncio.sleep(1)
        one.signal(signal.SIGTERM)
        assert await one.ended(20) == 0
    async with Mailer(settings) as mailer:
        assert (await mailer.campaign(id)).counts == {"sent": 50}
    assert set(accepted(ses).values()) == {1}
