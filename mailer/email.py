"""What an application hands over: Email, Campaign, Sender; and the words for what becomes of them.

These are the edges, so they are pydantic models: everything that a caller typed is checked here, once, with SES's own
limits (ses-facts a.1, a.4), and nothing behind them needs to check it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.header import Header
from email.utils import formataddr
from enum import Enum, StrEnum
from reprlib import Repr
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .address import normalise
from .errors import InvalidAddress, InvalidEmail

MAX_RECIPIENTS = 50  # To + Cc + Bcc of one message, SES quota
MAX_HEADERS = 15  # custom headers of one message, SES v2 model
MAX_TAG_LEN = 256  # characters of a tag's name and of its value, SES v2 API reference
MAX_HEADER_VALUE = 870  # characters, SES v2 model
MAX_ADDRESS = 320  # characters of `Name <address>`, what SES answers beyond it
MAX_WORD = 75  # characters of an encoded word, RFC 2047 section 2

_short = Repr()
_short.maxstring = 80  # characters of what was given, in an error
_shown = _short.repr

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HALF = re.compile(r"[\ud800-\udfff]")
_NAMED = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^"<>,;][^<>,;]*)?)\s*<([^<>]*)>\s*')
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_HEADER_NAME = re.compile(r"[!-9;-@A-~]{1,126}")
_HEADER_VALUE = re.compile(rf"[ -~]{{1,{MAX_HEADER_VALUE}}}")
# Written by SES or by this service from their own fields; a second copy would be refused or, worse, believed.
_RESERVED = """
    bcc cc content-type content-transfer-encoding content-disposition content-id date dkim-signature from message-id
    mime-version received reply-to return-path sender subject to
"""
_RESERVED_HEADERS = frozenset(_RESERVED.split())
RESERVED_TAG = "mailer_id"  # the tag that carries our own id on every message


class Lane(StrEnum):
    """A lane has its own queue, its own workers and its own share of the quota."""

    TRANSACTIONAL = "transactional"
    BULK = "bulk"


class Outcome(Enum):
    """The state of one recipient. The value is the byte that the ledger keeps for it."""

    QUEUED = "q"
    CLAIMED = "c"
    SENT = "s"
    DELIVERED = "d"
    BOUNCED = "b"
    COMPLAINED = "m"
    SUPPRESSED = "p"
    REJECTED = "r"
    FAILED = "f"
    DUPLICATE = "u"
    EXPIRED = "x"
    CANCELLED = "n"
    UNKNOWN = "k"

    @property
    def label(self) -> str:
        return self.name.lower()


class State(StrEnum):
    """The state of a campaign."""

    PLANNED = "planned"  # being read in; nothing is sent yet
    RUNNING = "running"
    PARKED = "parked"  # waits for something outside (quota, credentials, an unpaused account); goes on by itself
    PAUSED = "paused"  # waits for `resume`
    STOPPED = "stopped"  # a template, sender or configuration is wrong; `reason` says what
    CANCELLED = "cancelled"
    FINISHED = "finished"


# ---- checked strings -----------------------------------------------------------------------------------------------


def one_line(value: str) -> str:
    """Header injection ends here: CR, LF, NUL and their like are refused, never stripped."""
    if _CONTROL.search(value):
        raise ValueError("must be one line without control characters")
    return whole(value)


def mailbox(value: str) -> str:
    """``ana@example.com`` or ``Ana <ana@example.com>`` → the form that SES takes: ASCII, RFC 2047 name, Punycode domain."""
    one_line(value)
    name, address = _named(value) if "<" in value else ("", value)
    try:
        result = formataddr((name, normalise(address)))
    except InvalidAddress as error:
        raise ValueError(str(error)) from None
    if len(result) > MAX_ADDRESS:
        raise ValueError(f"longer than the {MAX_ADDRESS} characters that SES takes for an address")
    return one_line(result)


def _named(value: str) -> tuple[str, str]:
    """`Name <address>` → the name, encoded where it is not ASCII, and the address. More than one address is refused."""
    match = _NAMED.fullmatch(value)
    if match is None:
        raise ValueError('must be one address, as in `Ana <ana@example.com>`; a name with , ; < or > stands in "quotes"')
    quoted, bare, address = match.groups()
    name = (bare or "") if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    name = " ".join(name.split())  # Header takes Unicode's line breaks for its own
    return name if name.isascii() else Header(name, "utf-8", maxlinelen=MAX_WORD).encode(linesep=""), address


def whole(value: str) -> str:
    """Half a character, as a broken `\\ud83d` leaves it, fits into no request."""
    if not value.isascii() and _HALF.search(value):
        raise ValueError("has half a character in it (a lone surrogate)")
    return value


def _data(value: dict[str, Any]) -> dict[str, Any]:
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return value


def _tags(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _TAG.fullmatch(name) or not _TAG.fullmatch(text):
            raise ValueError(
                f"tag {_shown(name)}: SES takes A-Z a-z 0-9 _ - and at most {MAX_TAG_LEN} characters, for name and value"
            )
        if name == RESERVED_TAG:
            raise ValueError(f"tag {name!r} is the one that this service puts on every message itself")
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    if len(value) > MAX_HEADERS:
        raise ValueError(f"{len(value)} headers; SES takes {MAX_HEADERS}")
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"header name {_shown(name)} must be 1 to 126 visible ASCII characters without a colon")
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith("x-ses-"):
            raise ValueError(f"header {name} is set from its own field, not from headers")
        if not _HEADER_VALUE.fullmatch(text):
            raise ValueError(f"header {name} must be one line of 1 to {MAX_HEADER_VALUE} ASCII characters (RFC 2047 has others)")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


OneLine = Annotated[str, AfterValidator(one_line)]
Text = Annotated[str, AfterValidator(whole)]
Data = Annotated[dict[str, Any], AfterValidator(_data)]
Mailbox = Annotated[str, AfterValidator(mailbox)]
Mailboxes = Annotated[tuple[Mailbox, ...], BeforeValidator(_listed)]
Tags = Annotated[dict[str, str], AfterValidator(_tags)]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]
Arn = Annotated[str, Field(pattern=r"^arn:[a-z-]+:ses:[a-z0-9-]+:[0-9]{12}:identity/[!-~]+$")]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Sender(Model):
    """A named profile: what goes on every message that is sent under it."""

    from_: Mailbox = Field(alias="from")
    reply_to: Mailboxes = ()
    feedback_address: Mailbox | None = None
    identity_arn: Arn | None = None
    feedback_identity_arn: Arn | None = None
    configuration_set: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    tenant: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    tags: Tags = Field(default_factory=dict)


class _Content(Model):
    """What an Email and a Campaign have in common. `template` names a folder; `subject`, `html` and `text` are the parts."""

    from_: Mailbox | None = Field(None, alias="from")
    sender: str | None = None
    subject: OneLine | None = None
    html: Text | None = None
    text: Text | None = None
    template: OneLine | None = None
    reply_to: Mailboxes = ()
    headers: Headers = Field(default_factory=dict)
    tags: Tags = Field(default_factory=dict)
    configuration_set: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    lane: Lane

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidEmail(field=type(self).__name__, why=explain_validation(error)) from None

    @model_validator(mode="after")
    def _one_content(self) -> _Content:
        if (self.from_ is None) == (self.sender is None):
            raise ValueError("give either `from` or `sender`")
        if self.template is not None:
            if self.subject is not None or self.html is not None or self.text is not None:
                raise ValueError("give either `template` or `subject` with `html` or `text`, not both")
        elif self.subject is None or (self.html is None and self.text is None):
            raise ValueError("give a `template`, or a `subject` with `html` or `text`")
        return self


class Email(_Content):
    """One message with its own content, to at most 50 recipients.

    `subject`, `html` and `text` are taken as they are; with `data` they are Jinja2 templates.
    """

    to: Mailboxes
    cc: Mailboxes = ()
    bcc: Mailboxes = ()
    data: Data | None = None
    lane: Lane = Lane.TRANSACTIONAL

    @model_validator(mode="after")
    def _count(self) -> Email:
        count = len(self.to) + len(self.cc) + len(self.bcc)
        if not self.to:
            raise ValueError("`to` is empty")
        if count > MAX_RECIPIENTS:
            raise ValueError(f"{count} recipients; SES takes {MAX_RECIPIENTS} a message (a Campaign has no such limit)")
        return self


class Campaign(_Content):
    """One content, many recipients. `subject`, `html` and `text` are Jinja2 templates; `data` is what every row shares."""

    name: OneLine = ""
    data: Data = Field(default_factory=dict)
    lane: Lane = Lane.BULK


def explain_validation(error: ValidationError) -> str:
    """Pydantic's first complaint as half a sentence: where, and what is wrong there."""
    first: Mapping[str, Any] = error.errors(include_url=False)[0]
    where = ".".join(part.rstrip("_") for part in first["loc"] if isinstance(part, str))
    text = str(first["msg"])
    if first["type"] == "value_error":
        text = text.removeprefix("Value error, ")
    elif first["type"] == "extra_forbidden":
        text = "is not a name that is known here"
    elif first["type"] == "missing":
        text = "is missing"
    elif first["type"] == "string_pattern_mismatch":
        text = f"{_shown(first['input'])} does not have the form {first['ctx']['pattern']}"
    else:
        text = text[:1].lower() + text[1:]
    more = error.error_count() - 1
    return (f"`{where}` {text}" if where else text) + (f" (and {more} more)" if more else "")
