"""The queue of the account's events as a client of SQS sees it: SQS's JSON protocol, and its errors.

Source: the SQS API reference, and the SQS API model. The texts are those that SQS answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson

from .queue import MAX_RECEIVES, BadReceipt, Queue, Received
from .wire import Json

MAX_BATCH = 10  # messages of one call
MAX_WAIT_S = 20  # of long polling
MAX_VISIBILITY_S = 43_200  # 12 hours
MAX_DELAY_S = 900
MAX_MESSAGE = 1_048_576  # bytes
NAME, DEAD_NAME = "events", "events-dead"  # of the queues
CONTENT_TYPE = "application/x-amz-json-1.0"
HEADER = "x-amz-target"  # names the operation
TARGET = "AmazonSQS."  # what its value begins with
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 has no other characters
_SQS, _COMMON = "com.amazonaws.sqs#", "com.amazon.coral.service#"
_RECEIVE_COUNT = "ApproximateReceiveCount"

Gone = Callable[[], Awaitable[Any]]  # returns when the client has closed its connection


class SqsError(Exception):
    """`kind` is the error's shape, `old` its name in the query protocol, which botocore shows."""

    def __init__(self, kind: str, old: str, text: str, status: int = 400) -> None:
        super().__init__(kind, text)
        self.kind, self.old, self.text, self.status = kind, old, text, status

    def body(self) -> Json:
        return {"__type": self.kind, "message": self.text}

    def headers(self) -> dict[str, str]:
        return {"x-amzn-query-error": f"{self.old};Sender"}


def no_queue() -> SqsError:
    return SqsError(f"{_SQS}QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")


def _invalid(text: str) -> SqsError:
    return SqsError(f"{_COMMON}InvalidParameterValueException", "InvalidParameterValue", text)


def _missing(name: str) -> SqsError:
    text = f"The request must contain the parameter {name}."
    return SqsError(f"{_COMMON}MissingRequiredParameterException", "MissingParameter", text)


def _wrong_type(name: str) -> SqsError:
    text = f"{name} does not have the type that the API model says"
    return SqsError(f"{_COMMON}SerializationException", "MalformedInput", text)


def _batch(kind: str, text: str) -> SqsError:
    return SqsError(f"{_SQS}{kind}", f"AWS.SimpleQueueService.{kind}", text)


def _bad_receipt(receipt: str) -> SqsError:
    text = f'The input receipt handle "{receipt[:100]}" is not a valid receipt handle.'
    return SqsError(f"{_SQS}ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", text, 404)


# ---- reading -------------------------------------------------------------------------------------------------------


def _get(body: Json, name: str, kind: type, default: Any = None) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong_type(name)
    return value


def _required(body: Json, name: str, kind: type = str) -> Any:
    value = _get(body, name, kind)
    if value is None or value == "":
        raise _missing(name)
    return value


def _number(body: Json, name: str, low: int, high: int, default: int | None) -> int | None:
    value: int | None = _get(body, name, int, default)
    if value is not None and not low <= value <= high:
        raise _invalid(f"Value {value} for parameter {name} is invalid. Reason: Must be between {low} and {high}, if provided.")
    return value


def _names(body: Json, *members: str) -> set[str]:
    names = [name for member in members for name in _get(body, member, list, [])]
    if not all(isinstance(name, str) for name in names):
        raise _wrong_type(members[0])
    return set(names)


# ---- the actions ---------------------------------------------------------------------------------------------------


class Queues:
    """The account's queue of events, and the one behind it for what was received MAX_RECEIVES times and never deleted."""

    def __init__(self, *, account: str, region: str, visibility_s: float, clock: Callable[[], float]) -> None:
        self.dead = Queue(visibility_s=visibility_s, clock=clock)
        self.events = Queue(visibility_s=visibility_s, clock=clock, dead=self.dead)
        self.path = f"/{account}/{NAME}"  # of the queue's URL
        self._by_path = {self.path: self.events, f"/{account}/{DEAD_NAME}": self.dead}
        self._arn = f"arn:aws:sqs:{region}:{account}:"

    def clear(self) -> None:
        self.events.clear()
        self.dead.clear()

    def let_wait(self, allowed: bool) -> None:
        """False: the server stops, so long polls end now."""
        for queue in (self.events, self.dead):
            queue.let_wait(allowed)

    async def answer(self, action: str, raw: bytes, gone: Gone) -> Json:
        """The answer's body. Raises SqsError. `gone` ends the waiting of ReceiveMessage."""
        run = _ACTIONS.get(action)
        if run is None:
            text = f"The simulator's queue has no action {action[:100]}."
            raise SqsError(f"{_COMMON}UnknownOperationException", "UnknownOperation", text, 404)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            raise _wrong_type("The request body")
        queue = self._by_path.get(urlsplit(_required(body, "QueueUrl")).path)
        if queue is None:
            raise no_queue()
        return await run(self, queue, body, gone)

    async def _receive(self, queue: Queue, body: Json, gone: Gone) -> Json:
        most = _number(body, "MaxNumberOfMessages", 1, MAX_BATCH, 1) or 1
        wait_s = _number(body, "WaitTimeSeconds", 0, MAX_WAIT_S, 0) or 0
        hide_s = _number(body, "VisibilityTimeout", 0, MAX_VISIBILITY_S, None)
        shown = _names(body, "AttributeNames", "MessageSystemAttributeNames")
        found = queue.take(most, hide_s)
        if not found and wait_s:
            found = await _unless(gone, _wait(queue, most, wait_s, hide_s)) or []
        counted = bool(shown & {"All", _RECEIVE_COUNT})
        return {"Messages": [_message(one, counted) for one in found]} if found else {}

    async def _delete(self, queue: Queue, body: Json, gone: Gone) -> Json:
        receipt = _required(body, "ReceiptHandle")
        try:
            queue.delete(receipt)
        except BadReceipt:
            raise _bad_receipt(receipt) from None
        return {}

    async def _delete_batch(self, queue: Queue, body: Json, gone: Gone) -> Json:
        entries = [(_required(entry, "Id"), _required(entry, "ReceiptHandle")) for entry in _entries(body)]
        for name, _ in entries:
            if not _ENTRY_ID.fullmatch(name):
                text = "A batch entry id can only contain alphanumeric characters, hyphens and underscores."
                raise _batch("InvalidBatchEntryId", f"{text} It can be at most 80 letters long.")
        if len({name for name, _ in entries}) < len(entries):
            raise _batch("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
        done, failed = list[Json](), list[Json]()
        for name, receipt in entries:
            try:
                queue.delete(receipt)
            except BadReceipt:
                error = _bad_receipt(receipt)
                failed.append({"Id": name, "SenderFault": True, "Code": error.old, "Message": error.text})
            else:
                done.append({"Id": name})
        return {"Successful": done, "Failed": failed} if failed else {"Successful": done}

    async def _send(self, queue: Queue, body: Json, gone: Gone) -> Json:
        text = _required(body, "MessageBody")
        delay_s = _number(body, "DelaySeconds", 0, MAX_DELAY_S, 0) or 0
        if _get(body, "MessageAttributes", dict):
            raise _batch("UnsupportedOperation", "The simulator's queue keeps no message attributes.")
        if _FORBIDDEN.search(text):
            what = "Invalid characters were found in the message body."
            raise SqsError(f"{_SQS}InvalidMessageContents", "InvalidMessageContents", what)
        content = text.encode()
        if len(content) > MAX_MESSAGE:
            raise _invalid(f"One or more parameters are invalid. Reason: Message must be shorter than {MAX_MESSAGE} bytes.")
        return {"MessageId": queue.put(content, delay_s=delay_s), "MD5OfMessageBody": _md5(content)}

    async def _attributes(self, queue: Queue, body: Json, gone: Gone) -> Json:
        wanted = _names(body, "AttributeNames")
        counts = queue.counts()
        known = {
            "ApproximateNumberOfMessages": str(counts["waiting"]),
            "ApproximateNumberOfMessagesNotVisible": str(counts["in_flight"]),
            "ApproximateNumberOfMessagesDelayed": str(counts["delayed"]),
            "DelaySeconds": "0",
            "MaximumMessageSize": str(MAX_MESSAGE),
            "QueueArn": f"{self._arn}{DEAD_NAME if queue is self.dead else NAME}",
            "ReceiveMessageWaitTimeSeconds": "0",
            "VisibilityTimeout": f"{queue.visibility_s:g}",
        }
        if queue.dead is not None:
            policy = {"deadLetterTargetArn": f"{self._arn}{DEAD_NAME}", "maxReceiveCount": MAX_RECEIVES}
            known["RedrivePolicy"] = orjson.dumps(policy).decode()
        if unknown := wanted - {"All", "RedrivePolicy", *known}:
            raise SqsError(f"{_SQS}InvalidAttributeName", "InvalidAttributeName", f"Unknown Attribute {min(unknown)}.")
        return {"Attributes": {name: value for name, value in known.items() if wanted & {"All", name}}}


def _entries(body: Json) -> list[Json]:
    entries: list[Any] = _required(body, "Entries", list)
    if not entries:
        text = "There should be at least one DeleteMessageBatchRequestEntry in the request."
        raise _batch("EmptyBatchRequest", text)
    if len(entries) > MAX_BATCH:
        text = f"Maximum number of entries per request are {MAX_BATCH}. You have sent {len(entries)}."
        raise _batch("TooManyEntriesInBatchRequest", text)
    if not all(isinstance(entry, dict) for entry in entries):
        raise _wrong_type("Entries")
    return entries


def _message(one: Received, counted: bool) -> Json:
    shown = {"MessageId": one.id, "ReceiptHandle": one.receipt, "MD5OfBody": _md5(one.body), "Body": one.body.decode()}
    return {**shown, "Attributes": {_RECEIVE_COUNT: str(one.times)}} if counted else shown


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


async def _wait(queue: Queue, most: int, wait_s: float, hide_s: float | None) -> list[Received]:
    loop = asyncio.get_running_loop()
    end = loop.time() + wait_s
    while not (found := queue.take(most, hide_s)) and queue.waits and (left := end - loop.time()) > 0:
        await queue.arrival(left)
    return found


async def _unless(gone: Gone, work: Awaitable[list[Received]]) -> list[Received] | None:
    """The result of `work`, or None where the client goes first: what it does not hear of must not be hidden from others."""
    working, going = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, going}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, going):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


_ACTIONS: Mapping[str, Callable[[Queues, Queue, Json, Gone], Awaitable[Json]]] = {
    "ReceiveMessage": Queues._receive,
    "DeleteMessage": Queues._delete,
    "DeleteMessageBatch": Queues._delete_batch,
    "SendMessage": Queues._send,
    "GetQueueAttributes": Queues._attributes,
}
