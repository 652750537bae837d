"""Which bounces and complaints count, through a whole worker and the simulated account's queue of events."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mailer import Email, Mailer, Settings
from mailer.events import Event, read
from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator.journal import Accepted
from mailer.suppression.lists import Reason
from worker import events, maintenance
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses
from ..ses_events import SES_ID, published
from .test_delivery import FROM, finished, letter, rows, settled

REPLY = {"bounceType": "Transient", "bounceSubType": "General"}  # of somebody who is out of office
FULL: dict[str, Any] = {"bounceType": "Transient", "bounceSubType": "MailboxFull"}
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
        name = {"Bounce": "bouncedRecipients", "Complaint": "complainedRecipients"}[type]
        for entry in self.entries[first:end]:
            (to,) = entry.recipients
            event = published(type, **block, **{name: [{"emailAddress": to}]})
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


def event(
    type: str, to: str, attempt: str = "", *, id: str = SES_ID, said: Mapping[str, str] | None = None, **block: Any
) -> Event:
    """Of a message to that address, with or without the tag of an attempt."""
    name = {"Bounce": "bouncedRecipients", "DeliveryDelay": "delayedRecipients"}.get(type)
    found = published(type, **block, **({name: [{"emailAddress": to, **(said or {})}]} if name else {}))
    found["mail"] |= {"messageId": id, "destination": [to], "tags": {"mailer_id": [attempt]}}
    return read(json.dumps(found))


async def test_a_delay_is_shown_until_it_is_known_what_became_of_the_message(
    settings: Settings, runtime: Runtime, mailer: Mailer, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [await mailer.send(Email(to=f"u{i}@example.org", from_=FROM, subject="Hello", text="…")) for i in range(2)]
    for id in ids:
        await settled(mailer, id)
    accepted = [(await mailer.status(id)).ses_message_id or "" for id in ids]
    words = "delayed (RecipientServerError): 4.4.1 smtp; 451 4.4.1 try later; SES tries until 2026-11-05 17:00 UTC"
    said = {"status": "4.4.1", "diagnosticCode": "smtp; 451 4.4.1 try later"}
    late = [
        event("DeliveryDelay", f"u{i}@example.org", f"{id}-0-0-1", id=accepted[i], delayType="RecipientServerError", said=said)
        for i, id in enumerate(ids)
    ]
    await events.apply(runtime, late)
    for id in ids:
        assert ((await mailer.status(id)).state, (await mailer.status(id)).reason) == ("sent", words)
        assert (await mailer.outcome(f"{id}-0-0")).reason == words
    await events.apply(runtime, [event("Delivery", "u0@example.org", f"{ids[0]}-0-0-1", id=accepted[0])])
    await events.apply(runtime, [event("Bounce", "u1@example.org", f"{ids[1]}-0-0-1", id=accepted[1], **FULL)])
    await events.apply(runtime, late)  # it comes once more, and late
    found = [await mailer.status(id) for id in ids]
    assert [(one.state, one.reason) for one in found] == [("delivered", ""), ("bounced", "Transient/MailboxFull")]


async def test_a_campaign_counts_those_whom_ses_is_still_trying_to_reach_and_the_stream_names_them(
    runtime: Runtime, mailer: Mailer
) -> None:
    id = await mailer.start_campaign(letter(), rows(5))
    await finished(mailer, id)
    lines = [line async for line in mailer.outcomes(id)]

    def said(type: str, *positions: int, **block: Any) -> list[Event]:
        return [event(type, lines[p].to, f"{lines[p].id}-1", id=lines[p].ses_message_id or "", **block) for p in positions]

    for _ in range(2):
        await events.apply(runtime, said("DeliveryDelay", 0, 1, 2))
    assert (await mailer.campaign(id)).delayed == 3
    told = [entry for _, entry in await runtime.redis.xrange(runtime.ledger.keys.outcomes) if b"delayed" in entry[b"reason"]]
    assert [(entry[b"id"].decode(), entry[b"state"]) for entry in told] == [(lines[p].id, b"sent") for p in range(3)]
    await events.apply(runtime, [*said("Delivery", 1), *said("Bounce", 2)])
    status = await mailer.campaign(id)
    assert (status.delayed, status.counts) == (1, {"sent": 3, "delivered": 1, "bounced": 1})


SAID = {"status": "4.2.2"}


@pytest.mark.parametrize(
    ("kind", "said", "counts"),
    [
        (FULL, None, True),
        (FULL, SAID, True),
        (REPLY, SAID, True),
        (REPLY, None, False),  # somebody is out of office
        ({"bounceType": "Transient", "bounceSubType": "ContentRejected"}, SAID, False),
        ({"bounceType": "Transient", "bounceSubType": "MessageTooLarge"}, SAID, False),
        (NOBODY_KNOWS, SAID, False),
        (ON_THE_LIST, SAID, False),
    ],
)
async def test_an_address_is_suppressed_after_as_many_soft_bounces_as_the_setting_says(
    settings: Settings, ses: Simulator, mailer: Mailer, kind: dict[str, Any], said: Mapping[str, str] | None, counts: bool
) -> None:
    to, other = "ana@example.org", "bo@example.org"

    def bounced(n: int, to: str = to) -> Event:
        return event("Bounce", to, id=f"message-{n}", said=said, **kind)

    async with Runtime(settings.model_copy(update={"soft_bounces_suppress": 3})) as idle:
        await events.apply(idle, [bounced(1), bounced(2), bounced(2), bounced(2), bounced(1)])  # events come twice
        assert await mailer.suppressed(to) == ()
        await events.apply(idle, [event("Delivery", to, id="message-3")])  # from here on it counts anew
        await events.apply(idle, [bounced(4), bounced(5), bounced(6, other)])
        assert await mailer.suppressed(to) == ()
        await events.apply(idle, [bounced(7, to.replace("ana", "Ana"))])
        assert [entry.reason for entry in await mailer.suppressed(to)] == ([Reason.BOUNCE] if counts else [])
        assert await mailer.suppressed(other) == ()
        key = idle.ledger.keys.soft_bounces(other)
        assert (await idle.redis.ttl(key) > 80 * 86_400) is counts
        assert await idle.redis.exists(idle.ledger.keys.soft_bounces(to)) == 0


async def test_without_the_setting_soft_bounces_suppress_nobody_and_leave_nothing_in_redis(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    async with Runtime(settings) as idle:
        await events.apply(idle, [event("Bounce", "ana@example.org", id=f"message-{n}", **FULL) for n in range(50)])
        assert await mailer.suppressed("ana@example.org") == ()
        assert await idle.redis.exists(idle.ledger.keys.soft_bounces("ana@example.org")) == 0
