"""The limiter on a clock that the test moves, and what stands around it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mailer import Settings
from mailer.ledger import Ledger, Sent
from mailer.message.email import Lane
from mailer.queue import connect, disconnect
from mailer.quota.limiter import Limiter, Limits, RateRequest
from mailer.quota.state import AccountStates

ACCOUNT = "eu-west-1"
STATE: dict[str, Any] = {
    "region": ACCOUNT, "production": 1, "sending_enabled": 1, "enforcement": "HEALTHY", "max_send_rate": 100.0, "max_24h": -1.0,
    "sent_24h": 0.0,
}  # fmt: skip
START_US = 1_800_000_000_000_000


def wish(recipients: int, lane: Lane = Lane.BULK, **more: Any) -> RateRequest:
    """Any part of the recipients will do, where nothing else is said."""
    return RateRequest(**{"lane": lane, "recipients": recipients, "least": 1, "asker": "a", "flow": "c", **more})


class World:
    """A limiter and the clock that it believes, in microseconds."""

    def __init__(self, ledger: Ledger, clock_key: str) -> None:
        self.ledger = ledger
        self.accounts = AccountStates(ledger)
        self._clock_key = clock_key
        self.now = START_US

    async def at(self, now_us: float) -> None:
        self.now = int(now_us)
        await self.ledger.redis.set(self._clock_key, self.now)

    async def later(self, seconds: float) -> None:
        await self.at(self.now + seconds * 1e6)

    async def known(self, **changed: Any) -> None:
        """GetAccount said this."""
        await self.accounts.store(ACCOUNT, {**STATE, **changed}, answered=await self.accounts.answered(ACCOUNT))

    def limiter(self, **limits: Any) -> Limiter:
        return Limiter(self.ledger, ACCOUNT, Limits(**limits))

    async def answered(self, place: str, recipients: int = 0) -> None:
        """SES's answer is settled. Of a chunk that nobody knows: only the place in the rate is looked at."""
        sent = Sent(account=ACCOUNT, recipients=recipients, accepted=recipients, place=place)
        await self.ledger.work.settle("cnowhere-0", [], sent)


@asynccontextmanager
async def world(redis_url: str) -> AsyncIterator[World]:
    namespace = f"t{secrets.token_hex(5)}"
    redis = connect(Settings(redis_url=redis_url))
    key = f"{namespace}:clock"
    made = World(Ledger(redis, namespace, f"local function now_us() return tonumber(redis.call('GET', '{key}')) end\n"), key)
    await made.at(START_US)
    await made.known()
    try:
        yield made
    finally:
        await disconnect(redis)
