"""Times as people write them: with an offset, or with the name of a zone; what the clocks leave open is asked, not guessed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer import Campaign, Email, InvalidEmail
from mailer.intake.spec_builder import SpecBuilder, checked_send_at
from mailer.settings import Settings
from mailer.times import HOW, NoTime, read_time

NINE = datetime(2026, 12, 24, 8, 0, tzinfo=UTC)
CONTENT: dict[str, Any] = {"from_": "a@example.com", "subject": "s", "text": "t"}
GAP = "is not on the clocks in Europe/Berlin: they go forward at that time; give another one"
OUTSIDE = "is no time that there is in UTC; give a year between 2 and 9998"


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-24T09:00:00+01:00",
        "2026-12-24T08:00Z",
        "2026-12-24 09:00 Europe/Berlin",
        " 2026-12-24 09:00  Europe/Berlin ",
        "2026-12-24T09:00[Europe/Berlin]",
        "2026-12-24T09:00 [Europe/Berlin]",
        "2026-12-24 03:00 America/New_York",
        "2026-12-24 08:00 UTC",
        "20261224T090000 Europe/Berlin",
    ],
)
def test_a_time_is_read_as_it_is_written(text: str) -> None:
    assert read_time(text) == NINE
    assert Email(to="a@example.org", **CONTENT, send_at=text).send_at == NINE
    assert Campaign(**CONTENT, send_at=text).send_at == NINE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tomorrow", f"is not a time; {HOW}"),
        ("24.12.2026 09:00 Europe/Berlin", f"is not a time; {HOW}"),
        ("2026-12-24 09:00", f"needs a time zone; {HOW}"),
        ("2026-12-24T09:00:00+01:00 Europe/Berlin", "has two time zones; leave one out"),
        ("2026-12-24 09:00 Europe/Berln", ": there is no time zone 'Europe/Berln'; is Europe/Berlin meant?"),
        ("2026-12-24 09:00 europe/berlin", ": there is no time zone 'europe/berlin'; is Europe/Berlin meant?"),
        ("2026-12-24 09:00 Europe", ": there is no time zone 'Europe'; as Europe/Berlin is one"),
        ("2026-12-24 09:00 ../../etc/passwd", f"is not a time; {HOW}"),
        ("2026-12-24T09:00[../../etc/passwd]", ": there is no time zone '../../etc/passwd'; as Europe/Berlin is one"),
        ("2026-12-24T09:00[]", ": there is no time zone ''; as Europe/Berlin is one"),
        (
            "2026-03-29 02:30 Europe/Berlin",
            "is not on the clocks in Europe/Berlin: they go forward at that time; give another one",
        ),
        (
            "2026-10-25 02:30 Europe/Berlin",
            "is there twice in Europe/Berlin, because the clocks go back; "
            "write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00",
        ),
        ("0001-01-01 00:00 Europe/Berlin", OUTSIDE),
        ("9999-12-31T23:59:59-14:00", OUTSIDE),
        ("0" * 5000, f"is not a time; {HOW}"),
    ],
)
def test_what_is_no_time_is_told_with_what_to_write(text: str, why: str) -> None:
    shown = repr(text if len(text) <= 60 else text[:60] + "…")
    with pytest.raises(NoTime) as caught:
        read_time(text)
    assert str(caught.value) == f"{shown}{why if why.startswith(':') else f' {why}'}"


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    with suppress(NoTime):  # and nothing else
        assert read_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ("2020-01-01T00:00Z", "2020-01-01T00:00:00+00:00 is over; give a time that is still to come"),
        (datetime.now(UTC) - timedelta(minutes=6), "is over; give a time that is still to come"),
        ("0001-01-02 00:00 UTC", "is over"),
        ("9998-01-01 00:00 UTC", "9998-01-01T00:00:00+00:00 is more than 100 years ahead"),
    ],
)
def test_a_time_at_which_nothing_can_be_sent_is_refused(given_: datetime | str, why: str) -> None:
    with pytest.raises(InvalidEmail, match=r"^send_at: ") as caught:
        checked_send_at(given_)
    assert why in str(caught.value)
    with pytest.raises(InvalidEmail, match=r"^send_at: "):
        SpecBuilder(Settings()).message(Email(to="a@example.org", **CONTENT, send_at=given_))
    with pytest.raises(InvalidEmail, match=r"^send_at: "):
        SpecBuilder(Settings()).campaign(Campaign(**CONTENT, send_at=given_))


def test_clocks_may_differ_a_little() -> None:
    moment = datetime.now(UTC) - timedelta(minutes=4)
    assert checked_send_at(moment) == moment
