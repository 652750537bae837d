"""A message that is cancelled is not sent: from the moment on, whatever it waits for. One in doubt is not sent again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailer import Email, Mailer, Mode, NotFound, Settings, SyncMailer, TooLate
from mailer.ids import chunk_id
from mailer.ledger import LeasedChunk, Ledger
from mailer.ledger.control import CANCELLED_MESSAGE
from mailer.simulator import Simulator
from worker import maintenance

from ..conftest import running_worker
from .test_finished import after_the_grace

WAITING: dict[str, dict[str, Any]] = {
    "for a worker": {},
    "for its time": {"send_at": datetime.now(UTC) + timedelta(days=1)},
    "in bulk": {"lane": "bulk"},
}


def email(**more: Any) -> Email:
    return Email(to="ana@example.org", from_="n@example.com", subject="s", text="t", **more)


async def taken(ledger: Ledger, id: str, lease_ms: int = 10_000) -> LeasedChunk:
    work = await ledger.work.take(chunk_id(id, 0), owner="me", lease_ms=lease_ms)
    assert isinstance(work, LeasedChunk)
    return work


@pytest.mark.parametrize("fields", WAITING.values(), ids=WAITING)
async def test_one_that_waits_is_cancelled_and_never_sent(
    mailer: Mailer, settings: Settings, ses: Simulator, ledger: Ledger, fields: dict[str, Any]
) -> None:
    id = await mailer.send(email(**fields), idempotency_key="once")
    assert [await mailer.cancel(id) for _ in range(2)] == [True, False]
    status = await mailer.status(id)
    assert (status.state, status.reason, status.attempts) == ("cancelled", CANCELLED_MESSAGE, 0)
    told = await ledger.redis.xrange(ledger.keys.outcomes)
    assert [(entry[b"state"], entry[b"reason"].decode()) for _, entry in told] == [(b"cancelled", CANCELLED_MESSAGE)]
    assert not await ledger.redis.zscore(ledger.keys.due, chunk_id(id, 0)), "no worker looks at it any more"
    assert await mailer.send(email(**fields), idempotency_key="once") == id
    async with running_worker(settings) as runtime:
        other = await mailer.send(email())
        while (await mailer.status(other)).state != "sent":
            await asyncio.sleep(0.02)
        await maintenance.reap(runtime)
    assert (await mailer.status(id)).state == "cancelled"
    assert len(ses.log) == 1


async def test_a_worker_that_has_it_in_hand_does_not_get_to_claim_it(mailer: Mailer, ledger: Ledger) -> None:
    id = await mailer.send(email())
    work = await taken(ledger, id)
    assert await mailer.cancel(id)
    claim = await ledger.work.claim(work.chunk, fence=work.fence, mode=Mode.SIMPLE, rows=[(0, 1)])
    assert claim != "ok"
    assert (await mailer.status(id)).state == "cancelled"


async def test_what_ses_may_have_or_has_is_too_late(mailer: Mailer, settings: Settings, ses: Simulator, ledger: Ledger) -> None:
    id = await mailer.send(email())
    work = await taken(ledger, id)
    await ledger.work.claim(work.chunk, fence=work.fence, mode=Mode.SIMPLE, rows=[(0, 1)])
    with pytest.raises(TooLate, match=f"Message {id} is on its way to SES, so it cannot be cancelled; that is"):
        await mailer.cancel(id)
    async with running_worker(settings):
        sent = await mailer.send(email())
        while (await mailer.status(sent)).state != "sent":
            await asyncio.sleep(0.02)
    with pytest.raises(TooLate, match=f"Message {sent} is sent, so it cannot be cancelled"):
        await mailer.cancel(sent)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_one_in_doubt_is_not_sent_again_once_it_is_cancelled(mailer: Mailer, ledger: Ledger, cancelled: bool) -> None:
    id = await mailer.send(email())
    work = await taken(ledger, id, lease_ms=1000)
    await ledger.work.claim(work.chunk, fence=work.fence, mode=Mode.SIMPLE, rows=[(0, 1)])
    await ledger.redis.hset(ledger.keys.chunk(work.chunk), "until", 1)  # its worker is dead
    await ledger.work.take(work.chunk, owner="another", lease_ms=1000)
    assert (await mailer.status(id)).state == "unknown"
    if cancelled:
        assert [await mailer.cancel(id) for _ in range(2)] == [True, False]
    await after_the_grace(ledger, id, "resend")
    assert (await mailer.status(id)).state == ("unknown" if cancelled else "queued")


async def test_a_message_that_is_not_there_is_not_found(mailer: Mailer, settings: Settings) -> None:
    id = await mailer.send(email())
    for unknown in ("m0", f"{id}-0-0", "\ud800"):
        with pytest.raises(NotFound):
            await mailer.cancel(unknown)

    def elsewhere() -> bool:
        with SyncMailer(settings) as sync:
            return sync.cancel(id)

    assert await asyncio.to_thread(elsewhere)
