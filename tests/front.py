"""A server in front of the simulated SES that answers some requests itself, as SES has it or as somebody else would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from mailer.simulator import Simulator
from mailer.simulator import serve as serve_ses


class Asked(NamedTuple):
    method: str
    path: str  # without the query
    body: dict[str, Any]

    @property
    def sends(self) -> bool:
        return self.path in ("/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails")

    @property
    def messages(self) -> list[list[str]]:
        """The recipients of each message of a SendEmail or SendBulkEmail call."""
        found = self.body.get("BulkEmailEntries", [self.body])
        return [[address for some in one["Destination"].values() for address in some] for one in found]


@dataclass(frozen=True)
class Said:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def refuses(code: str, text: str, status: int = 400) -> Said:
    """As SES says no to a whole call."""
    headers = {"x-amzn-ErrorType": code, "x-amzn-RequestId": "r-1", "content-type": "application/json"}
    return Said(status, json.dumps({"message": text}).encode(), headers)


def entries(results: list[dict[str, str]]) -> Said:
    """SES's answer to a SendBulkEmail call."""
    headers = {"x-amzn-RequestId": "r-1", "content-type": "application/json"}
    return Said(200, json.dumps({"BulkEmailEntryResults": results}).encode(), headers)


def page(status: int, html: str, **headers: str) -> Said:
    """As a firewall, a proxy or a load balancer answers in the place of SES."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(status, html.encode(), {"content-type": "text/html", **named})


class Partly(NamedTuple):
    """Of a SendBulkEmail call: a result for each entry; the simulated SES answers the others."""

    results: list[dict[str, str] | None]


Answers = Callable[[Asked], Said | Partly | None]  # None: the simulated SES answers


class Front:
    def __init__(self, simulator: Simulator, url: str) -> None:
        self.simulator = simulator
        self.answers: Answers = lambda _: None
        self.asked: list[Asked] = []
        self._url = url

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        asked = Asked(request.method, request.path, json.loads(raw) if raw else {})
        self.asked.append(asked)
        said = self.answers(asked)
        if isinstance(said, Partly):
            return await self._partly(request, asked, said)
        if said is not None:
            return web.Response(status=said.status, body=said.body, headers=dict(said.headers))
        return await self._forward(request, raw)

    async def _partly(self, request: web.Request, asked: Asked, said: Partly) -> web.Response:
        both = list(zip(asked.body["BulkEmailEntries"], said.results, strict=True))
        left = [entry for entry, result in both if result is None]
        results = list[dict[str, str]]()
        if left:
            answer = await self._forward(request, json.dumps({**asked.body, "BulkEmailEntries": left}).encode())
            assert isinstance(answer.body, bytes)
            results = json.loads(answer.body)["BulkEmailEntryResults"]
        found = entries([result or results.pop(0) for _, result in both])
        return web.Response(status=found.status, body=found.body, headers=dict(found.headers))

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as client,
            client.request(request.method, self._url + request.path_qs, data=body, headers=headers) as answer,
        ):
            kept = {n: v for n, v in answer.headers.items() if n.lower() not in ("content-length", "transfer-encoding")}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


@asynccontextmanager
async def in_front_of(monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> AsyncIterator[Front]:
    """AWS_ENDPOINT_URL_SESV2 leads to it while the block runs."""
    async with serve_ses(simulator) as url:
        front = Front(simulator, url)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", front.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", f"http://{host}:{port}")
        try:
            yield front
        finally:
            await runner.cleanup()
