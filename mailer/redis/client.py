"""The type of a Redis client.

redis-py declares each command as "an awaitable or a value", for its two clients at once, so its own types are of no use to
`mypy --strict`. Replies are checked where they are taken apart: `scripts.py` and `ledger.py`.
"""

from typing import Any, TypeAlias

RedisClient: TypeAlias = Any  # a redis.asyncio.Redis that gives bytes
