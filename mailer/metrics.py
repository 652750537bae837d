"""Every metric of the service, declared once: name, unit, help, buckets; and the only functions that change them.

All children of a metric are made when this module is imported. So a rate has its zero to start from, the number of series
is what is written here and nothing that a caller passes can add one, and a record is a dictionary look-up and an addition.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from .email import Lane, Outcome
from .ses.refusals import Kind

REGISTRY = CollectorRegistry()
CONTENT_TYPE = CONTENT_TYPE_LATEST
ProcessCollector(registry=REGISTRY)  # process_resident_memory_bytes and the like

OTHER = "other"  # the label of what is not known here
OPERATIONS = ("SendEmail", "SendBulkEmail", "GetAccount", OTHER)
RESULTS = ("accepted", *(kind.value for kind in Kind), OTHER)
# Event types of SES event publishing (API reference, EventType), as its events spell them.
EVENTS = (
    "Send",
    "Reject",
    "Bounce",
    "Complaint",
    "Delivery",
    "Open",
    "Click",
    "Rendering Failure",
    "DeliveryDelay",
    "Subscription",
)

# Seconds. A call takes tens of milliseconds in-region, and at most the client's read time-out.
CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Accepted by us → accepted by SES: milliseconds on a free lane, hours behind a quota.
DELIVERY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
# A bounded wait for a share of the quota.
WAIT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_recipients = Counter("mailer_recipients", "Recipients that reached a state", ["lane", "state"], registry=REGISTRY)
_calls = Counter("mailer_ses_calls", "Calls of SES, by what came of them", ["operation", "result"], registry=REGISTRY)
_call_seconds = Histogram(
    "mailer_ses_call_seconds", "Duration of a call of SES", ["operation"], buckets=CALL_BUCKETS, registry=REGISTRY
)
_delivery_seconds = Histogram(
    "mailer_delivery_seconds", "From accepted by us to accepted by SES", ["lane"], buckets=DELIVERY_BUCKETS, registry=REGISTRY
)
_wait_seconds = Histogram(
    "mailer_admission_wait_seconds", "Wait for a share of the send rate", ["lane"], buckets=WAIT_BUCKETS, registry=REGISTRY
)
_throttled = Counter("mailer_throttled", "Recipients that SES refused because of the send rate", registry=REGISTRY)
_events = Counter("mailer_events", "Events of SES that were taken in", ["type"], registry=REGISTRY)
_unread = Counter("mailer_events_unread", "Messages that were not applied: no events of SES, or given up", registry=REGISTRY)
_unmatched = Counter("mailer_events_unmatched", "Events of messages that the ledger does not know", registry=REGISTRY)
_heard_at = Gauge(
    "mailer_events_last_receive_timestamp_seconds",
    "When the queue of SES's events last answered a receive, Unix time; 0 = not yet, or there is no queue",
    registry=REGISTRY,
)
_duplicates = Counter("mailer_duplicates", "Recipients that SES accepted twice, as its events tell", registry=REGISTRY)
_depth = Gauge("mailer_queue_depth", "Jobs that wait in a lane's queue", ["lane"], registry=REGISTRY)
_in_doubt = Gauge("mailer_in_doubt", "Recipients that SES may have accepted, and nobody can tell yet", registry=REGISTRY)
_max_send_rate = Gauge("mailer_quota_max_send_rate", "The account's recipients per second", registry=REGISTRY)
_max_24h = Gauge("mailer_quota_max_24h", "The account's recipients per rolling 24 hours, +Inf = unlimited", registry=REGISTRY)
_used_24h = Gauge("mailer_quota_used_24h", "Recipients sent to in the last 24 hours", registry=REGISTRY)


def _known(value: str, values: Iterable[str]) -> str:
    return value if value in values else OTHER


_recipients_of = {(lane, outcome): _recipients.labels(lane.value, outcome.label) for lane in Lane for outcome in Outcome}
_calls_of = {(operation, result): _calls.labels(operation, result) for operation in OPERATIONS for result in RESULTS}
_call_seconds_of = {operation: _call_seconds.labels(operation) for operation in OPERATIONS}
_delivery_seconds_of = {lane: _delivery_seconds.labels(lane.value) for lane in Lane}
_wait_seconds_of = {lane: _wait_seconds.labels(lane.value) for lane in Lane}
_events_of = {event: _events.labels(event) for event in (*EVENTS, OTHER)}
_depth_of = {lane: _depth.labels(lane.value) for lane in Lane}


# ---- what happened -------------------------------------------------------------------------------------------------


def record_outcomes(lane: Lane, outcome: Outcome, n: int) -> None:
    """`n` recipients reached that state."""
    _recipients_of[lane, outcome].inc(n)


def record_ses_call(operation: str, result: str, seconds: float) -> None:
    """A call came back, or did not. `operation` as SES names it; `result` is "accepted" or the value of a Kind."""
    operation = _known(operation, OPERATIONS)
    _calls_of[operation, _known(result, RESULTS)].inc()
    _call_seconds_of[operation].observe(seconds)


def record_delivery(lane: Lane, seconds: float, n: int = 1) -> None:
    """SES accepted `n` recipients, `seconds` after we did. A microsecond each: the client library has no weights."""
    observe = _delivery_seconds_of[lane].observe
    for _ in range(n):
        observe(seconds)


def record_admission_wait(lane: Lane, seconds: float) -> None:
    _wait_seconds_of[lane].observe(seconds)


def record_throttled(n: int) -> None:
    """SES refused `n` recipients because of the send rate, so the limiter is too generous."""
    _throttled.inc(n)


def record_event(type: str) -> None:
    """An SES event was taken in. `type` as SES spells it."""
    _events_of[_known(type, EVENTS)].inc()


def record_unread(n: int = 1) -> None:
    """What came as an event could not be read as one."""
    _unread.inc(n)


def record_unmatched(n: int) -> None:
    """Events without our tag, or whose message is forgotten."""
    _unmatched.inc(n)


def record_duplicates(n: int) -> None:
    """Recipients turned out to be sent to twice."""
    _duplicates.inc(n)


# ---- how things are ------------------------------------------------------------------------------------------------


def set_queue_depth(lane: Lane, n: int) -> None:
    _depth_of[lane].set(n)


def set_in_doubt(n: int) -> None:
    _in_doubt.set(n)


def set_events_received(at: float) -> None:
    """The queue of SES's events answered a receive, with or without messages. Unix time."""
    _heard_at.set(at)


def set_quota(max_send_rate: float, max_24h: float, used_24h: float) -> None:
    """What GetAccount said. Its -1 for "no limit" becomes +Inf, so that used/max stays a ratio."""
    _max_send_rate.set(max_send_rate)
    _max_24h.set(float("inf") if max_24h < 0 else max_24h)
    _used_24h.set(used_24h)


def exposition() -> bytes:
    """All metrics in Prometheus's text format, content type CONTENT_TYPE."""
    return generate_latest(REGISTRY)
