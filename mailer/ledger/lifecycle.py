"""How campaigns and messages go on, stand still and end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from ..errors import NoTemplate, NotFound
from ..ids import chunk_id
from ..message.email import Lane, State
from ..redis.client import RedisClient
from ..redis.scripts import Scripts
from .contents import Contents
from .keys import Keys
from .spec import Spec

SENDING = (State.RUNNING, State.PARKED)
KEYS_CHUNKS = 100  # chunks whose keys one script goes through: less than a millisecond
ACTIVE_FIELDS = ("state", "ready", "finished", "retired", "chunks", "archived", "over", "enlisted")
OUTLIVES_S = 3600  # chunks outlive their campaign by so much, or a twentieth: one that is resumed in its last moment is whole
KNOWN_S = 400 * 86_400  # after which a campaign's place in the list of all is forgotten


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
        """As is_over in lua/lib/common.lua, whose word is the last."""
        if self.state is State.CANCELLED:
            return self.finished or not self.ready
        return self.state in (State.FINISHED, State.STOPPED)


class Lifecycle:
    def __init__(self, redis: RedisClient, keys: Keys, scripts: Scripts, contents: Contents) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._contents = contents

    async def lane(self, container: str) -> Lane | None:
        found = await self._redis.hget(self._keys.container(container), "lane")
        return Lane(found.decode()) if found else None

    async def spec(self, container: str) -> Spec | None:
        packed = await self._redis.hget(self._keys.container(container), "spec")
        return Spec.load(packed) if packed else None

    async def active_campaigns(self) -> list[ActiveCampaign]:
        """Every campaign that is not over."""
        ids = [id.decode() for id in await self._redis.zrange(self._keys.active, 0, -1)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(self._keys.container(id), *ACTIVE_FIELDS)
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

    async def feed(self, container: str, *, window: int, patience_ms: int) -> list[str]:
        """Fill the campaign's window; the ids of the chunks that were added. O(window)."""
        k = self._keys
        added = await self._scripts.run(
            "feed", [k.container(container), k.window(container), k.due], container, window, patience_ms
        )
        return [f"{container}-{int(number)}" for number in added]

    # ---- it stands still, or ends --------------------------------------------------------------

    async def stop(self, container: str, reason: str) -> None:
        """A configuration error: nothing more of it is sent, and the reason is kept once."""
        await self.halt(container, to=State.STOPPED, reason=reason, allowed=SENDING)

    async def park(self, container: str, reason: str) -> None:
        """It waits for something outside. The first message that SES accepts afterwards takes this back."""
        await self.halt(container, to=State.PARKED, reason=reason, allowed=SENDING)

    async def halt(self, container: str, *, to: State, reason: str, allowed: Sequence[State]) -> str:
        """Change a container's state where it is one of `allowed`; the state afterwards. O(1)."""
        return str((await self._scripts.run("halt", [self._keys.container(container)], to.value, reason, *allowed)).decode())

    async def guard(self, container: str) -> str:
        """The reason where this call has found that too many bounced or complained, and paused it; else nothing. O(1)."""
        return str((await self._scripts.run("guard", [self._keys.container(container)])).decode())

    async def change_template(self, id: str, content: bytes) -> None:
        """What is rendered from now on is rendered from this `Content`, packed. Raises NotFound; NoTemplate where the campaign's
        content is of another kind."""
        digest = await self._contents.put(content)
        while packed := await self._redis.hget(self._keys.container(id), "spec"):
            spec = Spec.load(packed)
            if spec.content is None:
                raise NoTemplate(id=id)
            changed = replace(spec, content=digest).dump()
            if await self._change_spec(id, was=packed, spec=changed):
                return
        raise NotFound(id=id)

    async def _change_spec(self, container: str, *, was: bytes, spec: bytes) -> bool:
        """False where the spec is not `was` any more. May be repeated. O(1)."""
        return bool(await self._scripts.run("change_spec", [self._keys.container(container)], was, spec))

    # ---- it is forgotten, or kept --------------------------------------------------------------

    async def touch_content(self, container: str) -> None:
        await self._contents.touch(await self.spec(container))

    async def retire_campaign(self, id: str, keep_s: int) -> None:
        """It is over: from now on Redis keeps it for `keep_s` seconds. May be repeated, and stops where it is resumed."""
        known_s = keep_s - min(OUTLIVES_S, keep_s // 20)
        async for names, last in self._chunks(id):
            if not await self._retire(id, names, keep_s=keep_s, known_s=known_s, last=last):
                return
        await self._redis.zremrangebyscore(self._keys.campaigns, "-inf", int(time.time() * 1000) - KNOWN_S * 1000)

    async def _retire(self, container: str, chunks: Sequence[str], *, keep_s: int, known_s: int, last: bool) -> bool:
        """See retire.lua; False where it is not over (any more). O(chunks)."""
        k = self._keys
        keys = [k.container(container), k.window(container), k.active, k.tokens(container), *self._kept_keys(chunks)]
        return bool(await self._scripts.run("retire", keys, container, keep_s, known_s, int(last)))

    async def revive_campaign(self, id: str) -> None:
        """The campaign goes on: what of it was told to expire is kept. May be repeated."""
        retired = await self._redis.hget(self._keys.container(id), "retired")
        if retired is None:
            return
        async for names, last in self._chunks(id):
            if not await self._revive(id, names, retired=int(retired), last=last):
                return

    async def _revive(self, container: str, chunks: Sequence[str], *, retired: int, last: bool) -> bool:
        """See revive.lua; False where it is over. O(chunks)."""
        keys = [self._keys.container(container), self._keys.tokens(container), *self._kept_keys(chunks)]
        return bool(await self._scripts.run("revive", keys, retired, int(last)))

    def _kept_keys(self, chunks: Sequence[str]) -> list[str]:
        k = self._keys
        return [make(chunk) for chunk in chunks for make in (k.chunk, k.records, k.details, k.message_ids, k.payload)]

    async def _chunks(self, id: str) -> AsyncIterator[tuple[list[str], bool]]:
        """The ids of all its chunks, some at a time, and whether they are the last; none at all where it has none."""
        chunks = int(await self._redis.hget(self._keys.container(id), "chunks") or 0)
        for first in range(0, max(chunks, 1), KEYS_CHUNKS):
            end = min(first + KEYS_CHUNKS, chunks)
            yield [chunk_id(id, number) for number in range(first, end)], end == chunks
