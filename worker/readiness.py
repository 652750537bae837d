"""Whether this worker can send now: `/readyz`.

It is not ready (503) for a reason of its own or of Redis's. That the account may not send is said in words: another worker
could do no better.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from redis.exceptions import RedisError

from mailer.queue import explain_redis, is_refused
from mailer.quota.gate import REASONS, STALE_AFTER_REFRESHES, AdmissionStatus
from mailer.quota.state import KnownAccount
from mailer.suppression.check import why_not_known

from .http import Check
from .runtime import Listening, Runtime

EVENTS_LATE_S = 120.0  # a receive is answered, or has failed, within a minute


async def ready(runtime: Runtime) -> Mapping[str, Check]:
    checks, error = {}, await trouble_of_redis(runtime)
    checks["redis"] = _redis_check(error)
    if error is None or is_refused(error):  # then it can be asked at least
        checks["account"] = await _account_check(runtime)
        checks["suppression"] = await _suppression_check(runtime)
    else:
        checks["account"] = Check(ok=False, detail="not known without redis")
        checks["suppression"] = Check(ok=False, detail="not known without redis", needed=False)
    if runtime.settings.events_sqs_url:
        checks["events"] = _events_check(runtime.listening)
    missing = [lane.value for lane in runtime.settings.lanes if lane not in runtime.serving]
    checks["lanes"] = Check(ok=not missing, detail=f"not served: {', '.join(missing)}" if missing else "served")
    return checks


async def trouble_of_redis(runtime: Runtime) -> BaseException | None:
    """Why Redis does not store what it is given: what is answered and not stored is of no use to a worker."""
    try:
        await runtime.write_mark(runtime.probe)
    except (RedisError, OSError) as error:
        return error
    return None


def _redis_check(error: BaseException | None) -> Check:
    if error is None:
        return Check(ok=True, detail="answers, and takes writes")
    return Check(ok=False, detail=explain_redis(error))


async def _account_check(runtime: Runtime) -> Check:
    known = await runtime.accounts.load(runtime.own.account)
    now_s = await runtime.ledger.now_ms() / 1000
    oldest_s = STALE_AFTER_REFRESHES * runtime.settings.account_refresh_s
    if known is None or known.doubted or abs(now_s - known.refreshed_at.timestamp()) > oldest_s:
        why = await runtime.accounts.why_stale(runtime.own.account)
        return Check(ok=False, detail=why or "GetAccount has not answered yet")
    used = f"{known.max_send_rate:g}/s, {known.used_24h:g} of {known.max_24h:g} used in 24 h"
    if why := why_not_sending(known):
        return Check(ok=False, detail=f"{why}; {used}", needed=False)
    standing = "" if known.enforcement == "HEALTHY" else f"; its standing is {known.enforcement}, and AWS may pause it"
    return Check(ok=True, detail=used + standing)


def why_not_sending(known: KnownAccount) -> str:
    """Why this account may not send now; empty where it may."""
    if known.enforcement == "SHUTDOWN":
        return REASONS[AdmissionStatus.SUSPENDED].removeprefix("waiting: ")
    if not known.sending_enabled:
        return REASONS[AdmissionStatus.PAUSED].removeprefix("waiting: ")
    if 0 <= known.max_24h <= known.used_24h:
        return "the 24 h quota is used up"
    return ""


async def _suppression_check(runtime: Runtime) -> Check:
    """Shown only: our own list is asked anyway, and what needs SES's waits by itself."""
    account = await runtime.accounts.load(runtime.own.account)
    if account is not None and not account.suppressed_reasons:
        return Check(ok=True, detail="the list of SES holds for nothing in this account", needed=False)
    known = await runtime.suppressed.ses_list(runtime.own.account)
    why = why_not_known(known, runtime.settings.suppression_sync_s)
    return Check(ok=why is None, detail=why or f"{known.entries:,} entries on the list of SES", needed=False)


def _events_check(listening: Listening) -> Check:
    """Shown only: what is sent does not wait for events, and another process may receive them."""
    if listening.trouble:
        return Check(ok=False, detail=listening.trouble, needed=False)
    if not listening.received_at:
        return Check(ok=False, detail="the queue of SES's events has not answered yet", needed=False)
    ago_s = max(0.0, time.time() - listening.received_at)
    return Check(ok=ago_s < EVENTS_LATE_S, detail=f"the queue answered {ago_s:.0f} s ago", needed=False)
