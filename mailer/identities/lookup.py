"""What SES knows of an account's identities and configuration sets, for the gates: from Redis, and what that lacks from SES.

AWS does not publish how often these calls may be made, and its older pages say once a second. So all processes together
make a few a second, and the list of all identities is read by one of them, once per refresh.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from ..errors import NotKnown
from ..repeats import Repeats
from ..ses.gateway import Gateway
from ..ses.refusals import Refusal, classify_question
from .cache import Found, Glance, Identities, Identity, KnownSet

log = structlog.get_logger()
T = TypeVar("T")

ASK_EVERY_MS = 250  # GetEmailIdentity and GetConfigurationSet, of all processes together
PAGE_PAUSE_S = 1.0  # between two pages of ListEmailIdentities
LIST_AGAIN_S = 5  # a list that is younger is not made anew
LISTING_S = 60  # after this long another process may list: the one that does is gone
PATIENCE_S = 5.0  # a job does not wait longer for its turn to ask
LOOK_S = 0.05  # between two looks whether it is there


class IdentityLookup:
    """That of one account."""

    def __init__(self, identities: Identities, gateway: Gateway, *, refresh_s: float, stale_ms: int) -> None:
        self._identities = identities
        self._gateway = gateway
        self._refresh_s = refresh_s
        self._stale_ms = stale_ms
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._repeats = Repeats()
        self._failing = dict[str, str]()  # action → what it fails for, `alike` of the refusal
        self._told = set[str]()  # of those, what the log has a line about

    @property
    def region(self) -> str:
        return self._gateway.region

    # ---- to be asked ---------------------------------------------------------------------------

    async def glance(self, names: Sequence[str], *, defaults: int, named_set: str | None, holds: Sequence[str] = ()) -> Glance:
        """All that sending by these identities depends on. One round trip to Redis."""
        stale_ms = self._stale_ms
        return await self._identities.glance(names, defaults=defaults, named_set=named_set, stale_ms=stale_ms, holds=holds)

    async def find(self, names: Iterable[str]) -> Found:
        return await self._identities.find(names)

    async def known_account(self) -> str | None:
        """The account's number; None where it cannot be learnt."""
        return await self._gateway.known_account()

    async def look_up(self, known: Identity | str, *, since_ms: int = 0) -> Identity:
        """One identity as SES has it now, or as it was looked up since then. Raises NotKnown."""
        name = known if isinstance(known, str) else known.name

        async def others() -> Identity | None:
            found = (await self._identities.find([name])).identities.get(name.lower())
            return found if found and found.looked_up_ms and (found.verified or found.looked_up_ms >= since_ms) else None

        async with self._one_at_a_time(f"i{name.lower()}"):
            return await self._in_turn(others, partial(self._read_identity, name))

    async def look_up_set(self, name: str) -> KnownSet:
        """Raises NotKnown."""
        await self._identities.use_set(name)
        async with self._one_at_a_time(f"s{name}"):
            return await self._in_turn(partial(self._identities.find_set, name), partial(self._read_set, name))

    async def is_set_paused(self, name: str) -> bool:
        """Whether SES, which just refused to send by it, says so of the set itself: then everything that uses it waits. Raises
        NotKnown."""

        async def others() -> KnownSet | None:
            known = await self._identities.find_set(name)
            return known if known is not None and not known.sending_enabled and not known.gone else None

        state = await self._in_turn(others, partial(self._read_set, name))
        return not state.sending_enabled and not state.gone

    async def list_anew(self) -> None:
        """A list of all that is only seconds old, made here or by another process. Raises NotKnown."""
        patient_until = time.monotonic() + PATIENCE_S
        while True:
            found = await self._identities.find(())
            since_ms = found.now_ms - LIST_AGAIN_S * 1000
            if found.listed_ms >= since_ms:
                return
            if await self._identities.may_list(LISTING_S):
                try:
                    await self._list()
                finally:
                    await self._identities.listed(LIST_AGAIN_S)
                return
            if why := await self._identities.why_not_listed(since_ms):
                raise NotKnown(why=why)
            if time.monotonic() > patient_until:
                raise NotKnown(why="the verified identities of the SES account are being listed")
            await asyncio.sleep(LOOK_S)

    # ---- to be told ----------------------------------------------------------------------------

    async def forget(self, names: Iterable[str]) -> None:
        """SES said of these identities otherwise than was believed."""
        await self._identities.forget(names)

    async def pause_set(self, name: str) -> None:
        """SES said that sending by this configuration set is paused: everything that uses it waits, until a refresh says no."""
        await self._identities.pause_set(name)

    async def refresh_when_due(self) -> None:
        """Refresh, where it is time and this process's turn."""
        if not await self._identities.may_refresh(self._refresh_s):
            return
        try:
            await self.refresh()
        except asyncio.CancelledError:
            # Else the process that comes after this one would wait for the turn to be over.
            await asyncio.shield(self._identities.give_up_refresh())
            raise

    async def refresh(self) -> None:
        """Read again what is in use, and list all identities. The quick ones first: what a paused set holds up goes on,
        however long the list is."""
        identities, sets = await self._identities.in_use()
        known = (await self._identities.find(identities)).identities.values()
        for read, names in ((self._read_set, sets), (self._read_identity, [one.name for one in known])):
            with suppress(NotKnown):  # it was logged; what is known meanwhile is believed for a while
                await self._read_each(read, names)
        with suppress(NotKnown):
            await self._list()

    async def _read_each(self, read: Callable[[str], Awaitable[object]], names: Sequence[str]) -> None:
        for name in names:
            await self._in_turn(_nobody, partial(read, name))

    # ---- SES -----------------------------------------------------------------------------------

    def _one_at_a_time(self, what: str) -> asyncio.Lock:
        """The chunks of a campaign come to the gate together and lack the same: the first one asks for all."""
        lock = self._locks.get(what)
        if lock is None:
            lock = self._locks[what] = asyncio.Lock()
        return lock

    async def _in_turn(self, others: Callable[[], Awaitable[T | None]], ask: Callable[[], Awaitable[T]]) -> T:
        """Ask SES when it is our turn, if by then no other process has. Raises NotKnown."""
        patient_until = time.monotonic() + PATIENCE_S
        while True:
            found = await others()
            if found is not None:
                return found
            if await self._identities.may_ask(ASK_EVERY_MS):
                return await ask()
            if time.monotonic() > patient_until:
                raise NotKnown(why="SES is being asked about as many identities and configuration sets as it may be")
            await asyncio.sleep(LOOK_S)

    async def _read_identity(self, name: str) -> Identity:
        found = await self._ask("ses:GetEmailIdentity", partial(self._gateway.identity, name))
        if found is None:
            return await self._identities.store(name, False, None)
        return await self._identities.store(found.name, found.verified, found.configuration_set)

    async def _read_set(self, name: str) -> KnownSet:
        found = await self._ask("ses:GetConfigurationSet", partial(self._gateway.configuration_set, name))
        if found is None:
            state = KnownSet(sending_enabled=False, suppressed_reasons=None, gone=True)
        else:
            state = KnownSet(sending_enabled=found.sending_enabled, suppressed_reasons=found.suppressed_reasons)
        await self._identities.store_set(name, state)
        return state

    async def _list(self) -> None:
        listed: dict[str, bool] = {}
        token: str | None = None
        try:
            while True:
                page, token = await self._ask("ses:ListEmailIdentities", partial(self._gateway.identities, token))
                listed |= {one.name: one.verified for one in page}
                if token is None:
                    break
                await asyncio.sleep(PAGE_PAUSE_S)
        except NotKnown as error:
            await self._identities.trouble(str(error))
            raise
        await self._identities.replace(listed)

    async def _ask(self, action: str, call: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await call()
        except Exception as error:
            refusal = classify_question(error, action=action)
            self._tell(action, refusal)
            raise NotKnown(why=refusal.reason) from None
        self._tell_answer(action)
        return answer

    def _tell(self, action: str, refusal: Refusal) -> None:
        """One line for what keeps all calls from being answered, and again a minute later."""
        why = self._failing[action] = refusal.alike
        self._told.intersection_update(self._failing.values())
        text = "SES does not answer what must be known before sending; it is asked again"
        if self._repeats.tell(log.warning, why, text, region=self.region, action=action, reason=refusal.reason):
            self._told.add(why)

    def _tell_answer(self, action: str) -> None:
        why = self._failing.pop(action, None)
        if why in self._told and why not in self._failing.values():
            self._told.remove(why)
            log.info("SES answers again what must be known before sending", region=self.region)


async def _nobody() -> None:
    return None
