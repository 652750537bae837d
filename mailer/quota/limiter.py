"""The account's limiter, as lua/admit.lua keeps it for all processes. Typed wrappers; `mailer.quota.gate` has the waiting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ..ledger import Ledger
from ..message.email import Lane


class Throttle(StrEnum):
    """What SES refused a send for, where it is the account's matter and not the message's."""

    RATE = "rate"  # too many recipients a second
    CALLS = "calls"  # too many SendBulkEmail calls
    DAILY = "daily"
    PAUSED = "paused"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an installation sets beside the account's own limits."""

    lower_rate: float | None = None  # recipients per second
    burst: int = 0  # recipients that a second may have above the rate
    stale_ms: int = 180_000  # account state that is older is not believed
    reserve: int = 0  # recipients of the 24 h quota that only the transactional lane may use
    bulk_calls: str | float = "auto"  # SendBulkEmail calls per second: a number, "auto" or "unlimited"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRequest:
    """What somebody asks for."""

    lane: Lane
    recipients: int
    least: int  # of them: with fewer no call can be made
    asker: str  # who waits, where it has to
    flow: str  # whose turn it is: a campaign, or all messages together
    own_rate: float | None = None  # of the campaign, recipients per second
    bulk: bool = False  # they are those of one SendBulkEmail call


class Reply(NamedTuple):
    status: str  # as admit.lua says
    after_s: float
    recipients: int
    place: str


class Limiter:
    """One for each account."""

    def __init__(self, ledger: Ledger, account: str, limits: Limits) -> None:
        keys = ledger.keys
        self._scripts = ledger.scripts.of("mailer.quota")
        self._limits = limits
        self._account = keys.account(account)
        self._room = [keys.limiter(account), keys.places(account)]
        self._turns = [keys.urgent(account), keys.waiting(account), keys.share(account)]
        self._calls = keys.calls(account)
        self._pace = keys.pace

    async def admit(self, wish: RateRequest) -> Reply:
        """May they go, how many of them, and when? O(log(places) + transactional messages that wait)."""
        limits = self._limits
        status, us, recipients, place = await self._scripts.run(
            "admit",
            [self._account, *self._room, *self._turns, self._calls, self._pace(wish.flow)],
            wish.lane.value,
            wish.recipients,
            wish.least,
            wish.asker,
            wish.flow,
            _or_nothing(limits.lower_rate),
            limits.burst,
            limits.stale_ms,
            limits.reserve,
            _or_nothing(wish.own_rate),
            limits.bulk_calls if wish.bulk else "",
        )
        return Reply(status.decode(), int(us) / 1e6, int(recipients), place.decode())

    async def refused(self, what: Throttle, place: str = "") -> None:
        """SES refused a send for this; `place`, where its recipients were not counted. O(1)."""
        limits = self._limits
        keys = [self._account, *self._room, self._calls]
        await self._scripts.run("refused", keys, what.value, place, _or_nothing(limits.lower_rate), limits.bulk_calls)

    async def give_back(self, place: str) -> None:
        """These were not handed to SES after all. O(log(places))."""
        await self._scripts.run("give_back", [self._account, *self._room], place, _or_nothing(self._limits.lower_rate))


def _or_nothing(value: float | None) -> str | float:
    return "" if value is None else value
