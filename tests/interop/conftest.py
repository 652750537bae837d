"""The servers run once for all tests of this folder; each test has a gateway of its own, the one of the service."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

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


@pytest.fixture
async def gateway(server: Server) -> AsyncIterator[Gateway]:
    async with Gateway(endpoint_url=server.url) as gateway:
        yield gateway
