"""Chunks outside Redis: payloads in a folder, archives of what is over, and the way back; whatever dies in between."""

from __future__ import annotations

import asyncio
import gzip
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

import orjson
import pytest

from mailer import Mailer, Settings
from mailer.errors import ConfigError, NotFound, StoreFailed
from mailer.ids import new_campaign_id
from mailer.ledger import ClaimStatus, LeasedChunk, LeaseStatus, Ledger, RecipientStatus
from mailer.ledger.archive import Archive
from mailer.ledger.intake import NewChunk
from mailer.ledger.store import FileObjects
from mailer.message.email import Outcome
from mailer.queue import connect, disconnect
from mailer.simulator import Fault, Kind, Simulator
from worker import maintenance, settle
from worker.runtime import Runtime

from ..conftest import running_worker
from ..servers import RedisServer
from .test_delivery import finished, letter, rows
from .test_ledger import MESSAGE_ID, SPEC, campaign, claim, counts, lines, settled, states, take

SAME_STORE = r"see that MAILER_STORE_URL is the same for workers and applications\."
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
    await ledger.work.settle(chunk, [*some, *rest])
    await ledger.work.release(chunk, fence=work.fence)


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
    await ledger.work.settle(
        work.chunk,
        [
            settled(1, Outcome.SENT, message_id=MESSAGE_ID.format(1)),
            settled(2, Outcome.SENT, message_id=odd),
            settled(3, Outcome.REJECTED, reason="no such domain"),
        ],
    )
    await ledger.work.release(work.chunk, fence=work.fence)
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
    monkeypatch.setitem(maintenance.LOOPS, "archive", (maintenance.archive, 0.05))
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


async def test_a_recipient_is_told_by_its_id_wherever_its_chunk_is_and_a_forgotten_campaign_says_where_its_report_is(
    ledger: Ledger,
) -> None:
    id = await campaign(ledger, 3, 2)

    async def told() -> list[RecipientStatus]:
        return [await ledger.report.recipient(f"{id}-{chunk}-{position}") for chunk, position in ((0, 0), (0, 2), (1, 1))]

    async def missing() -> None:
        for wrong in (f"{id}-0-3", f"{id}-2-0", f"{id}-0", f"{new_campaign_id()}-0-0"):
            with pytest.raises(NotFound, match=f"no message or campaign '{wrong}' here"):
                await ledger.report.recipient(wrong)

    before = await lines(ledger, id)
    assert await told() == [before[0], before[2], before[4]]
    await sent(ledger, f"{id}-0", 3)
    await sent(ledger, f"{id}-1", 2, Outcome.FAILED)
    after = await lines(ledger, id)
    await archive_of(ledger).archive(f"{id}-1", **NOW)
    assert await told() == [after[0], after[2], after[4]]
    await missing()
    await archive_of(ledger).archive(f"{id}-0", **NOW)
    await ledger.redis.unlink(ledger.keys.container(id), ledger.keys.tokens(id))
    assert await told() == [after[0], after[2], after[4]]
    await missing()
    with pytest.raises(NotFound) as caught:
        await ledger.report.campaign(id)
    assert str(caught.value) == f"Redis no longer has campaign {id}, but the store has its report: mailer campaign report {id}"
    with pytest.raises(NotFound, match="There is no message or campaign"):
        await ledger.report.campaign(new_campaign_id())


# ---- the way back --------------------------------------------------------------------------------------------------


async def bounce(ledger: Ledger, chunk: str, position: int) -> None:
    """What the application of an event does: a record, a reason and counters change together."""
    key = ledger.keys.records(chunk)
    record = (await ledger.redis.getrange(key, position * 9, position * 9 + 8)).replace(b"s", b"b", 1)
    await ledger.redis.setrange(key, position * 9, record)
    await ledger.redis.hset(ledger.keys.details(chunk), str(position), "mailbox full")
    for state, n in (("s", -1), ("b", 1)):
        await ledger.redis.hincrby(ledger.keys.container(chunk.partition("-")[0]), f"n:{state}", n)


async def test_a_later_event_finds_its_recipient_and_the_chunk_is_archived_again_with_it(ledger: Ledger, tmp_path: Path) -> None:
    id = await campaign(ledger, 3, 3)
    await sent(ledger, f"{id}-0", 3)
    fence = int(await ledger.redis.hget(ledger.keys.chunk(f"{id}-0"), "fence"))
    archive = archive_of(ledger)
    await archive.archive_due(limit=10, **NOW)
    before, first = await lines(ledger, id), files(tmp_path)
    assert await ledger.work.unarchive(f"{id}-0")
    assert await lines(ledger, id) == before
    assert int(await ledger.redis.hget(ledger.keys.chunk(f"{id}-0"), "fence")) > fence
    assert await ledger.work.take(f"{id}-0", owner="me", lease_ms=1000) is LeaseStatus.OVER
    await bounce(ledger, f"{id}-0", 1)
    assert await archive.archive_due(limit=10, **NOW) == 1
    assert len(files(tmp_path)) == len(first) == 2
    assert files(tmp_path) != first
    found = await lines(ledger, id)
    assert (found[1].state, found[1].reason, found[1].ses_message_id) == ("bounced", "mailbox full", before[1].ses_message_id)
    assert [found[0], *found[2:]] == [before[0], *before[2:]]
    assert await counts(ledger, id) == {"sent": 2, "bounced": 1, "queued": 3}
    assert await ledger.redis.hget(ledger.keys.container(id), "archived") == b"1"


async def test_what_is_taken_back_stays_for_as_long_as_events_are_awaited_and_is_not_taken_back_twice(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    await sent(ledger, f"{id}-0", 2)
    await archive_of(ledger).archive_due(limit=10, **NOW)
    assert await asyncio.gather(*(ledger.work.unarchive(f"{id}-0") for _ in range(5))) == [True] * 5
    await bounce(ledger, f"{id}-0", 0)
    assert await ledger.work.unarchive(f"{id}-0")
    assert (await lines(ledger, id))[0].state == "bounced"
    assert await archive_of(ledger).archive_due(limit=10, quiet_ms=60_000, doubt_quiet_ms=60_000) == 0


async def test_an_answer_of_ses_that_comes_after_the_chunk_was_archived_is_stored(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0", lease_ms=30)
    await claim(ledger, work, 0, 1)
    await asyncio.sleep(0.05)
    assert await ledger.work.take(f"{id}-0", owner="you", lease_ms=1000) is LeaseStatus.OVER
    assert await counts(ledger, id) == {"unknown": 2}
    await archive_of(ledger).archive_due(limit=10, **NOW)
    assert (await keys_of(ledger, f"{id}-0"), await ledger.report.in_doubt()) == ([], 0)
    rows, runtime = [settled(0, Outcome.SENT, message_id=MESSAGE_ID.format(0))], cast(Runtime, SimpleNamespace(ledger=ledger))
    assert (await settle._stored(runtime, f"{id}-0", rows, None)).late == 0
    assert await counts(ledger, id) == {"sent": 1, "unknown": 1}
    assert await ledger.report.in_doubt() == 1


async def test_what_redis_never_knew_is_not_taken_back(ledger: Ledger) -> None:
    assert not await ledger.work.unarchive("c01k8x7t3q9r5v2m0ab-0")
    assert not await ledger.work.unarchive("m01k8x7t3q9r5v2m0ab-0")
    with pytest.raises(NotFound):
        await lines(ledger, "c01k8x7t3q9r5v2m0ab")


# ---- sent again ----------------------------------------------------------------------------------------------------

AGAIN = frozenset({Outcome.FAILED, Outcome.UNKNOWN})
PATIENT_S = 25.0  # a chunk that is looked at before its lease was given back is looked at again when it would have run out


async def archived(ledger: Ledger, *firsts: Outcome) -> str:
    """A campaign of chunks of three that are archived; what became of the first recipient of each."""
    id = await campaign(ledger, *[3] * len(firsts))
    for number, first in enumerate(firsts):
        await sent(ledger, f"{id}-{number}", 3, first)
    await archive_of(ledger).archive_due(limit=100, **NOW)
    assert [key async for key in ledger.redis.scan_iter(match=f"*:s:{id}*", count=1000)] == []
    return id


async def live(ledger: Ledger, id: str) -> list[int]:
    """The numbers of its chunks that Redis has."""
    return sorted([int(key.rpartition(b"-")[2]) async for key in ledger.redis.scan_iter(match=f"*:s:{id}-*", count=1000)])


async def test_retry_takes_back_those_archived_chunks_that_have_such_recipients_and_queues_nobody_else(
    ledger: Ledger, tmp_path: Path
) -> None:
    id = await archived(ledger, Outcome.UNKNOWN, Outcome.SENT, Outcome.FAILED, Outcome.REJECTED, Outcome.SENT)
    control, before, stored = ledger.control, await lines(ledger, id), files(tmp_path)
    await ledger.lifecycle.retire_campaign(id, 600)
    assert await control.retry(id, {Outcome.FAILED}, 0, chunks=100) == (1, 0)
    assert await live(ledger, id) == [2]
    assert [await control.retry(id, AGAIN, 0, chunks=100) for _ in range(2)] == [(1, 0), (0, 0)]
    assert await live(ledger, id) == [0, 2]
    assert await counts(ledger, id) == {"queued": 2, "sent": 12, "rejected": 1}
    for number in (0, 2):
        work = await take(ledger, f"{id}-{number}")
        assert [(e.to, e.data) for e in work.entries] == [(f"u{number * 3 + i}@example.org", {"n": i}) for i in range(3)]
        assert await claim(ledger, work, 0, attempt=2) is ClaimStatus.OK
        await ledger.work.settle(work.chunk, [settled(0, Outcome.SENT, attempt=2, message_id=MESSAGE_ID.format(77))])
        await ledger.work.release(work.chunk, fence=work.fence)
    assert await ledger.redis.ttl(ledger.keys.records(f"{id}-0")) == -1  # what goes on is not forgotten on the way
    await archive_of(ledger).archive_due(limit=100, **NOW)
    assert (await live(ledger, id), await ledger.report.in_doubt()) == ([], 0)
    after = await lines(ledger, id)
    assert [line for line, old in zip(after, before, strict=True) if line != old] == [after[0], after[6]]
    assert {(line.state, line.attempts, line.reason, line.ses_message_id) for line in (after[0], after[6])} == {
        ("sent", 2, "", MESSAGE_ID.format(77))
    }
    assert len(files(tmp_path)) == 5
    assert len(set(files(tmp_path)) - set(stored)) == 2


@pytest.mark.parametrize("after", ["read", "_run_unarchive", "_run_retry"])
@pytest.mark.parametrize("turn", [1, 3])
async def test_a_retry_that_dies_after_any_step_is_ended_by_repeating_it(ledger: Ledger, after: str, turn: int) -> None:
    id = await archived(ledger, *[Outcome.FAILED, Outcome.SENT, Outcome.UNKNOWN] * 3)
    control, turns = ledger.control, 0
    owner: object = ledger.control if after == "_run_retry" else archive_of(ledger)
    step = getattr(owner, after)

    async def die(*args: object, **more: object) -> object:
        nonlocal turns
        turns += 1
        done = await step(*args, **more)
        if turns >= turn:
            raise Died
        return done

    with patch.object(owner, after, die), pytest.raises(Died):
        await control.retry(id, AGAIN, 0, chunks=100)
    assert sum((await counts(ledger, id)).values()) == 27
    await control.retry(id, AGAIN, 0, chunks=100)
    assert await counts(ledger, id) == {"queued": 6, "sent": 21}
    assert await live(ledger, id) == [0, 2, 3, 5, 6, 8]
    assert (await ledger.report.campaign(id)).state == "running"
    owed = {chunk for chunk, _ in await ledger.work.reap(limit=100, patience_ms=1)}
    assert owed == {f"{id}-{number}" for number in (0, 2, 3, 5, 6, 8)}


async def test_a_chunk_that_is_archived_at_the_moment_of_a_retry_is_taken_back_once_more(ledger: Ledger) -> None:
    id = await archived(ledger, Outcome.FAILED)
    unarchive, turns = ledger.work.unarchive, 0

    async def and_archived_again(chunk: str) -> bool:
        nonlocal turns
        turns += 1
        done = await unarchive(chunk)
        if turns < 3:
            await archive_of(ledger).archive(chunk, **NOW)
        return done

    with patch.object(ledger.work, "unarchive", and_archived_again):
        assert await ledger.control.retry(id, AGAIN, 0, chunks=100) == (1, 0)
    assert (turns, await counts(ledger, id)) == (3, {"queued": 1, "sent": 2})


async def test_a_retry_that_does_not_find_an_archived_chunk_says_so_and_what_it_found_is_queued(
    ledger: Ledger, namespace: str, tmp_path: Path
) -> None:
    id = await archived(ledger, Outcome.FAILED, Outcome.FAILED, Outcome.FAILED)
    hint = rf"does not have the recipients of chunk \w+-1; {SAME_STORE}$"
    with pytest.raises(StoreFailed, match=hint.replace("-1", "-0")):
        await Ledger(ledger.redis, namespace).control.retry(id, AGAIN, 0, chunks=100)
    (lost,) = (tmp_path / "store" / id).glob("1-*")
    lost.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreFailed, match=hint):
        await ledger.control.retry(id, AGAIN, 0, chunks=100)
    assert (await ledger.report.campaign(id)).counts == {"queued": 2, "sent": 6, "failed": 1}
    (tmp_path / "elsewhere").rename(lost)
    assert await ledger.control.retry(id, AGAIN, 0, chunks=100) == (1, 0)


async def test_a_worker_sends_again_to_those_of_archived_chunks_that_failed_or_are_in_doubt_and_to_nobody_else(
    settings: Settings, ses: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ARCHIVE_AFTER_S": 0.0, "DOUBT_AFTER_S": 0.0}.items():
        monkeypatch.setattr(maintenance, name, value)
    monkeypatch.setattr(settle, "MAX_FAILURES", 1)
    monkeypatch.setitem(maintenance.LOOPS, "archive", (maintenance.archive, 0.05))
    more = {"store_url": f"file://{tmp_path}/store", "unknown_grace_s": 0.0}
    faults = [Fault(operation="SendBulkEmail", kind=Kind.CUT_BEFORE, nth=3), Fault(kind=Kind.ENTRY_STATUS, count=40)]
    ses.faults.set(faults)
    async with running_worker(settings.model_copy(update=more)) as runtime, Mailer(runtime.settings) as mailer:
        id = await mailer.start_campaign(letter(), rows(2000))
        found = (await finished(mailer, id)).counts
        assert found == {"sent": 1910, "failed": 40, "unknown": 50}
        async with asyncio.timeout(PATIENT_S):
            while await live(runtime.ledger, id):
                await asyncio.sleep(0.02)

        def stop(done: int, left: int) -> None:
            raise Died

        monkeypatch.setattr("mailer.client.CANCEL_CHUNKS", 2)
        with pytest.raises(Died):  # half-way
            await mailer.retry(id, ["failed", "unknown"], progress=stop)
        await mailer.retry(id, ["failed", "unknown"])
        status = await finished(mailer, id)
        assert (status.state, status.counts) == ("finished", {"sent": 2000})
        assert Counter(entry.recipients[0] for entry in ses.log) == {row["email"]: 1 for row in rows(2000)}
        async with asyncio.timeout(PATIENT_S):
            while await live(runtime.ledger, id):
                await asyncio.sleep(0.02)
        assert [line.state async for line in mailer.outcomes(id)] == ["sent"] * 2000


# ---- when ----------------------------------------------------------------------------------------------------------


async def test_a_chunk_with_somebody_in_doubt_is_archived_only_when_its_campaign_is_over_and_later(ledger: Ledger) -> None:
    id = await campaign(ledger, 2, 2)
    await sent(ledger, f"{id}-0", 2, Outcome.UNKNOWN)
    archive = archive_of(ledger)
    await archive.archive_due(limit=10, **NOW)
    assert await keys_of(ledger, f"{id}-0") != []  # its campaign goes on
    await sent(ledger, f"{id}-1", 2)
    await archive.archive_due(limit=10, quiet_ms=0, doubt_quiet_ms=60_000)
    assert (await keys_of(ledger, f"{id}-0") != [], await keys_of(ledger, f"{id}-1")) == (True, [])
    assert 40_000 < await ledger.redis.zscore(ledger.keys.over, f"{id}-0") - await ledger.now_ms() <= 60_000
    await archive.archive(f"{id}-0", **NOW)
    assert await keys_of(ledger, f"{id}-0") == []
    assert await counts(ledger, id) == {"unknown": 1, "sent": 3}


async def test_with_a_short_retention_who_is_in_doubt_is_archived_after_the_grace_and_before_the_campaign_is_forgotten(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "ARCHIVE_AFTER_S", 0.0)
    (tmp_path / "store").mkdir()
    more = {"store_url": f"file://{tmp_path}/store", "unknown_grace_s": 900.0, "retention_s": 1000}
    async with Runtime(settings.model_copy(update=more)) as runtime:
        ledger = runtime.ledger
        id = await campaign(ledger, 2)
        await sent(ledger, f"{id}-0", 2, Outcome.UNKNOWN)
        await maintenance.archive(runtime)
        left_ms = await ledger.redis.zscore(ledger.keys.over, f"{id}-0") - await ledger.now_ms()
        assert 900_000 < left_ms < 1_000_000


async def test_neither_what_is_open_nor_what_a_worker_has_nor_what_has_just_changed_is_archived(ledger: Ledger) -> None:
    id = await campaign(ledger, 2, 2)
    archive = archive_of(ledger)
    await archive.archive(f"{id}-0", **NOW)
    work = await take(ledger, f"{id}-1")
    await claim(ledger, work, 0, 1)
    await ledger.work.settle(work.chunk, [settled(i, Outcome.SENT) for i in range(2)])
    await archive.archive_due(limit=10, **NOW)  # its lease is not given back yet
    await ledger.work.release(work.chunk, fence=work.fence)
    await archive.archive(f"{id}-1", quiet_ms=60_000, doubt_quiet_ms=60_000)
    assert await states(ledger, id) == ["queued"] * 2 + ["sent"] * 2
    assert len(await keys_of(ledger, f"{id}-0")) == len(await keys_of(ledger, f"{id}-1")) == 2
    assert await ledger.redis.zscore(ledger.keys.over, f"{id}-1") is not None


# ---- what dies in between ------------------------------------------------------------------------------------------


class Died(Exception): ...


@pytest.mark.parametrize("after", ["_run_read", "put", "_run_drop", "delete", "_run_done"])
async def test_a_process_that_dies_after_any_step_of_archiving_loses_nothing_and_another_ends_it(
    ledger: Ledger, tmp_path: Path, after: str
) -> None:
    id = await campaign(ledger, 3)
    await sent(ledger, f"{id}-0", 3)
    archive, before = archive_of(ledger), await lines(ledger, id)
    owner: object = archive if after.startswith("_") else archive._objects
    step = getattr(owner, after)

    async def die(*args: object, **more: object) -> None:
        await step(*args, **more)
        raise Died

    with patch.object(owner, after, die), pytest.raises(Died):
        await archive.archive(f"{id}-0", **NOW)
    assert await lines(ledger, id) == before
    assert await ledger.work.unarchive(f"{id}-0")
    assert await lines(ledger, id) == before
    await archive.archive(f"{id}-0", **NOW)
    assert await lines(ledger, id) == before
    assert (await keys_of(ledger, f"{id}-0"), len(files(tmp_path))) == ([], 1)
    assert await ledger.redis.zcard(ledger.keys.over) == 0


async def test_what_is_said_while_a_chunk_is_being_archived_is_kept(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    await sent(ledger, f"{id}-0", 3)
    archive = archive_of(ledger)
    put = archive._objects.put

    async def put_and_bounce(objects: dict[str, bytes]) -> None:
        await put(objects)
        await bounce(ledger, f"{id}-0", 2)

    with patch.object(archive._objects, "put", put_and_bounce):
        await archive.archive(f"{id}-0", **NOW)
    assert await states(ledger, id) == ["sent", "sent", "bounced"]
    await archive.archive(f"{id}-0", **NOW)
    assert await keys_of(ledger, f"{id}-0") == []
    assert await states(ledger, id) == ["sent", "sent", "bounced"]


async def test_a_process_that_wakes_up_after_the_chunk_was_archived_anew_does_not_bring_the_old_state_back(
    ledger: Ledger, tmp_path: Path
) -> None:
    id = await campaign(ledger, 3)
    await sent(ledger, f"{id}-0", 3)
    archive, asleep, go_on = archive_of(ledger), asyncio.Event(), asyncio.Event()
    put = archive._objects.put

    async def late_put(objects: dict[str, bytes]) -> None:
        asleep.set()
        await go_on.wait()
        await put(objects)

    with patch.object(archive._objects, "put", late_put):
        late = asyncio.create_task(archive.archive(f"{id}-0", **NOW))
        await asleep.wait()
    await archive.archive(f"{id}-0", **NOW)
    assert await ledger.work.unarchive(f"{id}-0")
    await bounce(ledger, f"{id}-0", 0)
    await archive.archive(f"{id}-0", **NOW)
    go_on.set()
    await late
    assert await states(ledger, id) == ["bounced", "sent", "sent"]
    assert await ledger.work.unarchive(f"{id}-0")
    assert await counts(ledger, id) == {"bounced": 1, "sent": 2}


async def test_many_archive_take_back_and_read_the_same_chunk_at_the_same_time(ledger: Ledger) -> None:
    id = await campaign(ledger, 20)
    await sent(ledger, f"{id}-0", 20)
    archive, before = archive_of(ledger), await lines(ledger, id)

    async def turn(n: int) -> None:
        for _ in range(8):
            if n % 3 == 0:
                await archive.archive(f"{id}-0", **NOW)
            elif n % 3 == 1:
                assert await ledger.work.unarchive(f"{id}-0")
            else:
                assert await lines(ledger, id) == before

    await asyncio.gather(*(turn(n) for n in range(9)))
    await archive.archive(f"{id}-0", **NOW)
    assert await lines(ledger, id) == before


async def test_a_file_is_there_whole_or_not_at_all_when_its_writer_is_killed(tmp_path: Path) -> None:
    """SIGKILL at a random instant of a process that writes the same file again and again."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from mailer.ledger.store import FileObjects\n"
        "async def go():\n"
        "    objects, n = FileObjects(pathlib.Path(sys.argv[1])), 0\n"
        "    print('on', flush=True)\n"
        "    while True:\n"
        "        await objects.put({'c1/0.json.z': bytes([n % 256]) * 3_000_000})\n"
        "        n += 1\n"
        "asyncio.run(go())\n"
    )
    path = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env={"PYTHONPATH": path}
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        objects, seen = FileObjects(tmp_path), set[int]()
        while len(seen) < 5:
            if (found := await objects.get("c1/0.json.z")) is not None:
                assert (len(found), len(set(found))) == (3_000_000, 1)
                seen.add(found[0])
        writer.send_signal(signal.SIGKILL)
    found = await objects.get("c1/0.json.z")
    assert found is not None
    assert (len(found), len(set(found))) == (3_000_000, 1)
    assert await objects.names("c1") == ["c1/0.json.z"]
    await objects.close()


# ---- a store that fails --------------------------------------------------------------------------------------------


async def test_a_chunk_whose_payload_cannot_be_read_waits_with_the_reason_and_is_sent_when_it_can(
    settings: Settings, ses: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.ledger.work.STORE_PAUSE_MS", 200)
    settings = settings.model_copy(update={"store_url": f"file://{tmp_path}/store"})
    async with Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(), rows(30))
        payload = tmp_path / "store" / id / "0.json.z"
        payload.rename(tmp_path / "elsewhere")
        async with running_worker(settings):
            while (status := await mailer.campaign(id)).state != "parked":
                await asyncio.sleep(0.02)
            assert status.reason == (
                f"waiting: The store file://{tmp_path}/store failed: it does not have the recipients of "
                f"chunk {id}-0; see that MAILER_STORE_URL is the same for workers and applications."
            )
            with pytest.raises(StoreFailed):
                _ = [line async for line in mailer.outcomes(id)]
            assert len(ses.log) == 0
            (tmp_path / "elsewhere").rename(payload)
            assert (await finished(mailer, id)).counts == {"sent": 30}
    assert len(ses.log) == 30


async def test_payloads_that_were_stored_while_the_store_was_redis_are_still_found_and_archived(
    settings: Settings, ses: Simulator, tmp_path: Path
) -> None:
    async with Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(), rows(20))
    settings = settings.model_copy(update={"store_url": f"file://{tmp_path}/store"})
    async with running_worker(settings), Mailer(settings) as mailer:
        assert (await finished(mailer, id)).counts == {"sent": 20}
        assert len([line async for line in mailer.outcomes(id)]) == 20


async def test_with_redis_nothing_is_archived(ledger: Ledger, namespace: str, tmp_path: Path) -> None:
    inside = Ledger(ledger.redis, f"{namespace}r")
    id = await campaign(inside, 3)
    await sent(inside, f"{id}-0", 3)
    assert await inside.redis.exists(inside.keys.over) == 0
    assert not await inside.work.unarchive(f"{id}-0")
    assert (await inside.redis.exists(inside.keys.payload(f"{id}-0")), files(tmp_path)) == (1, [])


async def test_a_report_where_the_store_is_not_set_is_an_error_and_not_a_short_report(
    ledger: Ledger, namespace: str, tmp_path: Path
) -> None:
    id = await campaign(ledger, 3)
    inside = Ledger(ledger.redis, namespace)
    hint = rf"redis: .* does not have the recipients of chunk {id}-0; {SAME_STORE}$"
    with pytest.raises(StoreFailed, match=hint):
        await lines(inside, id)
    await sent(ledger, f"{id}-0", 3)
    await archive_of(ledger).archive(f"{id}-0", **NOW)
    with pytest.raises(StoreFailed, match=hint):
        await lines(inside, id)


async def test_a_worker_without_the_store_parks_what_it_cannot_read(ledger: Ledger, namespace: str) -> None:
    id = await campaign(ledger, 3)
    inside = Ledger(ledger.redis, namespace)
    assert await inside.work.take(f"{id}-0", owner="me", lease_ms=1000) is LeaseStatus.UNREAD
    status = await inside.report.campaign(id)
    assert status.state == "parked"
    assert re.search(rf"^waiting: .* does not have the recipients of chunk {id}-0; {SAME_STORE}$", status.reason)
    assert isinstance(await ledger.work.take(f"{id}-0", owner="me", lease_ms=1000), LeasedChunk)  # given back, not run out


async def test_a_campaign_that_is_given_up_leaves_no_payloads(ledger: Ledger, tmp_path: Path) -> None:
    id = new_campaign_id()
    await ledger.intake.plan_campaign(id, SPEC)
    await ledger.intake.add_chunks(id, 0, [NewChunk([[1, "a@example.org"]], [Outcome.QUEUED], {})] * 3)
    assert len(files(tmp_path)) == 3
    assert await ledger.intake.drop_campaign(id)
    assert list((tmp_path / "store").iterdir()) == []


async def test_a_folder_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, why in {
        tmp_path / "no" / "such": f"there is no folder {tmp_path}/no; make it",
        tmp_path / "file" / "x": f"{tmp_path}/file/x cannot be written to",
    }.items():
        objects = FileObjects(folder)
        with pytest.raises(ConfigError, match=why):
            await objects.check()
        await objects.close()


OUTSIDE = ["../x", "/etc/passwd", "c1/../../x", "c1/", "c1/.hidden", "..", "c1", "c1/a/b", "c\u00e91/a", "/a"]


@pytest.mark.parametrize("name", OUTSIDE)
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    objects = FileObjects(tmp_path / "store")
    with pytest.raises(ValueError, match="not the name of an object"):
        await objects.put({name: b"x"})
    with pytest.raises(ValueError, match="not the name of an object"):
        await objects.get(name)
    await objects.close()
