"""`mailer suppression …`"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .. import Settings
from ..errors import ConfigError, MailerError
from ..ledger import Ledger
from ..ledger.accounts import Accounts
from ..ledger.suppressed import Found, Reason, SesList
from ..reach import Reach
from ..recipients import Reading
from ..suppression.both import Both, SesRefused
from ..suppression.entries import checked_address, checked_stream, new_entry
from ..suppression.files import Format, List, Writer, as_row, create, format_of
from ..suppression.sync import Sync
from . import options
from .options import Json
from .output import facts, hint, one_line, out, print_json, printable, progress_bar, say, when
from .reach import open_ledger, open_reach
from .run import on_interrupt, run
from .suppression_import import Import
from .words import STDIN

app = typer.Typer(
    add_completion=False,
    help="Addresses that nothing is sent to.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS…")]
ReasonOf = Annotated[Reason, options.one_of(Reason, "--reason", help="Why.")]
OnlyReason = Annotated[Reason | None, options.one_of(Reason, "--reason", help="Only those with this reason.")]
OnlyList = Annotated[List | None, options.one_of(List, "--list", help="Our own list only, or SES's only.")]
Stream = Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Of this sender's mail only, not of all.")]
Local = Annotated[bool, typer.Option("--local", help="Our own list only; SES's stays as it is.")]
SenderOf = Annotated[str | None, typer.Option("--sender", metavar="NAME", help="Whose account's list; else our own account's.")]
FormatOf = Annotated[Format | None, options.one_of(Format, "--format", help="Where the file's name does not say it.")]


# ---- add, remove, check ----------------------------------------------------------------------------------------------


@app.command()
def add(
    addresses: Addresses,
    reason: ReasonOf = Reason.MANUAL,
    stream: Stream = None,
    local: Local = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Send nothing to these addresses any more."""
    run(_add(addresses, reason, stream or "", local, sender, as_json))


async def _add(addresses: list[str], reason: Reason, stream: str, local: bool, sender: str | None, as_json: bool) -> None:
    entries = [new_entry(address, reason, stream) for address in addresses]
    async with open_ledger() as (settings, ledger):
        _know_stream(settings, stream)
        new = await ledger.suppressed.add(entries)
        for entry, is_new in zip(entries, new, strict=True):
            what = f"for '{stream}'" if stream else "for everything"
            _say_of(entry.address, f"suppressed {what}" if is_new else f"was suppressed {what} already")
        written, trouble = list[str](), None
        if stream:
            say("SES's list knows no streams, so it is kept here only")
        elif not local:
            written, trouble = await _put(settings, ledger, sender, [entry.address for entry in entries], reason)
    if as_json:
        print_json(
            [
                {"email": entry.address, "reason": reason.value, "stream": stream or None, "new": is_new,
                 "ses": entry.address in written}
                for entry, is_new in zip(entries, new, strict=True)
            ]
        )  # fmt: skip
    if trouble:
        raise MailerError(why=f"kept here, but not written to SES's list: {trouble}")


async def _put(
    settings: Settings, ledger: Ledger, sender: str | None, addresses: list[str], reason: Reason
) -> tuple[list[str], str | None]:
    """The addresses that were written to SES's list, and why the others were not."""
    written = list[str]()
    try:
        async with open_reach(settings, ledger, sender) as reach:
            both = Both(ledger.suppressed, reach.account, reach.gateway)
            with progress_bar() as bar:
                for address in bar.track(addresses, description="writing to SES"):
                    try:
                        await both.put(address, reason)
                    except SesRefused as error:
                        return written, await why_refused(reach, error)
                    written.append(address)
    except ConfigError as error:
        return written, str(error)
    return written, None


async def why_refused(reach: Reach, error: SesRefused) -> str:
    """In the sandbox SES takes no entries, and does not say so in words that can be relied on."""
    try:
        sandbox = not (await reach.gateway.account()).production
    except Exception:
        sandbox = False
    if sandbox:
        return "the account is in the SES sandbox, where SES's list takes no entries; --local leaves it out"
    return f"{error}; --local leaves SES's list out"


@app.command()
def remove(
    addresses: Addresses,
    stream: Stream = None,
    every_stream: Annotated[bool, typer.Option("--every-stream", help="Also what is for one sender's mail only.")] = False,
    local: Local = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Take addresses off the list.

    In whatever case SES has them. With --stream: what is for that sender's mail, here only.
    """
    if stream and every_stream:
        raise typer.BadParameter("give either --stream or --every-stream, not both")
    run(_remove(addresses, None if every_stream else checked_stream(stream or ""), local or bool(stream), sender, as_json))


async def _remove(addresses: list[str], stream: str | None, local: bool, sender: str | None, as_json: bool) -> None:
    addresses = [checked_address(one) for one in addresses]
    async with open_ledger() as (settings, ledger):
        own = {address: await ledger.suppressed.remove(address, stream) for address in addresses}
        at_ses, trouble = (dict[str, bool](), None) if local else await _delete(settings, ledger, sender, addresses)
        left = (await ledger.suppressed.check(addresses, account=None)).hits
    for number, address in enumerate(addresses):
        removed = [name for name, there in (("our own list", own[address]), ("SES's list", at_ses.get(address))) if there]
        _say_of(address, f"removed from {' and '.join(removed)}" if removed else f"was not on {_which(address in at_ses)}")
        for entry in left[number].own if number in left and stream == "" else ():
            _say_of(address, f"still suppressed for '{entry.stream}' ({entry.reason.value}); see --stream and --every-stream")
    if as_json:
        print_json(
            [
                {"email": address, "removed": [as_row(entry) for entry in own[address]], "ses": at_ses.get(address)}
                for address in addresses
            ]
        )
    if trouble:
        raise MailerError(why=f"removed here, but not from SES's list: {trouble}")


def _which(at_ses: bool) -> str:
    return "our own list, nor on SES's" if at_ses else "our own list"


def _say_of(address: str, what: str, style: str | None = None) -> None:
    say(one_line(f"{address}: {what}"), style)


async def _delete(
    settings: Settings, ledger: Ledger, sender: str | None, addresses: list[str]
) -> tuple[dict[str, bool], str | None]:
    """Address → whether SES had it; and why the others could not be asked about."""
    found = dict[str, bool]()
    try:
        async with open_reach(settings, ledger, sender) as reach:
            both = Both(ledger.suppressed, reach.account, reach.gateway)
            if (await ledger.suppressed.ses_list(reach.account)).whole_at is None:
                hint("SES's list has not been read yet, so an entry in another case is not found; see `mailer suppression sync`")
            with progress_bar() as bar:
                for address in bar.track(addresses, description="removing at SES"):
                    try:
                        found[address] = await both.delete(address)
                    except SesRefused as error:
                        return found, f"{error}; --local leaves SES's list out"
    except ConfigError as error:
        return found, str(error)
    return found, None


@app.command()
def check(
    addresses: Addresses,
    ask_ses: Annotated[bool, typer.Option("--ses", help="Ask SES itself, and not only our copy of its list.")] = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Say which of them are on a list, and why."""
    run(_check(addresses, ask_ses, sender, as_json))


async def _check(addresses: list[str], ask_ses: bool, sender: str | None, as_json: bool) -> None:
    addresses = [checked_address(one) for one in addresses]
    async with open_ledger() as (settings, ledger), AsyncExitStack() as stack:
        reach = await _reach_if_any(stack, settings, ledger, sender, must=ask_ses)
        checked = await ledger.suppressed.check(addresses, account=reach.account if reach else None)
        found = [checked.hits.get(number, Found((), ())) for number in range(len(addresses))]
        if ask_ses and reach:
            both = Both(ledger.suppressed, reach.account, reach.gateway)
            try:
                found = [Found(one.own, await both.asked(a)) for a, one in zip(addresses, found, strict=True)]
            except SesRefused as error:
                raise MailerError(why=f"SES cannot be asked: {error}") from None
        held = await _held(ledger, reach)
    entries = [[*map(as_row, one.own), *map(as_row, one.ses)] for one in found]
    about = None if reach is None or checked.ses is None else _about(reach.account, checked.ses, held)
    if as_json:
        listed = [{"email": a, "listed": bool(rows), "entries": rows} for a, rows in zip(addresses, entries, strict=True)]
        print_json({"addresses": listed, "ses": about})
        return
    _table([row for rows in entries for row in rows])
    for address, rows in zip(addresses, entries, strict=True):
        if not rows:
            _say_of(address, "on no list", "green")
    if checked.ses is not None and reach is not None:
        _say_ses(reach.account, checked.ses, held)


async def _held(ledger: Ledger, reach: Reach | None) -> list[str] | None:
    """The reasons for which SES's list holds in this account, as GetAccount said last; None where nobody has asked."""
    if reach is None:
        return None
    known = await Accounts(ledger.redis, ledger.keys, ledger.scripts).load(reach.account)
    return None if known is None else sorted(reason.lower() for reason in known.suppressed_reasons)


def _about(account: str, known: SesList, held: list[str] | None) -> dict[str, Any]:
    return {
        "account": account,
        "entries": known.entries,
        "reasons": held,
        "synced_at": known.synced_at,
        "whole_at": known.whole_at,
        "trouble": known.trouble or None,
    }


def _say_ses(account: str, known: SesList, held: list[str] | None) -> None:
    if known.whole_at is None or known.synced_at is None:
        say(f"SES's list of {account} has not been read whole yet; a worker does it, or: mailer suppression sync", "yellow")
    else:
        say(f"SES's list of {account}: {known.entries:,} entries, read at {when(known.synced_at)}")
    if held is not None:
        say(f"it holds there for: {', '.join(held) or 'nothing'}; a configuration set may say otherwise")
    if known.trouble:
        say(f"it cannot be read now: {known.trouble}", "yellow")


async def _reach_if_any(
    stack: AsyncExitStack, settings: Settings, ledger: Ledger, sender: str | None, *, must: bool = False
) -> Reach | None:
    """Our own list can be looked at without AWS."""
    try:
        return await stack.enter_async_context(open_reach(settings, ledger, sender))
    except ConfigError as error:
        if must:
            raise
        hint(f"SES's list is left out: {error}")
        return None


# ---- all of it -------------------------------------------------------------------------------------------------------


@app.command("list")
def list_(
    reason: OnlyReason = None,
    stream: Stream = None,
    which: OnlyList = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 50,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Show entries of both lists.

    In no order that means anything; `export` has all of them.
    """
    run(_list(reason, stream, which, limit, sender, as_json))


async def _list(
    reason: Reason | None, stream: str | None, which: List | None, limit: int, sender: str | None, as_json: bool
) -> None:
    rows, more = list[dict[str, str | None]](), False
    async with open_ledger() as (settings, ledger), AsyncExitStack() as stack:
        reach = None if which is List.OWN else await _reach_if_any(stack, settings, ledger, sender)
        async for row in _rows(ledger, reach, reason, stream, which):
            more = len(rows) == limit
            if more:
                break
            rows.append(row)
        total = await _total(ledger, reach, which)
    if as_json:
        print_json(rows)
    elif rows:
        _table(rows)
    else:
        say("there is nothing on it" if reason is None and stream is None else "there is no such entry")
    if more:
        say(f"these are {len(rows):,} of {total:,} entries; --limit shows more, and `mailer suppression export` all")


async def _total(ledger: Ledger, reach: Reach | None, which: List | None) -> int:
    own = 0 if which is List.SES else await ledger.suppressed.own_entries()
    return own + ((await ledger.suppressed.ses_list(reach.account)).entries if reach else 0)


async def _rows(
    ledger: Ledger, reach: Reach | None, reason: Reason | None, stream: str | None, which: List | None
) -> AsyncIterator[dict[str, str | None]]:
    if which is not List.SES:
        async for own in ledger.suppressed.walk_own():
            if reason in (None, own.reason) and stream in (None, own.stream):
                yield as_row(own)
    if reach is not None and stream is None:
        async for entry in ledger.suppressed.walk_ses(reach.account):
            if reason is None or reason == entry.reason.lower():
                yield as_row(entry)


def _table(rows: Sequence[dict[str, str | None]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("ADDRESS", "LIST", "REASON", "STREAM", "SINCE"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(row[name] or "")) for name in ("email", "list", "reason", "stream", "since")))
    out.print(table)


@app.command()
def export(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", show_default=False, help="- for standard output, as without it; gzipped with .gz.")
    ] = STDIN,
    format: FormatOf = None,
    reason: OnlyReason = None,
    stream: Stream = None,
    which: OnlyList = None,
    sender: SenderOf = None,
) -> None:
    """Write all entries to standard output, or to a file.

    `import` takes it again. CSV where nothing is said.
    """
    run(_export(file, format or format_of(file) or Format.CSV, reason, stream, which, sender))


async def _export(
    file: str, format: Format, reason: Reason | None, stream: str | None, which: List | None, sender: str | None
) -> None:
    async with open_ledger() as (settings, ledger), AsyncExitStack() as stack:
        reach = None if which is List.OWN else await _reach_if_any(stack, settings, ledger, sender)
        try:
            target = sys.stdout.buffer if file == STDIN else stack.enter_context(create(Path(file)))
        except OSError as error:
            raise ConfigError(where=file, why=f"cannot be written: {error.strerror}") from None
        writer, count = Writer(target, format), 0
        with progress_bar() as bar:
            task = bar.add_task("writing", total=await _total(ledger, reach, which))
            async for row in _rows(ledger, reach, reason, stream, which):
                writer.add(row)
                count += 1
                if count % 1000 == 0:
                    bar.update(task, completed=count)
            bar.update(task, completed=count, total=count)
    say(f"{count:,} entries")


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or NDJSON, plain or gzipped; - for standard input.")],
    format: FormatOf = None,
    email_column: options.EmailColumn = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    reason: Annotated[Reason, options.one_of(Reason, "--reason", help="Of lines that give none of ours.")] = Reason.MANUAL,
    stream: Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Of lines that give none.")] = None,
    local: Local = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Add what a file lists.

    An export of ours, of SES or of another service.

    A CSV with a column of addresses (and `reason`, `stream`, `since`), NDJSON, or SES's own address,REASON.

    Exit status 1 where there are lines that cannot be used; the others are taken.
    """
    reading = options.a_reading(email_column=email_column, encoding=encoding, delimiter=delimiter)
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
        _know_stream(settings, stream)
        reach = None if local else await stack.enter_async_context(open_reach(settings, ledger, sender))
        work = Import(ledger.suppressed, reach, reason, stream)
        with on_interrupt("stopped; what was read so far is on the list, and importing the file again goes on from there"):
            await work.run(file, format, reading)
        trouble = None if work.refused is None or reach is None else await why_refused(reach, work.refused)
    if as_json:
        print_json(work.numbers())
    say(work.sentence())
    if trouble:
        raise MailerError(why=f"kept here, but not all written to SES's list: {trouble}")
    if work.unusable:
        raise MailerError(why=f"{work.unusable:,} of {work.lines:,} lines of {file} could not be used; the others were taken")


@app.command()
def sync(
    new: Annotated[bool, typer.Option("--new", help="Only what SES has added; what it has removed stays.")] = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Read SES's list now.

    All of it: what was removed there is gone here, too. Workers do this by themselves once a day.
    """
    run(_sync(new, sender, as_json))


async def _sync(new: bool, sender: str | None, as_json: bool) -> None:
    async with open_ledger() as (settings, ledger), open_reach(settings, ledger, sender) as reach:
        work = Sync(ledger.suppressed, reach.account, reach.gateway, every_s=settings.suppression_sync_s)
        with progress_bar() as bar, on_interrupt("stopped; a worker goes on with it"):
            task = bar.add_task("reading", total=None)

            def seen(count: int, before: int) -> None:
                bar.update(task, completed=count, total=max(count, before) or None)

            def waiting() -> None:
                say("another process is reading it; waiting for its turn to end", "yellow")

            known = await (work.new if new else work.whole)(seen, waiting)
            bar.update(task, completed=known.entries, total=known.entries)
        held = await _held(ledger, reach)
    if as_json:
        print_json(_about(reach.account, known, held))
        return
    facts({"account": reach.account, "entries": f"{known.entries:,}", "read at": when(known.synced_at)})


def _know_stream(settings: Settings, stream: str) -> None:
    if stream and stream not in settings.senders:
        hint(f"there is no sender '{stream}' in the settings here, and a stream is a sender's name")
