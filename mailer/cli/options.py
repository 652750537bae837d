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


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; implied where standard input is no terminal.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# ---- which ------------------------------------------------------------------------------------
def _campaign_id(id: str) -> str:
    if is_message(id):
        raise MailerError(why=f"{id} is the id of a message; show it with: mailer status {id}")
    return id


CampaignId = Annotated[str, typer.Argument(help="The campaign's id.", metavar="ID", callback=_campaign_id)]
# Whether it is one of a campaign is said where it is asked for.
AnyId = Annotated[str, typer.Argument(help="The campaign's id.", metavar="ID")]

# ---- who ---------------------------------------------------------------------------------------
To = Annotated[
    list[str] | None, typer.Option("--to", metavar="ADDRESS", help="Recipient; may be given several times. --raw has its own.")
]
Cc = Annotated[list[str] | None, typer.Option("--cc", metavar="ADDRESS", help="May be given several times.")]
Bcc = Annotated[list[str] | None, typer.Option("--bcc", metavar="ADDRESS", help="May be given several times.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="ADDRESS", help="From address, with or without a name, instead of --sender.")
]
Sender = Annotated[
    str | None, typer.Option("--sender", metavar="NAME", help="A [senders.NAME] of mailer.toml, instead of --from.")
]
ReplyTo = Annotated[list[str] | None, typer.Option("--reply-to", metavar="ADDRESS", help="May be given several times.")]
LIST = "CSV or NDJSON file, plain or gzipped; s3://bucket/key; - for standard input."

# ---- how a list is read ------------------------------------------------------------------------
EmailColumn = Annotated[
    str | None,
    typer.Option("--email-column", metavar="NAME", help="The column of addresses, where its name does not say it."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="N=COLUMN", help="What templates call a column; cc=, bcc=, tags= take it for data."),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Of the list, as in mac-roman, where it does not show it."),
]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", metavar="CHAR", help="Between the cells of a CSV, where it does not show it.")
]

# ---- what --------------------------------------------------------------------------------------
Subject = Annotated[str | None, typer.Option("--subject", metavar="TEXT", help="With --text or --html; Jinja2 with --data.")]
Text = Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Text body.")]
Html = Annotated[str | None, typer.Option("--html", metavar="TEXT", help="HTML body.")]
HtmlFile = Annotated[Path | None, typer.Option("--html-file", metavar="FILE", help="HTML body from a file.")]
TextFile = Annotated[Path | None, typer.Option("--text-file", metavar="FILE", help="Text body from a file.")]
Template = Annotated[str | None, typer.Option("--template", metavar="NAME", help="A folder of the templates folder.")]
SesTemplate = Annotated[
    str | None, typer.Option("--ses-template", metavar="NAME", help="A template that is stored in SES, by name or ARN.")
]
Data = Annotated[
    str | None, typer.Option("--data", metavar="JSON", help="Template variables, a JSON object; every row of a list shares them.")
]
RawFile = Annotated[str | None, typer.Option("--raw", metavar="FILE", help="A whole MIME message; - for standard input.")]
Attach = Annotated[
    list[str] | None,
    typer.Option("--attach", metavar="FILE", help="FILE or 'FILE;type=image/png;cid=logo'; may be given several times."),
]

# ---- how ---------------------------------------------------------------------------------------
Header = Annotated[list[str] | None, typer.Option("--header", metavar="N:V", help="'Name: value'; may be given several times.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="N=V", help="name=value; may be given several times.")]
ConfigurationSet = Annotated[str | None, typer.Option("--configuration-set", metavar="NAME", help="Instead of the sender's.")]
LaneOf = Annotated[Lane, one_of(Lane, "--lane", help="Its own queue, its own share of the quota.")]
ModeOf = Annotated[Mode, one_of(Mode, "--mode", help="Which SES call carries it; `mailer explain` shows what auto means.")]
ContactList = Annotated[
    str | None, typer.Option("--contact-list", metavar="NAME", help="Of SES, which then keeps who has unsubscribed.")
]
Topic = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Of the contact list.")]
SendAt = Annotated[str | None, typer.Option("--send-at", metavar="T", help="Not before; as in '2026-12-24 18:00 Europe/Berlin'.")]
ExpiresAt = Annotated[str | None, typer.Option("--expires-at", metavar="T", help="Not afterwards; as in 2026-12-24T17:00:00Z.")]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="K", help="The same within 24 h gives the first one's id, and sends nothing."),
]

# ---- of a campaign -----------------------------------------------------------------------------
CampaignName = Annotated[str, typer.Option("--name", metavar="TEXT", help="What lists call it.")]
SubjectOfEach = Annotated[str | None, typer.Option("--subject", metavar="TEXT", help="Jinja2, with --html-file or --text-file.")]
ToName = Annotated[
    str | None, typer.Option("--to-name", metavar="TEXT", help="Each recipient's name in To; Jinja2, as '{{ name }}'.")
]
AllowRepeats = Annotated[
    bool, typer.Option("--allow-repeats", help="Send each row, also where several have one address (two invoices to one).")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="FILE", help="Leave out the addresses of this list, too; may be repeated."),
]
ExcludeCampaign = Annotated[
    list[str] | None,
    typer.Option("--exclude-campaign", metavar="ID", help="Leave out whoever got this one; may be repeated."),
]
TestTo = Annotated[
    str | None, typer.Option("--test-to", metavar="ADDRESS", help="Send the message of the first row to this address only.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read the list, say what would be sent, and send nothing.")]
MaxRate = Annotated[
    str | None,
    typer.Option("--max-rate", metavar="N", help="Recipients per second, where the account has more."),
]
MaxBounceRate = Annotated[
    str | None,
    typer.Option("--max-bounce-rate", metavar="5%", help="Pause it when more e-mails bounce; 5% unless said."),
]
MaxComplaintRate = Annotated[
    str | None, typer.Option("--max-complaint-rate", metavar="0.1%", help="And when more recipients complain; 0.1% unless said.")
]
GuardAfter = Annotated[
    int | None,
    typer.Option("--guard-after", metavar="N", min=1, help="E-mails whose fate it has to know for that; 200 unless said."),
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
