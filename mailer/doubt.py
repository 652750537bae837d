"""A recipient in doubt: SES may have accepted the message, and an event or the lane's policy tells what becomes of it."""

from __future__ import annotations

from datetime import UTC, datetime

from .message.email import Lane
from .settings import Policy, Settings

SINCE_S = 1.0  # the ledger keeps the time of a state in whole seconds, rounded down
POLICY_LATE_S = 60.0  # after the grace; what a worker has not done by then its own settings do not want, or no worker runs


def doubt_ends(settings: Settings, lane: Lane, since: datetime, expires_at: datetime | None) -> tuple[Policy, float]:
    """What becomes of it when no event comes, and for how many seconds more something may come of it at all."""
    now, policy = datetime.now(UTC), settings.unknown(lane)
    left_s = settings.unknown_grace_s + SINCE_S - (now - since).total_seconds()
    if policy is Policy.RESEND and expires_at is not None and (expires_at - now).total_seconds() <= max(0.0, left_s):
        policy = Policy.HOLD  # too late to be sent again
    return policy, left_s if policy is Policy.HOLD else left_s + POLICY_LATE_S
