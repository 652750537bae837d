"""The options that several of `mailer suppression`'s commands have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from ..settings import Settings
from ..suppression.files import Format, List
from ..suppression.lists import Reason
from . import options
from .output import hint

ReasonOf = Annotated[Reason, options.one_of(Reason, "--reason", help="Why.")]
OnlyReason = Annotated[Reason | None, options.one_of(Reason, "--reason", help="Only those with this reason.")]
OnlyList = Annotated[List | None, options.one_of(List, "--list", help="Our own list only, or SES's only.")]
Stream = Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Of this sender's mail only, not of all.")]
Local = Annotated[bool, typer.Option("--local", help="Our own list only; SES's stays as it is.")]
SenderOf = Annotated[str | None, typer.Option("--sender", metavar="NAME", help="Whose account's list; else our own account's.")]
FormatOf = Annotated[Format | None, options.one_of(Format, "--format", help="Where the file's name does not say it.")]


def know_stream(settings: Settings, stream: str) -> None:
    if stream and stream not in settings.senders:
        hint(f"there is no sender '{stream}' in the settings here, and a stream is a sender's name")
