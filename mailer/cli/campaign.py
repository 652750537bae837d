"""`mailer campaign …`"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from .. import Campaign, Lane, Mailer, Mode, Outcome, State, load_settings
from ..client import RETRIABLE
from ..errors import MailerError, NotConfirmed
from ..ids import is_message
from ..ledger import CampaignStatus
from ..ledger.ledger import CHUNK_ROWS
from ..recipients import Reading
from ..recipients.reading import AS_IT_IS
from ..selection import ALL, Selection
from ..summary import Summary
from . import options
from .asking import Asked
from .options import Json
from .output import (
    Report,
    accepted,
    agreed,
    campaign_facts,
    campaign_json,
    campaign_table,
    err,
    hint,
    is_terminal,
    one_line,
    print_json,
    progress_bar,
    say,
    when,
)
from .run import on_interrupt, run, stored
from .words import STDIN, parse_time
from .workers import SENDING, Serving, Watched

app = typer.Typer(help="One content to many recipients.", no_args_is_help=True, rich_markup_mode=None)


def _campaign_id(id: str) -> str:
    if is_message(id):
        raise MailerError(why=f"{id} is the id of a message; show it with: mailer status {id}")
    return id


Id = Annotated[str, typer.Argument(help="The campaign's id.", metavar="ID", callback=_campaign_id)]
# Whether it is one of a campaign is said where it is asked for.
AnyId = Annotated[str, typer.Argument(help="The campaign's id.", metavar="ID")]
WAITS = (State.PLANNED, State.PARKED, State.STOPPED, State.PAUSED)  # for something that its reason names
WATCH_EVERY_S = 0.25
SAY_EVERY_S = 5.0  # without a terminal: a line at a time


class Format(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"


@app.command()
def start(
    recipients: Annotated[str, typer.Option("--recipients", metavar="FILE", help=options.LIST)],
    template: options.Template = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TEXT", help="Jinja2, with --html-file or --text-file.")
    ] = None,
    html_file: options.HtmlFile = None,
    text_file: options.TextFile = None,
    ses_template: options.SesTemplate = None,
    attach: options.Attach = None,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="What lists call it.")] = "",
    sender: options.Sender = None,
    from_: options.From = None,
    reply_to: options.ReplyTo = None,
    configuration_set: options.ConfigurationSet = None,
    header: options.Header = None,
    tag: options.Tag = None,
    data: options.Data = None,
    lane: options.LaneOf = Lane.BULK,
    mode: options.ModeOf = Mode.AUTO,
    contact_list: options.ContactList = None,
    topic: options.Topic = None,
    send_at: options.SendAt = None,
    expires_at: options.ExpiresAt = None,
    max_rate: options.MaxRate = None,
    max_bounce_rate: options.MaxBounceRate = None,
    max_complaint_rate: options.MaxComplaintRate = None,
    guard_after: options.GuardAfter = None,
    email_column: options.EmailColumn = None,
    column: options.Columns = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    idempotency_key: options.Key = None,
    to_name: Annotated[
        str | None, typer.Option("--to-name", metavar="TEXT", help="Each recipient's name in To; Jinja2, as '{{ name }}'.")
    ] = None,
    allow_repeats: Annotated[
        bool, typer.Option("--allow-repeats", help="Send each row, also where several have one address (two invoices to one).")
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="FILE", help="Leave out the addresses of this list, too; may be repeated."),
    ] = None,
    exclude_campaign: Annotated[
        list[str] | None,
        typer.Option("--exclude-campaign", metavar="ID", help="Leave out whoever got this one; may be repeated."),
    ] = None,
    test_to: Annotated[
        str | None, typer.Option("--test-to", metavar="ADDRESS", help="Send the message of the first row to this address only.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the list, say what would be sent, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the start.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how it goes.")] = False,
    as_json: Json = False,
) -> None:
    """Read a list and send to it; prints the campaign's id.

    Says first what it made of the list, and on a terminal asks before anything is sent.
    """
    campaign = options.a_campaign(locals(), name=name, lane=lane)
    reading = options.a_reading(email_column=email_column, column=column, encoding=encoding, delimiter=delimiter)
    if test_to is not None:
        run(_send_test(campaign, recipients, test_to, reading, as_json))
        return
    selection = Selection(exclude=exclude or (), exclude_campaigns=exclude_campaign or (), allow_repeats=allow_repeats)
    asked = Asked(dry_run=dry_run, yes=yes or not is_terminal(sys.stdin) or recipients == STDIN, as_json=as_json)
    run(_start(campaign, recipients, idempotency_key, watch, reading, selection, asked))


async def _send_test(campaign: Campaign, recipients: str, to: str, reading: Reading, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        id = await mailer.send_test(campaign, recipients, to, reading=reading)
    print_json({"id": id}) if as_json else typer.echo(id)
    say(one_line(f"the message of the first row is sent to {to}, and nothing to the list; see it with: mailer status {id}"))


async def _start(
    campaign: Campaign,
    recipients: str,
    key: str | None,
    watch: bool,
    reading: Reading,
    selection: Selection,
    asked: Asked,
) -> None:
    as_json = asked.as_json
    async with Mailer(load_settings()) as mailer:
        asked = replace(asked, hints=lambda summary: mailer.advice(campaign, summary.understood.sample))
        try:
            with on_interrupt(
                "stopped; nothing is sent, unless the list was read to its end: then `mailer campaign list` shows it"
            ):
                id = await read_in(mailer, campaign, recipients, reading=reading, selection=selection, key=key, asked=asked)
        except NotConfirmed:
            if asked.dry_run:
                return
            raise MailerError(why="nothing is sent") from None
        if not as_json:
            typer.echo(id)  # flushed: a program that reads it need not wait for the rest
        with stored(id, f"mailer campaign watch {id}"):
            if watch:
                await _watch(mailer, id, as_json)
            elif as_json:
                print_json(campaign_json(await mailer.campaign(id)))


async def read_in(
    mailer: Mailer,
    campaign: Campaign,
    recipients: str | Path,
    *,
    reading: Reading = AS_IT_IS,
    selection: Selection = ALL,
    key: str | None = None,
    asked: Asked | None = None,
) -> str:
    """Start the campaign, with a bar that shows how far the list has been read."""
    with progress_bar() as bar:
        task, seen = bar.add_task("reading", total=None), 0

        def show(rows: int, read: int, size: int | None) -> None:
            nonlocal seen
            seen = rows
            # The rows that are still to come are not known; the bytes are.
            total = int(rows * size / read) if size and read else None
            bar.update(task, completed=rows, total=total)

        async def confirm(summary: Summary) -> bool:
            bar.update(task, completed=seen, total=seen)
            bar.stop()
            return await asked.confirm(summary) if asked else True

        id = await mailer.start_campaign(
            campaign, recipients, reading=reading, selection=selection, idempotency_key=key, progress=show, confirm=confirm
        )
        bar.update(task, completed=seen, total=seen)  # Redis is not asked: it is stored, and the caller gets its id
    if mailer.not_told:
        say(f"it is stored and will be sent, but {mailer.not_told}", "yellow")
    return id


async def follow(mailer: Mailer, id: str) -> CampaignStatus:
    """Show a campaign's progress until it is over."""
    with progress_bar() as bar:
        task, watched = bar.add_task("sending", total=None), Watched(mailer)
        since, said = SAY_EVERY_S, ""
        while True:
            status = await mailer.campaign(id)
            _show(bar, task, status)
            alone = await watched.alone(status)
            why = alone or (f"{status.state}: {one_line(status.reason)}" if status.state in WAITS and status.reason else "")
            if why != said and why and err.is_terminal:
                say(why, "yellow")  # above the bar, whole
            said = why
            since += WATCH_EVERY_S
            if not err.is_terminal and (since >= SAY_EVERY_S or status.over):
                since = 0.0
                say(_line(status, alone))
            if status.over:
                return status
            await asyncio.sleep(WATCH_EVERY_S)


def _show(bar: Progress, task: TaskID, status: CampaignStatus) -> None:
    words = status.state.value if status.state in WAITS else "sending"
    bar.update(task, completed=status.rows - status.left, total=status.rows, description=words)


def _line(status: CampaignStatus, alone: str) -> str:
    reason = "; ".join(filter(None, (status.reason, alone)))
    why = f" ({one_line(reason)})" if reason else ""
    return f"{status.state}{why}: {accepted(status):,} sent, {status.left:,} left of {status.rows:,}, {status.rate:,.0f}/s"


@app.command("list")
def list_(as_json: Json = False, limit: Annotated[int, typer.Option("--limit", min=1)] = 50) -> None:
    """The campaigns, newest first."""
    run(_list(as_json, limit))


async def _list(as_json: bool, limit: int) -> None:
    async with Mailer(load_settings()) as mailer:
        found = await mailer.campaigns(limit)
    if as_json:
        print_json([campaign_json(status) for status in found])
    elif found:
        campaign_table(found)
    else:
        say("no campaigns yet; start one with: mailer campaign start --recipients FILE …")


@app.command()
def status(id: Id, as_json: Json = False) -> None:
    """One campaign: its state, and its recipients by outcome."""
    run(show(id, as_json))


async def show(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        found = await mailer.campaign(id)
        serving = await Serving.of(mailer, found.lane)
    waits = found.state in SENDING and found.left > 0
    if not as_json:
        campaign_facts(found, serving.text if waits else None)
        return
    if waits and not serving.workers:
        hint(serving.where)
    print_json(campaign_json(found))


@app.command()
def watch(id: Id, as_json: Json = False) -> None:
    """Follow a campaign until it is over. Exit status 1 where it was stopped or cancelled, or nobody got it."""
    run(_watch_one(id, as_json))


async def _watch_one(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        await _watch(mailer, id, as_json)


async def _watch(mailer: Mailer, id: str, as_json: bool) -> None:
    with on_interrupt(f"it goes on without being watched; to watch it again: mailer campaign watch {id}"):
        found = await follow(mailer, id)
    print_json(campaign_json(found)) if as_json else campaign_facts(found)
    if found.state is not State.FINISHED:
        raise MailerError(why=f"campaign {id} is {found.state}: {found.reason or 'nothing more of it is sent'}")
    if found.rows and not accepted(found):
        raise MailerError(why=_nobody(found))


def _nobody(found: CampaignStatus) -> str:
    reason, n = next(iter(found.reasons.items()), ("", 0))
    why = f"; the commonest reason ({n:,} of {found.rows:,}): {one_line(reason)}" if n else ""
    return f"campaign {found.id} is finished, and nobody got it{why}. See: mailer campaign report {found.id}"


@app.command()
def pause(id: AnyId, as_json: Json = False) -> None:
    """Send nothing more of it until it is resumed."""
    run(_pause(id, as_json))


async def _pause(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        changed = await mailer.pause(id)
        status = await mailer.campaign(id)
    flying = status.counts.get("claimed", 0)
    more = f"; {flying:,} that SES is just being given are still settled" if flying else ""
    why = f"{more}; to let it go on: mailer campaign resume {id}" if changed else f": {status.reason}"
    _said(status, "paused", changed, as_json, why)


@app.command()
def resume(id: AnyId, as_json: Json = False) -> None:
    """Let a paused or stopped campaign go on."""
    run(_resume(id, as_json))


async def _resume(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        changed = await mailer.resume(id)
        status = await mailer.campaign(id)
    waits = f" ({status.reason})" if status.reason else ""
    _said(status, f"{status.state}{waits}", changed, as_json, f"; to follow it: mailer campaign watch {id}")


@app.command()
def reschedule(
    id: AnyId,
    send_at: Annotated[str, typer.Option("--send-at", metavar="T", help="Not before; as in 2026-12-24T18:00:00+01:00.")],
    as_json: Json = False,
) -> None:
    """Give a campaign that has not begun another time."""
    moment = parse_time(send_at, "--send-at")
    assert moment is not None
    run(_reschedule(id, moment, as_json))


async def _reschedule(id: str, send_at: datetime, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        await mailer.reschedule(id, send_at)
        status = await mailer.campaign(id)
    if as_json:
        print_json(campaign_json(status))
    else:
        paused = f"; it is paused: mailer campaign resume {id}" if status.state is State.PAUSED else ""
        say(one_line(f"campaign {id} is to be sent at {when(send_at)}{paused}"))


@app.command()
def cancel(id: AnyId, as_json: Json = False) -> None:
    """Send nothing more of it, ever."""
    run(_cancel(id, as_json))


async def _cancel(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        with progress_bar() as bar, on_interrupt("it is cancelled; a worker counts out what was still to be sent"):
            task = bar.add_task("counting out", total=None)

            def show(done: int, left: int) -> None:
                bar.update(task, completed=done * CHUNK_ROWS, total=(done + left) * CHUNK_ROWS)

            changed = await mailer.cancel(id, progress=show)
        status = await mailer.campaign(id)
    numbers = f"; {accepted(status):,} were sent before, {status.counts.get('cancelled', 0):,} will not be"
    _said(status, "cancelled", changed, as_json, numbers if status.rows else f"; {status.reason}")


@app.command()
def retry(
    id: AnyId,
    state: Annotated[str, typer.Option("--state", help="Whose: failed, unknown, rejected, or several with commas.")],
    template: Annotated[
        str | None, typer.Option("--template", metavar="NAME", help="Render from this template of the folder from now on.")
    ] = None,
    yes: options.Yes = False,
    as_json: Json = False,
) -> None:
    """Send again to who failed, was rejected or is in doubt. Who is in doubt may get it twice."""
    states = options.states(state, [outcome.label for outcome in RETRIABLE])
    if Outcome.UNKNOWN.label in states and not is_message(id):
        _warn_of_doubt(run(_in_doubt(id)), yes)
    run(_retry(id, states, template, as_json))


async def _in_doubt(id: str) -> int:
    async with Mailer(load_settings()) as mailer:
        return (await mailer.campaign(id)).counts.get(Outcome.UNKNOWN.label, 0)


async def _retry(id: str, states: list[str], template: str | None, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        mended = f" --template {template}" if template else ""
        again = f"the rest was not queued; run it again: mailer campaign retry {id} --state {','.join(states)}{mended}"
        with progress_bar() as bar, on_interrupt(again):
            task = bar.add_task("queueing", total=None)

            def show(done: int, left: int) -> None:
                bar.update(task, completed=done * CHUNK_ROWS, total=(done + left) * CHUNK_ROWS)

            n = await mailer.retry(id, states, template=template, progress=show)
        status = await mailer.campaign(id)
    if as_json:
        print_json(campaign_json(status))
    elif n:
        whom = "1 recipient" if n == 1 else f"{n:,} recipients"
        say(one_line(f"campaign {id}: {whom} will be sent to again; to follow it: mailer campaign watch {id}"))
    else:
        say(one_line(f"campaign {id} has no recipients that are {' or '.join(states)}"))


def _warn_of_doubt(unknown: int, yes: bool) -> None:
    """Raises MailerError where the person at the terminal does not want that."""
    if unknown:
        say(f"SES may have accepted {unknown:,} of these recipients already: who is unknown may get it twice.", "yellow")
        if not yes and not agreed("Send to them again?"):
            raise MailerError(why="nothing was queued; wait for SES's events, or leave `unknown` out of --state")


def _said(status: CampaignStatus, what: str, changed: bool, as_json: bool, more: str) -> None:
    if as_json:
        print_json(campaign_json(status))
    else:
        say(one_line(f"campaign {status.id} is {'' if changed else 'already '}{what}{more}"))


@app.command()
def report(
    id: Id,
    format: Annotated[
        Format | None, options.one_of(Format, "--format", help="NDJSON where nothing is said.", show_default=False)
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="S,S", help="Only recipients in these states, as failed,bounced.")
    ] = None,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="With the row of the list: the report can then be read as a list again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format ndjson.")] = False,
) -> None:
    """A line for each recipient, in the order of the list."""
    if as_json and format is Format.CSV:
        raise typer.BadParameter("give either --json or --format csv, not both")
    states = options.states(state, [outcome.label for outcome in Outcome]) if state else []
    run(_report(id, format or Format.NDJSON, states, with_data))


async def _report(id: str, format: Format, states: Sequence[str], with_data: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        columns: Sequence[str] | None = () if with_data else None
        if with_data and format is Format.CSV:  # its columns stand in its first line, so the rows are looked through before it
            seen = {name: None async for line in mailer.outcomes(id, states=states) for name in line.data}
            columns = tuple(seen)
        outcomes = mailer.outcomes(id, states=states)
        first = await anext(outcomes, None)  # says what is wrong before anything is written
        lines = Report(format.value, columns)
        if first is not None:
            lines.add(first)
        async for line in outcomes:
            lines.add(line)
        lines.close()
