"""SendEmail with raw content: the caller's own MIME, or one that is put together here because no structured call says it.

Headers are written here, a line at a time: everything in them is ASCII by now, and Python's own writer would look for
encoded words in a long URL. The body is the standard library's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage

from ..checks import encoded_words
from ..email import Mode
from ..ledger.spec import File, Spec
from ..templates.render import Rendered
from .request import Call, Item, Loaded, merged, send_email

LINE = 76  # characters after which a header goes on in the next line, where it has a blank (RFC 5322 2.2.3)

# 7-bit: SES takes 8-bit parts, and does not keep them when it has to change the body for its open and click tracking.
_RULES = policy.SMTP.clone(cte_type="7bit")
_UNUSUAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HEADER = re.compile(rb"^([!-9;-~]+)[ \t]*:", re.MULTILINE)


def raw_call(spec: Spec, item: Item, mime: bytes, *, reply_to: bool) -> Call:
    """`reply_to`: SES is to put the spec's in place of what the message has."""
    data = base64.b64encode(mime).decode()
    return send_email(Mode.RAW, spec, item, {"Raw": {"Data": data}}, reply_to=reply_to)


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
    headers.append(("Subject", encoded_words(rendered.subject)))
    headers += merged(spec.headers, item.headers).items()
    return _lines(headers) + _body(rendered, files).as_bytes()


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(_fold(f"{name}: {value}").encode("ascii") + b"\r\n" for name, value in headers)


def _fold(line: str) -> str:
    """A break goes before a blank, never into a word: unfolding gives the line back, to the letter."""
    lines, last = [], ""
    for word in re.split("(?= )", line):
        if last and word.strip() and len(last) + len(word) > LINE:
            lines.append(last)
            last = word
        else:
            last += word
    return "\r\n".join([*lines, last])


def _body(rendered: Rendered, files: Sequence[Loaded]) -> EmailMessage:
    message = EmailMessage(policy=_RULES)
    invitations = [loaded for loaded in files if _is_invitation(loaded.file)]
    inside = [loaded for loaded in files if loaded.file.inline and loaded.file.content_id and loaded not in invitations]
    if rendered.text is not None:
        _set_text(message, rendered.text, "plain")
    if rendered.html is not None and rendered.text is not None:
        message.add_alternative("", subtype="html")
        _set_html(message.get_payload()[-1], rendered.html, inside)  # type: ignore[index, arg-type]
    elif rendered.html is not None:
        _set_html(message, rendered.html, inside)
    for loaded in invitations:
        if message.get_content_type() != "multipart/alternative":
            message.make_alternative()
        message.attach(_part(loaded, as_body=True))
    for loaded in files:
        if loaded not in inside:
            if message.get_content_type() != "multipart/mixed":
                message.make_mixed()
            message.attach(_part(loaded))
    return message


def _set_html(part: EmailMessage, html: str, inside: Sequence[Loaded]) -> None:
    _set_text(part, html, "html")
    for loaded in inside:
        if part.get_content_type() != "multipart/related":
            part.make_related()
        part.attach(_part(loaded))


def _set_text(part: EmailMessage, text: str, subtype: str) -> None:
    # The library would leave control characters as they are, of which SMTP does not carry all.
    cte = "quoted-printable" if _UNUSUAL.search(text) else None
    part.clear()
    part.set_content(text, subtype=subtype, charset="utf-8", cte=cte)


def _is_invitation(file: File) -> bool:
    """A calendar's invitation is shown as one only where it is an alternative of the body (RFC 6047 2.4)."""
    return bool(re.match(r"text/calendar\b.*;\s*method=", file.content_type, re.IGNORECASE))


def _part(loaded: Loaded, *, as_body: bool = False) -> EmailMessage:
    file = loaded.file
    part = EmailMessage(policy=_RULES)
    kind, _, rest = file.content_type.partition(";")
    main, _, sub = kind.strip().partition("/")
    if main.lower() == "message" and sub.lower() == "rfc822":
        # Must not be encoded itself (RFC 2046 5.2.1); what is in it is.
        part.set_content(message_from_bytes(loaded.content, _class=EmailMessage, policy=_RULES))
    else:
        part.set_content(loaded.content, maintype=main, subtype=sub, cte="base64")
    for name, value in re.findall(r';\s*([^\s=;]+)=("[^"]*"|[^\s;]+)', f";{rest}"):
        part.set_param(name, value.strip('"'))
    if not as_body:
        part["Content-Disposition"] = "inline" if file.inline else "attachment"
        part.set_param("filename", file.name, header="Content-Disposition")
    if file.content_id:
        part["Content-ID"] = f"<{file.content_id}>"
    if file.description:
        part["Content-Description"] = encoded_words(file.description)
    return part
