"""The simulated SES's queue against a model, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.simulator import queue
from mailer.simulator.queue import BadReceipt, Queue, Received

VISIBILITY_S = 30.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Known:
    """What the model knows of a message that was received."""

    receipt: str
    times: int
    until: float


steps = st.lists(
    st.tuples(st.just("put"), st.integers(1, 30))
    | st.tuples(st.just("take"), st.integers(1, 10))
    | st.tuples(st.just("take for 5 s"), st.integers(1, 10))
    | st.tuples(st.just("delete"), st.integers(0, 50))
    | st.tuples(st.just("delete by an old receipt"), st.integers(0, 50))
    | st.tuples(st.just("pass"), st.integers(1, 40)),
    max_size=60,
)


@given(steps)
def test_no_message_is_lost_or_given_out_while_it_is_hidden_or_after_it_was_deleted(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    dead = Queue(visibility_s=VISIBILITY_S, clock=clock)
    ours = Queue(visibility_s=VISIBILITY_S, clock=clock, dead=dead)
    put, deleted, known, old = list[bytes](), set[bytes](), dict[bytes, Known](), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "BLOCK_MESSAGES", 4)
        for what, n in steps:
            if what == "put":
                new = [f"{len(put) + i} …\n".encode() for i in range(n)]
                put += new
                for body in new:
                    ours.put(body)
            elif what.startswith("take"):
                hidden_s = 5.0 if "5" in what else VISIBILITY_S
                for found in ours.take(n, hidden_s if "5" in what else None):
                    before = known.get(found.body)
                    assert found.body in put
                    assert found.body not in deleted
                    assert before is None or before.until <= clock.now
                    assert found.times == (before.times if before else 0) + 1 <= queue.MAX_RECEIVES
                    old += [before.receipt] if before else []
                    known[found.body] = Known(found.receipt, found.times, clock.now + hidden_s)
            elif what == "delete" and (left := sorted(known.keys() - deleted)):
                body = left[n % len(left)]
                if known[body].times < queue.MAX_RECEIVES or known[body].until > clock.now:  # else it may be in the other queue
                    ours.delete(known[body].receipt)
                    deleted.add(body)
            elif what == "delete by an old receipt" and old:
                ours.delete(old[n % len(old)])
            elif what == "pass":
                clock.now += n
    assert ours.deleted == len(deleted)
    assert sorted([*everything(ours, clock), *everything(dead, clock)]) == sorted(set(put) - deleted)


def everything(ours: Queue, clock: Clock) -> list[bytes]:
    """All that can still be received, taken out."""
    clock.now += 10_000
    found = list[Received]()
    while some := ours.take(10):
        found += some
    return [one.body for one in found]


def test_what_waits_comes_in_its_order_and_leaves_nothing_behind() -> None:
    """Through blocks that are compressed, and blocks that are not because nothing is before them."""
    ours = Queue(visibility_s=VISIBILITY_S, clock=Clock())
    came = list[int]()
    for round in range(3):
        for n in range(5000):
            ours.put(b"%d" % (round * 5000 + n))
        for _ in range(450):
            came += [int(one.body) for one in ours.take(10)]
    while found := ours.take(10):
        came += [int(one.body) for one in found]
    assert came == list(range(15_000))
    assert (ours.counts()["waiting"], ours.counts()["in_flight"], ours._new.kept_bytes) == (0, 15_000, 0)


def test_the_events_of_a_hundred_thousand_messages_take_little() -> None:
    ours = Queue(visibility_s=VISIBILITY_S, clock=Clock())
    for n in range(10_000):
        tags = {"mailer_id": [f"c1m85bafnxhneqvdvnj-{n // 500}-{n % 500}-1"]}
        ours.put(
            str(
                {"eventType": "Delivery", "mail": {"messageId": f"0102{n * 7919:012x}", "tags": tags}} | {"x": "y" * 300}
            ).encode()
        )
    assert ours._new.kept_bytes < 10_000 * 100


@pytest.mark.parametrize("limit", ["MAX_WAITING", "MAX_WAITING_BYTES"])
def test_beyond_its_bound_the_oldest_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(queue, limit, 100 if limit == "MAX_WAITING" else 0)
    ours = Queue(visibility_s=VISIBILITY_S, clock=Clock())
    for n in range(250):
        ours.put(b"%d" % n)
    kept = 100 if limit == "MAX_WAITING" else 0
    assert (ours.counts()["waiting"], ours.counts()["dropped"]) == (kept, 250 - kept)
    assert [one.body for one in ours.take(1)] == [b"150"] * (kept > 0)


def test_no_more_are_in_flight_than_sqs_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_IN_FLIGHT", 12)
    ours = Queue(visibility_s=VISIBILITY_S, clock=Clock())
    for n in range(20):
        ours.put(b"%d" % n)
    first, second, third = ours.take(10), ours.take(10), ours.take(10)
    assert (len(first), len(second), len(third)) == (10, 2, 0)
    ours.delete(first[0].receipt)
    assert len(ours.take(10)) == 1


def test_what_is_delayed_is_there_when_it_is_due() -> None:
    clock = Clock()
    ours = Queue(visibility_s=VISIBILITY_S, clock=clock)
    ours.put(b"later", delay_s=5)
    ours.put(b"sooner", delay_s=3)
    assert (ours.take(10), ours.counts()["delayed"]) == ([], 2)
    clock.now = 4
    assert [one.body for one in ours.take(10)] == [b"sooner"]
    clock.now = 6
    assert [one.body for one in ours.take(10)] == [b"later"]


@pytest.mark.parametrize("receipt", ["", "nonsense", "1-1-1", "-1", "1-", "g-1"])
def test_what_is_no_receipt_is_told(receipt: str) -> None:
    with pytest.raises(BadReceipt):
        Queue(visibility_s=VISIBILITY_S, clock=Clock()).delete(receipt)
