"""What SES says of what it accepted: read, applied to the ledger, and acted upon.

Events come from an SQS queue, or from SNS over HTTP by way of a stream in Redis (`worker/sns.py`). Each is applied before it
is deleted there, so what a crash interrupts comes again, and applying it twice changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mailer import metrics
from mailer.errors import NotAnEvent, QueueUnavailable, StoreFailed
from mailer.events import Event, EventType, read
from mailer.ids import chunk_id, container_of
from mailer.ledger import Change, EventUpdate, Spec
from mailer.ledger.work import Applied
from mailer.message.address import bare, dedup_key
from mailer.message.email import Lane, Outcome
from mailer.message.sender import Sender
from mailer.ses.sqs import BATCH, LONG_POLL_S, EventQueue, Received
from mailer.suppression.lists import NewEntry, Reason
from mailer.tasks import to_the_end

from .meaning import happening, left_a_list, suppressions
from .runtime import Runtime, cancel
from .soft import suppress_repeated
from .suppression_outbox import Owed, owe
from .untagged import match

log = structlog.get_logger()

POLLERS = 16  # at the same time, while the queue has enough for all
TOGETHER = 50  # calls' worth of messages that are applied at once
DELETING = 4  # batches that are being deleted while the next is applied
PAUSE_S = (1.0, 30.0)  # after the queue did not answer, or nothing could be applied; doubling
REDIS_PAUSE_S = (0.5, 5.0)  # between two looks whether Redis is there again; doubling
BACK_AT_ONCE = 16  # archived chunks that are being taken back into Redis
BACK_S = 5.0  # for all of a batch: meanwhile what was received is hidden, 30 s where the queue has SQS's default
REST_S = 30.0
QUEUE, QUEUE_TOLD_S = "the queue of events", 600.0  # the line about a queue that does not answer, and how often it is said again

RECEIVED = "the queue of SES's events has notifications of received mail, which are left there; give them a queue of their own"
_SILENT = "the store does not answer in time"
REDIS_AWAY = "no events are received before redis answers"


# ---- to apply them -------------------------------------------------------------------------------------------------


async def apply(runtime: Runtime, events: Sequence[Event]) -> Set[int]:
    """Store what they say; the places of those that cannot be stored now, and have to come again. Raises what redis-py raises
    where Redis does not answer or takes no writes; then all of them may be applied again."""
    try:
        left = await _apply(runtime, events)
    except (ConnectionError, RedisConnectionError, RedisTimeoutError):
        raise
    except Exception:
        await runtime.write_mark(runtime.redis)
        # It is something that an event holds, and that nobody has thought of: the others are not to suffer by it.
        if len(events) == 1:
            log.exception("an event could not be applied; it comes again")
            return {0}
        middle = len(events) // 2
        first = await apply(runtime, events[:middle])
        return first | {middle + place for place in await apply(runtime, events[middle:])}
    if left:
        reason = next(iter(left.values()))
        text = "events wait for chunks that cannot be had now; they come again"
        runtime.repeats.tell(log.warning, "events wait", text, events=len(left), reason=reason)
    return left.keys()


async def _apply(runtime: Runtime, events: Sequence[Event]) -> dict[int, str]:
    """Why, by place, of those whose chunk cannot be had now."""
    events, waiting = await match(runtime, events)
    said, places = defaultdict[str, list[EventUpdate]](list), defaultdict[str, list[int]](list)
    unmatched = 0
    for place, event in enumerate(events):
        attempt = event.attempt
        if place in waiting:
            continue
        if attempt is None:
            unmatched += event.type not in (EventType.TEST, EventType.OTHER, EventType.RECEIVED)
        elif (one := happening(event, attempt)) is not None:
            chunk = chunk_id(attempt.container, attempt.chunk)
            said[chunk].append(one)
            places[chunk].append(place)
    # First of all: from here on nobody is sent to who must not be.
    entries = [entry for event in events for entry in suppressions(event)]
    if entries:
        await runtime.suppressed.add(entries)
    await suppress_repeated(runtime, events)
    changes, left = list[Change](), dict[int, str]()
    if said:
        found, failed = await _hear(runtime, said)
        for chunk, heard in found.items():
            changes += heard.changes
            unmatched += 0 if heard.known else len(said[chunk])
            metrics.record_duplicates(heard.twice)
        left = {place: reason for chunk, reason in failed.items() for place in places[chunk]}
    await _count(runtime, changes)
    applied = [event for place, event in enumerate(events) if place not in left and place not in waiting]
    await _act(runtime, [event for event in applied if suppressions(event) or left_a_list(event)])
    for event in applied:
        metrics.record_event(event.type.value)
    if unmatched:
        metrics.record_unmatched(unmatched)
    return left


def _owed(container: str, spec: Spec, events: Sequence[Event]) -> list[Owed]:
    """To be written to SES's list, where it does not do so itself."""
    return [
        Owed(container, event.tags.get("ses:configuration-set", spec.configuration_set or ""), entry.reason, entry.address)
        for event in events
        for entry in suppressions(event)
    ]


async def _hear(runtime: Runtime, said: Mapping[str, list[EventUpdate]]) -> tuple[dict[str, Applied], dict[str, str]]:
    """By chunk; one that was archived comes back for it. And why, of those that cannot be had now."""
    heard = dict(zip(said, await runtime.ledger.work.hear(said), strict=True))
    back, failed = await _take_back(runtime, [chunk for chunk, one in heard.items() if not one.known])
    if back:
        heard |= zip(back, await runtime.ledger.work.hear({chunk: said[chunk] for chunk in back}), strict=True)
        for chunk in back:
            if not heard[chunk].known and await runtime.ledger.lifecycle.lane(container_of(chunk)) is not None:
                failed[chunk] = "it was archived again meanwhile"
    return {chunk: one for chunk, one in heard.items() if chunk not in failed}, failed


async def _take_back(runtime: Runtime, chunks: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those that Redis has now, and why of those that the store does not give. It takes BACK_S at most; a store
    that has answered nothing in that time is left alone for REST_S."""
    free, clock = asyncio.Semaphore(BACK_AT_ONCE), asyncio.get_running_loop().time
    if runtime.ledger.archive is None or not chunks:
        return [], {}
    if clock() < runtime.store_rests_until:
        return [], dict.fromkeys(chunks, _SILENT)

    async def take_back(chunk: str) -> bool | str:
        async with free:
            try:
                return await runtime.ledger.work.unarchive(chunk)
            except StoreFailed as error:
                return str(error)

    tasks = {asyncio.create_task(take_back(chunk)): chunk for chunk in chunks}
    try:
        done, late = await asyncio.wait(tasks, timeout=BACK_S)
    finally:
        await cancel(*tasks)
    if late and not done:
        runtime.store_rests_until = clock() + REST_S
    found = dict(zip(map(tasks.__getitem__, done), await asyncio.gather(*done), strict=True))
    failed = {chunk: one for chunk, one in found.items() if isinstance(one, str)}
    return [chunk for chunk, one in found.items() if one is True], failed | {tasks[task]: _SILENT for task in late}


async def _count(runtime: Runtime, changes: Sequence[Change]) -> None:
    lanes = dict[str, Lane | None]()
    for change in changes:
        container = container_of(change.chunk)
        if container not in lanes:
            lanes[container] = await runtime.lane(container)
        lane = lanes[container]
        # Of what is on its way to SES the answer is counted when it is settled.
        new = change.was is not change.now and not (change.was is Outcome.CLAIMED and change.now is Outcome.SENT)
        if lane is not None and new:
            metrics.record_outcomes(lane, change.now, 1)


async def _act(runtime: Runtime, events: Sequence[Event]) -> None:
    """What depends on who sent the message."""
    by_container = defaultdict[str, list[Event]](list)
    for event in events:
        if event.attempt is not None:
            by_container[event.attempt.container].append(event)
    for container, found in by_container.items():
        spec = await runtime.ledger.lifecycle.spec(container)
        gone = [event for event in found if event.type is EventType.SUBSCRIPTION and len(event.destination) == 1]
        known = [spec.stream] if spec is not None and spec.stream else None
        await _leave(
            runtime, {event.destination[0]: known or _streams(runtime.settings.senders, event) for event in gone}, container
        )
        if spec is None:
            text = "events are of messages that are not known here"
            runtime.repeats.tell(log.info, "not known", text, id=container, events=len(found))
        else:
            await owe(runtime, _owed(container, spec, found))


async def _leave(runtime: Runtime, streams: Mapping[str, Sequence[str]], container: str) -> None:
    """SES's contact list has it; ours gets these addresses for the streams that the message was of. Where it was of none, SES's
    alone keeps them from what goes by that list: nothing else is stopped by it, such as receipts."""
    entries = [NewEntry(address, Reason.UNSUBSCRIBE, stream) for address, found in streams.items() for stream in found]
    if entries:
        await runtime.suppressed.add(entries)
    if lost := sum(not found for found in streams.values()):
        metrics.record_unmatched(lost)
        log.warning(
            "who left a contact list is not on our own list: the From address of the message is no sender's here",
            id=container,
            recipients=lost,
        )


def _streams(senders: Mapping[str, Sender], event: Event) -> list[str]:
    """Of a message that is forgotten, or names no sender: those of the senders that have its From address."""
    found = dedup_key(event.sender)
    return [name for name, sender in senders.items() if found and dedup_key(bare(sender.from_)) == found]


# ---- from SQS ------------------------------------------------------------------------------------------------------


async def from_sqs(runtime: Runtime, url: str) -> None:
    """Take in what the queue brings, for ever. Each receive of a message counts for the queue's redrive policy, so nothing is
    received that could not be stored: while Redis is away a message costs one, at most."""
    pause, longest = PAUSE_S
    warned, listening = "", runtime.listening
    while True:
        intake: Intake | None = None
        try:
            await redis_writes(runtime)
            async with EventQueue(url) as queue:
                warned = await _look_for_dead_letters(queue, warned)
                intake = Intake(runtime, queue)
                await intake.run()
        except QueueUnavailable as error:
            listening.trouble = str(error)
            text = "the queue of SES's events does not answer; trying again"
            runtime.repeats.tell(log.warning, QUEUE, text, str(error), every_s=QUEUE_TOLD_S, reason=str(error))
        except (RedisError, OSError) as error:
            listening.trouble = REDIS_AWAY
            runtime.outage.tell(error, "taking in events, which come again")
        except Exception as error:
            listening.trouble = f"events were not taken in ({type(error).__name__}); the log says why"
            kind = type(error).__name__
            runtime.repeats.tell(log.exception, ("not taken in", kind), "events were not taken in; they come again")
        if intake is not None and intake.applied:
            pause = PAUSE_S[0]
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest)


async def _look_for_dead_letters(queue: EventQueue, warned: str) -> str:
    """Warn of what is not as it should be, once for each reason, which this returns. Receiving needs nothing of it."""
    try:
        if await queue.has_dead_letters():
            return ""
        why = "what cannot be read comes again and again"
        text = "the queue of SES's events has no dead-letter queue"
    except QueueUnavailable as error:
        why, text = str(error), "whether the queue of SES's events has a dead-letter queue cannot be seen"
    if why != warned:
        log.warning(text, reason=why)
    return why


async def redis_writes(runtime: Runtime) -> None:
    """Wait until Redis is there and can store something."""
    pause, longest = REDIS_PAUSE_S
    while True:
        try:
            await runtime.write_mark(runtime.redis)
        except (RedisError, OSError) as error:
            runtime.listening.trouble = REDIS_AWAY
            runtime.outage.tell(error, "receiving events")
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
        else:
            return


class Intake:
    """Several calls receive while the queue is full, one waits when it is empty; what they bring is applied together."""

    def __init__(self, runtime: Runtime, queue: EventQueue) -> None:
        self.applied = False  # something was
        self._runtime, self._queue = runtime, queue
        self._found: asyncio.Queue[list[Received]] = asyncio.Queue(maxsize=TOGETHER)
        self._deleting = asyncio.Semaphore(DELETING)
        self._tasks: asyncio.TaskGroup
        self._pollers = 0

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._poll(LONG_POLL_S))
                self._tasks.create_task(self._poll(0))  # whether SQS answers is known at once
                while True:
                    await self._take_in(await self._next())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _poll(self, wait_s: int) -> None:
        """The first one stays; the others go when they find the queue empty."""
        self._pollers += 1
        try:
            while True:
                found = await self._queue.receive(wait_s)
                self._runtime.listening.received()
                self._runtime.repeats.over(log.info, QUEUE, "the queue of SES's events answers again")
                if found:
                    await self._found.put(found)
                if len(found) == BATCH and self._pollers < POLLERS:
                    self._tasks.create_task(self._poll(0))
                    await asyncio.sleep(0)
                elif not found and wait_s == 0:
                    return
        finally:
            self._pollers -= 1

    async def _next(self) -> list[Received]:
        messages = list(await self._found.get())
        with suppress(asyncio.QueueEmpty):
            while len(messages) < TOGETHER * BATCH:
                messages += self._found.get_nowait()
        return messages

    async def _take_in(self, messages: Sequence[Received]) -> None:
        events, receipts = list[Event](), list[str]()
        for message in messages:
            try:
                event = read(message.body)
            except NotAnEvent as error:
                # It is left alone: after its visibility time-out it comes again, until the queue's policy takes it away.
                metrics.record_unread()
                text, why = "a message of the queue is no event of SES", str(error)
                if message.times <= 1:
                    self._runtime.repeats.tell(log.warning, ("no event", why), text, reason=why)
            else:
                if event.type is EventType.RECEIVED:
                    self._runtime.repeats.change(log.warning, "received mail", RECEIVED, what=True)
                else:
                    events.append(event)
                    receipts.append(message.receipt)
        left = await to_the_end(apply(self._runtime, events))
        done = [receipt for place, receipt in enumerate(receipts) if place not in left]
        if done:
            self.applied = True
            await self._deleting.acquire()
            self._tasks.create_task(self._delete(done))

    async def _delete(self, receipts: Sequence[str]) -> None:
        try:
            parts = [receipts[first : first + BATCH] for first in range(0, len(receipts), BATCH)]
            left = sum(await asyncio.gather(*map(self._queue.delete, parts)))
            if left:
                text = "events could not be deleted from the queue; they come again"
                self._runtime.repeats.tell(log.warning, "not deleted", text, messages=left)
        finally:
            self._deleting.release()
