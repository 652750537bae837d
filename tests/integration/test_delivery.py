"""From `Mailer` to what SES holds, through a whole worker: every refusal, and what becomes of each recipient."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from mailer import Attachment, Campaign, CampaignId, Email, Lane, Mailer, Outcome, Settings, State, compose
from mailer.errors import BrokenGzip, NotUtf8, TemplateBroken, UnknownSender
from mailer.ledger import CampaignStatus, MessageStatus
from mailer.ledger.records import MAX_ATTEMPTS, Record
from mailer.redis.client import RedisClient
from mailer.simulator import AccountChange, Fault, Kind, Simulator, SimulatorConfig, change_account
from mailer.simulator.refusals import Status
from mailer.simulator.state import ConfigurationSet
from worker import maintenance, settle
from worker.runtime import Runtime

from ..conftest import running_worker, simulated_ses

FROM = "Letter <letter@example.com>"


def rows(n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"email": f"u{i}@example.org", "name": f"Name {i}", **more} for i in range(n)]


def letter(**more: Any) -> Campaign:
    return Campaign(**{"name": "June", "from_": FROM, "template": "letter", **more})


async def finished(mailer: Mailer, id: str, within: float = 20) -> CampaignStatus:
    return await asyncio.wait_for(mailer.wait(CampaignId(id), every_s=0.02), within)


async def settled(mailer: Mailer, id: str, within: float = 20) -> MessageStatus:
    async with asyncio.timeout(within):
        while (status := await mailer.status(id)).state in ("queued", "claimed"):
            await asyncio.sleep(0.01)
    return status


async def until(mailer: Mailer, id: str, state: State, within: float = 20) -> CampaignStatus:
    async with asyncio.timeout(within):
        while (status := await mailer.campaign(id)).state is not state:
            await asyncio.sleep(0.02)
    return status


async def parked_with(mailer: Mailer, id: str, words: str, within: float = 20) -> CampaignStatus:
    async with asyncio.timeout(within):
        while (status := await mailer.campaign(id)).state is not State.PARKED or words not in status.reason:
            await asyncio.sleep(0.02)
    return status


def accepted(ses: Simulator) -> Counter[str]:
    """Address → how often SES accepted a message for it, by SES's own log."""
    return Counter(parseaddr(address)[1] for entry in ses.log for address in entry.recipients)


async def test_every_row_is_accepted_once_and_the_counts_add_up(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    source = [*rows(1234), {"email": "U7@EXAMPLE.org", "name": "again"}, {"email": "broken", "name": "x"}, {"name": "nobody"}]
    status = await finished(mailer, await mailer.start_campaign(letter(), source))
    assert status.counts == {"sent": 1234, "duplicate": 1, "rejected": 2}
    assert (status.rows, status.state) == (1237, State.FINISHED)
    assert accepted(ses) == {f"u{i}@example.org": 1 for i in range(1234)}


async def test_each_message_carries_its_own_content_and_the_id_of_its_attempt(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    id = await mailer.start_campaign(letter(tags={"kind": "june"}), rows(60, name="<Ana> & {{co}}"))
    await finished(mailer, id)
    lines = {line.to: line async for line in mailer.outcomes(id)}
    for entry in ses.log:
        message = ses.mailroom.get(entry.id)
        assert message is not None
        found = message.json()
        line = lines[entry.recipients[0]]
        assert (found["subject"], "&lt;Ana&gt; &amp; {{co}}" in found["html"]) == ("Hello <Ana> & {{co}}", True)
        assert "<Ana> & {{co}}" in found["text"]
        assert entry.tags == {"mailer_id": f"{line.id}-1", "kind": "june"}
        assert line.ses_message_id == entry.id


async def test_a_row_that_lacks_a_variable_fails_alone_and_names_it(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    source: list[dict[str, Any]] = [*rows(5), {"email": "lacks@example.org"}, *({"email": "w@example.org", "name": "w"},)]
    id = await mailer.start_campaign(letter(), source)
    assert (await finished(mailer, id)).counts == {"sent": 6, "failed": 1}
    (line,) = [line async for line in mailer.outcomes(id) if line.state == "failed"]
    assert (line.to, "'name'" in line.reason) == ("lacks@example.org", True)
    assert accepted(ses)["lacks@example.org"] == 0


async def test_a_value_of_several_lines_makes_one_line_of_subject(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    source = [*rows(3), {"email": "evil@example.org", "name": "x\r\nBcc: victim@example.org"}]
    id = await mailer.start_campaign(letter(), source)
    assert (await finished(mailer, id)).counts == {"sent": 4}
    assert accepted(ses)["victim@example.org"] == 0
    subjects = {message.json()["to"][0]: message.json()["subject"] for message in ses.mailroom}
    assert subjects["evil@example.org"] == "Hello x Bcc: victim@example.org"


async def test_a_transactional_message_is_sent_and_can_be_looked_up(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    email = Email(to="Ána <ana@example.org>", cc="b@example.org", from_=FROM, subject="Hi {{x}}", text="as it is: {{ y }}")
    status = await settled(mailer, await mailer.send(email))
    assert (status.state, status.mode, status.attempts) == ("sent", "simple", 1)
    message = ses.mailroom.get(status.ses_message_id or "")
    assert message is not None
    assert (message.json()["subject"], message.json()["text"]) == ("Hi {{x}}", "as it is: {{ y }}")
    assert accepted(ses) == {"ana@example.org": 1, "b@example.org": 1}


async def test_with_data_an_email_s_own_content_is_a_template(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    email = Email(to="a@example.org", from_=FROM, subject="Hi {{ n }}", html="<p>{{ n }}</p>", data={"n": "<b>"})
    status = await settled(mailer, await mailer.send(email))
    message = ses.mailroom.get(status.ses_message_id or "")
    assert message is not None
    assert (message.json()["subject"], message.json()["html"]) == ("Hi <b>", "<p>&lt;b&gt;</p>")


# ---- refusals -------------------------------------------------------------------------------------------------------


async def test_a_retryable_refusal_is_tried_again_and_counts_as_an_attempt(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    ses.faults.set([Fault(kind=Kind.ENTRY_STATUS, entry_status=Status.TRANSIENT_FAILURE, count=30)])
    id = await mailer.start_campaign(letter(), rows(100))
    assert (await finished(mailer, id)).counts == {"sent": 100}
    assert set(accepted(ses).values()) == {1}
    attempts = [line.attempts async for line in mailer.outcomes(id)]
    assert sum(attempts) == 130


async def test_what_stays_refused_fails_after_its_attempts_with_the_reason(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "BACKOFF_S", (0.01, 0.02))
    ses.faults.set([Fault(kind=Kind.ENTRY_STATUS, entry_status=Status.TRANSIENT_FAILURE, message="SES is tired")])
    id = await mailer.start_campaign(letter(), rows(3))
    assert (await finished(mailer, id, 60)).counts == {"failed": 3}
    lines = [line async for line in mailer.outcomes(id)]
    assert {(line.attempts, "tired" in line.reason) for line in lines} == {(settle.MAX_FAILURES, True)}


@pytest.mark.parametrize("kind", [Kind.CUT_AFTER, Kind.INTERNAL_ERROR, Kind.CUT_BEFORE])
async def test_an_answer_that_got_lost_leaves_those_recipients_unknown_and_sends_nobody_twice(
    runtime: Runtime, ses: Simulator, mailer: Mailer, kind: Kind
) -> None:
    ses.faults.set([Fault(kind=kind, operation="SendBulkEmail", nth=2)])
    id = await mailer.start_campaign(letter(), rows(200))
    status = await finished(mailer, id)
    assert status.counts == {"sent": 150, "unknown": 50}
    assert set(accepted(ses).values()) == {1}
    assert len(accepted(ses)) == (200 if kind is Kind.CUT_AFTER else 150)
    doubtful = [line async for line in mailer.outcomes(id) if line.state == "unknown"]
    assert all(line.reason for line in doubtful)


async def test_a_configuration_error_stops_the_campaign_once_and_keeps_its_recipients(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    id = await mailer.start_campaign(letter(from_="nobody@not-verified.example.com.invalid-host.net"), rows(2000))
    status = await until(mailer, id, State.STOPPED)
    assert "not verified" in status.reason
    async with asyncio.timeout(10):  # other chunks may be in the middle of a call
        while "claimed" in (await mailer.campaign(id)).counts:
            await asyncio.sleep(0.02)
    assert (await mailer.campaign(id)).counts == {"queued": 2000}
    assert len(ses.log) == 0


async def test_a_configuration_error_refuses_a_message_with_the_reason(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    email = Email(to="a@example.org", from_=FROM, subject="x", text="y", configuration_set="missing")
    status = await settled(mailer, await mailer.send(email))
    assert (status.state, "missing" in status.reason) == ("rejected", True)


async def test_the_send_rate_of_the_account_is_kept_and_nothing_is_throttled(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=100, max_24h=10_000)) as ses,
        running_worker(settings),
    ):
        status = await finished(mailer, await mailer.start_campaign(letter(), rows(300)))
        assert ses.counts["throttled"] == 0
        assert 60 < status.rate <= 105  # with the moments before its first message


async def test_a_rate_refusal_costs_no_attempt_that_counts_and_loses_nobody(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "RATE_PAUSE_S", 0.05)
    over = {"code": "TooManyRequestsException", "status": 429, "message": "Maximum sending rate exceeded."}
    ses.faults.set([Fault.model_validate({"kind": Kind.ERROR, "operation": "SendBulkEmail", "count": 12, **over})])
    id = await mailer.start_campaign(letter(), rows(50))
    assert (await finished(mailer, id, 60)).counts == {"sent": 50}


async def test_a_paused_account_parks_the_campaign_with_the_reason_and_goes_on_by_itself(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 0.2)
    ses.sending_enabled = False
    id = await mailer.start_campaign(letter(), rows(100))
    assert "paused" in (await until(mailer, id, State.PARKED)).reason
    ses.sending_enabled = True
    assert (await finished(mailer, id, 40)).counts == {"sent": 100}
    assert (await mailer.campaign(id)).reason == ""


async def test_a_daily_quota_that_ends_parks_the_campaign_and_nobody_is_lost(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 0.2)
    async with (
        simulated_ses(monkeypatch, SimulatorConfig(max_send_rate=2000, max_24h=120)) as ses,
        running_worker(settings),
    ):
        id = await mailer.start_campaign(letter(), rows(300))
        status = await until(mailer, id, State.PARKED)
        assert "24 h quota" in status.reason
        change_account(ses, AccountChange(max_24h=1000))
        assert (await finished(mailer, id, 60)).counts == {"sent": 300}
        assert set(accepted(ses).values()) == {1}


async def test_ses_that_is_not_there_is_waited_for_and_nothing_is_lost(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 0.2)
    monkeypatch.setattr("mailer.suppression.sync.RETRY_S", 0.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:9")
    async with running_worker(settings):
        id = await mailer.start_campaign(letter(), rows(10))
        status = await parked_with(mailer, id, "was not reached")
        assert status.counts == {"queued": 10}
    async with simulated_ses(monkeypatch, SimulatorConfig()) as ses, running_worker(settings):
        assert (await finished(mailer, id, 60)).counts == {"sent": 10}
        assert set(accepted(ses).values()) == {1}


async def test_missing_credentials_are_waited_for_with_the_reason(
    settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 0.2)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with running_worker(settings):
        id = await mailer.start_campaign(letter(), rows(10))
        await parked_with(mailer, id, "AWS credentials")
        message = await mailer.send(Email(to="a@example.org", from_=FROM, subject="x", text="y"))
        async with asyncio.timeout(20):
            while "AWS credentials" not in (await mailer.status(message)).reason:
                await asyncio.sleep(0.05)
        assert (await mailer.status(message)).state == "queued"


# ---- the queue ------------------------------------------------------------------------------------------------------


async def test_deleting_every_key_of_arq_loses_nothing(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.intake.handover.WAKE_PATIENCE_MS", 300)
    monkeypatch.setattr("worker.runtime.PATIENCE_MS", 300)
    monkeypatch.setattr(maintenance, "PATIENCE_MS", 300)
    change_account(ses, AccountChange(max_send_rate=1000))
    id, deleted = await mailer.start_campaign(letter(), rows(3000)), 0
    for _ in range(6):
        await asyncio.sleep(0.15)
        keys = [key async for key in runtime.redis.scan_iter(runtime.ledger.keys.of_arq("arq:*"))]
        deleted += len(keys)
        await runtime.redis.delete(runtime.ledger.keys.queue(letter().lane), *keys)
    assert deleted
    assert (await finished(mailer, id, 60)).counts == {"sent": 3000}
    assert set(accepted(ses).values()) == {1}


async def test_a_job_that_names_nonsense_does_no_harm(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    for chunk in ("c0-0", "nonsense", "m-1", "", "c0-x", "'; FLUSHALL"):
        await runtime.queue.wake(letter().lane, chunk)
    assert (await finished(mailer, await mailer.start_campaign(letter(), rows(10)))).counts == {"sent": 10}


async def test_several_campaigns_share_the_lane(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    change_account(ses, AccountChange(max_send_rate=1000))
    await maintenance.read_accounts(runtime)
    large = await mailer.start_campaign(letter(name="large"), rows(12_000))
    small = await mailer.start_campaign(letter(name="small"), rows(100))
    await finished(mailer, small)
    assert (await mailer.campaign(large)).counts["queued"] > 1000


# ---- lists that break -----------------------------------------------------------------------------------------------


async def test_a_list_that_breaks_half_way_sends_nothing_and_leaves_nothing(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    cyrillic = tmp_path / "cyrillic.csv"
    people = "".join(f"{'u' if i < 9000 else 'z'}{i}@example.org,{'x' if i < 9000 else 'Андрей'}\n" for i in range(9010))
    cyrillic.write_bytes(f"email,name\n{people}".encode("cp1251"))
    with pytest.raises(NotUtf8, match="line 9002"):
        await mailer.start_campaign(letter(), cyrillic)
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"\x1f\x8b\x08\x00nonsense")
    with pytest.raises(BrokenGzip):
        await mailer.start_campaign(letter(), broken)

    async def dies() -> AsyncIterator[dict[str, Any]]:
        for row in rows(9000):
            yield row
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        await mailer.start_campaign(letter(), dies())
    assert await mailer.campaigns() == []
    assert len(ses.log) == 0
    left = [key async for key in runtime.redis.scan_iter(f"{mailer.settings.namespace}:?:c*")]
    assert left == []


async def test_a_template_or_sender_that_is_wrong_stops_a_campaign_before_its_list_is_opened(
    mailer: Mailer, templates: Path
) -> None:
    (templates / "letter" / "body.html").write_text("{% if %}")
    with pytest.raises(TemplateBroken, match="line 1"):
        await mailer.start_campaign(letter(), Path("/nowhere/list.csv"))
    with pytest.raises(UnknownSender):
        await mailer.start_campaign(letter(from_=None, sender="news"), Path("/nowhere/list.csv"))


async def test_an_edit_of_the_template_does_not_change_a_campaign_that_runs(
    runtime: Runtime, ses: Simulator, mailer: Mailer, templates: Path
) -> None:
    id = await mailer.start_campaign(letter(), rows(20))
    (templates / "letter" / "subject.txt").write_text("changed")
    await finished(mailer, id)
    assert {ses.mailroom.get(e.id).json()["subject"][:5] for e in ses.log} == {"Hello"}  # type: ignore[union-attr]


async def test_a_campaign_whose_reader_died_is_given_up_with_a_reason(
    runtime: Runtime, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "INTAKE_DEAD_AFTER_S", 0.2)
    reached = asyncio.Event()

    async def stalls() -> AsyncIterator[dict[str, Any]]:
        for row in rows(5000):
            yield row
        reached.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(mailer.start_campaign(letter(), stalls()))
    await reached.wait()
    async with asyncio.timeout(20):
        while not (found := await mailer.campaigns()) or found[0].state is not State.CANCELLED:
            await asyncio.sleep(0.05)
    assert "start it again" in found[0].reason
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---- stopping -------------------------------------------------------------------------------------------------------


async def test_a_worker_that_is_stopped_leaves_nothing_claimed_and_the_next_goes_on(
    settings: Settings, ses: Simulator, mailer: Mailer
) -> None:
    change_account(ses, AccountChange(max_send_rate=1500))
    ses.faults.set([Fault(kind=Kind.LATENCY, seconds=0.1)])
    id = ""
    for _ in range(4):
        async with running_worker(settings):
            id = id or await mailer.start_campaign(letter(), rows(3000))
            await asyncio.sleep(0.5)
        counts = (await mailer.campaign(id)).counts
        assert counts.keys() <= {"queued", "sent"}
    async with running_worker(settings):
        started = time.monotonic()
        assert (await finished(mailer, id)).counts == {"sent": 3000}
        assert time.monotonic() - started < 15
    assert set(accepted(ses).values()) == {1}


def test_outcomes_have_the_words_of_the_contract() -> None:
    words = "queued claimed sent delivered bounced complained suppressed rejected failed duplicate expired cancelled unknown"
    assert [outcome.value for outcome in Outcome] == words.split()


async def test_an_error_that_nobody_foresaw_is_not_tried_again_at_once(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def broken(*_: Any, **__: Any) -> None:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError

    monkeypatch.setattr(runtime.ledger.work, "claim", broken)
    id = await mailer.send(Email(to="a@example.org", from_=FROM, subject="s", text="t"))
    async with asyncio.timeout(10):
        while not tries:
            await asyncio.sleep(0.01)
    await asyncio.sleep(1.5)
    assert tries == 1
    assert (await mailer.status(id)).state == "queued"


async def test_attempts_have_an_end(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.send(Email(to="a@example.org", from_=FROM, subject="s", text="t"))
    await settled(mailer, id)
    records = mailer._ledger.keys.records(f"{id}-0")
    await mailer._redis.set(records, Record(Outcome.QUEUED, attempts=MAX_ATTEMPTS).pack())
    redis: RedisClient = mailer._redis
    await redis.hset(mailer._ledger.keys.chunk(f"{id}-0"), "open", 1)
    await redis.hset(mailer._ledger.keys.container(id), mapping={"state": "running", "n:q": 1, "n:s": 0})
    await runtime.queue.wake(Lane.TRANSACTIONAL, f"{id}-0", 99)
    status = await settled(mailer, id)
    assert (status.state, status.reason) == ("failed", "given up after 65,535 attempts")


@pytest.mark.parametrize(
    ("set_name", "state", "words"), [("gone", "stopped", "SES has no configuration set"), ("news", "parked", "paused")]
)
async def test_a_configuration_set_that_is_not_there_or_paused_halts_the_campaign_with_one_reason(
    runtime: Runtime, ses: Simulator, mailer: Mailer, set_name: str, state: str, words: str
) -> None:
    ses.configuration_sets["news"] = ConfigurationSet("news", sending_enabled=False)
    id = await mailer.start_campaign(letter(configuration_set=set_name), rows(100))
    status = await until(mailer, id, State(state))
    assert (status.counts, words in status.reason) == ({"queued": 100}, True)


async def test_large_attachments_neither_stop_the_worker_nor_fill_its_memory(
    runtime: Runtime, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    planned = compose.plan

    def measured(*args: Any, **fields: Any) -> Any:
        found = planned(*args, **fields)
        held.append(sum(len(call.body) for call in found.calls))
        return found

    monkeypatch.setattr("worker.make.plan", measured)
    lag = 0.0

    async def watch() -> None:
        nonlocal lag
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            lag = max(lag, time.monotonic() - before)

    watcher = asyncio.create_task(watch())
    file = Attachment(name="a.bin", content=os.urandom(4_000_000))
    ids = [await mailer.start_campaign(letter(attachments=[file], mode=mode), rows(12)) for mode in ("auto", "raw")]
    for id in ids:
        assert (await finished(mailer, id, 60)).counts == {"sent": 12}
    watcher.cancel()
    assert max(held) < 3 * 4_000_000 * 4 / 3
    assert lag < 2
