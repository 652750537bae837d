"""`mailer campaign start`: a list is read, what it is is said, and somebody is asked."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import Campaign, Lane, Mailer, load_settings
from ..errors import MailerError, NotConfirmed
from ..intake.selection import ALL, Selection
from ..intake.summary import Summary
from ..intake.trial import Trial
from ..recipients import Reading
from ..recipients.reading import AS_IT_IS
from . import options
from .asking import Asked
from .campaign_watch import watched
from .groups import spread
from .options import Json
from .output import campaign_json, hint, is_terminal, one_line, print_json, progress_bar, say
from .parsers import STDIN
from .run import on_interrupt, run, stored


@spread
def start(
    recipients: Annotated[str, typer.Option("--recipients", metavar="FILE", help=options.LIST)],
    content: options.Content,
    manner: options.Manner,
    limits: options.Limits,
    form: options.ListForm,
    name: options.CampaignName = "",
    lane: options.LaneOf = Lane.BULK,
    idempotency_key: options.Key = None,
    to_name: options.ToName = None,
    allow_repeats: options.AllowRepeats = False,
    exclude: options.Exclude = None,
    exclude_campaign: options.ExcludeCampaign = None,
    test_to: options.TestTo = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the campaign until it is over.")] = False,
    as_json: Json = False,
) -> None:
    """Send to a list and print the campaign's id.

    The command first says how it read the list. On a terminal it then asks before anything is sent.

    Exit status 1 with --watch if the campaign was stopped or cancelled, or if nobody got it.
    """
    campaign = options.a_campaign(content, manner, limits, lane=lane, name=name, to_name=to_name)
    reading = options.a_reading(form)
    selection = Selection(exclude=exclude or (), exclude_campaigns=exclude_campaign or (), allow_repeats=allow_repeats)
    if test_to is not None:
        for option, given in (("--watch", watch), ("--idempotency-key", idempotency_key)):
            if given:
                raise typer.BadParameter("is for a campaign, and --test-to sends one message; leave it out", param_hint=option)
        run(_send_test(campaign, recipients, test_to, reading, selection, dry_run, as_json))
        return
    asked = Asked(dry_run=dry_run, yes=yes or not is_terminal(sys.stdin) or recipients == STDIN, as_json=as_json)
    run(_start(campaign, recipients, idempotency_key, watch, reading, selection, asked))


async def _send_test(
    campaign: Campaign, recipients: str, to: str, reading: Reading, selection: Selection, dry_run: bool, as_json: bool
) -> None:
    async with Mailer(load_settings()) as mailer:
        with on_interrupt("stopped; nothing is sent"):
            trial = await mailer.test_of(campaign, recipients, to, reading=reading, selection=selection)
        say(one_line(trial.understood.sentences()[0]))
        for sentence in mailer.advice(campaign, trial.understood.sample):
            hint(one_line(sentence))
        if dry_run:
            _show_test(trial, to, as_json)
            return
        id = await mailer.send(trial.email)
    print_json({"id": id}) if as_json else typer.echo(id)
    whose = f"the message of {trial.address}, the first row that is sent to,"
    say(one_line(f"{whose} is sent to {to}, and nothing to the list; see it with: mailer status {id}"))


def _show_test(trial: Trial, to: str, as_json: bool) -> None:
    if as_json:
        print_json({"to": to, "row": trial.address, "subject": trial.subject})
    about = "" if trial.subject is None else f", subject: {trial.subject}"
    say(one_line(f"the message of {trial.address}, the first row that is sent to, would be sent to {to}{about}"))
    say("nothing was sent: it was a dry run")


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
                await watched(mailer, id, as_json)
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
