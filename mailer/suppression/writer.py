"""Writing to SES's suppression list, with our copy of it. SES finds an entry only by the case in which it has stored it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import TypeVar

from ..ses.gateway import Gateway
from ..ses.refusals import Refusal, classify_question
from .lists import Reason, SesEntry, SuppressionLists
from .throttle import WriteThrottle

T = TypeVar("T")

# SES has two reasons of its own.
SES_REASON = {
    Reason.BOUNCE: "BOUNCE",
    Reason.MANUAL: "BOUNCE",
    Reason.COMPLAINT: "COMPLAINT",
    Reason.UNSUBSCRIBE: "COMPLAINT",
}


class Put(Enum):
    WRITTEN = "written"
    THERE = "there"  # by our copy; SES was not asked


class SesRefused(Exception):
    """SES did not do it, or cannot be asked."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.reason)


class SesWriter:
    """SES's list of one account and our copy of it. Methods raise SesRefused, and what redis-py raises."""

    def __init__(self, suppressed: SuppressionLists, account: str, gateway: Gateway, pace: WriteThrottle | None = None) -> None:
        self._list = suppressed
        self._account = account
        self._gateway = gateway
        self._pace = pace or WriteThrottle()

    async def put(self, address: str, reason: Reason, *, unless_there: bool = False) -> Put:
        """`unless_there`: SES is not asked where our copy has it with that reason."""
        there, wanted = await self._entries(address), SES_REASON[reason]
        if unless_there and any(entry.reason == wanted for entry in there):
            return Put.THERE
        # Another spelling would be a second entry, of which the first one's reason would go on to hold.
        for spelling in [entry.address for entry in there] or [address.strip()]:
            await self._ask(partial(self._gateway.suppress, spelling, wanted))
            await self._list.listed(self._account, [SesEntry(spelling, wanted, datetime.now(UTC))])
        return Put.WRITTEN

    async def delete(self, address: str) -> bool:
        """In every spelling that is known, as it is given, and in lower case; False where SES had none of them."""
        given = address.strip()
        local, at, domain = given.rpartition("@")
        spellings = [entry.address for entry in await self._entries(address)]
        found = False
        for spelling in dict.fromkeys([*spellings, f"{local}{at}{domain.lower()}", given.lower()]):
            found |= await self._ask(partial(self._gateway.unsuppress, spelling))
        await self._list.delisted(self._account, address)
        return found

    async def asked(self, address: str) -> list[SesEntry]:
        """What SES itself has, in the spellings that `delete` would try. Nothing is written."""
        given = address.strip()
        found = []
        for spelling in dict.fromkeys([*(entry.address for entry in await self._entries(address)), given, given.lower()]):
            entry = await self._ask(partial(self._gateway.suppressed, spelling))
            if entry is not None:
                found.append(SesEntry(spelling, *entry))
        return found

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._pace.call(ask)
        except Exception as error:
            raise SesRefused(classify_question(error)) from None

    async def _entries(self, address: str) -> list[SesEntry]:
        hit = (await self._list.check([address], account=self._account)).hits.get(0)
        return list(hit.ses) if hit else []
