"""Another Redis becomes the master behind the same name, while connections to the one before stay open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parseaddr
from typing import Any

import pytest
import redis
import redis.asyncio
from structlog.testing import capture_logs

from mailer import Campaign, Email, Lane, Mailer, Settings
from mailer.doctor import State as Found
from mailer.doctor import redis as doctor
from mailer.errors import RedisUnavailable
from mailer.ledger import Ledger
from mailer.ledger.keys import Keys
from mailer.queue import Queue, connect, disconnect
from mailer.simulator import Simulator
from worker.readiness import ready
from worker.runtime import Runtime

from ..conftest import running_worker
from ..servers import RedisServer
from ..sns import TOPIC

ROWS = 3000
RATE = 500.0  # recipients per second of the campaign: it takes six seconds


class Name:
    """A name that several servers can stand behind: a proxy that knows nothing of what it hands on. Connections that are open
    stay with the server to which they were made."""

    def __init__(self, server: RedisServer) -> None:
        self.leads_to: RedisServer | None = server  # None: connections are taken, and ended
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Name]:
        async with AsyncExitStack() as stack:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            stack.callback(server.close)
            self._tasks = set[asyncio.Task[None]]()
            self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
            yield self
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.leads_to is None:
                return
            answers, onward = await asyncio.open_connection("127.0.0.1", self.leads_to.port)
            try:
                both = {asyncio.ensure_future(one) for one in (_pump(reader, onward), _pump(answers, writer))}
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for one in both:
                        one.cancel()
                    await asyncio.gather(*both, return_exceptions=True)
            finally:
                onward.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and its replica."""
    master = RedisServer(options=("--repl-diskless-sync-delay", "0"))
    master.start()
    replica = RedisServer(options=("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0"))
    replica.start()
    with redis.Redis.from_url(replica.url) as client:
        while client.info("replication")["master_link_status"] != "up":
            pass
    yield master, replica
    replica.remove()
    master.remove()


async def fail_over(was: RedisServer, becomes: RedisServer) -> None:
    """As planned ones go: what has been written is handed on first, and nothing is lost. Open connections stay."""
    async with redis.asyncio.Redis.from_url(was.url) as one, redis.asyncio.Redis.from_url(becomes.url) as other:
        await one.execute_command("FAILOVER")
        while (await other.info("replication"))["role"] != "master":
            await asyncio.sleep(0.01)
        while (await one.info("replication"))["role"] == "master":
            await asyncio.sleep(0.01)


async def clients(server: RedisServer) -> int:
    """Connections of ours; its own replication and this look are not counted."""
    async with redis.asyncio.Redis.from_url(server.url) as client:
        return len([one for one in await client.client_list(_type="normal") if one["cmd"] != "client|list"])


async def until(condition: Callable[[], Awaitable[bool]], within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.02)


def named(settings: Settings, name: Name) -> Settings:
    return settings.model_copy(update={"redis_url": name.url, "events_topic_arns": (TOPIC,)})


def letter(number: int) -> Email:
    return Email(to=f"single{number}@example.org", from_="news@example.com", subject="Hello", text="Hello")


@pytest.mark.parametrize("gap_s", [0.0, 1.0])
async def test_sending_goes_on_within_seconds_nobody_is_lost_and_nobody_sent_to_twice(
    settings: Settings, ses: Simulator, pair: tuple[RedisServer, RedisServer], gap_s: float
) -> None:
    was, becomes = pair
    async with (
        Name(was).open() as name,
        running_worker(named(settings, name)) as runtime,
        Mailer(named(settings, name)) as mailer,
    ):
        rows = ({"email": f"r{n}@example.org", "name": "Ana"} for n in range(ROWS))
        news = Campaign(name="June", from_="news@example.com", subject="Hello", text="Dear {{ name }}", max_rate=RATE)
        campaign = await mailer.start_campaign(news, rows)
        singles = [await mailer.send(letter(0))]
        await until(lambda: _at_least(ses, ROWS // 6))
        with capture_logs() as said:
            await fail_over(was, becomes)
            calls = [asyncio.create_task(mailer.send(letter(n))) for n in range(1, 6)]  # to a replica, for now
            name.leads_to = None if gap_s else was
            await asyncio.sleep(gap_s or 0.5)
            name.leads_to = becomes
            async with asyncio.timeout(6):
                singles += await asyncio.gather(*calls)
                sent = ses.counts["SendBulkEmail"] + ses.counts["SendEmail"]
                while ses.counts["SendBulkEmail"] + ses.counts["SendEmail"] == sent:
                    await asyncio.sleep(0.01)
            await until(lambda: _is(clients(was), 0))
        status = await mailer.wait(campaign)
        assert status.counts == {"sent": ROWS}
        for id in singles:
            await until(lambda id=id: _sent(mailer, id))  # type: ignore[misc]
        assert (await ready(runtime))["redis"].ok
    told = [line for line in said if "redis" in line["event"]]
    assert all(line["log_level"] != "error" for line in said), said
    assert {line["reason"] for line in told if "reason" in line} <= {
        "it is a replica, which cannot be written to",
        "it has just become a replica, which cannot be written to",
        "it ended the connection",
    }
    everybody = [f"r{n}@example.org" for n in range(ROWS)] + [f"single{n}@example.org" for n in range(6)]
    assert sorted(recipients(ses)) == sorted(everybody)


def recipients(ses: Simulator) -> list[str]:
    return [parseaddr(address)[1] for entry in ses.log for address in entry.recipients]


async def _at_least(ses: Simulator, n: int) -> bool:
    return len(recipients(ses)) >= n


async def _is(found: Awaitable[int], wanted: int) -> bool:
    return await found == wanted


async def _sent(mailer: Mailer, id: str) -> bool:
    return (await mailer.status(id)).state == "sent"


async def test_an_idle_worker_leaves_the_demoted_server_too_and_says_that_it_was_away(
    settings: Settings, ses: Simulator, pair: tuple[RedisServer, RedisServer]
) -> None:
    was, becomes = pair
    async with Name(was).open() as name, running_worker(named(settings, name)) as runtime:
        with capture_logs() as said:
            await fail_over(was, becomes)
            await until(lambda: _says(runtime, "it is a replica, which cannot be written to"), within=4)
            await until(lambda: _told(said, "redis refuses what it is asked for"))
            name.leads_to = becomes
            await until(lambda: _says(runtime, "answers, and takes writes"), within=4)
            await until(lambda: _is(clients(was), 0), within=4)
            await until(lambda: _told(said, "redis takes writes again"))
    told = [line for line in said if "redis" in line["event"] and line["log_level"] != "debug"]
    assert [line["log_level"] for line in told] == ["warning"] * (len(told) - 1) + ["info"]
    reasons = [line["reason"] for line in told[:-1]]
    assert sorted(reasons) == sorted(set(reasons)), "each is told once"


async def _says(runtime: Runtime, words: str) -> bool:
    check = (await ready(runtime))["redis"]
    return check.detail == words and check.ok is (words == "answers, and takes writes")


async def _told(said: Sequence[MutableMapping[str, Any]], event: str) -> bool:
    return event in [line["event"] for line in said]


async def test_where_nothing_else_becomes_the_master_it_is_told_as_what_it_is_and_nothing_was_stored(
    settings: Settings, pair: tuple[RedisServer, RedisServer], capsys: pytest.CaptureFixture[str]
) -> None:
    was, becomes = pair
    async with Name(was).open() as name, Mailer(named(settings, name), timeout=1.5) as mailer:
        await mailer.send(letter(1))
        await fail_over(was, becomes)
        with pytest.raises(RedisUnavailable, match=r"it is a replica, which cannot be written to\. Nothing was stored; "):
            await mailer.send(letter(2))
        client = connect(named(settings, name), retries=0)
        found = await doctor.scripts(Ledger(client, settings.namespace), client)
        await disconnect(client)
        assert found.state is Found.WRONG
        assert "it is a replica, which cannot be written to" in found.found


async def test_what_is_read_in_the_middle_of_it_is_not_read_from_the_demoted_server_for_long(
    settings: Settings, pair: tuple[RedisServer, RedisServer]
) -> None:
    was, becomes = pair
    async with Name(was).open() as name:
        client = connect(named(settings, name), timeout=10)
        await asyncio.gather(*(client.set(f"t:{n}", 1) for n in range(20)))  # so many connections
        await fail_over(was, becomes)
        writing = asyncio.ensure_future(client.set("t:x", 2))
        await asyncio.sleep(0.3)
        name.leads_to = becomes
        await writing
        assert await clients(was) == 0, "also of those that nobody has used since"
        assert await asyncio.gather(*(client.get("t:x") for _ in range(20))) == [b"2"] * 20
        await disconnect(client)


async def test_a_wake_up_that_met_a_replica_is_queued_with_the_next_master(
    settings: Settings, pair: tuple[RedisServer, RedisServer]
) -> None:
    was, becomes = pair
    async with Name(was).open() as name:
        client, keys = connect(named(settings, name), timeout=10), Keys(settings.namespace)
        await client.ping()
        await fail_over(was, becomes)
        waking = asyncio.ensure_future(Queue(client, keys).wake(Lane.BULK, "c1-0"))
        await asyncio.sleep(0.5)
        assert not waking.done()
        name.leads_to = becomes
        await waking
        assert await client.zrange(keys.queue(Lane.BULK), 0, -1) == [b"c1-0:0"]
        await disconnect(client)
