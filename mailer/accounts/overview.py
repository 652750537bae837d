"""What is known of an AWS account, read for all processes and put together for whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from ..errors import AccountUnknown, NotFound
from ..ledger import CampaignStatus, Ledger, Reputation
from ..ledger.census import Census, take
from ..ledger.workers import Workers, WorkerSeen
from ..message.email import Lane, State
from ..quota.gate import STALE_AFTER_REFRESHES
from ..quota.state import DAY_SLOTS, SLOT_S, AccountStates, KnownAccount
from ..ses.refusals import classify_question
from ..settings import Settings
from .access import SesAccount

ASK_S = 12.0  # for SES, with the client's own retries
CAMPAIGNS = 200  # of those that go on, how many are looked at


async def read_account(accounts: AccountStates, ses_account: SesAccount) -> None:
    """GetAccount → Redis, which has it for every process's limiter. Raises what botocore raises."""
    answered = await accounts.answered(ses_account.account)
    state = await ses_account.gateway.account()
    await accounts.store(ses_account.account, {name: _stored(value) for name, value in asdict(state).items()}, answered=answered)


def _stored(value: str | float | bool | tuple[str, ...]) -> str | float:
    if isinstance(value, tuple):
        return ",".join(value)
    return int(value) if isinstance(value, bool) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """An account, and what this installation has to send. Counts are of recipients."""

    number: str | None  # of the AWS account; None where it cannot be learnt
    known: KnownAccount
    age_s: float  # of what is known, on Redis's clock
    stale: bool  # too old for workers to send by it
    warning: str  # why SES could not be asked now, where it was to be
    trouble: str  # why workers could not ask it when they last tried
    effective_rate: float  # recipients per second that this installation sends at most; lower for a while after SES refused
    counted_24h: int  # recipients that SES accepted from this installation in the last 24 h
    reserve: int  # recipients of the 24 h quota for the transactional lane only
    lanes: Mapping[Lane, int]  # jobs that wait
    census: Census
    workers: list[WorkerSeen]  # that are alive
    in_doubt: int
    campaigns: list[CampaignStatus]  # that go on or wait for somebody
    reputation: Reputation  # of the campaigns that Redis still knows. SES judges by all that the account sends


async def view_account(settings: Settings, ledger: Ledger, ses_account: SesAccount, *, refresh: bool) -> AccountView:
    """What the workers read last; where that is too old for them, or with `refresh`, SES is asked. Raises AccountUnknown."""
    number = asyncio.create_task(ses_account.gateway.known_account())
    try:
        accounts = AccountStates(ledger)
        oldest_s = settings.account_refresh_s * STALE_AFTER_REFRESHES
        known, age_s = await _load(accounts, ses_account)
        warning = ""
        if refresh or known is None or age_s > oldest_s:
            warning = await _ask(accounts, ses_account)
            known, age_s = await _load(accounts, ses_account)
        if known is None:
            raise AccountUnknown(region=ses_account.gateway.region, why=warning)
        campaigns = await _campaigns(ledger)
        return AccountView(
            number=await number,
            known=known,
            age_s=age_s,
            stale=age_s > oldest_s,
            warning=warning,
            trouble=await accounts.why_stale(ses_account.account),
            effective_rate=await accounts.rate(ses_account.account, settings.max_send_rate),
            counted_24h=await _counted_24h(accounts, ses_account),
            reserve=settings.daily_reserve,
            lanes={lane: await ledger.report.queue_depth(lane) for lane in Lane},
            census=await take(ledger),
            workers=await Workers(ledger.redis, ledger.keys).alive(),
            in_doubt=await ledger.report.in_doubt(),
            campaigns=[status for status in campaigns if not status.over or status.state is State.STOPPED],
            reputation=sum((status.reputation for status in campaigns), Reputation()),
        )
    finally:
        number.cancel()


async def _counted_24h(accounts: AccountStates, ses_account: SesAccount) -> int:
    oldest = await accounts.now_s() // SLOT_S - DAY_SLOTS
    return sum(n for slot, n in (await accounts.history(ses_account.account)).items() if slot > oldest)


async def _load(accounts: AccountStates, ses_account: SesAccount) -> tuple[KnownAccount | None, float]:
    """What is known, and how old it is."""
    known = await accounts.load(ses_account.account)
    return known, 0.0 if known is None else max(0.0, await accounts.now_s() - known.refreshed_at.timestamp())


async def _ask(accounts: AccountStates, ses_account: SesAccount) -> str:
    """Why it could not be asked. That is not kept: a worker's credentials may be others."""
    try:
        async with asyncio.timeout(ASK_S):
            await read_account(accounts, ses_account)
    except TimeoutError:
        return f"SES did not answer within {ASK_S:g} s; see that {ses_account.gateway.endpoint_url} can be reached from here"
    except Exception as error:
        return classify_question(error).reason
    return ""


async def _campaigns(ledger: Ledger) -> list[CampaignStatus]:
    """Those that go on, however old they are, and the newest of the others."""
    found = {status.id: status for status in await ledger.report.campaigns(CAMPAIGNS)}
    for active in (await ledger.lifecycle.active_campaigns())[:CAMPAIGNS]:
        if active.id not in found and not active.over:
            with suppress(NotFound):  # dropped in this moment
                found[active.id] = await ledger.report.campaign(active.id)
    return list(found.values())
