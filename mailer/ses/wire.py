"""The body of a request on its way: put in behind botocore's back, and watched until the connection has taken it in.

`written` of a request tells whether SES can have got it whole: what provably did not reach SES may be sent again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import aiohttp

from .pages import NotSes, foreign
from .refusals import Written

SENDING = ("SendEmail", "SendBulkEmail")  # the others only ask
READ_TIMEOUT_S = 20  # SES answers in tens of milliseconds; what takes longer is in doubt anyway
PIECE_BYTES = 64 << 10  # as much as asyncio's connections hold before they want the writer to wait


class _Body(aiohttp.BytesPayload):
    """The body of a request, which knows whether all of it was handed to the connection.

    Written piece by piece, each as soon as the connection holds little of those before. A connection that the other side
    breaks before the last has discarded what it held, so SES did not get a request that is whole.
    """

    written = False

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        whole = memoryview(self._value)[:content_length]
        for first in range(0, len(whole), PIECE_BYTES):
            await writer.write(whole[first : first + PIECE_BYTES], drain=False)
            self.written = first + PIECE_BYTES >= len(whole)  # at once: the other side may have all of it before we hear so
            await _taken_in(writer)


async def _taken_in(writer: Any) -> None:
    """Wait until the connection holds little of what was written to it. aiohttp's own time-out begins after the body.

    Raises TimeoutError where it takes in nothing for READ_TIMEOUT_S, and gives the connection up: closed in the usual way it
    would wait for the rest to be taken in. What the system holds may still be sent, so nobody can say that SES did not get it.
    """
    if not writer.protocol.writing_paused:
        return
    transport, left = writer.transport, math.inf
    waiting = asyncio.ensure_future(writer.drain())
    try:
        while not waiting.done():
            before, left = left, _held(transport)
            if left >= before:
                transport.abort()
                raise TimeoutError(f"nothing more of the request was taken in for {READ_TIMEOUT_S:g} s")
            await asyncio.wait({waiting}, timeout=READ_TIMEOUT_S)
        waiting.result()
    finally:
        waiting.cancel()


def _held(transport: asyncio.Transport) -> int:
    """Bytes that a connection was given and that the system has not taken in."""
    try:
        return transport.get_write_buffer_size()
    except AttributeError:  # of a TLS connection that has ended
        return 0


@dataclass(slots=True)
class Request:
    """A request on its way through botocore."""

    body: bytes
    sent: _Body | None = None  # what aiohttp was given; None before that
    answered: bool = False  # the whole answer was read

    @property
    def written(self) -> Written:
        if self.sent is None:
            return Written.NOTHING
        return Written.ALL if self.sent.written else Written.PART


_request: ContextVar[Request] = ContextVar("request")


def begin(body: bytes) -> Request:
    """The next call of this task sends this body."""
    request = Request(body)
    _request.set(request)
    return request


def watch(client: Any) -> None:
    """Have a client's calls looked at: whether somebody else answers in SES's place, as NotSes."""
    client.meta.events.register("before-parse.sesv2", partial(_see_who_answers, client.meta.endpoint_url))


def put_bodies(client: Any) -> None:
    """Have a client's sending calls take their bodies from `begin`."""
    for operation in SENDING:
        client.meta.events.register(f"before-call.sesv2.{operation}", _put_body)
        client.meta.events.register(f"before-send.sesv2.{operation}", _watch_body)


def _put_body(params: dict[str, Any], **_: Any) -> None:
    """botocore's hook between serializing a request and signing it."""
    params["body"] = _request.get().body


def _watch_body(request: Any, **_: Any) -> None:
    """botocore's hook between signing a request and sending it."""
    request.body = _request.get().sent = _Body(request.body)


def _see_who_answers(endpoint: str, operation_model: Any, response_dict: Mapping[str, Any], **_: Any) -> None:
    """botocore's hook between reading an answer and parsing it, which takes any page for an answer. Raises NotSes."""
    if request := _request.get(None):
        request.answered = True
    headers = {name.lower(): value for name, value in response_dict["headers"].items()}
    asks = operation_model.name not in SENDING
    found = foreign(response_dict["status_code"], headers, response_dict["body"], question=asks)
    if found is not None:
        raise NotSes(replace(found, operation=operation_model.name, endpoint=endpoint))
