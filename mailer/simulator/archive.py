"""The newest messages on the disk, so that a simulator that starts again has them.

SQLite, a row a message: what it was made of, rendered, as JSON. A message that was accepted is there also after SIGKILL.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import orjson

from .attachments import Attachment
from .journal import Accepted, Message, RawContent, SimpleContent, Subscription
from .wire import Json

KEEP_BYTES = 268_435_456  # on the disk; as much as is kept in memory
_PRUNE_EVERY = 100  # messages
_TABLE = """
    CREATE TABLE IF NOT EXISTS messages (number INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, message BLOB NOT NULL)
"""
_PRUNE = """
    DELETE FROM messages WHERE number <= (SELECT max(number) FROM messages) - ? OR number <= (
        SELECT max(number) FROM (SELECT number, sum(size) OVER (ORDER BY number DESC) AS newer FROM messages) WHERE newer > ?
    )
"""


class Archive:
    def __init__(self, path: Path, *, keep: int, keep_bytes: int = KEEP_BYTES) -> None:
        """Raises OSError where the file cannot be used, ValueError where it holds something else."""
        self._keep, self._keep_bytes = keep, keep_bytes
        self._added = 0
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's own files get the same mode
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ValueError(f"{path} cannot be read ({error}); remove it, or name another file") from None

    def __iter__(self) -> Iterator[Message]:
        """Oldest first. A message that cannot be read, as of another version, is left out."""
        for (packed,) in self._database.execute("SELECT message FROM messages ORDER BY number"):
            try:
                yield _read(orjson.loads(zlib.decompress(packed)))
            except (ValueError, KeyError, TypeError, zlib.error):
                continue

    def add(self, message: Message) -> None:
        """Where that cannot be done, as on a full disk, the message is not there after a restart, and a line says so."""
        try:
            self._add(message)
        except sqlite3.Error as error:
            sys.stderr.write(f"message {message.accepted.id} is not kept: {error}\n")

    def _add(self, message: Message) -> None:
        packed = zlib.compress(orjson.dumps(_written(message)), 1)
        self._database.execute("INSERT INTO messages (size, message) VALUES (?, ?)", (len(packed), packed))
        self._added += 1
        if self._added % _PRUNE_EVERY == 0:
            self._database.execute(_PRUNE, (self._keep, self._keep_bytes))

    def clear(self) -> None:
        self._database.execute("DELETE FROM messages")

    def close(self) -> None:
        self._database.close()


def _written(message: Message) -> Json:
    return {
        "accepted": asdict(message.accepted),
        "addresses": [message.to, message.cc, message.bcc, message.reply_to],
        "content": _content(message),
        "size": message.size,
        "subscription": message.subscription and asdict(message.subscription),
        "overrides": message.overrides,
    }


def _content(message: Message) -> Json:
    content = message.content
    if isinstance(content, RawContent):
        return {"mime": b64encode(content.mime).decode(), "from_": content.from_}
    shown = content.show()  # what a template became
    files = [{**asdict(one), "content": b64encode(one.content).decode()} for one in content.attachments]
    return {"subject": shown.subject, "html": shown.html, "text": shown.text, "headers": content.headers, "attachments": files}


def _read(fields: Json) -> Message:
    """Raises ValueError, KeyError, TypeError."""
    accepted, content = fields["accepted"], fields["content"]
    to, cc, bcc, reply_to = map(tuple, fields["addresses"])
    made: RawContent | SimpleContent
    if "mime" in content:
        made = RawContent(mime=b64decode(content["mime"]), from_=content["from_"])
    else:
        files = tuple(Attachment(**{**one, "content": b64decode(one["content"])}) for one in content.pop("attachments"))
        headers = tuple((name, value) for name, value in content.pop("headers"))
        made = SimpleContent(**content, headers=headers, attachments=files)
    return Message(
        accepted=Accepted(**{**accepted, **{name: tuple(accepted[name]) for name in ("recipients", "suppressed")}}),
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=reply_to,
        content=made,
        size=fields["size"],
        subscription=fields["subscription"] and Subscription(**fields["subscription"]),
        overrides=fields["overrides"],
    )
