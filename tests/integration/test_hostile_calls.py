"""Whatever a call that asks Redis is given, only a MailerError comes out, and Redis is asked nothing that it could not be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mailer import Campaign, Email, Mailer, MailerError, Settings, SyncMailer

from ..unit.test_fields import WHOLE
from ..unit.test_hostile import VALUES, numbers, told

ROW = {"email": "ana@example.org"}
EMAIL, CAMPAIGN = Email(**WHOLE[Email]), Campaign(**WHOLE[Campaign])


async def every(lines: AsyncIterator[object]) -> None:
    async for _ in lines:
        pass


CALLS: dict[str, Callable[[Mailer, Any], Awaitable[object]]] = {
    "send": lambda mailer, value: mailer.send(value),
    "send key": lambda mailer, value: mailer.send(EMAIL, idempotency_key=value),
    "start_campaign": lambda mailer, value: mailer.start_campaign(value, [ROW]),
    "start_campaign recipients": lambda mailer, value: mailer.start_campaign(CAMPAIGN, value),
    "start_campaign row": lambda mailer, value: mailer.start_campaign(
        CAMPAIGN, [{"email": "ana@example.org", "x": value}, value]
    ),
    "start_campaign key": lambda mailer, value: mailer.start_campaign(
        CAMPAIGN, [{"email": "a@b.example"}], idempotency_key=value
    ),
    "status": lambda mailer, value: mailer.status(value),
    "campaign": lambda mailer, value: mailer.campaign(value),
    "campaigns": lambda mailer, value: mailer.campaigns(value),
    "outcomes": lambda mailer, value: every(mailer.outcomes(value)),
    "outcomes states": lambda mailer, value: every(mailer.outcomes("c00000000000000000", states=value)),
    "outcome": lambda mailer, value: mailer.outcome(value),
    "wait": lambda mailer, value: mailer.wait(value),
    "wait every": lambda mailer, value: mailer.wait("c00000000000000000", every_s=value),
    "pause": lambda mailer, value: mailer.pause(value),
    "resume": lambda mailer, value: mailer.resume(value),
    "reschedule": lambda mailer, value: mailer.reschedule(value, "2026-12-24 09:00 Europe/Berlin"),
    "reschedule time": lambda mailer, value: mailer.reschedule("c00000000000000000", value),
    "cancel": lambda mailer, value: mailer.cancel(value),
    "retry": lambda mailer, value: mailer.retry(value, "failed"),
    "retry states": lambda mailer, value: mailer.retry("c00000000000000000", value),
    "retry template": lambda mailer, value: mailer.retry("c00000000000000000", "failed", template=value),
    "explain_campaign": lambda mailer, value: mailer.explain_campaign(CAMPAIGN, value),
    "suppress": lambda mailer, value: mailer.suppress(value),
    "suppress reason": lambda mailer, value: mailer.suppress("ana@example.org", reason=value),
    "suppress stream": lambda mailer, value: mailer.suppress("ana@example.org", stream=value),
    "unsuppress": lambda mailer, value: mailer.unsuppress(value),
    "suppressed": lambda mailer, value: mailer.suppressed(value),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_hostile_argument_is_refused_in_a_sentence_or_taken(mailer: Mailer, name: str) -> None:
    of_a_list = name in ("start_campaign recipients", "explain_campaign", "outcomes states", "retry states")
    for value in VALUES:
        if of_a_list and callable(getattr(value, "__next__", None)):
            value = numbers()  # those of the list are used up
        try:
            await CALLS[name](mailer, value)
        except MailerError as error:
            told(error)
        except RuntimeError as error:
            assert of_a_list
            assert str(error) == "half-way"  # noqa: PT017


def test_a_sync_mailer_refuses_the_same(settings: Settings) -> None:
    with SyncMailer(settings) as sync:
        for value in VALUES:
            for call in (sync.send, sync.status, sync.pause, lambda one: list(sync.outcomes(one)), sync.suppress):
                try:
                    call(value)
                except MailerError as error:
                    told(error)
