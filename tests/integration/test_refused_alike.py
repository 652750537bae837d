"""Refusals that hold for more than the message, told as if they were about the message: nobody is lost to one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from mailer import Email, Mailer, Settings, State
from mailer.simulator import Simulator, SimulatorConfig
from worker import alike, settle

from ..conftest import running_worker
from ..front import Answers, Asked, Front, Partly, Said, in_front_of, refuses
from .test_delivery import FROM, accepted, finished, letter, parked_with, rows, settled, until


@pytest.fixture
async def front(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Front]:
    """A worker whose SES answers as the test says. What waits looks again soon."""
    monkeypatch.setattr(settle, "PARK_S", 0.3)
    monkeypatch.setattr(alike, "AGAIN_S", (0.05, 0.2))
    simulator = Simulator(SimulatorConfig(max_send_rate=5000, max_24h=1_000_000))
    async with in_front_of(monkeypatch, simulator) as front, running_worker(settings):
        yield front


def says(text: str, code: str = "MessageRejected", *, after: int = 0, when: Callable[[str], bool] = lambda _: True) -> Answers:
    """Answers that refuse each message, by call and by entry, after so many calls; only those to addresses that fit."""
    calls = 0

    def answers(asked: Asked) -> Said | Partly | None:
        nonlocal calls
        calls += asked.sends
        if not asked.sends or calls <= after:
            return None
        hit = [any(map(when, to)) for to in asked.messages]
        if "BulkEmailEntries" in asked.body:
            return Partly([{"Status": "MESSAGE_REJECTED", "Error": text} if one else None for one in hit])
        return refuses(code, text) if any(hit) else None

    return answers


@pytest.mark.parametrize(
    ("text", "reason", "mode"),
    [
        ("Sending paused for this account. For more information, please check the inbox", "paused", "bulk"),
        ("Your account's ability to send email has been paused.", "paused", "simple"),
        ("This account has been suspended.", "Support Center", "simple"),
        ("Daily message quota exceeded.", "24 h quota", "bulk"),
        ("24-hour sending quota exceeded", "24 h quota", "simple"),
        ("Something that nobody has heard of.", "Something that nobody has heard of", "bulk"),
        ("Something about request 0107-a1b2, at 12:07:31.", "Something about request", "simple"),
    ],
)
async def test_a_refusal_that_holds_for_all_parks_the_campaign_and_nobody_is_rejected(
    front: Front, mailer: Mailer, text: str, reason: str, mode: str
) -> None:
    front.answers = says(text, after=2)
    id = await mailer.start_campaign(letter(mode=mode), rows(400))
    await parked_with(mailer, id, reason)
    await asyncio.sleep(1)  # more looks at it
    counts = (await mailer.campaign(id)).counts
    assert (counts.keys() <= {"queued", "claimed", "sent"}, counts["sent"]) == (True, len(accepted(front.simulator)))
    front.answers = lambda _: None
    assert (await finished(mailer, id)).counts == {"sent": 400}
    assert set(accepted(front.simulator).values()) == {1}


OF_THE_ACCOUNT = [
    "Sending suspended for this account.",
    "Your ability to send email is currently paused.",
    "Amazon SES has temporarily paused your account's ability to send email.",
    "Sending quota exceeded.",
    "Message quota exceeded",
    "Maximum number of messages per day exceeded",
    "Maximum number of messages per second exceeded",
]


@pytest.mark.parametrize("text", OF_THE_ACCOUNT)
async def test_a_single_message_that_is_refused_for_the_account_waits_and_is_sent_once_when_it_may_be(
    front: Front, mailer: Mailer, text: str
) -> None:
    front.answers = says(text)
    id = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="s", text="t"))
    deadline = time.monotonic() + 10
    while sum(one.sends for one in front.asked) < 2:  # refused, and tried again
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    waiting = await mailer.status(id)
    assert waiting.state in ("queued", "claimed"), waiting
    front.answers = lambda _: None
    assert (await settled(mailer, id, 20)).state == "sent"
    assert accepted(front.simulator) == {"ana@example.org": 1}


async def test_a_single_message_that_is_refused_for_the_name_of_its_attachment_is_rejected(front: Front, mailer: Mailer) -> None:
    front.answers = says("Attachment type not allowed: account paused.pdf")
    id = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="s", text="t"))
    status = await settled(mailer, id)
    assert (status.state, status.attempts, "account paused.pdf" in (status.reason or "")) == ("rejected", 1, True)


@pytest.mark.parametrize(
    ("text", "rejected"),
    [("Address blacklisted", True), ("Missing final '@domain'", True), ("This one is not to my taste", False)],
)
@pytest.mark.parametrize("mode", ["bulk", "simple"])
async def test_rows_that_are_bad_for_their_own_sake_are_rejected_however_many_come_in_a_row(
    front: Front, mailer: Mailer, text: str, rejected: bool, mode: str
) -> None:
    """`rejected`: the text says that it is about one recipient; else the campaign waits until SES has accepted another one."""
    front.answers = says(text, when=lambda to: to.startswith("bad"))
    source = [*rows(30), *({"email": f"bad{i}@example.org", "name": "x"} for i in range(60)), *rows(130)[30:]]
    id = await mailer.start_campaign(letter(mode=mode), source)
    assert (await finished(mailer, id)).counts == {"sent": 130, "rejected": 60}
    lines = [line async for line in mailer.outcomes(id) if line.state == "rejected"]
    assert {(line.to[:3], text in line.reason) for line in lines} == {("bad", True)}
    assert set(accepted(front.simulator).values()) == {1}
    if rejected:
        assert {line.attempts for line in lines} == {1}


async def test_a_refusal_that_names_the_recipient_rejects_that_row_whatever_words_the_list_puts_into_it(
    front: Front, mailer: Mailer
) -> None:
    def answers(asked: Asked) -> Said | None:
        if not asked.sends or "u7@example.org" not in asked.messages[0]:
            return None
        return refuses("BadRequestException", "Invalid address: Sending paused for this account <u7@example.org>")

    front.answers = answers
    id = await mailer.start_campaign(letter(mode="simple"), rows(30))
    assert (await finished(mailer, id)).counts == {"sent": 29, "rejected": 1}


async def test_a_small_campaign_whose_recipients_are_all_refused_ends_and_can_be_retried(front: Front, mailer: Mailer) -> None:
    front.answers = says("Something that nobody has heard of.")
    id = await mailer.start_campaign(letter(), [*rows(5), {"email": "broken", "name": "x"}])
    status = await finished(mailer, id)
    assert (status.counts, status.state) == ({"rejected": 6}, State.FINISHED)
    front.answers = lambda _: None
    assert await mailer.retry(id, ["rejected"]) == 5
    assert (await finished(mailer, id)).counts == {"sent": 5, "rejected": 1}
    (line,) = [line async for line in mailer.outcomes(id) if line.state == "rejected"]
    assert (line.to, "@" in line.reason, line.attempts) == ("broken", True, 0)
    assert await mailer.retry(id, ["rejected"]) == 0


async def test_recipients_that_stay_refused_for_an_unknown_code_are_not_failed_by_the_thousand(
    front: Front, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "BACKOFF_S", (0.01, 0.02))
    front.answers = lambda asked: refuses("BrandNewException", "no more of it today") if asked.sends else None
    id = await mailer.start_campaign(letter(), rows(200))
    await parked_with(mailer, id, "no more of it today")
    front.answers = lambda _: None
    assert (await finished(mailer, id)).counts == {"sent": 200}


@pytest.mark.parametrize("mode", ["auto", "bulk"])
async def test_a_call_that_is_refused_whole_for_one_message_is_made_again_message_by_message(
    front: Front, mailer: Mailer, mode: str
) -> None:
    def answers(asked: Asked) -> Said | None:
        if asked.sends and any("u7@example.org" in to for to in asked.messages):
            return refuses("BadRequestException", "Something in it is not as it should be")
        return None

    front.answers = answers
    id = await mailer.start_campaign(letter(mode=mode), rows(60))
    assert (await finished(mailer, id)).counts == {"sent": 59, "rejected": 1}
    assert set(accepted(front.simulator).values()) == {1}


@pytest.mark.parametrize("mode", ["bulk", "simple"])
async def test_a_sending_pool_that_does_not_exist_stops_the_campaign_and_keeps_its_recipients(
    front: Front, mailer: Mailer, mode: str
) -> None:
    front.answers = says("The sending pool news-pool does not exist.", "BadRequestException", after=1)
    id = await mailer.start_campaign(letter(mode=mode), rows(200))
    status = await until(mailer, id, State.STOPPED)
    assert "give the configuration set an IP pool that exists" in status.reason
    front.answers = lambda _: None
    await mailer.resume(id)
    assert (await finished(mailer, id)).counts == {"sent": 200}


async def test_a_worker_that_dies_while_a_campaign_is_held_leaves_it_to_the_next(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 0.3)
    async with in_front_of(monkeypatch, Simulator(SimulatorConfig(max_send_rate=5000, max_24h=1_000_000))) as front:
        front.answers = says("Something that nobody has heard of.")
        async with running_worker(settings):
            id = await mailer.start_campaign(letter(), rows(100))
            await parked_with(mailer, id, "nobody has heard of")
        async with running_worker(settings):
            await asyncio.sleep(0.5)
            front.answers = lambda _: None
            assert (await finished(mailer, id)).counts == {"sent": 100}


async def test_while_a_campaign_is_held_few_of_its_recipients_are_tried_and_others_go_on(front: Front, mailer: Mailer) -> None:
    front.answers = says("Something that nobody has heard of.", when=lambda to: to.startswith("u"))
    id = await mailer.start_campaign(letter(mode="simple"), rows(2000))
    await parked_with(mailer, id, "nobody has heard of")
    other = await mailer.start_campaign(letter(), [{"email": f"v{i}@example.org", "name": "x"} for i in range(100)])
    message = await mailer.send(Email(to="w@example.org", from_=FROM, subject="s", text="t"))
    assert (await finished(mailer, other, 5)).counts == {"sent": 100}
    assert (await settled(mailer, message, 5)).state == "sent"
    await asyncio.sleep(0.5)
    before = len(front.asked)
    await asyncio.sleep(1.5)
    assert len([one for one in front.asked[before:] if one.sends]) <= 10 * alike.PROBES
