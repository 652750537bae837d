"""The gate: may this sender send, by which configuration set, and to whom? Asked before anything is handed to SES.

What is said here costs no attempt. What cannot be known is waited for, and what is not let through is never sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from mailer.address import bare
from mailer.compose.material import recipients
from mailer.email import Outcome
from mailer.errors import MailerError, NotKnown
from mailer.gates import sandbox, sender, suppression
from mailer.gates.quota import REASONS, Verdict
from mailer.ids import container_of, is_message
from mailer.tasks import to_the_end

from . import settle
from .runtime import Runtime
from .settle import Shift


async def gated(runtime: Runtime, shift: Shift) -> bool:
    """Settle those of the chunk who may not be sent to; False where nothing of it may be sent now."""
    shift.gated_at = time.monotonic()
    if not shift.queued or shift.expired():
        return True  # there is nothing to wait for
    try:
        admitted = await sender.admit(shift.reach.register, shift.work.spec, _holds(runtime, shift))
        if admitted is None:
            await _wait_for_the_account(runtime, shift)
            return False
        shift.configuration_set, shift.turn = admitted.configuration_set, admitted.glance.turn
        if admitted.configuration_set and admitted.set_state is not None and not admitted.set_state.sending_enabled:
            await settle.park(runtime, shift, settle.set_paused(admitted.configuration_set))
            return False
        if not admitted.glance.production:
            await _reject_unverified(runtime, shift)
        await _leave_out_suppressed(runtime, shift, admitted.reasons)
    except NotKnown as error:
        again_s = error.fields.get("again_s")
        await settle.park(runtime, shift, str(error) if again_s else f"waiting: {error}", again_s)
        return False
    except MailerError as error:
        await settle.stop(runtime, shift, str(error))
        return False
    return True


def _holds(runtime: Runtime, shift: Shift) -> tuple[str, ...]:
    chunk = shift.work.chunk
    found = [runtime.holds.sender(shift.reach.account, shift.work.spec)]
    if not is_message(chunk):
        found.append(runtime.holds.campaign(container_of(chunk)))
    shift.holds = tuple(found)
    return shift.holds


async def _wait_for_the_account(runtime: Runtime, shift: Shift) -> None:
    why = await runtime.accounts.why_stale(shift.reach.account)
    await settle.park(runtime, shift, f"waiting: {why}" if why else REASONS[Verdict.STALE])
    shift.delay_s = settle.STALE_S


async def _reject_unverified(runtime: Runtime, shift: Shift) -> None:
    """SES refuses a message whole where one of its recipients is not verified."""
    mailboxes = _mailboxes(shift)
    found = await sandbox.unverified(shift.reach.register, (one for each in mailboxes.values() for one in each))
    refused = {}
    for position, each in mailboxes.items():
        if why := next((found[one] for one in each if one in found), None):
            refused[position] = why
    await _settle(runtime, shift, refused, Outcome.REJECTED)


async def _leave_out_suppressed(runtime: Runtime, shift: Shift, reasons: frozenset[str]) -> None:
    """Of a message to several, the others get it."""
    mailboxes = _mailboxes(shift)
    addresses = {one: bare(one) for each in mailboxes.values() for one in each}
    if not addresses:
        return
    try:
        found = await suppression.check(
            runtime.ledger,
            account=shift.reach.account,
            reasons=reasons,
            stream=shift.work.spec.stream,
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
            shift.left_out[position] = left_out
    await _settle(runtime, shift, suppressed, Outcome.SUPPRESSED)


def _mailboxes(shift: Shift) -> dict[int, tuple[str, ...]]:
    """Position → all whom its message is for, To, Cc and Bcc, each once."""
    spec, entries = shift.work.spec, shift.work.entries
    found = dict[int, tuple[str, ...]]()
    for position in shift.queued:
        to, cc, bcc = recipients(spec, entries[position])
        found[position] = to if not cc and not bcc and len(to) < 2 else tuple(dict.fromkeys((*to, *cc, *bcc)))
    return found


async def _settle(runtime: Runtime, shift: Shift, reasons: Mapping[int, str], outcome: Outcome) -> None:
    """What is settled here was not handed to SES, so it costs no attempt."""
    if not reasons:
        return
    shift.queued = [position for position in shift.queued if position not in reasons]
    rows = [shift.settlement(position, shift.attempts[position], outcome, reason=why) for position, why in reasons.items()]
    await to_the_end(settle.settle(runtime, shift, rows))
