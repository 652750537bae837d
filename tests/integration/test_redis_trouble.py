"""Redis away, cut off or hanging: each call ends in time, with one of our errors, which says whether something was stored."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailer import Campaign, Email, Mailer, MailerError, MaybeStored, RedisUnavailable, Settings
from mailer.errors import ConfigError, NotOnDisk
from mailer.intake.selection import Selection
from mailer.redis.commands import SILENT_S

from ..servers import RedisServer

ID, MESSAGE = "c00000000000000000", "m00000000000000000"
EMAIL = Email(to="ana@example.org", from_="news@example.com", subject="Hello", text="Dear Ana")
CAMPAIGN = Campaign(from_="news@example.com", subject="Hello", text="Dear Ana")
ROWS = [{"email": "ana@example.org"}]
TIMEOUT_S = 0.6
SLACK_S = 0.7  # of a machine that others use, too


async def rows_of(mailer: Mailer) -> list[Any]:
    return [line async for line in mailer.outcomes(ID)]


Call = Callable[[Mailer], Awaitable[object]]
# Each call that asks Redis, by the name of its method.
CALLS: dict[str, Call] = {
    "send": lambda mailer: mailer.send(EMAIL),
    "start_campaign": lambda mailer: mailer.start_campaign(CAMPAIGN, ROWS),
    "send_test": lambda mailer: mailer.send_test(CAMPAIGN, ROWS, "me@example.org"),
    "test_of": lambda mailer: mailer.test_of(CAMPAIGN, ROWS, "me@example.org", selection=Selection(exclude_campaigns=[ID])),
    "workers": lambda mailer: mailer.workers(),
    "status": lambda mailer: mailer.status(MESSAGE),
    "campaign": lambda mailer: mailer.campaign(ID),
    "campaigns": lambda mailer: mailer.campaigns(),
    "outcomes": rows_of,
    "outcome": lambda mailer: mailer.outcome(f"{ID}-0-0"),
    "wait": lambda mailer: mailer.wait(ID),
    "pause": lambda mailer: mailer.pause(ID),
    "resume": lambda mailer: mailer.resume(ID),
    "reschedule": lambda mailer: mailer.reschedule(ID, datetime.now(UTC) + timedelta(hours=1)),
    "cancel": lambda mailer: mailer.cancel(ID),
    "retry": lambda mailer: mailer.retry(ID, ["failed"]),
    "suppress": lambda mailer: mailer.suppress("ana@example.org"),
    "unsuppress": lambda mailer: mailer.unsuppress("ana@example.org"),
    "suppressed": lambda mailer: mailer.suppressed("ana@example.org"),
}
OF_NO_REDIS = {"aclose", "not_told", "advice", "explain", "explain_campaign", "preview", "unsubscribe_url", "unsubscribed"}
STORING = {"send", "send_test", "start_campaign"}


@pytest.fixture
def alone(own_server: RedisServer, namespace: str) -> Settings:
    return Settings(redis_url=own_server.url, namespace=namespace)


@pytest.fixture
async def served(alone: Settings) -> AsyncIterator[Mailer]:
    """A Mailer that has a connection, of which Redis has all scripts."""
    async with Mailer(alone, timeout=TIMEOUT_S) as mailer:
        await mailer.send(EMAIL)
        await mailer.start_campaign(CAMPAIGN, ROWS)
        yield mailer


@contextmanager
def hanging(server: RedisServer) -> Iterator[None]:
    """It takes connections and commands, and answers nothing."""
    assert server._process is not None
    server._process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server._process.send_signal(signal.SIGCONT)


async def test_every_call_is_tried(served: Mailer) -> None:
    public = {name for name in dir(Mailer) if not name.startswith("_")}
    assert public == CALLS.keys() | OF_NO_REDIS


@pytest.mark.parametrize("name", CALLS)
async def test_a_redis_that_is_not_there_is_told_as_that_and_nothing_was_stored(name: str, unused_tcp_port: int) -> None:
    mailer = Mailer(Settings(redis_url=f"redis://:secret@127.0.0.1:{unused_tcp_port}/0"))
    known = "Nothing was stored; start it" if name in STORING else "Start it"
    where = f"redis://***@127.0.0.1:{unused_tcp_port}/0"
    with pytest.raises(RedisUnavailable) as caught:
        await CALLS[name](mailer)
    assert str(caught.value) == f"Redis at {where} cannot be used: nothing answers there. {known}, or set MAILER_REDIS_URL."
    await mailer.aclose()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_connection_to_a_redis_that_has_ended_does_not_make_it_doubtful(
    served: Mailer, own_server: RedisServer, how: signal.Signals
) -> None:
    own_server.stop(how)
    await asyncio.sleep(0.05)  # the loop hears that the connections have ended
    found = await asyncio.gather(*(call(served) for call in CALLS.values()), return_exceptions=True)
    for name, error in zip(CALLS, found, strict=True):
        assert isinstance(error, RedisUnavailable), name
        assert "nothing answers there" in str(error) or "it does not answer in time" in str(error)
        assert ("Nothing was stored" in str(error)) is (name in STORING)


@pytest.mark.alone
async def test_every_call_ends_in_time_when_redis_hangs(served: Mailer, own_server: RedisServer) -> None:
    async def timed(name: str) -> tuple[str, float, BaseException]:
        began = time.monotonic()
        with pytest.raises(MailerError) as caught:
            await CALLS[name](served)
        return name, time.monotonic() - began, caught.value

    with hanging(own_server):
        found = await asyncio.gather(*map(timed, CALLS))
    for name, took_s, error in found:
        assert "it does not answer in time" in str(error), name
        # Its first command stores it: Redis was given that.
        assert isinstance(error, MaybeStored if name == "send" else RedisUnavailable)
        assert took_s < TIMEOUT_S + SLACK_S, f"{name} took {took_s:.1f} s"


@pytest.mark.alone
async def test_entering_ends_in_time_when_redis_hangs(own_server: RedisServer, alone: Settings) -> None:
    began = time.monotonic()
    with hanging(own_server), pytest.raises(RedisUnavailable, match="it does not answer in time"):
        async with Mailer(alone, timeout=TIMEOUT_S):
            pass
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S


@pytest.mark.alone
async def test_many_calls_at_once_end_in_time_when_redis_hangs(served: Mailer, own_server: RedisServer) -> None:
    """More of them than there are connections: those that wait for one end, too."""
    began = time.monotonic()
    with hanging(own_server):
        found = await asyncio.gather(*(served.status(MESSAGE) for _ in range(100)), return_exceptions=True)
    assert {type(one) for one in found} == {RedisUnavailable}
    assert time.monotonic() - began < TIMEOUT_S + 3 * SLACK_S
    assert (await served.campaigns())[0].rows == 1  # and afterwards the same Mailer goes on


async def test_a_message_that_a_hanging_redis_was_given_is_in_doubt_and_its_id_is_told(
    served: Mailer, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = served._ledger.intake.add_message

    async def hang(*args: Any, **fields: Any) -> Any:
        with hanging(own_server):
            return await add(*args, **fields)

    monkeypatch.setattr(served._ledger.intake, "add_message", hang)
    with pytest.raises(MaybeStored, match="it does not answer in time") as caught:
        await served.send(EMAIL)
    status = await served.status(caught.value.fields["id"])  # it was, once Redis went on
    assert status.state == "queued"


async def test_a_message_that_no_connection_took_was_not_stored_though_redis_hung_before(
    served: Mailer, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = served._ledger.intake.add_message

    async def gone(*args: Any, **fields: Any) -> Any:
        own_server.stop(signal.SIGKILL)
        await asyncio.sleep(0.05)
        return await add(*args, **fields)

    monkeypatch.setattr(served._ledger.intake, "add_message", gone)
    with pytest.raises(RedisUnavailable, match="Nothing was stored"):
        await served.send(EMAIL, idempotency_key="once")


@pytest.mark.alone
async def test_a_list_may_take_longer_than_the_timeout_and_each_of_its_steps_may_not(
    served: Mailer, own_server: RedisServer
) -> None:
    async def slow() -> AsyncIterator[dict[str, str]]:
        for number in range(2):
            await asyncio.sleep(TIMEOUT_S * 0.75)
            yield {"email": f"u{number}@example.org"}

    id = await served.start_campaign(CAMPAIGN, slow())
    assert (await served.campaign(id)).rows == 2

    hung = hanging(own_server)

    async def until_it_hangs() -> AsyncIterator[dict[str, str]]:
        for number in range(10_000):
            if number == 9_000:
                hung.__enter__()
            yield {"email": f"u{number}@example.org"}

    before = {status.id for status in await served.campaigns()}
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match="Nothing of it is sent; see its log and load"):
        await served.start_campaign(CAMPAIGN, until_it_hangs())
    assert time.monotonic() - began < TIMEOUT_S + 2 * SILENT_S + SLACK_S  # it is asked once more what has become of it
    hung.__exit__(None, None, None)
    assert {status.state for status in await served.campaigns() if status.id not in before} == {"planned"}  # and given up later


async def test_an_iterable_s_own_error_comes_out_as_it_is(served: Mailer) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield {"email": "ana@example.org"}
        raise TimeoutError("the database has not answered")

    with pytest.raises(TimeoutError, match="the database has not answered"):
        await served.start_campaign(CAMPAIGN, broken())


async def test_a_cancelled_call_is_cancelled_and_no_time_out(served: Mailer, own_server: RedisServer) -> None:
    with hanging(own_server):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await served.status(MESSAGE)
        waiting = asyncio.create_task(served.campaigns())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_what_is_stored_and_not_known_to_be_on_the_disk_in_time_is_told_with_its_id(
    own_server: RedisServer, alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Mailer(alone.model_copy(update={"intake_fsync": True}), timeout=TIMEOUT_S) as mailer:
        wake = mailer._handover._wake

        async def hang(*what: Any) -> None:
            await wake(*what)
            hung.__enter__()

        hung = hanging(own_server)
        monkeypatch.setattr(mailer._handover, "_wake", hang)
        began = time.monotonic()
        with pytest.raises(NotOnDisk, match="is stored and will be sent, but Redis did not say that it is on its disk") as caught:
            await mailer.send(EMAIL)
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S
        hung.__exit__(None, None, None)
        assert (await mailer.status(caught.value.fields["id"])).state == "queued"


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ConfigError, match=r"^timeout: .* must be a number of seconds above 0$"):
        Mailer(Settings(), timeout=timeout)
