"""A 24 h quota that ends in the middle of a campaign, over a week of a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter

import pytest

from mailer import Email, Lane, Mailer, Settings, State
from mailer.quota.gate import forecast
from mailer.quota.state import DAY_SLOTS, SLOT_S
from mailer.simulator import SimulatorConfig
from worker import maintenance
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses
from .test_delivery import accepted, letter, rows

MAX_24H = 500
RESERVE = 20
ROWS = 2900  # of 480 a day: six days and a bit
STEP_S = 6 * 3600
START_S = 1_800_000_000


async def idle(runtime: Runtime) -> None:
    """Everything that is due has had its turn, and nothing waits in arq's queues, where a job that waits a day is lost."""
    await maintenance.reap(runtime)
    async with asyncio.timeout(20):
        while any([await runtime.ledger.report.queue_depth(lane) for lane in Lane]):
            await asyncio.sleep(0.01)


@pytest.mark.timeout(120)
async def test_a_campaign_waits_for_the_24_h_quota_as_many_days_as_it_takes_and_costs_nobody_an_attempt(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "arq")
    now = float(START_S)
    config = SimulatorConfig(max_send_rate=100_000, max_24h=MAX_24H, clock=lambda: now, monotonic=lambda: now)
    slow = settings.model_copy(update={"account_refresh_s": 3600, "daily_reserve": RESERVE})
    key = f"{settings.namespace}:clock"
    clock = f"local function now_us() return tonumber(redis.call('GET', '{key}')) end\n"
    reasons, most = Counter[str](), 0
    async with simulated_ses(monkeypatch, config) as ses:
        redis = mailer._redis
        await redis.set(key, int(now * 1e6))
        id = await mailer.start_campaign(letter(), rows(ROWS))  # before the worker: by its clock the list's reader is long gone
        async with running_worker(slow, clock=clock) as runtime:
            for step in range(8 * 86_400 // STEP_S):
                now = START_S + step * STEP_S + 1.0
                await redis.set(key, int(now * 1e6))
                # What was read hours ago is not believed any more.
                for read in (maintenance.read_accounts, maintenance.read_suppression, maintenance.read_identities):
                    await read(runtime)
                for tick in range(60):  # the window's chunks, one after the other
                    if tick >= 4 and (await mailer.campaign(id)).state is not State.RUNNING:
                        break
                    now += 30
                    await redis.set(key, int(now * 1e6))
                    await maintenance.look_after_campaigns(runtime)
                    await idle(runtime)
                most = max(most, ses.quota.used())
                status = await mailer.campaign(id)
                if status.state is State.FINISHED:
                    break
                assert status.state is State.PARKED
                reasons[re.sub(r"about .*", "about", status.reason)] += 1
                if step % 4 == 2:
                    code = Email(to=f"code{step}@example.org", from_="a@example.com", subject="Code", text="1234")
                    message = await mailer.send(code)
                    while (state := (await mailer.status(message)).state) in ("queued", "claimed"):
                        now += 1  # what is put off for a moment waits by this clock, too
                        await redis.set(key, int(now * 1e6))
                        await idle(runtime)
                        await asyncio.sleep(0.05)
                    assert state == "sent", "the reserve is for this"
        assert ses.counts["over_quota"] == 0
    assert status.counts == {"sent": ROWS}
    assert (now - START_S) / 86_400 >= 6
    assert MAX_24H - RESERVE <= most <= MAX_24H
    bulk = {address: n for address, n in accepted(ses).items() if address.startswith("u")}
    assert (len(bulk), set(bulk.values())) == (ROWS, {1})
    assert {line.attempts async for line in mailer.outcomes(id)} == {1}
    assert set(reasons) == {"waiting for the 24 h quota, about"}
    assert not [record for record in caplog.records if "expired" in record.getMessage()]


# ---- what is said of it --------------------------------------------------------------------------------------------


NOW_S = 1_800_000_000.0
SLOT = int(NOW_S // SLOT_S)


def test_what_was_sent_a_day_ago_is_what_comes_free() -> None:
    assert forecast({SLOT - DAY_SLOTS: 200, SLOT - DAY_SLOTS + 9: 114, SLOT - 1: 600}, 914, NOW_S) == ", about 310/h come free"


def test_what_others_sent_is_taken_to_come_free_evenly() -> None:
    assert forecast({}, 2400, NOW_S) == ", about 100/h come free"


def test_where_nothing_comes_free_soon_it_says_when_and_how_much() -> None:
    assert forecast({SLOT - 30: 1, SLOT - 29: 499, SLOT - 1: 100}, 600, NOW_S) == ", about 500 come free at 2027-01-16 05:00 UTC"


def test_without_any_knowledge_nothing_is_made_up() -> None:
    assert forecast({}, 0, NOW_S) == ""
