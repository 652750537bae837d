"""A campaign is finished when nothing more of it will be sent, and not before; a retry says what it risks."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailer import Campaign, Mailer, Settings, State
from mailer.cli import campaign as campaign_command
from mailer.ledger import CampaignStatus, EventUpdate, LeasedChunk, Ledger
from mailer.message.email import Lane, Outcome
from mailer.settings import Policy
from mailer.simulator import Fault, Simulator
from mailer.simulator.faults import Kind
from worker import maintenance

from ..conftest import running_worker
from .test_ledger import LEASE_MS, MESSAGE_ID, SPEC, campaign, claim, counts, settled

WAITS = "waiting to hear of 1 recipient whom SES may have accepted; who is not heard of within MAILER_UNKNOWN_GRACE_S is "
SAYS = {"resend": WAITS + "sent to again", "assume_sent": WAITS + "taken for sent"}
UNDECIDED = ("resend", "assume_sent")


async def take(ledger: Ledger, id: str, policy: str, lease_ms: int = LEASE_MS) -> LeasedChunk:
    """As a worker whose bulk lane has this policy."""
    said: Mapping[Lane, str] = {Lane.TRANSACTIONAL: "hold", Lane.BULK: policy}
    work = await ledger.work.take(f"{id}-0", owner="me", lease_ms=lease_ms, doubt=said)
    assert isinstance(work, LeasedChunk)
    return work


async def in_doubt(ledger: Ledger, policy: str, expires_ms: int | None = None) -> str:
    """A campaign of three, of whom two are sent and SES has not answered for the third."""
    id = await campaign(ledger, 3, spec=replace(SPEC, expires_ms=expires_ms))
    work = await take(ledger, id, policy)
    await claim(ledger, work, 0, 1, 2)
    rows = [settled(n, Outcome.SENT, message_id=MESSAGE_ID.format(n)) for n in (0, 1)]
    await ledger.work.settle(work.chunk, [*rows, settled(2, Outcome.UNKNOWN, reason="no answer")])
    await ledger.work.release(work.chunk, fence=work.fence)
    return id


async def heard(ledger: Ledger, id: str, *positions: int) -> None:
    happened = [EventUpdate(n, 1, Outcome.SENT, MESSAGE_ID.format(n)) for n in positions]
    await ledger.work.hear({f"{id}-0": happened})


async def after_the_grace(ledger: Ledger, id: str, policy: str) -> int:
    return await ledger.work.settle_doubt(f"{id}-0", grace_ms=0, policy=policy, reason="assumed")


def told(status: CampaignStatus) -> tuple[State, str, bool]:
    return status.state, status.reason, status.over


FINISHED = (State.FINISHED, "", True)


async def test_where_the_lane_leaves_it_at_that_it_is_finished_with_somebody_in_doubt(ledger: Ledger) -> None:
    for policy in ("hold", ""):  # '': of a worker that says nothing
        id = await in_doubt(ledger, policy)
        assert told(await ledger.report.campaign(id)) == FINISHED
        assert await counts(ledger, id) == {"sent": 2, "unknown": 1}


@pytest.mark.parametrize("policy", UNDECIDED)
async def test_it_waits_while_somebody_is_in_doubt_and_an_event_finishes_it(ledger: Ledger, policy: str) -> None:
    id = await in_doubt(ledger, policy)
    status = await ledger.report.campaign(id)
    assert told(status) == (State.PARKED, SAYS[policy], False)
    assert (status.finished_at, status.left) == (None, 0)
    await heard(ledger, id, 0)  # of another one
    assert told(await ledger.report.campaign(id)) == (State.PARKED, SAYS[policy], False)
    await heard(ledger, id, 2)
    status = await ledger.report.campaign(id)
    assert told(status) == FINISHED
    assert status.finished_at is not None


async def test_who_is_sent_to_again_is_sent_to_before_it_is_finished(ledger: Ledger) -> None:
    id = await in_doubt(ledger, "resend")
    assert await after_the_grace(ledger, id, "resend") == 1
    assert told(await ledger.report.campaign(id)) == (State.RUNNING, "", False)
    work = await take(ledger, id, "resend")
    await claim(ledger, work, 2, attempt=2)
    await ledger.work.settle(work.chunk, [settled(2, Outcome.SENT, attempt=2, message_id=MESSAGE_ID.format(9))])
    assert told(await ledger.report.campaign(id)) == FINISHED
    assert await after_the_grace(ledger, id, "resend") == 0
    assert await counts(ledger, id) == {"sent": 3}


async def test_who_is_taken_for_sent_finishes_it(ledger: Ledger) -> None:
    id = await in_doubt(ledger, "assume_sent")
    assert await after_the_grace(ledger, id, "assume_sent") == 1
    assert told(await ledger.report.campaign(id)) == FINISHED
    assert await counts(ledger, id) == {"sent": 3}


async def test_a_late_answer_finishes_it(ledger: Ledger) -> None:
    id = await in_doubt(ledger, "resend")
    await ledger.work.settle(f"{id}-0", [settled(2, Outcome.SENT, message_id=MESSAGE_ID.format(2))])
    assert told(await ledger.report.campaign(id)) == FINISHED


async def test_a_claim_that_a_dead_worker_left_is_waited_for(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, id, "resend", lease_ms=1)
    await claim(ledger, work, 0)
    await asyncio.sleep(0.01)
    assert not isinstance(
        await ledger.work.take(f"{id}-0", owner="another", lease_ms=LEASE_MS, doubt={Lane.BULK: "resend"}), LeasedChunk
    )
    assert told(await ledger.report.campaign(id)) == (State.PARKED, SAYS["resend"], False)


async def test_what_is_not_sent_again_after_its_expiry_is_not_waited_for(ledger: Ledger) -> None:
    soon = int((datetime.now(UTC) + timedelta(seconds=0.3)).timestamp() * 1000)
    id = await in_doubt(ledger, "resend", soon)
    assert told(await ledger.report.campaign(id))[0] is State.PARKED
    await asyncio.sleep(0.35)
    assert await after_the_grace(ledger, id, "resend") == 0
    assert told(await ledger.report.campaign(id)) == FINISHED
    assert await counts(ledger, id) == {"sent": 2, "unknown": 1}


async def test_another_word_of_the_lane_is_taken_up(ledger: Ledger) -> None:
    id = await in_doubt(ledger, "resend")
    assert await after_the_grace(ledger, id, "hold") == 0
    assert told(await ledger.report.campaign(id)) == FINISHED


async def test_it_can_be_paused_resumed_and_cancelled_while_it_waits(ledger: Ledger) -> None:
    control, id = ledger.control, await in_doubt(ledger, "resend")
    assert await control.pause(id)
    assert (await ledger.report.campaign(id)).state is State.PAUSED
    assert (await control.resume(id)).changed
    assert told(await ledger.report.campaign(id)) == (State.PARKED, SAYS["resend"], False)
    assert await control.pause(id)
    await heard(ledger, id, 2)
    assert told(await ledger.report.campaign(id)) == FINISHED

    other = await in_doubt(ledger, "resend")
    assert await control.cancel(other)
    await control.count_out(other, chunks=10)
    assert (await ledger.report.campaign(other)).over
    await heard(ledger, other, 2)
    assert (await ledger.report.campaign(other)).state is State.CANCELLED
    assert await after_the_grace(ledger, other, "resend") == 0


async def test_somebody_may_send_again_at_once(ledger: Ledger) -> None:
    id = await in_doubt(ledger, "resend")
    assert (await ledger.control.retry(id, {Outcome.UNKNOWN}, 0, chunks=10)).recipients == 1
    assert told(await ledger.report.campaign(id)) == (State.RUNNING, "", False)


# ---- with workers ----------------------------------------------------------------------------------------------------

LETTER = Campaign(from_="news@example.com", template="letter")
LATER = "local function now_us() local t = redis.call('TIME') return (t[1] + 16 * 60) * 1000000 + t[2] end\n"


def rows(count: int) -> list[dict[str, str]]:
    return [{"email": f"u{number}@example.org", "name": "N"} for number in range(count)]


@pytest.mark.parametrize(("policy", "sent"), [(Policy.RESEND, 2), (Policy.ASSUME_SENT, 1), (Policy.HOLD, 1)])
async def test_nothing_is_sent_after_it_was_finished_though_workers_run_on(
    settings: Settings, ses: Simulator, policy: Policy, sent: int
) -> None:
    """SES accepts a call, and the connection breaks before it has answered."""
    ses.faults.set([Fault(kind=Kind.CUT_AFTER, operation="SendBulkEmail", nth=2)])
    own = settings.model_copy(update={"unknown_grace_s": 2.0, "unknown_bulk": policy})
    async with running_worker(own), Mailer(own) as mailer:
        id = await mailer.start_campaign(LETTER, rows(120))
        states = set[State]()
        async with asyncio.timeout(60):
            waiting = asyncio.create_task(mailer.wait(id, every_s=0.02))
            while not waiting.done():
                states.add((await mailer.campaign(id)).state)
                await asyncio.sleep(0.02)
        status = await waiting
        assert status.state is State.FINISHED
        assert (State.PARKED in states) is (policy is not Policy.HOLD)
        log = len(ses.log)
    async with running_worker(own, clock=LATER) as runtime, Mailer(own) as mailer:
        await maintenance.settle_doubts(runtime)
        await asyncio.sleep(1)
        assert (await mailer.campaign(id)).counts == status.counts
    assert len(ses.log) == log
    many = Counter(Counter(address for entry in ses.log for address in entry.recipients).values())
    assert many == ({1: 70, 2: 50} if sent == 2 else {1: 120})


# ---- a retry says what it risks --------------------------------------------------------------------------------------

RISK = "1 recipient is unknown: SES may have accepted the message already, so sending again may send it twice"


@pytest.fixture
async def doubtful(mailer: Mailer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MAILER_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("MAILER_NAMESPACE", settings.namespace)
    return await in_doubt(mailer._ledger, "hold")


async def test_a_program_is_told_what_a_retry_risks_and_asked_nothing(
    mailer: Mailer, doubtful: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(campaign_command.retry, doubtful, "failed,unknown")
    said = capsys.readouterr().err
    assert RISK in said
    assert "1 recipient will be sent to again" in said
    assert (await mailer.campaign(doubtful)).counts == {"sent": 2, "queued": 1}


async def test_who_only_failed_is_sent_to_without_a_word_of_risk(
    mailer: Mailer, doubtful: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(campaign_command.retry, doubtful, "failed")
    assert "twice" not in capsys.readouterr().err


CTRL_C = "\x03"


def on_a_terminal(answer: str, *words: str) -> tuple[int, str]:
    """Exit status, and what the terminal showed."""
    ours, theirs = pty.openpty()
    command = str(Path(sys.executable).parent / "mailer")
    process = subprocess.Popen([command, *words], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"})
    os.close(theirs)
    shown = b""
    try:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # it has ended
                break
            if not part:
                break
            shown += part
            if answer and b"[y/N]" in shown:
                if answer == CTRL_C:  # which the terminal would send to the process in front
                    process.send_signal(signal.SIGINT)
                else:
                    os.write(ours, f"{answer}\n".encode())
                answer = ""
        return process.wait(20), shown.decode()
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("answer", "words", "status", "queued"),
    [("n", (), 1, False), ("y", (), 0, True), ("\x04", (), 1, False), ("", ("--yes",), 0, True)],
    ids=["no", "yes", "Ctrl-D", "--yes"],
)
async def test_a_person_is_asked_before_somebody_may_get_it_twice(
    mailer: Mailer, doubtful: str, answer: str, words: tuple[str, ...], status: int, queued: bool
) -> None:
    command = ("campaign", "retry", doubtful, "--state", "unknown", *words)
    found, shown = await asyncio.to_thread(on_a_terminal, answer, *command)
    assert found == status, shown
    assert ("send to them again? [y/N]" in shown) is (words == ())
    assert RISK in " ".join(shown.split())
    assert ((await mailer.campaign(doubtful)).counts == {"sent": 2, "queued": 1}) is queued
    if status == 1:
        assert "nothing is sent again" in shown


async def test_ctrl_c_at_the_question_says_that_nothing_was_sent(
    mailer: Mailer, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAILER_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("MAILER_NAMESPACE", settings.namespace)
    for name, content in (("list.csv", "email\na@example.org\n"), ("body.txt", "Hello")):
        (tmp_path / name).write_text(content)
    words = ("--from", "news@example.com", "--subject", "Hi", "--text-file", str(tmp_path / "body.txt"))
    command = ("campaign", "start", "--recipients", str(tmp_path / "list.csv"), *words)
    found, shown = await asyncio.to_thread(on_a_terminal, CTRL_C, *command)
    assert found == 130
    assert "stopped; nothing was sent" in shown.splitlines()
    assert shown.count("stopped") == 1
    assert await mailer.campaigns() == []
