"""A caller's own MIME message: checked, and taken apart as far as sending depends on it.

What SES wants of it: ses developer guide, "Sending raw email" and "Header fields"; SES v2 API model, RawMessage.
"""

from __future__ import annotations

import re
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser, BytesParser
from typing import NamedTuple

from .attachment import check_file_name

MAX_LINE = 998  # characters without the line break: SES takes 1,000 with it (RFC 5322 2.1.1)
MAX_MESSAGE = 41_943_040  # bytes after base64: SES's 40 MB
MAX_RAW = MAX_MESSAGE // 4 * 3  # bytes of MIME, which the request carries in base64

# May stand in a message once only: ses developer guide, "Header fields"; RFC 5322 3.6.
_ONCE = """
    accept-language auto-submitted bcc cc comments content-description content-disposition content-id content-language
    content-transfer-encoding content-type date disposition-notification-to from in-reply-to list-archive list-help list-id
    list-owner list-post list-subscribe list-unsubscribe list-unsubscribe-post message-id mime-version organization
    precedence references reply-to return-path sender subject thread-index thread-topic to user-agent
"""
ONCE = frozenset(_ONCE.split())
# Our parameters say these, and SES would read them from the message, too.
_IN_SENDER = {
    "x-ses-source-arn": "identity_arn",
    "x-ses-from-arn": "identity_arn",
    "x-ses-return-path-arn": "feedback_identity_arn",
    "x-ses-tenant": "tenant",
}
_BREAK = re.compile(rb"\r\n|\r|\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_NO_HEADER_LINES = re.compile(rb"[^\r\n]*\r\n")


class Raw(NamedTuple):
    """A message that SES takes as it is, and what its headers say about who it is from and for."""

    mime: bytes  # 7-bit, CRLF, without Bcc and X-SES-… headers
    from_: str | None
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    configuration_set: str | None
    tags: dict[str, str]
    contact_list: str | None
    topic: str | None


def read_mime(given: bytes | Message) -> Raw:
    """Raises ValueError with half a sentence where SES would not take the message, or would read it otherwise than we do."""
    data = _flattened(given) if isinstance(given, Message) else given
    mime = _BREAK.sub(b"\r\n", data)
    if len(mime) > MAX_RAW:
        raise ValueError(f"has {len(mime):,} bytes; SES takes {MAX_RAW:,}, which are 40 MB in base64")
    head, blank, body = mime.partition(b"\r\n\r\n")
    if not blank or not head:
        raise ValueError("must have headers, an empty line and a body")
    _check_lines(mime)
    fields = _fields(head + b"\r\n")
    _check_headers(fields)
    parsed = BytesHeaderParser(policy=policy.default).parsebytes(mime)
    if parsed.get_content_maintype() == "multipart":
        for part in BytesParser(policy=policy.compat32).parsebytes(mime).walk():
            if name := part.get_filename():
                check_file_name(name)
    kept = b"".join(field for name, field in fields if name != "bcc" and not name.startswith("x-ses-"))
    list_name, topic = _list_options(str(parsed.get("X-SES-LIST-MANAGEMENT-OPTIONS", "")))
    return Raw(
        mime=kept + b"\r\n" + body,
        from_=next(iter(_addresses(parsed, "From")), None),
        to=_addresses(parsed, "To"),
        cc=_addresses(parsed, "Cc"),
        bcc=_addresses(parsed, "Bcc"),
        configuration_set=str(parsed.get("X-SES-CONFIGURATION-SET", "")).strip() or None,
        tags=_pairs(str(parsed.get("X-SES-MESSAGE-TAGS", ""))),
        contact_list=list_name,
        topic=topic,
    )


def _flattened(message: Message) -> bytes:
    """7-bit: whatever is not ASCII in it is encoded. Headers are folded only where a line would be too long for SES."""
    rules = message.policy.clone(linesep="\r\n", cte_type="7bit", max_line_length=MAX_LINE)
    return message.as_bytes(policy=rules)


def _check_lines(mime: bytes) -> None:
    for number, line in enumerate(mime.split(b"\r\n"), 1):
        if len(line) > MAX_LINE:
            raise ValueError(
                f"line {number} has {len(line):,} characters, and {MAX_LINE} are the most; encode that part in base64"
            )
        if not line.isascii() or b"\0" in line:
            raise ValueError(f"line {number} is not 7-bit text; encode that part as quoted-printable or base64")


def _fields(head: bytes) -> list[tuple[str, bytes]]:
    """(name in lower case, its lines) of each header field."""
    fields: list[tuple[str, bytes]] = []
    for line in _NO_HEADER_LINES.findall(head):
        if line[:1] in b" \t" and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + line)
        elif match := _FIELD.match(line):
            fields.append((match[1].decode().lower(), line))
        else:
            raise ValueError(f"its header block has a line that is no header: {line[:60].decode().strip()!r}")
    return fields


def _check_headers(fields: list[tuple[str, bytes]]) -> None:
    names = [name for name, _ in fields]
    for name in dict.fromkeys(names):
        if name in ONCE and names.count(name) > 1:
            raise ValueError(f"has the header {name} {names.count(name)} times, and SES takes it once")
        if name in _IN_SENDER:
            raise ValueError(f"has the header {name}; name it in the sender profile instead, as {_IN_SENDER[name]}")


def _addresses(parsed: EmailMessage | Message, name: str) -> tuple[str, ...]:
    header = parsed.get(name)
    if header is None:
        return ()
    found = getattr(header, "addresses", ())
    if not found and str(header).strip():
        raise ValueError(f"its header {name} cannot be read")
    return tuple(_named(one.display_name, one.addr_spec) for one in found)


def _named(name: str, address: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", name)
    return f'"{escaped}" <{address}>' if name else address


def _pairs(text: str) -> dict[str, str]:
    """`a=1, b=2` → a dict."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _list_options(text: str) -> tuple[str | None, str | None]:
    """`{list}; topic={topic}` → list and topic."""
    name, _, rest = text.partition(";")
    topic = rest.partition("topic=")[2].strip()
    return name.strip() or None, topic or None
