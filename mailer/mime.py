"""A caller's own MIME message: checked, and taken apart as far as sending depends on it.

What SES wants of it: ses developer guide, "Sending raw email" and "Header fields"; SES v2 API model, RawMessage.
"""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.errors import InvalidHeaderDefect
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser
from typing import Any, NamedTuple

MAX_LINE = 998  # characters without the line break: SES takes 1,000 with it (RFC 5322 2.1.1)
MAX_MESSAGE = 41_943_040  # bytes after base64: SES's 40 MB
MAX_RAW = MAX_MESSAGE // 4 * 3  # bytes of MIME, which the request carries in base64

# What SES refuses to send: developer guide, "Unsupported attachment types".
_BLOCKED = """
    ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad
    maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst
    ops pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros
    vss vst vsw vxd ws wsc wsf wsh xnk
"""
BLOCKED_EXTENSIONS = frozenset(_BLOCKED.split())

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
_SECRET = frozenset(("bcc", "resent-bcc"))  # whom the other recipients are not to see (RFC 5322 3.6.3, 3.6.6)
_BREAK = re.compile(rb"\r\n|\r|\n")
_TOO_LONG = re.compile(rb"^[^\r\n]{%d}" % (MAX_LINE + 1), re.MULTILINE)
_NOT_7_BIT = re.compile(rb"[\x00\x80-\xff]")
_NO_WORD = "=!?"  # for `=?`: the library's address parser puts a blank between the parts of a long encoded name
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


class Raw(NamedTuple):
    """A message that SES takes as it is, and what its headers say besides."""

    mime: bytes  # 7-bit, CRLF, without Bcc, Resent-Bcc and X-SES-… headers
    headers: EmailMessage
    configuration_set: str | None
    tags: dict[str, str]
    contact_list: str | None
    topic: str | None

    def addresses(self, name: str) -> tuple[str, ...]:
        """Those of From, To, Cc or Bcc. Raises ValueError where that header is anything but addresses."""
        text = "".join("".join(value.splitlines()) for key, value in self.headers.raw_items() if key.lower() == name.lower())
        try:
            header: Any = policy.default.header_factory(name, text.replace("=?", _NO_WORD))
            found = [(_decoded(one.display_name), one.addr_spec) for one in header.addresses]
        except Exception:  # the library's parser raises IndexError and more
            raise ValueError(f"has a header {name} that cannot be read") from None
        if any(isinstance(defect, InvalidHeaderDefect) for defect in header.defects):
            raise ValueError(f"has a header {name} that is not a list of addresses: {text.strip()[:60]!r}")
        return tuple(_named(name, address) for name, address in found)


def check_file_name(name: str) -> str:
    """Raises ValueError for a file that SES does not take."""
    extension = name.lower().rpartition(".")[2] if "." in name else ""
    if extension in BLOCKED_EXTENSIONS:
        raise ValueError(f"{name!r} cannot be attached: SES refuses .{extension} files; send a link, or the file in a .zip")
    return name


def read_mime(given: bytes | Message) -> Raw:
    """Raises ValueError with half a sentence where SES would not take the message, or would read it otherwise than we do."""
    mime = _seven_bit(given)
    if len(mime) > MAX_RAW:
        raise ValueError(f"has {len(mime):,} bytes; SES takes {MAX_RAW:,}, which are 40 MB in base64")
    head, body = _split(mime)
    fields = _fields(head)
    _check_headers(fields)
    if b"name" in mime.lower():  # without it no part is a file with a name
        for part in message_from_bytes(mime).walk():
            if name := part.get_filename():
                check_file_name(name)
    kept = b"".join(field for name, field in fields if name not in _SECRET and not name.startswith("x-ses-"))
    if not kept:
        raise ValueError("has no headers but those for SES")
    headers = BytesHeaderParser(EmailMessage, policy=policy.default).parsebytes(head)
    list_name, topic = _list_options(_control(headers, "X-SES-LIST-MANAGEMENT-OPTIONS"))
    return Raw(
        mime=kept + b"\r\n" + body,
        headers=headers,
        configuration_set=_control(headers, "X-SES-CONFIGURATION-SET") or None,
        tags=_pairs(_control(headers, "X-SES-MESSAGE-TAGS")),
        contact_list=list_name,
        topic=topic,
    )


def inner_message(content: bytes) -> bytes:
    """A message that goes inside another one, where no encoding may be put around it (RFC 2046 5.2.1): 7-bit, with CRLF.

    Raises ValueError.
    """
    mime = _seven_bit(content if content.isascii() else message_from_bytes(content))
    _fields(_split(mime)[0])
    return mime


def _seven_bit(given: bytes | Message) -> bytes:
    mime = _BREAK.sub(b"\r\n", _flattened(given) if isinstance(given, Message) else given)
    if wrong := _TOO_LONG.search(mime):
        raise ValueError(f"has more than {MAX_LINE} characters in {_line(mime, wrong)}; encode that part in base64")
    if wrong := _NOT_7_BIT.search(mime):
        raise ValueError(f"is not 7-bit text in {_line(mime, wrong)}; encode that part as quoted-printable or base64")
    return mime


def _line(mime: bytes, place: re.Match[bytes]) -> str:
    number = mime.count(b"\r\n", 0, place.start()) + 1
    return f"line {number}"


def _flattened(message: Message) -> bytes:
    """7-bit: whatever is not ASCII in it is encoded. Headers are folded only where a line would be too long for SES."""
    rules = message.policy.clone(linesep="\r\n", cte_type="7bit", max_line_length=MAX_LINE)
    try:
        return message.as_bytes(policy=rules)
    except Exception as error:  # a header with a line break, a charset that nobody knows, ...
        raise ValueError(f"cannot be written: {' '.join(str(error).split())[:100]}") from None


def _split(mime: bytes) -> tuple[bytes, bytes]:
    """The header block, with its last line's break, and the body."""
    head, blank, body = mime.partition(b"\r\n\r\n")
    if not blank or not head:
        raise ValueError("must have headers, an empty line and a body")
    return head + b"\r\n", body


def _fields(head: bytes) -> list[tuple[str, bytes]]:
    """(name in lower case, its lines) of each header field."""
    fields: list[tuple[str, bytes]] = []
    for line in head.splitlines(keepends=True):
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


def _control(headers: EmailMessage, name: str) -> str:
    """Of a control header that is there more than once SES takes the first."""
    return str(headers.get(name, "")).strip()


def _decoded(name: str) -> str:
    return str(make_header(decode_header(name.replace(_NO_WORD, "=?"))))


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
