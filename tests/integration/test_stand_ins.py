"""A stand-in for SES that lacks an operation: what lacks is said in one sentence, and is waited for."""

from __future__ import annotations

import re

import pytest

from mailer import Mailer, Settings
from mailer.doctor import Patient, examine
from mailer.ses import gateway
from mailer.ses.gateway import Gateway
from mailer.ses.refusals import classify_question
from mailer.simulator import Simulator, SimulatorConfig
from worker import settle

from ..conftest import running_worker
from ..front import Asked, Said, in_front_of, page
from .test_delivery import finished, letter, parked_with, rows

EXPRESS = '<!DOCTYPE html>\n<html lang="en"><head><title>Error</title></head><body><pre>Cannot GET {}</pre></body></html>'


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gateway._ASKING, "retries", {"total_max_attempts": 1, "mode": "standard"})
    monkeypatch.setattr(settle, "PARK_S", 0.3)


def is_one_sentence(reason: str) -> bool:
    return re.search(r"[<>\n]|SES may have accepted", reason) is None


async def test_moto_has_no_account_and_says_so(
    settings: Settings, mailer: Mailer, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", moto)
    async with running_worker(settings):
        id = await mailer.start_campaign(letter(), rows(3))
        status = await parked_with(mailer, id, f"{moto} answered GetAccount with status 404")
    assert (status.counts, is_one_sentence(status.reason)) == ({"queued": 3}, True)
    found = {one.check: one for one in await examine(Patient(settings=settings, senders={}))}
    assert f"{moto} answered GetAccount with status 404" in found["ses account"].found
    assert is_one_sentence(found["ses account"].found)


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v2/email/suppression/addresses", "ListSuppressedDestinations"),
        ("/v2/email/account", "GetAccount"),
        ("/v2/email/configuration-sets/news", "GetConfigurationSet"),
    ],
)
@pytest.mark.parametrize("json", [False, True], ids=["a page", "JSON"])
async def test_an_operation_that_lacks_is_named_with_status_and_endpoint(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch, path: str, operation: str, json: bool
) -> None:
    missing = Said(404, b'{"message": "Route GET:%s not found", "statusCode": 404}' % path.encode(), {})
    answered = missing if json else page(404, EXPRESS.format(path), X_Powered_By="Express")

    def answers(asked: Asked) -> Said | None:
        return answered if asked.path == path else None

    simulator = Simulator(SimulatorConfig(max_send_rate=5000, configuration_sets=("news",)))
    async with in_front_of(monkeypatch, simulator) as front, running_worker(settings):
        front.answers = answers
        async with Gateway() as way:
            endpoint = way.endpoint_url
        # What was known before the operation was lost is forgotten.
        await mailer._redis.delete(*[key async for key in mailer._redis.scan_iter(f"{settings.namespace}:*")])
        id = await mailer.start_campaign(letter(configuration_set="news"), rows(3))
        status = await parked_with(mailer, id, f"{endpoint} answered {operation} with status 404")
        assert (status.counts, is_one_sentence(status.reason)) == ({"queued": 3}, True)
        front.answers = lambda _: None
        if operation != "ListSuppressedDestinations":  # which is read again only after a while
            assert (await finished(mailer, id, 40)).counts == {"sent": 3}


@pytest.mark.parametrize("status", [404, 405, 500, 501, 502, 503])
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"no", b"\xff", b'{"message": "no such operation"}', b"[]"])
async def test_no_question_says_that_ses_may_have_accepted_it(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes) -> None:
    async with in_front_of(monkeypatch, Simulator(SimulatorConfig())) as front, Gateway() as way:
        front.answers = lambda _: Said(status, body, {})
        questions = (
            way.account,
            way.suppressed_page,
            way.identities,
            lambda: way.identity("example.com"),
            lambda: way.configuration_set("news"),
            lambda: way.template("june"),
            lambda: way.suppress("ana@example.org", "BOUNCE"),
        )
        for ask in questions:
            with pytest.raises(Exception) as caught:
                await ask()
            refusal = classify_question(caught.value)
            assert f"{way.endpoint_url} answered" in refusal.reason
            assert f"status {status}" in refusal.reason
            assert is_one_sentence(refusal.reason)
