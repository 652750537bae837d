"""S3: objects for the store, and lists of recipients. The endpoint is boto's own, AWS_ENDPOINT_URL_S3."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, BinaryIO, cast

import botocore.session
from aiobotocore.config import AioConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..errors import ConfigError, RecipientsNotFound, StoreFailed
from ..masking import masked
from .session import open_session
from .setup import trouble_of

AT_ONCE = 16  # requests of one process at the same time
DELETE_KEYS = 1000  # of one request: S3's most
RANGE_TRIES = 5  # at a list whose connection breaks, each going on where the last ended
_OPTIONS: dict[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 10,
    "retries": {"total_max_attempts": 4, "mode": "standard"},  # an object is written whole, so writing it again is harmless
}
_MISSING = ("404", "NoSuchKey", "NotFound")
_TEMPORARY = ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "500", "502", "503", "504")


class S3Objects:
    """Objects below a prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._found: Any = None
        self._room = asyncio.Semaphore(AT_ONCE)

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    async def _client(self) -> Any:
        async with self._opening:
            if self._found is None:
                config = AioConfig(**_OPTIONS, max_pool_connections=AT_ONCE)
                self._found = await self._stack.enter_async_context(open_session(None).client("s3", config=config))
            return self._found

    async def check(self) -> None:
        try:
            await self._ask("head_bucket")
        except ClientError as error:
            if _code(error) in _TEMPORARY:
                raise StoreFailed(url=self.url, why=_why(error)) from None
            raise ConfigError(where="MAILER_STORE_URL", why=self._refused(error)) from None
        except (BotoCoreError, OSError, ValueError) as error:
            if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "NoRegionError") or (
                isinstance(error, ValueError)
            ):
                raise ConfigError(where="MAILER_STORE_URL", why=f"{self.url} cannot be used: {_why(error)}") from None
            raise StoreFailed(url=self.url, why=_why(error)) from None

    def _refused(self, error: ClientError) -> str:
        if _code(error) in ("404", "NoSuchBucket"):
            return f"there is no bucket {self._bucket}; create it, or correct the name"
        if _code(error) in ("403", "AccessDenied"):
            return f"{self.url} may not be used with these credentials; allow s3:ListBucket on the bucket {self._bucket}"
        return f"{self.url} cannot be used: {_why(error)}"

    async def put(self, objects: Mapping[str, bytes]) -> None:
        await self._all(self._ask("put_object", Key=self._prefix + name, Body=data) for name, data in objects.items())

    async def get(self, name: str) -> bytes | None:
        try:
            return await self._read(name)
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise StoreFailed(url=self.url, why=_why(error)) from None
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise StoreFailed(url=self.url, why=_why(error)) from None
        except Exception as error:  # a body that breaks off is an error of aiohttp's
            if type(error).__module__.partition(".")[0] != "aiohttp":
                raise
            raise StoreFailed(url=self.url, why=_why(error)) from None

    async def _read(self, name: str) -> bytes:
        client = await self._client()
        async with self._room:
            answer = await client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            async with answer["Body"] as body:
                data: bytes = await body.read()
        return data

    async def delete(self, names: Sequence[str]) -> None:
        keys = [{"Key": self._prefix + name} for name in names]
        parts = [keys[first : first + DELETE_KEYS] for first in range(0, len(keys), DELETE_KEYS)]
        requests = [self._ask("delete_objects", Delete={"Objects": part, "Quiet": True}) for part in parts]
        for answer in await self._all(requests):
            for error in answer.get("Errors", ()):
                raise StoreFailed(url=self.url, why=f"an object cannot be deleted: {error.get('Message') or error.get('Code')}")

    async def names(self, folder: str) -> list[str]:
        found: list[str] = []
        more: dict[str, Any] = {}
        while True:
            (answer,) = await self._all([self._ask("list_objects_v2", Prefix=f"{self._prefix}{folder}/", **more)])
            found += [one["Key"].removeprefix(self._prefix) for one in answer.get("Contents", ())]
            if not answer.get("IsTruncated"):
                return found
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    async def _all(self, requests: Iterable[Any]) -> list[dict[str, Any]]:
        """All of them are over when this returns or raises: what is given up afterwards meets none that is on its way."""
        found = await asyncio.gather(*requests, return_exceptions=True)
        for one in found:
            if isinstance(one, ClientError | BotoCoreError | OSError | ValueError):
                raise StoreFailed(url=self.url, why=_why(one)) from None
            if isinstance(one, BaseException):
                raise one
        return cast(list[dict[str, Any]], found)

    async def _ask(self, operation: str, **params: Any) -> Any:
        client = await self._client()
        async with self._room:
            return await getattr(client, operation)(Bucket=self._bucket, **params)

    async def close(self) -> None:
        await self._stack.aclose()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _why(error: BaseException) -> str:
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        return f"{error.operation_name}: {said.get('Message') or said.get('Code') or 'refused'}"[:300].rstrip(".")
    if (trouble := trouble_of(error)) is not None:
        return f"{trouble.why}; {trouble.do}"[:300]
    return masked(str(error) or type(error).__name__)[:300].rstrip(".")


class _Reader(io.RawIOBase):
    """An object from its beginning to its end. Where the connection breaks it goes on with the rest, of the same version."""

    def __init__(self, client: Any, bucket: str, key: str, answer: Mapping[str, Any]) -> None:
        self._client = client
        self._where = {"Bucket": bucket, "Key": key}
        self._etag = answer["ETag"]
        self._body = answer["Body"]
        self.total = int(answer["ContentLength"])
        self._at = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        for left in reversed(range(RANGE_TRIES)):
            try:
                data: bytes = self._body.read(size if size >= 0 else None)
                if not data and self._at < self.total and size:
                    raise OSError("the connection was closed")
                self._at += len(data)
                return data
            except Exception as error:
                if not left:
                    raise OSError(_why(error)) from None
                self._reopen()
        raise AssertionError

    def _reopen(self) -> None:
        self._body.close()
        try:
            answer = self._client.get_object(**self._where, Range=f"bytes={self._at}-", IfMatch=self._etag)
        except ClientError as error:
            changed = _code(error) in ("412", "PreconditionFailed")
            raise OSError("it was replaced while it was read" if changed else _why(error)) from None
        except BotoCoreError as error:
            raise OSError(_why(error)) from None
        self._body = answer["Body"]

    def close(self) -> None:
        if not self.closed:
            self._body.close()
            self._client.close()
        super().close()


def open_list(bucket: str, key: str) -> tuple[BinaryIO, int]:
    """A list of recipients and its size in bytes, to be read in a thread. Raises RecipientsNotFound."""
    name = f"s3://{bucket}/{key}"
    session = botocore.session.get_session()
    try:
        region = os.environ.get("AWS_REGION") or None
        client = session.create_client("s3", region_name=region, config=Config(**_OPTIONS))
        answer = client.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        why = {"NoSuchKey": "there is no such object", "NoSuchBucket": f"there is no bucket {bucket}"}
        denied = "these credentials may not read it (s3:GetObject)" if _code(error) in ("403", "AccessDenied") else _why(error)
        raise RecipientsNotFound(source=name, why=why.get(_code(error), denied)) from None
    except (BotoCoreError, ValueError) as error:
        raise RecipientsNotFound(source=name, why=_why(error)) from None
    reader = _Reader(client, bucket, key, answer)
    return cast(BinaryIO, reader), reader.total
