"""The workers that are alive: each says so every few seconds, and is forgotten when it does not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from ..message.email import Lane
from ..redis.client import RedisClient
from .keys import Keys

LIFE_S = 20  # after its last heartbeat
MOST = 1000  # that are read
MAX_DOING = 200  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeen:
    """A worker's last heartbeat. Times are of Redis's clock, but `since`, which is of the worker's machine."""

    owner: str  # the name of the process in leases
    host: str
    pid: int
    lanes: tuple[Lane, ...]  # that it is to serve
    serving: tuple[Lane, ...]  # whose queue it reads right now
    version: str
    since: datetime
    doing: str
    seen_at: datetime


class Workers:
    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def beat(self, worker: WorkerSeen) -> None:
        """Two commands' worth of work; keys of workers that are gone end by themselves."""
        seen_ms = int(worker.seen_at.timestamp() * 1000)
        packed = orjson.dumps(worker)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.worker(worker.owner), packed, ex=LIFE_S)
            pipe.zadd(self._keys.workers, {worker.owner: seen_ms})
            pipe.zremrangebyscore(self._keys.workers, "-inf", seen_ms - LIFE_S * 1000)
            await pipe.execute()

    async def leave(self, owner: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._keys.worker(owner))
            pipe.zrem(self._keys.workers, owner)
            await pipe.execute()

    async def alive(self) -> list[WorkerSeen]:
        """By host and process; MOST of them at most."""
        owners = await self._redis.zrange(self._keys.workers, 0, MOST - 1)
        async with self._redis.pipeline(transaction=False) as pipe:
            for owner in owners:
                pipe.get(self._keys.worker(owner.decode()))
            found = await pipe.execute()
        return sorted((_load(packed) for packed in found if packed), key=lambda one: (one.host, one.pid))


def _load(packed: bytes) -> WorkerSeen:
    fields = orjson.loads(packed)
    for name in ("lanes", "serving"):
        fields[name] = tuple(map(Lane, fields[name]))
    for name in ("since", "seen_at"):
        fields[name] = datetime.fromisoformat(fields[name]).astimezone(UTC)
    return WorkerSeen(**fields)


def served(workers: Iterable[WorkerSeen]) -> dict[Lane, int]:
    """How many serve each lane."""
    found = dict.fromkeys(Lane, 0)
    for worker in workers:
        for lane in worker.serving:
            found[lane] += 1
    return found


def nobody_serves(lanes: Collection[Lane]) -> str:
    """The sentence about lanes that have work and no worker."""
    names = " and the ".join(f"{lane.value} lane" for lane in Lane if lane in lanes)
    only = "" if len(lanes) != 1 else f", with {next(iter(lanes)).value} in its MAILER_LANES"
    return f"no worker serves the {names}, so nothing of it is sent; start one (mailer worker){only}"


def said(workers: Sequence[WorkerSeen], most: int = 3) -> str:
    """Where they run, some of them by name."""
    some = [f"{one.host}:{one.pid} ({', '.join(lane.value for lane in one.serving) or 'no lane'})" for one in workers[:most]]
    more = len(workers) - len(some)
    return ", ".join(some) + (f" and {more:,} more" if more > 0 else "")
