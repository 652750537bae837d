"""The one module outside the worker that knows arq: connecting, and queueing wake-ups.

A wake-up names a chunk and nothing else. Its job id is the chunk's id with the fence that its next lease will follow, so
that there is one wake-up for each time the chunk may be taken: queueing it again while it waits does nothing, and queueing
the next one does not depend on arq having forgotten the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
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
MAX_WORDS = 300  # characters of what Redis says

T = TypeVar("T")


class _Retry(Retry):
    """What Redis says of user and password it says again: redis-py counts it among the broken connections."""

    async def call_with_retry(self, do: Callable[[], Awaitable[T]], fail: Callable[[RedisError], Any]) -> T:
        async def failed(error: RedisError) -> None:
            await fail(error)
            if isinstance(error, AuthenticationError):
                raise error

        return await super().call_with_retry(do, failed)


class _Sends(AbstractConnection):
    """A connection that writes without `asyncio.wait_for`.

    redis-py 5.3 makes a task of every write by it, which on Python 3.11 can swallow a cancellation: a worker would not
    stop on SIGTERM, nor a command on Ctrl-C. Writing under `asyncio.timeout` loses none, and is a tenth faster.
    """

    _connecting = False

    async def connect(self) -> None:
        self._connecting = True
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        finally:
            self._connecting = False

    async def check_health(self) -> None:
        """Not while it is being connected: what fails then is repeated from within, a connection in each connection."""
        if not self._connecting:
            await super().check_health()  # type: ignore[no-untyped-call]

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()
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


class _Managed(_Sends, SentinelManagedConnection): ...


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
        "retry": _Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        "health_check_interval": 30,
    }
    arq: dict[str, Any] = {"job_serializer": dump_job, "job_deserializer": load_job}
    if settings.redis_url.startswith("redis+sentinel://"):
        sentinels, service, database, auth = _parse_sentinel(settings.redis_url)
        master = Sentinel(  # type: ignore[no-untyped-call]
            sentinels,
            sentinel_kwargs={**options, **auth, "health_check_interval": 0},
            **options,
            **auth,
            db=database,
            connection_class=_Managed,
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
        do = advise_redis(error)
        raise RedisUnavailable(url=safe_url(settings.redis_url), why=explain_redis(error), do=do[0].upper() + do[1:]) from None


class _Refusal(NamedTuple):
    """What Redis answers in place of doing what it is asked for."""

    code: str  # that the answer begins with, where redis-py has no class for it
    kind: type[RedisError]
    why: str
    do: str
    passes: bool = True  # without anybody changing what is asked for, or who asks


_ROOM = "give it more maxmemory, or keep lists and archives outside with MAILER_STORE_URL=file:… or s3:…; noeviction stays"
_REFUSALS = (
    _Refusal("", OutOfMemoryError, "its memory is full (maxmemory)", _ROOM),
    _Refusal("", BusyLoadingError, "it is still loading its data", "wait until it has"),
    _Refusal("", ReadOnlyError, "it is a replica, which cannot be written to", "set MAILER_REDIS_URL to the master"),
    _Refusal("MISCONF", ResponseError, "it cannot write to its disk", "see its log, and whether the disk is full"),
    _Refusal("NOREPLICAS", ResponseError, "too few of its replicas are there", "start them, or see min-replicas-to-write"),
    _Refusal("MASTERDOWN", ResponseError, "it is a replica without its master", "set MAILER_REDIS_URL to the master"),
    _Refusal("BUSY", ResponseError, "a script has kept it busy for too long", "wait until it is over, or see who runs it"),
)
_LOGIN = "put the right user and password into MAILER_REDIS_URL: redis://user:password@host:port/0"
_START = "start it, or set MAILER_REDIS_URL"


def _refusal(error: BaseException) -> _Refusal | None:
    of_sentinels = isinstance(error, MasterNotFoundError) and AuthenticationError.__name__ in str(error)
    if isinstance(error, AuthenticationError) or of_sentinels:
        asked = "required" in _words(error)
        why = "it wants a user and password" if asked else "it does not take this user and password"
        return _Refusal("", AuthenticationError, why, _LOGIN)
    if isinstance(error, NoPermissionError):
        do = "allow this user what `mailer doctor` names, or put another one into MAILER_REDIS_URL"
        return _Refusal("", NoPermissionError, f"this user may not do that: {_words(error)}", do, passes=False)
    for one in _REFUSALS:
        if isinstance(error, one.kind) and (not one.code or _words(error).split(" ")[0] == one.code):
            return one
    if isinstance(error, ResponseError):
        return _Refusal("", ResponseError, f"it answers: {_words(error)}", "see `mailer doctor`", passes=False)
    return None


def _words(error: BaseException) -> str:
    """What Redis said, on one line and without what a terminal would obey. redis-py puts the command that was refused before
    it, and in that is what recipients are to be sent."""
    text = str(error)
    if text.startswith("Command # "):
        _, said, rest = text.rpartition(" of pipeline caused error: ")
        text = rest.strip("(\"',)") if said else ""
    text = " ".join(text.split()).rstrip(".")[:MAX_WORDS]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def explain_redis(error: BaseException) -> str:
    """Why Redis does not do it: a part of a sentence. It never has anything of the command that was refused."""
    if refusal := _refusal(error):
        return refusal.why
    text = _words(error)
    if "Connect call failed" in text or "Connection refused" in text or "No such file" in text:
        return "nothing answers there"
    return text or type(error).__name__


def advise_redis(error: BaseException) -> str:
    """What to do about it: a part of a sentence."""
    refusal = _refusal(error)
    return refusal.do if refusal else _START


def is_refused(error: BaseException) -> bool:
    """Redis is there, and does not do what it is asked for."""
    return _refusal(error) is not None


def passes(error: BaseException) -> bool:
    """It may be asked for the same again: Redis is away, or refuses for a reason that is not in what it is asked for."""
    refusal = _refusal(error)
    return refusal is None or refusal.passes


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
