"""The ledger's promises, on each kind of server there is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from mailer.errors import NotFound, PastExpiry
from mailer.ids import chunk_id, new_campaign_id, new_message_id
from mailer.ledger import ClaimStatus, LeasedChunk, LeaseStatus, Ledger, RecipientStatus, Sent, Settlement, Spec
from mailer.ledger.intake import KEY_LIFE_S, Key, NewChunk
from mailer.ledger.records import unpack_records
from mailer.ledger.work import EventUpdate
from mailer.message.email import Lane, Mode, Outcome, State

SPEC = Spec(lane=Lane.BULK, from_address="a@example.com", name="June", content="none")
MESSAGE_ID = "0106018a1b2c3d4e-1f2e3d4c-1234-5678-9abc-def012345678-{:06d}"
LEASE_MS = 60_000


async def campaign(ledger: Ledger, *sizes: int, bad: int = 0, spec: Spec = SPEC) -> str:
    """A running campaign of chunks of these sizes; the first `bad` rows of each are rejected."""
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, spec)
    chunks, counts, row = [], Counter[Outcome](), 0
    for size in sizes:
        outcomes = [Outcome.REJECTED] * bad + [Outcome.QUEUED] * (size - bad)
        rows = [[row + i + 1, f"u{row + i}@example.org", {"n": i}] for i in range(size)]
        chunks.append(NewChunk(rows, outcomes, dict.fromkeys(range(bad), "line 1: bad")))
        counts.update(outcomes)
        row += size
    await ledger.intake.add_chunks(id, 0, chunks)
    await ledger.intake.start_campaign(id, rows=row, chunks=len(chunks), counts=counts)
    await ledger.lifecycle.feed(id, window=16, patience_ms=60_000)
    return id


async def take(ledger: Ledger, chunk: str, lease_ms: int = LEASE_MS) -> LeasedChunk:
    work = await ledger.work.take(chunk, owner="me", lease_ms=lease_ms)
    assert isinstance(work, LeasedChunk)
    return work


async def claim(ledger: Ledger, work: LeasedChunk, *positions: int, attempt: int = 1) -> ClaimStatus:
    rows = [(position, attempt) for position in positions]
    return await ledger.work.claim(work.chunk, fence=work.fence, mode=Mode.BULK, rows=rows)


def settled(position: int, outcome: Outcome, *, attempt: int = 1, **more: Any) -> Settlement:
    return Settlement(position=position, attempt=attempt, outcome=outcome, **more)


async def states(ledger: Ledger, id: str) -> list[str]:
    return [line.state async for line in ledger.report.lines(id)]


async def lines(ledger: Ledger, id: str) -> list[RecipientStatus]:
    return [line async for line in ledger.report.lines(id)]


async def counts(ledger: Ledger, id: str) -> dict[str, int]:
    """The campaign's counters, after checking that they say the same as its records."""
    status = await ledger.report.campaign(id)
    assert status.counts == dict(Counter(await states(ledger, id)))
    assert sum(status.counts.values()) == status.rows
    return status.counts


async def test_a_claim_of_a_recipient_that_is_settled_is_refused_whole(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await ledger.work.settle(work.chunk, [settled(0, Outcome.SENT)])
    assert await claim(ledger, work, 0, 1, attempt=2) is ClaimStatus.CONFLICT
    assert await counts(ledger, id) == {"sent": 1, "queued": 2}


async def test_repeating_a_claim_whose_answer_was_lost_changes_nothing(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    assert [await claim(ledger, work, 0, 1) for _ in range(3)] == [ClaimStatus.OK] * 3
    assert await counts(ledger, id) == {"claimed": 2, "queued": 1}
    assert [line.attempts async for line in ledger.report.lines(id)] == [1, 1, 0]


@pytest.mark.parametrize("state", [State.PAUSED, State.STOPPED, State.CANCELLED])
async def test_a_claim_that_is_stored_holds_though_its_answer_was_lost_and_the_campaign_halted(
    ledger: Ledger, state: State
) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    assert await claim(ledger, work, 0, 1) is ClaimStatus.OK
    await ledger.lifecycle.halt(id, to=state, reason="because", allowed=[State.RUNNING])
    assert await claim(ledger, work, 0, 1) is ClaimStatus.OK, "else nobody would know that SES never got them"
    assert await claim(ledger, work, 2) is ClaimStatus.HALTED


async def test_repeating_a_settle_whose_answer_was_lost_changes_nothing(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, 1)
    rows = [settled(0, Outcome.SENT, message_id=MESSAGE_ID.format(0)), settled(1, Outcome.REJECTED, reason="no")]
    first = await ledger.work.settle(work.chunk, rows)
    again = await ledger.work.settle(work.chunk, rows)
    assert (first.late, again.late) == (0, 2)
    assert await counts(ledger, id) == {"sent": 1, "rejected": 1, "queued": 1}
    lines = [line async for line in ledger.report.lines(id)]
    assert (lines[0].ses_message_id, lines[1].reason) == (MESSAGE_ID.format(0), "no")


async def test_a_settle_that_is_repeated_counts_in_the_quota_once(ledger: Ledger) -> None:
    work = await take(ledger, f"{await campaign(ledger, 3)}-0")
    await claim(ledger, work, 0, 1, 2)
    account = f"{ledger.keys.namespace}-account"
    rows = [settled(0, Outcome.SENT, message_id=MESSAGE_ID.format(0)), settled(1, Outcome.SENT), settled(2, Outcome.REJECTED)]
    for _ in range(3):
        await ledger.work.settle(work.chunk, rows, Sent(account=account, recipients=3, accepted=2))
    assert await ledger.redis.hget(ledger.keys.account(account), "answered") == b"3"
    assert sum(map(int, await ledger.redis.hvals(ledger.keys.history(account)))) == 2


async def test_only_one_of_many_workers_gets_the_lease(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    found = await asyncio.gather(*(ledger.work.take(f"{id}-0", owner=f"w{i}", lease_ms=LEASE_MS) for i in range(20)))
    assert sum(isinstance(one, LeasedChunk) for one in found) == 1
    assert sum(one is LeaseStatus.BUSY for one in found) == 19


async def test_a_claim_without_a_settle_is_unknown_once_the_lease_is_over_and_nobody_else_is(ledger: Ledger) -> None:
    id = await campaign(ledger, 5)
    work = await take(ledger, f"{id}-0", lease_ms=30)
    await claim(ledger, work, 1, 2)
    await ledger.work.settle(work.chunk, [settled(1, Outcome.SENT)])
    await asyncio.sleep(0.05)
    second = await take(ledger, f"{id}-0")
    assert second.fence > work.fence
    assert await states(ledger, id) == ["queued", "sent", "unknown", "queued", "queued"]
    assert (await counts(ledger, id)) == {"queued": 3, "sent": 1, "unknown": 1}
    assert await ledger.report.in_doubt() == 1


async def test_whoever_lost_the_lease_can_not_claim_renew_or_release(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    old = await take(ledger, f"{id}-0", lease_ms=30)
    await asyncio.sleep(0.05)
    new = await take(ledger, f"{id}-0")
    assert await claim(ledger, old, 0) is ClaimStatus.LOST
    assert not await ledger.work.renew(old.chunk, fence=old.fence, lease_ms=LEASE_MS)
    assert not await ledger.work.release(old.chunk, fence=old.fence)
    assert await ledger.work.renew(new.chunk, fence=new.fence, lease_ms=LEASE_MS)


async def test_a_lease_that_was_given_back_can_not_be_claimed_under_nor_renewed(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    await ledger.work.release(work.chunk, fence=work.fence)
    assert await claim(ledger, work, 0) is ClaimStatus.LOST, "else a claim that comes late would leave somebody in doubt"
    assert not await ledger.work.renew(work.chunk, fence=work.fence, lease_ms=LEASE_MS)
    assert isinstance(await ledger.work.take(work.chunk, owner="another", lease_ms=LEASE_MS), LeasedChunk)


async def _claims(ledger: Ledger, work: LeasedChunk) -> bool:
    rows = [(0, 1)]
    given = await ledger.work.claim(work.chunk, fence=work.fence, mode=Mode.BULK, rows=rows, lease_ms=LEASE_MS)
    return given is ClaimStatus.OK


async def _claims_again(ledger: Ledger, work: LeasedChunk) -> bool:
    await claim(ledger, work, 0)
    await ledger.redis.hset(ledger.keys.chunk(work.chunk), "until", 1)
    return await _claims(ledger, work)


async def _renews(ledger: Ledger, work: LeasedChunk) -> bool:
    return await ledger.work.renew(work.chunk, fence=work.fence, lease_ms=LEASE_MS)


@pytest.mark.parametrize("go_on", [_claims, _claims_again, _renews])
async def test_a_lease_that_ran_out_and_that_nobody_took_goes_on(
    ledger: Ledger, go_on: Callable[[Ledger, LeasedChunk], Awaitable[bool]]
) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0", lease_ms=30)
    await asyncio.sleep(0.05)
    assert await go_on(ledger, work)
    assert await ledger.work.take(work.chunk, owner="another", lease_ms=LEASE_MS) is LeaseStatus.BUSY
    assert await ledger.redis.zscore(ledger.keys.due, work.chunk) > await ledger.now_ms() + LEASE_MS / 2


async def test_what_a_lost_lease_learnt_late_still_settles_the_doubt(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    old = await take(ledger, f"{id}-0", lease_ms=30)
    await claim(ledger, old, 0)
    await asyncio.sleep(0.05)
    await take(ledger, f"{id}-0")
    assert await states(ledger, id) == ["unknown", "queued"]
    result = await ledger.work.settle(old.chunk, [settled(0, Outcome.SENT, message_id=MESSAGE_ID.format(7))])
    assert result.late == 0
    line = (await lines(ledger, id))[0]
    assert (line.state, line.reason, line.ses_message_id) == ("sent", "", MESSAGE_ID.format(7))
    assert await ledger.report.in_doubt() == 0
    assert await counts(ledger, id) == {"sent": 1, "queued": 1}


async def test_a_campaign_that_a_late_refusal_opens_again_is_not_forgotten_on_the_way(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    old = await take(ledger, f"{id}-0", lease_ms=30)
    await claim(ledger, old, 0)
    await asyncio.sleep(0.05)
    assert await ledger.work.take(f"{id}-0", owner="me", lease_ms=LEASE_MS) is LeaseStatus.OVER
    await ledger.lifecycle.retire_campaign(id, 100)
    assert await ledger.lifecycle.active_campaigns() == []
    await ledger.work.settle(old.chunk, [settled(0, Outcome.QUEUED, failed=True)])
    assert [one.id for one in await ledger.lifecycle.active_campaigns()] == [id]
    assert (await ledger.report.campaign(id)).state is State.RUNNING
    for key in (ledger.keys.container(id), ledger.keys.records(f"{id}-0"), ledger.keys.payload(f"{id}-0")):
        assert await ledger.redis.ttl(key) == -1
    assert (await take(ledger, f"{id}-0")).records[0].outcome is Outcome.QUEUED


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
async def test_a_campaign_that_a_retry_or_a_policy_opens_again_is_not_forgotten_on_the_way(
    ledger: Ledger, outcome: Outcome
) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    assert (await ledger.work.settle(work.chunk, [settled(0, outcome, reason="no")])).finished
    await ledger.lifecycle.retire_campaign(id, 100)
    assert await ledger.lifecycle.active_campaigns() == []
    if outcome is Outcome.FAILED:
        assert (await ledger.control.retry(id, {outcome}, 0, chunks=10)).recipients == 1
    else:
        assert await ledger.work.settle_doubt(work.chunk, grace_ms=0, policy="resend", reason="") == 1
    (active,) = await ledger.lifecycle.active_campaigns()
    assert (active.id, active.state, active.retired) == (id, State.RUNNING, True)
    await ledger.lifecycle.revive_campaign(id)  # as the upkeep does with what is active
    keys = [key async for key in ledger.redis.scan_iter(f"{ledger.keys.namespace}:?:{id}*")]
    assert len(keys) >= 4
    assert {await ledger.redis.ttl(key) for key in keys} == {-1}


async def test_a_campaign_that_is_past_its_expiry_is_not_retried(ledger: Ledger) -> None:
    now = int(time.time() * 1000)
    id = await campaign(ledger, 1, spec=replace(SPEC, expires_ms=now + 3_600_000))
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await ledger.work.settle(work.chunk, [settled(0, Outcome.FAILED, reason="no")])
    later = Ledger(ledger.redis, ledger.keys.namespace, f"local function now_us() return {now + 3_600_001}000 end\n")
    with pytest.raises(PastExpiry):
        await later.control.retry(id, {Outcome.FAILED}, 0, chunks=10)
    assert await counts(ledger, id) == {"failed": 1}
    assert (await ledger.control.retry(id, {Outcome.FAILED}, 0, chunks=10)).recipients == 1, "an hour before"


async def test_a_late_result_of_an_earlier_attempt_never_touches_a_later_one(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await ledger.work.settle(work.chunk, [settled(0, Outcome.QUEUED, failed=True)])
    await claim(ledger, work, 0, attempt=2)
    late = await ledger.work.settle(work.chunk, [settled(0, Outcome.REJECTED, attempt=1)])
    assert late.late == 1
    assert await states(ledger, id) == ["claimed"]


async def test_a_refusal_learnt_late_reopens_a_campaign_that_was_finished_in_doubt(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    assert (await ledger.work.settle(work.chunk, [settled(0, Outcome.UNKNOWN)])).finished
    assert (await ledger.report.campaign(id)).state is State.FINISHED
    await ledger.work.settle(work.chunk, [settled(0, Outcome.QUEUED)])
    assert (await ledger.report.campaign(id)).state is State.RUNNING
    assert await counts(ledger, id) == {"queued": 1}
    await ledger.work.release(work.chunk, fence=work.fence)
    assert (work.chunk, work.fence) in await ledger.work.reap(limit=10, patience_ms=1000)


async def test_a_campaign_is_finished_with_its_last_recipient_and_not_before(ledger: Ledger) -> None:
    id = await campaign(ledger, 2, 1, bad=0)
    for chunk, positions in ((0, (0, 1)), (1, (0,))):
        work = await take(ledger, f"{id}-{chunk}")
        for position in positions:
            assert (await ledger.report.campaign(id)).state is State.RUNNING
            await claim(ledger, work, position)
            await ledger.work.settle(work.chunk, [settled(position, Outcome.SENT)])
    status = await ledger.report.campaign(id)
    assert status.state is State.FINISHED
    assert status.finished_at is not None
    assert not await ledger.redis.zscore(ledger.keys.due, f"{id}-0")


async def test_a_chunk_of_bad_rows_only_is_over_when_it_is_taken(ledger: Ledger) -> None:
    id = await campaign(ledger, 3, 3, bad=3)
    assert (await ledger.report.campaign(id)).state is State.FINISHED
    mixed = await campaign(ledger, 2, 4, bad=2)
    assert await ledger.work.take(f"{mixed}-0", owner="me", lease_ms=LEASE_MS) is LeaseStatus.OVER
    assert (await ledger.report.campaign(mixed)).state is State.RUNNING
    assert await counts(ledger, mixed) == {"rejected": 4, "queued": 2}


@pytest.mark.parametrize("state", [State.PAUSED, State.STOPPED, State.CANCELLED])
async def test_nothing_is_claimed_of_a_campaign_that_is_halted(ledger: Ledger, state: State) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0")
    await ledger.lifecycle.halt(id, to=state, reason="because", allowed=[State.RUNNING])
    assert await claim(ledger, work, 0) is ClaimStatus.HALTED
    await ledger.work.release(work.chunk, fence=work.fence)
    assert await ledger.work.take(f"{id}-0", owner="me", lease_ms=LEASE_MS) is LeaseStatus.HALTED
    assert await counts(ledger, id) == {"queued": 2}


async def test_a_planned_campaign_gives_no_work(ledger: Ledger) -> None:
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC)
    await ledger.intake.add_chunks(id, 0, [NewChunk([[1, "a@example.org", {}]], [Outcome.QUEUED], {})])
    assert await ledger.lifecycle.feed(id, window=4, patience_ms=1000) == []
    assert await ledger.work.take(f"{id}-0", owner="me", lease_ms=LEASE_MS) is LeaseStatus.HALTED


async def test_the_window_is_bounded_and_moves_on_as_chunks_are_done(ledger: Ledger) -> None:
    id = await campaign(ledger, *[1] * 20)
    assert await ledger.lifecycle.feed(id, window=16, patience_ms=1000) == []
    work = await take(ledger, f"{id}-3")
    await claim(ledger, work, 0)
    assert (await ledger.work.settle(work.chunk, [settled(0, Outcome.SENT)])).closed
    assert await ledger.lifecycle.feed(id, window=16, patience_ms=1000) == [f"{id}-16"]


async def test_the_reaper_finds_a_lost_wake_up_and_a_dead_lease_and_hands_each_to_one_caller(ledger: Ledger) -> None:
    id = await campaign(ledger, 1, 1)
    await ledger.redis.zadd(ledger.keys.due, {f"{id}-0": 1})
    work = await take(ledger, f"{id}-1", lease_ms=20)
    await asyncio.sleep(0.04)
    found = await asyncio.gather(*(ledger.work.reap(limit=10, patience_ms=60_000) for _ in range(8)))
    assert sorted(one for each in found for one in each) == [(f"{id}-0", 0), (f"{id}-1", work.fence)]


async def test_a_delay_is_kept_from_the_reaper_until_it_is_over(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    assert await ledger.work.release(work.chunk, fence=work.fence, delay_ms=150)
    assert await ledger.work.reap(limit=10, patience_ms=1000) == []
    await asyncio.sleep(0.2)
    assert await ledger.work.reap(limit=10, patience_ms=1000) == [(work.chunk, work.fence)]


async def test_a_message_is_forgotten_after_its_retention_and_not_before_it_is_settled(ledger: Ledger) -> None:
    id = new_message_id()
    spec = Spec(lane=Lane.TRANSACTIONAL, from_address="a@example.com", content="x", to=("b@example.org",))
    await ledger.intake.add_message(id, spec, keep_s=100, patience_ms=1000)
    chunk = chunk_id(id, 0)
    keys = [k async for k in ledger.redis.scan_iter(f"{ledger.keys.namespace}:*{id}*")]
    assert keys
    assert {await ledger.redis.ttl(key) for key in keys} == {-1}
    work = await take(ledger, chunk)
    await claim(ledger, work, 0)
    await ledger.work.settle(chunk, [settled(0, Outcome.SENT, message_id="of-another-form")])
    assert (await ledger.report.message(id)).ses_message_id == "of-another-form"
    keys = [k async for k in ledger.redis.scan_iter(f"{ledger.keys.namespace}:*{id}*")]
    assert all(0 < ttl <= 100 for ttl in [await ledger.redis.ttl(key) for key in keys])


async def test_a_campaign_is_forgotten_after_its_retention(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await ledger.work.settle(work.chunk, [settled(0, Outcome.SENT, message_id=MESSAGE_ID.format(1))])
    await ledger.lifecycle.retire_campaign(id, 100)
    keys = [k async for k in ledger.redis.scan_iter(f"{ledger.keys.namespace}:?:{id}*")]
    assert len(keys) >= 5
    assert all(0 < ttl <= 100 for ttl in [await ledger.redis.ttl(key) for key in keys])
    assert await ledger.lifecycle.active_campaigns() == []


async def doubtful_message(ledger: Ledger) -> tuple[str, str]:
    """A message that is finished as `unknown`: the worker that had claimed it is gone."""
    id = new_message_id()
    spec = Spec(lane=Lane.TRANSACTIONAL, from_address="a@example.com", content="x", to=("b@example.org",))
    await ledger.intake.add_message(id, spec, keep_s=100, patience_ms=1000)
    await claim(ledger, await take(ledger, chunk_id(id, 0), lease_ms=30), 0)
    await asyncio.sleep(0.05)
    assert await ledger.work.take(chunk_id(id, 0), owner="other", lease_ms=LEASE_MS) is LeaseStatus.OVER
    return id, chunk_id(id, 0)


async def doubtful_campaign(ledger: Ledger) -> tuple[str, str]:
    """A campaign that is finished, one of its recipients `unknown` without a word why, and on its way to be forgotten."""
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    assert (await ledger.work.settle(work.chunk, [settled(0, Outcome.UNKNOWN)])).finished
    await ledger.lifecycle.retire_campaign(id, 100)
    return id, work.chunk


async def stopped_campaign(ledger: Ledger) -> tuple[str, str]:
    """A campaign that was stopped, with the claim of a worker that is gone, and on its way to be forgotten."""
    id = await campaign(ledger, 2)
    await claim(ledger, await take(ledger, f"{id}-0", lease_ms=30), 0)
    await ledger.lifecycle.stop(id, "wrong sender")
    await ledger.lifecycle.retire_campaign(id, 100)
    await asyncio.sleep(0.05)
    return id, f"{id}-0"


async def accepted(ledger: Ledger, chunk: str) -> None:
    await ledger.work.settle(chunk, [settled(0, Outcome.SENT, message_id=MESSAGE_ID.format(1), reason="sent without c")])


async def accepted_in_another_form(ledger: Ledger, chunk: str) -> None:
    await ledger.work.settle(chunk, [settled(0, Outcome.SENT, message_id="of-another-form")])


async def heard(ledger: Ledger, chunk: str) -> None:
    await ledger.work.hear({chunk: [EventUpdate(0, 1, Outcome.BOUNCED, MESSAGE_ID.format(1), "no such mailbox")]})


async def assumed(ledger: Ledger, chunk: str) -> None:
    assert await ledger.work.settle_doubt(chunk, grace_ms=0, policy="assume_sent", reason="nothing was heard") == 1


async def leased(ledger: Ledger, chunk: str) -> None:
    assert await ledger.work.take(chunk, owner="other", lease_ms=LEASE_MS) is LeaseStatus.HALTED
    assert "unknown" in await states(ledger, chunk.rpartition("-")[0])


@pytest.mark.parametrize(
    ("over", "then"),
    [
        *[(over, then) for over in (doubtful_message, doubtful_campaign) for then in (accepted, accepted_in_another_form)],
        *[(over, then) for over in (doubtful_message, doubtful_campaign) for then in (heard, assumed)],
        (stopped_campaign, leased),
        (stopped_campaign, accepted),
        (stopped_campaign, heard),
    ],
)
async def test_what_becomes_known_late_is_forgotten_with_the_rest(
    ledger: Ledger,
    over: Callable[[Ledger], Awaitable[tuple[str, str]]],
    then: Callable[[Ledger, str], Awaitable[None]],
) -> None:
    id, chunk = await over(ledger)
    await then(ledger, chunk)
    keys = [key async for key in ledger.redis.scan_iter(f"{ledger.keys.namespace}:*{id}*")]
    assert len(keys) >= 4
    assert {key: ttl for key in keys if not 0 < (ttl := await ledger.redis.ttl(key)) <= 100} == {}


async def test_an_answer_that_comes_after_its_campaign_was_forgotten_brings_nothing_of_it_back(ledger: Ledger) -> None:
    id, chunk = await doubtful_campaign(ledger)
    await ledger.redis.delete(ledger.keys.container(id))  # as when its time is over, which is before its chunks'
    await accepted(ledger, chunk)
    assert not await ledger.redis.exists(ledger.keys.container(id), ledger.keys.message_ids(chunk))


@pytest.mark.parametrize("lost", ["records", "chunk", "container"])
async def test_a_chunk_of_which_redis_has_forgotten_a_part_is_gone_or_lost_and_fails_nowhere(ledger: Ledger, lost: str) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0", lease_ms=40)
    await claim(ledger, work, 0)
    await ledger.redis.delete(getattr(ledger.keys, lost)(id if lost == "container" else work.chunk))
    assert await claim(ledger, work, 1) is (ClaimStatus.HALTED if lost == "container" else ClaimStatus.LOST)
    assert (await ledger.work.settle(work.chunk, [settled(0, Outcome.QUEUED)])).late == (lost != "chunk")
    for said in (Outcome.SENT, Outcome.UNKNOWN):
        await ledger.work.settle(work.chunk, [settled(1, said, attempt=1)])
    await ledger.work.hear({work.chunk: [EventUpdate(0, 1, Outcome.BOUNCED, MESSAGE_ID.format(1), "no such mailbox")]})
    for policy in ("resend", "assume_sent"):
        await ledger.work.settle_doubt(work.chunk, grace_ms=0, policy=policy, reason="")
    await ledger.control._run_retry(id, [0], [Outcome.UNKNOWN, Outcome.FAILED])
    await ledger.work.renew(work.chunk, fence=work.fence, lease_ms=1)
    await ledger.work.release(work.chunk, fence=work.fence)
    await ledger.work.reap(limit=10, patience_ms=1)
    await asyncio.sleep(0.05)
    assert await ledger.work.take(work.chunk, owner="other", lease_ms=LEASE_MS) is LeaseStatus.GONE
    assert not await ledger.redis.zscore(ledger.keys.due, work.chunk)


async def test_a_key_that_was_forgotten_while_its_list_was_read_is_forgotten_again(ledger: Ledger) -> None:
    await ledger.intake.keep_list_digest(Key("key", "content"), "list")
    assert 0 < await ledger.redis.ttl(ledger.keys.idempotency("key")) <= KEY_LIFE_S
    await ledger.redis.delete(ledger.keys.idempotency("key"))


async def test_an_abandoned_list_leaves_a_reason_and_no_rows(ledger: Ledger) -> None:
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC)
    await ledger.intake.add_chunks(id, 0, [NewChunk([[1, "a@example.org", {}]], [Outcome.QUEUED], {})])
    await ledger.intake.abandon_campaign(id, 0)
    status = await ledger.report.campaign(id)
    assert (status.state, "start it again" in status.reason) == (State.CANCELLED, True)
    assert not [k async for k in ledger.redis.scan_iter(f"{ledger.keys.namespace}:?:{id}-*")]


@pytest.mark.parametrize("id", ["nope", "c0", "m0", ""])
async def test_an_id_that_is_not_there_is_said_so(ledger: Ledger, id: str) -> None:
    with pytest.raises(NotFound):
        await ledger.report.campaign(id)
    with pytest.raises(NotFound):
        await ledger.report.message(id)


async def test_a_chunk_of_full_size_costs_at_most_160_bytes_a_recipient_with_its_message_ids(ledger: Ledger) -> None:
    id = await campaign(ledger, 500)
    work = await take(ledger, f"{id}-0")
    for first in range(0, 500, 50):
        await claim(ledger, work, *range(first, first + 50))
        rows = [settled(p, Outcome.SENT, message_id=MESSAGE_ID.format(p)) for p in range(first, first + 50)]
        await ledger.work.settle(work.chunk, rows)
    used = sum([int(await ledger.redis.memory_usage(key) or 0) async for key in ledger.redis.scan_iter(f"*{id}-0")])
    assert used / 500 < 160
    assert [line.ses_message_id async for line in ledger.report.lines(id)] == [MESSAGE_ID.format(p) for p in range(500)]


async def test_records_stay_nine_bytes_a_recipient_at_any_number_of_attempts(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    for attempt in range(1, 301):
        assert await claim(ledger, work, 0, attempt=attempt) is ClaimStatus.OK
        await ledger.work.settle(work.chunk, [settled(0, Outcome.QUEUED, attempt=attempt, failed=True)])
    packed = await ledger.redis.get(ledger.keys.records(work.chunk))
    assert packed is not None
    (record,) = unpack_records(packed)
    assert (record.attempts, record.failures, len(packed)) == (300, 255, 9)


async def test_nothing_is_claimed_once_it_has_expired_whatever_the_worker_s_clock_says(ledger: Ledger) -> None:
    id = new_message_id()
    expires = int(time.time() * 1000) + 400
    spec = Spec(lane=Lane.TRANSACTIONAL, from_address="a@example.com", content="x", to=("b@example.org",), expires_ms=expires)
    await ledger.intake.add_message(id, spec, keep_s=100, patience_ms=1000)
    work = await take(ledger, chunk_id(id, 0))
    await asyncio.sleep(0.5)
    status = await ledger.work.claim(work.chunk, fence=work.fence, mode=Mode.SIMPLE, rows=[(0, 1)])
    assert status is ClaimStatus.EXPIRED
    assert (await ledger.report.message(id)).attempts == 0
