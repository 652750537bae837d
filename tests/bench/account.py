"""How well the account's limits are used, with workers of their own processes and a simulated SES that enforces them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from mailer import Email, Mailer

from . import servers
from .body import SENDER, rows
from .pipeline import campaign
from .servers import BenchError, Simulated

RATE = 200  # recipients per second of the account
SECONDS = 20  # of sending
PROCESSES = 4
URGENT_PER_S = 20  # transactional messages
SETTLING_S = 3.0  # until a campaign uses the whole rate
ARRIVE_S = 3.0  # for the last of them

Counted = Sequence[tuple[float, int]]  # when SES counted how many recipients


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    share: float  # of the rate
    fullest: int  # recipients of the fullest second
    throttled: int  # calls that SES refused for the rate


def calls() -> float:
    """Share of the rate that is used where SES takes one SendBulkEmail call a second, and nobody is told so."""
    return _with_workers(1, _whole_campaign, "--bulk-calls-per-s", "1").share


def processes() -> Use:
    """What several processes together make of the rate."""
    return _with_workers(PROCESSES, _whole_campaign, MAILER_BULK_CALLS_PER_S="unlimited")


def beside_bulk() -> list[float]:
    """Seconds from the call of `Mailer.send` to acceptance, while a campaign uses the whole rate."""
    called: dict[str, float] = {}

    async def measurement(target: Simulated, check: Callable[[], None]) -> None:
        async with Mailer() as mailer:
            await mailer.start_campaign(campaign("bulk"), recipients=rows(RATE * (SECONDS + 30)))
            await asyncio.sleep(SETTLING_S)
            called.update(await _send_urgent(mailer, check))
            await asyncio.sleep(ARRIVE_S)

    found: dict[str, float] = {}
    _with_workers(1, measurement, log=lambda target: found.update({e["recipients"][0]: e["at"] for e in target.log()}))
    if missing := called.keys() - found.keys():
        raise BenchError(f"{len(missing)} of {len(called)} transactional messages were not accepted")
    return [found[address] - at for address, at in called.items()]


async def _send_urgent(mailer: Mailer, check: Callable[[], None]) -> dict[str, float]:
    """Address → time.time() of the call."""
    called, began, sending = dict[str, float](), time.time(), set[asyncio.Task[str]]()
    for number in range(URGENT_PER_S * SECONDS):
        check()
        address = f"urgent{number}@example.net"
        called[address] = time.time()
        sending.add(asyncio.create_task(mailer.send(Email(to=address, from_=SENDER, subject="Code", text="1234"))))
        await asyncio.sleep(max(0.0, began + (number + 1) / URGENT_PER_S - time.time()))
    await asyncio.gather(*sending)
    return called


async def _whole_campaign(target: Simulated, check: Callable[[], None]) -> None:
    async with Mailer() as mailer:
        campaign_id = await mailer.start_campaign(campaign("rate"), recipients=rows(RATE * SECONDS))
        while (await mailer.campaign(campaign_id)).state != "finished":
            check()
            await asyncio.sleep(0.2)


def _with_workers(
    n: int,
    measurement: Callable[[Simulated, Callable[[], None]], Coroutine[Any, Any, None]],
    *simulator: str,
    log: Callable[[Simulated], None] | None = None,
    **settings: str,
) -> Use:
    """Run it with so many worker processes on an account of RATE."""
    settings = {"MAILER_BULK_CALLS_PER_S": "auto", **settings}
    with (
        servers.valkey() as redis_url,
        servers.simulator("--max-send-rate", str(RATE), *simulator) as target,
        ExitStack() as stack,
    ):
        env = servers.clean_env({**servers.worker_env(redis_url, target), **settings})
        workers = [stack.enter_context(servers.worker(redis_url, target, **settings)) for _ in range(n)]

        def check() -> None:
            for worker in workers:
                worker.check()

        with patch.dict(os.environ, env, clear=True):
            asyncio.run(measurement(target, check))
        times = sorted((entry["at"], len(entry["recipients"])) for entry in target.log())
        if log:
            log(target)
        throttled = int(target.stats()["throttled"])
    return Use(share=_share(times), fullest=_fullest_second(times), throttled=throttled)


def _share(times: Counted) -> float:
    """Of the rate, without the first second and the last."""
    started, ended = times[0][0] + 1, times[-1][0] - 1
    return float(sum(n for at, n in times if started <= at < ended) / (RATE * (ended - started)))


def _fullest_second(times: Counted) -> int:
    most = count = first = 0
    for end, n in times:
        count += n
        while times[first][0] <= end - 1:
            count -= times[first][1]
            first += 1
        most = max(most, count)
    return most
