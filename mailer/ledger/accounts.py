"""What the service knows of its AWS account, shared by all processes: the last GetAccount and what was admitted since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from .keys import Keys
from .redis import RedisClient

_REFRESH_LOCK_S = 15  # longer than one GetAccount with its retries


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAccount:
    """`refreshed_at` is Redis's clock."""

    region: str
    production: bool
    sending_enabled: bool
    enforcement: str
    max_send_rate: float
    max_24h: float
    sent_24h: float  # SES's count at the last refresh
    admitted: int  # handed to SES since
    refreshed_at: datetime

    @property
    def used_24h(self) -> float:
        return self.sent_24h + self.admitted


class Accounts:
    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def may_refresh(self, account: str, every_s: float) -> bool:
        """True for one process of all, and not more often than `every_s` seconds."""
        found = await self._redis.hget(self._keys.account(account), "refreshed_at")
        seconds, micros = await self._redis.time()
        if found and seconds + micros / 1e6 - float(found) / 1000 < every_s:
            return False
        lock = self._keys.account(account) + ":refreshing"
        return bool(await self._redis.set(lock, 1, nx=True, ex=_REFRESH_LOCK_S))

    async def give_up_refresh(self, account: str) -> None:
        await self._redis.delete(self._keys.account(account) + ":refreshing")

    async def admitted(self, account: str) -> int:
        return int(await self._redis.hget(self._keys.account(account), "admitted") or 0)

    async def store(self, account: str, fields: Mapping[str, str | float | int], *, counted: int) -> None:
        """Store what GetAccount said. `counted` is what `admitted` was before it was asked: that is in its count now."""
        seconds, micros = await self._redis.time()
        key = self._keys.account(account)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping={**fields, "refreshed_at": seconds * 1000 + micros // 1000, "trouble": ""})
            pipe.hincrby(key, "admitted", -counted)
            pipe.delete(key + ":refreshing")
            await pipe.execute()

    async def trouble(self, account: str, reason: str) -> None:
        """GetAccount failed: keep why, so that what waits can say so."""
        key = self._keys.account(account)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, "trouble", reason)
            pipe.delete(key + ":refreshing")
            await pipe.execute()

    async def why_stale(self, account: str) -> str:
        found = await self._redis.hget(self._keys.account(account), "trouble")
        return found.decode() if found else ""

    async def load(self, account: str) -> KnownAccount | None:
        found = {k.decode(): v.decode() for k, v in (await self._redis.hgetall(self._keys.account(account))).items()}
        if "refreshed_at" not in found:
            return None
        return KnownAccount(
            region=found["region"],
            production=found["production"] == "1",
            sending_enabled=found["sending_enabled"] == "1",
            enforcement=found["enforcement"],
            max_send_rate=float(found["max_send_rate"]),
            max_24h=float(found["max_24h"]),
            sent_24h=float(found["sent_24h"]),
            admitted=int(found.get("admitted", 0)),
            refreshed_at=datetime.fromtimestamp(int(found["refreshed_at"]) / 1000, UTC),
        )
