"""From what SES publishes to what the ledger says: through SQS as moto has it, and through SNS over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import httpx
import pytest
from structlog.testing import capture_logs

from mailer import Email, Mailer, Settings, State
from mailer.errors import FetchFailed
from mailer.events import Certificates, Verifier, read
from mailer.ids import Attempt, new_campaign_id
from mailer.ledger.inbox import Inbox
from mailer.message.sender import Sender
from mailer.metrics import REGISTRY
from mailer.queue import connect, disconnect
from mailer.redis.client import RedisClient
from mailer.redis.scripts import Scripts
from mailer.ses.sqs import EventQueue, Received
from mailer.settings import Policy
from mailer.simulator import AccountChange, Fault, Kind, Simulator, SimulatorConfig, change_account
from mailer.simulator.sqs import Queues
from mailer.suppression.lists import Reason
from worker import events, http, maintenance, sns
from worker import suppression_outbox as owed
from worker.runtime import Runtime, cancel

from .. import sns as signed
from ..bench.events import answer, claimed, made
from ..conftest import running_worker, simulated_ses
from ..crash.proxy import RedisWire, Stop, Watch, What, When, load_scripts, proxy
from ..servers import RedisServer
from ..ses_events import ANA, forms, notified, published
from .test_archive import NOW, archive_of, sent
from .test_delivery import FROM, finished, letter, rows, settled
from .test_ledger import campaign

QUEUES = count()


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def until(condition: Callable[[], Any], within: float = 15) -> None:
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.02)


async def state_of(mailer: Mailer, id: str, *states: str) -> None:
    async def is_there() -> bool:
        return (await mailer.status(id)).state in states

    await until(is_there)


@pytest.fixture
async def idle(settings: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    """A worker in which nothing runs by itself."""
    monkeypatch.setattr(sns, "BLOCK_MS", 1)
    async with Runtime(settings) as runtime:
        yield runtime


# ---- SQS -----------------------------------------------------------------------------------------------------------


class Sqs:
    """A queue of the test's own, with a dead-letter queue behind it."""

    def __init__(self, url: str) -> None:
        keys = {"aws_access_key_id": "simulated", "aws_secret_access_key": "simulated"}
        self._client = boto3.client("sqs", endpoint_url=url, region_name="eu-west-1", **keys)
        name = f"events{next(QUEUES)}"
        self._dead = self._client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = f"arn:aws:sqs:eu-west-1:123456789012:{name}-dead"
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
        attributes = {"RedrivePolicy": policy, "VisibilityTimeout": "1"}
        self.url: str = self._client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    async def send(self, *bodies: str) -> None:
        for first in range(0, len(bodies), 10):
            entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies[first : first + 10])]
            await asyncio.to_thread(self._client.send_message_batch, QueueUrl=self.url, Entries=entries)

    async def count(self, *, dead: bool = False) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self._dead if dead else self.url
        found = await asyncio.to_thread(self._client.get_queue_attributes, QueueUrl=url, AttributeNames=names)
        return sum(map(int, found["Attributes"].values()))

    async def empty(self) -> bool:
        return not await self.count()


@pytest.fixture
async def sqs(moto: str, monkeypatch: pytest.MonkeyPatch) -> Sqs:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto)
    return await asyncio.to_thread(Sqs, moto)


@pytest.fixture
async def told(ses: Simulator, sqs: Sqs, settings: Settings) -> AsyncIterator[Settings]:
    """Settings with the queue, into which the simulated SES publishes in all forms in turn."""
    waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    ses.on_event = waiting.put_nowait

    async def publish() -> None:
        number = count()
        while True:
            events = [await waiting.get()]
            while not waiting.empty():
                events.append(waiting.get_nowait())
            found = (list(forms(event).values()) for event in events)
            await sqs.send(*(bodies[next(number) % len(bodies)] for bodies in found))

    task = asyncio.create_task(publish())
    yield settings.model_copy(update={"events_sqs_url": sqs.url, "unknown_grace_s": 3600.0})
    task.cancel()


async def test_a_campaigns_outcomes_come_in_through_the_queue(
    told: Settings, ses: Simulator, sqs: Sqs, mailer: Mailer, caplog: pytest.LogCaptureFixture
) -> None:
    test_addresses = [{"email": f"{name}@simulator.amazonses.com", "name": name} for name in ("bounce", "complaint", "success")]
    before = metric("mailer_events_total", type="Delivery")
    async with running_worker(told):
        id = await mailer.start_campaign(letter(), [*rows(12), *test_addresses])
        await finished(mailer, id)

        async def all_told() -> bool:
            counts = (await mailer.campaign(id)).counts
            return counts == {"delivered": 13, "bounced": 1, "complained": 1}

        await until(all_told)
        await until(sqs.empty)
    lines = {line.to.partition("@")[0]: line async for line in mailer.outcomes(id)}
    assert lines["bounce"].reason == "Permanent/General: 5.1.1 smtp; 550 5.1.1 user unknown"
    assert (lines["complaint"].reason, lines["u0"].reason) == ("abuse", "")
    assert lines["u0"].ses_message_id in {entry.id for entry in ses.log}
    assert [await mailer.suppressed(one["email"]) for one in test_addresses] == [(), (), ()]  # they may be written to again
    assert metric("mailer_events_total", type="Delivery") - before == 14


async def test_an_answer_that_got_lost_is_made_up_for_by_the_event(told: Settings, ses: Simulator, mailer: Mailer) -> None:
    ses.faults.set([Fault(operation="SendEmail", kind=Kind.CUT_AFTER, count=1)])
    async with running_worker(told):
        id = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="Code", text="1234"))
        await state_of(mailer, id, "delivered")
    status = await mailer.status(id)
    assert (status.attempts, status.ses_message_id) == (1, next(iter(ses.log)).id)


async def test_what_is_no_event_goes_the_queues_own_way_and_stops_nothing(
    settings: Settings, ses: Simulator, sqs: Sqs, mailer: Mailer
) -> None:
    unread = metric("mailer_events_unread_total")
    await sqs.send("{", json.dumps({"hello": 1}), *forms(notified("Bounce")).values(), '{"eventType": "Novel", "mail": {}}')
    with_queue = settings.model_copy(update={"events_sqs_url": sqs.url})
    async with running_worker(with_queue):

        async def dead() -> bool:
            return await sqs.count(dead=True) == 2 and await sqs.empty()

        await until(dead)
    assert [entry.reason for entry in await mailer.suppressed(ANA)] == [Reason.BOUNCE]
    assert metric("mailer_events_unread_total") - unread >= 2


# ---- SQS while something is away -----------------------------------------------------------------------------------


@asynccontextmanager
async def taking_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, times: list[int], visibility_s: float = 0.4
) -> AsyncIterator[tuple[Runtime, Queues]]:
    """A worker of which only the loop runs that takes in events of the simulated queue, in which a message is hidden for a moment
    only. `times`: for each message that was received, how often it was by then."""

    class Watched(EventQueue):
        async def receive(self, wait_s: int) -> list[Received]:
            found = await super().receive(wait_s)
            times.extend(one.times for one in found)
            return found

    monkeypatch.setattr(events, "EventQueue", Watched)
    monkeypatch.setattr(events, "PAUSE_S", (0.05, 0.2))
    monkeypatch.setattr(events, "REDIS_PAUSE_S", (0.05, 0.2))
    config = SimulatorConfig(max_send_rate=5000, max_24h=1_000_000, events=True, events_visibility_s=visibility_s)
    async with simulated_ses(monkeypatch, config) as ses, Runtime(settings) as runtime:
        url = os.environ["AWS_ENDPOINT_URL_SESV2"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        task = asyncio.create_task(events.from_sqs(runtime, url + ses.queues.path))
        try:
            await until(lambda: truth(ses.queues.events.pollers == 1))
            yield runtime, ses.queues
        finally:
            await cancel(task)


async def truth(value: bool) -> bool:
    return value


async def test_while_redis_is_away_an_event_is_received_once_and_not_deleted_before_it_is_applied(
    own_server: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = list[int]()
    settings = settings.model_copy(update={"redis_url": own_server.url})
    # Longer than a command of Redis is repeated: 30 s are SQS's default.
    async with taking_in(settings, monkeypatch, times, 1.5) as (_, queues), Mailer(settings) as mailer:
        await asyncio.to_thread(own_server.stop)
        queues.events.put(json.dumps(notified("Bounce")).encode())
        with pytest.raises(TimeoutError):
            await until(lambda: truth(len(times) > 1), within=3.5)
        assert times == [1]
        await asyncio.to_thread(own_server.start)
        await until(lambda: mailer.suppressed(ANA))
    assert (times, len(queues.dead.take(10))) == ([1, 2], 0)


async def test_received_mail_is_left_in_a_shared_queue_and_told_once_and_half_a_character_does_not_keep_an_event_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = json.dumps({"notificationType": "Received", "mail": {"messageId": "abc"}, "receipt": {}, "content": "…"})
    broken = json.dumps(published("Bounce", bouncedRecipients=[{"emailAddress": ANA, "diagnosticCode": "550 @@"}]))
    times, unread = list[int](), metric("mailer_events_unread_total")
    async with taking_in(settings, monkeypatch, times) as (_, queues), Mailer(settings) as mailer:
        with capture_logs() as logs:
            for body in (received, received, broken.replace("@@", "\\ud83d")):
                queues.events.put(body.encode())
            await until(lambda: truth(sum(queues.dead.counts()[name] for name in ("waiting", "in_flight")) == 2))
        assert [entry.reason for entry in await mailer.suppressed(ANA)] == [Reason.BOUNCE]
        assert queues.events.counts()["deleted"] == 1
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [events.RECEIVED]
    assert metric("mailer_events_unread_total") == unread


@pytest.fixture
def stored(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a store for archives."""
    (tmp_path / "store").mkdir()
    return settings.model_copy(update={"store_url": f"file://{tmp_path}/store"})


async def archived(runtime: Runtime, chunks: int) -> tuple[str, list[Path]]:
    """A campaign of archived chunks of one recipient, all `sent`; its objects in the order of their chunks."""
    ledger, folder = runtime.ledger, runtime.settings.store_url.removeprefix("file://")
    id = await campaign(ledger, *[1] * chunks)
    for number in range(chunks):
        await sent(ledger, f"{id}-{number}", 1)
    assert await archive_of(ledger).archive_due(limit=100, **NOW) == chunks
    return id, sorted((Path(folder) / id).iterdir(), key=lambda path: int(path.name.partition("-")[0]))


def bounced(id: str, chunk: int, attempt: int = 1) -> str:
    """An event of the address `<chunk>@example.org`."""
    found, to = published("Bounce", bouncedRecipients=[{"emailAddress": f"{chunk}@example.org"}]), f"{chunk}@example.org"
    found["mail"] |= {"destination": [to], "tags": {"mailer_id": [str(Attempt(id, chunk, 0, attempt))]}}
    return json.dumps(found)


async def test_an_archive_that_cannot_be_read_holds_up_its_own_events_and_no_others(
    stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, before = list[int](), metric("mailer_events_total", type="Bounce")
    async with taking_in(stored, monkeypatch, times) as (runtime, queues), Mailer(stored) as mailer:
        id, (cut, no_json, away, _) = await archived(runtime, 4)
        whole = {path: path.read_bytes() for path in (cut, no_json, away)}
        cut.write_bytes(whole[cut][:40])
        no_json.write_bytes(gzip.compress(b"{}\n"))
        away.unlink()
        away.mkdir()  # what a read of it says is an error of the store
        with capture_logs() as logs:
            for chunk in range(4):
                queues.events.put(bounced(id, chunk).encode())

            async def is_applied() -> bool:
                return (await mailer.campaign(id)).counts == {"sent": 3, "bounced": 1} and max(times) > 1

            await until(is_applied)
        assert metric("mailer_events_total", type="Bounce") - before == 1
        assert all([await mailer.suppressed(f"{chunk}@example.org") for chunk in range(4)])
        assert not [entry for entry in logs if entry.get("exc_info")]
        first = next(entry for entry in logs if entry["log_level"] == "warning")
        assert first["events"] in (1, 2, 3)
        assert re.search(rf"store file:.* its object {id}/\S+ cannot be read|Is a directory", first["reason"])
        away.rmdir()
        for path, content in whole.items():
            path.write_bytes(content)

        async def all_bounced() -> bool:
            return (await mailer.campaign(id)).counts == {"bounced": 4}

        await until(all_bounced)
        await until(lambda: truth(queues.events.counts()["deleted"] == 4))
    assert metric("mailer_events_total", type="Bounce") - before == 4


async def test_a_store_that_does_not_answer_costs_a_batch_a_bounded_time_and_those_that_follow_none(
    stored: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BACK_S", 0.5)
    async with Runtime(stored) as runtime:
        id, _ = await archived(runtime, 20)
        live = await campaign(runtime.ledger, 2)
        some = [read(bounced(id, chunk)) for chunk in range(20)]
        assert runtime.objects is not None
        asked = list[str]()

        async def never(name: str) -> bytes:
            asked.append(name)
            await asyncio.Event().wait()
            raise AssertionError

        with monkeypatch.context() as patch:
            patch.setattr(runtime.objects, "get", never)
            async with asyncio.timeout(10):
                for _ in range(2):
                    assert await events.apply(runtime, [*some, read(bounced(live, 0))]) == set(range(20))
        assert (await runtime.ledger.report.campaign(live)).counts == {"bounced": 1, "queued": 1}
        assert len(asked) == events.BACK_AT_ONCE
        runtime.store_rests_until = 0.0  # as half a minute later
        monkeypatch.setattr(events, "BACK_S", 5.0)
        assert await events.apply(runtime, some) == set()
        assert (await runtime.ledger.report.campaign(id)).counts == {"bounced": 20}


async def test_what_one_event_holds_does_not_stop_the_others_of_its_batch(idle: Runtime) -> None:
    ids = [await campaign(idle.ledger, 1) for _ in range(7)]
    chunk = f"{ids[5]}-0"
    await idle.redis.unlink(idle.ledger.keys.records(chunk))
    await idle.ledger.redis.hset(idle.ledger.keys.records(chunk), mapping={"not what": "a script expects"})
    some = [read(bounced(id, 0)) for id in ids]
    too_large = [read(bounced(id, 0, attempt)) for id in ids for attempt in (65536, 70000, 10**13)]
    assert await events.apply(idle, [*some, *too_large]) == {5}
    states = [(await idle.ledger.report.campaign(id)).counts for id in ids]
    assert states == [{"bounced": 1}] * 5 + [{"queued": 1}, {"bounced": 1}]


# ---- the guard -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state", "sentence"),
    [("bounce", "bounced", "bounced"), ("complaint", "complained", "were complained about")],
)
async def test_bounces_and_complaints_of_the_queue_pause_the_campaign_and_a_resume_judges_what_comes_after_it(
    told: Settings, ses: Simulator, mailer: Mailer, name: str, state: str, sentence: str
) -> None:
    change_account(ses, AccountChange(max_send_rate=75))
    bad = [{"email": f"{name}+{number}@simulator.amazonses.com", "name": "x"} for number in range(15)]
    good = rows(165)
    people = [row for pair in zip(bad, good[:15], strict=True) for row in pair] + good[15:]
    async with running_worker(told):
        id = await mailer.start_campaign(letter(guard_after=20), people)
        async with asyncio.timeout(10):
            while (status := await mailer.campaign(id)).state is not State.PAUSED:
                enough, seen = len(ses.log) >= 30, time.monotonic()
                if not enough:
                    since = seen
                await asyncio.sleep(0.02)
        assert time.monotonic() - since < 4
        assert re.match(rf"paused by its guard: \d+ of \d+ e-mails {sentence}, \d", status.reason)
        assert status.counts["queued"] > 0

        async def all_told() -> bool:
            counts = (await mailer.campaign(id)).counts
            return counts.get(state) == 15 and not {"claimed", "sent"} & set(counts)

        await until(all_told)
        handed_over = len(ses.log)
        assert await mailer.resume(id)
        status = await finished(mailer, id)
        assert (status.state, status.reason, status.counts.get("claimed")) == (State.FINISHED, "", None)
        await until(all_told)
        status = await mailer.campaign(id)
        assert (status.state, status.counts) == (State.FINISHED, {"delivered": 165, state: 15})
    assert handed_over < len(ses.log) == 180


# ---- the grace -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", list(Policy))
async def test_without_an_event_the_lanes_policy_decides_after_the_grace(
    settings: Settings, ses: Simulator, mailer: Mailer, policy: Policy
) -> None:
    key = f"{settings.namespace}:clock"
    clock = (
        "local function now_us() local t = redis.call('TIME') "
        f"return t[1] * 1000000 + t[2] + (redis.call('GET', '{key}') or 0) end\n"
    )
    ses.faults.set([Fault(operation="SendEmail", kind=Kind.CUT_AFTER, count=1)])
    chosen = settings.model_copy(update={"unknown_transactional": policy})
    async with running_worker(chosen, clock=clock) as runtime:
        id = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="Code", text="1234"))
        await state_of(mailer, id, "unknown")
        await runtime.redis.set(key, 890_000_000)
        assert await runtime.ledger.work.doubtful(900_000, limit=10) == []
        await runtime.redis.set(key, 905_000_000)
        if policy is Policy.HOLD:
            await maintenance.settle_doubts(runtime)
            assert (await mailer.status(id)).state == "unknown"
        else:
            await state_of(mailer, id, "sent")
    assert len(ses.log) == (2 if policy is Policy.RESEND else 1)
    assert (await mailer.status(id)).attempts == len(ses.log)


async def test_retry_sends_again_to_those_that_failed(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.start_campaign(letter(), rows(3))
    await finished(mailer, id)
    first = next(iter(ses.log)).tags["mailer_id"]
    failed = read(
        json.dumps(
            published("Rendering Failure") | {"mail": {"messageId": next(iter(ses.log)).id, "tags": {"mailer_id": [first]}}}
        )
    )
    await events.apply(runtime, [failed])
    assert (await mailer.campaign(id)).counts == {"sent": 2, "failed": 1}
    assert await mailer.retry(id, ["failed"]) == 1
    status = await finished(mailer, id)
    assert (status.counts, status.state, status.twice, len(ses.log)) == ({"sent": 3}, State.FINISHED, 0, 4)


# ---- many ----------------------------------------------------------------------------------------------------------


async def test_5000_events_shuffled_and_repeated_some_before_the_answer_end_as_the_model_says(idle: Runtime) -> None:
    id, chance = new_campaign_id(), random.Random(5)
    bodies, model = made(id, 5000, chance)
    works = await claimed(idle.ledger, id, len(model))
    answering = asyncio.create_task(answer(idle.ledger, works, chance))
    while bodies:
        some, bodies = bodies[:300], bodies[300:]
        await events.apply(idle, list(map(read, some)))
    await answering
    status = await idle.ledger.report.campaign(id)
    assert [line.state async for line in idle.ledger.report.lines(id)] == model
    assert (status.counts, status.state, status.twice) == (Counter(model), State.FINISHED, 0)


# ---- suppression ---------------------------------------------------------------------------------------------------


def event(type: str, attempt: Attempt | str = "", to: str = ANA, **block: Any) -> Any:
    mail = {name: block.pop(name) for name in ("source", "commonHeaders") if name in block}
    found = published(type, **block)
    found["mail"] |= {"destination": [to], "tags": {"mailer_id": [str(attempt)]}} | mail
    return read(json.dumps(found))


async def test_who_is_suppressed_and_that_a_delivery_does_not_lift_it(idle: Runtime, mailer: Mailer) -> None:
    transient = {"bounceType": "Transient", "bounceSubType": "MailboxFull"}
    cases: list[tuple[str, dict[str, Any], bool]] = [
        ("Bounce", {}, True),
        ("Bounce", transient, False),
        ("Bounce", {"bounceType": "Undetermined"}, False),
        ("Bounce", {"bounceSubType": "OnAccountSuppressionList"}, False),
        ("Complaint", {}, True),
        ("Complaint", {"complaintFeedbackType": "not-spam"}, False),
        ("Delivery", {}, False),
    ]
    found = dict[str, bool]()
    for number, (type, block, _) in enumerate(cases):
        to = f"u{number}@example.org"
        named: dict[str, Any] = {name: [{"emailAddress": to}] for name in ("bouncedRecipients", "complainedRecipients")}
        await events.apply(idle, [event(type, "", to, **named, **block), event("Delivery", "", to)])
        found[f"{type} {block}"] = bool(await mailer.suppressed(to))
    assert found == {f"{type} {block}": suppressed for type, block, suppressed in cases}


@pytest.mark.parametrize("reasons", [("COMPLAINT",), ("BOUNCE", "COMPLAINT")])
async def test_sess_list_is_written_to_where_ses_does_not_do_it_itself(
    settings: Settings, ses: Simulator, mailer: Mailer, reasons: tuple[str, ...]
) -> None:
    ses.suppressed_reasons = reasons
    async with running_worker(settings) as runtime:
        id = await mailer.send(Email(to=ANA, from_=FROM, subject="Code", text="1234"))
        await settled(mailer, id)
        await events.apply(runtime, [event("Bounce", Attempt(id, 0, 0, 1))])
        assert (await mailer.status(id)).state == "bounced"

        async def told() -> bool:
            return not await runtime.redis.exists(runtime.ledger.keys.owed)

        await until(told)
    assert (ANA in ses.suppressed) is ("BOUNCE" not in reasons)


async def test_events_do_not_wait_for_sess_list_and_what_it_refuses_is_written_later(
    settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's role may not write there at first; forty bounces come at once, twice."""
    monkeypatch.delitem(maintenance.LOOPS, "suppressing")
    ses.suppressed_reasons = ()
    async with running_worker(settings) as runtime:
        id = await mailer.send(Email(to=ANA, from_=FROM, subject="Code", text="1234"))
        await settled(mailer, id)
        key = runtime.ledger.keys.owed
        forbidden = {"kind": Kind.ERROR, "code": "AccessDeniedException", "status": 403}
        ses.faults.set([Fault(operation="PutSuppressedDestination", **forbidden)])
        bounces = [
            event("Bounce", Attempt(id, 0, 0, 1), f"u{n}@example.org", bouncedRecipients=[{"emailAddress": f"u{n}@example.org"}])
            for n in range(40)
        ]
        assert await events.apply(runtime, [*bounces, *bounces]) == set()
        assert (ses.faults.fired, await runtime.redis.zcard(key)) == ({}, 40)  # nothing of it waits for SES
        assert all([await mailer.suppressed(f"u{n}@example.org") for n in range(40)])

        with capture_logs() as logs:
            await owed.pay(runtime)  # one call, which is refused: the others are not tried
        assert (ses.faults.fired, await runtime.redis.zcard(key)) == ({0: 1}, 40)
        assert len([entry for entry in logs if entry["log_level"] == "warning"]) == 1
        assert "@" not in str(logs)
        await owed.pay(runtime)
        assert ses.faults.fired == {0: 1}  # not before its time
        await runtime.redis.zadd(key, dict.fromkeys(await runtime.redis.zrange(key, 0, -1), 0))  # ten minutes later
        ses.faults.set([])
        await asyncio.gather(owed.pay(runtime), owed.pay(runtime))
        assert set(ses.suppressed) == {f"u{n}@example.org" for n in range(40)}
        assert await runtime.redis.exists(key, runtime.ledger.keys.owed_turn) == 0


async def test_who_leaves_sess_contact_list_gets_no_more_of_that_stream(runtime: Runtime, settings: Settings) -> None:
    news = settings.model_copy(update={"senders": {"news": Sender.model_validate({"from": FROM})}})
    async with Mailer(news) as mailer:
        id = await mailer.send(Email(to=ANA, sender="news", subject="News", text="…"))
        await settled(mailer, id)
        wanted = {"unsubscribeAll": False, "topicSubscriptionStatus": [{"topicName": "news", "subscriptionStatus": "OptIn"}]}
        await events.apply(runtime, [event("Subscription", Attempt(id, 0, 0, 1), newTopicPreferences=wanted)])
        assert await mailer.suppressed(ANA) == ()
        await events.apply(runtime, [event("Subscription", Attempt(id, 0, 0, 1))])
        assert [(e.reason, e.stream) for e in await mailer.suppressed(ANA)] == [(Reason.UNSUBSCRIBE, "news")]
        assert (await mailer.status(id)).state == "sent"


async def test_who_leaves_a_contact_list_by_a_message_of_no_sender_still_gets_what_is_not_of_that_list(
    runtime: Runtime, mailer: Mailer
) -> None:
    id = await mailer.send(Email(to=ANA, from_=FROM, subject="News", text="…"))
    await settled(mailer, id)
    unmatched = metric("mailer_events_unmatched_total")
    await events.apply(runtime, [event("Subscription", Attempt(id, 0, 0, 1))])
    assert await mailer.suppressed(ANA) == ()
    assert metric("mailer_events_unmatched_total") - unmatched == 1
    receipt = await mailer.send(Email(to=ANA, from_=FROM, subject="Receipt", text="…"))
    assert (await settled(mailer, receipt)).state == "sent"


async def test_who_leaves_a_contact_list_by_a_forgotten_message_gets_no_more_from_the_senders_that_have_its_from_address(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    profiles = {"news": "News <letter@News.example.com>", "offers": "letter@news.example.com", "other": "a@example.com"}
    senders = {name: Sender.model_validate({"from": address}) for name, address in profiles.items()}
    attempt, unmatched = Attempt(new_campaign_id(), 0, 0, 1), metric("mailer_events_unmatched_total")
    headers = event("Subscription", attempt, "b@example.org", commonHeaders={"from": ["A <A@example.com>"]})
    unknown = event("Subscription", attempt, "c@example.org", source="x@example.net", commonHeaders={})
    async with Runtime(settings.model_copy(update={"senders": senders})) as runtime:
        with capture_logs() as logs:
            await events.apply(runtime, [event("Subscription", attempt, "a@example.org", commonHeaders={}), headers, unknown])
    found = {name: {one.stream for one in await mailer.suppressed(f"{name}@example.org")} for name in "abc"}
    assert found == {"a": {"news", "offers"}, "b": {"other"}, "c": set()}
    (warning,) = (entry for entry in logs if entry["log_level"] == "warning")
    assert (warning["id"], warning["recipients"]) == (attempt.container, 1)
    assert "@" not in str(logs)
    assert metric("mailer_events_unmatched_total") - unmatched == 1


# ---- SNS over HTTP -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def posted(runtime: Runtime, sns_of_ours: signed.Sns, redis: RedisClient | None = None) -> AsyncIterator[httpx.AsyncClient]:
    redis = redis or runtime.redis
    keys = Certificates(sns_of_ours.trust, sns_of_ours.web.fetch, clock=signed.NOW.timestamp)
    seen = sns.seen(redis, runtime.ledger.keys)
    verifier = Verifier([signed.TOPIC], keys, seen=seen, clock=signed.NOW.timestamp)

    async def nothing() -> Any:
        return {}

    endpoint = sns.Endpoint(redis, runtime.ledger.keys, [signed.TOPIC], verifier)
    app = http.create_app(alive=dict, ready=nothing, collect=nothing, events=endpoint)
    async with (
        http.serve(app, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


async def test_a_signed_notification_is_answered_and_applied_afterwards_once(idle: Runtime, mailer: Mailer) -> None:
    ours = signed.Sns()
    body = signed.body(ours.notification(json.dumps(published("Bounce"))))
    before = metric("mailer_events_total", type="Bounce")
    async with posted(idle, ours) as client:
        assert [(await client.post("/events/ses", content=body)).status_code for _ in range(3)] == [200, 200, 200]
    assert await mailer.suppressed(ANA) == ()
    for _ in range(3):
        await sns.take_in(idle)
    assert [entry.reason for entry in await mailer.suppressed(ANA)] == [Reason.BOUNCE]
    assert metric("mailer_events_total", type="Bounce") - before == 1
    inbox = idle.ledger.keys.inbox
    assert ((await idle.redis.xpending(inbox, sns.GROUP))["pending"], await idle.redis.xlen(inbox)) == (0, 0)


async def test_what_is_not_signed_is_refused_and_never_queued(idle: Runtime) -> None:
    ours = signed.Sns()
    forged = ours.notification() | {"Message": "other"}
    async with posted(idle, ours) as client:
        answers = [
            (await client.post("/events/ses", content=content)).status_code
            for content in (signed.body(forged), b"{", b"x" * 2**20)
        ]
    assert answers == [403, 403, 413]
    assert await idle.redis.xlen(idle.ledger.keys.inbox) == 0


@pytest.mark.parametrize(
    ("when", "cuts", "first"),
    [
        pytest.param(When.BEFORE, 9, 503, id="it never reaches Redis"),
        pytest.param(When.LOST, 9, 503, id="no answer of Redis comes"),
        pytest.param(When.LOST, 1, 200, id="one answer of Redis is lost and redis-py repeats the call"),
    ],
)
async def test_a_notification_is_queued_once_whatever_becomes_of_the_calls_that_queue_it(
    idle: Runtime, server: RedisServer, when: When, cuts: int, first: int
) -> None:
    ours = signed.Sns()
    body = signed.body(ours.notification(json.dumps(published("Bounce"))))
    await load_scripts(idle.redis)
    watch = Watch(nobody, *(Stop(name="notify", when=when, what=What.CUT, nth=nth + 1) for nth in range(cuts)))
    async with proxy(watch, RedisWire, server.url) as url:
        redis = connect(idle.settings.model_copy(update={"redis_url": url}))
        async with posted(idle, ours, redis) as client:
            assert (await client.post("/events/ses", content=body)).status_code == first
        await disconnect(redis)
    assert await idle.redis.xlen(idle.ledger.keys.inbox) == (when is When.LOST)
    async with posted(idle, ours) as client:  # SNS repeats it, to another worker
        assert (await client.post("/events/ses", content=body)).status_code == 200
    assert await idle.redis.xlen(idle.ledger.keys.inbox) == 1
    assert 3600 < await idle.redis.ttl(idle.ledger.keys.notified(signed_id(body))) <= 3900


async def nobody() -> None:
    raise AssertionError


def signed_id(body: bytes) -> str:
    return str(json.loads(body)["MessageId"])


async def test_a_call_that_is_repeated_because_its_answer_was_lost_says_that_it_has_queued(
    idle: Runtime, server: RedisServer
) -> None:
    await load_scripts(idle.redis)
    watch = Watch(nobody, Stop(name="notify", when=When.LOST, what=What.CUT))
    async with proxy(watch, RedisWire, server.url) as url:
        redis = connect(idle.settings.model_copy(update={"redis_url": url}))
        inbox = Inbox(idle.ledger.keys, Scripts(redis, "mailer.ledger"))
        assert [await inbox.notify("id", {"message": "{}"}, life_s=60) for _ in range(2)] == [True, False]
        await disconnect(redis)
    assert (watch.asked.count("notify"), await idle.redis.xlen(idle.ledger.keys.inbox)) == (3, 1)


async def test_a_worker_that_starts_removes_consumers_of_workers_that_ended_long_ago_and_left_nothing(
    idle: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sns.forget_the_gone(idle)  # there is no group yet
    await sns.take_in(idle)
    inbox = idle.ledger.keys.inbox
    for name in ("gone", "holds"):
        await idle.redis.xgroup_createconsumer(inbox, sns.GROUP, name)
    await idle.redis.xadd(inbox, {"message": "{"})
    await idle.redis.xreadgroup(sns.GROUP, "holds", {inbox: ">"})

    async def consumers() -> set[bytes]:
        return {one["name"] for one in await idle.redis.xinfo_consumers(inbox, sns.GROUP)}

    await sns.forget_the_gone(idle)
    assert {b"gone", b"holds"} <= await consumers()
    monkeypatch.setattr(sns, "GONE_AFTER_MS", 0)  # as hours later
    async with running_worker(idle.settings.model_copy(update={"events_topic_arns": [signed.TOPIC]})) as other:
        assert b"gone" not in await consumers()
        assert b"holds" in await consumers()
        await idle.redis.xadd(inbox, {"message": "{"})  # Redis 7.0 knows a consumer from what it has read
        await until(lambda: present(other.owner.encode(), consumers))


async def present(name: bytes, names: Callable[[], Awaitable[set[bytes]]]) -> bool:
    return name in await names()


async def test_what_cannot_be_applied_now_stays_queued_is_tried_again_and_never_stops_newer_ones(
    stored: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sns, "BLOCK_MS", 1)
    monkeypatch.setattr(sns, "TOGETHER", 2)
    async with Runtime(stored) as idle:
        inbox = idle.ledger.keys.inbox
        id, paths = await archived(idle, 4)
        whole = {path: path.read_bytes() for path in paths[:3]}
        for path in whole:
            path.write_bytes(b"cut")
        await sns.take_in(idle)
        for chunk in range(3):
            await idle.redis.xadd(inbox, {"message": bounced(id, chunk)})
        for _ in range(3):
            await sns.take_in(idle)
        monkeypatch.setattr(sns, "CLAIM_AFTER_MS", 0)  # as a minute later: all three are taken again in every round
        assert (await idle.redis.xpending(inbox, sns.GROUP))["pending"] == 3
        await idle.redis.xadd(inbox, {"message": bounced(id, 3)})
        await sns.take_in(idle)
        assert (await idle.ledger.report.campaign(id)).counts == {"sent": 3, "bounced": 1}
        for path, content in whole.items():
            path.write_bytes(content)
        for _ in range(2):
            await sns.take_in(idle)
        assert (await idle.ledger.report.campaign(id)).counts == {"bounced": 4}
        assert ((await idle.redis.xpending(inbox, sns.GROUP))["pending"], await idle.redis.xlen(inbox)) == (0, 0)


async def test_what_can_never_be_applied_is_given_up_after_four_days_and_not_before(
    stored: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sns, "BLOCK_MS", 1)
    async with Runtime(stored) as idle:
        inbox, now = idle.ledger.keys.inbox, await idle.ledger.now_ms()
        id, (path,) = await archived(idle, 1)
        path.write_bytes(b"cut")
        await sns.take_in(idle)
        old, younger = f"{now - 4 * 86_400_000 - 1}-0".encode(), f"{now - 4 * 86_400_000 + 60_000}-0".encode()
        for entry in (old, younger):
            await idle.redis.xadd(inbox, {"message": bounced(id, 0)}, id=entry)
        before = metric("mailer_events_unread_total")
        await sns.take_in(idle)
        assert [entry for entry, _ in await idle.redis.xrange(inbox)] == [younger]
        assert (await idle.redis.xpending(inbox, sns.GROUP))["pending"] == 1
        assert metric("mailer_events_unread_total") - before == 1


async def test_a_subscription_is_confirmed_at_snss_own_address(idle: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    visited, answers = list[str](), iter([FetchFailed(url="", why="there is no whole answer after 5 s"), None])

    async def fetch(url: str) -> bytes:
        visited.append(url)
        if error := next(answers):
            raise error
        return b""

    monkeypatch.setattr(sns, "fetch", fetch)
    monkeypatch.setattr(sns, "CLAIM_AFTER_MS", 0)
    ours = signed.Sns()
    async with posted(idle, ours) as client:
        assert (await client.post("/events/ses", content=signed.body(ours.confirmation()))).status_code == 200
    for _ in range(3):
        await sns.take_in(idle)
    assert [unquote(url) for url in visited] == [signed.subscribe_url()] * 2
    assert await idle.redis.xlen(idle.ledger.keys.inbox) == 0


async def test_requests_that_are_refused_are_told_once_for_each_reason_however_many_come(idle: Runtime) -> None:
    ours = signed.Sns()
    async with posted(idle, ours) as client:
        with capture_logs() as logs:
            for _ in range(40):
                assert (await client.post("/events/ses", content=b"{}")).status_code == 403
                foreign = signed.body(ours.notification(TopicArn=f"{signed.TOPIC}-of-others"))
                assert (await client.post("/events/ses", content=foreign)).status_code == 403
    told = [(entry["event"], entry["reason"]) for entry in logs]
    assert [event for event, _ in told] == ["a request that is no message of ours was refused"] * 2
    assert len(set(told)) == 2


async def test_a_believed_certificate_is_kept_in_redis_until_it_ends_and_a_redis_that_is_away_costs_no_belief(
    idle: Runtime, own_server: RedisServer
) -> None:
    keys, until_then = idle.ledger.keys, datetime.now(UTC) + timedelta(days=200)
    shelf = sns.Shelf(idle.redis, keys)
    assert await shelf.get("https://sns/a.pem") is None
    await shelf.put("https://sns/a.pem", b"chain", until_then)
    assert (await shelf.get("https://sns/a.pem"), await shelf.get("https://sns/b.pem")) == (b"chain", None)
    assert 199 * 86_400 < await idle.redis.ttl(keys.certificate("https://sns/a.pem")) <= 200 * 86_400
    away = connect(idle.settings.model_copy(update={"redis_url": own_server.url}), retries=0)
    await asyncio.to_thread(own_server.stop)
    await sns.Shelf(away, keys).put("https://sns/a.pem", b"chain", until_then)
    await disconnect(away)


async def test_without_topics_there_is_no_such_page() -> None:
    async def nothing() -> Any:
        return {}

    app = http.create_app(alive=dict, ready=nothing, collect=nothing)
    async with (
        http.serve(app, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        assert (await client.post("/events/ses", content=b"{}")).status_code == 404
