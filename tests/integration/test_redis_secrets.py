"""Passwords of Redis and its Sentinels: what is said of one that cannot be used has no part of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from mailer import Mailer, Settings
from mailer.cli import _explain
from mailer.cli.processes import free_port
from mailer.doctor import redis as doctor
from mailer.errors import RedisUnavailable
from mailer.ledger import Ledger
from mailer.queue import connect, disconnect, explain_redis
from mailer.redis import commands
from worker.outage import Outage
from worker.readiness import ready
from worker.runtime import Runtime

from ..servers import RedisServer

SECRET = "Geheim1#/@?:%Wort2"
PARTS = ("Geheim1", "Wort2", "Nutzer3", quote(SECRET, safe=""))
FORMS = (
    "{scheme}://Nutzer3:{password}@127.0.0.1:{port}/0",
    "{scheme}://127.0.0.1:{port}/0?password={password}",
    "unix://Nutzer3:{password}@{socket}",
    "unix://{socket}?username=Nutzer3&password={password}",
    "{scheme}+sentinel://Nutzer3:{password}@127.0.0.1:{port}/main/0",
    "{scheme}+sentinel://127.0.0.1:{port}/main/0?sentinel_password={password}&password={password}",
)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Path]]:
    """A server with another password, and its socket."""
    socket = tmp_path_factory.mktemp("s") / "s"
    server = RedisServer(options=("--requirepass", "sesame", "--unixsocket", str(socket)))
    server.start()
    yield server, socket
    server.remove()


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_BACKOFF", NoBackoff())


@asynccontextmanager
async def speaking(answer: bytes | None) -> AsyncIterator[int]:
    """A port of something that is not Redis: it says this, or ends the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is not None and await reader.read(1):
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def texts(settings: Settings) -> list[str]:
    """All that is said of it: by an application, a command, a worker's log and pages, the doctor."""
    said = list[str]()
    client = connect(settings, retries=0, timeout=0.4)
    with pytest.raises(RedisError) as raised:
        await client.set("t:x", 1)
    said += [str(raised.value), repr(raised.value), explain_redis(raised.value), _explain(raised.value)]
    with capture_logs() as lines:
        Outage().tell(raised.value, "trying")
    said += map(str, lines)
    with pytest.raises(RedisUnavailable) as unavailable:
        async with Mailer(settings, timeout=0.4):
            pass
    said += [str(unavailable.value), repr(unavailable.value)]
    findings = await doctor.redis(settings, client)
    findings += [await doctor.scripts(Ledger(client, "t"), client), await doctor.clock(client)]
    said += [str(one) for one in findings]
    await disconnect(client)
    return said


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("failure", ["nothing", "password", "tls", "other", "ends"])
async def test_no_part_of_a_password_is_said_of_a_redis_that_cannot_be_used(
    locked: tuple[RedisServer, Path], form: str, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, socket = locked
    caplog.set_level(logging.DEBUG)
    answers = {"other": b"HTTP/1.1 400 Bad Request\r\n\r\n", "ends": None}
    async with speaking(answers.get(failure)) as port:
        place: dict[str, Any] = {"scheme": "rediss" if failure == "tls" else "redis", "password": quote(SECRET, safe="")}
        place["port"] = {"nothing": free_port(), "password": server.port, "tls": server.port}.get(failure, port)
        place["socket"] = socket if failure == "password" else f"{socket}-not-there"
        for said in [*await texts(Settings(redis_url=form.format(**place))), caplog.text]:
            for part in PARTS:
                assert part not in said, said


async def test_no_part_of_a_password_is_on_a_worker_s_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0?username=Nutzer3&password={quote(SECRET, safe='')}")
    runtime = Runtime(settings)
    found = str(await ready(runtime))
    assert "nothing answers there" in found
    assert not any(part in found for part in PARTS)
