"""`mailer demo` and `mailer dev`: the whole service on one machine, with a simulated SES."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.request import urlopen

import orjson
import typer

from .. import Campaign, Mailer, State, load_settings
from ..errors import ConfigError, EmbeddedUnavailable, MailerError
from ..ledger import CampaignStatus, RecipientStatus
from ..message.sender import Sender
from ..sample import RECIPIENTS, TEMPLATES
from . import ports
from .campaign_start import read_in
from .campaign_watch import follow
from .options import Json
from .output import campaign_json, out, outcome_table, print_json, say, when
from .ports import Ports
from .processes import Stack
from .run import run

DEMO_RATE = 250.0  # recipients per second of the simulated account
DEMO_MAX_COMPLAINT_RATE = 0.01  # one of the sample complains: 0.5 % of the first 200, were it heard of among them
EVENTS_S = 5.0  # without anything heard of a message, and the demo does not wait for the rest
EVENTS_POLL_S = 0.1
DEV_EVENTS_DELAY_S = 1.0  # from `sent` to what becomes of a message, so that both can be seen
SHOWN_ROWS = 6  # rejected rows that the demo lists, and rows that bounced or were complained about
STACK = "stack"  # what of the demo's folder is gone afterwards; the mail stays


def _port(name: str, usual: int, what: str) -> Any:
    return typer.Option(
        name,
        metavar="N",
        min=0,
        max=65_535,
        help=f"Port of {what}; 0 for any free one. If the default is taken, another is used.",
        show_default=str(usual),
    )


def demo(
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=1, help="Send rate of the simulated account, in recipients per second.")
    ] = DEMO_RATE,
    as_json: Json = False,
) -> None:
    """Send the sample campaign through a simulated SES.

    Shows the report and leaves nothing running.
    """
    run(_until_interrupted(_demo(rate, as_json)))


def dev(
    folder: Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Folder of its data.")] = Path("mailer-dev"),
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=1, help="Send rate of the simulated account, in recipients per second.")
    ] = DEMO_RATE,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Simulate an account in the sandbox.")] = False,
    ses_port: Annotated[int | None, _port("--ses-port", ports.SES, "the simulated SES and its page")] = None,
    http_port: Annotated[int | None, _port("--http-port", ports.HTTP, "the worker's health and metrics")] = None,
    redis_port: Annotated[int | None, _port("--redis-port", ports.REDIS, "Valkey")] = None,
    as_json: Json = False,
) -> None:
    """Run the whole service with a simulated SES, for other programs.

    Prints the variables that point them at it, and runs until Ctrl-C (exit status 130) or SIGTERM (143).
    """
    chosen = Ports(ses=ses_port, http=http_port, redis=redis_port)
    run(_until_interrupted(_dev(folder.absolute(), rate, sandbox, chosen, as_json)))


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
        sample = await stack.guard(_send(stack.ses_url))
        if sample.status.state is not State.FINISHED:
            raise MailerError(
                why=f"the sample campaign is {sample.status.state}: {sample.status.reason}; the logs are in {stack.folder}"
            )
        mail = await asyncio.to_thread(_save_a_mail, stack.ses_url, folder)
    if as_json:
        print_json({**campaign_json(sample.status), "mail": str(mail)})
    else:
        _show_report(sample, rate, mail)


class _Sample(NamedTuple):
    """What became of the sample campaign."""

    status: CampaignStatus
    rejected: list[RecipientStatus]
    bad: list[RecipientStatus]  # that bounced, or were complained about
    took: float  # seconds, until the last was sent


def sample_campaign() -> Campaign:
    return Campaign(name="Sample", sender="news", template="newsletter", max_complaint_rate=DEMO_MAX_COMPLAINT_RATE)


async def _send(ses_url: str) -> _Sample:
    settings = load_settings(templates_dir=TEMPLATES, senders={"news": {"from": "Example News <news@example.com>"}})
    async with Mailer(settings) as mailer:
        started = time.monotonic()
        id = await read_in(mailer, sample_campaign(), RECIPIENTS)
        await follow(mailer, id)
        took = time.monotonic() - started
        await _hear(ses_url)
        status = await mailer.campaign(id)
        lines = [line async for line in mailer.outcomes(id) if line.state in ("rejected", "bounced", "complained")]
    rejected = [line for line in lines if line.state == "rejected"]
    return _Sample(status, rejected, [line for line in lines if line.state != "rejected"], took)


async def _hear(ses_url: str) -> None:
    """Until the worker has taken in what SES reports, and has deleted it there; or takes in nothing more."""
    quiet_since, deleted = time.monotonic(), -1
    while time.monotonic() - quiet_since < EVENTS_S:
        events = (await asyncio.to_thread(_get, f"{ses_url}/_simulator/stats"))["events"]
        if not events["waiting"] + events["in_flight"] + events["delayed"]:
            return
        if events["deleted"] != deleted:
            quiet_since, deleted = time.monotonic(), events["deleted"]
        await asyncio.sleep(EVENTS_POLL_S)
    say("SES has reported more than the worker has taken in; the rest is shown as it was known", "yellow")


def _get(url: str) -> Any:
    with urlopen(url, timeout=10) as answer:  # noqa: S310  # our own loopback server
        return orjson.loads(answer.read())


def _save_a_mail(ses_url: str, folder: Path) -> Path:
    """One message as the simulated SES put it together, as a page that stays when SES is gone."""
    message = _get(f"{ses_url}/_simulator/messages?limit=1")["messages"][0]
    path = folder / "mail.html"
    path.write_text(message["html"], encoding="utf-8")
    return path


def _show_report(sample: _Sample, rate: float, mail: Path) -> None:
    status = sample.status
    out.print()
    outcome_table(status)
    out.print()
    # The reason of a rejected row begins with the line of the file.
    _show_rows([f"{line.reason}: {line.to[:40] or '(no address)'}" for line in sample.rejected], "rejected rows")
    _show_rows([f"row {line.row}: {line.state}, {line.reason}: {line.to}" for line in sample.bad], "rows that bounced")
    out.print(f"rate      {status.rate:,.1f} recipients/s of the account's {rate:,.0f}/s", markup=False)
    guard, usual = sample_campaign(), Campaign.model_fields["max_complaint_rate"].default
    out.print(
        f"guard     would pause it above {guard.max_bounce_rate:.0%} bounced or {guard.max_complaint_rate:.0%} complained "
        f"({usual:.1%} where nothing is said)",
        markup=False,
        soft_wrap=True,
    )
    out.print(f"finished  {when(status.finished_at)}, {sample.took:.1f} s after the start", markup=False)
    out.print(f"a mail    {mail}", markup=False, soft_wrap=True)


def _show_rows(lines: list[str], what: str) -> None:
    for line in lines[:SHOWN_ROWS]:
        out.print(f"  {line}", markup=False, soft_wrap=True)
    if len(lines) > SHOWN_ROWS:
        out.print(f"  and {len(lines) - SHOWN_ROWS} more {what}", style="dim")
    out.print()


async def _dev(folder: Path, rate: float, sandbox: bool, ports: Ports, as_json: bool) -> None:
    async with Stack(
        folder,
        max_send_rate=rate,
        sandbox=sandbox,
        events_delay_s=DEV_EVENTS_DELAY_S,
        ports=ports,
        senders=_senders_here(),
    ) as stack:
        if as_json:
            addresses = {"ses": stack.ses_url, "worker": stack.worker_url}
            folders = {"folder": str(stack.folder), "bin": str(_programs())}
            print_json({"variables": stack.variables, "addresses": addresses, **folders})
            say("Ctrl-C ends it.")
        else:
            _show_addresses(stack)
        await stack.guard(asyncio.Event().wait())


def _senders_here() -> dict[str, Sender]:
    """Those of the caller's own settings, by which the worker's unsubscribe page names who sends."""
    try:
        return load_settings().senders
    except ConfigError as error:
        say(f"the unsubscribe page will not name the senders: {error}", "yellow")
        return {}


def _programs() -> Path:
    """The folder of this `mailer`, in the environment that it was installed into."""
    return Path(sys.executable).parent


def _show_addresses(stack: Stack) -> None:
    for name, value in stack.variables.items():
        out.print(f"export {name}={shlex.quote(value)}", markup=False, soft_wrap=True)
    found = shutil.which("mailer")
    if found is None or Path(found).parent.resolve() != _programs().resolve():  # as after `make dev`
        out.print(f'export PATH={shlex.quote(str(_programs()))}:"$PATH"', markup=False, soft_wrap=True)
    say(
        f"\nmessages that SES accepted   {stack.ses_url}/\n"
        f"worker                       {stack.worker_url}/readyz, /healthz, /metrics\n"
        f"data and logs                {stack.folder}; the messages are there again at the next start\n\n"
        "Paste the lines above into another terminal, then for example:\n"
        "  mailer send --from news@example.com --to ana@example.org --subject Hello --text Hi --wait\n"
        "Who is written to as bounce@simulator.amazonses.com bounces, as complaint@… complains.\n\n"
        "Ctrl-C ends it."
    )
