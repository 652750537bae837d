"""Requests that break: those that provably did not reach SES whole are made again at once, and no other."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mailer.ses.gateway import Answer, Gateway
from mailer.ses.refusals import Kind
from mailer.simulator import serve
from mailer.simulator.operations import Simulator
from mailer.simulator.state import SimulatorConfig

from ..unit.test_ses_refusals import SELF_SIGNED

BIG = 8 << 20  # bytes: more than the sockets of both sides and asyncio's own buffer hold
ID = "0107019a1b2c3d4e-5f60718a-9bac-4dce-8f01-23456789abcd-000000"


class Door:
    """An HTTP server that breaks the first so many connections in the way that is asked, and answers the others as SES does."""

    def __init__(self, breaks: Callable[[asyncio.StreamReader], Any], times: int) -> None:
        self._breaks, self._left = breaks, times
        self.whole = 0  # requests that were read to their end
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            if self._left:
                self._left -= 1
                if await self._breaks(reader):
                    self.whole += 1
                # Closed with a reset, as a peer that dies does it: what it had not read is lost.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
            while True:
                await _read(reader)
                self.whole += 1
                body = json.dumps({"MessageId": ID}).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
                )
                await writer.drain()
        writer.close()


async def _read(reader: asyncio.StreamReader) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    await reader.readexactly(int(length[1]))
    return True


async def _read_some(reader: asyncio.StreamReader) -> bool:
    await reader.readexactly(100_000)
    return False


async def _read_nothing(_: asyncio.StreamReader) -> bool:
    await asyncio.sleep(0.05)
    return False


@asynccontextmanager
async def open_door(door: Door, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(door, "127.0.0.1", 0, ssl=tls, limit=1 << 16)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}"
    finally:
        server.close()
        await asyncio.sleep(0.01)


async def send(gateway: Gateway, size: int) -> Answer:
    params = {
        "FromEmailAddress": "a@example.com",
        "Destination": {"ToAddresses": ["b@example.org"]},
        "Content": {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "x" * size}}}},
    }
    answers, _ = await gateway.send("SendEmail", params, json.dumps(params).encode())
    return answers[0]


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's, which boto is told to trust."""
    path = tmp_path / "both.pem"
    path.write_text(SELF_SIGNED)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("breaks", [_read_some, _read_nothing], ids=["reads some", "reads nothing"])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_a_body_that_was_not_written_to_its_end_is_sent_again_at_once(
    breaks: Callable[[asyncio.StreamReader], Any], over_tls: bool, certificate: ssl.SSLContext
) -> None:
    door = Door(breaks, times=1)
    async with open_door(door, certificate if over_tls else None) as url, Gateway(endpoint_url=url) as gateway:
        answer = await send(gateway, BIG)
    assert answer == Answer(ID, None)
    assert (door.whole, door.connections) == (1, 2)


@pytest.mark.parametrize("size", [10, 60_000, BIG], ids=["small", "of one write", "big"])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_a_request_that_was_read_to_its_end_is_never_sent_again(
    size: int, over_tls: bool, certificate: ssl.SSLContext
) -> None:
    door = Door(_read, times=1)
    async with open_door(door, certificate if over_tls else None) as url, Gateway(endpoint_url=url) as gateway:
        answer = await send(gateway, size)
    assert answer.refusal is not None
    assert answer.refusal.kind is Kind.AMBIGUOUS
    assert (door.whole, door.connections) == (1, 1)


async def test_a_small_body_is_in_doubt_where_nobody_can_know_how_much_of_it_was_read() -> None:
    door = Door(_read_nothing, times=1)
    async with open_door(door) as url, Gateway(endpoint_url=url) as gateway:
        answer = await send(gateway, 10)
    assert answer.refusal is not None
    assert answer.refusal.kind is Kind.AMBIGUOUS
    assert door.connections == 1


async def test_a_connection_that_keeps_breaking_is_given_up_after_three_tries_and_nobody_is_in_doubt() -> None:
    door = Door(_read_some, times=10)
    async with open_door(door) as url, Gateway(endpoint_url=url) as gateway:
        answer = await send(gateway, BIG)
    assert answer.refusal is not None
    assert answer.refusal.kind is Kind.UNREACHABLE
    assert "did not get the whole request" in answer.refusal.reason
    assert (door.whole, door.connections) == (0, 3)


async def test_a_name_or_port_that_answers_a_moment_later_costs_no_more_than_that_moment() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    simulator = Simulator(SimulatorConfig())
    async with Gateway(endpoint_url=f"http://127.0.0.1:{port}") as gateway:
        sending = asyncio.create_task(send(gateway, 10))
        await asyncio.sleep(0.01)
        async with serve(simulator, port=port):
            answer = await sending
    assert answer.refusal is None
    assert len(simulator.log) == 1


async def test_a_request_that_boto_could_not_even_make_puts_nobody_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_door(door := Door(_read, times=0)) as url, Gateway(endpoint_url=url) as gateway:

        def broken(**_: Any) -> None:
            raise RuntimeError("a signer that fails")

        gateway._sender.meta.events.register("before-sign.sesv2.SendEmail", broken)
        answer = await send(gateway, 10)
    assert answer.refusal is not None
    assert answer.refusal.kind is Kind.UNREACHABLE
    assert door.connections == 0
