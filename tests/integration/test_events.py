"""What SES's events do to the ledger: before the answer or long after it, of this attempt or an earlier one. Any order of all
that can happen: `test_events_model.py`."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest

from mailer import Settings
from mailer.errors import NotFound
from mailer.ids import new_campaign_id
from mailer.ledger import ClaimStatus, EventUpdate, LeasedChunk, Ledger, Sent
from mailer.ledger.work import Manner
from mailer.message.email import Outcome, State
from mailer.redis.client import RedisClient
from mailer.simulator import Simulator
from worker import maintenance
from worker.runtime import Runtime

from .test_ledger import LEASE_MS, MESSAGE_ID, campaign, claim, counts, lines, settled, states, take

SENT, DELIVERED, BOUNCED, COMPLAINED = Outcome.SENT, Outcome.DELIVERED, Outcome.BOUNCED, Outcome.COMPLAINED


def said(position: int, outcome: Outcome, *, attempt: int = 1, id: str | None = None, reason: str = "") -> EventUpdate:
    return EventUpdate(position, attempt, outcome, id or ses_id(position, attempt), reason)


def ses_id(position: int, attempt: int = 1) -> str:
    return MESSAGE_ID.format(position * 10 + attempt)


async def hear(ledger: Ledger, chunk: str, *happenings: EventUpdate) -> int:
    """How many recipients turned out to be sent to twice."""
    (heard,) = await ledger.work.hear({chunk: happenings})
    assert heard.known
    return heard.twice


async def answer(ledger: Ledger, work: LeasedChunk, *positions: int, attempt: int = 1) -> int:
    """SES's answer is stored; how many rows had been settled before."""
    rows = [settled(p, SENT, attempt=attempt, message_id=ses_id(p, attempt)) for p in positions]
    return (await ledger.work.settle(work.chunk, rows)).late


async def in_doubt(ledger: Ledger, size: int, *positions: int) -> str:
    """A campaign of one chunk whose worker died after the claim of these; the chunk is free again."""
    id = await campaign(ledger, size)
    work = await take(ledger, f"{id}-0", lease_ms=60)
    assert await claim(ledger, work, *positions) is ClaimStatus.OK
    await asyncio.sleep(0.08)
    taken = await ledger.work.take(f"{id}-0", owner="me", lease_ms=LEASE_MS)
    if isinstance(taken, LeasedChunk):
        await ledger.work.release(taken.chunk, fence=taken.fence)
    return id


@pytest.mark.parametrize("outcome", [SENT, DELIVERED, BOUNCED, COMPLAINED, Outcome.REJECTED, Outcome.FAILED])
async def test_the_first_event_settles_who_was_in_doubt_and_brings_the_message_id(ledger: Ledger, outcome: Outcome) -> None:
    id = await in_doubt(ledger, 3, 1)
    assert await ledger.report.in_doubt() == 1
    await hear(ledger, f"{id}-0", said(1, outcome, reason="why"))
    assert await ledger.report.in_doubt() == 0
    assert await counts(ledger, id) == {"queued": 2, outcome.value: 1}
    assert (await lines(ledger, id))[1].ses_message_id == ses_id(1)


async def test_an_event_before_the_answer_counts_once_and_the_answer_does_not_weaken_it(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, 1, 2)
    await hear(ledger, work.chunk, said(0, SENT), said(0, DELIVERED), said(1, SENT))
    assert await counts(ledger, id) == {"delivered": 1, "sent": 1, "claimed": 1}
    assert await answer(ledger, work, 0, 1, 2) == 0, "the quota counts an answer that nobody has stored yet"
    assert await answer(ledger, work, 0, 1, 2) == 3
    assert await counts(ledger, id) == {"delivered": 1, "sent": 2}
    status = await ledger.report.campaign(id)
    assert (status.state, status.twice) == (State.FINISHED, 0)


async def test_an_event_before_the_answer_ends_what_the_campaign_was_parked_for_and_starts_its_rate(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, 1)
    await ledger.lifecycle.halt(id, to=State.PARKED, reason="SES is throttling", allowed=[State.RUNNING])
    await hear(ledger, work.chunk, said(0, SENT), said(1, BOUNCED))
    status = await ledger.report.campaign(id)
    assert (status.state, status.reason) == (State.RUNNING, "")
    started, first, last = await ledger.redis.hmget(ledger.keys.container(id), "started", "first", "settled")
    assert (first, started) == (b"2", last)


async def test_a_late_answer_while_the_next_attempt_is_under_way_leaves_that_ones_answer_to_be_counted(ledger: Ledger) -> None:
    id = await in_doubt(ledger, 1, 0)
    await ledger.work.settle_doubt(f"{id}-0", grace_ms=0, policy="resend", reason="")
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, attempt=2)
    sent = Sent(account="1-eu", recipients=1, accepted=1)
    late = list[int]()
    for attempt in (1, 2, 2):
        rows = [settled(0, SENT, attempt=attempt, message_id=ses_id(0, attempt))]
        late.append((await ledger.work.settle(work.chunk, rows, sent)).late)
    assert late == [0, 0, 1]
    assert await ledger.redis.hget(ledger.keys.account("1-eu"), "answered") == b"2"
    assert (await counts(ledger, id), (await ledger.report.campaign(id)).twice) == ({"sent": 1}, 1)


async def test_a_bounce_that_names_no_failure_is_weaker_than_a_delivery_and_one_that_does_is_stronger(ledger: Ledger) -> None:
    id = await campaign(ledger, 4)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, 1, 2, 3)
    await answer(ledger, work, 0, 1, 2, 3)

    def bounce(position: int, manner: Manner) -> EventUpdate:
        return said(position, BOUNCED, reason="why")._replace(manner=manner)

    first = [bounce(0, Manner.NOTICE), said(1, DELIVERED), said(2, DELIVERED), bounce(3, Manner.NOTICE)]
    then = [said(0, DELIVERED), bounce(1, Manner.NOTICE), bounce(2, Manner.SOFT), bounce(3, Manner.PLAIN)]
    for happenings in (first, then):
        await hear(ledger, work.chunk, *happenings)
    found = [(line.state, line.reason) for line in await lines(ledger, id)]
    assert found == [("delivered", ""), ("delivered", ""), ("bounced", "why"), ("bounced", "why")]
    status = await ledger.report.campaign(id)
    assert (status.reputation.known, status.reputation.bounced) == (4, 1)


async def test_an_event_that_settles_the_last_recipient_finishes_the_campaign(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await hear(ledger, work.chunk, said(0, BOUNCED, reason="Permanent/NoEmail"))
    assert (await ledger.report.campaign(id)).state is State.FINISHED
    assert (await lines(ledger, id))[0].reason == "Permanent/NoEmail"


async def test_a_recipient_that_is_queued_again_and_was_accepted_after_all_is_not_sent_to_again(ledger: Ledger) -> None:
    id = await in_doubt(ledger, 2, 0)
    assert await ledger.work.settle_doubt(f"{id}-0", grace_ms=0, policy="resend", reason="") == 1
    assert await states(ledger, id) == ["queued", "queued"]
    await hear(ledger, f"{id}-0", said(0, DELIVERED))
    work = await take(ledger, f"{id}-0")
    assert [record.outcome for record in work.records] == [DELIVERED, Outcome.QUEUED]
    assert (await ledger.report.campaign(id)).twice == 0


async def test_an_event_of_an_earlier_attempt_after_a_resend_is_a_duplicate_counted_once(ledger: Ledger) -> None:
    id = await in_doubt(ledger, 1, 0)
    await ledger.work.settle_doubt(f"{id}-0", grace_ms=0, policy="resend", reason="")
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, attempt=2)
    await answer(ledger, work, 0, attempt=2)
    assert [await hear(ledger, work.chunk, said(0, SENT)), await hear(ledger, work.chunk, said(0, DELIVERED))] == [1, 0]
    assert (await ledger.report.campaign(id)).twice == 1
    (line,) = await lines(ledger, id)
    assert (line.state, line.attempts, line.ses_message_id) == ("delivered", 2, ses_id(0, 2))
    assert ses_id(0, 1) in line.reason


async def test_an_earlier_attempts_event_while_the_next_is_under_way_is_a_duplicate_once_that_is_accepted(ledger: Ledger) -> None:
    id = await in_doubt(ledger, 1, 0)
    await ledger.work.settle_doubt(f"{id}-0", grace_ms=0, policy="resend", reason="")
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, attempt=2)
    assert await hear(ledger, work.chunk, said(0, SENT)) == 0
    await answer(ledger, work, 0, attempt=2)
    assert (await ledger.report.campaign(id)).twice == 1
    assert await counts(ledger, id) == {"sent": 1}


async def test_events_of_what_is_forgotten_or_was_never_there_change_nothing(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    (gone, beyond) = await ledger.work.hear({f"{id}-7": [said(0, SENT)], f"{id}-0": [said(9, DELIVERED)]})
    assert (gone.known, beyond.known, beyond.changes) == (False, True, [])
    assert await counts(ledger, id) == {"queued": 2}


async def test_a_message_id_of_another_form_is_kept_and_not_a_duplicate_of_itself(ledger: Ledger) -> None:
    id = await in_doubt(ledger, 1, 0)
    assert [await hear(ledger, f"{id}-0", said(0, outcome, id="odd-1")) for outcome in (SENT, DELIVERED, SENT)] == [0, 0, 0]
    (line,) = await lines(ledger, id)
    assert (line.state, line.ses_message_id) == ("delivered", "odd-1")


# ---- campaigns that go on ------------------------------------------------------------------------------------------


async def test_after_the_grace_each_policy_does_what_it_says(ledger: Ledger) -> None:
    for policy, state in (("hold", "unknown"), ("assume_sent", "sent"), ("resend", "queued")):
        id = await in_doubt(ledger, 1, 0)
        assert (await ledger.report.campaign(id)).state is State.FINISHED
        assert await ledger.work.settle_doubt(f"{id}-0", grace_ms=60_000, policy=policy, reason="assumed") == 0
        assert await ledger.work.settle_doubt(f"{id}-0", grace_ms=0, policy=policy, reason="assumed") == (policy != "hold")
        assert await counts(ledger, id) == {state: 1}
        goes_on = State.RUNNING if policy == "resend" else State.FINISHED
        assert (await ledger.report.campaign(id)).state is goes_on
    assert [chunk for chunk, _ in await ledger.work.reap(limit=10, patience_ms=1000)] == [f"{id}-0"]


async def test_a_cancelled_campaign_resends_to_nobody(ledger: Ledger) -> None:
    id = await in_doubt(ledger, 2, 0)
    await ledger.control.cancel(id)
    assert await ledger.work.settle_doubt(f"{id}-0", grace_ms=0, policy="resend", reason="") == 0
    assert (await states(ledger, id))[0] == "unknown"


async def test_retry_queues_those_that_failed_and_those_in_doubt_and_nobody_else(ledger: Ledger) -> None:
    id = await campaign(ledger, 4, 2)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, 1, 2, 3)
    rows = [settled(0, Outcome.FAILED), settled(1, Outcome.UNKNOWN), settled(2, SENT, message_id=ses_id(2))]
    await ledger.work.settle(work.chunk, [*rows, settled(3, Outcome.REJECTED)])
    control = ledger.control
    assert await control.retry(id, {Outcome.FAILED}, 0, chunks=10) == (1, 0)
    assert await control.retry(id, {Outcome.FAILED, Outcome.UNKNOWN}, 0, chunks=1) == (1, 1)
    assert await counts(ledger, id) == {"queued": 4, "sent": 1, "rejected": 1}
    assert await ledger.report.in_doubt() == 0
    with pytest.raises(NotFound):
        await control.retry(new_campaign_id(), {Outcome.FAILED}, 0, chunks=1)


async def test_what_could_not_be_rendered_is_sent_again_though_its_events_come_once_more(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await answer(ledger, work, 0)
    await hear(ledger, work.chunk, said(0, Outcome.FAILED, reason="no name"))
    await ledger.control.retry(id, {Outcome.FAILED}, 0, chunks=1)
    await hear(ledger, work.chunk, said(0, SENT), said(0, Outcome.FAILED))
    assert await counts(ledger, id) == {"queued": 1}
    await ledger.work.release(work.chunk, fence=work.fence)
    again = await take(ledger, work.chunk)
    await claim(ledger, again, 0, attempt=2)
    await answer(ledger, again, 0, attempt=2)
    assert await hear(ledger, work.chunk, said(0, DELIVERED, attempt=2)) == 0
    assert await counts(ledger, id) == {"delivered": 1}


async def test_each_change_is_an_entry_of_the_stream_of_outcomes(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, 1)
    await answer(ledger, work, 0, 1)
    await hear(ledger, work.chunk, said(0, DELIVERED), said(0, DELIVERED), said(0, SENT), said(1, BOUNCED, reason="Permanent"))
    entries = [fields for _, fields in await ledger.redis.xrange(ledger.keys.outcomes)]
    assert [(e[b"id"].decode(), e[b"state"].decode(), e[b"reason"].decode()) for e in entries] == [
        (f"{id}-0-0", "sent", ""),
        (f"{id}-0-1", "sent", ""),
        (f"{id}-0-0", "delivered", ""),
        (f"{id}-0-1", "bounced", "Permanent"),
    ]


async def test_entries_of_the_stream_that_are_older_than_the_retention_go_and_no_others(
    settings: Settings, ses: Simulator
) -> None:
    async with Runtime(settings.model_copy(update={"retention_s": 86_400})) as idle:
        outcomes, now = idle.ledger.keys.outcomes, await idle.ledger.now_ms()
        for age_s in (200_000, 86_500, 86_300):
            await idle.redis.xadd(outcomes, {"id": "x"}, id=f"{now - age_s * 1000}-0")
        id = await campaign(idle.ledger, 1)
        work = await take(idle.ledger, f"{id}-0")
        await claim(idle.ledger, work, 0)
        await answer(idle.ledger, work, 0)
        await maintenance.forget_outcomes(idle)
        assert len(await idle.redis.xrange(outcomes)) == 2
    assert maintenance.forget_outcomes in [step for step, _ in maintenance.LOOPS.values()]


async def test_who_is_counted_out_of_a_cancelled_campaign_is_an_entry_each_and_only_once(ledger: Ledger) -> None:
    id, control = await campaign(ledger, 3, 2), ledger.control
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 1)
    await answer(ledger, work, 1)
    await control.cancel(id)
    for _ in range(2):
        await control.count_out(id, chunks=10)
        await ledger.redis.hset(ledger.keys.container(id), "sweep", 0)  # as if whoever counted had died before it said so
    entries = [fields for _, fields in await ledger.redis.xrange(ledger.keys.outcomes)]
    assert [(e[b"id"].decode(), e[b"state"].decode(), e[b"attempts"]) for e in entries] == [
        (f"{id}-0-1", "sent", b"1"),
        *((f"{id}-{chunk}-{position}", "cancelled", b"0") for chunk, position in ((0, 0), (0, 2), (1, 0), (1, 1))),
    ]
    said = {(line.id, line.state, line.reason) async for line in ledger.report.lines(id)}
    assert {tuple(e[name].decode() for name in (b"id", b"state", b"reason")) for e in entries} == said


# ---- a Redis that has lost its last second -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """What Redis has of one installation, to be put back later: what happened in between is forgotten."""

    redis: RedisClient
    keys: dict[bytes, bytes]

    @classmethod
    async def of(cls, ledger: Ledger) -> Memory:
        names = [key async for key in ledger.redis.scan_iter(f"{ledger.keys.namespace}:*", count=1000)]
        return cls(ledger.redis, {key: await ledger.redis.dump(key) for key in names})

    async def put_back(self) -> None:
        for key, packed in self.keys.items():
            await self.redis.restore(key, 0, packed, replace=True)


@pytest.mark.parametrize(
    "outcome", [SENT, DELIVERED, BOUNCED, COMPLAINED, Outcome.REJECTED, Outcome.FAILED], ids=lambda outcome: outcome.value
)
async def test_what_redis_has_forgotten_and_an_event_tells_is_not_sent_again(ledger: Ledger, outcome: Outcome) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    memory = await Memory.of(ledger)
    await claim(ledger, work, 0, 1)
    await answer(ledger, work, 0, 1)
    await memory.put_back()
    assert await hear(ledger, work.chunk, said(0, outcome, reason="why"), said(0, SENT)) == 0
    assert await counts(ledger, id) == {outcome.value: 1, "queued": 2}
    (line, *_) = await lines(ledger, id)
    assert (line.attempts, line.ses_message_id) == (1, ses_id(0))
    assert await claim(ledger, work, 0, attempt=1) is ClaimStatus.CONFLICT
    await claim(ledger, work, 1, 2)
    await answer(ledger, work, 1, 2)
    assert await counts(ledger, id) == dict(Counter([outcome.value, "sent", "sent"]))
    assert (await ledger.report.campaign(id)).state is State.FINISHED


async def test_what_redis_has_forgotten_and_the_answer_tells_is_not_sent_again(ledger: Ledger) -> None:
    id = await campaign(ledger, 6)
    work = await take(ledger, f"{id}-0")
    memory = await Memory.of(ledger)
    await claim(ledger, work, 0, 1, 2, 3)
    await memory.put_back()
    rows = [
        settled(0, SENT, message_id=ses_id(0)),
        settled(1, Outcome.REJECTED, reason="no such domain"),
        settled(2, Outcome.UNKNOWN),
        settled(3, Outcome.QUEUED, failed=True),
    ]
    assert [(await ledger.work.settle(work.chunk, rows)).late for _ in range(2)] == [1, 4]
    found = [(line.state, line.attempts) for line in await lines(ledger, id)]
    assert found == [("sent", 1), ("rejected", 1), ("unknown", 1), ("queued", 0), ("queued", 0), ("queued", 0)]
    assert await counts(ledger, id) == {"sent": 1, "rejected": 1, "unknown": 1, "queued": 3}
    assert await ledger.report.in_doubt() == 1
    assert await hear(ledger, work.chunk, said(0, DELIVERED), said(2, SENT)) == 0
    assert (await counts(ledger, id), await ledger.report.in_doubt()) == (
        {"delivered": 1, "rejected": 1, "sent": 1, "queued": 3},
        0,
    )


async def test_an_attempt_that_redis_has_forgotten_and_that_was_made_again_is_a_duplicate(ledger: Ledger) -> None:
    """Both have the same number, so it is SES's message ids that tell."""
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    memory = await Memory.of(ledger)
    await claim(ledger, work, 0)
    await memory.put_back()
    await claim(ledger, work, 0)
    await answer(ledger, work, 0)
    first = [said(0, outcome, id=MESSAGE_ID.format(99)) for outcome in (SENT, DELIVERED)]
    assert [await hear(ledger, work.chunk, one) for one in first] == [1, 0]
    assert (await lines(ledger, id))[0].reason == f"SES accepted it again, as {MESSAGE_ID.format(99)}"
