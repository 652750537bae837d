"""The options that several of `mailer suppression`'s commands have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import Settings
from ..suppression.files import Format, List
from ..suppression.lists import Reason
from . import options
from .output import hint

ReasonOf = Annotated[Reason, options.one_of(Reason, "--reason", help="Reason of the entries.")]
OnlyReason = Annotated[Reason | None, options.one_of(Reason, "--reason", help="Only entries with this reason.")]
OnlyList = Annotated[List | None, options.one_of(List, "--list", help="Only our own list, or only SES's.")]
Stream = Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Only for this sender's mail.")]
Local = Annotated[bool, typer.Option("--local", help="Change our own list only, not SES's.")]
SenderOf = Annotated[
    str | None,
    typer.Option("--sender", metavar="NAME", help="Sender profile whose SES account is used, instead of the own account."),
]
FormatOf = Annotated[Format | None, options.one_of(Format, "--format", help="Format of the file, if its name does not show it.")]


def know_stream(settings: Settings, stream: str) -> None:
    if stream and stream not in settings.senders:
        hint(f"there is no sender '{stream}' in the settings here, and a stream is a sender's name")
