"""A whole message: what is taken, what SES reads in its headers, and what goes out."""

from __future__ import annotations

import re
from contextlib import suppress
from email.generator import BytesGenerator
from email.message import Message
from email.policy import EmailPolicy
from io import BytesIO
from typing import Any, NamedTuple

from .addresses import quoted, read_addresses
from .fields import Field, read_fields
from .parts import Parts
from .structure import MAX_DEPTH, MAX_PARTS
from .transfer import fault

MAX_MESSAGE = 41_943_040  # bytes after base64: SES's 40 MB
MAX_RAW = MAX_MESSAGE // 4 * 3  # bytes of MIME, which the request carries in base64

# May stand in a message once only: ses developer guide, "Header fields", which has all of them but Bcc, Cc and To (RFC 5322 3.6).
_ONCE = """
    Accept-Language acceptLanguage Archived-At Auto-Submitted Bcc Bounces-to Cc Comments Content-Alternative Content-Base
    Content-Class Content-Description Content-Disposition Content-Duration Content-ID Content-Language Content-Length
    Content-Location Content-MD5 Content-Transfer-Encoding Content-Type Date Delivered-To Disposition-Notification-Options
    Disposition-Notification-To DKIM-Signature DomainKey-Signature Errors-To From Importance In-Reply-To Keywords
    List-Archive List-Help List-Id List-Owner List-Post List-Subscribe List-Unsubscribe List-Unsubscribe-Post
    Message-Context Message-ID MIME-Version Organization Original-From Original-Message-ID Original-Recipient
    Original-Subject Precedence Priority References Reply-To Return-Path Return-Receipt-To Sender Solicitation Sensitivity
    Subject Thread-Index Thread-Topic To User-Agent VBR-Info
"""
ONCE = {name.lower(): name for name in _ONCE.split()}
# What a message has twice that was forwarded, and what to do about it.
_TRACES = {
    "dkim-signature": "leave out those of earlier senders: SES signs the message itself",
    "domainkey-signature": "leave out those of earlier senders: SES signs the message itself",
    "delivered-to": "leave out what earlier deliveries have added",
    "return-path": "leave out what earlier deliveries have added",
}
# Our parameters say these, and SES would read them from the message, too.
_IN_SENDER = {
    "x-ses-source-arn": "identity_arn",
    "x-ses-from-arn": "identity_arn",
    "x-ses-return-path-arn": "feedback_identity_arn",
    "x-ses-tenant": "tenant",
}
_SENDERS = frozenset(("sender", "return-path"))
_SECRET = frozenset(("bcc", "resent-bcc"))  # whom the other recipients are not to see (RFC 5322 3.6.3, 3.6.6)
_UTF_8_BOM, _UTF_16_BOMS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_MBOX = re.compile(rb">?From [^:\r\n]{1,320} [^\r\n]{0,80}\r\n")  # the line that an mbox file puts before each message
_BREAK_IN_HEADER = re.compile(r"\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n(?![ \t])")


class Raw(NamedTuple):
    """A message that SES takes as it is, and what its headers say besides."""

    mime: bytes  # 7-bit, CRLF, without Bcc, Resent-Bcc and X-SES-… headers
    fields: tuple[Field, ...]  # with them
    configuration_set: str | None
    tags: dict[str, str]
    contact_list: str | None
    topic: str | None

    def addresses(self, name: str) -> tuple[str, ...]:
        """Those of From, To, Cc or Bcc. Raises ValueError where that header is anything but addresses."""
        given = next((one for one in self.fields if one.key == name.lower()), None)
        if given is None:
            return ()
        return tuple(f"{quoted(who)} <{address}>" if who else address for who, address in read_addresses(given))


def read_mime(given: bytes | str | Message) -> Raw:
    """Raises ValueError with half a sentence where SES would not take the message, or would read it otherwise than we do."""
    parts = _read(given)
    _check_headers(parts.fields)
    list_name, topic = _list_options(_control(parts.fields, "x-ses-list-management-options"))
    kept = [one for one in parts.fields if one.key not in _SECRET and not one.key.startswith("x-ses-")]
    if not kept:
        raise ValueError("has no headers but those for SES")
    return Raw(
        mime=_whole(kept, parts),
        fields=tuple(parts.fields),
        configuration_set=_control(parts.fields, "x-ses-configuration-set") or None,
        tags=_pairs(_control(parts.fields, "x-ses-message-tags")),
        contact_list=list_name,
        topic=topic,
    )


def inner_message(content: bytes) -> bytes:
    """A message that goes inside another one, where no encoding may be put around it (RFC 2046 5.2.1): 7-bit, with CRLF.

    Raises ValueError.
    """
    parts = _read(content)
    return _whole(parts.fields, parts)


def header_senders(mime: bytes) -> tuple[tuple[str, str], ...]:
    """(header, address) of Sender and Return-Path, which SES wants verified as it wants From. `mime` as in Raw."""
    found = list[tuple[str, str]]()
    with suppress(ValueError):  # it has been checked; but what was stored by another version has not
        fields, _ = read_fields(mime.partition(b"\r\n\r\n")[0] + b"\r\n", 1)
        found += [(one.name, address) for one in fields if one.key in _SENDERS for address in _senders(one)]
    return tuple(found)


def _senders(given: Field) -> list[str]:
    """Raises ValueError."""
    if given.key == "return-path" and given.text.replace(" ", "") in ("<>", ""):
        return []  # of a message that nobody wants back
    found = [address for _, address in read_addresses(given)]
    if len(found) != 1:
        raise ValueError(f"has {len(found) or 'no'} addresses in the header {given.name}, and SES takes one")
    return found


# ---- what is given ---------------------------------------------------------------------------------------------------


def _read(given: bytes | str | Message) -> Parts:
    data = _flattened(given) if isinstance(given, Message) else given.encode() if isinstance(given, str) else given
    if len(data) > MAX_RAW:
        raise _too_large(len(data))
    if data.startswith(_UTF_16_BOMS):
        raise ValueError("is UTF-16 text, and a MIME message is not; save it as UTF-8")
    # A CR that stands alone is no line break, or a Subject with one in it would hold two headers.
    lines = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if b"\n" not in lines and b"\r" in lines:
        raise ValueError("has lines that end with a carriage return (CR) alone; they have to end with CR LF or LF")
    first = _first_line(lines)
    parts = Parts(
        data=lines[first:] if first else lines,
        line=lines.count(b"\r\n", 0, first) + 1,
        is_text=isinstance(given, str),
        same_breaks=lines == data and not isinstance(given, Message),
    )
    parts.read()
    if parts.changed and any(one.key == "dkim-signature" for one in parts.fields):
        why = "and encoding it would break its DKIM-Signature; encode it before it is signed, or leave the signature out"
        raise ValueError(f"{parts.changed[0]}, {why}")
    return parts


def _first_line(lines: bytes) -> int:
    """Where the headers begin: behind empty lines, a byte order mark and the `From ` line of an mbox file."""
    start = 0
    while lines.startswith(b"\r\n", start):
        start += 2
    if lines.startswith(_UTF_8_BOM, start):
        start += len(_UTF_8_BOM)
    mbox = _MBOX.match(lines, start)
    return mbox.end() if mbox else start


def _flattened(message: Message) -> bytes:
    """As it is: what is not ASCII in it stays so, and is encoded with what others give as bytes."""
    _check_object(message)
    rules: Any = message.policy.clone(linesep="\r\n", cte_type="8bit", max_line_length=None)
    if isinstance(rules, EmailPolicy):
        rules = rules.clone(utf8=True, refold_source="none", max_line_length=998)
    out = BytesIO()
    try:
        # Not the message's own method: Django's takes no policy.
        BytesGenerator(out, mangle_from_=False, policy=rules).flatten(message, linesep="\r\n")
    except Exception as error:  # a header with a line break, a charset that nobody knows, ...
        raise ValueError(f"cannot be written: {' '.join(str(error).split())[:100]}") from None
    return out.getvalue()


def _check_object(message: Message) -> None:
    """Raises ValueError for what the library would write as something else, or would not come to an end with."""
    waiting, count = [(message, 0)], 0
    while waiting:
        (part, depth), count = waiting.pop(), count + 1
        if depth >= MAX_DEPTH:
            raise ValueError(f"has more than {MAX_DEPTH} parts inside each other")
        if count > MAX_PARTS:
            raise ValueError(f"has more than {MAX_PARTS:,} parts")
        for name, value in part.raw_items():
            if isinstance(value, str) and _BREAK_IN_HEADER.search(value):
                raise ValueError(f"has a line break in the header {name[:60]!r}")
        if part.is_multipart():
            waiting += [(inner, depth + 1) for inner in part.get_payload() if isinstance(inner, Message)]


# ---- what goes out ---------------------------------------------------------------------------------------------------


def _whole(fields: list[Field], parts: Parts) -> bytes:
    """Raises ValueError."""
    mime = b"".join([*(one.written() for one in fields), b"\r\n", parts.body()])
    if len(mime) > MAX_RAW:
        raise _too_large(len(mime))
    wrong = fault(mime)
    if wrong is not None:  # in a line that is no part's content, as that of a boundary
        raise ValueError(wrong.told(mime.count(b"\r\n", 0, wrong.at) + 1))
    return mime


def _too_large(size: int) -> ValueError:
    return ValueError(f"has {size:,} bytes; SES takes {MAX_RAW:,}, which are 40 MB in base64")


def _check_headers(fields: list[Field]) -> None:
    counts: dict[str, int] = {}
    for one in fields:
        counts[one.key] = counts.get(one.key, 0) + 1
    for name, count in counts.items():
        if name in ONCE and count > 1:
            do = _TRACES.get(name, "leave out all but one")
            raise ValueError(f"has the header {ONCE[name]} {count} times, and SES takes it once; {do}")
        if name in _IN_SENDER:
            raise ValueError(f"has the header {name}; name it in the sender profile instead, as {_IN_SENDER[name]}")
    for one in fields:
        if one.key in _SENDERS:
            _senders(one)


def _control(fields: list[Field], name: str) -> str:
    """Of a control header that is there more than once SES takes the first."""
    return next((one.text for one in fields if one.key == name), "")


def _pairs(text: str) -> dict[str, str]:
    """`a=1, b=2` → a dict."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _list_options(text: str) -> tuple[str | None, str | None]:
    """`{list}; topic={topic}` → list and topic."""
    name, _, rest = text.partition(";")
    topic = rest.partition("topic=")[2].strip()
    return name.strip() or None, topic or None
