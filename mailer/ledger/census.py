"""What waits to be sent, and how campaigns stand: counted from the ledger, for metrics, `mailer account` and `mailer doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..message.email import Lane, State
from .ledger import Ledger
from .lifecycle import SENDING
from .parking import Parked, class_of
from .status import JUDGED_BY, Reputation, reputation_of

MESSAGES = 2000  # messages that are looked at one by one; of more that wait, the rest is taken to be like them
NEWEST = 200  # campaigns whose outcomes are judged
SOON_MS = 60_000  # what is owed work is due by then; what is due later is to be sent later
_FIELDS = ("lane", "state", "created", "at", "n:q", "ready", "chunks", "next", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What of a lane is to be sent now. What somebody has paused, or what is to be sent later, is not in it."""

    recipients: int = 0
    jobs: int = 0  # messages, and chunks of campaigns: queued, put off or still to be queued
    oldest_ms: int = 0  # since when the oldest of it could have been sent; 0: nothing waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    at_ms: int
    lanes: Mapping[Lane, Waiting]
    campaigns: Mapping[State, int] = field(default_factory=dict)  # those that go on, and of the newest those that are stopped
    parked: Mapping[Parked, int] = field(default_factory=dict)  # campaigns by what they wait for
    reputation: Reputation = field(default_factory=Reputation)  # of the newest campaigns

    @property
    def busy(self) -> list[Lane]:
        """Lanes that have something to send."""
        return [lane for lane in Lane if self.lanes[lane].recipients]


class _Count:
    """A lane's, while it is counted."""

    def __init__(self) -> None:
        self.recipients = self.jobs = self.oldest_ms = 0

    def add(self, recipients: int, jobs: int, since_ms: int) -> None:
        self.recipients += recipients
        self.jobs += jobs
        if recipients and (not self.oldest_ms or since_ms < self.oldest_ms):
            self.oldest_ms = since_ms


async def take(ledger: Ledger) -> Census:
    """O(campaigns that go on + MESSAGES + NEWEST), however many recipients they have."""
    lanes, now = {lane: _Count() for lane in Lane}, await ledger.now_ms()
    states, parked, windows = Counter[State](), Counter[Parked](), 0
    ids = [id.decode() for id in await ledger.redis.zrange(ledger.keys.active, 0, -1)]
    async with ledger.redis.pipeline(transaction=False) as pipe:
        for id in ids:
            pipe.hmget(ledger.keys.container(id), *_FIELDS)
            pipe.scard(ledger.keys.window(id))
        found = await pipe.execute()
    for (lane, name, created, at, queued, ready, chunks, taken, reason), window in zip(found[::2], found[1::2], strict=True):
        if lane is None:  # forgotten in this moment
            continue
        state, since = State(name.decode()), max(int(created), int(at or 0))
        windows += window
        states[state] += 1
        if state in SENDING or (state is State.PLANNED and ready and since <= now):
            lanes[Lane(lane.decode())].add(int(queued or 0), max(0, int(chunks or 0) - int(taken or 0)) + window, since)
        if state is State.PARKED:
            parked[class_of((reason or b"").decode())] += 1
    await _add_messages(ledger, lanes, windows, now)
    states[State.STOPPED], reputation = await _newest(ledger)
    return Census(
        at_ms=now,
        lanes={lane: Waiting(recipients=n.recipients, jobs=n.jobs, oldest_ms=n.oldest_ms) for lane, n in lanes.items()},
        campaigns={state: states[state] for state in State if state not in (State.FINISHED, State.CANCELLED)},
        parked={one: parked[one] for one in Parked},
        reputation=reputation,
    )


async def _add_messages(ledger: Ledger, lanes: Mapping[Lane, _Count], windows: int, now: int) -> None:
    """What is owed work and is no chunk of a campaign's window is a message."""
    redis, keys, until = ledger.redis, ledger.keys, now + SOON_MS
    due = [chunk.decode() for chunk in await redis.zrangebyscore(keys.due, "-inf", until, start=0, num=MESSAGES)]
    messages, counts = [chunk.partition("-")[0] for chunk in due if chunk.startswith("m")], Counter[Lane]()
    async with redis.pipeline(transaction=False) as pipe:
        for id in messages:
            pipe.hmget(keys.container(id), "lane", "created", "at", "n:q")
        found = await pipe.execute()
    for name, created, at, queued in found:
        if name is not None and int(queued or 0) and (since := max(int(created), int(at or 0))) <= now:
            lane = Lane(name.decode())
            counts[lane] += 1
            lanes[lane].add(1, 1, since)
    if len(due) == MESSAGES and messages:
        more = max(0, await redis.zcount(keys.due, "-inf", until) - windows - len(messages)) / len(messages)
        for lane, n in counts.items():
            lanes[lane].add(round(n * more), round(n * more), lanes[lane].oldest_ms)


async def _newest(ledger: Ledger) -> tuple[int, Reputation]:
    """How many of the newest campaigns are stopped, and what SES would judge all of these by."""
    ids = [id.decode() for id in await ledger.redis.zrevrange(ledger.keys.campaigns, 0, NEWEST - 1)]
    async with ledger.redis.pipeline(transaction=False) as pipe:
        for id in ids:
            pipe.hmget(ledger.keys.container(id), "state", *JUDGED_BY)
        found = await pipe.execute()
    each = [reputation_of(dict(zip(JUDGED_BY, counts, strict=True))) for _, *counts in found]
    return sum(state == State.STOPPED.value.encode() for state, *_ in found), sum(each, Reputation())
