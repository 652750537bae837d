"""What most tests need: a real Redis, a simulated SES on a socket, and a worker between them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from mailer import Mailer, Settings
from mailer.ledger import Ledger
from mailer.log import QUIET, WITH_HANDLERS
from mailer.queue import connect, disconnect
from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator import serve as serve_ses
from worker import maintenance
from worker.lanes import serve_lane
from worker.runtime import Runtime, cancel

from . import aws_models, lua
from .servers import RedisServer

# How long an example takes says more of the machine than of the program. What may take how long has tests of its own.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logs may be half a surrogate pair, which pytest-xdist cannot send from process to process."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The files of tests/crash run one after the other: each keeps a dozen processes busy, but for one that starts two."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # here: few runs need it

    class CrashFilesInTurn(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "tests/crash" if file.startswith("tests/crash/") and not file.endswith("test_processes.py") else file

    return CrashFilesInTurn(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings or the AWS account of whoever runs it."""
    for name in [name for name in os.environ if name.startswith(("MAILER_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that configures logging does it for itself: no logger keeps what it was configured with."""
    configure = structlog.configure
    monkeypatch.setattr(structlog, "configure", lambda **how: configure(**{**how, "cache_logger_on_first_use": False}))
    loggers = [logging.getLogger(), *map(logging.getLogger, sorted({*QUIET, *WITH_HANDLERS}))]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    if structlog.is_configured():
        for logger, level, handlers, propagate in before:
            logger.level, logger.handlers, logger.propagate = level, handlers, propagate
        logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]
        structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def models_that_are_read_once() -> None:
    aws_models.read_once()


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that the test may stop and start."""
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of a server of SQS, SNS, S3, STS and IAM."""
    from moto.server import ThreadedMotoServer  # here: it takes most of a second, and few tests need it

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def namespace() -> str:
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A templates folder with one template, `letter`, that uses `name`."""
    folder = tmp_path / "templates" / "letter"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("Hello {{ name }}\n")
    (folder / "body.html").write_text("<p>Dear {{ name }}, from <b>us</b>.</p>\n")
    return folder.parent


@pytest.fixture
def settings(server: RedisServer, namespace: str, templates: Path) -> Settings:
    return Settings(
        redis_url=server.url, namespace=namespace, templates_dir=templates, account_refresh_s=1, bulk_calls_per_s="unlimited"
    )


@pytest.fixture
async def ledger(server: RedisServer, namespace: str) -> AsyncIterator[Ledger]:
    redis = connect(Settings(redis_url=server.url))
    yield Ledger(redis, namespace, lua.clock())
    await disconnect(redis)


@asynccontextmanager
async def simulated_ses(monkeypatch: pytest.MonkeyPatch, config: SimulatorConfig) -> AsyncIterator[Simulator]:
    simulator = Simulator(config)
    async with serve_ses(simulator) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", url)
        yield simulator


@pytest.fixture
async def ses(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    """A production account that is fast enough not to be what a test waits for."""
    async with simulated_ses(
        monkeypatch, SimulatorConfig(max_send_rate=5000, max_24h=1_000_000, contact_lists=("readers",))
    ) as simulator:
        yield simulator


@asynccontextmanager
async def running_worker(settings: Settings, *, clock: str | None = None) -> AsyncIterator[Runtime]:
    """A whole worker in this process, ended as SIGTERM ends it. `clock`: Lua that stands for Redis's clock."""
    async with Runtime(settings, clock=clock or lua.clock()) as runtime:
        upkeep = await maintenance.start(runtime)
        lanes = [asyncio.create_task(serve_lane(runtime, lane)) for lane in settings.lanes]
        try:
            yield runtime
        finally:
            runtime.stopping.set()
            await asyncio.gather(*lanes)
            await cancel(*upkeep.values())


@pytest.fixture
async def runtime(settings: Settings, ses: Simulator) -> AsyncIterator[Runtime]:
    async with running_worker(settings) as runtime:
        yield runtime


@pytest.fixture
async def mailer(settings: Settings) -> AsyncIterator[Mailer]:
    async with Mailer(settings) as mailer:
        yield mailer
