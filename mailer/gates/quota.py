"""The account's quota, shared by all processes: recipients per second and recipients in 24 hours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from ..email import Lane
from ..ledger import Ledger
from ..ledger.accounts import Accounts

# How far ahead of time a lane may be given its place. Bulk is kept short, because what is given out is not taken back:
# a transactional message waits at most this long behind it, plus the one call that is going out.
HORIZON_MS = {Lane.TRANSACTIONAL: 1000, Lane.BULK: 100}
CALL_S = 0.25  # a call takes at most this much of a second's quota, so that others come through between two of them
STALE_AFTER_REFRESHES = 3  # account state older than this is not believed
MIN_WAIT_S = 0.002


class Verdict(StrEnum):
    GO = "go"
    SINGLES = "singles"  # no place for a SendBulkEmail call now; the rate has room for SendEmail calls
    LATER = "later"  # the wait would be longer than the caller can hold its lease
    STALE = "stale"  # GetAccount has not answered for too long
    PAUSED = "paused"
    SUSPENDED = "suspended"
    DAILY = "daily"


REASONS = {
    Verdict.STALE: "waiting for the state of the SES account",
    Verdict.PAUSED: "waiting: sending is paused for this SES account; see the SES console",
    Verdict.SUSPENDED: "waiting: AWS has suspended sending for this SES account; answer the case in the AWS Support Center",
    Verdict.DAILY: "waiting for the 24 h quota of the SES account",
}


@dataclass(frozen=True, slots=True)
class Admission:
    verdict: Verdict
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
        stopping: asyncio.Event | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._accounts = Accounts(ledger.redis, ledger.keys, ledger.scripts)
        self._account = account
        self._lower_rate = lower_rate
        self._bulk_calls = bulk_calls
        self._stale_ms = int(refresh_s * STALE_AFTER_REFRESHES * 1000)
        self._stopping = stopping or asyncio.Event()
        self._sleep = sleep
        self._clock = clock
        self._rate = 0.0

    def remember_rate(self, max_send_rate: float) -> None:
        self._rate = min(max_send_rate, self._lower_rate or max_send_rate)

    def call_size(self, most: int) -> int:
        """How many recipients one call may have at the present rate, at least 1."""
        return max(1, min(most, int(self._rate * CALL_S)))

    async def admit(self, n: int, lane: Lane, *, patience_s: float, bulk: bool = False) -> Admission:
        """Wait for the turn of n recipients, `patience_s` at most; GO means that they may be handed over now.

        `bulk`: they are those of one SendBulkEmail call, for which the answer may be SINGLES.
        """
        deadline = self._clock() + patience_s
        while True:
            status, ms = await self._ledger.scripts.admit(
                self._account,
                n=n,
                horizon_ms=HORIZON_MS[lane],
                lower_rate=self._lower_rate,
                stale_ms=self._stale_ms,
                bulk_calls=self._bulk_calls if bulk else None,
            )
            if status == "go":
                if ms:
                    await self._sleep(ms / 1000)
                return Admission(Verdict.GO)
            if status == "singles":
                return Admission(Verdict.SINGLES)
            if status != "wait":
                return Admission(Verdict(status), reason=await self._reason(Verdict(status)))
            wait = max(ms / 1000, MIN_WAIT_S)
            if self._stopping.is_set() or self._clock() + wait > deadline:
                return Admission(Verdict.LATER, wait)
            await self._sleep(wait)

    async def bulk_call_refused(self, n: int) -> None:
        """SES said that there were too many SendBulkEmail calls; the n recipients of this one were not counted."""
        await self._ledger.scripts.refused(self._account, n=n, lower_rate=self._lower_rate, bulk_calls=self._bulk_calls)

    async def _reason(self, verdict: Verdict) -> str:
        why = await self._accounts.why_stale(self._account) if verdict is Verdict.STALE else ""
        return f"waiting: {why}" if why else REASONS[verdict]
