"""Where chunk payloads live. `redis:` is the one place in this version; others take the same three calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from .keys import Keys
from .redis import RedisClient


class Store(Protocol):
    """Payloads by chunk id. A payload is written once and never changed. In Redis it expires with its chunk's records."""

    async def put(self, payloads: Mapping[str, bytes]) -> None: ...

    async def get(self, chunk: str) -> bytes | None: ...

    async def delete(self, chunks: Iterable[str]) -> None: ...


class RedisStore:
    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def put(self, payloads: Mapping[str, bytes]) -> None:
        if payloads:
            await self._redis.mset({self._keys.payload(chunk): payload for chunk, payload in payloads.items()})

    async def get(self, chunk: str) -> bytes | None:
        payload: bytes | None = await self._redis.get(self._keys.payload(chunk))
        return payload

    async def delete(self, chunks: Iterable[str]) -> None:
        names = [self._keys.payload(chunk) for chunk in chunks]
        if names:
            await self._redis.unlink(*names)
