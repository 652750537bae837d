"""Health, readiness and metrics of a worker process.

`/healthz` asks whether the process should be restarted, `/readyz` whether it can work now. They differ on purpose: a Redis
that is away is no reason to restart a worker, and a dead loop is nothing that waiting would mend.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from mailer import metrics
from mailer.connections import bounds
from mailer.errors import ConfigError
from mailer.events.sns import MAX_BODY

READY_TIMEOUT_S = 2.0  # below the usual three seconds that a probe waits
COLLECT_TIMEOUT_S = 2.0  # a scrape waits ten seconds by default; old gauges are better than none
BODY_TIMEOUT_S = 5.0  # for what SNS posts to arrive
GRACE_S = 2  # for the answers in flight when the process ends; nothing here is worth more

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a worker needs before it can send."""

    ok: bool
    detail: str = ""  # half a sentence for a human
    needed: bool = True  # the worker is not ready without it


def create_app(
    *,
    alive: Callable[[], Mapping[str, bool]],
    ready: Callable[[], Awaitable[Mapping[str, Check]]],
    collect: Callable[[], Awaitable[None]],
    events: Callable[[bytes, Mapping[str, str]], Awaitable[int]] | None = None,
    pages: Sequence[APIRouter] = (),
) -> FastAPI:
    """The three pages. `alive`: each loop of the process, is it running. `ready`: each check. `collect` refreshes the gauges.

    `events` is given what SNS posts, body and headers, and says the status; without it there is no such page. `pages`: more.
    """
    app = FastAPI(openapi_url=None)  # and so no documentation pages either

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        loops = dict(alive())
        return JSONResponse(loops, status_code=200 if loops and all(loops.values()) else 503)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        checks = await _checked(ready)
        ok = bool(checks) and all(check.ok or not check.needed for check in checks.values())
        shown = {name: {"ok": check.ok, "detail": check.detail} for name, check in checks.items()}
        return JSONResponse(shown, status_code=200 if ok else 503)

    @app.get("/metrics")
    async def scrape() -> Response:
        try:
            async with asyncio.timeout(COLLECT_TIMEOUT_S):
                await collect()
        except Exception:  # whatever it is, the counters are still worth having
            log.warning("gauges not refreshed", exc_info=True)
        return Response(metrics.exposition(), headers={"content-type": metrics.CONTENT_TYPE})

    if events is not None:
        _take_events(app, events)
    for router in pages:
        app.include_router(router)
    return app


def _take_events(app: FastAPI, events: Callable[[bytes, Mapping[str, str]], Awaitable[int]]) -> None:
    @app.post("/events/ses")
    async def post(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return Response(status_code=408)
        return Response(status_code=413 if body is None else await events(body, request.headers))


async def _body(request: Request) -> bytes | None:
    """None where it is larger than anything that SNS sends; no more than that is kept."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


async def _checked(ready: Callable[[], Awaitable[Mapping[str, Check]]]) -> Mapping[str, Check]:
    """The checks, or one that says why there are none: a probe has to get its answer."""
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            return await ready()
    except TimeoutError:
        return {"checks": Check(ok=False, detail=f"no result within {READY_TIMEOUT_S:g} s")}
    except Exception as error:
        log.warning("readiness cannot be checked", exc_info=True)
        return {"checks": Check(ok=False, detail=type(error).__name__)}


# ---- the server ----------------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """uvicorn as a part of a process: the signals belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(app: FastAPI, host: str, port: int) -> AsyncIterator[int]:
    """Serves `app` in the running loop while the body runs; yields the port (`port` 0: any free one).

    Raises ConfigError when the address cannot be used. Leaving takes at most GRACE_S and a second.
    """
    listener = _bind(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        **bounds(),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)  # uvicorn tells by this attribute only
        if task.done():
            task.result()
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        try:
            await asyncio.wait([task], timeout=GRACE_S + 1)
        finally:
            task.cancel()
            listener.close()


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError with one sentence that names the variable to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                where="MAILER_HTTP_PORT", why=f"port {port} of {host} is in use; stop the other process, or set another port"
            ) from None
        if error.errno == errno.EACCES:
            raise ConfigError(where="MAILER_HTTP_PORT", why=f"port {port} needs root; set one from 1024 up") from None
        why = error.strerror or os.strerror(error.errno or 0)
        raise ConfigError(where="MAILER_HTTP_HOST", why=f"{host} is no address of this machine ({why})") from None
