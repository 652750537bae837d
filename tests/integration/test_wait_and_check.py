"""A message is waited for as a campaign is; and what its template lacks is said when it is handed over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailer import Campaign, Email, InvalidEmail, Mailer, NotFound, RenderFailed, Settings
from mailer.cli import message as message_command
from mailer.errors import ConfigError
from mailer.intake import spec_builder
from mailer.settings import Policy
from mailer.simulator import Fault, Simulator
from mailer.simulator.faults import Kind
from mailer.templates import Compiled, Content
from worker.runtime import Runtime

from ..conftest import running_worker

ROWS = [{"email": "ana@example.org"}]


def email(**more: Any) -> Email:
    return Email(**{"to": "ana@example.org", "from_": "news@example.com", "subject": "Hello", "text": "Dear Ana", **more})


# ---- wait ------------------------------------------------------------------------------------------------------------


async def test_a_message_is_waited_for_until_ses_has_it(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    id = await mailer.send(email())
    async with asyncio.timeout(10):
        status = await mailer.wait(id, every_s=0.01)
    assert (status.id, status.state, status.ses_message_id) == (id, "sent", next(iter(ses.log)).id)


async def test_a_message_that_will_not_be_sent_is_not_waited_for(runtime: Runtime, mailer: Mailer) -> None:
    await mailer.suppress("gone@example.org")
    id = await mailer.send(email(to="gone@example.org"))
    async with asyncio.timeout(10):
        assert (await mailer.wait(id, every_s=0.01)).state == "suppressed"


@pytest.mark.parametrize(
    ("policy", "state"),
    [(Policy.RESEND, "sent"), (Policy.ASSUME_SENT, "sent"), (Policy.HOLD, "unknown")],
    ids=lambda one: str(one),
)
async def test_a_message_in_doubt_is_waited_for_until_its_policy_has_told(
    settings: Settings, ses: Simulator, policy: Policy, state: str
) -> None:
    ses.faults.set([Fault(kind=Kind.CUT_AFTER, operation="SendEmail", count=1)])
    own = settings.model_copy(update={"unknown_grace_s": 2.0, "unknown_transactional": policy})
    async with running_worker(own), Mailer(own) as mailer:
        id = await mailer.send(email())
        seen = set[str]()
        began, waiting = time.monotonic(), asyncio.create_task(mailer.wait(id, every_s=0.02))
        while not waiting.done():
            seen.add((await mailer.status(id)).state)
            await asyncio.sleep(0.02)
        assert (await waiting).state == state
        assert "unknown" in seen
        assert time.monotonic() - began > 0.9
    assert len(ses.log) == (2 if policy is Policy.RESEND else 1)


async def test_nothing_is_waited_for_that_is_not_there(mailer: Mailer) -> None:
    for id in ("m00000000000000000", "c00000000000000000"):
        with pytest.raises(NotFound):
            await mailer.wait(id)
    with pytest.raises(ConfigError, match="every_s: 0 must be a number of seconds above 0"):
        await mailer.wait("m0", every_s=0)


# ---- what the template lacks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "data", "missing"),
    [
        ({"template": "letter"}, {"nam": "Ana"}, "'name'"),
        ({"template": "letter"}, None, "'name'"),
        ({"subject": "Hello {{ name }}", "text": "t"}, {}, "'name'"),
        ({"subject": "s", "html": "{{ order.total }}"}, {"order": {"sum": 1}}, "'total'"),
        ({"subject": "s", "text": "{% if vip %}{{ gift }}{% endif %}."}, {"vip": True}, "'gift'"),
        ({"subject": "s", "text": "{% for item in items %}{{ item.price }}{% endfor %}"}, {"items": [{}]}, "'price'"),
        ({"subject": "{{ title }}", "text": "t"}, {"title": " "}, "the subject is empty"),
        ({"subject": "s", "text": "{{ 1 / n }}"}, {"n": 0}, "it divides by zero"),
    ],
)
async def test_what_a_single_message_lacks_is_refused_at_the_call_and_nothing_is_stored(
    mailer: Mailer, settings: Settings, content: dict[str, Any], data: dict[str, Any] | None, missing: str
) -> None:
    with pytest.raises(RenderFailed) as caught:
        await mailer.send(email(**{"subject": None, "text": None, **content}, data=data), idempotency_key="one")
    assert missing in str(caught.value)
    assert "`data`" in str(caught.value) or "of an object" in str(caught.value)
    assert "this row" not in str(caught.value)
    assert [key async for key in mailer._redis.scan_iter(f"{settings.namespace}:*")] == []


@pytest.mark.parametrize(
    ("content", "data"),
    [
        ({"subject": "Hello {{ name|default('you') }}", "text": "t"}, {}),
        ({"subject": "s", "text": "{% if vip is defined %}{{ vip.name }}{% endif %}."}, {}),
        ({"subject": "s", "text": "{{ email }} {{ now.year }}"}, {}),
        ({"subject": "s", "text": "{% if vip %}{{ gift }}{% endif %}."}, {"vip": False}),
        ({"subject": "s {{ name", "text": "as it is"}, None),
        ({"ses_template": "welcome", "subject": None, "text": None}, {"nothing": 1}),  # only SES, or a worker, has it
    ],
)
async def test_what_a_message_does_not_need_is_not_asked_for(
    mailer: Mailer, content: dict[str, Any], data: dict[str, Any] | None
) -> None:
    assert (await mailer.status(await mailer.send(email(**content, data=data)))).state == "queued"


async def test_a_row_of_a_campaign_that_lacks_a_variable_costs_that_row_still(runtime: Runtime, mailer: Mailer) -> None:
    campaign = Campaign(from_="news@example.com", template="letter")
    id = await mailer.start_campaign(campaign, [{"email": "a@example.org"}, {"email": "b@example.org", "name": "Bo"}])
    assert (await mailer.wait(id, every_s=0.02)).counts == {"failed": 1, "sent": 1}


async def test_a_message_that_was_stored_is_found_by_its_key_whatever_has_become_of_its_template(
    mailer: Mailer, settings: Settings
) -> None:
    letter = email(subject=None, text=None, template="letter", data={"name": "Ana"})
    id = await mailer.send(letter, idempotency_key="one")
    (settings.templates_dir / "letter" / "subject.txt").write_text("{{ other }}")
    assert await mailer.send(letter, idempotency_key="one") == id
    with pytest.raises(RenderFailed, match="'other'"):
        await mailer.send(letter)


async def test_the_command_says_what_is_missing_and_prints_no_id(
    mailer: Mailer, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAILER_REDIS_URL", settings.redis_url)
    with pytest.raises(RenderFailed, match="'name', which its `data` does not have"):
        await message_command._send(email(subject=None, text=None, template="letter"), None, False, False)
    assert capsys.readouterr().out == ""


async def test_a_template_that_is_used_again_is_not_compiled_again(mailer: Mailer, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = list[Content]()

    def compiling(content: Content) -> Compiled:
        compiled.append(content)
        return Compiled(content)

    monkeypatch.setattr(spec_builder, "Compiled", compiling)
    for name in ("Ana", "Bo", "Cy"):
        await mailer.send(email(subject="s", text="used {{ name }} again", data={"name": name}))
    assert len(compiled) == 1


async def test_a_call_that_is_repeated_after_its_send_at_is_found_and_a_new_one_is_refused(mailer: Mailer) -> None:
    moment = datetime.now(UTC) - spec_builder.PAST + timedelta(seconds=0.5)
    late, news = email(send_at=moment), Campaign(from_="a@example.com", subject="s", text="t", send_at=moment)
    id = await mailer.send(late, idempotency_key="one")
    campaign_id = await mailer.start_campaign(news, ROWS, idempotency_key="two")
    await asyncio.sleep(0.6)
    assert await mailer.send(late, idempotency_key="one") == id
    assert await mailer.start_campaign(news, ROWS, idempotency_key="two") == campaign_id
    calls: list[Callable[[], Awaitable[str]]] = [lambda: mailer.send(late), lambda: mailer.start_campaign(news, ROWS)]
    for call in calls:
        with pytest.raises(InvalidEmail, match="is over; give a time that is still to come"):
            await call()
