"""Pause, resume, cancel and the guard: they hold from the moment on, at any instant, and every recipient stays accounted for."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailer import Email, Lane, Mailer, Outcome, Settings, State
from mailer.errors import CampaignGone, InvalidEmail, NotACampaign, NotFound, WrongState
from mailer.ids import chunk_id, new_campaign_id
from mailer.ledger import CampaignStatus, ClaimStatus, Guard, LeasedChunk, LeaseStatus, Ledger, lifecycle
from mailer.ledger.records import LETTERS
from mailer.redis.client import RedisClient
from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator.state import ConfigurationSet
from worker import maintenance
from worker.maintenance import look_after_campaigns
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses
from .test_delivery import accepted, finished, letter, rows, until
from .test_ledger import SPEC, campaign, claim, counts, settled, states, take

SOON_MS = 20
DAY_S = 86_400
A_SHARE = "must be above 0 and at most 1: 0.05 is 5 %, and 1 never pauses it"


async def ttls(ledger: Ledger, id: str) -> set[bool]:
    """Whether the campaign's keys will be forgotten."""
    found = [await ledger.redis.ttl(key) async for key in ledger.redis.scan_iter(f"{ledger.keys.namespace}:?:{id}*")]
    assert len(found) > 3
    return {ttl >= 0 for ttl in found}


# ---- the ledger's part, on each kind of server -----------------------------------------------------------------------


async def test_what_is_paused_is_not_claimed_and_what_is_in_flight_settles(ledger: Ledger) -> None:
    control, id = ledger.control, await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    assert await control.pause(id)
    assert await claim(ledger, work, 1) is ClaimStatus.HALTED
    await ledger.work.settle(work.chunk, [settled(0, Outcome.SENT)])
    assert await counts(ledger, id) == {"sent": 1, "queued": 2}
    status = await ledger.report.campaign(id)
    assert (status.state, status.reason) == (State.PAUSED, f"somebody paused it; to let it go on: mailer campaign resume {id}")
    switched = await control.resume(id)
    assert (switched.state, switched.wake) == ("running", ())  # a worker has its only chunk
    assert await claim(ledger, work, 1) is ClaimStatus.OK


async def test_what_was_in_flight_and_the_last_ends_a_paused_campaign(ledger: Ledger) -> None:
    control, id = ledger.control, await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await control.pause(id)
    assert (await control.resume(id)).state == State.RUNNING  # though nothing is queued: it may come back
    await control.pause(id)
    assert (await ledger.work.settle(work.chunk, [settled(0, Outcome.SENT)])).finished
    assert (await ledger.report.campaign(id)).state is State.FINISHED


async def test_a_resumed_campaign_has_its_window_back_among_what_is_owed_work(ledger: Ledger) -> None:
    control, id = ledger.control, await campaign(ledger, 1, 1, 1)
    await control.pause(id)
    for number in range(3):
        assert await ledger.work.take(f"{id}-{number}", owner="me", lease_ms=1000) is LeaseStatus.HALTED
    assert await ledger.redis.zcard(ledger.keys.due) == 0
    switched = await control.resume(id)
    assert sorted(switched.wake) == [(f"{id}-{number}", 0) for number in range(3)]
    assert await ledger.redis.zcard(ledger.keys.due) == 3
    assert await control.resume(id) != switched  # twice: it goes on already, and nothing is to be woken
    assert [isinstance(await ledger.work.take(f"{id}-{n}", owner="me", lease_ms=1000), LeasedChunk) for n in range(3)] == [
        True
    ] * 3


@pytest.mark.parametrize("state", [State.RUNNING, State.PARKED, State.PAUSED, State.STOPPED])
async def test_cancelled_from_any_state_all_that_is_queued_is_counted_out_and_what_is_claimed_settles(
    ledger: Ledger, state: State
) -> None:
    control, id = ledger.control, await campaign(ledger, 3, *[2] * 30, bad=1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 1, 2)
    await ledger.lifecycle.halt(id, to=state, reason="", allowed=[State.RUNNING])
    assert [await control.cancel(id), await control.cancel(id)] == [True, False]
    assert await claim(ledger, work, 0) is not ClaimStatus.OK
    await asyncio.gather(*(control.count_out(id, chunks=7) for _ in range(3)))
    while (await control.count_out(id, chunks=7)).left:
        pass
    assert await counts(ledger, id) == {"rejected": 31, "cancelled": 30, "claimed": 2}
    status = await ledger.report.campaign(id)
    assert (status.state, status.over, status.finished_at) == (State.CANCELLED, False, None)
    await ledger.lifecycle.retire_campaign(id, DAY_S)
    assert await ttls(ledger, id) == {False}  # not before what is in flight is settled

    back = settled(2, Outcome.QUEUED, reason="busy", failed=True)
    assert (await ledger.work.settle(work.chunk, [settled(1, Outcome.SENT), back])).finished
    assert await counts(ledger, id) == {"rejected": 31, "cancelled": 31, "sent": 1}
    status = await ledger.report.campaign(id)
    assert (status.state, status.over) == (State.CANCELLED, True)
    assert status.finished_at is not None
    assert {line.reason async for line in ledger.report.lines(id) if line.state == "cancelled"} == {
        "the campaign was cancelled before its turn came",
        "busy",
    }
    assert await ledger.redis.zcard(ledger.keys.due) == 0
    await ledger.lifecycle.retire_campaign(id, DAY_S)
    assert await ttls(ledger, id) == {True}


async def test_what_a_dead_worker_had_claimed_stays_unknown_and_ends_a_cancelled_campaign(ledger: Ledger) -> None:
    control, id = ledger.control, await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0", lease_ms=SOON_MS)
    await claim(ledger, work, 0)
    await control.cancel(id)
    await control.count_out(id, chunks=10)
    await asyncio.sleep(SOON_MS * 2 / 1000)
    assert await ledger.work.reap(limit=10, patience_ms=1000) == [(f"{id}-0", work.fence)]
    assert await ledger.work.take(f"{id}-0", owner="other", lease_ms=1000) is LeaseStatus.OVER
    assert await counts(ledger, id) == {"unknown": 1, "cancelled": 1}
    assert (await ledger.report.campaign(id)).over
    ended = (await ledger.report.campaign(id)).finished_at
    # It turns out that SES had refused it: it is not tried again.
    await asyncio.sleep(0.002)
    await ledger.work.settle(work.chunk, [settled(0, Outcome.QUEUED)])
    assert await counts(ledger, id) == {"cancelled": 2}
    assert (await ledger.report.campaign(id)).finished_at == ended


async def test_a_stopped_campaign_that_was_to_be_forgotten_is_kept_whole_when_it_is_resumed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "KEYS_CHUNKS", 3)
    control = ledger.control
    for turn in range(12):
        id = await campaign(ledger, *[1] * 20)
        for _ in range(3):
            await ledger.lifecycle.stop(id, "wrong")
            if turn % 2:
                await ledger.lifecycle.retire_campaign(id, DAY_S)
                assert await ttls(ledger, id) == {True}
                assert id not in [one.id for one in await ledger.lifecycle.active_campaigns()]
            # Also while somebody is just about to let it be forgotten.
            await asyncio.gather(
                ledger.lifecycle.retire_campaign(id, DAY_S), control.resume(id), ledger.lifecycle.retire_campaign(id, DAY_S)
            )
            await ledger.lifecycle.revive_campaign(id)
            assert await ttls(ledger, id) == {False}
            (active,) = [one for one in await ledger.lifecycle.active_campaigns() if one.id == id]
            assert (active.state, active.retired, active.over) == (State.RUNNING, False, False)


async def test_a_resume_that_died_in_the_middle_is_ended_by_the_upkeep(runtime_only: Runtime) -> None:
    ledger = runtime_only.ledger
    id = await campaign(ledger, 1, 1, 1)
    await ledger.lifecycle.stop(id, "wrong")
    await look_after_campaigns(runtime_only)
    assert await ttls(ledger, id) == {True}
    await ledger.control._run_resume(id, patience_ms=1)  # and its caller is gone
    await look_after_campaigns(runtime_only)
    assert await ttls(ledger, id) == {False}


async def test_a_stopped_campaign_that_was_to_be_forgotten_is_counted_out_and_forgotten_when_it_is_cancelled(
    runtime_only: Runtime,
) -> None:
    ledger = runtime_only.ledger
    id = await campaign(ledger, 2, 2)
    await ledger.lifecycle.stop(id, "wrong")
    await look_after_campaigns(runtime_only)
    await runtime_only.ledger.control.cancel(id)
    assert id in [one.id for one in await ledger.lifecycle.active_campaigns()]
    await look_after_campaigns(runtime_only)
    assert await counts(ledger, id) == {"cancelled": 4}
    await look_after_campaigns(runtime_only)
    assert await ttls(ledger, id) == {True}


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_in_whatever_order_the_counts_are_those_of_the_records(ledger: Ledger, seed: int) -> None:
    dice, control = random.Random(seed), ledger.control
    id = await campaign(ledger, 4, 4, 4)
    works: dict[str, LeasedChunk] = {}
    flying: list[tuple[str, int, int]] = []
    calls: Counter[tuple[str, int]] = Counter()

    async def lease() -> None:
        chunk = chunk_id(id, dice.randrange(3))
        found = await ledger.work.take(chunk, owner="me", lease_ms=dice.choice([1, 60_000]))
        if isinstance(found, LeasedChunk):
            works[chunk] = found
            flying[:] = [one for one in flying if one[0] != chunk or dice.random() < 0.5]  # some answers come late

    async def hand_over() -> None:
        if works:
            chunk = dice.choice(list(works))
            position, before = dice.randrange(4), (await ledger.report.campaign(id)).state
            records = works[chunk].records
            attempt = records[position].attempts + 1
            again = (chunk, position, attempt) in flying  # then it is stored, and holds whatever the campaign is
            if await claim(ledger, works[chunk], position, attempt=attempt) is ClaimStatus.OK and not again:
                assert before in (State.RUNNING, State.PARKED)
                calls[chunk, position] += 1
                flying.append((chunk, position, attempt))

    async def answer() -> None:
        if flying:
            chunk, position, attempt = flying.pop(dice.randrange(len(flying)))
            outcome = dice.choice([Outcome.SENT, Outcome.QUEUED, Outcome.UNKNOWN, Outcome.REJECTED])
            await ledger.work.settle(chunk, [settled(position, outcome, attempt=attempt)])

    async def allowed(step: Callable[[str], Awaitable[object]]) -> None:
        try:
            await step(id)
        except WrongState:
            assert (await ledger.report.campaign(id)).state in (State.FINISHED, State.CANCELLED, State.STOPPED)

    steps: list[Callable[[], Awaitable[object]]] = [
        *[lease, hand_over, answer] * 3,
        lambda: allowed(control.pause),
        lambda: allowed(control.resume),
        lambda: ledger.lifecycle.stop(id, "wrong"),
        lambda: ledger.lifecycle.park(id, "waits"),
        lambda: ledger.lifecycle.retire_campaign(id, DAY_S),
        lambda: control.count_out(id, chunks=1),
    ]
    for turn in range(90):
        await dice.choice(steps)()
        if turn == 60:
            await allowed(control.cancel)
        await counts(ledger, id)
    await asyncio.sleep(0.002)
    while (await control.count_out(id, chunks=1)).left:
        pass
    for chunk, position, attempt in flying:
        await ledger.work.settle(chunk, [settled(position, Outcome.QUEUED, attempt=attempt)])
    for number in range(3):
        if (work := works.get(chunk_id(id, number))) is not None:
            await ledger.work.release(work.chunk, fence=work.fence)
        await ledger.work.take(chunk_id(id, number), owner="last", lease_ms=1)
    assert not {"queued", "claimed"} & set(await states(ledger, id))
    status = await ledger.report.campaign(id)
    assert (status.over, sum((await counts(ledger, id)).values())) == (True, 12)


# ---- words that are wrong --------------------------------------------------------------------------------------------


async def test_what_is_beyond_it_is_one_clear_sentence(mailer: Mailer, settings: Settings, ses: Simulator) -> None:
    message = await mailer.send(Email(to="a@example.org", from_="n@example.com", subject="s", text="t"))
    for word, verb in ((mailer.pause, "paused"), (mailer.resume, "resumed")):
        sentence = f"{message} is a message, and only a campaign can be {verb}. Show the message with: mailer status {message}"
        with pytest.raises(NotACampaign) as caught:
            await word(message)
        assert str(caught.value) == sentence
        with pytest.raises(NotFound):
            await word("c0")
    for unknown in ("c0", "m0", f"{message}-0-0", "\ud800"):
        with pytest.raises(NotFound):
            await mailer.cancel(unknown)
    async with running_worker(settings):
        done = await mailer.start_campaign(letter(), rows(2))
        await finished(mailer, done)
    gone = await mailer.start_campaign(letter(), rows(2))
    await mailer.cancel(gone)
    for id, state, words in (
        (done, "finished", [mailer.pause, mailer.resume, mailer.cancel]),
        (gone, "cancelled", [mailer.pause, mailer.resume]),
    ):
        for word in words:
            with pytest.raises(WrongState, match=f"Campaign {id} is {state}, so it cannot be (paus|resum|cancell)ed"):
                await word(id)
    assert (await mailer.cancel(gone), (await mailer.campaign(gone)).counts) == (False, {"cancelled": 2})


async def test_a_list_that_is_being_read_can_be_cancelled_and_nothing_else(mailer: Mailer, settings: Settings) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[dict[str, Any]]:
        for row in rows(6000):
            yield row
        begun.set()
        await go_on.wait()
        for row in rows(6000):
            yield {**row, "email": f"more-{row['email']}"}

    reading = asyncio.create_task(mailer.start_campaign(letter(), source()))
    await begun.wait()
    (status,) = await mailer.campaigns()
    for word in (mailer.pause, mailer.resume):
        with pytest.raises(WrongState, match="is planned, and its list is still being read, so it cannot be "):
            await word(status.id)
    assert await mailer.cancel(status.id)
    assert await mailer.cancel(status.id) is False
    go_on.set()
    with pytest.raises(CampaignGone, match="somebody cancelled it"):
        await reading
    status = await mailer.campaign(status.id)
    assert (status.state, status.over, status.counts) == (State.CANCELLED, True, {})
    assert status.reason == "somebody cancelled it while its list was being read; nothing of it was sent"


# ---- with workers ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def runtime_only(settings: Settings, ses: Simulator) -> AsyncIterator[Runtime]:
    """A worker that serves no lane and whose upkeep the test runs."""
    async with Runtime(settings) as runtime:
        yield runtime


async def at_rest(ledger: Ledger) -> None:
    """Pausing and resuming leaves wake-ups that nothing is to be done for. A worker that is ended while arq looks at one leaves
    a pipeline of redis-py's open, which Python warns of."""
    async with asyncio.timeout(10):
        while await ledger.report.queue_depth(Lane.BULK):
            await asyncio.sleep(0.01)


async def nothing_in_flight(mailer: Mailer, id: str) -> CampaignStatus:
    async with asyncio.timeout(10):
        while (status := await mailer.campaign(id)).counts.get("claimed"):
            await asyncio.sleep(0.002)
    return status


async def test_a_pause_holds_within_a_second_and_after_a_resume_everybody_is_sent_to_once(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    dice = random.Random(7)
    id = await mailer.start_campaign(letter(), rows(6000))
    pauses = 0
    for _ in range(6):
        await asyncio.sleep(dice.uniform(0, 0.15))
        try:
            changed = await mailer.pause(id)
        except WrongState:
            break  # it is finished
        started = time.monotonic()
        assert (changed, await mailer.pause(id)) == (True, False)
        status = await nothing_in_flight(mailer, id)
        assert time.monotonic() - started < 1
        sent = len(ses.log)
        await asyncio.sleep(dice.uniform(0, 0.1))
        again = await mailer.campaign(id)
        assert (len(ses.log), again.counts, sum(again.counts.values())) == (sent, status.counts, 6000)
        if status.state is State.PAUSED:
            pauses += 1
            assert [await mailer.resume(id), await mailer.resume(id)] == [True, False]
    assert pauses >= 2
    # 20 seconds is how long the reaper leaves a wake-up alone: it is not what the rest is waiting for.
    assert (await finished(mailer, id, 15)).counts == {"sent": 6000}
    assert set(accepted(ses).values()) == {1}
    assert len(accepted(ses)) == 6000
    await at_rest(runtime.ledger)


async def test_pausing_and_resuming_from_all_sides_loses_nobody_and_sends_to_nobody_twice(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    async with running_worker(settings) as runtime, running_worker(settings), Mailer(settings) as other:
        id = await mailer.start_campaign(letter(), rows(4000))

        async def press(mailer: Mailer, seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(25):
                with_word = dice.choice([mailer.pause, mailer.resume])
                try:
                    await with_word(id)
                except WrongState:
                    return
                await asyncio.sleep(dice.uniform(0, 0.02))

        await asyncio.gather(*(press(who, seed) for seed, who in enumerate([mailer, other, mailer, other])))
        if (await nothing_in_flight(mailer, id)).state is State.PAUSED:
            await mailer.resume(id)
        assert (await finished(mailer, id, 15)).counts == {"sent": 4000}
        await at_rest(runtime.ledger)
    assert (len(accepted(ses)), set(accepted(ses).values())) == (4000, {1})


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
async def test_cancelled_at_any_instant_the_rest_is_counted_out_and_nobody_gets_it_afterwards(
    runtime: Runtime, ses: Simulator, mailer: Mailer, after: float
) -> None:
    id = await mailer.start_campaign(letter(), rows(5000))
    await asyncio.sleep(after)
    assert await mailer.cancel(id)
    assert await mailer.cancel(id) is False
    status = await finished(mailer, id)
    assert (status.state, sum(status.counts.values()), set(status.counts) <= {"sent", "cancelled"}) == (
        State.CANCELLED,
        5000,
        True,
    )
    assert status.finished_at is not None
    sent = {line.to async for line in mailer.outcomes(id) if line.state == "sent"}
    await asyncio.sleep(0.1)
    assert accepted(ses) == dict.fromkeys(sent, 1)
    assert status.counts.get("cancelled", 0) > 0
    assert (await mailer.campaign(id)).counts == status.counts
    await at_rest(runtime.ledger)


async def test_resume_wakes_at_once_what_was_taken_out(runtime_only: Runtime, mailer: Mailer) -> None:
    ledger = runtime_only.ledger
    id = await mailer.start_campaign(letter(), rows(2000))
    await mailer.pause(id)
    await ledger.redis.delete(ledger.keys.queue(Lane.BULK), *[ledger.keys.of_arq(f"arq:job:{id}-{n}:0") for n in range(4)])
    await mailer.resume(id)
    waiting = {job.decode().split(":")[0] for job in await ledger.redis.zrange(ledger.keys.queue(Lane.BULK), 0, -1)}
    assert waiting == {f"{id}-{n}" for n in range(4)}


async def test_a_resumed_campaign_keeps_its_time(mailer: Mailer, runtime: Runtime, ses: Simulator) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    id = await mailer.start_campaign(letter(send_at=due), rows(3))
    assert await mailer.resume(id) is False
    await mailer.pause(id)
    assert await mailer.resume(id)
    status = await mailer.campaign(id)
    assert (status.state, status.reason.startswith("to be sent at ")) == (State.PLANNED, True)
    await finished(mailer, id)
    assert min(entry.at for entry in ses.log) >= due.timestamp() - 0.01

    late = await mailer.start_campaign(letter(send_at=datetime.now(UTC) + timedelta(seconds=0.5)), rows(3))
    await mailer.pause(late)
    await asyncio.sleep(0.7)
    assert (await mailer.campaign(late)).state is State.PAUSED
    await mailer.resume(late)
    assert (await finished(mailer, late)).counts == {"sent": 3}


async def test_what_was_stopped_goes_on_once_it_is_mended(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.start_campaign(letter(configuration_set="missing"), rows(1200))
    await until(mailer, id, State.STOPPED)
    async with asyncio.timeout(5):  # taken from the active ones, its keys are to be forgotten
        while id in [one.id for one in await runtime.ledger.lifecycle.active_campaigns()]:
            await asyncio.sleep(0.02)
    with pytest.raises(WrongState):
        await mailer.pause(id)
    ses.configuration_sets["missing"] = ConfigurationSet("missing")
    await asyncio.sleep(1.1)  # that it is missing is believed for a second
    assert await mailer.resume(id)
    assert (await finished(mailer, id, 10)).counts == {"sent": 1200}
    assert set(accepted(ses).values()) == {1}
    await at_rest(runtime.ledger)


async def test_a_cancel_of_twenty_thousand_survives_whoever_counts_out(
    runtime_only: Runtime, mailer: Mailer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await mailer.start_campaign(letter(), rows(20_000))
    assert await runtime_only.ledger.control.cancel(id)  # and whoever said so is gone
    monkeypatch.setattr("mailer.ledger.control.COUNT_OUT_CHUNKS", 3)
    killed = asyncio.create_task(look_after_campaigns(runtime_only))
    async with asyncio.timeout(10):
        while not (await mailer.campaign(id)).counts.get("cancelled"):
            await asyncio.sleep(0)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    status = await mailer.campaign(id)
    assert 0 < status.counts["cancelled"] < 20_000
    assert (sum(status.counts.values()), status.over) == (20_000, False)
    await maintenance.look_after_campaigns(runtime_only)
    status = await mailer.campaign(id)
    assert (status.counts, status.over) == ({"cancelled": 20_000}, True)
    assert Counter([line.state async for line in mailer.outcomes(id)]) == {"cancelled": 20_000}


# ---- the guard -------------------------------------------------------------------------------------------------------

GUARD = Guard(max_bounce_rate=0.05, max_complaint_rate=0.001, after=200)


async def guarded(ledger: Ledger, guard: Guard, **known: int) -> str:
    """A running campaign of which that much is known."""
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC, guard=guard)
    await ledger.intake.start_campaign(id, rows=1, chunks=0, counts=Counter({Outcome.QUEUED: 1}))
    await know(ledger.redis, ledger.keys.container(id), **known)
    return id


async def know(redis: RedisClient, container: str, **known: int) -> None:
    for name, n in known.items():
        await redis.hincrby(container, f"n:{LETTERS[Outcome(name)]}", n)


@pytest.mark.parametrize(
    ("guard", "known", "sentence"),
    [
        (GUARD, {"delivered": 190, "bounced": 10}, None),  # 5 % and no more
        (GUARD, {"delivered": 189, "bounced": 11}, "11 of 200 e-mails bounced, 5.5 %, and its limit is 5 %"),
        (GUARD, {"delivered": 188, "bounced": 11}, None),  # too few to tell
        (GUARD, {"bounced": 200}, "200 of 200 e-mails bounced, 100.0 %, and its limit is 5 %"),
        (GUARD, {"delivered": 999, "complained": 1}, None),
        (GUARD, {"delivered": 997, "complained": 3}, "3 of 1000 e-mails were complained about, 0.3 %, and its limit is 0.1 %"),
        (GUARD, {"delivered": 198, "complained": 2}, None),  # two are no sign of a bad list
        (Guard(max_bounce_rate=1, max_complaint_rate=0.0001, after=1), {"complained": 2}, None),
        (GUARD, {"delivered": 150, "bounced": 5, "complained": 49}, None),  # 199 were delivered
        (GUARD, {"sent": 5000}, None),
        (Guard(max_bounce_rate=1, max_complaint_rate=1, after=1), {"bounced": 500, "complained": 500}, None),
        (
            Guard(max_bounce_rate=0.5, max_complaint_rate=1, after=1),
            {"bounced": 1},
            "1 of 1 e-mails bounced, 100.0 %",
        ),
    ],
)
async def test_the_guard_pauses_above_the_limit_once_enough_is_known(
    ledger: Ledger, guard: Guard, known: dict[str, int], sentence: str | None
) -> None:
    id = await guarded(ledger, guard, **known)
    reason = await ledger.lifecycle.guard(id)
    status = await ledger.report.campaign(id)
    if sentence is None:
        assert (reason, status.state) == ("", State.RUNNING)
    else:
        assert (status.reason, status.state) == (reason, State.PAUSED)
        assert reason.startswith(f"paused by its guard: {sentence}")
        assert reason.endswith(f"; look into the list, then: mailer campaign resume {id}")
        assert await ledger.lifecycle.guard(id) == ""  # said once


async def test_after_a_resume_the_guard_judges_what_came_since(ledger: Ledger) -> None:
    control, id = ledger.control, await guarded(ledger, GUARD, delivered=100, bounced=150, complained=1)
    container = ledger.keys.container(id)
    assert await ledger.lifecycle.guard(id)
    await know(ledger.redis, container, bounced=50)  # late news of what was sent before
    await control.resume(id)
    await know(ledger.redis, container, delivered=-1, complained=1)  # also of what had been delivered
    assert await ledger.lifecycle.guard(id) == ""
    await know(ledger.redis, container, delivered=185, bounced=14)
    assert await ledger.lifecycle.guard(id) == ""
    await know(ledger.redis, container, delivered=1)
    assert "14 of 200 e-mails bounced, 7.0 %" in await ledger.lifecycle.guard(id)


async def test_what_the_guard_finds_while_a_person_has_it_paused_is_said_before_it_is_resumed(ledger: Ledger) -> None:
    control, id = ledger.control, await guarded(ledger, GUARD)
    await control.pause(id)
    await know(ledger.redis, ledger.keys.container(id), bounced=200)
    assert await ledger.lifecycle.guard(id)
    assert "paused by its guard" in (await ledger.report.campaign(id)).reason
    await control.resume(id)
    assert (await ledger.lifecycle.guard(id), (await ledger.report.campaign(id)).state) == ("", State.RUNNING)


async def test_a_campaign_that_is_over_or_stopped_is_left_alone(ledger: Ledger) -> None:
    for state in (State.STOPPED, State.CANCELLED, State.FINISHED):
        id = await guarded(ledger, GUARD, bounced=500)
        await ledger.lifecycle.halt(id, to=state, reason="so", allowed=[State.RUNNING])
        assert (await ledger.lifecycle.guard(id), (await ledger.report.campaign(id)).state) == ("", state)


async def test_the_guard_stops_a_campaign_that_is_being_sent_and_a_resume_sends_the_rest_once(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "CAMPAIGNS_EVERY_S", 0.1)
    monkeypatch.setitem(maintenance.LOOPS, "campaigns", (look_after_campaigns, 0.1))
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=400)) as ses, running_worker(settings) as runtime:
        id = await mailer.start_campaign(letter(guard_after=20), rows(700))
        container = runtime.ledger.keys.container(id)
        async with asyncio.timeout(10):
            while (await mailer.campaign(id)).counts.get("sent", 0) < 30:
                await asyncio.sleep(0.01)
        await know(runtime.redis, container, sent=-30, delivered=10, bounced=20)
        status = await until(mailer, id, State.PAUSED, 5)
        assert "20 of 30 e-mails bounced, 66.7 %, and its limit is 5 %" in status.reason
        await nothing_in_flight(mailer, id)
        sent = len(ses.log)
        assert sent < 700
        await asyncio.sleep(0.3)
        assert len(ses.log) == sent
        await mailer.resume(id)
        status = await finished(mailer, id)
        assert (status.state, sum(status.counts.values())) == (State.FINISHED, 700)
        assert (len(accepted(ses)), set(accepted(ses).values())) == (700, {1})
        await at_rest(runtime.ledger)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"max_bounce_rate": 0}, f"`max_bounce_rate` {A_SHARE}"),
        ({"max_complaint_rate": 1.5}, f"`max_complaint_rate` {A_SHARE}"),
        (
            {"max_bounce_rate": float("nan")},
            f"`max_bounce_rate` {A_SHARE}",
        ),
        ({"guard_after": 0}, "`guard_after` must be 1 or more, and at most 1,000,000,000"),
        ({"max_rate": 0}, "`max_rate` must be at least 0.00028, which is one an hour; it is per second"),
        ({"max_rate": 1e-15}, "`max_rate` must be at least 0.00028, which is one an hour; it is per second"),
        ({"max_rate": 1e-300}, "`max_rate` must be at least 0.00028, which is one an hour; it is per second"),
        ({"max_rate": float("inf")}, "`max_rate` must be at least 0.00028, which is one an hour; it is per second"),
    ],
)
def test_limits_that_are_none_are_said_so(fields: dict[str, float], sentence: str) -> None:
    with pytest.raises(InvalidEmail) as caught:
        letter(**fields)
    assert str(caught.value) == f"Campaign: {sentence}"


async def test_limits_are_kept_with_the_campaign(mailer: Mailer, runtime_only: Runtime) -> None:
    ledger = runtime_only.ledger
    id = await mailer.start_campaign(letter(max_rate=7.5, max_bounce_rate=0.2), rows(1))
    found = await ledger.redis.hmget(ledger.keys.container(id), "max_bounce", "max_complaint", "guard_after")
    assert [float(value) for value in found] == [0.2, 0.001, 200]
    assert (await take(ledger, f"{id}-0")).spec.max_rate == 7.5
