"""How long something may still come of a message in doubt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mailer import Lane, Settings
from mailer.doubt import doubt_ends
from mailer.settings import Policy

HOLDS = Settings(unknown_grace_s=10, unknown_transactional=Policy.HOLD)


def test_the_whole_grace_is_waited_for_though_the_ledger_keeps_whole_seconds() -> None:
    as_kept = datetime.now(UTC) - timedelta(seconds=10.2)  # of a state that may be as young as 9.2 s
    policy, left_s = doubt_ends(HOLDS, Lane.TRANSACTIONAL, as_kept, None)
    assert (policy, left_s > 0) == (Policy.HOLD, True)


def test_what_is_held_is_given_up_soon_after_the_grace() -> None:
    assert doubt_ends(HOLDS, Lane.TRANSACTIONAL, datetime.now(UTC) - timedelta(seconds=11.1), None)[1] <= 0
