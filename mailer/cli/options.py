"""The options that several commands have in common, and what becomes of them: an Email or a Campaign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import Campaign, Email, Lane, Mode
from ..errors import InvalidEmail, MailerError
from ..ids import is_message
from ..recipients import Reading
from .parsers import (
    WrongWords,
    parse_attachments,
    parse_data,
    parse_pairs,
    parse_rate,
    parse_share,
    parse_time,
    read_mime,
    read_text,
)


def one_of(kind: type[StrEnum], name: str, **more: Any) -> Any:
    """An option that takes one of these words. Typer's own would say `Value error` where it is another."""

    def parse(word: str) -> StrEnum:
        try:
            return kind(word)
        except ValueError:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(kind)}") from None

    return typer.Option(name, parser=parse, metavar=f"[{'|'.join(kind)}]", **more)


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask. Implied if standard input is not a terminal.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# ---- which ------------------------------------------------------------------------------------
def _campaign_id(id: str) -> str:
    if is_message(id):
        raise MailerError(why=f"{id} is the id of a message; show it with: mailer status {id}")
    return id


CampaignId = Annotated[str, typer.Argument(help="Id of the campaign.", metavar="ID", callback=_campaign_id)]
# Whether it is one of a campaign is said where it is asked for.
AnyId = Annotated[str, typer.Argument(help="Id of the campaign.", metavar="ID")]

# ---- who ---------------------------------------------------------------------------------------
LIST = "Recipients: a CSV or NDJSON file, plain or gzipped, s3://bucket/key, or - for standard input."

# ---- how a list is read ------------------------------------------------------------------------
EmailColumn = Annotated[
    str | None,
    typer.Option("--email-column", metavar="NAME", help="Column of the addresses, if its name does not show it."),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Encoding of the list, such as mac-roman. Detected by default."),
]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", metavar="CHAR", help="Character between the cells of a CSV. Detected by default.")
]

# ---- how ---------------------------------------------------------------------------------------
LaneOf = Annotated[Lane, one_of(Lane, "--lane", help="Lane. Each lane has its own queue and its own share of the quota.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="K",
        help="Key of this request. Within 24 h the same key prints the first id and sends nothing.",
    ),
]

# ---- of a campaign -----------------------------------------------------------------------------
CampaignName = Annotated[str, typer.Option("--name", metavar="TEXT", help="Name of the campaign in lists.")]
ToName = Annotated[
    str | None,
    typer.Option("--to-name", metavar="TEXT", help="Name of each recipient in To, a Jinja2 template such as '{{ name }}'."),
]
AllowRepeats = Annotated[
    bool, typer.Option("--allow-repeats", help="Send every row, even if several rows have the same address.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="FILE", help="Leave out the addresses of this list; may be repeated."),
]
ExcludeCampaign = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-campaign", metavar="ID", help="Leave out everyone who got this campaign, or may have; may be repeated."
    ),
]
TestTo = Annotated[
    str | None,
    typer.Option(
        "--test-to", metavar="ADDRESS", help="Send the message of the first usable row to this address, and nothing to the list."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read the list, show what would be sent, and send nothing.")]


# ---- in groups -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressees:
    """Who gets one message."""

    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to", metavar="ADDRESS", help="Recipient; may be repeated. Optional with --raw, whose headers name recipients."
        ),
    ] = None
    cc: Annotated[list[str] | None, typer.Option("--cc", metavar="ADDRESS", help="Cc recipient; may be repeated.")] = None
    bcc: Annotated[list[str] | None, typer.Option("--bcc", metavar="ADDRESS", help="Bcc recipient; may be repeated.")] = None
    raw: Annotated[
        str | None, typer.Option("--raw", metavar="FILE", help="File with a whole MIME message; - for standard input.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says."""

    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            metavar="TEXT",
            help="Subject, with a text or HTML body. A Jinja2 template with --data, and in a campaign.",
        ),
    ] = None
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Text body.")] = None
    html: Annotated[str | None, typer.Option("--html", metavar="TEXT", help="HTML body.")] = None
    html_file: Annotated[Path | None, typer.Option("--html-file", metavar="FILE", help="HTML body from a file.")] = None
    text_file: Annotated[Path | None, typer.Option("--text-file", metavar="FILE", help="Text body from a file.")] = None
    template: Annotated[
        str | None, typer.Option("--template", metavar="NAME", help="Template: a folder in the templates folder.")
    ] = None
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON", help="Template variables, as a JSON object. In a campaign all rows share them."),
    ] = None
    ses_template: Annotated[
        str | None, typer.Option("--ses-template", metavar="NAME", help="Template that SES stores, by name or ARN.")
    ] = None
    attach: Annotated[
        list[str] | None,
        typer.Option("--attach", metavar="FILE", help="Attachment: FILE or 'FILE;type=image/png;cid=logo'; may be repeated."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """By whom, how and when it is sent."""

    from_: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="From address, with or without a name. Give this or --sender.")
    ] = None
    sender: Annotated[
        str | None,
        typer.Option("--sender", metavar="NAME", help="Sender profile: a [senders.NAME] of mailer.toml. Give this or --from."),
    ] = None
    reply_to: Annotated[
        list[str] | None, typer.Option("--reply-to", metavar="ADDRESS", help="Reply-To address; may be repeated.")
    ] = None
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="N:V", help="Header, as 'Name: value'; may be repeated.")
    ] = None
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="N=V", help="SES message tag, as name=value; may be repeated.")
    ] = None
    configuration_set: Annotated[
        str | None, typer.Option("--configuration-set", metavar="NAME", help="SES configuration set, instead of the sender's.")
    ] = None
    mode: Annotated[
        Mode, one_of(Mode, "--mode", help="SES call that carries the message. `mailer explain` shows what auto chooses.")
    ] = Mode.AUTO
    contact_list: Annotated[
        str | None, typer.Option("--contact-list", metavar="NAME", help="SES contact list. SES then keeps who has unsubscribed.")
    ] = None
    topic: Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Topic of the contact list.")] = None
    send_at: Annotated[
        str | None,
        typer.Option("--send-at", metavar="T", help="Earliest time of sending, such as '2026-12-24 18:00 Europe/Berlin'."),
    ] = None
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="T", help="Latest time of sending, such as 2026-12-24T17:00:00Z.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds a campaign back."""

    max_rate: Annotated[
        str | None,
        typer.Option(
            "--max-rate", metavar="N", help="Send rate of this campaign, in recipients per second, below the account's rate."
        ),
    ] = None
    max_bounce_rate: Annotated[
        str | None,
        typer.Option(
            "--max-bounce-rate", metavar="PERCENT", show_default="5%", help="Pause the campaign if more of its messages bounce."
        ),
    ] = None
    max_complaint_rate: Annotated[
        str | None,
        typer.Option(
            "--max-complaint-rate",
            metavar="PERCENT",
            show_default="0.1%",
            help="Pause the campaign if more of its recipients complain.",
        ),
    ] = None
    guard_after: Annotated[
        int | None,
        typer.Option(
            "--guard-after",
            metavar="N",
            min=1,
            show_default="200",
            help="Messages whose fate must be known before that can pause it.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListForm:
    """How a list is to be read, where it does not say so itself."""

    email_column: EmailColumn = None
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="N=COLUMN",
            help="Call COLUMN N in templates; may be repeated. cc=, bcc= or tags= alone makes that column data.",
        ),
    ] = None
    encoding: Encoding = None
    delimiter: Delimiter = None


# ---- what becomes of them ------------------------------------------------------------------------


def a_reading(form: ListForm) -> Reading:
    """Raises WrongWords."""
    columns = parse_pairs(form.column, "=", "--column")
    try:
        return Reading(email_column=form.email_column, columns=columns, encoding=form.encoding, delimiter=form.delimiter)
    except InvalidEmail as error:
        option = {"Reading.columns": "--column"}.get(error.fields["field"], f"--{error.fields['field'].partition('.')[2]}")
        raise WrongWords(option=option, why=error.fields["why"]) from None


def an_email(addressees: Addressees, content: Content, manner: Manner, *, lane: Lane) -> Email:
    """Raises MailerError; typer.BadParameter where an option is missing."""
    if not (addressees.to or addressees.raw):
        raise typer.BadParameter("give --to ADDRESS, once for each recipient")
    _check_whose(manner, is_raw=bool(addressees.raw))
    return Email(
        **_both(content, manner),
        to=addressees.to,
        cc=addressees.cc,
        bcc=addressees.bcc,
        data=parse_data(content.data),
        raw=read_mime(addressees.raw),
        lane=lane,
    )


def a_campaign(
    content: Content, manner: Manner, limits: Limits, *, lane: Lane, name: str = "", to_name: str | None = None
) -> Campaign:
    """Raises MailerError; typer.BadParameter where an option is missing."""
    both = _both(content, manner)
    _check_whose(manner, is_raw=False)
    return Campaign(**both, **_given(limits), data=parse_data(content.data) or {}, to_name=to_name, lane=lane, name=name)


def _both(content: Content, manner: Manner) -> dict[str, Any]:
    """Fields of Email and Campaign. Raises ConfigError; typer.BadParameter where a body is given twice."""
    as_they_are = {
        "subject": content.subject,
        "template": content.template,
        "ses_template": content.ses_template,
        "sender": manner.sender,
        "from_": manner.from_,
        "reply_to": manner.reply_to,
        "configuration_set": manner.configuration_set,
        "contact_list": manner.contact_list,
        "topic": manner.topic,
        "mode": manner.mode,
    }
    return {
        **{name: value for name, value in as_they_are.items() if value is not None},
        "html": _body("html", content.html, content.html_file),
        "text": _body("text", content.text, content.text_file),
        "headers": parse_pairs(manner.header, ":", "--header"),
        "tags": parse_pairs(manner.tag, "=", "--tag"),
        "attachments": parse_attachments(content.attach),
        "send_at": parse_time(manner.send_at, "--send-at"),
        "expires_at": parse_time(manner.expires_at, "--expires-at"),
    }


def _body(name: str, said: str | None, file: Path | None) -> str | None:
    if file is not None and said is not None:
        raise typer.BadParameter(f"give either --{name} or --{name}-file, not both")
    return said if file is None else read_text(file, f"--{name}-file")


def _check_whose(manner: Manner, *, is_raw: bool) -> None:
    if manner.from_ is not None and manner.sender is not None:
        raise typer.BadParameter("give either --from or --sender, not both")
    if manner.from_ is None and manner.sender is None and not is_raw:
        raise typer.BadParameter("give --from ADDRESS or --sender NAME")


def _given(limits: Limits) -> dict[str, Any]:
    found = {
        "max_rate": parse_rate(limits.max_rate, "--max-rate"),
        "max_bounce_rate": parse_share(limits.max_bounce_rate, "--max-bounce-rate"),
        "max_complaint_rate": parse_share(limits.max_complaint_rate, "--max-complaint-rate"),
        "guard_after": limits.guard_after,
    }
    return {name: value for name, value in found.items() if value is not None}


def states(text: str, known: Sequence[str]) -> list[str]:
    """`--state failed,unknown`. Raises typer.BadParameter."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found or not set(found) <= set(known):
        raise typer.BadParameter(
            f"'{text}' is not one of {', '.join(known)}, or several of them with commas", param_hint="--state"
        )
    return found
