"""The gate of the account's quota, on Redis's clock and in real time. test_limiter_model.py moves the clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from mailer import Mailer, Settings
from mailer.ledger import Ledger
from mailer.message.email import Lane
from mailer.quota.gate import Admission, AdmissionStatus, Quota
from mailer.quota.limiter import RateRequest, Throttle
from mailer.quota.state import AccountStates
from mailer.simulator import AccountChange, Fault, Kind, Simulator, SimulatorConfig, change_account
from worker import maintenance
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses
from .limiter import ACCOUNT, STATE, wish
from .test_delivery import accepted, finished, letter, parked_with, rows


@pytest.fixture
def accounts(ledger: Ledger) -> AccountStates:
    return AccountStates(ledger)


async def known(accounts: AccountStates, **changed: Any) -> None:
    await accounts.store(ACCOUNT, {**STATE, **changed}, answered=await accounts.answered(ACCOUNT))


def quota(ledger: Ledger, **options: Any) -> Quota:
    return Quota(ledger, ACCOUNT, **{"lower_rate": None, "refresh_s": 60, **options})


async def test_what_would_wait_longer_than_its_patience_gives_up_and_takes_no_place(
    ledger: Ledger, accounts: AccountStates
) -> None:
    await known(accounts, max_send_rate=1.0)
    gate = quota(ledger)
    assert (await gate.admit(wish(3, least=3), patience_s=0.1)).status is AdmissionStatus.GO
    late = await gate.admit(wish(1), patience_s=0.1)
    assert late.status is AdmissionStatus.LATER
    assert late.retry_s > 0
    places = await ledger.redis.zcard(ledger.keys.places(ACCOUNT))
    assert places == 1


async def test_a_lower_rate_that_was_set_holds(ledger: Ledger, accounts: AccountStates) -> None:
    await known(accounts, max_send_rate=1000.0)
    gate = quota(ledger, lower_rate=20.0)
    assert (await gate.admit(wish(50, Lane.TRANSACTIONAL), patience_s=5)).recipients == 20


# ---- the account ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"sending_enabled": 0}, AdmissionStatus.PAUSED),
        ({"enforcement": "SHUTDOWN"}, AdmissionStatus.SUSPENDED),
        ({"max_24h": 10.0, "sent_24h": 10.0}, AdmissionStatus.DAILY),
        ({"max_send_rate": 0.0}, AdmissionStatus.PAUSED),
    ],
)
async def test_an_account_that_may_not_send_says_so(
    ledger: Ledger, accounts: AccountStates, changed: dict[str, Any], verdict: AdmissionStatus
) -> None:
    await known(accounts, **changed)
    admission = await quota(ledger).admit(wish(1, Lane.BULK, least=1), patience_s=1)
    assert admission.status is verdict
    assert admission.reason.startswith("waiting")


async def test_an_account_that_is_not_known_or_was_read_too_long_ago_lets_nothing_through(
    ledger: Ledger, accounts: AccountStates
) -> None:
    assert (await quota(ledger).admit(wish(1, Lane.BULK, least=1), patience_s=1)).status is AdmissionStatus.STALE
    await known(accounts)
    assert (await quota(ledger, refresh_s=0.05).admit(wish(1, Lane.BULK, least=1), patience_s=1)).status is AdmissionStatus.GO
    await asyncio.sleep(0.2)
    assert (await quota(ledger, refresh_s=0.05).admit(wish(1, Lane.BULK, least=1), patience_s=1)).status is AdmissionStatus.STALE


async def test_what_is_on_its_way_is_still_counted_after_the_account_was_read(ledger: Ledger, accounts: AccountStates) -> None:
    await known(accounts, max_send_rate=1000.0, max_24h=100.0)
    gate = quota(ledger)
    assert (await gate.admit(wish(60, Lane.BULK, least=60), patience_s=5)).status is AdmissionStatus.GO
    await known(accounts, max_send_rate=1000.0, max_24h=100.0)  # SES has not seen them yet
    assert (await gate.admit(wish(60, Lane.BULK, least=60), patience_s=5)).status is AdmissionStatus.DAILY
    await ledger.redis.hincrby(ledger.keys.account(ACCOUNT), "answered", 60)
    await known(accounts, max_send_rate=1000.0, max_24h=100.0, sent_24h=30.0)  # 30 of them were refused
    account = await accounts.load(ACCOUNT)
    assert account is not None
    assert account.used_24h == 30
    assert (await gate.admit(wish(60, Lane.BULK, least=60), patience_s=5)).status is AdmissionStatus.GO


async def test_the_quota_of_the_day_is_not_exceeded_with_slow_answers_and_frequent_reads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer
) -> None:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=500, max_24h=120)) as ses:
        ses.faults.set([Fault(kind=Kind.LATENCY, operation="SendBulkEmail", seconds=1.5)])
        async with running_worker(settings.model_copy(update={"account_refresh_s": 0.3})):
            id = await mailer.start_campaign(letter(), rows(400))
            await parked_with(mailer, id, "24 h quota")
            await asyncio.sleep(3)
        assert ses.counts["over_quota"] == 0
        assert 50 <= len(accepted(ses)) <= 120


# ---- calls of SendBulkEmail ----------------------------------------------------------------------------------------


async def ask(gate: Quota, seconds: float, every_s: float = 0.01, n: int = 1) -> int:
    """Ask for bulk calls all the time; how many there were."""
    calls, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        calls += (await gate.admit(wish(n, bulk=True), patience_s=1)).status is AdmissionStatus.GO
        await asyncio.sleep(every_s)
    return calls


async def test_a_pinned_number_of_bulk_calls_is_kept_and_single_messages_have_the_rest(
    ledger: Ledger, accounts: AccountStates
) -> None:
    await known(accounts, max_send_rate=1000.0)
    gate = quota(ledger, bulk_calls=5.0)
    assert 9 <= await ask(gate, 2.0) <= 11
    assert (await gate.admit(wish(1, Lane.BULK, bulk=True), patience_s=1)).status in (
        AdmissionStatus.GO,
        AdmissionStatus.SINGLES,
    )
    assert (await gate.admit(wish(10, Lane.BULK, least=10), patience_s=1)).status is AdmissionStatus.GO


async def test_unlimited_bulk_calls_are_bound_by_the_rate_alone(ledger: Ledger, accounts: AccountStates) -> None:
    await known(accounts, max_send_rate=1000.0)
    assert await ask(quota(ledger, bulk_calls="unlimited"), 0.5) > 20


async def learnt(ledger: Ledger) -> float:
    return float(await ledger.redis.hget(ledger.keys.calls(ACCOUNT), "rate") or 0)


async def test_what_is_learnt_begins_at_one_and_doubles_after_every_second_that_was_used_up(
    ledger: Ledger, accounts: AccountStates
) -> None:
    await known(accounts, max_send_rate=10_000.0)
    gate = quota(ledger)
    assert await ask(gate, 0.9) == 1
    assert await learnt(ledger) == 1
    await ask(gate, 2.3)
    assert await learnt(ledger) in (4, 8)


async def test_what_is_not_used_up_does_not_rise(ledger: Ledger, accounts: AccountStates) -> None:
    await known(accounts, max_send_rate=10_000.0)
    gate = quota(ledger)
    for _ in range(3):
        assert (await gate.admit(wish(1, Lane.BULK, bulk=True), patience_s=1)).status is AdmissionStatus.GO
        await asyncio.sleep(1.1)
    assert await learnt(ledger) == 1


async def test_a_refusal_halves_it_once_and_gives_back_the_place_in_the_rate(ledger: Ledger, accounts: AccountStates) -> None:
    await known(accounts, max_send_rate=50.0)
    await ledger.redis.hset(ledger.keys.calls(ACCOUNT), mapping={"rate": 8, "good": 4, "since": 1})
    gate = quota(ledger)
    given = await gate.admit(wish(50, Lane.TRANSACTIONAL, bulk=True), patience_s=1)
    assert given.recipients == 50
    await gate.refused(Throttle.CALLS, given.place)
    await gate.refused(Throttle.CALLS)  # one that was under way at the same time
    assert await learnt(ledger) == 4
    started = time.monotonic()
    assert (await gate.admit(wish(50, Lane.BULK, least=50), patience_s=2)).status is AdmissionStatus.GO
    assert time.monotonic() - started < 0.5, "without the place that was given back this would take a second"
    await ask(gate, 2.5, n=1)
    assert await learnt(ledger) < 8, "it does not run into the same refusal at once"


@pytest.mark.parametrize("limit", [1.0, 3.0])
async def test_a_limit_of_bulk_calls_costs_nobody_and_the_rate_is_used_by_single_messages(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer, limit: float
) -> None:
    config = SimulatorConfig(max_send_rate=200, max_24h=-1, bulk_calls_per_s=limit)
    async with simulated_ses(monkeypatch, config) as ses:
        async with running_worker(settings.model_copy(update={"bulk_calls_per_s": "auto"})):
            id = await mailer.start_campaign(letter(), rows(1000))
            status = await finished(mailer, id, 30)
        assert status.counts == {"sent": 1000}
        assert set(accepted(ses).values()) == {1}
        assert ses.counts["throttled"] == 0
        operations = {entry.operation for entry in ses.log}
        assert operations == {"SendEmail", "SendBulkEmail"}
        assert status.rate >= 0.7 * 200, "bulk calls alone would reach a quarter of it; `make bench` has the figure"


async def test_what_was_admitted_and_may_not_be_claimed_any_more_is_given_back(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit, given = Quota.admit, []

    async def paused_meanwhile(self: Quota, asked: RateRequest, *, patience_s: float) -> Admission:
        admission = await admit(self, asked, patience_s=patience_s)
        given.append(admission.recipients)
        await mailer.pause(asked.flow)
        return admission

    monkeypatch.setattr(Quota, "admit", paused_meanwhile)
    await mailer.start_campaign(letter(), rows(40))
    async with asyncio.timeout(10):
        while not given or await runtime.redis.zcard(runtime.ledger.keys.places(ACCOUNT)):
            await asyncio.sleep(0.02)
    assert given == [40]
    assert not ses.log
    account = await runtime.accounts.load(ACCOUNT)
    assert account is not None
    assert account.used_24h == 0


async def test_a_campaigns_own_rate_is_kept_beside_another_that_has_the_rest(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer
) -> None:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=300, max_24h=-1)) as ses, running_worker(settings):
        slow = await mailer.start_campaign(letter(name="slow", max_rate=20), rows(2000))
        fast = await mailer.start_campaign(
            letter(name="fast"), [{"email": f"f{i}@example.org", "name": "F"} for i in range(3000)]
        )
        await asyncio.sleep(5)
        counts = [(await mailer.campaign(id)).counts.get("sent", 0) for id in (slow, fast)]
        assert ses.counts["throttled"] == 0
    assert 60 <= counts[0] <= 110
    assert counts[1] >= 800


async def test_a_quota_that_is_cut_is_obeyed_within_one_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer
) -> None:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=400, max_24h=-1)) as ses:
        async with running_worker(settings.model_copy(update={"account_refresh_s": 0.2})) as runtime:
            id = await mailer.start_campaign(letter(), rows(2000))
            await asyncio.sleep(1)
            change_account(ses, AccountChange(max_send_rate=50))
            await maintenance.read_accounts(runtime)
            await asyncio.sleep(0.6)
            before = len(ses.log)
            await asyncio.sleep(2)
            assert len(ses.log) - before <= 50 * 2 + 25
        assert (await mailer.campaign(id)).counts["queued"] > 0


@pytest.mark.parametrize(
    ("text", "setting"), [("Too many requests", "unlimited"), ("Maximum sending rate exceeded.", "auto"), ("", "auto")]
)
async def test_bulk_calls_that_are_all_refused_are_given_up_for_single_messages_whatever_the_text(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer, text: str, setting: str
) -> None:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=300, max_24h=-1)) as ses:
        refused: Any = {"code": "TooManyRequestsException", "status": 429, "message": text}
        ses.faults.set([Fault(kind=Kind.ERROR, operation="SendBulkEmail", **refused)])
        async with running_worker(settings.model_copy(update={"bulk_calls_per_s": setting})):
            id = await mailer.start_campaign(letter(), rows(600))
            assert (await finished(mailer, id, 30)).counts == {"sent": 600}
        assert set(accepted(ses).values()) == {1}
        assert ses.counts["SendBulkEmail"] < 15, "no loop of refusals"
