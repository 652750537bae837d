"""`mailer suppression …`"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer

from .. import Settings
from ..accounts.access import SesAccount
from ..errors import ConfigError, MailerError
from ..ledger import Ledger
from ..quota.state import AccountStates
from ..suppression.entries import checked_address, checked_stream, new_entry
from ..suppression.files import as_row
from ..suppression.lists import Found, Reason, SesList, SuppressionLists
from ..suppression.sync import Sync
from ..suppression.writer import SesRefused, SesWriter
from .accounts import open_ledger, open_reach, reach_if_any
from .options import Json
from .output import facts, hint, one_line, print_json, progress_bar, say, when
from .run import on_interrupt, run
from .suppression_import import import_, why_refused
from .suppression_list import entry_table, export, list_
from .suppression_options import Local, ReasonOf, SenderOf, Stream, know_stream

app = typer.Typer(
    add_completion=False,
    help="Manage the addresses that nothing is sent to.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS…", help="One address or several.")]


@app.command()
def add(
    addresses: Addresses,
    reason: ReasonOf = Reason.MANUAL,
    stream: Stream = None,
    local: Local = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Suppress addresses: nothing is sent to them any more.

    Exit status 1 if SES's list could not be written. Our own list then has them all the same.
    """
    run(_add(addresses, reason, stream or "", local, sender, as_json))


async def _add(addresses: list[str], reason: Reason, stream: str, local: bool, sender: str | None, as_json: bool) -> None:
    entries = [new_entry(address, reason, stream) for address in addresses]
    async with open_ledger() as (settings, ledger):
        know_stream(settings, stream)
        new = await SuppressionLists(ledger).add(entries)
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
        async with open_reach(settings, ledger, sender) as ses_account:
            both = SesWriter(SuppressionLists(ledger), ses_account.account, ses_account.gateway)
            with progress_bar() as bar:
                for address in bar.track(addresses, description="writing to SES"):
                    try:
                        await both.put(address, reason)
                    except SesRefused as error:
                        return written, await why_refused(ses_account, error)
                    written.append(address)
    except ConfigError as error:
        return written, str(error)
    return written, None


@app.command()
def remove(
    addresses: Addresses,
    stream: Stream = None,
    every_stream: Annotated[bool, typer.Option("--every-stream", help="Remove entries for one sender's mail, too.")] = False,
    local: Local = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Take addresses off our own list and SES's.

    Upper and lower case do not matter. With --stream, only the entry for that sender's mail is removed, from our own list.

    Exit status 1 if SES's list could not be changed. Our own list then is, all the same.
    """
    if stream and every_stream:
        raise typer.BadParameter("give either --stream or --every-stream, not both")
    run(_remove(addresses, None if every_stream else checked_stream(stream or ""), local or bool(stream), sender, as_json))


async def _remove(addresses: list[str], stream: str | None, local: bool, sender: str | None, as_json: bool) -> None:
    addresses = [checked_address(one) for one in addresses]
    async with open_ledger() as (settings, ledger):
        own = {address: await SuppressionLists(ledger).remove(address, stream) for address in addresses}
        at_ses, trouble = (dict[str, bool](), None) if local else await _delete(settings, ledger, sender, addresses)
        left = (await SuppressionLists(ledger).check(addresses, account=None)).hits
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
        async with open_reach(settings, ledger, sender) as ses_account:
            both = SesWriter(SuppressionLists(ledger), ses_account.account, ses_account.gateway)
            if (await SuppressionLists(ledger).ses_list(ses_account.account)).whole_at is None:
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
    ask_ses: Annotated[bool, typer.Option("--ses", help="Ask SES itself, instead of our copy of its list.")] = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Show which addresses are on a list, and why."""
    run(_check(addresses, ask_ses, sender, as_json))


async def _check(addresses: list[str], ask_ses: bool, sender: str | None, as_json: bool) -> None:
    addresses = [checked_address(one) for one in addresses]
    async with open_ledger() as (settings, ledger), AsyncExitStack() as stack:
        ses_account = await reach_if_any(stack, settings, ledger, sender, must=ask_ses)
        checked = await SuppressionLists(ledger).check(addresses, account=ses_account.account if ses_account else None)
        found = [checked.hits.get(number, Found((), ())) for number in range(len(addresses))]
        if ask_ses and ses_account:
            both = SesWriter(SuppressionLists(ledger), ses_account.account, ses_account.gateway)
            try:
                found = [Found(one.own, await both.asked(a)) for a, one in zip(addresses, found, strict=True)]
            except SesRefused as error:
                raise MailerError(why=f"SES cannot be asked: {error}") from None
        held = await _held(ledger, ses_account)
    entries = [[*map(as_row, one.own), *map(as_row, one.ses)] for one in found]
    about = None if ses_account is None or checked.ses is None else _about(ses_account.account, checked.ses, held)
    if as_json:
        listed = [{"email": a, "listed": bool(rows), "entries": rows} for a, rows in zip(addresses, entries, strict=True)]
        print_json({"addresses": listed, "ses": about})
        return
    entry_table([row for rows in entries for row in rows])
    for address, rows in zip(addresses, entries, strict=True):
        if not rows:
            _say_of(address, "on no list", "green")
    if checked.ses is not None and ses_account is not None:
        _say_ses(ses_account.account, checked.ses, held)


async def _held(ledger: Ledger, ses_account: SesAccount | None) -> list[str] | None:
    """The reasons for which SES's list holds in this account, as GetAccount said last; None where nobody has asked."""
    if ses_account is None:
        return None
    known = await AccountStates(ledger).load(ses_account.account)
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


app.command("list")(list_)
app.command()(export)
app.command("import")(import_)


@app.command()
def sync(
    new: Annotated[bool, typer.Option("--new", help="Read only what SES has added. What it has removed stays.")] = False,
    sender: SenderOf = None,
    as_json: Json = False,
) -> None:
    """Read SES's list now.

    Reads all of it, so that what was removed there is removed from our copy. Workers do this once a day.
    """
    run(_sync(new, sender, as_json))


async def _sync(new: bool, sender: str | None, as_json: bool) -> None:
    async with open_ledger() as (settings, ledger), open_reach(settings, ledger, sender) as ses_account:
        work = Sync(SuppressionLists(ledger), ses_account.account, ses_account.gateway, every_s=settings.suppression_sync_s)
        with progress_bar() as bar, on_interrupt("stopped; a worker goes on with it"):
            task = bar.add_task("reading", total=None)

            def seen(count: int, before: int) -> None:
                bar.update(task, completed=count, total=max(count, before) or None)

            def waiting() -> None:
                say("another process is reading it; waiting for its turn to end", "yellow")

            known = await (work.new if new else work.whole)(seen, waiting)
            bar.update(task, completed=known.entries, total=known.entries)
        held = await _held(ledger, ses_account)
    if as_json:
        print_json(_about(ses_account.account, known, held))
        return
    facts({"account": ses_account.account, "entries": f"{known.entries:,}", "read at": when(known.synced_at)})
