"""Who can write to Redis does not say where mail goes: routes are the worker's own, and stored contents are what was stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from mailer import Attachment, Email, Mailer, Sender, Settings, State
from mailer.ledger import Route, Spec
from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator import serve as serve_ses
from mailer.suppression.lists import Reason
from mailer.templates import Content
from worker import settle
from worker import suppression_outbox as owed
from worker.runtime import Runtime

from ..conftest import running_worker
from .test_delivery import FROM, accepted, finished, letter, rows, settled, until

SAME = "Give the worker and the application the same [senders]"
MIME = f"From: {FROM}\r\nTo: ana@example.org\r\nSubject: s\r\n\r\nt\r\n".encode()
ROLE = "arn:aws:iam::444455556666:role/mailer"


@asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[Simulator, str]]:
    """An SES of somebody else."""
    simulator = Simulator(SimulatorConfig(max_send_rate=5000))
    async with serve_ses(simulator) as url:
        yield simulator, url


def having(settings: Settings, **fields: Any) -> Settings:
    return settings.model_copy(update={"senders": {"other": Sender(from_="other@example.com", **fields)}})


def message(**more: Any) -> Email:
    return Email(**{"to": "ana@example.org", "from_": FROM, "subject": "s", "text": "t", **more})


async def forge(mailer: Mailer, id: str, **fields: Any) -> None:
    """Write another spec under a message or campaign that is stored."""
    key, redis = mailer._ledger.keys.container(id), cast(Any, mailer._redis)
    await redis.hset(key, "spec", replace(Spec.load(await redis.hget(key, "spec")), **fields).dump())


@pytest.mark.parametrize(
    ("route", "what"),
    [
        ({"endpoint_url": "{url}"}, "endpoint_url"),
        ({"region": "us-west-2", "endpoint_url": "{url}"}, "region, endpoint_url"),
        ({"role_arn": ROLE}, "role_arn"),
        ({"role_arn": ROLE, "external_id": "shared"}, "role_arn, external_id"),
        ({"region": "us-west-2"}, "region"),
    ],
)
async def test_a_route_that_is_not_the_workers_own_is_refused_and_nothing_leaves(
    settings: Settings, mailer: Mailer, ses: Simulator, route: dict[str, str], what: str
) -> None:
    async with elsewhere() as (there, url):
        given = {name: value.format(url=url) for name, value in route.items()}
        id = await mailer.send(message())
        campaign = await mailer.start_campaign(letter(), rows(10))
        for one in (id, campaign):
            await forge(mailer, one, route=Route(**given))
        async with running_worker(settings) as runtime:
            status = await settled(mailer, id)
            stopped = await until(mailer, campaign, State.STOPPED)
            assert status.state == "rejected"
            for reason in (status.reason, stopped.reason):
                assert reason.startswith(f"No sender in this worker's settings uses {what}. ")
                assert SAME in reason
                assert url not in reason
            assert stopped.counts == {"queued": 10}
            assert [ses_account.account for ses_account in runtime.ses_accounts.all()] == ["eu-west-1"]
            assert (await settled(mailer, await mailer.send(message()))).state == "sent"
        assert (len(there.log), len(ses.log), there.counts) == (0, 1, Simulator(SimulatorConfig()).counts)


async def test_a_sender_that_only_the_application_has_is_refused_until_the_worker_has_it_too(
    settings: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "PARK_S", 0.3)
    async with elsewhere() as (there, url):
        shared = having(settings, endpoint_url=url)
        async with Mailer(shared) as mailer:
            async with running_worker(settings):
                id = await mailer.start_campaign(letter(from_=None, sender="other"), rows(10))
                assert SAME in (await until(mailer, id, State.STOPPED)).reason
            async with running_worker(shared):
                await mailer.resume(id)
                assert (await finished(mailer, id)).counts == {"sent": 10}
        assert (len(there.log), len(ses.log)) == (10, 0)


async def test_another_senders_route_and_the_default_are_the_workers_own(settings: Settings, ses: Simulator) -> None:
    async with elsewhere() as (there, url):
        shared = having(settings, endpoint_url=url, region="eu-central-1")
        async with running_worker(shared), Mailer(shared) as mailer:
            assert (await settled(mailer, await mailer.send(message(from_=None, sender="other")))).state == "sent"
            assert (await settled(mailer, await mailer.send(message()))).state == "sent"
    assert (len(there.log), len(ses.log)) == (1, 1)


async def test_nobody_is_put_on_the_suppression_list_of_an_account_that_redis_names(
    runtime: Runtime, mailer: Mailer, ses: Simulator
) -> None:
    async with elsewhere() as (there, url):
        id = await mailer.send(message())
        await settled(mailer, id)
        await forge(mailer, id, route=Route(endpoint_url=url))
        there.suppressed_reasons = ()
        await owed.owe(runtime, [owed.Owed(id, "", Reason.BOUNCE, "ana@example.org")])
        await owed.pay(runtime)
        assert len(there.suppression_list(None)) == 0
        assert await runtime.redis.zcard(runtime.ledger.keys.owed) == 1


# ---- contents --------------------------------------------------------------------------------------------------------


def evil() -> bytes:
    return Content.inline(subject="Evil", html="<p>Evil</p>", text=None).dump()


async def put_evil(mailer: Mailer, which: str, with_what: bytes) -> list[str]:
    """Put something else under the digests that a stored spec names."""
    keys = [key.decode() async for key in mailer._redis.scan_iter(f"{mailer.settings.namespace}:content:*")]
    for key in keys:
        await mailer._redis.set(key, with_what, keepttl=True)
    assert keys, which
    return keys


@pytest.mark.parametrize(
    ("what", "email"),
    [
        ("its template", message(subject="Hi {{ name }}", text="Dear {{ name }}", data={"name": "Ana"})),
        ("its attachment terms.pdf", message(attachments=[Attachment(name="terms.pdf", content=b"%PDF-1.4 terms")])),
        (
            "its MIME message",
            Email(
                to="ana@example.org", from_=FROM, raw=f"From: {FROM}\r\nTo: ana@example.org\r\nSubject: s\r\n\r\nt\r\n".encode()
            ),
        ),
    ],
)
async def test_content_that_is_not_what_was_stored_is_not_sent_and_can_be_stored_again(
    settings: Settings, mailer: Mailer, ses: Simulator, what: str, email: Email
) -> None:
    id = await mailer.send(email)
    await put_evil(mailer, what, evil())
    async with running_worker(settings):
        status = await settled(mailer, id)
        assert (status.state, len(ses.log)) == ("rejected", 0)
        assert status.reason.startswith(f"Redis holds other content for {what} than was stored, so nothing of it is sent")
        assert (await settled(mailer, await mailer.send(email))).state == "sent"


async def test_a_campaigns_template_that_was_altered_stops_it_and_it_goes_on_with_the_right_one(
    settings: Settings, mailer: Mailer, ses: Simulator
) -> None:
    id = await mailer.start_campaign(letter(), rows(10))
    await put_evil(mailer, "its template", evil())
    async with running_worker(settings):
        status = await until(mailer, id, State.STOPPED)
        assert ("other content for its template than was stored" in status.reason, status.counts) == (True, {"queued": 10})
        await finished(mailer, await mailer.start_campaign(letter(name="again"), rows(1)))  # stores it
        await mailer.resume(id)
        assert (await finished(mailer, id)).counts == {"sent": 10}
    assert accepted(ses)["u3@example.org"] == 1
    assert {message.json()["subject"][:5] for entry in ses.log if (message := ses.mailroom.get(entry.id))} == {"Hello"}
