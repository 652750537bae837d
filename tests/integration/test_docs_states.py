"""docs/states.md has every change of a state that a script makes, and no other: each script is run on each state."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from mailer.ids import new_campaign_id, new_message_id
from mailer.ledger import Ledger
from mailer.ledger.records import LETTERS, MESSAGE_ID_BYTES, OUTCOMES, STATE_BYTES, Record
from mailer.message.email import Mode, Outcome, State

from ..states_page import Arrow, changes, diagram
from .test_ledger import campaign

ID = b"a message id of SES's, 27 by"[:MESSAGE_ID_BYTES]
MANNERS = ("n", "s", "x")  # of a bounce: a notice, soft, not tried
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
    manner: str = "-",
    policy: str = "hold",
) -> Stage:
    states = [was] if beside is None else [was, beside]
    open_, in_doubt = sum(one in OPEN for one in states), states.count(Outcome.UNKNOWN)
    id = await campaign(ledger, len(states))
    chunk, keys, redis, fence = f"{id}-0", ledger.keys, ledger.redis, 7
    now = 1000 * (await redis.time())[0]
    async with redis.pipeline(transaction=True) as pipe:
        pipe.set(keys.records(chunk), b"".join(Record(one, Mode.BULK, 0, 1, now // 1000).pack() for one in states))
        pipe.hset(keys.chunk(chunk), mapping={"fence": fence, "until": LATER_MS if leased else 0, "open": open_})
        pipe.hset(keys.container(id), mapping={"state": state.value, "doubt": policy, "n:q": 0})
        for one in states:
            pipe.hincrby(keys.container(id), f"n:{LETTERS[one]}", 1)
        pipe.hset(keys.details(chunk), "k0", f"{fence}:1")
        if manner != "-":
            pipe.hset(keys.details(chunk), "b0", manner)
        if accepted:
            pipe.set(keys.message_ids(chunk), ID)
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


async def run(stage: Stage, script: str, keys: Iterable[str], *args: object) -> Any:
    """The script itself, with these keys by their names in keys.py and these arguments."""
    given = {"campaign": stage.id, "chunk": stage.chunk, "account": "an account"}
    whose = dict.fromkeys(("container", "window", "tokens"), "campaign") | dict.fromkeys(OF_ACCOUNT, "account")
    names = [getattr(stage.ledger.keys, key) for key in keys]
    made = [name if isinstance(name, str) else name(given[whose.get(name.__name__, "chunk")]) for name in names]
    return await stage.ledger.scripts.run(script, made, *args)


def action(script: str, keys: Iterable[str], args: Callable[[Stage], Sequence[object]]) -> tuple[str, Action]:
    return script, lambda stage: run(stage, script, keys, *args(stage))


def settle(outcome: Outcome, attempt: int) -> tuple[str, Action]:
    row = struct.pack(">HHcB", 0, attempt, STATE_BYTES[outcome], 0)
    return action("settle", SETTLE, lambda one: (one.chunk, 1, 0, "", row, bytes(MESSAGE_ID_BYTES), "", "ids", 60))


def event(outcome: Outcome, manner: str, attempt: int) -> tuple[str, Action]:
    row = struct.pack(">HHcc", 0, attempt, STATE_BYTES[outcome], manner.encode())
    return action("event", CHUNK, lambda one: (one.chunk, row, ID))


def doubt(policy: str) -> tuple[str, Action]:
    return action("doubt", (*CHUNK, "active"), lambda one: (one.chunk, -2000, policy, "why"))


def halt(to: State) -> tuple[str, Action]:
    return action("halt", ("container",), lambda _: (to.value, "why", State.RUNNING.value, State.PARKED.value))


async def archived(one: Stage) -> None:
    status, *read = await run(one, "archive_read", (*ARCHIVED, "tokens", "over"), one.chunk, 0, -2000, -2000)
    if status == b"over":
        await run(one, "archive_drop", (*ARCHIVED, "payload", "tokens", "doubt"), one.chunk, 0, read[0], b"abcd")


async def unarchived(one: Stage) -> None:
    record = Record(Outcome.FAILED, Mode.BULK, 0, 1, 1).pack()
    await run(one, "unarchive", (*ARCHIVED, "tokens", "over", "doubt"), one.chunk, 0, b"abcd", record, b"", 0, 0)


async def ran_out(one: Stage) -> None:
    """The lease, and nobody took the chunk."""
    await one.ledger.redis.hset(one.ledger.keys.chunk(one.chunk), "until", 1)


CHUNK = (
    *("container", "chunk", "records", "window", "details", "message_ids", "payload"),
    *("due", "doubt", "outcomes"),
)
OF_ACCOUNT = ("account", "limiter", "places", "history")
SETTLE = (*CHUNK, *OF_ACCOUNT, "active")
ARCHIVED = ("container", "chunk", "records", "message_ids", "details")
ACTIONS: Sequence[tuple[str, Action]] = (
    action(
        *("claim", ("container", "chunk", "records", "due")),
        lambda one: (one.fence, "b", struct.pack(">HH", 0, 2), one.chunk, 60_000),
    ),
    *(settle(outcome, attempt) for outcome in SETTLED for attempt in (1, 2)),
    *(event(outcome, "-", attempt) for outcome in HEARD for attempt in (1, 2)),
    *(event(Outcome.BOUNCED, manner, 1) for manner in MANNERS),
    *(doubt(policy) for policy in ("resend", "assume_sent", "hold")),
    action("unclaim", (*CHUNK, "active"), lambda one: (one.chunk, one.fence, struct.pack(">HH", 0, 1), "why")),
    action("retry", (*CHUNK, "active"), lambda one: (one.chunk, "fkr")),
    action("count_out", CHUNK, lambda one: (one.chunk, 0, "why")),
    action("lease", CHUNK, lambda one: (one.chunk, "you", 60_000, "", "")),
    action("renew", ("chunk", "due"), lambda one: (one.chunk, one.fence, 60_000)),
    action("release", ("chunk", "due"), lambda one: (one.chunk, one.fence, 0, 1)),
    action("feed", ("container", "window", "due"), lambda one: (one.id, 16, 1000)),
    action("pause", ("container",), lambda _: ("why",)),
    action("resume", ("container", "window", "due", "active"), lambda one: (one.id, 1000, one.ledger.keys.chunk(""))),
    action("reschedule", ("container",), lambda _: (LATER_MS, "later")),
    action("cancel", ("container", "window", "active"), lambda one: (one.id, "why")),
    action("guard", ("container",), lambda _: ()),
    halt(State.STOPPED),
    halt(State.PARKED),
    ("archive_drop", archived),
)
ACTION = dict(ACTIONS)
PLAINLY = [action for name, action in ACTIONS if name in ("settle", "event")][::2]  # of the first attempt


async def tried(stage: Stage, name: str, action: Action) -> Try:
    before = await look(stage)
    await action(stage)
    return name, before, await look(stage)


async def of_recipients(ledger: Ledger) -> list[Try]:
    variants = [(was, False, "-") for was in Outcome]
    variants += [(Outcome.REJECTED, True, "-"), (Outcome.FAILED, True, "-")]
    variants += [(Outcome.BOUNCED, False, manner) for manner in MANNERS]
    found, beside = [], Outcome.QUEUED
    for was, accepted, manner in variants:
        for state in (State.RUNNING, State.CANCELLED):
            for name, action in ACTIONS:
                leased = name != "lease"
                stage = await staged(ledger, was, state, beside=beside, leased=leased, accepted=accepted, manner=manner)
                found.append(await tried(stage, name, action))
    return found + await of_messages(ledger)


async def of_messages(ledger: Ledger) -> list[Try]:
    """A single message, in each state that it can have."""
    name, cancel = action("cancel_message", CHUNK, lambda one: (one.chunk, "why"))
    found = []
    for was in Outcome:
        stage = Stage(ledger, new_message_id(), 0)
        keys = ("container", "chunk", "records", "payload", "window", "due")
        await run(stage, "add", ("idempotency", *keys), stage.id, stage.chunk, "", 60, 1000, b"", "", "keep", 60)
        await ledger.redis.setrange(ledger.keys.records(stage.chunk), 0, Record(was, attempts=1).pack())
        found.append(await tried(stage, name, cancel))
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
    for queued in (0, 1):
        _, start = action("start", ("container",), lambda _, queued=queued: (1, 1, 1, "q" if queued else "r", 1))  # type: ignore[misc]
        found.append(await tried(await planned(ledger), "start", start))
    found.append(await tried(await planned(ledger), *action("abandon", ("container",), lambda _: ("why", 0))))
    stage = await staged(ledger, Outcome.QUEUED, State.PAUSED, beside=None, leased=False)
    await ledger.redis.hset(ledger.keys.container(stage.id), mapping={"at": LATER_MS, "at_text": "later"})
    found.append(await tried(stage, "resume", ACTION["resume"]))
    for name in ("feed", "lease"):
        for was in (Outcome.QUEUED, Outcome.REJECTED):
            stage = await staged(ledger, was, State.PLANNED, beside=None, leased=False)
            found.append(await tried(stage, name, ACTION[name]))
    return found


async def planned(ledger: Ledger, **fields: object) -> Stage:
    stage, pairs = Stage(ledger, new_campaign_id(), 0), [part for pair in {"lane": "bulk", **fields}.items() for part in pair]
    keys = ("idempotency", "container", "campaigns", "active")
    await run(stage, "plan", keys, stage.id, "", 60, ledger.keys.container(""), *pairs)
    return stage


async def of_guards(ledger: Ledger) -> list[Try]:
    found = []
    for state in State:
        stage = await planned(ledger, max_bounce=0.05, max_complaint=0.1, guard_after=1)
        await ledger.redis.hset(ledger.keys.container(stage.id), mapping={"state": state.value, "n:b": 5})
        found.append(await tried(stage, "guard", ACTION["guard"]))
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
