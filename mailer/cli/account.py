"""`mailer account`: what the AWS account may do, what of it is used, and what waits to be sent through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from .. import Lane, State
from ..ledger import CampaignStatus
from ..ledger.census import Waiting
from ..ledger.status import BOUNCE_LIMITS, COMPLAINT_LIMITS
from ..ledger.workers import nobody_serves, said, served
from ..settings import Settings
from .options import Json
from .output import accepted, err, facts, hint, one_line, out, print_json, say, when
from .run import run

if TYPE_CHECKING:
    from ..accounts.overview import AccountView

NEARLY = 0.9  # of the 24 h quota
SHOWN = 5  # campaigns
WAITING = (State.PARKED, State.PAUSED, State.STOPPED)  # for something that their reason names


def account(
    sender: Annotated[
        str | None,
        typer.Option(
            "--sender", metavar="NAME", help="Show the account of this sender profile, a [senders.NAME] of mailer.toml."
        ),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask SES now, instead of showing what the workers read last.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the state, quota and use of the SES account, and what waits.

    Shows what the workers read last. If they have not read it lately, SES is asked.
    """
    run(_account(sender, refresh, as_json))


async def _account(sender: str | None, refresh: bool, as_json: bool) -> None:
    from ..accounts.overview import (
        view_account,  # here: boto takes half a second to import, and the other commands need none of it
    )
    from .accounts import open_ledger, open_reach

    async with open_ledger() as (settings, ledger):
        with err.status("asking AWS …") if err.is_terminal else nullcontext():
            async with open_reach(settings, ledger, sender) as ses_account:
                view = await view_account(settings, ledger, ses_account, refresh=refresh)
    if view.warning:
        say(one_line(f"warning: SES could not be asked, so this was read {_age(view)}: {view.warning}"), "yellow")
    if as_json:
        print_json(account_json(view))
    else:
        _show(view, settings)


def account_json(view: AccountView) -> dict[str, Any]:
    known, reputation = view.known, view.reputation
    return {
        "account": view.number,
        "region": known.region,
        "production": known.production,
        "sending_enabled": known.sending_enabled,
        "enforcement": known.enforcement,
        "max_send_rate": known.max_send_rate,
        "max_24h": known.max_24h,
        "sent_24h": known.sent_24h,
        "refreshed_at": known.refreshed_at,
        "stale": view.stale,
        "trouble": view.warning or view.trouble,
        "counted_since_refresh": known.since,
        "counted_24h": view.counted_24h,
        "used_24h": known.used_24h,
        "daily_reserve": view.reserve,
        "effective_rate": view.effective_rate,
        "suppressed_reasons": sorted(known.suppressed_reasons),
        "reputation": {
            "known": reputation.known,
            "bounced": reputation.bounced,
            "complained": reputation.complained,
        },
        "lanes": {lane.value: waiting for lane, waiting in view.lanes.items()},
        "waiting": {
            lane.value: {"recipients": one.recipients, "since": _moment(one.oldest_ms)} for lane, one in view.census.lanes.items()
        },
        "workers": [
            {
                "host": one.host,
                "pid": one.pid,
                "lanes": list(one.lanes),
                "serving": list(one.serving),
                "version": one.version,
                "since": one.since,
                "doing": one.doing,
                "seen_at": one.seen_at,
            }
            for one in view.workers
        ],
        "in_doubt": view.in_doubt,
        "campaigns": [
            {"id": one.id, "name": one.name, "state": one.state.value, "reason": one.reason, "left": one.left}
            for one in view.campaigns
        ],
    }


# ---- for a person ----------------------------------------------------------------------------------------------------


def _show(view: AccountView, settings: Settings) -> None:
    known = view.known
    anyone, verified = "production: it may send to anyone", "sandbox: it may send to verified addresses only"
    facts(
        {
            "account": f"{view.number or 'number not known'}, {known.region}",
            "access": _told(anyone, verified, known.production),
            "sending": _told("enabled", "PAUSED for this account", known.sending_enabled),
            "standing": _standing(view),
            "send rate": _rate(view, settings),
            "24 h quota": _quota(view),
            "counted here": f"{_count(view.counted_24h, 'recipient')} accepted from this service in the last 24 h",
            "24 h reserve": f"{view.reserve:,} of it for the transactional lane only" if view.reserve else "",
            "suppression": _suppression(view),
            "read": Text(f"{_age(view)}, {when(known.refreshed_at)}", style="yellow" if view.stale else ""),
        }
    )
    out.print()
    jobs = ", ".join(f"{waiting:,} {lane}" for lane, waiting in view.lanes.items())
    facts(
        {
            "workers": _workers(view),
            "recipients that wait": _waiting(view),
            "jobs that wait": f"{jobs} (a job is a message, or some 500 rows)",
            "in doubt": f"{_count(view.in_doubt, 'recipient')} that SES may have accepted" if view.in_doubt else "nobody",
            "campaigns": _under_way(view.campaigns),
        }
    )
    for status in sorted(view.campaigns, key=lambda one: one.state not in WAITING)[:SHOWN]:
        out.print(f"  {_campaign(status)}", markup=False, soft_wrap=True)
    if len(view.campaigns) > SHOWN:
        out.print(f"  and {len(view.campaigns) - SHOWN} more: mailer campaign list", style="dim")
    for sentence in _hints(view, settings):
        hint(sentence)


def _under_way(campaigns: Sequence[CampaignStatus]) -> str:
    stopped = sum(one.state is State.STOPPED for one in campaigns)
    going = len(campaigns) - stopped
    told = f"{_count(going, 'campaign')} under way" if going else "none under way"
    return f"{told}, {stopped:,} stopped" if stopped else told


def _moment(ms: int) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None


def _workers(view: AccountView) -> Text:
    if not view.workers:
        return Text("none is alive", style="red")
    doing = "" if len(view.workers) > 1 else f"; {view.workers[0].doing}"
    return Text(f"{len(view.workers):,}: {said(view.workers)}{doing}")


def _waiting(view: AccountView) -> str:
    def one(lane: Lane, waiting: Waiting) -> str:
        since = f", the oldest since {when(_moment(waiting.oldest_ms))}" if waiting.oldest_ms else ""
        return f"{waiting.recipients:,} {lane.value}{since}"

    return "; ".join(one(lane, waiting) for lane, waiting in view.census.lanes.items())


def _told(good: str, bad: str, is_good: bool) -> Text:
    return Text(good if is_good else bad, style="green" if is_good else "red")


def _standing(view: AccountView) -> Text:
    enforcement = view.known.enforcement
    words = {
        "HEALTHY": "healthy, says SES",
        "PROBATION": "PROBATION: AWS is reviewing this account, and may pause it",
        "SHUTDOWN": "SHUTDOWN: AWS has stopped this account's sending",
    }
    found = Text(words.get(enforcement, enforcement), style="green" if enforcement == "HEALTHY" else "red")
    if (seen := view.reputation).known:
        bounced = _part(seen.bounced, seen.known, BOUNCE_LIMITS)
        complained = _part(seen.complained, seen.delivered, COMPLAINT_LIMITS)
        found += Text("; of this service's e-mails ") + bounced + Text(" bounced, ") + complained + Text(" complained")
    return found


def _part(bad: int, of: int, limits: tuple[float, float]) -> Text:
    part = bad / of if of else 0.0
    style = "red" if part >= limits[1] else "yellow" if part >= limits[0] else ""
    return Text(f"{part * 100:.2g} %" if part < 0.1 else f"{part * 100:.0f} %", style=style)


def _rate(view: AccountView, settings: Settings) -> str:
    rate = f"{view.known.max_send_rate:,g} recipient{'' if view.known.max_send_rate == 1 else 's'}/s"
    if view.effective_rate < min(view.known.max_send_rate, settings.max_send_rate or view.known.max_send_rate):
        return f"{rate}; {view.effective_rate:,.3g}/s for now, because SES refused some for the rate"
    if view.effective_rate < view.known.max_send_rate:
        return f"{rate}; this service keeps to {view.effective_rate:,g}/s (MAILER_MAX_SEND_RATE)"
    return rate


def _quota(view: AccountView) -> Text:
    known = view.known
    counts = f"{known.sent_24h:,.0f} counted by SES"
    if known.since:
        counts += f" and {known.since:,} by this service since"
    if known.max_24h < 0:
        return Text(f"unlimited; {known.used_24h:,.0f} used: {counts}")
    part = known.used_24h / known.max_24h if known.max_24h else 1.0
    text = f"{known.used_24h:,.0f} of {known.max_24h:,.0f} recipients used, {part * 100:.0f} %: {counts}"
    return Text(text, style="red" if part >= 1 else "yellow" if part >= NEARLY else "")


def _suppression(view: AccountView) -> str:
    words = {"BOUNCE": "bounced", "COMPLAINT": "complained"}
    held = [words.get(reason, reason) for reason in sorted(view.known.suppressed_reasons)]
    if not held:
        return "SES sends also to addresses that bounced or complained before"
    return f"SES does not send to addresses that {' or '.join(held)} before"


def _age(view: AccountView) -> str:
    seconds = int(view.age_s)
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}s ago"
    return f"{seconds} s ago"


def _campaign(status: CampaignStatus) -> str:
    name = f" {status.name[:40]}" if status.name else ""
    why = f" ({status.reason})" if status.reason else ""
    return one_line(f"{status.id}{name}: {status.state}{why}; {accepted(status):,} sent, {status.left:,} left of {status.rows:,}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _hints(view: AccountView, settings: Settings) -> Iterator[str]:
    """What to do about it."""
    known = view.known
    if known.enforcement in ("PROBATION", "SHUTDOWN"):
        yield "answer the case that AWS has opened in the AWS Support Center: https://console.aws.amazon.com/support/home"
    if not known.sending_enabled and known.enforcement != "SHUTDOWN":
        yield (
            "what is to be sent waits; if you paused it yourself: "
            f"aws sesv2 put-account-sending-attributes --sending-enabled --region {known.region}"
        )
    if not known.production:
        yield (
            "to send to somebody from the sandbox, have the address verified: aws sesv2 create-email-identity "
            f"--email-identity ana@example.com --region {known.region}, then the link in the e-mail that SES sends there; "
            "…@simulator.amazonses.com needs none"
        )
        yield (
            "to send to anyone, ask AWS for production access: "
            f"https://console.aws.amazon.com/ses/home?region={known.region}#/account, Request production access"
        )
    if 0 <= known.max_24h <= known.used_24h / NEARLY:
        used = "used up" if known.used_24h >= known.max_24h else "nearly used"
        yield (
            f"the 24 h quota is {used}; what does not fit waits, and goes on as the e-mails of 24 h ago fall out of it; "
            f"for more: https://console.aws.amazon.com/servicequotas/home?region={known.region}#!/services/ses/quotas"
        )
    served_lanes = served(view.workers)
    if alone := [lane for lane in view.census.busy if not served_lanes[lane]]:
        yield nobody_serves(alone)
    if view.in_doubt:
        yield "who is in doubt has `unknown` in: mailer campaign report ID"
    if view.trouble and not view.warning:
        yield f"a worker could not read this account: {view.trouble}"
    if settings.account_refresh_s * 2 < view.age_s and not view.warning:
        yield "no worker has read this account lately; is `mailer worker` running?"
