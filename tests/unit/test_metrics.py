"""The metrics that dashboards and alerts rely on."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from prometheus_client import REGISTRY as DEFAULT_REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from mailer import metrics
from mailer.errors import StoreFailed
from mailer.ledger.parking import Parked, class_of
from mailer.message.email import Lane, Outcome
from mailer.quota.gate import REASONS, AdmissionStatus
from mailer.ses.refusals import Kind, classify
from worker.settle import set_paused

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
    "mailer_recipients_waiting": ("lane",),
    "mailer_waiting_oldest_seconds": ("lane",),
    "mailer_workers": ("lane",),
    "mailer_campaigns": ("state",),
    "mailer_campaigns_parked": ("reason",),
    "mailer_last_settle_timestamp_seconds": (),
    "mailer_sending_enabled": (),
    "mailer_enforcement": ("state",),
    "mailer_account_read_timestamp_seconds": (),
    "mailer_bounce_rate": (),
    "mailer_bounce_rate_limit": ("action",),
    "mailer_complaint_rate": (),
    "mailer_complaint_rate_limit": ("action",),
    "mailer_suppression_read_timestamp_seconds": (),
    "mailer_last_event_timestamp_seconds": (),
    "mailer_redis_up": (),
    "mailer_redis_writable": (),
    "mailer_redis_memory_bytes": (),
    "mailer_redis_memory_max_bytes": (),
    "mailer_redis_persistence_ok": (),
    "mailer_redis_aof_enabled": (),
}
DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


NO_CREDENTIALS = classify(NoCredentialsError()).reason


def refused(code: str, text: str) -> str:
    """The reason of a campaign that waits after SES refused a send."""
    return f"waiting: {classify(ClientError({'Error': {'Code': code, 'Message': text}}, 'SendEmail')).reason}"


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


def test_the_document_has_every_metric_with_its_labels_and_type_and_no_other() -> None:
    rows = re.findall(r"^\| `(mailer_\w+)` \| (counter|gauge|histogram) \|\s*(.*?)\s*\|", DOCUMENT, re.MULTILINE)
    assert {name: tuple(re.findall(r"`(\w+)`", labels)) for name, _, labels in rows} == PROMISED
    assert len(rows) == len(PROMISED)
    types = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in text_string_to_metric_families(metrics.exposition().decode())
    }
    assert {name: type for name, type, _ in rows} == {name: type for name, type in types.items() if name.startswith("mailer_")}


def test_what_the_document_says_to_alert_on_is_there_with_those_labels() -> None:
    alerts = DOCUMENT.partition("## What to alert on")[2]
    there, named = series(), set(re.findall(r"mailer_\w+", alerts))
    assert len(named) > 10
    assert named <= set(PROMISED)
    for name, label, value in re.findall(r"(mailer_\w+)\{(\w+)!?=\"(\w+)\"\}", alerts):
        assert (label, value) in {pair for combination in there[name] for pair in combination}, name


def test_there_are_no_created_series_and_every_label_is_one_of_a_few() -> None:
    there = series()
    assert [name for name in there if name.endswith("_created")] == []
    assert len(metrics.exposition().decode().splitlines()) < 500
    values = {value for name in there if name.startswith("mailer_") for labels in there[name] for _, value in labels}
    assert {"quota", "account_paused", "PROBATION", "review", "parked", "GetAccount"} <= values
    assert {str(parked.value) for parked in Parked} <= values


REASONS_OF = {
    Parked.QUOTA: [
        "waiting for the 24 h quota, about 310/h come free",
        "waiting: it has 40 recipients, and the account's 24 h quota is 20",
    ],
    Parked.PAUSED: [REASONS[AdmissionStatus.PAUSED], refused("SendingPausedException", "Sending paused for this account.")],
    Parked.SUSPENDED: [REASONS[AdmissionStatus.SUSPENDED], refused("AccountSuspendedException", "It is suspended")],
    Parked.SET: [set_paused("news"), refused("SendingPausedException", "Sending paused for configuration set <news>.")],
    Parked.SENDER: [
        "waiting: SES refuses what a@x.example by tenant t sends, though the account may send: SendingPaused: Sending paused."
    ],
    Parked.ALIKE: ["waiting: SES refused 10 recipients in a row for the same reason: MessageRejected: Daily message quota …"],
    Parked.ACCOUNT: [REASONS[AdmissionStatus.STALE]],
    Parked.CREDENTIALS: [refused("ExpiredTokenException", "The security token is expired"), f"waiting: {NO_CREDENTIALS}"],
    Parked.UNREACHABLE: [f"waiting: {classify(EndpointConnectionError(endpoint_url='https://email')).reason}"],
    Parked.SUPPRESSION: ["waiting: the suppression list of SES has not been read yet"],
    Parked.STORE: [f"waiting: {StoreFailed(url='file:///x', why='it has not answered within 6 s')}"],
    Parked.OTHER: ["waiting: the verified identities of the SES account are being listed", ""],
}


@pytest.mark.parametrize(("parked", "reason"), [(parked, reason) for parked, some in REASONS_OF.items() for reason in some])
def test_each_reason_to_wait_has_its_class(parked: Parked, reason: str) -> None:
    assert class_of(reason) is parked


def test_labels_are_the_states_the_lanes_and_the_kinds() -> None:
    there = series()
    assert {dict(labels)["state"] for labels in there["mailer_recipients_total"]} == {outcome.value for outcome in Outcome}
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
