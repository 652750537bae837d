"""What a user of Redis has to be allowed: the list that the doctor prints is enough for all of the service, and has no more."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from mailer import Attachment, Campaign, Email, Mailer, Settings
from mailer.doctor import Patient, State, examine
from mailer.doctor import redis as doctor
from mailer.ledger import Ledger
from mailer.message.email import Outcome
from mailer.queue import connect, disconnect
from mailer.redis.access import COMMANDS, LATER, Access, access, rule
from mailer.simulator import SimulatorConfig
from worker import sns
from worker.gauges import collect
from worker.readiness import ready
from worker.runtime import Runtime

from .. import lua
from ..conftest import running_worker, simulated_ses
from ..servers import RedisServer, has_waitaof
from ..ses_events import ANA, published
from ..sns import TOPIC


def unknown() -> list[str]:
    return [] if has_waitaof() else list(LATER)


@pytest.fixture
def locked(own_server: RedisServer, namespace: str) -> Iterator[tuple[Any, str]]:
    """The server's administrator, and the URL of a user with the rights that the doctor names."""
    with redis.Redis.from_url(own_server.url) as admin:
        admin.execute_command(*rule(namespace, "mailer", without=unknown()).split(" "))
        admin.acl_log_reset()
        admin.config_resetstat()
        yield admin, own_server.url.replace("://", "://mailer:PASSWORD@").replace("/0", "/2")


def used(admin: Any) -> set[str]:
    return {name.removeprefix("cmdstat_") for name, stat in admin.info("commandstats").items() if stat["calls"]}


def in_scripts() -> set[str]:
    """All commands of the scripts, run or not."""
    found = {
        match for text in lua.FILES.values() for match in re.findall(r"redis\.p?call\('([A-Z_]+)'(?:, '([A-Z]+)', stream)?", text)
    }
    return {"|".join(filter(None, names)).lower() for names in found}


async def until(condition: Any, within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.05)


def letter(**more: Any) -> Email:
    return Email(**{"to": "ana@example.org", "from_": "news@example.com", "subject": "Hello", "text": "Hello", **more})


def news(**more: Any) -> Campaign:
    return Campaign(name="June", from_="news@example.com", subject="Hello", text="Dear {{ name }}", **more)


def rows(n: int, *, breaks: bool = False) -> Iterator[dict[str, str]]:
    for number in range(n):
        yield {"email": f"r{number}@example.org", "name": "Ana"}
    if breaks:
        raise ValueError("the list breaks")


async def send(mailer: Mailer, key: str) -> None:
    """What applications and commands do, with a worker behind them."""
    ids = [await mailer.send(letter(to="bo@example.org"), idempotency_key=key)]
    ids.append(await mailer.send(letter(to="bo@example.org", attachments=[Attachment(name="a.txt", content=b"a")])))
    later = await mailer.start_campaign(news(send_at=datetime.now(UTC) + timedelta(hours=1)), rows(3))
    assert await mailer.pause(later)
    assert await mailer.resume(later)
    assert await mailer.cancel(later)
    with pytest.raises(ValueError, match="the list breaks"):
        await mailer.start_campaign(news(), rows(1200, breaks=True))
    campaign = await mailer.start_campaign(news(max_rate=5000), rows(1200), idempotency_key=f"list {key}")
    assert (await mailer.wait(campaign)).counts == {"sent": 1200}
    for id in ids:
        await until(lambda id=id: sent(mailer, id))
    await mailer.retry(campaign, [Outcome.FAILED])
    assert len([one async for one in mailer.outcomes(campaign)]) == 1200
    assert len(await mailer.campaigns()) >= 2
    await mailer.suppress("bad@example.org")
    assert await mailer.suppressed("bad@example.org")
    assert await mailer.unsuppress("bad@example.org")


async def sent(mailer: Mailer, id: str) -> bool:
    return (await mailer.status(id)).state == "sent"


async def hear(runtime: Runtime, mailer: Mailer) -> None:
    """An event by SNS, as its endpoint queues it."""
    await runtime.ledger.inbox.notify("n1", {sns.MESSAGE: json.dumps(published("Bounce"))}, life_s=60)
    await until(lambda: suppressed(mailer))


async def suppressed(mailer: Mailer) -> bool:
    return bool(await mailer.suppressed(ANA))


async def test_with_the_printed_list_all_of_the_service_works_and_nothing_in_it_is_needless(
    locked: tuple[Any, str], namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    admin, url = locked
    one = Settings(
        redis_url=url,
        namespace=namespace,
        intake_fsync=has_waitaof(),
        events_topic_arns=(TOPIC,),
        bulk_calls_per_s="unlimited",
        account_refresh_s=1,
    )
    outside = one.model_copy(update={"store_url": f"file://{tmp_path}"})
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=5000, max_24h=100_000)):
        for here, key in ((one, "one"), (outside, "two")):
            async with running_worker(here) as runtime, Mailer(here) as mailer:
                await send(mailer, key)
                await hear(runtime, mailer)
                assert (await ready(runtime))["redis"].ok
                await collect(runtime)
        client = connect(one)
        await doctor.redis(one, client)
        await disconnect(client)
        seen = used(admin)
        findings = await examine(Patient(settings=one, senders={}))  # which tries all of the list
    assert admin.acl_log() == []
    assert [one for one in findings if one.check.startswith("redis") and one.state is not State.OK] == []
    assert set(COMMANDS) - set(unknown()) <= seen | in_scripts(), "and none is needless"
    assert seen | in_scripts() <= set(COMMANDS) | {"auth", "config|resetstat"}
    with redis.Redis.from_url(url.replace("mailer:PASSWORD@", "")) as client:
        assert {key.decode().partition(":")[0] for key in client.keys("*")} == {namespace}, "arq's keys as well"


@pytest.mark.parametrize(
    "command",
    [
        *("FLUSHALL", "FLUSHDB", "SHUTDOWN NOSAVE", "KEYS *", "CONFIG SET maxmemory 1", "ACL LIST", "SAVE"),
        *(
            "REPLICAOF NO ONE",
            "SWAPDB 0 2",
            "CLIENT KILL 1",
            "MONITOR",
            "SCRIPT FLUSH",
            "FUNCTION FLUSH",
            "SORT {own}",
            "MIGRATE h 1 {own} 0 1",
        ),
        *("GET other:x", "SET other:x 1", "PUBLISH x y", "MOVE {own} 3", "RESTORE {own} 0 x"),
    ],
)
def test_with_the_printed_list_nothing_of_others_can_be_read_changed_or_stopped(
    locked: tuple[Any, str], namespace: str, command: str
) -> None:
    admin, url = locked
    with redis.Redis.from_url(url.replace("/2", "/0")) as client:
        client.set(f"{namespace}:own", 1)
        admin.set("other:x", "theirs")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command.format(own=f"{namespace}:own").split(" "))
        assert admin.get("other:x") == b"theirs"


@pytest.mark.parametrize("rights", ["+@all -@dangerous", "+@all -info -config -waitaof"])
async def test_a_worker_sends_without_info(
    own_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch, rights: str
) -> None:
    with redis.Redis.from_url(own_server.url) as admin:
        words = [word for word in rights.split(" ") if has_waitaof() or word != "-waitaof"]
        admin.execute_command("ACL", "SETUSER", "some", "on", ">x", f"~{namespace}:*", *words)
        here = Settings(redis_url=own_server.url.replace("://", "://some:x@"), namespace=namespace, account_refresh_s=1)
        account = SimulatorConfig(max_send_rate=5000, max_24h=100_000)
        async with simulated_ses(monkeypatch, account), running_worker(here), Mailer(here) as mailer:
            id = await mailer.send(letter())
            await until(lambda: sent(mailer, id))
        assert admin.acl_log() == []


@pytest.mark.parametrize("lacking", ["-watch", "-psetex", "-zadd"])
async def test_a_message_whose_queue_cannot_be_told_is_stored_and_that_is_said(
    own_server: RedisServer, namespace: str, lacking: str, tmp_path: Path
) -> None:
    with redis.Redis.from_url(own_server.url) as admin:
        admin.execute_command(*rule(namespace, "mailer", without=unknown()).split(" "), lacking)
        url = own_server.url.replace("://", "://mailer:PASSWORD@")
        environment = {**os.environ, "MAILER_REDIS_URL": url, "MAILER_NAMESPACE": namespace}
        words = [str(Path(sys.executable).with_name("mailer")), "send", "--from", "a@example.com", "--to", "b@example.org"]
        command = [*words, "--subject", "Hello", "--text", "Hello"]
        said = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=30)
        stored = list(admin.keys(f"{namespace}:c:m*"))
        if lacking == "-zadd":  # of its script
            assert (said.returncode, said.stdout) == (1, "")
            assert "Nothing was stored" not in said.stderr, "a part of it was"
            assert "this user may not do that: " in said.stderr
        else:
            assert (said.returncode, said.stdout.strip()) == (0, stored[0].decode().rpartition(":")[2])
            assert "it is stored and will be sent, but its queue could not be told: this user may not do that: " in said.stderr
        client = connect(Settings(redis_url=url, namespace=namespace), retries=0)
        found = await doctor.scripts(Ledger(client, namespace), client)
        await disconnect(client)
        assert (found.state, found.found) == (State.WRONG, f"this user may not run: {lacking[1:]}")


def test_every_command_of_the_list_is_tried_by_the_doctor_with_arguments_that_it_takes(own_server: RedisServer) -> None:
    """Else the server would refuse it for that before it looks who asks."""

    async def tried() -> Access:
        client = connect(Settings(redis_url=own_server.url.replace("://", "://nobody:x@")))
        found = await access(client, "t:trial")
        await disconnect(client)
        return found

    with redis.Redis.from_url(own_server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "nobody", "on", ">x", "~*", "-@all")
        found = asyncio.run(tried())
        assert found.unknown == unknown()
        assert sorted(found.commands) == sorted(set(COMMANDS) - set(unknown()))
        admin.execute_command("ACL", "SETUSER", "nobody", "+@all", "resetkeys")
        assert asyncio.run(tried()).keys
        admin.execute_command("ACL", "SETUSER", "nobody", "allkeys")
        assert asyncio.run(tried()) == Access(commands=[], keys=False, unknown=unknown())
        assert admin.keys("*") == []
