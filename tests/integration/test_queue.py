"""Connections, and the wake-ups in arq's queue."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis.asyncio

from mailer import Lane, Mailer, Settings
from mailer.cli.processes import valkey_binary
from mailer.errors import ConfigError, RedisUnavailable
from mailer.ledger import Ledger
from mailer.queue import Queue, connect, disconnect, load_job, ping, safe_url

from ..servers import RedisServer


async def test_a_wake_up_that_waits_is_not_queued_again_and_the_next_lease_s_is(ledger: Ledger) -> None:
    queue = Queue(ledger.redis, ledger.keys)
    for fence in (0, 0, 1, 0, 1):
        await queue.wake(Lane.BULK, "c1-0", fence)
    waiting = await ledger.redis.zrange(ledger.keys.queue(Lane.BULK), 0, -1)
    assert sorted(waiting) == [b"c1-0:0", b"c1-0:1"]
    assert await ledger.queue_depth(Lane.TRANSACTIONAL) == 0
    await ledger.redis.delete(*[f"arq:job:{job.decode()}" for job in waiting])


async def test_a_wake_up_is_queued_anew_where_only_the_queue_was_lost(ledger: Ledger) -> None:
    queue, name = Queue(ledger.redis, ledger.keys), ledger.keys.queue(Lane.BULK)
    await queue.wake(Lane.BULK, "c1-0")
    await ledger.redis.delete(name)  # arq's key of the job stays, for a day
    await queue.wake(Lane.BULK, "c1-0")
    assert await ledger.redis.zcard(name) == 1


async def test_a_job_whose_worker_died_before_the_lease_is_free_for_another_with_the_next_wake_up(ledger: Ledger) -> None:
    queue = Queue(ledger.redis, ledger.keys)
    await queue.wake(Lane.TRANSACTIONAL, "m1-0")
    await ledger.redis.set("arq:in-progress:m1-0:0", b"1", px=70_000)  # as arq does when it takes a job
    await queue.wake(Lane.TRANSACTIONAL, "m1-0")
    assert await ledger.redis.exists("arq:in-progress:m1-0:0")  # an earlier wake-up of the same lease takes it from nobody
    await queue.wake_again(Lane.TRANSACTIONAL, "m1-0", 0)
    assert not await ledger.redis.exists("arq:in-progress:m1-0:0")
    assert await ledger.redis.zcard(ledger.keys.queue(Lane.TRANSACTIONAL)) == 1


async def test_a_job_in_redis_is_json_that_names_a_chunk_and_nothing_else(ledger: Ledger) -> None:
    await Queue(ledger.redis, ledger.keys).wake(Lane.BULK, "c2-7", 3)
    packed = await ledger.redis.getdel("arq:job:c2-7:3")
    job = load_job(packed)
    assert (job["f"], job["a"], job["k"]) == ("deliver", ["c2-7"], {})


async def test_a_cancellation_is_never_lost_in_a_command(server: RedisServer) -> None:
    client = connect(Settings(redis_url=server.url))
    await client.ping()
    lost = 0
    for i in range(200):
        task = asyncio.create_task(_gets(client))
        for _ in range(i % 40):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.5)
        if not done:
            lost += 1
            task.cancel()
            await asyncio.wait({task})
    await disconnect(client)
    assert lost == 0


async def _gets(client: redis.asyncio.Redis) -> None:
    while True:
        await client.get("nothing")


async def test_a_unix_socket_will_do(namespace: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="mailer-test-"))
    path = folder / "s"
    process = subprocess.Popen(
        [valkey_binary(), "--port", "0", "--unixsocket", str(path), "--save", ""], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        async with Mailer(Settings(redis_url=f"unix://{path}", namespace=namespace)) as mailer:
            assert await mailer.campaigns() == []
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


async def test_a_password_is_never_shown() -> None:
    settings = Settings(redis_url="redis://user:secret@127.0.0.1:9/0")
    client = connect(settings, retries=0)
    with pytest.raises(RedisUnavailable) as caught:
        await ping(client, settings)
    await disconnect(client)
    assert "secret" not in str(caught.value)
    assert safe_url(settings.redis_url) == "redis://***@127.0.0.1:9/0"


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://host", "redis+sentinel://", "redis+sentinel://a:b/s/0", "redis://h:99999x/0", "redis+sentinel://h/s/x"],
)
def test_a_url_that_cannot_be_read_is_said_so_in_one_sentence(url: str) -> None:
    with pytest.raises(ConfigError, match="MAILER_REDIS_URL"):
        connect(Settings(redis_url=url))


async def test_sentinel_is_asked_for_the_master(server: RedisServer, tmp_path: Path, namespace: str) -> None:
    from mailer.cli.processes import free_port

    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {server.port} 1\n")
    process = subprocess.Popen([valkey_binary(), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        settings = Settings(redis_url=f"redis+sentinel://127.0.0.1:{port}/main/0", namespace=namespace)
        async with asyncio.timeout(20):
            while True:
                try:
                    async with Mailer(settings) as mailer:
                        assert await mailer.campaigns() == []
                    return
                except RedisUnavailable:
                    await asyncio.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
