"""What has to happen whether or not a job runs: reading the account and its suppression list, the reaper, and gauges.

Loops of the worker's own and not arq's cron: they must go on while arq's loop is being restarted, and the reaper is what
makes a lost job harmless. Every process runs them; Redis decides whose turn it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from redis.exceptions import RedisError

from mailer import metrics
from mailer.accounts.access import SesAccount
from mailer.accounts.overview import read_account
from mailer.errors import StoreFailed
from mailer.ids import container_of
from mailer.ledger import ActiveCampaign
from mailer.message.email import Outcome, State
from mailer.ses.refusals import classify_question
from mailer.settings import Policy
from mailer.suppression.sync import Sync
from mailer.tasks import to_the_end

from . import events, heartbeat, sns, telling, untagged, waiting
from . import suppression_outbox as owed
from .runtime import PATIENCE_MS, Runtime

log = structlog.get_logger()

REDIS_EVERY_S = 1.0
REAP_EVERY_S = 0.5
REAP_LIMIT = 500
GIVE_BACK_EVERY_S = 1.0
CAMPAIGNS_EVERY_S = 1.0
SUPPRESSION_CHECK_S = 1.0  # as with the account
ACCOUNT_CHECK_S = 1.0  # how often a process looks whether the account has to be read; how often it is read is a setting
START_S = 2.0  # a start does not wait longer for the list of identities
INTAKE_DEAD_AFTER_S = 120  # a reader that has said nothing for this long is gone; it says something every ten seconds
ARCHIVE_EVERY_S = 2.0
ARCHIVE_LIMIT = 20  # chunks of one round
ARCHIVE_AFTER_S = 900.0  # most events come within minutes, and meet their recipient in Redis
DOUBT_AFTER_S = 6 * 3600.0  # longer than who is in doubt waits for an event
SWEEP_CHUNKS = 200  # chunks of a cancelled campaign that are counted out before the other campaigns have their turn
DOUBT_EVERY_S = 1.0
OUTCOMES_EVERY_S = 60.0
DOUBTS = 200  # chunks that are looked at in one step
ASSUMED = "SES may have accepted it and did not say so; it is taken for sent"
_GUARDED = (State.RUNNING, State.PARKED, State.PAUSED)


async def reap(runtime: Runtime) -> None:
    """Wake every chunk whose wake-up got lost, whose lease ran out or whose delay is over."""
    while not runtime.stopping.is_set() and await to_the_end(_reap(runtime)) == REAP_LIMIT:
        pass


async def _reap(runtime: Runtime) -> int:
    """Some of them; how many. To its end, for no other reaper is given these before PATIENCE_MS are over."""
    found = await runtime.ledger.work.reap(limit=REAP_LIMIT, patience_ms=PATIENCE_MS)
    for chunk, fence in found:
        lane = await runtime.ledger.lifecycle.lane(container_of(chunk))
        if lane is not None:
            await runtime.queue.wake_again(lane, chunk, fence)
    return len(found)


async def give_back(runtime: Runtime) -> None:
    """Leases that could not be given back, as Redis was away. Who has run out by then is not lost."""
    for chunk, fence in list(runtime.unreturned.items()):
        await runtime.ledger.work.release(chunk, fence=fence, harmless=False)
        del runtime.unreturned[chunk]


async def look_after_campaigns(runtime: Runtime) -> None:
    """Feed windows that nobody fed, keep templates alive, pause what bounces, count out what is cancelled, retire what is over,
    and give up lists whose reader is gone."""
    for campaign in await runtime.ledger.lifecycle.active_campaigns():
        id, state = campaign.id, campaign.state
        if campaign.over:
            await _retire(runtime, campaign)
        elif state is State.CANCELLED:
            await _count_out(runtime, id)
        elif state is State.PLANNED and not campaign.ready:
            if await runtime.ledger.intake.abandon_campaign(id, INTAKE_DEAD_AFTER_S):
                log.warning("a campaign's list was not read to its end; nothing of it was sent", id=id)
        else:
            await _keep_going(runtime, campaign)


async def _retire(runtime: Runtime, campaign: ActiveCampaign) -> None:
    """Let it be forgotten after a while: one whose chunks are archived, when they all are."""
    keep_s = runtime.settings.retention_s
    if not campaign.ready:  # its list was given up; whoever did so may have died before its rows were deleted
        try:
            await runtime.ledger.intake.delete_chunks(campaign.id, campaign.chunks)
        except StoreFailed as error:
            log.warning("the rows of a list that was given up cannot be deleted; trying again", id=campaign.id, reason=str(error))
            return
    if runtime.ledger.archive is not None and campaign.unarchived > 0 and campaign.ready:
        if not campaign.enlisted:
            await runtime.ledger.archive.enlist(campaign.id, campaign.chunks)
        over_s = (await runtime.ledger.now_ms() - (campaign.finished_ms or 0)) / 1000
        if campaign.state is not State.STOPPED and over_s < keep_s:  # of a stopped one only what was sent can be archived
            return
    await runtime.ledger.lifecycle.retire_campaign(campaign.id, keep_s)


async def archive(runtime: Runtime) -> None:
    """Chunks in which nothing has changed for a while leave Redis for the store."""
    if runtime.ledger.archive is None:
        return
    keep_s, grace_s = runtime.settings.retention_s, runtime.settings.unknown_grace_s
    quiet_ms = int(min(ARCHIVE_AFTER_S, keep_s / 4) * 1000)
    # Between the grace, after which the lane's policy acts, and the time at which Redis forgets the campaign.
    doubt_ms = int(min(max(DOUBT_AFTER_S, 2 * grace_s), (grace_s + keep_s) / 2) * 1000)
    try:
        due = ARCHIVE_LIMIT
        while due == ARCHIVE_LIMIT:
            due = await runtime.ledger.archive.archive_due(limit=ARCHIVE_LIMIT, quiet_ms=quiet_ms, doubt_quiet_ms=doubt_ms)
    except StoreFailed as error:
        runtime.repeats.tell(log.warning, "archive", "a chunk cannot be archived; trying again", reason=str(error))


async def _count_out(runtime: Runtime, id: str) -> None:
    swept = await runtime.ledger.control.count_out(id, chunks=SWEEP_CHUNKS)
    lane = await runtime.ledger.lifecycle.lane(id)
    if swept.recipients and lane is not None:
        metrics.record_outcomes(lane, Outcome.CANCELLED, swept.recipients)


async def _keep_going(runtime: Runtime, campaign: ActiveCampaign) -> None:
    id = campaign.id
    if campaign.retired:  # it was stopped, and whoever resumed it may have died in the middle
        await runtime.ledger.lifecycle.revive_campaign(id)
    if campaign.state in _GUARDED:
        await runtime.ledger.lifecycle.guard(id)
    lane = await runtime.ledger.lifecycle.lane(id)
    if lane is not None:
        await runtime.feed(id, lane)
    await runtime.ledger.lifecycle.touch_content(id)


async def read_accounts(runtime: Runtime) -> None:
    """GetAccount of each account that this process sends from, by one process for all: Redis has it for every limiter."""
    for ses_account in runtime.ses_accounts.all():
        await _read_account(runtime, ses_account)
    known = await runtime.accounts.load(runtime.own.account)
    if known:
        metrics.set_quota(known.max_send_rate, known.max_24h, known.used_24h)


async def _read_account(runtime: Runtime, ses_account: SesAccount) -> None:
    account = ses_account.account
    if await runtime.accounts.may_refresh(account, runtime.settings.account_refresh_s):
        try:
            await read_account(runtime.accounts, ses_account)
        except asyncio.CancelledError:
            # Else the process that comes after this one would wait for the lock to run out.
            await asyncio.shield(runtime.accounts.give_up_refresh(account))
            raise
        except Exception as error:
            refusal = classify_question(error)
            text = "the state of the SES account cannot be read"
            runtime.repeats.tell(log.warning, ("account", account), text, refusal.code, code=refusal.code, reason=refusal.reason)
            await runtime.accounts.trouble(account, refusal.reason)
        else:
            runtime.repeats.over(log.info, ("account", account), "the state of the SES account can be read again")
    known = await runtime.accounts.load(account)
    if known:
        ses_account.quota.remember_rate(known.max_send_rate)


async def read_identities(runtime: Runtime) -> None:
    """The verified identities and configuration sets of the same accounts, by one process for all. A list of many takes as
    many seconds as it has pages, so this holds up neither the reading of the quotas nor that of another account's."""
    reading = (ses_account.register.refresh_when_due() for ses_account in runtime.ses_accounts.all())
    for failed in await asyncio.gather(*reading, return_exceptions=True):
        if isinstance(failed, BaseException):
            raise failed


async def read_suppression(runtime: Runtime) -> None:
    """SES's suppression list of each account that this process sends from, as far as it is due, for a slice of time: the list
    of one account may be long, and the others' must not get old meanwhile."""
    await asyncio.gather(*(_read_suppression(runtime, ses_account) for ses_account in runtime.ses_accounts.all()))


async def _read_suppression(runtime: Runtime, ses_account: SesAccount) -> None:
    every_s = runtime.settings.suppression_sync_s
    refusal = await Sync(runtime.suppressed, ses_account.account, ses_account.gateway, every_s=every_s).when_due()
    key, text = ("suppression", ses_account.account), "the suppression list of SES cannot be read"
    if refusal is not None:
        runtime.repeats.tell(log.warning, key, text, refusal.code, code=refusal.code, reason=refusal.reason)


async def settle_doubts(runtime: Runtime) -> None:
    """What the lane says of recipients of which SES has said nothing within the grace: send again, hold, take for sent."""
    grace_ms = int(runtime.settings.unknown_grace_s * 1000)
    for chunk in await runtime.ledger.work.doubtful(grace_ms, limit=DOUBTS):
        lane = await runtime.lane(container_of(chunk))
        policy = runtime.settings.unknown(lane) if lane is not None else Policy.HOLD
        n = await runtime.ledger.work.settle_doubt(chunk, grace_ms=grace_ms, policy=policy, reason=ASSUMED)
        if n:
            log.warning("recipients stayed in doubt for longer than the grace", chunk=chunk, recipients=n, policy=policy.value)
        if n and lane is not None and policy is Policy.ASSUME_SENT:
            metrics.record_outcomes(lane, Outcome.SENT, n)


async def forget_outcomes(runtime: Runtime) -> None:
    """Entries of the stream of outcomes go when a campaign of that age would: their reasons hold addresses."""
    oldest = await runtime.ledger.now_ms() - runtime.settings.retention_s * 1000
    # To the entry: an approximate trim leaves the last hundred for ever where nothing follows.
    await runtime.redis.xtrim(runtime.ledger.keys.outcomes, minid=oldest, approximate=False)


async def repeat(what: Callable[[Runtime], Awaitable[None]], runtime: Runtime, every_s: float) -> None:
    """Run a step for ever. Redis going away is waited out."""
    while True:
        try:
            await what(runtime)
        except (RedisError, OSError) as error:
            runtime.outage.tell(error, what.__name__)
            await asyncio.sleep(1)
        except Exception as error:
            text = "a step of the upkeep failed; trying again"
            runtime.repeats.tell(log.exception, ("upkeep", what.__name__, type(error).__name__), text, step=what.__name__)
            await asyncio.sleep(1)
        await asyncio.sleep(every_s)


async def look_at_redis(runtime: Runtime) -> None:
    """Also where nothing is to be done: a server that became a replica answers to what is read, from what it had."""
    await runtime.write_mark(runtime.redis)
    runtime.outage.over()


LOOPS: dict[str, tuple[Callable[[Runtime], Awaitable[None]], float]] = {
    "redis": (look_at_redis, REDIS_EVERY_S),
    "reaper": (reap, REAP_EVERY_S),
    "leases": (give_back, GIVE_BACK_EVERY_S),
    "campaigns": (look_after_campaigns, CAMPAIGNS_EVERY_S),
    "archive": (archive, ARCHIVE_EVERY_S),
    "account": (read_accounts, ACCOUNT_CHECK_S),
    "suppression": (read_suppression, SUPPRESSION_CHECK_S),
    "doubts": (settle_doubts, DOUBT_EVERY_S),
    "identities": (read_identities, ACCOUNT_CHECK_S),
    "index": (untagged.decide, untagged.EVERY_S),
    "unmatched": (waiting.look_again, untagged.EVERY_S),
    "telling": (telling.tell, telling.EVERY_S),
    "outcomes": (forget_outcomes, OUTCOMES_EVERY_S),
    "suppressing": (owed.pay, owed.EVERY_S),
}


async def start(runtime: Runtime) -> dict[str, asyncio.Task[None]]:
    """Start the loops. The account and its suppression list are read first: without them the first messages would only be put
    off. Its identities are, too, if that is quick: without the list each sender would be looked up."""
    with suppress(RedisError, OSError):
        await untagged.decide(runtime)
        await asyncio.gather(read_accounts(runtime), read_suppression(runtime))
        async with asyncio.timeout(START_S):
            await read_identities(runtime)
    loops = {name: repeat(step, runtime, every) for name, (step, every) in LOOPS.items()}
    loops["heartbeat"] = heartbeat.keep(runtime, repeat)
    if url := runtime.settings.events_sqs_url:
        loops["events from sqs"] = events.from_sqs(runtime, url)
    if runtime.settings.events_topic_arns:
        with suppress(RedisError, OSError):
            await sns.forget_the_gone(runtime)
        loops["events from sns"] = repeat(sns.take_in, runtime, 0)
    return {name: asyncio.create_task(loop, name=name) for name, loop in loops.items()}
