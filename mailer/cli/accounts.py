"""The way of a command to Redis, and to SES: its own account, or a sender's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from .. import Settings, load_settings
from ..accounts.access import SesAccount, SesAccounts, set_up
from ..errors import ConfigError
from ..ledger import Ledger, Route
from ..queue import call_timeout_s, connect, disconnect, ping
from .output import hint


@asynccontextmanager
async def open_ledger() -> AsyncIterator[tuple[Settings, Ledger]]:
    """Raises RedisUnavailable, ConfigError."""
    settings = load_settings()
    redis = connect(settings, timeout=call_timeout_s.get())
    try:
        await ping(redis, settings)
        yield settings, Ledger(redis, settings.namespace)
    finally:
        await disconnect(redis)


@asynccontextmanager
async def open_reach(settings: Settings, ledger: Ledger, sender: str | None) -> AsyncIterator[SesAccount]:
    """Raises UnknownSender; ConfigError where AWS is not set up. Nothing is asked of SES."""
    route = Route.of(settings.sender(sender)) if sender else Route()
    async with AsyncExitStack() as stack:
        with set_up():
            ses_accounts = await stack.enter_async_context(SesAccounts(settings, ledger, asyncio.Event()))
            ses_account = await ses_accounts.get(route)  # by a role: STS is asked whose account it leads to
        yield ses_account


async def reach_if_any(
    stack: AsyncExitStack, settings: Settings, ledger: Ledger, sender: str | None, *, must: bool = False
) -> SesAccount | None:
    """Our own list can be looked at without AWS."""
    try:
        return await stack.enter_async_context(open_reach(settings, ledger, sender))
    except ConfigError as error:
        if must:
            raise
        hint(f"SES's list is left out: {error}")
        return None
