"""The three pages of a worker, asked over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest

from mailer import Settings, metrics
from mailer.accounts.overview import read_account
from mailer.errors import ConfigError
from mailer.simulator import Simulator
from worker import http, maintenance, readiness
from worker.http import Check, create_app, serve
from worker.runtime import Runtime


async def nothing() -> None:
    return None


async def fine() -> Mapping[str, Check]:
    return {"redis": Check(ok=True, detail="answers in 1 ms"), "account": Check(ok=True), "lanes": Check(ok=True)}


def app(**given: Any) -> Any:
    return create_app(**{"alive": lambda: {"bulk": True}, "ready": fine, "collect": nothing, **given})


@contextlib.asynccontextmanager
async def asked(**given: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(app(**given), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("loops", "status"),
    [({"transactional": True, "bulk": True}, 200), ({"transactional": True, "bulk": False}, 503), ({}, 503)],
)
async def test_healthz_is_200_while_every_loop_is_alive(loops: dict[str, bool], status: int) -> None:
    async with asked(alive=lambda: loops) as client:
        response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (status, loops)


async def test_healthz_asks_each_time() -> None:
    loops = {"bulk": True}
    async with asked(alive=lambda: loops) as client:
        assert (await client.get("/healthz")).status_code == 200
        loops["bulk"] = False
        assert (await client.get("/healthz")).status_code == 503


async def test_readyz_has_an_entry_a_check() -> None:
    async def half() -> Mapping[str, Check]:
        return {**await fine(), "redis": Check(ok=False, detail="refused")}

    async with asked() as client:
        response = await client.get("/readyz")
        assert response.status_code == 200
        assert response.json() == {
            "redis": {"ok": True, "detail": "answers in 1 ms"},
            "account": {"ok": True, "detail": ""},
            "lanes": {"ok": True, "detail": ""},
        }
    async with asked(ready=half) as client:
        response = await client.get("/readyz")
        assert (response.status_code, response.json()["redis"]) == (503, {"ok": False, "detail": "refused"})


async def test_readyz_shows_a_suppression_list_that_is_not_known_and_stays_200(settings: Settings, ses: Simulator) -> None:
    async with Runtime(settings) as runtime:
        runtime.serving.update(settings.lanes)
        async with asked(ready=lambda: readiness.ready(runtime)) as client:

            async def shown() -> tuple[int, Any]:
                response = await client.get("/readyz")
                return response.status_code, response.json()["suppression"]

            await maintenance.read_accounts(runtime)
            why = "the suppression list of SES has not been read yet"
            assert await shown() == (200, {"ok": False, "detail": why})
            ses.suppress("ana@example.org", "BOUNCE")
            await maintenance.read_suppression(runtime)
            assert await shown() == (200, {"ok": True, "detail": "1 entries on the list of SES"})
            assert await runtime.suppressed.take_turn(runtime.own.account, "x")
            assert await runtime.suppressed.keep_turn(runtime.own.account, "x", {"synced": 1})
            status, check = await shown()
            assert (status, check["ok"], "which is too long ago" in check["detail"]) == (200, False, True)
            ses.suppressed_reasons = ()
            await read_account(runtime.accounts, runtime.own)
            assert await shown() == (200, {"ok": True, "detail": "the list of SES holds for nothing in this account"})


async def hang() -> Any:
    await asyncio.sleep(60)


async def fail() -> Any:
    raise RuntimeError("redis://:opensesame@host is away")


async def empty() -> Any:
    return {}


@pytest.mark.parametrize("ready", [hang, fail, empty])
async def test_readyz_answers_503_when_the_checks_hang_fail_or_are_missing(
    ready: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "READY_TIMEOUT_S", 0.1)
    async with asked(ready=ready) as client:
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert "opensesame" not in response.text


async def test_metrics_collects_first_and_is_prometheus_text() -> None:
    async def collect() -> None:
        metrics.set_in_doubt(41)

    async with asked(collect=collect) as client:
        response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == metrics.CONTENT_TYPE
    assert "mailer_in_doubt 41.0\n" in response.text


@pytest.mark.parametrize("collect", [hang, fail])
async def test_metrics_answers_with_what_it_has_when_collecting_hangs_or_fails(
    collect: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "COLLECT_TIMEOUT_S", 0.1)
    async with asked(collect=collect) as client:
        response = await client.get("/metrics")
    assert response.status_code == 200
    assert "mailer_recipients_total" in response.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/"])
async def test_nothing_else_is_served(path: str) -> None:
    async with asked() as client:
        response = await client.get(path)
    assert response.status_code == 404
    assert "server" not in response.headers


async def test_a_port_in_use_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            async with serve(app(), "127.0.0.1", port):
                pass
    assert str(raised.value) == (
        f"MAILER_HTTP_PORT: port {port} of 127.0.0.1 is in use; stop the other process, or set another port"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_a_host_that_is_not_ours_is_one_clear_sentence(host: str) -> None:
    with pytest.raises(ConfigError, match=f"^MAILER_HTTP_HOST: {host} is no address of this machine"):
        async with serve(app(), host, 0):
            pass


async def test_the_signals_stay_the_processs_own() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serve(app(), "127.0.0.1", 0):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_leaving_frees_the_port_and_passes_the_bodys_error_on() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with serve(app(), "127.0.0.1", 0) as port:
            raise KeyError("mine")
    async with serve(app(), "127.0.0.1", port) as again:
        assert again == port


async def test_leaving_is_bounded_although_an_answer_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "GRACE_S", 1)
    entered, ended = asyncio.Event(), asyncio.Event()

    async def ready() -> Any:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    monkeypatch.setattr(http, "READY_TIMEOUT_S", 60)
    async with serve(app(ready=ready), "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        await entered.wait()
        start = time.monotonic()
    assert time.monotonic() - start < 4
    await asyncio.wait_for(ended.wait(), 1)
    assert (await reader.read()).startswith(b"HTTP/1.1 500 ")
    writer.close()


async def test_cancelling_the_body_cleans_up_and_goes_on_as_a_cancellation() -> None:
    ports: list[int] = []

    async def run() -> None:
        async with serve(app(), "127.0.0.1", 0) as port:
            ports.append(port)
            await asyncio.sleep(60)

    task = asyncio.create_task(run())
    while not ports:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with socket.create_server(("127.0.0.1", ports[0])):
        pass
