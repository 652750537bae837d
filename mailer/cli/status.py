"""`mailer status`: one message, campaign or recipient."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .. import Mailer, load_settings
from ..ids import place_of
from . import message
from .options import Json
from .output import facts, print_json, styled, when
from .run import run


def status(
    id: Annotated[str, typer.Argument(help="Of a message, campaign or recipient.", metavar="ID")],
    as_json: Json = False,
) -> None:
    """Show one message, campaign or recipient."""
    if place_of(id) is None:
        message.status(id, as_json)
    else:
        run(_recipient(id, as_json))


async def _recipient(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        found = await mailer.outcome(id)
    if as_json:
        print_json(asdict(found))
        return
    facts(
        {
            "recipient": found.id,
            "row": found.row,
            "to": found.to,
            "state": styled(found.state),
            "reason": found.reason,
            "SES message id": found.ses_message_id,
            "attempts": found.attempts,
            "updated": when(found.updated_at),
        }
    )
