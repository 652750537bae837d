"""A campaign's status says why recipients do not get it, and how many, without a look into each chunk."""

from __future__ import annotations

from datetime import UTC, datetime

from mailer import Mailer, State
from mailer.ledger import Ledger
from mailer.message.email import Outcome
from mailer.simulator import Simulator
from mailer.suppression.check import check
from mailer.suppression.lists import NewEntry, Reason, SuppressionLists
from worker.runtime import Runtime

from .test_delivery import finished, letter
from .test_ledger import campaign, claim, settled, take

MISSING = "the template uses 'name', which this row does not have"


async def test_the_commonest_reason_comes_first_and_the_counts_are_those_of_the_list(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    rows = [{"email": f"u{i}@example.org"} for i in range(7)] + [{"email": "nobody", "name": "x"} for _ in range(3)]
    status = await finished(mailer, await mailer.start_campaign(letter(), [*rows, {"email": "a@example.org", "name": "Ana"}]))
    assert status.state is State.FINISHED
    assert next(iter(status.reasons.items())) == (MISSING, 7)
    assert sum(status.reasons.values()) == status.counts["failed"] + status.counts["rejected"] == 10


async def test_a_repeated_settle_counts_a_reason_once(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0")
    for _ in range(3):
        await ledger.work.settle(work.chunk, [settled(0, Outcome.FAILED, attempt=0, reason=MISSING)])
    assert (await ledger.report.campaign(id)).reasons == {MISSING: 1}


async def test_who_is_sent_to_again_is_not_counted_any_more(ledger: Ledger) -> None:
    id = await campaign(ledger, 3)
    work = await take(ledger, f"{id}-0")
    rows = [settled(position, Outcome.FAILED, attempt=0, reason=MISSING) for position in range(2)]
    await ledger.work.settle(work.chunk, [*rows, settled(2, Outcome.REJECTED, attempt=0, reason="no")])
    assert (await ledger.report.campaign(id)).reasons == {MISSING: 2, "no": 1}
    for _ in range(2):
        await ledger.control.retry(id, {Outcome.FAILED}, 0, chunks=1)
    assert (await ledger.report.campaign(id)).reasons == {"no": 1}


async def test_what_differs_from_row_to_row_is_left_out_of_a_reason(ledger: Ledger) -> None:
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0")
    why = "Email address is not verified: {} (try {} of 3)"
    rows = [settled(n, Outcome.REJECTED, attempt=0, reason=why.format(f"u{n}@example.org", n)) for n in range(2)]
    await ledger.work.settle(work.chunk, rows)
    assert (await ledger.report.campaign(id)).reasons == {"Email address is not verified: … (try … of …)": 2}


async def test_the_day_of_a_suppression_is_left_out_of_a_reason_and_the_sentence_stays_whole(ledger: Ledger) -> None:
    since = [datetime(2026, 1, 2, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC)]
    entries = [NewEntry(f"u{n}@example.org", Reason.MANUAL, "", day) for n, day in enumerate(since)]
    await SuppressionLists(ledger).add(entries)
    addresses = [entry.address for entry in entries]
    found = await check(ledger, account="eu-west-1", reasons=frozenset(), stream="", addresses=addresses, sync_s=60)
    assert found["u0@example.org"] == "it is on the suppression list since 2026-01-02 (reason: manual)"
    id = await campaign(ledger, 2)
    work = await take(ledger, f"{id}-0")
    rows = [settled(n, Outcome.SUPPRESSED, attempt=0, reason=why) for n, why in enumerate(found.values())]
    await ledger.work.settle(work.chunk, rows)
    assert (await ledger.report.campaign(id)).reasons == {"it is on the suppression list (reason: manual)": 2}


async def test_reasons_that_are_all_different_do_not_fill_redis(ledger: Ledger) -> None:
    id = await campaign(ledger, 300)
    work = await take(ledger, f"{id}-0")
    texts = [chr(0x4E00 + n) * 3 for n in range(300)]
    rows = [settled(n, Outcome.FAILED, attempt=0, reason=text) for n, text in enumerate(texts)]
    await ledger.work.settle(work.chunk, rows)
    status = await ledger.report.campaign(id)
    assert sum(status.reasons.values()) == 300
    assert next(iter(status.reasons.items())) == ("other reasons", 260)
    await ledger.control.retry(id, {Outcome.FAILED}, 0, chunks=1)
    assert (await ledger.report.campaign(id)).reasons == {}


async def test_a_claimed_recipient_that_ses_refuses_is_counted(ledger: Ledger) -> None:
    id = await campaign(ledger, 1)
    work = await take(ledger, f"{id}-0")
    await claim(ledger, work, 0)
    await ledger.work.settle(work.chunk, [settled(0, Outcome.REJECTED, reason="SES says no")])
    assert (await ledger.report.campaign(id)).reasons == {"SES says no": 1}
