"""An event loop in a thread of its own, for code that has none, or whose own must not be used."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .errors import ClosedMeanwhile, MailerError, MaybeStored

T = TypeVar("T")

GRACE_S = 3.0  # that a call which is interrupted has for ending what it is doing
CLOSE_S = 2.0  # that closing takes at most, so that no program hangs at its end


class Caller:
    """The thread that waits for a call. Meanwhile it does what the call wants done there, and not in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inbox = SimpleQueue[Callable[[], None] | None]()

    async def run(self, function: Callable[[], T]) -> T:
        """What the function returns or raises there."""
        answer: asyncio.Future[T] = self._loop.create_future()

        def answered(found: T | None, error: Exception | None) -> None:
            if not answer.done():  # else it is not waited for any more
                answer.set_exception(error) if error is not None else answer.set_result(found)  # type: ignore[arg-type]

        def do() -> None:
            found: T | None = None
            error: Exception | None = None
            try:
                found = function()
            except StopIteration as stop:  # which no future can carry
                error = RuntimeError("StopIteration was raised")
                error.__cause__ = stop
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits for it
                self._loop.call_soon_threadsafe(answered, found, error)

        self._inbox.put(do)
        return await answer

    def post(self, function: Callable[[], None]) -> None:
        """Not waited for; what it raises ends the call."""
        self._inbox.put(function)

    def end(self) -> None:
        self._inbox.put(None)

    def serve(self, seconds: float | None = None) -> bool:
        """In the thread that waits: until the end, which is True, or for so long. A signal's exception comes out of this."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                function = self._inbox.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except Empty:
                return False
            if function is None:
                return True
            function()


class LoopThread:
    """Ended by `stop`, which lets `last` run in it once all calls have ended. It is of the process that made it."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.pid = os.getpid()
        self._last = last
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._ending = False
        # A daemon, so that it keeps no program from ending.
        self._thread = threading.Thread(target=self._serve, name="mailer", daemon=True)
        self._thread.start()

    @property
    def is_usable(self) -> bool:
        return self.pid == os.getpid() and not self._ending

    def call(self, work: Callable[[Caller], Coroutine[Any, Any, T]]) -> T:
        """Run it there and wait for it. What interrupts the waiting, as Ctrl-C does, cancels it. Raises ClosedMeanwhile."""
        if threading.current_thread() is self._thread:
            raise MailerError(why="a SyncMailer cannot be called by the async iterable that it reads; give it a normal one")
        caller, tasks, context = Caller(self._loop), list[asyncio.Task[T]](), copy_context()

        def begin() -> None:
            tasks.append(self._loop.create_task(work(caller), context=context))
            tasks[0].add_done_callback(lambda _: caller.end())

        if self.pid != os.getpid():  # it was forked while it went through a report
            raise ClosedMeanwhile
        with self._lock:
            if self._ending:
                raise ClosedMeanwhile
            self._loop.call_soon_threadsafe(begin)
        try:
            caller.serve()
        except BaseException as error:
            self._cancel(caller, tasks, error)
            raise
        if tasks[0].cancelled():
            raise ClosedMeanwhile
        return tasks[0].result()

    def _cancel(self, caller: Caller, tasks: list[asyncio.Task[T]], error: BaseException) -> None:
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        ended = caller.serve(GRACE_S)
        if ended and not tasks[0].cancelled() and isinstance(found := tasks[0].exception(), MaybeStored):
            error.add_note(str(found))

    def stop(self) -> None:
        """May be called twice, and by any thread. In a process that was forked it does nothing: all of it is the parent's."""
        if self.pid != os.getpid():
            return
        with self._lock:
            if not self._ending:
                self._ending = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * CLOSE_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._clear())
        finally:
            self._loop.close()

    async def _clear(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S / 2):
                await self._last()
        await self._loop.shutdown_asyncgens()
