"""SES's suppression list → our copy of it.

A **full pass** reads every page, marks what it sees with a new generation, and then removes what bears an older one: so what
was removed at SES disappears here, and what was added here or there meanwhile stays. How far it has come is in Redis, and
another process goes on with it. Between full passes only what is **new** is read, by the time from which SES is to list.

One process of all reads at a time (its *turn*); each writes only as long as it is its turn.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from redis.exceptions import RedisError

from ..errors import MailerError
from ..ses.gateway import Gateway
from ..ses.questions import SuppressedPage, TokenRefused
from ..ses.refusals import Refusal, classify_question
from ..tasks import to_the_end
from .lists import BUCKETS, SesEntry, SesList, SuppressionLists, ms_of
from .throttle import WriteThrottle

WHOLE_EVERY_S = 86_400.0
SLICE_S = 5.0  # of work, after which other accounts and other processes get their turn
RETRY_S = 30.0  # after SES could not be asked; sooner where the interval is shorter
# SES's own clocks differ, entries appear in its list some time after their time, and several have the same.
OVERLAP = timedelta(minutes=10)
TURN_POLL_S = 0.25
_SWEEPS_A_STEP = 64  # scripts; some 100 ms
_REDIS = (RedisError, OSError)  # boto wraps the network's errors in its own

Seen = Callable[[int, int], None]  # entries that the pass has seen, entries that there were when it began


class SyncFailed(MailerError):
    sentence = "SES's suppression list cannot be read: {why}"


class _TurnLost(Exception):
    """Another process reads."""


class Sync:
    """Of one account."""

    def __init__(
        self,
        suppressed: SuppressionLists,
        account: str,
        gateway: Gateway,
        *,
        every_s: float,  # how often what is new is to be read
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._list = suppressed
        self._account = account
        self._gateway = gateway
        self._every_s = every_s
        self._restarted = False
        self._sleep = sleep
        self._clock = clock
        self._pace = WriteThrottle(sleep, clock)
        self._owner = secrets.token_hex(8)

    async def when_due(self, *, slice_s: float = SLICE_S) -> Refusal | None:
        """Do what is due by now, for a slice of time at most. What SES refuses is kept beside the list, and returned."""
        if not _due(await self._list.ses_list(self._account), self._every_s):
            return None
        if not await self._list.take_turn(self._account, self._owner):
            return None
        deadline = self._clock() + slice_s
        try:
            while _due(known := await self._list.ses_list(self._account), self._every_s):
                await self._step(known)
                if self._clock() >= deadline:
                    break
        except _TurnLost:
            pass  # another process has it, and goes on from where this one came to
        except (asyncio.CancelledError, *_REDIS):
            raise
        except Exception as error:
            return await self._trouble(classify_question(error))
        finally:
            await to_the_end(self._give_back())
        return None

    async def whole(self, seen: Seen, waiting: Callable[[], None]) -> SesList:
        """Read all of it now, from its first page: what was removed at SES before this began is gone afterwards.

        Raises SyncFailed. `waiting` is called once where another process has its turn.
        """
        async with self._turn(waiting):
            before = await self._list.ses_list(self._account)
            await self._begin(before)
            while (known := await self._list.ses_list(self._account)).passing:
                seen(known.pass_seen, before.entries)
                await self._step(known)
        return await self._list.ses_list(self._account)

    async def new(self, seen: Seen, waiting: Callable[[], None]) -> SesList:
        """Read what was added since the last time; all of it, where that has not happened yet. Raises SyncFailed."""
        if (await self._list.ses_list(self._account)).whole_at is None:
            return await self.whole(seen, waiting)
        async with self._turn(waiting):
            await self._read_new(await self._list.ses_list(self._account))
        return await self._list.ses_list(self._account)

    # ---- the turn ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, waiting: Callable[[], None]) -> AsyncIterator[None]:
        told = False
        while not await self._list.take_turn(self._account, self._owner):
            if not told:
                waiting()
            told = True
            await self._sleep(TURN_POLL_S)
        try:
            yield
        except _TurnLost:
            raise SyncFailed(why="another process took over, because nothing was heard of this one; run it again") from None
        except (asyncio.CancelledError, *_REDIS):
            raise
        except Exception as error:
            refusal = classify_question(error)
            await self._trouble(refusal)
            raise SyncFailed(why=refusal.reason) from None
        finally:
            await to_the_end(self._give_back())

    async def _give_back(self) -> None:
        await self._list.give_turn_back(self._account, self._owner)

    async def _keep(self, **fields: str | int) -> None:
        if not await self._list.keep_turn(self._account, self._owner, fields):
            raise _TurnLost

    async def _trouble(self, refusal: Refusal) -> Refusal:
        known = await self._list.ses_list(self._account)
        now = ms_of(known.now)
        since = ms_of(known.trouble_since) if known.trouble and known.trouble_since else now
        fields: dict[str, str | int] = {"trouble": refusal.reason, "trouble_since": since, "tried": now}
        await self._list.keep_turn(self._account, self._owner, fields)
        return refusal

    # ---- reading -------------------------------------------------------------------------------

    async def _read_new(self, known: SesList) -> None:
        """What SES has added since the checkpoint, all pages of it."""
        assert known.checkpoint is not None
        since, token, said_at = known.checkpoint - OVERLAP, "", None
        while True:
            try:
                page = await self._page(token=token, since=since)
            except TokenRefused as error:
                self._restart(error)
                token, said_at = "", None
                continue
            said_at = said_at or page.said_at or known.now
            await self._store(page)
            if page.token is None:
                break
            token = page.token
        # `now` was before the first page was asked for: what was added later comes the next time.
        await self._keep(synced=ms_of(known.now), checkpoint=ms_of(said_at), trouble="")

    async def _begin(self, known: SesList) -> None:
        await self._keep(
            generation=known.generation + 1,
            passing=1,
            pass_at=ms_of(known.now),
            pass_seen=0,
            pass_token="",
            pass_checkpoint="",
            sweep="",
        )

    async def _step(self, known: SesList) -> None:
        """What is new; else the next page of a full pass, or the next part of its sweep."""
        if _new_due(known, self._every_s):
            await self._read_new(known)
        elif not known.passing:
            await self._begin(known)
        elif known.sweep is None:
            await self._next_page(known)
        elif known.sweep < BUCKETS:
            first, scripts = known.sweep, 0
            while first < BUCKETS and scripts < _SWEEPS_A_STEP:
                after = await self._list.sweep(self._account, first, entries=known.entries, owner=self._owner)
                if after is None:
                    raise _TurnLost
                first, scripts = after, scripts + 1
        else:
            await self._end(known)

    async def _next_page(self, known: SesList) -> None:
        try:
            page = await self._page(token=known.pass_token)
        except TokenRefused as error:
            self._restart(error)
            await self._begin(known)
            return
        await self._store(page)
        fields: dict[str, str | int] = {
            "pass_seen": known.pass_seen + len(page.entries),
            "pass_token": page.token or "",
            "trouble": "",
        }
        if known.pass_checkpoint is None:
            fields["pass_checkpoint"] = ms_of(page.said_at or known.now)
        if page.token is None:
            fields["sweep"] = 0 if known.entries or page.entries else BUCKETS
        await self._keep(**fields)

    def _restart(self, error: TokenRefused) -> None:
        """A token of another process may be too old by now. One of our own should not be."""
        if self._restarted:
            raise error.__cause__ or error
        self._restarted = True

    async def _end(self, known: SesList) -> None:
        """What was added since the pass began is for the next reading of what is new."""
        assert known.pass_at is not None
        assert known.pass_checkpoint is not None
        later = known.synced_at is not None and known.checkpoint is not None and known.synced_at > known.pass_at
        synced, checkpoint = (known.synced_at, known.checkpoint) if later else (known.pass_at, known.pass_checkpoint)
        assert synced is not None
        assert checkpoint is not None
        await self._keep(whole=ms_of(known.now), synced=ms_of(synced), checkpoint=ms_of(checkpoint), passing=0, sweep="")

    async def _page(self, *, token: str = "", since: datetime | None = None) -> SuppressedPage:
        page = await self._pace.call(lambda: self._gateway.suppressed_page(token=token, since=since), waiting=self._keep)
        self._pace.slow = self._pace.slow or page.retried
        return page

    async def _store(self, page: SuppressedPage) -> None:
        entries = [SesEntry(*entry) for entry in page.entries]
        if await self._list.listed(self._account, entries, owner=self._owner) is None:
            raise _TurnLost


def _due(known: SesList, every_s: float) -> bool:
    if known.trouble and known.tried_at and _passed(known, known.tried_at) < min(RETRY_S, every_s):
        return False
    return known.passing or _new_due(known, every_s) or known.whole_at is None or _passed(known, known.whole_at) >= WHOLE_EVERY_S


def _new_due(known: SesList, every_s: float) -> bool:
    """Also while a full pass goes on: of a long list it takes longer than what is new may wait."""
    return known.whole_at is not None and (known.synced_at is None or _passed(known, known.synced_at) >= every_s)


def _passed(known: SesList, since: datetime) -> float:
    return (known.now - since).total_seconds()
