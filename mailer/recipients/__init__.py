"""Where the recipients of a campaign come from: CSV, NDJSON (files, standard input, S3) and iterables → batches of checked rows.

    async with open_recipients("list.csv.gz") as recipients:
        async for batch in recipients:              # list[Recipient | BadRow], at most BATCH_ROWS, in the order of the source
            ...
            recipients.progress()                   # (bytes read, bytes in all or None)
        recipients.understood                       # format, encoding, columns, counts by reason

From bytes to rows: blocks (gzip, what is no list at all) → encoding (all of it becomes UTF-8) → lines → csv_table, header and
csv_rows, or ndjson_rows and mappings → stream (repeats). Every row of the source comes out as exactly one Recipient or BadRow,
numbered from 1. What is wrong with one row costs that row; what is wrong with the whole source (no such file, no column of
addresses, an unknown encoding, broken gzip, nothing in it) is raised as a RecipientsError. Memory is bounded whatever the source,
by bytes as rows are stored: rows are streamed, and repeated addresses are found on disk.
"""

from .reading import Reading
from .row import MAX_ROW_BYTES, BadRow, Recipient, Row
from .seen import Seen
from .stream import BATCH_ROWS, Recipients, Remote, Source, open_recipients
from .understood import Column, Format, Role, Understood, Why

__all__ = [
    "BATCH_ROWS",
    "MAX_ROW_BYTES",
    "BadRow",
    "Column",
    "Format",
    "Reading",
    "Recipient",
    "Recipients",
    "Remote",
    "Role",
    "Row",
    "Seen",
    "Source",
    "Understood",
    "Why",
    "open_recipients",
]
