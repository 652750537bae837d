"""Handing over: a message or a campaign is stored once and queued, and whoever hands it over knows whether it was."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.exceptions import RedisError

from ..compose.message_builder import MessageBuilder
from ..errors import (
    KeyBusy,
    KeyReused,
    MailerError,
    MaybeStored,
    NobodyToSendTo,
    NotConfirmed,
    NotFound,
    NotLookedAt,
    RedisUnavailable,
)
from ..ids import CampaignId, MessageId, chunk_id, new_campaign_id, new_message_id
from ..ledger import Added, Key, Ledger, Spec
from ..ledger.disk import Disk
from ..ledger.store import Objects
from ..line import Line
from ..message.email import Campaign, Email, Lane, Outcome, State
from ..queue import Queue, explain_redis, is_refused, not_stored
from ..recipients import Reading, Row, Source, open_recipients
from ..recipients.reading import AS_IT_IS
from ..recipients.understood import nothing_to_use
from ..settings import Settings
from ..storage import open_list
from ..tasks import to_the_end
from . import fitting, spec_builder
from .chunks import ChunkWriter, ListDigest
from .idempotency import idempotency_key as key_of
from .selection import ALL, Selected, Selection
from .summary import Confirm, summarise

FIRST_CHUNKS = 4  # chunks queued when a campaign is started; a worker fills the rest of the window
WAKE_PATIENCE_MS = 20_000  # how long a wake-up may lie in the queue before the reaper looks whether it got lost

# Not structlog: an application that has not set it up would find its own standard output written to.
log = logging.getLogger("mailer")

NOT_STORED = "nothing was stored"
NOT_SENT = "nothing of it is sent"

Progress = Callable[[int, int, int | None], None]  # rows read, bytes read, bytes in all where that is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a campaign is to be started: see `Mailer.start_campaign`."""

    reading: Reading = AS_IT_IS
    selection: Selection = ALL
    idempotency_key: str | None = None
    progress: Progress | None = None
    confirm: Confirm | None = None


class Handover:
    def __init__(self, settings: Settings, line: Line, ledger: Ledger, queue: Queue, objects: Objects | None) -> None:
        self._settings = settings
        self._line = line
        self._ledger = ledger
        self._queue = queue
        self._objects = objects
        self._disk = Disk(ledger.redis, ledger.keys) if settings.intake_fsync else None
        self.specs = spec_builder.SpecBuilder(settings)
        self.not_told = ""  # why the queue does not have what was stored last; half a sentence

    async def close(self) -> None:
        if self._disk is not None:
            await self._disk.close()

    # ---- a message -----------------------------------------------------------------------------

    async def send(self, email: Email, idempotency_key: str | None) -> MessageId:
        """See `Mailer.send`."""
        key = key_of(idempotency_key, spec_builder.expected(Email, email))
        with self._line.asking(NOT_STORED):
            began = await self._began()
            if key and (earlier := await self._ledger.intake.find_key(key)):
                _same_or_raise(earlier, key)
                await self._on_disk(earlier.id, began)
                return MessageId(earlier.id)
        spec, blobs = self.specs.message(email)
        with self._line.asking(NOT_STORED):
            await self._store(blobs, email.send_at)
            added = await self._add(new_message_id(), spec, email.send_at, key)
            _same_or_raise(added, key)
            if added.new and (email.send_at is None or email.send_at <= datetime.now(UTC)):
                await self._wake(spec.lane, [chunk_id(added.id, 0)])
            await self._on_disk(added.id, began)
        return MessageId(added.id)

    async def _add(self, id: str, spec: Spec, send_at: datetime | None, key: Key | None) -> Added:
        keep_s = self._settings.retention_s
        try:
            return await self._ledger.intake.add_message(
                id, spec, keep_s=keep_s, patience_ms=WAKE_PATIENCE_MS, send_at=send_at, key=key
            )
        except (RedisError, OSError) as error:
            # Of a repetition that is refused, after an answer that got lost, the ledger may know more.
            if not_stored(error) or (is_refused(error) and await self._is_missing(id)):
                raise
            raise _maybe_stored(id, key, error) from None

    async def _is_missing(self, id: str) -> bool:
        """False where Redis does not say it, too."""
        try:
            await self._ledger.report.message(id)
        except NotFound:
            return True
        except (RedisError, OSError):
            return False
        return False

    async def _store(self, blobs: Sequence[bytes], send_at: datetime | None) -> None:
        until = None if send_at is None else int(send_at.timestamp() * 1000)
        for blob in blobs:
            await self._ledger.contents.put(blob, until_ms=until)

    async def _began(self) -> str:
        return await self._disk.began() if self._disk is not None else ""

    async def _on_disk(self, id: str, began: str) -> None:
        """Return once what it stands for is as safe as the settings want it."""
        if self._disk is not None:
            await self._disk.confirm(id, began)

    async def _wake(self, lane: Lane, chunks: Sequence[str]) -> None:
        """What is stored is sent also when the queue cannot be written to; an error now would make a caller send it again."""
        try:
            await self._queue.wake_all(lane, chunks)
        except (RedisError, OSError) as error:
            within_s = WAKE_PATIENCE_MS / 1000
            self.not_told = f"its queue could not be told: {explain_redis(error)}; a worker looks for it {within_s:.0f} s later"
            log.warning("what was stored is sent later: %s", self.not_told)

    # ---- a campaign ----------------------------------------------------------------------------

    async def start(self, campaign: Campaign, recipients: Source, how: Start) -> CampaignId:
        """See `Mailer.start_campaign`."""
        key, asking = key_of(how.idempotency_key, spec_builder.expected(Campaign, campaign)), self._line.asking
        with asking(NOT_STORED):
            began = await self._began()
            earlier = await self._ledger.intake.find_key(key) if key else None
        if key and earlier:
            _same_or_raise(earlier, key)
            async with self.open_list(recipients, campaign, how) as rows:
                await self._earlier(earlier, key, rows)
            await self._on_disk(earlier.id, began)
            return CampaignId(earlier.id)
        guard = spec_builder.guard_of(campaign)
        spec, blobs = self.specs.campaign(campaign)
        if self._objects is not None:
            await self._objects.check()
        for sentence in spec_builder.advice(campaign, spec):
            log.warning("what this campaign sends is likely to have a mistake in it: %s", sentence)
        async with self.open_list(recipients, campaign, how) as rows:
            with asking(NOT_STORED):
                await self._store(blobs, campaign.send_at)
                added = await self._ledger.intake.plan_campaign(
                    new_campaign_id(), spec, send_at=campaign.send_at, key=key, guard=guard
                )
            if added.new:
                began = await self._read_in(added.id, campaign, spec, blobs, key, rows, how)
                await self.feed(added.id, spec.lane)
            else:
                _same_or_raise(added, key)
                await self._earlier(added, key, rows)
        await self._on_disk(added.id, began)
        return CampaignId(added.id)

    @asynccontextmanager
    async def open_list(self, recipients: Source, campaign: Campaign, how: Start) -> AsyncIterator[Selected]:
        """The rows of the list, without those that are left out."""
        naming, chosen = self.specs.naming(campaign), how.selection
        async with (
            open_recipients(recipients, reading=how.reading, repeats=chosen.allow_repeats, remote=open_list) as rows,
            Selected(rows, chosen, self._ledger, naming, reading=how.reading, asking=self._line.asking) as selected,
        ):
            yield selected

    async def feed(self, id: str, lane: Lane) -> None:
        """Queue the first chunks. It is stored, and where this fails a worker fills its window."""
        with suppress(RedisUnavailable), self._line.asking():
            first = await self._ledger.lifecycle.feed(id, window=FIRST_CHUNKS, patience_ms=WAKE_PATIENCE_MS)
            await self._wake(lane, first)

    async def _read_in(
        self,
        id: str,
        campaign: Campaign,
        spec: Spec,
        blobs: Sequence[bytes],
        key: Key | None,
        rows: Selected,
        how: Start,
    ) -> str:
        """Store the list and let the campaign run; or leave nothing of it. Returns what `_on_disk` is to be given."""
        intake, asking = ChunkWriter(self._ledger, id, spec, with_digest=key is not None), self._line.asking
        began, maybe_runs = "", False
        reader = asyncio.create_task(intake.stay_alive())
        try:
            async for batch in rows:
                if not intake.rows:
                    _check_names(campaign, spec, blobs, batch, rows.understood.doubled)
                with asking(NOT_SENT):
                    await intake.add(batch)
                if how.progress:
                    how.progress(intake.rows, *rows.progress())
            with asking(NOT_SENT):
                await intake.flush()
            _check_somebody(intake, rows)
            if how.confirm is None:
                if doubts := rows.doubts():
                    raise NotLookedAt(why=doubts[0])
            else:
                await self._confirmed(id, self.specs.material(spec, blobs), intake, rows, campaign.send_at, how.confirm)
            with asking(NOT_SENT):
                if key and intake.digest:
                    await self._ledger.intake.keep_list_digest(key, intake.digest.text())
                began = await self._began()  # from here on: what a Redis forgot before that was started anew is missed now
            maybe_runs = True
            with asking(NOT_SENT):
                try:
                    await to_the_end(self._let_run(id, intake))
                except (RedisError, OSError) as error:
                    maybe_runs = not not_stored(error)
                    raise
        except BaseException as error:
            runs = await self._take_back(id, maybe_runs=maybe_runs)
            if runs is None and isinstance(error, RedisUnavailable | asyncio.CancelledError):
                raise _maybe_stored(id, key, error) from None
            # Where it runs, only the answer got lost, or the cancellation came too late: then it is started.
            if not runs:
                raise
            if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()):
                task.uncancel()
        finally:
            reader.cancel()
        return began

    async def _confirmed(
        self, id: str, material: MessageBuilder, read: ChunkWriter, rows: Selected, send_at: datetime | None, confirm: Confirm
    ) -> None:
        """Raises NotConfirmed."""
        with self._line.asking(NOT_SENT):
            summary = await summarise(
                self._ledger,
                id,
                material,
                read,
                rows.understood,
                send_at,
                left_out=rows.left_out,
                doubts=rows.doubts(),
            )
        if not await confirm(summary):
            raise NotConfirmed(id=id)

    async def _let_run(self, id: str, read: ChunkWriter) -> None:
        await self._ledger.intake.start_campaign(id, rows=read.rows, chunks=read.chunks, counts=read.counts, reasons=read.reasons)

    async def _take_back(self, id: str, *, maybe_runs: bool) -> bool | None:
        """Leave nothing of a campaign that does not run. Whether it runs; None where Redis does not say it."""
        dropped: bool | None = None
        with suppress(Exception):
            dropped = await to_the_end(self._ledger.intake.drop_campaign(id))
        if not maybe_runs or dropped:
            return False
        try:
            state = (await self._ledger.report.campaign(id)).state
        except NotFound:
            return False
        except (MailerError, RedisError, OSError):
            return None
        if state is State.PLANNED:  # it was to be dropped; where Redis has left it alone, its send_at is to come
            return dropped is False or None
        return state is not State.CANCELLED

    @staticmethod
    async def _earlier(added: Added, key: Key | None, rows: Selected) -> None:
        """Return where this list is that of the campaign that the key stands for, too."""
        assert key is not None
        if added.reading:
            raise KeyBusy(key=key.text, id=added.id)
        digest = ListDigest()
        async for batch in rows:
            digest.add(batch)
        if digest.text() != added.list_digest:
            raise KeyReused(key=key.text, id=added.id)


def _check_names(campaign: Campaign, spec: Spec, blobs: Sequence[bytes], rows: Sequence[Row], doubled: Sequence[str]) -> None:
    """Raises MissingVariables, DoubledColumn and InvalidEmail where the first rows do not fit what is made of each."""
    fitting.check_rows(spec, fitting.names_of(spec, blobs), rows, doubled=doubled)
    if campaign.to_name is not None:
        names = fitting.names_in(campaign.to_name)
        fitting.check_rows(spec, names, rows, doubled=doubled, what="The name for To (--to-name)")


def _check_somebody(read: ChunkWriter, rows: Selected) -> None:
    """Raises NobodyToSendTo where no row of the list can be used. That all are left out on purpose is no mistake."""
    rejected = read.counts[Outcome.REJECTED]
    if not rejected or rejected + read.counts[Outcome.DUPLICATE] < read.rows:
        return
    reason, count = read.reasons.most_common(1)[0]
    found = rows.understood
    what = f"The reason: {reason}" if count == read.rows else f"The commonest reason, of {count:,}: {reason}"
    none = f"none of its {read.rows:,} rows" if read.rows > 1 else "its only row is not one that"
    raise NobodyToSendTo(source=found.source, rows=none, why=f"{what}; {nothing_to_use(found)}")


def _maybe_stored(id: str, key: Key | None, error: BaseException) -> MaybeStored:
    again = ", or repeat it with the same idempotency key, which stores it once" if key else ""
    if isinstance(error, asyncio.CancelledError):
        why = "and this was cancelled"
    else:
        why = error.fields["why"] if isinstance(error, RedisUnavailable) else explain_redis(error)
    return MaybeStored(id=id, why=why, again=again)


def _same_or_raise(added: Added, key: Key | None) -> None:
    if not added.same:
        assert key is not None
        raise KeyReused(key=key.text, id=added.id)
