"""`python -m worker`, also `mailer worker`: the lanes, their upkeep and HTTP in one supervised process."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError

from mailer import metrics
from mailer.errors import MailerError
from mailer.gates.quota import STALE_AFTER_REFRESHES
from mailer.gates.suppression import why_not_known
from mailer.log import configure_logging
from mailer.queue import explain_redis, ping
from mailer.settings import Settings, load_settings

from . import http, maintenance
from .lanes import serve_lane
from .outage import Outage
from .runtime import Listening, Runtime, cancel, open_runtime
from .sns import Endpoint

log = structlog.get_logger()

EVENTS_LATE_S = 120.0  # a receive is answered, or has failed, within a minute


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings.log_format, settings.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings))
    except MailerError as error:
        sys.stderr.write(f"mailer: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises MailerError for what is wrong at the start; nothing later ends it."""
    runtime = await open_runtime(settings)
    endpoint = None
    try:
        if settings.events_topic_arns:
            endpoint = await runtime.enter(Endpoint(runtime.redis, runtime.ledger.keys, settings.events_topic_arns))
        await ping(runtime.redis, settings)
        _on_signals(runtime.stopping)
        asyncio.get_running_loop().set_exception_handler(partial(_unheard, runtime.outage))
        _settle_memory()
        upkeep = await maintenance.start(runtime)
        lanes = {f"lane {lane}": asyncio.create_task(serve_lane(runtime, lane)) for lane in settings.lanes}
        app = http.create_app(
            alive=lambda: {name: not task.done() for name, task in {**upkeep, **lanes}.items()},
            ready=lambda: _ready(runtime),
            collect=lambda: _collect(runtime),
            events=endpoint,
        )
        try:
            async with http.serve(app, settings.http_host, settings.http_port) as port:
                log.info("serving", lanes=[lane.value for lane in settings.lanes], http=f"http://{settings.http_host}:{port}")
                await asyncio.gather(*lanes.values())
        finally:
            runtime.stopping.set()
            await asyncio.gather(*lanes.values(), return_exceptions=True)
            await cancel(*upkeep.values())
        log.info("stopped; nothing is in flight")
    finally:
        await runtime.__aexit__(None, None, None)


def _settle_memory() -> None:
    """What is loaded by now stays: the collector need not go through it again and again, nor stop the loop for it.

    A message makes some hundred objects and no cycles, so the youngest generation may be larger than Python's 700.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)


def _unheard(outage: Outage, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The end of a task that nobody waits for any more. arq leaves some when Redis goes away."""
    error = context.get("exception")
    if isinstance(error, (RedisError, OSError)):
        outage.tell(error, "something that nobody waits for any more")
    else:
        loop.default_exception_handler(context)


async def _ready(runtime: Runtime) -> Mapping[str, http.Check]:
    checks = {}
    try:
        await runtime.write_mark(runtime.probe)
        checks["redis"] = http.Check(ok=True, detail="answers, and takes writes")
        checks["account"] = await _account_check(runtime)
        checks["suppression"] = await _suppression_check(runtime)
    except (RedisError, OSError, TimeoutError) as error:
        checks["redis"] = http.Check(ok=False, detail=explain_redis(error))
        checks["account"] = http.Check(ok=False, detail="not known without redis")
        checks["suppression"] = http.Check(ok=False, detail="not known without redis", needed=False)
    if runtime.settings.events_sqs_url:
        checks["events"] = _events_check(runtime.listening)
    missing = [lane.value for lane in runtime.settings.lanes if lane not in runtime.serving]
    checks["lanes"] = http.Check(ok=not missing, detail=f"not served: {', '.join(missing)}" if missing else "served")
    return checks


async def _account_check(runtime: Runtime) -> http.Check:
    known = await runtime.accounts.load(runtime.own.account)
    now_s = await runtime.ledger.scripts.now_ms() / 1000
    if known is None or abs(now_s - known.refreshed_at.timestamp()) > STALE_AFTER_REFRESHES * runtime.settings.account_refresh_s:
        why = await runtime.accounts.why_stale(runtime.own.account)
        return http.Check(ok=False, detail=why or "GetAccount has not answered yet")
    return http.Check(ok=True, detail=f"{known.max_send_rate:g}/s, {known.used_24h:g} of {known.max_24h:g} used in 24 h")


async def _suppression_check(runtime: Runtime) -> http.Check:
    """Shown only: our own list is asked anyway, and what needs SES's waits by itself."""
    account = await runtime.accounts.load(runtime.own.account)
    if account is not None and not account.suppressed_reasons:
        return http.Check(ok=True, detail="the list of SES holds for nothing in this account", needed=False)
    known = await runtime.ledger.suppressed.ses_list(runtime.own.account)
    why = why_not_known(known, runtime.settings.suppression_sync_s)
    return http.Check(ok=why is None, detail=why or f"{known.entries:,} entries on the list of SES", needed=False)


def _events_check(listening: Listening) -> http.Check:
    """Shown only: what is sent does not wait for events, and another process may receive them."""
    if listening.trouble:
        return http.Check(ok=False, detail=listening.trouble, needed=False)
    if not listening.received_at:
        return http.Check(ok=False, detail="the queue of SES's events has not answered yet", needed=False)
    ago_s = max(0.0, time.time() - listening.received_at)
    return http.Check(ok=ago_s < EVENTS_LATE_S, detail=f"the queue answered {ago_s:.0f} s ago", needed=False)


async def _collect(runtime: Runtime) -> None:
    with suppress(RedisError, OSError):
        for lane in runtime.settings.lanes:
            metrics.set_queue_depth(lane, await runtime.ledger.queue_depth(lane))
        metrics.set_in_doubt(await runtime.ledger.in_doubt())
        known = await runtime.accounts.load(runtime.own.account)
        if known:
            metrics.set_quota(known.max_send_rate, known.max_24h, known.used_24h)


if __name__ == "__main__":
    sys.exit(main())
