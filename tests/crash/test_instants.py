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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from arq.constants import in_progress_key_prefix

from mailer import Campaign, Email, Lane, Mailer, Settings, State
from mailer.events import read
from mailer.ids import Attempt, chunk_id, container_of
from mailer.ledger.ledger import CampaignStatus, RecipientStatus
from mailer.queue import connect, disconnect
from mailer.simulator import Simulator, SimulatorConfig
from worker import events
from worker.runtime import LEASE_MS, Runtime

from ..conftest import simulated_ses
from ..servers import RedisServer
from . import full
from .proxy import AwsWire, RedisWire, Stop, Watch, What, When, load_scripts, proxy
from .workers import Worker, Workers

BEFORE, LOST, HALF = When.BEFORE, When.LOST, When.HALF
ROWS = 120  # three calls
FIRST, SECOND, THIRD = range(50), range(50, 100), range(100, 120)  # of a campaign's positions: its calls
AT_ONCE = 6  # instants of which a process is running; more would only wait for the cores
MEET_S = 30.0  # in which a worker comes to where it is killed
GO_ON_S = 45.0  # a wake-up that got lost is made up for within 20 s
HELD_MS = 60_000  # the longest of those turns
SMALL = 60  # recipients; two calls
SAMPLE = 12  # of all requests, where not each is tried
MISSED_S = 10.0  # of a request that may not be made


# ---- the world -----------------------------------------------------------------------------------------------------


class World:
    """One Redis, one SES, and what starts workers. `heard`: the Send events that SES would publish, by campaign or message."""

    def __init__(self, settings: Settings, ses: Simulator, ses_url: str, workers: Workers) -> None:
        self.settings, self.ses, self.ses_url, self.workers = settings, ses, ses_url, workers
        self.turn = asyncio.Semaphore(AT_ONCE)
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
            starting.set_result(await self.workers.start(through, **{**WORKER, **extra, "AWS_ENDPOINT_URL_SESV2": ses_url}))
            try:
                yield watch
            finally:
                await end()

    @asynccontextmanager
    async def worker(self, settings: Settings, **extra: str) -> AsyncIterator[Worker]:
        one = await self.workers.start(settings, **{**WORKER, **extra, "AWS_ENDPOINT_URL_SESV2": self.ses_url})
        try:
            yield one
        finally:
            one.signal(signal.SIGKILL)
            await one.ended()


WORKER = {"MAILER_BULK_CALLS_PER_S": "unlimited"}


@pytest.fixture
async def world(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    config = SimulatorConfig(max_send_rate=100_000, max_24h=-1)
    async with simulated_ses(monkeypatch, config) as ses, Workers(tmp_path) as workers:
        redis = connect(settings)
        await load_scripts(redis)
        await disconnect(redis)
        yield World(settings, ses, os.environ["AWS_ENDPOINT_URL_SESV2"], workers)


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
        """When nothing is open any more, nor anybody in one of the states."""
        async with asyncio.timeout(within):
            while True:
                status, message = await self.mailer.campaign(self.campaign), await self.mailer.status(self.message)
                states = status.counts.keys() | {message.state}
                if status.over and not states & {"queued", "claimed", *nobody}:
                    return status
                await asyncio.sleep(0.05)

    async def a_minute_passes(self) -> None:
        """The leases of a dead worker run out, which takes a quarter of it. What else one holds for a while has run out then,
        too: turns at reading something of SES's, and what arq writes of a job that runs. That is ended here."""
        ledger = self.mailer._ledger
        redis = ledger.redis
        chunks = [chunk_id(container, 0) for container in (self.campaign, self.message)]
        await redis.delete(*(f"{in_progress_key_prefix}{chunk}:{fence}" for chunk in chunks for fence in range(5)))
        async for key in redis.scan_iter(match=f"{self.settings.namespace}:*", count=1000):
            if 0 < await redis.pttl(key) <= HELD_MS:
                await redis.delete(key)
        now = await ledger.scripts.now_ms()
        until = [int(await redis.hget(ledger.keys.chunk(chunk), "until") or 0) for chunk in chunks]
        await asyncio.sleep(max(0, *(one + 1 - now for one in until)) / 1000)

    async def tell(self, heard: Sequence[Mapping[str, Any]]) -> None:
        """Apply these events, as a worker does. Nothing of the rest of one is needed for that."""
        runtime = Runtime(self.settings)
        try:
            await events.apply(runtime, [read(orjson.dumps(event)) for event in heard])
        finally:
            await disconnect(runtime.redis)


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
# The second call is never handed on, so that its recipients are in doubt, and the policy sends to them again at once.
DOUBT = (Stop(name=BULK, when=BEFORE, nth=2, about=CAMPAIGN, what=What.CUT),)
AT_ONCE_AGAIN = {"MAILER_UNKNOWN_BULK": "resend", "MAILER_UNKNOWN_GRACE_S": "0"}
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
    "sent again and held then": Instant(name="claim", when=LOST, nth=4, unknown=SECOND, **HELD),
    "sent again, accepted, no answer": Instant(name=BULK, when=LOST, nth=4, unknown=SECOND, **HELD),
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
    return Stop(name=stop.name, when=stop.when, nth=stop.nth, what=stop.what, about=getattr(sent, stop.about))


async def check(world: World, sent: Mail, watch: Watch, status: CampaignStatus, instant: Instant) -> None:
    in_doubt = watch.in_doubt()
    if instant.of == CAMPAIGN:
        unknown = set(instant.unknown)
    else:  # where the campaign is at that instant is not said by the table
        unknown = in_doubt.get(chunk_id(sent.campaign, 0), set())
        assert (chunk_id(sent.message, 0) in in_doubt) == instant.message_unknown
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
    assert message == ("unknown" if chunk_id(sent.message, 0) in in_doubt else "sent")


async def check_events(world: World, sent: Mail) -> None:
    """Nobody was sent to twice; when SES's events come, exactly those are `sent` whom it accepted, under its ids."""
    await sent.tell([*world.heard[sent.campaign], *world.heard[sent.message]])
    log = world.accepted()
    accepted = log[sent.campaign]
    assert_same("accepted twice", [position for position, ids in accepted.items() if len(ids) > 1], ())
    assert len(log[sent.message][0]) <= 1, "the message was accepted twice"
    for position, line in enumerate(await sent.lines()):
        ids = accepted.get(position)
        assert line.ses_message_id == (ids[0] if ids else None), (position, line)
        assert line.state in (("sent",) if ids else ("unknown", "cancelled")), (position, line)
    message = await sent.mailer.status(sent.message)
    assert message.ses_message_id == next(iter(log[sent.message][0]), None)
    assert message.state == ("sent" if message.ses_message_id else "unknown")


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
        await sent.a_minute_passes()
        async with world.turn, world.worker(sent.settings):
            status = await sent.over()
        in_doubt = watch.in_doubt()
        assert_same("unknown", await sent.in_state("unknown"), in_doubt.get(chunk_id(sent.campaign, 0), ()))
        await check_status(sent, status, in_doubt, State.FINISHED)
        await check_events(world, sent)


@pytest.mark.timeout(1800 if full() else 120)
async def test_at_whichever_request_a_worker_is_killed_nobody_is_lost_nor_sent_to_twice(world: World) -> None:
    stops = await every_request(world)
    assert {"lease", "claim", "SendBulkEmail", "SendEmail", "settle", "release"} <= {stop.name for stop in stops}
    chosen, missed = stops if full() else random.Random(7).sample(stops, SAMPLE), list[Stop]()
    await side_by_side({f"{stop.name} {stop.nth} {stop.when}": die_at(world, stop, missed) for stop in chosen})
    assert len(missed) <= len(chosen) / 4, missed
