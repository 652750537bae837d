"""The simulated SES's queue of events over a socket: with botocore's client for SQS, and with the worker's own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aioboto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from mailer.errors import QueueUnavailable
from mailer.events import EventType, read
from mailer.ses.sqs import EventQueue
from mailer.simulator import Simulator, SimulatorConfig, serve

PATH = "/123456789012/events"
VISIBILITY_S = 0.4


class Running:
    def __init__(self, simulator: Simulator, base: str, sqs: Any, ses: Any, http: httpx.AsyncClient) -> None:
        self.simulator, self.sqs, self.ses, self.http = simulator, sqs, ses, http
        self.url, self.dead_url = f"{base}{PATH}", f"{base}{PATH}-dead"

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            await self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    async def receive(self, url: str | None = None, wait_s: int = 5, **more: Any) -> list[Any]:
        asked = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": wait_s, "AttributeNames": ["All"], **more}
        return list((await self.sqs.receive_message(QueueUrl=url or self.url, **asked)).get("Messages", ()))

    async def stats(self) -> Any:
        return (await self.http.get("/_simulator/stats")).json()["events"]

    async def until_polled_by(self, n: int) -> None:
        async with asyncio.timeout(5):
            while self.simulator.queues.events.pollers != n:
                await asyncio.sleep(0.01)

    async def mail(self, *to: str) -> None:
        for address in to:
            content = {"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "Hi"}}}}
            await self.ses.send_email(
                FromEmailAddress="news@example.com", Destination={"ToAddresses": [address]}, Content=content,
                EmailTags=[{"Name": "mailer_id", "Value": "m1-0-0-1"}],
            )  # fmt: skip


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        simulator = Simulator(SimulatorConfig(max_send_rate=100_000, events=True, events_visibility_s=VISIBILITY_S))
        url = await stack.enter_async_context(serve(simulator))
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        session = aioboto3.Session(aws_access_key_id="id", aws_secret_access_key="key", region_name="eu-west-1")
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, parameter_validation=False)
        sqs = await stack.enter_async_context(session.client("sqs", endpoint_url=url, config=config))
        ses = await stack.enter_async_context(session.client("sesv2", endpoint_url=url, config=config))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        yield Running(simulator, url, sqs, ses, http)


async def test_what_becomes_of_messages_comes_through_the_queue_as_the_worker_reads_it(running: Running) -> None:
    domain = "simulator.amazonses.com"
    await running.mail("ana@example.org", f"bounce+1@{domain}", f"complaint@{domain}")
    async with EventQueue(running.url) as queue:
        assert await queue.has_dead_letters()
        found = await queue.receive(1)
        events = [read(message.body) for message in found]
        assert Counter(event.type for event in events) == {
            EventType.SEND: 3, EventType.DELIVERY: 2, EventType.BOUNCE: 1, EventType.COMPLAINT: 1,
        }  # fmt: skip
        assert {str(event.attempt) for event in events} == {"m1-0-0-1"}
        assert {event.ses_message_id for event in events} == {entry.id for entry in running.simulator.log}
        assert await queue.delete([message.receipt for message in found]) == 0
    assert await running.stats() == {
        "waiting": 0,
        "in_flight": 0,
        "delayed": 0,
        "deleted": 7,
        "dead": 0,
        "dropped": 0,
        "pollers": 0,
    }


async def test_a_long_poll_ends_as_soon_as_something_is_there(running: Running) -> None:
    polls = [asyncio.create_task(running.receive(wait_s=20)) for _ in range(2)]
    await running.until_polled_by(2)
    async with asyncio.timeout(5):
        await running.send("one")
        done, _ = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        assert [message["Body"] for message in done.pop().result()] == ["one"]
        await running.mail("ana@example.org")
        while not all(poll.done() for poll in polls):
            await asyncio.sleep(0.01)


async def test_a_message_is_hidden_and_comes_again_and_only_its_newest_receipt_deletes_it(running: Running) -> None:
    await running.send("one")
    (first,) = await running.receive()
    assert (await running.stats())["in_flight"] == 1
    assert await running.receive(wait_s=0) == []
    async with asyncio.timeout(5):
        (second,) = await running.receive(wait_s=20)
    assert (first["MessageId"], first["Body"]) == (second["MessageId"], second["Body"])
    assert [one["Attributes"]["ApproximateReceiveCount"] for one in (first, second)] == ["1", "2"]
    await running.sqs.delete_message(QueueUrl=running.url, ReceiptHandle=first["ReceiptHandle"])
    (third,) = await running.receive(VisibilityTimeout=0)
    for _ in range(2):  # hidden no longer, and deleted already: both succeed
        await running.sqs.delete_message(QueueUrl=running.url, ReceiptHandle=third["ReceiptHandle"])
    assert await running.receive(wait_s=0) == []
    assert (await running.stats())["deleted"] == 1


async def test_what_is_never_deleted_goes_to_the_dead_letters(running: Running) -> None:
    await running.send("poison")
    counts = [int((await running.receive(VisibilityTimeout=0))[0]["Attributes"]["ApproximateReceiveCount"]) for _ in range(5)]
    assert counts == [1, 2, 3, 4, 5]
    assert await running.receive(wait_s=0) == []
    assert [message["Body"] for message in await running.receive(running.dead_url)] == ["poison"]
    assert (await running.stats())["dead"] == 1


async def test_several_pollers_never_get_the_same_message(running: Running) -> None:
    """Each of them has a client of its own, and messages come in meanwhile."""
    running.simulator.queues.events.visibility_s = 30
    got = list[str]()

    async def poll() -> None:
        async with EventQueue(running.url) as queue:
            while True:
                found = await queue.receive(20)
                got.extend(message.body for message in found)
                await queue.delete([message.receipt for message in found[::2]])

    polls = [asyncio.create_task(poll()) for _ in range(6)]
    for _ in range(20):
        await running.mail(*(f"u{n}@example.org" for n in range(10)))
    while (await running.stats())["pollers"] != len(polls):
        await asyncio.sleep(0.02)
    for task in polls:
        task.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    assert len(got) == len(set(got)) == 400


async def test_a_poller_that_is_gone_takes_nothing_with_it(running: Running) -> None:
    waiting = asyncio.create_task(running.http.post("/", **raw("ReceiveMessage", QueueUrl=running.url, WaitTimeSeconds=20)))
    await running.until_polled_by(1)
    waiting.cancel()
    await running.until_polled_by(0)
    await running.send("one")
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in await running.receive()] == ["1"]


async def test_stopping_does_not_wait_for_a_long_poll_and_once_started_again_polls_wait(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator(SimulatorConfig(events=True))
    async with httpx.AsyncClient(trust_env=False, timeout=None) as http:
        for _ in range(2):
            async with serve(simulator) as url:
                asked = raw("ReceiveMessage", QueueUrl=f"{url}{PATH}", WaitTimeSeconds=20)
                waiting = asyncio.create_task(http.post(url, **asked))
                async with asyncio.timeout(5):
                    while not simulator.queues.events.pollers:
                        await asyncio.sleep(0.01)
            assert (await waiting).json() == {}
    assert not caplog.records


async def test_the_attributes_say_how_much_there_is_and_where_dead_letters_go(running: Running) -> None:
    await running.send("one", "two", "three")
    await running.sqs.receive_message(QueueUrl=running.url)
    asked = await running.sqs.get_queue_attributes(QueueUrl=running.url, AttributeNames=["All"])
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "QueueArn")
    assert [asked["Attributes"][name] for name in names] == ["2", "1", "arn:aws:sqs:eu-west-1:123456789012:events"]
    policy = json.loads(asked["Attributes"]["RedrivePolicy"])
    dead = await running.sqs.get_queue_attributes(QueueUrl=running.dead_url, AttributeNames=["QueueArn"])
    assert policy == {"deadLetterTargetArn": dead["Attributes"]["QueueArn"], "maxReceiveCount": 5}


async def test_reset_empties_it_and_an_old_receipt_then_deletes_nothing(running: Running) -> None:
    await running.send("one", "two")
    (old, *_) = await running.receive()
    assert (await running.http.post("/_simulator/reset")).json()["events"]["waiting"] == 0
    await running.send("three")
    (new,) = await running.receive()
    await running.sqs.delete_message(QueueUrl=running.url, ReceiptHandle=old["ReceiptHandle"])
    assert (new["Body"], (await running.stats())["in_flight"]) == ("three", 1)


# ---- what is refused -----------------------------------------------------------------------------------------------

OURS = f"http://localhost{PATH}"
ENTRY = {"Id": "a", "ReceiptHandle": "1-1"}


def raw(action: str, **asked: Any) -> Any:
    return {"content": json.dumps(asked), "headers": {"x-amz-target": f"AmazonSQS.{action}"}}


INVALID, MISSING = (
    ("InvalidParameterValueException", "InvalidParameterValue"),
    ("MissingRequiredParameterException", "MissingParameter"),
)
TYPE = ("SerializationException", "MalformedInput")


def old(name: str) -> tuple[str, str]:
    return name, f"AWS.SimpleQueueService.{name}"


# What is asked, the error's shape, and its name in the query protocol.
REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("ReceiveMessage", {"QueueUrl": "http://localhost/1/x"}, ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")),
    ("ReceiveMessage", {}, MISSING),
    ("ReceiveMessage", {"QueueUrl": OURS, "MaxNumberOfMessages": 11}, INVALID),
    ("ReceiveMessage", {"QueueUrl": OURS, "MaxNumberOfMessages": 0}, INVALID),
    ("ReceiveMessage", {"QueueUrl": OURS, "WaitTimeSeconds": 21}, INVALID),
    ("ReceiveMessage", {"QueueUrl": OURS, "VisibilityTimeout": -1}, INVALID),
    ("ReceiveMessage", {"QueueUrl": OURS, "WaitTimeSeconds": "1"}, TYPE),
    ("ReceiveMessage", {"QueueUrl": OURS, "WaitTimeSeconds": True}, TYPE),
    ("ReceiveMessage", {"QueueUrl": OURS, "AttributeNames": [1]}, TYPE),
    ("DeleteMessage", {"QueueUrl": OURS}, MISSING),
    ("DeleteMessage", {"QueueUrl": OURS, "ReceiptHandle": "?"}, ("ReceiptHandleIsInvalid",) * 2),
    ("DeleteMessageBatch", {"QueueUrl": OURS, "Entries": []}, old("EmptyBatchRequest")),
    ("DeleteMessageBatch", {"QueueUrl": OURS, "Entries": ["a"]}, TYPE),
    ("DeleteMessageBatch", {"QueueUrl": OURS, "Entries": [ENTRY] * 11}, old("TooManyEntriesInBatchRequest")),
    ("DeleteMessageBatch", {"QueueUrl": OURS, "Entries": [ENTRY] * 2}, old("BatchEntryIdsNotDistinct")),
    ("DeleteMessageBatch", {"QueueUrl": OURS, "Entries": [{**ENTRY, "Id": "a b"}]}, old("InvalidBatchEntryId")),
    ("SendMessage", {"QueueUrl": OURS, "MessageBody": "a\0b"}, ("InvalidMessageContents",) * 2),
    ("SendMessage", {"QueueUrl": OURS, "MessageBody": "é" * 600_000}, INVALID),
    ("SendMessage", {"QueueUrl": OURS, "MessageBody": "a", "MessageAttributes": {"a": {}}}, old("UnsupportedOperation")),
    ("GetQueueAttributes", {"QueueUrl": OURS, "AttributeNames": ["Nonsense"]}, ("InvalidAttributeName",) * 2),
    ("ListQueues", {}, ("UnknownOperationException", "UnknownOperation")),
]  # fmt: skip


async def test_errors_are_those_of_sqs(running: Running) -> None:
    for action, asked, expected in REFUSED:
        answer = await running.http.post("/", **raw(action, **asked))
        found = answer.json()["__type"].rpartition("#")[2], answer.headers["x-amzn-query-error"].removesuffix(";Sender")
        assert (action, asked, found) == (action, asked, expected)
        assert answer.status_code in (400, 404)


async def test_botocore_knows_the_errors(running: Running) -> None:
    with pytest.raises(running.sqs.exceptions.QueueDoesNotExist):
        await running.sqs.receive_message(QueueUrl=f"{running.url}x")
    with pytest.raises(running.sqs.exceptions.ReceiptHandleIsInvalid):
        await running.sqs.delete_message(QueueUrl=running.url, ReceiptHandle="?")
    with pytest.raises(ClientError, match=r"InvalidParameterValue.+ Value 11 for parameter MaxNumberOfMessages is invalid"):
        await running.sqs.receive_message(QueueUrl=running.url, MaxNumberOfMessages=11)


async def test_a_batch_says_which_of_its_receipts_are_none(running: Running) -> None:
    await running.send("one")
    (message,) = await running.receive()
    async with EventQueue(running.url) as queue:
        assert await queue.delete([message["ReceiptHandle"], "nonsense"]) == 1
    assert (await running.stats())["deleted"] == 1


async def test_what_is_no_object_is_refused(running: Running) -> None:
    for content in (b"", b"{", b"[]", b"\xff"):
        answer = await running.http.post("/", content=content, headers={"x-amz-target": "AmazonSQS.ReceiveMessage"})
        assert (answer.status_code, answer.json()["__type"].rpartition("#")[2]) == (400, "SerializationException")


async def test_a_page_from_elsewhere_cannot_reach_it(running: Running) -> None:
    asked = raw("SendMessage", QueueUrl=running.url, MessageBody="x")
    asked["headers"] |= {"origin": "https://evil.example"}
    assert (await running.http.post("/", **asked)).status_code == 403
    assert (await running.stats())["waiting"] == 0


async def test_without_events_there_is_no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(Simulator(SimulatorConfig())) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)
        async with EventQueue(f"{url}{PATH}") as queue:
            with pytest.raises(QueueUnavailable, match="does not exist"):
                await queue.receive(0)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/_simulator/stats")).json()["events"] is None


async def test_the_command_says_where_its_queue_is_and_delays_what_becomes_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--events --events-visibility 7 --events-delay 600"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailer.simulator", *words.split(), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        said = json.loads(await process.stdout.readline())
        assert said["events"] == f"{said['url']}{PATH}"
        keys = {"aws_access_key_id": "id", "aws_secret_access_key": "key", "region_name": "eu-west-1"}
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=said["url"], trust_env=False))
            session = aioboto3.Session(**keys)
            sqs, ses = [
                await stack.enter_async_context(session.client(name, endpoint_url=said["url"])) for name in ("sqs", "sesv2")
            ]
            await Running(Simulator(SimulatorConfig()), said["url"], sqs, ses, http).mail("ana@example.org")
            names = ["VisibilityTimeout", "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
            found = await sqs.get_queue_attributes(QueueUrl=said["events"], AttributeNames=names)
        assert found["Attributes"] == dict(zip(names, ("7", "1", "1"), strict=True))
    finally:
        process.terminate()
        await process.communicate()
