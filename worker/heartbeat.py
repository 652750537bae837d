"""A worker says every few seconds that it is alive, which lanes it serves and what it is doing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from redis.exceptions import RedisError

from mailer.ids import container_of
from mailer.ledger.workers import MAX_DOING, WorkerSeen
from mailer.message.email import Lane

from .runtime import Runtime

Step = Callable[[Runtime], Awaitable[None]]

LOOK_S = 0.5  # whether a lane has begun or ended to be served, which is told at once
EVERY_S = 5.0
SHOWN = 3  # campaigns and messages


async def beat(runtime: Runtime) -> None:
    serving, now = frozenset(runtime.serving), time.monotonic()
    if runtime.beaten == serving and now - runtime.beaten_at < EVERY_S:
        return
    seen_at = datetime.fromtimestamp(await runtime.ledger.now_ms() / 1000, UTC)
    await runtime.workers.beat(of(runtime, seen_at))
    runtime.beaten, runtime.beaten_at = serving, now


async def keep(runtime: Runtime, repeat: Callable[[Step, Runtime, float], Awaitable[None]]) -> None:
    """Beat, and be forgotten at once when the worker is stopped."""
    try:
        await repeat(beat, runtime, LOOK_S)
    finally:
        with suppress(RedisError, OSError):
            await runtime.workers.leave(runtime.owner)


def of(runtime: Runtime, seen_at: datetime) -> WorkerSeen:
    return WorkerSeen(
        owner=runtime.owner,
        host=socket.gethostname()[:100],
        pid=os.getpid(),
        lanes=runtime.settings.lanes,
        serving=tuple(lane for lane in Lane if lane in runtime.serving),
        version=_version(),
        since=runtime.since,
        doing=_doing(runtime)[:MAX_DOING],
        seen_at=seen_at,
    )


def _version() -> str:
    try:
        return version("mailer")
    except PackageNotFoundError:  # it runs from its folder, and was not installed
        return "?"


def _doing(runtime: Runtime) -> str:
    if runtime.stopping.is_set():
        return "stopping"
    if not runtime.working:
        return "idle"
    ids = list(dict.fromkeys(map(container_of, runtime.working)))
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"sending {', '.join(ids[:SHOWN])}{more}"
