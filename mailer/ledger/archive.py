"""A chunk that is over leaves Redis for the store: one object, written once; and comes back when something is said of it later.

The object's name holds a token, four bytes of a digest of all that was known of the chunk. So writing it twice is writing the
same, whoever does it and however late; a newer state has another name; and the token in Redis tells which of them holds. The
order is: write the object, set the token and let go of the chunk's keys (one script, and only where nothing has changed since
it was read), delete what the object replaces. A crash after any of these leaves the chunk whole in one place or in both.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from ..data import dumps, loads
from ..errors import StoreFailed
from ..ids import chunk_id, chunk_number, container_of
from ..message.email import Mode, Outcome
from ..redis.client import RedisClient
from ..redis.scripts import Scripts, flat
from .keys import Keys
from .records import MESSAGE_ID_BYTES, Record, pack_message_id, unpack_message_id, unpack_records
from .spec import Entry, unpack_entries
from .store import Objects, Store, payload_name

AT_ONCE = 4  # chunks that one process archives at the same time: some MB of memory
PATIENCE_MS = 60_000  # after which another process archives what one has begun to
TRIES = 5  # at what is archived anew while it is being read
TOKEN_BYTES = 4
# Where each recipient has the same reason, none is stored.
REASONS = {Outcome.CANCELLED: "the campaign was cancelled before its turn came"}
_FIELD = re.compile(rb"(\D*)(\d+)")


class ArchiveStatus(StrEnum):
    OVER = "over"  # it is to be archived
    EARLY = "early"  # it has changed lately, or a worker has it; it is listed for later
    OPEN = "open"  # it is not over; it is listed again when it is
    ARCHIVED = "archived"
    GONE = "gone"  # Redis does not know it


@dataclass(frozen=True, slots=True)
class ToArchive:
    """A chunk as archive_read.lua found it; only the status, where that is not OVER."""

    status: ArchiveStatus
    digest: str = ""
    records: bytes = b""
    message_ids: bytes = b""
    details: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """All that is known of a chunk's recipients, by position."""

    records: list[Record]
    message_ids: bytes  # MESSAGE_ID_BYTES each; may be shorter
    details: Mapping[bytes, bytes]

    def message_id(self, position: int) -> str | None:
        packed = self.message_ids[position * MESSAGE_ID_BYTES : (position + 1) * MESSAGE_ID_BYTES]
        return unpack_message_id(packed) or self.details.get(b"i%d" % position, b"").decode() or None

    def reason(self, position: int) -> str:
        return self.details.get(b"%d" % position, b"").decode() or REASONS.get(self.records[position].outcome, "")


class Archive:
    """The archived chunks of one installation.

    `quiet_ms`: how long nothing must have changed in a chunk; `doubt_quiet_ms`: the same where a recipient is in doubt, which
    has to be longer than such a recipient may wait for an event.
    """

    def __init__(self, redis: RedisClient, keys: Keys, scripts: Scripts, store: Store, objects: Objects) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._store = store
        self._objects = objects

    async def archive_due(self, *, limit: int, quiet_ms: int, doubt_quiet_ms: int) -> int:
        """Archive chunks that are due, at most so many; how many were due. Raises StoreFailed."""
        due = await self._run_due(limit=limit, quiet_ms=quiet_ms, patience_ms=PATIENCE_MS)
        failed = list[BaseException]()
        for first in range(0, len(due), AT_ONCE):
            steps = [
                self.archive(chunk, quiet_ms=quiet_ms, doubt_quiet_ms=doubt_quiet_ms) for chunk in due[first : first + AT_ONCE]
            ]
            failed += [error for error in await asyncio.gather(*steps, return_exceptions=True) if error is not None]
        if failed:  # only now: one that cannot be archived does not keep the others
            raise failed[0]
        return len(due)

    async def archive(self, chunk: str, *, quiet_ms: int, doubt_quiet_ms: int) -> None:
        """The three steps; each may be repeated, by several at the same time. Nothing is done where it is not due."""
        read = await self._run_read(chunk, quiet_ms=quiet_ms, doubt_quiet_ms=doubt_quiet_ms)
        before = b""
        if read.status is ArchiveStatus.OVER:
            token = token_of(read.digest)
            entries = await self.entries(chunk)
            if entries is None:
                if await self._redis.exists(self._keys.records(chunk)):
                    raise StoreFailed(url=self._objects.url, why=f"it does not have the recipients of chunk {chunk}")
                return  # it has just been forgotten
            known = Chunk(list(unpack_records(read.records)), read.message_ids, read.details)
            packed = await asyncio.to_thread(pack, chunk, entries, known)
            await self._objects.put({archive_name(chunk, token): packed})
            dropped = await self._run_drop(chunk, digest=read.digest, token=token)
            if dropped is None:
                return  # something has been said of it in the meantime; it is archived anew, under another name
            before = dropped if dropped != token else b""
        if read.status in (ArchiveStatus.OVER, ArchiveStatus.ARCHIVED):
            await self._store.delete([chunk])
            if before:
                await self._objects.delete([archive_name(chunk, before)])
        if read.status in (ArchiveStatus.OVER, ArchiveStatus.ARCHIVED, ArchiveStatus.GONE):
            await self._run_done(chunk)

    async def token(self, chunk: str) -> bytes:
        """Of its newest archive; b"" where it has none."""
        first = chunk_number(chunk) * TOKEN_BYTES
        found: bytes = await self._redis.getrange(self._keys.tokens(container_of(chunk)), first, first + TOKEN_BYTES - 1)
        return found if found.strip(b"\0") else b""

    async def read(self, chunk: str) -> tuple[list[Entry], Chunk] | None:
        """What the store has of an archived chunk; None where it has nothing. Raises StoreFailed."""
        found = await self._newest(chunk)
        if found is None:
            return None
        with self._reading(archive_name(chunk, found[0])):
            return await asyncio.to_thread(unpack, found[1])

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Raises StoreFailed where an object is not what was written to it."""
        try:
            yield
        except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
            raise StoreFailed(url=self._objects.url, why=f"its object {name} cannot be read ({type(error).__name__})") from None

    async def _newest(self, chunk: str) -> tuple[bytes, bytes] | None:
        """Token and content. One that has been replaced is deleted, so the token is read again where nothing is found."""
        for _ in range(TRIES):
            token = await self.token(chunk)
            if not token:
                return None
            if (packed := await self._objects.get(archive_name(chunk, token))) is not None:
                return token, packed
        return None

    async def entries(self, chunk: str) -> list[Entry] | None:
        """The rows of a chunk, wherever they are; None where nobody has them. Raises StoreFailed."""
        payload = await self._store.get(chunk)
        if payload is not None:
            with self._reading(payload_name(chunk)):
                return unpack_entries(payload)
        found = await self.read(chunk)
        if found is None:
            found = await self._unknown(chunk)
        return None if found is None else found[0]

    async def _unknown(self, chunk: str) -> tuple[list[Entry], Chunk] | None:
        """An archive that Redis does not know of: it was started anew, and has forgotten its last second. What it knows of the
        recipients is what holds; their rows are the same."""
        own = f"{container_of(chunk)}/{chunk_number(chunk)}-"
        names = [name for name in await self._objects.names(container_of(chunk)) if name.startswith(own)]
        return await self.read_object(await self._latest(names)) if names else None

    async def unarchive(self, chunk: str) -> bool:
        """True where Redis has the chunk when this returns, so that something can be said of its recipients. It is archived
        again when nothing more has been said for a while. Raises StoreFailed."""
        for _ in range(TRIES):
            if await self._redis.exists(self._keys.records(chunk)):
                return True
            found = await self._newest(chunk)
            if found is None:
                return False
            token, packed = found
            with self._reading(archive_name(chunk, token)):
                _, known = await asyncio.to_thread(unpack, packed)
            status = await self._run_unarchive(
                chunk, token=token, records=known.records, message_ids=known.message_ids, details=known.details
            )
            if status != "changed":
                return status == "live"
        return False

    async def forgotten(self, id: str) -> list[str]:
        """The objects of a campaign that Redis does not know any more, the newest of each chunk, in order."""
        newest: dict[int, list[str]] = {}
        for name in await self._objects.names(id):
            if (match := re.fullmatch(r"\w+/(\d+)-[0-9a-f]{8}\.ndjson\.gz", name)) is not None:
                newest.setdefault(int(match[1]), []).append(name)
        return [await self._latest(names) for _, names in sorted(newest.items())]

    async def _latest(self, names: Sequence[str]) -> str:
        """Two are there only where a process died between writing the one and deleting the other."""
        if len(names) == 1:
            return names[0]
        found = {name: await self.read_object(name) for name in names}
        latest = {name: max(record.updated_at for record in one[1].records) for name, one in found.items() if one is not None}
        return max(latest, key=lambda name: latest[name], default=names[0])

    async def read_object(self, name: str) -> tuple[list[Entry], Chunk] | None:
        packed = await self._objects.get(name)
        if packed is None:
            return None
        with self._reading(name):
            return await asyncio.to_thread(unpack, packed)

    async def enlist(self, id: str, chunks: int) -> None:
        """Its chunks that are not archived are looked at, also those that nothing was to be sent of. May be repeated."""
        tokens: bytes = await self._redis.get(self._keys.tokens(id)) or b""
        tokens = tokens.ljust(chunks * TOKEN_BYTES, b"\0")
        missing = [n for n in range(chunks) if not tokens[n * TOKEN_BYTES : (n + 1) * TOKEN_BYTES].strip(b"\0")]
        now = await self._scripts.now_ms()
        for first in range(0, len(missing), 1000):
            part = {chunk_id(id, number): now for number in missing[first : first + 1000]}
            await self._redis.zadd(self._keys.over, part, nx=True)
        await self._redis.hset(self._keys.container(id), "enlisted", 1)

    # ---- the scripts ---------------------------------------------------------------------------

    async def _run_due(self, *, limit: int, quiet_ms: int, patience_ms: int) -> list[str]:
        """Chunks that have been over for so long. Handed to one caller only. O(log(over) + limit)."""
        found = await self._scripts.run("archive_due", [self._keys.over], limit, quiet_ms, patience_ms)
        return [chunk.decode() for chunk in found]

    async def _run_read(self, chunk: str, *, quiet_ms: int, doubt_quiet_ms: int) -> ToArchive:
        """See archive_read.lua. May be repeated. O(recipients in the chunk)."""
        k, container = self._keys, container_of(chunk)
        keys = [*self._archived_keys(chunk), k.tokens(container), k.over]
        status, *found = await self._scripts.run("archive_read", keys, chunk, chunk_number(chunk), quiet_ms, doubt_quiet_ms)
        if not found:
            return ToArchive(ArchiveStatus(status.decode()))
        digest, records, ids, said = found
        details = dict(zip(said[::2], said[1::2], strict=True))
        return ToArchive(ArchiveStatus.OVER, digest.decode(), records, ids, details)

    async def _run_drop(self, chunk: str, *, digest: str, token: bytes) -> bytes | None:
        """Let go of an archived chunk's keys; the token of its archive before this one, or None where nothing is let go of,
        because something has been said of it since it was read. O(recipients in the chunk)."""
        k, container = self._keys, container_of(chunk)
        keys = [*self._archived_keys(chunk), k.payload(chunk), k.tokens(container), k.doubt]
        dropped, before = await self._scripts.run("archive_drop", keys, chunk, chunk_number(chunk), digest, token)
        return bytes(before) if dropped else None

    async def _run_done(self, chunk: str) -> bool:
        """Nothing of an archived chunk is left to be cleared away; False where it is in Redis again. O(log(over))."""
        return bool(await self._scripts.run("archive_done", [self._keys.records(chunk), self._keys.over], chunk))

    async def _run_unarchive(
        self, chunk: str, *, token: bytes, records: Sequence[Record], message_ids: bytes, details: Mapping[bytes, bytes]
    ) -> str:
        """Take a chunk back into Redis: `live`, `changed` or `gone`. May be repeated. O(recipients in the chunk)."""
        k, container = self._keys, container_of(chunk)
        keys = [*self._archived_keys(chunk), k.tokens(container), k.over, k.doubt]
        states = [record.outcome for record in records]
        counts = (sum(map(states.count, (Outcome.QUEUED, Outcome.CLAIMED))), states.count(Outcome.UNKNOWN))
        packed = b"".join(record.pack() for record in records)
        args = (chunk, chunk_number(chunk), token, packed, message_ids, *counts, *flat(details))
        return str((await self._scripts.run("unarchive", keys, *args)).decode())

    def _archived_keys(self, chunk: str) -> list[str]:
        k = self._keys
        return [k.container(container_of(chunk)), k.chunk(chunk), k.records(chunk), k.message_ids(chunk), k.details(chunk)]


def token_of(digest: str) -> bytes:
    token = bytes.fromhex(digest[: 2 * TOKEN_BYTES])
    return token if token.strip(b"\0") else b"\0\0\0\1"


def archive_name(chunk: str, token: bytes) -> str:
    return f"{container_of(chunk)}/{chunk_number(chunk)}-{token.hex()}.ndjson.gz"


def pack(chunk: str, entries: Sequence[Entry], known: Chunk) -> bytes:
    """A line a recipient: the report's fields, and what it takes to send to it again. The same chunk gives the same bytes."""
    more: dict[int, dict[str, str]] = {}
    for name, value in known.details.items():
        match = _FIELD.fullmatch(name)
        assert match is not None, name
        if match[1] not in (b"", b"i"):
            more.setdefault(int(match[2]), {})[match[1].decode()] = value.decode()
    lines = []
    for position, (entry, record) in enumerate(zip(entries, known.records, strict=True)):
        line: dict[str, Any] = {
            "id": f"{chunk}-{position}",
            "row": entry.row,
            "to": entry.to,
            "state": record.outcome.value,
            "ses_message_id": known.message_id(position),
            "reason": known.reason(position),
            "attempts": record.attempts,
            "updated_at": f"{datetime.fromtimestamp(record.updated_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "mode": None if record.mode is Mode.AUTO else record.mode.value,
        }
        kept = {"failures": record.failures, "data": entry.data, "cc": entry.cc, "bcc": entry.bcc, "tags": entry.tags}
        kept["name"] = entry.name
        line |= {name: value for name, value in kept.items() if value}
        if position in more:
            line["details"] = more[position]
        lines.append(dumps(line))
    return gzip.compress(b"\n".join([*lines, b""]), 6, mtime=0)


def unpack(packed: bytes) -> tuple[list[Entry], Chunk]:
    entries, records, ids, details = [], [], bytearray(), dict[bytes, bytes]()
    for position, text in enumerate(gzip.decompress(packed).splitlines()):
        line = loads(text)
        more = (line.get("data", {}), line.get("cc", ()), line.get("bcc", ()), line.get("tags", {}), line.get("name", ""))
        entries.append(Entry(line["row"], line["to"], *more))
        outcome, mode = Outcome(line["state"]), Mode(line["mode"] or Mode.AUTO)
        at = int(datetime.fromisoformat(line["updated_at"]).timestamp())
        records.append(Record(outcome, mode, line.get("failures", 0), line["attempts"], at))
        details.update(_details(position, line, outcome))
        if line["ses_message_id"] and (known := pack_message_id(line["ses_message_id"])):
            ids += bytes(position * MESSAGE_ID_BYTES - len(ids)) + known
    if ids:  # at full length at once, as settle.lua has it
        ids += bytes(len(entries) * MESSAGE_ID_BYTES - len(ids))
    return entries, Chunk(records, bytes(ids), details)


def _details(position: int, line: Mapping[str, Any], outcome: Outcome) -> Iterable[tuple[bytes, bytes]]:
    if line["reason"] and line["reason"] != REASONS.get(outcome):
        yield b"%d" % position, line["reason"].encode()
    if line["ses_message_id"] and pack_message_id(line["ses_message_id"]) is None:
        yield b"i%d" % position, line["ses_message_id"].encode()
    for prefix, value in line.get("details", {}).items():
        yield f"{prefix}{position}".encode(), value.encode()
