"""Connections, and the wake-ups in arq's queue."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from arq.worker import Worker
from redis._parsers import BaseParser
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError

from mailer import Campaign, Email, Lane, Mailer, Settings
from mailer.cli import _explain
from mailer.cli.processes import free_port
from mailer.errors import RedisUnavailable
from mailer.ids import new_campaign_id
from mailer.ledger import Ledger, Spec
from mailer.ledger.intake import NewChunk
from mailer.ledger.keys import Keys
from mailer.message.email import Outcome
from mailer.queue import Queue, connect, disconnect, explain_redis, for_arq, load_job, passes, ping, safe_url
from mailer.simulator import Simulator
from worker import lanes, maintenance
from worker.__main__ import serve
from worker.runtime import Runtime

from ..conftest import running_worker
from ..servers import RedisServer, server_binary
from .test_ledger import campaign


async def test_a_wake_up_that_waits_is_not_queued_again_and_the_next_lease_s_is(ledger: Ledger) -> None:
    queue = Queue(ledger.redis, ledger.keys)
    for fence in (0, 0, 1, 0, 1):
        await queue.wake(Lane.BULK, "c1-0", fence)
    waiting = await ledger.redis.zrange(ledger.keys.queue(Lane.BULK), 0, -1)
    assert sorted(waiting) == [b"c1-0:0", b"c1-0:1"]
    assert await ledger.report.queue_depth(Lane.TRANSACTIONAL) == 0
    await ledger.redis.delete(*[ledger.keys.of_arq(f"arq:job:{job.decode()}") for job in waiting])


async def test_a_wake_up_is_queued_anew_where_only_the_queue_was_lost(ledger: Ledger) -> None:
    queue, name = Queue(ledger.redis, ledger.keys), ledger.keys.queue(Lane.BULK)
    await queue.wake(Lane.BULK, "c1-0")
    await ledger.redis.delete(name)  # arq's key of the job stays, for a day
    await queue.wake(Lane.BULK, "c1-0")
    assert await ledger.redis.zcard(name) == 1


async def test_a_job_whose_worker_died_before_the_lease_is_free_for_another_with_the_next_wake_up(ledger: Ledger) -> None:
    queue = Queue(ledger.redis, ledger.keys)
    await queue.wake(Lane.TRANSACTIONAL, "m1-0")
    taken = ledger.keys.of_arq("arq:in-progress:m1-0:0")
    await ledger.redis.set(taken, b"1", px=70_000)  # as arq does when it takes a job
    await queue.wake(Lane.TRANSACTIONAL, "m1-0")
    assert await ledger.redis.exists(
        ledger.keys.of_arq("arq:in-progress:m1-0:0")
    )  # an earlier wake-up of the same lease takes it from nobody
    await queue.wake_again(Lane.TRANSACTIONAL, "m1-0", 0)
    assert not await ledger.redis.exists(taken)
    assert await ledger.redis.zcard(ledger.keys.queue(Lane.TRANSACTIONAL)) == 1


async def test_a_cancellation_while_a_watch_is_taken_back_keeps_no_connection(own_server: RedisServer) -> None:
    client = connect(Settings(redis_url=own_server.url))
    arq = for_arq(client, Keys("t"))
    pipe = arq.pipeline()
    await pipe.watch("a")
    own_server.send_signal(signal.SIGSTOP)
    resetting = asyncio.create_task(pipe.reset())  # type: ignore[no-untyped-call]
    await asyncio.sleep(0.1)
    resetting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resetting
    own_server.send_signal(signal.SIGCONT)
    assert pipe.connection is None
    assert await arq.ping()
    await disconnect(client)


async def test_a_reaper_that_is_stopped_wakes_all_that_it_was_given(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The next reaper is not given them before PATIENCE_MS are over."""
    async with Runtime(settings) as runtime:
        ids = [await campaign(runtime.ledger, 1) for _ in range(3)]
        for id in ids:
            await runtime.ledger.redis.zadd(runtime.ledger.keys.due, {f"{id}-0": 0})
        woken = list[str]()

        async def wake_again(lane: Lane, chunk: str, fence: int) -> None:
            await asyncio.sleep(0.05)
            woken.append(chunk)

        monkeypatch.setattr(runtime.queue, "wake_again", wake_again)
        reaping = asyncio.create_task(maintenance.reap(runtime))
        while not woken:
            await asyncio.sleep(0.01)
        reaping.cancel()
        await asyncio.wait([reaping])
        assert sorted(woken) == sorted(f"{id}-0" for id in ids)


async def test_a_slow_worker_that_is_woken_for_the_same_chunk_again_ends_both_jobs_without_an_error(
    monkeypatch: pytest.MonkeyPatch, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    started, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def deliver(_: Runtime, chunk: str) -> None:
        started.release()
        await go_on.wait()

    monkeypatch.setattr(lanes, "deliver", deliver)
    async with asyncio.timeout(20):
        await runtime.queue.wake(Lane.BULK, "c1-0", 7)
        await started.acquire()
        await runtime.queue.wake_again(Lane.BULK, "c1-0", 7)
        await started.acquire()
        go_on.set()
        while await runtime.ledger.report.queue_depth(Lane.BULK):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_worker_that_stops_waits_for_the_first_of_two_runs_of_a_job(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, ses: Simulator
) -> None:
    calls, go_on, left = list[str](), asyncio.Event(), list[int]()

    async def deliver(_: Runtime, chunk: str) -> None:
        calls.append(chunk)
        if len(calls) == 1:
            await go_on.wait()

    async def close(worker: Worker, jobs: Collection[asyncio.Task[Any]]) -> None:
        left.append(len(jobs))
        await closing(worker, jobs)

    closing = lanes._close
    monkeypatch.setattr(lanes, "deliver", deliver)
    monkeypatch.setattr(lanes, "_close", close)
    async with asyncio.timeout(20), running_worker(settings) as runtime:
        await runtime.queue.wake(Lane.BULK, "c1-0", 7)
        while not calls:
            await asyncio.sleep(0.01)
        await runtime.queue.wake_again(Lane.BULK, "c1-0", 7)
        while await runtime.ledger.report.queue_depth(Lane.BULK):  # the second run is over
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # arq forgets it
        asyncio.get_running_loop().call_later(0.5, go_on.set)
    assert (calls, left) == (["c1-0"] * 2, [0, 0])


async def test_a_job_in_redis_is_json_that_names_a_chunk_and_nothing_else(ledger: Ledger) -> None:
    await Queue(ledger.redis, ledger.keys).wake(Lane.BULK, "c2-7", 3)
    packed = await ledger.redis.getdel(ledger.keys.of_arq("arq:job:c2-7:3"))
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
        [server_binary(), "--port", "0", "--unixsocket", str(path), "--save", ""], stdout=subprocess.DEVNULL
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
    ("login", "why"), [("", "it wants a user and password"), (":wrong@", "it does not take this user and password")]
)
async def test_a_redis_that_wants_a_password_ends_commands_and_workers_with_one_sentence_at_once(login: str, why: str) -> None:
    server = RedisServer(options=("--requirepass", "sesame"))
    try:
        server.start()
        settings = Settings(redis_url=server.url.replace("://", f"://{login}"))
        sentence = f"cannot be used: {why}. Put the right user and password into MAILER_REDIS_URL"
        async with asyncio.timeout(20):
            with pytest.raises(RedisUnavailable, match=sentence):
                async with Mailer(settings):
                    pass
            with pytest.raises(RedisUnavailable, match=sentence):
                await serve(settings)
        client = connect(Settings(redis_url=server.url.replace("://", "://:sesame@")))
        assert (await client.info("stats"))["total_connections_received"] < 8, "it does not ask again and again"
        await disconnect(client)
    finally:
        server.remove()


async def test_a_redis_that_takes_no_more_clients_is_not_asked_for_ever() -> None:
    server = RedisServer(options=("--maxclients", "1"))
    server.start()
    settings = Settings(redis_url=server.url)
    first, second = connect(settings), connect(settings, retries=2)
    try:
        await first.ping()
        async with asyncio.timeout(5):
            with pytest.raises(RedisUnavailable, match="cannot be used: "):
                await ping(second, settings)
    finally:
        await disconnect(first)
        await disconnect(second)
        server.remove()


async def test_a_redis_whose_memory_is_full_is_told_with_what_to_do_and_without_what_was_to_be_stored(templates: Path) -> None:
    server = RedisServer(options=("--maxmemory", "2mb", "--maxmemory-policy", "noeviction"))
    server.start()
    try:
        async with Mailer(Settings(redis_url=server.url, templates_dir=templates)) as mailer, asyncio.timeout(10):
            client = connect(Settings(redis_url=server.url))
            with pytest.raises(OutOfMemoryError):
                await _fill(client)
            rows = [{"email": "a@example.org", "name": "Ana"}]
            with pytest.raises(RedisUnavailable) as single:
                await mailer.send(Email(to="a@example.org", from_="b@example.com", subject="s", text="t"))
            with pytest.raises(RedisUnavailable) as list_:
                await mailer.start_campaign(Campaign(name="June", from_="b@example.com", template="letter"), rows)
            sentence = (
                f"Redis at {server.url} cannot be used: its memory is full (maxmemory). Nothing was stored; give it more "
                "maxmemory, or keep lists and archives outside with MAILER_STORE_URL=file:… or s3:…; noeviction stays."
            )
            assert [str(single.value), str(list_.value)] == [sentence] * 2
            assert "content:" not in "".join(traceback.format_exception(list_.value)), "redis-py quotes the command"
            await client.config_set("maxmemory", 0)
            assert await mailer.campaigns() == []
            await disconnect(client)
    finally:
        server.remove()


async def test_a_list_that_was_not_read_to_its_end_gives_its_room_back_though_the_memory_is_full() -> None:
    server = RedisServer(options=("--maxmemory", "3mb", "--maxmemory-policy", "noeviction"))
    server.start()
    client = connect(Settings(redis_url=server.url))
    ledger, id = Ledger(client, "mailer"), new_campaign_id()
    try:
        await ledger.intake.plan_campaign(id, Spec(lane=Lane.BULK, from_address="a@example.com", content="none"))
        await ledger.intake.add_chunks(id, 0, [NewChunk([[1, "a@example.org", {}]], [Outcome.QUEUED], {})])
        with pytest.raises(OutOfMemoryError):
            await _fill(client)
        with pytest.raises(OutOfMemoryError):
            await _fill(client, 10)
        assert await ledger.intake.abandon_campaign(id, 0)
        assert not [key async for key in client.scan_iter(f"mailer:?:{id}-*")]
    finally:
        await disconnect(client)
        server.remove()


async def _fill(client: redis.asyncio.Redis, size: int = 50_000) -> None:
    for number in range(100_000):
        await client.set(f"something:{size}:{number}", bytes(size))


async def test_a_replica_and_a_user_who_may_not_write_are_told_as_what_they_are() -> None:
    server = RedisServer()
    server.start()
    settings = Settings(redis_url=server.url)
    client, other = connect(settings), connect(Settings(redis_url=server.url.replace("://", "://reader:x@")))
    try:
        await client.acl_setuser("reader", enabled=True, passwords=["+x"], keys=["*"], categories=["+@read"])
        with pytest.raises(NoPermissionError) as forbidden:
            await other.set("mailer:x", b"geheim")
        assert "this user may not do that: " in _explain(forbidden.value)
        assert "geheim" not in _explain(forbidden.value)
        await client.replicaof("127.0.0.1", "1")
        with pytest.raises(ReadOnlyError) as replica:
            await client.set("mailer:x", b"geheim")
        assert "it is a replica, which cannot be written to" in _explain(replica.value)
        assert "set MAILER_REDIS_URL to the master" in _explain(replica.value)
    finally:
        await disconnect(client)
        await disconnect(other)
        server.remove()


@pytest.mark.parametrize(
    ("answer", "why", "may_pass"),
    [
        ("LOADING Redis is loading the dataset in memory", "it is still loading its data", True),
        ("MISCONF Redis is configured to save RDB snapshots, but …", "it cannot write to its disk", True),
        ("MISCONF Errors writing to the AOF file: No space left on device", "it cannot write to its disk", True),
        ("BUSY Redis is busy running a script.", "a script has kept it busy for too long", True),
        ("NOREPLICAS Not enough good replicas to write.", "too few of its replicas are there", True),
        ("OOM command not allowed", "its memory is full (maxmemory)", True),
        ("ERR user_script:12:\r\n \x1b[31mx\x9b", "it answers: user_script:12: �[31mx�", False),
        ("NOPERM no permission", "this user may not do that: no permission", False),
    ],
)
@pytest.mark.parametrize("command", ["", "SET mailer:content:1 \x1b[2J a secret of pipeline caused error: more"])
def test_what_redis_answers_has_one_line_for_a_terminal_and_nothing_of_the_command(
    answer: str, why: str, may_pass: bool, command: str
) -> None:
    error = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]
    assert isinstance(error, RedisError)
    if command:  # as redis-py does in a pipeline
        redis.asyncio.client.Pipeline.annotate_exception(None, error, 1, [command])  # type: ignore[arg-type]
    if command and "\x1b" in answer:
        assert "secret" not in explain_redis(error)
        assert "\x1b" not in explain_redis(error)
    else:
        assert explain_redis(error) == why
    assert passes(error) is may_pass


@contextmanager
def sentinel(server: RedisServer, folder: Path, *lines: str) -> Iterator[str]:
    """The part of a URL that names one."""
    port, config = free_port(), folder / "sentinel.conf"
    watched = f"sentinel monitor main 127.0.0.1 {server.port} 1"
    config.write_text("\n".join([f"port {port}", "bind 127.0.0.1", watched, *lines, ""]))
    process = subprocess.Popen([server_binary(), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}/main/0"
    finally:
        process.terminate()
        process.wait()


async def test_sentinel_is_asked_for_the_master(server: RedisServer, tmp_path: Path, namespace: str) -> None:
    with sentinel(server, tmp_path) as place:
        settings = Settings(redis_url=f"redis+sentinel://{place}", namespace=namespace)
        async with asyncio.timeout(20):
            while True:
                try:
                    async with Mailer(settings) as mailer:
                        assert await mailer.campaigns() == []
                    return
                except RedisUnavailable:
                    await asyncio.sleep(0.1)


async def test_a_sentinel_that_wants_a_password_is_not_asked_for_ever(server: RedisServer, tmp_path: Path) -> None:
    with sentinel(server, tmp_path, "requirepass sesame") as place:
        settings = Settings(redis_url=f"redis+sentinel://{place}")
        async with asyncio.timeout(20):
            while True:
                client = connect(settings, retries=1)
                with pytest.raises(RedisUnavailable) as caught:
                    await ping(client, settings)
                await disconnect(client)
                if "it wants a user and password. Put " in str(caught.value):
                    return
                await asyncio.sleep(0.1)  # it is not up yet
