"""``python -m tests.crash.workers``: worker processes, each forked from one that has everything imported.

Starting Python and importing takes a second and a half of a core, and a test that kills a worker every second needs the core
for the campaign. What is forked is `python -m worker` from its first line on: its own sockets, its own loop, its own death.
A line of JSON on standard input starts one; lines on standard output say its process id, and later how it ended.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from mailer import Settings
from mailer.cli.processes import die_with

from ..aws_models import read_before_forks

HANG_S = 18.0  # how long SIGUSR1 makes the event loop of a forked worker hang: longer than its lease
ROOT = Path(__file__).parents[2]


_SERVES = re.compile(r'"http": ?"http://127\.0\.0\.1:(\d+)"')  # in the line of its log that says that it serves


@dataclass(eq=False, slots=True)
class Worker:
    """A running worker. Its end can be waited for."""

    pid: int
    log: Path
    status: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def signal(self, number: signal.Signals) -> None:
        if not self.status.done():  # else the number may be somebody else's by now
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self, within: float = 30) -> int:
        """Its exit status; negative: the signal."""
        return await asyncio.wait_for(asyncio.shield(self.status), within)

    async def get(self, path: str) -> tuple[int, bytes]:
        """HTTP status and body; 0 where nobody answers."""

        def fetch() -> tuple[int, bytes]:
            serves = _SERVES.search(self.log.read_text())
            if serves is None:
                return 0, b""
            try:
                with urlopen(f"http://127.0.0.1:{serves[1]}{path}", timeout=5) as answer:
                    return answer.status, answer.read()
            except OSError as error:
                return getattr(error, "code", 0), b""

        return await asyncio.to_thread(fetch)

    async def ready(self, within: float = 20) -> None:
        async with asyncio.timeout(within):
            while (await self.get("/readyz"))[0] != 200:
                assert not self.status.done(), self.log.read_text()
                await asyncio.sleep(0.05)


class Workers:
    """Starts workers. An async context manager that leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._running: dict[int, Worker] = {}
        self._ended: dict[int, int] = {}  # before their start was heard of
        self._reader: asyncio.Task[None]
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Workers:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=pipe, stdout=pipe, cwd=ROOT, start_new_session=True
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        running = list(self._running.values())
        for one in running:
            one.signal(signal.SIGKILL)
        for one in running:
            await one.ended()
        assert self._process.stdin
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            said = json.loads(line)
            if "started" in said:
                self._started.put_nowait(said["started"])
            elif (one := self._running.pop(said["ended"], None)) is not None:
                one.status.set_result(said["status"])
            else:
                self._ended[said["ended"]] = said["status"]

    async def start(self, settings: Settings, **extra: str) -> Worker:
        """A worker for this Redis and namespace; `extra`: its other variables, beside those of this process."""
        log = _new_log(self._folder)
        environment = {**os.environ, **environment_of(settings), **extra}
        request = {"environment": environment, "log": str(log), "folder": str(self._folder)}
        async with self._starting:
            assert self._process.stdin
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            await self._process.stdin.drain()
            one = Worker(await self._started.get(), log)
        if (status := self._ended.pop(one.pid, None)) is not None:
            one.status.set_result(status)
        else:
            self._running[one.pid] = one
        return one


def _new_log(folder: Path) -> Path:
    handle, name = tempfile.mkstemp(".log", "worker-", folder)
    os.close(handle)
    return Path(name)


def environment_of(settings: Settings) -> dict[str, str]:
    """Of a worker for this Redis, on a port that is free when it is bound."""
    return {
        "MAILER_REDIS_URL": settings.redis_url,
        "MAILER_NAMESPACE": settings.namespace,
        "MAILER_STORE_URL": settings.store_url,
        "MAILER_HTTP_PORT": "0",
        "MAILER_ACCOUNT_REFRESH_S": "1",
    }


@asynccontextmanager
async def worker(settings: Settings, folder: Path, *command: str, **extra: str) -> AsyncIterator[Worker]:
    """`python -m worker`, or another command that serves a lane, started as its users do."""
    log = _new_log(folder)
    with log.open("wb") as out:
        arguments = command or (sys.executable, "-m", "worker")
        environment = {**os.environ, **environment_of(settings), **extra}
        process = await asyncio.create_subprocess_exec(*arguments, stdout=out, stderr=out, env=environment)
    one = Worker(process.pid, log)
    waiting = asyncio.create_task(process.wait())
    waiting.add_done_callback(lambda task: one.status.set_result(task.result()))
    try:
        yield one
    finally:
        one.signal(signal.SIGKILL)
        await waiting


# ---- the other side ------------------------------------------------------------------------------------------------


def serve() -> None:
    import worker.__main__  # noqa: F401  # what every worker needs, once

    read_before_forks()
    gc.collect()
    gc.freeze()
    died, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    with selectors.DefaultSelector() as ready:
        ready.register(sys.stdin.fileno(), selectors.EVENT_READ)
        ready.register(died, selectors.EVENT_READ)
        asked = b""
        while True:
            for key, _ in ready.select():
                if key.fd == died:
                    os.read(died, 4096)
                    _reap()
                elif more := os.read(key.fd, 1 << 16):
                    *lines, asked = (asked + more).split(b"\n")
                    for line in lines:
                        _start(json.loads(line))
                else:
                    return


def _start(request: Mapping[str, object]) -> None:
    parent = os.getpid()
    child = os.fork()
    if not child:
        die_with(parent)
        _become(request)
    _say(started=child)


def _reap() -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _say(ended=pid, status=os.waitstatus_to_exitcode(status))


def _say(**what: int) -> None:
    print(json.dumps(what), flush=True)


def _become(request: Mapping[str, object]) -> None:
    """In the child: be a fresh worker as far as it can tell. Never returns."""
    from worker.__main__ import main

    status = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, lambda *_: time.sleep(HANG_S))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(str(request["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(str(request["folder"]))
        os.environ.clear()
        os.environ.update(request["environment"])  # type: ignore[call-overload]
        if "TEST_POISON" in os.environ:
            from .poison import take

            take(os.environ["TEST_POISON"])
        status = main()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
