"""A worker is killed while it hears what became of mail and while it archives, and a command is killed while it is run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.exceptions import RedisError

from mailer import Mailer, Settings, State
from mailer.ledger.records import unpack_records
from worker.runtime import cancel as cancel_task
from worker.sns import CLAIM_AFTER_MS, GROUP

from . import full
from .proxy import RedisWire, Stop, Watch, What, When, proxy
from .world import (
    BEFORE,
    BULK,
    CAMPAIGN,
    LOST,
    ROWS,
    SECOND,
    SMALL,
    Mail,
    World,
    about,
    assert_same,
    check_events,
    check_ids,
    mail,
    meets,
    opened,
    side_by_side,
)

pytestmark = pytest.mark.timeout(1800 if full() else 300)

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"


@pytest.fixture
async def world(settings: Settings, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(settings, tmp_path) as world:
        yield world


# ---- while SES's events are applied ---------------------------------------------------------------------------------

# From SQS.
HEARING = {
    "before the queue is asked": Stop(name="ReceiveMessage", when=BEFORE),
    "events taken from the queue, the answer lost": Stop(name="ReceiveMessage", when=LOST),
    "before events are applied": Stop(name="event", when=BEFORE, about=CAMPAIGN),
    "events applied, the answer lost": Stop(name="event", when=LOST, about=CAMPAIGN),
    "a second batch of events applied": Stop(name="event", when=LOST, about=CAMPAIGN, nth=2),
    "applied, before they are deleted": Stop(name="DeleteMessageBatch", when=BEFORE),
    "deleted, the answer lost": Stop(name="DeleteMessageBatch", when=LOST),
}
# From SNS, by way of a stream in Redis.
STREAMED = {
    "before the stream is read": Stop(name="xreadgroup", when=BEFORE),
    "events taken from the stream, the answer lost": Stop(name="xreadgroup", when=LOST),
    "of the stream, before they are applied": Stop(name="event", when=BEFORE, about=CAMPAIGN),
    "of the stream, applied and the answer lost": Stop(name="event", when=LOST, about=CAMPAIGN),
    "of the stream, applied, before that is said": Stop(name="xack", when=BEFORE),
    "of the stream, applied and deleted, the answer lost": Stop(name="xdel", when=LOST),
}


async def in_doubt(world: World, sent: Mail) -> None:
    """All is over, but the second call was accepted and its answer lost: there are events of those in doubt and of the others."""
    cut = Stop(name=BULK, when=LOST, nth=2, about=sent.campaign, what=What.CUT)
    async with world.turn, world.watched(sent.settings, cut):
        await sent.at_rest()
    assert_same("unknown", await sent.in_state("unknown"), SECOND)


async def killed_listening(world: World, sent: Mail, stop: Stop, **extra: str) -> Watch:
    async with world.turn, world.watched(sent.settings, about(stop, sent), **extra) as watch:
        await meets(watch)
    if applied(watch) == 0:
        assert_same("unknown", await sent.in_state("unknown"), SECOND)
    return watch


def applied(watch: Watch) -> int:
    return sum(len(request.args[1]) // 5 for request, _ in watch.passed if request.name == "event")


async def told_once(sent: Mail) -> None:
    """What was applied twice has changed nothing the second time."""
    assert (await sent.mailer.campaign(sent.campaign)).twice == 0
    changes = await sent.ledger.redis.xrange(sent.ledger.keys.outcomes)
    assert max(Counter((change[b"id"], change[b"state"]) for _, change in changes).values()) == 1


async def hear_through(shared: World, stop: Stop) -> None:
    async with shared.another_ses(events=True) as world, mail(world) as sent:
        queue, from_queue = world.ses.queues.events, {"MAILER_EVENTS_SQS_URL": world.events_url}
        await in_doubt(world, sent)
        watch = await killed_listening(world, sent, stop, **from_queue)
        assert queue.deleted <= applied(watch)

        async def empty() -> bool:
            return not any(queue.counts()[what] for what in ("waiting", "in_flight", "delayed"))

        async with world.turn, world.worker(sent.settings, **from_queue):
            await sent.over(nobody=("sent", "unknown"))
            await sent.until(empty)
        assert queue.died == 0
        await check_ids(world, sent, "delivered")
        await told_once(sent)


async def stream_through(world: World, stop: Stop) -> None:
    async with mail(world) as sent:
        redis, inbox, from_topic = sent.ledger.redis, sent.ledger.keys.inbox, {"MAILER_EVENTS_TOPIC_ARNS": TOPIC}
        await in_doubt(world, sent)
        for event in (*world.heard[sent.campaign], *world.heard[sent.message]):
            await redis.xadd(inbox, {"message": orjson.dumps(event)})
        await killed_listening(world, sent, stop, **from_topic)
        for one in await redis.xpending_range(inbox, GROUP, "-", "+", 1000):  # a minute later
            await redis.xclaim(inbox, GROUP, one["consumer"], 0, [one["message_id"]], idle=CLAIM_AFTER_MS + 1, justid=True)

        async def nothing_pending() -> bool:
            return not (await redis.xpending(inbox, GROUP))["pending"]

        async with world.turn, world.worker(sent.settings, **from_topic):
            await sent.over(nobody=("unknown",))
            await sent.until(nothing_pending)
        await check_ids(world, sent, "sent")
        await told_once(sent)


async def test_a_worker_that_is_killed_while_it_applies_events_applies_each_of_them_in_the_end(world: World) -> None:
    await side_by_side(
        {name: hear_through(world, stop) for name, stop in HEARING.items()}
        | {name: stream_through(world, stop) for name, stop in STREAMED.items()}
    )


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
            await meets(watch)
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

    async def done() -> bool:
        return await sent.ledger.redis.zscore(sent.ledger.keys.over, sent.chunks[0]) is None

    await sent.until(done)
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
    "cancelled, before it is counted out": Word(say=cancel, name="count_out", when=BEFORE, states=CANCELLED),
    "cancelled and counted out, the answer lost": Word(say=cancel, name="count_out", when=LOST, states=CANCELLED),
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
            cut = Stop(name=BULK, when=BEFORE, nth=2, about=sent.campaign, what=What.CUT)  # nobody has accepted these
            async with world.turn, world.watched(sent.settings, cut):
                await sent.at_rest()
        if word.first:
            await word.first(sent.mailer, sent)
        await killed_client(sent, word)
        if word.again:
            await word.say(sent.mailer, sent)
        await sent.a_minute_passes()

        async def done() -> bool:
            message, campaign = await sent.mailer.status(sent.message), await sent.mailer.campaign(sent.campaign)
            return message.state == "sent" and campaign.counts == word.states

        async with world.turn, world.worker(sent.settings):
            await sent.until(done)
        assert ((await sent.mailer.campaign(sent.campaign)).state is State.PAUSED) == (word.states == QUEUED)
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
        await meets(watch)
        await cancel_task(saying)


async def _swallowed(saying: Awaitable[Any]) -> None:
    with suppress(RedisError, OSError):
        await saying


async def test_a_command_that_is_killed_has_either_been_heard_or_not_and_may_be_repeated(world: World) -> None:
    await side_by_side({name: say_through(world, word) for name, word in WORDS.items()})
