"""What a client of the Query protocol (`Action=SendEmail`, the protocol of SES v1 and STS) is told: this is SES v2 only."""

from __future__ import annotations

from urllib.parse import parse_qs
from uuid import uuid4
from xml.sax.saxutils import escape

CONTENT_TYPE = "text/xml"
_SES = "2010-12-01"  # Version of SES v1
_SHOWN = 100  # characters of what the client named
_ERROR = """<ErrorResponse xmlns="http://ses.amazonaws.com/doc/2010-12-01/">
  <Error>
    <Type>Sender</Type>
    <Code>InvalidAction</Code>
    <Message>{message}</Message>
  </Error>
  <RequestId>{request}</RequestId>
</ErrorResponse>
"""


def refusal(form: str) -> bytes:
    """The whole answer, whose HTTP status is 400. `form` is the query string or the body."""
    fields = parse_qs(form, keep_blank_values=True)
    action, version = (fields.get(name, [""])[0][:_SHOWN] for name in ("Action", "Version"))
    if not action:
        text = "This is the simulated SES v2. The request names no operation."
    elif version == _SES:
        text = f"The simulated SES is SES v2 only, and {action} is an operation of SES v1. Use the SDK's client for sesv2."
    else:
        text = f"The simulated SES has no operation {action}. It is SES v2 only, with the queue of its events."
    # XML 1.0 has no way to write most control characters.
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return _ERROR.format(message=escape(printable), request=uuid4()).encode()
