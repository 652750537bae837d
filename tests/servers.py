"""Real servers for the tests: the one whose binary TEST_REDIS_SERVER names, else the embedded Valkey."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import redis

from mailer.cli.processes import free_port, valkey_binary, valkey_options


def server_binary() -> str:
    """The server that the whole run is on: a path, or a name on PATH."""
    named = os.environ.get("TEST_REDIS_SERVER")
    return valkey_binary() if not named else str(shutil.which(named) or named)


@cache
def version() -> tuple[str, tuple[int, ...]]:
    """Redis or Valkey, and its number."""
    said = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    kind, number = re.match(r"(Redis|Valkey) server v=([0-9.]+)", said).groups()  # type: ignore[union-attr]
    return kind, tuple(map(int, number.split(".")))


def has_waitaof() -> bool:
    """Since 7.2. Without it, what is on the disk is known with `appendfsync always` only."""
    return version() >= ("Redis", (7, 2))  # each Valkey is later


@cache
def has_tls() -> bool:
    """The embedded Valkey is built without. One that has it ends at once, for it is given no certificate."""
    command = [server_binary(), "--port", "0", "--tls-port", str(free_port()), "--save", ""]
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    return "connection type tls" not in said


class RedisServer:
    """A server of the test's own, which it may stop, kill and start again on the same data and port."""

    def __init__(self, *, appendfsync: str = "everysec", options: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailer-test-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [server_binary(), *valkey_options(self.folder, self.port), "--appendfsync", appendfsync, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.AuthenticationError:  # it is there, and wants to know who asks
                    return
                except redis.RedisError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise
                    time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
