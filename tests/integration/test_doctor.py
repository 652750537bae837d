"""`mailer doctor`: each thing that can be wrong is named, with what to do, and costs none of the other checks."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aioboto3
import pytest
from aiohttp import web

from mailer import Mailer, Sender, Settings
from mailer.cli.processes import free_port
from mailer.doctor import Finding, Patient, State, examine, redis
from mailer.doctor.account import standing
from mailer.doctor.senders import TYPES
from mailer.errors import ConfigError
from mailer.ledger import Ledger
from mailer.message.sender import ListUnsubscribe
from mailer.queue import connect, disconnect
from mailer.ses.gateway import Gateway
from mailer.simulator import Fault, Kind, Simulator, SimulatorConfig
from mailer.simulator.catalogue import create_configuration_set_event_destination as put_destination
from mailer.simulator.control import AccountChange, change_account
from worker.runtime import Runtime
from worker.sns import Endpoint

from ..conftest import running_worker, simulated_ses
from ..servers import RedisServer, has_waitaof, version
from .forks import Forks

OK, WARNING, WRONG, UNSEEN = State
MAILER = str(Path(sys.executable).with_name("mailer"))
NEWS = Sender.model_validate({"from": "News <news@example.com>", "configuration_set": "news"})
OTHER = Sender.model_validate({"from": "x@other.example"})


async def look(settings: Settings, **more: Any) -> dict[str, list[Finding]]:
    """By the name of the check. Whatever is wrong, each is there and says what to do."""
    patient: dict[str, Any] = {"senders": settings.senders, **more}
    found: dict[str, list[Finding]] = {}
    for one in await examine(Patient(settings=settings, **patient)):
        assert one.found, one
        assert bool(one.do) is (one.state in (WARNING, WRONG)), one
        assert "Traceback" not in one.found + one.do
        assert "mistake in it" not in one.found, one
        found.setdefault(one.check, []).append(one)
    assert {"settings", "versions", "redis commands", "templates", "events", "worker"} <= found.keys()
    return found


def told(found: dict[str, list[Finding]], check: str) -> tuple[State, str]:
    (one,) = found[check]
    return one.state, f"{one.found} → {one.do}" if one.do else one.found


def changed(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update=values)


async def look_at_redis(url: str, *, whole: bool = True) -> dict[str, list[Finding]]:
    """Its own checks only, which is quicker."""
    settings, found = Settings(redis_url=url), dict[str, list[Finding]]()
    client = connect(settings, retries=0)
    seen = await redis.redis(settings, client)
    if whole:
        seen += [await redis.scripts(Ledger(client, "mailer"), client), await redis.clock(client)]
    for one in seen:
        assert bool(one.do) is (one.state in (WARNING, WRONG)), one
        found.setdefault(one.check, []).append(one)
    await disconnect(client)
    return found


# ---- everything in order ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def sqs(moto: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto)
    async with aioboto3.Session().client("sqs", endpoint_url=moto, region_name="eu-west-1") as client:
        yield client


async def a_queue(client: Any, name: str, *, dead_letters: bool) -> str:
    attributes = {}
    if dead_letters:
        dead = (await client.create_queue(QueueName=f"{name}-dead"))["QueueUrl"]
        arn = (await client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
        attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    return str((await client.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"])


def destination(*types: str, enabled: bool = True, to: str = "SnsDestination") -> dict[str, Any]:
    return {"Enabled": enabled, "MatchingEventTypes": list(types), to: {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:events"}}


def add(ses: Simulator, name: str, **what: Any) -> None:
    put_destination(ses, {"EventDestinationName": name, "EventDestination": destination(*TYPES, **what)}, "news")


@pytest.fixture
async def account(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    config = SimulatorConfig(max_send_rate=14, max_24h=50_000, configuration_sets=("news",))
    async with simulated_ses(monkeypatch, config) as ses:
        yield ses


async def test_where_everything_is_in_order_each_line_says_what_was_seen(
    settings: Settings, account: Simulator, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    add(account, "to-sns")
    async with sqs(moto, monkeypatch) as client:
        url = await a_queue(client, "events", dead_letters=True)
        # By the second, on a busy machine, the worker would seem to be gone.
        whole = changed(settings, senders={"news": NEWS}, events_sqs_url=url, intake_fsync=has_waitaof(), account_refresh_s=4)
        async with running_worker(whole) as runtime:
            async with asyncio.timeout(10):
                while not (known := await runtime.suppressed.ses_list(runtime.own.account)).synced_at or not known.whole_at:
                    await asyncio.sleep(0.02)
            found = await look(whole, to="ana@example.org")
    assert [one for each in found.values() for one in each if one.state is not OK] == []
    del found["versions"], found["settings"], found["redis memory"], found["redis clock"]
    port = settings.redis_url.rpartition(":")[2].partition("/")[0]
    kind, number = version()
    lines = [re.sub(r"\b[0-4](?= s ago)", "0", f"{check}: {one.found}") for check, each in found.items() for one in each]
    assert lines == [
        f"redis: redis://127.0.0.1:{port}/0 answers: {kind} {'.'.join(map(str, number))}",
        "redis persistence: append-only file, appendfsync everysec: a power cut takes the last second, two where the disk is "
        "slow",
        f"redis commands: scripts run, and {settings.namespace}:* can be written",
        "intake on disk: "
        + (
            "Redis can say what is on its disk (WAITAOF)"
            if has_waitaof()
            else "MAILER_INTAKE_FSYNC is not set: what is handed over is on the disk when appendfsync says so"
        ),
        "store: redis: lists stay in Redis",
        f"templates: 1 of {settings.templates_dir} compile: letter",
        "unsubscribe key: MAILER_SECRET_KEY is not set, and no sender here needs it",
        "aws credentials: from environment variables; account 123456789012; region eu-west-1",
        f"ses account: {os.environ['AWS_ENDPOINT_URL_SESV2']} answers",
        "ses access: production: it may send to anyone",
        "ses sending: enabled; the account is healthy",
        "ses quota: 14 recipients/s; 0 of 50,000 recipients of 24 h used",
        "ses clock: as this machine's",
        "ses identities: 1 verified",
        "ses permissions: reading is allowed; sending cannot be tried without sending",
        "suppression list: 0 entries of our own, 0 of SES's, read 0 s ago",
        "sender news: news@example.com is verified; configuration set news; region eu-west-1",
        "events of news: the set news reports all that is read, by to-sns",
        f"events: from SQS, {url}",
        "events queue: answers; 0 wait, 0 are being applied; it has a dead-letter queue",
        f"worker: 1 alive: {socket.gethostname()}:{os.getpid()} (transactional, bulk); SES was asked 0 s ago; "
        "jobs that wait: 0 transactional, 0 bulk",
        "recipient: ana@example.org may be written to: the account is out of the sandbox",
        "suppression of ana@example.org: neither on our own list nor, for a reason that holds, on SES's",
    ]


async def test_nothing_that_is_looked_at_is_changed(settings: Settings, account: Simulator) -> None:
    async with Mailer(settings) as mailer:
        keys = set(await mailer._redis.keys("*"))
        await look(settings, to="ana@example.org")
        assert set(await mailer._redis.keys("*")) - keys <= {f"{settings.namespace}:mark".encode()}
    assert not {name for name, n in account.counts.items() if n and name.startswith(("Send", "Put", "Create", "Delete"))}


# ---- Redis -----------------------------------------------------------------------------------------------------------

LIMITED = ("--user", "limited", "on", ">sesame", "~*", "&*", "+@all")
BY_HAND = "look by hand: Redis 7.0 or Valkey 7.2 at least, no cluster, appendonly yes"


@pytest.mark.parametrize(
    ("options", "login", "check", "state", "words"),
    [
        (("--appendonly", "no"), "", "redis persistence", WRONG, "nothing is written to the disk.*→ set appendonly yes"),
        (("--appendonly", "no", "--save", "3600 1"), "", "redis persistence", WARNING, "snapshots only.*→ set appendonly yes"),
        (("--appendfsync", "no"), "", "redis persistence", WARNING, "some 30 s with it → set appendfsync everysec, or always"),
        (("--appendfsync", "always"), "", "redis persistence", OK, "a power cut takes nothing"),
        (
            ("--maxmemory", "99mb", "--maxmemory-policy", "allkeys-lru"),
            "",
            "redis memory",
            WRONG,
            "→ set maxmemory-policy noevic",
        ),
        (
            ("--maxmemory-policy", "volatile-ttl"),
            "",
            "redis memory",
            WARNING,
            "no maxmemory, volatile-ttl.*→ set maxmemory-policy",
        ),
        (("--maxmemory", "500kb"), "", "redis memory", WRONG, "it is full, and takes nothing more → give it more maxmemory"),
        (("--maxmemory", "500kb"), "", "redis commands", WRONG, "its memory is full .maxmemory. → give it more maxmemory"),
        (
            ("--replicaof", "127.0.0.1", "1"),
            "",
            "redis role",
            WRONG,
            "a replica.*of 127.0.0.1:1 → set MAILER_REDIS_URL to the mas",
        ),
        (
            ("--replicaof", "127.0.0.1", "1"),
            "",
            "redis commands",
            WRONG,
            "it is a replica, which cannot be written to → set MAILER_REDIS_URL to the master",
        ),
        (("--cluster-enabled", "yes", "--cluster-port", str(free_port())), "", "redis role", WRONG, "cluster mode is on"),
        (
            (*LIMITED, "-config"),
            "limited:sesame@",
            "redis persistence",
            WARNING,
            "how often it is synced cannot be seen → CONFIG",
        ),
        (
            (*LIMITED, "-config", "--appendonly", "no"),
            "limited:sesame@",
            "redis persistence",
            WARNING,
            "whether there are snapshots",
        ),
        ((*LIMITED, "-info"), "limited:sesame@", "redis", WARNING, f"does not let this user see INFO → {BY_HAND}"),
        (
            (*LIMITED, "-@scripting"),
            "limited:sesame@",
            "redis commands",
            WRONG,
            r"this user may not run: eval, evalsha, .*→ run: ACL SETUSER limited on >PASSWORD resetkeys ~mailer:\* .*\+evalsha",
        ),
        (
            (*LIMITED, "-info", "-config", *(["-waitaof"] if has_waitaof() else [])),
            "limited:sesame@",
            "redis commands",
            OK,
            "scripts run",
        ),
        (
            (*LIMITED, "-@all", "+ping"),
            "limited:sesame@",
            "redis commands",
            WRONG,
            "this user may not run: select, time.*xinfo",
        ),
        (
            (*LIMITED, "resetkeys", "~arq:*", "~mail:*"),
            "limited:sesame@",
            "redis commands",
            WRONG,
            "this user may not use the keys mailer:.* → run: ACL SETUSER limited",
        ),
        (
            ("--requirepass", "sesame"),
            "",
            "redis",
            WRONG,
            "it wants a user and password → put the right user and password into MAILER_REDIS_URL",
        ),
        (
            ("--requirepass", "sesame"),
            ":other@",
            "redis",
            WRONG,
            "it does not take this user and password → put the right user and password",
        ),
        (("--rename-command", "CONFIG", ""), "", "redis persistence", WARNING, "cannot be seen"),
    ],
)
async def test_a_redis_that_is_set_up_wrongly(options: Sequence[str], login: str, check: str, state: State, words: str) -> None:
    server = RedisServer(options=options)
    try:
        server.start()
        found = await look_at_redis(server.url.replace("://", f"://{login}"))
        assert found[check][0].state is state, found[check]
        assert re.search(words, told(found, check)[1]), told(found, check)
        assert "sesame" not in str(found)
    finally:
        server.remove()


UNKNOWN = b"-ERR unknown command\r\n"


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A server that says this to whatever it is sent; nothing at all, where that is None."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(4096):
            for word in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)", asked):
                if answer is not None:
                    writer.write({b"PING": b"+PONG\r\n", b"INFO": answer}.get(word, answer if answer[:1] != b"$" else UNKNOWN))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def info(text: str) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (info("redis_version:5.0.14\r\nrole:master\r\n"), r"Redis 5\.0\.14 is too old → use Redis 7\.0 or a later one"),
        (
            info("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.1.0\r\n"),
            r"Valkey 7\.1\.0 is too old → use Valkey 7\.2",
        ),
        (info("redis_version:unstable\r\n"), "whose version cannot be read"),
        (info("redis_version:7.4.1\r\nloading:1\r\n"), "still loading its data → wait until it has"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading its data → wait until it has"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is not Redis → set MAILER_REDIS_URL"),
        (UNKNOWN, f"does not let this user see INFO → {BY_HAND}"),
        (None, "it does not answer in time → see its log and load"),
    ],
)
async def test_what_answers_in_the_place_of_a_redis(answer: bytes | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailer.redis.connection.SOCKET_TIMEOUT_S", 0.3)
    async with answering(answer) as place:
        found = await look_at_redis(f"redis://{place}/0", whole=False)
    assert re.search(words, told(found, "redis")[1]), told(found, "redis")


async def test_a_redis_that_cannot_say_what_is_on_its_disk_is_wrong_where_that_is_asked_for(account: Simulator) -> None:
    server = RedisServer(options=("--appendonly", "no"))
    try:
        server.start()
        found = await look(Settings(redis_url=server.url, intake_fsync=True))
        words = "MAILER_INTAKE_FSYNC: Redis writes no append-only file → start it with `appendonly yes`, or unset the setting"
        assert told(found, "intake on disk") == (WRONG, words)
    finally:
        server.remove()


async def test_without_a_redis_all_the_rest_is_looked_at(settings: Settings, account: Simulator) -> None:
    found = await look(changed(settings, redis_url="redis://127.0.0.1:1/0", senders={"news": NEWS}), to="ana@example.org")
    assert told(found, "redis") == (WRONG, "redis://127.0.0.1:1/0: nothing answers there → start it, or set MAILER_REDIS_URL")
    assert {check for check, each in found.items() if each[0].state is WRONG} == {"redis"}
    unknown = {check for check, each in found.items() if each[0].state is UNSEEN}
    assert unknown == {"redis commands", "redis clock", "suppression list", "worker", "suppression of ana@example.org"}
    assert told(found, "worker") == (UNSEEN, "not known: see `redis`")
    assert found["sender news"][0].state is OK


# ---- SES -------------------------------------------------------------------------------------------------------------


def denied(operation: str, action: str) -> Fault:
    message = f"User: arn:aws:iam::123456789012:user/x is not authorized to perform: {action}"
    return Fault(kind=Kind.ERROR, operation=operation, code="AccessDeniedException", status=403, message=message)


ACCOUNTS: list[tuple[dict[str, Any], str, State, str]] = [
    ({"max_24h": -1}, "ses quota", OK, "no limit in 24 h"),
    (
        {"max_24h": 50_000, "sent_24h": 46_000},
        "ses quota",
        WARNING,
        "46,000 of 50,000 recipients of 24 h used: it is nearly used up",
    ),
    ({"sent_24h": 50_000}, "ses quota", WRONG, "it is used up → wait until"),
    ({"production": False}, "ses access", WARNING, "sandbox: only verified addresses.*→ for more, request production access"),
    ({"enforcement": "PROBATION"}, "ses sending", WARNING, "standing is PROBATION.*→ answer the case"),
    ({"sending_enabled": False}, "ses sending", WRONG, "paused.*→ aws sesv2 put-account-sending-attributes --sending-enabled"),
    ({"suspended": True}, "ses sending", WRONG, "AWS has shut down.*→ answer the case in the AWS Support Center"),
]


async def test_an_account_that_may_not_send(account: Simulator) -> None:
    async with Gateway() as gateway:
        for change, check, state, words in ACCOUNTS:
            change_account(account, AccountChange(**change))
            found = {one.check: [one] for one in standing(await gateway.account(), "")}
            assert found[check][0].state is state, found[check]
            assert re.search(words, told(found, check)[1]), told(found, check)


async def test_an_account_in_which_a_worker_has_to_write_to_sess_suppression_list(account: Simulator) -> None:
    async with Gateway() as gateway:
        assert "ses suppression" not in {one.check for one in standing(await gateway.account(), "")}
        account.suppressed_reasons = ("COMPLAINT",)
        found = {one.check: [one] for one in standing(await gateway.account(), "")}
    words = "^who bounces does not come on.*needs ses:PutSuppressedDestination → let SES do it: aws .* BOUNCE COMPLAINT --region"
    assert re.search(words, told(found, "ses suppression")[1]), found["ses suppression"]


EVENTS = "→ allow ses:GetConfigurationSetEventDestinations to the role, or see by hand that it has an event destination"
FORBIDDEN: list[tuple[list[Fault], list[tuple[str, State, str]]]] = [
    (
        [
            denied("GetAccount", "ses:GetAccount"),
            denied("ListEmailIdentities", "ses:ListEmailIdentities"),
            denied("ListSuppressedDestinations", "ses:x"),
            denied("GetEmailIdentity", "ses:x"),
        ],
        [
            ("ses account", WRONG, "not authorized.*→ the worker's role needs ses:GetAccount"),
            ("ses identities", WRONG, "role needs ses:ListEmailIdentities"),
            ("ses permissions", WRONG, "role needs ses:ListSuppressedDestinations"),
            ("sender news", WRONG, "role needs ses:GetEmailIdentity"),
        ],
    ),
    ([denied("GetConfigurationSet", "ses:x")], [("sender news", WRONG, "role needs ses:GetConfigurationSet")]),
    (
        [
            denied("GetEmailTemplate", "ses:x"),
            denied("GetConfigurationSetEventDestinations", "ses:x"),
            denied("GetSuppressedDestination", "ses:x"),
        ],
        [
            ("ses permissions", WARNING, "ses:GetEmailTemplate, without which.*→ allow it"),
            ("events of news", WARNING, EVENTS),
            ("suppression of ana@example.org", WARNING, "SES's was not asked"),
            ("sender news", OK, "is verified"),
        ],
    ),
    (
        [Fault(kind=Kind.ERROR, code="UnrecognizedClientException", status=403, message="The security token is invalid.")],
        [
            ("ses account", WRONG, "security token is invalid.*→ give this process valid AWS credentials"),
            ("ses permissions", UNSEEN, "see `ses account`"),
            ("sender news", UNSEEN, "see `ses account`"),
        ],
    ),
]


@pytest.mark.parametrize(("faults", "expected"), FORBIDDEN, ids=["the needed", "sets", "the useful", "all"])
async def test_what_a_role_may_not_ask(
    faults: list[Fault], expected: list[tuple[str, State, str]], settings: Settings, account: Simulator
) -> None:
    account.faults.set(faults)
    found = await look(changed(settings, senders={"news": NEWS}), to="ana@example.org")
    for check, state, words in expected:
        assert found[check][0].state is state, found[check]
        assert re.search(words, told(found, check)[1]), told(found, check)


async def test_senders_that_ses_would_refuse(settings: Settings, account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    account.configuration_sets["news"].sending_enabled = False
    senders = {
        "news": NEWS,
        "other": OTHER,
        "gone": Sender.model_validate({"from": "a@example.com", "configuration_set": "gone"}),
        "plain": Sender.model_validate({"from": "a@example.com"}),
        "away": Sender.model_validate({"from": "a@example.com", "region": "us-east-1", "endpoint_url": "http://127.0.0.1:1"}),
        "leave": Sender(from_="a@example.com", list_unsubscribe=ListUnsubscribe(url="https://example.com/{token}")),
    }
    found = await look(changed(settings, senders=senders), from_="y@other.example")
    set_paused = (
        "aws sesv2 put-configuration-set-sending-options --sending-enabled --configuration-set-name news --region eu-west-1"
    )
    verify = "aws sesv2 create-email-identity --region eu-west-1 --email-identity other.example"
    assert told(found, "sender news") == (WRONG, f"sending is paused for its configuration set news → {set_paused}")
    unverified = "{} is not verified in SES (region eu-west-1) → verify it or its domain: " + verify
    assert told(found, "sender other") == (WRONG, unverified.format("x@other.example"))
    assert told(found, "sender y@other.example") == (WRONG, unverified.format("y@other.example"))
    state, words = told(found, "sender gone")
    assert (state, "SES has no configuration set" in words, "create it there" in words) == (WRONG, True, True)
    assert told(found, "sender plain") == (OK, "a@example.com is verified; no configuration set; region eu-west-1")
    assert found["events of plain"][0].state is WARNING
    assert found["ses account of away"][0].state is WRONG
    assert "SES was not reached" in found["ses account of away"][0].found
    for check in ("ses permissions of away", "sender away"):
        assert told(found, check) == (UNSEEN, "not known: see `ses account of away`")
    assert told(found, "unsubscribe key")[0] is WRONG
    assert "list_unsubscribe of leave" in told(found, "unsubscribe key")[1]
    only = await look(settings, senders={"plain": senders["plain"]}, own=False)
    assert "sender other" not in only


async def test_a_sender_by_a_role_is_looked_at_with_that_role(
    settings: Settings, account: Simulator, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = Sender.model_validate({"from": "a@example.com", "role_arn": "arn:aws:iam::210987654321:role/mailer"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    found = await look(changed(settings, senders={"away": role}))
    assert told(found, "aws credentials of away")[1].startswith("from a role that is assumed; account 210987654321")
    assert [found[check][0].state for check in ("ses account of away", "sender away", "aws credentials")] == [OK, OK, OK]
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    found = await look(changed(settings, senders={"away": role}))
    assert [found[check][0].state for check in ("aws credentials of away", "sender away")] == [WRONG, UNSEEN]
    assert found["ses account"][0].state is OK


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([], "the set news has no enabled event destination that goes to SNS or EventBridge → add them"),
        ([{"enabled": False}], "has no enabled event destination"),
        ([{"to": "CloudWatchDestination"}], "has no enabled event destination"),
        ([{"to": "EventBridgeDestination"}], ""),
    ],
)
async def test_events_that_do_not_come(there: list[dict[str, Any]], words: str, settings: Settings, account: Simulator) -> None:
    for number, one in enumerate(there):
        add(account, f"d{number}", **one)
    found = await look(changed(settings, senders={"news": NEWS}))
    assert found["events of news"][0].state is (WARNING if words else OK)
    assert words in told(found, "events of news")[1]
    assert told(found, "events")[0] is WARNING


async def test_an_event_type_that_is_missing_is_named(settings: Settings, account: Simulator) -> None:
    for name, types in (("one", ("SEND", "BOUNCE", "COMPLAINT")), ("two", ("DELIVERY", "REJECT", "RENDERING_FAILURE"))):
        put_destination(account, {"EventDestinationName": name, "EventDestination": destination(*types)}, "news")
    found = await look(changed(settings, senders={"news": NEWS}))
    assert "the set news does not report DELIVERY_DELAY, SUBSCRIPTION →" in told(found, "events of news")[1]


async def test_the_recipient(settings: Settings, account: Simulator) -> None:
    change_account(account, AccountChange(production=False))
    account.suppress("bo@example.com", "COMPLAINT")
    async with Mailer(settings) as mailer:
        await mailer.suppress("ana@example.org", stream="news")
    whole = changed(settings, senders={"news": NEWS})
    found = await look(whole, to="ana@example.org")
    state, words = told(found, "recipient")
    assert (state, "ana@example.org is not verified →" in words, "create-email-identity" in words) == (WRONG, True, True)
    state, words = told(found, "suppression of ana@example.org")
    assert (state, words.endswith("→ mailer suppression remove ana@example.org --stream news")) == (WRONG, True)
    found = await look(whole, to="bo@example.com")
    assert told(found, "recipient")[0] is OK
    state, words = told(found, "suppression of bo@example.com")
    assert (state, "its owner complained" in words) == (WRONG, True)
    assert told(await look(whole, to="success@simulator.amazonses.com"), "recipient")[0] is OK


NONE_THERE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize(
    ("unset", "words"),
    [
        (NONE_THERE, "Unable to locate credentials → give this process valid AWS credentials"),
        (NONE_THERE[1:], "Partial credentials"),
        (("AWS_REGION",), "You must specify a region → set AWS_REGION"),
    ],
)
async def test_aws_that_is_not_set_up(
    unset: Sequence[str], words: str, settings: Settings, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in unset:
        monkeypatch.delenv(name)
    found = await look(changed(settings, senders={"news": NEWS}), to="ana@example.org")
    assert words in told(found, "aws credentials")[1]
    assert found["redis"][0].state is OK
    assert found["aws credentials"][0].state is WRONG
    assert {found[check][0].state for check in ("ses account", "sender news", "recipient")} == {UNSEEN}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", None])
async def test_an_endpoint_that_is_not_there_or_does_not_answer(
    url: str | None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url is None:
        monkeypatch.setattr("mailer.doctor.examination.CHECK_S", 3.0)
    async with answering(None) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", url or f"http://{silent}")
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url or f"http://{silent}")
        whole = changed(settings, senders={"news": NEWS}, events_sqs_url="http://127.0.0.1:1/1/events")
        started = time.monotonic()
        found = await look(whole, to="ana@example.org")
        assert time.monotonic() - started < 15
    checks = ("ses account", "ses clock", "sender news", "recipient", "events queue")
    assert {found[check][0].state for check in checks} <= {WRONG, UNSEEN}, found
    words = {None: "no answer within 3 s", "nonsense": "must be a URL", "http://127.0.0.1:1": "SES was not reached"}[url]
    assert any(words in told(found, check)[1] for check in ("aws credentials", "ses account"))
    assert {found[check][0].state for check in ("redis", "redis commands", "redis persistence")} == {OK}


async def test_a_clock_that_aws_would_refuse(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: web.Request) -> web.Response:
        then = format_datetime(datetime.now(UTC) + timedelta(minutes=20), usegmt=True)
        body = {"message": "Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z"}
        return web.json_response(body, status=403, headers={"Date": then, "x-amzn-ErrorType": "InvalidSignatureException"})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", f"http://127.0.0.1:{runner.addresses[0][1]}")
    found = await look(settings)
    await runner.cleanup()
    state, words = told(found, "ses clock")
    assert (state, re.search(r"is 1,(199|200) s behind it, and AWS refuses signatures → let this", words) is not None) == (
        WRONG,
        True,
    )
    assert "→ set this machine's clock" in told(found, "ses account")[1]


# ---- the rest --------------------------------------------------------------------------------------------------------


async def test_the_queue_of_events(settings: Settings, account: Simulator, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sqs(moto, monkeypatch) as client:
        plain = await a_queue(client, "plain", dead_letters=False)
        await client.send_message(QueueUrl=plain, MessageBody="{}")
        found = await look(changed(settings, events_sqs_url=plain))
        assert told(found, "events queue")[1].startswith(
            "answers; 1 wait, 0 are being applied; it has no dead-letter queue → give it"
        )
        assert told(found, "events") == (OK, f"from SQS, {plain}")
        found = await look(changed(settings, events_sqs_url=f"{plain}-gone", events_topic_arns=("arn:aws:sns:x",)))
        assert told(found, "events queue")[0] is WRONG
        assert told(found, "events")[0] is WRONG
        assert "'arn:aws:sns:x' is not the ARN of an SNS topic" in told(found, "events")[1]


async def test_a_topic_with_which_a_worker_does_not_start_is_wrong(settings: Settings, account: Simulator) -> None:
    arn = "arn:aws-iso:sns:us-iso-east-1:123456789012:events"
    wanted = changed(settings, events_topic_arns=(arn,))
    found = await look(wanted)
    why = f"MAILER_EVENTS_TOPIC_ARNS: {arn} is of the partition aws-iso, whose SNS is not known here"
    assert told(found, "events") == (WRONG, f"{why} → correct it")
    async with Runtime(wanted) as runtime:
        with pytest.raises(ConfigError, match=re.escape(why)):
            Endpoint(runtime.redis, runtime.ledger.keys, wanted.events_topic_arns)


async def test_stores(settings: Settings, account: Simulator, moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    async with aioboto3.Session().client("s3", endpoint_url=moto) as client:
        await client.create_bucket(Bucket="doctors", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        good = ("s3://doctors/june", f"file://{tmp_path}/store")
        for url in good:
            assert told(await look(changed(settings, store_url=url)), "store")[0] is OK
        assert "Contents" not in await client.list_objects_v2(Bucket="doctors")
        await client.delete_bucket(Bucket="doctors")
    assert list((tmp_path / "store").iterdir()) == []
    state, words = told(await look(changed(settings, store_url="s3://doctors/june")), "store")
    assert (state, "there is no bucket doctors → create it, or correct the name" in words) == (WRONG, True)
    state, words = told(await look(changed(settings, store_url=f"file://{tmp_path}/no/store")), "store")
    assert (state, words.endswith("there is no folder " + f"{tmp_path}/no → make it")) == (WRONG, True)


async def test_templates_that_do_not_compile_are_named_and_none_is_a_hint(
    settings: Settings, account: Simulator, templates: Path
) -> None:
    (templates / "broken").mkdir()
    (templates / "broken" / "subject.txt").write_text("Hello {{ name")
    (templates / "broken" / "body.html").write_text("x")
    (templates / "bodiless").mkdir()
    (templates / "bodiless" / "subject.txt").write_text("Hello")
    found = await look(settings)
    assert [one.state for one in found["templates"]] == [WRONG, WRONG]
    assert "Template broken does not compile" in found["templates"][1].found
    assert told(await look(changed(settings, templates_dir=templates / "none")), "templates")[0] is WARNING


def own_redis(mailer: Mailer) -> Any:
    return mailer._redis


async def test_a_worker_that_is_not_there_or_cannot_ask(settings: Settings, account: Simulator) -> None:
    assert told(await look(settings), "worker")[1].startswith("none has run here yet")
    async with Mailer(settings) as mailer, running_worker(settings):
        async with asyncio.timeout(20):
            while told(await look(settings), "worker")[0] is not OK:  # it has not written its first heartbeat yet
                await asyncio.sleep(0.1)
        accounts = mailer._ledger.keys.account("eu-west-1")
    async with Mailer(settings) as mailer:
        await own_redis(mailer).hincrby(accounts, "refreshed_at", -10_000)
        assert told(await look(settings), "worker")[1].startswith("none seems to run: SES was asked 1")
        await own_redis(mailer).hset(accounts, "trouble", "Unable to locate credentials")
        assert told(await look(settings), "worker")[0] is WRONG


# ---- the command -----------------------------------------------------------------------------------------------------


def installation(tmp_path: Path, settings: Settings, toml: str = "") -> dict[str, str]:
    (tmp_path / "mailer.toml").write_text(toml)
    return {**os.environ, "MAILER_REDIS_URL": settings.redis_url, "MAILER_NAMESPACE": settings.namespace}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


async def command(forks: Forks, environment: dict[str, str], *words: str) -> tuple[int, str, str]:
    status, out, err = await asyncio.to_thread(forks.run, ("doctor", *words), Path.cwd(), environment, "")
    assert "Traceback" not in err
    return status, out, err


async def test_the_command_prints_lines_and_json_and_ends_with_what_was_found(
    settings: Settings, account: Simulator, tmp_path: Path, forks: Forks
) -> None:
    toml = '[senders.news]\nfrom = "news@example.com"\n[senders.x]\nfrom = "x@other.example"\n'
    environment = installation(tmp_path, settings, toml)
    status, out, err = await command(forks, environment, "--json")
    found = {one["check"]: one for one in json.loads(out)}
    assert (status, found["sender x"].keys()) == (1, {"check", "state", "found", "do"})
    assert (found["sender x"]["state"], found["sender news"]["state"]) == ("wrong", "ok")
    assert re.fullmatch(r"mailer: 1 of \d+ findings wrong, \d warnings; do what stands beside them\n", err)
    status, lines, said = await command(forks, environment, "--sender", "news")
    assert status == 0
    assert re.fullmatch(r"nothing is wrong, \d warnings\n", said)
    assert all(re.match(r"(ok|warning|wrong) +[a-z]", line) and line == line.rstrip() for line in lines.splitlines())
    assert "\x1b" not in lines + said
    assert "x@other.example" not in lines


@pytest.mark.parametrize(
    ("words", "toml", "status", "said"),
    [
        (("--sender", "nobody"), "", 1, "There is no sender 'nobody'"),
        (("--to", "nobody"), "", 2, "--to: an email address must have an @-sign"),
        (("--from", "a b@example.com"), "", 2, "--from: "),
        (("--bla",), "", 2, "No such option: --bla"),
        ((), "redis_url = 3\n", 1, "1 of 2 findings wrong, 0 warnings"),
        ((), "not toml", 1, "1 of 2 findings wrong, 0 warnings"),
    ],
)
async def test_words_and_settings_that_are_wrong(
    words: Sequence[str], toml: str, status: int, said: str, settings: Settings, tmp_path: Path, forks: Forks
) -> None:
    environment = installation(tmp_path, settings, toml)
    if toml:
        del environment["MAILER_REDIS_URL"]
    ended, out, err = await command(forks, environment, *words)
    assert (ended, said in err) == (status, True), err
    assert (out == "") is (not toml)
    assert not toml or re.search(r"^wrong    settings  .*mailer.toml.* → correct it", out)


async def test_on_a_terminal_it_says_what_it_waits_for_and_what_to_do_is_not_wrapped(
    settings: Settings, account: Simulator, tmp_path: Path
) -> None:
    account.faults.set([Fault(kind=Kind.LATENCY, operation="GetAccount", seconds=1.5)])
    environment = installation(tmp_path, settings, '[senders.x]\nfrom = "x@other.example"\n') | {"COLUMNS": "80", "TERM": "xterm"}
    master, slave = pty.openpty()
    process = subprocess.Popen([MAILER, "doctor"], env=environment, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    text = await asyncio.to_thread(_all_of, master)
    assert process.wait(10) == 1
    assert "waiting for: ses account" in text.replace("\r\n", "")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "").splitlines()
    assert (
        "         → verify it or its domain: aws sesv2 create-email-identity --region eu-west-1 --email-identity other.example"
        in lines
    )
    assert max(len(line) for line in lines if "→" not in line and "waiting for" not in line) <= 80
    assert "\x1b[32mok" in text


def _all_of(master: int) -> str:
    parts = list[bytes]()
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            os.close(master)
            return b"".join(parts).decode()
        parts.append(part)
