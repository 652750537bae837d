"""What SES's own suppression list is still to be told: who bounced or complained, where SES does not put them there itself.

It is worked off beside the events, which do not wait for it: SES takes one such call a second, or about that. By one process
at a time; doing a part twice changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import orjson
import structlog
from redis.exceptions import RedisError

from mailer.errors import MailerError
from mailer.ledger import Route, Spec
from mailer.ses.refusals import Kind, classify_question
from mailer.suppression.lists import Reason
from mailer.suppression.writer import SES_REASON, SesRefused, SesWriter

from .runtime import Runtime

log = structlog.get_logger()

EVERY_S = 1.0
TOGETHER = 100
ROUND_S = 10.0  # after which another process may go on
TURN_MS = 30_000  # after which it may where the one whose turn it is has died
LATER_MS = 600_000  # what could not be written is tried again so much later, until Redis forgets the campaign


class Owed(NamedTuple):
    container: str  # the campaign or message that it is of: it names the account
    configuration_set: str  # its settings hold before the account's; empty: there was none
    reason: Reason
    address: str

    def pack(self) -> bytes:
        return orjson.dumps(tuple(self))

    @classmethod
    def unpack(cls, packed: bytes) -> Owed:
        container, configuration_set, reason, address = orjson.loads(packed)
        return cls(container, configuration_set, Reason(reason), address)


class _NotNow(Exception):
    """The text says why; all of the same way to SES waits."""


async def owe(runtime: Runtime, owed: Iterable[Owed]) -> None:
    """Note them, to be written when their turn comes. What is there already keeps its time."""
    if scores := {one.pack(): 0 for one in owed}:
        await runtime.redis.zadd(runtime.ledger.keys.owed, scores, nx=True)


async def pay(runtime: Runtime) -> None:
    """Write what is due, for ROUND_S at most."""
    redis, keys = runtime.redis, runtime.ledger.keys
    now = await runtime.ledger.now_ms()
    if not await redis.zcount(keys.owed, "-inf", now) or not await redis.set(keys.owed_turn, runtime.owner, nx=True, px=TURN_MS):
        return
    try:
        await _round(runtime, now)
    finally:
        await redis.delete(keys.owed_turn)


async def _round(runtime: Runtime, now: int) -> None:
    redis, key, clock = runtime.redis, runtime.ledger.keys.owed, asyncio.get_running_loop().time
    until, silent = clock() + ROUND_S, set[Route]()
    while found := await redis.zrangebyscore(key, "-inf", now, start=0, num=TOGETHER):
        groups = defaultdict[tuple[str, str], dict[bytes, Owed]](dict)
        for packed in found:
            one = Owed.unpack(packed)
            groups[one.container, one.configuration_set][packed] = one
        for (container, configuration_set), owed in groups.items():
            spec = await runtime.ledger.lifecycle.spec(container)
            if spec is None:  # it is forgotten, and with it whose account it was
                await redis.zrem(key, *owed)
                continue
            try:
                if spec.route in silent:
                    raise _NotNow
                its = await _open(runtime, spec, configuration_set)
                if not_ours := [packed for packed, one in owed.items() if SES_REASON[one.reason] in its.reasons]:
                    await redis.zrem(key, *not_ours)
                for packed in owed.keys() - set(not_ours):
                    if clock() > until:
                        return
                    await _write(its.both, owed[packed])
                    await redis.zrem(key, packed)
            except _NotNow as error:
                text = "SES's suppression list cannot be written to now; ours has the addresses"
                runtime.repeats.tell(log.warning, ("owed", spec.route), text, str(error), reason=str(error))
                silent.add(spec.route)
                await redis.zadd(key, dict.fromkeys(owed, now + LATER_MS), xx=True)


class _List(NamedTuple):
    both: SesWriter
    reasons: frozenset[str]  # for which SES writes itself


async def _open(runtime: Runtime, spec: Spec, configuration_set: str) -> _List:
    """Raises _NotNow."""
    try:
        ses_account = await runtime.ses_accounts.of(spec)
        reasons = (await ses_account.register.look_up_set(configuration_set)).suppressed_reasons if configuration_set else None
        if reasons is None:
            known = await runtime.accounts.load(ses_account.account)
            if known is None:
                raise _NotNow("the account's settings are not known yet")
            reasons = frozenset(known.suppressed_reasons)
    except (RedisError, OSError, _NotNow):
        raise
    except MailerError as error:
        raise _NotNow(str(error)) from None
    except Exception as error:
        raise _NotNow(classify_question(error).reason) from None
    return _List(
        SesWriter(runtime.suppressed, ses_account.account, ses_account.gateway, runtime.paces[ses_account.account]), reasons
    )


async def _write(both: SesWriter, owed: Owed) -> None:
    """Raises _NotNow."""
    try:
        await both.put(owed.address, owed.reason, unless_there=True)
    except SesRefused as error:
        if error.refusal.kind is not Kind.MESSAGE:
            raise _NotNow(error.refusal.reason) from None
        text = "SES does not take an address on its suppression list; ours has it"
        log.warning(text, code=error.refusal.code, reason=error.refusal.reason)
