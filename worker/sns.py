"""`POST /events/ses`: SNS's messages are verified, queued in Redis and answered within a second; a loop applies them.

What is queued is a stream with one consumer group. Whoever takes an entry and dies leaves it to the others; what cannot be
applied now stays with whoever took it, until somebody tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType

import structlog
from redis.exceptions import RedisError, ResponseError

from mailer import metrics
from mailer.errors import CannotVerify, FetchFailed, NotAnEvent, NotBelieved, SeenBefore
from mailer.events import Believed, Certificates, Event, EventType, MessageType, SnsRejection, Trust, Verifier, fetch, read
from mailer.events.sns import MAX_AGE_S, MAX_AHEAD_S
from mailer.ledger.inbox import Inbox
from mailer.ledger.keys import Keys
from mailer.queue import explain_redis
from mailer.redis.client import RedisClient
from mailer.redis.scripts import Scripts
from mailer.repeats import Repeats
from mailer.tasks import to_the_end

from .events import apply
from .runtime import Runtime

log = structlog.get_logger()

RECEIVED = "a topic of ours also has notifications of received mail; nothing is done with them here"
ANSWER_S = 0.9  # SNS is answered within a second; what could not be queued by then comes again
GROUP = "workers"
TOGETHER = 500  # messages
BLOCK_MS = 1000
GONE_AFTER_MS = 6 * 3_600_000  # a consumer that was not heard of for so long is a worker that has ended; others ask each second
CLAIM_AFTER_MS = 60_000  # a message that was taken so long ago, and is still there, is taken again
KEEP_MS = 4 * 86_400_000  # an event that cannot be applied: so long has SQS a message, where nothing else is set
CONFIRM, MESSAGE = "confirm", "message"  # the field of an address to be visited, and that of an event

Entry = tuple[bytes, dict[bytes, bytes]]


class Endpoint:
    """What the route asks: verify, queue, answer. `verifier` is for tests; an async context manager."""

    def __init__(self, redis: RedisClient, keys: Keys, topics: Sequence[str], verifier: Verifier | None = None) -> None:
        """Raises ConfigError where a topic is not one."""
        self._inbox = Inbox(keys, Scripts(redis, "mailer.ledger"))
        self._repeats = Repeats()  # anyone can post here as often as they please
        self._certificates: Certificates | None = None
        if verifier is None:
            self._certificates = Certificates(Trust.of_this_machine(), fetch, shelf=Shelf(redis, keys))
            verifier = Verifier(topics, self._certificates, seen=seen(redis, keys))
        self._verifier = verifier

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._certificates is not None:
            await self._certificates.close()

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The HTTP status. SNS tries again after 5xx, and gives up after 4xx."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._queue(await self._verifier.believe(body, headers))
        except SeenBefore:
            return 200  # it is queued, or applied
        except CannotVerify as error:
            self._say(log.info, "an SNS message cannot be verified now; it comes again", str(error))
            return 503
        except NotBelieved as error:
            metrics.record_unread()
            self._say(log.warning, "a request that is no message of ours was refused", str(error))
            return 403
        except (RedisError, OSError, TimeoutError) as error:
            self._say(log.warning, "an SNS message was not queued; it comes again", explain_redis(error))
            return 503
        return 200

    def _say(self, say: Callable[..., object], text: str, reason: str) -> None:
        self._repeats.tell(say, reason, text, reason=reason)

    async def _queue(self, believed: Believed) -> None:
        """The id is noted with it, in one step: either it is queued, or SNS brings it again and it is new. Raises SeenBefore."""
        if believed.subscribe_url is not None:
            fields = {CONFIRM: believed.subscribe_url}
        elif believed.type is MessageType.NOTIFICATION:
            fields = {MESSAGE: believed.message}
        else:
            fields = {}
        if not await self._inbox.notify(believed.id, fields, life_s=MAX_AGE_S + MAX_AHEAD_S):
            raise SeenBefore(why=SnsRejection.SEEN)
        if not fields:
            log.warning("SNS says that the subscription of this endpoint was ended", topic=believed.topic)


class Shelf:
    """Certificates that were believed, in Redis: a worker that starts while somebody makes names up has what it needs."""

    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def get(self, url: str) -> bytes | None:
        found: bytes | None = await self._redis.get(self._keys.certificate(url))
        return found

    async def put(self, url: str, chain: bytes, until: datetime) -> None:
        with suppress(RedisError, OSError):  # it is believed all the same
            await self._redis.set(self._keys.certificate(url), chain, exat=int(until.timestamp()))


def seen(redis: RedisClient, keys: Keys) -> Callable[[str], Awaitable[bool]]:
    """Was this id there before? It is noted when it is queued."""

    async def ask(id: str) -> bool:
        return bool(await redis.exists(keys.notified(id)))

    return ask


# ---- the loop that applies ------------------------------------------------------------------------------------------


async def forget_the_gone(runtime: Runtime) -> None:
    """Each start of a worker makes a consumer; those of workers that have ended, and left nothing, are removed."""
    await runtime.ledger.inbox.remove_consumers(GROUP, idle_ms=GONE_AFTER_MS)


async def take_in(runtime: Runtime) -> None:
    """Apply a batch of what is new, and one of what was left: by a process that died, or because it could not be applied then.
    Waits for a moment where there is neither."""
    redis, keys = runtime.redis, runtime.ledger.keys
    try:
        # Claiming makes an entry young again, so one that cannot be applied is tried once in CLAIM_AFTER_MS.
        _, left, *_ = await redis.xautoclaim(keys.inbox, GROUP, runtime.owner, CLAIM_AFTER_MS, count=TOGETHER)
        new = await redis.xreadgroup(GROUP, runtime.owner, {keys.inbox: ">"}, count=TOGETHER, block=None if left else BLOCK_MS)
        for entries in (new[0][1] if new else [], left):
            await to_the_end(_apply(runtime, entries))
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        await _make_group(redis, keys)


async def _make_group(redis: RedisClient, keys: Keys) -> None:
    try:
        await redis.xgroup_create(keys.inbox, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):  # another process was faster
            raise


async def _apply(runtime: Runtime, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    events, ids, done = list[Event](), list[bytes](), list[bytes]()
    for id, fields in entries:
        if url := fields.get(CONFIRM.encode()):
            if await _confirmed(url.decode()):  # else it is tried again, by whoever claims it
                done.append(id)
            continue
        try:
            event = read(fields[MESSAGE.encode()])
            if event.type is EventType.RECEIVED:
                runtime.repeats.change(log.warning, "received mail", RECEIVED, what=True)
                done.append(id)
            else:
                events.append(event)
                ids.append(id)
        except NotAnEvent as error:
            metrics.record_unread()
            text = "a message of a topic of ours is no event of SES"
            runtime.repeats.tell(log.warning, ("no event", str(error)), text, reason=str(error))
            done.append(id)
    if events:
        left = {ids[place] for place in await apply(runtime, events)}
        left -= await _given_up(runtime, left)
        done += [id for id in ids if id not in left]
    if done:
        async with runtime.redis.pipeline(transaction=False) as pipe:
            pipe.xack(runtime.ledger.keys.inbox, GROUP, *done)
            pipe.xdel(runtime.ledger.keys.inbox, *done)
            await pipe.execute()


async def _given_up(runtime: Runtime, left: Collection[bytes]) -> set[bytes]:
    """Those that have been here for KEEP_MS: what keeps them from being applied stays."""
    if not left:
        return set()
    oldest = await runtime.ledger.now_ms() - KEEP_MS
    over = {id for id in left if int(id.partition(b"-")[0]) < oldest}
    if over:
        metrics.record_unread(len(over))
        log.error("events that could not be applied for four days are given up; the lines before say why", events=len(over))
    return over


async def _confirmed(url: str) -> bool:
    try:
        await fetch(url)
    except FetchFailed as error:
        gone = "the answer is 4" in str(error)  # the token is over, or was used
        log.warning("a subscription of this endpoint was not confirmed", reason=str(error), again=not gone)
        return gone
    log.info("a subscription of this endpoint is confirmed")
    return True
