"""`mailer doctor`: everything that a first real send needs, a line each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .. import load_settings
from ..errors import ConfigError, InvalidAddress, MailerError
from ..message.address import normalise
from ..redis.access import LATER, rule
from ..redis.url import parse
from .options import Json
from .output import err, one_line, out, print_json, say
from .parsers import WrongWords
from .run import run

if TYPE_CHECKING:
    from ..doctor import Finding

STYLES = {"ok": "green", "warning": "yellow", "wrong": "red", "unknown": "dim"}
STATE_WIDTH, NAME_WIDTH = 7, 24  # columns of a terminal
QUIET_S = 1.0  # it is not said what is waited for before this


def doctor(
    sender: Annotated[
        str | None, typer.Option("--sender", metavar="NAME", help="Check only this sender profile and its account.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="Also check this From address, which no sender has.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS", help="Also check whether this recipient can be sent to.")
    ] = None,
    redis_acl: Annotated[
        bool,
        typer.Option("--redis-acl", help="Print the Redis command that makes a user with the least rights, and check nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check everything that a first real send needs.

    Nothing is sent. Exit status 1 if something is wrong; warnings do not count.
    """
    if redis_acl:
        _print_rule()
        return
    address = None if to is None else _address(to, "--to")
    run(_doctor(sender, None if from_ is None else _address(from_, "--from"), address, as_json))


def _print_rule() -> None:
    settings = load_settings()
    typer.echo(rule(settings.namespace, parse(settings.redis_url).username))
    older = ", ".join(f"before Redis {since} leave out +{name}" for name, since in LATER.items())
    say(f"put a password in the place of PASSWORD; {older}")


def _address(text: str, option: str) -> str:
    try:
        return normalise(text)
    except InvalidAddress as error:
        raise WrongWords(option=option, why=str(error)) from None


async def _doctor(sender: str | None, from_: str | None, to: str | None, as_json: bool) -> None:
    from ..doctor import State  # here: boto takes half a second to import, and the other commands need none of it

    findings = await _found(sender, from_, to)
    if as_json:
        print_json([_json(one) for one in findings])
    else:
        _show(findings)
    counts = Counter(one.state for one in findings)
    warnings = f"{counts[State.WARNING]} warning{'' if counts[State.WARNING] == 1 else 's'}"
    if wrong := counts[State.WRONG]:
        unknown = f", {counts[State.UNKNOWN]} not known before that is mended" if counts[State.UNKNOWN] else ""
        raise MailerError(why=f"{wrong} of {len(findings)} findings wrong{unknown}, {warnings}; do what stands beside them")
    say(f"nothing is wrong, {warnings}", "yellow" if counts[State.WARNING] else "green")


async def _found(sender: str | None, from_: str | None, to: str | None) -> list[Finding]:
    """Raises UnknownSender."""
    from ..doctor import Patient, examine, without_settings

    try:
        settings = load_settings()
    except ConfigError as error:
        return without_settings(error)
    senders = settings.senders if sender is None else {sender: settings.sender(sender)}
    patient = Patient(settings=settings, senders=senders, own=sender is None, from_=from_, to=to)
    with Waiting() as waiting:
        return await examine(patient, waiting.left)


class Waiting:
    """Says on a terminal what is waited for, once that takes longer."""

    def __init__(self) -> None:
        self._status = err.status("")
        self._names: Sequence[str] = ()
        self._shown = False

    def __enter__(self) -> Waiting:
        if err.is_terminal:
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._show)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(AttributeError):
            self._timer.cancel()
        if self._shown:
            self._status.stop()

    def left(self, names: Sequence[str]) -> None:
        self._names = names
        if self._shown:
            self._status.update(self._text())

    def _show(self) -> None:
        self._shown = True
        self._status.update(self._text())
        self._status.start()

    def _text(self) -> Text:
        return Text(one_line(f"waiting for: {', '.join(self._names)}"), overflow="ellipsis", no_wrap=True)


def _json(finding: Finding) -> dict[str, Any]:
    return {"check": finding.check, "state": finding.state.value, "found": finding.found, "do": finding.do}


def _show(findings: Sequence[Finding]) -> None:
    """A line each where another program reads it; on a terminal what to do is below it, and not wrapped: it is to be copied."""
    longest = max(len(one_line(one.check)) for one in findings)
    for one in findings:
        do = f"→ {one_line(one.do)}" if one.do else ""
        if out.is_terminal:
            _show_row(one, min(longest, NAME_WIDTH))
            if do:
                out.print(f"{'':{STATE_WIDTH}}  {do}", style=STYLES[one.state], markup=False, soft_wrap=True)
        else:
            line = f"{one.state:<{STATE_WIDTH}}  {one_line(one.check):<{longest}}  {one_line(one.found)} {do}".rstrip()
            out.print(line, markup=False, soft_wrap=True)


def _show_row(one: Finding, width: int) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=STATE_WIDTH)
    table.add_column(width=width, overflow="fold")
    table.add_column(overflow="fold")
    table.add_row(Text(one.state.value, style=STYLES[one.state]), Text(one_line(one.check)), Text(one_line(one.found)))
    out.print(table)
