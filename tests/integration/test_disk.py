"""MAILER_INTAKE_FSYNC: what was handed over is on Redis's disk, or the caller is told that it may not be."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis

from mailer import Campaign, Email, Mailer, Settings
from mailer.errors import CampaignGone, ConfigError, ListForgotten, MailerError, NotOnDisk, StartedAnew

from ..servers import RedisServer, has_waitaof

KILLS = 10  # of each kind
needs_waitaof = pytest.mark.skipif(not has_waitaof(), reason="this server has no WAITAOF")


@contextmanager
def a_server(appendfsync: str = "everysec", *options: str) -> Iterator[RedisServer]:
    server = RedisServer(appendfsync=appendfsync, options=options)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def set_up(server: RedisServer, **changed: Any) -> Settings:
    return Settings(**{"redis_url": server.url, "intake_fsync": True, **changed})


def letter() -> Email:
    return Email(to="ana@example.org", from_="news@example.com", subject="Hello", text="Dear Ana")


def news() -> Campaign:
    return Campaign(name="June", from_="news@example.com", subject="Hello", text="Dear {{ name }}")


def rows(n: int) -> list[dict[str, str]]:
    return [{"email": f"r{i}@example.org", "name": "Ana"} for i in range(n)]


def stored(server: RedisServer) -> list[bytes]:
    with redis.Redis(port=server.port) as client:
        return [key for key in client.keys("*") if not key.endswith(b":mark")]


@needs_waitaof
async def test_what_was_handed_over_is_there_after_redis_was_killed_the_moment_that_the_call_returned() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(a_server()) for _ in range(2 * KILLS)]

        async def hand_over(server: RedisServer, campaign: bool) -> str:
            async with Mailer(set_up(server)) as mailer:
                id = await (mailer.start_campaign(news(), rows(1200)) if campaign else mailer.send(letter()))
                server.stop(signal.SIGKILL)
                return id

        ids = await asyncio.gather(*(hand_over(server, number % 2 == 0) for number, server in enumerate(servers)))
        for number, (server, id) in enumerate(zip(servers, ids, strict=True)):
            server.start()
            async with Mailer(set_up(server)) as mailer:
                if number % 2:
                    assert (await mailer.status(id)).state == "queued"
                else:
                    assert (await mailer.campaign(id)).counts == {"queued": 1200}
                    assert len([1 async for _ in mailer.outcomes(id)]) == 1200


@needs_waitaof
async def test_what_is_not_on_the_disk_in_time_is_told_also_to_whoever_asks_again_and_is_stored_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailer.ledger.disk.WAIT_MS", 200)
    with a_server("no") as server:  # nobody but the kernel says when
        async with Mailer(set_up(server)) as mailer:
            with pytest.raises(
                NotOnDisk, match=r"is stored and will be sent, but Redis has not written it to its disk within 0\.2 s"
            ) as first:
                await mailer.send(letter(), idempotency_key="one")
            id = first.value.fields["id"]
            assert (await mailer.status(id)).state == "queued"
            with pytest.raises(NotOnDisk) as second:
                await mailer.start_campaign(news(), rows(3), idempotency_key="two")
        async with Mailer(set_up(server)) as mailer:  # by connections that have not written anything
            before = stored(server)
            for _ in range(2):
                with pytest.raises(NotOnDisk, match=id):
                    await mailer.send(letter(), idempotency_key="one")
            with pytest.raises(NotOnDisk, match=second.value.fields["id"]):
                await mailer.start_campaign(news(), rows(3), idempotency_key="two")
            with redis.Redis(port=server.port) as client:
                client.config_set("appendfsync", "always")
            assert await mailer.send(letter(), idempotency_key="one") == id
            assert await mailer.start_campaign(news(), rows(3), idempotency_key="two") == second.value.fields["id"]
            assert set(before) <= set(stored(server))
            assert len(await mailer.campaigns()) == 1


@needs_waitaof
async def test_a_call_with_little_time_is_told_within_it_that_the_disk_has_not_answered() -> None:
    with a_server("no") as server:
        async with Mailer(set_up(server), timeout=1.0) as mailer:
            with pytest.raises(NotOnDisk, match=r"has not written it to its disk within 0\.8 s"):
                await mailer.send(letter())


NO_FILE = ("--appendonly", "no")
NO_WAITAOF = ("--rename-command", "WAITAOF", "") if has_waitaof() else ()
NO_CONFIG = ("--rename-command", "CONFIG", "")


@pytest.mark.parametrize(
    ("appendfsync", "options", "why"),
    [
        ("everysec", NO_FILE, "Redis writes no append-only file"),
        ("everysec", (*NO_FILE, *NO_WAITAOF), "Redis writes no append-only file"),
        ("everysec", NO_WAITAOF, "has no WAITAOF, which Redis and Valkey have since 7.2"),
        ("always", (*NO_WAITAOF, *NO_CONFIG), "as far as can be seen"),
        pytest.param(
            "everysec",
            ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-waitaof"),
            "may not run WAITAOF",
            marks=needs_waitaof,
        ),
    ],
)
async def test_a_redis_that_cannot_say_what_is_on_its_disk_is_an_error_before_anything_is_stored(
    appendfsync: str, options: tuple[str, ...], why: str
) -> None:
    with a_server(appendfsync, *options) as server:
        async with Mailer(set_up(server)) as mailer:
            with pytest.raises(ConfigError, match=f"MAILER_INTAKE_FSYNC: .*{why}"):
                await mailer.send(letter())
            with pytest.raises(ConfigError, match=why):
                await mailer.start_campaign(news(), rows(3))
        assert stored(server) == []
        async with Mailer(set_up(server, intake_fsync=False)) as mailer:
            await mailer.send(letter())


async def test_an_older_redis_that_writes_everything_to_its_disk_at_once_will_do() -> None:
    with a_server("always", *NO_WAITAOF) as server:
        async with Mailer(set_up(server)) as mailer:
            assert (await mailer.status(await mailer.send(letter()))).state == "queued"
            assert (await mailer.campaign(await mailer.start_campaign(news(), rows(3)))).rows == 3


def again(server: RedisServer) -> None:
    server.stop(signal.SIGKILL)
    server.start()


def with_loss(server: RedisServer) -> None:
    """Started anew with nothing of what it had."""
    server.stop(signal.SIGKILL)
    for file in sorted(server.folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    server.start()


def with_a_hole(server: RedisServer) -> None:
    """As after a power cut: of what was written last, some is missing."""
    again(server)
    with redis.Redis(port=server.port) as client:
        last = max(client.keys("mailer:s:*"), key=lambda key: int(key.rpartition(b"-")[2]))
        assert client.delete(last)


@pytest.mark.parametrize("intake_fsync", [True, False])
@pytest.mark.parametrize(("start_anew", "told"), [(with_a_hole, ListForgotten), (with_loss, CampaignGone)])
async def test_a_redis_that_was_started_anew_while_a_list_was_read_does_not_get_a_campaign_with_a_hole(
    start_anew: Callable[[RedisServer], None], told: type[MailerError], intake_fsync: bool
) -> None:
    with a_server("always") as server:

        def interrupted() -> Iterator[dict[str, str]]:
            for number, row in enumerate(rows(10_000)):
                if number == 7000:
                    start_anew(server)
                yield row

        async with Mailer(set_up(server, intake_fsync=intake_fsync)) as mailer:
            with pytest.raises(told):
                await mailer.start_campaign(news(), interrupted())
            assert await mailer.campaigns() == []
            assert (await mailer.campaign(await mailer.start_campaign(news(), rows(3)))).rows == 3


@needs_waitaof
async def test_a_redis_that_was_started_anew_while_a_list_was_read_and_has_forgotten_nothing_gets_its_campaign() -> None:
    with a_server("always") as server:

        def interrupted() -> Iterator[dict[str, str]]:
            for number, row in enumerate(rows(10_000)):
                if number == 7000:
                    again(server)
                yield row

        async with Mailer(set_up(server)) as mailer:
            id = await mailer.start_campaign(news(), interrupted())
            assert (await mailer.campaign(id)).counts == {"queued": 10_000}


@needs_waitaof
async def test_a_redis_that_forgot_a_message_and_is_back_does_not_confirm_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server() as server:
        async with Mailer(set_up(server)) as mailer:
            wake = mailer._handover._wake

            async def lost_afterwards(*what: Any) -> None:
                await wake(*what)
                with_loss(server)

            monkeypatch.setattr(mailer._handover, "_wake", lost_afterwards)
            with pytest.raises(StartedAnew, match="restarted while m"):
                await mailer.send(letter())


@needs_waitaof
async def test_a_redis_that_dies_while_it_is_waited_for_is_told() -> None:
    with a_server("no") as server:
        async with Mailer(set_up(server)) as mailer:
            sending = asyncio.create_task(mailer.send(letter()))
            with redis.Redis(port=server.port) as client:
                while not client.info("clients")["blocked_clients"]:
                    await asyncio.sleep(0.01)
            server.stop(signal.SIGKILL)
            with pytest.raises(NotOnDisk, match="Redis did not say that it is on its disk"):
                await sending


@needs_waitaof
async def test_messages_that_are_handed_over_at_the_same_time_wait_together() -> None:
    with a_server() as server:
        async with Mailer(set_up(server)) as mailer:
            started = time.monotonic()
            await asyncio.gather(*(mailer.send(letter()) for _ in range(300)))
            took = time.monotonic() - started
            with redis.Redis(port=server.port) as client:
                calls = client.info("commandstats")["cmdstat_waitaof"]["calls"]
        assert calls < 100, took
