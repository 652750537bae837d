"""``python -m tests.hostile.worker FILE``: a worker as it is, and beside it a task that measures how long its event loop is held.

FILE gets a line of JSON four times a second: the longest time for which the loop was held so far, and the memory of the worker
and its children. A time in which the whole process got nothing of the processor does not count: others may be busy. Deadlines
are shorter than usual, so that the test is.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop

from mailer.log import configure_logging
from mailer.settings import LogFormat, load_settings
from worker import __main__ as worker
from worker import child, children, renderer

LOOK_EVERY_S = 0.01
MEMORY_EVERY_S = 0.25


def memory(process: int) -> int:
    """Bytes of a process that are its own, and of its children."""
    total = 0
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            total = int(line.split()[1]) * 1024
    kept = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    for one in map(int, kept):
        try:
            total += memory(one)
        except OSError:  # it has just ended
            continue
    return total


async def measured(file: Path) -> None:
    """From the moment on that the worker serves."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["MAILER_HTTP_PORT"]))
        except OSError:
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            break
    writer.close()
    longest = most = 0.0
    written = last = time.monotonic()
    used = time.process_time()
    with file.open("ab", buffering=0) as lines:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now, used_now = time.monotonic(), time.process_time()
            longest = max(longest, min(now - last - LOOK_EVERY_S, used_now - used))
            last, used = now, used_now
            if now - written > MEMORY_EVERY_S:
                most = max(most, await asyncio.to_thread(memory, os.getpid()))
                lines.write(orjson.dumps({"held_s": longest, "memory": most}) + b"\n")
                written = last = time.monotonic()


async def main(file: Path) -> None:
    measuring = asyncio.create_task(measured(file))
    await worker.serve(load_settings())
    measuring.cancel()


def shorter(**values: Any) -> None:
    """Constants, wherever they are known by name."""
    for name, value in values.items():
        for module in (child, children, renderer):
            if hasattr(module, name):
                setattr(module, name, value)


if __name__ == "__main__":
    configure_logging(LogFormat.JSON, "INFO")
    shorter(QUICK_S=0.05, QUICK_STILL_S=0.5, FULL_S=0.2, FULL_STILL_S=1.5)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
