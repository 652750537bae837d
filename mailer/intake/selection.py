"""Which rows of a list a campaign takes, and what it calls them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..errors import RecipientsError, RenderFailed
from ..ledger import Ledger
from ..message.address import dedup_key
from ..message.email import Outcome
from ..recipients import BadRow, Reading, Recipient, Recipients, Row, Source, open_recipients
from ..recipients.seen import Seen
from ..recipients.understood import Format, LeftOut, Understood, nothing_to_use
from ..storage import open_list

# Who has the campaign, or may have it.
GOT = frozenset((Outcome.CLAIMED, Outcome.SENT, Outcome.DELIVERED, Outcome.BOUNCED, Outcome.COMPLAINED, Outcome.UNKNOWN))
BATCH = 1000  # recipients of an earlier campaign that are looked at together
MOST_UNUSABLE = 0.5  # of the rows of a list that is left out may have no address, before it is none
IN_MEMORY = 100_000  # addresses of one list that is left out, before the others go to disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Rows of a list that a campaign leaves out: they are `suppressed`, and the reason says why."""

    exclude: Sequence[Source] = ()  # lists of addresses, read as any list
    exclude_campaigns: Sequence[str] = ()  # ids: whoever got one of these, or may have
    allow_repeats: bool = False  # a row is a matter and not a person: an address may have several, and gets them all


ALL = Selection()
Naming = Callable[[Recipient], str]  # what To calls a recipient. Raises RenderFailed


class _Excluded(NamedTuple):
    addresses: Seen
    why: str


class Selected:
    """An open list as a campaign takes it: an async context manager, and an iterator of `list[Row]`.

    Entering it reads what is left out. Raises what is wrong with those lists, and NotFound where there is no such campaign.
    """

    def __init__(
        self,
        rows: Recipients,
        selection: Selection,
        ledger: Ledger,
        naming: Naming | None,
        *,
        reading: Reading,
        asking: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`asking` is around what asks Redis."""
        self.left_out: list[LeftOut] = []  # the lists, in their order; known once it is entered
        self._rows = rows
        self._reading = reading
        self._asking = asking
        self._selection = selection
        self._ledger = ledger
        self._naming = naming
        self._excluded: list[_Excluded] = []
        self._stack = AsyncExitStack()

    @property
    def understood(self) -> Understood:
        return self._rows.understood

    def doubts(self) -> list[str]:
        """Why nobody should start this campaign who has not looked at it: a sentence each."""
        found = [
            f"{one.source}: {one.why}: whoever they are for is not left out; mend or remove these rows"
            for one in self.left_out
            if one.unusable
        ]
        list_ = self.understood
        if list_.doubtful:
            how = "save it as UTF-8 (in Excel “CSV UTF-8”), or say --encoding windows-1250 (-1254, -1257 …), what it is in"
            right = "where these words are right, say --encoding windows-1252"
            words = ", ".join(list_.examples)
            found.append(
                f"{list_.source} is not UTF-8, and read as {list_.encoding} it has words such as {words}; {how}; {right}"
            )
        return found

    def progress(self) -> tuple[int, int | None]:
        return self._rows.progress()

    async def __aenter__(self) -> Selected:
        try:
            for source in self._selection.exclude:
                await self._leave_out_list(source)
            for id in self._selection.exclude_campaigns:
                with self._asking():
                    await self._leave_out_campaign(id)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[list[Row]]:
        return self

    async def __anext__(self) -> list[Row]:
        batch = await anext(self._rows)
        if not self._excluded and self._naming is None:
            return batch
        return await asyncio.to_thread(self._chosen, batch)

    # ---- what is left out ------------------------------------------------------------------------------------------

    def _seen(self, why: str) -> Seen:
        seen = self._stack.enter_context(Seen(in_memory=IN_MEMORY, afterwards=IN_MEMORY))
        self._excluded.append(_Excluded(seen, why))
        return seen

    async def _leave_out_list(self, source: Source) -> None:
        """Raises RecipientsError where it is no list of addresses: who should be left out would be sent to."""
        async with open_recipients(source, reading=self._reading, addresses_only=True, remote=open_list) as rows:
            seen = self._seen(f"its address is in {rows.understood.source}, which this campaign leaves out")
            addresses = 0
            async for batch in rows:
                keys = [dedup_key(one) for row in batch if isinstance(row, Recipient) for one in (row.address, *row.cc)]
                addresses += len(keys) - len(await asyncio.to_thread(seen.repeats, keys))
            found = rows.understood
        if found.rejected > MOST_UNUSABLE * found.rows:
            why = f"{_without(found)}, so it is no list of people to leave out; {nothing_to_use(found)}"
            raise RecipientsError(source=found.source, why=f"{why} Nothing was sent.")
        self.left_out.append(
            LeftOut(found.source, addresses, found.rows, found.rejected, _without(found) if found.rejected else "")
        )

    async def _leave_out_campaign(self, id: str) -> None:
        await self._ledger.report.campaign(id)
        seen, keys = self._seen(f"campaign {id} was sent to its address, and this one leaves those out"), list[str]()
        async for line in self._ledger.report.lines(id):
            if line.state in GOT:
                keys.append(dedup_key(line.to))
            if len(keys) >= BATCH:
                await asyncio.to_thread(seen.repeats, keys)
                keys = []
        await asyncio.to_thread(seen.repeats, keys)

    # ---- each batch ------------------------------------------------------------------------------------------------

    def _chosen(self, rows: list[Row]) -> list[Row]:
        for addresses, why in self._excluded:
            places = [index for index, row in enumerate(rows) if isinstance(row, Recipient)]
            keys = [dedup_key(row.address) for row in rows if isinstance(row, Recipient)]
            for place in map(places.__getitem__, addresses.among(keys)):
                row = rows[place]
                assert isinstance(row, Recipient)
                rows[place] = BadRow(row.row, row.address, Outcome.SUPPRESSED, why)
        if self._naming is not None:
            return [self._named(row, self._naming) if isinstance(row, Recipient) else row for row in rows]
        return rows

    @staticmethod
    def _named(row: Recipient, naming: Naming) -> Recipient:
        """A name that cannot be made is no reason to send nothing."""
        try:
            return replace(row, name=naming(row))
        except RenderFailed:
            return row


def _without(found: Understood) -> str:
    """Half a sentence: how many rows have no address that can be used, where the first are, and why the most have none."""
    rows = "1 row has" if found.rejected == 1 else f"{found.rejected:,} of {found.rows:,} rows have"
    (reason, _, first), *others = found.reasons
    reason = reason.removeprefix("…: ")
    place = "row" if found.format is Format.ROWS else "line"
    where = f"{place} {first[0]}" if found.rejected == 1 else f"the first in {place} {first[0]}"
    more = " and others" if others else ""
    return f"{rows} no address that can be used ({where}: {reason.removeprefix('…: ')}{more})"
