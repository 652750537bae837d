"""Mailer: what an application imports."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from .email import Campaign, Email, Outcome, Sender, State
from .ids import new_campaign_id, new_message_id
from .ledger import CampaignStatus, Ledger, Literal, MessageStatus, RecipientStatus, Spec
from .ledger.ledger import CHUNK_ROWS, NewChunk
from .queue import Queue, connect, disconnect, ping
from .recipients import BadRow, Recipient, Row, Source, open_recipients
from .settings import Settings, load_settings
from .templates import Compiled, Content, Rendered, TemplateFolder

STORE_CHUNKS = 8  # chunks written to Redis in one round trip while a list is read: some 250 kB
FIRST_CHUNKS = 4  # chunks queued by `start_campaign` itself; a worker fills the rest of the window
WAKE_PATIENCE_MS = 20_000  # how long a wake-up may lie in the queue before the reaper looks whether it got lost

Progress = Callable[[int, int, int | None], None]  # rows read, bytes read, bytes in all where that is known


class Mailer:
    """The service, from an application's side: an async context manager that stores, queues and looks things up.

    Settings are read from the environment and `mailer.toml` where none are given. Entering it raises RedisUnavailable
    when Redis does not answer.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._redis = connect(self.settings)
        self._ledger = Ledger(self._redis, self.settings.namespace)
        self._queue = Queue(self._redis, self._ledger.keys)
        self._folder = TemplateFolder(self.settings.templates_dir)

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
        await disconnect(self._redis)

    # ---- send ----------------------------------------------------------------------------------

    async def send(self, email: Email) -> str:
        """Store one message and queue it; its id. Raises UnknownSender, TemplateError.

        It is stored when this returns: a queue that cannot be written to afterwards only makes it later.
        """
        spec = await self._message_spec(email)
        id = new_message_id()
        keep = self.settings.retention_s
        chunk = await self._ledger.add_message(id, spec, keep_s=keep, patience_ms=WAKE_PATIENCE_MS)
        await self._queue.wake(spec.lane, chunk)
        return id

    async def status(self, id: str) -> MessageStatus:
        """Raises NotFound."""
        return await self._ledger.message(id)

    # ---- campaigns -----------------------------------------------------------------------------

    async def start_campaign(self, campaign: Campaign, recipients: Source, *, progress: Progress | None = None) -> str:
        """Read the whole list, store it, and let it be sent; the campaign's id. Memory does not grow with the list.

        Nothing is sent before the list has been read to its end, so a list that breaks half-way (RecipientsError) or a
        process that dies leaves nothing half-sent. Raises UnknownSender and TemplateError before the list is opened.
        """
        spec = await self._campaign_spec(campaign)
        id = new_campaign_id()
        async with open_recipients(recipients) as rows:
            await self._ledger.plan_campaign(id, spec)
            try:
                intake = _Intake(self._ledger, id)
                async for batch in rows:
                    await intake.add(batch)
                    if progress:
                        progress(intake.rows, *rows.progress())
                await intake.flush()
                await self._ledger.start_campaign(id, rows=intake.rows, chunks=intake.chunks, counts=intake.counts)
            except BaseException:
                with suppress(Exception):
                    await asyncio.shield(self._ledger.drop_campaign(id))
                raise
        first = await self._ledger.scripts.feed(id, window=FIRST_CHUNKS, patience_ms=WAKE_PATIENCE_MS)
        await self._queue.wake_all(spec.lane, first)
        return id

    async def campaign(self, id: str) -> CampaignStatus:
        """Raises NotFound."""
        return await self._ledger.campaign(id)

    async def campaigns(self, limit: int = 100) -> list[CampaignStatus]:
        """The newest first."""
        return await self._ledger.campaigns(limit)

    def outcomes(self, id: str) -> AsyncIterator[RecipientStatus]:
        """What became of every recipient so far, in the order of the list. Raises NotFound."""
        return self._ledger.report(id)

    async def wait(self, id: str, *, every_s: float = 0.25) -> CampaignStatus:
        """The campaign's status once it is over, or stopped."""
        while True:
            status = await self.campaign(id)
            if status.state in (State.FINISHED, State.CANCELLED, State.STOPPED):
                return status
            await asyncio.sleep(every_s)

    # ---- from what the caller said to what the ledger keeps -------------------------------------

    async def _message_spec(self, email: Email) -> Spec:
        sender = self._sender(email)
        content = literal = None
        if email.template is not None:
            content = await self._store_template(email.template)
        elif email.data is None:
            assert email.subject is not None
            literal = Literal(subject=email.subject, html=email.html, text=email.text)
        else:
            content = await self._store(self._inline(email))
        more: dict[str, Any] = {"data": email.data or {}, "to": email.to, "cc": email.cc, "bcc": email.bcc}
        return Spec(**self._common(email, sender), **more, content=content, literal=literal)

    async def _campaign_spec(self, campaign: Campaign) -> Spec:
        sender = self._sender(campaign)
        content = (
            await self._store_template(campaign.template) if campaign.template else await self._store(self._inline(campaign))
        )
        return Spec(**self._common(campaign, sender), name=campaign.name, content=content, data=campaign.data)

    def _sender(self, content: Email | Campaign) -> Sender:
        if content.sender is not None:
            return self.settings.sender(content.sender)
        assert content.from_ is not None
        return Sender(from_=content.from_)

    @staticmethod
    def _common(content: Email | Campaign, sender: Sender) -> dict[str, Any]:
        """What goes on every message: the message's or campaign's own word first, the sender profile's after it."""
        return {
            "lane": content.lane,
            "from_address": sender.from_,
            "reply_to": content.reply_to or sender.reply_to,
            "feedback_address": sender.feedback_address,
            "identity_arn": sender.identity_arn,
            "feedback_identity_arn": sender.feedback_identity_arn,
            "configuration_set": content.configuration_set or sender.configuration_set,
            "tenant": sender.tenant,
            "tags": {**sender.tags, **content.tags},
            "headers": content.headers,
        }

    @staticmethod
    def _inline(content: Email | Campaign) -> Content:
        assert content.subject is not None
        return Content.inline(subject=content.subject, html=content.html, text=content.text)

    async def _store_template(self, name: str) -> str:
        return await self._store(self._folder.read(name))

    async def _store(self, content: Content) -> str:
        """Check that it compiles, here and not in a worker, and store it. Raises TemplateBroken."""
        Compiled(content)
        return await self._ledger.put_content(content.dump())

    def preview(self, template: str, data: dict[str, Any]) -> Rendered:
        """The template rendered for this data: subject, html, text. Raises TemplateError, RenderFailed among them."""
        return Compiled(self._folder.read(template)).render(data)


class _Intake:
    """Rows as they are read → chunks, written a few at a time."""

    def __init__(self, ledger: Ledger, id: str) -> None:
        self._ledger = ledger
        self._id = id
        self._pending: list[Row] = []
        self.rows = 0
        self.chunks = 0
        self.counts: Counter[Outcome] = Counter()

    async def add(self, rows: list[Row]) -> None:
        self._pending += rows
        self.rows += len(rows)
        if len(self._pending) >= CHUNK_ROWS * STORE_CHUNKS:
            await self._write(len(self._pending) // CHUNK_ROWS * CHUNK_ROWS)

    async def flush(self) -> None:
        await self._write(len(self._pending))

    async def _write(self, count: int) -> None:
        rows, self._pending = self._pending[:count], self._pending[count:]
        chunks = [_chunk(rows[first : first + CHUNK_ROWS]) for first in range(0, count, CHUNK_ROWS)]
        for chunk in chunks:
            self.counts.update(chunk.outcomes)
        await self._ledger.add_chunks(self._id, self.chunks, chunks)
        self.chunks += len(chunks)


def _chunk(rows: list[Row]) -> NewChunk:
    entries: list[list[Any]] = []
    outcomes: list[Outcome] = []
    reasons: dict[int, str] = {}
    for position, row in enumerate(rows):
        if isinstance(row, BadRow):
            entries.append([row.row, row.to])
            outcomes.append(row.outcome)
            reasons[position] = row.reason
        else:
            entries.append(_entry(row))
            outcomes.append(Outcome.QUEUED)
    return NewChunk(entries, outcomes, reasons)


def _entry(row: Recipient) -> list[Any]:
    if row.cc or row.bcc or row.tags:
        return [row.row, row.address, row.data, row.cc, row.bcc, row.tags]
    return [row.row, row.address, row.data]
