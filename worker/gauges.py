"""The gauges, read from Redis when somebody asks for them."""

from __future__ import annotations

import math
import time

from redis.exceptions import RedisError

from mailer import metrics
from mailer.ledger import census
from mailer.ledger.workers import served
from mailer.message.email import Lane
from mailer.queue import is_refused

from .readiness import trouble_of_redis
from .runtime import Runtime

CENSUS_S = 5.0  # it is not taken more often, however often somebody asks


async def collect(runtime: Runtime) -> None:
    error = await trouble_of_redis(runtime)
    metrics.set_redis(up=error is None or is_refused(error), writable=error is None)
    if error is not None and not is_refused(error):
        return
    await _redis(runtime)
    await _work(runtime)
    await _account(runtime)


async def _work(runtime: Runtime) -> None:
    now = time.monotonic()
    if runtime.census is None or now - runtime.census_at > CENSUS_S:
        runtime.census, runtime.census_at = await census.take(runtime.ledger), now
    metrics.set_census(runtime.census)
    serving = served(await runtime.workers.alive())
    for lane in Lane:
        # Jobs that are queued twice, or of chunks that are over by now, count as arq has them.
        metrics.set_queue_depth(lane, max(await runtime.ledger.report.queue_depth(lane), runtime.census.lanes[lane].jobs))
        metrics.set_workers(lane, serving[lane])
    metrics.set_in_doubt(await runtime.ledger.report.in_doubt())


async def _account(runtime: Runtime) -> None:
    if known := await runtime.accounts.load(runtime.own.account):
        metrics.set_quota(known.max_send_rate, known.max_24h, known.used_24h)
        metrics.set_account(
            sending_enabled=known.sending_enabled, enforcement=known.enforcement, read_at=known.refreshed_at.timestamp()
        )
    if synced_at := (await runtime.suppressed.ses_list(runtime.own.account)).synced_at:
        metrics.set_suppression_read(synced_at.timestamp())


async def _redis(runtime: Runtime) -> None:
    try:
        info = {**await runtime.redis.info("memory"), **await runtime.redis.info("persistence")}
    except RedisError:  # it may be forbidden
        info = {}
    aof = info.get("aof_enabled", math.nan)
    last = "aof_last_write_status" if aof else "rdb_last_bgsave_status"
    metrics.set_redis_state(
        memory=info.get("used_memory", math.nan),
        most=info.get("maxmemory", math.nan),
        disk_ok=float(info[last] == "ok") if last in info else math.nan,
        aof=aof,
    )
