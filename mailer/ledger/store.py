"""Where the payloads of chunks live, and the place outside Redis that can hold them: named objects, in a folder or in S3.

    <campaign>/<number>.json.z              payload of a chunk: its rows, until the chunk is archived
    <campaign>/<number>-<token>.ndjson.gz   archive of a chunk that is over (`archive.py`)

A message is small and wanted at once, so its payload is in Redis whatever the store is.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from .. import private
from ..errors import ConfigError, StoreFailed
from ..ids import chunk_number, container_of, is_message
from ..redis.client import RedisClient
from .keys import Keys

THREADS = 8  # files that are written or read at the same time


class Objects(Protocol):
    """Named bytes outside Redis. An object is there whole or not at all. Every call raises StoreFailed where the store fails."""

    @property
    def url(self) -> str: ...

    async def check(self) -> None:
        """Raises ConfigError where it cannot be used as it is set up, StoreFailed where it may be in a while."""

    async def put(self, objects: Mapping[str, bytes]) -> None:
        """All of them are stored for good when this returns."""

    async def get(self, name: str) -> bytes | None: ...

    async def delete(self, names: Sequence[str]) -> None:
        """What is not there is no error."""

    async def names(self, folder: str) -> list[str]:
        """What there is in a folder, with the folder's name in front."""

    async def close(self) -> None: ...


class Store(Protocol):
    """Payloads by chunk id. A payload is written once and never changed. In Redis it expires with its chunk's records."""

    async def put(self, payloads: Mapping[str, bytes]) -> None: ...

    async def get(self, chunk: str) -> bytes | None: ...

    async def delete(self, chunks: Iterable[str]) -> None: ...


class RedisStore:
    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def put(self, payloads: Mapping[str, bytes]) -> None:
        if payloads:
            await self._redis.mset({self._keys.payload(chunk): payload for chunk, payload in payloads.items()})

    async def get(self, chunk: str) -> bytes | None:
        payload: bytes | None = await self._redis.get(self._keys.payload(chunk))
        return payload

    async def delete(self, chunks: Iterable[str]) -> None:
        names = [self._keys.payload(chunk) for chunk in chunks]
        if names:
            await self._redis.unlink(*names)


class ObjectStore:
    """The payloads of campaigns outside Redis. What was stored while the store was `redis:` is still found."""

    def __init__(self, objects: Objects, inside: RedisStore) -> None:
        self._objects = objects
        self._inside = inside

    async def put(self, payloads: Mapping[str, bytes]) -> None:
        await self._objects.put({payload_name(chunk): payload for chunk, payload in payloads.items()})

    async def get(self, chunk: str) -> bytes | None:
        outside = None if is_message(chunk) else await self._objects.get(payload_name(chunk))
        return await self._inside.get(chunk) if outside is None else outside

    async def delete(self, chunks: Iterable[str]) -> None:
        names = list(chunks)
        await self._inside.delete(names)
        await self._objects.delete([payload_name(chunk) for chunk in names if not is_message(chunk)])


def payload_name(chunk: str) -> str:
    return f"{container_of(chunk)}/{chunk_number(chunk)}.json.z"


class FileObjects:
    """Files below a folder, which nobody but their owner may read. One is written beside its place, synced and renamed, so a
    crash leaves no half of it there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")

    @property
    def url(self) -> str:
        return f"file://{self._root}"

    async def check(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._check)

    def _check(self) -> None:
        probe = self._root / f".probe-{secrets.token_hex(6)}"
        try:
            private.make_folder(self._root)
            if why := private.why_not_ours(self._root):
                do = "name a folder of its own, or give it this one with chown"
                raise ConfigError(where="MAILER_STORE_URL", why=f"{self._root} {why}; {do}")
            probe.touch(private.FILE, exist_ok=False)
            probe.unlink()
        except FileNotFoundError:
            raise ConfigError(where="MAILER_STORE_URL", why=f"there is no folder {self._root.parent}; make it") from None
        except OSError as error:
            why = f"{self._root} cannot be written to ({error.strerror}); it has to be a folder of this process's user"
            raise ConfigError(where="MAILER_STORE_URL", why=why) from None

    async def put(self, objects: Mapping[str, bytes]) -> None:
        loop, made = asyncio.get_running_loop(), set[Path]()
        paths = {self._path(name): data for name, data in objects.items()}
        writes = [loop.run_in_executor(self._pool, self._write, path, data) for path, data in paths.items()]
        try:
            made.update(*(await asyncio.gather(*writes)))
            folders = {path.parent for path in paths} | made
            await asyncio.gather(*(loop.run_in_executor(self._pool, _sync_folder, folder) for folder in folders))
        except OSError as error:
            raise self._failed(error) from None
        finally:  # a campaign that is given up in the middle must not find files that come after it has deleted them
            await asyncio.gather(*writes, return_exceptions=True)

    def _write(self, path: Path, data: bytes) -> set[Path]:
        """The folders that have a new entry besides the file's own."""
        made = set()
        if not path.parent.is_dir():
            private.make_folder(path.parent)
            made.add(self._root)
        beside = path.parent / f".{path.name}-{secrets.token_hex(6)}"
        try:
            with private.create(beside) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        return made

    async def get(self, name: str) -> bytes | None:
        path = self._path(name)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, path.read_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed(error) from None

    async def delete(self, names: Sequence[str]) -> None:
        paths = [self._path(name) for name in names]
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, _delete, paths)
        except OSError as error:
            raise self._failed(error) from None

    async def names(self, folder: str) -> list[str]:
        path = self._path(f"{folder}/-").parent
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, os.listdir, path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._failed(error) from None
        return [f"{folder}/{name}" for name in found if not name.startswith(".")]

    def _path(self, name: str) -> Path:
        """Names are made of our own ids; one that leads out of the folder is a defect."""
        folder, _, file = name.partition("/")
        if not (folder.isalnum() and folder.isascii()) or "/" in file or file[:1] in ("", "."):
            raise ValueError(f"not the name of an object: {name!r}")
        return self._root / folder / file

    def _failed(self, error: OSError) -> StoreFailed:
        return StoreFailed(url=self.url, why=error.strerror or type(error).__name__)

    async def close(self) -> None:
        self._pool.shutdown(wait=False)


def _sync_folder(folder: Path) -> None:
    """A rename is for good once its folder is on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        with suppress(OSError):  # there is more in it
            folder.rmdir()
