"""The SQS queue that carries SES's events: received in batches, deleted when they have been applied."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig

from ..errors import QueueUnavailable
from .refusals import classify
from .session import open_session

BATCH = 10  # messages of one call, SQS's most
LONG_POLL_S = 20  # SQS's most
MAX_CONNECTIONS = 64
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
        self._client: Any = None

    async def __aenter__(self) -> EventQueue:
        config = AioConfig(
            connect_timeout=4,
            read_timeout=LONG_POLL_S + 10,
            max_pool_connections=MAX_CONNECTIONS,
            parameter_validation=False,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        try:
            self._client = await self._stack.enter_async_context(self._session.client("sqs", config=config))
        except Exception as error:
            raise self._unavailable(error) from None
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def receive(self, wait_s: int) -> list[Received]:
        """At most BATCH messages; waits for the first as long as is said. They are hidden for the queue's visibility time-out."""
        try:
            found = await self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait_s,
                AttributeNames=["ApproximateReceiveCount"],
            )
        except Exception as error:
            raise self._unavailable(error) from None
        return [
            Received(one["Body"], one["ReceiptHandle"], int(one.get("Attributes", {}).get("ApproximateReceiveCount", 1)))
            for one in found.get("Messages") or ()
        ]

    async def delete(self, receipts: Sequence[str]) -> int:
        """At most BATCH; how many were not deleted, so that they come again."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        try:
            found = await self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
        except Exception as error:
            raise self._unavailable(error) from None
        return len(found.get("Failed") or ())

    async def has_dead_letters(self) -> bool:
        """Whether what is received again and again goes to a dead-letter queue in the end."""
        try:
            found = await self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"])
        except Exception as error:
            raise self._unavailable(error) from None
        return bool(json.loads(found.get("Attributes", {}).get("RedrivePolicy", "{}")))

    def _unavailable(self, error: Exception) -> QueueUnavailable:
        return QueueUnavailable(url=self._url, why=classify(error).reason.rstrip("."))
