"""What the loops of one worker process share: its connections, its account's gate and the templates that it has compiled."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import OrderedDict, defaultdict
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeVar

import structlog
from redis.exceptions import RedisError

from mailer import metrics
from mailer.accounts.access import SesAccount, SesAccounts, set_up
from mailer.accounts.overview import ASK_S, read_account
from mailer.compose import Loaded
from mailer.errors import StoreFailed
from mailer.ledger import File, Ledger, Spec
from mailer.ledger.census import Census
from mailer.ledger.holds import Holds
from mailer.ledger.intake import CHUNK_ROWS
from mailer.ledger.workers import Workers
from mailer.message.email import Lane
from mailer.queue import Era, Queue, connect, disconnect
from mailer.quota.gate import AHEAD_S
from mailer.quota.state import AccountStates
from mailer.redis.client import RedisClient
from mailer.repeats import Repeats
from mailer.ses.refusals import classify_question
from mailer.settings import Settings
from mailer.storage import open_objects
from mailer.suppression.lists import SuppressionLists
from mailer.suppression.throttle import WriteThrottle

from .outage import Outage
from .render import Far, Near, Rendering, choose
from .room import Room
from .stored import StoredTemplates

T = TypeVar("T")
log = structlog.get_logger()

FILES_KEPT_BYTES = 64 << 20  # of attachments; in base64 they take as much again and a third
FILE_ROOM_BYTES = 256 << 20  # for attachments of the chunks that are worked on at a time, while messages are made of them
TEXT_ROOM_BYTES = 128 << 20  # for large messages
LANES_KEPT = 10_000  # containers of which events were taken in
TEMPLATES_KEPT = 64  # compiled, or as they are stored; a campaign uses one
CANCEL_AGAIN_S = 1.0
PROBE_S = 1.5  # below the time that `/readyz` has
MARK_S = 60  # that the key stays which is written to see that Redis takes writes
# A worker that is gone is noticed after this long. The heartbeat renews it three times in that time.
LEASE_MS = 15_000
PATIENCE_MS = 20_000  # how long a wake-up may lie in arq's queue before the reaper looks whether it got lost
WINDOW_CHUNKS = (3, 16)  # chunks of one campaign that are queued or being worked on: the fewest, the most


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and see them end. More than once: what runs inside may swallow a cancellation (a time-out that ends in
    the same moment does, on Python 3.11), and then it would be waited for in vain."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


async def open_runtime(settings: Settings, era: Era | None = None) -> Runtime:
    """A runtime that is entered; leaving it is the caller's. Raises MailerError where AWS or the store is not set up."""
    with set_up():
        runtime = await Runtime(settings, era=era).__aenter__()
    try:
        await runtime.check_store()
    except BaseException:
        await runtime.__aexit__(None, None, None)
        raise
    return runtime


@dataclass(slots=True)
class Listening:
    """Whether SES's events come in from SQS."""

    received_at: float = 0.0  # Unix time of the last receive that SQS answered; 0 = none yet
    trouble: str = ""  # why nothing has been received since; half a sentence

    def received(self) -> None:
        self.received_at, self.trouble = time.time(), ""
        metrics.set_events_received(self.received_at)


class Runtime:
    """An async context manager; leaving it closes what it opened."""

    def __init__(self, settings: Settings, *, clock: str | None = None, era: Era | None = None) -> None:
        self.settings = settings
        self.doubt = {lane: settings.unknown(lane).value for lane in Lane}  # what becomes of recipients in doubt
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.redis = connect(settings, era=era)
        # For `/readyz`, which has to know at once what Redis says now.
        self.probe = connect(settings, retries=0, timeout=PROBE_S, era=self.redis.patience.era)
        self.outage = Outage()
        self.objects = open_objects(settings)
        self.ledger = Ledger(self.redis, settings.namespace, clock, self.objects)
        self.suppressed = SuppressionLists(self.ledger)
        self.accounts = AccountStates(self.ledger)
        self.holds = Holds(self.ledger)
        self.queue = Queue(self.redis, self.ledger.keys)
        self.stopping = asyncio.Event()
        self.ses_accounts = SesAccounts(settings, self.ledger, self.stopping)
        self.stored = StoredTemplates()
        self.listening = Listening()
        self.repeats = Repeats()  # of log lines
        self.serving: set[Lane] = set()  # lanes whose queue is being read right now
        self.working = dict[str, None]()  # chunks that are being worked on, as they were taken
        self.workers = Workers(self.redis, self.ledger.keys)
        self.since = datetime.now(UTC)
        self.beaten: frozenset[Lane] | None = None  # what the last heartbeat said that it serves, and when that was
        self.beaten_at = 0.0
        self.census: Census | None = None  # the last one, and when it was taken
        self.census_at = 0.0
        self.paces: defaultdict[str, WriteThrottle] = defaultdict(
            WriteThrottle
        )  # of writing to SES's suppression list, by account
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by account
        self.store_rests_until = 0.0  # the loop's time: before it, events ask nothing of a store that did not answer
        self.rendering = Rendering()
        self.file_room, self.text_room = Room(FILE_ROOM_BYTES), Room(TEXT_ROOM_BYTES)
        self.one_suspect = asyncio.Lock()
        self.unreturned: dict[str, int] = {}  # chunks whose leases could not be given back, and their fences
        self._templates: OrderedDict[str, Near | Far] = OrderedDict()
        self._files: OrderedDict[File, Loaded] = OrderedDict()
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Runtime:
        self._stack.push_async_callback(disconnect, self.redis)
        self._stack.push_async_callback(disconnect, self.probe)
        if self.objects is not None:
            self._stack.push_async_callback(self.objects.close)
        await self._stack.enter_async_context(self.ses_accounts)
        self._stack.push_async_callback(self.rendering.children.close)
        return self

    async def check_store(self) -> None:
        """Raises ConfigError. One that is only away for a while is waited for, by what needs it."""
        if self.objects is not None:
            try:
                await self.objects.check()
            except StoreFailed as error:
                log.warning("the store does not answer; campaigns wait for it", reason=str(error))

    @property
    def own(self) -> SesAccount:
        """The account of the worker's own credentials."""
        return self.ses_accounts.own

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter what is to be left with this."""
        return await self._stack.enter_async_context(context)

    async def write_mark(self, redis: RedisClient) -> None:
        """Whether Redis takes writes. Raises what redis-py raises."""
        await redis.set(self.ledger.keys.mark, 1, ex=MARK_S)

    async def template(self, spec: Spec) -> Near | Far | None:
        """The template of a campaign or message, compiled once; None where Redis does not have it any more."""
        digest = spec.content or ""
        found = self._templates.get(digest)
        if found is None:
            packed = await self.ledger.contents.get(digest, "its template")
            if packed is None:
                return None
            found = self._templates[digest] = await asyncio.to_thread(choose, digest, packed)
            if len(self._templates) > TEMPLATES_KEPT:
                self._templates.popitem(last=False)
        self._templates.move_to_end(digest)
        return found

    async def loaded(self, file: File) -> Loaded | None:
        """An attachment with its content, kept for the chunks that follow; None where Redis does not have it any more."""
        found = self._files.get(file)
        if found is None:
            content = await self.ledger.contents.get(file.digest, f"its attachment {file.name}")
            if content is None:
                return None
            found = self._files[file] = Loaded(file, content)
            while len(self._files) > 1 and sum(one.file.size for one in self._files.values()) > FILES_KEPT_BYTES:
                self._files.popitem(last=False)
        self._files.move_to_end(file)
        return found

    async def lane(self, container: str) -> Lane | None:
        """A container's lane never changes, so it is asked for once."""
        found = self._lanes.get(container) or await self.ledger.lifecycle.lane(container)
        if found is not None:
            self._lanes[container] = found
            if len(self._lanes) > LANES_KEPT:
                self._lanes.popitem(last=False)
        return found

    async def feed(self, container: str, lane: Lane) -> None:
        """Queue what a campaign's window has room for."""
        added = await self.ledger.lifecycle.feed(container, window=self._window(), patience_ms=PATIENCE_MS)
        await self.queue.wake_all(lane, added)

    async def sending_is_off(self, ses_account: SesAccount) -> bool:
        """Whether SES says of the account itself, asked now, that it may not send; False where it does not answer, too."""
        asked_at = await self.accounts.now_s()
        async with self._asking[ses_account.account]:
            known = await self.accounts.load(ses_account.account)
            if known is None or known.refreshed_at.timestamp() < asked_at:  # else somebody has asked since
                try:
                    async with asyncio.timeout(ASK_S):
                        await read_account(self.accounts, ses_account)
                except RedisError:
                    raise
                except Exception as error:
                    reason, text = classify_question(error).reason, "SES does not say whether the account may send"
                    self.repeats.tell(
                        log.warning, ("may send", ses_account.account), text, account=ses_account.account, reason=reason
                    )
                    return False
                known = await self.accounts.load(ses_account.account)
        return known is not None and (not known.sending_enabled or known.enforcement == "SHUTDOWN")

    def _window(self) -> int:
        """More chunks than the rate can use would only stand in the way of another campaign's."""
        rate = max(ses_account.quota.rate for ses_account in self.ses_accounts.all())
        fewest, most = WINDOW_CHUNKS
        return max(fewest, min(most, 2 + int(rate * AHEAD_S / CHUNK_ROWS)))
