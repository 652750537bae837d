"""`mailer explain`: which SES call a message or campaign would become, and why. Nothing is sent, stored or looked up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from .. import Campaign, Explanation, Lane, Mailer, load_settings
from ..recipients import Reading
from . import options
from .groups import given, spread
from .options import Json
from .output import facts, out, print_json, printable
from .run import run

SHOWN_CHARS = 1024  # of base64, in what a person reads
PAGE_CHARS = 160  # of any text, on a page
PAGE_ITEMS = 5  # of a list, on a page; of a longer one only the first is shown: the entries of a call are all alike
PAGE_WIDTH = 96  # columns
_BASE64 = re.compile(rf'"([A-Za-z0-9+/]{{{SHOWN_CHARS}}})([A-Za-z0-9+/]+={{0,2}})"')


@spread
def explain(
    addressees: options.Addressees,
    content: options.Content,
    manner: options.Manner,
    limits: options.Limits,
    form: options.ListForm,
    recipients: Annotated[
        str | None, typer.Option("--recipients", metavar="FILE", help=f"Explain a campaign. {options.LIST}")
    ] = None,
    lane: Annotated[
        Lane | None,
        options.one_of(
            Lane, "--lane", help="Lane of the message or campaign.", show_default="bulk with --recipients, else transactional"
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show the whole request on a terminal, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show which SES call a message would become, and why.

    Takes the options of `send`, or with --recipients those of `campaign start`. Sends nothing, and asks neither Redis nor SES.
    """
    if recipients is None:
        for group in (limits, form):
            for name in given(group):
                raise typer.BadParameter(f"--{name.replace('_', '-')} goes with --recipients")
        email = options.an_email(addressees, content, manner, lane=lane or Lane.TRANSACTIONAL)
        _show(Mailer(load_settings()).explain(email), full, as_json)
        return
    for name in given(addressees):
        raise typer.BadParameter(f"--{name} goes with one message, not with --recipients")
    campaign = options.a_campaign(content, manner, limits, lane=lane or Lane.BULK)
    run(_campaign(campaign, recipients, options.a_reading(form), full, as_json))


async def _campaign(campaign: Campaign, recipients: str, reading: Reading, full: bool, as_json: bool) -> None:
    _show(await Mailer(load_settings()).explain_campaign(campaign, recipients, reading=reading), full, as_json)


def _show(found: Explanation, full: bool, as_json: bool) -> None:
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
    if found.hints:
        _title("hints")
        for sentence in found.hints:
            _line(f"  {sentence}")
    _title("request")
    whole = full or not out.is_terminal
    for line in request_lines(found.request) if whole else page_lines(shortened(found.request)):
        _line(line)
    if not whole:
        _title("long texts and lists are cut; --full shows them whole")


def request_lines(request: Mapping[str, Any]) -> list[str]:
    """The request as a person reads it: base64 cut, all of the rest whole."""
    text = json.dumps(request, indent=2, ensure_ascii=False)
    return _BASE64.sub(lambda match: f'"{match[1]}… ({len(match[1]) + len(match[2]):,} characters)"', text).splitlines()


def shortened(value: Any) -> Any:
    """The request with its long texts and lists cut."""
    if isinstance(value, str):
        more = len(value) - PAGE_CHARS
        return value if more <= 0 else f"{value[:PAGE_CHARS]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return {name: shortened(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        cut = len(value) > PAGE_ITEMS
        return [*map(shortened, value[:1] if cut else value), *([f"… and {len(value) - 1:,} more"] if cut else [])]
    return value


def page_lines(value: Any, before: str = "", behind: str = "") -> list[str]:
    """As JSON, where what fits into a line is in one."""
    line = f"{before}{json.dumps(value, ensure_ascii=False)}{behind}"
    if len(line) <= PAGE_WIDTH or not isinstance(value, dict | list) or not value:
        return [line]
    indent = " " * (len(before) - len(before.lstrip()) + 2)
    items = [(f"{indent}{json.dumps(name)}: ", item) for name, item in value.items()] if isinstance(value, dict) else []
    items = items or [(indent, item) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    inside = [page_lines(item, start, "," if place < len(items) else "") for place, (start, item) in enumerate(items, 1)]
    return [f"{before}{opening}", *(one for lines in inside for one in lines), f"{indent[2:]}{closing}{behind}"]


def _title(text: str) -> None:
    out.print()
    out.print(text, style="dim")


def _line(text: str) -> None:
    """Some of it is somebody else's: a terminal obeys nothing of it."""
    out.print(printable(text), markup=False, soft_wrap=True)
