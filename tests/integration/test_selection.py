"""What a campaign leaves out, what it asks before it starts, and what it is held against first."""

from __future__ import annotations

from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from mailer import Campaign, Mailer, State
from mailer.errors import DoubledColumn, MissingVariables, NotConfirmed, NotFound, RecipientsNotFound
from mailer.selection import Selection
from mailer.simulator import Simulator
from mailer.summary import Summary
from worker.runtime import Runtime

from .test_delivery import FROM, accepted, finished, letter, rows, settled


async def test_who_is_on_another_list_or_got_another_campaign_is_left_out(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    (tmp_path / "no.csv").write_text("U1@example.org\nu2@example.org\n")
    earlier = await mailer.start_campaign(letter(), [*rows(1), {"email": "u3@example.org"}])  # u3 fails: it lacks the name
    await finished(mailer, earlier)
    chosen = Selection(exclude=[tmp_path / "no.csv"], exclude_campaigns=[earlier])
    id = await mailer.start_campaign(letter(), rows(5), selection=chosen)
    status = await finished(mailer, id)
    assert status.counts == {"sent": 2, "suppressed": 3}
    assert accepted(ses) == {f"u{n}@example.org": 1 for n in (0, 3, 4)}
    assert [(line.row, line.reason) async for line in mailer.outcomes(id, states=["suppressed"])] == [
        (1, f"campaign {earlier} was sent to its address, and this one leaves those out"),
        (2, f"its address is in {tmp_path / 'no.csv'}, which this campaign leaves out"),
        (3, f"its address is in {tmp_path / 'no.csv'}, which this campaign leaves out"),
    ]


async def test_a_list_to_leave_out_that_cannot_be_read_starts_nothing(mailer: Mailer, tmp_path: Path) -> None:
    with pytest.raises(RecipientsNotFound):
        await mailer.start_campaign(letter(), rows(1), selection=Selection(exclude=[tmp_path / "none.csv"]))
    with pytest.raises(NotFound):
        await mailer.start_campaign(letter(), rows(1), selection=Selection(exclude_campaigns=["c1m85badtpadyb0w2kk"]))
    assert await mailer.campaigns() == []


async def test_a_row_that_is_a_matter_and_not_a_person_is_sent_each(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    invoices = [{"email": "ana@example.org", "name": f"invoice {n}"} for n in range(3)]
    id = await mailer.start_campaign(letter(), invoices, selection=Selection(allow_repeats=True))
    assert (await finished(mailer, id)).counts == {"sent": 3}
    assert accepted(ses) == {"ana@example.org": 3}


async def test_to_has_the_name_that_the_campaign_makes_of_a_row(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    people: list[dict[str, Any]] = [
        {"email": "ana@example.org", "name": "Ana, Größe\r\nBcc: x@example.org"},
        {"email": "Bo <bo@example.org>", "name": None},
        {"email": "cy@example.org", "name": "x", "title": "Dr."},
    ]
    campaign = Campaign(from_=FROM, subject="Hi", text="-", to_name="{{ title }} {{ name }}", data={"title": ""})
    await finished(mailer, await mailer.start_campaign(campaign, people))
    found = {parseaddr(to)[1]: to for message in ses.mailroom for to in message.to}
    assert found.keys() == {"ana@example.org", "bo@example.org", "cy@example.org"}
    assert "Dr. x" in found["cy@example.org"]
    assert "Bo" in found["bo@example.org"]  # no name comes of it, so it keeps the one that it has
    assert "\n" not in found["ana@example.org"]


# ---- before the start ------------------------------------------------------------------------------------------------


async def test_what_is_confirmed_is_what_will_be_sent_and_nothing_is_left_of_what_is_not(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    seen = list[Summary]()

    async def no(summary: Summary) -> bool:
        seen.append(summary)
        assert (await mailer.campaign(summary.id)).state is State.PLANNED
        return False

    source = [*rows(3), {"email": "nobody", "name": "x"}, {"email": "U1@example.org", "name": "again"}]
    with pytest.raises(NotConfirmed):
        await mailer.start_campaign(letter(), source, confirm=no, idempotency_key="once")
    (summary,) = seen
    assert (summary.to_send, summary.rows, summary.subject) == (3, 5, "Hello Name 0")
    assert summary.counts == {"queued": 3, "rejected": 1, "duplicate": 1}
    assert sum(summary.reasons.values()) == 1
    assert await mailer.campaigns() == []
    assert [key async for key in mailer._redis.scan_iter(f"{mailer.settings.namespace}:?:{summary.id}*")] == []

    async def yes(summary: Summary) -> bool:
        return True

    id = await mailer.start_campaign(letter(), source, confirm=yes, idempotency_key="once")
    assert (await finished(mailer, id)).counts == {"sent": 3, "rejected": 1, "duplicate": 1}
    assert accepted(ses) == {f"u{n}@example.org": 1 for n in range(3)}


async def test_a_test_is_the_first_usable_row_and_goes_to_one_address(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.send_test(letter(), [{"email": "nobody", "name": "x"}, *rows(3)], "me@example.org")
    assert (await settled(mailer, id)).state == "sent"
    assert accepted(ses) == {"me@example.org": 1}
    (message,) = ses.mailroom
    assert "Hello Name 0" in repr(message)


# ---- the template against the list ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("email,Name", "did you mean `Name` for `name`?"),
        ("email,naame", "did you mean `naame` for `name`?"),
        ("email,city,zip", "its rows have: `city`, `zip`."),
        ("email", "its rows have nothing but an address."),
    ],
)
async def test_a_list_without_what_the_template_needs_is_refused_before_anything_is_sent(
    mailer: Mailer, tmp_path: Path, header: str, said: str
) -> None:
    (tmp_path / "list.csv").write_text(header + "\na@example.org" + ",x" * header.count(",") + "\n")
    with pytest.raises(MissingVariables) as refused:
        await mailer.start_campaign(letter(), tmp_path / "list.csv")
    assert str(refused.value) == f"The template uses `name`, and no row of the list has that; {said} Nothing was sent."
    assert await mailer.campaigns() == []


async def test_a_doubled_column_is_refused_only_where_the_template_uses_it(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("email,name,city,city\na@example.org,Ana,Rome,Kiel\n")
    await finished(mailer, await mailer.start_campaign(letter(), tmp_path / "list.csv"))
    (tmp_path / "list.csv").write_text("email,name,name\na@example.org,Ana,Bo\n")
    with pytest.raises(DoubledColumn, match="uses `name`, and two columns of the list are called that"):
        await mailer.start_campaign(letter(), tmp_path / "list.csv")


async def test_what_only_some_rows_have_or_the_campaign_gives_is_no_reason(
    runtime: Runtime, ses: Simulator, mailer: Mailer
) -> None:
    some = await mailer.start_campaign(letter(), [{"email": "x@example.org"}, *rows(1)])
    assert (await finished(mailer, some)).counts == {"failed": 1, "sent": 1}
    shared = await mailer.start_campaign(letter(data={"name": "all"}), [{"email": "x@example.org"}])
    assert (await finished(mailer, shared)).counts == {"sent": 1}
    asks = Campaign(from_=FROM, subject="Hi {{ name or 'you' }}", text="{% if vip %}x{% endif %}y {{ city | default('') }}")
    assert (await finished(mailer, await mailer.start_campaign(asks, [{"email": "z@example.org"}]))).counts == {"sent": 1}
