"""What `/readyz` and `/metrics` of a worker say where something is wrong: with the account, with Redis, with the workers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mailer import Mailer, Settings, State
from mailer.metrics import REGISTRY
from mailer.simulator import AccountChange, Simulator, change_account
from worker import gauges, maintenance, readiness
from worker.runtime import Runtime

from ..conftest import running_worker
from ..servers import RedisServer
from .test_delivery import letter, parked_with, rows
from .test_worker_http import asked


async def said(runtime: Runtime) -> tuple[int, dict[str, Any]]:
    async with asked(ready=lambda: readiness.ready(runtime)) as client:
        response = await client.get("/readyz")
        return response.status_code, response.json()


async def scraped(runtime: Runtime) -> Callable[..., float]:
    """The metrics, by name and labels."""
    runtime.census_at = 0.0
    async with asked(collect=lambda: gauges.collect(runtime)) as client:
        text = (await client.get("/metrics")).text
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return lambda name, **labels: found[f"mailer_{name}", frozenset(labels.items())]


# ---- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words", "parked"),
    [
        (AccountChange(sending_enabled=False), "sending is paused for this SES account", "account_paused"),
        (
            AccountChange(enforcement="SHUTDOWN", suspended=True),
            "AWS has suspended sending for this SES account",
            "account_suspended",
        ),
        (AccountChange(max_24h=0), "the 24 h quota is used up", "quota"),
    ],
)
async def test_an_account_that_may_not_send_is_told_in_words_and_in_metrics_and_the_worker_stays_ready(
    settings: Settings, ses: Simulator, mailer: Mailer, change: AccountChange, words: str, parked: str
) -> None:
    calls = REGISTRY.get_sample_value("mailer_ses_calls_total", {"operation": "GetAccount", "result": "accepted"}) or 0
    async with running_worker(settings) as runtime:
        status, before = await said(runtime)
        assert (status, before["account"]["ok"]) == (200, True)
        change_account(ses, change)
        id = await mailer.start_campaign(letter(), rows(925))
        await parked_with(mailer, id, "")
        await until_true(lambda: told(runtime, "account", False))
        status, checks = await said(runtime)
        assert (status, checks["account"]["ok"]) == (200, False)
        assert checks["account"]["detail"].startswith(words)
        await maintenance.look_after_campaigns(runtime)
        metric = await scraped(runtime)
        assert metric("recipients_waiting", lane="bulk") == 925
        assert metric("queue_depth", lane="bulk") >= 2
        assert 0 <= metric("waiting_oldest_seconds", lane="bulk") < 60
        assert metric("campaigns", state="parked") == 1
        assert metric("campaigns_parked", reason=parked) == 1
        assert metric("sending_enabled") == (parked == "quota")
        assert metric("enforcement", state="SHUTDOWN") == (parked == "account_suspended")
        assert metric("workers", lane="bulk") == metric("workers", lane="transactional") == 1
        assert metric("ses_calls_total", operation="GetAccount", result="accepted") > calls
        assert metric("ses_calls_total", operation="ListSuppressedDestinations", result="accepted") > 0
        assert metric("suppression_read_timestamp_seconds") > metric("account_read_timestamp_seconds") - 100 > 1e9


async def test_probation_is_told_and_hides_nothing(settings: Settings, ses: Simulator) -> None:
    change_account(ses, AccountChange(enforcement="PROBATION"))
    async with running_worker(settings) as runtime:
        status, checks = await said(runtime)
        assert (status, checks["account"]["ok"]) == (200, True)
        assert "its standing is PROBATION" in checks["account"]["detail"]
        metric = await scraped(runtime)
        assert [metric("enforcement", state=state) for state in ("HEALTHY", "PROBATION", "SHUTDOWN", "other")] == [0, 1, 0, 0]


async def test_the_rates_stand_beside_sess_limits_and_a_campaign_that_ends_is_heard_of(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    async with running_worker(settings) as runtime:
        id = await mailer.start_campaign(letter(), rows(40))
        assert (await asyncio.wait_for(mailer.wait(id), 20)).state is State.FINISHED
        container = runtime.ledger.keys.container(id)
        for field, n in {"n:s": -40, "n:d": 34, "n:b": 4, "m:bs": 2, "n:m": 2}.items():
            await runtime.ledger.redis.hincrby(container, field, n)
        metric = await scraped(runtime)
    assert (metric("bounce_rate"), metric("complaint_rate")) == (2 / 40, 2 / 36)
    assert [metric("bounce_rate_limit", action=action) for action in ("review", "pause")] == [0.05, 0.1]
    assert [metric("complaint_rate_limit", action=action) for action in ("review", "pause")] == [0.001, 0.005]
    assert metric("last_settle_timestamp_seconds") > 1e9
    assert metric("recipients_waiting", lane="bulk") == metric("queue_depth", lane="bulk") == 0


# ---- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def alone(own_server: RedisServer, settings: Settings, ses: Simulator) -> AsyncIterator[Runtime]:
    """A worker of which nothing runs by itself, ready to send, on a Redis that the test may spoil."""
    async with Runtime(settings.model_copy(update={"redis_url": own_server.url})) as runtime:
        runtime.serving.update(settings.lanes)
        await maintenance.read_accounts(runtime)
        assert (await said(runtime))[0] == 200
        yield runtime


async def full(server: RedisServer, runtime: Runtime) -> None:
    await runtime.redis.config_set("maxmemory", "1mb")


async def without_a_disk(server: RedisServer, runtime: Runtime) -> None:
    await runtime.redis.config_set("save", "1 1")
    shutil.rmtree(server.folder)
    await runtime.redis.bgsave()
    await until_true(lambda: has_failed(runtime))


async def has_failed(runtime: Runtime) -> bool:
    info = await runtime.redis.info("persistence")
    return not info["rdb_bgsave_in_progress"] and info["rdb_last_bgsave_status"] == "err"


async def read_only(server: RedisServer, runtime: Runtime) -> None:
    await runtime.ledger.redis.execute_command("REPLICAOF", "127.0.0.1", "1")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (full, "its memory is full (maxmemory)"),
        (without_a_disk, "it cannot write to its disk"),
        (read_only, "it is a replica, which cannot be written to"),
    ],
)
async def test_a_redis_that_answers_and_stores_nothing_makes_a_worker_unready_with_the_sentence_of_the_commands(
    own_server: RedisServer, alone: Runtime, spoil: Callable[[RedisServer, Runtime], Awaitable[None]], words: str
) -> None:
    await spoil(own_server, alone)
    status, checks = await said(alone)
    assert (status, checks["redis"]["ok"]) == (503, False)
    assert checks["redis"]["detail"] == words
    assert checks["account"]["ok"]  # what can be read is still shown
    metric = await scraped(alone)
    assert (metric("redis_up"), metric("redis_writable")) == (1, 0)
    if spoil is full:
        assert metric("redis_memory_bytes") > metric("redis_memory_max_bytes") == 1 << 20


async def test_a_redis_that_is_away_is_told_and_the_metrics_say_so(own_server: RedisServer, alone: Runtime) -> None:
    metric = await scraped(alone)
    assert (metric("redis_up"), metric("redis_writable"), metric("redis_persistence_ok"), metric("redis_aof_enabled")) == (
        1,
        1,
        1,
        1,
    )
    await asyncio.to_thread(own_server.stop)
    status, checks = await said(alone)
    assert (status, checks["redis"]["detail"]) == (503, "nothing answers there")
    assert checks["account"] == {"ok": False, "detail": "not known without redis"}
    metric = await scraped(alone)
    assert (metric("redis_up"), metric("redis_writable")) == (0, 0)


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():
            await asyncio.sleep(0.05)


async def told(runtime: Runtime, check: str, ok: bool) -> bool:
    return (await said(runtime))[1][check]["ok"] is ok
