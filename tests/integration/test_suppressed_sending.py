"""The suppression list in the worker: whoever is on it when their chunk is checked is not handed to SES."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mailer import Email, Mailer, Settings
from mailer.simulator import Fault, Kind, Simulator, SimulatorConfig
from mailer.suppression import check as suppression
from mailer.suppression.lists import NewEntry, Reason, SesEntry
from worker import deliver, settle
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses
from .test_delivery import accepted, finished, letter, parked_with, rows, settled

ACCOUNT = "eu-west-1"


async def test_our_own_list_and_ses_list_are_kept_to_and_say_why(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    await mailer.suppress("U3@EXAMPLE.org", reason=Reason.COMPLAINT)
    await runtime.suppressed.listed(ACCOUNT, [SesEntry("U5@example.org", "BOUNCE", datetime.now(UTC))])
    id = await mailer.start_campaign(letter(), rows(700))
    assert (await finished(mailer, id)).counts == {"sent": 698, "suppressed": 2}
    assert not {"u3@example.org", "u5@example.org"} & accepted(ses).keys()
    lines = {line.to: line async for line in mailer.outcomes(id) if line.state == "suppressed"}
    assert "its owner complained" in lines["u3@example.org"].reason
    assert "the suppression list of SES" in lines["u5@example.org"].reason
    assert {line.attempts for line in lines.values()} == {0}


async def test_a_message_to_somebody_on_the_list_is_suppressed_and_the_quota_is_not_touched(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    await mailer.suppress("ana@example.org")
    email = Email(to="Ana <ana@example.org>", from_="a@example.com", subject="Hi", text="Hi")
    assert (await settled(mailer, await mailer.send(email))).state == "suppressed"
    assert not ses.log
    known = await runtime.accounts.load(ACCOUNT)
    assert known is not None
    assert known.used_24h == 0


async def test_whoever_is_added_while_a_campaign_runs_is_not_sent_to_after_the_next_check_of_their_chunk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer
) -> None:
    monkeypatch.setattr(deliver, "SLICE_S", 0.5)  # so that chunks are checked several times while they are sent
    checked: list[tuple[float, frozenset[str]]] = []
    check = suppression.check

    async def watched(ledger: Any, *, addresses: Sequence[str], **more: Any) -> dict[str, str]:
        began = time.time()
        found = await check(ledger, addresses=addresses, **more)
        checked.append((began, frozenset(addresses)))
        return found

    monkeypatch.setattr(suppression, "check", watched)
    everybody, added = [f"u{i}@example.org" for i in range(3000)], dict[str, float]()
    dice = random.Random(1)
    async with simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=400, max_24h=-1)) as ses:
        async with running_worker(settings) as runtime:
            id = await mailer.start_campaign(letter(), rows(3000))
            while (await mailer.campaign(id)).state != "finished":
                some = [address for address in dice.sample(everybody, 20) if address not in added]
                entries = [SesEntry(address.upper(), "BOUNCE", datetime.now(UTC)) for address in some[:10]]
                await runtime.suppressed.listed(ACCOUNT, entries)
                await runtime.suppressed.add([NewEntry(address, Reason.MANUAL) for address in some[10:]])
                added |= dict.fromkeys(some, time.time())
                await asyncio.sleep(0.05)
            counts = (await mailer.campaign(id)).counts
        sent = {address: entry.at for entry in ses.log for address in entry.recipients}
    assert counts["suppressed"] > 100
    assert counts["sent"] + counts["suppressed"] == 3000
    assert len(sent) == counts["sent"]
    late = [
        address
        for address, at in sent.items()
        if address in added and any(added[address] < began and began < at and address in those for began, those in checked)
    ]
    assert late == []


async def test_a_chunk_that_takes_long_is_checked_again_while_it_is_sent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mailer: Mailer
) -> None:
    monkeypatch.setattr(deliver, "SLICE_S", 30.0)
    account = SimulatorConfig(max_send_rate=60, max_24h=-1)
    async with simulated_ses(monkeypatch, account) as ses, running_worker(settings) as runtime:
        id = await mailer.start_campaign(letter(), rows(500))
        async with asyncio.timeout(10):
            while len(ses.log) < 30:
                await asyncio.sleep(0.02)
        everybody = [NewEntry(f"u{i}@example.org", Reason.MANUAL) for i in range(500)]
        await runtime.suppressed.add(everybody)
        sent = len(ses.log)
        counts = (await finished(mailer, id, 30)).counts
    assert counts["sent"] + counts["suppressed"] == 500
    assert counts["sent"] <= sent + 60 * 4, "it would take six seconds more to send it all"


async def test_without_an_answer_nothing_is_sent_and_the_chunk_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ses: Simulator, mailer: Mailer
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 0.2)
    monkeypatch.setattr(deliver, "ERROR_PAUSE_S", 0.2)
    broken = [RedisConnectionError("gone"), ValueError("an entry of the suppression list cannot be read: 'm'"), None]
    check = suppression.check

    async def failing(*args: Any, **more: Any) -> dict[str, str]:
        if (error := broken[0]) is not None:
            raise error
        return await check(*args, **more)

    monkeypatch.setattr(suppression, "check", failing)
    denied: Any = {"code": "AccessDeniedException", "status": 403, "message": "User is not authorized to perform: x"}
    ses.faults.set([Fault(kind=Kind.ERROR, operation="ListSuppressedDestinations", **denied)])
    async with running_worker(settings.model_copy(update={"suppression_sync_s": 1})):
        id = await mailer.start_campaign(letter(), rows(20))
        await asyncio.sleep(0.7)
        broken.pop(0)
        await parked_with(mailer, id, "waiting: an entry of the suppression list cannot be read: 'm'")
        assert not ses.log
        broken.pop(0)
        await parked_with(mailer, id, "the suppression list of SES cannot be read: User is not authorized")
        assert not ses.log
        ses.faults.set([])
        assert (await finished(mailer, id, 90)).counts == {"sent": 20}
