"""The way to SES: one client a process, one request a call, and an answer for every message in it.

SES has no idempotency token, so botocore's own retries are off (they would send up to five copies on a lost answer) and
every retry is the caller's decision. Requests are built, checked and written as JSON by `mailer.compose`, so botocore's
validation and serializer, half of the cost of a call, are passed by: it signs and sends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import getaddresses
from types import TracebackType
from typing import Any, NamedTuple

from aiobotocore.config import AioConfig
from botocore.exceptions import NoCredentialsError

from .refusals import Refusal, classify, classify_entry, unusable
from .session import open_session

CONNECT_TIMEOUT_S = 4
READ_TIMEOUT_S = 20  # SES answers in tens of milliseconds; what takes longer is in doubt anyway
MAX_CONNECTIONS = 128
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


_body: ContextVar[bytes] = ContextVar("body")


def _put_body(params: dict[str, Any], **_: Any) -> None:
    """botocore's hook between serializing a request and signing it."""
    params["body"] = _body.get()


class Gateway:
    """The way to one account: an async context manager. `region` is known once it is entered."""

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        role_arn: str | None = None,
        external_id: str | None = None,
    ) -> None:
        self._session = open_session(region, role_arn, external_id)
        self._endpoint_url = endpoint_url
        self._own_account: str | None = None
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
        try:
            self._sender = await self._client(once)
            for operation in ("SendEmail", "SendBulkEmail"):
                self._sender.meta.events.register(f"before-call.sesv2.{operation}", _put_body)
            self._reader = await self._client(reading)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _client(self, config: AioConfig) -> Any:
        client = self._session.client("sesv2", config=config, endpoint_url=self._endpoint_url)
        return await self._stack.enter_async_context(client)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    @property
    def region(self) -> str:
        return str(self._sender.meta.region_name)

    @property
    def endpoint_url(self) -> str:
        return str(self._sender.meta.endpoint_url)

    async def account(self) -> AccountState:
        """Raises what botocore raises; `classify` explains it."""
        found = await self._reader.get_account()
        quota = found.get("SendQuota", {})
        return AccountState(
            region=self.region,
            production=bool(found.get("ProductionAccessEnabled")),
            sending_enabled=bool(found.get("SendingEnabled")),
            enforcement=str(found.get("EnforcementStatus", "HEALTHY")),
            max_send_rate=float(quota.get("MaxSendRate", 0)),
            max_24h=float(quota.get("Max24HourSend", 0)),
            sent_24h=float(quota.get("SentLast24Hours", 0)),
            suppressed_reasons=tuple(found.get("SuppressionAttributes", {}).get("SuppressedReasons", ())),
        )

    async def credentials(self) -> None:
        """See that there are credentials that will last for a while; a role's are renewed here. Raises what botocore raises."""
        found = await self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        await found.get_frozen_credentials()

    async def own_account(self) -> str:
        """The number of the AWS account that the credentials belong to, asked of STS once. Raises what botocore raises."""
        if self._own_account is None:
            async with self._session.client("sts", config=AioConfig(**_ASKING)) as sts:
                self._own_account = str((await sts.get_caller_identity())["Account"])
        return self._own_account

    async def template(self, name: str) -> Mapping[str, str]:
        """Subject, Html and Text of a template that is stored in SES: those it has. Raises what botocore raises."""
        found = await self._reader.get_email_template(TemplateName=name)
        return {part: text for part, text in found["TemplateContent"].items() if text}

    async def send(self, operation: str, params: Mapping[str, Any], body: bytes) -> tuple[list[Answer], float]:
        """Make a SendEmail or SendBulkEmail call: an answer for each message, in their order, and SES's time in seconds.

        `body` is `params` as JSON, and what is sent.
        """
        entries = len(params["BulkEmailEntries"]) if operation == "SendBulkEmail" else 1
        started = time.perf_counter()
        _body.set(body)
        try:
            if operation == "SendBulkEmail":
                found = await self._sender.send_bulk_email(DefaultContent={}, BulkEmailEntries=[])
            else:
                found = await self._sender.send_email(Content={})
        except Exception as error:
            return [Answer(None, classify(error, from_address=_ours(params)))] * entries, time.perf_counter() - started
        took = time.perf_counter() - started
        if operation == "SendEmail":
            return [_accepted(found)], took
        results: Sequence[Mapping[str, Any]] = found.get("BulkEmailEntryResults") or []
        if len(results) != entries:
            # Which entry a result belongs to is told by its place only: with one missing, none can be told.
            return [Answer(None, _NO_RESULT)] * entries, took
        return [_entry(result, params) for result in results], took


_NO_RESULT = unusable("SES answered without a result for this message")


def _accepted(result: Mapping[str, Any]) -> Answer:
    message_id = result.get("MessageId")
    return Answer(message_id, None) if message_id else Answer(None, _NO_RESULT)


def _entry(result: Mapping[str, Any], params: Mapping[str, Any]) -> Answer:
    if result.get("Status") == "SUCCESS":
        return _accepted(result)
    return Answer(None, classify_entry(result, from_address=_ours(params)))


def _ours(params: Mapping[str, Any]) -> str:
    """Our own addresses of a call, comma-separated: they tell an unverified sender from an unverified recipient."""
    ours = (params.get("FromEmailAddress", ""), params.get("FeedbackForwardingEmailAddress", ""))
    return ", ".join(address for _, address in getaddresses(list(filter(None, ours))))
