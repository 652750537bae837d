"""The way of a command to Redis, and to SES: its own account, or a sender's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from .. import Settings, load_settings
from ..errors import ConfigError, MailerError
from ..ledger import Ledger, Route
from ..prepare import route_of
from ..queue import connect, disconnect, ping
from ..reach import Reach, Reaches
from ..ses.refusals import classify


@asynccontextmanager
async def open_ledger() -> AsyncIterator[tuple[Settings, Ledger]]:
    """Raises RedisUnavailable, ConfigError."""
    settings = load_settings()
    redis = connect(settings)
    try:
        await ping(redis, settings)
        yield settings, Ledger(redis, settings.namespace)
    finally:
        await disconnect(redis)


@asynccontextmanager
async def open_reach(settings: Settings, ledger: Ledger, sender: str | None) -> AsyncIterator[Reach]:
    """Raises UnknownSender; ConfigError where AWS is not set up. Nothing is asked of SES."""
    route = route_of(settings.sender(sender)) if sender else Route()
    async with AsyncExitStack() as stack:
        try:
            reaches = await stack.enter_async_context(Reaches(settings, ledger, asyncio.Event()))
            reach = await reaches.get(route)
        except MailerError:
            raise
        except ValueError as error:  # what botocore says of an address that is none
            why = f"{error}; it must be a URL, as http://127.0.0.1:9100"
            raise ConfigError(where="AWS_ENDPOINT_URL_SESV2", why=why) from None
        except Exception as error:
            raise ConfigError(where="AWS", why=classify(error).reason) from None
        yield reach
