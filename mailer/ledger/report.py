"""What is told of campaigns, messages and recipients, wherever they are: in Redis or in the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from ..errors import Forgotten, NotFound, StoreFailed
from ..ids import chunk_id, chunk_number, container_of, is_container, is_message, place_of
from ..message.email import Lane, Outcome, State
from ..redis.client import RedisClient
from .archive import Chunk
from .keys import Keys
from .records import LETTERS, unpack_records
from .spec import Spec
from .status import (
    CampaignStatus,
    MessageStatus,
    RecipientStatus,
    campaign_status,
    message_status,
    outcome_counts,
    report_lines,
)
from .work import Work

GLANCED = ("state", "reason", "rows", "lane", "created", "finished", *(f"n:{letter}" for letter in LETTERS.values()))
READS = 5  # of a chunk that is archived or taken back while it is being read


class Report:
    def __init__(self, redis: RedisClient, keys: Keys, work: Work) -> None:
        self._redis = redis
        self._keys = keys
        self._work = work
        self._archive = work.archive

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
        found = await self._redis.hgetall(self._keys.container(id))
        return None if not found or is_message(id) else campaign_status(id, found)

    async def campaigns(self, limit: int = 100) -> list[CampaignStatus]:
        """The newest first. Those that Redis has forgotten are left out."""
        ids = [id.decode() for id in await self._redis.zrevrange(self._keys.campaigns, 0, limit - 1)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hgetall(self._keys.container(id))
            found = await pipe.execute()
        return [campaign_status(id, fields) for id, fields in zip(ids, found, strict=True) if fields]

    async def glance(self, ids: Sequence[str]) -> dict[str, CampaignStatus | None]:
        """How campaigns stand, without their names, rates and reasons not to be sent; None of those that Redis does not know."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(self._keys.container(id), *GLANCED)
            found = await pipe.execute()
        names = [name.encode() for name in GLANCED]
        glanced = [{name: value for name, value in zip(names, values, strict=True) if value is not None} for values in found]
        return {id: campaign_status(id, fields) if fields else None for id, fields in zip(ids, glanced, strict=True)}

    async def message(self, id: str) -> MessageStatus:
        """Raises NotFound."""
        k, chunk = self._keys, chunk_id(id, 0)
        async with self._redis.pipeline(transaction=False) as pipe:
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

    async def lines(self, id: str) -> AsyncIterator[RecipientStatus]:
        """Every recipient of a campaign in the order of its list. Raises NotFound, StoreFailed."""
        async for page in self.pages(id):
            for line in page:
                yield line

    async def pages(self, id: str) -> AsyncIterator[list[RecipientStatus]]:
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
        chunks = int(await self._redis.hget(self._keys.container(id), "chunks") or 0)
        for number in range(chunks):
            yield await self._report_chunk(chunk_id(id, number))

    async def _forgotten(self, id: str) -> list[str]:
        """What the store has of a campaign that Redis does not know."""
        return await self._archive.forgotten(id) if self._archive and not is_message(id) and is_container(id) else []

    async def _report_object(self, name: str) -> list[RecipientStatus]:
        found = await self._archive.read_object(name) if self._archive else None
        return report_lines(_chunk_of(name), *found) if found else []

    async def recipient(self, id: str) -> RecipientStatus:
        """One line of the report; of a message, too. Raises NotFound, StoreFailed."""
        chunk, position = place_of(id) or ("", 0)
        spec, chunks = await self._redis.hmget(self._keys.container(container_of(chunk)), "spec", "chunks")
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
        k = self._keys
        for _ in range(READS):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(k.records(chunk))
                pipe.get(k.message_ids(chunk))
                pipe.hgetall(k.details(chunk))
                records, ids, details = await pipe.execute()
            if records is not None:
                known = Chunk(list(unpack_records(records)), ids or b"", details)
                if (entries := await self._work.rows(chunk)) is not None:
                    return report_lines(chunk, entries, known)
            elif self._archive is not None and (found := await self._archive.read(chunk)) is not None:
                return report_lines(chunk, *found)
        if await self._redis.hget(k.container(container_of(chunk)), "ready"):  # else it was given up, and nothing is left of it
            raise self._work.lost(chunk)
        return []

    async def outcome_counts(self, id: str) -> dict[Outcome, int]:
        found = await self._redis.hgetall(self._keys.container(id))
        return outcome_counts(found)

    async def in_doubt(self) -> int:
        """How many recipients are `unknown`, of all that Redis still knows."""
        chunks = [chunk.decode() for chunk in await self._redis.zrange(self._keys.doubt, 0, -1)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for chunk in chunks:
                pipe.hget(self._keys.chunk(chunk), "doubt")
            found = await pipe.execute()
        if gone := [chunk for chunk, n in zip(chunks, found, strict=True) if n is None]:
            await self._redis.zrem(self._keys.doubt, *gone)
        return sum(int(n or 0) for n in found)

    async def queue_depth(self, lane: Lane) -> int:
        return int(await self._redis.zcard(self._keys.queue(lane)))


def _chunk_of(name: str) -> str:
    """The chunk whose archive an object is."""
    return name.replace("/", "-").rpartition("-")[0]
