"""Requests that break: those that provably did not reach SES whole are made again at once, and no other."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailer import Attachment, Email, Mailer, Settings
from mailer.queue import connect
from mailer.ses import gateway as gateway_module
from mailer.ses import wire
from mailer.ses.answers import Answer
from mailer.ses.gateway import Gateway
from mailer.ses.refusals import Kind
from mailer.simulator import serve
from mailer.simulator.operations import Simulator
from mailer.simulator.state import SimulatorConfig
from worker import lanes

from ..conftest import running_worker
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


class Slow:
    """A server that reads a request in pieces, with pauses. One that stalls reads little of it, and goes on when it is told."""

    def __init__(self, *, stalls: bool, tls: ssl.SSLContext | None) -> None:
        self._stalls, self._tls = stalls, tls
        self.connections = self.read = 0
        self.go_on, self.closed = asyncio.Event(), asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        while self.read < length and (piece := await reader.read(32 << 10)):
            self.read += len(piece)
            if self._stalls:
                await self.go_on.wait()
            elif self.read % (length // 24) < len(piece):
                await asyncio.sleep(0.15)
        if self.read == length and not self._stalls:
            body = json.dumps({"MessageId": ID}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        self.closed.set()
        writer.transport.abort()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)  # else the system takes it in by megabytes
        sock.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(self, sock=sock, ssl=self._tls, limit=32 << 10)
        try:
            yield f"http{'s' if self._tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [100_000, 3 * BIG], ids=["small", "big"])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_an_upload_that_nobody_takes_in_ends_in_doubt_and_its_connection_with_it(
    size: int, over_tls: bool, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 0.4)
    used, taken_in = set[asyncio.Transport](), wire._taken_in

    async def watched(writer: Any) -> None:
        used.add(writer.transport)
        await taken_in(writer)

    monkeypatch.setattr(wire, "_taken_in", watched)
    door = Slow(stalls=True, tls=certificate if over_tls else None)
    async with door.listening() as url, Gateway(endpoint_url=url) as gateway, asyncio.timeout(10):
        answer = await send(gateway, size)
        assert [(one.is_closing(), wire._held(one)) for one in used] == [(True, 0)]
        door.go_on.set()
        await door.closed.wait()
    assert answer.refusal is not None
    assert answer.refusal.kind is Kind.AMBIGUOUS
    assert door.connections == 1, "it was sent again"
    assert (door.read > size) == (size < BIG), "what the system did not hold is not sent any more"


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
async def test_a_slow_upload_that_goes_on_is_not_cut(
    over_tls: bool, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 2.0)
    door = Slow(stalls=False, tls=certificate if over_tls else None)
    async with door.listening() as url, Gateway(endpoint_url=url) as gateway:
        assert await send(gateway, 3 * BIG) == Answer(ID, None)
    assert door.connections == 1


class Crawling:
    """A connection that holds so much each time that it is asked, and is free after the last."""

    def __init__(self, *held: int) -> None:
        self._held = list(held)
        self.aborted, self.writing_paused = False, True
        self.free = asyncio.Event()
        self.protocol = self.transport = self

    async def drain(self) -> None:
        await self.free.wait()

    def get_write_buffer_size(self) -> int:
        if len(self._held) == 1:
            asyncio.get_running_loop().call_later(0.01, self.free.set)
        return self._held.pop(0)

    def abort(self) -> None:
        self.aborted = True


async def test_an_upload_is_given_up_when_nothing_was_taken_in_since_the_last_look_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 0.05)
    crawling = Crawling(400, 300, 299, 1)
    await wire._taken_in(crawling)
    assert not crawling.aborted
    stuck = Crawling(400, 300, 300, 1)
    with pytest.raises(TimeoutError, match="taken in"):
        await wire._taken_in(stuck)
    assert stuck.aborted


class Stalls:
    """SES, but that nobody reads what is sent."""

    def __init__(self, ses_url: str) -> None:
        self._host, _, self._port = ses_url.removeprefix("http://").partition(":")
        self.reached = asyncio.Event()
        self._tasks = set[asyncio.Task[Any]]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"outbound-emails" in head:
                self.reached.set()
                await asyncio.Event().wait()
            answers, onward = await asyncio.open_connection(self._host, int(self._port))
            onward.write(re.sub(rb"(?i)\r\n\r\n$", b"\r\nconnection: close\r\n\r\n", head))
            writer.write(await answers.read())
            onward.close()
            await writer.drain()
        writer.transport.abort()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self, "127.0.0.1", 0, limit=32 << 10)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)


async def test_a_worker_that_is_told_to_stop_ends_though_nobody_takes_in_what_it_sends(
    settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 0.4)
    monkeypatch.setattr(lanes, "DRAIN_S", 0.1)  # what comes after it is tried, too
    door = Stalls(os.environ["AWS_ENDPOINT_URL_SESV2"])
    async with door.listening() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", url)
        file = Attachment(name="a.bin", content=os.urandom(2 * BIG))
        letter = Email(to="b@example.org", from_="a@example.com", subject="s", text="t", attachments=[file])
        async with asyncio.timeout(15), running_worker(settings):
            id = await mailer.send(letter)
            await door.reached.wait()
    status = await mailer.status(id)
    assert status.state == "unknown"
    assert "nothing more of the request was taken in" in status.reason


async def test_a_call_that_does_not_end_holds_a_lane_up_no_longer_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "CLOSE_S", 0.2)
    job = asyncio.create_task(asyncio.Event().wait())
    worker = SimpleNamespace(tasks={}, pool=connect(Settings()))
    async with asyncio.timeout(5):
        with capture_logs() as said:
            await lanes._close(worker, {job})  # type: ignore[arg-type]
    assert [(line["log_level"], line["jobs"]) for line in said] == [("error", 1)]
    job.cancel()


async def test_a_request_whose_first_try_took_long_is_not_made_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "AGAIN_WITHIN_S", 0.1)

    async def slowly(reader: asyncio.StreamReader) -> bool:
        await asyncio.sleep(0.15)
        return await _read_some(reader)

    door = Door(slowly, times=10)
    async with open_door(door) as url, Gateway(endpoint_url=url) as gateway:
        answer = await send(gateway, BIG)
    assert answer.refusal is not None
    assert answer.refusal.kind is Kind.UNREACHABLE
    assert door.connections == 1


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
