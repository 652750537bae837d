"""The one module outside the worker that knows arq: connecting, and queueing wake-ups.

A wake-up names a chunk and nothing else. Its job id is the chunk's id with the fence that its next lease will follow, so
that there is one wake-up for each time the chunk may be taken: queueing it again while it waits does nothing, and queueing
the next one does not depend on arq having forgotten the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .email import Lane
from .errors import ConfigError, RedisUnavailable
from .ledger.keys import Keys
from .ledger.redis import RedisClient
from .settings import Settings

JOB = "deliver"
SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
MAX_CONNECTIONS = 64
POOL_TIMEOUT_S = 20  # wait for a free connection


class _Sends(AbstractConnection):
    """A connection that writes without `asyncio.wait_for`.

    redis-py 5.3 makes a task of every write by it, which on Python 3.11 can swallow a cancellation: a worker would not
    stop on SIGTERM, nor a command on Ctrl-C. Writing under `asyncio.timeout` loses none, and is a tenth faster.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        elif check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        if isinstance(command, str):
            command = command.encode()
        writer: Any = self._writer
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([command] if isinstance(command, bytes) else command)
                await writer.drain()
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)  # half a command may be on its way
            raise


class _TCP(_Sends, Connection): ...


class _TLS(_Sends, SSLConnection): ...


class _Unix(_Sends, UnixDomainSocketConnection): ...


_CONNECTIONS = {Connection: _TCP, SSLConnection: _TLS, UnixDomainSocketConnection: _Unix}


def dump_job(job: dict[str, Any]) -> bytes:
    """arq's default is pickle, with which whoever can write to Redis can run code in a worker."""
    return orjson.dumps(job, default=str)


def load_job(packed: bytes) -> dict[str, Any]:
    job = orjson.loads(packed)
    if not isinstance(job, dict):
        raise ValueError("not a job")
    return job


def connect(settings: Settings, *, retries: int = 3) -> ArqRedis:
    """A client with a pool of its own. Nothing is connected before the first command.

    `retries` is how often a command is repeated when the connection breaks: every script of the ledger may be repeated.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        "health_check_interval": 30,
    }
    arq: dict[str, Any] = {"job_serializer": dump_job, "job_deserializer": load_job}
    if settings.redis_url.startswith("redis+sentinel://"):
        sentinels, service, database, auth = _parse_sentinel(settings.redis_url)
        master = Sentinel(  # type: ignore[no-untyped-call]
            sentinels, sentinel_kwargs={**options, **auth}, **options, **auth, db=database
        ).master_for(service, redis_class=Redis)
        return ArqRedis(pool_or_conn=master.connection_pool, **arq)
    try:
        options |= parse_url(settings.redis_url)
    except ValueError as error:
        raise ConfigError(where="MAILER_REDIS_URL", why=str(error)) from None
    options["connection_class"] = _CONNECTIONS[options.get("connection_class", Connection)]
    pool = BlockingConnectionPool(max_connections=MAX_CONNECTIONS, timeout=POOL_TIMEOUT_S, **options)
    return ArqRedis(pool_or_conn=pool, **arq)


async def disconnect(redis: RedisClient) -> None:
    """Close the client and its pool, which redis-py leaves open where it was given one."""
    await redis.aclose(close_connection_pool=True)
    manager = getattr(redis.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager else ():
        await sentinel.aclose()


def _parse_sentinel(url: str) -> tuple[list[tuple[str, int]], str, int, dict[str, Any]]:
    """`redis+sentinel://[user:password@]host:port,host:port/service/db` → its parts. Raises ConfigError."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    database = database or parse_qs(parts.query).get("db", ["0"])[0]
    try:
        sentinels = [(host, int(port or 26379)) for host, _, port in (h.partition(":") for h in hosts.split(",") if h)]
        number = int(database)
    except ValueError:
        sentinels, number = [], 0
    if not sentinels or not service:
        raise ConfigError(where="MAILER_REDIS_URL", why="write redis+sentinel://host:port,host:port/service/db")
    user, _, password = login.partition(":")
    auth = {"username": unquote(user) or None, "password": unquote(password) or None} if login else {}
    return sentinels, service, number, auth


async def ping(redis: RedisClient, settings: Settings) -> None:
    """Raises RedisUnavailable with one sentence."""
    try:
        await redis.ping()
    except (RedisError, OSError) as error:
        raise RedisUnavailable(url=safe_url(settings.redis_url), why=explain_redis(error)) from None


def explain_redis(error: BaseException) -> str:
    text = str(error).strip().rstrip(".")
    if "Connect call failed" in text or "Connection refused" in text or "No such file" in text:
        return "nothing answers there"
    return text or type(error).__name__


def safe_url(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl() if "@" in parts.netloc else url


class Queue:
    def __init__(self, redis: ArqRedis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def wake_again(self, lane: Lane, chunk: str, fence: int) -> None:
        """A wake-up that was queued has not led to a lease, so whoever took it is gone. arq would leave the job to that worker
        until its time is over; if it is only slow, there are two, and the lease is one's."""
        await self._redis.delete(f"{in_progress_key_prefix}{chunk}:{fence}")
        await self.wake(lane, chunk, fence)

    async def wake(self, lane: Lane, chunk: str, fence: int = 0) -> None:
        """Queue the wake-up for the lease that follows `fence`."""
        job_id, queue = f"{chunk}:{fence}", self._keys.queue(lane)
        if await self._redis.enqueue_job(JOB, chunk, _job_id=job_id, _queue_name=queue) is not None:
            return
        # arq has it already. Where the queue has not, because that was lost alone, arq would never run it nor take it anew.
        if await self._redis.zscore(queue, job_id) is None:
            await self._redis.delete(job_key_prefix + job_id)
            await self._redis.enqueue_job(JOB, chunk, _job_id=job_id, _queue_name=queue)

    async def wake_all(self, lane: Lane, chunks: Sequence[str]) -> None:
        for chunk in chunks:
            await self.wake(lane, chunk)
