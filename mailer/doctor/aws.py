"""The ways to the AWS accounts that are sent from, opened when a check needs one, and what several checks ask there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from ..accounts.access import SesAccount, SesAccounts, set_up
from ..errors import MailerError, NotKnown
from ..identities.cache import Found, Glance, Identity, KnownSet
from ..identities.lookup import IdentityLookup
from ..ledger import Ledger, Route
from ..ses.gateway import Gateway
from ..ses.questions import AccountState
from ..ses.refusals import Refusal, classify_question
from ..settings import Settings

T = TypeVar("T")


class Unanswered(Exception):
    """AWS did not answer a question, or refused to."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal

    @property
    def forbidden(self) -> bool:
        return self.refusal.code.startswith(("AccessDenied", "UnauthorizedOperation"))


async def asked(call: Callable[[], Awaitable[T]], action: str = "") -> T:
    """Raises Unanswered. `action`: the IAM action that the call needs."""
    try:
        return await call()
    except MailerError:
        raise
    except Exception as error:
        raise Unanswered(classify_question(error, action=action)) from None


class Ways:
    """An async context manager. Nothing is asked of AWS before `get`, and each thing once."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._ses_accounts = SesAccounts(settings, ledger, asyncio.Event())
        self._opened: dict[Route, asyncio.Future[SesAccount]] = {}
        self._accounts: dict[Route, asyncio.Future[AccountState]] = {}

    async def __aenter__(self) -> Ways:
        return self

    async def __aexit__(self, *_: object) -> None:
        asking: list[asyncio.Future[Any]] = [*self._opened.values(), *self._accounts.values()]
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._ses_accounts.__aexit__()

    async def get(self, route: Route) -> SesAccount:
        """Raises Unanswered; ConfigError where an address is none."""
        if route not in self._opened:
            self._opened[route] = asyncio.ensure_future(asked(partial(self._open, route)))
        return await asyncio.shield(self._opened[route])

    async def open_at_once(self, routes: Iterable[Route]) -> None:
        """Those that need nobody's answer. It keeps the process busy for a second, which no check is to be blamed for."""
        await asyncio.gather(*(self.get(route) for route in routes if route.role_arn is None), return_exceptions=True)

    async def _open(self, route: Route) -> SesAccount:
        try:
            if route.role_arn is not None:  # whether that leads to another account is seen by the own one
                self._ses_accounts.own = await self._ses_accounts.get(Route())
            return await self._ses_accounts.get(route)
        except ValueError:
            with set_up():
                raise
            raise

    async def account(self, route: Route) -> AccountState:
        """What SES says of it now. Raises Unanswered."""
        if route not in self._accounts:
            self._accounts[route] = asyncio.ensure_future(self._ask_account(route))
        return await asyncio.shield(self._accounts[route])

    async def _ask_account(self, route: Route) -> AccountState:
        ses_account = await self.get(route)
        return await asked(ses_account.gateway.account, "ses:GetAccount")


class Asked(IdentityLookup):
    """The gates' register, for somebody who asks SES itself each time, and neither reads nor writes Redis."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def glance(self, names: Sequence[str], *, defaults: int, named_set: str | None, holds: Sequence[str] = ()) -> Glance:
        """Nothing is known yet, and that is believed."""
        return Glance(
            identities={},
            listed_ms=0,
            now_ms=0,
            believed=True,
            production=False,
            suppressed_reasons=frozenset(),
            set_name="",
            set_state=None,
        )

    async def find(self, names: Iterable[str]) -> Found:
        return Found(identities={}, listed_ms=0, now_ms=0)

    async def look_up(self, known: Identity | str, *, since_ms: int = 0) -> Identity:
        """Raises Unanswered."""
        name = known if isinstance(known, str) else known.name
        found = await asked(partial(self._gateway.identity, name), "ses:GetEmailIdentity")
        return Identity(name, found is not None and found.verified, 1, (found and found.configuration_set) or "")

    async def look_up_set(self, name: str) -> KnownSet:
        """Raises Unanswered."""
        found = await asked(partial(self._gateway.configuration_set, name), "ses:GetConfigurationSet")
        if found is None:
            return KnownSet(sending_enabled=False, suppressed_reasons=None, gone=True)
        return KnownSet(sending_enabled=found.sending_enabled, suppressed_reasons=found.suppressed_reasons)

    async def list_anew(self) -> None:
        raise NotKnown(why="its domain has too many parts to be looked up one by one")
