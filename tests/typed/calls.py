"""Each public call, as an application writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypedDict

from mailer import (
    Attachment,
    Campaign,
    CampaignStatus,
    Email,
    Explanation,
    InvalidEmail,
    Lane,
    ListUnsubscribe,
    Mailer,
    MailerError,
    MaybeStored,
    MessageStatus,
    Mode,
    Outcome,
    OwnEntry,
    Reading,
    Reason,
    RecipientStatus,
    Rendered,
    Selection,
    Sender,
    Settings,
    State,
    Summary,
    SyncMailer,
    Unsubscribed,
    WorkerSeen,
    load_settings,
)


class Row(TypedDict):
    email: str
    name: str


def contents() -> list[Email | Campaign]:
    whole = EmailMessage()
    return [
        Email(to="ana@example.org", from_="you@example.com", subject="Hello", text="Dear Ana"),
        Email(
            to=["ana@example.org", "Bo <bo@example.org>"],
            cc=("cy@example.org",),
            bcc={"di@example.org"},
            sender="news",
            subject="Hello {{ name }}",
            html="<p>Dear {{ name }}</p>",
            data={"name": "Ana", "orders": [1, 2]},
            reply_to="help@example.com",
            headers={"X-Order": "42"},
            tags={"stream": "orders"},
            configuration_set="orders",
            contact_list="readers",
            topic="weekly",
            lane="bulk",
            mode="raw",
            send_at=datetime.now(UTC),
            expires_at="2026-12-24T18:00:00+01:00",
            attachments=Attachment(name="a.txt", content="text"),
        ),
        Email(raw=whole, lane=Lane.BULK, mode=Mode.RAW, send_at="2026-12-24 09:00 Europe/Berlin"),
        Email(raw=b"From: a@example.com", to=None, cc=None, from_=None),
        Email(
            to="ana@example.org",
            sender="news",
            ses_template="welcome",
            attachments=[
                Attachment(name="a.pdf", content=b"%PDF", content_type="application/pdf", description="Bill", inline=False),
                Attachment.from_path(Path("logo.png"), content_id="logo"),
                Attachment.from_path("logo.png", name="other.png", content_type=None),
                {"name": "b.txt", "content": b"text"},
            ],
        ),
        Campaign(name="June", sender="news", template="newsletter", data={"month": "June"}),
        Campaign(
            from_="you@example.com",
            subject="Hello {{ name }}",
            text="Dear {{ name }}",
            max_rate=2.5,
            max_bounce_rate=0.05,
            max_complaint_rate=0.001,
            guard_after=500,
        ),
    ]


def settings() -> Settings:
    news = Sender(
        from_="Example News <news@example.com>",
        reply_to=["editors@example.com"],
        tags={"stream": "news"},
        list_unsubscribe=ListUnsubscribe(url="https://example.com/{token}", mailto="leave@example.com"),
    )
    plain = Sender(from_="a@example.com", list_unsubscribe={"mailto": "leave@example.com"}, region=None)
    load_settings(namespace="other")
    return Settings(redis_url="redis://127.0.0.1:6379/0", senders={"news": news, "plain": plain})


async def sources() -> AsyncIterator[Row]:
    yield {"email": "ana@example.org", "name": "Ana"}


async def looked_at(summary: Summary) -> bool:
    return summary.to_send > 0 and summary.subject is not None


async def calls(email: Email, campaign: Campaign, rows: Iterable[Row]) -> None:
    mailer = Mailer(settings(), timeout=2.5)
    await mailer.aclose()
    async with Mailer() as mailer:
        id = await mailer.send(email, idempotency_key="signup-42")
        text: str = id
        message: MessageStatus = await mailer.status(text)
        sent: MessageStatus = await mailer.wait(id)
        either: MessageStatus | CampaignStatus = await mailer.wait("m1m85badtpadyb0w2ke")
        print(sent.state, either.state)
        print(message.to, message.state, message.ses_message_id, message.updated_at.isoformat())

        campaign_id = await mailer.start_campaign(campaign, rows, idempotency_key="june")
        await mailer.start_campaign(campaign, recipients="list.csv", progress=lambda rows, read, size: None)
        await mailer.start_campaign(campaign, recipients=Path("list.csv"))
        await mailer.start_campaign(campaign, recipients=sources())
        await mailer.start_campaign(campaign, recipients=({"email": row["email"]} for row in rows))
        found: CampaignStatus = await mailer.campaign(campaign_id)
        print(found.state is State.FINISHED, found.counts["sent"], found.over, found.left)
        listed: list[CampaignStatus] = await mailer.campaigns(limit=5)
        print((await mailer.test_of(campaign, rows, "me@example.org")).subject)
        tried = await mailer.send_test(campaign, rows, "me@example.org", reading=Reading(encoding="cp1252"))
        seen: list[WorkerSeen] = await mailer.workers()
        print((await mailer.wait(tried)).state, seen, mailer.not_told)
        await mailer.start_campaign(campaign, rows, selection=Selection(allow_repeats=True), confirm=looked_at)
        print(len(listed))
        async for outcome in mailer.outcomes(campaign_id):
            line: RecipientStatus = outcome
            print(line.row, line.to, line.state, line.reason)
        async for outcome in mailer.outcomes(campaign_id, states=["failed", Outcome.UNKNOWN]):
            print(outcome.data)
        one: RecipientStatus = await mailer.outcome(f"{campaign_id}-0-0")
        print(one.id)
        over: CampaignStatus = await mailer.wait(campaign_id, every_s=1)
        print(over.over)
        changed: bool = await mailer.pause(campaign_id)
        changed = await mailer.resume(campaign_id)
        changed = await mailer.cancel(campaign_id, progress=lambda done, left: None)
        print(changed)
        await mailer.reschedule(campaign_id, datetime.now(UTC))
        again: int = await mailer.retry(campaign_id, ["failed", Outcome.FAILED], template="mended")
        print(again)

        explained: Explanation = mailer.explain(email)
        explained = await mailer.explain_campaign(campaign, rows)
        print(explained.mode, explained.reasons, mailer.advice(email))
        url: str = mailer.unsubscribe_url(email)
        url = mailer.unsubscribe_url("ana@example.org", "news")
        print(url)
        link: str = mailer.unsubscribe_url(email) + mailer.unsubscribe_url("ana@example.org", "news")
        who: Unsubscribed = mailer.unsubscribed(link)
        await mailer.suppress(who.address, reason="unsubscribe", stream=who.stream)
        await mailer.suppress(who.address, reason=Reason.MANUAL)
        await mailer.unsuppress(who.address, stream="")
        for entry in await mailer.suppressed(who.address):
            kept: OwnEntry = entry
            print(kept.since)
        rendered: Rendered = mailer.preview("newsletter", {"name": "Ana"})
        print(rendered.subject, rendered.html, rendered.text)


def sync_calls(email: Email, campaign: Campaign, rows: Iterable[Row]) -> None:
    sync = SyncMailer(settings(), timeout=2.5)
    sync.close()
    with SyncMailer() as sync:
        id = sync.send(email, idempotency_key="signup-42")
        message: MessageStatus = sync.wait(id)
        message = sync.status(id)
        campaign_id = sync.start_campaign(campaign, rows, progress=lambda rows, read, size: None)
        found: CampaignStatus = sync.campaign(campaign_id)
        print(sync.test_of(campaign, rows, "me@example.org").email)
        print(sync.send_test(campaign, rows, "me@example.org"), sync.workers())
        sync.start_campaign(campaign, rows, confirm=lambda summary: summary.to_send > 0)
        listed: list[CampaignStatus] = sync.campaigns(limit=5)
        print(message, found, listed, sync.wait(campaign_id).over)
        for outcome in sync.outcomes(campaign_id, states=["failed"]):
            line: RecipientStatus = outcome
            print(line)
        one: RecipientStatus = sync.outcome(f"{campaign_id}-0-0")
        changed: bool = sync.pause(campaign_id) or sync.resume(campaign_id) or sync.cancel(campaign_id)
        sync.reschedule(campaign_id, datetime.now(UTC))
        again: int = sync.retry(campaign_id, [Outcome.FAILED], template="mended")
        print(one, changed, again, sync.explain(email).mode, sync.explain_campaign(campaign, rows).mode, sync.advice(email))
        who: Unsubscribed = sync.unsubscribed(sync.unsubscribe_url(email))
        print(sync.suppress(who.address), sync.unsuppress(who.address), sync.suppressed(who.address))
        print(sync.preview("newsletter", {"name": "Ana"}).subject)


async def errors(mailer: Mailer, email: Email) -> str:
    try:
        return await mailer.send(email)
    except MaybeStored as error:
        return str(error.fields["id"])
    except (InvalidEmail, MailerError) as error:
        fields: dict[str, Any] = error.fields
        return f"{error} {fields}"
