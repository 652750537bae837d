"""Ends a worker whose event loop hangs, so that a hang is a death: others take over what it held, and it is started anew.

Two look on. A thread counts the moments in which the loop has not moved, and logs what it is at; a process that is stopped as a
whole and goes on later counts no moment. Where Python itself is stuck in one operation no thread of it runs: then the system
counts the processor's time since the loop last moved, writes the stack to standard error, and ends the process.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

import structlog

from .runtime import LEASE_MS

log = structlog.get_logger()

HANGS_AFTER_S = 2 * LEASE_MS / 1000  # its leases have run out by then, and others work on what it held
STUCK_AFTER_S = HANGS_AFTER_S + 10  # of the processor's time
MOVES_EVERY_S = 1.0
LOG_S = 5.0
EXIT_CODE = 70  # EX_SOFTWARE


class Watchdog:
    """Started in the loop that it watches. `end` is for tests."""

    def __init__(self, *, hangs_after_s: float = HANGS_AFTER_S, end: Callable[[], None] | None = None) -> None:
        self._hangs_after_s = hangs_after_s
        self._end = end or (lambda: os._exit(EXIT_CODE))
        self._moved = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._mover: asyncio.Task[None] | None = None
        self._watched = threading.get_ident()

    def start(self) -> None:
        self._mover = asyncio.create_task(self._move(), name="watchdog")
        self._thread.start()
        with suppress(ValueError, OSError, RuntimeError):  # standard error is closed, or this is not the main thread
            faulthandler.register(signal.SIGPROF, file=sys.stderr, all_threads=False, chain=True)

    def stop(self) -> None:
        self._over.set()
        with suppress(ValueError):
            signal.setitimer(signal.ITIMER_PROF, 0)
        if self._mover is not None:
            self._mover.cancel()

    async def _move(self) -> None:
        while True:
            self._moved += 1
            with suppress(ValueError):  # not the main thread
                signal.setitimer(signal.ITIMER_PROF, STUCK_AFTER_S)
            await asyncio.sleep(MOVES_EVERY_S)

    def _watch(self) -> None:
        moved, still_s, looked = 0, 0.0, time.monotonic()
        while not self._over.wait(MOVES_EVERY_S):
            now = time.monotonic()
            # At most what it waited for: of the time for which the whole process stood still, this is all that is counted.
            still_s = 0.0 if moved != self._moved else still_s + min(now - looked, 2 * MOVES_EVERY_S)
            moved, looked = self._moved, now
            if still_s >= self._hangs_after_s:
                threading.Timer(LOG_S, self._end).start()  # in case the loop hangs while it writes to the log itself
                log.critical("the event loop hangs; the worker ends, and others take over its work", stack=self._stack())
                self._end()
                return

    def _stack(self) -> str:
        """What the loop's thread is at."""
        frame = sys._current_frames().get(self._watched)
        return "".join(traceback.format_stack(frame, limit=30)) if frame is not None else ""
