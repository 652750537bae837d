"""`arq worker.BulkSettings`: one lane the plain arq way, with its upkeep beside it; no supervision and no HTTP."""

from __future__ import annotations

from typing import Any

from mailer.email import Lane
from mailer.errors import MailerError
from mailer.log import configure_logging
from mailer.queue import connect
from mailer.settings import load_settings

from . import maintenance
from .lanes import DRAIN_S, arq_options
from .runtime import Runtime, cancel


def worker_settings(lane_name: str, class_name: str) -> type:
    """The settings class for arq's command line. Ends the process with one sentence where the settings are wrong."""
    lane = Lane(lane_name)
    try:
        settings = load_settings()
        redis = connect(settings)
    except MailerError as error:
        raise SystemExit(f"mailer: {error}") from None
    configure_logging(settings.log_format, settings.log_level)

    async def on_startup(ctx: dict[str, Any]) -> None:
        ctx["runtime"] = runtime = await Runtime(settings).__aenter__()
        runtime.serving.add(lane)
        ctx["upkeep"] = await maintenance.start(runtime)

    async def on_shutdown(ctx: dict[str, Any]) -> None:
        await cancel(*ctx["upkeep"].values())
        await ctx["runtime"].__aexit__(None, None, None)

    return type(
        class_name,
        (),
        {
            **arq_options(lane, {}),
            "queue_name": f"{settings.namespace}:queue:{lane.value}",
            "redis_pool": redis,
            "on_startup": on_startup,
            "on_shutdown": on_shutdown,
            "job_completion_wait": int(DRAIN_S),
        },
    )
