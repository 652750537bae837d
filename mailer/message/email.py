"""What an application hands over, Email and Campaign; and the words for what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from email.message import Message
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, Unpack

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..errors import InvalidState
from .attachment import Attachment
from .checks import (
    MAX_RECIPIENTS,
    Data,
    Headers,
    Mailbox,
    Mailboxes,
    Model,
    Moment,
    Name,
    OneLine,
    Tags,
    Text,
    shown,
    whole,
    written,
)
from .mime import MAX_MESSAGE, Raw, read_mime

MIN_RATE = 1 / 3600  # per second: what is slower holds places and workers for hours, and far below it no clock counts
MAX_SENDER_NAME = 128  # bytes: an unsubscribe token has it inside, and a header of 870 characters the token


class Lane(StrEnum):
    """A lane has its own queue, its own workers and its own share of the quota."""

    TRANSACTIONAL = "transactional"
    BULK = "bulk"


class Outcome(StrEnum):
    """The state of one recipient."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    SUPPRESSED = "suppressed"
    REJECTED = "rejected"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class State(StrEnum):
    """The state of a campaign."""

    PLANNED = "planned"  # being read in; nothing is sent yet
    RUNNING = "running"
    PARKED = "parked"  # waits for something outside (quota, credentials, an unpaused account); goes on by itself
    PAUSED = "paused"  # waits for `resume`
    STOPPED = "stopped"  # a template, sender or configuration is wrong; `reason` says what
    CANCELLED = "cancelled"
    FINISHED = "finished"


class Mode(StrEnum):
    """How SES gets a message: SendEmail with simple, raw or template content, or SendBulkEmail."""

    AUTO = "auto"  # the planner's choice; of a message that was not handed over yet: none so far
    SIMPLE = "simple"
    RAW = "raw"
    TEMPLATE = "template"
    BULK = "bulk"


def _attachments(value: Any) -> Any:
    return [value] if isinstance(value, Attachment | dict) else () if value is None else value


def _short_name(value: str) -> str:
    if len(value.encode()) > MAX_SENDER_NAME:
        raise ValueError(f"is longer than {MAX_SENDER_NAME} bytes; give the sender profile a shorter name")
    return value


def _share(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError("must be above 0 and at most 1: 0.05 is 5 %, and 1 never pauses it")
    return value


def rate(value: float) -> float:
    """Of whatever it is, per second."""
    if not MIN_RATE <= value < inf:
        raise ValueError("must be at least 0.00028, which is one an hour; it is per second")
    return value


def _at_least_one(value: int) -> int:
    if not 1 <= value <= 1_000_000_000:
        raise ValueError("must be 1 or more, and at most 1,000,000,000")
    return value


Rate = Annotated[float, AfterValidator(rate)]
Share = Annotated[float, AfterValidator(_share)]
SesTemplate = Annotated[
    str,
    written(
        r"[A-Za-z0-9_-]{1,64}|arn:[a-z-]+:ses:[a-z0-9-]+:[0-9]{12}:template/[A-Za-z0-9_-]{1,64}",
        "must be the name of a template in SES, of 1 to 64 characters, each of A-Z a-z 0-9 _ -, or its ARN, "
        "as arn:aws:ses:eu-west-1:123456789012:template/welcome is one",
    ),
]
Attachments = Annotated[tuple[Attachment, ...], BeforeValidator(_attachments)]


class _ContentFields(TypedDict, total=False):
    from_: str | None
    sender: str | None
    subject: str | None
    html: str | None
    text: str | None
    template: str | None
    ses_template: str | None
    mode: Mode | Literal["auto", "simple", "raw", "template", "bulk"]
    attachments: Attachment | Mapping[str, Any] | Iterable[Attachment | Mapping[str, Any]] | None
    reply_to: str | Iterable[str] | None
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    configuration_set: str | None
    contact_list: str | None
    topic: str | None
    lane: Lane | Literal["transactional", "bulk"]
    send_at: datetime | str | None
    expires_at: datetime | str | None


class _Content(Model):
    """What an Email and a Campaign have in common: one content, and what goes on it.

    The content is one of: `template`, the name of a folder; `subject` with `html` or `text`; `ses_template`, a template
    that is stored in SES, by name or ARN; of an Email also `raw`.
    """

    from_: Mailbox | None = Field(None, alias="from")
    sender: Annotated[OneLine, AfterValidator(_short_name)] | None = None
    subject: OneLine | None = None
    html: Text | None = None
    text: Text | None = None
    template: OneLine | None = None
    ses_template: SesTemplate | None = None
    mode: Mode = Mode.AUTO
    attachments: Attachments = ()
    reply_to: Mailboxes = ()
    headers: Headers = Field(default_factory=dict)
    tags: Tags = Field(default_factory=dict)
    configuration_set: Name | None = None
    contact_list: Name | None = None  # SES manages who has unsubscribed (ListManagementOptions)
    topic: Name | None = None  # of the contact list
    lane: Lane
    send_at: Moment | None = None
    expires_at: Moment | None = None  # what has not been handed to SES by then is not sent

    @model_validator(mode="after")
    def _consistent(self) -> _Content:
        if (self.from_ is None) == (self.sender is None):
            raise ValueError("give either `from` or `sender`; in Python it is `from_`")
        if sum(self._given()) != 1 or not self._complete():
            raise ValueError(f"give one content: {self._CONTENTS}")
        if self.topic is not None and self.contact_list is None:
            raise ValueError("`topic` goes with `contact_list`")
        if self.send_at is not None and self.expires_at is not None and self.expires_at <= self.send_at:
            raise ValueError("`expires_at` has to be later than `send_at`")
        if sum(len(file.content) for file in self.attachments) > MAX_MESSAGE // 4 * 3:
            raise ValueError("the attachments are larger than the 40 MB that SES takes, base64 included; send links instead")
        content_ids = [file.content_id for file in self.attachments if file.content_id is not None]
        if len(set(content_ids)) < len(content_ids):
            raise ValueError("two attachments have the same `content_id`")
        return self

    _CONTENTS = "a `template`, a `ses_template`, or a `subject` with `html` or `text`"

    def _given(self) -> list[bool]:
        inline = self.subject is not None or self.html is not None or self.text is not None
        return [self.template is not None, self.ses_template is not None, inline]

    def _complete(self) -> bool:
        """Of the parts of inline content, enough are there."""
        parts = (self.html, self.text)
        return not self._given()[2] or (self.subject is not None and parts != (None, None))


class EmailFields(_ContentFields, total=False):
    """What the constructor of an Email takes; a test holds it and the model together."""

    to: str | Iterable[str] | None
    cc: str | Iterable[str] | None
    bcc: str | Iterable[str] | None
    raw: bytes | str | Message | None
    data: Mapping[str, Any] | None


class Email(_Content):
    """One message with its own content, to at most 50 recipients.

    `subject`, `html` and `text` are taken as they are; with `data` they are Jinja2 templates. `raw` is a whole MIME message,
    as bytes, as text, or as a message object of Python's `email` or of Django; From and recipients that are not given are
    taken from its headers.
    """

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[EmailFields]) -> None: ...

    to: Mailboxes = ()
    cc: Mailboxes = ()
    bcc: Mailboxes = ()
    raw: bytes | None = Field(None, repr=False)
    data: Data | None = None
    lane: Lane = Lane.TRANSACTIONAL

    _CONTENTS = "a `template`, a `ses_template`, a `subject` with `html` or `text`, or `raw`"

    @model_validator(mode="before")
    @classmethod
    def _read_raw(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or fields.get("raw") is None:
            return fields
        given = fields["raw"]
        if not isinstance(given, bytes | str | Message):
            raise ValueError("`raw` must be bytes, text or a message object of Python's `email` package")
        try:
            raw = read_mime(whole(given) if isinstance(given, str) else given)
            return {**fields, "raw": raw.mime, **_from_headers(fields, raw)}
        except ValueError as error:
            raise ValueError(f"`raw` {error}") from None

    def _given(self) -> list[bool]:
        return [*super()._given(), self.raw is not None]

    @model_validator(mode="after")
    def _whole(self) -> Email:
        count = len(self.to) + len(self.cc) + len(self.bcc)
        if not self.to and (self.raw is None or not count):
            raise ValueError("`to` is empty")
        if count > MAX_RECIPIENTS:
            raise ValueError(f"{count} recipients; SES takes {MAX_RECIPIENTS} a message (a Campaign has no such limit)")
        if self.contact_list is not None and count > 1:
            raise ValueError("SES manages a `contact_list` for messages to one recipient only")
        if self.raw is not None and (self.headers or self.attachments or self.data is not None):
            raise ValueError("`raw` is a whole message: put headers and attachments into it, and leave `data` out")
        return self


def _from_headers(fields: dict[str, Any], raw: Raw) -> dict[str, Any]:
    """What the caller did not say and the message's own headers do."""
    found: dict[str, Any] = {}
    if not fields.get("from") and not fields.get("from_") and not fields.get("sender"):
        authors = raw.addresses("From")
        if len(authors) != 1:
            raise ValueError(f"has {len(authors) or 'no'} From addresses, and SES takes one; give `from` or `sender`")
        found["from"] = authors[0]
    if not any(fields.get(name) for name in ("to", "cc", "bcc")):
        found |= {name: raw.addresses(name.title()) for name in ("to", "cc", "bcc")}
        if not any(found[name] for name in ("to", "cc", "bcc")):
            raise ValueError("names no recipient in its headers To, Cc and Bcc; give `to`, `cc` or `bcc`")
    for name in ("configuration_set", "contact_list", "topic"):
        if fields.get(name) is None and (value := getattr(raw, name)) is not None:
            found[name] = value
    if raw.tags and not fields.get("tags"):  # SES, too, takes the one or the other
        found["tags"] = raw.tags
    return found


class CampaignFields(_ContentFields, total=False):
    """What the constructor of a Campaign takes; a test holds it and the model together."""

    name: str
    data: Mapping[str, Any]
    to_name: str | None
    max_rate: float | None
    max_bounce_rate: float
    max_complaint_rate: float
    guard_after: int


class Campaign(_Content):
    """One content, many recipients. `subject`, `html` and `text` are Jinja2 templates; `data` is what every row shares.

    Its guard pauses it when more than these parts of its e-mails bounce or are complained about, as soon as it is known what
    became of `guard_after` of them.
    """

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[CampaignFields]) -> None: ...

    name: OneLine = ""
    data: Data = Field(default_factory=dict)
    to_name: OneLine | None = None  # Jinja2: each recipient's name in To, in place of the one beside the address in the list
    max_rate: Rate | None = None  # recipients per second, below the account's own
    max_bounce_rate: Share = 0.05
    max_complaint_rate: Share = 0.001
    guard_after: Annotated[int, AfterValidator(_at_least_one)] = 200
    lane: Lane = Lane.BULK


def outcomes_of(states: Outcome | str | Iterable[Outcome | str]) -> frozenset[Outcome]:
    """States as a caller names them. Raises InvalidState."""
    if isinstance(states, str | Outcome):
        states = (states,)
    try:
        return frozenset(map(_outcome, states))
    except TypeError:
        raise InvalidState(why=f"{shown(states)} must be a state, or several of them") from None


def _outcome(state: Outcome | str) -> Outcome:
    """Raises InvalidState."""
    try:
        return state if isinstance(state, Outcome) else Outcome[state.upper()]
    except (KeyError, AttributeError):
        known = ", ".join(Outcome)
        raise InvalidState(why=f"there is no state {shown(state)}; there are: {known}") from None
