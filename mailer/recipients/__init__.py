"""Where the recipients of a campaign come from: CSV, NDJSON (files, standard input, S3) and iterables → batches of checked rows.

    async with open_recipients("list.csv.gz") as recipients:
        async for batch in recipients:              # list[Recipient | BadRow], at most BATCH_ROWS, in the order of the source
            ...
            recipients.progress()                   # (bytes read, bytes in all or None)

Every row of the source comes out as exactly one Recipient or BadRow, numbered from 1. What is wrong with one row costs that
row; what is wrong with the whole source (no such file, no column `email`, not UTF-8, broken gzip, nothing in it) is raised as
a RecipientsError. Memory is bounded whatever the source: rows are streamed, and repeated addresses are found on disk.
"""

from .row import MAX_ROW_BYTES, BadRow, Recipient, Row
from .seen import Seen
from .stream import BATCH_ROWS, Recipients, Remote, Source, open_recipients

__all__ = [
    "BATCH_ROWS",
    "MAX_ROW_BYTES",
    "BadRow",
    "Recipient",
    "Recipients",
    "Remote",
    "Row",
    "Seen",
    "Source",
    "open_recipients",
]
