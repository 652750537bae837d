"""Which bounces and complaints count, through a whole worker and the simulated account's queue of events."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mailer import Mailer, Settings
from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator.journal import Accepted
from worker import maintenance
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses
from ..ses_events import published
from .test_delivery import letter, rows

REPLY = {"bounceType": "Transient", "bounceSubType": "General"}  # of somebody who is out of office
FULL = {"bounceType": "Transient", "bounceSubType": "MailboxFull"}
NOBODY_KNOWS = {"bounceType": "Undetermined", "bounceSubType": "Undetermined"}
ON_THE_LIST = {"bounceType": "Permanent", "bounceSubType": "OnAccountSuppressionList"}
ON_ALL_LISTS = {"bounceType": "Permanent", "bounceSubType": "Suppressed"}
HARD = {"bounceType": "Permanent", "bounceSubType": "General"}
LISTED = {"complaintSubType": "OnAccountSuppressionList", "complaintFeedbackType": None}


@dataclass
class World:
    """A campaign that somebody has paused when some 40 of it were delivered. Where its guard pauses it, the reason says so."""

    mailer: Mailer
    runtime: Runtime
    ses: Simulator
    id: str
    entries: Sequence[Accepted] = ()

    async def tell(self, first: int, end: int, type: str, **block: Any) -> None:
        """SES says that of these e-mails; returns when the worker has applied it, and the guard has looked."""
        name = {"Bounce": "bouncedRecipients", "Complaint": "complainedRecipients"}.get(type)
        for entry in self.entries[first:end]:
            (to,) = entry.recipients
            event = published(type, **block, **({name: [{"emailAddress": to}]} if name else {}))
            event["mail"] |= {"messageId": entry.id, "destination": [to], "tags": {k: [v] for k, v in entry.tags.items()}}
            self.ses.queues.events.put(json.dumps(event).encode())
        await self.all_applied()
        await maintenance.look_after_campaigns(self.runtime)

    async def all_applied(self) -> None:
        async with asyncio.timeout(15):
            while (n := self.ses.queues.events.counts())["waiting"] + n["in_flight"] + n["delayed"]:
                await asyncio.sleep(0.02)

    async def said(self) -> tuple[dict[str, int], bool]:
        """The recipients by outcome without those that are still queued, and whether its guard has paused it."""
        status = await self.mailer.campaign(self.id)
        return {k: n for k, n in status.counts.items() if k != "queued"}, status.reason.startswith("paused by its guard")


@pytest.fixture
async def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    config = SimulatorConfig(max_send_rate=40, max_24h=1_000_000, events=True, events_visibility_s=30.0)
    async with simulated_ses(monkeypatch, config) as ses:
        url = os.environ["AWS_ENDPOINT_URL_SESV2"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        with_queue = settings.model_copy(update={"events_sqs_url": url + ses.queues.path})
        async with running_worker(with_queue) as runtime, Mailer(with_queue) as mailer:
            id = await mailer.start_campaign(letter(guard_after=20), rows(400))
            world = World(mailer, runtime, ses, id)
            async with asyncio.timeout(15):
                while len(ses.log) < 40:
                    await asyncio.sleep(0.02)
            await mailer.pause(id)
            async with asyncio.timeout(15):
                while {"claimed", "sent"} & (await mailer.campaign(id)).counts.keys():
                    await asyncio.sleep(0.02)
            world.entries = list(ses.log)
            yield world


async def test_only_hard_bounces_of_what_was_tried_count_for_the_guard(world: World) -> None:
    n = len(world.entries)
    assert await world.said() == ({"delivered": n}, False)
    for first, kind in enumerate((FULL, NOBODY_KNOWS, ON_THE_LIST, ON_ALL_LISTS)):
        await world.tell(first * 8, first * 8 + 8, "Bounce", **kind)
    await world.tell(32, 36, "Complaint", **LISTED)
    counts, paused = await world.said()
    assert counts == {"delivered": n - 28, "bounced": 24, "complained": 4}
    assert not paused
    reputation = (await world.mailer.campaign(world.id)).reputation
    assert (reputation.known, reputation.bounced, reputation.complained) == (n - 20, 0, 0)
    await world.tell(0, 8, "Bounce", **HARD)
    counts, paused = await world.said()
    assert (counts["bounced"], paused) == (24, True)
    assert (await world.mailer.campaign(world.id)).reason.startswith(f"paused by its guard: 8 of {n - 20} e-mails bounced")


async def test_an_automatic_reply_leaves_what_was_delivered_delivered_in_whatever_order_they_come(world: World) -> None:
    n = len(world.entries)
    await world.tell(0, n, "Bounce", **REPLY)
    assert await world.said() == ({"delivered": n}, False)
    lines = [line async for line in world.mailer.outcomes(world.id) if line.state == "delivered"]
    assert {line.reason for line in lines} == {""}


async def test_two_complaints_pause_nobody_and_three_do(world: World) -> None:
    n = len(world.entries)
    await world.tell(0, 2, "Complaint")
    assert await world.said() == ({"delivered": n - 2, "complained": 2}, False)
    await world.tell(2, 3, "Complaint")
    assert await world.said() == ({"delivered": n - 3, "complained": 3}, True)
