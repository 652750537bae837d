"""SendEmail with simple content: subject, HTML and text, of which SES makes the message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ledger.spec import Spec
from ..message.email import Mode
from ..templates.render import Rendered
from .limits import MAX_MESSAGE
from .request import Call, Item, Loaded, attachment_list, header_list, merged, message_size, send_email


def simple_call(spec: Spec, item: Item, rendered: Rendered, files: Sequence[Loaded]) -> Call | None:
    """None where the message is larger than SES takes."""
    body: dict[str, Any] = {}
    if rendered.html is not None:
        body["Html"] = _utf8(rendered.html)
    if rendered.text is not None:
        body["Text"] = _utf8(rendered.text)
    simple: dict[str, Any] = {"Subject": _utf8(rendered.subject), "Body": body}
    if headers := merged(spec.headers, item.headers):
        simple["Headers"] = header_list(headers)
    if files:
        simple["Attachments"] = attachment_list(files)
    if message_size(simple, files) > MAX_MESSAGE:
        return None
    return send_email(Mode.SIMPLE, spec, item, {"Simple": simple})


def _utf8(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}  # SES's default is 7-bit ASCII
