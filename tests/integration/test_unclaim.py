"""A claim by which no call was made is taken back, whatever has become of it since; nobody else's claim is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mailer import Email, Mailer, Settings
from mailer.ledger import ClaimStatus, LeasedChunk, Ledger
from mailer.ledger.archive import REASONS
from mailer.message.email import Outcome, State
from mailer.queue import connect, disconnect
from mailer.simulator import Simulator
from mailer.storage import open_objects
from worker import deliver
from worker.runtime import Runtime

from ..servers import RedisServer
from .test_delivery import settled as message_settled
from .test_ledger import campaign, claim, counts, lines, settled, states, take

ROWS = [(0, 1), (1, 1)]


async def taken_over(ledger: Ledger, work: LeasedChunk) -> LeasedChunk:
    """The lease runs out, and another worker has the chunk."""
    await ledger.redis.hset(ledger.keys.chunk(work.chunk), "until", 1)
    return await take(ledger, work.chunk)


async def unclaimed(ledger: Ledger, work: LeasedChunk, rows: list[tuple[int, int]] = ROWS) -> int:
    """Twice, as where the answer is lost; it says what the first one did."""
    first = await ledger.work.unclaim(work.chunk, fence=work.fence, rows=rows)
    assert await ledger.work.unclaim(work.chunk, fence=work.fence, rows=rows) == 0
    return first


async def told(ledger: Ledger) -> list[tuple[str, str, str]]:
    """The stream of outcomes: position, state, reason."""
    found = await ledger.redis.xrange(ledger.keys.outcomes)
    return [(e[b"id"].decode().rpartition("-")[2], e[b"state"].decode(), e[b"reason"].decode()) for _, e in found]


async def test_a_claim_that_is_stored_is_taken_back_with_its_attempt_number(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    await ledger.work.settle(work.chunk, [settled(1, Outcome.QUEUED, attempt=0, reason="come back", failed=True)])
    assert await claim(ledger, work, 0, 1) is ClaimStatus.OK
    assert await unclaimed(ledger, work) == 2
    assert await counts(ledger, id) == {"queued": 3}
    assert [line.attempts for line in await lines(ledger, id)] == [1, 1, 0]
    assert await claim(ledger, work, 0, 1) is ClaimStatus.CONFLICT, "a copy of the claim that comes late is not stored"
    assert await claim(ledger, work, 0, 1, attempt=2) is ClaimStatus.OK


async def test_a_claim_that_another_lease_found_in_doubt_is_taken_back(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    old = await take(ledger, f"{id}-0")
    await claim(ledger, old, 0, 1)
    new = await taken_over(ledger, old)
    assert await states(ledger, id) == ["unknown", "unknown", "queued"]
    assert await unclaimed(ledger, old) == 2
    assert await counts(ledger, id) == {"queued": 3}
    assert [line.reason for line in await lines(ledger, id)] == ["", "", ""]
    assert await ledger.report.in_doubt() == 0
    assert (await told(ledger))[2:] == [("0", "queued", ""), ("1", "queued", "")]
    assert not await ledger.redis.hgetall(ledger.keys.details(old.chunk)), "nothing is left of it"
    assert await claim(ledger, new, 0, 1, attempt=2) is ClaimStatus.OK


async def test_a_campaign_that_was_over_goes_on_with_what_is_taken_back(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    old = await take(ledger, f"{id}-0")
    await claim(ledger, old, 0, 1)
    await ledger.redis.hset(ledger.keys.chunk(old.chunk), "until", 1)
    await ledger.work.take(old.chunk, owner="another", lease_ms=1000)
    assert (await ledger.report.campaign(id)).state is State.FINISHED
    assert await unclaimed(ledger, old) == 2
    assert (await ledger.report.campaign(id)).state is State.RUNNING
    assert await ledger.redis.zscore(ledger.keys.due, old.chunk) is not None
    new = await take(ledger, old.chunk)
    assert await claim(ledger, new, 0, 1, attempt=2) is ClaimStatus.OK
    await ledger.work.settle(new.chunk, [settled(i, Outcome.SENT, attempt=2) for i in (0, 1)])
    assert (await ledger.report.campaign(id)).state is State.FINISHED


@pytest.mark.parametrize("in_doubt", [False, True])
async def test_what_is_taken_back_of_a_cancelled_campaign_is_cancelled(ledger: Ledger, in_doubt: bool) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0, 1)
    await ledger.lifecycle.halt(id, to=State.CANCELLED, reason="because", allowed=[State.RUNNING])
    if in_doubt:
        await ledger.redis.hset(ledger.keys.chunk(work.chunk), "until", 1)
        await ledger.work.take(work.chunk, owner="another", lease_ms=1000)
        assert await states(ledger, id) == ["unknown", "unknown"]
    assert await unclaimed(ledger, work) == 2
    assert await counts(ledger, id) == {"cancelled": 2}
    reason = REASONS[Outcome.CANCELLED]
    assert [line.reason for line in await lines(ledger, id)] == [reason, reason]
    assert (await told(ledger))[-2:] == [("0", "cancelled", reason), ("1", "cancelled", reason)]
    assert await ledger.report.in_doubt() == 0
    assert (await ledger.report.campaign(id)).over
    assert await ledger.redis.hget(ledger.keys.chunk(work.chunk), "open") == b"0"


async def test_another_worker_s_claim_with_the_same_attempt_number_is_left_alone(ledger: Ledger) -> None:
    """Ours was never stored, and the other worker is calling SES."""
    id = await campaign(ledger, 2)
    old = await take(ledger, f"{id}-0")
    new = await taken_over(ledger, old)
    assert await claim(ledger, new, 0, 1) is ClaimStatus.OK
    assert await unclaimed(ledger, old) == 0
    assert await counts(ledger, id) == {"claimed": 2}


async def test_the_doubt_of_another_worker_s_call_with_the_same_attempt_number_is_left_alone(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    old = await take(ledger, f"{id}-0")
    new = await taken_over(ledger, old)
    await claim(ledger, new, 0, 1)
    await ledger.work.settle(new.chunk, [settled(0, Outcome.UNKNOWN, reason="no answer")])
    await taken_over(ledger, new)  # the second one's call was on its way when the other worker died
    assert await unclaimed(ledger, old) == 0
    assert await counts(ledger, id) == {"unknown": 2, "queued": 1}
    assert await ledger.report.in_doubt() == 2


async def test_what_became_of_it_meanwhile_is_left_alone(ledger: Ledger) -> None:
    """A policy has sent to the first again and that is in doubt, too; of the second somebody has said that it was accepted."""
    id = await campaign(ledger, 3)
    old = await take(ledger, f"{id}-0")
    await claim(ledger, old, 0, 1)
    new = await taken_over(ledger, old)
    await ledger.work.settle(old.chunk, [settled(1, Outcome.SENT)])
    await ledger.work.settle_doubt(old.chunk, grace_ms=0, policy="resend", reason="")
    assert not await ledger.redis.hgetall(ledger.keys.details(old.chunk)), "nothing is left of whose claim it was"
    await claim(ledger, new, 0, attempt=2)
    await taken_over(ledger, new)
    assert await unclaimed(ledger, old) == 0
    assert await counts(ledger, id) == {"unknown": 1, "sent": 1, "queued": 1}


async def test_a_chunk_that_redis_does_not_have_any_more_is_no_error(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0")
    await ledger.redis.delete(ledger.keys.records(work.chunk))
    assert await claim(ledger, work, 0, 1) is ClaimStatus.LOST
    assert await unclaimed(ledger, work) == 0


async def test_a_claim_that_took_longer_than_its_place_in_the_rate_is_kept_is_not_used(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that waited for a Redis that was away would be sent at once."""
    monkeypatch.setattr(deliver, "PLACE_S", 0.5)
    real, delays = runtime.ledger.work.claim, [0.6]

    async def slow(*args: Any, **more: Any) -> ClaimStatus:
        given = await real(*args, **more)
        await asyncio.sleep(delays.pop() if delays else 0)
        return given

    monkeypatch.setattr(runtime.ledger.work, "claim", slow)
    id = await mailer.send(Email(to="a@example.org", from_="code@example.com", subject="s", text="t"))
    status = await message_settled(mailer, id)
    assert (status.state, status.attempts, len(ses.log)) == ("sent", 2, 1)


@pytest.fixture
async def archiving(server: RedisServer, namespace: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    settings = Settings(redis_url=server.url, store_url=f"file://{tmp_path}")
    redis, objects = connect(settings), open_objects(settings)
    assert objects is not None
    yield Ledger(redis, namespace, objects=objects)
    await objects.close()
    await disconnect(redis)


async def test_a_claim_of_a_chunk_that_was_archived_in_doubt_is_taken_back(archiving: Ledger) -> None:
    ledger = archiving
    id = await campaign(ledger, 2)
    old = await take(ledger, f"{id}-0")
    await claim(ledger, old, 0, 1)
    await ledger.redis.hset(ledger.keys.chunk(old.chunk), "until", 1)
    await ledger.work.take(old.chunk, owner="another", lease_ms=1000)
    assert ledger.archive is not None
    await ledger.archive.archive(old.chunk, quiet_ms=-60_000, doubt_quiet_ms=-60_000)
    assert not await ledger.redis.exists(ledger.keys.records(old.chunk))
    assert await unclaimed(ledger, old) == 2
    assert await counts(ledger, id) == {"queued": 2}
    new = await take(ledger, old.chunk)
    assert await claim(ledger, new, 0, 1, attempt=2) is ClaimStatus.OK
