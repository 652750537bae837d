"""A worker's HTTP port in the hands of somebody who opens connections and says nothing, little, or nonsense."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from mailer import connections
from worker import http

from .test_worker_http import app, hang

ASKS = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def opened(port: int, *, says: bytes = b"") -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(says)
    try:
        yield reader, writer
    finally:
        writer.close()


async def is_closed(connection: Connection, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            while await connection[0].read(1000):
                pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


async def ask(port: int, path: str = "/healthz") -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return (await client.get(f"http://127.0.0.1:{port}{path}")).status_code


@pytest.mark.parametrize(
    "says", [b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /"]
)
async def test_a_connection_whose_request_does_not_come_to_its_end_is_closed(
    says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says a byte now and then, also after a first request that was answered."""
    monkeypatch.setattr(connections, "HEADERS_S", 0.5)
    async with http.serve(app(), "127.0.0.1", 0) as port, opened(port, says=says) as (reader, writer):
        trickle = asyncio.create_task(_trickle(writer))
        began = time.monotonic()
        assert await is_closed((reader, writer), within=5)
        assert time.monotonic() - began < 2
        trickle.cancel()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a")
        await asyncio.sleep(0.05)


async def test_somebody_who_asks_at_once_is_heard_among_any_number_who_do_not_and_open_files_stay_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MOST", 20)
    before = len(os.listdir("/proc/self/fd"))
    async with http.serve(app(), "127.0.0.1", 0) as port, AsyncExitStack() as stack:
        held = list[Connection]()
        for n in range(200):
            held.append(await stack.enter_async_context(opened(port, says=b"GET /healthz HTTP/1.1\r\n")))
            if n % 40 == 39:
                assert await ask(port) == 200
        await asyncio.sleep(0.1)
        ours = len(held)  # of this process, at the other end
        assert len(os.listdir("/proc/self/fd")) - before - ours < 20 + 20
        closed = sum([await is_closed(one, within=0.01) for one in held[:150]])
        assert closed >= 140  # those that have waited longest


async def test_a_request_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READY_TIMEOUT_S", 60)
    monkeypatch.setattr(connections, "ANSWER_S", 0.3)
    async with http.serve(app(ready=hang), "127.0.0.1", 0) as port:
        async with opened(port, says=b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n") as connection:
            assert await is_closed(connection, within=5)
        assert await ask(port) == 200


async def test_one_connection_serves_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.5)
    async with http.serve(app(), "127.0.0.1", 0) as port, opened(port) as (reader, writer):
        for _ in range(8):
            writer.write(ASKS)
            assert (await reader.readuntil(b'{"bulk":true}')).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.1)
        writer.write(ASKS * 3)  # without waiting for the answers
        for _ in range(3):
            assert (await reader.readuntil(b'{"bulk":true}')).startswith(b"HTTP/1.1 200 ")


async def test_requests_that_are_no_http_are_answered_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    connections._FILTER.__init__()  # type: ignore[misc]  # as in a new process
    async with http.serve(app(), "127.0.0.1", 0) as port:
        with caplog.at_level(logging.WARNING, logger="uvicorn.error"):
            for _ in range(20):
                async with opened(port, says=b"\x16\x03\x01 no http\r\n\r\n") as (reader, _writer):
                    assert (await reader.read(100)).startswith(b"HTTP/1.1 400 ")
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]
