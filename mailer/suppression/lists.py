"""Who must not be written to: our own list, and a copy of SES's for each account.

An address stands in its table in lower case (ASCII; SES sends without regard to case), and its items in one short text:

- our own: ``b1750000000:news``, reason, since (s), stream percent-quoted and empty where it is for everything;
- SES's: ``B1750000000000.7.21``, reason, last update (ms), the generation of the pass that saw it last, and which letters of
  SES's spelling are capitals, as a hexadecimal number: ``Foo@x`` and ``foo@x`` are two entries there, and one recipient.

Several are separated by a blank. What cannot be read raises ValueError: then nobody knows, and nothing is sent.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ..ledger import Ledger

BUCKETS = 1 << 16  # the same number is in lua/lib/buckets.lua
PLACES = 1 << 25  # bits, 4 MB: a million entries have one in thirty-four set
WRITE_STEP = 250  # entries a script, so that no other client of Redis waits a millisecond for them
# Buckets a script looks into, so that it takes a millisecond or two: a thousand entries, or a thousand buckets with next to none.
STEP, STEP_OF_FEW = 64, 1024
FEW = 50_000  # entries
TURN_MS = 60_000  # longer than one page with its retries; renewed with each
REMOVED_KEPT_MS = 120_000  # longer than one page is under way
MAX_STREAM = 128  # bytes of a stream's name

_OWN = re.compile(r"([a-z])(\d+):([!-~]*)")
_SES = re.compile(r"([A-Z])(\d+)\.\d+\.([0-9a-f]*)")


class Reason(StrEnum):
    """Why an address is on our own list."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


_LETTERS = {reason.value[0]: reason for reason in Reason}
OTHER = "OTHER"  # a reason of SES's that we do not know
_SES_REASONS = {"B": "BOUNCE", "C": "COMPLAINT", "X": OTHER}
_SES_LETTERS = {reason: letter for letter, reason in _SES_REASONS.items()}


class OwnEntry(NamedTuple):
    address: str  # in lower case
    reason: Reason
    stream: str  # a sender profile's name; empty: everything
    since: datetime


class SesEntry(NamedTuple):
    address: str  # as SES spells it, which its management calls insist on
    reason: str  # BOUNCE or COMPLAINT; OTHER where SES has a reason that we do not know
    updated_at: datetime


class Found(NamedTuple):
    """What there is about one address."""

    own: Sequence[OwnEntry]
    ses: Sequence[SesEntry]


class NewEntry(NamedTuple):
    address: str
    reason: Reason
    stream: str = ""
    since: datetime | None = None  # None: now


@dataclass(frozen=True, slots=True, kw_only=True)
class SesList:
    """How far SES's list of one account is known. Times are Redis's clock but for those that say otherwise."""

    now: datetime
    entries: int
    whole_at: datetime | None  # it was read from its first page to its last by then; None: never
    synced_at: datetime | None  # what SES had added by then is here
    checkpoint: datetime | None  # SES's clock: what it added later may not be here
    generation: int
    passing: bool  # a full pass is under way
    pass_seen: int  # entries that it has seen
    pass_token: str  # where it goes on; empty: at the first page
    pass_at: datetime | None  # when it began
    pass_checkpoint: datetime | None  # the same by SES's clock
    sweep: int | None  # the pass has read all; the bucket that is to be swept next
    trouble: str  # why SES could not be asked, since its last answer
    trouble_since: datetime | None
    tried_at: datetime | None  # the last time it could not


class Checked(NamedTuple):
    now: datetime  # Redis's clock
    hits: Mapping[int, Found]  # by the place among the addresses that were asked about
    ses: SesList | None  # None where SES's list was not asked about


def fold(address: str) -> bytes:
    """The form under which an address stands in the tables, and under which two are the same."""
    return address.strip().encode("utf-8", "surrogatepass").lower()  # of bytes: the ASCII letters only


def place(folded: bytes) -> int:
    return zlib.crc32(folded) & (PLACES - 1)


def capitals(spelling: str) -> str:
    """Which bytes of a spelling are not as `fold` has them: a hexadecimal number, empty where all are."""
    given = spelling.strip().encode("utf-8", "surrogatepass")
    mask = sum(1 << i for i, (a, b) in enumerate(zip(given, given.lower(), strict=True)) if a != b)
    return f"{mask:x}" if mask else ""


def spelled(folded: bytes, mask: str) -> str:
    number = int(mask or "0", 16)
    return bytes(byte - 32 if number >> i & 1 else byte for i, byte in enumerate(folded)).decode("utf-8", "surrogatepass")


def pack_stream(stream: str) -> str:
    """Any text as visible ASCII without a blank, a colon or a `*`. Raises ValueError where it is too long."""
    raw = stream.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_STREAM:
        raise ValueError(f"a stream's name has at most {MAX_STREAM} bytes")
    return quote_from_bytes(raw, safe="")


def unpack_own(folded: bytes, packed: bytes) -> list[OwnEntry]:
    """Raises ValueError."""
    address, entries = folded.decode("utf-8", "surrogatepass"), []
    for letter, seconds, stream in _items(_OWN, packed):
        text = unquote_to_bytes(stream).decode("utf-8", "surrogatepass")
        entries.append(OwnEntry(address, _LETTERS[letter], text, datetime.fromtimestamp(int(seconds), UTC)))
    return entries


def unpack_ses(folded: bytes, packed: bytes) -> list[SesEntry]:
    """Raises ValueError."""
    return [
        SesEntry(spelled(folded, mask), _SES_REASONS[letter], _moment(ms)) for letter, ms, mask in _items(_SES, packed)
    ]  # fmt: skip


def _items(pattern: re.Pattern[str], packed: bytes) -> list[tuple[str, ...]]:
    found = []
    for item in packed.decode("ascii").split(" ") if packed else ():
        match = pattern.fullmatch(item)
        if match is None or match[1] not in (_LETTERS if pattern is _OWN else _SES_REASONS):
            raise ValueError(f"an entry of the suppression list cannot be read: {item[:80]!r}")
        found.append(match.groups())
    return found


def _moment(ms: bytes | str | float) -> datetime:
    return datetime.fromtimestamp(float(ms) / 1000, UTC)


def ms_of(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


class SuppressionLists:
    """The tables. Everything raises what redis-py raises where Redis does not answer."""

    def __init__(self, ledger: Ledger) -> None:
        self._redis = ledger.redis
        self._keys = ledger.keys
        self._scripts = ledger.scripts.of("mailer.suppression")

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self._scripts.run(name, keys, *args)

    # ---- looking -------------------------------------------------------------------------------

    async def check(self, addresses: Sequence[str], *, account: str | None) -> Checked:
        """Which of the addresses are on our own list, and on SES's of that account. One round trip; 0.2 ms of Redis's time for
        500 of which nearly nobody is. Raises ValueError where an entry cannot be read."""
        k, folded = self._keys, [fold(address) for address in addresses]
        n = len(folded)
        layout = struct.Struct(f"<{n}I")
        keys = [k.suppressed_bits, k.suppressed_own] + ([k.suppressed_ses(account)] if account is not None else [])
        args = [n, layout.pack(*map(place, folded)), layout.pack(*accumulate(map(len, folded))), b"".join(folded)]
        now, fields, hits = await self._run("suppressed", keys, args)
        found = {
            number: Found(unpack_own(folded[number], own), unpack_ses(folded[number], ses))
            for number, own, ses in zip(hits[::3], hits[1::3], hits[2::3], strict=True)
        }
        return Checked(
            _moment(now),
            found,
            None if account is None else _ses_list(dict(zip(fields[::2], fields[1::2], strict=True)), _moment(now)),
        )

    async def own_entries(self) -> int:
        return int(await self._redis.hget(self._keys.suppressed_own, "entries") or 0)

    async def ses_list(self, account: str) -> SesList:
        known = (await self.check((), account=account)).ses
        assert known is not None
        return known

    async def walk_own(self) -> AsyncIterator[OwnEntry]:
        """All of our own entries, in no order that means anything. What changes meanwhile may be in it or not."""
        async for folded, packed in self._walk(self._keys.suppressed_own):
            for entry in unpack_own(folded, packed):
                yield entry

    async def walk_ses(self, account: str) -> AsyncIterator[SesEntry]:
        """All entries of our copy of SES's list."""
        async for folded, packed in self._walk(self._keys.suppressed_ses(account)):
            for entry in unpack_ses(folded, packed):
                yield entry

    async def _walk(self, table: str) -> AsyncIterator[tuple[bytes, bytes]]:
        step = _step(int(await self._redis.hget(table, "entries") or 0))
        for first in range(0, BUCKETS, step):
            found = await self._run("walk", [table], [first, step])
            for folded, packed in zip(found[::2], found[1::2], strict=True):
                yield folded, packed

    # ---- our own -------------------------------------------------------------------------------

    async def add(self, entries: Sequence[NewEntry]) -> list[bool]:
        """Which of them are new. May be repeated: what is there keeps its time. Raises ValueError where a stream is too long."""
        k, new = self._keys, []
        for first in range(0, len(entries), WRITE_STEP):
            args: list[Any] = []
            for address, reason, stream, since in entries[first : first + WRITE_STEP]:
                folded = fold(address)
                at = "" if since is None else max(0, int(since.timestamp()))
                args += [place(folded), folded, reason.value[0], pack_stream(stream), at]
            new += [bool(one) for one in await self._run("suppress", [k.suppressed_bits, k.suppressed_own], args)]
        return new

    async def remove(self, address: str, stream: str | None = "") -> list[OwnEntry]:
        """The entries that were removed: those for the stream, or for everything where it is empty; None: all there are."""
        folded = fold(address)
        args = [place(folded), folded, "*" if stream is None else pack_stream(stream)]
        [gone] = await self._run("unsuppress", [self._keys.suppressed_own], args)
        return unpack_own(folded, gone)

    async def is_young(self, entry: NewEntry, within_s: int) -> bool:
        """Whether the same entry, of the same reason and stream, was made so short a time ago."""
        now, hits, _ = await self.check([entry.address], account=None)
        mine = [one for one in (hits[0].own if hits else ()) if (one.reason, one.stream) == (entry.reason, entry.stream)]
        return any(now - one.since <= timedelta(seconds=within_s) for one in mine)

    async def resubscribe(self, address: str, stream: str, *, within_s: int) -> bool:
        """Take back an unsubscription from the stream that is so young; False where there is none. Nothing else is removed."""
        folded = fold(address)
        args = [place(folded), folded, pack_stream(stream), within_s]
        return bool(await self._run("resubscribe", [self._keys.suppressed_own], args))

    # ---- SES's ---------------------------------------------------------------------------------

    async def take_turn(self, account: str, owner: str) -> bool:
        """One process of all reads SES's list. Its turn ends by itself when nothing is heard of it."""
        return bool(await self._redis.set(self._keys.suppressed_turn(account), owner, nx=True, px=TURN_MS))

    async def keep_turn(self, account: str, owner: str, fields: Mapping[str, str | int]) -> bool:
        """Write down how far it has come; False, and nothing is written, where it is not its turn any more."""
        return await self._turn(account, owner, TURN_MS, fields)

    async def give_turn_back(self, account: str, owner: str, fields: Mapping[str, str | int] | None = None) -> None:
        await self._turn(account, owner, 0, fields or {})

    async def _turn(self, account: str, owner: str, ms: int, fields: Mapping[str, str | int]) -> bool:
        pairs = [part for pair in fields.items() for part in pair]
        keys = [self._keys.suppressed_ses(account), self._keys.suppressed_turn(account)]
        return bool(await self._run("turn", keys, [owner, ms, *pairs]))

    async def listed(self, account: str, entries: Sequence[SesEntry], *, owner: str = "") -> int | None:
        """SES has these; how many are new here. None where the owner's turn is over; without an owner they were just put."""
        k, added = self._keys, 0
        keys = [k.suppressed_bits, k.suppressed_ses(account), k.suppressed_turn(account), k.suppressed_removed(account)]
        for first in range(0, len(entries), WRITE_STEP):
            args: list[Any] = [owner, TURN_MS]
            for address, reason, updated_at in entries[first : first + WRITE_STEP]:
                folded = fold(address)
                args += [
                    place(folded),
                    folded,
                    f"{_SES_LETTERS.get(reason, _SES_LETTERS[OTHER])}{ms_of(updated_at)}",
                    capitals(address),
                ]
            new = int(await self._run("listed", keys, args))
            if new < 0:
                return None
            added += new
        return added

    async def delisted(self, account: str, address: str) -> int:
        """It is not on SES's list any more, in whatever spelling; how many entries it had here."""
        k, folded = self._keys, fold(address)
        args = [place(folded), folded, REMOVED_KEPT_MS]
        return int(await self._run("delisted", [k.suppressed_ses(account), k.suppressed_removed(account)], args))

    async def sweep(self, account: str, first: int, *, entries: int, owner: str) -> int | None:
        """Remove what the full pass has not seen from the next buckets of a table with so many entries; the bucket after them,
        which is BUCKETS at the end. None where it is not the owner's turn any more."""
        keys = [self._keys.suppressed_ses(account), self._keys.suppressed_turn(account)]
        gone = int(await self._run("sweep_listed", keys, [owner, TURN_MS, first, _step(entries)]))
        return None if gone < 0 else first + _step(entries)


def _step(entries: int) -> int:
    return STEP_OF_FEW if entries <= FEW else STEP


def _ses_list(fields: Mapping[bytes, bytes], now: datetime) -> SesList:
    def text(name: str) -> str:
        return fields.get(name.encode(), b"").decode()

    def when(name: str) -> datetime | None:
        return _moment(text(name)) if text(name) else None

    return SesList(
        now=now,
        entries=int(text("entries") or 0),
        whole_at=when("whole"),
        synced_at=when("synced"),
        checkpoint=when("checkpoint"),
        generation=int(text("generation") or 0),
        passing=text("passing") == "1",
        pass_seen=int(text("pass_seen") or 0),
        pass_token=text("pass_token"),
        pass_at=when("pass_at"),
        pass_checkpoint=when("pass_checkpoint"),
        sweep=int(text("sweep")) if text("sweep") else None,
        trouble=text("trouble"),
        trouble_since=when("trouble_since"),
        tried_at=when("tried"),
    )
