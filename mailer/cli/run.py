"""From a command, which is a plain function, to the coroutine that does the work."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import MailerError, RedisUnavailable
from ..interrupt import at_work
from ..queue import COMMAND_TIMEOUT_S, call_timeout_s
from .output import ReaderGone, say

T = TypeVar("T")
_TOLD = "what this means was said"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, which includes that its output has been written."""
    call_timeout_s.set(COMMAND_TIMEOUT_S)
    try:
        with at_work():
            found = asyncio.run(work)
            sys.stdout.flush()
        return found
    except BrokenPipeError:
        raise ReaderGone from None


@contextmanager
def on_interrupt(text: str) -> Iterator[None]:
    """What Ctrl-C means for that which the body waits for. Of one around another, the inner one says it."""
    try:
        yield
    except asyncio.CancelledError as error:
        if _TOLD not in getattr(error, "__notes__", ()):
            say(text)
            error.add_note(_TOLD)
        raise


@contextmanager
def stored(id: str, look: str) -> Iterator[None]:
    """What a Redis that goes away means when the command has stored something: run again, it would store it twice."""
    try:
        yield
    except RedisUnavailable as error:
        why = f"Redis cannot be used: {error.fields['why']}. {id} is stored and goes on by itself; look with: {look}"
        raise MailerError(why=why) from error
