"""Notifications of identities, which carry no tags: matched by SES's message id, and told of where they cannot be."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailer import Email, Mailer, Settings
from mailer.doctor import State
from mailer.doctor import runtime as work
from mailer.events import Event, read
from mailer.ids import Attempt
from mailer.ledger import Ledger
from mailer.metrics import REGISTRY
from mailer.settings import Index
from mailer.simulator import SimulatorConfig, state
from mailer.simulator.events import events_of
from mailer.suppression.lists import Reason
from worker import events, untagged, waiting
from worker.meaning import happening, suppressions
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses
from ..ses_events import ANA, notified
from .test_archive import NOW, archive_of
from .test_delivery import FROM, finished, letter, rows
from .test_ledger import campaign
from .test_sent_ids import send, ses_id


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def said(type: str, id: str, to: str = ANA, **block: Any) -> Event:
    if named := {"Bounce": "bouncedRecipients", "Complaint": "complainedRecipients"}.get(type):
        block[named] = [{"emailAddress": to}]
    found = notified(type, **block)
    found["mail"] |= {"messageId": id, "destination": [to]}
    return read(json.dumps(found))


def of_identities(*given: Any, **more: Any) -> Iterator[dict[str, Any]]:
    """What the simulated SES would publish, as an identity without configuration sets notifies of it."""
    for event in events_of(*given, **more):
        if event["eventType"] in ("Bounce", "Complaint", "Delivery"):
            mail = {name: value for name, value in event["mail"].items() if name != "tags"}
            yield {"notificationType": event.pop("eventType"), **event, "mail": mail}


@pytest.fixture
async def idle(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    """A worker in which nothing runs by itself, and that has decided what it notes."""
    async with simulated_ses(monkeypatch, SimulatorConfig()), Runtime(settings) as runtime:
        await untagged.decide(runtime)
        yield runtime


async def counts(ledger: Ledger, id: str) -> dict[str, int]:
    return (await ledger.report.campaign(id)).counts


async def test_a_campaign_and_messages_of_an_account_that_only_has_identity_notifications_end_as_they_should(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "events_of", of_identities)
    monkeypatch.setattr(untagged, "SETTLING_MS", 500)
    config = SimulatorConfig(max_send_rate=40, max_24h=1_000_000, events=True)
    unmatched = metric("mailer_events_unmatched_total")
    async with simulated_ses(monkeypatch, config):
        url = os.environ["AWS_ENDPOINT_URL_SESV2"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        with_queue = settings.model_copy(update={"events_sqs_url": f"{url}/{config.account}/events"})
        async with running_worker(with_queue), Mailer(with_queue) as mailer:
            bad = [
                {"email": f"{name}+{n}@simulator.amazonses.com", "name": "x"}
                for name in ("bounce", "complaint")
                for n in range(8)
            ]
            id = await mailer.start_campaign(letter(guard_after=10_000), [*bad[:9], *rows(60), *bad[9:]])
            message = await mailer.send(Email(to="bounce@simulator.amazonses.com", from_=FROM, subject="Code", text="1234"))
            await finished(mailer, id)
            async with asyncio.timeout(20):
                while (await mailer.campaign(id)).counts.get("sent") or (await mailer.status(message)).state != "bounced":
                    await asyncio.sleep(0.05)
            assert (await mailer.campaign(id)).counts == {"delivered": 60, "bounced": 8, "complained": 8}
            reasons = {line.reason async for line in mailer.outcomes(id) if line.state == "bounced"}
            assert reasons == {"Permanent/General: 5.1.1 smtp; 550 5.1.1 user unknown"}
    assert metric("mailer_events_unmatched_total") == unmatched


async def test_a_notification_that_is_faster_than_the_answer_waits_for_it_and_suppresses_at_once(
    idle: Runtime, mailer: Mailer
) -> None:
    idle.ledger.noting.campaigns = True
    id, one = await campaign(idle.ledger, 1), ses_id()
    unmatched, counted = metric("mailer_events_unmatched_total"), metric("mailer_events_total")
    for _ in range(2):  # events come twice
        assert await events.apply(idle, [said("Bounce", one)]) == set()
    assert [entry.reason for entry in await mailer.suppressed(ANA)] == [Reason.BOUNCE]
    assert await counts(idle.ledger, id) == {"queued": 1}
    await waiting.look_again(idle)
    await send(idle.ledger, f"{id}-0", {0: one})
    await waiting.look_again(idle)
    assert await counts(idle.ledger, id) == {"bounced": 1}
    assert not await idle.redis.exists(idle.ledger.keys.unmatched)
    (finding,) = await work.untagged(idle.settings, idle.ledger)
    assert (finding.state, "1 of them" in finding.found) == (State.OK, True)
    assert (metric("mailer_events_unmatched_total"), metric("mailer_events_total")) == (unmatched, counted)


async def test_what_was_sent_before_the_first_notification_is_matched_too(idle: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, first, second = idle.ledger, await campaign(idle.ledger, 3), await campaign(idle.ledger, 500, 200)
    ids = [ses_id(), "of-another-form", ses_id()]
    await send(ledger, f"{first}-0", dict(enumerate(ids[:2])))
    await send(ledger, f"{second}-1", {7: ids[2]})
    assert not ledger.noting.campaigns

    async def delivered() -> list[int]:
        return [(await counts(ledger, id)).get("delivered", 0) for id in (first, second)]

    await events.apply(idle, [said("Delivery", one) for one in ids])
    assert ledger.noting.campaigns
    await untagged.decide(idle)
    await waiting.look_again(idle)
    assert await delivered() == [0, 0]  # other workers may not know it yet, and go on settling without noting
    monkeypatch.setattr(untagged, "SETTLING_MS", 0)
    monkeypatch.setattr(untagged, "SLICE_CHUNKS", 1)
    await untagged.decide(idle)
    await waiting.look_again(idle)
    assert await delivered() == [2, 1]
    assert not await idle.redis.exists(ledger.keys.unnoted, ledger.keys.unmatched, ledger.keys.unnoted_turn)


async def test_an_archived_chunk_comes_back_for_its_notification(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "store").mkdir()
    stored = settings.model_copy(update={"store_url": f"file://{tmp_path}/store", "events_index": Index.ON})
    async with simulated_ses(monkeypatch, SimulatorConfig()), Runtime(stored) as idle:
        await untagged.decide(idle)
        id, ids = await campaign(idle.ledger, 2), {0: ses_id(), 1: ses_id()}
        await send(idle.ledger, f"{id}-0", ids)
        assert await archive_of(idle.ledger).archive_due(limit=10, **NOW) == 1
        assert not await idle.redis.exists(idle.ledger.keys.records(f"{id}-0"))
        await events.apply(idle, [said("Complaint", ids[1])])
        assert await counts(idle.ledger, id) == {"sent": 1, "complained": 1}


async def test_what_fits_no_message_is_given_up_after_ten_minutes_with_one_warning(idle: Runtime) -> None:
    foreign = [said("Delivery", ses_id()) for _ in range(30)]
    unmatched = metric("mailer_events_unmatched_total")
    key, now = idle.ledger.keys.unmatched, await idle.ledger.now_ms()
    with capture_logs() as logs:
        await events.apply(idle, foreign)
        await waiting.look_again(idle)
        assert await idle.redis.zcard(key) == 30
        first = await idle.redis.zrange(key, 0, 19)
        await idle.redis.zadd(key, dict.fromkeys(first, now - 600_001))
        await waiting.look_again(idle)  # those of the last seconds
        assert await idle.redis.zcard(key) == 30
        await idle.redis.delete(idle.ledger.keys.unmatched_all)  # as half a minute later
        await waiting.look_again(idle)
        await waiting.look_again(idle)
    assert await idle.redis.zcard(key) == 10
    assert metric("mailer_events_unmatched_total") - unmatched == 20
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (warning["events"], warning["do"]) == (20, untagged.BETTER)
    (finding,) = await work.untagged(idle.settings, idle.ledger)
    assert (finding.state, "0 of them" in finding.found, "20 fit no message" in finding.found) == (State.WARNING, True, True)


async def test_no_more_than_a_bounded_number_waits(idle: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untagged, "MOST", 5)
    unmatched = metric("mailer_events_unmatched_total")
    for _ in range(3):
        await events.apply(idle, [said("Delivery", ses_id()) for _ in range(4)])
    assert await idle.redis.zcard(idle.ledger.keys.unmatched) == 5
    assert metric("mailer_events_unmatched_total") - unmatched == 7


async def test_switched_off_nothing_is_kept_and_the_log_says_so_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    off, unmatched = settings.model_copy(update={"events_index": Index.OFF}), metric("mailer_events_unmatched_total")
    async with simulated_ses(monkeypatch, SimulatorConfig()), Runtime(off) as idle:
        await untagged.decide(idle)
        id, one = await campaign(idle.ledger, 1), ses_id()
        await send(idle.ledger, f"{id}-0", {0: one})
        with capture_logs() as logs:
            for _ in range(3):
                assert await events.apply(idle, [said("Bounce", one)]) == set()
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert await counts(idle.ledger, id) == {"sent": 1}
        keys = idle.ledger.keys
        assert await idle.redis.exists(keys.unmatched, keys.unnoted) == 0
        assert (await work.untagged(off, idle.ledger))[0].state is State.WARNING
        assert [name async for name in idle.redis.scan_iter(match=f"{keys.sent_ids}*", count=1000)] == []
    assert metric("mailer_events_unmatched_total") - unmatched == 3


async def test_campaigns_leave_the_index_a_month_after_the_last_notification(idle: Runtime) -> None:
    await events.apply(idle, [said("Delivery", ses_id())])
    await untagged.decide(idle)
    assert idle.ledger.noting.campaigns
    await idle.ledger.redis.hincrby(idle.ledger.keys.untagged, "seen", -untagged.STAY_MS - 1000)
    await untagged.decide(idle)
    noting = idle.ledger.noting
    assert (noting.campaigns, noting.messages, noting.life_s) == (False, True, 8 * 86_400)


@pytest.mark.parametrize("type", ["Bounce", "Complaint", "Delivery"])
def test_what_waits_is_kept_as_far_as_it_is_needed(type: str) -> None:
    event, one = said(type, "some-id", "bo@example.org"), Attempt("c01k8x7t3q9r5v2m0ab", 1, 2, 3)
    kept = untagged.unpack(untagged.pack(event))
    assert (happening(kept, one), suppressions(kept)) == (happening(event, one), suppressions(event))
    assert (kept.ses_message_id, kept.type, kept.time) == (event.ses_message_id, event.type, event.time)
    assert [untagged.tagged(kept, found).attempt for found in ({"some-id": one}, {"other-id": one})] == [one, None]
