"""What `explain` says of messages and campaigns, without Redis and SES."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

import orjson
import pytest

from mailer import Attachment, Campaign, Email, Explanation, Mailer, Settings
from mailer.errors import InvalidEmail, ModeRefused, RecipientsError, RenderFailed

ARN = "arn:aws:ses:eu-west-1:111122223333:identity/example.com"
NEWS = {
    "from": "News <news@example.com>",
    "reply_to": ["editors@example.com"],
    "feedback_address": "bounces@example.com",
    "identity_arn": ARN,
    "feedback_identity_arn": ARN,
    "configuration_set": "news",
    "tenant": "letters",
    "tags": {"stream": "news"},
    "list_unsubscribe": {"url": "https://example.com/{token}", "mailto": "leave@example.com"},
    "role_arn": "arn:aws:iam::444455556666:role/mailer",
    "region": "eu-west-1",
}
PLAIN: dict[str, Any] = {"to": "ana@example.org", "from_": "news@example.com", "subject": "Hi", "text": "Hi"}


@pytest.fixture
def nowhere() -> Mailer:
    """Not entered: nothing answers there, and nothing is asked."""
    senders: Any = {"news": NEWS, "plain": {"from": "news@example.com"}}
    return Mailer(Settings(redis_url="redis://127.0.0.1:1/0", senders=senders, secret_key="key-" * 8))


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"email": f"u{n}@example.org", "name": f"N{n}", **more} for n in range(count)]


def reason(found: Explanation, beginning: str) -> str:
    (sentence,) = [sentence for sentence in found.reasons if sentence.startswith(beginning)]
    return sentence


def near(found: Explanation) -> dict[str, tuple[int, int]]:
    return {one.name: (one.used, one.limit) for one in found.near}


def stored(size: int) -> dict[str, Any]:
    """An Email whose template data has that many characters."""
    beside = len('{"email":"ana@example.org","x":""}')
    return {"subject": None, "text": None, "ses_template": "welcome", "data": {"x": "y" * (size - beside)}}


def raw_message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "news@example.com", "ana@example.org", "Hi"
    message["List-Unsubscribe"], message["Reply-To"] = "<mailto:leave@example.com>", "ed@example.com"
    message.set_content("Hi")
    return message


# ---- the call --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("email", "mode", "operation"),
    [
        (Email(**PLAIN), "simple", "SendEmail"),
        (Email(**PLAIN, mode="bulk"), "bulk", "SendBulkEmail"),
        (Email(**PLAIN, mode="template"), "template", "SendEmail"),
        (Email(**PLAIN, mode="raw"), "raw", "SendEmail"),
        (Email(**PLAIN, headers={f"X-{n}": "x" for n in range(16)}), "raw", "SendEmail"),
        (Email(raw=raw_message()), "raw", "SendEmail"),
        (Email(to="a@example.org", from_="n@example.com", ses_template="welcome"), "template", "SendEmail"),
    ],
)
def test_mode_and_operation(nowhere: Mailer, email: Email, mode: str, operation: str) -> None:
    found = nowhere.explain(email)
    assert (found.mode, found.operation) == (mode, operation)
    assert found.reasons[0].startswith(f"Mode {mode}: ")
    assert all(sentence.endswith(".") and not sentence.endswith("..") for sentence in found.reasons)
    assert list(found.json()) == ["operation", "mode", "reasons", "near", "hints", "request"]
    assert orjson.loads(orjson.dumps(found.json()))["request"] == found.request


def test_whose_word_it_is(nowhere: Mailer) -> None:
    of_sender = nowhere.explain(Email(to="ana@example.org", sender="news", subject="Hi", text="Hi", tags={"own": "x"}))
    assert reason(of_sender, "From").endswith(f"of sender news, sent by the authorization of identity {ARN}.")
    assert reason(of_sender, "It goes through") == (
        "It goes through role arn:aws:iam::444455556666:role/mailer, region eu-west-1: of sender news."
    )
    assert reason(of_sender, "Reply-To") == "Reply-To editors@example.com: of sender news."
    assert "bounces@example.com: of sender news" in reason(of_sender, "Bounces")
    assert reason(of_sender, "Configuration set") == "Configuration set news: of sender news."
    assert reason(of_sender, "Tenant") == "Tenant letters: of sender news."
    assert reason(of_sender, "Tags").endswith("stream (of sender news), own (the message's own).")
    assert reason(of_sender, "List-Unsubscribe") == "List-Unsubscribe by one click and by mail: of sender news."

    own: dict[str, Any] = {"configuration_set": "own", "reply_to": "me@example.com", "tags": {"stream": "mine"}}
    of_message = nowhere.explain(Email(to="ana@example.org", sender="news", subject="Hi", text="Hi", **own))
    assert reason(of_message, "Configuration set") == "Configuration set own: the message's own."
    assert reason(of_message, "Reply-To") == "Reply-To me@example.com: the message's own."
    assert reason(of_message, "Tags").endswith("stream (the message's own).")

    of_nobody = nowhere.explain(Email(**PLAIN))
    assert reason(of_nobody, "No configuration set") == (
        "No configuration set is named: SES takes the identity's default, where it has one."
    )
    assert "ConfigurationSetName" not in of_nobody.request
    assert "has to be verified" in reason(of_nobody, "From")
    assert reason(of_nobody, "No List-Unsubscribe").endswith("it has no sender profile, and no contact list is named.")


def test_where_the_list_unsubscribe_comes_from(nowhere: Mailer) -> None:
    message: dict[str, Any] = {"to": "ana@example.org", "sender": "news", "subject": "Hi", "text": "Hi"}
    assert "SES writes it" in reason(
        nowhere.explain(Email(**message, contact_list="readers", topic="weekly")), "List-Unsubscribe"
    )
    own = Email(**{**message, "sender": "plain"}, headers={"List-Unsubscribe": "<mailto:x@example.com>"})
    assert "own header" in reason(nowhere.explain(own), "List-Unsubscribe")
    assert "MIME message itself" in reason(nowhere.explain(Email(raw=raw_message())), "List-Unsubscribe")
    assert "sender plain has no list_unsubscribe" in reason(nowhere.explain(Email(**{**message, "sender": "plain"})), "No List")
    keyless = Mailer(Settings(senders={"news": NEWS}))
    assert "MAILER_SECRET_KEY is not set here" in reason(keyless.explain(Email(**message)), "List-Unsubscribe")


def test_headers_that_ses_wants_verified_are_named(nowhere: Mailer) -> None:
    message = raw_message()
    message["Sender"], message["Return-Path"] = "owner@lists.example", "<bounces@lists.example>"
    found = nowhere.explain(Email(raw=message))
    assert (
        reason(found, "Header Sender")
        == "Header Sender of the message names owner@lists.example: SES wants it verified as From is."
    )
    assert reason(found, "Header Return-Path") == (
        "Header Return-Path of the message names bounces@lists.example, where bounces and complaints are mailed: "
        "SES wants it verified as From is."
    )


async def test_a_message_to_several_has_no_token(nowhere: Mailer) -> None:
    email = Email(to=["ana@example.org", "bo@example.org"], sender="news", subject="Hi", text="Hi")
    assert reason(nowhere.explain(email), "List-Unsubscribe") == (
        "List-Unsubscribe by one click and by mail: of sender news; on this message not by one click, "
        "because its token is one recipient's, and there are several."
    )
    assert "{token}" not in str(nowhere.explain(email).request)
    (hint,) = nowhere.advice(email)
    assert "goes to 2 recipients" in hint
    campaign = Campaign(sender="news", subject="Hi", text="x")
    found = await nowhere.explain_campaign(campaign, [*rows(2), *rows(3, cc="bo@example.com")[2:]])
    assert reason(found, "List-Unsubscribe").endswith(
        "; on 1 row with cc or bcc not by one click, because its token is one recipient's, and there are several."
    )
    headers = [{header["Name"] for header in entry["ReplacementHeaders"]} for entry in found.request["BulkEmailEntries"]]
    assert headers == [{"List-Unsubscribe", "List-Unsubscribe-Post"}] * 2 + [{"List-Unsubscribe"}]


async def test_rows_with_cc_or_bcc_cannot_be_used_with_a_contact_list(nowhere: Mailer) -> None:
    campaign = Campaign(sender="news", subject="Hi", text="x", contact_list="readers")
    shared = [*rows(2, cc="bo@example.com")[1:], *rows(3, bcc="bo@example.com")[2:]]
    found = await nowhere.explain_campaign(campaign, [*rows(1), *shared])
    assert found.request["Destination"] == {"ToAddresses": ["u0@example.org"]}
    assert reason(found, "2 rows cannot be used").startswith(
        "2 rows cannot be used: has cc or bcc, and the campaign a `contact_list`"
    )
    with pytest.raises(RecipientsError, match="one recipient only"):
        await nowhere.explain_campaign(campaign, shared)


def test_what_cannot_be_sent_is_raised_and_not_explained(nowhere: Mailer) -> None:
    with pytest.raises(ModeRefused):
        nowhere.explain(Email(raw=raw_message(), mode="simple"))
    with pytest.raises(RenderFailed, match="'name'"):
        nowhere.explain(Email(**{**PLAIN, "text": "{{ name }}"}, data={}))
    with pytest.raises(InvalidEmail, match="262,144"):
        nowhere.explain(Email(to="a@example.org", from_="n@example.com", ses_template="t", data={"x": "y" * 262_144}))


# ---- campaigns -------------------------------------------------------------------------------------------------------


async def test_a_campaign_is_explained_by_its_first_usable_rows(nowhere: Mailer) -> None:
    campaign = Campaign(sender="news", subject="Hi {{ name }}", text="x")
    source = [{"email": "nobody"}, *rows(60), {"email": "x"}]
    found = await nowhere.explain_campaign(campaign, source)
    assert (found.mode, len(found.request["BulkEmailEntries"])) == ("bulk", 50)
    assert found.request["BulkEmailEntries"][0]["Destination"] == {"ToAddresses": ["u0@example.org"]}
    assert "take 1 SendBulkEmail call with 50 of at most 50 entries; " in reason(found, "The first 50 rows")
    assert reason(found, "1 row cannot be used") == "1 row cannot be used: an email address must have an @-sign."


async def test_the_entries_of_a_call(nowhere: Mailer) -> None:
    campaign = Campaign(sender="news", subject="Hi {{ name }}", text="x")
    for count, close in ((45, {}), (46, {"entries of a call": (46, 50)}), (60, {"entries of a call": (50, 50)})):
        assert near(await nowhere.explain_campaign(campaign, rows(count))) == close


async def test_rows_that_would_fail_are_named(nowhere: Mailer) -> None:
    campaign = Campaign(sender="news", subject="Hi {{ name }}", text="x")
    found = await nowhere.explain_campaign(
        campaign, [{"email": "a@example.org"}, *rows(2), *rows(4)[2:], {"email": "b@example.org"}]
    )
    assert reason(found, "2 rows would fail") == (
        "2 rows would fail: row 1: the template uses 'name', which this row does not have; "
        "row 6: the template uses 'name', which this row does not have."
    )
    with pytest.raises(RenderFailed):
        await nowhere.explain_campaign(campaign, [{"email": "a@example.org"}])
    with pytest.raises(RecipientsError, match="has no row that can be used; the first: an email"):
        await nowhere.explain_campaign(campaign, [{"email": "a"}, {"email": "b"}])


async def test_calls_that_are_split(nowhere: Mailer) -> None:
    campaign = Campaign(sender="news", subject="Hi", text="{{ big }}")
    found = await nowhere.explain_campaign(campaign, [{"email": f"u{n}@example.org", "big": str(n) * 180_000} for n in range(6)])
    assert "take 2 SendBulkEmail calls with 3 and 3 of at most 50 entries" in reason(found, "The first 6 rows")
    single = await nowhere.explain_campaign(Campaign(sender="news", subject="Hi", text="x", mode="simple"), rows(3))
    assert reason(single, "The first 3 rows").endswith("take 3 SendEmail calls, one for each.")


# ---- limits: at nine tenths nothing, one past it the limit is named ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limit", "email"),
    [
        ("recipients of a message", 50, lambda n: {"to": [f"u{i}@example.org" for i in range(n)]}),
        ("value of header X-A", 870, lambda n: {"headers": {"X-A": "x" * n}}),
        ("name of a header", 126, lambda n: {"headers": {"X" * n: "x"}}),
        ("name of a tag", 256, lambda n: {"tags": {"t" * n: "x"}}),
        ("value of tag t", 256, lambda n: {"tags": {"t": "x" * n}}),
        ("name of the configuration set", 64, lambda n: {"configuration_set": "x" * n}),
        ("name of the contact list", 64, lambda n: {"contact_list": "x" * n}),
        ("address with its name", 320, lambda n: {"to": f"{'x' * (n - 18)} <ana@example.org>"}),
        ("name of an attachment", 255, lambda n: {"attachments": [Attachment(name="x" * n, content=b"x")]}),
        ("content id of an attachment", 78, lambda n: {"attachments": [Attachment(name="x", content=b"x", content_id="x" * n)]}),
        (
            "description of an attachment",
            1000,
            lambda n: {"attachments": [Attachment(name="x", content=b"x", description="x" * n)]},
        ),
        (
            "content type of an attachment",
            78,
            lambda n: {"attachments": [Attachment(name="x", content=b"x", content_type=f"a/{'x' * (n - 2)}")]},
        ),
        ("template data", 262_144, stored),
    ],
)
def test_a_limit_is_named_when_it_is_closer_than_ten_per_cent(nowhere: Mailer, name: str, limit: int, email: Any) -> None:
    most = limit * 9 // 10
    assert name not in near(nowhere.explain(Email(**{**PLAIN, **email(most)})))
    assert near(nowhere.explain(Email(**{**PLAIN, **email(most + 1)})))[name] == (most + 1, limit)
    assert near(nowhere.explain(Email(**{**PLAIN, **email(limit)})))[name] == (limit, limit)


def test_the_size_of_a_message_and_of_a_request(nowhere: Mailer) -> None:
    attached = Attachment(name="x", content=bytes(29_000_000))
    used, limit = near(nowhere.explain(Email(**PLAIN, attachments=[attached])))["message"]
    assert (used, limit) == (38_666_668 + 4 + 4, 41_943_040)
    # The request carries the whole MIME message in base64, the attachments in it for the second time.
    mime = near(nowhere.explain(Email(**PLAIN, attachments=[Attachment(name="x", content=bytes(22_000_000))], mode="raw")))
    assert limit * 0.9 < mime["message"][0] < limit
    inline = nowhere.explain(Email(**{**PLAIN, "text": "x" * 950_000}, mode="template"))
    assert near(inline).keys() == {"request"}


def test_a_long_line_of_a_whole_message(nowhere: Mailer) -> None:
    mime = "From: news@example.com\nTo: ana@example.org\nSubject: Hi\n\n{}\n"
    assert near(nowhere.explain(Email(raw=mime.format("x" * 898).encode()))) == {}
    assert near(nowhere.explain(Email(raw=mime.format("x" * 899).encode()))) == {"line of the message": (899, 998)}
