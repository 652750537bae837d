"""`send_at`, `expires_at` and idempotency keys, through restarts and repeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mailer import Campaign, Email, Mailer, Settings, State
from mailer.errors import CampaignGone, InvalidEmail, KeyBusy, KeyReused
from mailer.intake import chunks as intake_module
from mailer.ledger import Ledger
from mailer.simulator import AccountChange, Simulator, change_account
from worker import maintenance
from worker.runtime import Runtime

from ..conftest import running_worker
from .test_delivery import accepted, finished, letter, rows, settled, until


def email(**more: Any) -> Email:
    return Email(**{"to": "ana@example.org", "from_": "a@example.com", "subject": "s", "text": "t", **more})


def in_(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


# ---- send_at -------------------------------------------------------------------------------------------------------


async def test_a_message_is_not_sent_before_its_time_and_soon_after_it(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    at = in_(1.5)
    id = await mailer.send(email(send_at=at))
    status = await mailer.status(id)
    assert (status.state, status.reason) == ("queued", f"to be sent at {at:%Y-%m-%dT%H:%M:%SZ}")
    await asyncio.sleep(1.0)
    assert len(ses.log) == 0
    assert (await settled(mailer, id)).state == "sent"
    assert 0 <= next(iter(ses.log)).at - at.timestamp() < 1.5


async def test_its_time_is_kept_when_the_queue_is_lost_and_every_worker_was_away(
    settings: Settings, ses: Simulator, mailer: Mailer, ledger: Ledger
) -> None:
    id = await mailer.send(email(send_at=in_(1)))
    campaign = await mailer.start_campaign(letter(send_at=in_(1)), rows(20))
    redis = mailer._redis
    async for key in redis.scan_iter(ledger.keys.of_arq("arq:*")):
        await redis.delete(key)
    await redis.delete(f"{settings.namespace}:queue:transactional", f"{settings.namespace}:queue:bulk")
    await asyncio.sleep(1.2)
    async with running_worker(settings):
        assert (await settled(mailer, id)).state == "sent"
        assert (await finished(mailer, campaign)).counts == {"sent": 20}


async def test_a_job_that_comes_too_early_sends_nothing(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.send(email(send_at=in_(3600)))
    for _ in range(3):
        await runtime.queue.wake(email().lane, f"{id}-0")
        await asyncio.sleep(0.2)
    assert len(ses.log) == 0
    assert (await mailer.status(id)).state == "queued"


async def test_a_campaign_waits_for_its_time_and_says_so(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.start_campaign(letter(send_at=in_(2.0)), rows(50))
    status = await mailer.campaign(id)
    assert (status.state, status.rows) == (State.PLANNED, 50)
    assert status.reason.startswith("to be sent at ")
    await maintenance.look_after_campaigns(runtime)
    assert len(ses.log) == 0
    done = await finished(mailer, id)
    assert (done.counts, done.reason) == ({"sent": 50}, "")


async def test_a_time_that_is_over_is_now(runtime: Runtime, mailer: Mailer) -> None:
    assert (await settled(mailer, await mailer.send(email(send_at=in_(-60))))).state == "sent"
    assert (await finished(mailer, await mailer.start_campaign(letter(send_at=in_(-60)), rows(3)))).counts == {"sent": 3}


async def test_what_is_sent_in_a_year_keeps_its_template_until_then(mailer: Mailer, settings: Settings) -> None:
    year = 365 * 86_400
    await mailer.send(email(template="letter", subject=None, text=None, data={"name": "Ana"}, send_at=in_(year)))
    await mailer.send(email(template="letter", subject=None, text=None, data={"name": "Ana"}))
    keys = [key async for key in mailer._redis.scan_iter(f"{settings.namespace}:content:*")]
    assert len(keys) == 1
    assert await mailer._redis.ttl(keys[0]) > year


# ---- expires_at ----------------------------------------------------------------------------------------------------


async def test_what_could_not_be_sent_in_time_is_expired_and_not_sent(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    change_account(ses, AccountChange(max_send_rate=20))
    await maintenance.read_accounts(runtime)
    id = await mailer.start_campaign(letter(expires_at=in_(2)), rows(700))
    status = await finished(mailer, id, 30)
    assert set(status.counts) == {"sent", "expired"}
    assert status.counts["sent"] == len(ses.log) < 100
    assert max(entry.at for entry in ses.log) <= in_(0).timestamp()
    lines = [line async for line in mailer.outcomes(id) if line.state == "expired"]
    assert {line.reason for line in lines} == {"it could not be handed to SES before its expires_at"}


async def test_a_message_that_waited_for_a_worker_for_too_long_is_expired(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    id = await mailer.send(email(expires_at=in_(0.3)))
    await asyncio.sleep(0.5)
    async with running_worker(settings):
        status = await settled(mailer, id)
    assert (status.state, status.attempts) == ("expired", 0)
    assert len(ses.log) == 0


async def test_an_end_that_is_over_already_is_a_mistake(mailer: Mailer) -> None:
    with pytest.raises(InvalidEmail, match="`expires_at` is in the past"):
        await mailer.send(email(expires_at=in_(-1)))
    with pytest.raises(InvalidEmail, match="later than `send_at`"):
        email(send_at=in_(10), expires_at=in_(5))
    with pytest.raises(InvalidEmail, match="needs a time zone"):
        email(send_at=datetime(2030, 1, 1))  # noqa: DTZ001


# ---- idempotency keys ----------------------------------------------------------------------------------------------


async def test_the_same_key_is_the_same_message_however_often_and_from_where(
    runtime: Runtime, ses: Simulator, mailer: Mailer, settings: Settings
) -> None:
    async with Mailer(settings) as other:
        ids = await asyncio.gather(*(one.send(email(), idempotency_key="signup-42") for one in [mailer, other] * 10))
    assert len(set(ids)) == 1
    await settled(mailer, ids[0])
    assert await mailer.send(email(), idempotency_key="signup-42") == ids[0]
    assert await mailer.send(email(), idempotency_key="signup-43") != ids[0]
    await asyncio.sleep(0.3)
    assert len(ses.log) == 2


async def test_other_content_under_the_same_key_is_an_error_that_names_the_first(mailer: Mailer) -> None:
    id = await mailer.send(email(), idempotency_key="k")
    for other in (email(text="u"), email(to="bob@example.org"), email(tags={"a": "b"})):
        with pytest.raises(KeyReused, match=f"'k' was used for {id}, which has other content"):
            await mailer.send(other, idempotency_key="k")


async def test_a_mime_message_that_is_written_anew_is_the_same_content(mailer: Mailer) -> None:
    def build(text: str = "t") -> Email:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@example.com", "ana@example.org", "s"
        message["Date"] = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S.%f +0000")
        message.set_content(text)
        message.add_alternative("<p>t</p>", subtype="html")  # with a boundary that is made up each time
        return Email(raw=message)

    assert build().raw != build().raw
    id = await mailer.send(build(), idempotency_key="k")
    assert await mailer.send(build(), idempotency_key="k") == id
    with pytest.raises(KeyReused):
        await mailer.send(build("other"), idempotency_key="k")


async def test_a_key_gives_its_message_also_when_that_could_not_be_sent_any_more(mailer: Mailer, templates: Path) -> None:
    late = email(expires_at=in_(0.5))
    other = email(subject=None, text=None, template="letter", data={"name": "Ana"})
    ids = [await mailer.send(late, idempotency_key="late"), await mailer.send(other, idempotency_key="gone")]
    (templates / "letter" / "body.html").unlink()
    await asyncio.sleep(0.6)
    assert [await mailer.send(late, idempotency_key="late"), await mailer.send(other, idempotency_key="gone")] == ids


async def test_the_same_key_and_list_are_the_same_campaign(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.start_campaign(letter(), rows(30), idempotency_key="june")
    assert await mailer.start_campaign(letter(), rows(30), idempotency_key="june") == id
    await finished(mailer, id)
    assert await mailer.start_campaign(letter(), rows(30), idempotency_key="june") == id
    await asyncio.sleep(0.2)
    assert len(ses.log) == 30
    for other, people in ((letter(name="July"), rows(30)), (letter(), rows(31))):
        with pytest.raises(KeyReused):
            await mailer.start_campaign(other, people, idempotency_key="june")
    assert len(await mailer.campaigns()) == 1


async def test_a_key_whose_list_is_still_being_read_says_so_and_is_free_when_nothing_came_of_it(mailer: Mailer) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[dict[str, str]]:
        yield {"email": "a@example.org", "name": "A"}
        reading.set()
        await go_on.wait()
        raise LookupError("the database went away")

    async def start() -> str:
        return await mailer.start_campaign(letter(), slow(), idempotency_key="k")

    # The first batch is read when the list is opened, so the rows in front fill one.
    async def many() -> AsyncIterator[dict[str, str]]:
        for row in rows(1000):
            yield row
        async for row in slow():
            yield row

    task = asyncio.create_task(mailer.start_campaign(letter(), many(), idempotency_key="k"))
    await asyncio.wait_for(reading.wait(), 5)
    with pytest.raises(KeyBusy):
        await mailer.start_campaign(letter(), rows(1), idempotency_key="k")
    go_on.set()
    with pytest.raises(LookupError):
        await task
    assert await mailer.start_campaign(letter(), rows(1), idempotency_key="k")


# ---- answers that got lost -----------------------------------------------------------------------------------------


async def test_a_queue_that_cannot_be_written_to_makes_it_later_and_is_no_error(
    settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RedisConnectionError("gone")

    monkeypatch.setattr(mailer._queue, "wake_all", broken)
    monkeypatch.setattr("mailer.intake.handover.WAKE_PATIENCE_MS", 300)
    message = await mailer.send(email())
    campaign = await mailer.start_campaign(letter(), rows(5))
    async with running_worker(settings):
        assert (await settled(mailer, message)).state == "sent"
        assert (await finished(mailer, campaign)).counts == {"sent": 5}
    assert set(accepted(ses).values()) == {1}


async def test_a_message_is_stored_once_when_the_answer_to_storing_it_got_lost(mailer: Mailer) -> None:
    spec, _ = mailer._specs.message(email())
    for _ in range(2):
        added = await mailer._ledger.intake.add_message("m00000000000000test", spec, keep_s=60, patience_ms=1000)
        assert (added.id, added.new) == ("m00000000000000test", True)
    assert await mailer._redis.zcard(mailer._ledger.keys.due) == 1


@pytest.mark.parametrize("error", [RedisConnectionError("lost"), asyncio.CancelledError()])
async def test_a_campaign_that_runs_is_not_taken_back_when_only_the_answer_got_lost(
    mailer: Mailer, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    start = mailer._ledger.intake.start_campaign

    async def answer_lost(*args: Any, **fields: Any) -> None:
        await start(*args, **fields)
        raise error

    monkeypatch.setattr(mailer._ledger.intake, "start_campaign", answer_lost)
    id = await mailer.start_campaign(letter(), rows(5))
    assert (await mailer.campaign(id)).counts == {"queued": 5}


async def test_a_list_that_is_read_slowly_is_not_taken_for_dead(
    runtime: Runtime, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "ALIVE_EVERY_S", 0.05)
    monkeypatch.setattr(maintenance, "INTAKE_DEAD_AFTER_S", 0.5)

    async def slow() -> AsyncIterator[dict[str, Any]]:
        for row in rows(1000):
            yield row
        await asyncio.sleep(1.5)
        yield {"email": "last@example.org", "name": "L"}

    id = await mailer.start_campaign(letter(), slow())
    assert (await finished(mailer, id)).counts == {"sent": 1001}


async def test_a_list_whose_reader_was_given_up_is_an_error_and_leaves_no_rows(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(maintenance, "INTAKE_DEAD_AFTER_S", 0.1)

    async def frozen() -> AsyncIterator[dict[str, Any]]:
        for row in rows(1000):
            yield row
        await asyncio.sleep(1.5)  # and says nothing: ALIVE_EVERY_S is ten seconds
        for row in rows(1000):
            yield {**row, "email": "x" + row["email"]}

    with pytest.raises(CampaignGone, match="was given up while its list was being read"):
        await mailer.start_campaign(letter(), frozen())
    assert len(ses.log) == 0
    assert [key async for key in mailer._redis.scan_iter(f"{settings.namespace}:[pksri]:c*")] == []


async def test_a_stopped_campaign_is_not_looked_at_any_more_and_is_forgotten_after_its_retention(
    runtime: Runtime, mailer: Mailer, settings: Settings
) -> None:
    id = await mailer.start_campaign(letter(from_="nobody@unverified.example.org"), rows(1200))
    await until(mailer, id, State.STOPPED)
    async with asyncio.timeout(10):
        while await mailer._redis.zcard(mailer._ledger.keys.due):
            await maintenance.reap(runtime)
            await asyncio.sleep(0.1)
    await maintenance.look_after_campaigns(runtime)
    keys = [key async for key in mailer._redis.scan_iter(f"{settings.namespace}:*{id}*")]
    assert keys
    assert all([0 < await mailer._redis.ttl(key) <= settings.retention_s for key in keys])


def test_a_campaign_needs_no_key() -> None:
    assert Campaign(name="June", from_="a@example.com", template="letter").mode == "auto"
