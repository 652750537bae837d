"""A campaign that went wrong is put right: another time, another template, its report as the next list."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailer import Campaign, InvalidState, Mailer, Outcome, State
from mailer.cli import output
from mailer.data import plain
from mailer.errors import ExpiresFirst, InvalidEmail, NotACampaign, NoTemplate, NotFound, TemplateNotFound, WrongState
from mailer.ledger import RecipientStatus
from mailer.recipients import Recipient
from mailer.recipients.blocks import ByteSource
from mailer.recipients.csv_rows import csv_rows
from mailer.recipients.reading import AS_IT_IS
from mailer.recipients.reserved import Reserved
from mailer.simulator import Simulator
from worker.runtime import Runtime

from .test_delivery import FROM, accepted, finished, letter, rows, until

SOON = timedelta(seconds=1.2)
LATER = timedelta(hours=2)


def in_(delta: timedelta) -> datetime:
    return datetime.now(UTC) + delta


# ---- another time ----------------------------------------------------------------------------------------------------


async def test_a_scheduled_campaign_is_sent_at_its_new_time(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.start_campaign(letter(send_at=in_(LATER)), rows(5))
    moment = in_(SOON)
    for _ in range(2):
        await mailer.reschedule(id, moment)
    status = await mailer.campaign(id)
    assert (status.state, status.reason) == (State.PLANNED, f"to be sent at {moment:%Y-%m-%dT%H:%M:%SZ}")
    status = await finished(mailer, id)
    assert status.counts == {"sent": 5}
    assert status.finished_at is not None
    assert status.finished_at >= moment


async def test_a_campaign_that_was_to_be_sent_soon_waits_for_its_later_time(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    id = await mailer.start_campaign(letter(send_at=in_(SOON)), rows(5))
    await mailer.reschedule(id, in_(LATER))
    probe = await mailer.start_campaign(letter(send_at=in_(SOON)), rows(1))
    await finished(mailer, probe)
    assert (await mailer.campaign(id)).state is State.PLANNED
    assert len(accepted(ses)) == 1


async def test_a_paused_campaign_waits_for_its_new_time_once_it_is_resumed(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    id = await mailer.start_campaign(letter(send_at=in_(LATER)), rows(5))
    await mailer.pause(id)
    await mailer.reschedule(id, in_(SOON))
    assert (await mailer.campaign(id)).state is State.PAUSED
    await mailer.resume(id)
    assert (await finished(mailer, id)).counts == {"sent": 5}


async def test_what_cannot_be_rescheduled_is_refused(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    begun = await mailer.start_campaign(letter(), rows(2))
    await finished(mailer, begun)
    with pytest.raises(WrongState, match="is finished, so it cannot be rescheduled"):
        await mailer.reschedule(begun, in_(LATER))
    waits = await mailer.start_campaign(letter(send_at=in_(LATER), expires_at=in_(2 * LATER)), rows(2))
    with pytest.raises(ExpiresFirst):
        await mailer.reschedule(waits, in_(3 * LATER))
    with pytest.raises(InvalidEmail, match="is over; give a time that is still to come"):
        await mailer.reschedule(waits, in_(-LATER))
    with pytest.raises(InvalidEmail, match="needs a time zone"):
        await mailer.reschedule(waits, datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(NotFound):
        await mailer.reschedule("c0", in_(LATER))
    with pytest.raises(NotACampaign):
        await mailer.reschedule("m0", in_(LATER))
    assert (await mailer.campaign(waits)).state is State.PLANNED


async def test_a_paused_campaign_of_which_a_part_is_out_is_not_rescheduled(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    id = await mailer.start_campaign(letter(max_rate=20), rows(400))
    async with asyncio.timeout(10):
        while not (await mailer.campaign(id)).counts.get("sent"):
            await asyncio.sleep(0.02)
    await mailer.pause(id)
    with pytest.raises(WrongState, match="a part of it was queued before"):
        await mailer.reschedule(id, in_(LATER))


# ---- another template ------------------------------------------------------------------------------------------------


async def test_a_mended_template_reaches_those_who_failed_and_nobody_else(
    runtime: Runtime, ses: Simulator, mailer: Mailer, templates: Path
) -> None:
    broken = [{"email": f"x{i}@example.org"} for i in range(5)]
    id = await mailer.start_campaign(letter(), [*rows(5), *broken])
    assert (await finished(mailer, id)).counts == {"sent": 5, "failed": 5}
    mended = templates / "mended"
    mended.mkdir()
    (mended / "subject.txt").write_text("Hello again")
    (mended / "body.txt").write_text("Hello {{ name | default('you') }}")
    assert await mailer.retry(id, ["failed"], template="mended") == 5
    assert (await finished(mailer, id)).counts == {"sent": 10}
    assert set(accepted(ses).values()) == {1}


async def test_a_stopped_campaign_goes_on_with_its_mended_template(
    runtime: Runtime, ses: Simulator, mailer: Mailer, templates: Path
) -> None:
    id = await mailer.start_campaign(letter(send_at=in_(LATER)), rows(3))
    await mailer.reschedule(id, in_(timedelta(milliseconds=-1)))
    await finished(mailer, id)
    await runtime.ledger.lifecycle.halt(id, to=State.STOPPED, reason="because", allowed=[State.FINISHED])
    assert await mailer.retry(id, ["failed"], template="letter") == 0
    await until(mailer, id, State.FINISHED)


async def test_a_campaign_in_which_everybody_fails_stops_before_its_other_chunks_do(
    runtime: Runtime, ses: Simulator, mailer: Mailer, templates: Path
) -> None:
    broken = templates / "broken"
    broken.mkdir()
    (broken / "subject.txt").write_text("Hello")
    (broken / "body.txt").write_text("{{ name | int + points }}")
    people = [{"email": f"x{i}@example.org", "name": "Ana", "points": "12"} for i in range(20_000)]
    id = await mailer.start_campaign(letter(template="broken"), people)
    await until(mailer, id, State.STOPPED)
    while runtime.working:  # the others that were being rendered
        await asyncio.sleep(0.01)
    status = await mailer.campaign(id)
    failed = status.counts["failed"]
    assert failed <= 12 * 500, "a chunk for each that is worked on at a time"
    assert status.reason.startswith("the first ")
    assert re.search(
        r"nobody has got it; the commonest reason \([0-9,]+ of [0-9,]+\): .+ Mend the template, then: ", status.reason
    )
    assert status.reason.endswith(f"mailer campaign retry {id} --state failed --template NAME")
    (broken / "body.txt").write_text("{{ name }} {{ points }}")
    assert await mailer.retry(id, ["failed"], template="broken") >= failed
    assert (await finished(mailer, id)).counts == {"sent": 20_000}
    assert set(accepted(ses).values()) == {1}


@pytest.mark.parametrize("failing", [19, 600])
async def test_a_campaign_goes_on_where_somebody_gets_it_or_few_fail(
    runtime: Runtime, ses: Simulator, mailer: Mailer, failing: int
) -> None:
    fine = rows(1) if failing > 500 else []
    id = await mailer.start_campaign(letter(), [*fine, *({"email": f"x{i}@example.org"} for i in range(failing)), *rows(2)[1:]])
    assert (await finished(mailer, id)).counts == {"sent": len(fine) + 1, "failed": failing}


async def test_a_template_that_is_not_there_or_does_not_belong_changes_nothing(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    id = await mailer.start_campaign(letter(), [{"email": "a@example.org"}, *rows(1)])
    await finished(mailer, id)
    with pytest.raises(TemplateNotFound):
        await mailer.retry(id, ["failed"], template="none")
    assert (await mailer.campaign(id)).counts == {"failed": 1, "sent": 1}
    stored = await mailer.start_campaign(Campaign(from_=FROM, ses_template="welcome", send_at=in_(LATER)), rows(1))
    with pytest.raises(NoTemplate):
        await mailer.retry(stored, ["failed"], template="letter")


# ---- the report ------------------------------------------------------------------------------------------------------


DATA: dict[str, Any] = {"name": "=1+1", "state": "Bavaria", "order": {"items": [1, 2]}, "gone": None}


async def test_outcomes_are_those_of_the_states_that_are_asked_for(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.start_campaign(letter(), [*rows(3), {"email": "x@example.org"}, {"email": "nobody"}])
    await finished(mailer, id)
    assert [line.row async for line in mailer.outcomes(id, states=["failed", Outcome.REJECTED])] == [4, 5]
    with pytest.raises(InvalidState, match="there is no state 'gone'"):
        [line async for line in mailer.outcomes(id, states=["gone"])]


async def test_a_report_with_data_is_a_list_again(
    runtime: Runtime, ses: Simulator, mailer: Mailer, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    first = await mailer.start_campaign(letter(), [{"email": "a@example.org", "cc": "c@example.org", "tags": "k=v", **DATA}])
    await finished(mailer, first)
    report = output.Report("ndjson", ())
    async for line in mailer.outcomes(first):
        report.add(line)
    report.close()
    written = capsysbinary.readouterr().out
    (tmp_path / "again.ndjson").write_bytes(written)
    again = await mailer.start_campaign(letter(), tmp_path / "again.ndjson")
    await finished(mailer, again)
    (found,) = [one async for one in mailer.outcomes(again)]
    assert (found.to, found.cc, found.tags) == ("a@example.org", ["c@example.org"], {"k": "v"})
    assert {name: found.data[name] for name in DATA} == DATA
    assert json.loads(written)["state"] == "sent"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "x;=cmd", "a\t@SUM(1)", "＝1+1", '5;"+1', "a,\n-2", " =1", "|=2"])
def test_no_cell_of_a_csv_report_is_a_formula_to_any_program(text: str) -> None:
    cell = output._cell(text)
    for separator in ";,\t|\n":
        for part in cell.split(separator):
            assert part.strip(' "\u200b\ufeff')[:1] not in ("=", "+", "-", "@", "＝", "＋", "－", "＠")


CELLS = st.text(st.sampled_from("ab=+-@＝＋－＠'\"; ,|\n\r\t\u200bé0"), max_size=12)
NAMES = st.one_of(
    st.sampled_from(
        ["First Name", "row", "state", "id", "to", "CC", "Tags", "send_at", "=x", "'-y", "report_id", "Größe", "a,b;c"]
    ),
    st.text(st.sampled_from("ab=+-@'\" ;"), min_size=1, max_size=6).map(str.strip).filter(bool),
)


@given(
    st.lists(NAMES, unique_by=str.lower, max_size=5).flatmap(
        lambda names: st.tuples(
            st.just(names), st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), min_size=1, max_size=4)
        )
    )
)
@example((["First Name", "phone"], [["Ana", "+41 79 000"], ["Bo", "-5"], ["'+x", "''=y"]]))
def test_a_csv_report_with_data_is_the_list_again(table: tuple[list[str], list[list[str]]]) -> None:
    names, cells = table
    people = [dict(zip(names, row, strict=True)) for row in cells]
    out = io.StringIO()
    with redirect_stdout(out):
        report = output.Report("csv", names)
        for number, data in enumerate(people):
            report.add(line_of(number, data))
    stripped = [{name: text.strip() for name, text in data.items()} for data in people]
    for text in (out.getvalue(), resaved(out.getvalue())):
        found = read_rows(text.encode())
        assert [row.address for row in found] == [f"u{number}@example.org" for number in range(len(people))]
        if text == out.getvalue():
            assert [row.data for row in found] == people
        assert [{name: text.strip() for name, text in row.data.items()} for row in found] == stripped
        assert {(row.cc, tuple(row.tags.items())) for row in found} == {(("c@example.org",), (("k", "v"),))}


def resaved(text: str) -> str:
    """By a program that quotes what has to be quoted only."""
    again = io.StringIO()
    csv.writer(again, lineterminator="\r\n").writerows(csv.reader(io.StringIO(text, newline="")))
    return again.getvalue()


def line_of(number: int, data: dict[str, str]) -> RecipientStatus:
    return RecipientStatus(
        id=f"c1-0-{number}",
        row=number + 1,
        to=f"u{number}@example.org",
        state="sent",
        ses_message_id=None,
        reason="-a; =b",
        attempts=1,
        updated_at=datetime.now(UTC),
        data=data,
        cc=["c@example.org"],
        tags={"k": "v"},
    )


def read_rows(content: bytes) -> list[Recipient]:
    file = ByteSource("list.csv", io.BytesIO(content), None)
    _, groups = csv_rows(file, file.blocks(), AS_IT_IS, Reserved(AS_IT_IS))
    return [row for group in groups for row in group.rows if isinstance(row, Recipient)]


async def test_a_report_is_a_list_whose_templates_have_row_and_no_column_of_ours(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("email,First Name,state\na@example.org,Ana,-5\n")
    campaign = Campaign(from_=FROM, subject='{{ row["First Name"] }} {{ state }} {{ reason is defined }}', text="-")
    for name in ("list.csv", "again.csv", "again.ndjson"):
        id = await mailer.start_campaign(campaign, tmp_path / name)
        assert (await finished(mailer, id)).counts == {"sent": 1}
        lines = [line async for line in mailer.outcomes(id)]
        assert lines[0].data == {"First Name": "Ana", "state": "-5"}
        report = output.Report("csv", tuple(lines[0].data))
        report.add(lines[0])
        (tmp_path / "again.csv").write_text(capsys.readouterr().out)
        (tmp_path / "again.ndjson").write_bytes(plain(output.row_json(lines[0])))
    assert [repr(message).count("Ana -5 False") > 0 for message in ses.mailroom] == [True] * 3


async def test_a_csv_report_with_data_has_a_column_for_each_variable(
    runtime: Runtime, ses: Simulator, mailer: Mailer, capsys: pytest.CaptureFixture[str]
) -> None:
    id = await mailer.start_campaign(letter(), [{"email": "a@example.org", **DATA}])
    await finished(mailer, id)
    report = output.Report("csv", tuple(DATA))
    async for line in mailer.outcomes(id):
        report.add(line)
    report.close()
    (cells,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (cells["email"], cells["state"], cells["report_state"]) == ("a@example.org", "Bavaria", "sent")
    assert (cells["name"], cells["order"], cells["gone"]) == ("'=1+1", '{"items":[1,2]}', "")
