"""arq as usually written: one job an e-mail, pickled, rendered and sent by `send_email`. A baseline, not ours.

``python -m tests.bench.arq_app N`` enqueues N e-mails; ``python -m arq tests.bench.arq_app.WorkerSettings`` sends them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import aioboto3
from arq import create_pool
from arq.connections import RedisSettings
from botocore.config import Config

from .body import SENDER, Renderer, rows

REDIS = RedisSettings.from_dsn(os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0"))
MAX_JOBS = 50


async def startup(ctx: dict[str, Any]) -> None:
    ctx["stack"] = stack = AsyncExitStack()
    # The pool's default of 10 connections would hold 50 jobs back.
    config = Config(max_pool_connections=MAX_JOBS)
    ctx["ses"] = await stack.enter_async_context(aioboto3.Session().client("sesv2", config=config))
    ctx["render"] = Renderer()


async def shutdown(ctx: dict[str, Any]) -> None:
    await ctx["stack"].aclose()


async def send_mail(ctx: dict[str, Any], recipient: dict[str, str]) -> str:
    subject, html = ctx["render"](recipient)
    response = await ctx["ses"].send_email(
        FromEmailAddress=SENDER,
        Destination={"ToAddresses": [recipient["email"]]},
        Content={
            "Simple": {
                "Subject": {"Data": subject, "Charset": "UTF-8"},
                "Body": {"Html": {"Data": html, "Charset": "UTF-8"}},
            }
        },
    )
    return str(response["MessageId"])


class WorkerSettings:
    functions = (send_mail,)
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = REDIS
    max_jobs = MAX_JOBS
    poll_delay = 0.05  # seconds; at arq's default of 0.5 the queue is looked at too rarely to keep a worker busy


async def enqueue(n: int) -> float:
    """Returns the seconds that it took."""
    pool = await create_pool(REDIS)
    start = time.perf_counter()
    for recipient in rows(n):
        await pool.enqueue_job("send_mail", recipient)
    seconds = time.perf_counter() - start
    await pool.aclose()
    return seconds


if __name__ == "__main__":
    print(json.dumps(asyncio.run(enqueue(int(sys.argv[1])))))
