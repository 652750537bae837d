"""Claims, deaths, answers, events, policies and retries in any order, against a slow and obvious model of one recipient.

The model knows what SES did with each attempt, and what of that has been heard. SES answers an attempt once, maybe late, maybe
never, and its events come in any order and any number of times; a repeated answer is one whose storing was repeated.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from mailer import Settings
from mailer.ledger import ClaimStatus, EventUpdate, LeasedChunk, LeaseStatus, Ledger
from mailer.ledger.records import LETTERS
from mailer.ledger.work import Manner, Settlement
from mailer.message.email import Mode, Outcome, State
from mailer.queue import connect, disconnect

from ..servers import RedisServer
from .test_ledger import LEASE_MS, MESSAGE_ID, campaign, counts, lines

SIZE = 4
QUEUED, CLAIMED, UNKNOWN, SENT = Outcome.QUEUED, Outcome.CLAIMED, Outcome.UNKNOWN, Outcome.SENT
REJECTED, FAILED = Outcome.REJECTED, Outcome.FAILED
DELIVERED, BOUNCED, COMPLAINED = Outcome.DELIVERED, Outcome.BOUNCED, Outcome.COMPLAINED
UNSENT = {REJECTED, FAILED}  # SES accepted it and sent it to nobody
PLAIN, NOTICE, SOFT, UNTRIED = Manner.PLAIN, Manner.NOTICE, Manner.SOFT, Manner.UNTRIED
DELAYED = (SENT, Manner.DELAYED)
WORDS = {Manner.DELAYED: "still trying"}
REPLY, LATER, LISTED, BLAMED = (BOUNCED, NOTICE), (BOUNCED, SOFT), (BOUNCED, UNTRIED), (COMPLAINED, UNTRIED)
STRENGTH = {
    (SENT, PLAIN): 1,
    DELAYED: 1,
    (REJECTED, PLAIN): 2,
    (FAILED, PLAIN): 2,
    REPLY: 3,
    (DELIVERED, PLAIN): 4,
    LISTED: 5,
    LATER: 6,
    (BOUNCED, PLAIN): 7,
    BLAMED: 8,
    (COMPLAINED, PLAIN): 9,
}
FATES: tuple[list[Outcome | tuple[Outcome, Manner]], ...] = (
    [SENT],
    [SENT, DELIVERED],
    [DELAYED, DELIVERED],
    [SENT, DELAYED, LATER],
    [DELAYED, REJECTED],
    [SENT, BOUNCED],
    [SENT, DELIVERED, REPLY],
    [DELIVERED, LATER, REPLY],
    [LATER, BOUNCED, COMPLAINED],
    [SENT, LISTED],
    [SENT, BLAMED],
    [DELIVERED, BOUNCED, COMPLAINED],
    [SENT, REJECTED],
    [SENT, FAILED],
    [FAILED],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What SES did with one message."""

    position: int
    number: int
    id: str  # SES's, different for each
    answer: Outcome  # UNKNOWN where it got lost on the way back
    events: list[tuple[Outcome, Manner]]  # none where SES refused it


@dataclass(slots=True)
class Person:
    """One recipient, as the ledger ought to have it."""

    state: Outcome = QUEUED
    manner: Manner = PLAIN
    delayed: bool = False
    attempts: int = 0
    id: str | None = None
    ids: set[str] = field(default_factory=set)  # under which SES is known to have sent it
    twice: bool = False
    again: int = 0  # what SES accepted and did not send, up to this attempt, somebody wants sent again
    told: list[Outcome] = field(default_factory=list)  # to those who read the stream

    def become(self, state: Outcome, attempt: int = 0, manner: Manner = PLAIN) -> None:
        self.state, self.manner, self.attempts = state, manner, max(self.attempts, attempt)
        if state is not CLAIMED:
            self.told.append(state)

    def accepted_as(self, id: str) -> None:
        self.id = self.id or id
        self.ids.add(id)
        self.twice |= len(self.ids) > 1

    def answer(self, one: Attempt) -> None:
        if one.answer is SENT:
            if one.number > self.again:
                if self.id is None and self.state not in (SENT, DELIVERED, BOUNCED, COMPLAINED):
                    self.become(SENT, one.number)
                self.accepted_as(one.id)
        elif one.number >= self.attempts and self.state is not one.answer:
            forgotten = one.number > self.attempts
            if self.state in (CLAIMED, UNKNOWN) or (self.state is QUEUED and (forgotten or one.answer is not UNKNOWN)):
                self.become(one.answer, one.number)
                if one.answer is QUEUED:
                    self.told.pop()  # it is tried again: nobody is told of that

    def hear(self, one: Attempt, event: Outcome, manner: Manner) -> None:
        if one.number <= self.again and event in {SENT, *UNSENT}:
            return
        strength = STRENGTH.get((self.state, self.manner), 0)
        if self.state in UNSENT and self.id is None:
            strength = 0  # these are our own words
        if event in UNSENT:  # holds where no other attempt may have got through
            tried = self.state in (CLAIMED, UNKNOWN, SENT) or (self.state is QUEUED and one.number > self.attempts)
            applies = tried and one.number >= self.attempts and self.id in (None, one.id)
        else:
            applies = STRENGTH[event, manner] > strength
            self.accepted_as(one.id)
        if applies:
            self.accepted_as(one.id)
            self.become(event, one.number, PLAIN if manner is Manner.DELAYED else manner)
        if self.state is SENT and manner is Manner.DELAYED and not self.delayed:
            self.told.append(SENT)
            self.delayed = True
        self.delayed &= self.state is SENT

    def retry(self) -> None:
        if self.state is FAILED and self.id is not None:
            self.again, self.id = self.attempts, None
            self.ids.clear()
        self.become(QUEUED)


class Sending(RuleBasedStateMachine):
    """`run` runs a coroutine; the ledger's clock is that of Redis and what the machine adds to it."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], ledger: Ledger) -> None:
        super().__init__()
        self.run, self.ledger = run, ledger
        self.people = [Person() for _ in range(SIZE)]
        self.attempts: list[Attempt] = []
        self.numbers = count()
        self.work: LeasedChunk | None = None
        self.policy = "hold"  # of those in doubt, as the campaign knows it

    @initialize()
    def begin(self) -> None:
        self.id = self.run(campaign(self.ledger, SIZE))
        self.chunk = f"{self.id}-0"

    def positions(self, *states: Outcome) -> list[int]:
        return [position for position, person in enumerate(self.people) if person.state in states]

    def attempt(self, data: st.DataObject, position: int) -> Attempt:
        refused = data.draw(st.booleans(), "refused")
        answers = [QUEUED, REJECTED, FAILED, UNKNOWN] if refused else [SENT, SENT, UNKNOWN]
        fate = [] if refused else data.draw(st.sampled_from(FATES), "fate")
        one = Attempt(
            position=position,
            number=self.people[position].attempts + 1,
            id=MESSAGE_ID.format(next(self.numbers)),
            answer=data.draw(st.sampled_from(answers), "answer"),
            events=[event if isinstance(event, tuple) else (event, PLAIN) for event in fate],
        )
        self.attempts.append(one)
        return one

    def lease(self) -> None:
        """What a worker that died had claimed is in doubt."""
        taken = self.run(self.ledger.work.take(self.chunk, owner="me", lease_ms=LEASE_MS))
        for position in self.positions(CLAIMED):
            self.people[position].become(UNKNOWN)
        self.work = taken if isinstance(taken, LeasedChunk) else None
        assert (taken is LeaseStatus.OVER) is not bool(self.positions(QUEUED))

    @rule(data=st.data())
    @precondition(lambda self: self.positions(QUEUED))
    def claim(self, data: st.DataObject) -> None:
        some = st.lists(st.sampled_from(self.positions(QUEUED)), min_size=1, unique=True)
        if self.work is None:
            self.lease()
        assert self.work
        made = [self.attempt(data, position) for position in data.draw(some, "whom")]
        rows = [(one.position, one.number) for one in made]
        step = self.ledger.work.claim(self.chunk, fence=self.work.fence, mode=Mode.BULK, rows=rows)
        assert self.run(step) is ClaimStatus.OK
        for one in made:
            self.people[one.position].become(CLAIMED, one.number)

    @rule()
    @precondition(lambda self: self.work is not None)
    def die(self) -> None:
        """And another worker has the chunk, where there is anything to do."""
        self.run(self.ledger.redis.incrby(f"{self.ledger.keys.namespace}:clock", 2 * LEASE_MS * 1000))
        self.lease()

    @rule(data=st.data())
    @precondition(lambda self: self.positions(QUEUED))
    def redis_forgets_a_claim(self, data: st.DataObject) -> None:
        self.attempt(data, data.draw(st.sampled_from(self.positions(QUEUED)), "whose"))

    @rule(data=st.data())
    @precondition(lambda self: self.attempts)
    def answer(self, data: st.DataObject) -> None:
        unique = st.lists(st.sampled_from(self.attempts), min_size=1, max_size=6, unique_by=lambda one: one.position)
        some = data.draw(unique, "of")
        rows = [
            Settlement(
                position=one.position,
                attempt=one.number,
                outcome=one.answer,
                message_id=one.id if one.answer is SENT else None,
                failed=one.answer is QUEUED,
            )
            for one in some
        ]
        heard = self.run(self.ledger.work.settle(self.chunk, rows))
        before = self.twice()
        for one in some:
            self.people[one.position].answer(one)
        assert heard.twice == self.twice() - before
        self.rest()

    @rule(data=st.data())
    @precondition(lambda self: any(one.events for one in self.attempts))
    def hear(self, data: st.DataObject) -> None:
        there_are = [(one, event) for one in self.attempts for event in one.events]
        some = data.draw(st.lists(st.sampled_from(there_are), min_size=1, max_size=8), "what")
        said = [
            EventUpdate(one.position, one.number, event, one.id, WORDS.get(manner, event.value), manner)
            for one, (event, manner) in some
        ]
        (heard,) = self.run(self.ledger.work.hear({self.chunk: said}))
        before = self.twice()
        for one, event in some:
            self.people[one.position].hear(one, *event)
        assert heard.twice == self.twice() - before
        self.rest()

    @rule(policy=st.sampled_from(["hold", "resend", "assume_sent"]))
    @precondition(lambda self: self.positions(UNKNOWN))
    def the_grace_is_over(self, policy: str) -> None:
        self.policy = policy
        n = self.run(self.ledger.work.settle_doubt(self.chunk, grace_ms=0, policy=policy, reason="assumed"))
        found = [] if policy == "hold" else self.positions(UNKNOWN)
        assert n == len(found)
        for position in found:
            self.people[position].become(QUEUED if policy == "resend" else SENT)

    @rule(states=st.sets(st.sampled_from([FAILED, UNKNOWN]), min_size=1))
    @precondition(lambda self: self.positions(FAILED, UNKNOWN))
    def retry(self, states: set[Outcome]) -> None:
        found = self.positions(*states)
        assert self.run(self.ledger.control._run_retry(self.id, [0], states)).recipients == len(found)
        for position in found:
            self.people[position].retry()

    def rest(self) -> None:
        """A worker whose chunk is over has nothing to hold."""
        if self.work and not self.positions(QUEUED, CLAIMED):
            self.run(self.ledger.work.release(self.chunk, fence=self.work.fence))
            self.work = None

    def twice(self) -> int:
        return sum(person.twice for person in self.people)

    def teardown(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        ledger = self.ledger
        found = await lines(ledger, self.id)
        assert [(line.state, line.attempts, line.ses_message_id) for line in found] == [
            (person.state.value, person.attempts, person.id) for person in self.people
        ]
        status = await ledger.report.campaign(self.id)
        assert await counts(ledger, self.id) == dict(Counter(person.state.value for person in self.people))
        assert status.twice == self.twice()
        kept = await ledger.redis.hgetall(ledger.keys.container(self.id))
        manners = Counter(f"m:{LETTERS[p.state]}{p.manner.value}" for p in self.people if p.manner is not PLAIN)
        assert status.delayed == sum(person.delayed for person in self.people)
        assert ["still trying" in line.reason for line in found] == [person.delayed for person in self.people]
        assert {k.decode(): int(v) for k, v in kept.items() if k.startswith(b"m:") and v != b"0"} == manners
        left, doubt = len(self.positions(QUEUED, CLAIMED)), len(self.positions(UNKNOWN))
        waits = doubt > 0 and self.policy != "hold"  # more may be sent, or is still to be decided
        assert (status.state is State.FINISHED) is (left == 0 and not waits)
        assert (status.state is State.PARKED) is (left == 0 and waits)
        numbers = await ledger.redis.hmget(ledger.keys.chunk(self.chunk), "open", "doubt")
        assert list(map(int, (value or 0 for value in numbers))) == [left, doubt]
        assert (await ledger.redis.zscore(ledger.keys.doubt, self.chunk) is not None) is (doubt > 0)
        told: list[list[str]] = [[] for _ in self.people]
        for _, entry in await ledger.redis.xrange(ledger.keys.outcomes):
            if entry[b"id"].startswith(self.chunk.encode()):
                told[int(entry[b"id"].rpartition(b"-")[2])].append(entry[b"state"].decode())
        assert told == [[state.value for state in person.told] for person in self.people]
        await ledger.redis.delete(ledger.keys.outcomes)


def test_in_whatever_order_it_comes_the_ledger_says_what_the_model_says(server: RedisServer, namespace: str) -> None:
    clock = (
        "local function now_us() local t = redis.call('TIME') "
        f"return t[1] * 1000000 + t[2] + (redis.call('GET', '{namespace}:clock') or 0) end\n"
    )
    with asyncio.Runner() as runner:

        async def opened() -> Ledger:
            return Ledger(connect(Settings(redis_url=server.url)), namespace, clock)

        ledger = runner.run(opened())

        class Here(Sending):
            def __init__(self) -> None:
                super().__init__(runner.run, ledger)

        try:
            run_state_machine_as_test(
                Here,
                settings=settings(
                    max_examples=200,
                    stateful_step_count=25,
                    deadline=None,
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # Phase.shrink takes longer than a test may; by hand
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(disconnect(ledger.redis))
