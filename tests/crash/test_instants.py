"""A worker is killed at each instant at which it can be, and what is found after the restart is what is promised: recipients
without a claim are sent to, those with a claim and no settle are `unknown`, and nobody else is.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailer import Settings, State
from mailer.ledger import CampaignStatus
from mailer.simulator import Fault, Kind
from worker.runtime import cancel

from . import full
from .proxy import Stop, Watch, What, When
from .world import (
    BEFORE,
    BULK,
    CAMPAIGN,
    FIRST,
    HALF,
    LOST,
    MESSAGE,
    ONE,
    ROWS,
    SECOND,
    SMALL,
    THIRD,
    Mail,
    World,
    about,
    assert_same,
    check_events,
    check_status,
    mail,
    meets,
    opened,
    side_by_side,
)

pytestmark = pytest.mark.timeout(1800 if full() else 300)

WAY = {"lease", "admit", "claim", BULK, ONE, "settle", "release"}
SAMPLE = 12  # of all requests, where not each is tried
TWICE = 4  # pairs of them, of which one worker after the other is killed
MOMENT_S = 3.0  # all loops of a worker have come round in it


@pytest.fixture
async def world(settings: Settings, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(settings, tmp_path) as world:
        yield world


# ---- while it sends -------------------------------------------------------------------------------------------------

Meanwhile = Callable[[World, Mail], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """Where a worker is killed, and whom that leaves in doubt: positions of the campaign, and the message or not."""

    name: str
    when: When
    nth: int = 1
    of: str = CAMPAIGN
    unknown: range | None = range(0)  # None: where the campaign is at that instant differs from run to run
    message_unknown: bool = False
    before: tuple[Stop, ...] = ()  # what went wrong before that
    fault: Fault | None = None  # of SES, too
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


TAKES_JOB, READS_JOB, ENDS_JOB = "exec psetex", "exec get incrby expire", "exec zrem zrem del"
# The last call is never handed on, so that its recipients are in doubt, and the policy sends to them again at once. (For the
# message it does not: its call may be on its way at the same time, and sent again it could be accepted twice, as it is said.)
DOUBT = (Stop(name=BULK, when=BEFORE, nth=3, about=CAMPAIGN, what=What.CUT),)
AT_ONCE_AGAIN = {"MAILER_UNKNOWN_BULK": "resend", "MAILER_UNKNOWN_TRANSACTIONAL": "hold", "MAILER_UNKNOWN_GRACE_S": "0"}
AGAIN: dict[str, Any] = {"before": DOUBT, "extra": AT_ONCE_AGAIN, "after": AT_ONCE_AGAIN}
HELD: dict[str, Any] = {"before": DOUBT, "extra": AT_ONCE_AGAIN}
# SES has refused the second call: its recipients are put back, and the chunk is given back for a second or two.
REFUSED = Fault(
    kind=Kind.ERROR, operation=BULK, nth=2, code="TooManyRequestsException", status=429, message="Maximum sending rate exceeded."
)

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
    "before the window is fed": Instant(name="feed", when=BEFORE, nth=2, unknown=None),
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
    # SES refuses a call
    "refused, before that is settled": Instant(name="settle", when=BEFORE, nth=2, unknown=SECOND, fault=REFUSED),
    "refused, settled and the answer lost": Instant(name="settle", when=LOST, nth=2, fault=REFUSED),
    "refused, before the release": Instant(name="release", when=BEFORE, fault=REFUSED),
    "refused, the release's answer lost": Instant(name="release", when=LOST, fault=REFUSED),
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
    async with AsyncExitStack() as stack:
        if instant.fault is not None:
            world = await stack.enter_async_context(world.another_ses(instant.fault))
        sent = await stack.enter_async_context(mail(world))
        stops = [about(stop, sent) for stop in (instant.stop, *instant.before)]
        async with world.turn, world.watched(sent.settings, *stops, **instant.extra) as watch:
            await meets(watch)
        if instant.meanwhile:
            await instant.meanwhile(world, sent)
        await sent.a_minute_passes()
        nobody = ["unknown"] if instant.after else []
        async with world.turn, world.worker(sent.settings, **instant.after):
            if instant.later:
                await instant.later(world, sent)
            status = await sent.over(nobody=nobody)
        await check(world, sent, watch, status, instant)


async def check(world: World, sent: Mail, watch: Watch, status: CampaignStatus, instant: Instant) -> None:
    in_doubt = watch.in_doubt()
    unknown = in_doubt.get(sent.chunks[0], set())
    if instant.of == MESSAGE:
        assert (sent.chunks[1] in in_doubt) == instant.message_unknown
    elif instant.unknown is not None:
        unknown = set(instant.unknown)
    assert_same("unknown", await sent.in_state("unknown"), unknown)
    assert_same("sent or cancelled", await sent.in_state("sent") | await sent.in_state(instant.rest), set(range(ROWS)) - unknown)
    await check_status(sent, status, in_doubt, State.CANCELLED if instant.rest == "cancelled" else State.FINISHED)
    await check_events(world, sent)


async def test_a_worker_that_is_killed_while_it_sends_leaves_in_doubt_whom_it_had_claimed_and_nobody_else(world: World) -> None:
    await side_by_side({name: live_through(world, instant) for name, instant in SENDING.items()})


# ---- every request --------------------------------------------------------------------------------------------------


async def every_request(world: World) -> list[Stop]:
    """What a worker asks, from its start until a small campaign and a message are over: each request, before it is handed on,
    and when it is answered. By name and number, for which of two loops is the faster differs from run to run."""
    async with mail(world, SMALL) as sent, world.watched(sent.settings) as watch:
        await sent.over()
        asked = list(watch.asked)
    times = sorted(Counter(asked).items())
    return [Stop(name=name, when=when, nth=nth) for name, n in times for nth in range(1, n + 1) for when in (BEFORE, LOST)]


def some(stops: Sequence[Stop], chance: random.Random) -> list[Stop]:
    """Half of them on the way of a recipient, which few of all requests are."""
    way, rest = ([stop for stop in stops if (stop.name in WAY) is on_it] for on_it in (True, False))
    return [*chance.sample(way, SAMPLE // 2), *chance.sample(rest, SAMPLE // 2)]


async def die_at(world: World, stops: Sequence[Stop], missed: list[Stop]) -> None:
    """Worker after worker is killed, each at another request, and one more goes on to the end."""
    in_doubt = defaultdict[str, set[int]](set)
    async with mail(world, SMALL) as sent:
        for stop in stops:
            async with world.turn, world.watched(sent.settings, stop) as watch:
                if not await met(watch, sent):
                    missed.append(stop)
            for chunk, positions in watch.in_doubt().items():
                in_doubt[chunk] |= positions
            await sent.a_minute_passes(moved=True)
        async with world.turn, world.worker(sent.settings):
            status = await sent.over()
        assert_same("unknown", await sent.in_state("unknown"), in_doubt[sent.chunks[0]])
        await check_status(sent, status, {chunk: positions for chunk, positions in in_doubt.items() if positions}, State.FINISHED)
        await check_events(world, sent)


async def met(watch: Watch, sent: Mail) -> bool:
    """Whether it was killed where it was to be. It may get to the end by another way; then it is killed a moment later."""
    over = asyncio.create_task(sent.over())
    waiting = asyncio.create_task(watch.over.wait())
    await asyncio.wait({over, waiting}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({waiting}, timeout=MOMENT_S)
    await cancel(over, waiting)
    if not over.cancelled():
        over.result()  # raises where it got neither there nor to the end
    return watch.over.is_set()


async def test_at_whichever_request_a_worker_is_killed_nobody_is_lost_nor_sent_to_twice(world: World) -> None:
    stops, chance = await every_request(world), random.Random(7)
    assert {stop.name for stop in stops} >= WAY
    once = [(stop,) for stop in (stops if full() else some(stops, chance))]
    twice = [(chance.choice(stops), chance.choice(stops)) for _ in range(len(stops) // 5 if full() else TWICE)]
    missed, missed_twice = list[Stop](), list[Stop]()
    tried = {called(one): die_at(world, one, missed) for one in once}
    tried |= {called(two): die_at(world, two, missed_twice) for two in twice}
    await side_by_side(tried)
    assert len(missed) <= len(once) / 4, missed
    assert len(missed_twice) <= len(twice), missed_twice  # where the first one got far, little is left to the second


def called(stops: Sequence[Stop]) -> str:
    return ", then ".join(f"{stop.name} {stop.nth} {stop.when}" for stop in stops)
