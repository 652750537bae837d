"""A worker is killed at each instant at which it can be, and what is found after the restart is what is promised: recipients
without a claim are sent to, those with a claim and no settle are `unknown`, and nobody else is.

The instants of a table are lived through side by side, each in a namespace of its own. A dead worker's lease runs out after
15 s, and for that time no process is needed: the processes take turns, the leases run out together.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from arq.constants import in_progress_key_prefix
from redis.exceptions import RedisError

from mailer import Campaign, Email, Lane, Mailer, Settings, State
from mailer.events import read
from mailer.ids import Attempt, chunk_id
from mailer.ledger import Ledger
from mailer.ledger.ledger import CampaignStatus, MessageStatus, RecipientStatus
from mailer.ledger.records import unpack_records
from mailer.queue import connect, disconnect
from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator import serve as serve_ses
from worker import events
from worker.runtime import Runtime
from worker.runtime import cancel as cancel_task

from ..conftest import simulated_ses
from . import full
from .proxy import AwsWire, RedisWire, Stop, Watch, What, When, load_scripts, proxy
from .workers import Worker, Workers

pytestmark = pytest.mark.timeout(1800 if full() else 300)

BEFORE, LOST, HALF = When.BEFORE, When.LOST, When.HALF
ROWS = 120  # three calls
FIRST, SECOND, THIRD = range(50), range(50, 100), range(100, 120)  # of a campaign's positions: its calls
AT_ONCE = 12  # instants of which a process is running; more would only wait for the cores
MEET_S = 30.0  # in which a worker comes to where it is killed
GO_ON_S = 45.0  # a wake-up that got lost is made up for within 20 s
MINUTE_MS = 60_000  # no turn is longer
SMALL = 60  # recipients; two calls
SAMPLE = 12  # of all requests, where not each is tried
MISSED_S = 10.0  # of a request that may not be made


# ---- the world -----------------------------------------------------------------------------------------------------


class World:
    """One Redis, one SES, and what starts workers. `heard`: the Send events that SES would publish, by campaign or message."""

    def __init__(self, settings: Settings, ses: Simulator, ses_url: str, workers: Workers, turn: asyncio.Semaphore) -> None:
        self.settings, self.ses, self.ses_url, self.workers, self.turn = settings, ses, ses_url, workers, turn
        self.heard = defaultdict[str, list[dict[str, Any]]](list)
        ses.on_event = self._hear

    def _hear(self, event: dict[str, Any]) -> None:
        if event["eventType"] == "Send":
            self.heard[Attempt.parse(event["mail"]["tags"]["mailer_id"][0]).container].append(event)

    def accepted(self) -> dict[str, dict[int, list[str]]]:
        """By campaign or message, by position: the ids under which SES's log has it."""
        found = defaultdict[str, dict[int, list[str]]](lambda: defaultdict(list))
        for entry in self.ses.log:
            attempt = Attempt.parse(entry.tags["mailer_id"])
            found[attempt.container][attempt.position].append(entry.id)
        return found

    @staticmethod
    def _environment(url: str) -> dict[str, str]:
        return {"MAILER_BULK_CALLS_PER_S": "unlimited", "AWS_ENDPOINT_URL_SESV2": url, "AWS_ENDPOINT_URL_SQS": url}

    @asynccontextmanager
    async def watched(self, settings: Settings, *stops: Stop, **extra: str) -> AsyncIterator[Watch]:
        """A worker, all of whose ways out are watched."""
        starting: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()

        async def end() -> None:
            one = await starting
            one.signal(signal.SIGKILL)
            await one.ended()

        watch = Watch(end, *stops)
        async with AsyncExitStack() as stack:
            redis_url = await stack.enter_async_context(proxy(watch, RedisWire, settings.redis_url))
            ses_url = await stack.enter_async_context(proxy(watch, AwsWire, self.ses_url))
            through = settings.model_copy(update={"redis_url": redis_url})
            starting.set_result(await self.workers.start(through, **self._environment(ses_url), **extra))
            try:
                yield watch
            finally:
                await end()

    @asynccontextmanager
    async def worker(self, settings: Settings, **extra: str) -> AsyncIterator[Worker]:
        one = await self.workers.start(settings, **self._environment(self.ses_url), **extra)
        try:
            yield one
        finally:
            one.signal(signal.SIGKILL)
            await one.ended()


@pytest.fixture
async def world(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    config = SimulatorConfig(max_send_rate=100_000, max_24h=-1)
    async with simulated_ses(monkeypatch, config) as ses, Workers(tmp_path) as workers:
        redis = connect(settings)
        await load_scripts(redis)
        await disconnect(redis)
        yield World(settings, ses, os.environ["AWS_ENDPOINT_URL_SESV2"], workers, asyncio.Semaphore(AT_ONCE))


@dataclass(frozen=True, slots=True)
class Mail:
    """A campaign and a message of the other lane, stored and queued, before any worker has started."""

    settings: Settings
    mailer: Mailer
    campaign: str
    message: str

    async def lines(self) -> list[RecipientStatus]:
        return [line async for line in self.mailer.outcomes(self.campaign)]

    async def in_state(self, state: str) -> set[int]:
        return {number for number, line in enumerate(await self.lines()) if line.state == state}

    async def over(self, within: float = GO_ON_S, *, nobody: Collection[str] = ()) -> CampaignStatus:
        """When nothing is open any more, nor any of the campaign in one of the states."""
        async with asyncio.timeout(within):
            while True:
                status, message = await self.mailer.campaign(self.campaign), await self.mailer.status(self.message)
                open_ = {"queued", "claimed"} & {*status.counts, message.state}
                if status.over and not open_ and not status.counts.keys() & set(nobody):
                    return status
                await asyncio.sleep(0.05)

    @property
    def ledger(self) -> Ledger:
        return self.mailer._ledger

    @property
    def chunks(self) -> tuple[str, str]:
        return chunk_id(self.campaign, 0), chunk_id(self.message, 0)

    async def at_rest(self) -> None:
        """Over, and given back by the worker that had it."""
        await self.over()
        async with asyncio.timeout(GO_ON_S):
            while any([await self._until(chunk) for chunk in self.chunks]):
                await asyncio.sleep(0.02)

    async def _until(self, chunk: str) -> int:
        return int(await self.ledger.redis.hget(self.ledger.keys.chunk(chunk), "until") or 0)

    async def a_minute_passes(self, *, moved: bool = False) -> None:
        """The leases of a dead worker run out, which takes a quarter of it, or are `moved` to their end. What else one holds for
        a while has run out then, too, and is ended here: turns at reading something of SES's, what arq writes of a job that
        runs, and the patience with a wake-up that got lost."""
        redis, keys = self.ledger.redis, self.ledger.keys
        await redis.delete(*(f"{in_progress_key_prefix}{chunk}:{fence}" for chunk in self.chunks for fence in range(5)))
        async for key in redis.scan_iter(match=f"{self.settings.namespace}:*", count=1000):
            if 0 < await redis.pttl(key) <= MINUTE_MS:
                await redis.delete(key)
        now = await self.ledger.scripts.now_ms()
        left = {chunk: await self._until(chunk) + 1 - now for chunk in self.chunks}
        for chunk in [chunk for chunk in self.chunks if moved and left.pop(chunk) > 0]:
            await redis.hset(keys.chunk(chunk), "until", now)
        await asyncio.sleep(max(0, *left.values(), 0) / 1000)
        for index in (keys.due, keys.over):
            for chunk in self.chunks:
                if await redis.zscore(index, chunk) is not None:
                    await redis.zincrby(index, -MINUTE_MS, chunk)

    async def tell(self, heard: Sequence[Mapping[str, Any]], *, delivered: bool = False) -> None:
        """Apply these Send events, or Delivery events of the same, as a worker does. Nothing of the rest of one is needed."""
        said = [{**event, "eventType": "Delivery", "delivery": {}} for event in heard] if delivered else heard
        runtime = Runtime(self.settings)
        try:
            await events.apply(runtime, [read(orjson.dumps(event)) for event in said])
        finally:
            await disconnect(runtime.redis)
            if runtime.objects is not None:
                await runtime.objects.close()


@asynccontextmanager
async def mail(world: World, rows: int = ROWS, **changed: Any) -> AsyncIterator[Mail]:
    settings = world.settings.model_copy(update={"namespace": f"t{secrets.token_hex(5)}", **changed})
    async with Mailer(settings) as mailer:
        letter = Campaign(name="June", from_="letter@example.com", template="letter")
        id = await mailer.start_campaign(letter, [{"email": f"u{i}@example.org", "name": f"N{i}"} for i in range(rows)])
        code = Email(to="ana@example.org", from_="code@example.com", subject="Code", text="1234", lane=Lane.TRANSACTIONAL)
        yield Mail(settings, mailer, id, await mailer.send(code))


async def side_by_side(tried: Mapping[str, Awaitable[None]]) -> None:
    """Those that fail, each with why."""
    found = await asyncio.gather(*tried.values(), return_exceptions=True)
    failed = {name: error for name, error in zip(tried, found, strict=True) if error is not None}
    for error in failed.values():
        if not isinstance(error, Exception):
            raise error
    why = [f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}" for name, error in failed.items()]
    if why:
        pytest.fail("\n".join([f"{len(why)} of {len(found)} instants:", *why]), pytrace=False)


# ---- while it sends ------------------------------------------------------------------------------------------------

CAMPAIGN, MESSAGE = "campaign", "message"
Meanwhile = Callable[[World, Mail], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """Where a worker is killed, and whom that leaves in doubt: positions of the campaign, and the message or not."""

    name: str
    when: When
    nth: int = 1
    of: str = CAMPAIGN
    unknown: range = range(0)
    message_unknown: bool = False
    before: tuple[Stop, ...] = ()  # what went wrong before that
    extra: Mapping[str, str] = field(default_factory=dict)  # variables of the worker that is killed
    after: Mapping[str, str] = field(default_factory=dict)  # and of the one that is started then
    meanwhile: Meanwhile | None = None  # what happens between the two
    later: Meanwhile | None = None  # and when the second one has started
    rest: str = "sent"  # what becomes of those who had not been claimed

    @property
    def stop(self) -> Stop:
        return Stop(name=self.name, when=self.when, nth=self.nth, about=self.of)


async def _tell(world: World, mail: Mail) -> None:
    await mail.tell(world.heard[mail.campaign])


async def _cancel(_: World, mail: Mail) -> None:
    await mail.mailer.cancel(mail.campaign)


async def _pause(_: World, mail: Mail) -> None:
    await mail.mailer.pause(mail.campaign)


async def _resume(_: World, mail: Mail) -> None:
    await mail.mailer.resume(mail.campaign)


BULK, ONE = "SendBulkEmail", "SendEmail"
TAKES_JOB, READS_JOB, ENDS_JOB = "exec psetex", "exec get incrby expire", "exec zrem zrem del"
# The last call is never handed on, so that its recipients are in doubt, and the policy sends to them again at once. (For the
# message it does not: its call may be on its way at the same time, and sent again it could be accepted twice, as it is said.)
DOUBT = (Stop(name=BULK, when=BEFORE, nth=3, about=CAMPAIGN, what=What.CUT),)
AT_ONCE_AGAIN = {"MAILER_UNKNOWN_BULK": "resend", "MAILER_UNKNOWN_TRANSACTIONAL": "hold", "MAILER_UNKNOWN_GRACE_S": "0"}
AGAIN: dict[str, Any] = {"before": DOUBT, "extra": AT_ONCE_AGAIN, "after": AT_ONCE_AGAIN}
HELD: dict[str, Any] = {"before": DOUBT, "extra": AT_ONCE_AGAIN}

SENDING = {
    "arq's job taken, its answer lost": Instant(name=TAKES_JOB, when=LOST),
    "arq's job read, its answer lost": Instant(name=READS_JOB, when=LOST),
    "before the lease": Instant(name="lease", when=BEFORE),
    "before the lease's answer": Instant(name="lease", when=LOST),
    "before it is admitted": Instant(name="admit", when=BEFORE),
    "admitted, before the claim": Instant(name="claim", when=BEFORE),
    "before the second claim": Instant(name="claim", when=BEFORE, nth=2),
    "the first claim stored and its answer lost": Instant(name="claim", when=LOST, unknown=FIRST),
    "the second claim stored and its answer lost": Instant(name="claim", when=LOST, nth=2, unknown=SECOND),
    "the last claim stored and its answer lost": Instant(name="claim", when=LOST, nth=3, unknown=THIRD),
    "at SES's door, not handed on": Instant(name=BULK, when=BEFORE, nth=2, unknown=SECOND),
    "accepted, no answer": Instant(name=BULK, when=LOST, nth=2, unknown=SECOND),
    "accepted, half of the answer given": Instant(name=BULK, when=HALF, nth=2, unknown=SECOND),
    "between the first answer and its settle": Instant(name="settle", when=BEFORE, unknown=FIRST),
    "between the second answer and its settle": Instant(name="settle", when=BEFORE, nth=2, unknown=SECOND),
    "the second settle stored and its answer lost": Instant(name="settle", when=LOST, nth=2),
    "before the last settle": Instant(name="settle", when=BEFORE, nth=3, unknown=THIRD),
    "the last settle stored and its answer lost": Instant(name="settle", when=LOST, nth=3),
    "between settle and release": Instant(name="release", when=BEFORE),
    "release's answer lost": Instant(name="release", when=LOST),
    "before the window is fed": Instant(name="feed", when=BEFORE, nth=2),
    "arq's job over, before that is written": Instant(name=ENDS_JOB, when=BEFORE),
    "before it is told when to be forgotten": Instant(name="retire", when=BEFORE),
    "told when to be forgotten, the answer lost": Instant(name="retire", when=LOST),
    # a message
    "a message, before the lease's answer": Instant(name="lease", when=LOST, of=MESSAGE),
    "a message, before the claim": Instant(name="claim", when=BEFORE, of=MESSAGE),
    "a message, claimed and the answer lost": Instant(name="claim", when=LOST, of=MESSAGE, message_unknown=True),
    "a message at SES's door": Instant(name=ONE, when=BEFORE, of=MESSAGE, message_unknown=True),
    "a message accepted, no answer": Instant(name=ONE, when=LOST, of=MESSAGE, message_unknown=True),
    "a message, half of the answer given": Instant(name=ONE, when=HALF, of=MESSAGE, message_unknown=True),
    "a message, before the settle": Instant(name="settle", when=BEFORE, of=MESSAGE, message_unknown=True),
    "a message settled, the answer lost": Instant(name="settle", when=LOST, of=MESSAGE),
    "a message, before the release": Instant(name="release", when=BEFORE, of=MESSAGE),
    # what happens before the next worker starts
    "accepted, no answer, but SES's event": Instant(name=BULK, when=LOST, nth=2, meanwhile=_tell),
    "accepted, no answer, and it is cancelled": Instant(
        name=BULK, when=LOST, nth=2, unknown=SECOND, meanwhile=_cancel, rest="cancelled"
    ),
    "accepted, no answer, and it is paused for a while": Instant(
        name=BULK, when=LOST, nth=2, unknown=SECOND, meanwhile=_pause, later=_resume
    ),
    # the lane's policy sends again
    "before the policy is applied": Instant(name="doubt", when=BEFORE, **AGAIN),
    "the policy applied, its answer lost": Instant(name="doubt", when=LOST, **AGAIN),
    "sent again, before the claim": Instant(name="claim", when=BEFORE, nth=4, **AGAIN),
    "sent again, claimed and the answer lost": Instant(name="claim", when=LOST, nth=4, **AGAIN),
    "sent again and held then": Instant(name="claim", when=LOST, nth=4, unknown=THIRD, **HELD),
    "sent again, accepted, no answer": Instant(name=BULK, when=LOST, nth=4, unknown=THIRD, **HELD),
    "sent again, settled and the answer lost": Instant(name="settle", when=LOST, nth=4, **AGAIN),
}


async def live_through(world: World, instant: Instant) -> None:
    async with mail(world) as sent:
        stops = [_about(stop, sent) for stop in (instant.stop, *instant.before)]
        async with world.turn, world.watched(sent.settings, *stops, **instant.extra) as watch:
            async with asyncio.timeout(MEET_S):
                await watch.over.wait()
        if instant.meanwhile:
            await instant.meanwhile(world, sent)
        await sent.a_minute_passes()
        nobody = ["unknown"] if instant.after else []
        async with world.turn, world.worker(sent.settings, **instant.after):
            if instant.later:
                await instant.later(world, sent)
            status = await sent.over(nobody=nobody)
        await check(world, sent, watch, status, instant)


def _about(stop: Stop, sent: Mail) -> Stop:
    return replace(stop, about=getattr(sent, stop.about) if stop.about else "")


async def check(world: World, sent: Mail, watch: Watch, status: CampaignStatus, instant: Instant) -> None:
    in_doubt = watch.in_doubt()
    if instant.of == CAMPAIGN:
        unknown = set(instant.unknown)
    else:  # where the campaign is at that instant is not said by the table
        unknown = in_doubt.get(sent.chunks[0], set())
        assert (sent.chunks[1] in in_doubt) == instant.message_unknown
    assert_same("unknown", await sent.in_state("unknown"), unknown)
    assert_same("sent or cancelled", await sent.in_state("sent") | await sent.in_state(instant.rest), set(range(ROWS)) - unknown)
    await check_status(sent, status, in_doubt, State.CANCELLED if instant.rest == "cancelled" else State.FINISHED)
    await check_events(world, sent)


def assert_same(what: str, found: Collection[int], expected: Collection[int]) -> None:
    assert sorted(found) == sorted(expected), f"{what}: {len(found)} {span(found)} instead of {len(expected)} {span(expected)}"


def span(positions: Collection[int]) -> str:
    return f"({min(positions)}…{max(positions)})" if positions else ""


async def check_status(sent: Mail, status: CampaignStatus, in_doubt: Mapping[str, set[int]], state: State) -> None:
    """The campaign's counts add up; the message is in doubt only where it was claimed and not settled."""
    assert (status.state, sum(status.counts.values())) == (state, status.rows)
    message = (await sent.mailer.status(sent.message)).state
    assert message == ("unknown" if sent.chunks[1] in in_doubt else "sent")


async def check_events(world: World, sent: Mail, otherwise: Collection[str] = ("unknown", "cancelled")) -> None:
    """Nobody was sent to twice; when SES's events come, exactly those are `sent` whom it accepted, under its ids."""
    await sent.tell([*world.heard[sent.campaign], *world.heard[sent.message]])
    await check_ids(world, sent, "sent", otherwise)


async def check_ids(world: World, sent: Mail, state: str, otherwise: Collection[str] = ()) -> None:
    accepted = world.accepted()
    assert_same("accepted twice", [i for i, ids in accepted[sent.campaign].items() if len(ids) > 1], ())
    assert len(accepted[sent.message][0]) <= 1, "the message was accepted twice"
    found: list[tuple[list[str], RecipientStatus | MessageStatus]]
    found = [(accepted[sent.campaign][i], line) for i, line in enumerate(await sent.lines())]
    found.append((accepted[sent.message][0], await sent.mailer.status(sent.message)))
    for ids, line in found:
        assert line.ses_message_id == next(iter(ids), None), line
        assert line.state in ((state,) if ids else otherwise), line


async def test_a_worker_that_is_killed_while_it_sends_leaves_in_doubt_whom_it_had_claimed_and_nobody_else(world: World) -> None:
    await side_by_side({name: live_through(world, instant) for name, instant in SENDING.items()})


# ---- every request -------------------------------------------------------------------------------------------------


async def every_request(world: World) -> list[Stop]:
    """What a worker asks, from its start until a small campaign and a message are over: each request, before it is handed on,
    and when it is answered. By name and number, for which of two loops is the faster differs from run to run."""
    async with mail(world, SMALL) as sent, world.watched(sent.settings) as watch:
        await sent.over()
        asked = list(watch.asked)
    seen, found = Counter[str](), list[Stop]()
    for name in asked:
        seen[name] += 1
        found += [Stop(name=name, when=when, nth=seen[name]) for when in (BEFORE, LOST)]
    return found


async def die_at(world: World, stop: Stop, missed: list[Stop]) -> None:
    async with mail(world, SMALL) as sent:
        async with world.turn, world.watched(sent.settings, stop) as watch:
            try:
                await asyncio.wait_for(watch.over.wait(), MISSED_S)
            except TimeoutError:  # it got there by another way this time; it is killed now
                missed.append(stop)
        await sent.a_minute_passes(moved=True)
        async with world.turn, world.worker(sent.settings):
            status = await sent.over()
        in_doubt = watch.in_doubt()
        assert_same("unknown", await sent.in_state("unknown"), in_doubt.get(sent.chunks[0], ()))
        await check_status(sent, status, in_doubt, State.FINISHED)
        await check_events(world, sent)


async def test_at_whichever_request_a_worker_is_killed_nobody_is_lost_nor_sent_to_twice(world: World) -> None:
    stops = await every_request(world)
    assert {"lease", "claim", "SendBulkEmail", "SendEmail", "settle", "release"} <= {stop.name for stop in stops}
    chosen, missed = stops if full() else random.Random(7).sample(stops, SAMPLE), list[Stop]()
    await side_by_side({f"{stop.name} {stop.nth} {stop.when}": die_at(world, stop, missed) for stop in chosen})
    assert len(missed) <= len(chosen) / 4, missed


# ---- while SES's events are applied --------------------------------------------------------------------------------

HEARING = {
    "before the queue is asked": Stop(name="ReceiveMessage", when=BEFORE),
    "events taken from the queue, the answer lost": Stop(name="ReceiveMessage", when=LOST),
    "before events are applied": Stop(name="event", when=BEFORE, about=CAMPAIGN),
    "events applied, the answer lost": Stop(name="event", when=LOST, about=CAMPAIGN),
    "a second batch of events applied": Stop(name="event", when=LOST, about=CAMPAIGN, nth=2),
    "applied, before they are deleted": Stop(name="DeleteMessageBatch", when=BEFORE),
    "deleted, the answer lost": Stop(name="DeleteMessageBatch", when=LOST),
}


async def hear_through(shared: World, stop: Stop) -> None:
    """The second call was accepted and its answer lost, so there are events of those in doubt and of those who are not."""
    ses = Simulator(SimulatorConfig(max_send_rate=100_000, max_24h=-1, events=True, events_visibility_s=2.0))
    async with serve_ses(ses) as url:
        world = World(shared.settings, ses, url, shared.workers, shared.turn)
        async with mail(world) as sent:
            cut = Stop(name=BULK, when=LOST, nth=2, about=sent.campaign, what=What.CUT)
            queue = {"MAILER_EVENTS_SQS_URL": f"{url}{ses.queues.path}"}
            async with world.turn, world.watched(sent.settings, cut):
                await sent.at_rest()
            assert_same("unknown", await sent.in_state("unknown"), SECOND)
            async with world.turn, world.watched(sent.settings, _about(stop, sent), **queue) as watch:
                async with asyncio.timeout(MEET_S):
                    await watch.over.wait()
            if not any(request.name == "event" for request, _ in watch.passed):
                assert_same("unknown", await sent.in_state("unknown"), SECOND)
            # Nothing is deleted before it has been applied.
            applied = sum(len(request.args[1]) // 5 for request, _ in watch.passed if request.name == "event")
            assert ses.queues.events.deleted <= applied
            async with world.turn, world.worker(sent.settings, **queue):
                await sent.over(nobody=("sent", "unknown"))
                async with asyncio.timeout(GO_ON_S):
                    while any(ses.queues.events.counts()[what] for what in ("waiting", "in_flight", "delayed")):
                        await asyncio.sleep(0.05)
            status = await sent.mailer.campaign(sent.campaign)
            assert (status.counts, status.twice, ses.queues.events.died) == ({"delivered": ROWS}, 0, 0)
            await check_ids(world, sent, "delivered")
            # What was applied twice has changed nothing the second time.
            told = Counter(
                (entry[b"id"], entry[b"state"]) for _, entry in await sent.ledger.redis.xrange(sent.ledger.keys.outcomes)
            )
            assert max(told.values()) == 1


async def test_a_worker_that_is_killed_while_it_applies_events_applies_each_of_them_in_the_end(world: World) -> None:
    await side_by_side({name: hear_through(world, stop) for name, stop in HEARING.items()})


# ---- while chunks are archived -------------------------------------------------------------------------------------

ARCHIVING = {
    f"{words} {step}": Stop(name=f"archive_{step}", when=when)
    for step in ("due", "read", "drop", "done")
    for words, when in (("before", BEFORE), ("the answer lost of", LOST))
}
AGAIN_ARCHIVED = {
    "what is archived anew, before drop": Stop(name="archive_drop", when=BEFORE),
    "what is archived anew, the answer lost of drop": Stop(name="archive_drop", when=LOST),
    "what is archived anew, before done": Stop(name="archive_done", when=BEFORE),
}


async def archive_through(world: World, stop: Stop, folder: Path, *, anew: bool) -> None:
    async with mail(world, SMALL, store_url=f"file://{folder}") as sent:
        async with world.turn, world.worker(sent.settings):
            await sent.at_rest()
        if anew:
            await old_enough(sent)
            async with world.turn, world.worker(sent.settings):
                await archived(sent)
            await sent.tell(world.heard[sent.campaign], delivered=True)  # it comes back for that
        await old_enough(sent)
        before = await sent.lines()
        async with world.turn, world.watched(sent.settings, stop) as watch:
            async with asyncio.timeout(MEET_S):
                await watch.over.wait()
        assert await sent.lines() == before
        await sent.a_minute_passes()
        async with world.turn, world.worker(sent.settings):
            await archived(sent)
        assert await sent.lines() == before
        keys, names = sent.ledger.keys, [path.name for path in (folder / sent.campaign).iterdir()]
        assert [key async for key in sent.ledger.redis.scan_iter(match=f"*:{sent.chunks[0]}", count=1000)] == []
        # A process that dies before it has deleted what an archive replaces leaves that there; the newer one stands.
        assert len(names) <= 1 + anew, names
        assert all(name.startswith("0-") for name in names), names
        await sent.ledger.redis.unlink(keys.container(sent.campaign), keys.tokens(sent.campaign))  # as after the retention
        assert await sent.lines() == before


async def old_enough(sent: Mail) -> None:
    """As if nothing had changed in the chunk for half an hour."""
    redis, keys, chunk = sent.ledger.redis, sent.ledger.keys, sent.chunks[0]
    records = unpack_records(await redis.get(keys.records(chunk)))
    aged = [record._replace(updated_at=record.updated_at - 1800).pack() for record in records]
    await redis.setrange(keys.records(chunk), 0, b"".join(aged))
    await redis.zincrby(keys.over, -1_800_000, chunk)


async def archived(sent: Mail) -> None:
    async with asyncio.timeout(GO_ON_S):
        while await sent.ledger.redis.zscore(sent.ledger.keys.over, sent.chunks[0]) is not None:
            await asyncio.sleep(0.05)
    assert not await sent.ledger.redis.exists(sent.ledger.keys.records(sent.chunks[0]))


async def test_a_worker_that_is_killed_while_it_archives_leaves_each_chunk_whole_in_one_place_or_in_both(
    world: World, tmp_path: Path
) -> None:
    stops = [*((name, stop, False) for name, stop in ARCHIVING.items()), *((n, stop, True) for n, stop in AGAIN_ARCHIVED.items())]
    tried = {}
    for number, (name, stop, anew) in enumerate(stops):
        tried[name] = archive_through(world, stop, tmp_path / f"store{number}", anew=anew)
    await side_by_side(tried)


# ---- while somebody says what is to become of it -------------------------------------------------------------------

Said = Callable[[Mailer, Mail], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A command, and where the process that runs it is killed; then a worker starts. `again`: somebody repeats the command."""

    say: Said
    name: str
    when: When
    first: Said | None = None  # what was said before that
    doubt: bool = False  # a worker has been there, and the second call is in doubt
    states: Mapping[str, int]  # of the campaign's recipients, when the worker has done what there is
    again: bool = False


async def pause(mailer: Mailer, sent: Mail) -> None:
    await mailer.pause(sent.campaign)


async def resume(mailer: Mailer, sent: Mail) -> None:
    await mailer.resume(sent.campaign)


async def cancel(mailer: Mailer, sent: Mail) -> None:
    await mailer.cancel(sent.campaign)


async def retry(mailer: Mailer, sent: Mail) -> None:
    await mailer.retry(sent.campaign, ["unknown"])


SENT, QUEUED, CANCELLED = {"sent": ROWS}, {"queued": ROWS}, {"cancelled": ROWS}
NOT_RETRIED = {"sent": ROWS - len(SECOND), "unknown": len(SECOND)}
WORDS = {
    "before it is paused": Word(say=pause, name="pause", when=BEFORE, states=SENT),
    "paused, the answer lost": Word(say=pause, name="pause", when=LOST, states=QUEUED),
    "before it is resumed": Word(say=resume, name="resume", when=BEFORE, first=pause, states=QUEUED),
    "before it is resumed, and that is repeated": Word(
        say=resume, name="resume", when=BEFORE, first=pause, again=True, states=SENT
    ),
    "resumed, the answer lost": Word(say=resume, name="resume", when=LOST, first=pause, states=SENT),
    "resumed, before its window is fed": Word(say=resume, name="feed", when=BEFORE, first=pause, states=SENT),
    "before it is cancelled": Word(say=cancel, name="cancel", when=BEFORE, states=SENT),
    "cancelled, the answer lost": Word(say=cancel, name="cancel", when=LOST, states=CANCELLED),
    "cancelled, before it is counted out": Word(say=cancel, name="sweep", when=BEFORE, states=CANCELLED),
    "cancelled and counted out, the answer lost": Word(say=cancel, name="sweep", when=LOST, states=CANCELLED),
    "before some are queued again": Word(say=retry, name="retry", when=BEFORE, doubt=True, states=NOT_RETRIED),
    "before some are queued again, and that is repeated": Word(
        say=retry, name="retry", when=BEFORE, doubt=True, again=True, states=SENT
    ),
    "some are queued again, the answer lost": Word(say=retry, name="retry", when=LOST, doubt=True, states=SENT),
    "some are queued again, the answer lost, and that is repeated": Word(
        say=retry, name="retry", when=LOST, doubt=True, again=True, states=SENT
    ),
}


async def say_through(world: World, word: Word) -> None:
    async with mail(world) as sent:
        if word.doubt:
            cut = Stop(name=BULK, when=BEFORE, nth=2, about=sent.campaign, what=What.CUT)
            async with world.turn, world.watched(sent.settings, cut):
                await sent.at_rest()
        if word.first:
            await word.first(sent.mailer, sent)
        await killed_client(sent, word)
        if word.again:
            await word.say(sent.mailer, sent)
        await sent.a_minute_passes()
        async with world.turn, world.worker(sent.settings):
            async with asyncio.timeout(GO_ON_S):
                while (await sent.mailer.status(sent.message)).state != "sent":
                    await asyncio.sleep(0.05)
                while (status := await sent.mailer.campaign(sent.campaign)).counts != word.states:
                    await asyncio.sleep(0.05)
            assert (status.state is State.PAUSED) == (word.states == QUEUED)
        await check_events(world, sent, ("unknown", "cancelled", "queued"))


async def killed_client(sent: Mail, word: Word) -> None:
    """A client of which nothing reaches Redis from that instant on, which is all of its death that Redis sees."""

    async def end() -> None:
        """It is ended below; until then no way leads out of it."""

    watch = Watch(end, Stop(name=word.name, when=word.when, about=sent.campaign))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(proxy(watch, RedisWire, sent.settings.redis_url))
        mailer = await stack.enter_async_context(Mailer(sent.settings.model_copy(update={"redis_url": url})))
        saying = asyncio.create_task(_swallowed(word.say(mailer, sent)))
        async with asyncio.timeout(MEET_S):
            await watch.over.wait()
        await cancel_task(saying)


async def _swallowed(saying: Awaitable[Any]) -> None:
    with suppress(RedisError, OSError):
        await saying


async def test_a_command_that_is_killed_has_either_been_heard_or_not_and_may_be_repeated(world: World) -> None:
    await side_by_side({name: say_through(world, word) for name, word in WORDS.items()})
