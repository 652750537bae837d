"""Templates, attachments and MIME messages, each stored once under its digest."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress

from redis.exceptions import WatchError

from ..errors import ContentAltered
from ..redis.client import RedisClient
from .keys import Keys
from .spec import Spec

CONTENT_KEEP_S = 30 * 86_400  # since it was last stored, sent from, or seen by the reaper under a campaign that goes on


class Contents:
    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def put(self, packed: bytes, *, until_ms: int | None = None) -> str:
        """Store a template, attachment or MIME message once, under its digest, which this returns.

        It stays CONTENT_KEEP_S after it was last stored or used; `until_ms`: after that time, where it is used later.
        """
        digest = digest_of(packed)
        later_s = max(0, (until_ms or 0) - int(time.time() * 1000)) // 1000
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.content(digest), packed, nx=True, ex=CONTENT_KEEP_S)
            pipe.expire(self._keys.content(digest), CONTENT_KEEP_S + later_s, gt=True)
            await pipe.execute()
        return digest

    async def get(self, digest: str, what: str) -> bytes | None:
        """None where Redis does not have it any more. Raises ContentAltered, which names it as `what`, where it is something else
        that stands there; then it is forgotten, so that it can be stored again."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._keys.content(digest))
            pipe.expire(self._keys.content(digest), CONTENT_KEEP_S, gt=True)
            packed: bytes | None = (await pipe.execute())[0]
        if packed is not None and digest_of(packed) != digest:
            await self._forget_altered(digest)
            raise ContentAltered(what=what)
        return packed

    async def _forget_altered(self, digest: str) -> None:
        """Where it has not been stored anew in the meantime."""
        key = self._keys.content(digest)
        async with self._redis.pipeline(transaction=True) as pipe:
            with suppress(WatchError):
                await pipe.watch(key)
                packed = await pipe.get(key)
                pipe.multi()
                if packed is not None and digest_of(packed) != digest:
                    pipe.unlink(key)
                await pipe.execute()

    async def touch(self, spec: Spec | None) -> None:
        """What is sent by this is still needed."""
        for digest in spec.blobs if spec else ():
            await self._redis.expire(self._keys.content(digest), CONTENT_KEEP_S, gt=True)


def digest_of(packed: bytes) -> str:
    """The name under which it is stored."""
    return hashlib.sha256(packed).hexdigest()[:32]
