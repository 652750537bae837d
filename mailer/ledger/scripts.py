"""The Lua scripts, each with a typed wrapper. Every one runs atomically in Redis, in one round trip, on Redis's clock.

They take lists of keys of one installation, so they run on one Redis (or one Sentinel set), not on a Cluster.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError, RedisError

from ..ids import chunk_id, chunk_number, container_of
from ..message.email import Lane, Mode, Outcome, State
from ..redis.client import RedisClient
from ..redis.errors import note_unanswered, unanswered
from .keys import Keys
from .records import MESSAGE_ID_BYTES, MODE_BYTES, Record, pack_message_id
from .sent_ids import Noting

KEY_LIFE_S = 86_400  # of an idempotency key
_NO_ID = bytes(MESSAGE_ID_BYTES)
_SAYS_NOTHING: Mapping[Lane, str] = MappingProxyType({})
_NAMES = (
    "add",
    "admit",
    "alike",
    "archive_done",
    "archive_drop",
    "archive_due",
    "archive_read",
    "cancel",
    "cancel_message",
    "change_spec",
    "claim",
    "delisted",
    "doubt",
    "drop",
    "event",
    "feed",
    "gate",
    "give_back",
    "grow",
    "guard",
    "halt",
    "hold",
    "lease",
    "leave",
    "listed",
    "mark",
    "locate",
    "note",
    "notify",
    "now",
    "pause",
    "plan",
    "put",
    "rate",
    "reap",
    "refresh",
    "refused",
    "release",
    "renew",
    "reschedule",
    "resubscribe",
    "resume",
    "retire",
    "retry",
    "revive",
    "settle",
    "start",
    "suppress",
    "suppressed",
    "sweep",
    "sweep_listed",
    "turn",
    "unarchive",
    "unclaim",
    "unsuppress",
    "walk",
)


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


class ArchiveStatus(StrEnum):
    OVER = "over"  # it is to be archived
    EARLY = "early"  # it has changed lately, or a worker has it; it is listed for later
    OPEN = "open"  # it is not over; it is listed again when it is
    ARCHIVED = "archived"
    GONE = "gone"  # Redis does not know it


@dataclass(frozen=True, slots=True)
class ToArchive:
    """A chunk as archive_read.lua found it; only the status, where that is not OVER."""

    status: ArchiveStatus
    digest: str = ""
    records: bytes = b""
    message_ids: bytes = b""
    details: Mapping[bytes, bytes] = field(default_factory=dict)


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
class Key:
    """A caller's idempotency key, and the digest of what it was given with."""

    text: str
    digest: str


class Written(NamedTuple):
    """A chunk as it is first stored, without its rows."""

    records: bytes
    queued: int  # recipients that are to be sent to
    reasons: Mapping[int, str]  # by position, of those that are not


@dataclass(frozen=True, slots=True)
class Added:
    """What a message or campaign that was to be added is: itself, or an earlier one with the same idempotency key."""

    id: str
    new: bool
    same: bool = True  # the earlier one was given the same content
    reading: bool = False  # its list is still being read
    list_digest: str = ""


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
class Switched:
    """What a container is after it was to be paused, resumed or cancelled."""

    state: str  # of State, or `gone`
    changed: bool  # by this
    ready: bool  # its list has been read to the end
    wake: tuple[tuple[str, int], ...] = ()  # chunks and their fences


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


class Requeued(NamedTuple):
    state: str  # the campaign's before, or `expired`, or `gone`
    recipients: int
    absent: Sequence[int]  # the chunks that Redis does not have


class Applied(NamedTuple):
    known: bool  # the chunk is one that Redis has
    twice: int  # recipients that turned out to be sent to twice
    changes: Sequence[Change]


class Scripts:
    """`clock` is Lua that defines now_us(); tests put a clock of their own in the place of Redis's."""

    def __init__(self, redis: RedisClient, keys: Keys, clock: str | None = None) -> None:
        self._redis = redis
        self._keys = keys
        self.noting = Noting(keys.sent_ids)
        folder = files(__package__) / "lua"
        common = (clock or (folder / "clock.lua").read_text()) + (folder / "common.lua").read_text()
        self._script = {name: redis.register_script(common + (folder / f"{name}.lua").read_text()) for name in _NAMES}

    async def run(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        """A server that does not know the script is given its text, in one step: when a replica has become the master, the next
        command may meet another server than this one."""
        script = self._script[name]
        try:
            return await self._redis.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError as unknown:
            try:
                return await self._redis.eval(script.script, len(keys), *keys, *args)
            except (RedisError, OSError) as error:
                note_unanswered(error, unanswered(error) + unanswered(unknown))
                raise

    async def now_ms(self) -> int:
        """The time of the scripts. O(1)."""
        return int(await self.run("now", []))

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
            k.outcomes,
        ]

    async def lease(self, chunk: str, *, owner: str, lease_ms: int, doubt: Mapping[Lane, str] = _SAYS_NOTHING) -> Lease:
        """Take the chunk. O(recipients in it). Claims without a settle become `unknown` here; `doubt`: what becomes of those."""
        policies = (doubt.get(Lane.TRANSACTIONAL, ""), doubt.get(Lane.BULK, ""))
        status, fence, records, now, *lost = await self.run("lease", self._chunk_keys(chunk), chunk, owner, lease_ms, *policies)
        text = status.decode()
        known = text if text in LeaseStatus.__members__.values() else LeaseStatus.HALTED
        starts, suspects, deaths = lost or (0, b"", 0)
        return Lease(LeaseStatus(known), int(fence), records, int(now), int(starts), suspects.decode(), int(deaths))

    async def renew(self, chunk: str, *, fence: int, lease_ms: int) -> bool:
        """Heartbeat; False when the lease is lost. O(1)."""
        return bool(await self.run("renew", [self._keys.chunk(chunk), self._keys.due], chunk, fence, lease_ms))

    async def release(self, chunk: str, *, fence: int, delay_ms: int = 0, harmless: bool = True) -> bool:
        """Give the chunk back, to be looked at after the delay; True when work is left in it. `harmless`: no worker is lost with
        it, as far as this one has come. O(1)."""
        return bool(await self.run("release", [self._keys.chunk(chunk), self._keys.due], chunk, fence, delay_ms, int(harmless)))

    async def mark(self, chunk: str, *, fence: int, mark: str, innocent: bool = False) -> bool:
        """Note what is about to be done with the chunk, as in `Lease.suspects`; or, empty, that it is done. False when the lease
        is lost. O(1)."""
        return bool(await self.run("mark", [self._keys.chunk(chunk)], chunk, fence, mark, int(innocent)))

    async def claim(
        self, chunk: str, *, fence: int, mode: Mode, rows: Sequence[tuple[int, int]], lease_ms: int = 0
    ) -> ClaimStatus:
        """Claim all (position, attempt) rows or none. O(recipients claimed). May be repeated when its answer was lost.
        A lease that has run out, and was not taken by another, goes on for `lease_ms`."""
        keys = [*self._chunk_keys(chunk)[:3], self._keys.due]
        status = (await self.run("claim", keys, fence, MODE_BYTES[mode], _claimed(rows), chunk, lease_ms)).decode()
        return ClaimStatus(status if status in ClaimStatus.__members__.values() else ClaimStatus.HALTED)

    async def unclaim(self, chunk: str, *, fence: int, rows: Sequence[tuple[int, int]], reason: str) -> int | None:
        """Take back what may be stored of a claim by which no call was or will be made; of how many recipients, or None where
        Redis does not have the chunk. `reason`: where the campaign is cancelled. O(rows). May be repeated, without a lease."""
        keys = [*self._chunk_keys(chunk), self._keys.active]
        n = int(await self.run("unclaim", keys, chunk, fence, _claimed(rows), reason))
        return None if n < 0 else n

    async def settle(self, chunk: str, settlements: Sequence[Settlement], sent: Sent | None = None) -> Settled:
        """Store the results of a claim. O(recipients settled). May be repeated; needs no lease."""
        sent = sent or _NOTHING_SENT
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
        k = self._keys
        keys = [*self._chunk_keys(chunk), *(make(sent.account) for make in (k.account, k.limiter, k.places, k.history)), k.active]
        counts = (sent.recipients, sent.accepted, sent.place)
        noted = (self.noting.marks(chunk, (s.message_id for s in settlements)), self.noting.prefix, self.noting.life_s)
        late, closed, finished, twice = await self.run("settle", keys, chunk, *counts, bytes(rows), bytes(ids), *noted, *details)
        return Settled(int(late), bool(closed), bool(finished), int(twice))

    async def hear(self, said: Mapping[str, Sequence[EventUpdate]]) -> list[Applied]:
        """Apply what events say, by chunk: one script a chunk, all in one round trip; what each did, in the same order.
        O(events). May be repeated."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for chunk, happenings in said.items():
                await self._script["event"](keys=self._chunk_keys(chunk), args=[chunk, *_packed(happenings)], client=pipe)
            found = await pipe.execute()
        return [_heard(chunk, *one) for chunk, one in zip(said, found, strict=True)]

    async def notify(self, id: str, fields: Mapping[str, str], *, life_s: int) -> bool:
        """Queue what SNS brought under this id, and remember the id for so long; False where it was there before. Without fields
        it is remembered only. Atomic, and may be repeated when its answer was lost. O(1)."""
        keys = [self._keys.notified(id), self._keys.inbox]
        return bool(await self.run("notify", keys, secrets.token_hex(8), life_s, *_flat(fields)))

    async def leave(self, group: str, *, idle_ms: int) -> int:
        """Remove consumers of the inbox that were not heard of for so long and hold nothing; how many. O(consumers)."""
        return int(await self.run("leave", [self._keys.inbox], group, idle_ms))

    async def settle_doubt(self, chunk: str, *, grace_ms: int, policy: str, reason: str) -> int:
        """What a lane's policy says of those in doubt for longer than the grace; how many. O(recipients of the chunk)."""
        keys = [*self._chunk_keys(chunk), self._keys.active]
        return int(await self.run("doubt", keys, chunk, grace_ms, policy, reason))

    async def retry(self, container: str, numbers: Sequence[int], outcomes: Iterable[Outcome]) -> Requeued:
        """Queue those of these chunks again that are in one of the states. Each chunk is atomic. O(recipients in them)."""
        states = "".join(outcome.value for outcome in outcomes)
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                chunk = chunk_id(container, number)
                keys = [*self._chunk_keys(chunk), self._keys.active]
                await self._script["retry"](keys=keys, args=[chunk, states], client=pipe)
            found = await pipe.execute()
        absent = [number for number, (_, n) in zip(numbers, found, strict=True) if int(n) < 0]
        return Requeued(found[-1][0].decode(), sum(max(int(n), 0) for _, n in found), absent)

    async def start(
        self, container: str, *, rows: int, chunks: int, counts: Mapping[Outcome, int], reasons: Mapping[str, int]
    ) -> str:
        """Let a planned campaign run; its state afterwards. `reasons`: why rows cannot be used. May be repeated. O(reasons)."""
        states = {outcome.value: n for outcome, n in counts.items()}
        pairs = (*_flat(states), *_flat(reasons))
        key = self._keys.container(container)
        return str((await self.run("start", [key], rows, chunks, len(states), *pairs)).decode())

    async def put(self, chunks: Mapping[str, Written]) -> bool:
        """Chunks of a list that is being read; False where it is not read any more, then nothing is changed. May be repeated."""
        k = self._keys
        async with self._redis.pipeline(transaction=False) as pipe:
            for chunk, one in chunks.items():
                keys = [k.container(container_of(chunk)), k.chunk(chunk), k.records(chunk), k.details(chunk)]
                await self._script["put"](keys=keys, args=[one.records, one.queued, *_flat(one.reasons)], client=pipe)
            return all(await pipe.execute())

    async def grow(self, container: str, *, chunks: int) -> int:
        """The reader of a campaign's list is alive; the time (ms), or 0 where the campaign was given up. O(1)."""
        return int(await self.run("grow", [self._keys.container(container)], chunks))

    async def drop(self, container: str, *, reason: str, silence_ms: int = 0) -> int | None:
        """Give up a campaign that was not started; how many chunks it has, or None where it is not given up. O(1)."""
        chunks = int(await self.run("drop", [self._keys.container(container)], reason, silence_ms))
        return None if chunks < 0 else chunks

    async def feed(self, container: str, *, window: int, patience_ms: int) -> list[str]:
        """Fill the campaign's window; the ids of the chunks that were added. O(window)."""
        k = self._keys
        added = await self.run("feed", [k.container(container), k.window(container), k.due], container, window, patience_ms)
        return [f"{container}-{int(number)}" for number in added]

    async def reap(self, *, limit: int, patience_ms: int) -> list[tuple[str, int]]:
        """Chunks that are due, each with its fence. Handed to one caller only. O(log(due) + limit)."""
        found = await self.run("reap", [self._keys.due], limit, patience_ms, self._keys.chunk(""))
        return [(found[i].decode(), int(found[i + 1])) for i in range(0, len(found), 2)]

    async def halt(self, container: str, *, to: State, reason: str, allowed: Sequence[State]) -> str:
        """Change a container's state where it is one of `allowed`; the state afterwards. O(1)."""
        return str((await self.run("halt", [self._keys.container(container)], to.value, reason, *allowed)).decode())

    async def pause(self, container: str, *, reason: str) -> Switched:
        """Nothing of it is claimed after this. May be repeated. O(1)."""
        return _switched(await self.run("pause", [self._keys.container(container)], reason))

    async def resume(self, container: str, *, patience_ms: int) -> Switched:
        """What is to be woken is due after the patience, so that a wake-up that gets lost is made up for. O(window)."""
        k = self._keys
        keys = [k.container(container), k.window(container), k.due, k.active]
        return _switched(await self.run("resume", keys, container, patience_ms, k.chunk("")))

    async def reschedule(self, container: str, *, at_ms: int, at_text: str) -> Switched:
        """See reschedule.lua. May be repeated. O(1)."""
        return _switched(await self.run("reschedule", [self._keys.container(container)], at_ms, at_text))

    async def change_spec(self, container: str, *, was: bytes, spec: bytes) -> bool:
        """False where the spec is not `was` any more. May be repeated. O(1)."""
        return bool(await self.run("change_spec", [self._keys.container(container)], was, spec))

    async def cancel(self, container: str, *, reason: str) -> Switched:
        """Nothing of it is claimed after this; `sweep` counts out what was queued. May be repeated. O(1)."""
        k = self._keys
        return _switched(await self.run("cancel", [k.container(container), k.window(container), k.active], container, reason))

    async def cancel_message(self, id: str, *, reason: str) -> tuple[Outcome | None, bool]:
        """A message that waits is not sent, and one in doubt not again: its state afterwards, None where Redis does not have it,
        and whether this changed something. May be repeated. O(1)."""
        chunk = chunk_id(id, 0)
        state, changed = await self.run("cancel_message", self._chunk_keys(chunk), chunk, reason)
        return (Outcome(state.decode()) if state else None), bool(changed)

    async def sweep(self, container: str, numbers: Sequence[int], *, reason: str) -> int:
        """Count out these chunks of a cancelled campaign, each atomically; recipients counted out. O(recipients in them): 1.1 ms
        for 500 of them, most of it for their entries in the stream of outcomes."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                chunk = chunk_id(container, number)
                await self._script["sweep"](keys=self._chunk_keys(chunk), args=[chunk, number, reason], client=pipe)
            return sum(map(int, await pipe.execute()))

    async def guard(self, container: str) -> str:
        """The reason where this call has found that too many bounced or complained, and paused it; else nothing. O(1)."""
        return str((await self.run("guard", [self._keys.container(container)])).decode())

    async def retire(self, container: str, chunks: Sequence[str], *, keep_s: int, known_s: int, last: bool) -> bool:
        """See retire.lua; False where it is not over (any more). O(chunks)."""
        k = self._keys
        keys = [k.container(container), k.window(container), k.active, k.tokens(container), *self._kept_keys(chunks)]
        return bool(await self.run("retire", keys, container, keep_s, known_s, int(last)))

    async def revive(self, container: str, chunks: Sequence[str], *, retired: int, last: bool) -> bool:
        """See revive.lua; False where it is over. O(chunks)."""
        keys = [self._keys.container(container), self._keys.tokens(container), *self._kept_keys(chunks)]
        return bool(await self.run("revive", keys, retired, int(last)))

    def _kept_keys(self, chunks: Sequence[str]) -> list[str]:
        k = self._keys
        return [make(chunk) for chunk in chunks for make in (k.chunk, k.records, k.details, k.message_ids, k.payload)]

    async def archive_due(self, *, limit: int, quiet_ms: int, patience_ms: int) -> list[str]:
        """Chunks that have been over for so long. Handed to one caller only. O(log(over) + limit)."""
        found = await self.run("archive_due", [self._keys.over], limit, quiet_ms, patience_ms)
        return [chunk.decode() for chunk in found]

    async def archive_read(self, chunk: str, *, quiet_ms: int, doubt_quiet_ms: int) -> ToArchive:
        """See archive_read.lua. May be repeated. O(recipients in the chunk)."""
        k, container = self._keys, container_of(chunk)
        keys = [*self._archived_keys(chunk), k.tokens(container), k.over]
        status, *found = await self.run("archive_read", keys, chunk, chunk_number(chunk), quiet_ms, doubt_quiet_ms)
        if not found:
            return ToArchive(ArchiveStatus(status.decode()))
        digest, records, ids, said = found
        details = dict(zip(said[::2], said[1::2], strict=True))
        return ToArchive(ArchiveStatus.OVER, digest.decode(), records, ids, details)

    async def archive_drop(self, chunk: str, *, digest: str, token: bytes) -> bytes | None:
        """Let go of an archived chunk's keys; the token of its archive before this one, or None where nothing is let go of,
        because something has been said of it since it was read. O(recipients in the chunk)."""
        k, container = self._keys, container_of(chunk)
        keys = [*self._archived_keys(chunk), k.payload(chunk), k.tokens(container), k.doubt]
        dropped, before = await self.run("archive_drop", keys, chunk, chunk_number(chunk), digest, token)
        return bytes(before) if dropped else None

    async def archive_done(self, chunk: str) -> bool:
        """Nothing of an archived chunk is left to be cleared away; False where it is in Redis again. O(log(over))."""
        return bool(await self.run("archive_done", [self._keys.records(chunk), self._keys.over], chunk))

    async def unarchive(
        self, chunk: str, *, token: bytes, records: Sequence[Record], message_ids: bytes, details: Mapping[bytes, bytes]
    ) -> str:
        """Take a chunk back into Redis: `live`, `changed` or `gone`. May be repeated. O(recipients in the chunk)."""
        k, container = self._keys, container_of(chunk)
        keys = [*self._archived_keys(chunk), k.tokens(container), k.over, k.doubt]
        states = [record.outcome for record in records]
        counts = (sum(map(states.count, (Outcome.QUEUED, Outcome.CLAIMED))), states.count(Outcome.UNKNOWN))
        packed = b"".join(record.pack() for record in records)
        args = (chunk, chunk_number(chunk), token, packed, message_ids, *counts, *_flat(details))
        return str((await self.run("unarchive", keys, *args)).decode())

    def _archived_keys(self, chunk: str) -> list[str]:
        k = self._keys
        return [k.container(container_of(chunk)), k.chunk(chunk), k.records(chunk), k.message_ids(chunk), k.details(chunk)]

    async def add(
        self,
        id: str,
        chunk: str,
        fields: Mapping[str, Any],
        payload: bytes,
        *,
        patience_ms: int,
        at_ms: int | None,
        key: Key | None,
    ) -> Added:
        """Store a message whole, or not at all. May be repeated with a key. O(1)."""
        k = self._keys
        once = k.idempotency(key.text if key else "")
        keys = [once, k.container(id), k.chunk(chunk), k.records(chunk), k.payload(chunk), k.window(id), k.due]
        digest, at = key.digest if key else "", "" if at_ms is None else at_ms
        found, new = await self.run("add", keys, id, chunk, digest, KEY_LIFE_S, patience_ms, payload, at, *_flat(fields))
        return Added(found.decode(), int(new) == 1, int(new) >= 0)

    async def plan(self, id: str, fields: Mapping[str, Any], *, key: Key | None) -> Added:
        """Open a campaign for its list. O(log(campaigns))."""
        k = self._keys
        keys = [k.idempotency(key.text if key else ""), k.container(id), k.campaigns, k.active]
        digest = key.digest if key else ""
        found, new, reading, listed = await self.run("plan", keys, id, digest, KEY_LIFE_S, k.container(""), *_flat(fields))
        return Added(found.decode(), int(new) == 1, int(new) >= 0, bool(reading), listed.decode())

    async def refresh(self, account: str, fields: Mapping[str, Any], *, answered: int) -> None:
        """Store what GetAccount said. May be repeated. O(1)."""
        await self.run("refresh", [self._keys.account(account)], answered, *_flat(fields))

    async def gate(
        self, account: str, *, names: Sequence[str], defaults: int, named_set: str, stale_ms: int, holds: Sequence[str] = ()
    ) -> Sequence[Any]:
        """What is known of a sender with these identities. See gate.lua, `identities.py` and `holds.py`. O(names)."""
        k = self._keys
        keys = [k.account(account), k.identities(account), k.in_use(account), *holds]
        found: Sequence[Any] = await self.run(
            "gate", keys, stale_ms, k.configuration_set(account, ""), named_set, defaults, *names
        )
        return found


def _claimed(rows: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(struct.pack(">HH", position, attempt) for position, attempt in rows)


def _packed(happenings: Sequence[EventUpdate]) -> list[Any]:
    rows, ids, details = bytearray(), bytearray(), list[Any]()
    for number, one in enumerate(happenings):
        rows += struct.pack(">HHcc", one.position, one.attempt, one.outcome.value.encode(), one.manner.value.encode())
        packed = pack_message_id(one.message_id)
        ids += packed or _NO_ID
        if packed is None:
            details += [f"i{number}", one.message_id]
        if one.reason:
            details += [number, one.reason]
    return [bytes(rows), bytes(ids), *details]


def _heard(chunk: str, known: int, twice: int, *rest: Any) -> Applied:
    changes = [
        Change(chunk, int(rest[i]), Outcome(rest[i + 1].decode()), Outcome(rest[i + 2].decode())) for i in range(0, len(rest), 3)
    ]
    return Applied(bool(known), int(twice), changes)


def _switched(found: Sequence[Any]) -> Switched:
    state, changed, ready, *wake = found
    chunks = tuple((wake[i].decode(), int(wake[i + 1])) for i in range(0, len(wake), 2))
    return Switched(state.decode(), bool(changed), bool(ready), chunks)


def _flat(fields: Mapping[Any, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
