"""Mailer: what an application imports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, overload

from .compose.explain import ROWS, Explanation, explain
from .doubt import doubt_ends
from .errors import InvalidEmail, InvalidState, NotFound, NotKnown, RecipientsError, RedisUnavailable
from .ids import CampaignId, MessageId, is_message, known_form
from .intake import spec_builder
from .intake.chunks import entry_of, usable
from .intake.handover import Handover, Progress, Start
from .intake.selection import ALL, Selection
from .intake.summary import Confirm
from .intake.trial import Trial, trial_of
from .ledger import CampaignStatus, Entry, Ledger, MessageStatus, RecipientStatus
from .ledger.workers import Workers, WorkerSeen
from .line import Line
from .message.checks import seconds, shown
from .message.email import Campaign, Email, Outcome, State, outcomes_of
from .queue import Queue, call_timeout_s, connect, disconnect, ping
from .recipients import BadRow, Reading, Recipient, Source, open_recipients
from .recipients.reading import AS_IT_IS
from .settings import Settings, load_settings
from .storage import open_list, open_objects
from .suppression.entries import checked_address, checked_stream, new_entry
from .suppression.lists import OwnEntry, Reason, SuppressionLists
from .templates import Rendered
from .unsubscribe.tokens import Tokens, Unsubscribed

RETRIABLE = (Outcome.FAILED, Outcome.UNKNOWN, Outcome.REJECTED)
CANCEL_CHUNKS = 100  # chunks that are counted out or queued again between two reports of how far it is


class Mailer:
    """The service, from an application's side: an async context manager that stores, queues and looks things up.

    Settings are read from the environment and `mailer.toml` where none are given. A call fails where Redis has not answered
    within `timeout` seconds, 5 where none are given; of one that reads a list, or goes through a campaign, each of its steps
    may take as long. Entering it, and each call that asks Redis, raises RedisUnavailable where Redis does not answer or
    refuses. A Mailer is of the event loop that it is first used in, and raises OtherLoop in another one.
    """

    def __init__(self, settings: Settings | None = None, *, timeout: float | None = None) -> None:
        self.settings = settings or load_settings()
        self._redis = connect(self.settings, timeout=call_timeout_s.get() if timeout is None else seconds("timeout", timeout))
        self._line = Line(self.settings)
        self._objects = open_objects(self.settings)
        self._ledger = Ledger(self._redis, self.settings.namespace, objects=self._objects)
        self._control = self._ledger.control
        self._suppressed = SuppressionLists(self._ledger)
        self._queue = Queue(self._redis, self._ledger.keys)
        self._handover = Handover(self.settings, self._line, self._ledger, self._queue, self._objects)
        self._specs = self._handover.specs

    @property
    def not_told(self) -> str:
        """Why the queue does not have what was stored last, half a sentence; empty where it has it."""
        return self._handover.not_told

    async def __aenter__(self) -> Mailer:
        try:
            with self._line.asking():
                await ping(self._redis, self.settings)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._line.check_loop()
        await self._handover.close()
        if self._objects is not None:
            await self._objects.close()
        await disconnect(self._redis)

    # ---- send ----------------------------------------------------------------------------------

    async def send(self, email: Email, *, idempotency_key: str | None = None) -> MessageId:
        """Store one message and queue it; its id. Raises UnknownSender, ModeRefused, InvalidEmail; TemplateError, also where
        `data` lacks a variable: the message is rendered once here to see that.

        It is stored when this returns: a queue that cannot be written to afterwards only makes it later. A key that was used
        in the last 24 h gives the id of the message that it was used for; raises KeyReused where that had other content.
        With MAILER_INTAKE_FSYNC it is on Redis's disk, too; raises NotOnDisk where that is not known, and ConfigError, with
        nothing stored, where Redis cannot say it.
        Raises RedisUnavailable where nothing was stored, and MaybeStored, with the id, where Redis was given it and did not
        answer.
        """
        return await self._handover.send(email, idempotency_key)

    async def status(self, id: str) -> MessageStatus:
        """Raises NotFound."""
        with self._line.asking():
            return await self._ledger.report.message(known_form(id))

    # ---- campaigns -----------------------------------------------------------------------------

    async def start_campaign(
        self,
        campaign: Campaign,
        recipients: Source,
        *,
        reading: Reading = AS_IT_IS,
        selection: Selection = ALL,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
        confirm: Confirm | None = None,
    ) -> CampaignId:
        """Read the whole list, store it, and let it be sent; the campaign's id. Memory does not grow with the list.

        `reading` says how the list is to be read, where it does not say so itself; `selection` which of its rows are left out.
        `confirm` gets a Summary once the list has been read to its end, and before anything is sent: where it says False, nothing
        is left of the campaign, and this raises NotConfirmed.

        Nothing is sent before the list has been read to its end, so a list that breaks half-way (RecipientsError) or a
        process that dies leaves nothing half-sent. Raises UnknownSender, TemplateError and ModeRefused before the list is
        opened; MissingVariables, DoubledColumn and InvalidEmail (of a link) where its first rows do not fit the template. A key
        that was used in the last 24 h gives the id of the campaign that it was used for; raises KeyReused where that had other
        content or another list, KeyBusy while its list is still being read. Raises RedisUnavailable where nothing of it is sent.
        MAILER_INTAKE_FSYNC, and MaybeStored where Redis stops answering once the list has been read: as with `send`.
        """
        how = Start(reading=reading, selection=selection, idempotency_key=idempotency_key, progress=progress, confirm=confirm)
        return await self._handover.start(campaign, recipients, how)

    async def send_test(
        self, campaign: Campaign, recipients: Source, to: str, *, reading: Reading = AS_IT_IS, selection: Selection = ALL
    ) -> MessageId:
        """Send the campaign's message for the first row of the list that can be used to `to` alone; the message's id.

        Raises what `send` raises, and RecipientsError.
        """
        return await self.send((await self.test_of(campaign, recipients, to, reading=reading, selection=selection)).email)

    async def test_of(
        self, campaign: Campaign, recipients: Source, to: str, *, reading: Reading = AS_IT_IS, selection: Selection = ALL
    ) -> Trial:
        """What `send_test` sends, without sending it. Raises what that raises."""
        how = Start(reading=reading, selection=selection)
        return await trial_of(self._handover, campaign, recipients, to, how)

    async def campaign(self, id: str) -> CampaignStatus:
        """Raises NotFound."""
        with self._line.asking():
            return await self._ledger.report.campaign(known_form(id))

    async def workers(self) -> list[WorkerSeen]:
        """The workers that are alive, of all machines: each has said so in the last seconds."""
        with self._line.asking():
            return await Workers(self._redis, self._ledger.keys).alive()

    async def campaigns(self, limit: int = 100) -> list[CampaignStatus]:
        """The newest first."""
        if not isinstance(limit, int) or limit < 1:
            raise InvalidEmail(field="limit", why=f"{shown(limit)} must be a whole number from 1 on")
        with self._line.asking():
            return await self._ledger.report.campaigns(limit)

    async def outcomes(self, id: str, *, states: Outcome | str | Iterable[Outcome | str] = ()) -> AsyncIterator[RecipientStatus]:
        """What became of every recipient so far, in the order of the list; with `states`, of those in one of them.

        Raises NotFound, StoreFailed; InvalidState where there is no such state.
        """
        wanted = outcomes_of(states)
        pages = self._ledger.report.pages(known_form(id))
        while (page := await self._next(pages)) is not None:
            for line in page:
                if not wanted or line.state in wanted:
                    yield line

    async def _next(self, pages: AsyncIterator[list[RecipientStatus]]) -> list[RecipientStatus] | None:
        with self._line.asking():
            return await anext(pages, None)

    async def outcome(self, id: str) -> RecipientStatus:
        """What became of one recipient so far; its id is that of the report and of the stream of outcomes. Raises NotFound,
        StoreFailed."""
        with self._line.asking():
            return await self._ledger.report.recipient(known_form(id))

    @overload
    async def wait(self, id: MessageId, *, every_s: float = ...) -> MessageStatus: ...

    @overload
    async def wait(self, id: CampaignId, *, every_s: float = ...) -> CampaignStatus: ...

    @overload
    async def wait(self, id: str, *, every_s: float = ...) -> CampaignStatus | MessageStatus: ...

    async def wait(self, id: str, *, every_s: float = 0.25) -> CampaignStatus | MessageStatus:
        """A campaign's status once it is over, or stopped; a paused one is waited for. A message's once SES has it, or it will
        not be sent; where SES may have accepted it, once an event or its lane's policy has told, or will not. Raises NotFound.
        """
        every_s = seconds("every_s", every_s)
        while True:
            if is_message(known_form(id)):
                message = await self.status(id)
                if message.state not in ("queued", "claimed") and not await self._may_be_told(message):
                    return message
            elif (status := await self.campaign(id)).over:
                return status
            await asyncio.sleep(every_s)

    async def _may_be_told(self, status: MessageStatus) -> bool:
        """It is in doubt, and that may come to an end."""
        if status.state != "unknown":
            return False
        with self._line.asking():
            spec = await self._ledger.lifecycle.spec(status.id)
        if spec is None:
            raise NotFound(id=status.id)
        expires_at = None if spec.expires_ms is None else datetime.fromtimestamp(spec.expires_ms / 1000, UTC)
        return doubt_ends(self.settings, spec.lane, status.updated_at, expires_at)[1] > 0

    async def pause(self, id: str) -> bool:
        """Nothing more of the campaign is handed to SES once this returns; what is on its way there is settled.

        True where it was not paused before. Raises NotFound, NotACampaign; WrongState where it is over or its list is being read.
        """
        with self._line.asking():
            return await self._control.pause(known_form(id))

    async def resume(self, id: str) -> bool:
        """A paused or stopped campaign goes on: at once, or where its send_at is still to come, then.

        True where it did not go on before. Raises NotFound, NotACampaign; WrongState where it is over or its list is being read.
        """
        with self._line.asking():
            switched = await self._control.resume(known_form(id))
        if switched.changed:
            with suppress(RedisUnavailable), self._line.asking():  # it goes on by itself a second later
                await self._wake_resumed(id, switched.wake)
        return switched.changed

    async def _wake_resumed(self, id: str, chunks: Sequence[tuple[str, int]]) -> None:
        lane = await self._ledger.lifecycle.lane(id)
        if lane is not None:
            for chunk, fence in chunks:
                await self._queue.wake(lane, chunk, fence)
            await self._handover.feed(id, lane)

    async def reschedule(self, id: str, send_at: datetime | str) -> None:
        """A campaign that waits for its send_at, or was paused before it began, gets another one. Repeating it changes nothing.

        Raises NotFound, NotACampaign, ExpiresFirst; WrongState where it has begun or its list is being read; InvalidEmail where
        the time has no zone or is over.
        """
        moment = spec_builder.checked_send_at(send_at)
        with self._line.asking():
            await self._control.reschedule(known_form(id), moment)

    async def cancel(self, id: str, *, progress: Callable[[int, int], None] | None = None) -> bool:
        """Nothing more of the campaign or message is handed to SES, from the beginning of this on; what is on its way there is
        settled. True where it was not cancelled before.

        A message that waits is `cancelled`; one in doubt is not sent again. Raises NotFound, and TooLate where SES has it.
        When this returns, every recipient of a campaign that was queued is `cancelled`. That takes some seconds for a million; a
        worker sees to the rest where this process ends before. `progress` gets chunks done and left. Raises NotFound; WrongState
        where it is finished.
        """
        if is_message(known_form(id)):
            with self._line.asking():
                return await self._control.cancel_message(id)
        with self._line.asking():
            changed, left = await self._control.cancel(id), 1
        while left:
            with self._line.asking():
                _, done, left = await self._control.count_out(id, chunks=CANCEL_CHUNKS)
            if progress:
                progress(done, left)
        return changed

    async def retry(
        self,
        id: str,
        states: Outcome | str | Iterable[Outcome | str],
        *,
        template: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Send again to the campaign's recipients that are `failed`, `rejected` or `unknown`; how many those are.

        A row that was rejected when the list was read cannot be sent to: it stays rejected, with its reason.
        Of those that are `unknown` SES may have accepted some: they get it twice, as far as its events do not come before. The
        campaign goes on where it was finished; chunks that are archived come back for it. What was queued stays so where this
        raises, and repeating it queues the rest. With `template`, the name of a template of the folder, all that is rendered from
        now on is rendered from that, and the campaign goes on where it was stopped. `progress` gets chunks done and left.
        Raises NotFound, NotACampaign, PastExpiry, StoreFailed, TemplateError, NoTemplate; WrongState where it is cancelled or its
        list is being read; InvalidState where a state cannot be sent again.
        """
        chosen = outcomes_of(states)
        if not chosen or not chosen <= set(RETRIABLE):
            raise InvalidState(why=f"only these can be sent again: {', '.join(RETRIABLE)}")
        if template is not None:
            packed = self._specs.template(template)
            with self._line.asking():
                await self._ledger.report.campaign(known_form(id))
                await self._ledger.lifecycle.change_template(id, packed)
        n, done, left = 0, 0, 1
        while left:
            with self._line.asking():
                queued, left = await self._control.retry(known_form(id), chosen, done, chunks=CANCEL_CHUNKS)
            n, done = n + queued, done + CANCEL_CHUNKS
            if progress:
                progress(done, left)
        if template is not None and (await self.campaign(id)).state is State.STOPPED:
            await self.resume(id)
        return n

    def advice(self, content: Email | Campaign, sample: Sequence[Recipient] = ()) -> Sequence[str]:
        """What would be sent as it is, and is still likely to be a mistake: a sentence each. `sample` are a campaign's first
        rows, as `Understood.sample` has them: what a reader would see wrongly shows only there."""
        spec, blobs = self._specs.campaign(content) if isinstance(content, Campaign) else self._specs.message(content)
        return [*spec_builder.advice(content, spec), *self._specs.hints(content, spec, blobs, [entry_of(row) for row in sample])]

    def explain(self, email: Email) -> Explanation:
        """Which SES call it would become, and why. Asks neither Redis nor SES, so the context need not be entered.

        Raises UnknownSender, TemplateError, ModeRefused, InvalidEmail.
        """
        spec, blobs = self._specs.message(email)
        return explain(email, spec, blobs, [Entry(1, ", ".join(spec.to))], keys=self.settings.secret_keys)

    async def explain_campaign(self, campaign: Campaign, recipients: Source, *, reading: Reading = AS_IT_IS) -> Explanation:
        """The same of a campaign's first rows that can be used; 50 of them are looked at. Raises RecipientsError, too."""
        spec, blobs = self._specs.campaign(campaign)
        entries, unusable = list[Entry](), list[str]()
        async with open_recipients(recipients, reading=reading, batch_rows=ROWS, remote=open_list) as rows:
            async for row in (usable(spec, row) async for batch in rows for row in batch):
                if isinstance(row, BadRow):
                    unusable.append(row.reason)
                else:
                    entries.append(entry_of(row))
                if len(entries) == ROWS:
                    break
        if not entries:
            raise RecipientsError(source="the list", why=f"has no row that can be used; the first: {unusable[0]}")
        return explain(campaign, spec, blobs, entries, keys=self.settings.secret_keys, unusable=unusable)

    def unsubscribe_url(self, to: Email | str, sender: str | None = None) -> str:
        """The address by which one recipient unsubscribes: what `{{ unsubscribe_url }}` is in the mail, and its List-Unsubscribe
        header has. `to` is a message to one recipient, or an address with the name of a sender profile.

        Raises UnknownSender, ConfigError; InvalidEmail where there is no such address, or are several recipients.
        """
        return self._specs.unsubscribe_url(to, sender)

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
        with self._line.asking():
            return (await self._suppressed.add([entry]))[0]

    async def unsuppress(self, address: str, *, stream: str = "") -> bool:
        """Take back what `suppress` did with the same `stream`; False where it was not on the list. SES's list is not changed.

        Raises InvalidEmail.
        """
        known, stream = checked_address(address), checked_stream(stream)
        with self._line.asking():
            return bool(await self._suppressed.remove(known, stream))

    async def suppressed(self, address: str) -> Sequence[OwnEntry]:
        """The entries of our own list about the address: reason, stream, since. SES's list is not asked. Raises InvalidEmail."""
        known = checked_address(address)
        try:
            with self._line.asking():
                hits = (await self._suppressed.check([known], account=None)).hits
        except ValueError as error:  # what is written there is not ours
            raise NotKnown(why=str(error)) from None
        return tuple(hits[0].own) if hits else ()

    def preview(self, template: str, data: dict[str, Any]) -> Rendered:
        """The template rendered for this data: subject, html, text. Raises TemplateError, RenderFailed among them."""
        return self._specs.preview(template, data)
