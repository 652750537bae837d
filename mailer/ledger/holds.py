"""What is held back because SES refuses it: what a sender sends, and a campaign whose recipients are all refused alike.

Others go on meanwhile. One message at a time is tried, and the first that SES accepts lets the rest go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from .ledger import Ledger
from .spec import Spec

_FIELDS = ("until", "pause", "tried", "reason")  # as in lua/lib/holds.lua


class Pauses(NamedTuple):
    """Between two that are tried: the first, doubling up to the longest. Seconds."""

    first_s: float
    longest_s: float


class Refused(NamedTuple):
    """What is to become of recipients that were refused alike."""

    held_s: float  # until the next one is tried; 0: the campaign is not held
    tries: int  # the most of any of them
    given_up: frozenset[str]  # the others are tried again


class Holds:
    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._keys = ledger.keys
        self._scripts = ledger.scripts

    def sender(self, account: str, spec: Spec) -> str:
        """The key of all that is sent as this is: same account, tenant, configuration set and From address."""
        sender = orjson.dumps([spec.tenant, spec.configuration_set, spec.identity_arn, spec.from_address])
        return self._keys.held(account, hashlib.sha256(sender).hexdigest()[:16])

    def campaign(self, id: str) -> str:
        """The key of a campaign."""
        return self._keys.alike(id)

    async def hold(self, key: str, reason: str, pauses: Pauses) -> float:
        """SES has refused this; the seconds until the next is tried. O(1)."""
        return int(await self._scripts.run("hold", [key], reason, _ms(pauses.first_s), _ms(pauses.longest_s))) / 1000

    async def why(self, key: str) -> str:
        """Why it is held; "" where it is not. O(1)."""
        until, reason = await self._redis.hmget(key, "until", "reason")
        return reason.decode() if until and reason else ""

    async def let_go(self, keys: Iterable[str]) -> None:
        """SES has accepted one. O(keys)."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hdel(key, *_FIELDS)
            await pipe.execute()

    async def refused(
        self,
        container: str,
        attempts: Mapping[str, int],
        *,
        alike: str,
        others_accepted: bool,
        limit: int,
        tries: int,
        reason: str,
        pauses: Pauses,
    ) -> Refused:
        """See alike.lua. `attempts`: recipient → the number of the attempt that was refused. O(recipients)."""
        keys = [self._keys.container(container), self._keys.alike(container)]
        limits = (limit, tries, _ms(pauses.first_s), _ms(pauses.longest_s))
        pairs = [part for pair in attempts.items() for part in pair]
        held_ms, most, *given_up = await self._scripts.run(
            "alike", keys, alike, "1" if others_accepted else "", *limits, reason, *pairs
        )
        over = frozenset(recipient for recipient, one in zip(attempts, given_up, strict=True) if one)
        return Refused(int(held_ms) / 1000, int(most), over)


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
