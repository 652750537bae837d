"""The gate: may this sender send, by which configuration set, and to whom? Asked before anything is handed to SES.

What is said here costs no attempt. What cannot be known is waited for, and what is not let through is never sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from mailer.compose.message_builder import recipients
from mailer.errors import MailerError, NotKnown
from mailer.identities import sandbox, sender
from mailer.ids import container_of, is_message
from mailer.message.address import bare
from mailer.message.email import Outcome
from mailer.quota.gate import REASONS, AdmissionStatus
from mailer.suppression import check as suppression
from mailer.tasks import to_the_end

from . import settle
from .runtime import Runtime
from .settle import LeaseContext


async def gated(runtime: Runtime, context: LeaseContext) -> bool:
    """Settle those of the chunk who may not be sent to; False where nothing of it may be sent now."""
    context.gated_at = time.monotonic()
    if not context.queued or context.expired():
        return True  # there is nothing to wait for
    try:
        admitted = await sender.admit(context.ses_account.register, context.work.spec, _holds(runtime, context))
        if admitted is None:
            await _wait_for_the_account(runtime, context)
            return False
        context.configuration_set, context.turn = admitted.configuration_set, admitted.glance.turn
        if admitted.configuration_set and admitted.set_state is not None and not admitted.set_state.sending_enabled:
            await settle.park(runtime, context, settle.set_paused(admitted.configuration_set))
            return False
        if not admitted.glance.production:
            await _reject_unverified(runtime, context)
        await _leave_out_suppressed(runtime, context, admitted.reasons)
    except NotKnown as error:
        again_s = error.fields.get("again_s")
        await settle.park(runtime, context, str(error) if again_s else f"waiting: {error}", again_s)
        return False
    except MailerError as error:
        await settle.stop(runtime, context, str(error))
        return False
    return True


def _holds(runtime: Runtime, context: LeaseContext) -> tuple[str, ...]:
    chunk = context.work.chunk
    found = [runtime.holds.sender(context.ses_account.account, context.work.spec)]
    if not is_message(chunk):
        found.append(runtime.holds.campaign(container_of(chunk)))
    context.holds = tuple(found)
    return context.holds


async def _wait_for_the_account(runtime: Runtime, context: LeaseContext) -> None:
    why = await runtime.accounts.why_stale(context.ses_account.account)
    await settle.park(runtime, context, f"waiting: {why}" if why else REASONS[AdmissionStatus.STALE])
    context.delay_s = settle.STALE_S


async def _reject_unverified(runtime: Runtime, context: LeaseContext) -> None:
    """SES refuses a message whole where one of its recipients is not verified."""
    mailboxes = _mailboxes(context)
    found = await sandbox.unverified(context.ses_account.register, (one for each in mailboxes.values() for one in each))
    refused = {}
    for position, each in mailboxes.items():
        if why := next((found[one] for one in each if one in found), None):
            refused[position] = why
    await _settle(runtime, context, refused, Outcome.REJECTED)


async def _leave_out_suppressed(runtime: Runtime, context: LeaseContext, reasons: frozenset[str]) -> None:
    """Of a message to several, the others get it."""
    mailboxes = _mailboxes(context)
    addresses = {one: bare(one) for each in mailboxes.values() for one in each}
    if not addresses:
        return
    try:
        found = await suppression.check(
            runtime.ledger,
            account=context.ses_account.account,
            reasons=reasons,
            stream=context.work.spec.stream,
            addresses=list(dict.fromkeys(addresses.values())),
            sync_s=runtime.settings.suppression_sync_s,
        )
    except ValueError as error:  # then nobody knows
        raise NotKnown(why=str(error)) from None
    if not found:
        return
    suppressed = dict[int, str]()
    for position, each in mailboxes.items():
        left_out = {one: why for one in each if (why := found.get(addresses[one])) is not None}
        if len(left_out) == len(each):
            suppressed[position] = left_out[each[0]]
        elif left_out:
            context.left_out[position] = left_out
    await _settle(runtime, context, suppressed, Outcome.SUPPRESSED)


def _mailboxes(context: LeaseContext) -> dict[int, tuple[str, ...]]:
    """Position → all whom its message is for, To, Cc and Bcc, each once."""
    spec, entries = context.work.spec, context.work.entries
    found = dict[int, tuple[str, ...]]()
    for position in context.queued:
        to, cc, bcc = recipients(spec, entries[position])
        found[position] = to if not cc and not bcc and len(to) < 2 else tuple(dict.fromkeys((*to, *cc, *bcc)))
    return found


async def _settle(runtime: Runtime, context: LeaseContext, reasons: Mapping[int, str], outcome: Outcome) -> None:
    """What is settled here was not handed to SES, so it costs no attempt."""
    if not reasons:
        return
    context.queued = [position for position in context.queued if position not in reasons]
    rows = [context.settlement(position, context.attempts[position], outcome, reason=why) for position, why in reasons.items()]
    await to_the_end(settle.settle(runtime, context, rows))
