"""SendEmail with raw content: the caller's own MIME, or one that is put together here because no structured call says it.

Headers are written here, a line at a time: everything in them is ASCII by now, and Python's own writer would look for
encoded words in a long URL. The body is the standard library's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from email import policy
from email.message import MIMEPart

from ..ledger.spec import File, Spec
from ..message.attachment import is_message
from ..message.checks import MAX_HEADER_WORD, all_encoded, encoded_words, foldable
from ..message.email import Mode
from ..templates.render import Rendered
from .request import Call, Item, Loaded, merged, send_email

LINE = 76  # characters after which a header goes on in the next line, where it has a blank (RFC 5322 2.2.3)

# 7-bit: SES takes 8-bit parts, and does not keep them when it has to change the body for its open and click tracking.
# Headers that are set as they are to be written stay so.
_RULES = policy.SMTP.clone(cte_type="7bit", refold_source="none")
_UNUSUAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HEADER = re.compile(rb"^([!-9;-~]+)[ \t]*:", re.MULTILINE)
_INVITATION = re.compile(r"text/calendar\b.*;\s*method=", re.IGNORECASE)
_CHARSET = re.compile(r";\s*charset=", re.IGNORECASE)


def raw_call(spec: Spec, item: Item, mime: bytes, *, reply_to: bool) -> Call:
    """`reply_to`: SES is to put the spec's in place of what the message has."""
    data = base64.b64encode(mime).decode()
    return send_email(Mode.RAW, spec, item, {"Raw": {"Data": data}}, reply_to=reply_to)


def is_invitation(file: File) -> bool:
    """A calendar's invitation is shown as one only where it is an alternative of the body (RFC 6047 2.4)."""
    return _INVITATION.match(file.content_type) is not None


def with_headers(mime: bytes, headers: Mapping[str, str]) -> bytes:
    """The message with those of the headers in front that it does not have itself."""
    head = mime.partition(b"\r\n\r\n")[0]
    there = {name.decode().lower() for name in _HEADER.findall(head)}
    return _lines((name, value) for name, value in headers.items() if name.lower() not in there) + mime


def assemble(spec: Spec, item: Item, rendered: Rendered, files: Sequence[Loaded]) -> bytes:
    """The whole message. Bcc is in its envelope only; Message-ID and Date are SES's own."""
    headers: list[tuple[str, str]] = [("From", spec.from_address)]
    for name, addresses in (("To", item.to), ("Cc", item.cc), ("Reply-To", spec.reply_to)):
        if addresses:
            headers.append((name, ", ".join(addresses)))
    headers.append(("Subject", _subject(rendered.subject)))
    headers += merged(spec.headers, item.headers).items()
    headers.append(("MIME-Version", "1.0"))
    return _lines(headers) + _body(rendered, files).as_bytes()


def _subject(text: str) -> str:
    """Text that a reader's program would take for something else is encoded, though it is ASCII."""
    plain = "=?" not in text and text == text.strip(" ") and max(map(len, foldable(text))) <= MAX_HEADER_WORD
    return encoded_words(text) if plain else all_encoded(text)


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(f"{name}: {_folded(value, len(name) + 2)}\r\n".encode("ascii") for name, value in headers)


def _folded(value: str, start: int) -> str:
    """A break goes before a blank, never into a word: unfolding gives the value back, to the letter."""
    lines = [""]
    for piece in foldable(value):
        if lines[-1] and start + len(lines[-1]) + len(piece) > LINE:
            lines.append("")
            start = 0
        lines[-1] += piece
    return "\r\n".join(lines)


def _body(rendered: Rendered, files: Sequence[Loaded]) -> MIMEPart:
    bodies, inside = [], list[Loaded]()
    if rendered.text is not None:
        bodies.append(_text(rendered.text, "plain"))
    if rendered.html is not None:
        inside = [one for one in files if one.file.inline and one.file.content_id and not is_invitation(one.file)]
        bodies.append(_multipart('related; type="text/html"', [_text(rendered.html, "html"), *map(_attached, inside)]))
    bodies += [_part(loaded) for loaded in files if is_invitation(loaded.file)]
    others = [_attached(loaded) for loaded in files if loaded not in inside]
    return _multipart("mixed", [_multipart("alternative", bodies), *others])


def _multipart(kind: str, parts: Sequence[MIMEPart]) -> MIMEPart:
    if len(parts) == 1:
        return parts[0]
    whole = MIMEPart(policy=_RULES)
    whole["Content-Type"] = f"multipart/{kind}"
    for part in parts:
        whole.attach(part)
    return whole


def _text(text: str, subtype: str) -> MIMEPart:
    part = MIMEPart(policy=_RULES)
    # The library would leave control characters as they are, of which SMTP does not carry all.
    part.set_content(text, subtype=subtype, charset="utf-8", cte="quoted-printable" if _UNUSUAL.search(text) else None)
    return part


def _part(loaded: Loaded) -> MIMEPart:
    part, kind = MIMEPart(policy=_RULES), loaded.file.content_type
    if is_message(kind):
        part.set_payload(loaded.content.decode("ascii"))  # no encoding around it (RFC 2046 5.2.1): it is 7-bit already
    else:
        part.set_content(loaded.content, maintype="application", subtype="octet-stream", cte="base64")
        del part["Content-Type"]
    if is_invitation(loaded.file) and not _CHARSET.search(kind):
        kind += "; charset=utf-8"  # what iCalendar is in, and not what a mail's text is in where it does not say
    part.set_raw("Content-Type", kind)
    return part


def _attached(loaded: Loaded) -> MIMEPart:
    """Made once: the messages of a campaign have it in common, and encoding it takes longer than all the rest."""
    if loaded.part is None:
        loaded.part = _make_attached(loaded)
    return loaded.part


def _make_attached(loaded: Loaded) -> MIMEPart:
    part, file = _part(loaded), loaded.file
    part["Content-Disposition"] = "inline" if file.inline else "attachment"
    part.set_param("filename", file.name, header="Content-Disposition")
    if file.content_id:
        part.set_raw("Content-ID", f"<{file.content_id}>")
    if file.description:
        part.set_raw("Content-Description", _folded(_subject(file.description), len("Content-Description: ")))
    return part
