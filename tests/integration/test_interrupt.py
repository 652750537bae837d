"""Ctrl-C at any moment of a command ends it with status 130, and without a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START = "import os, sys\nfrom mailer.cli import main\nos.write(2, b'.')\nsys.argv[0] = 'mailer'\nmain()"
# Ctrl-C at the n-th import since a command has begun, and how many imports there were.
HOOK = """
import _signal, atexit, os, sys

def look(event, arguments, n=int(os.environ["INTERRUPT_AT"])):
    global begun, count
    if event == "import":
        begun = begun or getattr(_signal.getsignal(_signal.SIGINT), "__module__", None) == "mailer.interrupt"
        count += begun
        if begun and count == n:
            os.kill(os.getpid(), _signal.SIGINT)

def tell():
    with open("imports", "w") as file:
        file.write(str(count))

begun, count = False, 0
sys.addaudithook(look)
atexit.register(tell)
"""


@pytest.fixture
def silent() -> Iterator[dict[str, str]]:
    """The environment of a command whose Redis takes connections and never answers, so that the command does not end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}"
        yield {**os.environ, "MAILER_REDIS_URL": url, "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true"}


WORDS = [("suppression", "list"), ("campaign", "start", "--recipients", "list.csv", "--template", "x")]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_ctrl_c_at_any_moment_of_a_start(silent: dict[str, str], words: tuple[str, ...]) -> None:
    if words[0] == "campaign":
        words = (*words, "--from", "news@example.com")
        Path("templates/x").mkdir(parents=True)
        Path("templates/x/subject.txt").write_text("x")
        Path("templates/x/body.txt").write_text("x")
        Path("list.csv").write_text("email\nana@example.org\n")
    for moment_ms in (20, 60, 120, 200, 350, 600, 1000):
        process = subprocess.Popen(
            [sys.executable, "-c", START, *words], env=silent, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stderr
        assert process.stderr.read(1) == b"."
        time.sleep(moment_ms / 1000)  # what is tried is the time
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (130, b""), (moment_ms, err)
        assert b"Traceback" not in err
        assert err.count(b"\n") <= 2, err


@pytest.mark.parametrize("words", [("--help",), ("status", "m0")], ids=" ".join)
def test_ctrl_c_at_an_import(silent: dict[str, str], words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    closed = {**silent, "MAILER_REDIS_URL": "redis://127.0.0.1:1", "PYTHONPATH": str(tmp_path)}

    def run(at: int) -> tuple[int, str]:
        command = [sys.executable, "-c", START, *words]
        done = subprocess.run(
            command, env={**closed, "INTERRUPT_AT": str(at)}, capture_output=True, text=True, timeout=30, check=False
        )
        return done.returncode, done.stderr

    assert run(0)[0] == (0 if words == ("--help",) else 1)
    imports = int(Path("imports").read_text())
    assert imports > 50
    for at in sorted({1, 2, *range(1, imports, imports // 3)}):
        assert run(at) == (130, "."), at


def test_a_program_in_the_background_goes_on(silent: dict[str, str]) -> None:
    command = [sys.executable, "-c", f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{START}", "--help"]
    with subprocess.Popen(command, env=silent, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stderr
        process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        assert b"Usage" in process.communicate(timeout=20)[0]
    assert process.returncode == 0


def test_a_worker_that_starts(silent: dict[str, str]) -> None:
    for moment_ms in (150, 400, 700):
        process = subprocess.Popen([sys.executable, "-c", START, "worker"], env=silent, stderr=subprocess.PIPE)
        assert process.stderr
        process.stderr.read(1)
        time.sleep(moment_ms / 1000)
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=20)[1], process.returncode) == (b"", 130)
