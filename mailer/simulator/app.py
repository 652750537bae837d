"""HTTP around the simulator: the API as botocore speaks it (rest-json), the pages, and the controls under /_simulator."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast
from uuid import uuid4

import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import control, pages, sqs, v1
from .limits import MAX_REQUEST
from .operations import Simulator, route
from .refusals import Code, Refusal, no_operation

_TRANSPORT = "mailer.transport"  # key of the ASGI scope under which `serve` leaves the connection
_STOP_S = 1  # how long open requests get when the server stops


def create_app(simulator: Simulator, *, loopback: bool = True, allowed: Collection[str] = ()) -> ASGIApp:
    """The ASGI application. `loopback`: answer only requests that were addressed to this machine by a local name, or by one of
    those that are `allowed`, such as the name of a service in a compose file."""
    app = FastAPI(title="Simulated SES", docs_url=None, redoc_url=None, openapi_url=None)

    async def api(request: Request) -> Response:
        return await _answer(simulator, request)

    async def other(request: Request, error: Exception) -> Response:
        return _refuse(no_operation(request.method, request.scope["raw_path"].decode("ascii", "replace")))

    app.add_route("/v2/{rest:path}", api, methods=["GET", "POST", "PUT", "DELETE"], include_in_schema=False)
    for status in (404, 405):  # of a path or method that nothing here has
        app.add_exception_handler(status, other)

    async def queue(request: Request) -> Response:
        if sqs.HEADER in request.headers:
            return await _answer_sqs(simulator, request)
        return await _answer_query(request)

    app.add_route("/", queue, methods=["POST"], include_in_schema=False)
    app.include_router(control.router(simulator))
    app.include_router(pages.router(simulator))
    return _NamedOnly(app, allowed) if loopback or allowed else app


# ---- the API -------------------------------------------------------------------------------------------------------


async def _answer(simulator: Simulator, request: Request) -> Response:
    try:
        operation, label = route(request.method, request.scope["raw_path"].decode("ascii"))
        raw = await _body(request)
        hit = simulator.faults.on_call(operation.name)
        if hit.latency:
            await asyncio.sleep(hit.latency)
        if hit.cut_before:
            return Cut()
        if hit.refusal:
            raise hit.refusal
        answer = simulator.call(operation, raw, label, request.url.query, hit)
        return Cut() if hit.cut_after else _json(answer)
    except Refusal as refusal:
        return _refuse(refusal)


def _refuse(refusal: Refusal) -> Response:
    return _json({"message": refusal.text}, refusal.http_status, {"x-amzn-ErrorType": refusal.code})


async def _answer_query(request: Request) -> Response:
    try:
        form = (await _body(request)).decode("utf-8", "replace")
    except Refusal:
        form = ""  # too large to look at
    return Response(v1.refusal(form), 400, media_type=v1.CONTENT_TYPE)


async def _answer_sqs(simulator: Simulator, request: Request) -> Response:
    """A call of SQS, whose one path this is; the header says which."""
    try:
        raw = await _body(request)
        if not simulator.config.events:
            raise sqs.no_queue()
        action = request.headers[sqs.HEADER].removeprefix(sqs.TARGET)
        return _json(await simulator.queues.answer(action, raw, request.receive), media_type=sqs.CONTENT_TYPE)
    except sqs.SqsError as error:
        return _json(error.body(), error.status, error.headers(), sqs.CONTENT_TYPE)
    except Refusal as refusal:
        return _json({"__type": refusal.code, "message": refusal.text}, refusal.http_status, media_type=sqs.CONTENT_TYPE)


async def _body(request: Request) -> bytes:
    """The request body, read to its end even when it is too large: an answer before that would look like a lost connection."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_REQUEST:
            chunks.append(chunk)
    if size > MAX_REQUEST:
        raise Refusal(Code.TOO_LARGE, f"The request is larger than {MAX_REQUEST} bytes.")
    return b"".join(chunks)


def _json(
    body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    headers = {"x-amzn-RequestId": str(uuid4()), **(headers or {})}
    return Response(orjson.dumps(body), status, headers, media_type)


class Cut(Response):
    """Instead of an answer: the TCP connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope.get(_TRANSPORT)
        if transport is None:
            raise RuntimeError("connections can be cut only when the simulator runs under mailer.simulator.serve")
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class _NamedOnly:
    """Refuses what a web page from elsewhere could send: by DNS rebinding (Host), or straight to the controls (Origin)."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self.app = app
        self._allowed = frozenset(map(str.lower, allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
            for what, name in (("Host", _name(host)), ("Origin", _name(origin.rpartition("//")[2]) if origin else "localhost")):
                if not self._is_ours(name):
                    await _not_ours(what, name)(scope, receive, send)
                    return
        await self.app(scope, receive, send)

    def _is_ours(self, name: str) -> bool:
        return name == "localhost" or name.endswith(".localhost") or name in self._allowed or _is_loopback(name)


def _not_ours(what: str, name: str) -> Response:
    text = f"The simulator answers requests to this machine only, and the {what} of this one is {name[:100]!r}."
    text += " Start it with --allow-host and that name, if it is one of yours."
    return _json({"__type": Code.ACCESS_DENIED, "message": text}, 403, {"x-amzn-ErrorType": Code.ACCESS_DENIED})


def _name(host: str) -> str:
    """`host` is ``name`` or ``name:port``, ``[::1]:port`` for IPv6."""
    return (host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]).lower()


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


# ---- the server ----------------------------------------------------------------------------------------------------


class _Protocol(H11Protocol):
    """uvicorn's, with the connection left where `Cut` finds it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio leaves Nagle's algorithm on for a listener that it did not make; that costs 40 ms a call.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_TRANSPORT] = transport
            try:
                await cast(ASGIApp, app)(scope, receive, send)
            except asyncio.CancelledError:  # the server stops; whoever still waits sees the connection close
                transport.abort()
                await asyncio.sleep(0)  # lets uvicorn learn of it, so that it does not ask where the answer is

        self.app = cast(Any, with_transport)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the program that this runs in."""
        yield


@asynccontextmanager
async def serve(
    simulator: Simulator, host: str = "127.0.0.1", port: int = 0, *, allowed: Collection[str] = ()
) -> AsyncIterator[str]:
    """Serves in the running event loop until the block ends. Yields the base URL, e.g. ``http://127.0.0.1:41234``.

    `allowed`: names that requests may be addressed to, beside those of this machine. Where `host` is not of the loopback
    interface and no name is given, every name will do.
    """
    local = host == "localhost" or _is_loopback(host)
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    config = uvicorn.Config(
        create_app(simulator, loopback=local, allowed=allowed),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_STOP_S,
    )
    server = _Server(config)
    simulator.queues.let_wait(True)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        if task.done():
            await task
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        simulator.queues.let_wait(False)
        await task
        listener.close()
