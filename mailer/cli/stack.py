"""`mailer demo` and `mailer dev`: the whole service on one machine, with a simulated SES."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any
from urllib.request import urlopen

import orjson
import typer

from .. import Campaign, Mailer, State, load_settings
from ..errors import EmbeddedUnavailable, MailerError
from ..ledger import CampaignStatus, RecipientStatus
from ..sample import RECIPIENTS, TEMPLATES
from .campaign import follow, read_in
from .options import Json
from .output import campaign_json, out, outcome_table, print_json, say, when
from .processes import Stack
from .run import run

DEMO_RATE = 250.0  # recipients per second of the simulated account
SHOWN_ROWS = 6  # rejected rows that the demo lists
STACK = "stack"  # what of the demo's folder is gone afterwards; the mail stays


def demo(
    rate: Annotated[float, typer.Option("--rate", min=1, help="Send rate of the simulated account, recipients/s.")] = DEMO_RATE,
    as_json: Json = False,
) -> None:
    """Send the sample list through a simulated SES. Shows the report and leaves nothing running."""
    run(_until_interrupted(_demo(rate, as_json)))


def dev(
    folder: Annotated[Path, typer.Option("--dir", help="Where its data is kept.")] = Path("mailer-dev"),
    rate: Annotated[float, typer.Option("--rate", min=1, help="Send rate of the simulated account, recipients/s.")] = DEMO_RATE,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Simulate an account in the sandbox.")] = False,
    as_json: Json = False,
) -> None:
    """Keep the same stack running. Prints the variables that point other programs at it."""
    run(_until_interrupted(_dev(folder.absolute(), rate, sandbox, as_json)))


async def _until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Run until done, Ctrl-C or SIGTERM; in each case the processes that were started are ended first."""
    say("starting Valkey, a simulated SES and a worker …")
    task = asyncio.ensure_future(work)
    caught = []

    def stop(number: int) -> None:
        caught.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        say("stopped; nothing is left running")
        raise typer.Exit(128 + caught[0]) from None


async def _demo(rate: float, as_json: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="mailer-demo-"))
    try:
        await _send_sample(folder, rate, as_json)
    except (asyncio.CancelledError, EmbeddedUnavailable):
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder / STACK)


async def _send_sample(folder: Path, rate: float, as_json: bool) -> None:
    async with Stack(folder / STACK, max_send_rate=rate) as stack:
        os.environ.clear()
        os.environ.update(stack.environment)
        started = time.monotonic()
        status, rejected = await stack.guard(_campaign())
        took = time.monotonic() - started
        if status.state is not State.FINISHED:
            raise MailerError(why=f"the sample campaign is {status.state}: {status.reason}; the logs are in {stack.folder}")
        mail = await asyncio.to_thread(_save_a_mail, stack.ses_url, folder)
    if as_json:
        print_json({**campaign_json(status), "mail": str(mail)})
    else:
        _show_report(status, rejected, rate, took, mail)


async def _campaign() -> tuple[CampaignStatus, list[RecipientStatus]]:
    settings = load_settings(templates_dir=TEMPLATES, senders={"news": {"from": "Example News <news@example.com>"}})
    async with Mailer(settings) as mailer:
        id = await read_in(mailer, Campaign(name="Sample", sender="news", template="newsletter"), RECIPIENTS)
        status = await follow(mailer, id)
        return status, [line async for line in mailer.outcomes(id) if line.state == "rejected"]


def _save_a_mail(ses_url: str, folder: Path) -> Path:
    """One message as the simulated SES put it together, as a page that stays when SES is gone."""
    with urlopen(f"{ses_url}/_simulator/messages?limit=1") as answer:  # noqa: S310  # our own loopback server
        message = orjson.loads(answer.read())["messages"][0]
    path = folder / "mail.html"
    path.write_text(message["html"], encoding="utf-8")
    return path


def _show_report(status: CampaignStatus, rejected: list[RecipientStatus], rate: float, took: float, mail: Path) -> None:
    out.print()
    outcome_table(status)
    out.print()
    for line in rejected[:SHOWN_ROWS]:
        # The reason begins with the line of the file.
        out.print(f"  {line.reason}: {line.to[:40] or '(no address)'}", markup=False, soft_wrap=True)
    if len(rejected) > SHOWN_ROWS:
        out.print(f"  and {len(rejected) - SHOWN_ROWS} more rejected rows", style="dim")
    out.print()
    out.print(f"rate      {status.rate:,.1f} recipients/s of the account's {rate:,.0f}/s", markup=False)
    out.print(f"finished  {when(status.finished_at)}, {took:.1f} s after the start", markup=False)
    out.print(f"a mail    {mail}", markup=False, soft_wrap=True)


async def _dev(folder: Path, rate: float, sandbox: bool, as_json: bool) -> None:
    async with Stack(folder, max_send_rate=rate, sandbox=sandbox) as stack:
        if as_json:
            addresses = {"ses": stack.ses_url, "worker": stack.worker_url}
            print_json({"variables": stack.variables, "addresses": addresses, "folder": str(stack.folder)})
            say("Ctrl-C ends it.")
        else:
            _show_addresses(stack)
        await stack.guard(asyncio.Event().wait())


def _show_addresses(stack: Stack) -> None:
    for name, value in stack.variables.items():
        out.print(f"export {name}={shlex.quote(value)}", markup=False, soft_wrap=True)
    say(
        f"\nmessages that SES accepted   {stack.ses_url}/\n"
        f"worker                       {stack.worker_url}/readyz, /healthz, /metrics\n"
        f"data and logs                {stack.folder}\n\n"
        "Paste the lines above into another terminal, then for example:\n"
        "  mailer send --from news@example.com --to ana@example.org --subject Hello --text Hi --wait\n\n"
        "Ctrl-C ends it."
    )
