"""Ctrl-C while a program starts: Python would print a traceback out of whatever is being imported.

This imports nothing of weight, so that a program can import it first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

STATUS = 130  # 128 + SIGINT, as shells have it


def leave_at_once() -> None:
    """Until something is at work that has to be ended in order, Ctrl-C ends the process, and says nothing."""
    _exchange(signal.default_int_handler, _leave)


@contextmanager
def at_work() -> Iterator[None]:
    """In the body, Ctrl-C is KeyboardInterrupt, or what asyncio makes of it."""
    _exchange(_leave, signal.default_int_handler)
    try:
        yield
    finally:
        _exchange(signal.default_int_handler, _leave)


def _exchange(old: Handler, new: Handler) -> None:
    """Leave another handler as it is, also that of a program in the background, which ignores the signal."""
    if signal.getsignal(signal.SIGINT) is old:
        with suppress(ValueError):  # only the main thread can set one
            signal.signal(signal.SIGINT, new)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(STATUS)  # past the finalizers, which would print a traceback of their own
