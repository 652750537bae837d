"""The SQS queue that carries SES's events: received in batches, deleted when they have been applied.

SQS moves ten messages a call, so what a call costs decides how fast events come in. botocore finds the endpoint and the
credentials and signs; its models and parsers, three quarters of the cost of a call, are passed by.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.httpsession import get_cert_path

from ..errors import QueueUnavailable
from .refusals import classify_question
from .session import open_session

BATCH = 10  # messages of one call, SQS's most
LONG_POLL_S = 20  # SQS's most
CONNECT_TIMEOUT_S = 4
READ_TIMEOUT_S = LONG_POLL_S + 10
MAX_CONNECTIONS = 64
KEEP_ALIVE_S = 10  # as with SES
SIGNED_S = 60.0  # that a signature is used again
TRIES = 2  # a connection may be closed just as it is used; both calls may be repeated
_REGION = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?")


class Received(NamedTuple):
    body: str
    receipt: str  # what it is deleted by
    times: int  # that it was received so far, this one included


class EventQueue:
    """An async context manager. Every method raises QueueUnavailable."""

    def __init__(self, url: str) -> None:
        self._url = url
        host = _REGION.fullmatch(urlsplit(url).hostname or "")
        self._session = open_session(host and (host[1] or host[2]))
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession
        self._endpoint = self._region = ""
        self._proxy: str | None = None
        self._signed = dict[bytes, tuple[float, Any, dict[str, str]]]()  # of calls that are always the same

    async def __aenter__(self) -> EventQueue:
        try:
            async with self._session.client("sqs") as client:
                self._endpoint, self._region = f"{client.meta.endpoint_url.rstrip('/')}/", client.meta.region_name
            trusted = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or get_cert_path(True))
        except Exception as error:
            raise self._unavailable(error) from None
        # Once, where aiohttp itself would look for a proxy with every call, in a thread.
        host, scheme = urlsplit(self._endpoint).hostname or "", urlsplit(self._endpoint).scheme
        self._proxy = None if proxy_bypass(host) else getproxies().get(scheme)
        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S, ssl=trusted)
        timeout = aiohttp.ClientTimeout(total=READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._http = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout, skip_auto_headers=("User-Agent",))
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def receive(self, wait_s: int) -> list[Received]:
        """At most BATCH messages; waits for the first as long as is said. They are hidden for the queue's visibility time-out."""
        names = ["ApproximateReceiveCount"]
        asked = {"MaxNumberOfMessages": BATCH, "WaitTimeSeconds": wait_s, "AttributeNames": names}
        found = await self._call("ReceiveMessage", asked)
        return [
            Received(one["Body"], one["ReceiptHandle"], int(one.get("Attributes", {}).get("ApproximateReceiveCount", 1)))
            for one in found.get("Messages") or ()
        ]

    async def delete(self, receipts: Sequence[str]) -> int:
        """At most BATCH; how many were not deleted, so that they come again."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        found = await self._call("DeleteMessageBatch", {"Entries": entries})
        return len(found.get("Failed") or ())

    async def has_dead_letters(self) -> bool:
        """Whether what is received again and again goes to a dead-letter queue in the end."""
        found = await self._call("GetQueueAttributes", {"AttributeNames": ["RedrivePolicy"]})
        return bool(json.loads(found.get("Attributes", {}).get("RedrivePolicy", "{}")))

    async def waiting(self) -> tuple[int, int]:
        """About how many messages wait, and how many somebody has received and not yet deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = (await self._call("GetQueueAttributes", {"AttributeNames": names})).get("Attributes", {})
        here, received = (int(found.get(name, 0)) for name in names)
        return here, received

    async def _call(self, action: str, asked: dict[str, Any]) -> Any:
        body = orjson.dumps({"QueueUrl": self._url, **asked})
        for left in reversed(range(TRIES)):
            try:
                return await self._post(action, body)
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                if not left:
                    raise QueueUnavailable(url=self._url, why=f"there is no answer ({type(error).__name__})") from None
            except Exception as error:
                raise self._unavailable(error) from None
        raise AssertionError

    async def _post(self, action: str, body: bytes) -> Any:
        credentials = await self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        headers = self._headers(action, body, await credentials.get_frozen_credentials())
        async with self._http.post(self._endpoint, data=body, headers=headers, proxy=self._proxy) as response:
            content = await response.read()
            if response.status == 200:
                return orjson.loads(content)
            raise _error(action, response.status, content)

    def _headers(self, action: str, body: bytes, credentials: Any) -> dict[str, str]:
        """Signed. A signature holds for five minutes, and every ReceiveMessage is the same."""
        now = time.monotonic()
        at, by, headers = self._signed.get(body, (0.0, None, {}))
        if by == credentials and now - at < SIGNED_S:
            return headers
        plain = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        request = AWSRequest("POST", self._endpoint, data=body, headers=plain)
        SigV4Auth(credentials, "sqs", self._region).add_auth(request)
        headers = dict(request.headers.items())
        if action == "ReceiveMessage":
            self._signed[body] = now, credentials, headers
        return headers

    def _unavailable(self, error: Exception) -> QueueUnavailable:
        return QueueUnavailable(url=self._url, why=classify_question(error).reason.rstrip("."))


def _error(action: str, status: int, content: bytes) -> ClientError:
    """What botocore would raise."""
    try:
        found = orjson.loads(content)
        code, text = str(found["__type"]).rpartition("#")[2], str(found.get("message") or found.get("Message") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        code, text = str(status), "an answer that is not SQS's"
    about = {"HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code, "Message": text}, "ResponseMetadata": about}, action)
