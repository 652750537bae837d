"""Every metric of the service, declared once: name, unit, help, buckets; and the only functions that change them.

All children of a metric are made when this module is imported. So a rate has its zero to start from, the number of series
is what is written here and nothing that a caller passes can add one, and a record is a dictionary look-up and an addition.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric

from .ledger.census import Census
from .ledger.parking import Parked
from .ledger.status import BOUNCE_LIMITS, COMPLAINT_LIMITS
from .message.email import Lane, Outcome, State
from .ses.refusals import Kind

REGISTRY = CollectorRegistry()
CONTENT_TYPE = CONTENT_TYPE_LATEST
ProcessCollector(registry=REGISTRY)  # process_resident_memory_bytes and the like

OTHER = "other"  # the label of what is not known here
OPERATIONS = (
    "SendEmail",
    "SendBulkEmail",
    "GetAccount",
    "GetConfigurationSet",
    "GetEmailIdentity",
    "GetEmailTemplate",
    "ListEmailIdentities",
    "ListSuppressedDestinations",
    "PutSuppressedDestination",
    OTHER,
)
TIMED = ("SendEmail", "SendBulkEmail", "GetAccount", OTHER)  # a histogram each: the calls that only ask are alike
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

ENFORCEMENTS = ("HEALTHY", "PROBATION", "SHUTDOWN")  # GetAccount's EnforcementStatus

# Seconds. A call takes tens of milliseconds in-region, and at most the client's read time-out.
CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Accepted by us → accepted by SES: milliseconds on a free lane, hours behind a quota.
DELIVERY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
# A bounded wait for a share of the quota.
WAIT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


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
_depth = _gauge("mailer_queue_depth", "Messages and chunks that wait: queued, put off, or still to be queued", "lane")
_waiting = _gauge("mailer_recipients_waiting", "Recipients that are to be sent to now and wait", "lane")
_oldest = _gauge("mailer_waiting_oldest_seconds", "How long the oldest of them has waited; 0 = none waits", "lane")
_workers = _gauge("mailer_workers", "Workers that are alive and serve the lane", "lane")
_campaigns = _gauge("mailer_campaigns", "Campaigns by state, those that are over left out", "state")
_parked = _gauge("mailer_campaigns_parked", "Parked campaigns, by what they wait for", "reason")
_in_doubt = Gauge("mailer_in_doubt", "Recipients that SES may have accepted, and nobody can tell yet", registry=REGISTRY)
_max_send_rate = Gauge("mailer_quota_max_send_rate", "The account's recipients per second", registry=REGISTRY)
_max_24h = Gauge("mailer_quota_max_24h", "The account's recipients per rolling 24 hours, +Inf = unlimited", registry=REGISTRY)
_used_24h = Gauge("mailer_quota_used_24h", "Recipients sent to in the last 24 hours", registry=REGISTRY)
_sending = _gauge("mailer_sending_enabled", "1 = the SES account may send, 0 = it is paused or shut down, NaN = not known yet")
_enforcement = _gauge("mailer_enforcement", "1 for the standing that AWS gives the account", "state")
_account_at = _gauge("mailer_account_read_timestamp_seconds", "When the account's state was last read, Unix time; 0 = not yet")
_bounce_rate = _gauge("mailer_bounce_rate", "Hard bounces, as a part of what was tried by the newest campaigns")
_complaint_rate = _gauge("mailer_complaint_rate", "Complaints, as a part of what the newest campaigns delivered")
_bounce_limit = _gauge("mailer_bounce_rate_limit", "Where SES reviews an account, and may pause it", "action")
_complaint_limit = _gauge("mailer_complaint_rate_limit", "Where SES reviews an account, and may pause it", "action")
_event_at = _gauge(
    "mailer_last_event_timestamp_seconds", "When this process last applied an event of SES, Unix time; 0 = not yet"
)
_settle_at = _gauge(
    "mailer_last_settle_timestamp_seconds", "When this process last stored an answer of SES, Unix time; 0 = not yet"
)
_suppression_at = _gauge(
    "mailer_suppression_read_timestamp_seconds", "When SES's suppression list was last read, Unix time; 0 = not yet"
)
_redis_up = _gauge("mailer_redis_up", "1 = Redis answers")
_redis_writable = _gauge("mailer_redis_writable", "1 = Redis stores what it is given, 0 = it is full, read-only or has no disk")
_redis_memory = _gauge("mailer_redis_memory_bytes", "Memory that Redis uses; NaN = this user may not see it")
_redis_most = _gauge("mailer_redis_memory_max_bytes", "Redis's maxmemory; +Inf = none is set, NaN = this user may not see it")
_redis_disk = _gauge(
    "mailer_redis_persistence_ok", "1 = Redis's last writes to its disk went well, NaN = this user may not see it"
)
_redis_aof = _gauge("mailer_redis_aof_enabled", "1 = Redis keeps an append-only file, NaN = this user may not see it")


def _known(value: str, values: Iterable[str]) -> str:
    return value if value in values else OTHER


_recipients_of = {(lane, outcome): _recipients.labels(lane.value, outcome.value) for lane in Lane for outcome in Outcome}
_calls_of = {(operation, result): _calls.labels(operation, result) for operation in OPERATIONS for result in RESULTS}
_call_seconds_of = {operation: _call_seconds.labels(operation) for operation in TIMED}
_delivery_seconds_of = {lane: _delivery_seconds.labels(lane.value) for lane in Lane}
_wait_seconds_of = {lane: _wait_seconds.labels(lane.value) for lane in Lane}
_events_of = {event: _events.labels(event) for event in (*EVENTS, OTHER)}
_depth_of = {lane: _depth.labels(lane.value) for lane in Lane}
_waiting_of = {lane: _waiting.labels(lane.value) for lane in Lane}
_oldest_of = {lane: _oldest.labels(lane.value) for lane in Lane}
_workers_of = {lane: _workers.labels(lane.value) for lane in Lane}
_campaigns_of = {state: _campaigns.labels(state.value) for state in State if state not in (State.CANCELLED, State.FINISHED)}
_parked_of = {parked: _parked.labels(parked.value) for parked in Parked}
_enforcement_of = {state: _enforcement.labels(state) for state in (*ENFORCEMENTS, OTHER)}
for _limit_gauge, _limits in ((_bounce_limit, BOUNCE_LIMITS), (_complaint_limit, COMPLAINT_LIMITS)):
    for _action, _limit in zip(("review", "pause"), _limits, strict=True):
        _limit_gauge.labels(_action).set(_limit)
for _unknown in (_sending, _redis_memory, _redis_most, _redis_disk, _redis_aof):
    _unknown.set(math.nan)


# ---- what happened -------------------------------------------------------------------------------------------------


def record_outcomes(lane: Lane, outcome: Outcome, n: int) -> None:
    """`n` recipients reached that state."""
    _recipients_of[lane, outcome].inc(n)


def record_ses_call(operation: str, result: str, seconds: float) -> None:
    """A call came back, or did not. `operation` as SES names it; `result` is "accepted" or the value of a Kind."""
    _calls_of[_known(operation, OPERATIONS), _known(result, RESULTS)].inc()
    _call_seconds_of[_known(operation, TIMED)].observe(seconds)


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
    _event_at.set(time.time())


def record_settle() -> None:
    """An answer of SES was stored."""
    _settle_at.set(time.time())


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


def set_census(census: Census) -> None:
    for lane, waiting in census.lanes.items():
        _waiting_of[lane].set(waiting.recipients)
        _oldest_of[lane].set(max(0.0, census.at_ms - waiting.oldest_ms) / 1000 if waiting.oldest_ms else 0)
    for state, gauge in _campaigns_of.items():
        gauge.set(census.campaigns.get(state, 0))
    for parked, gauge in _parked_of.items():
        gauge.set(census.parked.get(parked, 0))
    _bounce_rate.set(census.reputation.bounce_rate)
    _complaint_rate.set(census.reputation.complaint_rate)


def set_workers(lane: Lane, n: int) -> None:
    _workers_of[lane].set(n)


def set_account(*, sending_enabled: bool, enforcement: str, read_at: float) -> None:
    """What GetAccount said, and when (Unix time)."""
    _sending.set(sending_enabled and enforcement != "SHUTDOWN")
    for state, gauge in _enforcement_of.items():
        gauge.set(state == _known(enforcement, ENFORCEMENTS))
    _account_at.set(read_at)


def set_suppression_read(at: float) -> None:
    """SES's suppression list was read. Unix time."""
    _suppression_at.set(at)


def set_redis(*, up: bool, writable: bool) -> None:
    _redis_up.set(up)
    _redis_writable.set(writable)


def set_redis_state(*, memory: float, most: float, disk_ok: float, aof: float) -> None:
    """As INFO has it; NaN where it is not to be seen. `most`: 0 is no limit."""
    _redis_memory.set(memory)
    _redis_most.set(math.inf if most == 0 else most)
    _redis_disk.set(disk_ok)
    _redis_aof.set(aof)


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


class _Plain(CollectorRegistry):
    """REGISTRY without the `_created` series: one for each counter and histogram, which nobody asks for."""

    def collect(self) -> Iterator[Metric]:
        for metric in REGISTRY.collect():
            created = f"{metric.name}_created"
            metric.samples = [sample for sample in metric.samples if sample.name != created]
            yield metric


def exposition() -> bytes:
    """All metrics in Prometheus's text format, content type CONTENT_TYPE."""
    return generate_latest(_Plain())
