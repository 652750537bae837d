"""SyncMailer: the same calls without asyncio, from scripts, threads, forked workers and inside a running loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import typing
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mailer import Campaign, Email, InvalidEmail, Mailer, MailerError, NotFound, OtherLoop, RedisUnavailable, Settings, SyncMailer
from mailer.errors import ClosedMeanwhile, EmptyRecipients, InvalidState
from mailer.intake.summary import Confirm, Summary
from mailer.simulator import Simulator
from mailer.sync import PAGE_ROWS
from worker.runtime import Runtime

from ..servers import RedisServer

EMAIL = Email(to="ana@example.org", from_="news@example.com", subject="Hello", text="Dear Ana")
CAMPAIGN = Campaign(name="June", from_="news@example.com", subject="Hello", text="Dear {{ name }}")
ROWS = [{"email": "ana@example.org", "name": "Ana"}, {"email": "bo@example.org", "name": "Bo"}, {"email": "nobody"}]
SCRIPT = """
import os, signal, sys, threading, time
from mailer import Campaign, Email, SyncMailer
EMAIL = Email(to="ana@example.org", from_="news@example.com", subject="Hello", text="Dear Ana")
CAMPAIGN = Campaign(from_="news@example.com", subject="Hello", text="Dear Ana", lane="transactional")
mailer = SyncMailer()
"""


@pytest.fixture
def sync(settings: Settings) -> Iterator[SyncMailer]:
    with SyncMailer(settings) as mailer:
        yield mailer


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mailer"]


def python(settings: Settings, script: str) -> subprocess.Popen[str]:
    """A program in which every warning is an error that is seen."""
    environment = {**os.environ, "MAILER_REDIS_URL": settings.redis_url, "MAILER_NAMESPACE": settings.namespace}
    command = [sys.executable, "-W", "error", "-c", SCRIPT + textwrap.dedent(script)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def ran(settings: Settings, script: str, *, seconds: float = 30) -> str:
    process = python(settings, script)
    out, err = process.communicate(timeout=seconds)
    assert (process.returncode, err) == (0, "")
    return out


# ---- the same as Mailer ----------------------------------------------------------------------------------------------


def methods(kind: type) -> dict[str, Any]:
    return {name: one for name, one in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def signature(method: Any) -> tuple[list[inspect.Parameter], Any]:
    """Parameters and what a caller gets, awaited or gone through."""
    found = inspect.signature(method)
    hints = typing.get_type_hints(method)
    # Whoever is asked answers at once in the one, and is awaited in the other.
    same: dict[Any, Any] = {Confirm | None: Callable[[Summary], bool] | None}
    parameters = [one.replace(annotation=same.get(hints.get(one.name), hints.get(one.name))) for one in found.parameters.values()]
    returned = hints["return"]
    if typing.get_origin(returned) in (Coroutine, AsyncIterator, Iterator):
        returned = typing.get_origin(returned).__name__.removeprefix("Async"), typing.get_args(returned)
        returned = ("Iterator", returned[1])
    return parameters, returned


def _but_confirm(signed: tuple[list[inspect.Parameter], Any]) -> tuple[list[inspect.Parameter], Any]:
    return [parameter for parameter in signed[0] if parameter.name != "confirm"], signed[1]


def test_it_has_all_methods_of_mailer_and_takes_and_gives_the_same() -> None:
    own, theirs = methods(SyncMailer), methods(Mailer)
    assert own.keys() - {"close"} == theirs.keys() - {"aclose"}
    for name in own.keys() - {"close"}:
        # `confirm` is asked in the caller's own thread, so it is a plain function there.
        assert _but_confirm(signature(own[name])) == _but_confirm(signature(theirs[name])), name
        assert not inspect.iscoroutinefunction(own[name])
        assert inspect.getdoc(own[name])
    assert signature(SyncMailer.__init__) == signature(Mailer.__init__)


def test_a_whole_conversation(sync: SyncMailer) -> None:
    id = sync.send(EMAIL, idempotency_key="one")
    assert sync.send(EMAIL, idempotency_key="one") == id
    assert sync.status(id).state == "queued"
    campaign = sync.start_campaign(CAMPAIGN, ROWS)
    assert (sync.pause(campaign), sync.pause(campaign), sync.resume(campaign)) == (True, False, True)
    assert sync.campaign(campaign).counts == {"queued": 2, "rejected": 1}
    assert [status.id for status in sync.campaigns()] == [campaign]
    assert [(line.row, line.state) for line in sync.outcomes(campaign)] == [(1, "queued"), (2, "queued"), (3, "rejected")]
    assert [line.row for line in sync.outcomes(campaign, states=["rejected"])] == [3]
    assert sync.outcome(f"{campaign}-0-1").to == "bo@example.org"
    counted = list[tuple[int, int]]()
    assert sync.cancel(campaign, progress=lambda done, left: counted.append((done, left)))
    assert counted == [(1, 0)]
    assert sync.wait(campaign).counts == {"cancelled": 2, "rejected": 1}
    assert sync.suppress("ana@example.org", reason="unsubscribe")
    assert [entry.reason for entry in sync.suppressed("ana@example.org")] == ["unsubscribe"]
    assert sync.unsuppress("ana@example.org")
    assert sync.explain(EMAIL).operation.value == "SendEmail"
    assert sync.explain_campaign(CAMPAIGN, ROWS).operation.value == "SendBulkEmail"
    assert sync.preview("letter", {"name": "Ana"}).subject == "Hello Ana"
    assert sync.advice(EMAIL) == []


async def test_it_works_inside_a_running_loop_and_is_sent(
    runtime: Runtime, ses: Simulator, settings: Settings, sync: SyncMailer
) -> None:
    id = sync.start_campaign(CAMPAIGN, ROWS[:2])  # blocks this loop, and its own is another one
    status = await asyncio.to_thread(sync.wait, id, every_s=0.05)
    assert status.counts == {"sent": 2}


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda sync: sync.status("m0"), NotFound),
        (lambda sync: list(sync.outcomes("c0")), NotFound),
        (lambda sync: list(sync.outcomes("c0", states=["gone"])), InvalidState),
        (lambda sync: sync.retry("c0", ["sent"]), InvalidState),
        (lambda sync: sync.start_campaign(CAMPAIGN, []), EmptyRecipients),
        (lambda sync: sync.suppress("nobody"), InvalidEmail),
    ],
)
def test_errors_are_the_same(sync: SyncMailer, call: Any, kind: type[MailerError]) -> None:
    with pytest.raises(kind):
        call(sync)


# ---- the caller's thread ---------------------------------------------------------------------------------------------


def test_rows_and_progress_are_run_in_the_thread_of_the_caller(sync: SyncMailer) -> None:
    """What they use may be of that thread: a connection to a database, a request."""
    seen, closed, told = set[int](), list[int](), list[tuple[int, int]]()

    def rows() -> Iterator[dict[str, str]]:
        try:
            for number in range(2500):
                seen.add(threading.get_ident())
                yield {"email": f"u{number}@example.org"}
        finally:
            closed.append(threading.get_ident())

    def progress(rows: int, read: int, size: int | None) -> None:
        told.append((threading.get_ident(), rows))

    id = sync.start_campaign(Campaign(from_="a@example.com", subject="s", text="t"), rows(), progress=progress)
    here = threading.get_ident()
    assert (seen, closed) == ({here}, [here])
    assert {thread for thread, _ in told} == {here}
    assert told[-1][1] == 2500
    assert sum(1 for _ in sync.outcomes(id)) == 2500


class Unlucky(Exception): ...


@pytest.mark.parametrize("error", [Unlucky("no row"), StopIteration("odd"), KeyboardInterrupt()])
def test_what_an_iterable_raises_comes_out_and_nothing_is_sent(sync: SyncMailer, error: BaseException) -> None:
    class Rows:
        def __init__(self) -> None:
            self.left = 1500

        def __iter__(self) -> Rows:
            return self

        def __next__(self) -> dict[str, str]:
            self.left -= 1
            if not self.left:
                raise error
            return {"email": f"u{self.left}@example.org", "name": "A"}

    if isinstance(error, StopIteration):
        sync.start_campaign(CAMPAIGN, Rows())  # that is the end of it
        return
    with pytest.raises(type(error)):
        sync.start_campaign(CAMPAIGN, Rows())
    assert sync.campaigns() == []


def test_what_progress_raises_ends_the_call(sync: SyncMailer) -> None:
    def progress(*_: object) -> None:
        raise Unlucky

    with pytest.raises(Unlucky):
        sync.start_campaign(CAMPAIGN, ({"email": f"u{n}@example.org", "name": "A"} for n in range(30_000)), progress=progress)
    assert sync.campaigns() == []


def test_async_iterables_are_taken_too_and_must_not_call_it(sync: SyncMailer) -> None:
    async def rows() -> AsyncIterator[dict[str, str]]:
        yield ROWS[0]

    async def calling() -> AsyncIterator[dict[str, str]]:
        sync.campaigns()
        yield ROWS[0]

    assert sync.campaign(sync.start_campaign(CAMPAIGN, rows())).rows == 1
    with pytest.raises(MailerError, match="a SyncMailer cannot be called by the async iterable that it reads"):
        sync.start_campaign(CAMPAIGN, calling())


def test_a_report_is_read_in_pieces_and_may_be_left_half_way(sync: SyncMailer) -> None:
    rows = [{"email": f"u{number}@example.org", "name": "A"} for number in range(3 * PAGE_ROWS)]
    id = sync.start_campaign(CAMPAIGN, rows)
    assert [line.row for line in sync.outcomes(id)] == list(range(1, len(rows) + 1))
    lines = sync.outcomes(id)
    assert next(lines).row == 1
    lines.close()  # type: ignore[attr-defined]
    half = sync.outcomes(id)
    assert next(half).row == 1
    sync.close()
    with pytest.raises(ClosedMeanwhile):
        list(half)


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_threads_share_it_and_one_loop(settings: Settings) -> None:
    mailer, before = SyncMailer(settings), len(threads())
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: mailer.send(EMAIL), range(80)))
        assert len(set(ids)) == 80
        assert Counter(pool.map(lambda id: mailer.status(id).state, ids)) == {"queued": 80}
    assert len(threads()) == before + 1
    mailer.close()
    assert len(threads()) == before
    assert mailer.status(ids[0]).state == "queued"  # it is opened again
    mailer.close()


def test_one_that_is_forgotten_ends_its_thread(settings: Settings) -> None:
    before, mailer = len(threads()), SyncMailer(settings)
    mailer.campaigns()
    assert len(threads()) == before + 1
    del mailer
    gc.collect()
    assert len(threads()) == before


def test_closing_ends_the_calls_of_other_threads(settings: Settings, own_server: RedisServer) -> None:
    mailer = SyncMailer(settings)
    id = mailer.start_campaign(CAMPAIGN, ROWS)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(mailer.wait, id)
        time.sleep(0.2)
        assert not waiting.done()
        mailer.close()
        with pytest.raises(ClosedMeanwhile, match="not known whether the call did anything"):
            waiting.result(5)


def test_entering_says_what_is_wrong_and_leaves_no_thread(unused_tcp_port: int) -> None:
    before = len(threads())
    with (
        pytest.raises(RedisUnavailable, match="nothing answers there"),
        SyncMailer(Settings(redis_url=f"redis://127.0.0.1:{unused_tcp_port}/0")),
    ):
        pass
    assert len(threads()) == before
    with pytest.raises(MailerError, match="timeout"):
        SyncMailer(Settings(), timeout=0)


# ---- programs --------------------------------------------------------------------------------------------------------


def test_a_program_that_never_closes_it_ends_at_once_and_without_a_word(settings: Settings) -> None:
    began = time.monotonic()
    out = ran(settings, "print(mailer.status(mailer.send(EMAIL)).state); began = time.monotonic()")
    assert out == "queued\n"
    assert time.monotonic() - began < 20


def test_a_program_that_ends_while_a_thread_waits_ends(settings: Settings) -> None:
    out = ran(
        settings,
        """
        id = mailer.start_campaign(CAMPAIGN, [{"email": "ana@example.org"}])
        def wait():
            try:
                mailer.wait(id)
            except Exception as error:
                print(type(error).__name__, flush=True)
        threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.3)
        """,
    )
    assert out in ("ClosedMeanwhile\n", "")


def test_a_program_ends_while_redis_hangs(own_server: RedisServer, namespace: str) -> None:
    settings = Settings(redis_url=own_server.url, namespace=namespace)
    process = python(settings, "mailer.send(EMAIL); print('sent', flush=True); input()")
    assert process.stdout is not None
    assert process.stdout.readline() == "sent\n"
    assert own_server._process is not None
    own_server._process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        _, err = process.communicate("\n", timeout=20)
        assert (process.returncode, err) == (0, "")
        assert time.monotonic() - began < 8
    finally:
        own_server._process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("used", [False, True])
def test_a_process_that_was_forked_opens_its_own(settings: Settings, used: bool) -> None:
    """As gunicorn and Celery fork their workers: with a global that was used before, and one that was not."""
    out = ran(
        settings,
        f"""
        import warnings
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # Python 3.12 on fork beside threads
        if {used}:
            mailer.send(EMAIL)
        lines = mailer.outcomes(mailer.start_campaign(CAMPAIGN, [{{"email": "ana@example.org"}}])) if {used} else None
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                ids = [mailer.send(EMAIL) for _ in range(20)]
                assert {{mailer.status(id).state for id in ids}} == {{"queued"}}
                print(" ".join(ids), flush=True)
                sys.exit(0)
            children.append(child)
        ids = [mailer.send(EMAIL) for _ in range(20)]
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        assert {{mailer.status(id).state for id in ids}} == {{"queued"}}
        print(" ".join(ids), flush=True)
        """,
        seconds=60,
    )
    assert len(set(out.split())) == 80


def test_ctrl_c_ends_a_call(own_server: RedisServer, namespace: str) -> None:
    settings = Settings(redis_url=own_server.url, namespace=namespace)
    process = python(
        settings,
        """
        id = mailer.start_campaign(CAMPAIGN, [{"email": "ana@example.org"}])
        print("waits", flush=True)
        try:
            mailer.wait(id)
        except KeyboardInterrupt:
            print(mailer.campaign(id).state, flush=True)
        """,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "running\n", "")


def test_ctrl_c_while_a_list_is_read_leaves_nothing_of_it(settings: Settings) -> None:
    process = python(
        settings,
        """
        def rows():
            yield {"email": "ana@example.org"}
            print("reads", flush=True)
            time.sleep(60)
        try:
            mailer.start_campaign(CAMPAIGN, rows())
        except KeyboardInterrupt:
            print(mailer.campaigns(), flush=True)
        """,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reads\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "[]\n", "")


# ---- Mailer in another loop ------------------------------------------------------------------------------------------


def test_a_mailer_that_is_used_in_another_loop_says_what_to_do(settings: Settings) -> None:
    mailer = Mailer(settings)
    expected = "This Mailer belongs to another event loop; make one in this loop, or use SyncMailer."
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(mailer.send(EMAIL))
        for call in (mailer.campaigns, mailer.aclose, mailer.__aenter__, lambda: mailer.send(EMAIL)):
            with pytest.raises(OtherLoop) as caught:
                second.run(call())
            assert str(caught.value) == expected
        first.run(mailer.aclose())
