"""The way to SES: one client a process, one request a call, and an answer for every message in it.

SES has no idempotency token, so botocore's own retries are off (they would send up to five copies on a lost answer) and
every retry is the caller's decision. Requests are built, checked and written as JSON by `mailer.compose`, so botocore's
validation and serializer, half of the cost of a call, are passed by: it signs and sends.
"""

from __future__ import annotations

import asyncio
import base64
import math
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import getaddresses, parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError, NoCredentialsError

from ..masking import keep_secret, masked
from ..message.address import bare
from ..message.mime import header_senders
from .observing import Observer, observe
from .pages import NotSes, Page, foreign
from .refusals import Kind, Refusal, Written, classify_call, classify_entry, unusable
from .session import open_session
from .setup import getting_credentials

SENDING = ("SendEmail", "SendBulkEmail")  # the others only ask
CONNECT_TIMEOUT_S = 4
READ_TIMEOUT_S = 20  # SES answers in tens of milliseconds; what takes longer is in doubt anyway
MAX_CONNECTIONS = 128
PAGE_SIZE = 1000  # identities or suppressed addresses: SES's most
NUMBER_S = 3.0  # for STS to say whose credentials these are, where that is not needed
NUMBER_AGAIN_S = 60.0  # where it did not, it is asked anew after this
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
AGAIN_S = (0.05, 0.4)  # pauses before a request that provably did not reach SES is made again, at once
AGAIN_WITHIN_S = 1.0  # of its start; where finding out takes longer, trying again is better done later
PIECE_BYTES = 64 << 10  # as much as asyncio's connections hold before they want the writer to wait
HEAD_CHARS = 87_384  # of a whole message in base64, in which its headers are looked for: 64 KiB
KEEP_ALIVE_S = 10  # below SES's own, so that a request seldom meets a connection that is just being closed


_ASKING: dict[str, Any] = {  # what may be asked twice
    "connect_timeout": CONNECT_TIMEOUT_S,
    "read_timeout": 10,
    "retries": {"total_max_attempts": 3, "mode": "standard"},
}


class Answer(NamedTuple):
    """What SES said about one message: exactly one of the two is set."""

    message_id: str | None
    refusal: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    """GetAccount, as far as sending depends on it."""

    region: str
    production: bool
    sending_enabled: bool
    enforcement: str  # HEALTHY, PROBATION or SHUTDOWN
    max_send_rate: float  # recipients per second
    max_24h: float  # recipients in a rolling day; -1: no limit
    sent_24h: float
    suppressed_reasons: tuple[str, ...] = ()  # of SES's suppression list, those that hold: BOUNCE, COMPLAINT


class SuppressedPage(NamedTuple):
    """A page of SES's suppression list."""

    entries: list[tuple[str, str, datetime]]  # address as it is stored, BOUNCE or COMPLAINT, last update
    token: str | None  # of the next page; None: this is the last
    said_at: datetime | None  # SES's own clock
    retried: bool  # it took more than one try: SES wants fewer calls


class TokenRefused(Exception):
    """SES does not know this token of a page any more."""


class IdentityState(NamedTuple):
    """What GetEmailIdentity says, or ListEmailIdentities, which leaves the configuration set out."""

    name: str
    verified: bool  # something may be sent by it
    configuration_set: str | None = None  # of what is sent by it without naming one


class ConfigurationSetState(NamedTuple):
    sending_enabled: bool
    suppressed_reasons: frozenset[str] | None  # of SES's suppression list, those that hold; None: as the account has it


class EventDestination(NamedTuple):
    """Where the events of a configuration set go."""

    name: str
    enabled: bool
    types: frozenset[str]  # as BOUNCE
    kinds: frozenset[str]  # SnsDestination, EventBridgeDestination, CloudWatchDestination and the like


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
class _Request:
    """A request on its way through botocore."""

    body: bytes
    sent: _Body | None = None  # what aiohttp was given; None before that
    answered: bool = False  # the whole answer was read

    @property
    def written(self) -> Written:
        if self.sent is None:
            return Written.NOTHING
        return Written.ALL if self.sent.written else Written.PART


_request: ContextVar[_Request] = ContextVar("request")


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


class Gateway:
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
            read_timeout=READ_TIMEOUT_S,
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
            for operation in SENDING:
                self._sender.meta.events.register(f"before-call.sesv2.{operation}", _put_body)
                self._sender.meta.events.register(f"before-send.sesv2.{operation}", _watch_body)
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
        client.meta.events.register("before-parse.sesv2", partial(_see_who_answers, client.meta.endpoint_url))
        return client

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    @property
    def region(self) -> str:
        return str(self._sender.meta.region_name)

    @property
    def endpoint_url(self) -> str:
        """As it may be shown: without user and password."""
        return masked(str(self._sender.meta.endpoint_url))

    async def account(self) -> AccountState:
        """Raises what botocore raises; `classify` explains it."""
        found = await self._reader.get_account()
        quota = found.get("SendQuota")
        if quota is None or "SendingEnabled" not in found:  # any JSON of another service would be an account that is paused
            what = "it says neither what the quota is nor whether sending is enabled"
            raise NotSes(Page(status=200, looks=what, sent_on=False, operation="GetAccount", endpoint=self.endpoint_url))
        return AccountState(
            region=self.region,
            production=bool(found.get("ProductionAccessEnabled")),
            sending_enabled=bool(found["SendingEnabled"]),
            enforcement=str(found.get("EnforcementStatus", "HEALTHY")),
            max_send_rate=float(quota.get("MaxSendRate", 0)),
            max_24h=float(quota.get("Max24HourSend", 0)),
            sent_24h=float(quota.get("SentLast24Hours", 0)),
            suppressed_reasons=tuple(found.get("SuppressionAttributes", {}).get("SuppressedReasons", ())),
        )

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

    async def clock(self) -> datetime | None:
        """SES's own clock, also where it refuses because ours is another; None where nobody says. Raises what botocore raises."""
        try:
            about = (await self._reader.get_account())["ResponseMetadata"]
        except ClientError as error:
            about = error.response.get("ResponseMetadata", {})
        return _said_at(about)

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

    async def template(self, name: str) -> Mapping[str, str]:
        """Subject, Html and Text of a template that is stored in SES: those it has. Raises what botocore raises."""
        found = await self._reader.get_email_template(TemplateName=name)
        return {part: text for part, text in found["TemplateContent"].items() if text}

    # ---- SES's suppression list: each raises what botocore raises --------------------------------

    async def suppressed_page(self, *, token: str = "", since: datetime | None = None) -> SuppressedPage:
        """Raises TokenRefused where SES does not take the token; then there is only the first page to go on with."""
        asked: dict[str, Any] = {"PageSize": PAGE_SIZE}
        if token:
            asked["NextToken"] = token
        if since is not None:
            asked["StartDate"] = since
        try:
            found = await self._reader.list_suppressed_destinations(**asked)
        except ClientError as error:
            if _code(error) == "InvalidNextTokenException":
                raise TokenRefused from error
            raise
        about = found.get("ResponseMetadata", {})
        return SuppressedPage(
            [
                (str(one["EmailAddress"]), str(one["Reason"]), one["LastUpdateTime"])
                for one in found.get("SuppressedDestinationSummaries") or ()
            ],
            found.get("NextToken") or None,
            _said_at(about),
            bool(about.get("RetryAttempts")),
        )

    async def suppressed(self, address: str) -> tuple[str, datetime] | None:
        """Reason and last update of exactly this spelling; None where it is not on the list."""
        try:
            found = (await self._reader.get_suppressed_destination(EmailAddress=address))["SuppressedDestination"]
        except ClientError as error:
            if _code(error) == "NotFoundException":
                return None
            raise
        return str(found["Reason"]), found["LastUpdateTime"]

    async def suppress(self, address: str, reason: str) -> None:
        await self._reader.put_suppressed_destination(EmailAddress=address, Reason=reason)

    async def unsuppress(self, address: str) -> bool:
        """False where exactly this spelling is not on the list."""
        try:
            await self._reader.delete_suppressed_destination(EmailAddress=address)
        except ClientError as error:
            if _code(error) == "NotFoundException":
                return False
            raise
        return True

    async def identities(self, next_token: str | None = None) -> tuple[list[IdentityState], str | None]:
        """A page of all identities, and what to ask the next one by. Raises what botocore raises."""
        token = {"NextToken": next_token} if next_token else {}
        found = await self._reader.list_email_identities(PageSize=PAGE_SIZE, **token)
        page = [IdentityState(one["IdentityName"], bool(one.get("SendingEnabled"))) for one in found.get("EmailIdentities", ())]
        return page, found.get("NextToken") or None

    async def identity(self, name: str) -> IdentityState | None:
        """None where SES has no such identity. Raises what botocore raises."""
        try:
            found = await self._reader.get_email_identity(EmailIdentity=name)
        except ClientError as error:
            # A text that SES does not take for an identity is none, either.
            if error.response["Error"]["Code"] in ("NotFoundException", "BadRequestException"):
                return None
            raise
        return IdentityState(name, bool(found.get("VerifiedForSendingStatus")), found.get("ConfigurationSetName") or None)

    async def configuration_set(self, name: str) -> ConfigurationSetState | None:
        """None where SES has no such set. Raises what botocore raises."""
        try:
            found = await self._reader.get_configuration_set(ConfigurationSetName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NotFoundException":
                return None
            raise
        reasons = found.get("SuppressionOptions", {}).get("SuppressedReasons")
        return ConfigurationSetState(
            sending_enabled=bool(found.get("SendingOptions", {}).get("SendingEnabled", True)),
            suppressed_reasons=None if reasons is None else frozenset(reasons),
        )

    async def event_destinations(self, configuration_set: str) -> list[EventDestination]:
        """Raises what botocore raises."""
        found = await self._reader.get_configuration_set_event_destinations(ConfigurationSetName=configuration_set)
        return [
            EventDestination(
                name=str(one.get("Name", "")),
                enabled=bool(one.get("Enabled")),
                types=frozenset(one.get("MatchingEventTypes") or ()),
                kinds=frozenset(key for key, value in one.items() if key.endswith("Destination") and value is not None),
            )
            for one in found.get("EventDestinations") or ()
        ]

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
        request = _Request(body)
        _request.set(request)
        try:
            if operation == "SendBulkEmail":
                found = await self._sender.send_bulk_email(DefaultContent={}, BulkEmailEntries=[])
            else:
                found = await self._sender.send_email(Content={})
        except Exception as error:
            took = time.perf_counter() - started
            if request.answered and not isinstance(error, ClientError | NotSes):
                return [Answer(None, unusable(f"SES's answer cannot be read ({type(error).__name__})"))] * entries, took
            to = [_theirs(message) for message in params.get("BulkEmailEntries", (params,))]
            refusals = classify_call(error, from_address=_ours(params), to=to, written=request.written)
            return [Answer(None, refusal) for refusal in refusals], took
        took = time.perf_counter() - started
        if operation == "SendEmail":
            return [_accepted(found)], took
        results: Sequence[Mapping[str, Any]] = found.get("BulkEmailEntryResults") or []
        if len(results) != entries:
            # Which entry a result belongs to is told by its place only: with one missing, none can be told.
            return [Answer(None, _NO_RESULT)] * entries, took
        messages = params["BulkEmailEntries"]
        return [_entry(result, params, message) for result, message in zip(results, messages, strict=True)], took


def _said_at(about: Mapping[str, Any]) -> datetime | None:
    try:
        return parsedate_to_datetime(about["HTTPHeaders"]["date"])
    except (KeyError, ValueError, TypeError):  # something between SES and us has taken it away
        return None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


_NO_RESULT = unusable("SES answered without a result for this message")


_MESSAGE_ID = re.compile(r"[!-~]{1,200}")  # SES's have 60 characters; other stand-ins' look otherwise


def _accepted(result: Mapping[str, Any]) -> Answer:
    message_id = result.get("MessageId")
    if isinstance(message_id, str) and _MESSAGE_ID.fullmatch(message_id):
        return Answer(message_id, None)
    return Answer(None, _NO_RESULT)


def _entry(result: Mapping[str, Any], params: Mapping[str, Any], message: Mapping[str, Any]) -> Answer:
    if result.get("Status") == "SUCCESS":
        return _accepted(result)
    return Answer(None, classify_entry(result, from_address=_ours(params), to=_theirs(message)))


def _ours(params: Mapping[str, Any]) -> str:
    """Our own addresses of a call, comma-separated: they tell an unverified sender from an unverified recipient."""
    ours = [params.get("FromEmailAddress", ""), params.get("FeedbackForwardingEmailAddress", "")]
    content = params.get("Content")
    if isinstance(content, Mapping) and (raw := content.get("Raw")):
        ours += [address for _, address in header_senders(base64.b64decode(raw["Data"][:HEAD_CHARS]))]
    return ", ".join(address for _, address in getaddresses(list(filter(None, ours))))


def _theirs(message: Mapping[str, Any]) -> list[str]:
    """Whom a message of a call is for, without their names."""
    lists = message.get("Destination", {}).values()
    return [bare(mailbox) for mailboxes in lists for mailbox in mailboxes]
