"""A worker survives any content: its loop is not held, its memory has a bound, and what is ordinary is sent meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from mailer import Email, Mailer, MailerError, Settings, State
from mailer.cli.ports import free_port
from mailer.ids import is_message

from ..bench.servers import Sink, sink
from .content import FROM, campaign, campaigns, email, messages

HELD_S = 0.2  # for which the event loop may be held
WITHIN_S = 1.0  # in which an ordinary message is sent
EVERY_S = 0.2
MESSAGE_EVERY_S, CAMPAIGN_EVERY_S = 0.15, 0.6  # in which one more of the hostile ones is due
STORING_S = 12.0  # in which all is stored
MEMORY = 3 << 29  # bytes, of the worker and its children together: docs/limits.md
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def a_worker(settings: Settings, ses: Sink, folder: Path) -> AsyncIterator[Path]:
    """`tests.hostile.worker` for these settings; gives the file that it measures into."""
    file, log, port = folder / "measured", folder / "worker.log", free_port()
    file.touch()
    given = {
        "MAILER_REDIS_URL": settings.redis_url,
        "MAILER_NAMESPACE": settings.namespace,
        "MAILER_HTTP_PORT": str(port),
        "MAILER_BULK_CALLS_PER_S": "unlimited",
        "PYTHONPATH": str(ROOT),
        **ses.env(),
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.hostile.worker", str(file)), env={**os.environ, **given}, stdout=output, stderr=output
        )
    try:
        yield file
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            code = await process.wait()
        assert code == 0, log.read_text()[-5000:]
        assert "Traceback" not in log.read_text(), log.read_text()


class Ordinary:
    """Messages that are sent all the while, and how long each took."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer
        self.took_s: list[float] = []
        self._waiting: set[asyncio.Task[None]] = set()

    async def send_on(self) -> None:
        while True:
            task = asyncio.create_task(self._send())
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            await asyncio.sleep(EVERY_S)

    async def _send(self) -> None:
        began = time.monotonic()
        letter: dict[str, Any] = {"subject": "Hi {{ name }}", "html": "<p>Dear {{ name }}</p>", "data": {"name": "Ana"}}
        id = await self._mailer.send(Email(to="ana@example.org", from_=FROM, **letter))
        while (await self._mailer.status(id)).state != "sent":
            await asyncio.sleep(0.05)
        self.took_s.append(time.monotonic() - began)

    async def finish(self) -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(*self._waiting)


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_worker_survives_all_of_it_while_ordinary_messages_are_sent_within_a_second(
    settings: Settings, mailer: Mailer, tmp_path: Path
) -> None:
    ordinary = Ordinary(mailer)
    with sink() as ses:  # a process of its own, that looks at no content
        async with a_worker(settings, ses, tmp_path) as file:
            while not file.read_bytes():
                await asyncio.sleep(0.05)
            stored = await store(mailer, tmp_path)
            sending = asyncio.create_task(ordinary.send_on())
            async with asyncio.timeout(240):
                ends = {name: await end(mailer, id) for name, id in stored.ids.items()}
            sending.cancel()
            await ordinary.finish()
            measured = orjson.loads(file.read_bytes().splitlines()[-1])
        accepted = ses.count()["recipients"]
    for name, (state, reason, _) in ends.items():
        assert state in ("sent", "failed", "rejected", "finished", "stopped"), (name, state)
        assert reason or state in ("sent", "finished"), name
    assert all(stored.refused.values()), "with a sentence"
    assert measured["held_s"] < HELD_S, measured
    assert measured["memory"] < MEMORY, measured
    assert accepted == len(ordinary.took_s) + sum(sent for _, _, sent in ends.values()), "nobody is lost, or sent to twice"
    assert (ends["one row of many"], ends["macros"]) == (("finished", "", 59), ("finished", "", 100))
    assert len(ordinary.took_s) > 20
    assert max(ordinary.took_s) < WITHIN_S, (sorted(ordinary.took_s)[-10:], measured)


class Stored(NamedTuple):
    ids: dict[str, str]  # of messages and campaigns, by name
    refused: dict[str, str]  # why, of those that were refused at the call


async def store(mailer: Mailer, folder: Path) -> Stored:
    """All of it, to be sent from a moment from now on, one after the other: storing compiles the templates, and that would be
    measured, too."""
    began, stored = datetime.now(UTC) + timedelta(seconds=STORING_S), Stored({}, {})
    for number, (name, fields) in enumerate(messages()):
        try:
            stored.ids[name] = await mailer.send(email(send_at=began + timedelta(seconds=MESSAGE_EVERY_S * number), **fields))
        except MailerError as error:
            stored.refused[name] = str(error)
    for number, (name, fields, rows) in enumerate(campaigns(folder)):
        at = began + timedelta(seconds=CAMPAIGN_EVERY_S * number)
        try:
            stored.ids[name] = await mailer.start_campaign(campaign(send_at=at, **fields), rows)
        except MailerError as error:
            stored.refused[name] = str(error)
    await asyncio.sleep(max(0.0, (began - datetime.now(UTC)).total_seconds()))
    return stored


async def end(mailer: Mailer, id: str) -> tuple[str, str, int]:
    """State, reason, and how many SES has accepted."""
    while True:
        if is_message(id):
            message = await mailer.status(id)
            if message.state not in ("queued", "claimed"):
                return message.state, message.reason, int(message.state == "sent")
        else:
            status = await mailer.campaign(id)
            if status.state in (State.FINISHED, State.STOPPED):
                return status.state, status.reason, status.counts.get("sent", 0)
        await asyncio.sleep(0.1)
