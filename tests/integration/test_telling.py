"""What the workers' log says of campaigns and accounts: each change once for all workers, with its reason, and not to and fro."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailer import Mailer, Settings, State
from mailer.quota.state import KnownAccount
from mailer.simulator import AccountChange, Fault, Kind, Simulator, change_account
from worker import maintenance, settle, telling
from worker.runtime import Runtime

from ..conftest import running_worker
from .test_delivery import finished, letter, parked_with, rows, until

Line = MutableMapping[str, Any]


def of(logs: list[Line], id: str) -> list[tuple[str, str]]:
    return [(line["event"], line.get("reason", "")) for line in logs if line.get("id") == id]


@pytest.fixture
async def idle(settings: Settings, ses: Simulator) -> AsyncIterator[Runtime]:
    async with Runtime(settings) as runtime:
        yield runtime


class Teller:
    """Looks by hand, with a clock of the test's own."""

    def __init__(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime, self.ahead_ms = runtime, 0
        now_ms = runtime.ledger.now_ms

        async def moved() -> int:
            return await now_ms() + self.ahead_ms

        monkeypatch.setattr(runtime.ledger, "now_ms", moved)

    async def look(self, after_s: float = 0) -> list[tuple[str, str]]:
        """What is said of campaigns when that time has passed."""
        self.ahead_ms += int(after_s * 1000)
        await self.runtime.redis.delete(self.runtime.ledger.keys.telling)
        with capture_logs() as logs:
            await telling.tell(self.runtime)
        return [(line["event"], line.get("reason", "")) for line in logs if "id" in line]


@pytest.fixture
def teller(idle: Runtime, monkeypatch: pytest.MonkeyPatch) -> Teller:
    return Teller(idle, monkeypatch)


async def test_a_campaigns_way_through_several_workers_is_told_once_with_the_reasons(
    settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "STEADY_MS", 200)
    monkeypatch.setattr(settle, "PARK_S", 0.3)
    change_account(ses, AccountChange(sending_enabled=False))
    with capture_logs() as logs:
        async with running_worker(settings), running_worker(settings), running_worker(settings):
            id = await mailer.start_campaign(letter(max_rate=30), rows(120))
            await parked_with(mailer, id, "paused")
            await until_told(logs, id, "a campaign waits")
            change_account(ses, AccountChange(sending_enabled=True))
            await until(mailer, id, State.RUNNING)
            await until_told(logs, id, "a campaign goes on")
            await mailer.pause(id)
            await until_told(logs, id, "a campaign is paused")
            await mailer.resume(id)
            await until_told(logs, id, "a campaign goes on", times=2)
            await finished(mailer, id)
            await until_told(logs, id, "a campaign is finished")
    told = of(logs, id)
    assert [event for event, _ in told] == [
        "a campaign starts", "a campaign waits", "a campaign goes on", "a campaign is paused", "a campaign goes on",
        "a campaign is finished",
    ]  # fmt: skip
    assert told[1][1].startswith("waiting: sending is paused for this SES account")
    assert told[3][1].startswith("somebody paused it")
    end = next(line for line in logs if line["event"] == "a campaign is finished")
    assert (end["rows"], end["sent"], end["seconds"] > 0) == (120, 120, True)
    account = [line["event"] for line in logs if "SES account may" in line["event"]]
    assert account == ["the SES account may not send", "the SES account may send again"]
    assert "@" not in str(told)


async def until_told(logs: list[Line], id: str, event: str, times: int = 1) -> None:
    async with asyncio.timeout(15):
        while [found for found, _ in of(logs, id)].count(event) < times:
            await asyncio.sleep(0.02)


async def test_a_campaign_that_waits_for_a_quota_that_trickles_is_told_once_and_then_once_a_minute_at_most(
    teller: Teller, mailer: Mailer
) -> None:
    ledger = teller.runtime.ledger
    id = await mailer.start_campaign(letter(), rows(3))
    assert await teller.look() == [("a campaign starts", "")]
    quota = "waiting for the 24 h quota, about 310/h come free"
    await ledger.lifecycle.park(id, quota)
    assert await teller.look() == [("a campaign waits", quota)]
    for _ in range(50):  # some go, each two seconds
        await ledger.redis.hset(ledger.keys.container(id), mapping={"state": "running", "reason": ""})
        assert await teller.look(1) == []
        await ledger.lifecycle.park(id, f"{quota}; another number")
        assert await teller.look(1) == []
    lines = 0
    for _ in range(100):  # it goes on for ten seconds each time
        await ledger.redis.hset(ledger.keys.container(id), mapping={"state": "running", "reason": ""})
        lines += len(await teller.look(1) + await teller.look(9))
        await ledger.lifecycle.park(id, quota)
        lines += len(await teller.look(1))
    assert 10 <= lines <= 1100 // 60 + telling.FREELY
    await ledger.redis.hset(ledger.keys.container(id), mapping={"state": "running", "reason": ""})
    await teller.look(61)
    assert await teller.look(61) in ([], [("a campaign goes on", "")])
    await ledger.lifecycle.park(id, "waiting: sending is paused for this SES account; see the SES console")
    assert len(await teller.look(61)) == 1


async def test_another_reason_to_wait_is_told_and_what_somebody_does_is_told_at_once(teller: Teller, mailer: Mailer) -> None:
    ledger = teller.runtime.ledger
    id = await mailer.start_campaign(letter(), rows(3))
    await ledger.lifecycle.park(id, "waiting for the 24 h quota")
    assert [event for event, _ in await teller.look()] == ["a campaign starts", "a campaign waits"]
    await ledger.lifecycle.park(id, "waiting: the suppression list of SES has not been read yet")
    assert await teller.look() == [("a campaign waits", "waiting: the suppression list of SES has not been read yet")]
    await mailer.pause(id)
    assert [event for event, _ in await teller.look()] == ["a campaign is paused"]
    await mailer.cancel(id)
    assert [event for event, _ in await teller.look()] == ["a campaign is cancelled"]
    assert await teller.look(1) == []
    assert id.encode() not in await ledger.redis.hkeys(ledger.keys.told)


async def test_a_campaign_that_starts_and_ends_between_two_looks_is_told_and_old_ones_are_not(
    settings: Settings, ses: Simulator, mailer: Mailer, teller: Teller
) -> None:
    async with running_worker(settings.model_copy(update={"namespace": settings.namespace})) as worker:
        await worker.redis.set(worker.ledger.keys.telling, "x")  # nobody says anything
        id = await mailer.start_campaign(letter(), rows(3))
        await finished(mailer, id)
    assert [event for event, _ in await teller.look()] == ["a campaign starts", "a campaign is finished"]
    assert await teller.look(1) == []
    await teller.runtime.redis.delete(teller.runtime.ledger.keys.told)  # as where workers are started that say such things
    assert await teller.look(300) == []


async def test_one_that_waits_for_its_time_is_told_so_and_that_it_starts(teller: Teller, mailer: Mailer) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    id = await mailer.start_campaign(letter(send_at=later), rows(3))
    assert await teller.look() == [("a campaign waits for its time", f"to be sent at {later:%Y-%m-%dT%H:%M:%SZ}")]
    assert await teller.look(60) == []
    ledger = teller.runtime.ledger
    await ledger.redis.hset(ledger.keys.container(id), mapping={"state": "running", "reason": ""})
    assert await teller.look(1) == [("a campaign starts", "")]


async def test_a_campaign_that_is_stopped_by_a_configuration_error_is_told_once(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    with capture_logs() as logs:
        async with running_worker(settings):
            id = await mailer.start_campaign(letter(configuration_set="none"), rows(3000))
            await until(mailer, id, State.STOPPED)
            await until_told(logs, id, "a campaign is stopped")
    assert [event for event, _ in of(logs, id)] == ["a campaign starts", "a campaign is stopped"]
    assert "none" in of(logs, id)[1][1]


def known(**more: Any) -> KnownAccount:
    base: dict[str, Any] = {
        "region": "eu-west-1", "production": True, "sending_enabled": True, "enforcement": "HEALTHY", "max_send_rate": 14.0,
        "max_24h": 1000.0, "sent_24h": 0.0, "suppressed_reasons": frozenset[str](), "since": 0, "refreshed_at": None,
    }  # fmt: skip
    return KnownAccount(**(base | more))


def test_an_account_in_order_is_not_told_and_each_trouble_is_when_it_begins_and_when_it_is_over() -> None:
    history = [
        known(),
        known(sent_24h=1000.0),
        known(sent_24h=990.0),  # a little has come free: no news yet
        known(sent_24h=1000.0),
        known(sent_24h=900.0),
        known(enforcement="PROBATION"),
        known(enforcement="PROBATION"),
        known(enforcement="SHUTDOWN", sending_enabled=False),
        known(),
        known(sending_enabled=False),
        known(),
    ]
    told: bytes | None = None
    with capture_logs() as logs:
        for one in history:
            told = telling._account("eu-west-1", one, told)
    assert [line["event"] for line in logs] == [
        "the 24 h quota is used up",
        "some of the 24 h quota is free again",
        "the standing of the SES account has changed",
        "the SES account may not send",
        "the standing of the SES account has changed",
        "the SES account may send again",
        "the standing of the SES account has changed",
        "the SES account may not send",
        "the SES account may send again",
    ]
    standings = [(line["was"], line["standing"]) for line in logs if "standing" in line]
    assert standings == [("HEALTHY", "PROBATION"), ("PROBATION", "SHUTDOWN"), ("SHUTDOWN", "HEALTHY")]
    assert logs[3]["reason"].startswith("AWS has suspended sending for this SES account")
    assert logs[7]["reason"].startswith("sending is paused for this SES account")


async def test_an_account_that_cannot_be_read_is_told_once_a_minute_and_when_it_can_be_read_again(
    idle: Runtime, ses: Simulator
) -> None:
    ses.faults.set([Fault(operation="GetAccount", kind=Kind.ERROR, code="AccessDeniedException", status=403)])
    with capture_logs() as logs:
        for _ in range(5):
            await maintenance.read_accounts(idle)
        ses.faults.set([])
        await maintenance.read_accounts(idle)
    assert [line["event"] for line in logs] == [
        "the state of the SES account cannot be read", "the state of the SES account can be read again",
    ]  # fmt: skip
