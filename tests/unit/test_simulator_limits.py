"""Addresses, rate and rolling quota of the simulator."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.simulator.limits import DAY_S, RollingQuota, TokenBucket, mailbox
from mailer.simulator.refusals import Refusal


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ana@example.com", "ana@example.com"),
        ("Ana <ana+x@Example.com>", "ana+x@Example.com"),
        ('"Example, Ana" <ana@example.com>', "ana@example.com"),
        ("=?utf-8?b?w4TDtg==?= <a@xn--bcher-kva.example>", "a@xn--bcher-kva.example"),
        ('"a b"@example.com', '"a b"@example.com'),
        ("Ånä <a@example.com>", "a@example.com"),
    ],
)
def test_mailbox(text: str, address: str) -> None:
    assert mailbox(text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ana", "Missing final '@domain'"),
        ("", "Empty address"),
        ("ana@", "Missing domain"),
        ("@example.com", "Missing local name"),
        ("a na@example.com", "Local address contains control or whitespace"),
        ("ana@exam ple.com", "Domain contains control or whitespace"),
        ("ana@example.com\n", "Address contains control characters"),
        ("A\r\nBcc: x@y.org <ana@example.com>", "Address contains control characters"),
        ("ånä@example.com", "Local address contains illegal character"),
        ("ana@bücher.example", "Domain contains illegal character"),
        ("a..b@example.com", "Local address contains dot-dot"),
        (".a@example.com", "Local address starts with dot"),
        ("a.@example.com", "Local address ends with dot"),
        ("a@example..com", "Domain contains dot-dot"),
        ("a@.example.com", "Domain starts with dot"),
        ("a@example.com, b@example.com", "Local address contains control or whitespace"),
        ("a,b@example.com", "Local address contains illegal character"),
    ],
)
def test_malformed_mailbox(text: str, why: str) -> None:
    with pytest.raises(Refusal) as refusal:
        mailbox(text)
    assert (refusal.value.code, refusal.value.text) == ("BadRequestException", why)


@pytest.mark.parametrize(("length", "accepted"), [(320, True), (321, False)])
def test_address_length(length: int, accepted: bool) -> None:
    text = "N" * (length - len(" <a@example.com>")) + " <a@example.com>"
    if accepted:
        assert mailbox(text) == "a@example.com"
    else:
        with pytest.raises(Refusal, match="Address length is more than 320 characters long"):
            mailbox(text)


def test_a_call_borrows_from_the_following_seconds() -> None:
    """SES's own example: five recipients at 1/s go out, then nothing for five seconds."""
    clock = Clock()
    bucket = TokenBucket(1.0, clock)
    assert bucket.take(5)
    clock.now += 4.9
    assert not bucket.take(1)
    clock.now += 0.1
    assert bucket.take(1)
    assert not bucket.take(1)


def test_nothing_is_saved_beyond_one_second() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, clock)
    clock.now += 3600
    assert [bucket.take(1) for _ in range(11)] == [True] * 10 + [False]


def test_changing_the_rate_keeps_what_was_borrowed() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, clock)
    bucket.take(50)
    bucket.change(20.0)
    clock.now += 2.0
    assert not bucket.left()
    clock.now += 0.1
    assert bucket.left()
    bucket.change(0.0)
    clock.now += 100.0
    assert not bucket.left()
    bucket.change(math.inf)
    assert bucket.take(10**9)
    assert bucket.left()


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=60), st.floats(0.5, 100))
def test_rate_holds_over_any_time(calls: list[tuple[float, int]], rate: float) -> None:
    """What is let through never exceeds one second's allowance, the time that passed, and one message's borrowing."""
    clock = Clock()
    bucket = TokenBucket(rate, clock)
    passed = 0
    for wait, count in calls:
        clock.now += wait
        if bucket.take(count):
            passed += count
            assert passed <= max(1.0, rate) + (clock.now - 1_000_000.0) * rate + 50


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 50)), max_size=60))
def test_quota_rolls(calls: list[tuple[int, int]]) -> None:
    clock = Clock()
    quota = RollingQuota(200.0, clock)
    sent: list[tuple[float, int]] = []
    for wait, count in calls:
        clock.now += wait
        inside = sum(number for at, number in sent if at > clock.now - DAY_S)
        assert quota.used() == inside
        assert quota.has(count) == (inside + count <= 200)
        if quota.has(count):
            quota.add(count)
            sent.append((clock.now, count))


def test_unlimited_quota_still_counts() -> None:
    quota = RollingQuota(-1, Clock())
    quota.add(10**6)
    assert quota.has(10**9)
    assert quota.used() == 10**6
    quota.preset(3)
    assert quota.used() == 3
