"""Claims and results that Redis does not take: what passes is waited for, and what does not is told as what it is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError
from structlog.testing import capture_logs

from mailer.ledger import Ledger
from mailer.message.email import Outcome
from worker import settle
from worker.settle import LeaseContext

from .test_ledger import campaign, claim, counts, settled, take


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "RETRY_S", (0.01, 0.02))
    monkeypatch.setattr(settle, "REFUSED_S", 0.1)


def runtime_of(ledger: Ledger) -> Any:
    return SimpleNamespace(ledger=ledger, stopping=asyncio.Event())


async def test_a_claim_that_redis_refuses_for_what_it_is_ends_its_shift_and_says_why_once(ledger: Ledger) -> None:
    work = await take(ledger, f"{await campaign(ledger, 1)}-0")
    tried = 0

    async def refused() -> None:
        nonlocal tried
        tried += 1
        await ledger.redis.hget(ledger.keys.records(work.chunk), "x")  # it is a string

    with capture_logs() as logs, pytest.raises(ResponseError):
        async with asyncio.timeout(5):
            await settle.until_stored(runtime_of(ledger), LeaseContext.of(work), refused)
    assert tried > 3
    assert [(line["event"], line["log_level"]) for line in logs] == [("redis refuses a claim or result", "error")]
    assert "WRONGTYPE" in logs[0]["reason"]


async def test_a_claim_waits_for_a_redis_that_is_full_until_it_has_room(ledger: Ledger) -> None:
    work = await take(ledger, f"{await campaign(ledger, 1)}-0")
    tried = 0

    async def full() -> str:
        nonlocal tried
        tried += 1
        if tried < 20:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
        return "stored"

    with capture_logs() as logs:
        assert await settle.until_stored(runtime_of(ledger), LeaseContext.of(work), full) == "stored"
    assert [(line["event"], line["reason"]) for line in logs] == [
        ("a claim or result waits for redis", "its memory is full (maxmemory)")
    ]


async def test_a_result_that_redis_refuses_is_kept_until_it_takes_it(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    records = ledger.keys.records(work.chunk)
    await ledger.redis.rename(records, f"{records}-aside")
    await ledger.redis.hset(records, "a hash", "where a string should be")
    rows = [settled(0, Outcome.REJECTED, reason="no")]
    with capture_logs() as logs:
        task = asyncio.create_task(settle.settle(runtime_of(ledger), LeaseContext.of(work), rows))
        await asyncio.sleep(0.3)  # many times as long as it waits between two tries
        assert not task.done()
        await ledger.redis.rename(f"{records}-aside", records)
        await asyncio.wait_for(task, 5)
    assert [line["event"] for line in logs] == ["redis refuses a claim or result"]
    assert await counts(ledger, id) == {"rejected": 1}
