"""The servers run once for all tests of this folder, and each has one gateway, the service's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import cache

import pytest
import pytest_asyncio

from mailer.ses.gateway import Gateway

from .node import Unavailable
from .servers import SERVERS, Server, running

REQUIRED = bool(os.environ.get("INTEROP_REQUIRED"))  # set by CI, where what cannot run is a failure


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[[str], Server]]:
    """The running server of that name, which runs until the end of all tests."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(running(SERVERS[name])))


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, start: Callable[[str], Server]) -> Server:
    try:
        return start(request.param)
    except Unavailable as error:
        why = f"{request.param}: {error}"
    if REQUIRED:
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateways() -> AsyncIterator[Callable[[Server], Awaitable[Gateway]]]:
    """The gateway to a server. botocore reads its models anew for each, which would take most of the time of every test."""
    opened: dict[Server, Gateway] = {}
    async with AsyncExitStack() as stack:

        async def to(server: Server) -> Gateway:
            if server not in opened:
                opened[server] = await stack.enter_async_context(Gateway(endpoint_url=server.url))
            return opened[server]

        yield to


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(server: Server, gateways: Callable[[Server], Awaitable[Gateway]]) -> Gateway:
    return await gateways(server)
