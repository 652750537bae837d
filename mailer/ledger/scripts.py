"""The Lua scripts, each with a typed wrapper. Every one runs atomically in Redis, in one round trip, on Redis's clock.

They take lists of keys of one installation, so they run on one Redis (or one Sentinel set), not on a Cluster.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from ..email import Outcome, State
from ..ids import container_of
from .keys import Keys
from .records import MESSAGE_ID_BYTES, Mode, pack_message_id
from .redis import RedisClient

_NO_ID = bytes(MESSAGE_ID_BYTES)


class LeaseStatus(StrEnum):
    OK = "ok"
    BUSY = "busy"  # another worker holds it
    OVER = "over"  # nothing in it is open
    GONE = "gone"  # Redis does not know it any more
    HALTED = "halted"  # its campaign is paused, stopped, cancelled or not started


class ClaimStatus(StrEnum):
    OK = "ok"
    LOST = "lost"  # the lease is over; another worker may have the chunk
    CONFLICT = "conflict"  # a recipient is not queued: a defect, never a race
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class Lease:
    status: LeaseStatus
    fence: int  # grows with every lease of the chunk; every later script checks it
    records: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one claimed recipient. QUEUED puts it back; `failed` counts that against its attempts."""

    position: int
    attempt: int
    outcome: Outcome
    message_id: str | None = None
    reason: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    late: int  # rows that had been settled before
    closed: bool  # nothing in the chunk is open any more
    finished: bool  # nor in its campaign


class Scripts:
    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._keys = keys
        folder = files(__package__) / "lua"
        common = (folder / "common.lua").read_text()
        self._script = {
            name: redis.register_script(common + (folder / f"{name}.lua").read_text())
            for name in ("admit", "claim", "feed", "halt", "lease", "reap", "release", "renew", "settle", "start")
        }

    async def _run(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        return await self._script[name](keys=keys, args=args)

    def _chunk_keys(self, chunk: str) -> list[str]:
        k, container = self._keys, container_of(chunk)
        return [
            k.container(container),
            k.chunk(chunk),
            k.records(chunk),
            k.window(container),
            k.details(chunk),
            k.message_ids(chunk),
            k.payload(chunk),
            k.due,
            k.doubt,
        ]

    async def lease(self, chunk: str, *, owner: str, lease_ms: int) -> Lease:
        """Take the chunk. O(recipients in it). Claims without a settle become `unknown` here."""
        status, fence, records = await self._run("lease", self._chunk_keys(chunk), chunk, owner, lease_ms)
        text = status.decode()
        known = text if text in LeaseStatus.__members__.values() else LeaseStatus.HALTED
        return Lease(LeaseStatus(known), int(fence), records)

    async def renew(self, chunk: str, *, fence: int, lease_ms: int) -> bool:
        """Heartbeat; False when the lease is lost. O(1)."""
        return bool(await self._run("renew", [self._keys.chunk(chunk), self._keys.due], chunk, fence, lease_ms))

    async def release(self, chunk: str, *, fence: int, delay_ms: int = 0) -> bool:
        """Give the chunk back, to be looked at after the delay; True when work is left in it. O(1)."""
        return bool(await self._run("release", [self._keys.chunk(chunk), self._keys.due], chunk, fence, delay_ms))

    async def claim(self, chunk: str, *, fence: int, mode: Mode, rows: Sequence[tuple[int, int]]) -> ClaimStatus:
        """Claim all (position, attempt) rows or none. O(recipients claimed). May be repeated when its answer was lost."""
        packed = b"".join(struct.pack(">HH", position, attempt) for position, attempt in rows)
        status = (await self._run("claim", self._chunk_keys(chunk)[:3], fence, mode.value, packed)).decode()
        return ClaimStatus(status if status in ClaimStatus.__members__.values() else ClaimStatus.HALTED)

    async def settle(self, chunk: str, settlements: Sequence[Settlement]) -> Settled:
        """Store the results of a claim. O(recipients settled). May be repeated; needs no lease."""
        rows, ids = bytearray(), bytearray()
        details: list[str | int] = []
        for s in settlements:
            rows += struct.pack(">HHcB", s.position, s.attempt, s.outcome.value.encode(), s.failed)
            packed = pack_message_id(s.message_id) if s.message_id else None
            ids += packed or _NO_ID
            if s.message_id and packed is None:
                details += [f"i{s.position}", s.message_id]
            if s.reason:
                details += [s.position, s.reason]
        late, closed, finished = await self._run("settle", self._chunk_keys(chunk), chunk, bytes(rows), bytes(ids), *details)
        return Settled(int(late), bool(closed), bool(finished))

    async def start(self, container: str, *, rows: int, chunks: int, counts: Mapping[Outcome, int]) -> str:
        """Let a planned campaign run; its state afterwards. May be repeated. O(1)."""
        pairs = [part for outcome, n in counts.items() for part in (outcome.value, n)]
        return str((await self._run("start", [self._keys.container(container)], rows, chunks, *pairs)).decode())

    async def feed(self, container: str, *, window: int, patience_ms: int) -> list[str]:
        """Fill the campaign's window; the ids of the chunks that were added. O(window)."""
        k = self._keys
        added = await self._run("feed", [k.container(container), k.window(container), k.due], container, window, patience_ms)
        return [f"{container}-{int(number)}" for number in added]

    async def reap(self, *, limit: int, patience_ms: int) -> list[tuple[str, int]]:
        """Chunks that are due, each with its fence. Handed to one caller only. O(log(due) + limit)."""
        found = await self._run("reap", [self._keys.due], limit, patience_ms, self._keys.chunk(""))
        return [(found[i].decode(), int(found[i + 1])) for i in range(0, len(found), 2)]

    async def halt(self, container: str, *, to: State, reason: str, allowed: Sequence[State]) -> str:
        """Change a container's state where it is one of `allowed`; the state afterwards. O(1)."""
        return str((await self._run("halt", [self._keys.container(container)], to.value, reason, *allowed)).decode())

    async def admit(self, account: str, *, n: int, horizon_ms: int, lower_rate: float | None, stale_ms: int) -> tuple[str, int]:
        """May n recipients go, and in how many ms? See admit.lua for the words. O(1)."""
        keys = [self._keys.account(account), self._keys.rate(account)]
        status, ms = await self._run("admit", keys, n, horizon_ms, "" if lower_rate is None else lower_rate, stale_ms)
        return status.decode(), int(ms)
