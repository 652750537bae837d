"""A queue of SES's events that does not bring them: what is seen of that, and what does not depend on it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mailer import Mailer, Settings
from mailer.events import read
from mailer.simulator import Simulator, SimulatorConfig, sqs
from worker import events, maintenance, readiness
from worker.runtime import Runtime, cancel

from ..conftest import simulated_ses
from ..ses_events import ANA, notified, published
from .test_events_in import archived, bounced, metric, taking_in, truth, until
from .test_worker_http import asked

RECEIVED_AT = "mailer_events_last_receive_timestamp_seconds"


@asynccontextmanager
async def listening(runtime: Runtime, url: str) -> AsyncIterator[None]:
    task = asyncio.create_task(events.from_sqs(runtime, url))
    try:
        yield
    finally:
        await cancel(task)


async def test_a_queue_that_is_not_there_is_seen_in_readyz_which_stays_200_and_so_is_that_it_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAUSE_S", (0.05, 0.2))
    async with simulated_ses(monkeypatch, SimulatorConfig(events=True)) as ses:
        url = os.environ["AWS_ENDPOINT_URL_SESV2"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        there = f"{url}{ses.queues.path}"
        async with Runtime(settings.model_copy(update={"events_sqs_url": there})) as runtime:
            runtime.serving.update(settings.lanes)
            await maintenance.read_accounts(runtime)
            async with asked(ready=lambda: readiness.ready(runtime)) as client:

                async def shown(ok: bool, words: str) -> bool:
                    response = await client.get("/readyz")
                    assert response.status_code == 200
                    check = response.json()["events"]
                    return check["ok"] is ok and words in check["detail"]

                before = metric(RECEIVED_AT)
                assert await shown(False, "the queue of SES's events has not answered yet")
                async with listening(runtime, f"{there}-gone"):
                    await until(lambda: shown(False, f"{there}-gone, cannot be used: "))
                    assert metric(RECEIVED_AT) == before
                async with listening(runtime, there):
                    await until(lambda: shown(True, "the queue answered 0 s ago"))
                    assert time.time() - metric(RECEIVED_AT) < 10
                runtime.listening.received_at -= 2 * readiness.EVENTS_LATE_S
                assert await shown(False, "the queue answered 24")


async def test_readyz_has_no_entry_for_events_where_no_queue_is_set(settings: Settings, ses: Simulator) -> None:
    async with Runtime(settings) as runtime, asked(ready=lambda: readiness.ready(runtime)) as client:
        await maintenance.read_accounts(runtime)
        assert "events" not in (await client.get("/readyz")).json()


async def test_where_the_queues_attributes_cannot_be_had_events_are_taken_in_and_that_is_said_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sqs._ACTIONS, "GetQueueAttributes")
    with capture_logs() as logs:
        async with taking_in(settings, monkeypatch, []) as (runtime, queues), Mailer(settings) as mailer:
            queues.events.put(json.dumps(notified("Bounce")).encode())
            await until(lambda: mailer.suppressed(ANA))
            with monkeypatch.context() as away:
                away.delitem(sqs._ACTIONS, "ReceiveMessage")
                queues.let_wait(False)
                await until(lambda: truth(runtime.listening.trouble != ""))
                queues.let_wait(True)
            await until(lambda: truth(runtime.listening.trouble == ""))
    said = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert said.count("whether the queue of SES's events has a dead-letter queue cannot be seen") == 1


async def test_an_event_of_a_type_that_is_not_known_is_counted_as_other_and_not_as_unmatched(
    settings: Settings, ses: Simulator
) -> None:
    other, unmatched = metric("mailer_events_total", type="other"), metric("mailer_events_unmatched_total")
    new = {"eventType": "Forwarded", "mail": {"messageId": "0102", "tags": {"mailer_id": ["c-0-0-1"]}}}
    foreign = published("Delivery")
    foreign["mail"]["tags"] = {"team": ["growth"]}
    async with Runtime(settings) as runtime:
        assert not await events.apply(runtime, [read(json.dumps(new)), read(json.dumps(foreign))])
    assert metric("mailer_events_total", type="other") - other == 1
    assert metric("mailer_events_unmatched_total") - unmatched == 1


async def test_an_event_of_an_archived_campaign_that_redis_has_forgotten_only_suppresses_and_is_unmatched(
    settings: Settings, ses: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    stored = settings.model_copy(update={"store_url": f"file://{tmp_path}/store"})
    unmatched = metric("mailer_events_unmatched_total")
    async with Runtime(stored) as runtime, Mailer(stored) as mailer:
        id, _ = await archived(runtime, 1)
        before, keys = [line async for line in mailer.outcomes(id)], runtime.ledger.keys
        await runtime.redis.unlink(keys.container(id), keys.tokens(id))
        assert not await events.apply(runtime, [read(bounced(id, 0))])
        assert await mailer.suppressed("0@example.org")
        assert metric("mailer_events_unmatched_total") - unmatched == 1
        assert [line async for line in mailer.outcomes(id)] == before
