"""The accounts that are sent from: the process's own, and those that sender profiles reach by a role, region or endpoint."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

from .. import metrics
from ..errors import ConfigError, MailerError, UnknownRoute
from ..identities.cache import Identities
from ..identities.lookup import IdentityLookup
from ..ledger import Ledger, Route, Spec
from ..masking import masked
from ..quota.gate import STALE_AFTER_REFRESHES, Quota
from ..ses.gateway import Gateway
from ..ses.refusals import classify_question
from ..settings import Settings

MAX_LISTING_S = 60  # that reading all of an account's identities may take


@contextmanager
def set_up() -> Iterator[None]:
    """Around what opens a way: raises ConfigError where AWS is not set up, in place of what botocore raises."""
    try:
        yield
    except MailerError:
        raise
    except ValueError as error:  # what botocore says of an address that is none
        raise ConfigError(
            where="AWS_ENDPOINT_URL_SESV2", why=f"{masked(str(error))}; it must be a URL, as http://127.0.0.1:9100"
        ) from None
    except Exception as error:
        raise ConfigError(where="AWS", why=classify_question(error).reason) from None


@dataclass(frozen=True, slots=True)
class SesAccount:
    """One way to one account."""

    account: str  # names the account's state and limiter in Redis, which all ways to it share
    gateway: Gateway
    quota: Quota
    register: IdentityLookup


class SesAccounts:
    """Opened when they are first needed and kept. An async context manager; `own` is there once it is entered."""

    def __init__(self, settings: Settings, ledger: Ledger, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._ledger = ledger
        self._stopping = stopping
        self._found: dict[Route, SesAccount] = {}
        self._quotas: dict[str, Quota] = {}  # one for each account, whatever the way to it
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> SesAccounts:
        self.own = await self.get(Route())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def all(self) -> list[SesAccount]:
        """One for each account."""
        return list({ses_account.account: ses_account for ses_account in reversed(self._found.values())}.values())

    async def of(self, spec: Spec) -> SesAccount:
        """The way by which this is sent. What Redis says of it is not followed: it has to be one of our own settings.

        Raises UnknownRoute, and what botocore raises where the way cannot be opened.
        """
        for route in (Route(), *map(Route.of, self._settings.senders.values())):
            if route == spec.route:
                return await self.get(route)
        raise UnknownRoute(parts=spec.route.parts)

    async def get(self, route: Route) -> SesAccount:
        """Raises what botocore raises where the way cannot be opened."""
        found = self._found.get(route)
        if found is None:
            async with self._opening:
                found = self._found.get(route) or await self._open(route)
                self._found[route] = found
        return found

    async def _open(self, route: Route) -> SesAccount:
        number = route.role_arn.split(":")[4] if route.role_arn else None
        # A role of our own account has our own quota, and must not get a second limiter.
        another = number is not None and number != await self.own.gateway.own_account()
        gateway = Gateway(
            region=route.region,
            endpoint_url=route.endpoint_url,
            role_arn=route.role_arn,
            external_id=route.external_id,
            observer=metrics.record_ses_call,
        )
        await self._stack.enter_async_context(gateway)
        account = f"{number}:{gateway.region}" if another else gateway.region
        if account not in self._quotas:
            self._quotas[account] = Quota(
                self._ledger,
                account,
                lower_rate=self._settings.max_send_rate,
                refresh_s=self._settings.account_refresh_s,
                bulk_calls=self._settings.bulk_calls_per_s,
                burst=self._settings.send_burst,
                reserve=self._settings.daily_reserve,
                stopping=self._stopping,
            )
        return SesAccount(account, gateway, self._quotas[account], self._register(account, gateway))

    def _register(self, account: str, gateway: Gateway) -> IdentityLookup:
        ledger, refresh_s = self._ledger, self._settings.account_refresh_s
        believed_s = refresh_s * STALE_AFTER_REFRESHES
        identities = Identities(ledger, account, keep_s=math.ceil(believed_s) + MAX_LISTING_S)
        return IdentityLookup(identities, gateway, refresh_s=refresh_s, stale_ms=int(believed_s * 1000))
