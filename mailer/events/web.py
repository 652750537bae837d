"""One small file over HTTP, from an address that was checked before."""

from __future__ import annotations

from typing import Final

import aiohttp

from ..errors import FetchFailed

MAX_BYTES: Final = 64 << 10  # of an answer; a certificate has about 2 KiB, a chain of them 6
TIMEOUT_S: Final = 5.0  # for all of it


async def fetch(url: str) -> bytes:
    """The body of a 200 answer. Follows no redirect: what was checked was this address. Raises FetchFailed."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        # Not decompressed, so that MAX_BYTES is the most that there is in memory. Proxies are the environment's, as boto's.
        async with (
            aiohttp.ClientSession(
                timeout=timeout, auto_decompress=False, trust_env=True, headers={"Accept-Encoding": "identity"}
            ) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise FetchFailed(url=url, why=f"the answer is {response.status}")
            body = bytearray()
            async for part in response.content.iter_chunked(8192):
                body += part
                if len(body) > MAX_BYTES:
                    raise FetchFailed(url=url, why=f"it has more than {MAX_BYTES} bytes")
            return bytes(body)
    except TimeoutError:
        raise FetchFailed(url=url, why=f"there is no whole answer after {TIMEOUT_S:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchFailed(url=url, why=type(error).__name__) from None
