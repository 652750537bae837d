"""The ways to what is outside Redis: MAILER_STORE_URL → the place where payloads and archives live; lists in S3.

boto is loaded when one of them is used, so that an application without S3 starts without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from .ledger.store import FileObjects, Objects
from .settings import Settings


def open_objects(settings: Settings) -> Objects | None:
    """None for `redis:`. Nothing is asked of it before the first call; closing it is the caller's."""
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file":
        return FileObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from .ses.objects import S3Objects

        return S3Objects(parts.netloc, parts.path.strip("/"))
    return None


def open_list(bucket: str, key: str) -> tuple[BinaryIO, int]:
    """A list of recipients in S3 and its size in bytes, to be read in a thread. Raises RecipientsNotFound."""
    from .ses.objects import open_list

    return open_list(bucket, key)
