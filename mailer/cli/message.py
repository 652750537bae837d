"""`mailer send`: one message."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from .. import Email, Lane, Mailer, Settings, load_settings
from ..doubt import doubt_ends
from ..errors import MailerError
from ..ledger import MessageStatus
from ..settings import Policy
from . import options
from .groups import spread
from .options import Json
from .output import hint, message_json, print_json, say, when
from .run import on_interrupt, run, stored

POLL_S = 0.05
POLL_LATER_S = 1.0  # while it is not to be sent yet
PATIENCE_S = 3.0  # a message whose turn comes at once has been sent long before
POLICY_WORDS = {Policy.RESEND: "it is sent again", Policy.ASSUME_SENT: "it counts as sent", Policy.HOLD: "it is given up"}


@spread
def send(
    addressees: options.Addressees,
    content: options.Content,
    manner: options.Manner,
    lane: options.LaneOf = Lane.TRANSACTIONAL,
    idempotency_key: options.Key = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until SES has accepted the message, or will not get it.")] = False,
    as_json: Json = False,
) -> None:
    """Send one message and print its id.

    Exit status 1 with --wait if the message was not sent, or if nobody can tell whether SES accepted it.
    """
    email = options.an_email(addressees, content, manner, lane=lane)
    run(_send(email, idempotency_key, wait, as_json))


async def _send(email: Email, key: str | None, wait: bool, as_json: bool) -> None:
    async with Mailer(load_settings()) as mailer:
        for sentence in mailer.advice(email):
            hint(sentence)
        id = await mailer.send(email, idempotency_key=key)
        if not as_json:
            typer.echo(id)
        elif not wait:
            print_json({"id": id})
        if mailer.not_told:
            say(f"it is stored and will be sent, but {mailer.not_told}", "yellow")
        if not wait:
            return
        look = f"mailer status {id}"
        with stored(id, look), on_interrupt(f"it will be sent without being waited for; see it with: {look}"):
            said = await _until_due(mailer, id, email.send_at)
            status = await _until_settled(mailer, id, email, said)
    if as_json:
        print_json(message_json(status))
    if status.state == "unknown":
        raise MailerError(why=f"it is not known whether SES accepted it; do not send it again before you have looked: {look}")
    if status.state not in ("sent", "delivered", "bounced", "complained"):  # its events may have been faster than this
        raise MailerError(why=f"it was not sent, it is {status.state}: {status.reason}")


async def _until_due(mailer: Mailer, id: str, send_at: datetime | None) -> str:
    """Wait for the time at which it is to be sent, or until something else has become of it; the reason that it gave to wait."""
    if send_at is None or send_at <= datetime.now(UTC):
        return ""
    status = await mailer.status(id)
    if status.state == "queued":
        say(f"it is to be sent at {when(send_at)}; waiting until then (Ctrl-C ends the waiting only)", "yellow")
    while status.state == "queued" and (left_s := (send_at - datetime.now(UTC)).total_seconds()) > 0:
        await asyncio.sleep(min(left_s, POLL_LATER_S))
        status = await mailer.status(id)
    return status.reason


async def _until_settled(mailer: Mailer, id: str, email: Email, said: str) -> MessageStatus:
    """Wait for the message; say why it takes long, when it does, and once for each reason. It is `unknown` at the end where
    nothing that is waited for will tell whether SES accepted it."""
    started = time.monotonic()
    while True:
        status, every_s = await mailer.status(id), POLL_S
        if status.state == "unknown":
            why, left_s = _doubt(mailer.settings, email, status.updated_at)
            if left_s <= 0:
                return status
            started, every_s = time.monotonic(), min(left_s, POLL_LATER_S)
        elif status.state not in ("queued", "claimed"):
            return status
        else:
            why = status.reason
            if not why and time.monotonic() - started > PATIENCE_S:
                why = "no worker has taken it yet; is `mailer worker` running?"
        if why and why != said:
            said = why
            say(why, "yellow")
        await asyncio.sleep(every_s)


def _doubt(settings: Settings, email: Email, since: datetime) -> tuple[str, float]:
    """Nobody can tell whether SES accepted it: what is waited for, and for how many seconds more something may come of that."""
    policy, left_s = doubt_ends(settings, email.lane, since, email.expires_at)
    why = "it is not known whether SES accepted it; waiting until an event of SES tells"
    return f"{why}; after {settings.unknown_grace_s:g} s {POLICY_WORDS[policy]}", left_s
