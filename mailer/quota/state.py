"""What the service knows of its AWS account, shared by all processes: the last GetAccount and what was admitted since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ..ledger import Ledger
from ..redis.scripts import flat

SLOT_S = 360  # of the history; as in lua/lib/places.lua
DAY_SLOTS = 86_400 // SLOT_S
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
    suppressed_reasons: frozenset[str]  # of SES's suppression list, those that hold: BOUNCE, COMPLAINT
    since: int  # recipients handed to SES that are not in that count
    refreshed_at: datetime
    doubted: bool = False  # what answers is not SES; nothing is sent before GetAccount has answered

    @property
    def used_24h(self) -> float:
        return self.sent_24h + self.since


class AccountStates:
    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._keys = ledger.keys
        self._scripts = ledger.scripts.of("mailer.quota")

    async def may_refresh(self, account: str, every_s: float) -> bool:
        """True for one process of all, and not more often than `every_s` seconds."""
        found, doubted = await self._redis.hmget(self._keys.account(account), "refreshed_at", "doubted")
        # Where it was read in the future, the clock was set back.
        if found and not doubted and 0 <= await self.now_s() - float(found) / 1000 < every_s:
            return False
        lock = self._keys.account(account) + ":refreshing"
        return bool(await self._redis.set(lock, 1, nx=True, ex=_REFRESH_LOCK_S))

    async def now_s(self) -> float:
        """Redis's clock, in seconds since the epoch."""
        return await self._scripts.now_ms() / 1000

    async def give_up_refresh(self, account: str) -> None:
        await self._redis.delete(self._keys.account(account) + ":refreshing")

    async def answered(self, account: str) -> int:
        """Recipients of calls that SES has answered so far."""
        return int(await self._redis.hget(self._keys.account(account), "answered") or 0)

    async def store(self, account: str, fields: Mapping[str, str | float | int], *, answered: int) -> None:
        """Store what GetAccount said. `answered` is what that was before it was asked: SES's count has those in it."""
        await self._scripts.run("refresh", [self._keys.account(account)], answered, *flat(fields))

    async def doubt(self, account: str, reason: str) -> None:
        """What answers is not SES. Nothing is sent before GetAccount has answered."""
        await self._redis.hset(self._keys.account(account), mapping={"doubted": 1, "trouble": reason})

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

    async def rate(self, account: str, lower_rate: float | None) -> float:
        """Recipients per second that all processes together use at present, at most."""
        keys = [self._keys.account(account), self._keys.limiter(account)]
        return float(await self._scripts.run("rate", keys, "" if lower_rate is None else lower_rate))

    async def history(self, account: str) -> dict[int, int]:
        """Recipients that SES accepted from us, by slot of SLOT_S since 1970; a day of them, and a little more."""
        found = await self._redis.hgetall(self._keys.history(account))
        return {int(slot): int(n) for slot, n in found.items()}

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
            suppressed_reasons=frozenset(filter(None, found.get("suppressed_reasons", "").split(","))),
            since=max(0, int(found.get("admitted", 0)) - int(found.get("base", 0))),
            refreshed_at=datetime.fromtimestamp(int(found["refreshed_at"]) / 1000, UTC),
            doubted="doubted" in found,
        )
