"""From a command, which is a plain function, to the coroutine that does the work."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from .output import ReaderGone, say


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end, which includes that its output has been written."""
    try:
        asyncio.run(work)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


@contextmanager
def on_interrupt(text: str) -> Iterator[None]:
    """What Ctrl-C means for that which the body waits for."""
    try:
        yield
    except asyncio.CancelledError:
        say(text)
        raise
