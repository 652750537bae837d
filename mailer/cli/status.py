"""`mailer status` and `mailer cancel`: one message, campaign or recipient."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from .. import Mailer, load_settings
from ..ids import is_message, place_of
from ..ledger import MessageStatus, RecipientStatus
from ..message.email import Outcome
from . import campaign
from .options import Json
from .output import facts, hint, line_json, message_json, print_json, say, styled, when
from .run import run
from .workers import Serving


def status(
    id: Annotated[str, typer.Argument(help="Id of a message, campaign or recipient.", metavar="ID")],
    as_json: Json = False,
) -> None:
    """Show one message, campaign or recipient."""
    if place_of(id) is not None:
        run(_recipient(id, as_json))
    elif is_message(id):
        run(_message(id, as_json))
    else:
        run(campaign.show(id, as_json))


def cancel(
    id: Annotated[str, typer.Argument(help="Id of a message or campaign.", metavar="ID")],
    as_json: Json = False,
) -> None:
    """Cancel a message or campaign: nothing more of it is sent.

    Exit status 1 if the message is on its way to SES, or was sent.
    """
    run(_cancel_message(id, as_json) if is_message(id) else campaign.stop_for_good(id, as_json))


async def _cancel_message(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        changed = await mailer.cancel(id)
        found = await mailer.status(id)
    if as_json:
        print_json(message_json(found))
    elif found.state != Outcome.CANCELLED:
        say(f"message {id} is in doubt: SES may have accepted it; it is not sent again")
    else:
        say(f"message {id} is cancelled" if changed else f"message {id} was cancelled before")


async def _message(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        found = await mailer.status(id)
        serving = await Serving.of(mailer, found.lane)
    waits = found.state in ("queued", "claimed")
    if as_json:
        if waits and not serving.workers:
            hint(serving.where)
        print_json(message_json(found))
    else:
        _show({"message": found.id, "to": ", ".join(found.to), "mode": found.mode}, found, serving.text if waits else None)


async def _recipient(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        found = await mailer.outcome(id)
    if as_json:
        print_json(line_json(found))
    else:
        _show({"recipient": found.id, "row": found.row, "to": found.to}, found)


def _show(who: dict[str, Any], found: MessageStatus | RecipientStatus, workers: Text | None = None) -> None:
    facts(
        {
            **who,
            "state": styled(found.state),
            "reason": found.reason,
            "workers": workers,
            "SES message id": found.ses_message_id,
            "attempts": found.attempts,
            "updated": when(found.updated_at),
        }
    )
