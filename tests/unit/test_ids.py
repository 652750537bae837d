"""Ids: unique, in the order of their making, and fit for a tag of SES in both directions."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer import ids
from mailer.ids import Attempt, chunk_id, chunk_number, container_of, is_message, new_campaign_id, new_message_id

attempts = st.builds(
    Attempt,
    st.sampled_from([new_campaign_id, new_message_id]).map(lambda new: new()),
    st.integers(0, ids.MAX_CHUNK),
    st.integers(0, 65535),
    st.integers(1, 65535),
)


@settings(deadline=None)
@given(attempts)
def test_an_attempt_comes_back_from_its_tag(attempt: Attempt) -> None:
    assert Attempt.parse(str(attempt)) == attempt
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,256}", str(attempt))


@settings(deadline=None)
@given(attempts, st.integers(0, 60), st.sampled_from(list("-+_ \n٣Aé0.")))
def test_what_is_read_is_exactly_what_was_written(attempt: Attempt, place: int, char: str) -> None:
    """Tags come back in events, which others can make too: a text that is not one of ours is never taken for one."""
    text = str(attempt)
    changed = text[:place] + char + text[place:]
    with contextlib.suppress(ValueError):
        assert str(Attempt.parse(changed)) == changed


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "c",
            "c1",
            "c1-0-0",
            "c1-0-0-1-2",
            "x1-0-0-1",
            "1-0-0-1",
            "C1-0-0-1",
            "c-0-0-1",
            "c1-0-0-0",
            "c1--0-0-1",
            "c1-a-0-1",
        ),
        *("c1-+1-0-1", "c1-1_0-0-1", "c1- 1-0-1", "c1-٣-0-1", "c1-01-0-1", "cé-0-0-1", "c1-0-0-1\n", "c1-0-0-1 ", "c*-0-0-1"),
        "c1-0-0-" + "1" * 5000,
        *(f"c1-{ids.MAX_CHUNK + 1}-0-1", "c1-0-65536-1", "c1-0-0-65536"),
    ],
)
def test_what_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Attempt.parse(text)


def test_ids_are_unique_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({new_campaign_id() for _ in range(20_000)}) == 20_000
    made = []
    for now in (1, 31, 32, 1023, 1024, 1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000, 2**45 - 1):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now * 1_000_000)
        made.append(new_campaign_id())
    assert made == sorted(made)
    assert {len(id) for id in made} == {19}


def test_an_id_says_where_it_lives() -> None:
    campaign, message = new_campaign_id(), new_message_id()
    assert (is_message(campaign), is_message(message)) == (False, True)
    assert re.fullmatch(f"c[{ids._ALPHABET}]{{18}}", campaign)
    assert re.fullmatch(f"m[{ids._ALPHABET}]{{18}}", message)
    chunk = chunk_id(campaign, 12)
    assert (container_of(chunk), chunk_number(chunk)) == (campaign, 12)
    assert is_message(chunk_id(message, 0))
