"""The lanes: an arq worker for each, as the rules of arq 0.28 want it, and a supervisor that brings it back.

Rules that are kept here, each because of what arq's source does otherwise:
 - the job never raises (an exception or a time-out ends a job for good), and what it names is in the ledger;
 - `max_tries` is out of reach: arq counts starts, a deploy's cancellations among them, and the ledger counts failures;
 - JSON, not pickle; identifiers only as arguments; no results kept, none logged;
 - it begins with INFO, which a user of Redis need not be allowed: nobody reads what it logs of that;
 - `queue_read_limit` is above all that can be running: running jobs stay in the queue's sorted set and hide what is behind;
 - one time-out for every job of a queue, and a short one: a crashed worker's job is blocked for the longest of them;
 - the health key is one a queue and any worker's stop deletes it, so it is not used: `/healthz` is;
 - the worker's loop ends when Redis goes away, so it is started again, with backoff.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import arq.worker
import structlog
from arq.worker import Worker, func
from redis.exceptions import RedisError

from mailer.message.email import Lane
from mailer.queue import JOB, connect, disconnect, dump_job, for_arq, load_job

from .deliver import deliver
from .runtime import Runtime, cancel

log = structlog.get_logger()

MAX_JOBS = {Lane.TRANSACTIONAL: 64, Lane.BULK: 12}  # chunks that one process works on at a time
QUEUE_READ_LIMIT = {Lane.TRANSACTIONAL: 1000, Lane.BULK: 500}
POLL_DELAY_S = 0.05  # arq moves one batch a tick; its default of 0.5 caps a worker at 20 jobs/s
JOB_TIMEOUT_S = 60  # above a slice, a call to SES with its time-outs, and a settle
MAX_TRIES = 1_000_000
DRAIN_S = 25.0  # on SIGTERM; what is in flight is settled long before, unless SES hangs
# Then. A call ends by its time-outs, and a settle without Redis after RETRY_AT_STOP_S; only an upload that crawls takes longer.
CLOSE_S = 60.0
RESTART_S = (0.2, 5.0)  # backoff of the supervisor


async def _nothing(*_: object) -> None: ...


arq.worker.log_redis_info = _nothing  # type: ignore[assignment,attr-defined]


# A wake-up that seemed lost is queued again (Queue.wake_again), and a slow process may be the one that had it. Then it runs the
# job twice, of which the lease is one's, while arq thinks that there is one job of a name.


class _Started(dict[str, asyncio.Task[Any]]):
    """Job → arq's task around it. The first of two stays, so that it is waited for."""

    def __setitem__(self, job_id: str, task: asyncio.Task[Any]) -> None:
        while job_id in self and not self[job_id].done():
            job_id += " again"
        super().__setitem__(job_id, task)


class _Running(dict[str, asyncio.Task[Any]]):
    """Job → its own task. Both of two delete it."""

    def __delitem__(self, job_id: str) -> None:
        self.pop(job_id, None)


async def run_job(ctx: dict[str, Any], chunk: str) -> None:
    jobs: set[asyncio.Task[Any] | None] = ctx["jobs"]
    task = asyncio.current_task()
    jobs.add(task)
    try:
        await deliver(ctx["runtime"], chunk)
    except Exception:
        # To arq an exception is final, and to the ledger it is nothing: the lease runs out and the chunk is taken up again.
        log.exception("a job failed; its chunk is taken up again", chunk=chunk)
    finally:
        jobs.discard(task)


def arq_options(lane: Lane, runtime_ctx: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of arq's Worker for this lane, but for its Redis."""
    return {
        "functions": [func(run_job, name=JOB, timeout=JOB_TIMEOUT_S, max_tries=MAX_TRIES, keep_result=0)],
        "max_jobs": MAX_JOBS[lane],
        "queue_read_limit": QUEUE_READ_LIMIT[lane],
        "poll_delay": POLL_DELAY_S,
        "job_timeout": JOB_TIMEOUT_S,
        "max_tries": MAX_TRIES,
        "keep_result": 0,
        "log_results": False,
        "job_serializer": dump_job,
        "job_deserializer": load_job,
        "ctx": dict(runtime_ctx),
    }


async def serve_lane(runtime: Runtime, lane: Lane) -> None:
    """Serve a lane until the runtime is stopping, through every loss of Redis."""
    first, longest = RESTART_S
    pause = first
    while not runtime.stopping.is_set():
        redis, jobs = connect(runtime.settings, era=runtime.redis.patience.era), set[asyncio.Task[Any]]()
        worker = Worker(
            queue_name=runtime.ledger.keys.queue(lane),
            redis_pool=for_arq(redis, runtime.ledger.keys),
            handle_signals=False,
            **arq_options(lane, {"runtime": runtime, "jobs": jobs}),
        )
        worker.tasks, worker.job_tasks = _Started(), _Running()
        run = asyncio.create_task(worker.async_run())
        runtime.serving.add(lane)
        stop = asyncio.create_task(runtime.stopping.wait())
        try:
            await asyncio.wait({run, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                await _drain(worker)
                return
            _tell(runtime, lane, run.exception())
        finally:
            runtime.serving.discard(lane)
            await cancel(run, stop)
            await _close(worker, jobs)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, longest) if worker.jobs_complete == 0 else first


def _tell(runtime: Runtime, lane: Lane, error: BaseException | None) -> None:
    if isinstance(error, RedisError | OSError):
        runtime.outage.tell(error, "reading a lane's queue", lane=lane.value)
    else:
        log.error("a lane ended by itself; it is served again", lane=lane.value, exc_info=error)


async def _drain(worker: Worker) -> None:
    """Take no more jobs and let those that run come to the end of their call; they stop by themselves.

    Those that arq was just about to start are waited for as well: cancelled, it would still write that they are over, after the
    connections of its pool were closed, by one that nobody closes.
    """
    worker.allow_pick_jobs = False
    deadline, quiet = time.monotonic() + DRAIN_S, False
    while (left_s := deadline - time.monotonic()) > 0:
        if tasks := [task for task in worker.tasks.values() if not task.done()]:
            await asyncio.wait(tasks, timeout=left_s)
            quiet = False
        elif quiet:
            return
        else:
            await asyncio.sleep(2 * POLL_DELAY_S)
            quiet = True


async def _close(worker: Worker, jobs: Collection[asyncio.Task[Any]]) -> None:
    """Jobs that still run are cancelled, which lets them finish what they have claimed."""
    tasks = list(worker.tasks.values())
    await cancel(*tasks)
    # arq's task around a job may be over before the job is: Python 3.11's `wait_for` lets go of it when cancelled again.
    deadline = time.monotonic() + CLOSE_S
    while jobs and (left_s := deadline - time.monotonic()) > 0:
        await asyncio.wait(list(jobs), timeout=left_s)
    if jobs:
        log.error("calls to SES are not over; where the process ends before them their recipients are in doubt", jobs=len(jobs))
    for task in tasks:
        # arq writes to Redis when a job ends, and that write fails with a Redis that is away. Its loop, which would have
        # asked for this error, is over; not asked for, asyncio logs it as a defect.
        if not task.cancelled():
            task.exception()
    with suppress(RedisError, OSError):
        await disconnect(worker.pool)
