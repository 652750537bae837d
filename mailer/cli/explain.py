"""`mailer explain`: which SES call a message or campaign would become, and why. Nothing is sent, stored or looked up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from .. import Campaign, Explanation, Lane, Mailer, Mode, load_settings
from ..recipients import Reading
from . import options
from .options import Json
from .output import facts, out, print_json, printable
from .run import run

SHOWN_CHARS = 1024  # of base64, in what a person reads
_BASE64 = re.compile(rf'"([A-Za-z0-9+/]{{{SHOWN_CHARS}}})([A-Za-z0-9+/]+={{0,2}})"')
_OF_A_CAMPAIGN = (
    "max_rate",
    "max_bounce_rate",
    "max_complaint_rate",
    "guard_after",
    "email_column",
    "column",
    "encoding",
    "delimiter",
)
_OF_A_MESSAGE = ("to", "cc", "bcc", "raw")


def explain(
    to: options.To = None,
    recipients: Annotated[str | None, typer.Option("--recipients", metavar="FILE", help=f"Of a campaign. {options.LIST}")] = None,
    from_: options.From = None,
    sender: options.Sender = None,
    cc: options.Cc = None,
    bcc: options.Bcc = None,
    reply_to: options.ReplyTo = None,
    subject: options.Subject = None,
    text: options.Text = None,
    html: options.Html = None,
    html_file: options.HtmlFile = None,
    text_file: options.TextFile = None,
    template: options.Template = None,
    data: options.Data = None,
    ses_template: options.SesTemplate = None,
    raw: options.RawFile = None,
    attach: options.Attach = None,
    header: options.Header = None,
    tag: options.Tag = None,
    configuration_set: options.ConfigurationSet = None,
    lane: Annotated[Lane | None, options.one_of(Lane, "--lane", help="Where nothing is said: bulk with --recipients.")] = None,
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
    as_json: Json = False,
) -> None:
    """Show which SES call a message would become, and why.

    Takes the words of `send`, or with --recipients those of `campaign start`. Sends nothing, and asks neither Redis nor SES.
    """
    words = locals()
    if recipients is None:
        for name in _OF_A_CAMPAIGN:
            if words[name] is not None:
                raise typer.BadParameter(f"--{name.replace('_', '-')} goes with --recipients")
        email = options.an_email(words, lane=lane or Lane.TRANSACTIONAL)
        _show(Mailer(load_settings()).explain(email), as_json)
        return
    for name in _OF_A_MESSAGE:
        if words[name]:
            raise typer.BadParameter(f"--{name} goes with one message, not with --recipients")
    reading = options.a_reading(email_column=email_column, column=column, encoding=encoding, delimiter=delimiter)
    run(_campaign(options.a_campaign(words, lane=lane or Lane.BULK), recipients, reading, as_json))


async def _campaign(campaign: Campaign, recipients: str, reading: Reading, as_json: bool) -> None:
    _show(await Mailer(load_settings()).explain_campaign(campaign, recipients, reading=reading), as_json)


def _show(found: Explanation, as_json: bool) -> None:
    if as_json:
        print_json(found.json())
        return
    facts({"operation": found.operation.value, "mode": found.mode.value})
    _title("why")
    for reason in found.reasons:
        _line(f"  {reason}")
    _title("limits that are close")
    for near in found.near:
        _line(f"  {near.name}: {near.used:,} of {near.limit:,} {near.unit}")
    if not found.near:
        _line("  none: each has 10 % or more left")
    _title("request")
    for line in request_lines(found.request):
        _line(line)


def request_lines(request: Mapping[str, Any]) -> list[str]:
    """The request as a person reads it: base64 cut, all of the rest whole."""
    text = json.dumps(request, indent=2, ensure_ascii=False)
    return _BASE64.sub(lambda match: f'"{match[1]}… ({len(match[1]) + len(match[2]):,} characters)"', text).splitlines()


def _title(text: str) -> None:
    out.print()
    out.print(text, style="dim")


def _line(text: str) -> None:
    """Some of it is somebody else's: a terminal obeys nothing of it."""
    out.print(printable(text), markup=False, soft_wrap=True)
