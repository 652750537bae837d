"""What a Redis that forgot its last second, a connection that was given up, and a lost answer do to the ledger."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailer import Settings
from mailer.errors import CampaignGone, StoreFailed
from mailer.ids import new_campaign_id
from mailer.intake.chunks import ChunkWriter
from mailer.ledger import ClaimStatus, EventUpdate, Ledger
from mailer.ledger import archive as archives
from mailer.ledger.intake import NewChunk
from mailer.message.email import Outcome
from mailer.queue import connect, disconnect
from mailer.recipients import BadRow
from worker import events, maintenance
from worker.runtime import Runtime

from ..servers import RedisServer
from .test_archive import NOW, archive_of, files, ledger, sent
from .test_ledger import MESSAGE_ID, SPEC, campaign, claim, lines, settled, states, take

__all__ = ["ledger"]
ONE = [NewChunk([[1, "a@example.org", {}]], [Outcome.QUEUED], {})]


# ---- a power cut, or a failover: the last second is forgotten --------------------------------------------------------


async def known(ledger: Ledger) -> dict[bytes, bytes]:
    return {key: await ledger.redis.dump(key) async for key in ledger.redis.scan_iter(f"{ledger.keys.namespace}:*")}


async def start_anew(ledger: Ledger, before: Mapping[bytes, bytes]) -> None:
    """As a Redis that has only what it had `before`."""
    await ledger.redis.delete(*[key async for key in ledger.redis.scan_iter(f"{ledger.keys.namespace}:*")])
    for key, value in before.items():
        await ledger.redis.restore(key, 0, value)


async def test_a_worker_whose_lease_was_forgotten_does_not_work_beside_the_next_one(ledger: Ledger) -> None:
    id = await campaign(ledger, 4)
    before = await known(ledger)
    first = await take(ledger, f"{id}-0")
    await start_anew(ledger, before)
    await asyncio.sleep(0.002)  # leases of one millisecond are of one Redis
    second = await take(ledger, f"{id}-0")
    assert await claim(ledger, second, 0, 1) is ClaimStatus.OK
    assert await claim(ledger, first, 0, 1) is not ClaimStatus.OK
    assert not await ledger.work.renew(first.chunk, fence=first.fence, lease_ms=1000)
    assert await ledger.work.unclaim(first.chunk, fence=first.fence, rows=[(0, 1), (1, 1)]) == 0
    assert await states(ledger, id) == ["claimed", "claimed", "queued", "queued"]


async def test_a_chunk_whose_archiving_was_forgotten_has_its_rows_and_is_archived_anew(ledger: Ledger, tmp_path: Path) -> None:
    id = await campaign(ledger, 3)
    await sent(ledger, f"{id}-0", 3)
    before = await known(ledger)
    for _ in range(2):
        assert await archive_of(ledger).archive_due(limit=10, **NOW) == 1
        await start_anew(ledger, before)
        assert [line.state for line in await lines(ledger, id)] == ["sent"] * 3
    assert await archive_of(ledger).archive_due(limit=10, **NOW) == 1
    assert len(files(tmp_path)) == 1
    assert [line.state for line in await lines(ledger, id)] == ["sent"] * 3


async def test_a_newer_archive_that_was_forgotten_does_not_lose_the_rows(ledger: Ledger) -> None:
    """The older one is deleted, and its token is all that Redis has."""
    id = await campaign(ledger, 3)
    await sent(ledger, f"{id}-0", 3)
    await archive_of(ledger).archive_due(limit=10, **NOW)
    assert await ledger.work.unarchive(f"{id}-0")
    await ledger.work.hear({f"{id}-0": [EventUpdate(0, 1, Outcome.BOUNCED, MESSAGE_ID.format(0), "no")]})
    before = await known(ledger)
    await ledger.redis.zadd(ledger.keys.over, {f"{id}-0": 1})
    await archive_of(ledger).archive_due(limit=10, **NOW)
    await start_anew(ledger, before)
    assert [line.state for line in await lines(ledger, id)] == ["bounced", "sent", "sent"]


# ---- what a connection that was given up still delivers --------------------------------------------------------------


class Late:
    """A way to Redis. What the first connection that writes `mark` says comes to Redis only after `go`, though the client has
    closed it long before: as TCP does with what the system still holds when a network comes back."""

    def __init__(self, port: int, mark: bytes) -> None:
        self.go, self.delivered = asyncio.Event(), asyncio.Event()
        self._port, self._mark, self._held = port, mark, False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._port)
        back, held = asyncio.create_task(self._back(from_redis, writer)), False
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                if not self._held and self._mark in data:
                    self._held = held = True
                    await self.go.wait()
                to_redis.write(data)
                await to_redis.drain()
        if held:
            to_redis.write_eof()
            await back  # Redis has answered all of it, and closed
            self.delivered.set()
        back.cancel()
        to_redis.close()
        writer.close()

    @staticmethod
    async def _back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def far_and_near(server: RedisServer, namespace: str, mark: str) -> AsyncIterator[tuple[Ledger, Ledger, Late]]:
    late = Late(server.port, mark.encode())
    async with await asyncio.start_server(late, "127.0.0.1", 0) as way:
        port = way.sockets[0].getsockname()[1]
        urls = (f"redis://127.0.0.1:{port}/0", server.url)
        far, near = (Ledger(connect(Settings(redis_url=url)), namespace) for url in urls)
        try:
            yield far, near, late
        finally:
            late.go.set()
            await disconnect(far.redis)
            await disconnect(near.redis)


async def test_rows_that_are_stored_once_more_after_the_campaign_was_started_change_nothing(
    server: RedisServer, namespace: str
) -> None:
    async with far_and_near(server, namespace, f"{namespace}:s:") as (far, near, late):
        id = await campaign(far, 4)  # redis-py gives the connection up, and stores them by another
        work = await take(near, f"{id}-0")
        assert await claim(near, work, 0, 1, 2, 3) is ClaimStatus.OK
        await near.work.settle(work.chunk, [settled(p, Outcome.SENT, message_id=MESSAGE_ID.format(p)) for p in range(3)])
        late.go.set()
        await late.delivered.wait()
        assert await states(near, id) == ["sent", "sent", "sent", "claimed"]
        assert await near.work.renew(work.chunk, fence=work.fence, lease_ms=1000)


async def test_a_campaign_that_is_not_being_read_takes_no_rows(ledger: Ledger, tmp_path: Path) -> None:
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC)
    put = ledger.store.put

    async def given_up_meanwhile(payloads: Any) -> None:
        await ledger.intake._drop(id, reason="…")
        await put(payloads)

    ledger.store.put = given_up_meanwhile  # type: ignore[method-assign]
    with pytest.raises(CampaignGone):
        await ledger.intake.add_chunks(id, 0, ONE)
    assert not await ledger.redis.exists(ledger.keys.chunk(f"{id}-0"), ledger.keys.records(f"{id}-0"))


# ---- lists that are given up ------------------------------------------------------------------------------------------


async def test_a_list_that_is_given_up_leaves_nothing_though_its_reader_told_of_itself_while_it_wrote(
    ledger: Ledger, tmp_path: Path
) -> None:
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC)
    intake, put = ChunkWriter(ledger, id, SPEC), ledger.store.put

    async def slow(payloads: Any) -> None:
        await put(payloads)
        await ledger.intake.keep_reading(id, intake.chunks)

    ledger.store.put = slow  # type: ignore[method-assign]
    await intake.add([BadRow(n, f"u{n}@example.org", Outcome.REJECTED, "…") for n in range(1, 601)])
    await intake.flush()
    assert await ledger.intake.drop_campaign(id)
    assert ([key async for key in ledger.redis.scan_iter(f"{ledger.keys.namespace}:*")], files(tmp_path)) == ([], [])


async def test_rows_of_a_list_that_was_given_up_are_deleted_though_who_did_it_died(
    ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC)
    await ledger.intake.add_chunks(id, 0, ONE)
    await ledger.intake._drop(id, reason="…", silence_ms=0)  # and then it is killed
    assert files(tmp_path)
    runtime: Any = SimpleNamespace(ledger=ledger, settings=settings)
    await maintenance.look_after_campaigns(runtime)
    assert (files(tmp_path), await ledger.lifecycle.active_campaigns()) == ([], [])


# ---- archives ---------------------------------------------------------------------------------------------------------


async def test_chunks_that_cannot_be_archived_do_not_keep_the_others(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "PATIENCE_MS", 0)
    id = await campaign(ledger, *[1] * 9)
    for number in range(9):
        await sent(ledger, f"{id}-{number}", 1)
    payloads = sorted(path for path in tmp_path.rglob("*.json.z"))
    for path in payloads[:4]:
        path.unlink()
    with pytest.raises(StoreFailed):
        await archive_of(ledger).archive_due(limit=20, **NOW)
    assert not list(tmp_path.rglob("*.json.z"))
    assert len(list(tmp_path.rglob("*.ndjson.gz"))) == 5


async def test_an_event_whose_chunk_is_archived_again_before_it_is_applied_comes_again(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    await sent(ledger, f"{id}-0", 2)
    await archive_of(ledger).archive(f"{id}-0", **NOW)
    said = {f"{id}-0": [EventUpdate(0, 1, Outcome.BOUNCED, MESSAGE_ID.format(0), "no such mailbox")]}
    unarchive, runtime = ledger.work.unarchive, SimpleNamespace(ledger=ledger, store_rests_until=0.0)

    async def archived_again(chunk: str) -> bool:
        back = await unarchive(chunk)
        await archive_of(ledger).archive(chunk, **NOW)
        return back

    ledger.work.unarchive = archived_again  # type: ignore[method-assign]
    found, failed = await events._hear(_runtime(runtime), said)
    assert (found, list(failed)) == ({}, [f"{id}-0"])
    ledger.work.unarchive = unarchive  # type: ignore[method-assign]
    found, failed = await events._hear(_runtime(runtime), said)
    assert (found[f"{id}-0"].known, failed, await states(ledger, id)) == (True, {}, ["bounced", "sent"])


def _runtime(stand_in: Any) -> Runtime:
    found: Runtime = stand_in
    return found
