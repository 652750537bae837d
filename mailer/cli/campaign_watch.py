"""`mailer campaign watch`: how a campaign goes, until it is over."""

from __future__ import annotations

import asyncio

from rich.progress import Progress, TaskID

from .. import Mailer, State, load_settings
from ..errors import MailerError
from ..ledger import CampaignStatus
from . import options
from .options import Json
from .output import accepted, campaign_facts, campaign_json, err, one_line, print_json, progress_bar, say
from .run import on_interrupt, run
from .workers import Watched

WAITS = (State.PLANNED, State.PARKED, State.STOPPED, State.PAUSED)  # for something that its reason names
WATCH_EVERY_S = 0.25
SAY_EVERY_S = 5.0  # without a terminal: a line at a time


def watch(id: options.CampaignId, as_json: Json = False) -> None:
    """Follow a campaign until it is over.

    Exit status 1 if it was stopped or cancelled, or if nobody got it.
    """
    run(_watch_one(id, as_json))


async def _watch_one(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        await watched(mailer, id, as_json)


async def watched(mailer: Mailer, id: str, as_json: bool) -> None:
    """Follow it, and show it at the end. Raises MailerError where nobody got it."""
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


async def follow(mailer: Mailer, id: str) -> CampaignStatus:
    """Show a campaign's progress until it is over."""
    with progress_bar() as bar:
        task, workers = bar.add_task("sending", total=None), Watched(mailer)
        since, said = SAY_EVERY_S, ""
        while True:
            status = await mailer.campaign(id)
            _show(bar, task, status)
            alone = await workers.alone(status)
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
