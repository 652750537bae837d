"""Mailer: what an application imports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from redis.exceptions import RedisError

from . import prepare
from .compose.explain import ROWS, Explanation, explain
from .email import Campaign, Email, Lane, Outcome, State
from .errors import KeyBusy, KeyReused, MailerError, MaybeStored, NotFound, RecipientsError
from .ids import chunk_id, new_campaign_id, new_message_id
from .intake import Intake, ListDigest, usable
from .ledger import Added, CampaignStatus, Entry, Key, Ledger, MessageStatus, RecipientStatus, Spec
from .ledger.control import Control
from .ledger.disk import Disk
from .ledger.suppressed import OwnEntry, Reason
from .queue import APPLICATION_TIMEOUT_S, Queue, connect, disconnect, explain_redis, is_refused, passes, ping
from .recipients import BadRow, Recipients, Source, open_recipients
from .settings import Settings, load_settings
from .storage import open_list, open_objects
from .suppression.entries import checked_address, checked_stream, new_entry
from .tasks import to_the_end
from .templates import Compiled, Rendered, TemplateFolder
from .unsubscribe import Tokens, Unsubscribed

FIRST_CHUNKS = 4  # chunks queued by `start_campaign` itself; a worker fills the rest of the window
RETRIABLE = frozenset({Outcome.FAILED, Outcome.UNKNOWN})
CANCEL_CHUNKS = 100  # chunks that are counted out or queued again between two reports of how far it is
WAKE_PATIENCE_MS = 20_000  # how long a wake-up may lie in the queue before the reaper looks whether it got lost

# Not structlog: an application that has not set it up would find its own standard output written to.
log = logging.getLogger(__name__)

Progress = Callable[[int, int, int | None], None]  # rows read, bytes read, bytes in all where that is known


class Mailer:
    """The service, from an application's side: an async context manager that stores, queues and looks things up.

    Settings are read from the environment and `mailer.toml` where none are given. Entering it raises RedisUnavailable
    when Redis does not answer.
    """

    def __init__(self, settings: Settings | None = None, *, timeout: float | None = None) -> None:
        """`timeout`: seconds after which a call fails where Redis does not answer; APPLICATION_TIMEOUT_S where none are given."""
        self.settings = settings or load_settings()
        self._redis = connect(self.settings, timeout=timeout or APPLICATION_TIMEOUT_S)
        self._objects = open_objects(self.settings)
        self._ledger = Ledger(self._redis, self.settings.namespace, objects=self._objects)
        self._control = Control(self._ledger)
        self._disk = Disk(self._redis, self._ledger.keys) if self.settings.intake_fsync else None
        self._queue = Queue(self._redis, self._ledger.keys)
        self._prepare = prepare.Preparation(self.settings)

    async def __aenter__(self) -> Mailer:
        try:
            await ping(self._redis, self.settings)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._disk is not None:
            await self._disk.close()
        if self._objects is not None:
            await self._objects.close()
        await disconnect(self._redis)

    # ---- send ----------------------------------------------------------------------------------

    async def send(self, email: Email, *, idempotency_key: str | None = None) -> str:
        """Store one message and queue it; its id. Raises UnknownSender, TemplateError, ModeRefused, InvalidEmail.

        It is stored when this returns: a queue that cannot be written to afterwards only makes it later. A key that was used
        in the last 24 h gives the id of the message that it was used for; raises KeyReused where that had other content.
        With MAILER_INTAKE_FSYNC it is on Redis's disk, too; raises NotOnDisk where that is not known, and ConfigError, with
        nothing stored, where Redis cannot say it.
        Raises MaybeStored, with the id, where Redis stops answering while it is stored; a RedisError comes before that.
        """
        key = prepare.idempotency_key(idempotency_key, email)
        began = await self._began()
        if key and (earlier := await self._ledger.find_key(key)):
            _same_or_raise(earlier, key)
            return await self._on_disk(earlier.id, began)
        spec, blobs = self._prepare.message(email)
        await self._store(blobs, email.send_at)
        added = await self._add(new_message_id(), spec, email.send_at, key)
        _same_or_raise(added, key)
        if added.new and (email.send_at is None or email.send_at <= datetime.now(UTC)):
            await self._wake(spec.lane, [chunk_id(added.id, 0)])
        return await self._on_disk(added.id, began)

    async def _add(self, id: str, spec: Spec, send_at: datetime | None, key: Key | None) -> Added:
        keep_s = self.settings.retention_s
        try:
            return await self._ledger.add_message(id, spec, keep_s=keep_s, patience_ms=WAKE_PATIENCE_MS, send_at=send_at, key=key)
        except (RedisError, OSError) as error:
            # What is refused is not stored; but the refusal may be of a repetition, after an answer that got lost.
            if is_refused(error) and (not passes(error) or await self._is_missing(id)):
                raise
            raise _maybe_stored(id, key, error) from error

    async def _is_missing(self, id: str) -> bool:
        """False where Redis does not say it, too."""
        try:
            await self._ledger.message(id)
        except NotFound:
            return True
        except (RedisError, OSError):
            return False
        return False

    async def _began(self) -> str:
        return await self._disk.began() if self._disk is not None else ""

    async def _on_disk(self, id: str, began: str) -> str:
        """The id, once what it stands for is as safe as the settings want it."""
        if self._disk is not None:
            await self._disk.confirm(id, began)
        return id

    async def _wake(self, lane: Lane, chunks: Sequence[str]) -> None:
        """What is stored is sent also when the queue cannot be written to; an error now would make a caller send it again."""
        try:
            await self._queue.wake_all(lane, chunks)
        except (RedisError, OSError) as error:
            log.warning("redis stopped answering (%s); what was stored is sent when it is back", type(error).__name__)

    async def status(self, id: str) -> MessageStatus:
        """Raises NotFound."""
        return await self._ledger.message(id)

    # ---- campaigns -----------------------------------------------------------------------------

    async def start_campaign(
        self,
        campaign: Campaign,
        recipients: Source,
        *,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Read the whole list, store it, and let it be sent; the campaign's id. Memory does not grow with the list.

        Nothing is sent before the list has been read to its end, so a list that breaks half-way (RecipientsError) or a
        process that dies leaves nothing half-sent. Raises UnknownSender, TemplateError and ModeRefused before the list is
        opened. A key that was used in the last 24 h gives the id of the campaign that it was used for; raises KeyReused where
        that had other content or another list, KeyBusy while its list is still being read. MAILER_INTAKE_FSYNC, and MaybeStored
        where Redis stops answering once the list has been read: as with `send`.
        """
        key = prepare.idempotency_key(idempotency_key, campaign)
        began = await self._began()
        if key and (earlier := await self._ledger.find_key(key)):
            _same_or_raise(earlier, key)
            async with open_recipients(recipients, remote=open_list) as rows:
                return await self._on_disk(await self._earlier(earlier, key, rows), began)
        guard = prepare.guard_of(campaign)
        spec, blobs = self._prepare.campaign(campaign)
        if self._objects is not None:
            await self._objects.check()
        for sentence in prepare.advice(campaign, spec):
            log.warning("what this campaign sends is likely to have a mistake in it: %s", sentence)
        async with open_recipients(recipients, remote=open_list) as rows:
            await self._store(blobs, campaign.send_at)
            added = await self._ledger.plan_campaign(new_campaign_id(), spec, send_at=campaign.send_at, key=key, guard=guard)
            if not added.new:
                _same_or_raise(added, key)
                return await self._on_disk(await self._earlier(added, key, rows), began)
            began = await self._read_in(added.id, spec, key, rows, progress)
        with suppress(RedisError, OSError):  # it is stored, and a worker fills its window
            await self._feed(added.id, spec.lane)
        return await self._on_disk(added.id, began)

    async def _feed(self, id: str, lane: Lane) -> None:
        first = await self._ledger.scripts.feed(id, window=FIRST_CHUNKS, patience_ms=WAKE_PATIENCE_MS)
        await self._wake(lane, first)

    async def _read_in(self, id: str, spec: Spec, key: Key | None, rows: Recipients, progress: Progress | None) -> str:
        """Store the list and let the campaign run; or leave nothing of it. Returns what `_on_disk` is to be given."""
        intake = Intake(self._ledger, id, spec, with_digest=key is not None)
        began, handed = "", False  # whether Redis was asked to let it run
        reader = asyncio.create_task(intake.stay_alive())
        try:
            async for batch in rows:
                await intake.add(batch)
                if progress:
                    progress(intake.rows, *rows.progress())
            await intake.flush()
            if key and intake.digest:
                await self._ledger.keep_list_digest(key, intake.digest.text())
            began = await self._began()  # from here on: what a Redis forgot before that was started anew is missed now
            handed = True
            start = self._ledger.start_campaign(
                id, rows=intake.rows, chunks=intake.chunks, counts=intake.counts, reasons=intake.reasons
            )
            await to_the_end(start)
        except BaseException as error:
            dropped: bool | None = None
            with suppress(Exception):
                dropped = await to_the_end(self._ledger.drop_campaign(id))
            runs = handed and not dropped and await self._runs(id, left=dropped is False)
            if runs is None and isinstance(error, RedisError | OSError | asyncio.CancelledError):
                raise _maybe_stored(id, key, error) from error
            # Where it runs, only the answer got lost, or the cancellation came too late: then it is started.
            if not runs:
                raise
            if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()):
                task.uncancel()
        finally:
            reader.cancel()
        return began

    async def _runs(self, id: str, *, left: bool) -> bool | None:
        """Whether it was started; None where Redis does not say it. `left`: it was to be dropped, and Redis has left it alone;
        then it is `planned` because its send_at is to come."""
        try:
            state = (await self._ledger.campaign(id)).state
        except NotFound:
            return False
        except (MailerError, RedisError, OSError):
            return None
        return left or None if state is State.PLANNED else state is not State.CANCELLED

    @staticmethod
    async def _earlier(added: Added, key: Key | None, rows: Recipients) -> str:
        """The campaign that the key stands for, when this list is its list, too."""
        assert key is not None
        if added.reading:
            raise KeyBusy(key=key.text, id=added.id)
        digest = ListDigest()
        async for batch in rows:
            digest.add(batch)
        if digest.text() != added.list_digest:
            raise KeyReused(key=key.text, id=added.id)
        return added.id

    async def campaign(self, id: str) -> CampaignStatus:
        """Raises NotFound."""
        return await self._ledger.campaign(id)

    async def campaigns(self, limit: int = 100) -> list[CampaignStatus]:
        """The newest first."""
        return await self._ledger.campaigns(limit)

    async def outcomes(self, id: str, *, states: Iterable[Outcome | str] = ()) -> AsyncIterator[RecipientStatus]:
        """What became of every recipient so far, in the order of the list; with `states`, of those in one of them.

        Raises NotFound; ValueError where there is no such state.
        """
        wanted = frozenset(_outcome(state).label for state in states)
        async for line in self._ledger.report(id):
            if not wanted or line.state in wanted:
                yield line

    async def outcome(self, id: str) -> RecipientStatus:
        """What became of one recipient so far; its id is that of the report and of the stream of outcomes. Raises NotFound,
        StoreFailed."""
        return await self._ledger.recipient(id)

    async def wait(self, id: str, *, every_s: float = 0.25) -> CampaignStatus:
        """The campaign's status once it is over, or stopped. A paused one is waited for."""
        while not (status := await self.campaign(id)).over:
            await asyncio.sleep(every_s)
        return status

    async def pause(self, id: str) -> bool:
        """Nothing more of the campaign is handed to SES once this returns; what is on its way there is settled.

        True where it was not paused before. Raises NotFound, NotACampaign; WrongState where it is over or its list is being read.
        """
        return await self._control.pause(id)

    async def resume(self, id: str) -> bool:
        """A paused or stopped campaign goes on: at once, or where its send_at is still to come, then.

        True where it did not go on before. Raises NotFound, NotACampaign; WrongState where it is over or its list is being read.
        """
        switched = await self._control.resume(id)
        with suppress(RedisError, OSError):  # it goes on by itself a second later
            lane = await self._ledger.lane(id)
            if switched.changed and lane is not None:
                for chunk, fence in switched.wake:
                    await self._queue.wake(lane, chunk, fence)
                await self._feed(id, lane)
        return switched.changed

    async def reschedule(self, id: str, send_at: datetime) -> None:
        """A campaign that waits for its send_at, or was paused before it began, gets another one. Repeating it changes nothing.

        Raises NotFound, NotACampaign, ExpiresFirst; WrongState where it has begun or its list is being read; InvalidEmail where
        the time has no zone or is over.
        """
        await self._control.reschedule(id, prepare.checked_send_at(send_at))

    async def cancel(self, id: str, *, progress: Callable[[int, int], None] | None = None) -> bool:
        """Nothing more of the campaign is handed to SES, from the beginning of this on; what is on its way there is settled.

        When this returns, every recipient that was queued is `cancelled`. That takes some seconds for a million; a worker sees
        to the rest where this process ends before. True where it was not cancelled before. `progress` gets chunks done and left.
        Raises NotFound, NotACampaign; WrongState where it is finished.
        """
        changed, left = await self._control.cancel(id), 1
        while left:
            _, done, left = await self._control.sweep(id, chunks=CANCEL_CHUNKS)
            if progress:
                progress(done, left)
        return changed

    async def retry(
        self,
        id: str,
        states: Iterable[Outcome | str],
        *,
        template: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Send again to the campaign's recipients that are `failed` or `unknown`; how many those are.

        Of those that are `unknown` SES may have accepted some: they get it twice, as far as its events do not come before. The
        campaign goes on where it was finished; chunks that are archived come back for it. What was queued stays so where this
        raises, and repeating it queues the rest. With `template`, the name of a template of the folder, all that is rendered from
        now on is rendered from that, and the campaign goes on where it was stopped. `progress` gets chunks done and left.
        Raises NotFound, NotACampaign, PastExpiry, StoreFailed, TemplateError, NoTemplate; WrongState where it is cancelled or its
        list is being read; ValueError where a state cannot be sent again.
        """
        chosen = frozenset(map(_outcome, states))
        if not chosen or not chosen <= RETRIABLE:
            raise ValueError(f"only these can be sent again: {', '.join(sorted(one.label for one in RETRIABLE))}")
        if template is not None:
            await self.campaign(id)
            await self._ledger.change_template(id, self._prepare.template(template))
        n, done, left = 0, 0, 1
        while left:
            queued, left = await self._control.retry(id, chosen, done, chunks=CANCEL_CHUNKS)
            n, done = n + queued, done + CANCEL_CHUNKS
            if progress:
                progress(done, left)
        if template is not None and (await self.campaign(id)).state is State.STOPPED:
            await self.resume(id)
        return n

    async def _store(self, blobs: Sequence[bytes], send_at: datetime | None) -> None:
        until = None if send_at is None else int(send_at.timestamp() * 1000)
        for blob in blobs:
            await self._ledger.put_content(blob, until_ms=until)

    def advice(self, content: Email | Campaign) -> Sequence[str]:
        """What would be sent as it is, and is still likely to be a mistake: a sentence each."""
        spec, _ = self._prepare.campaign(content) if isinstance(content, Campaign) else self._prepare.message(content)
        return prepare.advice(content, spec)

    def explain(self, email: Email) -> Explanation:
        """Which SES call it would become, and why. Asks neither Redis nor SES, so the context need not be entered.

        Raises UnknownSender, TemplateError, ModeRefused, InvalidEmail.
        """
        spec, blobs = self._prepare.message(email)
        return explain(email, spec, blobs, [Entry(1, ", ".join(spec.to))], keys=self.settings.secret_keys)

    async def explain_campaign(self, campaign: Campaign, recipients: Source) -> Explanation:
        """The same of a campaign's first rows that can be used; 50 of them are looked at. Raises RecipientsError, too."""
        spec, blobs = self._prepare.campaign(campaign)
        entries, unusable = list[Entry](), list[str]()
        async with open_recipients(recipients, batch_rows=ROWS, remote=open_list) as rows:
            async for row in (usable(spec, row) async for batch in rows for row in batch):
                if isinstance(row, BadRow):
                    unusable.append(row.reason)
                else:
                    entries.append(Entry(row.row, row.address, row.data, row.cc, row.bcc, row.tags))
                if len(entries) == ROWS:
                    break
        if not entries:
            raise RecipientsError(source="the list", why=f"has no row that can be used; the first: {unusable[0]}")
        return explain(campaign, spec, blobs, entries, keys=self.settings.secret_keys, unusable=unusable)

    def unsubscribed(self, token: str) -> Unsubscribed:
        """Whom an unsubscribe token stands for: address, stream. Raises InvalidToken, ConfigError."""
        return Tokens(self.settings.secret_keys).read(token)

    # ---- our own suppression list --------------------------------------------------------------

    async def suppress(self, address: str, *, reason: Reason | str = Reason.MANUAL, stream: str = "") -> bool:
        """Nothing is sent to the address any more; with `stream`, a sender profile's name, nothing from that sender.

        `reason`: bounce, complaint, unsubscribe or manual. False where it was on the list already. SES is not asked:
        `mailer suppression add` writes to SES's list, too. Raises InvalidEmail.
        """
        entry = new_entry(address, reason, stream)
        return (await self._ledger.suppressed.add([entry]))[0]

    async def unsuppress(self, address: str, *, stream: str = "") -> bool:
        """Take back what `suppress` did with the same `stream`; False where it was not on the list. SES's list is not changed.

        Raises InvalidEmail.
        """
        return bool(await self._ledger.suppressed.remove(checked_address(address), checked_stream(stream)))

    async def suppressed(self, address: str) -> Sequence[OwnEntry]:
        """The entries of our own list about the address: reason, stream, since. SES's list is not asked. Raises InvalidEmail."""
        hits = (await self._ledger.suppressed.check([checked_address(address)], account=None)).hits
        return tuple(hits[0].own) if hits else ()

    def preview(self, template: str, data: dict[str, Any]) -> Rendered:
        """The template rendered for this data: subject, html, text. Raises TemplateError, RenderFailed among them."""
        return Compiled(TemplateFolder(self.settings.templates_dir).read(template)).render(data)


def _maybe_stored(id: str, key: Key | None, error: BaseException) -> MaybeStored:
    again = ", or repeat it with the same idempotency key, which stores it once" if key else ""
    why = "and this was cancelled" if isinstance(error, asyncio.CancelledError) else explain_redis(error)
    return MaybeStored(id=id, why=why, again=again)


def _outcome(state: Outcome | str) -> Outcome:
    """Raises ValueError."""
    try:
        return state if isinstance(state, Outcome) else Outcome[state.upper()]
    except KeyError:
        known = ", ".join(outcome.label for outcome in Outcome)
        raise ValueError(f"there is no state {state!r}; there are: {known}") from None


def _same_or_raise(added: Added, key: Key | None) -> None:
    if not added.same:
        assert key is not None
        raise KeyReused(key=key.text, id=added.id)
