"""SyncMailer: a Mailer for code without asyncio."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar, overload

from .client import Mailer
from .compose.explain import Explanation
from .errors import ClosedMeanwhile
from .ids import CampaignId, MessageId
from .intake.handover import Progress
from .intake.selection import ALL, Selection
from .intake.summary import Confirm, Summary
from .intake.trial import Trial
from .ledger import CampaignStatus, MessageStatus, RecipientStatus
from .ledger.workers import WorkerSeen
from .message.email import Campaign, Email, Outcome
from .recipients import Reading, Recipient, Source
from .recipients.reading import AS_IT_IS
from .settings import Settings, load_settings
from .suppression.lists import OwnEntry, Reason
from .templates import Rendered
from .thread import Caller, LoopThread
from .unsubscribe.tokens import Unsubscribed

T = TypeVar("T")

FEED_ROWS = 100  # of an iterable, in one step from the caller's thread to the loop's: some 1 µs a row
PAGE_ROWS = 500  # of a report, in one step back


class _Opened:
    """A Mailer and the thread of its loop."""

    def __init__(self, settings: Settings, timeout: float | None) -> None:
        self.mailer = Mailer(settings, timeout=timeout)
        self.thread = LoopThread(self.mailer.aclose)

    def page(self, lines: AsyncIterator[RecipientStatus]) -> list[RecipientStatus]:
        return self.thread.call(lambda _: _page(lines))

    def end(self, lines: Any) -> None:
        if self.thread.is_usable:
            with suppress(ClosedMeanwhile):
                self.thread.call(lambda _: _closed(lines))


_of_parents = list[_Opened]()  # kept, because Python would complain about their sockets when it forgets them


class SyncMailer:
    """`Mailer`'s methods for code without asyncio: scripts, Django and Flask views, Celery tasks; see there for what they do.

    It may be a global of a module: it is opened by its first call, used by several threads at the same time, opened anew in a
    process that was forked, and closed when the program ends. As a context manager it is closed at the end of the block, and
    entering it raises RedisUnavailable where Redis does not answer. An iterable of recipients and `progress` are run in the
    thread of the caller. Ctrl-C ends a call.
    """

    def __init__(self, settings: Settings | None = None, *, timeout: float | None = None) -> None:
        self.settings = settings or load_settings()
        self._timeout = timeout
        self._here = Mailer(self.settings, timeout=timeout)  # for what asks nobody; and it says what is wrong at once
        self._opened: _Opened | None = None
        self._at_end: weakref.finalize[[], SyncMailer] | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> SyncMailer:
        try:
            self._ask(lambda mailer: mailer.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Calls that other threads wait for raise ClosedMeanwhile. A call that comes afterwards opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and opened.thread.pid != os.getpid():
            _of_parents.append(opened)
        elif opened is not None:
            if self._at_end is not None:
                self._at_end.detach()
            opened.thread.stop()

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is not None and opened.thread.is_usable:
            return opened
        if self._pid != os.getpid():  # a thread that has not come along may have held the lock
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            opened = self._opened
            if opened is None or not opened.thread.is_usable:
                if opened is not None and opened.thread.pid != os.getpid():
                    _of_parents.append(opened)
                opened = self._opened = _Opened(self.settings, self._timeout)
                self._at_end = weakref.finalize(self, opened.thread.stop)  # also when the program ends
            return opened

    def _ask(self, call: Callable[[Mailer], Coroutine[Any, Any, T]]) -> T:
        return self._ask_back(lambda mailer, _: call(mailer))

    def _ask_back(self, call: Callable[[Mailer, Caller], Coroutine[Any, Any, T]]) -> T:
        """A call that has something done in this thread."""
        opened = self._open()
        return opened.thread.call(lambda caller: call(opened.mailer, caller))

    # ---- send ----------------------------------------------------------------------------------

    def send(self, email: Email, *, idempotency_key: str | None = None) -> MessageId:
        """Store one message and queue it; its id."""
        return self._ask(lambda mailer: mailer.send(email, idempotency_key=idempotency_key))

    def status(self, id: str) -> MessageStatus:
        """What has become of a message."""
        return self._ask(lambda mailer: mailer.status(id))

    # ---- campaigns -----------------------------------------------------------------------------

    def start_campaign(
        self,
        campaign: Campaign,
        recipients: Source,
        *,
        reading: Reading = AS_IT_IS,
        selection: Selection = ALL,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
        confirm: Callable[[Summary], bool] | None = None,
    ) -> CampaignId:
        """Read the whole list, store it, and let it be sent; the campaign's id."""

        def call(mailer: Mailer, caller: Caller) -> Coroutine[Any, Any, CampaignId]:
            return mailer.start_campaign(
                campaign,
                _fed(caller, recipients),
                reading=reading,
                selection=selection,
                idempotency_key=idempotency_key,
                progress=_told(caller, progress),
                confirm=_asked(caller, confirm),
            )

        return self._ask_back(call)

    def send_test(
        self, campaign: Campaign, recipients: Source, to: str, *, reading: Reading = AS_IT_IS, selection: Selection = ALL
    ) -> MessageId:
        """Send the campaign's message for the first row of the list that can be used to `to`; the message's id."""

        def call(mailer: Mailer, caller: Caller) -> Coroutine[Any, Any, MessageId]:
            return mailer.send_test(campaign, _fed(caller, recipients), to, reading=reading, selection=selection)

        return self._ask_back(call)

    def test_of(
        self, campaign: Campaign, recipients: Source, to: str, *, reading: Reading = AS_IT_IS, selection: Selection = ALL
    ) -> Trial:
        """What `send_test` sends, without sending it."""

        def call(mailer: Mailer, caller: Caller) -> Coroutine[Any, Any, Trial]:
            return mailer.test_of(campaign, _fed(caller, recipients), to, reading=reading, selection=selection)

        return self._ask_back(call)

    def campaign(self, id: str) -> CampaignStatus:
        """What has become of a campaign."""
        return self._ask(lambda mailer: mailer.campaign(id))

    def workers(self) -> list[WorkerSeen]:
        """The workers that are alive, of all machines."""
        return self._ask(lambda mailer: mailer.workers())

    def campaigns(self, limit: int = 100) -> list[CampaignStatus]:
        """The newest first."""
        return self._ask(lambda mailer: mailer.campaigns(limit))

    def outcomes(self, id: str, *, states: Outcome | str | Iterable[Outcome | str] = ()) -> Iterator[RecipientStatus]:
        """What became of every recipient so far, in the order of the list; with `states`, of those in one of them."""
        opened = self._open()
        lines = opened.mailer.outcomes(id, states=states)
        try:
            while page := opened.page(lines):
                yield from page
        finally:
            opened.end(lines)

    def outcome(self, id: str) -> RecipientStatus:
        """What became of one recipient so far."""
        return self._ask(lambda mailer: mailer.outcome(id))

    @overload
    def wait(self, id: MessageId, *, every_s: float = ...) -> MessageStatus: ...

    @overload
    def wait(self, id: CampaignId, *, every_s: float = ...) -> CampaignStatus: ...

    @overload
    def wait(self, id: str, *, every_s: float = ...) -> CampaignStatus | MessageStatus: ...

    def wait(self, id: str, *, every_s: float = 0.25) -> CampaignStatus | MessageStatus:
        """A campaign's status once it is over, or stopped. A message's once SES has it, or it will not be sent."""
        return self._ask(lambda mailer: mailer.wait(id, every_s=every_s))

    def pause(self, id: str) -> bool:
        """Nothing more of the campaign is handed to SES once this returns."""
        return self._ask(lambda mailer: mailer.pause(id))

    def resume(self, id: str) -> bool:
        """A paused or stopped campaign goes on."""
        return self._ask(lambda mailer: mailer.resume(id))

    def reschedule(self, id: str, send_at: datetime | str) -> None:
        """Another time for a campaign that has not begun."""
        return self._ask(lambda mailer: mailer.reschedule(id, send_at))

    def cancel(self, id: str, *, progress: Callable[[int, int], None] | None = None) -> bool:
        """Nothing more of the campaign or message is handed to SES, from the beginning of this on."""
        return self._ask_back(lambda mailer, caller: mailer.cancel(id, progress=_told(caller, progress)))

    def retry(
        self,
        id: str,
        states: Outcome | str | Iterable[Outcome | str],
        *,
        template: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Send again to the campaign's recipients that are `failed` or `unknown`; how many those are."""
        return self._ask_back(
            lambda mailer, caller: mailer.retry(id, states, template=template, progress=_told(caller, progress))
        )

    # ---- without asking anybody ----------------------------------------------------------------

    def advice(self, content: Email | Campaign, sample: Sequence[Recipient] = ()) -> Sequence[str]:
        """What would be sent as it is, and is still likely to be a mistake: a sentence each."""
        return self._here.advice(content, sample)

    def explain(self, email: Email) -> Explanation:
        """Which SES call it would become, and why."""
        return self._here.explain(email)

    def explain_campaign(self, campaign: Campaign, recipients: Source, *, reading: Reading = AS_IT_IS) -> Explanation:
        """The same of a campaign's first rows that can be used."""
        return self._ask_back(lambda mailer, caller: mailer.explain_campaign(campaign, _fed(caller, recipients), reading=reading))

    def unsubscribe_url(self, to: Email | str, sender: str | None = None) -> str:
        """The address by which one recipient unsubscribes. `to`: a message, or an address with the name of a sender profile."""
        return self._here.unsubscribe_url(to, sender)

    def unsubscribed(self, token: str) -> Unsubscribed:
        """Whom an unsubscribe token stands for: address, stream."""
        return self._here.unsubscribed(token)

    def preview(self, template: str, data: dict[str, Any]) -> Rendered:
        """The template rendered for this data: subject, html, text."""
        return self._here.preview(template, data)

    # ---- our own suppression list --------------------------------------------------------------

    def suppress(self, address: str, *, reason: Reason | str = Reason.MANUAL, stream: str = "") -> bool:
        """Nothing is sent to the address any more; with `stream`, a sender profile's name, nothing from that sender."""
        return self._ask(lambda mailer: mailer.suppress(address, reason=reason, stream=stream))

    def unsuppress(self, address: str, *, stream: str = "") -> bool:
        """Take back what `suppress` did with the same `stream`."""
        return self._ask(lambda mailer: mailer.unsuppress(address, stream=stream))

    def suppressed(self, address: str) -> Sequence[OwnEntry]:
        """The entries of our own list about the address."""
        return self._ask(lambda mailer: mailer.suppressed(address))


def _asked(caller: Caller, confirm: Callable[[Summary], bool] | None) -> Confirm | None:
    if confirm is None:
        return None

    async def ask(summary: Summary) -> bool:
        return await caller.run(lambda: confirm(summary))

    return ask


def _told(caller: Caller, progress: Callable[..., None] | None) -> Callable[..., None] | None:
    return None if progress is None else lambda *numbers: caller.post(partial(progress, *numbers))


def _fed(caller: Caller, recipients: Source) -> Source:
    """An iterable is run in the thread that gave it: what it reads from, a database for one, may be that thread's own."""
    if isinstance(recipients, str | os.PathLike | Mapping | bytes | bytearray) or not isinstance(recipients, Iterable):
        return recipients
    return _rows(caller, recipients)


async def _rows(caller: Caller, source: Iterable[Mapping[str, Any]]) -> AsyncIterator[Mapping[str, Any]]:
    rows = iter(source)
    try:
        while len(part := await caller.run(lambda: list(islice(rows, FEED_ROWS)))) == FEED_ROWS:
            for row in part:
                yield row
        for row in part:
            yield row
    finally:
        if (close := getattr(rows, "close", None)) is not None:
            await caller.run(close)


async def _page(lines: AsyncIterator[RecipientStatus]) -> list[RecipientStatus]:
    page = list[RecipientStatus]()
    async for line in lines:
        page.append(line)
        if len(page) == PAGE_ROWS:
            break
    return page


async def _closed(lines: Any) -> None:
    await lines.aclose()
