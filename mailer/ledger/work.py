"""What workers do with chunks: lease, claim, settle, release; and what events and policies say of recipients afterwards."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import StoreFailed
from ..ids import container_of
from ..message.email import Lane, Mode, Outcome
from ..redis.client import RedisClient
from ..redis.scripts import Scripts
from .archive import REASONS, Archive
from .keys import Keys, chunk_keys
from .lifecycle import Lifecycle
from .records import MESSAGE_ID_BYTES, MODE_BYTES, OUTCOMES, STATE_BYTES, Record, pack_message_id, unpack_records
from .sent_ids import Noting
from .spec import Entry, Spec, unpack_entries
from .store import Store

_NO_ID = bytes(MESSAGE_ID_BYTES)
_SAYS_NOTHING: Mapping[Lane, str] = MappingProxyType({})
STORE_S = 6.0  # a worker waits so long for a payload, well within its lease
STORE_PAUSE_MS = 10_000  # after which it asks again


class LeaseStatus(StrEnum):
    OK = "ok"
    BUSY = "busy"  # another worker holds it
    OVER = "over"  # nothing in it is open
    GONE = "gone"  # Redis does not know it any more
    EARLY = "early"  # its time to be sent has not come
    HALTED = "halted"  # its campaign is paused, stopped, cancelled or not started
    UNREAD = "unread"  # the store does not give its recipients; it waits for that


class ClaimStatus(StrEnum):
    OK = "ok"
    LOST = "lost"  # the lease is over; another worker may have the chunk
    CONFLICT = "conflict"  # a recipient is not queued: an event has just told that an earlier attempt was accepted
    EXPIRED = "expired"  # too late to be sent
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class Lease:
    status: LeaseStatus
    fence: int  # grows with every lease of the chunk; every later script checks it
    records: bytes
    now_ms: int  # Redis's clock
    starts: int = 0  # leases in a row whose worker was lost
    suspects: str = ""  # the positions that the last one was at, as `0-49`, or `all` where it was loading them
    deaths: int = 0  # in a row at those


@dataclass(frozen=True, slots=True)
class LeasedChunk:
    """A leased chunk. No two workers hold the same lease; `fence` is what proves it to every later script."""

    chunk: str
    fence: int
    spec: Spec
    created_ms: int
    entries: list[Entry]
    records: list[Record]
    now_ms: int  # Redis's clock, when it was leased
    starts: int = 0  # these three as in Lease
    suspects: str = ""
    deaths: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one claimed recipient. QUEUED puts it back; `failed` counts that against its attempts."""

    position: int
    attempt: int
    outcome: Outcome
    message_id: str | None = None
    reason: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the calls that settlements come from mean for the account's quota."""

    account: str
    recipients: int  # of the calls, which SES has answered
    accepted: int = 0  # of them
    place: str = ""  # theirs in the rate


_NOTHING_SENT = Sent(account="", recipients=0)


@dataclass(frozen=True, slots=True)
class Settled:
    late: int  # rows that had been settled before
    closed: bool  # nothing in the chunk is open any more
    finished: bool  # nor in its campaign
    twice: int = 0  # recipients that turned out to be sent to twice


class Manner(StrEnum):
    """How a recipient came to a state by an event, where that makes a difference: to what may follow, and to the guard."""

    PLAIN = "-"
    NOTICE = "n"  # BOUNCED: a notice that names no failure, as an automatic reply; a delivery is stronger
    SOFT = "s"  # BOUNCED: another message may get through
    UNTRIED = "x"  # BOUNCED or COMPLAINED: SES has not tried to deliver it
    DELAYED = "w"  # SENT: SES goes on trying to deliver it


class EventUpdate(NamedTuple):
    """What an event of SES says of one attempt: that it was accepted (SENT), and what came of it since."""

    position: int
    attempt: int
    outcome: Outcome  # SENT, DELIVERED, BOUNCED, COMPLAINED, REJECTED or FAILED
    message_id: str
    reason: str = ""
    manner: Manner = Manner.PLAIN


class Change(NamedTuple):
    chunk: str
    position: int
    was: Outcome
    now: Outcome


class Applied(NamedTuple):
    known: bool  # the chunk is one that Redis has
    twice: int  # recipients that turned out to be sent to twice
    changes: Sequence[Change]


class Work:
    def __init__(
        self,
        redis: RedisClient,
        keys: Keys,
        scripts: Scripts,
        lifecycle: Lifecycle,
        noting: Noting,
        store: Store,
        store_name: str,
        archive: Archive | None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._store = store
        self.archive = archive
        self._lifecycle = lifecycle
        self._noting = noting
        self._store_name = store_name

    # ---- lease ---------------------------------------------------------------------------------

    async def take(
        self, chunk: str, *, owner: str, lease_ms: int, doubt: Mapping[Lane, str] | None = None
    ) -> LeasedChunk | LeaseStatus:
        """Take a chunk to work on, or say why not. `doubt`: what becomes of recipients in doubt, by lane; a campaign is not
        finished while some of them are to be sent to again."""
        lease = await self.lease(chunk, owner=owner, lease_ms=lease_ms, doubt=doubt or {})
        return lease.status if lease.status is not LeaseStatus.OK else await self.load(chunk, lease)

    async def lease(self, chunk: str, *, owner: str, lease_ms: int, doubt: Mapping[Lane, str] = _SAYS_NOTHING) -> Lease:
        """Take the chunk. O(recipients in it). Claims without a settle become `unknown` here; `doubt`: what becomes of those."""
        policies = (doubt.get(Lane.TRANSACTIONAL, ""), doubt.get(Lane.BULK, ""))
        status, fence, records, now, *lost = await self._scripts.run(
            "lease", chunk_keys(self._keys, chunk), chunk, owner, lease_ms, *policies
        )
        text = status.decode()
        known = text if text in LeaseStatus.__members__.values() else LeaseStatus.HALTED
        starts, suspects, deaths = lost or (0, b"", 0)
        return Lease(LeaseStatus(known), int(fence), records, int(now), int(starts), suspects.decode(), int(deaths))

    async def load(self, chunk: str, lease: Lease) -> LeasedChunk | LeaseStatus:
        """What a chunk that was just leased has in it."""
        container = self._keys.container(container_of(chunk))
        packed_spec, created = await self._redis.hmget(container, "spec", "created")
        if packed_spec is None or created is None:
            return LeaseStatus.GONE
        try:
            entries = await self._entries(chunk)
        except StoreFailed as error:
            await self._lifecycle.park(container_of(chunk), f"waiting: {error}")
            await self.release(chunk, fence=lease.fence, delay_ms=STORE_PAUSE_MS, harmless=not lease.starts)
            return LeaseStatus.UNREAD
        return LeasedChunk(
            chunk=chunk,
            fence=lease.fence,
            spec=Spec.load(packed_spec),
            created_ms=int(created),
            entries=entries,
            records=list(unpack_records(lease.records)),
            now_ms=lease.now_ms,
            starts=lease.starts,
            suspects=lease.suspects,
            deaths=lease.deaths,
        )

    async def _entries(self, chunk: str) -> list[Entry]:
        """Raises StoreFailed where the store does not answer in time, and where it has lost them."""
        try:
            async with asyncio.timeout(STORE_S):
                found = await self.rows(chunk)
        except TimeoutError:
            raise StoreFailed(url=self._store_name, why=f"it has not answered within {STORE_S:g} s") from None
        if found is None:
            raise self.lost(chunk)
        return found

    async def rows(self, chunk: str) -> list[Entry] | None:
        if self.archive is not None:
            return await self.archive.entries(chunk)
        payload = await self._store.get(chunk)
        return None if payload is None else unpack_entries(payload)

    async def renew(self, chunk: str, *, fence: int, lease_ms: int) -> bool:
        """Heartbeat; False when the lease is lost. O(1)."""
        return bool(await self._scripts.run("renew", [self._keys.chunk(chunk), self._keys.due], chunk, fence, lease_ms))

    async def release(self, chunk: str, *, fence: int, delay_ms: int = 0, harmless: bool = True) -> bool:
        """Give the chunk back, to be looked at after the delay; True when work is left in it. `harmless`: no worker is lost with
        it, as far as this one has come. O(1)."""
        return bool(
            await self._scripts.run("release", [self._keys.chunk(chunk), self._keys.due], chunk, fence, delay_ms, int(harmless))
        )

    async def mark(self, chunk: str, *, fence: int, mark: str, innocent: bool = False) -> bool:
        """Note what is about to be done with the chunk, as in `Lease.suspects`; or, empty, that it is done. False when the lease
        is lost. O(1)."""
        return bool(await self._scripts.run("mark", [self._keys.chunk(chunk)], chunk, fence, mark, int(innocent)))

    async def reap(self, *, limit: int, patience_ms: int) -> list[tuple[str, int]]:
        """Chunks that are due, each with its fence. Handed to one caller only. O(log(due) + limit)."""
        found = await self._scripts.run("reap", [self._keys.due], limit, patience_ms, self._keys.chunk(""))
        return [(found[i].decode(), int(found[i + 1])) for i in range(0, len(found), 2)]

    # ---- claim and settle ----------------------------------------------------------------------

    async def claim(
        self, chunk: str, *, fence: int, mode: Mode, rows: Sequence[tuple[int, int]], lease_ms: int = 0
    ) -> ClaimStatus:
        """Claim all (position, attempt) rows or none. O(recipients claimed). May be repeated when its answer was lost.
        A lease that has run out, and was not taken by another, goes on for `lease_ms`."""
        keys = [*chunk_keys(self._keys, chunk)[:3], self._keys.due]
        status = (await self._scripts.run("claim", keys, fence, MODE_BYTES[mode], _claimed(rows), chunk, lease_ms)).decode()
        return ClaimStatus(status if status in ClaimStatus.__members__.values() else ClaimStatus.HALTED)

    async def unclaim(self, chunk: str, *, fence: int, rows: Sequence[tuple[int, int]]) -> int:
        """Take back what may be stored of a claim by which no call was made, (position, attempt) each; of how many recipients.
        May be repeated. Raises StoreFailed where that cannot be known, for the chunk is archived."""
        reason = REASONS[Outcome.CANCELLED]
        n = await self._unclaim(chunk, fence=fence, rows=rows, reason=reason)
        if n is None and await self.unarchive(chunk):
            n = await self._unclaim(chunk, fence=fence, rows=rows, reason=reason)
        return n or 0

    async def _unclaim(self, chunk: str, *, fence: int, rows: Sequence[tuple[int, int]], reason: str) -> int | None:
        """Take back what may be stored of a claim by which no call was or will be made; of how many recipients, or None where
        Redis does not have the chunk. `reason`: where the campaign is cancelled. O(rows). May be repeated, without a lease."""
        keys = [*chunk_keys(self._keys, chunk), self._keys.active]
        n = int(await self._scripts.run("unclaim", keys, chunk, fence, _claimed(rows), reason))
        return None if n < 0 else n

    async def settle(self, chunk: str, settlements: Sequence[Settlement], sent: Sent | None = None) -> Settled:
        """Store the results of a claim. O(recipients settled). May be repeated; needs no lease."""
        sent = sent or _NOTHING_SENT
        rows, ids = bytearray(), bytearray()
        details: list[str | int] = []
        for s in settlements:
            rows += struct.pack(">HHcB", s.position, s.attempt, STATE_BYTES[s.outcome], s.failed)
            packed = pack_message_id(s.message_id) if s.message_id else None
            ids += packed or _NO_ID
            if s.message_id and packed is None:
                details += [f"i{s.position}", s.message_id]
            if s.reason:
                details += [s.position, s.reason]
        k = self._keys
        keys = [
            *chunk_keys(self._keys, chunk),
            *(make(sent.account) for make in (k.account, k.limiter, k.places, k.history)),
            k.active,
        ]
        counts = (sent.recipients, sent.accepted, sent.place)
        noted = (self._noting.marks(chunk, (s.message_id for s in settlements)), self._noting.prefix, self._noting.life_s)
        late, closed, finished, twice = await self._scripts.run(
            "settle", keys, chunk, *counts, bytes(rows), bytes(ids), *noted, *details
        )
        return Settled(int(late), bool(closed), bool(finished), int(twice))

    # ---- what comes later -----------------------------------------------------------------------

    async def hear(self, said: Mapping[str, Sequence[EventUpdate]]) -> list[Applied]:
        """Apply what events say, by chunk: one script a chunk, all in one round trip; what each did, in the same order.
        O(events). May be repeated."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for chunk, happenings in said.items():
                await self._scripts.queue(pipe, "event", chunk_keys(self._keys, chunk), [chunk, *_packed(happenings)])
            found = await pipe.execute()
        return [_heard(chunk, *one) for chunk, one in zip(said, found, strict=True)]

    async def doubtful(self, grace_ms: int, *, limit: int) -> list[str]:
        """Chunks with recipients that have been in doubt for longer than the grace, those first that have been longest."""
        until = await self._scripts.now_ms() - grace_ms
        found = await self._redis.zrangebyscore(self._keys.doubt, "-inf", until, start=0, num=limit)
        return [chunk.decode() for chunk in found]

    async def settle_doubt(self, chunk: str, *, grace_ms: int, policy: str, reason: str) -> int:
        """What a lane's policy says of those in doubt for longer than the grace; how many. O(recipients of the chunk)."""
        keys = [*chunk_keys(self._keys, chunk), self._keys.active]
        return int(await self._scripts.run("doubt", keys, chunk, grace_ms, policy, reason))

    async def unarchive(self, chunk: str) -> bool:
        """To be called where something is to be said of a chunk whose records are not in Redis: True where they are when this
        returns. Raises StoreFailed."""
        return self.archive is not None and await self.archive.unarchive(chunk)

    async def take_back(self, chunk: str, outcomes: Set[Outcome]) -> bool:
        """Of a chunk that is not in Redis: True where it has recipients in one of these states; then it is taken back. Raises
        StoreFailed, also where nobody has it."""
        found = await self.archive.read(chunk) if self.archive is not None else None
        if found is None:
            raise self.lost(chunk)
        if all(record.outcome not in outcomes for record in found[1].records):
            return False
        await self.unarchive(chunk)
        return True

    def lost(self, chunk: str) -> StoreFailed:
        do = "see that MAILER_STORE_URL is the same for workers and applications"
        return StoreFailed(url=self._store_name, why=f"it does not have the recipients of chunk {chunk}; {do}")


def _claimed(rows: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(struct.pack(">HH", position, attempt) for position, attempt in rows)


def _packed(happenings: Sequence[EventUpdate]) -> list[Any]:
    rows, ids, details = bytearray(), bytearray(), list[Any]()
    for number, one in enumerate(happenings):
        rows += struct.pack(">HHcc", one.position, one.attempt, STATE_BYTES[one.outcome], one.manner.value.encode())
        packed = pack_message_id(one.message_id)
        ids += packed or _NO_ID
        if packed is None:
            details += [f"i{number}", one.message_id]
        if one.reason:
            details += [number, one.reason]
    return [bytes(rows), bytes(ids), *details]


def _heard(chunk: str, known: int, twice: int, *rest: Any) -> Applied:
    changes = [
        Change(chunk, int(rest[i]), OUTCOMES[rest[i + 1].decode()], OUTCOMES[rest[i + 2].decode()])
        for i in range(0, len(rest), 3)
    ]
    return Applied(bool(known), int(twice), changes)
