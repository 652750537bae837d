"""Chunks outside Redis: payloads in a folder, archives of what is over, and the way back; whatever dies in between."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from mailer import Mailer, Settings
from mailer.email import Outcome
from mailer.errors import NotFound, StoreFailed
from mailer.ledger import ClaimStatus, LeaseStatus, Ledger
from mailer.ledger.archive import Archive, archive_name
from mailer.ledger.store import FileObjects
from mailer.queue import connect, disconnect
from mailer.simulator import Simulator
from worker import maintenance

from ..conftest import running_worker
from ..servers import RedisServer
from .test_delivery import finished, letter, rows
from .test_ledger import MESSAGE_ID, campaign, claim, counts, lines, settled, states, take

NOW: dict[str, int] = {"quiet_ms": 0, "doubt_quiet_ms": 0}


@pytest.fixture
async def ledger(server: RedisServer, namespace: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    redis, objects = connect(Settings(redis_url=server.url)), FileObjects(tmp_path / "store")
    await objects.check()
    yield Ledger(redis, namespace, objects=objects)
    await objects.close()
    await disconnect(redis)


def archive_of(ledger: Ledger) -> Archive:
    assert ledger.archive is not None
    return ledger.archive


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "store").rglob("*") if path.is_file())


async def sent(ledger: Ledger, chunk: str, size: int, first: Outcome = Outcome.SENT) -> None:
    """Settle all of a chunk."""
    work = await take(ledger, chunk)
    assert await claim(ledger, work, *range(size)) is ClaimStatus.OK
    some = [settled(0, first, reason="why")] if first is not Outcome.SENT else []
    rest = [settled(i, Outcome.SENT, message_id=MESSAGE_ID.format(i)) for i in range(len(some), size)]
    await ledger.scripts.settle(chunk, [*some, *rest])
    await ledger.scripts.release(chunk, fence=work.fence)


async def keys_of(ledger: Ledger, chunk: str) -> list[bytes]:
    return sorted([key async for key in ledger.redis.scan_iter(match=f"*:{chunk}", count=1000)])


async def test_a_chunk_that_is_over_leaves_redis_for_one_object_and_the_report_stays_the_same(
    ledger: Ledger, tmp_path: Path
) -> None:
    id = await campaign(ledger, 4, 3, bad=1)
    assert files(tmp_path) == ["0.json.z", "1.json.z"]
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 1, 2, 3)
    odd = "an id of another form"
    await ledger.scripts.settle(
        work.chunk,
        [
            settled(1, Outcome.SENT, message_id=MESSAGE_ID.format(1)),
            settled(2, Outcome.SENT, message_id=odd),
            settled(3, Outcome.REJECTED, reason="no such domain"),
        ],
    )
    await ledger.scripts.release(work.chunk, fence=work.fence)
    before = await lines(ledger, id)
    assert await archive_of(ledger).archive_due(limit=10, **NOW) == 1
    assert await keys_of(ledger, f"{id}-0") == []
    name, payload = files(tmp_path)
    assert (name.startswith("0-"), payload) == (True, "1.json.z")
    assert await lines(ledger, id) == before
    assert (before[1].ses_message_id, before[2].ses_message_id, before[0].reason) == (MESSAGE_ID.format(1), odd, "line 1: bad")
    stored = [orjson.loads(line) for line in gzip.decompress((tmp_path / "store" / id / name).read_bytes()).splitlines()]
    assert [(line["id"], line["row"], line["to"], line["state"]) for line in stored][3] == (
        f"{id}-0-3",
        4,
        "u3@example.org",
        "rejected",
    )
    assert stored[1]["data"] == {"n": 1}
    assert await counts(ledger, id) == {"rejected": 3, "sent": 2, "queued": 2}


async def test_a_whole_campaign_is_archived_by_the_worker_and_forgotten_afterwards(
    settings: Settings, ses: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "ARCHIVE_AFTER_S", 0.0)
    monkeypatch.setattr(maintenance, "ARCHIVE_EVERY_S", 0.05)
    settings = settings.model_copy(update={"store_url": f"file://{tmp_path}/store", "retention_s": 600})
    people = [*rows(1200), {"email": "not an address"}]
    async with running_worker(settings) as runtime, Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(), people)
        assert (await finished(mailer, id)).counts == {"sent": 1200, "rejected": 1}
        expected = [(i + 1, "sent" if i < 1200 else "rejected") for i in range(1201)]
        while await runtime.redis.zscore(runtime.ledger.keys.active, id) is not None:
            assert [(line.row, line.state) async for line in mailer.outcomes(id)] == expected
            await asyncio.sleep(0.02)
        assert 0 < await runtime.redis.ttl(runtime.ledger.keys.tokens(id)) <= 600
        assert await runtime.redis.zcard(runtime.ledger.keys.over) == 0
        assert [name.partition("-")[0] for name in files(tmp_path)] == ["0", "1", "2"]
        before = [line async for line in mailer.outcomes(id)]
        for key in (runtime.ledger.keys.container(id), runtime.ledger.keys.tokens(id)):  # as their time would be over
            await runtime.redis.unlink(key)
        assert [line async for line in mailer.outcomes(id)] == before
    assert len(ses.log) == 1200
