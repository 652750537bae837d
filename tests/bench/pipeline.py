"""Our own service, through what an application uses: `mailer.Mailer`, and one process of `python -m worker`.

The short blocking calls in coroutines (starting a child, asking the sink) are on purpose: nothing else runs meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import redis.asyncio

from mailer import Campaign, Email, Mailer

from . import servers
from .body import SENDER, TEMPLATE, row, rows, write_csv
from .rounds import Contender, Run, Watch
from .servers import BenchError, Sink

LATENCY_PAUSE_S = 0.1  # between two single messages
LATENCY_WAIT_S = 15.0  # for the last of them
SETTLE_WAIT_S = 60.0  # between the last acceptance and the campaign's end
SAMPLE_S = 0.1  # between two looks at Redis's memory

T = TypeVar("T")
Measurement = Callable[[str], Coroutine[Any, Any, T]]  # is given the URL of Redis


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    recipients: int
    worker_peak_bytes: int | None  # None where there is no /proc
    redis_bytes_per_recipient: float  # at the fullest moment, above what the empty server uses
    redis_peak_bytes: int = 0  # used_memory at that moment
    store: str = "redis:"


def on_empty_redis(target: Sink, measurement: Measurement[T], appendfsync: str = "everysec", **extra: str) -> T:
    """Makes a measurement on an empty Valkey, in the environment of an application that is set as the worker is."""
    with servers.valkey(appendfsync) as redis_url:
        env = servers.clean_env({**servers.worker_env(redis_url, target), **extra})
        with patch.dict(os.environ, env, clear=True):
            target.reset()
            return asyncio.run(measurement(redis_url))


def campaign(name: str) -> Campaign:
    return Campaign(name=name, from_=SENDER, template=TEMPLATE)


async def finish(mailer: Mailer, campaign_id: str, watch: Watch) -> float:
    """Waits until every recipient is settled; returns when that was."""
    try:
        while not watch.poll():
            await asyncio.sleep(watch.POLL_S)
    except BenchError as error:
        status = await mailer.campaign(campaign_id)
        raise BenchError(f"{error}\nThe campaign is {status.state} ({status.reason}): {status.counts}") from None
    deadline = time.monotonic() + SETTLE_WAIT_S
    while (status := await mailer.campaign(campaign_id)).state != "finished":
        if time.monotonic() > deadline:
            raise BenchError(f"all were accepted, but the campaign is {status.state}: {status.counts}")
        await asyncio.sleep(watch.POLL_S)
    return time.time()


def delivery(target: Sink, n: int, appendfsync: str = "everysec") -> Run:
    """A waiting campaign of n rows, one worker: from the first acceptance until the last recipient is settled."""

    async def measurement(redis_url: str) -> Run:
        async with Mailer() as mailer:
            campaign_id = await mailer.start_campaign(campaign("delivery"), recipients=rows(n))
            with servers.worker(redis_url, target) as worker:
                watch = Watch(target, worker, n)
                return watch.run(await finish(mailer, campaign_id, watch))

    return on_empty_redis(target, measurement, appendfsync)


def delivery_always(target: Sink, n: int) -> Run:
    """The same with a Redis that has every write on its disk before it answers."""
    return delivery(target, n, "always")


def intake(target: Sink, n: int) -> Run:
    """A CSV file of n rows becomes a campaign in Redis; no worker runs."""
    return _intake(target, n, outside=False)


def intake_outside(target: Sink, n: int) -> Run:
    """The same with the payloads of chunks in a folder."""
    return _intake(target, n, outside=True)


def _intake(target: Sink, n: int, *, outside: bool) -> Run:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder, "recipients.csv")
        write_csv(path, n)

        async def measurement(_: str) -> Run:
            async with Mailer() as mailer:
                start = time.perf_counter()
                await mailer.start_campaign(campaign("intake"), recipients=path)
                return Run(messages=n, seconds=time.perf_counter() - start)

        return on_empty_redis(target, measurement, MAILER_STORE_URL=f"file://{folder}/store" if outside else "redis:")


def latency(target: Sink, k: int) -> list[float]:
    """Seconds from the call of `Mailer.send` to the sink's acceptance, for k single messages to an idle worker."""

    async def measurement(redis_url: str) -> list[float]:
        async with Mailer() as mailer:
            with servers.worker(redis_url, target) as worker:
                target.reset(addresses=True)
                called = await _send_singles(mailer, k)
                deadline = time.monotonic() + LATENCY_WAIT_S
                while len(arrivals := target.arrivals()) < k:
                    worker.check()
                    if time.monotonic() > deadline:
                        raise BenchError(f"{len(arrivals)} of {k} single messages arrived\n{worker.tail()}")
                    await asyncio.sleep(0.1)
        return [arrivals[address] - at for address, at in called.items()]

    return on_empty_redis(target, measurement)


async def _send_singles(mailer: Mailer, k: int) -> dict[str, float]:
    """Address → time.time() of the call, which is the clock that the sink uses."""
    called = {}
    for i in range(k):
        data = row(i)
        email = Email(to=data["email"], from_=SENDER, template=TEMPLATE, data=data)
        called[data["email"]] = time.time()
        await mailer.send(email)
        await asyncio.sleep(LATENCY_PAUSE_S)
    return called


def memory(target: Sink, n: int, store: str = "redis:") -> Memory:
    """A campaign of n rows from its start to its end: what the worker and Redis hold at most."""

    async def measurement(redis_url: str) -> Memory:
        async with _fullest(redis_url) as fullest, Mailer() as mailer:
            campaign_id = await mailer.start_campaign(campaign("memory"), recipients=rows(n))
            with servers.worker(redis_url, target, MAILER_STORE_URL=store) as worker:
                await finish(mailer, campaign_id, Watch(target, worker, n))
                peak = worker.peak_rss_bytes()
        used = fullest["peak"] - fullest["empty"]
        return Memory(
            recipients=n,
            worker_peak_bytes=peak,
            redis_bytes_per_recipient=used / n,
            redis_peak_bytes=fullest["peak"],
            store=store.partition(":")[0] + ":",
        )

    return on_empty_redis(target, measurement, MAILER_STORE_URL=store)


def memory_outside(target: Sink, n: int) -> Memory:
    """The same with the payloads of chunks in a folder."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return memory(target, n, f"file://{folder}/store")


@asynccontextmanager
async def _fullest(redis_url: str) -> AsyncIterator[dict[str, int]]:
    """`empty` and `peak`: used_memory at the start, and the most that was seen. Valkey's own peak counts its start-up too."""
    client = redis.asyncio.Redis.from_url(redis_url)

    async def used() -> int:
        return int((await client.info("memory"))["used_memory"])

    seen = dict.fromkeys(("empty", "peak"), await used())

    async def sample() -> None:
        while True:
            seen["peak"] = max(seen["peak"], await used())
            await asyncio.sleep(SAMPLE_S)

    sampler = asyncio.create_task(sample())
    try:
        yield seen
        seen["peak"] = max(seen["peak"], await used())
    finally:
        sampler.cancel()
        await asyncio.gather(sampler, return_exceptions=True)
        await client.aclose()


DELIVERY = Contender(key="delivery", label="this service, one worker process", first_n=100_000, run=delivery)
DELIVERY_ALWAYS = Contender(
    key="delivery_always",
    label="this service, one worker process, Redis with `appendfsync always`",
    first_n=100_000,
    run=delivery_always,
)
INTAKE = Contender(key="intake", label="intake of a CSV file, `Mailer.start_campaign`", first_n=500_000, run=intake)
INTAKE_OUTSIDE = Contender(
    key="intake_outside",
    label="intake of a CSV file with `MAILER_STORE_URL=file:`",
    first_n=200_000,
    run=intake_outside,
)
