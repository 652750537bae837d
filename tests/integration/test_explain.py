"""What `explain` shows is what a worker sends, to the letter."""

from __future__ import annotations

import asyncio
import copy
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest

from mailer import Attachment, Campaign, Email, Mailer, Settings
from mailer.simulator import Simulator
from mailer.simulator.catalogue import create_email_template
from worker.runtime import Runtime

SENDER = {
    "from": "Größe & Söhne <news@example.com>",
    "reply_to": ["help@example.com"],
    "tags": {"stream": "news"},
    "list_unsubscribe": {"url": "https://example.com/{token}", "mailto": "leave@example.com?subject={token}"},
}
MESSAGE: dict[str, Any] = {"to": "ana@example.org", "sender": "news"}
MIME = b"From: a@example.com\nTo: b@example.org\nSubject: Hi\n\nHi\n"
LOGO = Attachment(name="logo.png", content=b"\x89PNG", content_id="logo")
INVITATION = Attachment(name="a.ics", content=b"BEGIN:VCALENDAR\n", content_type="text/calendar; method=REQUEST")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    more: dict[str, Any] = {"senders": {"news": SENDER}, "secret_key": "key-" * 8}
    return Settings(**{**settings.model_dump(exclude={"senders", "secret_key"}), **more})


@pytest.fixture
def requests(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Everything that the worker hands to SES."""
    sent: list[tuple[str, dict[str, Any]]] = []
    gateway = runtime.ses_accounts.own.gateway
    send = gateway.send

    async def record(operation: str, params: Any, body: bytes) -> Any:
        sent.append((operation, orjson.loads(body)))
        return await send(operation, params, body)

    monkeypatch.setattr(gateway, "send", record)
    return sent


def without_ids(request: Any) -> Any:
    """The id of an attempt is made when something is sent."""
    found = copy.deepcopy(request)
    for tags in [found.get("EmailTags", []), *(entry["ReplacementTags"] for entry in found.get("BulkEmailEntries", []))]:
        for tag in tags:
            if tag["Name"] == "mailer_id":
                tag["Value"] = "-"
    return found


@pytest.mark.parametrize(
    "more",
    [
        {"subject": "Hi", "text": "Hi", "html": "<p>Hi</p>", "cc": "bo@example.org", "attachments": [LOGO]},
        {
            "subject": "Hi {{ x }} {{ email }}",
            "html": "<p>{{ x }}</p>",
            "data": {"x": "y"},
            "to": ["a@example.org", "b@example.org"],
        },
        {"template": "letter", "data": {"name": "Ana"}, "tags": {"own": "x"}, "headers": {"X-A": "b"}, "mode": "template"},
        {"template": "letter", "data": {"name": "Ana"}, "mode": "bulk"},
        {"ses_template": "welcome", "data": {"name": "Ana"}, "bcc": "bo@example.org"},
        {"raw": MIME},
        {"subject": "Hi", "text": "Hi", "contact_list": "readers"},
    ],
    ids=["simple", "rendered", "template", "bulk", "stored", "raw", "contact list"],
)
async def test_a_message(mailer: Mailer, ses: Simulator, requests: list[tuple[str, Any]], more: dict[str, Any]) -> None:
    create_email_template(ses, {"TemplateName": "welcome", "TemplateContent": {"Subject": "{{name}}", "Text": "{{name}}"}})
    email = Email(**{**MESSAGE, **more})
    found = mailer.explain(email)
    id = await mailer.send(email)
    async with asyncio.timeout(20):
        while (status := await mailer.status(id)).state in ("queued", "claimed"):
            await asyncio.sleep(0.01)
    assert (status.state, status.mode) == ("sent", found.mode)
    assert [(operation, without_ids(request)) for operation, request in requests] == [
        (found.operation, without_ids(found.request))
    ]


async def test_an_invitation_differs_in_its_boundaries_only(mailer: Mailer, requests: list[tuple[str, Any]]) -> None:
    email = Email(**MESSAGE, subject="Hi", text="Hi", attachments=[INVITATION])
    found = mailer.explain(email)
    await mailer.send(email)
    async with asyncio.timeout(20):
        while not requests:
            await asyncio.sleep(0.01)
    ((operation, request),) = requests
    assert (found.mode, operation) == ("raw", found.operation)
    assert request.keys() == found.request.keys()
    assert len(request["Content"]["Raw"]["Data"]) == len(found.request["Content"]["Raw"]["Data"])


@pytest.mark.parametrize(
    "more", [{"template": "letter"}, {"template": "letter", "attachments": [LOGO]}, {"ses_template": "welcome"}], ids=str
)
async def test_a_campaign(
    mailer: Mailer, ses: Simulator, requests: list[tuple[str, Any]], more: dict[str, Any], tmp_path: Path
) -> None:
    create_email_template(ses, {"TemplateName": "welcome", "TemplateContent": {"Subject": "{{name}}", "Text": "{{name}}"}})
    (tmp_path / "list.csv").write_text(
        "email,name,cc,tags\nana@example.org,Ana,,\nnobody,No,,\nbo@example.org,Bo,cy@example.org,row=x\n"
    )
    campaign = Campaign(sender="news", data={"shared": 1}, **more)
    found = await mailer.explain_campaign(campaign, "list.csv")
    status = await mailer.wait(await mailer.start_campaign(campaign, "list.csv"), every_s=0.02)
    assert status.counts == {"sent": 2, "rejected": 1}
    assert [(operation, without_ids(request)) for operation, request in requests] == [
        (found.operation, without_ids(found.request))
    ]


async def test_rows_with_cc_or_bcc_are_rejected_with_a_contact_list(
    mailer: Mailer, requests: list[tuple[str, Any]], tmp_path: Path
) -> None:
    rows = "email,cc,bcc\nana@example.org,,\nbo@example.org,cy@example.org,\ndo@example.org,,cy@example.org\n"
    (tmp_path / "list.csv").write_text(rows)
    campaign = Campaign(sender="news", subject="Hi", text="Hi", contact_list="readers")
    for key in ("a key", "a key"):  # the second time the list is compared with the first
        id = await mailer.start_campaign(campaign, "list.csv", idempotency_key=key)
    status = await mailer.wait(id, every_s=0.02)
    assert (status.rows, status.counts) == (3, {"sent": 1, "rejected": 2})
    lines = [line async for line in mailer.outcomes(id)]
    assert [(line.to, line.state) for line in lines] == [
        ("ana@example.org", "sent"),
        ("bo@example.org", "rejected"),
        ("do@example.org", "rejected"),
    ]
    assert "SES manages for messages to one recipient only" in lines[1].reason
    assert [request["Destination"] for _, request in requests] == [{"ToAddresses": ["ana@example.org"]}]


async def test_what_is_likely_to_be_a_mistake_is_logged_once_and_nothing_goes_to_standard_output(
    mailer: Mailer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = Campaign(from_="news@example.com", subject="Hi", text="Hi")
    with caplog.at_level(logging.WARNING, logger="mailer"):
        await mailer.start_campaign(campaign, [{"email": "ana@example.org"}])
    (hint,) = mailer.advice(campaign)
    said = [record.getMessage() for record in caplog.records if record.name == "mailer"]
    assert said == [f"what this campaign sends is likely to have a mistake in it: {hint}"]
    assert "@" not in said[0]
    assert capsys.readouterr().out == ""
