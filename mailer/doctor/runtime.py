"""What comes back from SES, and whether a worker is there to send and to read it."""

from __future__ import annotations

from redis.exceptions import RedisError

from ..errors import MailerError
from ..events import Certificates, Trust, Verifier, fetch
from ..ledger import Ledger, Route
from ..ledger.census import take
from ..ledger.workers import Workers, nobody_serves, said, served
from ..message.email import Lane
from ..quota.state import AccountStates
from ..ses.sqs import EventQueue
from ..settings import Index, Settings
from ..suppression.check import why_not_known
from ..suppression.lists import SuppressionLists
from .aws import Ways
from .finding import Finding, ok, warning, wrong

LATE_MS = 60_000  # a chunk that waits longer for its reaper has no worker
SYNC = "start a worker (`mailer worker`), or read it with `mailer suppression sync`"


def events(settings: Settings) -> Finding:
    name = "events"
    if settings.events_sqs_url is None and not settings.events_topic_arns:
        found = "none come in: bounces and complaints stay unseen, and who is in doubt stays `unknown`"
        return warning(name, found, "set MAILER_EVENTS_SQS_URL, or MAILER_EVENTS_TOPIC_ARNS (docs/events.md)")
    topics = settings.events_topic_arns
    try:
        if topics:  # as a worker does when it starts
            Verifier(topics, Certificates(Trust.of_this_machine(), fetch), seen=_never)
    except MailerError as error:
        return wrong(name, str(error), "correct it")
    ways = [f"from SQS, {settings.events_sqs_url}"] if settings.events_sqs_url else []
    ways += [f"by POST /events/ses, {', '.join(topics)}"] if topics else []
    return ok(name, " and ".join(ways))


async def untagged(settings: Settings, ledger: Ledger) -> list[Finding]:
    """By what workers leave in Redis: whether SES tells of messages in a way that carries no tags."""
    name = "events without tags"
    try:
        seen, matched, lost = await ledger.redis.hmget(ledger.keys.untagged, "seen", "matched", "lost")
    except (RedisError, OSError):
        return []  # the checks of Redis say it
    if seen is None:
        return []
    age_s = max(0.0, await ledger.now_ms() - int(seen)) / 1000
    found = f"notifications of an identity come in, the last {age_s:,.0f} s ago"
    do = "give each configuration set an event destination (docs/events.md), and end the notifications of the identity"
    if settings.events_index is Index.OFF:
        return [warning(name, f"{found}; they fit no message, because MAILER_EVENTS_INDEX is off", f"set it to auto, or {do}")]
    text = f"{found}; {int(matched or 0):,} of them were matched by SES's message id"
    if int(lost or 0):
        return [warning(name, f"{text}, {int(lost):,} fit no message that was sent from here", do)]
    return [ok(name, text)]


async def _never(_: str) -> bool:
    return False


async def queue(url: str) -> Finding:
    name = "events queue"
    try:
        async with EventQueue(url) as found:
            dead_letters, (waiting, received) = await found.has_dead_letters(), await found.waiting()
    except MailerError as error:
        return wrong(
            name,
            str(error),
            "see that it is there, and allow the role sqs:GetQueueAttributes, sqs:ReceiveMessage, sqs:DeleteMessage",
        )
    text = f"answers; {waiting:,} wait, {received:,} are being applied"
    if not dead_letters:
        do = "give it a redrive policy: what is no event, or cannot be applied, is never deleted by us"
        return warning(name, f"{text}; it has no dead-letter queue", do)
    return ok(name, f"{text}; it has a dead-letter queue")


async def worker(settings: Settings, ledger: Ledger, ways: Ways, route: Route) -> Finding:
    """By what workers leave in Redis. Commands leave there what they asked SES, too, so only heartbeats tell who is alive."""
    name, accounts = "worker", AccountStates(ledger)
    alive, census = await Workers(ledger.redis, ledger.keys).alive(), await take(ledger)
    serving = served(alive)
    if alone := [lane for lane in census.busy if not serving[lane]]:
        n = sum(census.lanes[lane].recipients for lane in alone)
        found, _, do = nobody_serves(alone).partition("; ")
        return wrong(name, f"{found}: {n:,} recipient{' waits' if n == 1 else 's wait'}", do)
    account = (await ways.get(route)).account
    known, now_s = await accounts.load(account), await accounts.now_s()
    jobs = ", ".join([f"{await ledger.report.queue_depth(lane):,} {lane}" for lane in Lane])
    late = int(await ledger.redis.zcount(ledger.keys.due, "-inf", now_s * 1000 - LATE_MS))
    if known is None and not alive:
        return warning(name, f"none has run here yet; jobs that wait: {jobs}", "start one: mailer worker")
    if why := await accounts.why_stale(account):
        return wrong(name, f"a worker could not ask SES: {why}", "see with which credentials it runs, and its log")
    asked = "not asked yet" if known is None else f"asked {now_s - known.refreshed_at.timestamp():,.0f} s ago"
    text = f"SES was {asked}; jobs that wait: {jobs}"
    if not alive:
        return warning(name, f"none seems to run: {text}", "start one: mailer worker")
    if known is None or now_s - known.refreshed_at.timestamp() > 2 * settings.account_refresh_s:
        return warning(name, f"{said(alive)}: {text}, which is too long ago", "see its log")
    if late:
        return warning(name, f"{text}; {late:,} of it for more than a minute", "see that workers serve both lanes (MAILER_LANES)")
    return ok(name, f"{len(alive):,} alive: {said(alive)}; {text}")


async def suppression(settings: Settings, ledger: Ledger, ways: Ways, route: Route, whose: str) -> Finding:
    name, ses_account = f"suppression list{whose}", await ways.get(route)
    own = await SuppressionLists(ledger).own_entries()
    if not (await ways.account(route)).suppressed_reasons:
        return ok(name, f"{own:,} entries of our own; SES's holds for nothing in this account")
    known = await SuppressionLists(ledger).ses_list(ses_account.account)
    if why := why_not_known(known, settings.suppression_sync_s):
        return warning(name, f"{why}; until then campaigns wait", SYNC)
    assert known.synced_at is not None
    age_s = max(0.0, (known.now - known.synced_at).total_seconds())
    return ok(name, f"{own:,} entries of our own, {known.entries:,} of SES's, read {age_s:,.0f} s ago")
