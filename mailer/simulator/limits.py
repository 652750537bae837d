"""The limits that SES enforces and botocore does not: addresses, headers, tags, sizes, rates.

Numbers and patterns: SES developer guide, "Service quotas" and "Amazon SES header fields", and the SES v2 API model.
The texts about addresses are those that SES answers (they are JavaMail's).
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .refusals import Refusal, bad_request, constraint
from .wire import Json, array, required

MAX_RECIPIENTS = 50  # To + Cc + Bcc of one message
MAX_ENTRIES = 50  # entries of one SendBulkEmail call
MAX_HEADERS = 15
MAX_HEADER_NAME = 126  # characters
MAX_HEADER_VALUE = 995  # characters; 870 until 2026
MAX_HEADER = 996  # characters of name and value together
MAX_TAG = 256  # characters, of the name and of the value
MAX_TEMPLATE_DATA = 262_144  # characters of JSON
MAX_INLINE_REQUEST = 1_000_000  # bytes of request JSON when it carries an inline template ("1 MB")
MAX_STORED_TEMPLATE = 500_000  # bytes of subject, text and html together ("500 KB")
MAX_TEMPLATES = 20_000  # stored templates of one region
MAX_MESSAGE = 41_943_040  # bytes after base64, all parts ("40 MB")
MAX_REQUEST = 60_000_000  # bytes of a whole request; 40 MB of MIME, base64 in JSON, with room for the rest
MAX_ADDRESS = 320  # characters of `Name <address>`
MAX_NAME = 64  # characters of a configuration set or tenant
DAY_S = 86_400.0  # the quota's window rolls; it does not start at midnight

_ONCE = """
    Accept-Language acceptLanguage Archived-At Auto-Submitted Bounces-to Comments Content-Alternative Content-Base
    Content-Class Content-Description Content-Disposition Content-Duration Content-ID Content-Language Content-Length
    Content-Location Content-MD5 Content-Transfer-Encoding Content-Type Date Delivered-To Disposition-Notification-Options
    Disposition-Notification-To DKIM-Signature DomainKey-Signature Errors-To From Importance In-Reply-To Keywords
    List-Archive List-Help List-Id List-Owner List-Post List-Subscribe List-Unsubscribe List-Unsubscribe-Post
    Message-Context Message-ID MIME-Version Organization Original-From Original-Message-ID Original-Recipient
    Original-Subject Precedence Priority References Reply-To Return-Path Return-Receipt-To Sender Solicitation Sensitivity
    Subject Thread-Index Thread-Topic User-Agent VBR-Info
"""
ONCE = {name.lower(): name for name in _ONCE.split()}  # headers that a message may have one of, as SES spells them
# Those that SES writes itself into what is not raw.
WRITTEN = frozenset({"from", "subject", "mime-version", "content-type", "content-transfer-encoding"})

Headers = tuple[tuple[str, str], ...]  # name and value, in order

_HEADER_NAME = re.compile(r"[!-9;-@A-~]{1,126}")
_HEADER_VALUE = re.compile(r"[ -~]{1,995}")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_PLAIN_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
)
_NAMED_ADDRESS = re.compile(r'\s*(?:"(?:[^"\\]|\\.)*"|[^"<>]*?)\s*<([^<>]*)>\s*', re.DOTALL)
_LOCAL = re.compile(r'"(?:[^"\\\r\n]|\\.)*"|[^\s\x00-\x1f\x7f()<>,;:\\"\[\]@]+')
_DOMAIN = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
_LINE = re.compile(r"[\r\n\x00]")
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f]")


# ---- addresses -----------------------------------------------------------------------------------------------------


def mailbox(text: str) -> str:
    """``Ana <ana@example.com>`` or ``ana@example.com`` → ``ana@example.com``. Raises the refusal that SES answers."""
    if len(text) <= MAX_ADDRESS and _PLAIN_ADDRESS.fullmatch(text):
        return text
    if _LINE.search(text):  # a line break here could end a header and start another
        raise bad_request("Address contains control characters")
    if len(text.encode("utf-16-le", "surrogatepass")) // 2 > MAX_ADDRESS:
        raise bad_request(f"Address length is more than {MAX_ADDRESS} characters long: '{text}'.")
    named = _NAMED_ADDRESS.fullmatch(text)
    address = named[1] if named else text.strip()
    if why := _why_malformed(address):
        raise bad_request(why)
    return address


def _why_malformed(address: str) -> str | None:
    if not address:
        return "Empty address"
    local, at, domain = address.rpartition("@")
    if not at:
        return "Missing final '@domain'"
    if not local:
        return "Missing local name"
    if not domain:
        return "Missing domain"
    return _why_local(local) or _why_domain(domain)


def _why_local(local: str) -> str | None:
    quoted = local.startswith('"')
    if _CONTROL.search(local) and not (quoted and _LOCAL.fullmatch(local)):
        return "Local address contains control or whitespace"
    if not quoted and (local.startswith(".") or local.endswith(".")):
        return f"Local address {'starts' if local.startswith('.') else 'ends'} with dot"
    if not quoted and ".." in local:
        return "Local address contains dot-dot"
    if not local.isascii() or not _LOCAL.fullmatch(local):  # SES has no SMTPUTF8
        return "Local address contains illegal character"
    return None


def _why_domain(domain: str) -> str | None:
    if _CONTROL.search(domain):
        return "Domain contains control or whitespace"
    if not _DOMAIN.fullmatch(domain):  # so also a name that is not in Punycode
        return "Domain contains illegal character"
    if domain.startswith(".") or domain.endswith("."):
        return f"Domain {'starts' if domain.startswith('.') else 'ends'} with dot"
    return "Domain contains dot-dot" if ".." in domain else None


def domain_of(address: str) -> str:
    return address.rpartition("@")[2].lower()


def lower_domain(address: str) -> str:
    """The local part is case-sensitive, the domain is not; SES trims and lowers the domain only."""
    local, at, domain = address.strip().rpartition("@")
    return f"{local}{at}{domain.lower()}"


# ---- headers and tags ----------------------------------------------------------------------------------------------


def headers(items: list[Any], where: str) -> Headers:
    """`where` is the path of the list as SES spells it, e.g. ``content.simple.headers``."""
    if len(items) > MAX_HEADERS:
        raise constraint(where, f"Member must have length less than or equal to {MAX_HEADERS}")
    result = []
    for index, item in enumerate(items, 1):
        place = f"{where}.{index}.member"
        name, value = required(item, "Name", place), required(item, "Value", place)
        if not _HEADER_NAME.fullmatch(name):
            rule = r"Member must satisfy regular expression pattern: ^[!-9;-@A-~]+$"
            if not 1 <= len(name) <= MAX_HEADER_NAME:
                rule = f"Member must have length between 1 and {MAX_HEADER_NAME}, inclusive"
            raise constraint(f"{place}.name", rule)
        if not _HEADER_VALUE.fullmatch(value):
            rule = r"Member must satisfy regular expression pattern: [ -~]*"
            if not 1 <= len(value) <= MAX_HEADER_VALUE:
                rule = f"Member must have length between 1 and {MAX_HEADER_VALUE}, inclusive"
            raise constraint(f"{place}.value", rule)
        if len(name) + len(value) > MAX_HEADER:
            raise bad_request(f"The header {name} is longer than {MAX_HEADER} characters, name and value together.")
        result.append((name, value))
    return tuple(result)


def once(names: Iterable[str], written: Iterable[str] = ()) -> None:
    """Raises for a header that must not be there twice. `written` are there already, in lower case."""
    seen = set(written)
    for name in map(str.lower, names):
        if name in seen and name in ONCE:
            raise bad_request(f"Duplicate header '{ONCE[name]}'.")
        seen.add(name)


def tags(items: list[Any], where: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for index, item in enumerate(items, 1):
        place = f"{where}.{index}.member"
        name, value = required(item, "Name", place), required(item, "Value", place)
        for what, text in (("name", name), ("value", value)):
            if not _TAG.fullmatch(text):
                if len(text) > MAX_TAG:
                    raise bad_request(f"The message tag {what} is longer than {MAX_TAG} characters.")
                raise bad_request(
                    f"Invalid message tag {what} <{text}>: only alphanumeric ASCII characters, '_', and '-' are allowed."
                )
        result[name] = value
    return result


def total_size(size: int) -> None:
    if size > MAX_MESSAGE:
        raise bad_request(f"Message length is more than {MAX_MESSAGE} bytes long: '{size}'.")


def too_many_recipients() -> Refusal:
    return bad_request(f"Recipient count exceeds {MAX_RECIPIENTS}.")


def destination(body: Json) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """To, Cc and Bcc as the caller wrote them; every one of them is a well-formed address."""
    parts = []
    for key in ("ToAddresses", "CcAddresses", "BccAddresses"):
        addresses = array(body, key)
        for address in addresses:
            mailbox(address if isinstance(address, str) else "")
        parts.append(tuple(addresses))
    count = sum(map(len, parts))
    if count > MAX_RECIPIENTS:
        raise too_many_recipients()
    if not count:
        raise bad_request("At least one recipient is required.")
    return parts[0], parts[1], parts[2]


# ---- rate and quota ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TokenBucket:
    """MaxSendRate as SES applies it: lets a message through while allowance is left, then borrows from the next seconds.

    5 recipients at 1/s go out at once, and the next ones are refused for 5 seconds. `rate` is recipients (or calls) per second.
    """

    rate: float
    clock: Callable[[], float]  # seconds, monotonic
    tokens: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens, self.at = self.capacity, self.clock()

    @property
    def capacity(self) -> float:
        """One second's worth; at least one, or a rate below 1/s would never let anything through."""
        return max(1.0, self.rate) if self.rate > 0 else 0.0

    def change(self, rate: float) -> None:
        """From now on; what has been borrowed stays borrowed."""
        self.left()
        self.rate = rate
        self.tokens = min(self.tokens, self.capacity)

    def left(self) -> bool:
        if math.isinf(self.rate):
            return True
        now = self.clock()
        self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.rate)
        self.at = now
        return self.tokens >= 1.0 - 1e-9

    def take(self, count: int) -> bool:
        if not self.left():
            return False
        if not math.isinf(self.rate):
            self.tokens -= count
        return True


@dataclass(slots=True)
class RollingQuota:
    """Max24HourSend: recipients in the 24 hours before now. Kept by the second, so 86,400 pairs at most."""

    limit: float  # recipients; -1 = unlimited
    clock: Callable[[], float]  # seconds, wall
    total: int = 0
    seconds: deque[list[int]] = field(default_factory=deque)  # [second, recipients]

    def used(self) -> int:
        oldest = self.clock() - DAY_S
        while self.seconds and self.seconds[0][0] <= oldest:
            self.total -= self.seconds.popleft()[1]
        return self.total

    def has(self, count: int) -> bool:
        return self.limit == -1 or self.used() + count <= self.limit

    def add(self, count: int, at: float | None = None) -> None:
        """`at`: seconds since 1970, not before that of the last ones; None is now."""
        second = int(self.clock() if at is None else at)
        self.total += count
        if self.seconds and self.seconds[-1][0] >= second:
            self.seconds[-1][1] += count
        else:
            self.seconds.append([second, count])

    def preset(self, count: int) -> None:
        """As if `count` recipients had been sent to just now, and none before."""
        self.seconds.clear()
        self.total = 0
        self.add(count)
