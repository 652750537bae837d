"""What SES said of an account's identities and configuration sets, shared by all processes, as long as somebody refreshes it.

Identities are found by their name in lower case: a domain's case means nothing, and the local part's is left to SES.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..ledger import Ledger

_LISTED_AT = "listed_at"  # no identity's name: it has neither a dot nor an @
_PIECE = 1000  # identities that are written by one command
_GONE_MS = 1_000  # a configuration set that is missing is believed missing for this long: it is made by hand, while one waits
_IN_USE_MS = 3_600_000  # what was used in this time is read again with every refresh


class Identity(NamedTuple):
    """One that SES has or, where it was looked up and is not verified, may not have."""

    name: str  # as SES spells it
    verified: bool
    looked_up_ms: int = 0  # when it was asked for by its name, on Redis's clock; 0: it was only seen in the list
    configuration_set: str = ""  # its default, where it was looked up

    @property
    def key(self) -> str:
        return self.name.lower()

    def pack(self) -> str:
        spelled = "" if self.name == self.key else self.name
        return f"{self.verified:d}|{self.looked_up_ms or ''}|{self.configuration_set}|{spelled}"

    @classmethod
    def unpack(cls, key: str, packed: bytes) -> Identity:
        verified, looked_up, configuration_set, spelled = packed.decode().split("|", 3)
        return cls(spelled or key, verified == "1", int(looked_up or 0), configuration_set)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSet:
    """A configuration set."""

    sending_enabled: bool
    suppressed_reasons: frozenset[str] | None  # None: as the account has it
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of some identities; times are Redis's clock, in ms."""

    identities: dict[str, Identity]  # by name in lower case; what is not known is not there
    listed_ms: int  # 0: no list is known, so that one which is missing here may well exist
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance(Found):
    """What the gate has to know of a sender."""

    believed: bool  # the account's state is there and fresh; else what follows means nothing
    production: bool
    suppressed_reasons: frozenset[str]  # of the account
    set_name: str  # the configuration set that holds, as far as is known; "": none
    set_state: KnownSet | None
    held_s: float = 0.0  # nothing of it is tried for so long; see `holds.py`
    held_for: str = ""  # why
    turn: bool = False  # it is held, and this one is tried all the same


class Identities:
    """`keep_s`: how long all of this is believed without being refreshed."""

    def __init__(self, ledger: Ledger, account: str, *, keep_s: int) -> None:
        self._redis = ledger.redis
        self._keys = ledger.keys
        self._scripts = ledger.scripts.of("mailer.identities")
        self._account = account
        self._key = self._keys.identities(account)
        self._keep_s = keep_s

    # ---- to be asked ---------------------------------------------------------------------------

    async def glance(
        self, names: Sequence[str], *, defaults: int, named_set: str | None, stale_ms: int, holds: Sequence[str] = ()
    ) -> Glance:
        """All that sending by these identities depends on; the first `defaults` may have a default set. `holds`: keys of what it
        may be held by. One round trip."""
        keys = [name.lower() for name in names]
        k, account = self._keys, self._account
        given = (stale_ms, k.configuration_set(account, ""), named_set or "", defaults, *keys)
        now, believed, production, reasons, listed, set_name, state, values, held_ms, why, turn = await self._scripts.run(
            "gate", [k.account(account), self._key, k.in_use(account), *holds], *given
        )
        return Glance(
            identities=_unpacked(keys, values),
            listed_ms=int(listed or 0),
            now_ms=int(now),
            believed=bool(believed),
            production=production == b"1",
            suppressed_reasons=frozenset(filter(None, reasons.decode().split(","))),
            set_name=set_name.decode(),
            set_state=_known_set(*state) if state else None,
            held_s=int(held_ms) / 1000,
            held_for=why.decode(),
            turn=bool(turn),
        )

    async def find(self, names: Iterable[str]) -> Found:
        keys = list(dict.fromkeys(name.lower() for name in names))
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(self._key, _LISTED_AT, *keys)
            pipe.time()
            (listed, *values), (seconds, micros) = await pipe.execute()
        identities = _unpacked(keys, values)
        return Found(identities=identities, listed_ms=int(listed or 0), now_ms=seconds * 1000 + micros // 1000)

    async def find_set(self, name: str) -> KnownSet | None:
        return _known_set(
            *await self._redis.hmget(self._keys.configuration_set(self._account, name), "enabled", "reasons", "gone")
        )

    async def in_use(self) -> tuple[list[str], list[str]]:
        """The identities and the configuration sets that were used lately."""
        key, now = self._keys.in_use(self._account), await self._now_ms()
        await self._redis.zremrangebyscore(key, "-inf", now - _IN_USE_MS)
        members = [member.decode() for member in await self._redis.zrange(key, 0, -1)]
        return [name[1:] for name in members if name[0] == "i"], [name[1:] for name in members if name[0] == "s"]

    # ---- to be told ----------------------------------------------------------------------------

    async def store(self, name: str, verified: bool, configuration_set: str | None) -> Identity:
        """What was said of one. It ends with the list that it belongs to: only a new list makes the time longer."""
        identity = Identity(name, verified, await self._now_ms(), configuration_set or "")
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key, identity.key, identity.pack())
            pipe.expire(self._key, self._keep_s, nx=True)
            await pipe.execute()
        return identity

    async def replace(self, listed: Mapping[str, bool]) -> None:
        """A list of all, by name, takes the place of everything; but what was looked up of those that are in use stays, so that
        no message has to wait for it."""
        used, _ = await self.in_use()
        kept = (await self.find(used)).identities.values() if used else ()
        identities = {name.lower(): Identity(name, verified) for name, verified in sorted(listed.items(), key=lambda one: one[1])}
        for one in kept:
            if one.verified and one.looked_up_ms and one.key in identities and identities[one.key].verified:
                identities[one.key] = one
        packed = [(key, one.pack()) for key, one in identities.items()]
        now = await self._now_ms()
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._key)
            for first in range(0, len(packed), _PIECE):
                pipe.hset(self._key, mapping=dict(packed[first : first + _PIECE]))
            pipe.hset(self._key, _LISTED_AT, now)
            pipe.expire(self._key, self._keep_s)
            pipe.delete(self._keys.listing_trouble(self._account))
            await pipe.execute()

    async def forget(self, names: Iterable[str]) -> None:
        """SES said otherwise: they are to be looked up anew."""
        if keys := {name.lower() for name in names}:
            await self._redis.hdel(self._key, *keys)

    async def store_set(self, name: str, state: KnownSet) -> None:
        key = self._keys.configuration_set(self._account, name)
        fields: dict[str, str | int] = {"enabled": int(state.sending_enabled), "gone": int(state.gone)}
        if state.suppressed_reasons is not None:
            fields["reasons"] = ",".join(sorted(state.suppressed_reasons))
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping=fields)
            pipe.pexpire(key, _GONE_MS if state.gone else self._keep_s * 1000)
            await pipe.execute()

    async def use_set(self, name: str) -> None:
        """It is in use, and to be read again with every refresh; later looks of the gate say it themselves."""
        await self._redis.zadd(self._keys.in_use(self._account), {f"s{name}": await self._now_ms()})

    async def pause_set(self, name: str) -> None:
        """SES said that sending by it is paused. The next refresh has the last word."""
        key = self._keys.configuration_set(self._account, name)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping={"enabled": 0, "gone": 0})
            pipe.expire(key, self._keep_s)
            await pipe.execute()

    # ---- whose turn it is ----------------------------------------------------------------------

    async def may_refresh(self, every_s: float) -> bool:
        """True for one process of all, and not more often than `every_s` seconds."""
        turn = self._keys.identities_turn(self._account)
        return bool(await self._redis.set(turn, 1, nx=True, px=max(1, int(every_s * 1000))))

    async def give_up_refresh(self) -> None:
        await self._redis.delete(self._keys.identities_turn(self._account))

    async def may_ask(self, every_ms: int) -> bool:
        """True for one caller of all, and not more often than that."""
        return bool(await self._redis.set(self._keys.asking(self._account), 1, nx=True, px=every_ms))

    async def may_list(self, at_most_s: int) -> bool:
        """True for one process of all, until `listed`."""
        return bool(await self._redis.set(self._keys.listing(self._account), 1, nx=True, ex=at_most_s))

    async def listed(self, pause_s: int) -> None:
        await self._redis.expire(self._keys.listing(self._account), pause_s)

    async def trouble(self, reason: str) -> None:
        """They could not be listed: keep why, so that what waits can say so."""
        key, now = self._keys.listing_trouble(self._account), await self._now_ms()
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping={"why": reason, "at": now})
            pipe.expire(key, self._keep_s)
            await pipe.execute()

    async def why_not_listed(self, since_ms: int) -> str:
        """Why a listing failed after that time; "" where none did."""
        why, at = await self._redis.hmget(self._keys.listing_trouble(self._account), "why", "at")
        return why.decode() if why and int(at) >= since_ms else ""

    async def _now_ms(self) -> int:
        seconds, micros = await self._redis.time()
        return int(seconds * 1000 + micros // 1000)


def _unpacked(keys: Sequence[str], values: Sequence[bytes | None]) -> dict[str, Identity]:
    return {key: Identity.unpack(key, value) for key, value in zip(keys, values, strict=True) if value is not None}


def _known_set(enabled: bytes | None, reasons: bytes | None, gone: bytes | None) -> KnownSet | None:
    if enabled is None:
        return None
    return KnownSet(
        sending_enabled=enabled == b"1",
        suppressed_reasons=None if reasons is None else frozenset(filter(None, reasons.decode().split(","))),
        gone=gone == b"1",
    )
