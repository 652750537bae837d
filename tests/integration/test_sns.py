"""SNS as moto has it, which was written without a look at this service; and files fetched from a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import boto3
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mailer.cli.processes import free_port
from mailer.errors import FetchFailed, NotBelieved
from mailer.events import Certificates, MessageType, SnsRejection, Trust, Verifier, fetch, read, web
from mailer.events.certificates import Place
from tests.ses_events import ATTEMPT, published


class Moto:
    """moto's certificates are signed by themselves, so its key is taken as it comes. All else is what Certificates does."""

    trust = Trust.of_this_machine()

    def __init__(self, url: str) -> None:
        self.url = url

    async def fetch(self, url: str) -> bytes:
        """moto's server tells the service that a request is for from its signature, and does not look at that any closer."""
        scope = {"Authorization": "AWS4-HMAC-SHA256 Credential=simulated/20261105/us-east-1/sns/aws4_request, Signature=0"}
        async with httpx.AsyncClient(base_url=self.url, headers=scope, trust_env=False) as http:
            return (await http.get(url.rpartition("/")[2])).raise_for_status().content

    async def key(self, url: str, place: Place) -> RSAPublicKey:
        key = x509.load_pem_x509_certificate(await self.fetch(url)).public_key()
        assert isinstance(key, RSAPublicKey)
        return key


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


async def new(_: str) -> bool:
    return False


def notified(moto: str, message: str) -> tuple[str, str]:
    """A topic, and what a queue of it got when the message was published."""
    sns, sqs = (boto3.client(name, endpoint_url=moto, region_name="us-east-1") for name in ("sns", "sqs"))
    topic = sns.create_topic(Name="ses-events")["TopicArn"]
    queue = sqs.create_queue(QueueName="ses-events")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:ses-events")
    sns.publish(TopicArn=topic, Message=message)
    (got,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=got["ReceiptHandle"])
    return topic, got["Body"]


async def test_what_motos_sns_signs_is_believed_and_read(moto: str) -> None:
    topic, body = notified(moto, json.dumps(published("Delivery")))
    assert str(read(body).attempt) == ATTEMPT
    keys = Moto(moto)
    believed = await Verifier([topic], keys, seen=new).believe(body.encode())
    assert (believed.type, believed.topic) == (MessageType.NOTIFICATION, topic)
    assert read(believed.message) == read(body)
    with pytest.raises(NotBelieved) as caught:
        await Verifier([topic], keys, seen=new).believe(body.replace("250 2.6.0", "550 5.1.1").encode())
    assert caught.value.fields["why"] is SnsRejection.SIGNATURE


async def test_a_certificate_that_only_says_it_is_amazons_is_not_believed(moto: str) -> None:
    topic, body = notified(moto, json.dumps(published("Delivery")))
    certificates = Certificates(Trust.of_this_machine(), Moto(moto).fetch)
    with pytest.raises(NotBelieved) as caught:
        await Verifier([topic], certificates, seen=new).believe(body.encode())
    assert caught.value.fields["why"] is SnsRejection.CERTIFICATE_NAME


# ---- fetching ------------------------------------------------------------------------------------------------------


ANSWERS = {
    "/whole": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
    "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    "/elsewhere": b"HTTP/1.1 302 Found\r\nLocation: /whole\r\nContent-Length: 0\r\n\r\n",
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nx",
    "/large": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
    "/packed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\npacked",
    "/nonsense": b"hello\r\n\r\n",
}


@pytest.fixture
async def files() -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a server, and what it was asked for. It cuts the connection after an answer, and never answers `/never`."""
    asked: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            asked.append(path)
            if path in ANSWERS:
                writer.write(ANSWERS[path])
                await writer.drain()
            else:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_a_file_comes_whole_and_as_it_is(files: tuple[str, list[str]]) -> None:
    url, _ = files
    assert await fetch(f"{url}/whole") == b"x" * 5000
    assert await fetch(f"{url}/packed") == b"packed"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/missing", "the answer is 404"),
        ("/elsewhere", "the answer is 302"),
        ("/large", f"it has more than {web.MAX_BYTES} bytes"),
        ("/cut", "ClientPayloadError"),
        ("/nonsense", "ClientResponseError|BadHttpMessage|ServerDisconnectedError"),
    ],
)
async def test_what_is_not_the_whole_file_at_that_address_is_refused(files: tuple[str, list[str]], path: str, why: str) -> None:
    url, asked = files
    with pytest.raises(FetchFailed, match=why):
        await fetch(url + path)
    assert asked == [path]  # a redirect leads nowhere


async def test_what_does_not_come_in_time_is_given_up(files: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.05)
    with pytest.raises(FetchFailed, match=r"there is no whole answer after 0\.05 s"):
        await fetch(f"{files[0]}/never")


async def test_nobody_there_is_refused() -> None:
    with pytest.raises(FetchFailed, match=r"cannot be read: \w+"):
        await fetch(f"http://127.0.0.1:{free_port()}/")
