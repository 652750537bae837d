"""The account's limits with several worker processes, judged by the log of a simulated SES that enforces the same limits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mailer import Email, Mailer, Settings
from mailer.simulator import AccountChange, Fault, Kind, Simulator, SimulatorConfig, change_account

from ..conftest import simulated_ses
from ..crash.test_processes import letter, over, rows
from ..crash.workers import Worker, worker

pytestmark = pytest.mark.alone

RATE = 200
REFRESH_S = 1


def fullest_second(at: Sequence[tuple[float, int]]) -> int:
    """Of recipients by the time that SES counted them."""
    most = count = first = 0
    for end, n in at:
        count += n
        while at[first][0] <= end - 1:
            count -= at[first][1]
            first += 1
        most = max(most, count)
    return most


def counted(ses: Simulator) -> list[tuple[float, int]]:
    return [(entry.at, len(entry.recipients)) for entry in ses.log]


async def started(stack: AsyncExitStack, settings: Settings, tmp_path: Path, n: int, **extra: str) -> list[Worker]:
    workers = [await stack.enter_async_context(worker(settings, tmp_path, **extra)) for _ in range(n)]
    for one in workers:
        await one.ready()
    return workers


@pytest.mark.timeout(200)
async def test_four_processes_use_the_quota_and_exceed_it_in_no_second_and_obey_a_cut_within_one_refresh(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer, tmp_path: Path
) -> None:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=RATE, max_24h=-1)) as ses, AsyncExitStack() as stack:
        await started(stack, settings, tmp_path, 4, MAILER_BULK_CALLS_PER_S="unlimited")
        id = await mailer.start_campaign(letter(), rows(20_000))
        async with asyncio.timeout(20):
            while not ses.log:
                await asyncio.sleep(0.05)
        await asyncio.sleep(20)
        times = counted(ses)
        began, until = times[0][0] + 1, times[-1][0] - 1
        used = sum(n for at, n in times if began <= at < until)
        assert used >= 0.98 * RATE * (until - began)

        assert ses.counts["throttled"] == 0

        change_account(ses, AccountChange(max_send_rate=50))
        cut = time.time()
        await asyncio.sleep(REFRESH_S + 8)
        after = [(at, n) for at, n in counted(ses) if at >= cut + REFRESH_S + 1]
        assert fullest_second(after) <= 50
        assert sum(n for _, n in after) >= 0.9 * 50 * (after[-1][0] - after[0][0]), "and it is used"

        refused_at_the_cut = ses.counts["throttled"]
        change_account(ses, AccountChange(max_send_rate=4000))
        assert (await over(mailer, id, 60)) == {"sent": 20_000}
    before = [(at, n) for at, n in counted(ses) if at < cut]
    assert fullest_second(before) <= RATE
    assert set(Counter(address for entry in ses.log for address in entry.recipients).values()) == {1}
    assert ses.counts["throttled"] == refused_at_the_cut


async def test_transactional_mail_does_not_wait_behind_a_campaign_that_uses_the_whole_rate(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer, tmp_path: Path
) -> None:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=RATE, max_24h=-1)) as ses, AsyncExitStack() as stack:
        ses.faults.set([Fault(kind=Kind.LATENCY, seconds=0.03)])
        await started(stack, settings, tmp_path, 2)
        await mailer.start_campaign(letter(), rows(20_000))
        await asyncio.sleep(3)
        called: dict[str, float] = {}

        async def send(number: int) -> None:
            address = f"t{number}@example.org"
            called[address] = time.time()
            await mailer.send(Email(to=address, from_="a@example.com", subject="Code", text="1234"))

        began = time.time()
        tasks = []
        for number in range(200):
            tasks.append(asyncio.create_task(send(number)))
            await asyncio.sleep(max(0, began + (number + 1) / 20 - time.time()))
        await asyncio.gather(*tasks)
        until = time.time()
        async with asyncio.timeout(10):
            while (found := {a: e.at for e in ses.log for a in e.recipients if a in called}).keys() != called.keys():
                await asyncio.sleep(0.1)
        waits = sorted(found[address] - at for address, at in called.items())
        bulk = sum(n for at, n in counted(ses) if began <= at < until) - len(called)
    print(f"p50 {waits[100]:.3f} p99 {waits[197]:.3f} max {waits[-1]:.3f}; bulk {bulk / (until - began):.0f}/s")
    assert waits[int(len(waits) * 0.99) - 1] < 0.5
    assert waits[-1] < 2
    assert bulk >= 0.9 * (RATE - 20) * (until - began), "bulk has what is left"
    assert ses.counts["throttled"] == 0


async def test_a_short_list_behind_a_long_one_is_through_in_seconds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer, tmp_path: Path
) -> None:
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=RATE, max_24h=-1)) as ses, AsyncExitStack() as stack:
        await started(stack, settings, tmp_path, 1)
        await mailer.start_campaign(letter(), rows(30_000))
        await asyncio.sleep(3)
        before = len(ses.log)
        id = await mailer.start_campaign(letter(), [{"email": f"s{i}@example.org", "name": "S"} for i in range(500)])
        began = time.monotonic()
        assert (await over(mailer, id, 30)) == {"sent": 500}
        took = time.monotonic() - began
        assert took < 500 / (RATE / 2) + 4
        assert len(ses.log) - before - 500 >= 0.3 * RATE * took, "the long one went on meanwhile"
