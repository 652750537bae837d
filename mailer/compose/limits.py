"""What one request to SES may hold. botocore checks none of it."""

from __future__ import annotations

from ..message.mime import MAX_MESSAGE, MAX_RAW

MAX_ENTRIES = 50  # entries of a SendBulkEmail call, developer guide, "Sending personalized email"
MAX_INLINE_REQUEST = 1_000_000  # bytes of JSON with an inline template; SES says 1 MB: the smaller of its two readings
MAX_DATA_CHARS = 262_144  # of template data, SES v2 model
MAX_STRUCTURED_HEADERS = 15  # of a call that is not raw, SES v2 model
MAX_STRUCTURED_VALUE = 870  # characters of a header there, SES v2 model
MAX_STRUCTURED_TYPE = 78  # characters of an attachment's content type there, SES v2 model

__all__ = [
    "MAX_DATA_CHARS",
    "MAX_ENTRIES",
    "MAX_INLINE_REQUEST",
    "MAX_MESSAGE",
    "MAX_RAW",
    "MAX_STRUCTURED_HEADERS",
    "MAX_STRUCTURED_TYPE",
    "MAX_STRUCTURED_VALUE",
]
