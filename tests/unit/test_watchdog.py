"""A worker whose event loop hangs ends, wherever it hangs, and says where; one that is stopped as a whole goes on later."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process

import pytest

from worker.watchdog import EXIT_CODE

PROGRAM = """
import asyncio, re, sys, time
from worker import watchdog

watchdog.STUCK_AFTER_S = {stuck_s}

async def main():
    watched = watchdog.Watchdog(hangs_after_s={hangs_s})
    watched.start()
    await asyncio.sleep(0.1)
    print("serves", flush=True)
    {at}
    watched.stop()

asyncio.run(main())
"""


async def worker(at: str, *, hangs_s: float = 600, stuck_s: float = 600) -> Process:
    program = PROGRAM.format(at=at, hangs_s=hangs_s, stuck_s=stuck_s)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"serves\n"
    return process


async def ended(process: Process) -> tuple[int, str]:
    """Its exit status, and all that it has written."""
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


@pytest.mark.slow
async def test_a_loop_that_hangs_ends_its_process_and_the_log_says_where_it_hung() -> None:
    status, text = await ended(await worker("time.sleep(60)", hangs_s=2))
    assert status == EXIT_CODE
    assert "the event loop hangs; the worker ends, and others take over its work" in text
    assert "in main" in text


@pytest.mark.slow
async def test_a_loop_that_is_stuck_in_one_operation_of_python_ends_its_process_too() -> None:
    """No other thread of it runs then."""
    status, text = await ended(await worker("sum(range(10**12))", hangs_s=2, stuck_s=1))
    assert status == -signal.SIGPROF
    assert "in main" in text


@pytest.mark.slow
async def test_a_process_that_is_stopped_and_goes_on_later_is_not_ended() -> None:
    process = await worker("await asyncio.sleep(4)", hangs_s=3)
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(4)
    process.send_signal(signal.SIGCONT)
    assert await ended(process) == (0, "")


@pytest.mark.slow
async def test_a_loop_that_is_busy_but_moves_is_not_ended() -> None:
    status, text = await ended(
        await worker("[(time.sleep(0.4), await asyncio.sleep(0)) for _ in range(8)]", hangs_s=2, stuck_s=1)
    )
    assert (status, text) == (0, "")
