"""docs/states.md has every change of a state that a script makes, and no other: each script is run on each state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

from mailer.ids import new_campaign_id, new_message_id
from mailer.ledger import Ledger, Settlement
from mailer.ledger.archive import Archive
from mailer.ledger.records import LETTERS, OUTCOMES, Record, pack_message_id
from mailer.ledger.spec import Guard
from mailer.ledger.work import EventUpdate, Manner, Sent
from mailer.message.email import Mode, Outcome, State

from ..states_page import Arrow, changes, diagram
from .test_ledger import SPEC, campaign

MESSAGE_ID = "0106018a1b2c3d4e-1f2e3d4c-1234-5678-9abc-def012345678-000001"
LATER_MS = 10**15
SETTLED = (
    *(Outcome.SENT, Outcome.QUEUED, Outcome.UNKNOWN, Outcome.REJECTED, Outcome.FAILED),
    *(Outcome.SUPPRESSED, Outcome.EXPIRED),
)
HEARD = (Outcome.SENT, Outcome.DELIVERED, Outcome.BOUNCED, Outcome.COMPLAINED, Outcome.REJECTED, Outcome.FAILED)
OPEN = (Outcome.QUEUED, Outcome.CLAIMED)


class Stage(NamedTuple):
    """A campaign of one chunk, whose first recipient is in some state."""

    ledger: Ledger
    id: str
    fence: int

    @property
    def chunk(self) -> str:
        return f"{self.id}-0"


class Look(NamedTuple):
    recipient: str
    chunk: str
    campaign: str


Action = Callable[[Stage], Awaitable[object]]
Pair = tuple[Outcome, Outcome | None]  # one recipient's state, and the other's, where there are two
Try = tuple[str, Look, Look]  # a script, and what was before and after it


async def look(stage: Stage) -> Look:
    redis, keys, chunk = stage.ledger.redis, stage.ledger.keys, stage.chunk
    async with redis.pipeline(transaction=True) as pipe:
        pipe.getrange(keys.records(chunk), 0, 0)
        pipe.hmget(keys.chunk(chunk), "open", "until")
        pipe.smembers(keys.window(stage.id))
        pipe.hget(keys.container(stage.id), "state")
        pipe.time()
        record, (left, until), window, state, (seconds, _) = await pipe.execute()
    if not record:
        return Look("", "archived", state.decode())
    word = "over" if int(left or 0) <= 0 else "leased" if int(until) > seconds * 1000 else "waiting" if window else "stored"
    return Look(OUTCOMES[record.decode()], word, state.decode())


async def staged(
    ledger: Ledger,
    was: Outcome,
    state: State,
    *,
    beside: Outcome | None,  # the state of the other recipient, where there is one
    leased: bool,
    accepted: bool = False,  # SES had accepted it, and did not send it
    manner: Manner = Manner.PLAIN,
    policy: str = "hold",
) -> Stage:
    states = [was] if beside is None else [was, beside]
    open_, in_doubt = sum(one in OPEN for one in states), states.count(Outcome.UNKNOWN)
    id = await campaign(ledger, len(states))
    chunk, keys, redis, fence = f"{id}-0", ledger.keys, ledger.redis, 7
    now = (await ledger.work.lease(chunk, owner="me", lease_ms=60_000)).now_ms
    async with redis.pipeline(transaction=True) as pipe:
        pipe.set(keys.records(chunk), b"".join(Record(one, Mode.BULK, 0, 1, now // 1000).pack() for one in states))
        pipe.hset(keys.chunk(chunk), mapping={"fence": fence, "until": LATER_MS if leased else 0, "open": open_})
        pipe.hset(keys.container(id), mapping={"state": state.value, "doubt": policy, "n:q": 0})
        for one in states:
            pipe.hincrby(keys.container(id), f"n:{LETTERS[one]}", 1)
        pipe.hset(keys.details(chunk), "k0", f"{fence}:1")
        if manner is not Manner.PLAIN:
            pipe.hset(keys.details(chunk), "b0", manner.value)
        if accepted:
            packed = pack_message_id(MESSAGE_ID)
            assert packed is not None
            pipe.set(keys.message_ids(chunk), packed)
        if in_doubt:
            pipe.hset(keys.chunk(chunk), "doubt", in_doubt)
            pipe.zadd(keys.doubt, {chunk: now})
        if not open_:
            pipe.srem(keys.window(id), 0)
            if in_doubt and state is State.PARKED:
                pipe.hset(keys.container(id), "waits", 1)
        if state is State.CANCELLED:
            pipe.hset(keys.container(id), "sweep", 0)
        await pipe.execute()
    return Stage(ledger, id, fence)


def settle(outcome: Outcome, attempt: int) -> Action:
    row = Settlement(position=0, attempt=attempt, outcome=outcome)
    return lambda one: one.ledger.work.settle(one.chunk, [row], Sent(account="a", recipients=1))


def event(outcome: Outcome, manner: Manner, attempt: int) -> Action:
    heard = EventUpdate(0, attempt, outcome, MESSAGE_ID, "", manner)
    return lambda one: one.ledger.work.hear({one.chunk: [heard]})


def doubt(policy: str) -> Action:
    return lambda one: one.ledger.work.settle_doubt(one.chunk, grace_ms=-2000, policy=policy, reason="why")


def archive(ledger: Ledger) -> Archive:
    """Its scripts, without a store."""
    return Archive(ledger.redis, ledger.keys, ledger.scripts, ledger.store, cast(Any, None))


async def archived(one: Stage) -> None:
    read = await archive(one.ledger)._run_read(one.chunk, quiet_ms=-2000, doubt_quiet_ms=-2000)
    if read.digest:
        await archive(one.ledger)._run_drop(one.chunk, digest=read.digest, token=b"abcd")


async def ran_out(one: Stage) -> None:
    """The lease, and nobody took the chunk."""
    await one.ledger.redis.hset(one.ledger.keys.chunk(one.chunk), "until", 1)


async def renew(one: Stage) -> object:
    return await one.ledger.work.renew(one.chunk, fence=one.fence, lease_ms=60_000)


async def claim(one: Stage) -> object:
    rows = [(0, 2)]
    return await one.ledger.work.claim(one.chunk, fence=one.fence, mode=Mode.BULK, rows=rows, lease_ms=60_000)


def halt(to: State) -> Action:
    allowed = (State.RUNNING, State.PARKED)
    return lambda one: one.ledger.lifecycle.halt(one.id, to=to, reason="why", allowed=allowed)


ACTIONS: Sequence[tuple[str, Action]] = (
    ("claim", claim),
    *(("settle", settle(outcome, attempt)) for outcome in SETTLED for attempt in (1, 2)),
    *(("event", event(outcome, Manner.PLAIN, attempt)) for outcome in HEARD for attempt in (1, 2)),
    *(("event", event(Outcome.BOUNCED, manner, 1)) for manner in (Manner.NOTICE, Manner.SOFT, Manner.UNTRIED)),
    *(("doubt", doubt(policy)) for policy in ("resend", "assume_sent", "hold")),
    ("unclaim", lambda one: one.ledger.work._unclaim(one.chunk, fence=one.fence, rows=[(0, 1)], reason="why")),
    ("retry", lambda one: one.ledger.control._run_retry(one.id, [0], (Outcome.FAILED, Outcome.UNKNOWN, Outcome.REJECTED))),
    ("count_out", lambda one: one.ledger.control._run_count_out(one.id, [0], reason="why")),
    ("lease", lambda one: one.ledger.work.lease(one.chunk, owner="you", lease_ms=60_000)),
    ("renew", renew),
    ("release", lambda one: one.ledger.work.release(one.chunk, fence=one.fence)),
    ("feed", lambda one: one.ledger.lifecycle.feed(one.id, window=16, patience_ms=1000)),
    ("pause", lambda one: one.ledger.control._run_pause(one.id, reason="why")),
    ("resume", lambda one: one.ledger.control._run_resume(one.id, patience_ms=1000)),
    ("reschedule", lambda one: one.ledger.control._run_reschedule(one.id, at_ms=LATER_MS, at_text="later")),
    ("cancel", lambda one: one.ledger.control._run_cancel(one.id, reason="why")),
    ("guard", lambda one: one.ledger.lifecycle.guard(one.id)),
    ("halt", halt(State.STOPPED)),
    ("halt", halt(State.PARKED)),
    ("archive_drop", archived),
)


ACTION = dict(ACTIONS)
PLAINLY = [action for name, action in ACTIONS if name in ("settle", "event")][::2]  # of the first attempt


async def tried(stage: Stage, name: str, action: Action) -> Try:
    before = await look(stage)
    await action(stage)
    return name, before, await look(stage)


async def of_recipients(ledger: Ledger) -> list[Try]:
    variants = [(was, False, Manner.PLAIN) for was in Outcome]
    variants += [(Outcome.REJECTED, True, Manner.PLAIN), (Outcome.FAILED, True, Manner.PLAIN)]
    variants += [(Outcome.BOUNCED, False, manner) for manner in (Manner.NOTICE, Manner.SOFT, Manner.UNTRIED)]
    found, beside = [], Outcome.QUEUED
    for was, accepted, manner in variants:
        for state in (State.RUNNING, State.CANCELLED):
            for name, action in ACTIONS:
                leased = name != "lease"
                stage = await staged(ledger, was, state, beside=beside, leased=leased, accepted=accepted, manner=manner)
                found.append(await tried(stage, name, action))
    return found + await of_messages(ledger)


async def of_messages(ledger: Ledger) -> list[Try]:
    """A single message, as it waits and in each state that it can have."""
    found = []
    for was in Outcome:
        id = new_message_id()
        await ledger.intake.add_message(id, SPEC, keep_s=60, patience_ms=1000)
        stage, keys = Stage(ledger, id, 0), ledger.keys
        await ledger.redis.setrange(keys.records(stage.chunk), 0, Record(was, attempts=1).pack())
        found.append(
            await tried(stage, "cancel_message", lambda one: one.ledger.control._run_cancel_message(one.id, reason="why"))
        )
    return found


async def of_campaigns(ledger: Ledger) -> list[Try]:
    """Campaigns of one or two recipients, in all states that they can have there."""
    queued, claimed, unknown, failed = Outcome.QUEUED, Outcome.CLAIMED, Outcome.UNKNOWN, Outcome.FAILED
    pairs: list[Pair] = [(queued, None), (claimed, None), (claimed, queued), (claimed, unknown)]
    pairs += [(unknown, queued), (failed, queued)]
    over: list[Pair] = [(unknown, None), (unknown, unknown), (failed, unknown)]
    possible: dict[State, list[Pair]] = {
        State.PLANNED: [(queued, None)],
        State.RUNNING: pairs,
        State.FINISHED: [(unknown, None), (failed, None), (Outcome.SENT, None)],
    }
    found = []
    for state in State:
        for was, beside in possible.get(state, pairs + over):
            for name, action in ACTIONS:
                if name in ("settle", "event") and action not in PLAINLY:
                    continue
                leased = name != "lease"
                stage = await staged(ledger, was, state, beside=beside, leased=leased, policy="resend")
                found.append(await tried(stage, name, action))
            if state not in (State.RUNNING, State.PARKED) or was in OPEN:  # else it is finished
                for name in ("lease", "resume", "doubt"):
                    stage = await staged(ledger, was, state, beside=beside, leased=name != "lease", policy="hold")
                    found.append(await tried(stage, name, ACTION[name]))
    return found + await of_lists(ledger) + await of_guards(ledger)


async def of_lists(ledger: Ledger) -> list[Try]:
    """Campaigns whose list is being read, or waits for its time."""
    found = []
    for rows in (0, 1):
        id = await planned(ledger)
        found.append(await tried(Stage(ledger, id, 0), "start", start(rows)))
    id = await planned(ledger)
    found.append(await tried(Stage(ledger, id, 0), "abandon", lambda one: one.ledger.intake._drop(one.id, reason="why")))
    stage = await staged(ledger, Outcome.QUEUED, State.PAUSED, beside=None, leased=False)
    await ledger.redis.hset(ledger.keys.container(stage.id), mapping={"at": LATER_MS, "at_text": "later"})
    found.append(await tried(stage, "resume", ACTION["resume"]))
    for name in ("feed", "lease"):
        for rows in (0, 1):
            stage = await staged(ledger, Outcome.QUEUED, State.PLANNED, beside=None, leased=False)
            if not rows:
                await ledger.redis.hset(ledger.keys.container(stage.id), "n:q", 0)
            found.append(await tried(stage, name, ACTION[name]))
    return found


async def planned(ledger: Ledger) -> str:
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC)
    return id


def start(rows: int) -> Action:
    counts = {Outcome.QUEUED: rows} if rows else {Outcome.REJECTED: 1}
    return lambda one: one.ledger.intake._start(one.id, rows=1, chunks=1, counts=counts, reasons={})


async def of_guards(ledger: Ledger) -> list[Try]:
    found = []
    for state in State:
        id = new_campaign_id()
        await ledger.intake.plan_campaign(id, SPEC, guard=Guard(max_bounce_rate=0.05, max_complaint_rate=0.1, after=1))
        await ledger.redis.hset(ledger.keys.container(id), mapping={"state": state.value, "n:b": 5})
        found.append(await tried(Stage(ledger, id, 0), "guard", ACTION["guard"]))
    return found


async def of_chunks(ledger: Ledger) -> list[Try]:
    """What happens to a chunk beside its recipients."""
    found = []
    for state in (State.RUNNING, State.CANCELLED):
        for was in (Outcome.QUEUED, Outcome.CLAIMED, Outcome.UNKNOWN, Outcome.FAILED):
            for leased in (True, False) if was in OPEN else (False,):
                for name, action in ACTIONS:
                    stage = await staged(ledger, was, state, beside=None, leased=leased)
                    if name in ("renew", "claim"):
                        await ran_out(stage)
                    found.append(await tried(stage, name, action))
            stage = await staged(ledger, was, state, beside=None, leased=False)
            if was is Outcome.QUEUED:
                await ledger.redis.delete(ledger.keys.window(stage.id))
                await ledger.redis.hset(ledger.keys.container(stage.id), "next", 0)
                found.append(await tried(stage, "feed", ACTION["feed"]))
                await ledger.redis.delete(ledger.keys.window(stage.id))
                found.append(await tried(stage, "count_out", ACTION["count_out"]))
            if was is Outcome.FAILED:
                await archived(stage)
                found.append(await tried(stage, "unarchive", unarchived))
    return found


async def unarchived(one: Stage) -> object:
    record = Record(Outcome.FAILED, Mode.BULK, 0, 1, 1)
    return await archive(one.ledger)._run_unarchive(one.chunk, token=b"abcd", records=[record], message_ids=b"", details={})


def arrows(found: Iterable[tuple[str, str, str]]) -> set[Arrow]:
    return {Arrow(was, script, now) for script, was, now in found if was != now}


async def test_every_change_of_a_recipient_that_a_script_makes_is_in_the_table_and_no_other(ledger: Ledger) -> None:
    found = arrows((name, a.recipient, b.recipient) for name, a, b in await of_recipients(ledger) if b.recipient)
    assert changes("Recipient") == found
    assert diagram("Recipient") <= found
    assert {arrow.script for arrow in diagram("Recipient")} == {arrow.script for arrow in found}


async def test_every_change_of_a_campaign_that_a_script_makes_is_in_the_table_and_no_other(ledger: Ledger) -> None:
    found = arrows((name, a.campaign, b.campaign) for name, a, b in await of_campaigns(ledger))
    assert changes("Campaign") == found
    assert diagram("Campaign") <= found
    assert {arrow.script for arrow in diagram("Campaign")} == {arrow.script for arrow in found}


async def test_every_change_of_a_chunk_that_a_script_makes_is_in_the_diagram_and_no_other(ledger: Ledger) -> None:
    found = arrows((name, a.chunk, b.chunk) for name, a, b in await of_chunks(ledger))
    assert diagram("Chunk") == found
