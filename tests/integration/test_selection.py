"""What a campaign leaves out, what it asks before it starts, and what it is held against first."""

from __future__ import annotations

from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from mailer import Campaign, Mailer, State
from mailer.errors import (
    DoubledColumn,
    MissingVariables,
    NobodyToSendTo,
    NotConfirmed,
    NotFound,
    NotLookedAt,
    RecipientsError,
    RecipientsNotFound,
)
from mailer.intake.selection import Selection
from mailer.intake.summary import Summary
from mailer.recipients import Reading
from mailer.simulator import Simulator
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


DAMAGED = (
    b"email,name\n"
    b"u0@example.org,N\xc3\xb6\n"
    b"u1@example.org,J\xf6rg\n"  # a byte of another encoding
    b'u2@example.org,"a\n'  # a quote that is not closed
    b"u3@example.org,x,y,z\n"  # fields too many
    b"\n"
    b"u4@example.org; u5@example.org,both\n"
    b"Ana <U6@example.org>,N\xc3\xa4\n"
)
LISTS_TO_LEAVE_OUT: dict[str, bytes] = {
    "damaged.csv": DAMAGED,
    "a line each.txt": b'u0@example.org, u1@example.org\n"u2@example.org\n'
    b"u3@example.org / u4@example.org\nu5@example.org\nu6@example.org",
    "columns.csv": b"send_at,cc,CC,tags,E-Mail\n" + b"".join(b"2026,x,boss,vip,u%d@example.org\n" % n for n in range(7)),
    "cyrillic.csv": "email,имя\n".encode("cp1251")
    + b"".join(b"u%d@example.org," % n + "Борис\n".encode("cp1251") for n in range(7)),
    "flat.ndjson": b"".join(b'{"address": "u%d@example.org", "send_at": 5, "cc": 7, "x": "\xff"}\n' % n for n in range(7)),
    "lists.ndjson": b'{"email": ["u0@example.org", "u1@example.org", "u2@example.org"], "tags": "x"}\n'
    b'{"email": "u3@example.org; u4@example.org"}\n{"email": "u5@example.org", "name": NaN}\n{"email": "u6@example.org",}\n',
    "own column.csv": b"billing_email,email\n" + b"".join(b"u%d@example.org,zz@example.org\n" % n for n in range(7)),
}


@pytest.mark.parametrize("name", LISTS_TO_LEAVE_OUT)
async def test_nobody_on_a_list_to_leave_out_is_sent_to_whatever_else_is_wrong_with_their_rows(
    name: str, runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(LISTS_TO_LEAVE_OUT[name])
    reading = Reading(email_column="billing_email", encoding="utf-8")  # said of the list of recipients
    people = [{"billing_email": row["email"], "name": row["name"]} for row in rows(9)]
    selection = Selection(exclude=[tmp_path / name])
    id = await mailer.start_campaign(letter(), people, reading=reading, selection=selection)
    assert (await finished(mailer, id)).counts == {"sent": 2, "suppressed": 7}
    assert accepted(ses) == {"u7@example.org": 1, "u8@example.org": 1}


async def test_rows_to_leave_out_come_from_a_program_too(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    selection = Selection(exclude=[[{"email": "U0@example.org", "cc": 5}, {"mail": "x; u1@example.org"}]])
    id = await mailer.start_campaign(letter(), rows(3), selection=selection)
    assert (await finished(mailer, id)).counts == {"sent": 1, "suppressed": 2}


NO_LISTS = {
    "typo.ndjson": (b'{"emial": "u0@example.org"}\n{"emial": "u1@example.org"}\n', "did you mean `email` by `emial`?"),
    "typo.csv": (b"emial,name\nu0@example.org,x\n", "Did you mean `email` by `emial`?"),
    "empty cells.csv": (b"email,name\n,Ana\n,Bo\nu0@example.org,Cy\n", "2 of 3 rows have no address that can be used"),
}


@pytest.mark.parametrize("name", NO_LISTS)
async def test_what_is_no_list_of_addresses_leaves_nobody_out_and_starts_nothing(
    name: str, mailer: Mailer, tmp_path: Path
) -> None:
    content, said = NO_LISTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipientsError) as refused:
        await mailer.start_campaign(letter(), rows(2), selection=Selection(exclude=[tmp_path / name]))
    assert said in str(refused.value)
    assert "--" not in str(refused.value)  # no option reaches that list
    assert await mailer.campaigns() == []


async def test_a_list_to_leave_out_with_rows_that_name_nobody_is_looked_at_first(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    (tmp_path / "no.csv").write_text("email,name\nu0@example.org,\nnobody,Bo\nu1@example.org,\n,Cy\nu1@example.org,\n")
    selection = Selection(exclude=[tmp_path / "no.csv"])
    said = r"no.csv: 2 of 5 rows have no address that can be used \(the first in line 3: "
    with pytest.raises(NotLookedAt, match=said) as refused:
        await mailer.start_campaign(letter(), rows(3), selection=selection)
    assert await mailer.campaigns() == []
    seen = list[Summary]()

    async def yes(summary: Summary) -> bool:
        seen.append(summary)
        return True

    id = await mailer.start_campaign(letter(), rows(3), selection=selection, confirm=yes)
    assert (await finished(mailer, id)).counts == {"sent": 1, "suppressed": 2}
    (left_out,) = seen[0].left_out
    assert (left_out.addresses, left_out.rows, left_out.unusable) == (2, 5, 2)
    assert seen[0].doubts == (str(refused.value).removesuffix(". Nothing was sent."),)


NOBODY: dict[str, tuple[bytes, str]] = {
    "typo.ndjson": (
        b'{"emial": "a@example.org"}\n{"emial": "b@example.org"}\n',
        "none of its 2 rows can be sent to. The reason: has no `email`; its rows have: `emial`; did you mean `email` by `emial`?",
    ),
    "bad.csv": (
        b"email,name\nrej@example.org;x,Ana\nnobody,Bo\nsomebody,Cy\n",
        "none of its 3 rows can be sent to. The commonest reason, of 2: an email address must have an @-sign; "
        "its rows have: `email`, `name`.",
    ),
}


@pytest.mark.parametrize("name", NOBODY)
async def test_a_list_of_which_nobody_can_be_sent_to_starts_nothing(name: str, mailer: Mailer, tmp_path: Path) -> None:
    content, said = NOBODY[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NobodyToSendTo) as refused:
        await mailer.start_campaign(letter(), tmp_path / name)
    assert str(refused.value) == f"{tmp_path / name}: {said} Nothing was sent."
    assert await mailer.campaigns() == []


async def test_a_guess_at_the_encoding_that_looks_wrong_starts_nothing_by_itself(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    (tmp_path / "tr.csv").write_bytes("email;name\na@example.org;Ayşe Yıldız\n".encode("cp1254"))
    with pytest.raises(NotLookedAt) as refused:
        await mailer.start_campaign(letter(), tmp_path / "tr.csv")
    assert "it has words such as Ayþe, Yýldýz; " in str(refused.value)
    assert "say --encoding windows-1252" in str(refused.value)
    assert await mailer.campaigns() == []
    (tmp_path / "de.csv").write_bytes("email;name\na@example.org;Jörg Müller\n".encode("cp1252"))
    for name, said in (("tr.csv", "windows-1254"), ("tr.csv", "windows-1252"), ("de.csv", None)):
        id = await mailer.start_campaign(letter(), tmp_path / name, reading=Reading(encoding=said))
        assert (await finished(mailer, id)).counts == {"sent": 1}
    found = "".join(map(repr, ses.mailroom))
    assert all(f"Hello {name}" in found for name in ("Ayþe Yýldýz", "Ayşe Yıldız", "Jörg Müller"))


async def test_everybody_may_be_left_out_on_purpose(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.start_campaign(letter(), rows(2), selection=Selection(exclude=[rows(2)]))
    assert (await finished(mailer, id)).counts == {"suppressed": 2}


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


async def test_a_test_is_of_a_row_that_is_not_left_out(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    selection = Selection(exclude=[rows(1)])
    trial = await mailer.test_of(letter(), rows(3), "me@example.org", selection=selection)
    assert (trial.address, trial.subject) == ("u1@example.org", "Hello Name 1")
    assert accepted(ses) == {}
    id = await mailer.send_test(letter(), rows(3), "me@example.org", selection=selection)
    assert (await settled(mailer, id)).state == "sent"
    (message,) = ses.mailroom
    assert "Hello Name 1" in repr(message)


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{{ row["Frist Name"] }}',
            'uses `row["Frist Name"]`, and no row of the list has that; did you mean `row["First Name"]` for',
        ),
        ('{{ row["first_name"] }}', 'did you mean `row["First Name"]` for `row["first_name"]`?'),
        (
            "{{ row.zip }}",
            'uses `row["zip"]`, and no row of the list has that; its rows have: `row["First Name"]`, `row["vip"]`.',
        ),
        (
            '{{ row["First Name"] }}{{ row["city"] or "x" }}{{ row["x"]|default("") }}{% if row["y"] %}{{ row["z"] }}{% endif %}',
            None,
        ),
        ('{{ row.get("x") or "" }}{{ row.items()|length }}{{ row[vip] is defined }}{{ row["q"] is defined }}', None),
        ('{% for row in [{"a": 1}] %}{{ row["a"] }}{% endfor %}', None),
    ],
)
async def test_a_key_of_the_row_is_held_against_the_list_too(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path, text: str, said: str | None
) -> None:
    (tmp_path / "list.csv").write_text("email,First Name,vip\na@example.org,Ana,x\n")
    campaign = Campaign(from_=FROM, subject="Hi", text=f"{text}.")
    if said is None:
        assert (await finished(mailer, await mailer.start_campaign(campaign, tmp_path / "list.csv"))).counts == {"sent": 1}
        return
    with pytest.raises(MissingVariables) as refused:
        await mailer.start_campaign(campaign, tmp_path / "list.csv")
    assert said in str(refused.value)
    assert await mailer.campaigns() == []


async def test_the_name_for_to_is_held_against_the_list_too(mailer: Mailer) -> None:
    campaign = Campaign(from_=FROM, subject="Hi", text="-", to_name="{{ nam }}")
    with pytest.raises(MissingVariables) as refused:
        await mailer.start_campaign(campaign, rows(2))
    assert str(refused.value) == (
        "The name for To (--to-name) uses `nam`, and no row of the list has that; did you mean `name` for `nam`? "
        "Nothing was sent."
    )
    assert await mailer.campaigns() == []


async def test_a_doubled_column_is_refused_only_where_the_template_uses_it(
    runtime: Runtime, ses: Simulator, mailer: Mailer, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("email,name,city,city\na@example.org,Ana,Rome,Kiel\n")
    await finished(mailer, await mailer.start_campaign(letter(), tmp_path / "list.csv"))
    (tmp_path / "list.csv").write_text("email,name,name\na@example.org,Ana,Bo\n")
    with pytest.raises(DoubledColumn, match="uses `name`, and two columns of the list have that name"):
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
