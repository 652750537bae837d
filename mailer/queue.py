"""The one module outside the worker that knows arq: connecting, and queueing wake-ups.

A wake-up names a chunk and nothing else. Its job id is the chunk's id with the fence that its next lease will follow, so
that there is one wake-up for each time the chunk may be taken: queueing it again while it waits does nothing, and queueing
the next one does not depend on arq having forgotten the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, WatchError

from .errors import ConfigError, RedisUnavailable
from .ledger.keys import Keys
from .message.email import Lane
from .redis.client import RedisClient
from .redis.commands import Patience, Patient, PatientPipeline, Tries
from .redis.connection import Era, open_pool
from .redis.errors import advise_redis, explain_redis, has_moved, is_refused, not_stored, passes
from .redis.url import parse, safe_url
from .settings import Settings
from .tasks import to_the_end

__all__ = [
    "APPLICATION_TIMEOUT_S",
    "COMMAND_TIMEOUT_S",
    "JOB",
    "Era",
    "Queue",
    "advise_redis",
    "call_timeout_s",
    "connect",
    "disconnect",
    "dump_job",
    "explain_redis",
    "for_arq",
    "has_moved",
    "is_refused",
    "load_job",
    "not_stored",
    "passes",
    "ping",
    "safe_url",
    "unavailable",
]

JOB = "deliver"
ARQ = "arq:"  # that all keys of arq begin with
APPLICATION_TIMEOUT_S = 5.0  # of a command to Redis, in which a fail-over or an outage is waited out
COMMAND_TIMEOUT_S = 15.0  # the same where a person waits: a fail-over by Sentinel takes 5 to 6 s
# What a Mailer has where it is given none.
call_timeout_s: ContextVar[float] = ContextVar("call_timeout_s", default=APPLICATION_TIMEOUT_S)


class Client(Patient, ArqRedis): ...  # type: ignore[misc]  # redis-py's stubs contradict each other


class _OfArq(Client):
    """What arq is given: its keys are put under the namespace. It says nothing but keys that begins as they do: the ids of its
    jobs are those of chunks, and their content is JSON."""

    names: Keys

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await super().execute_command(*_under(self.names, args), **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _PipelineOfArq:
        return _PipelineOfArq(self, transaction)


class _PipelineOfArq(PatientPipeline):
    def __init__(self, client: _OfArq, transaction: bool) -> None:
        super().__init__(client, transaction)
        self._names = client.names

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(*_under(self._names, args), **options)

    async def reset(self) -> None:
        """redis-py keeps the connection where it is cancelled while it takes back a WATCH."""
        try:
            await super().reset()  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            if self.connection is not None:
                connection, self.connection = self.connection, None
                await to_the_end(connection.disconnect(nowait=True))
                await to_the_end(self.connection_pool.release(connection))
            raise


def _under(keys: Keys, args: Sequence[Any]) -> list[Any]:
    return [keys.of_arq(arg) if isinstance(arg, str) and arg.startswith(ARQ) else arg for arg in args]


def for_arq(redis: Client, keys: Keys) -> ArqRedis:
    """The same connections, for arq."""
    client = _OfArq(pool_or_conn=redis.connection_pool, job_serializer=dump_job, job_deserializer=load_job)
    client.patience, client.names = redis.patience, keys
    return client


def dump_job(job: dict[str, Any]) -> bytes:
    """arq's default is pickle, with which whoever can write to Redis can run code in a worker."""
    return orjson.dumps(job, default=str)


def load_job(packed: bytes) -> dict[str, Any]:
    job = orjson.loads(packed)
    if not isinstance(job, dict):
        raise ValueError("not a job")
    return job


def connect(settings: Settings, *, retries: int = 3, timeout: float | None = None, era: Era | None = None) -> Client:
    """A client with a pool of its own. Nothing is connected before the first command. Raises ConfigError.

    `retries` is how often a command is repeated when the connection breaks: every script of the ledger may be repeated; with 0
    a fail-over is not waited out either. `timeout`: seconds after which a command fails, all its tries together; after one that
    was not answered at all the next ones fail sooner. `era`: of another client, to hear of a fail-over what that one hears.
    """
    era = era or Era()
    try:
        url = parse(settings.redis_url)
        pool = open_pool(url, era, timeout=timeout)
    except ValueError as error:
        raise ConfigError(where="MAILER_REDIS_URL", why=str(error)) from None
    client = Client(pool_or_conn=pool)
    client.patience = Patience(retries=retries, timeout=timeout, era=era, of_sentinels=url.of_sentinels)
    return client


async def disconnect(redis: RedisClient) -> None:
    """Close the client and its pool, which redis-py leaves open where it was given one."""
    await redis.aclose(close_connection_pool=True)
    manager = getattr(redis.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager else ():
        await sentinel.aclose()


async def ping(redis: RedisClient, settings: Settings) -> None:
    """Raises RedisUnavailable with one sentence."""
    try:
        await redis.ping()
    except (RedisError, OSError) as error:
        raise unavailable(error, settings) from None


def unavailable(error: BaseException, settings: Settings, *, known: str = "") -> RedisUnavailable:
    """`known`: what is known of the call that failed, half a sentence."""
    do = "; ".join(filter(None, (known, advise_redis(error))))
    return RedisUnavailable(url=safe_url(settings.redis_url), why=explain_redis(error), do=do[0].upper() + do[1:])


class Queue:
    def __init__(self, redis: Client, keys: Keys) -> None:
        self._redis = for_arq(redis, keys)
        self._patience = redis.patience
        self._keys = keys

    async def wake_again(self, lane: Lane, chunk: str, fence: int) -> None:
        """A wake-up that was queued has not led to a lease, so whoever took it is gone. arq would leave the job to that worker
        until its time is over; if it is only slow, there are two, and the lease is one's."""
        await self._redis.delete(f"{in_progress_key_prefix}{chunk}:{fence}")
        await self.wake(lane, chunk, fence)

    async def wake(self, lane: Lane, chunk: str, fence: int = 0) -> None:
        """Queue the wake-up for the lease that follows `fence`."""
        job_id, queue = f"{chunk}:{fence}", self._keys.queue(lane)
        if await self._enqueue(chunk, job_id, queue):
            return
        # arq has it already. Where the queue has not, because that was lost alone, arq would never run it nor take it anew.
        if await self._redis.zscore(queue, job_id) is None:
            await self._redis.delete(job_key_prefix + job_id)
            await self._enqueue(chunk, job_id, queue)

    async def _enqueue(self, chunk: str, job_id: str, queue: str) -> bool:
        """False where arq has it already. It watches the job's key, and under a watch no command is repeated by itself."""
        tries = Tries(self._patience)
        while True:
            try:
                return await self._redis.enqueue_job(JOB, chunk, _job_id=job_id, _queue_name=queue) is not None
            except WatchError as error:  # the connection broke
                await tries.failed(RedisConnectionError(str(error)))
            except RedisError as error:
                await tries.failed(error, again=has_moved(error))

    async def wake_all(self, lane: Lane, chunks: Sequence[str]) -> None:
        for chunk in chunks:
            await self.wake(lane, chunk)
