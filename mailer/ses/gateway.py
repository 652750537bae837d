"""The way to SES: one client a process, one request a call, and an answer for every message in it.

SES has no idempotency token, so botocore's own retries are off (they would send up to five copies on a lost answer) and
every retry is the caller's decision. Requests are built, checked and written as JSON by `mailer.compose`, so botocore's
validation and serializer, half of the cost of a call, are passed by: it signs and sends.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError, NoCredentialsError

from ..masking import keep_secret, masked
from . import wire
from .answers import NO_RESULT, Answer, accepted, entry, ours, theirs
from .observing import Observer, observe
from .pages import NotSes
from .questions import Questions
from .refusals import Kind, classify_call, unusable
from .session import open_session
from .setup import getting_credentials

CONNECT_TIMEOUT_S = 4
MAX_CONNECTIONS = 128
NUMBER_S = 3.0  # for STS to say whose credentials these are, where that is not needed
NUMBER_AGAIN_S = 60.0  # where it did not, it is asked anew after this
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
AGAIN_S = (0.05, 0.4)  # pauses before a request that provably did not reach SES is made again, at once
AGAIN_WITHIN_S = 1.0  # of its start; where finding out takes longer, trying again is better done later
KEEP_ALIVE_S = 10  # below SES's own, so that a request seldom meets a connection that is just being closed


_ASKING: dict[str, Any] = {  # what may be asked twice
    "connect_timeout": CONNECT_TIMEOUT_S,
    "read_timeout": 10,
    "retries": {"total_max_attempts": 3, "mode": "standard"},
}


class Gateway(Questions):
    """The way to one account: an async context manager. `region` is known once it is entered."""

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        role_arn: str | None = None,
        external_id: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        """`observer` is told of each call that only asks; those that send are its caller's to tell."""
        self._observer = observer
        keep_secret(endpoint_url)
        self._session = open_session(region, role_arn, external_id)
        self._endpoint_url = endpoint_url
        self._own_account: str | None = None
        self._number_after = 0.0  # of time.monotonic; STS is not asked before
        self._numbering = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._sender: Any = None
        self._reader: Any = None

    async def __aenter__(self) -> Gateway:
        once = AioConfig(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=wire.READ_TIMEOUT_S,
            max_pool_connections=MAX_CONNECTIONS,
            parameter_validation=False,
            retries={"total_max_attempts": 1, "mode": "standard"},
            connector_args={"keepalive_timeout": KEEP_ALIVE_S},
        )
        reading = AioConfig(**_ASKING)
        with getting_credentials():  # before a client is made, which finds them, too
            await self._session.get_credentials()
        try:
            self._sender = await self._client(once)
            wire.put_bodies(self._sender)
            self._reader = await self._client(reading)
            if self._observer is not None:
                observe(self._reader, self._observer)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _client(self, config: AioConfig) -> Any:
        opened = self._session.client("sesv2", config=config, endpoint_url=self._endpoint_url)
        client = await self._stack.enter_async_context(opened)
        wire.watch(client)
        return client

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    @property
    def region(self) -> str:  # type: ignore[override]
        return str(self._sender.meta.region_name)

    @property
    def endpoint_url(self) -> str:  # type: ignore[override]
        """As it may be shown: without user and password."""
        return masked(str(self._sender.meta.endpoint_url))

    async def credentials(self) -> None:
        """See that there are credentials that will last for a while; a role's are renewed here. Raises what botocore raises."""
        with getting_credentials():
            found = await self._session.get_credentials()
            if found is None:
                raise NoCredentialsError
            await found.get_frozen_credentials()

    async def credential_source(self) -> str:
        """What the credentials come from, in botocore's word, as `env` or `iam-role`. Raises what botocore raises."""
        await self.credentials()
        return str((await self._session.get_credentials()).method)

    async def own_account(self) -> str:
        """The number of the AWS account that the credentials belong to, asked of STS once. Raises what botocore raises."""
        if self._own_account is None:
            async with self._session.client("sts", config=AioConfig(**_ASKING)) as sts:
                self._own_account = str((await sts.get_caller_identity())["Account"])
        return self._own_account

    async def known_account(self) -> str | None:
        """The same where STS can be asked and soon says it; None else. In a network of its own SES may be all that is reached."""
        # A simulated SES has no STS beside it, and the real one would only refuse the simulated credentials.
        simulated = urlsplit(self.endpoint_url).hostname in _LOOPBACK
        if simulated and not (os.environ.get("AWS_ENDPOINT_URL_STS") or os.environ.get("AWS_ENDPOINT_URL")):
            return None
        async with self._numbering:
            if self._own_account is None and time.monotonic() >= self._number_after:
                try:
                    async with asyncio.timeout(NUMBER_S):
                        await self.own_account()
                except Exception:  # whatever it is, it can be done without
                    self._number_after = time.monotonic() + NUMBER_AGAIN_S
        return self._own_account

    async def send(self, operation: str, params: Mapping[str, Any], body: bytes) -> tuple[list[Answer], float]:
        """Make a SendEmail or SendBulkEmail call: an answer for each message, in their order, and SES's time in seconds.

        `body` is `params` as JSON, and what is sent. A request that provably did not reach SES is made again at once.
        """
        started = time.perf_counter()
        for pause_s in AGAIN_S:
            answers, took = await self._send(operation, params, body)
            refusal = answers[0].refusal
            if refusal is None or refusal.kind is not Kind.UNREACHABLE or refusal.foreign:
                return answers, took
            if time.perf_counter() - started > AGAIN_WITHIN_S:
                return answers, took
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        return await self._send(operation, params, body)

    async def _send(self, operation: str, params: Mapping[str, Any], body: bytes) -> tuple[list[Answer], float]:
        entries = len(params["BulkEmailEntries"]) if operation == "SendBulkEmail" else 1
        started = time.perf_counter()
        request = wire.begin(body)
        try:
            if operation == "SendBulkEmail":
                found = await self._sender.send_bulk_email(DefaultContent={}, BulkEmailEntries=[])
            else:
                found = await self._sender.send_email(Content={})
        except Exception as error:
            took = time.perf_counter() - started
            if request.answered and not isinstance(error, ClientError | NotSes):
                return [Answer(None, unusable(f"SES's answer cannot be read ({type(error).__name__})"))] * entries, took
            to = [theirs(message) for message in params.get("BulkEmailEntries", (params,))]
            refusals = classify_call(error, from_address=ours(params), to=to, written=request.written)
            return [Answer(None, refusal) for refusal in refusals], took
        took = time.perf_counter() - started
        if operation == "SendEmail":
            return [accepted(found)], took
        results: Sequence[Mapping[str, Any]] = found.get("BulkEmailEntryResults") or []
        if len(results) != entries:
            # Which entry a result belongs to is told by its place only: with one missing, none can be told.
            return [NO_RESULT] * entries, took
        messages = params["BulkEmailEntries"]
        return [entry(result, params, message) for result, message in zip(results, messages, strict=True)], took
