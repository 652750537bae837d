"""The log says once for all workers how campaigns and accounts stand, and when that changes.

A campaign starts, waits, goes on, is paused or stopped, and ends; an account is paused, under review, or has used up its quota,
and is not any more. What was said last is in Redis, so another worker goes on where one ended. What changes to and fro, as a
campaign that waits for a quota of which a little comes free now and then, is not said each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson
import structlog

from mailer.ledger.parking import class_of
from mailer.ledger.status import CampaignStatus
from mailer.message.email import State
from mailer.quota.state import KnownAccount

from .readiness import why_not_sending
from .runtime import Runtime

log = structlog.get_logger()

EVERY_S = 1.0
TURN_MS = 900  # less than EVERY_S, so that it is one worker's each time
STEADY_MS = 5000  # a campaign that waited goes on when it has for so long
AGAIN_MS = 60_000  # between two lines about the same campaign waiting or going on,
FREELY = 4  # after so many
FREE = 0.98  # of the quota of 24 hours
NEW = 500  # campaigns made since the last look that are looked at in one
_NEWEST, _ACCOUNT = "newest", "account:"  # fields that are no campaign's: when the newest that was looked at was made
_TURNS = (State.RUNNING, State.PARKED)


class Said(NamedTuple):
    """The last line about a campaign."""

    what: str  # its state, and of a parked one the class of what it waits for; empty: nothing has been said
    at_ms: int
    since_ms: int = 0  # since when it is otherwise, which has not been said; 0: it is not
    lines: int = 1


async def tell(runtime: Runtime) -> None:
    redis, keys = runtime.ledger.redis, runtime.ledger.keys
    if not await redis.set(keys.telling, runtime.owner, nx=True, px=TURN_MS):
        return
    now = await runtime.ledger.now_ms()
    told = {field.decode(): value for field, value in (await redis.hgetall(keys.told)).items()}
    changes = await _campaigns(runtime, told, now)
    for ses_account in runtime.ses_accounts.all():
        if known := await runtime.accounts.load(ses_account.account):
            field = f"{_ACCOUNT}{ses_account.account}"
            changes[field] = _account(ses_account.account, known, told.get(field))
    if gone := [field for field, value in changes.items() if value is None]:
        await redis.hdel(keys.told, *gone)
    if kept := {field: value for field, value in changes.items() if value not in (None, told.get(field))}:
        await redis.hset(keys.told, mapping=kept)


# ---- campaigns -------------------------------------------------------------------------------------------------------


async def _campaigns(runtime: Runtime, told: Mapping[str, bytes], now: int) -> dict[str, bytes | None]:
    """What is to be kept, by field; None: nothing any more."""
    redis, keys, changes = runtime.ledger.redis, runtime.ledger.keys, dict[str, bytes | None]()
    since = float(told.get(_NEWEST, now - AGAIN_MS))
    new = await redis.zrangebyscore(keys.campaigns, f"({since:.0f}", "+inf", start=0, num=NEW, withscores=True)
    if new:
        changes[_NEWEST] = b"%d" % new[-1][1]
    made = [id.decode() for id, _ in new]
    ids = [field for field in told if field != _NEWEST and not field.startswith(_ACCOUNT)]
    ids += made + [id.decode() for id in await redis.zrange(keys.active, 0, -1)]
    for id, status in (await runtime.ledger.report.glance(list(dict.fromkeys(ids)))).items():
        if status is None:
            changes[id] = None
        elif id in told or id in made or not status.over:  # else its end has been said
            changes[id] = _campaign(status, Said(*orjson.loads(told[id])) if id in told else Said("", now, 0, 0), now)
    return changes


def _campaign(status: CampaignStatus, said: Said, now: int) -> bytes | None:
    what = f"{status.state}:{class_of(status.reason)}" if status.state is State.PARKED else status.state.value
    if status.state is State.PLANNED and not status.rows:
        return orjson.dumps(tuple(said))  # its list is being read
    if said.what in ("", State.PLANNED) and status.state is not State.PLANNED:
        log.info("a campaign starts", id=status.id, lane=status.lane.value, rows=status.rows)
        said = Said(State.RUNNING.value, now, 0, 0)
    if what == said.what:
        said = said._replace(since_ms=0)
    elif _is_due(status, said, now):
        _line(status)
        said = Said(what, now, 0, said.lines + 1)
    else:
        said = said._replace(since_ms=said.since_ms or now)
    ended = status.over and status.state is not State.STOPPED  # which somebody may resume
    return None if ended else orjson.dumps(tuple(said))


def _is_due(status: CampaignStatus, said: Said, now: int) -> bool:
    if status.state not in _TURNS or not said.what.startswith(tuple(state.value for state in _TURNS)):
        return True  # somebody has done it, or it is over
    if said.lines >= FREELY and now - said.at_ms < AGAIN_MS:
        return False
    return status.state is State.PARKED or (said.since_ms > 0 and now - said.since_ms >= STEADY_MS)


def _line(status: CampaignStatus) -> None:
    id, reason = status.id, status.reason
    match status.state:
        case State.RUNNING:
            log.info("a campaign goes on", id=id)
        case State.PARKED:
            log.warning("a campaign waits", id=id, reason=reason)
        case State.PAUSED:
            log.warning("a campaign is paused", id=id, reason=reason)
        case State.STOPPED:
            log.warning("a campaign is stopped", id=id, reason=reason)
        case State.PLANNED:
            log.info("a campaign waits for its time", id=id, reason=reason)
        case _:
            took = (status.finished_at - status.created_at).total_seconds() if status.finished_at else None
            log.info(f"a campaign is {status.state}", id=id, rows=status.rows, **status.counts, seconds=took)


# ---- accounts --------------------------------------------------------------------------------------------------------


def _account(name: str, known: KnownAccount, told: bytes | None) -> bytes:
    """How it stands now. What is in order is not said of one that is new."""
    before = orjson.loads(told) if told else {"sending": "", "standing": "HEALTHY", "quota": ""}
    used_up = known.used_24h >= known.max_24h * (FREE if before["quota"] else 1) if known.max_24h >= 0 else False
    sending = "" if known.sending_enabled and known.enforcement != "SHUTDOWN" else why_not_sending(known)
    if sending != before["sending"]:
        if sending:
            log.warning("the SES account may not send", account=name, reason=sending)
        else:
            log.info("the SES account may send again", account=name)
    if known.enforcement != before["standing"]:
        say = log.info if known.enforcement == "HEALTHY" else log.warning
        say("the standing of the SES account has changed", account=name, standing=known.enforcement, was=before["standing"])
    if used_up and not before["quota"]:
        log.warning("the 24 h quota is used up", account=name, used=int(known.used_24h), of=int(known.max_24h))
    if before["quota"] and not used_up:
        log.info("some of the 24 h quota is free again", account=name, used=int(known.used_24h), of=int(known.max_24h))
    return orjson.dumps({"sending": sending, "standing": known.enforcement, "quota": "used up" if used_up else ""})
