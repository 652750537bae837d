"""How messages and campaigns come into the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import CampaignGone, ListForgotten
from ..ids import chunk_id, container_of
from ..message.email import Outcome, State
from ..redis.client import RedisClient
from ..redis.scripts import Scripts, flat
from .keys import Keys
from .records import LETTERS, UNUSABLE, Record
from .spec import Guard, Spec, pack_entries
from .store import Store

CHUNK_ROWS = 500  # recipients a chunk: 30 kB compressed, ten full bulk calls
KEY_LIFE_S = 86_400  # of an idempotency key
FOUND_CHUNKS = 500  # chunks whose keys are looked for at once: half a millisecond
DELETED_CHUNKS = 500  # in one step
UNREAD = "its list was not read to its end, so nothing of it was sent; start it again"


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


@dataclass(frozen=True, slots=True)
class NewChunk:
    """Consecutive rows of one list, ready to be stored: `[row, to, data, …]` each, its record, and reasons by position."""

    rows: list[Any]  # as `pack_entries` takes them; an orjson.Fragment may be of several, with commas between them
    outcomes: list[Outcome]
    reasons: dict[int, str]


class Intake:
    """What is stored here is sent by nobody before it is whole: a message at once, a campaign when `start_campaign` says so."""

    def __init__(self, redis: RedisClient, keys: Keys, scripts: Scripts, store: Store, *, archives: bool) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._store = store
        self._archives = archives

    async def add_message(
        self, id: str, spec: Spec, *, keep_s: int, patience_ms: int, send_at: datetime | None = None, key: Key | None = None
    ) -> Added:
        """Store one message, all of it or nothing; or find the earlier one of the same idempotency key."""
        fields = {"lane": spec.lane.value, "spec": spec.dump(), "reason": _waits(send_at), "keep": keep_s, **_expiry(spec)}
        payload = pack_entries([[1, ", ".join(spec.to)]])
        return await self._add(id, chunk_id(id, 0), fields, payload, patience_ms=patience_ms, at_ms=_ms(send_at), key=key)

    async def _add(
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
        found, new = await self._scripts.run("add", keys, id, chunk, digest, KEY_LIFE_S, patience_ms, payload, at, *flat(fields))
        return Added(found.decode(), int(new) == 1, int(new) >= 0)

    async def plan_campaign(
        self, id: str, spec: Spec, *, send_at: datetime | None = None, key: Key | None = None, guard: Guard | None = None
    ) -> Added:
        """Open a campaign for its list; or find the earlier one. Nothing of it is sent before `start_campaign`."""
        fields: dict[str, Any] = {"lane": spec.lane.value, "spec": spec.dump(), "name": spec.name, **_expiry(spec)}
        if self._archives:
            fields["over"] = self._keys.over
        if send_at is not None:
            fields |= {"at": _ms(send_at), "at_text": _iso(send_at)}
        if guard is not None:
            limits = {"max_bounce": guard.max_bounce_rate, "max_complaint": guard.max_complaint_rate}
            fields |= {**limits, "guard_after": guard.after}
        return await self._plan(id, fields, key=key)

    async def _plan(self, id: str, fields: Mapping[str, Any], *, key: Key | None) -> Added:
        """Open a campaign for its list. O(log(campaigns))."""
        k = self._keys
        keys = [k.idempotency(key.text if key else ""), k.container(id), k.campaigns, k.active]
        digest = key.digest if key else ""
        found, new, reading, listed = await self._scripts.run(
            "plan", keys, id, digest, KEY_LIFE_S, k.container(""), *flat(fields)
        )
        return Added(found.decode(), int(new) == 1, int(new) >= 0, bool(reading), listed.decode())

    async def find_key(self, key: Key) -> Added | None:
        """What an idempotency key stands for, if it was used. Whether it is used now is for `add_message` to decide."""
        id, digest, listed = await self._redis.hmget(self._keys.idempotency(key.text), "id", "digest", "list")
        if id is None:
            return None
        state, ready = await self._redis.hmget(self._keys.container(id.decode()), "state", "ready")
        reading = state == State.PLANNED.value.encode() and not ready
        return Added(id.decode(), False, digest.decode() == key.digest, reading, (listed or b"").decode())

    async def keep_list_digest(self, key: Key, digest: str) -> None:
        """The key may have been forgotten while a very long list was read."""
        name = self._keys.idempotency(key.text)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(name, "list", digest)
            pipe.expire(name, KEY_LIFE_S, nx=True)
            await pipe.execute()

    async def add_chunks(self, id: str, first: int, chunks: Sequence[NewChunk]) -> None:
        """Store consecutive chunks of a planned campaign, `first` being the number of the first of them. Three round trips.

        Raises CampaignGone where the campaign was given up.
        """
        now = await self._grow(id, first + len(chunks))
        await self._store.put({chunk_id(id, first + i): pack_entries(chunk.rows) for i, chunk in enumerate(chunks)})
        unusable = {Outcome.REJECTED: UNUSABLE}
        packed = {
            outcome: Record(outcome, failures=unusable.get(outcome, 0), updated_at=now // 1000).pack() for outcome in Outcome
        }
        written = {
            chunk_id(id, number): Written(
                b"".join([packed[outcome] for outcome in chunk.outcomes]), chunk.outcomes.count(Outcome.QUEUED), chunk.reasons
            )
            for number, chunk in enumerate(chunks, first)
        }
        if not await self._put(written):
            raise CampaignGone(id=id)

    async def _put(self, chunks: Mapping[str, Written]) -> bool:
        """Chunks of a list that is being read; False where it is not read any more, then nothing is changed. May be repeated."""
        k = self._keys
        async with self._redis.pipeline(transaction=False) as pipe:
            for chunk, one in chunks.items():
                keys = [k.container(container_of(chunk)), k.chunk(chunk), k.records(chunk), k.details(chunk)]
                await self._scripts.queue(pipe, "put", keys, [one.records, one.queued, *flat(one.reasons)])
            return all(await pipe.execute())

    async def _grow(self, id: str, chunks: int) -> int:
        now = int(await self._scripts.run("keep_reading", [self._keys.container(id)], chunks))
        if not now:
            raise CampaignGone(id=id)
        return now

    async def keep_reading(self, id: str, chunks: int) -> None:
        """To be called while a list is read, however long its next rows take. Raises CampaignGone."""
        await self._grow(id, chunks)

    async def start_campaign(
        self, id: str, *, rows: int, chunks: int, counts: Mapping[Outcome, int], reasons: Mapping[str, int] = MappingProxyType({})
    ) -> State:
        """`reasons`: why rows are rejected, with how many. Raises CampaignGone where the campaign was given up before its list
        was read to the end, and ListForgotten."""
        await self._check_whole(id, chunks)
        state = await self._start(id, rows=rows, chunks=chunks, counts=counts, reasons=reasons)
        if state in ("gone", State.CANCELLED):
            raise CampaignGone(id=id)
        return State(state)

    async def _start(
        self, container: str, *, rows: int, chunks: int, counts: Mapping[Outcome, int], reasons: Mapping[str, int]
    ) -> str:
        """Let a planned campaign run; its state afterwards. `reasons`: why rows cannot be used. May be repeated. O(reasons)."""
        states = {LETTERS[outcome]: n for outcome, n in counts.items()}
        pairs = (*flat(states), *flat(reasons))
        key = self._keys.container(container)
        return str((await self._scripts.run("start", [key], rows, chunks, len(states), *pairs)).decode())

    async def _check_whole(self, id: str, chunks: int) -> None:
        """A Redis that was started anew may have forgotten what it had answered to; then rows are missing that nobody would miss.
        Raises ListForgotten."""
        k = self._keys
        for first in range(0, chunks, FOUND_CHUNKS):
            names = [chunk_id(id, number) for number in range(first, min(first + FOUND_CHUNKS, chunks))]
            found = await self._redis.exists(*(key for name in names for key in (k.chunk(name), k.records(name))))
            if found != 2 * len(names):
                raise ListForgotten(id=id)

    async def drop_campaign(self, id: str) -> bool:
        """Forget a campaign that was never started; False where it was, or was given up by somebody else."""
        chunks = await self._drop(id, reason="its list was not read to its end, so nothing of it was sent")
        if chunks is None:
            state, ready, chunks = await self._redis.hmget(self._keys.container(id), "state", "ready", "chunks")
            if state == State.CANCELLED.value.encode() and not ready:
                await self.delete_chunks(id, int(chunks))  # what was written in the very moment
            return False
        await self.delete_chunks(id, chunks)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(self._keys.campaigns, id)
            pipe.zrem(self._keys.active, id)
            pipe.unlink(self._keys.container(id), self._keys.window(id), self._keys.tokens(id))
            await pipe.execute()
        return True

    async def abandon_campaign(self, id: str, silence_s: float, *, reason: str = UNREAD) -> bool:
        """Its reader has not been heard of for so long, so it is gone. Rows go; what it was called and why it is over stays.

        False where the reader is alive.
        """
        chunks = await self._drop(id, reason=reason, silence_ms=int(silence_s * 1000))
        if chunks is None:
            return False
        await self.delete_chunks(id, chunks)
        return True

    async def _drop(self, container: str, *, reason: str, silence_ms: int = 0) -> int | None:
        """Give up a campaign that was not started; how many chunks it has, or None where it is not given up. O(1)."""
        chunks = int(await self._scripts.run("abandon", [self._keys.container(container)], reason, silence_ms))
        return None if chunks < 0 else chunks

    async def delete_chunks(self, id: str, chunks: int) -> None:
        """Of a campaign that nothing was sent of. May be repeated. Raises StoreFailed."""
        k = self._keys
        for first in range(0, chunks, DELETED_CHUNKS):
            names = [chunk_id(id, number) for number in range(first, min(first + DELETED_CHUNKS, chunks))]
            await self._redis.unlink(*(make(n) for n in names for make in (k.chunk, k.records, k.details, k.message_ids)))
            await self._store.delete(names)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _waits(send_at: datetime | None) -> str:
    return "" if send_at is None else f"to be sent at {_iso(send_at)}"


def _expiry(spec: Spec) -> dict[str, int]:
    return {} if spec.expires_ms is None else {"expires": spec.expires_ms}
