"""What is asked of an account: its state, identities, configuration sets, templates, and its suppression list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from .pages import NotSes, Page

PAGE_SIZE = 1000  # identities or suppressed addresses: SES's most


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


class Questions:
    """Each raises what botocore raises; `refusals.classify_question` explains it."""

    region: str
    endpoint_url: str
    _reader: Any  # boto's client, which asks as often as it takes

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

    async def clock(self) -> datetime | None:
        """SES's own clock, also where it refuses because ours is another; None where nobody says. Raises what botocore raises."""
        try:
            about = (await self._reader.get_account())["ResponseMetadata"]
        except ClientError as error:
            about = error.response.get("ResponseMetadata", {})
        return _said_at(about)

    async def template(self, name: str) -> Mapping[str, str]:
        """Subject, Html and Text of a template that is stored in SES: those it has. Raises what botocore raises."""
        found = await self._reader.get_email_template(TemplateName=name)
        return {part: text for part, text in found["TemplateContent"].items() if text}

    # ---- SES's suppression list ------------------------------------------------------------------

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

    # ---- identities and configuration sets ---------------------------------------------------------

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
            if _code(error) in ("NotFoundException", "BadRequestException"):
                return None
            raise
        return IdentityState(name, bool(found.get("VerifiedForSendingStatus")), found.get("ConfigurationSetName") or None)

    async def configuration_set(self, name: str) -> ConfigurationSetState | None:
        """None where SES has no such set. Raises what botocore raises."""
        try:
            found = await self._reader.get_configuration_set(ConfigurationSetName=name)
        except ClientError as error:
            if _code(error) == "NotFoundException":
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


def _said_at(about: Mapping[str, Any]) -> datetime | None:
    try:
        return parsedate_to_datetime(about["HTTPHeaders"]["date"])
    except (KeyError, ValueError, TypeError):  # something between SES and us has taken it away
        return None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
