"""Raw content: what SES checks in a message that comes whole, what it reads from it, and what it changes.

Source: SES developer guide, "Amazon SES header fields" and "Sending raw email"; SES v2 API model, shape RawMessage. Where a
line ends in the header block is as for Python's parser, so that no header is seen by one of the two only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.message import Message as MimeMessage
from email.parser import BytesHeaderParser
from email.utils import getaddresses

from ..message.mime.structure import walk
from . import attachments, limits
from .refusals import bad_request
from .wire import Json

MAX_LINE = 1000  # characters
MAX_DESTINATION = 100_000  # characters of To, Cc or Bcc: 50 recipients take less

_EMPTY_LINE = re.compile(rb"(\r\n|\r(?!\n)|\n)(?:\r\n|\r(?!\n)|\n)")
_LINE_BREAK = re.compile(rb"\r\n?|\n")
_NAME = re.compile(rb"([!-9;-~]+):")
# `Return-Path` says where feedback goes; what a recipient sees under that name is written where the message arrives.
_DROPPED = frozenset({"bcc", "return-path"})
_CONTROL = "x-ses-"


def check(mime: bytes) -> MimeMessage:
    """SES takes a header block, an empty line and a body; no line over 1000 characters, no header twice, no blocked file.

    8-bit lines pass: SES takes them, though it may not keep them.
    """
    if max(map(len, mime.splitlines()), default=0) > MAX_LINE:
        raise bad_request(f"The message has a line that is longer than {MAX_LINE} characters.")
    head = _head(mime)
    if not head or not all(name for name, _ in _fields(head)):
        raise bad_request("The message must have headers, an empty line and a body.")
    parsed = BytesHeaderParser().parsebytes(head)
    limits.once(parsed.keys())
    try:
        names = [name for part in walk(_LINE_BREAK.sub(b"\r\n", mime), strict=False) for name in part.file_names]
    except ValueError as error:  # parts in parts in parts, a thousand of them; SES's own limits are not documented
        raise bad_request(f"The message {error}.") from None
    for name in names:
        attachments.check_name(name)
    return parsed


def sender(parsed: MimeMessage) -> str | None:
    """The address of the header Sender, which has to be verified as From has."""
    return _header(parsed, "Sender")


# ---- what SES reads from it ----------------------------------------------------------------------------------------


def parameters(parsed: MimeMessage) -> Json:
    """The request's parameters that stand in headers. If a control header repeats, only the first counts."""
    source = _header(parsed, "X-SES-SOURCE-ARN")
    found: Json = {
        "FromEmailAddress": _header(parsed, "From"),
        "FromEmailAddressIdentityArn": _header(parsed, "X-SES-FROM-ARN") or source,
        "ConfigurationSetName": _header(parsed, "X-SES-CONFIGURATION-SET"),
        "EmailTags": [{"Name": name, "Value": value} for name, value in _pairs(_header(parsed, "X-SES-MESSAGE-TAGS"), ",")],
    }
    path = _header(parsed, "Return-Path")
    if path and path != "<>":
        found["FeedbackForwardingEmailAddress"] = path
        found["FeedbackForwardingEmailAddressIdentityArn"] = _header(parsed, "X-SES-RETURN-PATH-ARN") or source
    if options := _header(parsed, "X-SES-LIST-MANAGEMENT-OPTIONS"):  # {list}; topic={topic}
        name, _, rest = options.partition(";")
        topic = dict(_pairs(rest, ";")).get("topic")
        found["ListManagementOptions"] = {"ContactListName": name.strip(), "TopicName": topic}
    return {key: value for key, value in found.items() if value}


def destination(parsed: MimeMessage) -> Json:
    """Without a Destination SES reads the recipients from the MIME headers."""
    return {f"{name}Addresses": _addresses([str(value) for value in parsed.get_all(name, [])]) for name in ("To", "Cc", "Bcc")}


def _addresses(values: list[str]) -> list[str]:
    if sum(map(len, values)) > MAX_DESTINATION:
        raise limits.too_many_recipients()
    try:
        return [address for _, address in getaddresses(values)]
    except RecursionError:  # comments in comments
        raise bad_request("Local address contains illegal character") from None


def _header(parsed: MimeMessage, name: str) -> str | None:
    value = parsed.get(name)
    return None if value is None else " ".join(str(value).split()) or None


def _pairs(text: str | None, separator: str) -> Iterator[tuple[str, str]]:
    for pair in (text or "").split(separator):
        if pair.strip():
            name, _, value = pair.partition("=")
            yield name.strip(), value.strip()


# ---- what SES changes ----------------------------------------------------------------------------------------------


def rewrite(mime: bytes, replaced: Mapping[str, str]) -> bytes:
    """The message with headers put in the place of those of the same name, without Bcc and what is addressed to SES.

    The rest is left as it is, byte for byte. The values of `replaced` are ASCII, folded with CR LF where they are folded.
    """
    head = _head(mime)
    newline = b"\r\n" if b"\r\n" in head else b"\n"
    new = {name.lower(): f"{name}: {value}\r\n".encode().replace(b"\r\n", newline) for name, value in replaced.items()}
    waiting = dict(new)
    lines = []
    for name, field in _fields(head):
        if name in new:
            lines.append(waiting.pop(name, b""))
        elif name not in _DROPPED and not name.startswith(_CONTROL):
            lines.append(field)
    return b"".join([*lines, *waiting.values(), mime[len(head) :]])


def _head(mime: bytes) -> bytes:
    """The header block, with the end of its last line; empty where no empty line ends it."""
    empty = _EMPTY_LINE.search(mime)
    return mime[: empty.end(1)] if empty else b""


def _fields(head: bytes) -> Iterator[tuple[str, bytes]]:
    """Header fields: the name in lower case, "" if it has none, and the field with the lines that it goes on in."""
    field: list[bytes] = []
    for line in head.splitlines(keepends=True):
        if field and not line.startswith((b" ", b"\t")):
            yield _name(field[0]), b"".join(field)
            field = []
        field.append(line)
    if field:
        yield _name(field[0]), b"".join(field)


def _name(line: bytes) -> str:
    match = _NAME.match(line)
    return match[1].decode().lower() if match else ""
