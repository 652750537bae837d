"""The account's quota, shared by all processes: recipients per second and recipients in 24 hours."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from ..ledger import Ledger
from ..message.email import Lane
from .limiter import Limiter, Limits, RateRequest, Throttle
from .state import DAY_SLOTS, SLOT_S, AccountStates

CALL_S = 0.25  # a call takes at most this much of a second's quota, so that others come through between two of them
STALE_AFTER_REFRESHES = 3  # account state older than this is not believed
AHEAD_S = 4.0  # so many seconds of the rate are queued of a campaign, for a worker never to wait for the next chunk
RETRY_S = (0.2, 0.5)  # when to ask again, having given up waiting


class AdmissionStatus(StrEnum):
    GO = "go"
    SINGLES = "singles"  # no place for a SendBulkEmail call now; the rate has room for SendEmail calls
    LATER = "later"  # the wait would be longer than the caller can hold its lease
    STALE = "stale"  # GetAccount has not answered for too long
    PAUSED = "paused"
    SUSPENDED = "suspended"
    DAILY = "daily"


REASONS = {
    AdmissionStatus.STALE: "waiting for the state of the SES account",
    AdmissionStatus.PAUSED: "waiting: sending is paused for this SES account; see the SES console",
    AdmissionStatus.SUSPENDED: "waiting: AWS has suspended sending for this SES account; "
    "answer the case in the AWS Support Center",
}


@dataclass(frozen=True, slots=True)
class Admission:
    status: AdmissionStatus
    recipients: int = 0  # with GO: so many of those that were asked for
    place: str = ""  # with GO: theirs in the rate, until SES's answer is settled or they are given back
    not_before: float = 0.0  # with GO: of the clock; the call, not the claim, waits for it
    retry_s: float = 0.0  # with LATER
    reason: str = ""  # what it waits for, where only something outside can help


class Quota:
    """The gate of one account."""

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        *,
        lower_rate: float | None,
        refresh_s: float,
        bulk_calls: str | float = "auto",
        burst: int = 0,
        reserve: int = 0,
        stopping: asyncio.Event | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._accounts = AccountStates(ledger)
        self._account = account
        self._lower_rate = lower_rate
        self._reserve = reserve
        self._limiter = Limiter(
            ledger,
            account,
            Limits(
                lower_rate=lower_rate,
                burst=burst,
                stale_ms=int(refresh_s * STALE_AFTER_REFRESHES * 1000),
                reserve=reserve,
                bulk_calls=bulk_calls,
            ),
        )
        self._stopping = stopping or asyncio.Event()
        self._sleep = sleep
        self._clock = clock
        self.rate = 0.0  # recipients per second, as they were last known here

    def remember_rate(self, max_send_rate: float) -> None:
        self.rate = min(max_send_rate, self._lower_rate or max_send_rate)

    def call_size(self, most: int, own_rate: float | None = None) -> int:
        """How many recipients one call may have at the present rate, and a campaign's own, at least 1."""
        return max(1, min(most, int(min(self.rate, own_rate or self.rate) * CALL_S)))

    async def admit(self, wish: RateRequest, *, patience_s: float) -> Admission:
        """Wait for the turn of these recipients, `patience_s` at most; GO means that so many may be handed over.

        With `wish.bulk` the answer may be SINGLES.
        """
        deadline = self._clock() + patience_s
        while True:
            asked = self._clock()
            reply = await self._limiter.admit(wish)
            if reply.status == "go":
                return Admission(AdmissionStatus.GO, reply.recipients, reply.place, asked + reply.after_s)
            if reply.status == "singles":
                return Admission(AdmissionStatus.SINGLES)
            if reply.status != "wait":
                return Admission(AdmissionStatus(reply.status), reason=await self._reason(AdmissionStatus(reply.status), wish))
            if self._stopping.is_set() or self._clock() + reply.after_s > deadline:
                return Admission(AdmissionStatus.LATER, retry_s=max(random.uniform(*RETRY_S), reply.after_s))
            await self._sleep(reply.after_s)

    async def until(self, admission: Admission) -> None:
        """Wait for the moment of the place: some milliseconds at most, which the claim may have taken by now."""
        if (left := admission.not_before - self._clock()) > 0:
            await self._sleep(left)

    async def give_back(self, admission: Admission) -> None:
        """They are not handed over after all."""
        await self._limiter.give_back(admission.place)

    async def refused(self, what: Throttle, place: str = "") -> None:
        """SES refused a send for this, which holds for everybody."""
        await self._limiter.refused(what, place)

    async def _reason(self, status: AdmissionStatus, wish: RateRequest) -> str:
        if status is AdmissionStatus.DAILY:
            return await self._never(wish) or await self.daily_reason()
        why = await self._accounts.why_stale(self._account) if status is AdmissionStatus.STALE else ""
        return f"waiting: {why}" if why else REASONS[status]

    async def _never(self, wish: RateRequest) -> str:
        """Why it would wait in vain, if it would."""
        known = await self._accounts.load(self._account)
        if known is None or known.max_24h < 0:
            return ""
        if wish.lane is Lane.BULK and wish.least <= known.max_24h < self._reserve + wish.least:
            return (
                f"waiting: MAILER_DAILY_RESERVE ({self._reserve:,}) leaves nothing of the account's 24 h quota of "
                f"{known.max_24h:,.0f} to bulk mail; lower it"
            )
        if wish.least > known.max_24h:
            return f"waiting: it has {wish.least} recipients, and the account's 24 h quota is {known.max_24h:,.0f}"
        return ""

    async def daily_reason(self) -> str:
        known, history = await self._accounts.load(self._account), await self._accounts.history(self._account)
        sent_24h = known.sent_24h if known else 0.0
        return f"waiting for the 24 h quota{forecast(history, sent_24h, await self._ledger.now_ms() / 1000)}"


def forecast(history: Mapping[int, int], sent_24h: float, now_s: float) -> str:
    """`, about 310/h come free`, or when the next do: what was sent a day ago leaves the window.

    `history` is what this service sent, by slot; what SES has counted beyond that is taken to have been sent evenly.
    """
    first = int(now_s // SLOT_S) - DAY_SLOTS
    mine = {slot: n for slot, n in sorted(history.items()) if slot >= first}
    others = max(sent_24h - sum(mine.values()), 0.0)
    an_hour = sum(n for slot, n in mine.items() if slot < first + DAY_SLOTS // 24) + others / 24
    if an_hour >= 1:
        return f", about {_about(an_hour)}/h come free"
    if not mine:
        return ""
    slot = next(iter(mine))
    n = sum(n for other, n in mine.items() if other < slot + DAY_SLOTS // 24)
    return f", about {_about(n)} come free at {datetime.fromtimestamp((slot + DAY_SLOTS) * SLOT_S, UTC):%Y-%m-%d %H:%M} UTC"


def _about(n: float) -> str:
    """Two digits and zeros, as nobody knows the others."""
    step = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return f"{int(n // step * step):,}"
