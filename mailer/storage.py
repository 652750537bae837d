"""MAILER_STORE_URL → the place outside Redis where payloads and archives live."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from .ledger.store import FileObjects, Objects
from .settings import Settings


def open_objects(settings: Settings) -> Objects | None:
    """None for `redis:`. Nothing is asked of it before the first call; closing it is the caller's."""
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file":
        return FileObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from .ses.objects import S3Objects  # here, so that an application without S3 does not load boto

        return S3Objects(parts.netloc, parts.path.strip("/"))
    return None
