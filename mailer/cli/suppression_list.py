"""`mailer suppression list` and `export`: all that the lists have."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..accounts.access import SesAccount
from ..errors import ConfigError
from ..ledger import Ledger
from ..suppression.files import Format, List, Writer, as_row, create, format_of
from ..suppression.lists import Reason, SuppressionLists
from .accounts import open_ledger, reach_if_any
from .options import Json
from .output import out, print_json, printable, progress_bar, say
from .parsers import STDIN
from .run import run
from .suppression_options import FormatOf, OnlyList, OnlyReason, SenderOf, Stream


def list_(
    reason: OnlyReason = None,
    stream: Stream = None,
    which: OnlyList = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Number of entries.")] = 50,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """List entries of our own list and SES's.

    Their order means nothing. `export` writes all of them.
    """
    run(_list(reason, stream, which, limit, sender, as_json))


async def _list(
    reason: Reason | None, stream: str | None, which: List | None, limit: int, sender: str | None, as_json: bool
) -> None:
    rows, more = list[dict[str, str | None]](), False
    async with open_ledger() as (settings, ledger), AsyncExitStack() as stack:
        ses_account = None if which is List.OWN else await reach_if_any(stack, settings, ledger, sender)
        async for row in _rows(ledger, ses_account, reason, stream, which):
            more = len(rows) == limit
            if more:
                break
            rows.append(row)
        total = await _total(ledger, ses_account, which)
    if as_json:
        print_json(rows)
    elif rows:
        entry_table(rows)
    else:
        say("there is nothing on it" if reason is None and stream is None else "there is no such entry")
    if more:
        say(f"these are {len(rows):,} of {total:,} entries; --limit shows more, and `mailer suppression export` all")


async def _total(ledger: Ledger, ses_account: SesAccount | None, which: List | None) -> int:
    own = 0 if which is List.SES else await SuppressionLists(ledger).own_entries()
    return own + ((await SuppressionLists(ledger).ses_list(ses_account.account)).entries if ses_account else 0)


async def _rows(
    ledger: Ledger, ses_account: SesAccount | None, reason: Reason | None, stream: str | None, which: List | None
) -> AsyncIterator[dict[str, str | None]]:
    if which is not List.SES:
        async for own in SuppressionLists(ledger).walk_own():
            if reason in (None, own.reason) and stream in (None, own.stream):
                yield as_row(own)
    if ses_account is not None and stream is None:
        async for entry in SuppressionLists(ledger).walk_ses(ses_account.account):
            if reason is None or reason == entry.reason.lower():
                yield as_row(entry)


def entry_table(rows: Sequence[dict[str, str | None]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("ADDRESS", "LIST", "REASON", "STREAM", "SINCE"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(row[name] or "")) for name in ("email", "list", "reason", "stream", "since")))
    out.print(table)


def export(
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]",
            show_default=False,
            help="File to write, gzipped if its name ends in .gz. Without it, or with -, standard output.",
        ),
    ] = STDIN,
    format: FormatOf = None,
    reason: OnlyReason = None,
    stream: Stream = None,
    which: OnlyList = None,
    sender: SenderOf = None,
) -> None:
    """Write all entries to standard output or to a file.

    `import` reads it again. It is CSV unless the file's name or --format says otherwise.
    """
    run(_export(file, format or format_of(file) or Format.CSV, reason, stream, which, sender))


async def _export(
    file: str, format: Format, reason: Reason | None, stream: str | None, which: List | None, sender: str | None
) -> None:
    async with open_ledger() as (settings, ledger), AsyncExitStack() as stack:
        ses_account = None if which is List.OWN else await reach_if_any(stack, settings, ledger, sender)
        try:
            target = sys.stdout.buffer if file == STDIN else stack.enter_context(create(Path(file)))
        except OSError as error:
            raise ConfigError(where=file, why=f"cannot be written: {error.strerror}") from None
        writer, count = Writer(target, format), 0
        with progress_bar() as bar:
            task = bar.add_task("writing", total=await _total(ledger, ses_account, which))
            async for row in _rows(ledger, ses_account, reason, stream, which):
                writer.add(row)
                count += 1
                if count % 1000 == 0:
                    bar.update(task, completed=count)
            bar.update(task, completed=count, total=count)
    say(f"{count:,} entries")
