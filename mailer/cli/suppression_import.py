"""`mailer suppression import`: a file of any length, some lines at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from itertools import islice
from typing import Annotated, Any

import typer

from ..accounts.access import SesAccount
from ..errors import MailerError
from ..recipients import Reading
from ..recipients.blocks import open_path
from ..recipients.reading import AS_IT_IS
from ..suppression.entries import checked_stream
from ..suppression.files import Format, List, Row, Subscribed, Unusable, format_of, read
from ..suppression.lists import NewEntry, Reason, SuppressionLists
from ..suppression.throttle import WriteThrottle
from ..suppression.writer import Put, SesRefused, SesWriter
from . import options
from .accounts import open_ledger, open_reach
from .options import Json
from .output import one_line, print_json, progress_bar, say
from .run import on_interrupt, run
from .suppression_options import FormatOf, Local, SenderOf, know_stream

BATCH = 500  # lines
AT_ONCE = 4  # calls of SES, as long as it does not say that they are too many
TOLD = 20  # lines that cannot be used of which each is told


class Import:
    """`ses_account`: where to write through to, None for our own list only. Afterwards it has the numbers."""

    def __init__(self, suppressed: SuppressionLists, ses_account: SesAccount | None, reason: Reason, stream: str) -> None:
        self._list = suppressed
        self._pace = WriteThrottle()
        self._both = None if ses_account is None else SesWriter(suppressed, ses_account.account, ses_account.gateway, self._pace)
        self._reason, self._stream = reason, stream
        self._told_slow = False
        self.lines = self.unusable = self.added = self.there = self.written = self.there_at_ses = self.left_out = 0
        self.subscribed = 0  # rows whose status says that they are sent to
        self.without = 0  # rows that are taken without a field that cannot be used
        self._last = 0  # the line that was counted last
        self.other_reasons = 0  # rows whose reason is none of ours
        self.refused: SesRefused | None = None  # why SES takes no more of them

    async def run(self, file: str, format: Format | None, reading: Reading = AS_IT_IS) -> None:
        """Raises RecipientsError where the file cannot be used."""
        source = open_path(file)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="import") as pool, progress_bar() as bar:
            task = bar.add_task("reading", total=None)
            try:
                lines = await loop.run_in_executor(pool, read, source, format, reading)
                while batch := await loop.run_in_executor(pool, _next, lines):
                    await self._take(batch)
                    read_, size = source.bytes_read, source.total
                    bar.update(task, completed=self.lines, total=int(self.lines * size / read_) if size and read_ else None)
                bar.update(task, completed=self.lines, total=self.lines)
            finally:
                source.stop()
                pool.submit(source.close)

    async def _take(self, batch: Sequence[Row]) -> None:
        """Our own list first: it is what holds at once."""
        own, ses = list[NewEntry](), list[tuple[str, Reason]]()
        for line in batch:
            self.lines += line.number != self._last
            self._last = line.number
            if isinstance(line, Unusable):
                self._tell(line)
                continue
            if isinstance(line, Subscribed):
                self.subscribed += 1
                continue
            self.without += line.left_out
            reason, stream = line.reason or self._reason, line.stream or self._stream
            self.other_reasons += line.unknown_reason
            if line.list is not List.SES:
                own.append(NewEntry(line.address, reason, stream, line.since))
            elif self._both is None:
                self.left_out += 1
            if line.list is List.SES or not stream:
                ses.append((line.address, reason))
        new = await self._list.add(own)
        self.added += sum(new)
        self.there += len(new) - sum(new)
        for first in range(0, len(ses), AT_ONCE):
            if self._both is None or self.refused is not None:
                return
            await self._write(self._both, ses[first : first + AT_ONCE])

    async def _write(self, both: SesWriter, entries: Sequence[tuple[str, Reason]]) -> None:
        puts = (both.put(address, reason, unless_there=True) for address, reason in entries)
        for result in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(result, SesRefused):
                self.refused = result
            elif isinstance(result, BaseException):
                raise result
            else:
                self.written += result is Put.WRITTEN
                self.there_at_ses += result is Put.THERE
        if self._pace.slow and not self._told_slow:
            self._told_slow = True
            say("SES takes about one address a second; with --local its list is left out", "yellow")

    def _tell(self, line: Unusable) -> None:
        self.unusable += 1
        if self.unusable <= TOLD:
            say(one_line(f"line {line.number} cannot be used: {line.why}"), "yellow")
        elif self.unusable == TOLD + 1:
            say("more lines cannot be used; they are counted", "yellow")

    def numbers(self) -> dict[str, Any]:
        return {
            "lines": self.lines,
            "added": self.added,
            "there": self.there,
            "unusable": self.unusable,
            "ses_written": self.written,
            "ses_there": self.there_at_ses,
            "ses_left_out": self.left_out,
            "subscribed": self.subscribed,
        }

    def sentence(self) -> str:
        parts = [f"{self.lines:,} lines: {self.added:,} added, {self.there:,} were there already"]
        if self._both is not None:
            parts.append(f"{self.written:,} written to SES's list, {self.there_at_ses:,} were on it already")
        if self.left_out:
            parts.append(f"{self.left_out:,} of SES's own entries left out")
        if self.subscribed:
            say_how = "the file seems to have all contacts; remove the column to suppress them, too"
            parts.append(f"{self.subscribed:,} left out, whose status says that they are subscribed ({say_how})")
        if self.without:
            parts.append(f"{self.without:,} taken without a time or stream that cannot be used")
        if self.other_reasons:
            parts.append(f"{self.other_reasons:,} with a reason of another service were taken as {self._reason} (--reason)")
        return "; ".join(parts)


def _next(lines: Iterator[Row]) -> list[Row]:
    return list(islice(lines, BATCH))


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or NDJSON file, plain or gzipped; - for standard input.")],
    format: FormatOf = None,
    email_column: options.EmailColumn = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    reason: Annotated[Reason, options.one_of(Reason, "--reason", help="Reason of lines that have none of ours.")] = Reason.MANUAL,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="NAME", help="Sender to whose mail lines apply that name none.")
    ] = None,
    local: Local = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Suppress the addresses that a file lists.

    Reads exports of this service, of SES and of other services: a CSV with a column of addresses (and `reason`, `stream`,
    `since`), NDJSON, or SES's own address,REASON.

    Exit status 1 if lines cannot be used, or SES's list cannot be written. The other lines are taken.
    """
    reading = options.a_reading(options.ListForm(email_column=email_column, encoding=encoding, delimiter=delimiter))
    run(_import(file, format or format_of(file), reading, reason, checked_stream(stream or ""), local, sender, as_json))


async def _import(
    file: str,
    format: Format | None,
    reading: Reading,
    reason: Reason,
    stream: str,
    local: bool,
    sender: str | None,
    as_json: bool,
) -> None:
    async with open_ledger() as (settings, ledger), AsyncExitStack() as stack:
        know_stream(settings, stream)
        ses_account = None if local else await stack.enter_async_context(open_reach(settings, ledger, sender))
        work = Import(SuppressionLists(ledger), ses_account, reason, stream)
        with on_interrupt("stopped; what was read so far is on the list, and importing the file again goes on from there"):
            await work.run(file, format, reading)
        trouble = None if work.refused is None or ses_account is None else await why_refused(ses_account, work.refused)
    if as_json:
        print_json(work.numbers())
    say(work.sentence())
    if trouble:
        raise MailerError(why=f"kept here, but not all written to SES's list: {trouble}")
    if work.unusable:
        raise MailerError(why=f"{work.unusable:,} of {work.lines:,} lines of {file} could not be used; the others were taken")


async def why_refused(ses_account: SesAccount, error: SesRefused) -> str:
    """In the sandbox SES takes no entries, and does not say so in words that can be relied on."""
    try:
        sandbox = not (await ses_account.gateway.account()).production
    except Exception:
        sandbox = False
    if sandbox:
        return "the account is in the SES sandbox, where SES's list takes no entries; --local leaves it out"
    return f"{error}; --local leaves SES's list out"
