"""The suppression list with a million entries: what it takes of Redis's memory, and how long the check of a chunk takes."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mailer import Settings
from mailer.ledger import Ledger
from mailer.queue import connect, disconnect
from mailer.suppression import check as gate
from mailer.suppression.lists import NewEntry, Reason, SesEntry, SuppressionLists

from . import servers

ACCOUNT = "eu-west-1"
OWN, SES = 200_000, 800_000  # entries
CHUNK, LISTED = 500, 5  # addresses of a check, and how many of them are listed
CHECKS = 2_000
BATCH = 5_000
START = datetime(2025, 1, 1, tzinfo=UTC)
BOTH = frozenset({"BOUNCE", "COMPLAINT"})
NAMES = ("anna.schmidt", "bob", "christopher.mcallister", "Maria.Garcia", "office", "j.smith", "yuki_tanaka", "li.wei")
HOSTS = ("gmail.com", "example.org", "hotmail.co.uk", "mail.example.net", "uni-muenster.example", "web.de")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    entries: int
    redis_bytes: int  # above what the empty server uses
    seconds: list[float]  # of each check


def addresses(kind: str, n: int) -> Iterator[str]:
    """Some 30 characters each, a quarter of them not in lower case."""
    chosen = random.Random(kind)
    for number in range(n):
        yield f"{chosen.choice(NAMES)}.{kind}{number}@{chosen.choice(HOSTS)}"


async def fill(ledger: Ledger) -> None:
    own, ses = list(addresses("own", OWN)), list(addresses("ses", SES))
    for first in range(0, OWN, BATCH):
        batch = enumerate(own[first : first + BATCH], first)
        await SuppressionLists(ledger).add(
            [NewEntry(one, list(Reason)[n % 4], "", START + timedelta(seconds=n)) for n, one in batch]
        )
    for first in range(0, SES, BATCH):
        batch = enumerate(ses[first : first + BATCH], first)
        listed = [
            SesEntry(one, "COMPLAINT" if n % 10 == 0 else "BOUNCE", START + timedelta(seconds=7.123 * n)) for n, one in batch
        ]
        await SuppressionLists(ledger).listed(ACCOUNT, listed)
    now = int((await ledger.redis.time())[0]) * 1000
    about = {"whole": now, "synced": now, "checkpoint": now, "generation": 7}
    await ledger.redis.hset(ledger.keys.suppressed_ses(ACCOUNT), mapping=about)


async def measure(redis_url: str) -> Suppression:
    redis = connect(Settings(redis_url=redis_url))
    try:
        empty = int((await redis.info("memory"))["used_memory"])
        ledger = Ledger(redis, "bench")
        await fill(ledger)
        used = int((await redis.info("memory"))["used_memory"]) - empty
        gc.collect()
        gc.freeze()  # as a worker does
        listed = [*list(addresses("own", OWN))[:: OWN // 500], *list(addresses("ses", SES))[:: SES // 2000]]
        chosen, seconds = random.Random(1), []
        for number in range(CHECKS):
            chunk = list(addresses(f"new{number}", CHUNK - LISTED)) + [one.upper() for one in chosen.sample(listed, LISTED)]
            chosen.shuffle(chunk)
            start = time.perf_counter()
            found = await gate.check(ledger, account=ACCOUNT, reasons=BOTH, stream="news", addresses=chunk, sync_s=3600)
            seconds.append(time.perf_counter() - start)
            if len(found) != LISTED:
                raise servers.BenchError(f"{len(found)} of {LISTED} listed addresses were found")
        return Suppression(entries=OWN + SES, redis_bytes=used, seconds=seconds)
    finally:
        await disconnect(redis)


def suppression() -> Suppression:
    with servers.valkey() as redis_url:
        return asyncio.run(measure(redis_url))
