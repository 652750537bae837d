"""`arq worker.BulkSettings`: one lane the plain arq way, with its upkeep beside it; no supervision and no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from mailer.errors import MailerError
from mailer.ledger.keys import Keys
from mailer.log import configure_logging
from mailer.message.email import Lane
from mailer.printable import one_line
from mailer.queue import connect, disconnect, for_arq, ping
from mailer.settings import Settings, load_settings

from . import maintenance
from .lanes import DRAIN_S, arq_options
from .runtime import cancel, open_runtime
from .watchdog import Watchdog


def worker_settings(lane_name: str, class_name: str) -> type:
    """The settings class for arq's command line. Ends the process with one sentence where it could not work."""
    lane = Lane(lane_name)
    try:
        settings = load_settings()
        asyncio.run(_check(settings))
    except MailerError as error:
        raise SystemExit(f"mailer: {one_line(str(error))}") from None
    configure_logging(settings.log_format, settings.log_level)
    redis = connect(settings)

    async def on_startup(ctx: dict[str, Any]) -> None:
        ctx["jobs"] = set()
        ctx["runtime"] = runtime = await open_runtime(settings, redis.patience.era)
        runtime.serving.add(lane)
        ctx["watchdog"] = watchdog = Watchdog()
        watchdog.start()
        ctx["upkeep"] = await maintenance.start(runtime)

    async def on_shutdown(ctx: dict[str, Any]) -> None:
        if "runtime" in ctx:
            ctx["runtime"].stopping.set()
        if jobs := ctx["jobs"]:  # arq lost sight of one that it ran twice (worker/lanes.py)
            await asyncio.wait(jobs, timeout=DRAIN_S)
        await cancel(*ctx.get("upkeep", {}).values())
        if "runtime" in ctx:
            await ctx["runtime"].__aexit__(None, None, None)
        if "watchdog" in ctx:
            ctx["watchdog"].stop()

    return type(
        class_name,
        (),
        {
            **arq_options(lane, {}),
            "queue_name": Keys(settings.namespace).queue(lane),
            "redis_pool": for_arq(redis, Keys(settings.namespace)),
            "on_startup": on_startup,
            "on_shutdown": on_shutdown,
            "job_completion_wait": int(DRAIN_S),
        },
    )


async def _check(settings: Settings) -> None:
    """arq would show a traceback. Raises MailerError where Redis does not answer or AWS is not set up."""
    redis = connect(settings)
    try:
        await ping(redis, settings)
        runtime = await open_runtime(settings)
        await runtime.__aexit__(None, None, None)
    finally:
        await disconnect(redis)
