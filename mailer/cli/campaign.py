"""`mailer campaign …`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from .. import Mailer, Outcome, State, load_settings
from ..client import RETRIABLE
from ..errors import MailerError, NotACampaign
from ..ids import is_message
from ..ledger import CampaignStatus
from ..ledger.intake import CHUNK_ROWS
from . import options
from .asking import agreed
from .campaign_start import start
from .campaign_watch import watch
from .options import Json
from .output import (
    Report,
    accepted,
    campaign_facts,
    campaign_json,
    campaign_table,
    hint,
    is_terminal,
    one_line,
    print_json,
    progress_bar,
    say,
    when,
)
from .parsers import parse_time
from .run import on_interrupt, run
from .workers import SENDING, Serving

app = typer.Typer(add_completion=False, help="Send one content to many recipients.", no_args_is_help=True, rich_markup_mode=None)
app.command()(start)


class Format(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"


@app.command("list")
def list_(
    as_json: Json = False, limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Number of campaigns.")] = 50
) -> None:
    """List the campaigns, newest first."""
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
def status(id: options.CampaignId, as_json: Json = False) -> None:
    """Show a campaign: its state, and its recipients by outcome."""
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


app.command()(watch)


@app.command()
def pause(id: options.AnyId, as_json: Json = False) -> None:
    """Pause a campaign: nothing more is sent until it is resumed."""
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
def resume(id: options.AnyId, as_json: Json = False) -> None:
    """Resume a paused or stopped campaign."""
    run(_resume(id, as_json))


async def _resume(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        changed = await mailer.resume(id)
        status = await mailer.campaign(id)
    waits = f" ({status.reason})" if status.reason else ""
    _said(status, f"{status.state}{waits}", changed, as_json, f"; to follow it: mailer campaign watch {id}")


@app.command()
def reschedule(
    id: options.AnyId,
    send_at: Annotated[
        str, typer.Option("--send-at", metavar="T", help="Earliest time of sending, such as 2026-12-24T18:00:00+01:00.")
    ],
    as_json: Json = False,
) -> None:
    """Change the start time of a campaign that has not begun."""
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
def cancel(id: options.AnyId, as_json: Json = False) -> None:
    """Cancel a campaign: nothing more of it is ever sent."""
    run(stop_for_good(id, as_json))


async def stop_for_good(id: str, as_json: bool) -> None:
    if is_message(id):
        raise NotACampaign(id=id, verb=f"cancelled with `campaign cancel`, a message with `mailer cancel {id}`")
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
    id: options.AnyId,
    state: Annotated[
        str,
        typer.Option(
            "--state", metavar="S,S", help="States to send to again: failed, unknown, rejected, or several with commas."
        ),
    ],
    template: Annotated[
        str | None, typer.Option("--template", metavar="NAME", help="From now on, render this template of the templates folder.")
    ] = None,
    yes: options.Yes = False,
    as_json: Json = False,
) -> None:
    """Send again to recipients who did not get it.

    Recipients in state unknown may have got it, and would then get it twice. The command says how many they are, and asks
    on a terminal.
    """
    states = options.states(state, RETRIABLE)
    run(_retry(id, states, template, yes or not is_terminal(sys.stdin), as_json))


async def _retry(id: str, states: list[str], template: str | None, yes: bool, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        if Outcome.UNKNOWN in states and not is_message(id):  # whose refusal says what a message is
            await _warn_of_doubt((await mailer.campaign(id)).counts.get(Outcome.UNKNOWN, 0), yes)
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


async def _warn_of_doubt(unknown: int, yes: bool) -> None:
    """Raises MailerError where the person at the terminal does not want that."""
    if unknown:
        whom = "1 recipient is" if unknown == 1 else f"{unknown:,} recipients are"
        say(f"{whom} unknown: SES may have accepted the message already, so sending again may send it twice", "yellow")
        if not yes and not await agreed("send to them again?"):
            raise MailerError(why="nothing is sent again; wait for SES's events, or leave `unknown` out of --state")


def _said(status: CampaignStatus, what: str, changed: bool, as_json: bool, more: str) -> None:
    if as_json:
        print_json(campaign_json(status))
    else:
        say(one_line(f"campaign {status.id} is {'' if changed else 'already '}{what}{more}"))


@app.command()
def report(
    id: options.CampaignId,
    format: Annotated[
        Format | None, options.one_of(Format, "--format", help="Format of the report.", show_default="ndjson")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="S,S", help="Only recipients in these states, such as failed,bounced.")
    ] = None,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="Add the data of each row, so that the report can be used as a list.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format ndjson.")] = False,
) -> None:
    """Print one line for each recipient, in the order of the list."""
    if as_json and format is Format.CSV:
        raise typer.BadParameter("give either --json or --format csv, not both")
    states = options.states(state, list(Outcome)) if state else []
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
