"""The store and lists of recipients in S3, against moto's server."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
import pytest
from botocore.exceptions import EndpointConnectionError

from mailer import Mailer, Selection, Settings
from mailer.errors import BrokenGzip, ConfigError, RecipientsError, StoreFailed
from mailer.ses import objects as s3
from mailer.ses.objects import S3Objects
from mailer.simulator import Simulator
from worker import maintenance
from worker.runtime import open_runtime

from ..conftest import running_worker
from .test_delivery import finished, letter, rows

BUCKET = "letters"


@asynccontextmanager
async def client(moto: str) -> AsyncIterator[Any]:
    async with aioboto3.Session().client("s3", endpoint_url=moto) as found:
        yield found


@pytest.fixture
async def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    async with client(moto) as found:
        await found.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield found
        listed = (await found.list_objects_v2(Bucket=BUCKET)).get("Contents", ())
        for one in listed:
            await found.delete_object(Bucket=BUCKET, Key=one["Key"])
        await found.delete_bucket(Bucket=BUCKET)


async def keys(bucket: Any) -> list[str]:
    return [one["Key"] for one in (await bucket.list_objects_v2(Bucket=BUCKET)).get("Contents", ())]


async def test_a_campaign_is_sent_from_s3_archived_there_and_reported_from_there(
    settings: Settings, ses: Simulator, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "ARCHIVE_AFTER_S", 0.0)
    monkeypatch.setitem(maintenance.LOOPS, "archive", (maintenance.archive, 0.05))
    settings = settings.model_copy(update={"store_url": f"s3://{BUCKET}/mail/june"})
    async with running_worker(settings) as runtime, Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(), rows(1200))
        assert (await finished(mailer, id)).counts == {"sent": 1200}
        while await runtime.redis.zscore(runtime.ledger.keys.active, id) is not None:
            await asyncio.sleep(0.05)
        found = await keys(bucket)
        assert [key.partition("-")[0] for key in found] == [f"mail/june/{id}/{n}" for n in range(3)]
        assert all(key.endswith(".ndjson.gz") for key in found)
        assert [line.row async for line in mailer.outcomes(id)] == list(range(1, 1201))
        assert await runtime.ledger.work.unarchive(f"{id}-1")
        assert [line.state async for line in mailer.outcomes(id)] == ["sent"] * 1200
        await runtime.redis.unlink(runtime.ledger.keys.container(id))
        assert len([line async for line in mailer.outcomes(id)]) == 1200
    assert len(ses.log) == 1200


async def test_objects_are_put_got_listed_and_deleted(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "DELETE_KEYS", 2)
    objects = S3Objects(BUCKET, "")
    await objects.check()
    await objects.put({f"c1/{n}.json.z": bytes([n]) for n in range(5)})
    assert (await objects.get("c1/3.json.z"), await objects.get("c1/9.json.z")) == (b"\3", None)
    assert await objects.names("c1") == [f"c1/{n}.json.z" for n in range(5)]
    assert await objects.names("c2") == []
    await objects.delete([f"c1/{n}.json.z" for n in range(7)])
    assert await keys(bucket) == []
    await objects.close()


async def test_a_bucket_that_is_not_there_ends_a_worker_and_a_start_with_one_sentence(
    settings: Settings, ses: Simulator, bucket: Any
) -> None:
    settings = settings.model_copy(update={"store_url": "s3://no-such-bucket/x"})
    why = "MAILER_STORE_URL: there is no bucket no-such-bucket; create it, or correct the name"
    with pytest.raises(ConfigError) as caught:
        await open_runtime(settings)
    assert str(caught.value) == why
    async with Mailer(settings) as mailer:
        with pytest.raises(ConfigError) as caught:
            await mailer.start_campaign(letter(), rows(1))
        assert str(caught.value) == why
        assert await mailer.campaigns() == []


async def test_an_s3_that_does_not_answer_is_waited_for_by_a_worker_and_told_to_whoever_starts_a_campaign(
    settings: Settings, ses: Simulator, bucket: Any, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"store_url": f"s3://{BUCKET}"})
    async with Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(), rows(10))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        monkeypatch.setitem(s3._OPTIONS, "retries", {"total_max_attempts": 1, "mode": "standard"})
        monkeypatch.setattr("mailer.ledger.work.STORE_PAUSE_MS", 200)
        async with Mailer(settings) as other:
            with pytest.raises(StoreFailed, match="failed: Could not connect to the endpoint URL"):
                await other.start_campaign(letter(), rows(1))
        runtime = await open_runtime(settings)
        await runtime.__aexit__(None, None, None)
        async with running_worker(settings) as runtime:
            while (await mailer.campaign(id)).state != "parked":
                await asyncio.sleep(0.02)
            assert "Could not connect to the endpoint URL" in (await mailer.campaign(id)).reason
            assert len(ses.log) == 0
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
            assert isinstance(runtime.objects, S3Objects)
            runtime.objects._found = None  # as it would be once S3 answers
            assert (await finished(mailer, id)).counts == {"sent": 10}


async def test_a_list_that_breaks_in_the_middle_leaves_no_objects(settings: Settings, bucket: Any) -> None:
    settings = settings.model_copy(update={"store_url": f"s3://{BUCKET}"})
    text = b"email,name\n" + b"".join(b"u%d@example.org,U\n" % i for i in range(9000))
    await bucket.put_object(Bucket="letters", Key="lists/a.csv.gz", Body=gzip.compress(text)[:-500])
    async with Mailer(settings) as mailer:
        with pytest.raises(BrokenGzip):
            await mailer.start_campaign(letter(), f"s3://{BUCKET}/lists/a.csv.gz")
    assert await keys(bucket) == ["lists/a.csv.gz"]


# ---- lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lists/june 2026.csv", "june.csv.gz", "june.ndjson"])
async def test_a_list_in_s3_is_read_plain_and_gzipped(settings: Settings, bucket: Any, name: str) -> None:
    lines = (b'{"email": "u%d@example.org", "name": "N"}' if name.endswith("json") else b"u%d@example.org,N") + b"\n"
    text = (b"" if name.endswith("json") else b"email,name\n") + b"".join(lines % i for i in range(3000))
    await bucket.put_object(Bucket=BUCKET, Key=name, Body=gzip.compress(text) if name.endswith(".gz") else text)
    seen = []
    async with Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(), f"s3://{BUCKET}/{name}", progress=lambda *read: seen.append(read))
        assert (await mailer.campaign(id)).counts == {"queued": 3000}
    size = (await bucket.head_object(Bucket=BUCKET, Key=name))["ContentLength"]
    assert seen[-1] == (3000, size, size)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("s3://letters/no.csv", "s3://letters/no.csv cannot be read: there is no such object."),
        ("s3://no-such-bucket/a.csv", "s3://no-such-bucket/a.csv cannot be read: there is no bucket no-such-bucket."),
        ("s3://letters", "s3://letters: names no object; write s3://bucket/key"),
        ("gs://letters/a.csv", "gs://letters/a.csv: gs:// cannot be read, only files, s3:// and standard input;"),
    ],
)
async def test_a_list_that_cannot_be_read_is_told_in_one_sentence(settings: Settings, bucket: Any, source: str, why: str) -> None:
    async with Mailer(settings) as mailer:
        with pytest.raises(RecipientsError) as caught:
            await mailer.start_campaign(letter(), source)
    assert str(caught.value).startswith(why)


class Breaking:
    """A body whose connection breaks after a few bytes."""

    def __init__(self, body: Any) -> None:
        self._body, self._left = body, 1000

    def read(self, size: int | None = None) -> bytes:
        if self._left <= 0:
            raise EndpointConnectionError(endpoint_url="s3")
        data: bytes = self._body.read(min(size or 1000, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._body.close()


async def test_a_list_goes_on_where_its_connection_broke_and_only_with_the_same_object(bucket: Any) -> None:
    data = b"".join(b"%d\n" % i for i in range(2000))
    await bucket.put_object(Bucket=BUCKET, Key="list", Body=data)

    def read() -> bytes:
        raw, size = s3.open_list(BUCKET, "list")
        assert size == len(data)
        raw._body = Breaking(raw._body)  # type: ignore[attr-defined]
        with raw:
            parts = []
            while part := raw.read(700):
                parts.append(part)
        return b"".join(parts)

    assert await asyncio.to_thread(read) == data
    raw, _ = await asyncio.to_thread(s3.open_list, BUCKET, "list")
    raw._body = Breaking(raw._body)  # type: ignore[attr-defined]
    assert len(raw.read(1000)) == 1000
    await bucket.put_object(Bucket=BUCKET, Key="list", Body=b"another")
    with pytest.raises(OSError, match="it was replaced while it was read"):
        await asyncio.to_thread(raw.read, 1000)
    raw.close()


async def test_an_archive_in_s3_that_cannot_be_written_leaves_the_chunk_in_redis(bucket: Any, settings: Settings) -> None:
    settings = settings.model_copy(update={"store_url": f"s3://{BUCKET}"})
    async with Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(), rows(2), selection=Selection(exclude=[rows(2)]))
        before, ledger = [line async for line in mailer.outcomes(id)], mailer._ledger
        assert ledger.archive is not None
        whole, ledger.archive._objects = ledger.archive._objects, S3Objects("no-such-bucket", "")
        with pytest.raises(StoreFailed, match="does not exist"):
            await ledger.archive.archive(f"{id}-0", quiet_ms=0, doubt_quiet_ms=0)
        await ledger.archive._objects.close()
        ledger.archive._objects = whole
        assert await ledger.redis.exists(ledger.keys.records(f"{id}-0"))
        assert [line async for line in mailer.outcomes(id)] == before
