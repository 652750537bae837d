"""What the instants of a death are lived through in: workers that are killed where a proxy says, the mail that they send, and
what is to be found afterwards.

Instants are lived through side by side, each in a namespace of its own. A dead worker's lease runs out after 15 s, and for that
time no process is needed: the processes take turns, the leases run out together.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from arq.constants import in_progress_key_prefix

from mailer import Campaign, Email, Lane, Mailer, Settings, State
from mailer.events import read
from mailer.ids import Attempt, chunk_id
from mailer.ledger import CampaignStatus, Ledger, MessageStatus, RecipientStatus
from mailer.queue import connect, disconnect
from mailer.simulator import Fault, Simulator, SimulatorConfig, serve
from worker import events
from worker.runtime import Runtime

from .proxy import AwsWire, RedisWire, Stop, Watch, When, load_scripts, proxy
from .workers import Worker, Workers

ROWS = 120  # three calls
FIRST, SECOND, THIRD = range(50), range(50, 100), range(100, 120)  # of a campaign's positions: its calls
AT_ONCE = 12  # instants of which a process is running; more would only wait for the cores
MEET_S = 40.0  # in which a worker comes to where it is killed
GO_ON_S = 60.0  # in which all goes on that has to
RATE = 100_000.0  # recipients per second: nobody waits for it
MINUTE_MS = 60_000
SMALL = 60  # recipients; two calls
CAMPAIGN, MESSAGE = "campaign", "message"
BULK, ONE = "SendBulkEmail", "SendEmail"  # calls of the one, and of the other
BEFORE, LOST, HALF = When.BEFORE, When.LOST, When.HALF


class World:
    """One Redis, one SES, and what starts workers. `heard`: the Send events that SES would publish, by campaign or message."""

    def __init__(self, settings: Settings, ses: Simulator, ses_url: str, workers: Workers, turn: asyncio.Semaphore) -> None:
        self.settings, self.ses, self.turn = settings, ses, turn
        self.events_url = f"{ses_url}{ses.queues.path}"
        self._ses_url, self._workers = ses_url, workers
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
    async def another_ses(self, *faults: Fault, events: bool = False) -> AsyncIterator[World]:
        """The same with an SES of its own, that has these faults, or publishes events into its queue."""
        ses = Simulator(SimulatorConfig(max_send_rate=RATE, max_24h=-1, events=events, events_visibility_s=2.0))
        ses.faults.set(faults)
        async with serve(ses) as url:
            yield World(self.settings, ses, url, self._workers, self.turn)

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
            ses_url = await stack.enter_async_context(proxy(watch, AwsWire, self._ses_url))
            through = settings.model_copy(update={"redis_url": redis_url})
            starting.set_result(await self._workers.start(through, **self._environment(ses_url), **extra))
            try:
                yield watch
            finally:
                with suppress(ConnectionError):
                    await watch.end()

    @asynccontextmanager
    async def worker(self, settings: Settings, **extra: str) -> AsyncIterator[Worker]:
        one = await self._workers.start(settings, **self._environment(self._ses_url), **extra)
        try:
            yield one
        finally:
            by_itself = one.status.done()
            one.signal(signal.SIGKILL)
            await one.ended()
            assert not by_itself, f"the worker ended by itself: {one.log.read_text()[-300:]}"


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

    async def over(self, *, nobody: Collection[str] = ()) -> CampaignStatus:
        """When nothing is open any more, nor any of the campaign in one of the states."""

        async def is_over() -> bool:
            status, message = await self.mailer.campaign(self.campaign), await self.mailer.status(self.message)
            open_ = {"queued", "claimed"} & {*status.counts, message.state}
            return status.over and not open_ and not status.counts.keys() & set(nobody)

        await self.until(is_over)
        return await self.mailer.campaign(self.campaign)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(GO_ON_S):
                while not await condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            status, message = await self.mailer.campaign(self.campaign), await self.mailer.status(self.message)
            raise AssertionError(f"it came to {status.state} {status.counts}, the message to {message.state}") from None

    @property
    def ledger(self) -> Ledger:
        return self.mailer._ledger

    @property
    def chunks(self) -> tuple[str, str]:
        return chunk_id(self.campaign, 0), chunk_id(self.message, 0)

    async def at_rest(self) -> None:
        """Over, and given back by the worker that had it."""

        async def given_back() -> bool:
            return not any([await self._leased_until(chunk) for chunk in self.chunks])

        await self.over()
        await self.until(given_back)

    async def _leased_until(self, chunk: str) -> int:
        return int(await self.ledger.redis.hget(self.ledger.keys.chunk(chunk), "until") or 0)

    async def a_minute_passes(self, *, moved: bool = False) -> None:
        """The leases of a dead worker run out, which takes a quarter of it, or are `moved` to their end. What else one holds for
        a while has run out then, too, and is ended here: turns at reading something of SES's, what arq writes of a job that
        runs, and the patience with a wake-up that got lost."""
        redis, keys = self.ledger.redis, self.ledger.keys
        await redis.delete(
            *(keys.of_arq(f"{in_progress_key_prefix}{chunk}:{fence}") for chunk in self.chunks for fence in range(5))
        )
        async for key in redis.scan_iter(match=f"{self.settings.namespace}:*", count=1000):
            if 0 < await redis.pttl(key) <= MINUTE_MS:
                await redis.delete(key)
        for chunk in self.chunks:
            left = await self._leased_until(chunk) - await self.ledger.now_ms() + 1
            if moved and left > 0:
                await redis.hset(keys.chunk(chunk), "until", 0)
            else:
                await asyncio.sleep(max(0, left) / 1000)
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


@asynccontextmanager
async def opened(settings: Settings, folder: Path) -> AsyncIterator[World]:
    """`folder`: for the logs of the workers."""
    ses = Simulator(SimulatorConfig(max_send_rate=RATE, max_24h=-1))
    async with serve(ses) as url, Workers(folder) as workers:
        redis = connect(settings)
        await load_scripts(redis)
        await disconnect(redis)
        yield World(settings, ses, url, workers, asyncio.Semaphore(AT_ONCE))


def about(stop: Stop, sent: Mail) -> Stop:
    """Where a table says CAMPAIGN or MESSAGE, this one."""
    return replace(stop, about=getattr(sent, stop.about) if stop.about else "")


async def meets(watch: Watch) -> None:
    """When the process has been killed where it was to be."""
    try:
        await asyncio.wait_for(watch.over.wait(), MEET_S)
    except TimeoutError:
        raise AssertionError("it did not come to where it was to be killed") from None


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


# ---- what is to be found ------------------------------------------------------------------------------------------------


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
