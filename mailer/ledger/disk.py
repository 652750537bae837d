"""Waiting until what was stored is in Redis's append-only file, and on its disk.

WAITAOF waits for the writes of its own connection up to the last one. Places in the append-only file grow over all connections,
so a write that comes after all others, and WAITAOF behind it on the same connection, stand for everything that was written
before: also for what other connections wrote, and for what an earlier call with the same idempotency key did. A server that
was started anew in between may have forgotten something that this would not notice; its run id tells.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ..errors import ConfigError, NotOnDisk, StartedAnew
from ..redis.client import RedisClient
from ..redis.errors import explain_redis
from .keys import Keys

WAIT_MS = 4000  # less than a command may take; `appendfsync everysec` takes one second, two where the disk is slow
MARK_S = 60  # the write that WAITAOF waits for is a key that stays so long

_SETTING = "MAILER_INTAKE_FSYNC"
_NO_FILE = "Redis writes no append-only file; start it with `appendonly yes`, or unset the setting"
_TOO_OLD = (
    "this Redis has no WAITAOF, which Redis and Valkey have since 7.2, and its `appendfsync` is not `always`, as far as can be "
    "seen; use a newer one, set `appendfsync always`, or unset the setting"
)


class _Synced(NamedTuple):
    run: str  # the server's run id
    why: str = ""  # it is not known to be on the disk


class Disk:
    """That of one Redis, as one process asks for it: all who wait at the same time wait together."""

    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._by_itself: bool | None = None  # every write is on the disk before it is answered; None: not asked yet
        self._asking = asyncio.Lock()
        self._running: asyncio.Task[_Synced] | None = None
        self._next: asyncio.Task[_Synced] | None = None

    async def began(self) -> str:
        """What `confirm` is to be given, asked for before anything is written. Raises ConfigError where the server cannot say
        what is on its disk."""
        async with self._asking:
            if self._by_itself is None:
                self._by_itself = await self._is_by_itself()
        return await self._run_id()

    async def _run_id(self) -> str:
        return str((await self._redis.info("server")).get("run_id", ""))

    async def _is_by_itself(self) -> bool:
        try:
            await self._redis.execute_command("WAITAOF", 1, 0, 1)  # nothing was written on this connection: answered at once
        except NoPermissionError:
            raise ConfigError(
                where=_SETTING, why="this user of Redis may not run WAITAOF; allow it: ACL SETUSER … +waitaof"
            ) from None
        except ResponseError as error:
            if "appendonly" in str(error):
                raise ConfigError(where=_SETTING, why=_NO_FILE) from None
            return await self._is_always()
        return False

    async def _is_always(self) -> bool:
        if not (await self._redis.info("persistence")).get("aof_enabled"):
            raise ConfigError(where=_SETTING, why=_NO_FILE)
        try:
            policy = (await self._redis.config_get("appendfsync")).get("appendfsync")
        except ResponseError:  # whoever runs it for us forbids CONFIG
            policy = None
        if policy != "always":
            raise ConfigError(where=_SETTING, why=_TOO_OLD)
        return True

    async def confirm(self, id: str, began: str) -> None:
        """Return when everything that was written before is on the disk. Raises NotOnDisk, StartedAnew."""
        if self._by_itself:
            return
        if self._next is None:
            self._next = asyncio.create_task(self._sync(self._running))
        found = await asyncio.shield(self._next)
        if found.run != began and not found.why:
            raise StartedAnew(id=id)
        if found.why:
            raise NotOnDisk(id=id, why=found.why)

    async def _sync(self, running: asyncio.Task[_Synced] | None) -> _Synced:
        """Once the one that is under way is over: what comes while one waits is for the next."""
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        timeout = self._redis.patience.timeout
        wait_ms = WAIT_MS if timeout is None else min(WAIT_MS, int(timeout * 800))
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.info("server")
                pipe.set(self._keys.mark, 1, ex=MARK_S)
                pipe.execute_command("WAITAOF", 1, 0, wait_ms)
                server, _, (here, _) = await pipe.execute()
        except (RedisError, OSError) as error:
            return _Synced("", f"Redis did not say that it is on its disk ({explain_redis(error)})")
        why = "" if here else f"Redis has not written it to its disk within {wait_ms / 1000:g} s"
        return _Synced(str(server.get("run_id", "")), why)

    async def close(self) -> None:
        for task in (self._running, self._next):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
