"""A command to Redis: how long it is repeated, and what its error says of what can have been stored."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, OutOfMemoryError, RedisError

from mailer import Email, Mailer, Settings
from mailer.cli.processes import free_port
from mailer.errors import MaybeStored
from mailer.queue import connect, disconnect, not_stored
from mailer.redis.commands import SILENT_FOR_S, Patience, Tries
from mailer.redis.connection import is_transient

from ..crash.proxy import RedisWire, Stop, Watch, What, When, proxy
from ..servers import RedisServer


@asynccontextmanager
async def client(url: str, **more: Any) -> AsyncIterator[Any]:
    client = connect(Settings(redis_url=url), **more)
    yield client
    await disconnect(client)


async def raised_by(step: Awaitable[Any]) -> RedisError:
    with pytest.raises(RedisError) as raised:
        await step
    return raised.value


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """It hangs: connections are made by the system, and nothing is answered."""
    server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send_signal(signal.SIGCONT)


async def no_process() -> None: ...


@asynccontextmanager
async def cut(server: RedisServer, *stops: Stop, **more: Any) -> AsyncIterator[tuple[Watch, Any]]:
    watch = Watch(no_process, *stops)
    async with proxy(watch, RedisWire, server.url) as url, client(url, **more) as redis:
        yield watch, redis


# ---- what can have been stored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 1.0])
async def test_where_nobody_could_be_connected_to_nothing_was_stored(timeout: float | None) -> None:
    urls = [f"redis://127.0.0.1:{free_port()}/0", "redis://no-such-host.invalid/0", "unix:///no/such.sock"]
    for url in urls:
        async with client(url, timeout=timeout) as redis:
            assert not_stored(await raised_by(redis.set("t:x", 1))), url
            async with redis.pipeline(transaction=True) as pipe:
                pipe.set("t:x", 1)
                assert not_stored(await raised_by(pipe.execute())), url


async def test_a_time_out_before_the_connection_was_made_stored_nothing() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(full.getsockname())  # what waits to be accepted is as much as may
            async with client(f"redis://127.0.0.1:{full.getsockname()[1]}/0", retries=0, timeout=0.5) as redis:
                assert not_stored(await raised_by(redis.set("t:x", 1)))


async def test_what_redis_refuses_is_not_stored() -> None:
    server = RedisServer(options=("--requirepass", "sesame", "--maxmemory", "1", "--maxmemory-policy", "noeviction"))
    server.start()
    try:
        async with client(server.url) as redis:
            error = await raised_by(redis.set("t:x", 1))
            assert isinstance(error, AuthenticationError)
            assert not_stored(error)
        async with client(server.url.replace("://", "://:sesame@")) as redis:
            error = await raised_by(redis.set("t:x", 1))
            assert isinstance(error, OutOfMemoryError)
            assert not_stored(error)
            async with redis.pipeline(transaction=True) as pipe:
                pipe.set("t:x", 1)
                assert not_stored(await raised_by(pipe.execute()))
    finally:
        server.remove()


@pytest.mark.parametrize("when", [When.BEFORE, When.LOST, When.HALF])
async def test_a_command_that_went_out_and_was_not_answered_may_be_stored(server: RedisServer, when: When) -> None:
    stops = [Stop(name="set", when=when, nth=nth, what=What.CUT) for nth in range(1, 5)]
    async with cut(server, *stops) as (_, redis):
        assert not not_stored(await raised_by(redis.set("t:x", 1)))


async def test_an_answer_that_was_lost_is_not_forgotten_when_redis_cannot_be_connected_to_then(server: RedisServer) -> None:
    async with cut(server, Stop(name="set", when=When.LOST, what=What.APART)) as (_, redis):
        assert not not_stored(await raised_by(redis.set("t:x", 1)))
        assert not not_stored(await raised_by(redis.set("t:x", 1))), "the proxy takes the connection, and the command"


async def test_an_answer_that_was_lost_is_not_forgotten_when_redis_refuses_the_repetition(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as admin:
        admin.acl_setuser("writer", enabled=True, nopass=True, keys=["*"], commands=["+set", "+ping"])
        url = server.url.replace("://", "://writer:x@")
        watch = Watch(no_process, Stop(name="set", when=When.LOST, what=What.CUT))
        async with proxy(watch, RedisWire, server.url) as way, client(way.replace("://", "://writer:x@")) as writer:
            waiting = asyncio.ensure_future(writer.set("t:x", 1))
            while "set" not in watch.asked:
                await asyncio.sleep(0.001)
            admin.acl_setuser("writer", enabled=True, commands=["-set"])
            error = await raised_by(waiting)
            assert isinstance(error, NoPermissionError)
            assert not not_stored(error)
            async with client(url) as other:
                assert not_stored(await raised_by(other.set("t:x", 1)))


async def test_a_command_that_a_redis_does_not_answer_in_time_may_be_stored(own_server: RedisServer) -> None:
    async with client(own_server.url, timeout=0.5) as redis:
        await redis.ping()
        with stopped(own_server):
            assert not not_stored(await raised_by(redis.set("t:x", 1)))
        assert await redis.get("t:x") in (b"1", None)


async def test_a_script_that_fails_on_its_way_has_stored_a_part(server: RedisServer) -> None:
    async with client(server.url) as redis:
        for failing in ("redis.call('INCR', KEYS[1])", "error('mistake')"):
            error = await raised_by(redis.eval(f"redis.call('SET', KEYS[1], 'text') {failing}", 1, "t:x"))
            assert not not_stored(error)
        assert await redis.getdel("t:x") == b"text"


def test_of_an_error_that_is_not_of_a_command_nobody_says_that_nothing_was_stored() -> None:
    assert not not_stored(redis.ConnectionError())
    assert not not_stored(ValueError())


# ---- how long it takes --------------------------------------------------------------------------------------------------


async def test_on_a_redis_that_hangs_a_call_ends_within_its_time_and_the_next_ones_sooner(
    own_server: RedisServer, namespace: str
) -> None:
    settings = Settings(redis_url=own_server.url, namespace=namespace)
    letter = Email(to="ana@example.org", from_="news@example.com", subject="Hello", text="Hello")
    async with Mailer(settings, timeout=1.5) as mailer:
        await mailer.send(letter)
        with stopped(own_server):
            took = [await _took(lambda: mailer.send(letter)) for _ in range(3)]
        assert 1.4 < took[0] < 2.5
        assert max(took[1:]) < 1.2
        with stopped(own_server):
            await asyncio.sleep(SILENT_FOR_S)
            assert await _took(lambda: mailer.send(letter)) > 1.4, "a moment later it has all of its time"
        await mailer.send(letter)  # it answers again
        with stopped(own_server):
            assert await _took(lambda: mailer.send(letter)) > 1.4, "and has all of its time again"


async def _took(step: Callable[[], Awaitable[Any]]) -> float:
    began = time.monotonic()
    with pytest.raises((RedisError, MaybeStored)):
        await step()
    return time.monotonic() - began


async def test_an_outage_is_waited_out_where_redis_has_answered_before(own_server: RedisServer) -> None:
    async with client(own_server.url, timeout=10) as redis:
        await redis.set("t:x", 1)
        own_server.stop(signal.SIGKILL)
        waiting = asyncio.ensure_future(redis.get("t:x"))
        await asyncio.sleep(1.5)  # more than some tries take
        own_server.start()
        assert await waiting in (b"1", None)


async def test_a_redis_that_was_never_there_is_told_soon() -> None:
    began = time.monotonic()
    async with client(f"redis://127.0.0.1:{free_port()}/0", timeout=15) as redis:
        await raised_by(redis.ping())
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("error", "may"), [(AuthenticationError(), False), (redis.ConnectionError(), True), (BusyLoadingError(), True)]
)
async def test_a_connection_that_broke_is_made_again_and_a_password_that_was_refused_is_not(error: RedisError, may: bool) -> None:
    assert is_transient(error) is may
    tries = Tries(Patience(retries=1))
    if may:
        await tries.failed(error)
    with pytest.raises(type(error)):
        await Tries(Patience(retries=0)).failed(error)
