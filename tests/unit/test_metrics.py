"""The metrics that dashboards and alerts rely on."""

from __future__ import annotations

import re
import time

import pytest
from prometheus_client import REGISTRY as DEFAULT_REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from mailer import metrics
from mailer.email import Lane, Outcome
from mailer.ses.refusals import Kind

# Name in the exposition → its labels. These names are what users type; a renamed one breaks somebody's alert.
PROMISED = {
    "mailer_recipients_total": ("lane", "state"),
    "mailer_ses_calls_total": ("operation", "result"),
    "mailer_ses_call_seconds": ("operation",),
    "mailer_delivery_seconds": ("lane",),
    "mailer_queue_depth": ("lane",),
    "mailer_in_doubt": (),
    "mailer_quota_max_send_rate": (),
    "mailer_quota_max_24h": (),
    "mailer_quota_used_24h": (),
    "mailer_admission_wait_seconds": ("lane",),
    "mailer_throttled_total": (),
    "mailer_events_total": ("type",),
    "mailer_events_unread_total": (),
    "mailer_events_unmatched_total": (),
    "mailer_events_last_receive_timestamp_seconds": (),
    "mailer_duplicates_total": (),
}


def value(name: str, **labels: str) -> float:
    found = metrics.REGISTRY.get_sample_value(name, labels)
    assert found is not None, f"{name}{labels}"
    return found


def series() -> dict[str, set[tuple[tuple[str, str], ...]]]:
    found: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            labels = {name: text for name, text in sample.labels.items() if name != "le"}
            found.setdefault(sample.name, set()).add(tuple(sorted(labels.items())))
    return found


def test_every_promised_metric_is_there_before_anything_happened_with_exactly_its_labels() -> None:
    there = series()
    for name, labels in PROMISED.items():
        of = there.get(name) or there[f"{name}_count"]
        assert {tuple(label for label, _ in combination) for combination in of} == {tuple(sorted(labels))}, name
    ours = {re.sub(r"_(count|sum|bucket|created)$", "", name) for name in there if name.startswith("mailer_")}
    assert ours - {name.removesuffix("_total") for name in PROMISED} == {name for name in PROMISED if name.endswith("_total")}


def test_labels_are_the_states_the_lanes_and_the_kinds() -> None:
    there = series()
    assert {dict(labels)["state"] for labels in there["mailer_recipients_total"]} == {outcome.label for outcome in Outcome}
    assert {dict(labels)["lane"] for labels in there["mailer_recipients_total"]} == {lane.value for lane in Lane}
    assert {dict(labels)["result"] for labels in there["mailer_ses_calls_total"]} == {
        "accepted", "other", *(kind.value for kind in Kind),
    }  # fmt: skip


def test_recording_adds_what_was_said() -> None:
    before = value("mailer_recipients_total", lane="bulk", state="sent")
    metrics.record_outcomes(Lane.BULK, Outcome.SENT, 50)
    assert value("mailer_recipients_total", lane="bulk", state="sent") == before + 50

    before = value("mailer_ses_calls_total", operation="SendBulkEmail", result="rate")
    seconds = value("mailer_ses_call_seconds_sum", operation="SendBulkEmail")
    metrics.record_ses_call("SendBulkEmail", Kind.RATE.value, 0.25)
    assert value("mailer_ses_calls_total", operation="SendBulkEmail", result="rate") == before + 1
    assert value("mailer_ses_call_seconds_sum", operation="SendBulkEmail") == seconds + 0.25

    before = value("mailer_delivery_seconds_count", lane="transactional")
    metrics.record_delivery(Lane.TRANSACTIONAL, 0.5, 3)
    metrics.record_delivery(Lane.TRANSACTIONAL, 0.5)
    assert value("mailer_delivery_seconds_count", lane="transactional") == before + 4

    before = value("mailer_admission_wait_seconds_count", lane="bulk")
    metrics.record_admission_wait(Lane.BULK, 0.01)
    assert value("mailer_admission_wait_seconds_count", lane="bulk") == before + 1

    before = value("mailer_throttled_total")
    metrics.record_throttled(7)
    assert value("mailer_throttled_total") == before + 7

    before = value("mailer_events_total", type="Bounce")
    metrics.record_event("Bounce")
    assert value("mailer_events_total", type="Bounce") == before + 1


def test_gauges_say_how_things_are() -> None:
    metrics.set_queue_depth(Lane.BULK, 12)
    metrics.set_in_doubt(3)
    metrics.set_quota(14.0, 50_000, 1_234)
    assert value("mailer_queue_depth", lane="bulk") == 12
    assert value("mailer_in_doubt") == 3
    names = ("mailer_quota_max_send_rate", "mailer_quota_max_24h", "mailer_quota_used_24h")
    assert [value(name) for name in names] == [14, 50_000, 1_234]
    metrics.set_quota(14.0, -1, 1_234)
    assert value("mailer_quota_max_24h") == float("inf")


@pytest.mark.parametrize("text", ["ana@example.com", "", "x" * 1000])
def test_no_caller_can_add_a_series(text: str) -> None:
    before = series()
    metrics.record_ses_call(text, text, 0.1)
    metrics.record_event(text)
    assert series() == before


def test_the_applications_own_registry_stays_as_it_was() -> None:
    assert not [name for name in DEFAULT_REGISTRY._names_to_collectors if name.startswith("mailer")]


def test_recording_costs_microseconds() -> None:
    n = 20_000
    start = time.process_time()
    for _ in range(n):
        metrics.record_outcomes(Lane.BULK, Outcome.SENT, 50)
        metrics.record_admission_wait(Lane.BULK, 0.01)
    assert (time.process_time() - start) / n < 50e-6
