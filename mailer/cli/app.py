"""The commands that send, and those that show what became of it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Annotated

import typer

from .. import Email, Lane, Mailer, load_settings
from ..errors import MailerError
from ..ids import is_message
from ..ledger import MessageStatus
from . import campaign, stack
from .output import facts, message_json, print_json, say, styled, when
from .run import on_interrupt, run
from .words import parse_data, parse_pairs

app = typer.Typer(
    help="Send through Amazon SES v2: one message, or one to each of millions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(campaign.app, name="campaign")
app.command("demo")(stack.demo)
app.command("dev")(stack.dev)

POLL_S = 0.05
PATIENCE_S = 3.0  # a message whose turn comes at once has been sent long before

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def worker() -> None:
    """Serve the lanes of MAILER_LANES. Health and metrics are on MAILER_HTTP_PORT."""
    # Become it, and not import it: the library and its commands know nothing of the worker's code.
    # -P, so that a file worker.py of the folder that the user is in is not taken for it.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker"])  # noqa: S606


@app.command()
def send(
    to: Annotated[list[str], typer.Option("--to", help="Recipient; may be given several times.")],
    from_: Annotated[str | None, typer.Option("--from", help="From address, with or without a name.")] = None,
    sender: Annotated[str | None, typer.Option("--sender", help="A [senders.NAME] of mailer.toml, instead of --from.")] = None,
    cc: Annotated[list[str] | None, typer.Option("--cc")] = None,
    bcc: Annotated[list[str] | None, typer.Option("--bcc")] = None,
    reply_to: Annotated[list[str] | None, typer.Option("--reply-to")] = None,
    subject: Annotated[str | None, typer.Option("--subject")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Text body.")] = None,
    html: Annotated[str | None, typer.Option("--html", help="HTML body.")] = None,
    template: Annotated[str | None, typer.Option("--template", help="A folder of the templates folder.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Template variables, a JSON object.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", help="'Name: value'; may be given several times.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="name=value; may be given several times.")] = None,
    configuration_set: Annotated[str | None, typer.Option("--configuration-set")] = None,
    lane: Annotated[Lane, typer.Option("--lane")] = Lane.TRANSACTIONAL,
    wait: Annotated[bool, typer.Option("--wait", help="Return when SES has accepted it, or will not get it.")] = False,
    as_json: Json = False,
) -> None:
    """Send one message; prints its id."""
    email = Email(
        to=to, from_=from_, sender=sender, cc=cc, bcc=bcc, reply_to=reply_to, subject=subject, text=text, html=html,
        template=template, data=parse_data(data), headers=parse_pairs(header, ":", "--header"),
        tags=parse_pairs(tag, "=", "--tag"), configuration_set=configuration_set, lane=lane,
    )  # fmt: skip
    run(_send(email, wait, as_json))


async def _send(email: Email, wait: bool, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        id = await mailer.send(email)
        if not as_json:
            typer.echo(id)
        elif not wait:
            print_json({"id": id})
        if not wait:
            return
        with on_interrupt(f"it will be sent without being waited for; see it with: mailer status {id}"):
            status = await _until_settled(mailer, id)
    if as_json:
        print_json(message_json(status))
    if status.state not in ("sent", "delivered"):
        raise MailerError(why=f"it was not sent, it is {status.state}: {status.reason}")


async def _until_settled(mailer: Mailer, id: str) -> MessageStatus:
    """Wait for the message; say why it takes long, when it does, and once for each reason."""
    said, started = "", time.monotonic()
    while True:
        status = await mailer.status(id)
        if status.state not in ("queued", "claimed"):
            return status
        why = status.reason
        if not why and time.monotonic() - started > PATIENCE_S:
            why = "no worker has taken it yet; is `mailer worker` running?"
        if why and why != said:
            said = why
            say(why, "yellow")
        await asyncio.sleep(POLL_S)


@app.command()
def status(id: Annotated[str, typer.Argument(help="Of a message or campaign.", metavar="ID")], as_json: Json = False) -> None:
    """Show one message or campaign."""
    run(_status(id, as_json) if is_message(id) else campaign.show(id, as_json))


async def _status(id: str, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        found = await mailer.status(id)
    if as_json:
        print_json(message_json(found))
        return
    facts(
        {
            "message": found.id,
            "to": ", ".join(found.to),
            "state": styled(found.state),
            "reason": found.reason,
            "SES message id": found.ses_message_id,
            "mode": found.mode,
            "attempts": found.attempts,
            "updated": when(found.updated_at),
        }
    )
