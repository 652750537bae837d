"""The message that SES makes of an accepted request and hands to the recipients' servers.

Simple and templated content: multipart/mixed with the attachments, in it multipart/related with the inline images, in it
multipart/alternative with the text and the HTML, each only where it is needed. Raw content: `raw.rewrite`.

Headers are written as they were given, on one line or folded where they were folded here: the longest that SES takes (996
characters of name and value together) has the 998 characters that RFC 5322 allows, and encoding a `List-Unsubscribe` would
break it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.base64mime import body_encode, header_encode
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, unquote
from urllib.parse import quote

from . import raw
from .attachments import Attachment
from .journal import Message, RawContent, SimpleContent, TemplatedContent
from .shown import Shown

Structured = SimpleContent | TemplatedContent

_WORD = 45  # bytes of an encoded word, which may have 75 characters (RFC 2047)
_SECTION = 60  # characters of one section of a file name (RFC 2231)
_HEADER = re.compile(r"(?!.*=\?)[!-~](?:[ -~]{0,898}[!-~])?")  # what needs no encoding
_FILE_NAME = re.compile(r"(?!.*=\?)[ !#-\[\]-~]{1,60}")  # what needs no more than quotes
_TEXT_LINE = 998  # characters (RFC 5322)
_PLAIN_TEXT = re.compile(r"[\t\n -~]*")
_SEVEN_BIT = re.compile(rb"(?:[\t -~]{0,998}(?:\r\n|\Z))*")
_NEWLINE = re.compile(r"\r\n|\r")
# Headers of SES's own: of a custom one that has such a name nothing is left.
_REPLACED = frozenset({"date", "message-id", "bcc", "return-path"})
_MANAGED = frozenset({"list-unsubscribe", "list-unsubscribe-post"})


class _AsGiven(EmailPolicy):
    """Neither reads, encodes nor folds a header: values come here as they are to be written."""

    def header_store_parse(self, name: str, value: str) -> tuple[str, str]:
        return name, value

    def fold(self, name: str, value: str) -> str:
        return f"{name}: {value}\r\n"

    def fold_binary(self, name: str, value: str) -> bytes:
        return self.fold(name, value).encode("ascii")


class _Leaf(EmailMessage):
    """Written as it is: the standard library takes an attached `message/delivery-status` for a list of parts."""

    def get_content_maintype(self) -> str:
        return "application"

    def get_content_subtype(self) -> str:
        return "octet-stream"


_POLICY = _AsGiven(linesep="\r\n", cte_type="7bit")


def assemble(message: Message, region: str) -> bytes | None:
    """The whole message, or None where it could not be rendered, so that there is none."""
    if isinstance(message.content, RawContent):
        return raw.rewrite(message.content.mime, dict(_raw_headers(message, message.content, region)))
    if message.accepted.failure is not None:
        return None
    shown = message.show()
    head = "".join(_POLICY.fold(name, value) for name, value in _headers(message, message.content, shown, region))
    return head.encode("ascii") + _body(shown, message.content.attachments, message.accepted.id).as_bytes()


# ---- headers -------------------------------------------------------------------------------------------------------


def _headers(message: Message, content: Structured, shown: Shown, region: str) -> Iterator[tuple[str, str]]:
    yield "From", _address(message.accepted.sender)
    for name, addresses in (("To", message.to), ("Cc", message.cc), ("Reply-To", message.reply_to)):
        if addresses:
            yield name, _addresses(addresses)
    yield "Subject", _unstructured(shown.subject)
    yield from _own(message, region)
    managed = _MANAGED if message.subscription else frozenset()
    for name, value in content.headers:
        if name.lower() not in _REPLACED | managed and not name.lower().startswith("x-ses-"):
            yield name, value
    yield "MIME-Version", "1.0"


def _raw_headers(message: Message, content: RawContent, region: str) -> Iterator[tuple[str, str]]:
    """What stands in the place of the caller's headers: the parameters of the call, and SES's own."""
    if content.from_ is not None:
        yield "From", _address(content.from_)
    if message.reply_to:
        yield "Reply-To", _addresses(message.reply_to)
    yield from _own(message, region)


def _own(message: Message, region: str) -> Iterator[tuple[str, str]]:
    yield "Date", format_datetime(datetime.fromtimestamp(message.accepted.at, UTC))
    yield "Message-ID", f"<{message.accepted.id}@{region}.amazonses.com>"
    if message.subscription is not None:
        yield "List-Unsubscribe", f"<{message.subscription.link(message.accepted.id)}>"
        yield "List-Unsubscribe-Post", "List-Unsubscribe=One-Click"


def _addresses(items: Iterable[str]) -> str:
    return ",\r\n ".join(_address(item) for item in items)


def _address(text: str) -> str:
    """As it was given, if it is ASCII, so also with a name that is encoded already; only names can be anything else."""
    if text.isascii():
        return text
    name, _, rest = text.rpartition("<")
    return f"{_encoded(unquote(name.strip()))} <{rest}"


def _unstructured(text: str) -> str:
    return text if not text or _HEADER.fullmatch(text) else _encoded(text)


def _encoded(text: str) -> str:
    """RFC 2047 words, which may not cut a character in two."""
    return "\r\n ".join(header_encode(part, "utf-8") for part in _cut([char.encode() for char in text], _WORD))


def _cut(units: list[bytes], size: int) -> Iterator[bytes]:
    part = b""
    for unit in units:
        if part and len(part) + len(unit) > size:
            yield part
            part = b""
        part += unit
    yield part


# ---- parts ---------------------------------------------------------------------------------------------------------


def _body(shown: Shown, files: tuple[Attachment, ...], boundary: str) -> EmailMessage:
    bodies = [_text(text, kind) for text, kind in ((shown.text, "plain"), (shown.html, "html")) if text is not None]
    root = bodies[0] if len(bodies) == 1 else _multipart("alternative", bodies, boundary)
    images: list[Attachment] = []
    others: list[Attachment] = []
    for item in files:
        (images if item.inline and item.content_id and shown.html is not None else others).append(item)
    if images:
        root = _multipart("related", [root, *map(_file, images)], boundary, f'; type="{root.get_content_type()}"')
    return _multipart("mixed", [root, *map(_file, others)], boundary) if others else root


def _multipart(subtype: str, parts: Iterable[EmailMessage], boundary: str, more: str = "") -> EmailMessage:
    """`boundary` is new with every message, so that no part can have it; `=_` is in no encoded one."""
    part = EmailMessage(_POLICY)
    part["Content-Type"] = f'multipart/{subtype}; boundary="=_{subtype[:3]}_{boundary}"{more}'
    part.set_payload([*parts])
    return part


def _text(text: str, subtype: str) -> EmailMessage:
    text = _NEWLINE.sub("\n", text)
    plain = _PLAIN_TEXT.fullmatch(text) and max(map(len, text.split("\n"))) <= _TEXT_LINE
    encoded = text if plain else binascii.b2a_qp(text.encode(), istext=True).decode()
    return _leaf(f"text/{subtype}; charset=utf-8", "7bit" if plain else "quoted-printable", encoded)


def _file(item: Attachment) -> EmailMessage:
    """Encoded as the request says. SES's default fits text only: what is none goes as base64, as it could not go otherwise."""
    if item.encoding == "QUOTED_PRINTABLE":
        part = _leaf(item.content_type, "quoted-printable", binascii.b2a_qp(item.content, istext=False).decode())
    elif item.encoding == "SEVEN_BIT" and _SEVEN_BIT.fullmatch(item.content):
        part = _leaf(item.content_type, "7bit", item.content.decode())
    else:
        part = _leaf(item.content_type, "base64", body_encode(item.content).removesuffix("\n"))
    part["Content-Disposition"] = f"{'inline' if item.inline else 'attachment'}; {_file_name(item.name)}"
    if item.description:
        part["Content-Description"] = _unstructured(item.description)
    if item.content_id:
        part["Content-ID"] = f"<{item.content_id.removeprefix('<').removesuffix('>')}>"
    return part


def _leaf(content_type: str, encoding: str, payload: str) -> EmailMessage:
    part = _Leaf(_POLICY)
    part["Content-Type"] = content_type
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(payload)
    return part


def _file_name(name: str) -> str:
    if _FILE_NAME.fullmatch(name):
        return f'filename="{name}"'
    sections = [part.decode() for part in _cut([quote(char, safe="").encode() for char in name], _SECTION)]
    if len(sections) == 1:
        return f"filename*=utf-8''{sections[0]}"
    first, *others = sections
    return ";\r\n ".join([f"filename*0*=utf-8''{first}", *(f"filename*{n}*={part}" for n, part in enumerate(others, 1))])
