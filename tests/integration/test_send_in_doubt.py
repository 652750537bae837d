"""`mailer send --wait` where SES accepted the message and its answer got lost: that is not "it was not sent"."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from mailer import Email, Mailer, Settings, doubt
from mailer.cli import message as command
from mailer.errors import MailerError
from mailer.events import read
from mailer.settings import Policy
from mailer.simulator import Fault, Simulator
from mailer.simulator.faults import Kind
from worker import events

from ..conftest import running_worker

GRACE_S = 1.0
NOT_KNOWN = "it is not known whether SES accepted it; "
WAITING = f"{NOT_KNOWN}waiting until an event of SES tells; after "
LOOK = f"{NOT_KNOWN}do not send it again before you have looked: mailer status "

Cut = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def cut(settings: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch) -> Cut:
    """A worker whose first call SES accepts without an answer, with a command beside it that has the same settings or its own."""

    @asynccontextmanager
    async def opened(grace_s: float, policy: Policy, ours: Policy | None = None) -> AsyncIterator[Any]:
        ses.faults.set([Fault(kind=Kind.CUT_AFTER, operation="SendEmail", nth=1)])
        words = {"REDIS_URL": settings.redis_url, "NAMESPACE": settings.namespace, "UNKNOWN_GRACE_S": str(grace_s)}
        for name, value in {**words, "UNKNOWN_TRANSACTIONAL": ours or policy}.items():
            monkeypatch.setenv(f"MAILER_{name}", value)
        update = {"unknown_grace_s": grace_s, "unknown_transactional": policy}
        async with running_worker(settings.model_copy(update=update)) as runtime:
            yield runtime

    return opened


async def send(as_json: bool = False, **more: Any) -> None:
    email = Email(to="ana@example.org", from_="news@example.com", subject="Hello", text="Dear Ana", **more)
    async with asyncio.timeout(15):
        await command._send(email, None, True, as_json)


async def test_an_event_that_comes_later_makes_it_a_success(cut: Cut, ses: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[dict[str, Any]] = []
    ses.on_event = heard.append
    async with cut(900.0, Policy.RESEND) as runtime:
        sending = asyncio.create_task(send(as_json=True))
        said = ""
        while "\n" not in said:
            await asyncio.sleep(0.01)
            said += capsys.readouterr().err
        assert not sending.done()
        await events.apply(runtime, [read(orjson.dumps(one)) for one in heard if one["eventType"] == "Send"])
        await sending
    found = capsys.readouterr()
    assert (said + found.err) == f"{WAITING}900 s it is sent again\n"
    assert json.loads(found.out)["state"] == "sent"
    assert len(ses.log) == 1


@pytest.mark.parametrize(
    ("policy", "words", "accepted"), [(Policy.RESEND, "it is sent again", 2), (Policy.ASSUME_SENT, "it counts as sent", 1)]
)
async def test_without_an_event_it_waits_for_what_the_lane_says(
    cut: Cut, ses: Simulator, capsys: pytest.CaptureFixture[str], policy: Policy, words: str, accepted: int
) -> None:
    async with cut(GRACE_S, policy):
        await send()
    found = capsys.readouterr()
    assert found.err == f"{WAITING}1 s {words}\n"
    assert len(ses.log) == accepted


async def test_where_nothing_will_ever_tell_it_says_that_it_is_not_known(
    cut: Cut, ses: Simulator, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cut(2 * GRACE_S, Policy.HOLD):
        with pytest.raises(MailerError) as raised:
            await send()
    found = capsys.readouterr()
    assert found.err == f"{WAITING}2 s it is given up\n"
    assert str(raised.value) == f"{LOOK}{found.out.strip()}"
    async with Mailer(settings) as mailer:
        assert (await mailer.status(found.out.strip())).state == "unknown"


async def test_what_is_too_late_to_be_sent_again_is_not_waited_for(cut: Cut, capsys: pytest.CaptureFixture[str]) -> None:
    async with cut(3.0, Policy.RESEND):
        with pytest.raises(MailerError, match=LOOK):
            await send(expires_at=datetime.now(UTC) + timedelta(seconds=2))
    assert capsys.readouterr().err == f"{WAITING}3 s it is given up\n"


async def test_a_worker_that_holds_what_the_command_takes_for_sent_again_is_not_waited_for_for_ever(
    cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubt, "POLICY_LATE_S", 1.0)
    async with cut(GRACE_S, Policy.HOLD, Policy.RESEND):
        with pytest.raises(MailerError, match=LOOK):
            await send()
