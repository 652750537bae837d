"""A stand-in for SES v2 that answers at once, so that what is measured is the sender. ``python -m tests.bench.sink``

It looks at no more of a request than it must: the size, the number of entries and, when asked to, the addresses.
Beside the SES calls it answers `GET /count`, `GET /arrivals` and `POST /reset[?addresses=1]`.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import time
import uuid
from collections.abc import Callable
from typing import cast

_ADDRESS = re.compile(rb'"ToAddresses"\s*:\s*\[\s*"([^"]+)"')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.I)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.I)
_EXPECT = re.compile(rb"\r\nexpect:\s*100-continue", re.I)
_REASONS = {200: "OK", 404: "Not Found"}

ACCOUNT = {
    "DedicatedIpAutoWarmupEnabled": False,
    "EnforcementStatus": "HEALTHY",
    "ProductionAccessEnabled": True,
    "SendQuota": {"Max24HourSend": 1e9, "MaxSendRate": 1e6, "SentLast24Hours": 0.0},
    "SendingEnabled": True,
}
IDENTITIES = {"EmailIdentities": [{"IdentityType": "DOMAIN", "IdentityName": "example.com", "SendingEnabled": True}]}


class Ledger:
    """What was accepted, and when, by this process's clock (every process of a run is on one machine)."""

    def __init__(self) -> None:
        self.ids = 0  # never reset: a message id is unique for as long as the sink runs
        self.prefix = (
            f"{time.time_ns() // 1_000_000:016x}-{uuid.uuid4().hex[:8]}-{secrets.token_hex(2)}-4{secrets.token_hex(2)[1:]}"
        )
        self.reset(addresses=False)

    def reset(self, *, addresses: bool) -> None:
        self.recipients = self.calls = self.first_recipients = 0
        self.first = self.last = 0.0
        self.arrivals: dict[str, float] | None = {} if addresses else None

    def accept(self, body: bytes, entries: int) -> list[str]:
        """Counts a call and returns an id for each of its entries."""
        self.last = time.time()
        if not self.calls:
            self.first, self.first_recipients = self.last, entries
        self.calls += 1
        self.recipients += entries
        if self.arrivals is not None:
            self.arrivals.update((address.decode(), self.last) for address in _ADDRESS.findall(body))
        start, self.ids = self.ids, self.ids + entries
        return [f"{self.prefix}-{0x9000 | i >> 48:04x}-{i & 0xFFFFFFFFFFFF:012x}-000000" for i in range(start, self.ids)]

    def count(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("recipients", "calls", "first", "last", "first_recipients")}


def answer(ledger: Ledger, method: bytes, target: bytes, body: bytes) -> tuple[int, str]:
    path, _, query = target.partition(b"?")
    match method, path:
        case b"POST", b"/v2/email/outbound-bulk-emails":
            ids = ledger.accept(body, body.count(b'"Destination"'))
            entries = ",".join([f'{{"Status":"SUCCESS","MessageId":"{i}"}}' for i in ids])
            return 200, f'{{"BulkEmailEntryResults":[{entries}]}}'
        case b"POST", b"/v2/email/outbound-emails":
            return 200, f'{{"MessageId":"{ledger.accept(body, 1)[0]}"}}'
        case b"GET", b"/v2/email/account":
            return 200, json.dumps(ACCOUNT)
        case b"GET", b"/v2/email/identities":
            return 200, json.dumps(IDENTITIES)
        case b"GET", b"/v2/email/identities/example.com":
            return 200, '{"IdentityType":"DOMAIN","VerifiedForSendingStatus":true}'
        case b"GET", b"/v2/email/suppression/addresses":
            return 200, '{"SuppressedDestinationSummaries":[]}'
        case b"GET", b"/count":
            return 200, json.dumps(ledger.count())
        case b"GET", b"/arrivals":
            return 200, json.dumps(ledger.arrivals or {})
        case b"POST", b"/reset":
            ledger.reset(addresses=query == b"addresses=1")
            return 200, "{}"
    return 404, '{"message":"the bench does not answer this call"}'


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive. Bytes gather in one buffer until a request is whole; pipelined requests follow."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._buffer = bytearray()
        self._need = 0  # bytes that the request at the start of the buffer needs, so far as is known
        self._continued = False  # 100 Continue was sent for that request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is none of asyncio's

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= max(self._need, 1) and self._take():
            self._need, self._continued = 0, False

    def _take(self) -> bool:
        """Answers the first request of the buffer, if the whole of it is there."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        body = self._body(head, end + 4)
        if body is None:
            if _EXPECT.search(head) and not self._continued:
                self._continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        method, target, _ = head.split(b" ", 2)
        status, text = answer(self._ledger, method, target, body)
        error = "x-amzn-errortype: NotFoundException\r\n" if status == 404 else ""
        self._transport.write(
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n{error}"
            f"content-length: {len(text)}\r\n\r\n{text}".encode()
        )
        return True

    def _body(self, head: bytes, start: int) -> bytes | None:
        """The body, taken out of the buffer together with its head; None while it is not whole."""
        if _CHUNKED.search(head):
            return self._chunked(start)
        length = _LENGTH.search(head)
        self._need = start + (int(length[1]) if length else 0)
        if len(self._buffer) < self._need:
            return None
        body = bytes(self._buffer[start : self._need])
        del self._buffer[: self._need]
        return body

    def _chunked(self, at: int) -> bytes | None:
        parts: list[bytes] = []
        while (line := self._buffer.find(b"\r\n", at)) >= 0:
            size = int(self._buffer[at:line].split(b";")[0], 16)
            at = line + 2 + size + 2
            if len(self._buffer) < at:
                return None
            if not size:  # trailers are not read: no client of this sink sends any
                del self._buffer[:at]
                return b"".join(parts)
            parts.append(bytes(self._buffer[line + 2 : at - 2]))
        return None


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def main() -> None:
    ledger = Ledger()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(ledger), "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    # The parent holds the other end of standard input; when it is gone, by whatever death, the sink goes too.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
