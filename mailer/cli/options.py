"""The options that several commands have in common, and what becomes of them: an Email or a Campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to", metavar="ADDRESS", help="Recipient; may be repeated. Optional with --raw, whose headers name recipients."
    ),
]
Cc = Annotated[list[str] | None, typer.Option("--cc", metavar="ADDRESS", help="Cc recipient; may be repeated.")]
Bcc = Annotated[list[str] | None, typer.Option("--bcc", metavar="ADDRESS", help="Bcc recipient; may be repeated.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="ADDRESS", help="From address, with or without a name. Give this or --sender.")
]
Sender = Annotated[
    str | None,
    typer.Option("--sender", metavar="NAME", help="Sender profile: a [senders.NAME] of mailer.toml. Give this or --from."),
]
ReplyTo = Annotated[list[str] | None, typer.Option("--reply-to", metavar="ADDRESS", help="Reply-To address; may be repeated.")]
LIST = "Recipients: a CSV or NDJSON file, plain or gzipped, s3://bucket/key, or - for standard input."

# ---- how a list is read ------------------------------------------------------------------------
EmailColumn = Annotated[
    str | None,
    typer.Option("--email-column", metavar="NAME", help="Column of the addresses, if its name does not show it."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="N=COLUMN",
        help="Call COLUMN N in templates; may be repeated. cc=, bcc= or tags= alone makes that column data.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Encoding of the list, such as mac-roman. Detected by default."),
]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", metavar="CHAR", help="Character between the cells of a CSV. Detected by default.")
]

# ---- what --------------------------------------------------------------------------------------
Subject = Annotated[
    str | None,
    typer.Option("--subject", metavar="TEXT", help="Subject, with --text or --html. A Jinja2 template if --data is given."),
]
Text = Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Text body.")]
Html = Annotated[str | None, typer.Option("--html", metavar="TEXT", help="HTML body.")]
HtmlFile = Annotated[Path | None, typer.Option("--html-file", metavar="FILE", help="HTML body from a file.")]
TextFile = Annotated[Path | None, typer.Option("--text-file", metavar="FILE", help="Text body from a file.")]
Template = Annotated[str | None, typer.Option("--template", metavar="NAME", help="Template: a folder in the templates folder.")]
SesTemplate = Annotated[
    str | None, typer.Option("--ses-template", metavar="NAME", help="Template that SES stores, by name or ARN.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="JSON", help="Template variables, as a JSON object. In a campaign all rows share them."),
]
RawFile = Annotated[
    str | None, typer.Option("--raw", metavar="FILE", help="File with a whole MIME message; - for standard input.")
]
Attach = Annotated[
    list[str] | None,
    typer.Option("--attach", metavar="FILE", help="Attachment: FILE or 'FILE;type=image/png;cid=logo'; may be repeated."),
]

# ---- how ---------------------------------------------------------------------------------------
Header = Annotated[list[str] | None, typer.Option("--header", metavar="N:V", help="Header, as 'Name: value'; may be repeated.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="N=V", help="SES message tag, as name=value; may be repeated.")]
ConfigurationSet = Annotated[
    str | None, typer.Option("--configuration-set", metavar="NAME", help="SES configuration set, instead of the sender's.")
]
LaneOf = Annotated[Lane, one_of(Lane, "--lane", help="Lane. Each lane has its own queue and its own share of the quota.")]
ModeOf = Annotated[
    Mode, one_of(Mode, "--mode", help="SES call that carries the message. `mailer explain` shows what auto chooses.")
]
ContactList = Annotated[
    str | None, typer.Option("--contact-list", metavar="NAME", help="SES contact list. SES then keeps who has unsubscribed.")
]
Topic = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Topic of the contact list.")]
SendAt = Annotated[
    str | None, typer.Option("--send-at", metavar="T", help="Earliest time of sending, such as '2026-12-24 18:00 Europe/Berlin'.")
]
ExpiresAt = Annotated[
    str | None, typer.Option("--expires-at", metavar="T", help="Latest time of sending, such as 2026-12-24T17:00:00Z.")
]
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
SubjectOfEach = Annotated[
    str | None, typer.Option("--subject", metavar="TEXT", help="Subject, a Jinja2 template, with --html-file or --text-file.")
]
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
MaxRate = Annotated[
    str | None,
    typer.Option(
        "--max-rate", metavar="N", help="Send rate of this campaign, in recipients per second, below the account's rate."
    ),
]
MaxBounceRate = Annotated[
    str | None,
    typer.Option(
        "--max-bounce-rate", metavar="PERCENT", show_default="5%", help="Pause the campaign if more of its messages bounce."
    ),
]
MaxComplaintRate = Annotated[
    str | None,
    typer.Option(
        "--max-complaint-rate",
        metavar="PERCENT",
        show_default="0.1%",
        help="Pause the campaign if more of its recipients complain.",
    ),
]
GuardAfter = Annotated[
    int | None,
    typer.Option(
        "--guard-after",
        metavar="N",
        min=1,
        show_default="200",
        help="Messages whose fate must be known before that can pause it.",
    ),
]

_AS_THEY_ARE = (
    "sender",
    "from_",
    "subject",
    "template",
    "ses_template",
    "reply_to",
    "configuration_set",
    "contact_list",
    "topic",
    "mode",
)


def a_reading(
    *,
    email_column: str | None = None,
    column: list[str] | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Reading:
    """Raises WrongWords."""
    columns = parse_pairs(column, "=", "--column")
    try:
        return Reading(email_column=email_column, columns=columns, encoding=encoding, delimiter=delimiter)
    except InvalidEmail as error:
        option = {"Reading.columns": "--column"}.get(error.fields["field"], f"--{error.fields['field'].partition('.')[2]}")
        raise WrongWords(option=option, why=error.fields["why"]) from None


def an_email(words: Mapping[str, Any], **others: Any) -> Email:
    """From the options by the names of their parameters. Raises MailerError; typer.BadParameter where one is missing."""
    if not (words["to"] or words["raw"]):
        raise typer.BadParameter("give --to ADDRESS, once for each recipient")
    _check_whose(words)
    return Email(
        **_both(words),
        **_bodies(words),
        to=words["to"],
        cc=words["cc"],
        bcc=words["bcc"],
        data=parse_data(words["data"]),
        raw=read_mime(words["raw"]),
        **others,
    )


def a_campaign(words: Mapping[str, Any], **others: Any) -> Campaign:
    """From the options by the names of their parameters. Raises MailerError; typer.BadParameter where one is missing."""
    bodies = _bodies(words)
    _check_whose(words)
    return Campaign(
        **_both(words),
        **bodies,
        data=parse_data(words["data"]) or {},
        to_name=words.get("to_name"),
        **{name: value for name, value in _limits(words).items() if value is not None},
        **others,
    )


def _bodies(words: Mapping[str, Any]) -> dict[str, Any]:
    """HTML and text, each in the words or in a file. Raises ConfigError; typer.BadParameter where it is given twice."""
    found = {}
    for name in ("html", "text"):
        file, said = words.get(f"{name}_file"), words.get(name)
        if file is not None and said is not None:
            raise typer.BadParameter(f"give either --{name} or --{name}-file, not both")
        found[name] = said if file is None else read_text(file, f"--{name}-file")
    return found


def states(text: str, known: Sequence[str]) -> list[str]:
    """`--state failed,unknown`. Raises typer.BadParameter."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found or not set(found) <= set(known):
        raise typer.BadParameter(
            f"'{text}' is not one of {', '.join(known)}, or several of them with commas", param_hint="--state"
        )
    return found


def _check_whose(words: Mapping[str, Any]) -> None:
    if words["from_"] is not None and words["sender"] is not None:
        raise typer.BadParameter("give either --from or --sender, not both")
    if words["from_"] is None and words["sender"] is None and not words.get("raw"):
        raise typer.BadParameter("give --from ADDRESS or --sender NAME")


def _limits(words: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "max_rate": parse_rate(words["max_rate"], "--max-rate"),
        "max_bounce_rate": parse_share(words["max_bounce_rate"], "--max-bounce-rate"),
        "max_complaint_rate": parse_share(words["max_complaint_rate"], "--max-complaint-rate"),
        "guard_after": words["guard_after"],
    }


def _both(words: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: words[name] for name in _AS_THEY_ARE if words[name] is not None},
        "headers": parse_pairs(words["header"], ":", "--header"),
        "tags": parse_pairs(words["tag"], "=", "--tag"),
        "attachments": parse_attachments(words["attach"]),
        "send_at": parse_time(words["send_at"], "--send-at"),
        "expires_at": parse_time(words["expires_at"], "--expires-at"),
    }
