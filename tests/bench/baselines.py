"""What our own figures are compared with: the usual ways to send, and the ceiling of the SES client itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from . import servers
from .rounds import Contender, Run, Watch
from .servers import BenchError, Process, Sink

CELERY_VENV = servers.ROOT / ".bench" / "celery"
# The same boto as ours; kombu 5.7 asks for a newer redis-py than arq allows, hence an environment of its own.
CELERY_PINS = (
    "celery[redis]==5.7.0",
    "kombu==5.7.0",
    "redis==8.1.0",
    "boto3==1.40.61",
    "botocore==1.40.61",
    "Jinja2==3.1.6",
)
ENTRIES = 50  # recipients of one of the ceiling's calls


def drain(target: Sink, sender: Process, n: int) -> Run:
    """Waits until the sink has all n."""
    watch = Watch(target, sender, n)
    while not watch.poll():
        time.sleep(watch.POLL_S)
    return watch.run()


def _queued(enqueue: list[str], work: list[str], name: str, target: Sink, n: int) -> Run:
    """A baseline with a queue: all is enqueued before the worker starts."""
    with ExitStack() as stack:
        env = {**target.env(), "BENCH_REDIS_URL": stack.enter_context(servers.valkey())}
        seconds = float(servers.run_json([*enqueue, str(n)], env, f"{name}: enqueueing"))
        target.reset()
        sender = stack.enter_context(servers.process(f"{name}: the worker", work, env))
        return replace(drain(target, sender, n), enqueue_per_s=n / seconds)


def _arq(target: Sink, n: int) -> Run:
    python = [sys.executable, "-m"]
    return _queued([*python, "tests.bench.arq_app"], [*python, "arq", "tests.bench.arq_app.WorkerSettings"], "arq", target, n)


def _celery(target: Sink, n: int) -> Run:
    python = [str(celery_python()), "-m"]
    worker = [*python, "celery", "-A", "tests.bench.celery_app", "worker", "--pool", "prefork", "--concurrency", "1"]
    return _queued([*python, "tests.bench.celery_app"], worker, "Celery", target, n)


def _ceiling(kind: str, target: Sink, n: int) -> Run:
    target.reset()
    with servers.process("the ceiling", [sys.executable, "-m", "tests.bench.ceiling", kind, str(n)], target.env()) as sender:
        return drain(target, sender, -(-n // ENTRIES) * ENTRIES)


def celery_python() -> Path:
    """The Python of Celery's own environment, which is made when it is missing or holds other versions."""
    python, stamp = CELERY_VENV / "bin" / "python", CELERY_VENV / "pins"
    if stamp.is_file() and stamp.read_text().split() == list(CELERY_PINS):
        return python
    print(f"making {CELERY_VENV}", file=sys.stderr)
    shutil.rmtree(CELERY_VENV, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", *CELERY_PINS]
    for command in ([sys.executable, "-m", "venv", str(CELERY_VENV)], pip):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise BenchError(
                f"its environment cannot be made in {CELERY_VENV}\n{(made.stdout + made.stderr)[-servers.LOG_TAIL :]}"
            )
    stamp.write_text("\n".join(CELERY_PINS))
    return python


BASELINES = (
    Contender(key="arq", label="arq, one job an e-mail, aioboto3 `send_email`", first_n=4_000, run=_arq),
    Contender(key="celery", label="Celery + boto3, one prefork process", first_n=4_000, run=_celery),
    Contender(
        key="ceiling_whole",
        label="bare loop of `send_bulk_email`, 50 whole bodies a call",
        first_n=100_000,
        run=partial(_ceiling, "whole"),
    ),
    Contender(
        key="ceiling_values",
        label="bare loop of `send_bulk_email`, 50 sets of values a call",
        first_n=150_000,
        run=partial(_ceiling, "values"),
    ),
)
