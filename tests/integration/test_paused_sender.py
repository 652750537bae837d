"""Sending that is paused for one tenant or sender: only its mail waits, and goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from mailer import Email, Mailer, Sender, Settings
from mailer.doctor import Patient, State, examine
from mailer.quota.state import AccountStates
from mailer.simulator import Simulator, SimulatorConfig
from worker import settle

from ..conftest import running_worker
from ..front import Answers, Asked, Front, Partly, Said, in_front_of, refuses
from .test_delivery import FROM, accepted, finished, letter, parked_with, rows, settled

TEXT = "Sending paused for this account. For more information, please check the inbox of the email address"


@pytest.fixture
def with_senders(settings: Settings) -> Settings:
    senders = {
        "acme": Sender(from_="acme@example.com", tenant="acme"),
        "plain": Sender(from_="plain@example.com"),
    }
    return settings.model_copy(update={"senders": senders, "account_refresh_s": 20})


@pytest.fixture
async def front(monkeypatch: pytest.MonkeyPatch, with_senders: Settings) -> AsyncIterator[Front]:
    simulator = Simulator(SimulatorConfig(max_send_rate=5000, max_24h=1_000_000, tenants=("acme",)))
    async with in_front_of(monkeypatch, simulator) as front, running_worker(with_senders):
        yield front


@pytest.fixture
async def mailer(with_senders: Settings) -> AsyncIterator[Mailer]:
    async with Mailer(with_senders) as mailer:
        yield mailer


def paused(address: str, code: str = "SendingPausedException", status: str = "ACCOUNT_SENDING_PAUSED") -> Answers:
    """SES refuses what comes from this address, in the words that it has for the account."""

    def answers(asked: Asked) -> Said | Partly | None:
        if not asked.sends or address not in asked.body["FromEmailAddress"]:
            return None
        if "BulkEmailEntries" in asked.body:
            return Partly([{"Status": status, "Error": TEXT}] * len(asked.messages))
        return refuses(code, TEXT)

    return answers


def message(*, from_: str | None = None, sender: str | None = None) -> Email:
    return Email(to="ana@example.org", subject="s", text="t", from_=from_, sender=sender)


@pytest.mark.parametrize("sender", ["acme", "plain"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SendingPausedException", "ACCOUNT_SENDING_PAUSED"),
        ("MessageRejected", "MESSAGE_REJECTED"),
        ("AccountSuspendedException", "ACCOUNT_SUSPENDED"),
    ],
)
async def test_a_paused_tenant_or_sender_holds_up_nobody_else(
    front: Front, mailer: Mailer, sender: str, code: str, status: str
) -> None:
    front.answers = paused(f"{sender}@example.com", code, status)
    campaign = await mailer.start_campaign(letter(from_=None, sender=sender), rows(200))
    await parked_with(mailer, campaign, f"SES refuses what {sender}@example.com")
    started = time.monotonic()
    for _ in range(3):
        assert (await settled(mailer, await mailer.send(message(from_=FROM)), 5)).state == "sent"
    assert (await finished(mailer, await mailer.start_campaign(letter(), rows(100)), 10)).counts == {"sent": 100}
    assert time.monotonic() - started < 10
    known = await AccountStates(mailer._ledger).load("eu-west-1")
    assert known is not None
    assert (known.sending_enabled, known.enforcement) == (True, "HEALTHY")
    assert (await mailer.campaign(campaign)).counts == {"queued": 200}
    found = await examine(Patient(settings=mailer.settings, senders=mailer.settings.senders))
    said = {one.check: (one.state, "though the account may send" in one.found) for one in found}
    assert said[f"sender {sender}"] == (State.WRONG, True)
    assert said["ses sending"] == (State.OK, False)
    front.answers = lambda _: None
    assert (await finished(mailer, campaign, 40)).counts == {"sent": 200}


async def test_messages_of_a_paused_sender_are_tried_one_at_a_time_and_go_on_together(
    front: Front, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 2.0)
    front.answers = paused("acme@example.com")
    ids = [await mailer.send(message(sender="acme")) for _ in range(60)]
    async with asyncio.timeout(10):
        while any(["though the account may send" not in (await mailer.status(id)).reason for id in ids]):
            await asyncio.sleep(0.05)
    before = len(front.asked)
    await asyncio.sleep(4)
    asked = front.asked[before:]
    assert 1 <= len([one for one in asked if one.sends]) <= 4
    assert len([one for one in asked if one.path == "/v2/email/account"]) <= 5
    front.answers = lambda _: None
    for id in ids:
        assert (await settled(mailer, id, 40)).state == "sent"
    assert accepted(front.simulator) == {"ana@example.org": 60}


async def test_an_account_that_is_paused_holds_up_everybody_and_says_so(front: Front, mailer: Mailer) -> None:
    assert (await settled(mailer, await mailer.send(message(from_=FROM)))).state == "sent"
    front.simulator.sending_enabled = False
    one = await mailer.send(message(from_=FROM))
    async with asyncio.timeout(10):
        while "paused" not in (await mailer.status(one)).reason:
            await asyncio.sleep(0.02)
    other = await mailer.send(message(sender="plain"))
    async with asyncio.timeout(10):
        while "paused for this SES account" not in (await mailer.status(other)).reason:
            await asyncio.sleep(0.02)
    assert len([asked for asked in front.asked if asked.sends]) == 2


async def test_an_account_that_does_not_answer_leaves_it_at_the_sender(front: Front, mailer: Mailer) -> None:
    pause = paused("acme@example.com")
    front.answers = lambda asked: refuses("InternalFailure", "", 500) if asked.path == "/v2/email/account" else pause(asked)
    id = await mailer.send(message(sender="acme"))
    async with asyncio.timeout(20):
        while "SES refuses what acme@example.com by tenant acme sends" not in (await mailer.status(id)).reason:
            await asyncio.sleep(0.02)
    assert (await settled(mailer, await mailer.send(message(from_=FROM)), 5)).state == "sent"
