"""`python -P …/worker/child.py PROGRESS NICE`: renders what could hold up a worker, in a process that can be ended.

It reads requests from standard input and writes an answer for each to standard output, and ends when its input does. It gets
nothing of the worker's environment but Python's and the time zone's: what runs here is a stranger's template. `PROGRESS` is
the descriptor of a file in which it writes, in place, which row it is at and how many steps it has taken, so that whoever
waits for it or finds it dead knows.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import mmap
import os
import resource
import signal
import struct
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

import orjson

PROGRAM = __file__
LENGTH = struct.Struct(">I")  # in front of each part of a request, and of an answer
PROGRESS = struct.Struct(">II")  # the row, and the steps
ROOM_BYTES = 256 << 20  # for what a template makes, above what the process starts with
RETIRE_BYTES = 64 << 20  # above what it starts with: then it ends after its answer, so that the next template has its room
_PARTS = 3  # of a request
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def main() -> int:
    _stay_until_the_worker_ends()
    os.nice(int(sys.argv[2]))
    for name in ("worker", "mailer", "mailer.compose"):
        _without_running(name)
    from worker.renderer import Renderer

    steps, progress = count(1), mmap.mmap(int(sys.argv[1]), PROGRESS.size)
    renderer = Renderer(at=lambda row: PROGRESS.pack_into(progress, 0, row, next(steps)))
    gc.freeze()
    started = _limit_memory()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    answers.write(LENGTH.pack(2) + b"{}")
    answers.flush()
    retires = False
    while not retires and (request := _request(requests)) is not None:
        found = renderer.answer(*request)
        retires = _size() - started > RETIRE_BYTES
        answer = orjson.dumps({**found, "retires": retires})
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()
    return 0


def _stay_until_the_worker_ends() -> None:
    """Ctrl-C and SIGTERM are for the worker, which may still need it. Where the worker dies, it does, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _without_running(name: str) -> None:
    """Make a package of ours known, whatever else has its name on PYTHONPATH, and without its `__init__`: that imports all of the
    client, 40 MB and half a second."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1].joinpath(*name.split("."), "__init__.py"))
    assert spec is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)


def _limit_memory() -> int:
    """What it has now. Where the system does not count (macOS), only the deadline ends what grows."""
    size = _size()
    if size:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (size + ROOM_BYTES, size + ROOM_BYTES))
    return size


def _size() -> int:
    """Bytes of address space; 0 where that is not known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _request(stream: BinaryIO) -> tuple[bytes, ...] | None:
    """Header, content and body; None where there are no more."""
    parts = []
    for _ in range(_PARTS):
        length = stream.read(LENGTH.size)
        if len(length) < LENGTH.size:
            return None
        parts.append(stream.read(LENGTH.unpack(length)[0]))
    return tuple(parts)


if __name__ == "__main__":
    try:
        code = main()
    except BrokenPipeError:  # the worker has died, and nobody waits for an answer
        code = 1
    os._exit(code)  # nothing is left to be tidied up
