"""python -m mailer.simulator: serves until SIGTERM or SIGINT. One line of JSON on standard output says where."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

from . import Archive, Simulator, SimulatorConfig, serve


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    config = SimulatorConfig(
        region=options.region,
        production=not options.sandbox,
        max_send_rate=options.max_send_rate,
        max_24h=options.max_24h,
        verified=_names(options.verified),
        contact_lists=_names(options.contact_lists),
        bulk_calls_per_s=options.bulk_calls_per_s,
        events=options.events,
        events_visibility_s=options.events_visibility,
        events_delay_s=options.events_delay,
        unsubscribe_page=options.unsubscribe_page,
        unsubscribe_keys=_names(os.environ.get("MAILER_SECRET_KEY", "")),
    )
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(config, options.host, options.port, options.allow_host, options.data))
    except ValueError as error:  # of the file
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        if error.filename is not None:
            sys.stderr.write(f"{error.filename} cannot be written to: {error.strerror}\n")
            return 1
        sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:  # before the signal handlers were in place
        return 0
    return 0


async def _run(config: SimulatorConfig, host: str, port: int, allowed: Sequence[str], data: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    simulator = Simulator(config)
    async with AsyncExitStack() as stack:
        if data is not None:
            simulator.keep_in(stack.enter_context(closing(Archive(data, keep=config.keep))))
        url = await stack.enter_async_context(serve(simulator, host, port, allowed=allowed))
        said = {"url": url, "events": f"{url}{simulator.queues.path}"} if config.events else {"url": url}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        await stop.wait()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _parser() -> argparse.ArgumentParser:
    default = SimulatorConfig()
    parser = argparse.ArgumentParser("python -m mailer.simulator", description="A local Amazon SES v2 for tests and development.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any that is free)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which this machine is called, as `ses` in a compose file; may be given several times",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="where messages are kept, so that they are there after a restart"
    )
    parser.add_argument("--region", default=default.region, help="region of the account (default: %(default)s)")
    parser.add_argument(
        "--max-send-rate", type=float, default=default.max_send_rate, help="recipients per second (default: %(default)s)"
    )
    parser.add_argument(
        "--max-24h", type=float, default=default.max_24h, help="recipients per 24 h, -1 = unlimited (default: %(default)s)"
    )
    parser.add_argument(
        "--bulk-calls-per-s", type=float, default=None, help="SendBulkEmail calls per second (default: unlimited)"
    )
    parser.add_argument("--contact-lists", default="", help="names of contact lists, with commas")
    parser.add_argument("--events", action="store_true", help="publish events into a queue that speaks SQS; its URL is said, too")
    parser.add_argument(
        "--events-visibility",
        type=float,
        default=default.events_visibility_s,
        metavar="S",
        help="seconds that an event which was received is hidden (default: %(default)s)",
    )
    parser.add_argument(
        "--events-delay",
        type=float,
        default=default.events_delay_s,
        metavar="S",
        help="seconds from the Send event to what becomes of the message (default: %(default)s)",
    )
    parser.add_argument(
        "--unsubscribe-page",
        metavar="URL",
        help="where unsubscribe links lead on the pages here: URL and the token; MAILER_SECRET_KEY has the keys that sign it",
    )
    parser.add_argument("--sandbox", action="store_true", help="an account without production access")
    parser.add_argument(
        "--verified",
        default=",".join(default.verified),
        help="verified addresses and domains, with commas (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
