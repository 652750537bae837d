"""Proxies on the ways out of a process, to Redis and to AWS. They know each request by its name, and at one of them the process
is ended: before the request is handed on, or when it has been answered and the answer is not, or only half, given back.

A request is handed on, and its answer read to its end, before the next one of the same connection is looked at. So what was
stored at the instant of the end is known; it is kept in `Watch.passed`.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from mailer.redis.client import RedisClient
from mailer.redis.scripts import CLOCK
from mailer.simulator.operations import route

from .. import lua


class When(StrEnum):
    """The instant of a request that is meant."""

    BEFORE = "before"  # it has been made, and is not handed on
    LOST = "lost"  # it is answered, and nothing of the answer is given back
    HALF = "half"  # half of the answer is given back


class What(StrEnum):
    KILL = "kill"  # the process ends
    CUT = "cut"  # the connection ends, and the process goes on
    APART = "apart"  # so do all others to Redis, until `Watch.apart` is cleared


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The `nth` request (from 1) of those with that name that say `about`."""

    name: str
    when: When
    nth: int = 1
    about: str = ""
    what: What = What.KILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    name: str  # of a Lua script, a Redis command or an operation of AWS; of a transaction `exec` and its commands
    raw: bytes  # as it goes over the wire
    says: bytes  # the same, and of a transaction's `exec` what it executes
    keys: tuple[bytes, ...] = ()  # of a script
    args: tuple[bytes, ...] = ()  # of a script


class Watch:
    """What leaves one process by all its ways. `end` ends the process, and returns when it is gone."""

    def __init__(self, end: Callable[[], Awaitable[None]], *stops: Stop) -> None:
        self.asked: list[str] = []  # names of requests, in order
        self.passed: list[tuple[Request, bytes]] = []  # those that were answered, with the answers
        self.over = asyncio.Event()  # the process has been ended here
        self.apart = asyncio.Event()  # the process does not reach Redis
        self.storing = 0  # claims and settles that were handed on and are not answered
        self._end = end
        self._stops = stops
        self._seen: Counter[Stop] = Counter()
        self._ending = False

    def meets(self, request: Request) -> Stop | None:
        self.asked.append(request.name)
        found = None
        for stop in self._stops:
            if stop.name == request.name and stop.about.encode() in request.says:
                self._seen[stop] += 1
                found = stop if self._seen[stop] == stop.nth else found
        return found

    async def may_pass(self, wire: Wire | None = None) -> None:
        """Of a process that is being ended nothing passes any more. Raises ConnectionError."""
        if self.apart.is_set() and isinstance(wire, RedisWire):
            raise ConnectionError
        if self._ending:
            await self.over.wait()
            raise ConnectionError

    async def end(self) -> None:
        """Raises ConnectionError where it has been ended."""
        await self.may_pass()
        self._ending = True
        await self._end()
        while self.storing:  # what the process had sent is stored, whether or not it hears of it
            await asyncio.sleep(0.001)
        self.over.set()

    def in_doubt(self) -> dict[str, set[int]]:
        """By chunk, the positions for which a claim was stored and nothing that settles it, by what has passed."""
        found = defaultdict[str, set[int]](set)
        for request, answer in self.passed:
            if request.name == "claim" and answer == b"$2\r\nok\r\n":
                chunk = request.keys[1].rpartition(b":")[2].decode()
                found[chunk] |= {position for position, _ in struct.iter_unpack(">HH", request.args[2])}
            elif request.name == "settle":
                found[request.args[0].decode()] -= {position for position, *_ in struct.iter_unpack(">HHcB", request.args[4])}
            elif request.name == "unclaim":
                found[request.args[0].decode()] -= {position for position, _ in struct.iter_unpack(">HH", request.args[2])}
        return {chunk: positions for chunk, positions in found.items() if positions}


# ---- two languages -------------------------------------------------------------------------------------------------


class Wire(Protocol):
    """One connection's language. Raises IncompleteReadError where the other side ends it."""

    async def request(self, reader: asyncio.StreamReader) -> Request: ...

    async def answer(self, reader: asyncio.StreamReader) -> bytes: ...


class RedisWire:
    """RESP 2, as redis-py and arq speak it."""

    def __init__(self) -> None:
        self._transaction: list[Request] | None = None

    async def request(self, reader: asyncio.StreamReader) -> Request:
        raw, words = [await reader.readuntil(b"\r\n")], list[bytes]()
        for _ in range(int(raw[0][1:])):
            raw.append(await reader.readuntil(b"\r\n"))
            raw.append(await reader.readexactly(int(raw[-1][1:]) + 2))
            words.append(raw[-1][:-2])
        return self._in_its_transaction(_named(words, b"".join(raw)))

    def _in_its_transaction(self, request: Request) -> Request:
        if request.name == "multi":
            self._transaction = []
        elif request.name == "exec":
            parts, self._transaction = self._transaction or [], None
            name, says = " ".join(["exec", *(part.name for part in parts)]), b"".join(part.raw for part in parts)
            return Request(name=name, raw=request.raw, says=says)
        elif self._transaction is not None:
            self._transaction.append(request)
        return request

    async def answer(self, reader: asyncio.StreamReader) -> bytes:
        line = await reader.readuntil(b"\r\n")
        if line[:1] == b"$" and (size := int(line[1:])) >= 0:
            return line + await reader.readexactly(size + 2)
        if line[:1] == b"*":
            return line + b"".join([await self.answer(reader) for _ in range(int(line[1:]))])
        return line


def _scripts() -> dict[bytes, tuple[str, str]]:
    """SHA-1 → name and text, of each script of the service."""
    clocks = (lua.FILES[CLOCK], lua.clock())
    whole = [(name, clock + text) for name, text in lua.scripts().items() for clock in clocks]
    return {hashlib.sha1(text.encode()).hexdigest().encode(): (name, text) for name, text in whole}


SCRIPTS = _scripts()


async def load_scripts(redis: RedisClient) -> None:
    """So that no script is asked for twice, the first time in vain."""
    for _, text in SCRIPTS.values():
        await redis.script_load(text)


def _named(words: list[bytes], raw: bytes) -> Request:
    name = words[0].decode().lower()
    if name != "evalsha":
        return Request(name=name, raw=raw, says=raw)
    first = 3 + int(words[2])
    return Request(name=SCRIPTS[words[1]][0], raw=raw, says=raw, keys=tuple(words[3:first]), args=tuple(words[first:]))


class AwsWire:
    """HTTP/1.1 with bodies of known length: SES by method and path, SQS by its header."""

    async def request(self, reader: asyncio.StreamReader) -> Request:
        head, body = await _http(reader)
        method, path, _ = head.split(b" ", 2)
        target = _header(head, b"x-amz-target").rpartition(b".")[2].decode()
        name = target or route(method.decode(), urlsplit(path.decode()).path)[0].name
        return Request(name=name, raw=head + body, says=body)

    async def answer(self, reader: asyncio.StreamReader) -> bytes:
        return b"".join(await _http(reader))


async def _http(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.readexactly(int(_header(head, b"content-length") or 0))


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return b""


# ---- the proxy -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def proxy(watch: Watch, wire: Callable[[], Wire], to: str) -> AsyncIterator[str]:
    """`to`: the URL of the server. Yields the proxy's own, which differs in its port."""
    parts, tasks = urlsplit(to), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        onward: asyncio.StreamWriter | None = None
        try:
            answers, onward = await asyncio.open_connection(parts.hostname, parts.port)
            await _hand_on(watch, wire(), (reader, writer), (answers, onward))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            for end in (writer, onward):
                if end is not None:
                    end.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield parts._replace(netloc=f"127.0.0.1:{port}").geturl()
        server.close()
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _hand_on(watch: Watch, wire: Wire, near: Ends, far: Ends) -> None:
    while True:
        request = await wire.request(near[0])
        await watch.may_pass(wire)
        stop = watch.meets(request)
        if stop is not None and stop.when is When.BEFORE:
            return await _stop(watch, stop)
        far[1].write(request.raw)
        stores = request.name in ("claim", "settle")
        watch.storing += stores
        try:
            answer = await wire.answer(far[0])
            watch.passed.append((request, answer))
        finally:
            watch.storing -= stores
        if stop is not None:
            if stop.when is When.HALF:
                near[1].write(answer[: len(answer) // 2])
                await near[1].drain()
            return await _stop(watch, stop)
        await watch.may_pass(wire)
        near[1].write(answer)


async def _stop(watch: Watch, stop: Stop) -> None:
    if stop.what is What.KILL:
        await watch.end()
    elif stop.what is What.APART:
        watch.apart.set()
