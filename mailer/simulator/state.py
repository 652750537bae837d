"""The simulated account: what it is set up with, what changes while it runs, and the gates that SES puts before a message."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

import orjson

from . import refusals
from .archive import Archive
from .events import events_of
from .faults import Faults
from .journal import Accepted, Log, Mailroom, Message, Parts
from .limits import RollingQuota, TokenBucket, domain_of, lower_domain, mailbox
from .refusals import Code
from .sqs import Queues
from .suppression import REASONS, SuppressionList
from .wire import Json

MAILBOX_SIMULATOR = "simulator.amazonses.com"  # may always be written to, and does not count against the daily quota
_ARN = re.compile(r"arn:aws[\w-]*:ses:([\w-]+):(\d{12}):identity/(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """What a simulator starts with, and goes back to on reset."""

    region: str = "eu-west-1"
    account: str = "123456789012"
    production: bool = True  # False: the sandbox
    max_send_rate: float = 200.0  # recipients per second
    max_24h: float = 50_000.0  # recipients per rolling 24 h; -1 = unlimited
    verified: tuple[str, ...] = ("example.com",)  # addresses and domains
    authorised: tuple[str, ...] = ()  # ARNs of other accounts' identities and templates that this account may use
    configuration_sets: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    contact_lists: tuple[str, ...] = ()  # that ListManagementOptions may name; nobody on them has opted out
    events: bool = False  # whether what becomes of messages is published into a queue that speaks SQS, /<account>/events
    events_visibility_s: float = 30.0  # how long an event that was received is hidden
    events_delay_s: float = 0.0  # from SES's Send event to what becomes of the message
    bulk_calls_per_s: float | None = None  # SendBulkEmail calls; AWS does not publish a number
    daily_code: str = Code.LIMIT_EXCEEDED  # or ThrottlingException: which of the two SES uses is not documented
    unsubscribe_page: str | None = None  # of a worker on this machine, for the links of messages; the token follows
    unsubscribe_keys: tuple[str, ...] = ()  # that sign those tokens
    keep: int = 20_000  # whole messages; the log keeps a line for every one
    seed: int = 0  # of the faults
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Identity:
    name: str
    verified: bool
    tags: list[dict[str, str]] = field(default_factory=list)
    configuration_set: str | None = None

    @property
    def kind(self) -> str:
        return "EMAIL_ADDRESS" if "@" in self.name else "DOMAIN"

    @property
    def status(self) -> str:
        return "SUCCESS" if self.verified else "PENDING"


@dataclass(slots=True)
class StoredTemplate:
    name: str
    source: dict[str, str]  # Subject, Text, Html: those that were given
    parts: Parts
    created: float


@dataclass(slots=True)
class ConfigurationSet:
    name: str
    sending_enabled: bool = True
    suppressed_reasons: tuple[str, ...] | None = None  # None: as the account says; empty: no suppression for this stream
    options: dict[str, object] = field(default_factory=dict)  # what Create was given and Get gives back


class Envelope(NamedTuple):
    """What all messages of one call share."""

    operation: str
    action: str  # the IAM action that SES checks, which is not always the operation's name
    from_: str  # as given
    reply_to: tuple[str, ...]
    identity_arn: str | None
    feedback: str | None
    feedback_arn: str | None
    configuration_set: str | None
    set_is_default: bool  # of the identity; the call names none
    tenant: str | None
    overrides: Json | None  # ConfigurationOverrides
    sender: str | None = None  # header Sender of a raw message

    def identities(self) -> list[tuple[str, str | None]]:
        """The addresses that must be verified, each with the ARN that stands for it if the caller gave one."""
        pairs = [(self.from_, self.identity_arn), (self.feedback, self.feedback_arn)]
        return [(text, arn) for text, arn in pairs if text]


class State:
    """Everything that the operations read and change. No I/O; not safe for threads, it lives in one event loop."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.on_event: Callable[[Json], None] | None = None  # is given what SES would publish of each message, as it accepts it
        self.archive: Archive | None = None  # of the messages, where they are to be there after a restart
        self.queues = Queues(
            account=config.account, region=config.region, visibility_s=config.events_visibility_s, clock=config.monotonic
        )
        self.reset()

    def reset(self) -> None:
        """Back to the configuration: no messages, no faults, full allowance."""
        config = self.config
        self.production = config.production
        self.sending_enabled = True
        self.suspended = False
        self.enforcement = "HEALTHY"
        self.daily_code = str(config.daily_code)
        self.rate = TokenBucket(config.max_send_rate, config.monotonic)
        self.quota = RollingQuota(config.max_24h, config.clock)
        self.bulk_calls = TokenBucket(_or_unlimited(config.bulk_calls_per_s), config.monotonic)
        self.identities = {lower_domain(name): Identity(lower_domain(name), True) for name in config.verified}
        self.templates: dict[str, StoredTemplate] = {}
        self.configuration_sets = {name: ConfigurationSet(name) for name in config.configuration_sets}
        self.suppressed = SuppressionList(config.clock)  # the account's
        # A tenant uses the account's list for its own mail: here no operation gives it SuppressionScope TENANT.
        self._of_tenants = {name: SuppressionList(config.clock) for name in config.tenants}
        self.suppressed_reasons: tuple[str, ...] = REASONS
        self.faults = Faults(config.seed)
        self.log = Log()
        self.mailroom = Mailroom(config.keep)
        self.counts: Counter[str] = Counter()
        self.queues.clear()
        if self.archive is not None:
            self.archive.clear()

    def keep_in(self, archive: Archive) -> None:
        """From now on; what is in it was accepted before, and counts as that."""
        for message in archive:
            self._take(message)
            self.quota.add(self._counted(message.accepted.recipients), message.accepted.at)
        self.archive = archive

    # ---- gates ----

    def admit_call(self, envelope: Envelope) -> None:
        """What SES refuses whatever the recipients are: account, configuration set, identities. Raises Refusal."""
        if self.suspended:
            raise refusals.account_suspended()
        if not self.sending_enabled:
            raise refusals.account_paused()
        self._admit_configuration_set(envelope)
        failing = [text for text, arn in envelope.identities() if arn is None and not self.is_verified(mailbox(text))]
        if envelope.sender and not self._may_be_named(envelope.sender, envelope.identity_arn):
            failing.append(envelope.sender)
        if failing:
            raise refusals.not_verified(dict.fromkeys(failing), self.config.region)

    def _admit_configuration_set(self, envelope: Envelope) -> None:
        name = envelope.configuration_set
        if name is None:
            return
        found = self.configuration_sets.get(name)
        if found is None:
            raise refusals.set_not_found(name, default=envelope.set_is_default)
        if not found.sending_enabled:
            raise refusals.set_paused(name)

    def admit_tenant(self, name: str | None) -> None:
        if name is not None and name not in self.config.tenants:
            raise refusals.not_found("Tenant", name)

    def default_set(self, address: str, arn: str | None) -> str | None:
        """The configuration set of a call that names none: the address's own, or its domain's.

        Another account's identity has none for this account, whose events go to its own sets.
        """
        match = _ARN.fullmatch(arn or "")
        if match and match[2] != self.config.account:
            return None
        return next((found.configuration_set for found in self._identities_of(address) if found.configuration_set), None)

    def authorise(self, envelope: Envelope) -> None:
        """Sending authorization: the identity behind an ARN must be one that this account may use, and cover the address."""
        for text, arn in envelope.identities():
            if arn is not None:
                self._authorise(text, arn, envelope.action)

    def _authorise(self, text: str, arn: str, action: str) -> None:
        match = _ARN.fullmatch(arn)
        if match is None or match[1] != self.config.region:
            raise refusals.bad_request(f"Invalid identity ARN <{arn}> for region {self.config.region}.")
        name = lower_domain(match[3])
        own = match[2] == self.config.account and name in self.identities and self.identities[name].verified
        if not own and arn not in self.config.authorised:
            raise refusals.access_denied(self.config.account, action, arn)
        if not _covers(name, mailbox(text)):
            raise refusals.not_verified([text], self.config.region)

    def _may_be_named(self, text: str, arn: str | None) -> bool:
        match = _ARN.fullmatch(arn or "")
        return (match is not None and _covers(lower_domain(match[3]), mailbox(text))) or self.is_verified(mailbox(text))

    def is_verified(self, address: str) -> bool:
        return next(self._identities_of(address), None) is not None

    def _identities_of(self, address: str) -> Iterator[Identity]:
        """Those verified that an address may be used by: its own, that without its label (`ana+label@`), its domain's and those
        of the domains above (developer guide, "Creating an email address identity")."""
        for name in dict.fromkeys((lower_domain(address), lower_domain(_without_label(address)))):
            own = self.identities.get(name)
            if own is not None and own.verified:
                yield own
        domain = domain_of(address)
        while domain:
            found = self.identities.get(domain)
            if found is not None and found.verified:
                yield found
            domain = domain.partition(".")[2]

    def admit_recipients(self, addresses: Iterable[str]) -> None:
        """Sandbox, daily quota, rate; counts the recipients against both. Raises Refusal."""
        recipients = list(addresses)
        if not self.production:
            failing = [text for text in recipients if not self._may_receive_in_sandbox(mailbox(text))]
            if failing:
                raise refusals.not_verified(dict.fromkeys(failing), self.config.region)
        counted = self._counted(recipients)
        if not self.quota.has(counted):
            self.counts["over_quota"] += 1
            raise refusals.quota_exceeded(self.daily_code)
        if not self.rate.take(len(recipients)):
            self.counts["throttled"] += 1
            raise refusals.rate_exceeded()
        self.quota.add(counted)

    @staticmethod
    def _counted(recipients: Iterable[str]) -> int:
        return sum(domain_of(mailbox(text)) != MAILBOX_SIMULATOR for text in recipients)

    def _may_receive_in_sandbox(self, address: str) -> bool:
        return domain_of(address) == MAILBOX_SIMULATOR or self.is_verified(address)

    def suppressed_of(self, addresses: Iterable[str], configuration_set: str | None) -> tuple[str, ...]:
        """Those of the addresses that SES accepts and does not deliver to."""
        if not self.suppressed:
            return ()
        chosen = self.configuration_sets.get(configuration_set or "")
        reasons = chosen.suppressed_reasons if chosen else None
        reasons = self.suppressed_reasons if reasons is None else reasons
        return tuple(text for text in addresses if self.suppressed.stops(mailbox(text), reasons))

    def suppression_list(self, tenant: str | None) -> SuppressionList:
        """The tenant's, or the account's. Raises Refusal."""
        if tenant is None:
            return self.suppressed
        self.admit_tenant(tenant)
        return self._of_tenants[tenant]

    # ---- accepting ----

    def message_id(self, now: float) -> str:
        """As SES writes it: ``0102`` and the time in ms as 12 hex digits, a UUID, ``-000000``."""
        return f"0102{int(now * 1000):012x}-{uuid4()}-000000"

    def accept(self, message: Message) -> str:
        entry = message.accepted
        self._take(message)
        if self.archive is not None:
            self.archive.add(message)
        if self.config.events or self.on_event is not None:
            self._publish(entry)
        return entry.id

    def _take(self, message: Message) -> None:
        entry = message.accepted
        self.log.add(entry)
        self.mailroom.add(message)
        self.counts["accepted"] += 1
        self.counts["recipients"] += len(entry.recipients)
        self.counts["suppressed"] += len(entry.suppressed)
        self.counts["rendering_failures"] += entry.failure is not None

    def _publish(self, entry: Accepted) -> None:
        for number, event in enumerate(events_of(entry, account=self.config.account, simulator_domain=MAILBOX_SIMULATOR)):
            if self.on_event is not None:
                self.on_event(event)
            if self.config.events:
                self.queues.events.put(orjson.dumps(event), delay_s=self.config.events_delay_s if number else 0)

    # ---- changing ----

    def suppress(self, address: str, reason: str) -> None:
        self.suppressed.put(address, reason)

    def unsuppress(self, address: str) -> bool:
        """Whether it was there."""
        return self.suppressed.remove(address)


def _covers(identity: str, address: str) -> bool:
    if "@" in identity:
        return identity in (lower_domain(address), lower_domain(_without_label(address)))
    domain = domain_of(address)
    return domain == identity or domain.endswith(f".{identity}")


def _without_label(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}"


def _or_unlimited(rate: float | None) -> float:
    return float("inf") if rate is None else rate
