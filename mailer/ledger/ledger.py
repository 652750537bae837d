"""What the rest of the service asks of the ledger, on top of the scripts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from redis.exceptions import WatchError

from ..errors import CampaignGone, ContentAltered, Forgotten, ListForgotten, NoTemplate, NotFound, StoreFailed
from ..ids import chunk_id, chunk_number, container_of, is_container, is_message, place_of
from ..message.email import Lane, Outcome, State
from ..redis.client import RedisClient
from .archive import REASONS, Archive, Chunk
from .keys import Keys
from .records import UNUSABLE, Record, unpack_records
from .scripts import KEY_LIFE_S, Added, Key, Lease, LeaseStatus, Scripts, Written
from .sent_ids import SentIds
from .spec import Entry, Guard, Spec, pack_entries, unpack_entries
from .status import CampaignStatus, MessageStatus, RecipientStatus, campaign_status, message_status, outcome_counts, report_lines
from .store import Objects, ObjectStore, RedisStore, Store

CHUNK_ROWS = 500  # recipients a chunk: 30 kB compressed, ten full bulk calls
CONTENT_KEEP_S = 30 * 86_400  # since it was last stored, sent from, or seen by the reaper under a campaign that goes on
SENDING = (State.RUNNING, State.PARKED)
UNREAD = "its list was not read to its end, so nothing of it was sent; start it again"
FOUND_CHUNKS = 500  # chunks whose keys are looked for at once: half a millisecond
KEYS_CHUNKS = 100  # chunks whose keys one script goes through: less than a millisecond
STORE_S = 6.0  # a worker waits so long for a payload, well within its lease
STORE_PAUSE_MS = 10_000  # after which it asks again
ACTIVE_FIELDS = ("state", "ready", "finished", "retired", "chunks", "archived", "over", "enlisted")
GLANCED = ("state", "reason", "rows", "lane", "created", "finished", *(f"n:{outcome.value}" for outcome in Outcome))
READS = 5  # of a chunk that is archived or taken back while it is being read
OUTLIVES_S = 3600  # chunks outlive their campaign by so much, or a twentieth: one that is resumed in its last moment is whole


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


@dataclass(frozen=True, slots=True)
class NewChunk:
    """Consecutive rows of one list, ready to be stored: `[row, to, data, …]` each, its record, and reasons by position."""

    rows: list[Any]  # as `pack_entries` takes them; an orjson.Fragment may be of several, with commas between them
    outcomes: list[Outcome]
    reasons: dict[int, str]


@dataclass(frozen=True, slots=True)
class ActiveCampaign:
    id: str
    state: State
    ready: bool  # its list has been read to the end
    finished: bool  # nothing in it is open any more
    retired: bool  # it goes on, and some of its keys may still have been told to expire
    chunks: int = 0
    unarchived: int = 0  # of a campaign whose chunks are archived: those that never were
    enlisted: bool = False  # all of them are on the list of what is to be archived
    finished_ms: int | None = None

    @property
    def over(self) -> bool:
        """As is_over in lua/common.lua, whose word is the last."""
        if self.state is State.CANCELLED:
            return self.finished or not self.ready
        return self.state in (State.FINISHED, State.STOPPED)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _waits(send_at: datetime | None) -> str:
    return "" if send_at is None else f"to be sent at {_iso(send_at)}"


def _expiry(spec: Spec) -> dict[str, int]:
    return {} if spec.expires_ms is None else {"expires": spec.expires_ms}


def _chunk_of(name: str) -> str:
    """The chunk whose archive an object is."""
    return name.replace("/", "-").rpartition("-")[0]


class Ledger:
    """`objects`: the place outside Redis where payloads and archives live; without one, all of it is in Redis."""

    def __init__(self, redis: RedisClient, namespace: str, clock: str | None = None, objects: Objects | None = None) -> None:
        self.redis = redis
        self.keys = Keys(namespace)
        self.scripts = Scripts(redis, self.keys, clock)
        inside = RedisStore(redis, self.keys)
        self.store: Store = ObjectStore(objects, inside) if objects else inside
        self.archive = Archive(redis, self.keys, self.scripts, self.store, objects) if objects else None
        self._store_name = objects.url if objects else "redis:"
        self.sent_ids = SentIds(redis, self.keys, self.scripts)

    # ---- content -------------------------------------------------------------------------------

    @staticmethod
    def digest(packed: bytes) -> str:
        return hashlib.sha256(packed).hexdigest()[:32]

    async def put_content(self, packed: bytes, *, until_ms: int | None = None) -> str:
        """Store a template, attachment or MIME message once, under its digest, which this returns.

        It stays CONTENT_KEEP_S after it was last stored or used; `until_ms`: after that time, where it is used later.
        """
        digest = self.digest(packed)
        later_s = max(0, (until_ms or 0) - _now_ms()) // 1000
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.set(self.keys.content(digest), packed, nx=True, ex=CONTENT_KEEP_S)
            pipe.expire(self.keys.content(digest), CONTENT_KEEP_S + later_s, gt=True)
            await pipe.execute()
        return digest

    async def get_content(self, digest: str, what: str) -> bytes | None:
        """None where Redis does not have it any more. Raises ContentAltered, which names it as `what`, where it is something else
        that stands there; then it is forgotten, so that it can be stored again."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.get(self.keys.content(digest))
            pipe.expire(self.keys.content(digest), CONTENT_KEEP_S, gt=True)
            packed: bytes | None = (await pipe.execute())[0]
        if packed is not None and self.digest(packed) != digest:
            await self._forget_altered(digest)
            raise ContentAltered(what=what)
        return packed

    async def _forget_altered(self, digest: str) -> None:
        """Where it has not been stored anew in the meantime."""
        key = self.keys.content(digest)
        async with self.redis.pipeline(transaction=True) as pipe:
            with suppress(WatchError):
                await pipe.watch(key)
                packed = await pipe.get(key)
                pipe.multi()
                if packed is not None and self.digest(packed) != digest:
                    pipe.unlink(key)
                await pipe.execute()

    # ---- in ------------------------------------------------------------------------------------

    async def add_message(
        self, id: str, spec: Spec, *, keep_s: int, patience_ms: int, send_at: datetime | None = None, key: Key | None = None
    ) -> Added:
        """Store one message, all of it or nothing; or find the earlier one of the same idempotency key."""
        fields = {"lane": spec.lane.value, "spec": spec.dump(), "reason": _waits(send_at), "keep": keep_s, **_expiry(spec)}
        payload = pack_entries([[1, ", ".join(spec.to)]])
        return await self.scripts.add(id, chunk_id(id, 0), fields, payload, patience_ms=patience_ms, at_ms=_ms(send_at), key=key)

    async def plan_campaign(
        self, id: str, spec: Spec, *, send_at: datetime | None = None, key: Key | None = None, guard: Guard | None = None
    ) -> Added:
        """Open a campaign for its list; or find the earlier one. Nothing of it is sent before `start_campaign`."""
        fields: dict[str, Any] = {"lane": spec.lane.value, "spec": spec.dump(), "name": spec.name, **_expiry(spec)}
        if self.archive is not None:
            fields["over"] = self.keys.over
        if send_at is not None:
            fields |= {"at": _ms(send_at), "at_text": _iso(send_at)}
        if guard is not None:
            limits = {"max_bounce": guard.max_bounce_rate, "max_complaint": guard.max_complaint_rate}
            fields |= {**limits, "guard_after": guard.after}
        return await self.scripts.plan(id, fields, key=key)

    async def find_key(self, key: Key) -> Added | None:
        """What an idempotency key stands for, if it was used. Whether it is used now is for `add_message` to decide."""
        id, digest, listed = await self.redis.hmget(self.keys.idempotency(key.text), "id", "digest", "list")
        if id is None:
            return None
        state, ready = await self.redis.hmget(self.keys.container(id.decode()), "state", "ready")
        reading = state == State.PLANNED.value.encode() and not ready
        return Added(id.decode(), False, digest.decode() == key.digest, reading, (listed or b"").decode())

    async def keep_list_digest(self, key: Key, digest: str) -> None:
        """The key may have been forgotten while a very long list was read."""
        name = self.keys.idempotency(key.text)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hset(name, "list", digest)
            pipe.expire(name, KEY_LIFE_S, nx=True)
            await pipe.execute()

    async def add_chunks(self, id: str, first: int, chunks: Sequence[NewChunk]) -> None:
        """Store consecutive chunks of a planned campaign, `first` being the number of the first of them. Three round trips.

        Raises CampaignGone where the campaign was given up.
        """
        now = await self._grow(id, first + len(chunks))
        await self.store.put({chunk_id(id, first + i): pack_entries(chunk.rows) for i, chunk in enumerate(chunks)})
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
        if not await self.scripts.put(written):
            raise CampaignGone(id=id)

    async def _grow(self, id: str, chunks: int) -> int:
        now = await self.scripts.grow(id, chunks=chunks)
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
        state = await self.scripts.start(id, rows=rows, chunks=chunks, counts=counts, reasons=reasons)
        if state in ("gone", State.CANCELLED):
            raise CampaignGone(id=id)
        return State(state)

    async def _check_whole(self, id: str, chunks: int) -> None:
        """A Redis that was started anew may have forgotten what it had answered to; then rows are missing that nobody would miss.
        Raises ListForgotten."""
        k = self.keys
        for first in range(0, chunks, FOUND_CHUNKS):
            names = [chunk_id(id, number) for number in range(first, min(first + FOUND_CHUNKS, chunks))]
            found = await self.redis.exists(*(key for name in names for key in (k.chunk(name), k.records(name))))
            if found != 2 * len(names):
                raise ListForgotten(id=id)

    async def drop_campaign(self, id: str) -> bool:
        """Forget a campaign that was never started; False where it was, or was given up by somebody else."""
        chunks = await self.scripts.drop(id, reason="its list was not read to its end, so nothing of it was sent")
        if chunks is None:
            state, ready, chunks = await self.redis.hmget(self.keys.container(id), "state", "ready", "chunks")
            if state == State.CANCELLED.value.encode() and not ready:
                await self.delete_chunks(id, int(chunks))  # what was written in the very moment
            return False
        await self.delete_chunks(id, chunks)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.zrem(self.keys.campaigns, id)
            pipe.zrem(self.keys.active, id)
            pipe.unlink(self.keys.container(id), self.keys.window(id), self.keys.tokens(id))
            await pipe.execute()
        return True

    async def delete_chunks(self, id: str, chunks: int) -> None:
        """Of a campaign that nothing was sent of. May be repeated. Raises StoreFailed."""
        k = self.keys
        for first in range(0, chunks, 500):
            names = [chunk_id(id, number) for number in range(first, min(first + 500, chunks))]
            await self.redis.unlink(*(make(n) for n in names for make in (k.chunk, k.records, k.details, k.message_ids)))
            await self.store.delete(names)

    # ---- work ----------------------------------------------------------------------------------

    async def lease(
        self, chunk: str, *, owner: str, lease_ms: int, doubt: Mapping[Lane, str] | None = None
    ) -> LeasedChunk | LeaseStatus:
        """Take a chunk to work on, or say why not. `doubt`: what becomes of recipients in doubt, by lane; a campaign is not
        finished while some of them are to be sent to again."""
        lease = await self.scripts.lease(chunk, owner=owner, lease_ms=lease_ms, doubt=doubt or {})
        return lease.status if lease.status is not LeaseStatus.OK else await self.work(chunk, lease)

    async def work(self, chunk: str, lease: Lease) -> LeasedChunk | LeaseStatus:
        """What a chunk that was just leased has in it."""
        container = self.keys.container(container_of(chunk))
        packed_spec, created = await self.redis.hmget(container, "spec", "created")
        if packed_spec is None or created is None:
            return LeaseStatus.GONE
        try:
            entries = await self._entries(chunk)
        except StoreFailed as error:
            await self.park(container_of(chunk), f"waiting: {error}")
            await self.scripts.release(chunk, fence=lease.fence, delay_ms=STORE_PAUSE_MS, harmless=not lease.starts)
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
                found = await self._rows(chunk)
        except TimeoutError:
            raise StoreFailed(url=self._store_name, why=f"it has not answered within {STORE_S:g} s") from None
        if found is None:
            raise self._lost(chunk)
        return found

    async def _rows(self, chunk: str) -> list[Entry] | None:
        if self.archive is not None:
            return await self.archive.entries(chunk)
        payload = await self.store.get(chunk)
        return None if payload is None else unpack_entries(payload)

    async def unarchive(self, chunk: str) -> bool:
        """To be called where something is to be said of a chunk whose records are not in Redis: True where they are when this
        returns. Raises StoreFailed."""
        return self.archive is not None and await self.archive.unarchive(chunk)

    async def unclaim(self, chunk: str, *, fence: int, rows: Sequence[tuple[int, int]]) -> int:
        """Take back what may be stored of a claim by which no call was made, (position, attempt) each; of how many recipients.
        May be repeated. Raises StoreFailed where that cannot be known, for the chunk is archived."""
        reason = REASONS[Outcome.CANCELLED]
        n = await self.scripts.unclaim(chunk, fence=fence, rows=rows, reason=reason)
        if n is None and await self.unarchive(chunk):
            n = await self.scripts.unclaim(chunk, fence=fence, rows=rows, reason=reason)
        return n or 0

    async def take_back(self, chunk: str, outcomes: Set[Outcome]) -> bool:
        """Of a chunk that is not in Redis: True where it has recipients in one of these states; then it is taken back. Raises
        StoreFailed, also where nobody has it."""
        found = await self.archive.read(chunk) if self.archive is not None else None
        if found is None:
            raise self._lost(chunk)
        if all(record.outcome not in outcomes for record in found[1].records):
            return False
        await self.unarchive(chunk)
        return True

    def _lost(self, chunk: str) -> StoreFailed:
        do = "see that MAILER_STORE_URL is the same for workers and applications"
        return StoreFailed(url=self._store_name, why=f"it does not have the recipients of chunk {chunk}; {do}")

    async def stop(self, container: str, reason: str) -> None:
        """A configuration error: nothing more of it is sent, and the reason is kept once."""
        await self.scripts.halt(container, to=State.STOPPED, reason=reason, allowed=SENDING)

    async def park(self, container: str, reason: str) -> None:
        """It waits for something outside. The first message that SES accepts afterwards takes this back."""
        await self.scripts.halt(container, to=State.PARKED, reason=reason, allowed=SENDING)

    # ---- upkeep --------------------------------------------------------------------------------

    async def active_campaigns(self) -> list[ActiveCampaign]:
        """Every campaign that is not over."""
        ids = [id.decode() for id in await self.redis.zrange(self.keys.active, 0, -1)]
        async with self.redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(self.keys.container(id), *ACTIVE_FIELDS)
            found = await pipe.execute()
        return [
            ActiveCampaign(
                id=id,
                state=State((state or b"cancelled").decode()),
                ready=bool(ready),
                finished=bool(finished),
                retired=bool(retired),
                chunks=int(chunks or 0),
                unarchived=int(chunks or 0) - int(archived or 0) if over else 0,
                enlisted=bool(enlisted),
                finished_ms=int(finished) if finished else None,
            )
            for id, (state, ready, finished, retired, chunks, archived, over, enlisted) in zip(ids, found, strict=True)
        ]

    async def lane(self, container: str) -> Lane | None:
        found = await self.redis.hget(self.keys.container(container), "lane")
        return Lane(found.decode()) if found else None

    async def spec(self, container: str) -> Spec | None:
        packed = await self.redis.hget(self.keys.container(container), "spec")
        return Spec.load(packed) if packed else None

    async def change_template(self, id: str, content: bytes) -> None:
        """What is rendered from now on is rendered from this `Content`, packed. Raises NotFound; NoTemplate where the campaign's
        content is of another kind."""
        digest = await self.put_content(content)
        while packed := await self.redis.hget(self.keys.container(id), "spec"):
            spec = Spec.load(packed)
            if spec.content is None:
                raise NoTemplate(id=id)
            changed = replace(spec, content=digest).dump()
            if await self.scripts.change_spec(id, was=packed, spec=changed):
                return
        raise NotFound(id=id)

    async def abandon_campaign(self, id: str, silence_s: float, *, reason: str = UNREAD) -> bool:
        """Its reader has not been heard of for so long, so it is gone. Rows go; what it was called and why it is over stays.

        False where the reader is alive.
        """
        chunks = await self.scripts.drop(id, reason=reason, silence_ms=int(silence_s * 1000))
        if chunks is None:
            return False
        await self.delete_chunks(id, chunks)
        return True

    async def touch_content(self, container: str) -> None:
        spec = await self.spec(container)
        for digest in spec.blobs if spec else ():
            await self.redis.expire(self.keys.content(digest), CONTENT_KEEP_S, gt=True)

    async def retire_campaign(self, id: str, keep_s: int) -> None:
        """It is over: from now on Redis keeps it for `keep_s` seconds. May be repeated, and stops where it is resumed."""
        known_s = keep_s - min(OUTLIVES_S, keep_s // 20)
        async for names, last in self._chunks(id):
            if not await self.scripts.retire(id, names, keep_s=keep_s, known_s=known_s, last=last):
                return
        await self.redis.zremrangebyscore(self.keys.campaigns, "-inf", _now_ms() - 400 * 86_400_000)

    async def revive_campaign(self, id: str) -> None:
        """The campaign goes on: what of it was told to expire is kept. May be repeated."""
        retired = await self.redis.hget(self.keys.container(id), "retired")
        if retired is None:
            return
        async for names, last in self._chunks(id):
            if not await self.scripts.revive(id, names, retired=int(retired), last=last):
                return

    async def _chunks(self, id: str) -> AsyncIterator[tuple[list[str], bool]]:
        """The ids of all its chunks, some at a time, and whether they are the last; none at all where it has none."""
        chunks = int(await self.redis.hget(self.keys.container(id), "chunks") or 0)
        for first in range(0, max(chunks, 1), KEYS_CHUNKS):
            end = min(first + KEYS_CHUNKS, chunks)
            yield [chunk_id(id, number) for number in range(first, end)], end == chunks

    # ---- out -----------------------------------------------------------------------------------

    async def campaign(self, id: str) -> CampaignStatus:
        """Raises NotFound: Forgotten where the store still has its report."""
        found = await self._campaign(id)
        if found is None:
            with suppress(StoreFailed):
                if await self._forgotten(id):
                    raise Forgotten(id=id)
            raise NotFound(id=id)
        return found

    async def _campaign(self, id: str) -> CampaignStatus | None:
        found = await self.redis.hgetall(self.keys.container(id))
        return None if not found or is_message(id) else campaign_status(id, found)

    async def campaigns(self, limit: int = 100) -> list[CampaignStatus]:
        """The newest first. Those that Redis has forgotten are left out."""
        ids = [id.decode() for id in await self.redis.zrevrange(self.keys.campaigns, 0, limit - 1)]
        async with self.redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hgetall(self.keys.container(id))
            found = await pipe.execute()
        return [campaign_status(id, fields) for id, fields in zip(ids, found, strict=True) if fields]

    async def glance(self, ids: Sequence[str]) -> dict[str, CampaignStatus | None]:
        """How campaigns stand, without their names, rates and reasons not to be sent; None of those that Redis does not know."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(self.keys.container(id), *GLANCED)
            found = await pipe.execute()
        names = [name.encode() for name in GLANCED]
        glanced = [{name: value for name, value in zip(names, values, strict=True) if value is not None} for values in found]
        return {id: campaign_status(id, fields) if fields else None for id, fields in zip(ids, glanced, strict=True)}

    async def message(self, id: str) -> MessageStatus:
        """Raises NotFound."""
        k, chunk = self.keys, chunk_id(id, 0)
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.hmget(k.container(id), "spec", "state", "reason")
            pipe.get(k.records(chunk))
            pipe.get(k.message_ids(chunk))
            pipe.hgetall(k.details(chunk))
            (spec, state, why), records, ids, details = await pipe.execute()
        if spec is None or not is_message(id):
            raise NotFound(id=id)
        waiting = why.decode() if state.decode() in (State.PLANNED, State.PARKED, State.STOPPED) else ""
        known = Chunk(list(unpack_records(records)), ids or b"", details)
        loaded = Spec.load(spec)
        return message_status(id, loaded.to, known, waiting, loaded.lane)

    async def report(self, id: str) -> AsyncIterator[RecipientStatus]:
        """Every recipient of a campaign in the order of its list. Raises NotFound, StoreFailed."""
        async for page in self.report_pages(id):
            for line in page:
                yield line

    async def report_pages(self, id: str) -> AsyncIterator[list[RecipientStatus]]:
        """The same chunk by chunk, of which one is in memory at a time. Raises NotFound, StoreFailed.

        Of a campaign that Redis has forgotten: what the store has in its archive.
        """
        if await self._campaign(id) is None:
            names = await self._forgotten(id)
            if not names:
                raise NotFound(id=id)
            for name in names:
                yield await self._report_object(name)
            return
        chunks = int(await self.redis.hget(self.keys.container(id), "chunks") or 0)
        for number in range(chunks):
            yield await self._report_chunk(chunk_id(id, number))

    async def _forgotten(self, id: str) -> list[str]:
        """What the store has of a campaign that Redis does not know."""
        return await self.archive.forgotten(id) if self.archive and not is_message(id) and is_container(id) else []

    async def _report_object(self, name: str) -> list[RecipientStatus]:
        found = await self.archive.read_object(name) if self.archive else None
        return report_lines(_chunk_of(name), *found) if found else []

    async def recipient(self, id: str) -> RecipientStatus:
        """One line of the report; of a message, too. Raises NotFound, StoreFailed."""
        chunk, position = place_of(id) or ("", 0)
        spec, chunks = await self.redis.hmget(self.keys.container(container_of(chunk)), "spec", "chunks")
        lines = list[RecipientStatus]()
        if chunk and spec is None:
            for name in await self._forgotten(container_of(chunk)):
                if _chunk_of(name) == chunk:
                    lines = await self._report_object(name)
        elif chunk and chunk_number(chunk) < (1 if is_message(chunk) else int(chunks or 0)):
            lines = await self._report_chunk(chunk)
        if position >= len(lines):
            raise NotFound(id=id)
        return lines[position]

    async def _report_chunk(self, chunk: str) -> list[RecipientStatus]:
        """Wherever the chunk is; on its way from one place to the other it is in both."""
        k = self.keys
        for _ in range(READS):
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.get(k.records(chunk))
                pipe.get(k.message_ids(chunk))
                pipe.hgetall(k.details(chunk))
                records, ids, details = await pipe.execute()
            if records is not None:
                known = Chunk(list(unpack_records(records)), ids or b"", details)
                if (entries := await self._rows(chunk)) is not None:
                    return report_lines(chunk, entries, known)
            elif self.archive is not None and (found := await self.archive.read(chunk)) is not None:
                return report_lines(chunk, *found)
        if await self.redis.hget(k.container(container_of(chunk)), "ready"):  # else it was given up, and nothing is left of it
            raise self._lost(chunk)
        return []

    async def outcome_counts(self, id: str) -> dict[Outcome, int]:
        found = await self.redis.hgetall(self.keys.container(id))
        return outcome_counts(found)

    async def doubtful(self, grace_ms: int, *, limit: int) -> list[str]:
        """Chunks with recipients that have been in doubt for longer than the grace, those first that have been longest."""
        until = await self.scripts.now_ms() - grace_ms
        found = await self.redis.zrangebyscore(self.keys.doubt, "-inf", until, start=0, num=limit)
        return [chunk.decode() for chunk in found]

    async def in_doubt(self) -> int:
        """How many recipients are `unknown`, of all that Redis still knows."""
        chunks = [chunk.decode() for chunk in await self.redis.zrange(self.keys.doubt, 0, -1)]
        async with self.redis.pipeline(transaction=False) as pipe:
            for chunk in chunks:
                pipe.hget(self.keys.chunk(chunk), "doubt")
            found = await pipe.execute()
        if gone := [chunk for chunk, n in zip(chunks, found, strict=True) if n is None]:
            await self.redis.zrem(self.keys.doubt, *gone)
        return sum(int(n or 0) for n in found)

    async def queue_depth(self, lane: Lane) -> int:
        return int(await self.redis.zcard(self.keys.queue(lane)))
