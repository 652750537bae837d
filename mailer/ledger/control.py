"""A person's word on a campaign: pause, resume, cancel, or on a message: cancel. Each is one script, so it holds from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..errors import ExpiresFirst, NotACampaign, NotFound, PastExpiry, TooLate, WrongState
from ..ids import chunk_id, is_message
from ..message.email import Outcome, State
from ..redis.client import RedisClient
from ..redis.scripts import Scripts
from .archive import REASONS
from .intake import Intake
from .keys import Keys, chunk_keys
from .lifecycle import SENDING, Lifecycle
from .records import LETTERS, OUTCOMES
from .work import Work

COUNT_OUT_CHUNKS = 5  # chunks of a cancelled or retried campaign in one round trip, which Redis does in one go: 6 ms
RESUME_PATIENCE_MS = 1000  # a wake-up gets lost when the one before it has just found the campaign paused, and is not over yet
CANCELLED = "somebody cancelled it; nothing more of it is sent"
CANCELLED_MESSAGE = "somebody cancelled it before it was sent"
UNREAD = "somebody cancelled it while its list was being read; nothing of it was sent"


@dataclass(frozen=True, slots=True)
class Switched:
    """What a container is after it was to be paused, resumed or cancelled."""

    state: str  # of State, or `gone`
    changed: bool  # by this
    ready: bool  # its list has been read to the end
    wake: tuple[tuple[str, int], ...] = ()  # chunks and their fences


class Requeued(NamedTuple):
    state: str  # the campaign's before, or `expired`, or `gone`
    recipients: int
    absent: Sequence[int]  # the chunks that Redis does not have


class Swept(NamedTuple):
    recipients: int  # counted out by this call
    done: int  # chunks that have been counted out, by whomever
    left: int  # chunks


class Retried(NamedTuple):
    recipients: int  # queued again by this call
    left: int  # chunks that have not been looked at


class Control:
    """Each raises NotFound, NotACampaign, and WrongState where the campaign is beyond it; doing it twice changes nothing."""

    def __init__(
        self, redis: RedisClient, keys: Keys, scripts: Scripts, intake: Intake, work: Work, lifecycle: Lifecycle
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._intake = intake
        self._work = work
        self._lifecycle = lifecycle

    async def pause(self, id: str) -> bool:
        """True where it was not paused before. What is in flight settles."""
        reason = f"somebody paused it; to let it go on: mailer campaign resume {id}"
        switched = await self._run_pause(_campaign(id, "paused"), reason=reason)
        return _changed(id, switched, "paused", {State.PAUSED})

    async def resume(self, id: str) -> Switched:
        """It goes on, a stopped one too. What has to be woken is the caller's to queue; the reaper's, if it dies first."""
        switched = await self._run_resume(_campaign(id, "resumed"), patience_ms=RESUME_PATIENCE_MS)
        _changed(id, switched, "resumed", {State.PLANNED, *SENDING})
        await self._lifecycle.revive_campaign(id)
        return switched

    async def reschedule(self, id: str, send_at: datetime) -> None:
        """Another time for a campaign that has not begun. Raises ExpiresFirst, too."""
        at_ms, at_text = int(send_at.timestamp() * 1000), f"{send_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        switched = await self._run_reschedule(_campaign(id, "rescheduled"), at_ms=at_ms, at_text=at_text)
        if switched.state == "expired":
            raise ExpiresFirst(id=id, time=at_text)
        if switched.state == "begun":
            raise WrongState(id=id, state="paused, and a part of it was queued before", verb="rescheduled")
        _changed(id, switched, "rescheduled", set())

    async def cancel(self, id: str) -> bool:
        """True where it was not cancelled before. What it has queued is left to `count_out`."""
        switched = await self._run_cancel(_campaign(id, "cancelled"), reason=CANCELLED)
        if switched.state == State.PLANNED and not switched.ready:
            if await self._intake.abandon_campaign(id, 0, reason=UNREAD):
                return True
            switched = await self._run_cancel(id, reason=CANCELLED)  # its list was read to the end in the meantime
        return _changed(id, switched, "cancelled", {State.CANCELLED})

    async def cancel_message(self, id: str) -> bool:
        """It is not sent; where it is in doubt, not again. True where it was not cancelled before. Raises NotFound, TooLate."""
        state, changed = await self._run_cancel_message(id, reason=CANCELLED_MESSAGE)
        if state is None:
            raise NotFound(id=id)
        if not changed and state not in (Outcome.CANCELLED, Outcome.UNKNOWN):
            raise TooLate(id=id, state="on its way to SES" if state is Outcome.CLAIMED else state)
        return changed

    async def retry(self, id: str, outcomes: Set[Outcome], first: int, *, chunks: int) -> Retried:
        """Queue those of some chunks again that failed or are in doubt, from the chunk `first` on; also those that
        are archived. Doing it twice queues nobody twice. Raises PastExpiry and StoreFailed, too."""
        total = int(await self._redis.hget(self._keys.container(_campaign(id, "retried")), "chunks") or 0)
        end, n = min(first + chunks, total), 0
        for start in range(first, max(end, first + 1), COUNT_OUT_CHUNKS):
            queued, absent = await self._retry(id, range(start, max(min(start + COUNT_OUT_CHUNKS, end), start + 1)), outcomes)
            archived = (self._retry_archived(id, number, outcomes) for number in absent if number < total)
            found = await asyncio.gather(*archived, return_exceptions=True)
            n += queued + sum(one for one in found if not isinstance(one, BaseException))
            if failed := [one for one in found if isinstance(one, BaseException)]:
                raise failed[0]
        return Retried(n, total - end)

    async def _retry(self, id: str, numbers: Sequence[int], outcomes: Set[Outcome]) -> tuple[int, Sequence[int]]:
        """How many are queued again, and which of these chunks Redis does not have."""
        state, queued, absent = await self._run_retry(id, numbers, outcomes)
        if state == "expired":
            raise PastExpiry(id=id)
        if state == "gone":
            raise NotFound(id=id)
        if state in (State.PLANNED, State.CANCELLED):
            raise WrongState(id=id, state=state, verb="retried")
        return queued, absent

    async def _retry_archived(self, id: str, number: int, outcomes: Set[Outcome]) -> int:
        """A chunk comes back from the store where it has such recipients. It may be archived again before they are queued."""
        while await self._work.take_back(chunk_id(id, number), outcomes):
            queued, absent = await self._retry(id, [number], outcomes)
            if not absent:
                return queued
        return 0

    async def count_out(self, id: str, *, chunks: int) -> Swept:
        """Count out what a cancelled campaign has queued, in at most so many chunks. Several may do it at the same time, and
        whoever comes after a crash goes on where it ended."""
        found = await self._redis.hmget(self._keys.container(id), "sweep", "chunks")
        if None in found:
            return Swept(0, 0, 0)
        await self._lifecycle.revive_campaign(id)
        done, end = map(int, found)
        swept, stop, reason = 0, min(done + chunks, end), REASONS[Outcome.CANCELLED]
        for first in range(done, stop, COUNT_OUT_CHUNKS):
            swept += await self._run_count_out(id, range(first, min(first + COUNT_OUT_CHUNKS, stop)), reason=reason)
        return Swept(swept, stop, end - stop)

    # ---- the scripts ---------------------------------------------------------------------------

    async def _run_pause(self, container: str, *, reason: str) -> Switched:
        """Nothing of it is claimed after this. May be repeated. O(1)."""
        return _switched(await self._scripts.run("pause", [self._keys.container(container)], reason))

    async def _run_resume(self, container: str, *, patience_ms: int) -> Switched:
        """What is to be woken is due after the patience, so that a wake-up that gets lost is made up for. O(window)."""
        k = self._keys
        keys = [k.container(container), k.window(container), k.due, k.active]
        return _switched(await self._scripts.run("resume", keys, container, patience_ms, k.chunk("")))

    async def _run_reschedule(self, container: str, *, at_ms: int, at_text: str) -> Switched:
        """See reschedule.lua. May be repeated. O(1)."""
        return _switched(await self._scripts.run("reschedule", [self._keys.container(container)], at_ms, at_text))

    async def _run_cancel(self, container: str, *, reason: str) -> Switched:
        """Nothing of it is claimed after this; `count_out` counts out what was queued. May be repeated. O(1)."""
        k = self._keys
        return _switched(
            await self._scripts.run("cancel", [k.container(container), k.window(container), k.active], container, reason)
        )

    async def _run_cancel_message(self, id: str, *, reason: str) -> tuple[Outcome | None, bool]:
        """A message that waits is not sent, and one in doubt not again: its state afterwards, None where Redis does not have it,
        and whether this changed something. May be repeated. O(1)."""
        chunk = chunk_id(id, 0)
        state, changed = await self._scripts.run("cancel_message", chunk_keys(self._keys, chunk), chunk, reason)
        return (OUTCOMES[state.decode()] if state else None), bool(changed)

    async def _run_retry(self, container: str, numbers: Sequence[int], outcomes: Iterable[Outcome]) -> Requeued:
        """Queue those of these chunks again that are in one of the states. Each chunk is atomic. O(recipients in them)."""
        states = "".join(LETTERS[outcome] for outcome in outcomes)
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                chunk = chunk_id(container, number)
                keys = [*chunk_keys(self._keys, chunk), self._keys.active]
                await self._scripts.queue(pipe, "retry", keys, [chunk, states])
            found = await pipe.execute()
        absent = [number for number, (_, n) in zip(numbers, found, strict=True) if int(n) < 0]
        return Requeued(found[-1][0].decode(), sum(max(int(n), 0) for _, n in found), absent)

    async def _run_count_out(self, container: str, numbers: Sequence[int], *, reason: str) -> int:
        """Count out these chunks of a cancelled campaign, each atomically; recipients counted out. O(recipients in them): 1.1 ms
        for 500 of them, most of it for their entries in the stream of outcomes."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                chunk = chunk_id(container, number)
                await self._scripts.queue(pipe, "count_out", chunk_keys(self._keys, chunk), [chunk, number, reason])
            return sum(map(int, await pipe.execute()))


def _campaign(id: str, verb: str) -> str:
    if is_message(id):
        raise NotACampaign(id=id, verb=verb)
    return id


def _changed(id: str, switched: Switched, verb: str, fine: Set[State]) -> bool:
    """Whether this changed it; that it did not is fine in some states, of a list that has been read."""
    if switched.changed:
        return True
    if switched.state == "gone":
        raise NotFound(id=id)
    state = State(switched.state)
    if state is State.PLANNED and not switched.ready:
        raise WrongState(id=id, state="planned, and its list is still being read", verb=verb)
    if state not in fine:
        raise WrongState(id=id, state=state, verb=verb)
    return False


def _switched(found: Sequence[Any]) -> Switched:
    state, changed, ready, *wake = found
    chunks = tuple((wake[i].decode(), int(wake[i + 1])) for i in range(0, len(wake), 2))
    return Switched(state.decode(), bool(changed), bool(ready), chunks)
