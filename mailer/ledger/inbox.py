"""What SNS brought over HTTP, in a stream of Redis until a worker has applied it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from ..redis.scripts import Scripts, flat
from .keys import Keys


class Inbox:
    def __init__(self, keys: Keys, scripts: Scripts) -> None:
        self._keys = keys
        self._scripts = scripts

    async def notify(self, id: str, fields: Mapping[str, str], *, life_s: int) -> bool:
        """Queue what SNS brought under this id, and remember the id for so long; False where it was there before. Without fields
        it is remembered only. Atomic, and may be repeated when its answer was lost. O(1)."""
        keys = [self._keys.notified(id), self._keys.inbox]
        return bool(await self._scripts.run("notify", keys, secrets.token_hex(8), life_s, *flat(fields)))

    async def remove_consumers(self, group: str, *, idle_ms: int) -> int:
        """Remove consumers of the inbox that were not heard of for so long and hold nothing; how many. O(consumers)."""
        return int(await self._scripts.run("remove_consumers", [self._keys.inbox], group, idle_ms))
