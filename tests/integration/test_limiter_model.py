"""The limiter's script against slow and obvious models of what it promises, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.message.email import Lane
from mailer.quota.limiter import Throttle

from ..servers import RedisServer
from .limiter import ACCOUNT, START_US, STATE, World, wish, world

quick = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


# ---- what SES sees -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sender:
    """One chunk of a worker: it asks, waits as it is told, sends, and asks again when SES has answered."""

    lane: Lane
    largest: int  # recipients of a call
    whole: bool  # a message cannot be sent to a part of its recipients
    flow: str
    rest_s: float  # between an answer and the next wish
    own_rate: float | None = None


@dataclass(slots=True)
class Seen:
    """What SES would log: when it counted how many, and who waited how long for them."""

    counted: list[tuple[float, int, Sender]] = field(default_factory=list)  # seconds
    waits: list[tuple[Lane, float]] = field(default_factory=list)  # seconds


async def run(
    w: World, senders: list[Sender], seconds: float, latency_s: tuple[float, float], seed: int, fixed: bool = False, **limits: Any
) -> Seen:
    """A discrete simulation: SES counts a call at any instant while it has it. The way there and back takes the least latency."""
    way = latency_s[0] / 2 * 1e6
    await w.ledger.redis.hset(w.ledger.keys.limiter(ACCOUNT), mapping={"least": int(2 * way), "least_at": w.now})  # long known
    dice, limiter, seen, start = random.Random(seed), w.limiter(**limits), Seen(), w.now
    order = count()

    def size(sender: Sender) -> int:
        return sender.largest if fixed else dice.randint(1, sender.largest)

    events: list[tuple[float, int, Any]] = []

    def at(us: float, *what: Any) -> None:
        heapq.heappush(events, (us, next(order), what))

    for sender in senders:
        at(start + dice.uniform(0, 0.2) * 1e6, "wish", sender, size(sender), None)
    while events and events[0][0] < start + seconds * 1e6:
        now, _, what = heapq.heappop(events)
        await w.at(now)
        if what[0] == "answer":
            _, place, sender = what
            await w.answered(place)
            at(now + sender.rest_s * 1e6, "wish", sender, size(sender), None)
            continue
        _, sender, n, since = what
        since = now if since is None else since
        asker = str(id(sender))  # senders may be equal
        least = n if sender.whole else 1
        reply = await limiter.admit(wish(n, sender.lane, least=least, asker=asker, flow=sender.flow, own_rate=sender.own_rate))
        if reply.status == "wait":
            at(now + reply.after_s * 1e6 + dice.uniform(0, 2000), "wish", sender, n, since)
            continue
        assert reply.status == "go"
        assert least <= reply.recipients <= n
        dispatched = now + reply.after_s * 1e6 + dice.uniform(0, 0.003) * 1e6
        answered = dispatched + dice.uniform(*latency_s) * 1e6
        seen.counted.append((dice.uniform(dispatched + way, answered - way) / 1e6, reply.recipients, sender))
        seen.waits.append((sender.lane, (dispatched - since) / 1e6))
        at(answered, "answer", reply.place, sender)
    return seen


def fullest_second(seen: Seen) -> int:
    """The most recipients that any second has, brute force: a fullest second begins with one of them."""
    found = sorted((at, n) for at, n, _ in seen.counted)
    return max(sum(n for at, n in found[i:] if at < start + 1) for i, (start, _) in enumerate(found))


senders = st.lists(
    st.builds(
        Sender,
        lane=st.sampled_from(Lane),
        largest=st.integers(1, 50),
        whole=st.booleans(),
        flow=st.sampled_from(["c1", "c2", "c3"]),
        rest_s=st.sampled_from([0.0, 0.01, 0.3]),
    ),
    min_size=1,
    max_size=8,
)


@given(senders, st.integers(1, 500), st.sampled_from([0, 0, 7]), st.sampled_from([(0.005, 0.02), (0.03, 0.4), (0.01, 4.0)]),
       st.integers(0, 2**32))  # fmt: skip
@quick
async def test_no_second_of_ses_has_more_than_the_rate_whenever_within_a_call_it_counts(
    server: RedisServer, some: list[Sender], rate: int, burst: int, latency_s: tuple[float, float], seed: int
) -> None:
    for sender in some:
        sender.largest = min(sender.largest, rate) if sender.whole else sender.largest
    async with world(server.url) as w:
        await w.known(max_send_rate=float(rate))
        seen = await run(w, some, 4, latency_s, seed, burst=burst)
        if seen.counted:
            assert fullest_second(seen) <= rate + burst


@pytest.mark.parametrize("rate", [1, 14, 200, 3000])
@pytest.mark.parametrize("chunks", [1, 12])
async def test_nearly_all_of_the_rate_is_used(server: RedisServer, rate: int, chunks: int) -> None:
    most = max(1, min(50, rate // 4))
    some = [Sender(Lane.BULK, most, False, f"c{i % 3}", 0.002) for i in range(max(chunks, rate // 500))]
    async with world(server.url) as w:
        await w.known(max_send_rate=float(rate))
        seen = await run(w, some, 6, (0.02, 0.03), 1)
        used = sum(n for at, n, _ in seen.counted if 1 <= at - w_start(seen) < 5)
        assert used >= 0.98 * rate * 4 - most


def w_start(seen: Seen) -> float:
    return min(at for at, _, _ in seen.counted)


async def test_a_message_to_more_than_a_second_allows_goes_alone_and_is_paid_for_afterwards(server: RedisServer) -> None:
    async with world(server.url) as w:
        await w.known(max_send_rate=1.0)
        gate = w.limiter()
        first = await gate.admit(wish(5, least=5))
        assert (first.status, first.recipients) == ("go", 5)
        await w.answered(first.place)
        started = w.now
        while (reply := await gate.admit(wish(1))).status == "wait":
            await w.later(reply.after_s)
        assert 4.9e6 <= w.now + reply.after_s * 1e6 - started <= 5.1e6


# ---- lanes and campaigns -------------------------------------------------------------------------------------------


@given(st.integers(20, 500), st.integers(1, 12), st.integers(0, 2**32))
@quick
async def test_what_is_transactional_waits_for_one_call_of_bulk_at_most(
    server: RedisServer, rate: int, campaigns: int, seed: int
) -> None:
    most = max(1, min(50, rate // 4))
    bulk = [Sender(Lane.BULK, most, False, f"c{i}", 0.0) for i in range(campaigns)]
    urgent = [Sender(Lane.TRANSACTIONAL, 1, True, "messages", 1.0) for _ in range(max(1, rate // 20))]
    async with world(server.url) as w:
        await w.known(max_send_rate=float(rate))
        seen = await run(w, bulk + urgent, 4, (0.01, 0.03), seed)
        waits = [wait for lane, wait in seen.waits if lane is Lane.TRANSACTIONAL]
        assert waits
        assert max(waits) <= most / rate + 0.25  # the next place that comes free, and the longest time until asking again
        assert sum(n for _, n, sender in seen.counted if sender.lane is Lane.BULK) >= 0.8 * rate * 4 * 0.9, "bulk has the rest"


@pytest.mark.parametrize("rate", [14, 400])
async def test_campaigns_share_the_rate_whatever_the_number_of_their_chunks(server: RedisServer, rate: int) -> None:
    most = max(1, min(50, rate // 4))
    some = [Sender(Lane.BULK, most, False, "large", 0.002) for _ in range(16)] + [Sender(Lane.BULK, most, False, "small", 0.002)]
    async with world(server.url) as w:
        await w.known(max_send_rate=float(rate))
        seen = await run(w, some, 10, (0.01, 0.02), 3)
        late = [(n, s.flow) for at, n, s in seen.counted if at > w_start(seen) + 2]
        small = sum(n for n, flow in late if flow == "small")
        assert 0.4 <= small / sum(n for n, _ in late) <= 0.6


async def test_a_campaign_that_wants_less_than_its_share_leaves_the_rest_to_the_others(server: RedisServer) -> None:
    some = [Sender(Lane.BULK, 50, False, "large", 0.0) for _ in range(4)] + [Sender(Lane.BULK, 1, False, "slow", 0.5)]
    async with world(server.url) as w:
        await w.known(max_send_rate=200.0)
        seen = await run(w, some, 6, (0.01, 0.02), 3)
        assert sum(n for _, n, s in seen.counted if s.flow == "large") >= 0.95 * (200 - 2) * 6 - 50
        assert max(wait for (_, wait), (_, _, s) in zip(seen.waits, seen.counted, strict=True) if s.flow == "slow") < 0.6


@pytest.mark.parametrize("own", [2.0, 30.0])
async def test_a_campaigns_own_rate_is_kept_and_used(server: RedisServer, own: float) -> None:
    some = [Sender(Lane.BULK, max(1, int(own / 4)), False, "own", 0.0, own) for _ in range(3)]
    some += [Sender(Lane.BULK, 50, False, "other", 0.0)]
    async with world(server.url) as w:
        await w.known(max_send_rate=200.0)
        seen = await run(w, some, 8, (0.01, 0.02), 3)
        mine = sum(n for _, n, s in seen.counted if s.flow == "own")
        assert 0.9 * own * 8 <= mine <= own * 8 + own
        assert sum(n for _, n, _ in seen.counted) >= 0.95 * 200 * 8 - 50, "the others have the rest"


async def test_bulk_leaves_a_place_that_comes_free_to_what_is_transactional_and_asked_before(server: RedisServer) -> None:
    async with world(server.url) as w:
        await w.known(max_send_rate=10.0)
        gate = w.limiter()
        for _ in range(10):
            await w.answered((await gate.admit(wish(1, Lane.TRANSACTIONAL))).place)
            await w.later(0.05)
        await w.at(START_US + 975_000)
        assert (await gate.admit(wish(1, Lane.TRANSACTIONAL, asker="code"))).status == "wait"
        await w.at(START_US + 1_001_000)  # the first place is free, and only that
        assert (await gate.admit(wish(10))).status == "wait"
        assert (await gate.admit(wish(1, Lane.TRANSACTIONAL, asker="code"))).status == "go"


async def test_a_code_does_not_wait_behind_a_campaign_in_its_own_lane(server: RedisServer) -> None:
    some = [Sender(Lane.TRANSACTIONAL, 50, False, "c", 0.0) for _ in range(12)]
    codes = [Sender(Lane.TRANSACTIONAL, 1, True, "messages", 0.5) for _ in range(10)]
    async with world(server.url) as w:
        await w.known(max_send_rate=200.0)
        seen = await run(w, some + codes, 6, (0.01, 0.02), 1, fixed=True)
        waits = [wait for (_, wait), (_, _, sender) in zip(seen.waits, seen.counted, strict=True) if sender in codes]
        assert len(waits) > 30
        assert max(waits) < 1.1, "a second's places are all taken at worst"


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("recipients", [2, 8, 14])
async def test_a_message_to_several_has_its_turn_however_many_single_ones_take_each_place(
    server: RedisServer, lane: Lane, recipients: int
) -> None:
    some = [Sender(lane, 1, True, "c", 0.0) for _ in range(20)] + [Sender(lane, recipients, True, "c", 0.0)]
    async with world(server.url) as w:
        await w.known(max_send_rate=14.0)
        seen = await run(w, some, 14, (0.01, 0.02), 1, fixed=True)
        large = [at for at, n, sender in seen.counted if sender is some[-1]]
        assert len(large) >= 2
        assert fullest_second(seen) <= 14


async def test_a_clock_that_is_set_back_by_an_hour_stops_nothing_and_its_account_is_read_anew(server: RedisServer) -> None:
    async with world(server.url) as w:
        gate = w.limiter()
        await gate.refused(Throttle.RATE)
        await gate.refused(Throttle.DAILY)
        for flow in ("c1", "c2"):
            await gate.admit(wish(50, flow=flow, own_rate=1.0))
        await w.later(-3600)
        assert (await gate.admit(wish(1))).status == "stale"
        assert await w.accounts.may_refresh(ACCOUNT, 60)
        await w.known()
        started = w.now
        for flow in ("c1", "c2", "c3"):
            while (reply := await gate.admit(wish(10, flow=flow, own_rate=1.0))).status == "wait":
                await w.later(max(reply.after_s, 0.001))
            assert reply.status == "go"
        assert w.now - started <= 52e6, "what the campaigns' own rate owes for 50 recipients, and no more"


async def test_what_was_counted_twice_does_not_stay_counted(server: RedisServer) -> None:
    async with world(server.url) as w:
        await w.known(max_send_rate=10_000.0, max_24h=1000.0)
        gate = w.limiter()
        assert (await gate.admit(wish(500, Lane.TRANSACTIONAL))).recipients == 500
        for _ in range(3):  # no answer is stored for minutes: it is taken for counted by SES
            await w.later(70)
            await w.known(max_send_rate=10_000.0, max_24h=1000.0, sent_24h=500.0)
        await w.ledger.redis.hincrby(w.ledger.keys.account(ACCOUNT), "answered", 500)  # and then it is
        await w.known(max_send_rate=10_000.0, max_24h=1000.0, sent_24h=500.0)
        assert (await gate.admit(wish(1000, Lane.TRANSACTIONAL))).recipients == 500


async def test_what_is_given_back_is_not_counted_in_the_day_and_leaves_its_place(server: RedisServer) -> None:
    async with world(server.url) as w:
        await w.known(max_24h=100.0)
        gate = w.limiter()
        for _ in range(5):
            given = await gate.admit(wish(100, Lane.TRANSACTIONAL, least=100))
            assert given.recipients == 100
            await gate.give_back(given.place)


# ---- step by step --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Place:
    since: int  # us
    until: int
    n: int
    place: str


@dataclass
class Model:
    """What may go, said as plainly as can be. Every call is answered LATENCY after its time."""

    rate: float
    burst: int
    max_24h: float
    sent: list[Place] = field(default_factory=list)
    read: int = 0  # of them, those that SES had counted when the account was read last

    def room(self, now: int) -> float:
        return max(self.rate, 1) + self.burst - sum(p.n for p in self.sent if now < p.until)

    def left(self) -> float:
        return float("inf") if self.max_24h < 0 else self.max_24h - sum(p.n for p in self.sent)


LATENCY_US = 20_000

steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(Lane), st.integers(1, 60), st.booleans()),
        st.tuples(st.just("pass"), st.sampled_from([1_000, 30_000, 260_000, 1_000_000, 3_600_000_000])),
        st.tuples(st.just("read"), st.sampled_from([0.5, 3.0, 50.0, 400.0])),
        st.tuples(st.just("give back")),
    ),
    min_size=5,
    max_size=40,
)


@given(steps, st.sampled_from([0.5, 1.0, 14.0, 100.0]), st.sampled_from([0, 5]), st.sampled_from([-1.0, 40.0, 300.0]))
@settings(quick, max_examples=60)
async def test_what_it_says_is_what_the_model_says(
    server: RedisServer, walk: list[Any], rate: float, burst: int, max_24h: float
) -> None:
    async with world(server.url) as w:
        model, gate = Model(rate, burst, max_24h), w.limiter(burst=burst, stale_ms=10**12)
        await w.known(max_send_rate=rate, max_24h=max_24h)
        for step in walk:
            if step[0] == "pass":
                await w.at(w.now + step[1])
            elif step[0] == "read":
                model.rate, model.read = step[1], len(model.sent)
                counted = sum(p.n for p in model.sent)
                state = {**STATE, "max_send_rate": step[1], "max_24h": max_24h, "sent_24h": counted}
                await w.accounts.store(ACCOUNT, state, answered=counted)
            elif step[0] == "give back" and len(model.sent) > model.read and w.now < model.sent[-1].until:
                await gate.give_back(model.sent.pop().place)
            elif step[0] == "ask":
                _, lane, n, whole = step
                await check_one(w, model, gate, lane, n, n if whole else 1)


async def check_one(w: World, model: Model, gate: Any, lane: Lane, n: int, least: int) -> None:
    now, left = w.now, model.left()
    room, soon = model.room(now), model.room(now + 20_000)  # places that come free in 20 ms are given out already
    idle = not any(now + 20_000 < p.until for p in model.sent)
    reply = await gate.admit(wish(n, lane, least=least))
    if left < least:
        assert reply.status == "daily"
        return
    assert reply.status in ("go", "wait")
    if reply.status == "go":
        assert least <= reply.recipients <= min(n, left)
        assert reply.recipients <= soon or (least > soon and idle), "never into room that is not there"
        since = now + round(reply.after_s * 1e6)
        lasts = max(1_000_000, -int(-reply.recipients / model.rate * 1e6 // 1))
        model.sent.append(Place(since, since + lasts, reply.recipients, reply.place))
        await w.at(since + LATENCY_US)
        await w.answered(reply.place)
    else:
        assert 0 < reply.after_s <= 0.2
        wanted = max(least, min(n, int(model.rate * 0.02)))
        if lane is Lane.TRANSACTIONAL:
            assert room < wanted, "what is not paced waits for nothing but room"


# ---- what SES says -------------------------------------------------------------------------------------------------


async def test_a_rate_refusal_lowers_the_rate_once_a_second_and_it_comes_back_step_by_step(server: RedisServer) -> None:
    async with world(server.url) as w:
        gate = w.limiter()

        async def rate() -> int:
            """Room of a second, when nothing is on its way."""
            reply = await gate.admit(wish(1000, Lane.TRANSACTIONAL))
            await gate.give_back(reply.place)
            return reply.recipients

        assert await rate() == 100
        for _ in range(5):  # of calls that were under way together
            await gate.refused(Throttle.RATE)
        assert await rate() == 80
        await w.later(2)
        await gate.refused(Throttle.RATE)
        assert await rate() == 64
        seen = []
        for _ in range(9):
            await w.later(5.0)
            await w.known()
            seen.append(await rate())
        assert seen == [69, 74, 79, 84, 89, 94, 99, 100, 100]


async def test_what_ses_says_of_the_account_holds_for_everybody_until_it_is_read_again(server: RedisServer) -> None:
    async with world(server.url) as w:
        one, other = w.limiter(), w.limiter()
        for what in (Throttle.DAILY, Throttle.PAUSED, Throttle.SUSPENDED):
            await one.refused(what)
            assert (await other.admit(wish(1))).status == what.value
            await w.later(1)
            await w.known()
            assert (await other.admit(wish(1))).status == "go"
            await w.later(2)


async def test_the_reserve_of_the_day_is_for_what_is_transactional_and_the_last_of_the_quota_is_used(server: RedisServer) -> None:
    async with world(server.url) as w:
        await w.known(max_send_rate=1000.0, max_24h=100.0)
        gate = w.limiter(reserve=30)
        assert (await gate.admit(wish(50))).recipients == 50
        await w.later(2)
        assert (await gate.admit(wish(50))).recipients == 20, "as many as are left"
        await w.later(2)
        assert (await gate.admit(wish(1))).status == "daily"
        assert (await gate.admit(wish(40, Lane.TRANSACTIONAL, least=40))).status == "daily"
        assert (await gate.admit(wish(30, Lane.TRANSACTIONAL, least=30))).recipients == 30
        assert (await gate.admit(wish(1, Lane.TRANSACTIONAL))).status == "daily"


async def test_a_clock_that_steps_back_stops_nothing_for_longer_than_the_step(server: RedisServer) -> None:
    async with world(server.url) as w:
        gate = w.limiter()
        for _ in range(3):
            await w.answered((await gate.admit(wish(100, Lane.TRANSACTIONAL))).place)
            await w.later(1.1)
        await w.later(-3)
        started = w.now
        while (reply := await gate.admit(wish(100))).status == "wait":
            await w.later(reply.after_s)
        assert w.now - started <= 4.5e6


async def test_many_processes_that_ask_at_once_are_given_each_place_once(server: RedisServer) -> None:
    async with world(server.url) as w:
        gates = [w.limiter() for _ in range(40)]
        replies = await asyncio.gather(*(gate.admit(wish(7, Lane.TRANSACTIONAL, least=7)) for gate in gates))
        assert sum(reply.recipients for reply in replies) == 98
        places = [reply.place for reply in replies if reply.place]
        assert len(set(places)) == len(places)
