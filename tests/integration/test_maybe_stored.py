"""Answers of Redis that get lost while something is handed over: who hears an error learns the id, and does not send it twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from redis.exceptions import BusyLoadingError, OutOfMemoryError

from mailer import Campaign, Email, Mailer, Settings, State, client
from mailer.cli import campaign_start
from mailer.cli import message as message_command
from mailer.cli.asking import Asked
from mailer.errors import MailerError, MaybeStored, RedisUnavailable
from mailer.intake.selection import ALL
from mailer.queue import connect, disconnect
from mailer.recipients.reading import AS_IT_IS

from ..crash.proxy import RedisWire, Stop, Watch, What, When, load_scripts, proxy
from ..servers import RedisServer

ROWS = [{"email": f"r{i}@example.org", "name": "Ana"} for i in range(3)]
LATER = timedelta(hours=1)
TRIES = 50  # of one command: more than there is time for


@pytest.fixture(autouse=True)
def short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "call_timeout_s", ContextVar("call_timeout_s", default=1.5))


def letter(**more: Any) -> Email:
    return Email(**{"to": "ana@example.org", "from_": "news@example.com", "subject": "Hello", "text": "Dear Ana", **more})


def news(**more: Any) -> Campaign:
    return Campaign(name="June", from_="news@example.com", subject="Hello", text="Dear {{ name }}", **more)


async def no_process() -> None: ...


@asynccontextmanager
async def through(settings: Settings, *stops: Stop) -> AsyncIterator[tuple[Watch, Settings]]:
    """The settings of one who reaches Redis by a proxy."""
    loading = connect(settings)
    await load_scripts(loading)
    await disconnect(loading)
    watch = Watch(no_process, *stops)
    async with proxy(watch, RedisWire, settings.redis_url) as url:
        yield watch, settings.model_copy(update={"redis_url": url})


def stored(settings: Settings) -> set[str]:
    """The ids of all messages and campaigns."""
    with redis.Redis.from_url(settings.redis_url) as looking:
        return {key.decode().rpartition(":")[2] for key in looking.keys(f"{settings.namespace}:c:*")}


def apart(name: str, when: When = When.LOST) -> Stop:
    return Stop(name=name, when=when, what=What.APART)


@pytest.mark.parametrize("key", [None, "signup-42"])
@pytest.mark.parametrize("when", [When.LOST, When.HALF, When.BEFORE])
async def test_whoever_does_not_hear_whether_a_message_was_stored_learns_its_id(
    settings: Settings, mailer: Mailer, when: When, key: str | None
) -> None:
    async with through(settings, apart("add", when)) as (watch, cut), Mailer(cut) as sender:
        with pytest.raises(MaybeStored) as raised:
            await sender.send(letter(), idempotency_key=key)
        id = raised.value.fields["id"]
        assert f"not known whether {id} was stored" in str(raised.value)
        assert f"`mailer status {id}`" in str(raised.value)
        assert ("the same idempotency key" in str(raised.value)) is (key is not None)
        assert stored(settings) == (set() if when is When.BEFORE else {id})
        if key:
            watch.apart.clear()
            again = await sender.send(letter(), idempotency_key=key)
            assert stored(settings) == {again}
            assert when is When.BEFORE or again == id


async def test_an_answer_that_got_lost_once_is_asked_for_again_inside(settings: Settings) -> None:
    stops = [Stop(name=name, when=When.LOST, what=What.CUT) for name in ("add", "plan", "start")]
    async with through(settings, *stops) as (watch, cut), Mailer(cut) as sender:
        ids = {await sender.send(letter()), await sender.start_campaign(news(), ROWS)}
        assert stored(settings) == ids
    assert [watch.asked.count(name) for name in ("add", "plan", "start")] == [2, 2, 2]


@pytest.mark.parametrize("before", ["hmget", "exec set expire"])
async def test_an_outage_before_anything_was_handed_over_says_that_nothing_was_stored(settings: Settings, before: str) -> None:
    async with through(settings, apart(before)) as (watch, cut), Mailer(cut) as sender:
        with pytest.raises(RedisUnavailable, match="Nothing was stored; "):
            await sender.send(letter(subject="Hello {{ name }}", data={"name": "Ana"}), idempotency_key="one")
        watch.apart.clear()
    async with through(settings, apart(before)) as (_, cut), Mailer(cut) as sender:
        with pytest.raises(RedisUnavailable, match="Nothing was stored; "):
            await sender.start_campaign(news(), ROWS, idempotency_key="two")
    assert stored(settings) == set()


@pytest.mark.parametrize("at", ["plan", "keep_reading", "exists"])
async def test_a_campaign_that_was_not_let_run_yet_is_not_sent_or_not_known(settings: Settings, at: str) -> None:
    expected = MaybeStored if at == "exists" else RedisUnavailable
    async with through(settings, apart(at)) as (_, cut), Mailer(cut) as sender:
        with pytest.raises(expected):
            await sender.start_campaign(news(), ROWS)
    async with Mailer(settings) as mailer:
        assert [status.state for status in await mailer.campaigns()] == [State.PLANNED]


@pytest.mark.parametrize("send_in", [None, LATER])
@pytest.mark.parametrize("key", [None, "june"])
@pytest.mark.parametrize("when", [When.LOST, When.BEFORE])
async def test_whoever_does_not_hear_whether_a_campaign_was_started_learns_its_id(
    settings: Settings, mailer: Mailer, when: When, key: str | None, send_in: timedelta | None
) -> None:
    sent = news(send_at=send_in and datetime.now(UTC) + send_in)
    async with through(settings, apart("start", when)) as (watch, cut), Mailer(cut) as sender:
        with pytest.raises(MaybeStored) as raised:
            await sender.start_campaign(sent, ROWS, idempotency_key=key)
        id = raised.value.fields["id"]
        assert id in str(raised.value)
        assert stored(settings) == {id}
        status = await mailer.campaign(id)
        assert (status.state is State.RUNNING) is (when is When.LOST and send_in is None)
        assert status.rows == (3 if when is When.LOST else 0)
        if key and when is When.LOST:
            watch.apart.clear()
            assert await sender.start_campaign(sent, ROWS, idempotency_key=key) == id


@pytest.mark.parametrize("send_in", [None, LATER])
async def test_a_campaign_whose_start_was_never_answered_and_that_runs_is_started(
    settings: Settings, mailer: Mailer, send_in: timedelta | None
) -> None:
    stops = [Stop(name="start", when=When.LOST, nth=nth, what=What.CUT) for nth in range(1, TRIES + 1)]
    async with through(settings, *stops) as (_, cut), Mailer(cut) as sender:
        id = await sender.start_campaign(news(send_at=send_in and datetime.now(UTC) + send_in), ROWS)
    assert (await mailer.campaign(id)).rows == 3


async def test_a_campaign_whose_start_never_came_and_that_was_dropped_may_be_started_again(settings: Settings) -> None:
    stops = [Stop(name="start", when=When.BEFORE, nth=nth, what=What.CUT) for nth in range(1, TRIES + 1)]
    async with through(settings, *stops) as (_, cut), Mailer(cut) as sender:
        with pytest.raises(RedisUnavailable):
            await sender.start_campaign(news(), ROWS)
    assert stored(settings) == set()


async def test_who_ends_it_while_the_answer_gets_lost_learns_the_id_too(settings: Settings, mailer: Mailer) -> None:
    async with through(settings, apart("start")) as (watch, cut), Mailer(cut) as sender:
        starting = asyncio.create_task(sender.start_campaign(news(), ROWS))
        await watch.apart.wait()
        starting.cancel()
        with pytest.raises(MaybeStored, match=r"did not answer \(and this was cancelled\)") as raised:
            await starting
    assert (await mailer.campaign(raised.value.fields["id"])).rows == 3


@pytest.mark.parametrize("repeated", [False, True])
async def test_a_refusal_hides_no_answer_that_got_lost(
    mailer: Mailer, settings: Settings, monkeypatch: pytest.MonkeyPatch, repeated: bool
) -> None:
    add = mailer._ledger.intake.add_message

    async def refused(*what: Any, **more: Any) -> None:
        if repeated:
            await add(*what, **more)
        raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    monkeypatch.setattr(mailer._ledger.intake, "add_message", refused)
    with pytest.raises(MaybeStored if repeated else RedisUnavailable) as raised:
        await mailer.send(letter())
    assert stored(settings) == ({raised.value.fields["id"]} if isinstance(raised.value, MaybeStored) else set())


async def test_who_may_not_store_is_told_that_and_not_that_it_may_be_stored(server: RedisServer, namespace: str) -> None:
    with redis.Redis(port=server.port) as admin:
        admin.acl_setuser(namespace, enabled=True, passwords=["+x"], keys=["other:*"], categories=["+@all"])
    url = server.url.replace("://", f"://{namespace}:x@")
    async with Mailer(Settings(redis_url=url, namespace=namespace)) as sender:
        with pytest.raises(RedisUnavailable, match="this user may not do that: "):
            await sender.send(letter())


async def test_a_redis_that_loads_its_data_after_an_answer_got_lost_does_not_say_that_nothing_was_stored(
    mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loading(*what: Any, **more: Any) -> None:
        raise BusyLoadingError("Redis is loading the dataset in memory")

    monkeypatch.setattr(mailer._ledger.intake, "add_message", loading)
    monkeypatch.setattr(mailer._ledger.report, "message", loading)
    with pytest.raises(MaybeStored, match="it is still loading its data"):
        await mailer.send(letter())


# ---- commands ----------------------------------------------------------------------------------------------------------


async def _send(wait: bool) -> None:
    await message_command._send(letter(), None, wait, False)


async def _start(wait: bool) -> None:
    asked = Asked(dry_run=False, yes=True, as_json=False)
    await campaign_start._start(news(), "list.csv", None, wait, AS_IT_IS, ALL, asked)


@pytest.fixture
def here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], None]:
    """Points the commands at a Redis."""

    def point(cut: Settings) -> None:
        monkeypatch.setenv("MAILER_REDIS_URL", cut.redis_url)
        monkeypatch.setenv("MAILER_NAMESPACE", cut.namespace)

    with open("list.csv", "w") as file:
        file.write("email,name\na@example.org,Ana\n")
    return point


@pytest.mark.parametrize(("command", "look"), [(_send, "mailer status"), (_start, "mailer campaign watch")])
async def test_a_command_that_waits_for_what_is_stored_does_not_say_that_it_be_run_again(
    settings: Settings,
    here: Callable[[Settings], None],
    capsys: pytest.CaptureFixture[str],
    command: Callable[[bool], Awaitable[None]],
    look: str,
) -> None:
    async with through(settings) as (watch, cut):
        here(cut)
        waiting = asyncio.ensure_future(command(True))
        id = ""
        while not id:
            await asyncio.sleep(0.01)
            id = capsys.readouterr().out.strip()
        asked = len(watch.asked)
        while len(watch.asked) < asked + 3:  # it is waiting
            await asyncio.sleep(0.01)
        watch.apart.set()
        with pytest.raises(MailerError) as raised:
            await waiting
    assert str(raised.value).startswith("Redis cannot be used: ")
    assert str(raised.value).endswith(f" {id} is stored and goes on by itself; look with: {look} {id}")
    assert stored(settings) == {id}


@pytest.mark.parametrize(("command", "script"), [(_send, "add"), (_start, "start")])
async def test_a_command_whose_answer_got_lost_names_the_id(
    settings: Settings, here: Callable[[Settings], None], command: Callable[[bool], Awaitable[None]], script: str
) -> None:
    async with through(settings, apart(script)) as (_, cut):
        here(cut)
        with pytest.raises(MaybeStored) as raised:
            await command(False)
    assert stored(settings) == {raised.value.fields["id"]}


async def test_a_campaign_s_id_is_printed_though_redis_went_away_once_it_was_stored(
    settings: Settings, here: Callable[[Settings], None], capsys: pytest.CaptureFixture[str]
) -> None:
    async with through(settings, apart("feed")) as (_, cut):
        here(cut)
        with suppress(MailerError):
            await _start(False)
    assert stored(settings) == {capsys.readouterr().out.strip()}
