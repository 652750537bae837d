"""`python -m worker`, also `mailer worker`: the lanes, their upkeep and HTTP in one supervised process."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from fastapi import APIRouter
from redis.exceptions import RedisError

from mailer.errors import MailerError
from mailer.log import configure_logging
from mailer.printable import one_line
from mailer.queue import ping
from mailer.settings import Settings, load_settings
from mailer.unsubscribe.page import UnsubscribePage

from . import http, maintenance
from .gauges import collect
from .lanes import serve_lane
from .outage import Outage
from .readiness import ready
from .runtime import Runtime, cancel, open_runtime
from .sns import Endpoint
from .watchdog import Watchdog

log = structlog.get_logger()


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings.log_format, settings.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings))
    except MailerError as error:
        sys.stderr.write(f"mailer: {one_line(str(error))}\n")
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
    endpoint, watchdog = None, Watchdog()
    try:
        pages = _pages(runtime)
        if settings.events_topic_arns:
            endpoint = await runtime.enter(Endpoint(runtime.redis, runtime.ledger.keys, settings.events_topic_arns))
        await ping(runtime.redis, settings)
        _on_signals(runtime.stopping)
        asyncio.get_running_loop().set_exception_handler(partial(_unheard, runtime.outage))
        _settle_memory()
        watchdog.start()
        upkeep = await maintenance.start(runtime)
        lanes = {f"lane {lane}": asyncio.create_task(serve_lane(runtime, lane)) for lane in settings.lanes}
        app = http.create_app(
            alive=lambda: {name: not task.done() for name, task in {**upkeep, **lanes}.items()},
            ready=lambda: ready(runtime),
            collect=lambda: collect(runtime),
            events=endpoint,
            pages=pages,
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
        watchdog.stop()


def _pages(runtime: Runtime) -> list[APIRouter]:
    """Raises ConfigError."""
    settings = runtime.settings
    if not settings.unsubscribe_page:
        return []
    return [UnsubscribePage(runtime.suppressed, settings.secret_keys, settings.senders).router()]


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


if __name__ == "__main__":
    sys.exit(main())
