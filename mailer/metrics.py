"""Every metric of the service, declared once: name, help, labels, unit, buckets; and the only functions that change them.

docs/metrics.md is generated from these declarations.

All children of a metric are made when this module is imported. So a rate has its zero to start from, the number of series
is what is written here and nothing that a caller passes can add one, and a record is a dictionary look-up and an addition.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

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


class About(NamedTuple):
    """What docs/metrics.md says of a metric beside its help text."""

    subject: str
    unit: str
    shared: bool  # every worker shows the same value, read from Redis; else it is of this process


ABOUT: dict[str, About] = {}  # by name, without the `_total` of a counter
WORK, SENDING, ACCOUNT, EVENTS_IN, REDIS = "work", "sending", "account", "events", "redis"  # subjects
UNIX_TIME = "s, Unix time"


def _counter(name: str, text: str, *labels: str, subject: str, unit: str) -> Counter:
    ABOUT[name] = About(subject, unit, shared=False)
    return Counter(name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, subject: str, buckets: Sequence[float]) -> Histogram:
    ABOUT[name] = About(subject, "s", shared=False)
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str, subject: str, unit: str, shared: bool = True) -> Gauge:
    ABOUT[name] = About(subject, unit, shared)
    return Gauge(name, text, labels, registry=REGISTRY)


_waiting = _gauge(
    "mailer_recipients_waiting",
    "Recipients that could be sent to now and wait. Paused campaigns and scheduled mail do not count.",
    "lane",
    subject=WORK,
    unit="recipients",
)
_oldest = _gauge(
    "mailer_waiting_oldest_seconds",
    "How long the oldest of the waiting recipients has waited. 0 = none waits.",
    "lane",
    subject=WORK,
    unit="s",
)
_depth = _gauge(
    "mailer_queue_depth",
    "Messages and chunks of campaigns that wait: queued, deferred or still to be queued.",
    "lane",
    subject=WORK,
    unit="jobs",
)
_workers = _gauge("mailer_workers", "Live workers that serve the lane.", "lane", subject=WORK, unit="processes")
_campaigns = _gauge(
    "mailer_campaigns",
    "Campaigns by state, without those that are over. Of stopped campaigns, only those among the newest 200 count.",
    "state",
    subject=WORK,
    unit="campaigns",
)
_parked = _gauge("mailer_campaigns_parked", "Parked campaigns, by what they wait for.", "reason", subject=WORK, unit="campaigns")
_in_doubt = _gauge(
    "mailer_in_doubt", "Recipients in doubt: SES may have accepted their message.", subject=WORK, unit="recipients"
)

_recipients = _counter(
    "mailer_recipients", "Recipients that reached a state.", "lane", "state", subject=SENDING, unit="recipients"
)
_duplicates = _counter(
    "mailer_duplicates", "Recipients that SES accepted twice, as its events tell.", subject=SENDING, unit="recipients"
)
_delivery_seconds = _histogram(
    "mailer_delivery_seconds",
    "Time from acceptance by this service to acceptance by SES. The wait for a scheduled time counts.",
    "lane",
    subject=SENDING,
    buckets=DELIVERY_BUCKETS,
)
_wait_seconds = _histogram(
    "mailer_admission_wait_seconds",
    "Time that a call waits for its share of the send rate.",
    "lane",
    subject=SENDING,
    buckets=WAIT_BUCKETS,
)
_throttled = _counter(
    "mailer_throttled",
    "Recipients that SES refused because the send rate or the rate of calls was exceeded.",
    subject=SENDING,
    unit="recipients",
)
_calls = _counter(
    "mailer_ses_calls", "Calls of SES, by operation and result.", "operation", "result", subject=SENDING, unit="calls"
)
_call_seconds = _histogram(
    "mailer_ses_call_seconds", "Duration of a call of SES.", "operation", subject=SENDING, buckets=CALL_BUCKETS
)
_settle_at = _gauge(
    "mailer_last_settle_timestamp_seconds",
    "When this process last stored an answer of SES. 0 = not yet.",
    subject=SENDING,
    unit=UNIX_TIME,
    shared=False,
)

_sending = _gauge(
    "mailer_sending_enabled",
    "1 = the SES account may send, 0 = it is paused or shut down, NaN = not known yet.",
    subject=ACCOUNT,
    unit="0 or 1",
)
_enforcement = _gauge(
    "mailer_enforcement",
    "1 for the enforcement status of the SES account, 0 for the others.",
    "state",
    subject=ACCOUNT,
    unit="0 or 1",
)
_account_at = _gauge(
    "mailer_account_read_timestamp_seconds",
    "When the state of the SES account was last read. 0 = not yet.",
    subject=ACCOUNT,
    unit=UNIX_TIME,
)
_max_send_rate = _gauge(
    "mailer_quota_max_send_rate", "Maximum send rate of the SES account.", subject=ACCOUNT, unit="recipients/s"
)
_max_24h = _gauge(
    "mailer_quota_max_24h",
    "Quota of the SES account for a rolling 24 hours. +Inf = unlimited.",
    subject=ACCOUNT,
    unit="recipients",
)
_used_24h = _gauge("mailer_quota_used_24h", "Recipients sent to in the last 24 hours.", subject=ACCOUNT, unit="recipients")
_bounce_rate = _gauge(
    "mailer_bounce_rate",
    "Hard bounces of the newest 200 campaigns, as a share of the messages whose fate is known.",
    subject=ACCOUNT,
    unit="ratio",
)
_bounce_limit = _gauge(
    "mailer_bounce_rate_limit",
    "Bounce rate at which SES reviews an account, and at which it may pause it.",
    "action",
    subject=ACCOUNT,
    unit="ratio",
)
_complaint_rate = _gauge(
    "mailer_complaint_rate",
    "Complaints of the newest 200 campaigns, as a share of the delivered messages.",
    subject=ACCOUNT,
    unit="ratio",
)
_complaint_limit = _gauge(
    "mailer_complaint_rate_limit",
    "Complaint rate at which SES reviews an account, and at which it may pause it.",
    "action",
    subject=ACCOUNT,
    unit="ratio",
)
_suppression_at = _gauge(
    "mailer_suppression_read_timestamp_seconds",
    "When SES's suppression list was last read. 0 = not yet.",
    subject=ACCOUNT,
    unit=UNIX_TIME,
)

_events = _counter("mailer_events", "Events of SES that were applied, by type.", "type", subject=EVENTS_IN, unit="events")
_unread = _counter(
    "mailer_events_unread",
    "Messages from SQS or SNS that were not applied: not an event of SES, not verified, or given up.",
    subject=EVENTS_IN,
    unit="messages",
)
_unmatched = _counter(
    "mailer_events_unmatched", "Events whose message the ledger does not know.", subject=EVENTS_IN, unit="events"
)
_heard_at = _gauge(
    "mailer_events_last_receive_timestamp_seconds",
    "When the events queue last answered this process, with or without messages. 0 = not yet, or there is no queue.",
    subject=EVENTS_IN,
    unit=UNIX_TIME,
    shared=False,
)
_event_at = _gauge(
    "mailer_last_event_timestamp_seconds",
    "When this process last applied an event of SES. 0 = not yet.",
    subject=EVENTS_IN,
    unit=UNIX_TIME,
    shared=False,
)

_redis_up = _gauge("mailer_redis_up", "1 = Redis answers.", subject=REDIS, unit="0 or 1")
_redis_writable = _gauge(
    "mailer_redis_writable",
    "1 = Redis takes writes, 0 = it is full, read-only or cannot write to its disk.",
    subject=REDIS,
    unit="0 or 1",
)
_redis_memory = _gauge(
    "mailer_redis_memory_bytes", "Memory that Redis uses. NaN = this Redis user may not read it.", subject=REDIS, unit="bytes"
)
_redis_most = _gauge(
    "mailer_redis_memory_max_bytes",
    "The maxmemory of Redis. +Inf = none is set, NaN = this Redis user may not read it.",
    subject=REDIS,
    unit="bytes",
)
_redis_disk = _gauge(
    "mailer_redis_persistence_ok",
    "1 = the last write of Redis to its disk succeeded, 0 = it failed, NaN = this Redis user may not read it.",
    subject=REDIS,
    unit="0 or 1",
)
_redis_aof = _gauge(
    "mailer_redis_aof_enabled",
    "1 = Redis keeps an append-only file, 0 = it does not, NaN = this Redis user may not read it.",
    subject=REDIS,
    unit="0 or 1",
)


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
