"""A caller's own MIME message: checked, made what SES takes, and taken apart as far as sending depends on it.

What SES wants of it: ses developer guide, "Sending raw email" and "Header fields"; SES v2 API model, RawMessage.

Nothing here is the standard library's parser, for three reasons. Bytes that need no change stay as they are. The work grows
with the size of a message only, whatever is in it. And a header is what SES takes for one: to that parser a carriage return
ends a line, so that it would find a recipient in the middle of a Subject.
"""

from .fields import MAX_LINE
from .files import BLOCKED_EXTENSIONS, check_file_name
from .message import MAX_MESSAGE, MAX_RAW, ONCE, Raw, header_senders, inner_message, read_mime

__all__ = [
    "BLOCKED_EXTENSIONS",
    "MAX_LINE",
    "MAX_MESSAGE",
    "MAX_RAW",
    "ONCE",
    "Raw",
    "check_file_name",
    "header_senders",
    "inner_message",
    "read_mime",
]
