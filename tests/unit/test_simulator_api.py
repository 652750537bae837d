"""Every operation of the simulator, each call checked against botocore's SES v2 model: paths, answers, error codes."""

from __future__ import annotations

import json
import re

import pytest

from mailer.simulator import Fault, Kind
from mailer.simulator.limits import DAY_S, MAX_MESSAGE
from mailer.simulator.refusals import HTTP_STATUS, Code, Status

from .checked_ses import (
    BY_NAME,
    INLINE,
    MODEL,
    Checked,
    Clock,
    Json,
    bulk,
    entry,
    raw,
    refused,
    simple,
    simulator,
    statuses,
    tagged,
    to,
    with_file,
    with_header,
    with_simple,
)


@pytest.fixture
def ses() -> Checked:
    return simulator()


# ---- the table -----------------------------------------------------------------------------------------------------


def test_statuses_are_the_models() -> None:
    assert [status.value for status in Status] == MODEL.shape_for("BulkEmailStatus").enum


def test_http_statuses_are_the_models() -> None:
    for code in Code:
        if code.value in MODEL.shape_names:
            assert HTTP_STATUS.get(code, 400) == MODEL.shape_for(code.value).metadata["error"]["httpStatusCode"]


# ---- SendEmail -----------------------------------------------------------------------------------------------------


def test_simple_message_is_kept(ses: Checked) -> None:
    body = simple(
        Destination={
            "ToAddresses": ["Ana <ana@example.org>"],
            "CcAddresses": ["c@example.org"],
            "BccAddresses": ["b@example.org"],
        },
        EmailTags=[{"Name": "campaign", "Value": "june"}],
        ReplyToAddresses=["help@other.org"],
    )
    body["Content"]["Simple"] |= {
        "Headers": [{"Name": "X-One", "Value": "1"}],
        "Attachments": [{"FileName": "a.pdf", "RawContent": b"1234"}],
    }
    message_id = ses.do("SendEmail", body)["MessageId"]
    assert re.fullmatch(r"[0-9a-f]{16}(-[0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}-000000", message_id)
    (logged,) = ses.log
    assert logged.recipients == ("Ana <ana@example.org>", "c@example.org", "b@example.org")
    assert (logged.id, logged.at, logged.operation, logged.tags) == (message_id, Clock.now, "SendEmail", {"campaign": "june"})
    kept = ses.mailroom.get(message_id)
    assert kept is not None
    shown = kept.json()
    assert (shown["subject"], shown["text"], shown["html"]) == ("Hi", "Hello", None)
    assert shown["headers"] == {"X-One": "1"}
    assert shown["attachments"] == [
        {"name": "a.pdf", "content_type": "application/pdf", "size": 4, "content_id": None, "inline": False}
    ]
    assert list(shown["reply_to"]) == ["help@other.org"]


TEMPLATE = {"Template": {"TemplateContent": {"Subject": "s", "Text": "t"}}}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (simple(FromEmailAddress=None), "Invalid From address provided."),
        (simple(FromEmailAddress=None, Content=TEMPLATE), "Invalid From address provided."),
        (simple(FromEmailAddress="news"), "Missing final '@domain'"),
        (simple(ReplyToAddresses=["x"]), "Missing final '@domain'"),
        (simple(FeedbackForwardingEmailAddress="x"), "Missing final '@domain'"),
        (to("a b@example.org"), "Local address contains control or whitespace"),
        (to(*[f"u{n}@example.org" for n in range(51)]), "Recipient count exceeds 50."),
        (simple(Destination={}), "At least one recipient is required."),
        (simple(Content={}), "Exactly one of"),
        (simple(Content={**simple()["Content"], **TEMPLATE}), "Exactly one of"),
        (simple(Content=None), "'content'"),
        (with_simple(Subject=None), "'content.simple.subject'"),
        (with_simple(Body={}), "text or an HTML part"),
        (with_simple(Body={"Text": {}}), "'content.simple.body.text.data'"),
        (with_simple(Headers=[{"Name": f"X-{n}", "Value": "v"} for n in range(16)]), "less than or equal to 15"),
        (with_header("X:", "v"), "Value at 'content.simple.headers.1.member.name' failed to satisfy constraint"),
        (with_header("X" * 127, "v"), "between 1 and 126"),
        (with_header("X", "v\r\nBcc: x"), "Value at 'content.simple.headers.1.member.value' failed to satisfy constraint"),
        (with_header("X", "ä"), "regular expression"),
        (with_header("X", "v" * 996), "between 1 and 995"),
        (with_header("X", ""), "between 1 and 995"),
        (tagged("a b", "v"), "Invalid message tag name"),
        (tagged("a", "ü"), "Invalid message tag value"),
        (tagged("a" * 257, "v"), "longer than 256"),
        (with_file(FileName="run.EXE"), "Illegal filename 'run.EXE'."),
        (with_file(FileName="f" * 256), "fileName"),
        (with_file(ContentId="i" * 79), "contentId"),
        (with_file(ContentType="t" * 79), "contentType"),
        (with_file(ContentDescription="t" * 1001), "contentDescription"),
        (with_file(ContentDisposition="BOGUS"), "enum value set: [ATTACHMENT, INLINE]"),
        (with_file(ContentTransferEncoding="8BIT"), "enum value set: [BASE64"),
        (with_file(RawContent="not base64!"), "not base64"),
        (with_file(RawContent=None), "rawContent"),
        (simple(FromEmailAddressIdentityArn="example.com"), "Invalid identity ARN"),
        (simple(FromEmailAddressIdentityArn="arn:aws:ses:us-east-1:123456789012:identity/example.com"), "Invalid identity ARN"),
        (simple(Content={"Template": {}}), "Exactly one of TemplateName"),
        (simple(Content={"Template": {"TemplateName": "a", "TemplateArn": "b"}}), "Exactly one of TemplateName"),
        (simple(Content={"Template": {"TemplateName": ""}}), "templateName"),
        (simple(Content={"Template": {"TemplateArn": "b"}}), "Invalid template ARN"),
        (simple(Content={"Template": {"TemplateContent": {"Subject": "s"}}}), "text or an HTML part"),
        (simple(Content={"Template": {**TEMPLATE["Template"], "TemplateData": '"' + "x" * 262_143 + '"'}}), "262144"),
        (simple(Content={"Template": {**TEMPLATE["Template"], "TemplateData": "[]"}}), "JSON object"),
        (simple(Content={"Template": {**TEMPLATE["Template"], "TemplateData": "{"}}), "JSON object"),
        (simple(Content={"Template": {"TemplateContent": {"Subject": "s", "Text": "t" * 1_000_000}}}), "1 MB"),
        (raw(b"no header block"), "headers, an empty line and a body"),
        (raw(b"From: news@example.com\nTo: a@example.org\n"), "headers, an empty line and a body"),
        (raw(b"To: a@example.org\n\nx"), "From"),
        (raw(b"From: news@example.com\nTo: a@example.org\n\n" + b"x" * 1001), "longer than 1000"),
        (raw(b"From: news@example.com\n\nx"), "At least one recipient"),
        (
            raw(b'From: news@example.com\nTo: a@example.org\nContent-Disposition: attachment; filename="a.js"\n\nx'),
            "Illegal filename 'a.js'.",
        ),
    ],
)
def test_bad_request(ses: Checked, body: Json, text: str) -> None:
    code, why = refused(lambda: ses.do("SendEmail", body))
    assert code == "BadRequestException"
    assert text in why
    assert len(ses.log) == 0
    assert ses.quota.used() == 0


def test_limits_are_reached_before_they_refuse(ses: Checked) -> None:
    ses.do("SendEmail", to(*[f"u{n}@example.org" for n in range(50)]))
    ses.do("SendEmail", with_simple(Headers=[{"Name": f"X-{n}", "Value": "v" * (996 - len(f"X-{n}"))} for n in range(15)]))
    ses.do("SendEmail", tagged("a" * 256, "_-" * 128))
    ses.do("SendEmail", raw(b"From: news@example.com\r\nTo: a@example.org\r\n\r\n" + b"x" * 1000 + b"\r\n"))


@pytest.mark.slow
def test_message_size(ses: Checked) -> None:
    fits = MAX_MESSAGE // 4 * 3 - 300
    head = b"From: news@example.com\nTo: a@example.org\n\n"
    ses.do("SendEmail", raw(head + b"x" * 99 + (b"\n" + b"x" * 99) * (fits // 100 - 2)))
    for body in (raw(head + (b"\n" + b"x" * 99) * (fits // 100 + 9)), with_file(RawContent=b"x" * (fits + 900))):
        code, text = refused(lambda body=body: ses.do("SendEmail", body))  # type: ignore[misc]
        assert code == "BadRequestException"
        assert "Message length is more than 41943040 bytes long" in text


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_bodies_that_are_not_json_objects(ses: Checked, body: bytes) -> None:
    assert refused(lambda: ses.call(BY_NAME["SendEmail"], body))[0] == "SerializationException"


@pytest.mark.parametrize(
    "change", [{"FromEmailAddress": 1}, {"Destination": []}, {"EmailTags": {}}, {"Content": "x"}, {"EmailTags": [1]}]
)
def test_wrong_types(ses: Checked, change: Json) -> None:
    assert refused(lambda: ses.do("SendEmail", simple(**change)))[0] == "SerializationException"


def test_raw_message(ses: Checked) -> None:
    mime = (
        b"From: news@example.com\r\nTo: Ana <a@example.org>, b@example.org\r\nCc: c@example.org\r\n"
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-SES-MESSAGE-TAGS: a=1, b=2\r\nX-SES-CONFIGURATION-SET: set\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    )
    assert refused(lambda: ses.do("SendEmail", raw(mime))) == ("NotFoundException", "Configuration set <set> does not exist.")
    ses.do("CreateConfigurationSet", {"ConfigurationSetName": "set"})
    message_id = ses.do("SendEmail", raw(mime))["MessageId"]
    kept = ses.mailroom.get(message_id)
    assert kept is not None
    shown = kept.json()
    assert (shown["subject"], shown["text"], shown["raw"]) == ("Grüße", "Grüße\r\n", mime.decode())
    assert kept.accepted.recipients == ("a@example.org", "b@example.org", "c@example.org")
    assert kept.accepted.tags == {"a": "1", "b": "2"}
    given = raw(mime, Destination={"BccAddresses": ["z@example.org"]}, EmailTags=[{"Name": "c", "Value": "3"}])
    second = ses.mailroom.get(ses.do("SendEmail", given)["MessageId"])
    assert second is not None
    assert second.accepted.recipients == ("z@example.org",)  # a Destination stands instead of the headers
    assert second.accepted.tags == {"c": "3"}  # and tags instead of the header's, without merging


def test_raw_needs_no_charset_that_exists(ses: Checked) -> None:
    mime = b"From: news@example.com\nTo: a@example.org\nContent-Type: text/plain; charset=martian\n\nx"
    kept = ses.mailroom.get(ses.do("SendEmail", raw(mime))["MessageId"])
    assert kept is not None
    assert kept.json()["text"] == "x"


# ---- who may send, and to whom -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sender", ["a@example.com", "a@EXAMPLE.com", "a@mail.example.com", "solo@other.org", "solo@OTHER.org", "solo+label@other.org"]
)
def test_verified_senders(sender: str) -> None:
    ses = simulator(verified=("example.com", "solo@other.org"))
    ses.do("SendEmail", simple(FromEmailAddress=sender))


@pytest.mark.parametrize("sender", ["a@notexample.com", "X <a@com>", "Solo@other.org", "a@other.org", "so+lo@other.org"])
def test_unverified_senders(sender: str) -> None:
    ses = simulator(verified=("example.com", "solo@other.org"), region="us-east-1")
    text = f"Email address is not verified. The following identities failed the check in region US-EAST-1: {sender}"
    assert refused(lambda: ses.do("SendEmail", simple(FromEmailAddress=sender))) == ("MessageRejected", text)
    answer = ses.do("SendBulkEmail", bulk(entry(), entry(), FromEmailAddress=sender))
    assert answer["BulkEmailEntryResults"] == [{"Status": "MESSAGE_REJECTED", "Error": text}] * 2


def test_feedback_address_must_be_verified(ses: Checked) -> None:
    code, text = refused(lambda: ses.do("SendEmail", simple(FeedbackForwardingEmailAddress="x@other.org")))
    assert code == "MessageRejected"
    assert text.endswith(": x@other.org")


def test_sandbox() -> None:
    ses = simulator(production=False, verified=("example.com", "friend@other.org"))
    ses.do("SendEmail", to("x@example.com", "friend@other.org", "bounce+1@simulator.amazonses.com"))
    body = simple(Destination={"ToAddresses": ["x@example.com", "a@x.org"], "BccAddresses": ["B <b@y.org>"]})
    text = "Email address is not verified. The following identities failed the check in region EU-WEST-1: a@x.org, B <b@y.org>"
    assert refused(lambda: ses.do("SendEmail", body)) == ("MessageRejected", text)
    answer = ses.do("SendBulkEmail", bulk(entry("a@x.org"), entry("friend@other.org")))
    assert statuses(answer) == ["MESSAGE_REJECTED", "SUCCESS"]
    assert answer["BulkEmailEntryResults"][0]["Error"].endswith("EU-WEST-1: a@x.org")


OTHER = "arn:aws:ses:eu-west-1:999999999999:identity/partner.org"


def test_sending_authorization() -> None:
    body = simple(FromEmailAddress="a@partner.org", FromEmailAddressIdentityArn=OTHER)
    code, text = refused(lambda: simulator().do("SendEmail", body))
    assert code == "AccessDeniedException"
    assert "`ses:SendEmail'" in text
    assert OTHER in text
    code, text = refused(
        lambda: simulator().do(
            "SendBulkEmail", bulk(entry(), FromEmailAddress="a@partner.org", FromEmailAddressIdentityArn=OTHER)
        )
    )
    assert code == "AccessDeniedException"
    ses = simulator(authorised=(OTHER,))
    ses.do("SendEmail", body)
    ses.do("SendEmail", simple(FromEmailAddressIdentityArn="arn:aws:ses:eu-west-1:123456789012:identity/example.com"))
    assert refused(lambda: ses.do("SendEmail", {**body, "FromEmailAddress": "a@example.net"}))[0] == "MessageRejected"
    ses.do("SendEmail", raw(b"From: a@partner.org\nTo: a@x.org\nX-SES-SOURCE-ARN: " + OTHER.encode() + b"\n\nx"))


# ---- account and configuration set ---------------------------------------------------------------------------------


def test_paused_account(ses: Checked) -> None:
    ses.do("PutAccountSendingAttributes", {"SendingEnabled": False})
    assert ses.do("GetAccount")["SendingEnabled"] is False
    code, text = refused(lambda: ses.do("SendEmail", simple()))
    assert code == "SendingPausedException"
    assert text.startswith("Sending paused for this account. For more information, please check the inbox")
    assert statuses(ses.do("SendBulkEmail", bulk(entry(), entry()))) == ["ACCOUNT_SENDING_PAUSED"] * 2
    ses.do("PutAccountSendingAttributes", {"SendingEnabled": True})
    ses.do("SendEmail", simple())


def test_suspended_account(ses: Checked) -> None:
    ses.suspended = True
    assert refused(lambda: ses.do("SendEmail", simple()))[0] == "AccountSuspendedException"
    assert statuses(ses.do("SendBulkEmail", bulk(entry()))) == ["ACCOUNT_SUSPENDED"]
    assert ses.do("GetAccount")["EnforcementStatus"] == "SHUTDOWN"


def test_configuration_sets(ses: Checked) -> None:
    body = simple(ConfigurationSetName="bulk")
    assert refused(lambda: ses.do("SendEmail", body)) == ("NotFoundException", "Configuration set <bulk> does not exist.")
    assert statuses(ses.do("SendBulkEmail", bulk(entry(), ConfigurationSetName="bulk"))) == ["CONFIGURATION_SET_NOT_FOUND"]
    ses.do("CreateConfigurationSet", {"ConfigurationSetName": "bulk", "TrackingOptions": {"CustomRedirectDomain": "x.org"}})
    assert refused(lambda: ses.do("CreateConfigurationSet", {"ConfigurationSetName": "bulk"}))[0] == "AlreadyExistsException"
    assert refused(lambda: ses.do("CreateConfigurationSet", {"ConfigurationSetName": "a b"}))[0] == "BadRequestException"
    ses.do("SendEmail", body)
    assert next(iter(ses.log)).configuration_set == "bulk"
    ses.do("PutConfigurationSetSendingOptions", {"SendingEnabled": False}, "bulk")
    assert ses.do("GetConfigurationSet", label="bulk")["SendingOptions"] == {"SendingEnabled": False}
    assert refused(lambda: ses.do("SendEmail", body))[0] == "SendingPausedException"
    assert statuses(ses.do("SendBulkEmail", bulk(entry(), ConfigurationSetName="bulk"))) == ["CONFIGURATION_SET_SENDING_PAUSED"]
    assert ses.do("ListConfigurationSets")["ConfigurationSets"] == ["bulk"]
    ses.do("DeleteConfigurationSet", label="bulk")
    assert refused(lambda: ses.do("GetConfigurationSet", label="bulk"))[0] == "NotFoundException"


def test_tenants() -> None:
    ses = simulator(tenants=("acme",))
    ses.do("SendEmail", simple(TenantName="acme"))
    assert refused(lambda: ses.do("SendEmail", simple(TenantName="other")))[0] == "NotFoundException"
    assert refused(lambda: ses.do("SendBulkEmail", bulk(entry(), TenantName="other")))[0] == "NotFoundException"


# ---- quotas --------------------------------------------------------------------------------------------------------


def test_rate_counts_recipients() -> None:
    ses = simulator(max_send_rate=5)
    ses.do("SendEmail", to("a@x.org", "b@x.org", "c@x.org", "d@x.org"))
    ses.do("SendEmail", to("a@x.org", "b@x.org", "c@x.org"))  # one was left, two are borrowed
    assert refused(lambda: ses.do("SendEmail", simple())) == ("TooManyRequestsException", "Maximum sending rate exceeded.")
    ses.clock.now += 0.7
    ses.do("SendEmail", simple())
    assert ses.counts["throttled"] == 1
    assert ses.do("GetAccount")["SendQuota"] == {"Max24HourSend": 50000.0, "MaxSendRate": 5, "SentLast24Hours": 8.0}


def test_bulk_entries_get_what_rate_is_left() -> None:
    ses = simulator(max_send_rate=3)
    answer = ses.do("SendBulkEmail", bulk(*[entry(f"u{n}@x.org") for n in range(5)]))
    assert statuses(answer) == ["SUCCESS"] * 3 + ["ACCOUNT_THROTTLED"] * 2
    assert answer["BulkEmailEntryResults"][4]["Error"] == "Maximum sending rate exceeded."
    assert [logged.recipients[0] for logged in ses.log] == ["u0@x.org", "u1@x.org", "u2@x.org"]
    assert ses.counts["throttled"] == 2


@pytest.mark.parametrize("code", ["LimitExceededException", "ThrottlingException"])
def test_daily_quota_rolls(code: str) -> None:
    ses = simulator(max_24h=3, daily_code=code)
    ses.do("SendEmail", to("a@x.org", "b@x.org", "bounce@simulator.amazonses.com"))  # a simulator address does not count
    ses.clock.now += 3600
    answer = ses.do("SendBulkEmail", bulk(entry("a@x.org"), entry("b@x.org"), entry("success@simulator.amazonses.com")))
    assert statuses(answer) == ["SUCCESS", "ACCOUNT_DAILY_QUOTA_EXCEEDED", "SUCCESS"]
    assert refused(lambda: ses.do("SendEmail", simple())) == (code, "Daily message quota exceeded.")
    ses.clock.now += DAY_S - 3600
    ses.do("SendEmail", to("a@x.org", "b@x.org"))
    assert refused(lambda: ses.do("SendEmail", simple()))[0] == code
    assert ses.counts["over_quota"] == 3


def test_unlimited_quota() -> None:
    ses = simulator(max_24h=-1.0)
    for _ in range(100):
        ses.do("SendEmail", simple())
    assert ses.do("GetAccount")["SendQuota"]["Max24HourSend"] == -1.0


def test_bulk_call_limit() -> None:
    ses = simulator(bulk_calls_per_s=1)
    ses.do("SendBulkEmail", bulk(entry()))
    assert refused(lambda: ses.do("SendBulkEmail", bulk(entry())))[0] == "TooManyRequestsException"
    ses.do("SendEmail", simple())
    ses.clock.now += 1
    ses.do("SendBulkEmail", bulk(entry()))
    assert ses.counts["throttled_calls"] == 1


# ---- SendBulkEmail -------------------------------------------------------------------------------------------------


def test_entries_are_answered_in_order(ses: Checked) -> None:
    answer = ses.do(
        "SendBulkEmail", bulk(entry("a@x.org"), entry("broken"), entry("c@x.org"), entry([]), entry(["u@x.org"] * 51))
    )
    assert statuses(answer) == ["SUCCESS", "INVALID_PARAMETER", "SUCCESS", "INVALID_PARAMETER", "INVALID_PARAMETER"]
    ids = [result.get("MessageId") for result in answer["BulkEmailEntryResults"]]
    assert [logged.id for logged in ses.log] == [ids[0], ids[2]]
    assert answer["BulkEmailEntryResults"][1]["Error"] == "Missing final '@domain'"


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (bulk(), "BadRequestException", "1 to 50"),
        (bulk(*[entry()] * 51), "BadRequestException", "1 to 50"),
        (bulk(entry(), FromEmailAddress="news"), "BadRequestException", "Invalid email address<news>."),
        (bulk(entry(), FromEmailAddress=None), "BadRequestException", "Invalid email address<>."),
        (bulk(entry(), FeedbackForwardingEmailAddress="x"), "BadRequestException", "Invalid email address<x>."),
        # The sender is looked at before the template, and the content before the tenant.
        (bulk(entry(), FromEmailAddress="x", template={"TemplateName": "no"}), "BadRequestException", "Invalid email"),
        (bulk(entry(), TenantName="no", template={}), "BadRequestException", "Exactly one"),
        (bulk(entry(), template={"TemplateName": "no"}), "NotFoundException", "Template no does not exist."),
        (bulk(entry(), template={}), "BadRequestException", "Exactly one of TemplateName"),
        (bulk(entry(), template={**INLINE, "Headers": [{"Name": "a b", "Value": "v"}]}), "BadRequestException", "headers.1."),
        (bulk(entry(ReplacementHeaders=[{"Name": "X", "Value": "\n"}])), "BadRequestException", "bulkEmailEntries.1.member"),
        (bulk({}), "BadRequestException", "bulkEmailEntries.1.member.destination"),
        (bulk(entry(), DefaultContent={}), "BadRequestException", "defaultContent.template"),
        (bulk(*[entry(data={"x": "y" * 100_000})] * 10), "BadRequestException", "1 MB"),
    ],
)
def test_what_refuses_the_whole_call(ses: Checked, body: Json, code: str, text: str) -> None:
    found, why = refused(lambda: ses.do("SendBulkEmail", body))
    assert found == code
    assert text in why
    assert len(ses.log) == 0


def test_what_refuses_every_entry(ses: Checked) -> None:
    for change in ({"ReplyToAddresses": ["x"]}, {"DefaultEmailTags": [{"Name": "a b", "Value": "c"}]}):
        assert statuses(ses.do("SendBulkEmail", bulk(entry(), entry(), **change))) == ["INVALID_PARAMETER"] * 2


def test_entry_data_tags_and_headers_go_over_the_defaults(ses: Checked) -> None:
    template = {
        "TemplateContent": {"Subject": "{{a.b}}{{a.c}}{{d}}", "Text": "t"},
        "TemplateData": '{"a": {"b": 1, "c": 2}, "d": [1, 2]}',
        "Headers": [{"Name": "X-One", "Value": "1"}, {"Name": "X-Two", "Value": "2"}],
    }
    changed = entry(
        data={"a": {"c": 3}, "d": [4]},
        ReplacementHeaders=[{"Name": "x-two", "Value": "two"}, {"Name": "X-Three", "Value": "3"}],
        ReplacementTags=[{"Name": "t", "Value": "own"}],
    )
    plain = {"Destination": {"ToAddresses": ["a@x.org"]}}
    answer = ses.do("SendBulkEmail", bulk(plain, changed, template=template, DefaultEmailTags=[{"Name": "t", "Value": "all"}]))
    first, second = (ses.mailroom.get(result["MessageId"]) for result in answer["BulkEmailEntryResults"])
    assert first is not None
    assert second is not None
    assert first.json()["subject"] == "12[1,2]"
    assert second.json()["subject"] == "13[4]"
    assert first.json()["headers"] == {"X-One": "1", "X-Two": "2"}
    assert second.json()["headers"] == {"X-One": "1", "x-two": "two", "X-Three": "3"}
    assert (first.accepted.tags, second.accepted.tags) == ({"t": "all"}, {"t": "own"})


def test_template_data_of_an_entry(ses: Checked) -> None:
    def with_data(text: str) -> Json:
        return {**entry(), "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": text}}}

    answer = ses.do("SendBulkEmail", bulk(with_data("{"), with_data('"' + "x" * 262_144), with_data("{}")))
    assert statuses(answer) == ["INVALID_PARAMETER", "INVALID_PARAMETER", "SUCCESS"]


# ---- rendering -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "failure"),
    [
        ({"TemplateContent": {"Subject": "s", "Text": "{{x}}"}}, "Attribute 'x' is not present in the rendering data."),
        ({"TemplateContent": {"Subject": "{{{a}}}", "Text": "t"}, "TemplateData": '{"a": 1}'}, "triple braces"),
        ({"TemplateContent": {"Subject": "s", "Html": "{{#if a}}x{{/if}}"}, "TemplateData": '{"a": 1}'}, "inline template"),
    ],
)
def test_what_cannot_be_rendered_is_accepted_all_the_same(ses: Checked, template: Json, failure: str) -> None:
    first = ses.do("SendEmail", simple(Content={"Template": template}))["MessageId"]
    assert statuses(ses.do("SendBulkEmail", bulk(entry(), template=template))) == ["SUCCESS"]
    assert [failure in (logged.failure or "") for logged in ses.log] == [True, True]
    assert ses.counts["rendering_failures"] == 2
    kept = ses.mailroom.get(first)
    assert kept is not None
    assert kept.json()["text"] is None


def test_stored_template(ses: Checked) -> None:
    content = {"Subject": "Hi {{name}}", "Html": "{{#each items}}<li>{{this}}{{/each}}"}
    ses.do("CreateEmailTemplate", {"TemplateName": "t", "TemplateContent": content})
    data = json.dumps({"name": "<Ana>", "items": ["a", "b"]})
    for reference in ({"TemplateName": "t"}, {"TemplateArn": "arn:aws:ses:eu-west-1:123456789012:template/t"}):
        body = simple(Content={"Template": {**reference, "TemplateData": data}})
        kept = ses.mailroom.get(ses.do("SendEmail", body)["MessageId"])
        assert kept is not None
        assert kept.json()["subject"] == "Hi <Ana>"
        assert kept.json()["html"] == "<li>a<li>b"
    ses.do("UpdateEmailTemplate", {"TemplateContent": {"Text": "new"}}, "t")
    assert ses.do("GetEmailTemplate", label="t") == {"TemplateName": "t", "TemplateContent": {"Text": "new"}}
    assert kept is not None
    assert kept.json()["subject"] == "Hi <Ana>"  # what was accepted stays as it was
    missing = simple(Content={"Template": {"TemplateName": "no"}})
    assert refused(lambda: ses.do("SendEmail", missing)) == ("NotFoundException", "Template no does not exist.")


def test_template_management(ses: Checked) -> None:
    def create(**content: str) -> Json:
        return ses.do("CreateEmailTemplate", {"TemplateName": "t", "TemplateContent": content})

    assert refused(lambda: create(Subject="s", Html="{{{x}}}"))[0] == "BadRequestException"
    assert refused(lambda: create(Subject="s", Html="{{#if x}}"))[0] == "BadRequestException"
    assert refused(lambda: create(Subject="s"))[0] == "BadRequestException"
    partial = "{{#*inline 'n'}}x{{/inline}}"  # is known in its own part only
    assert refused(lambda: create(Html=partial + "{{> n}}", Text="{{> n}}"))[0] == "BadRequestException"
    assert refused(lambda: create(Html="x" * 500_001))[0] == "BadRequestException"
    create(Subject="{{s}}", Html="{{h}}", Text="{{t}}")
    assert refused(lambda: create(Subject="s", Text="t"))[0] == "AlreadyExistsException"
    assert refused(lambda: ses.do("TestRenderEmailTemplate", {"TemplateData": '{"s": 1}'}, "t")) == (
        "BadRequestException",
        "Attribute 'h' is not present in the rendering data.",
    )
    rendered = ses.do("TestRenderEmailTemplate", {"TemplateData": '{"s": "S\\nX: y", "h": "<p>ü", "t": "ü"}'}, "t")
    assert "Subject: S X: y\n" in rendered["RenderedTemplate"]
    (listed,) = ses.do("ListEmailTemplates")["TemplatesMetadata"]
    assert listed == {"TemplateName": "t", "CreatedTimestamp": Clock.now}
    ses.do("DeleteEmailTemplate", label="t")
    for name, body in (
        ("GetEmailTemplate", None),
        ("DeleteEmailTemplate", None),
        ("UpdateEmailTemplate", {"TemplateContent": {"Text": "t"}}),
        ("TestRenderEmailTemplate", {"TemplateData": "{}"}),
    ):
        assert refused(lambda name=name, body=body: ses.do(name, body, "t"))[0] == "NotFoundException"  # type: ignore[misc]


# ---- suppression ---------------------------------------------------------------------------------------------------


def test_suppressed_recipients_are_accepted(ses: Checked) -> None:
    ses.do("PutSuppressedDestination", {"EmailAddress": " Gone@X.org ", "Reason": "BOUNCE"})
    ses.do("SendEmail", to("Gone <gone@x.ORG>", "ok@x.org"))
    (logged,) = ses.log
    assert logged.suppressed == ("Gone <gone@x.ORG>",)
    assert ses.quota.used() == 2
    found = ses.do("GetSuppressedDestination", label="Gone@x.org")["SuppressedDestination"]
    assert found == {"EmailAddress": "Gone@x.org", "Reason": "BOUNCE", "LastUpdateTime": Clock.now}
    # Managing is case-sensitive where sending is not.
    assert refused(lambda: ses.do("GetSuppressedDestination", label="gone@x.org"))[0] == "NotFoundException"
    assert refused(lambda: ses.do("DeleteSuppressedDestination", label="gone@x.org"))[0] == "NotFoundException"
    ses.do("PutSuppressedDestination", {"EmailAddress": "gone@x.org", "Reason": "COMPLAINT"})
    ses.do("DeleteSuppressedDestination", label="Gone@x.org")
    assert ses.suppressed_of(["gone@x.org"], None)
    ses.do("DeleteSuppressedDestination", label="gone@x.org")
    assert not ses.suppressed_of(["gone@x.org"], None)


def test_configuration_set_overrides_suppression(ses: Checked) -> None:
    ses.do("PutSuppressedDestination", {"EmailAddress": "gone@x.org", "Reason": "BOUNCE"})
    for name, options in (("none", []), ("complaints", ["COMPLAINT"]), ("both", ["BOUNCE", "COMPLAINT"])):
        ses.do("CreateConfigurationSet", {"ConfigurationSetName": name, "SuppressionOptions": {"SuppressedReasons": options}})
        assert ses.do("GetConfigurationSet", label=name)["SuppressionOptions"] == {"SuppressedReasons": options}
        ses.do("SendEmail", {**to("gone@x.org"), "ConfigurationSetName": name})
    assert [bool(logged.suppressed) for logged in ses.log] == [False, False, True]


def test_suppression_options_of_a_set_without_reasons_are_an_override_that_says_none(ses: Checked) -> None:
    ses.do("PutSuppressedDestination", {"EmailAddress": "gone@x.org", "Reason": "BOUNCE"})
    ses.do("CreateConfigurationSet", {"ConfigurationSetName": "a"})
    assert "SuppressionOptions" not in ses.do("GetConfigurationSet", label="a")
    assert ses.suppressed_of(["gone@x.org"], "a")
    ses.do("PutConfigurationSetSuppressionOptions", {}, label="a")
    assert ses.do("GetConfigurationSet", label="a")["SuppressionOptions"] == {"SuppressedReasons": []}
    assert not ses.suppressed_of(["gone@x.org"], "a")
    ses.do("PutConfigurationSetSuppressionOptions", {"SuppressedReasons": ["BOUNCE"]}, label="a")
    assert ses.suppressed_of(["gone@x.org"], "a")
    assert refused(lambda: ses.do("PutConfigurationSetSuppressionOptions", {}, label="b"))[0] == "NotFoundException"


def test_the_account_says_which_reasons_hold(ses: Checked) -> None:
    ses.do("PutSuppressedDestination", {"EmailAddress": "gone@x.org", "Reason": "BOUNCE"})
    ses.do("PutAccountSuppressionAttributes", {"SuppressedReasons": ["COMPLAINT"]})
    assert ses.do("GetAccount")["SuppressionAttributes"] == {"SuppressedReasons": ["COMPLAINT"]}
    assert not ses.suppressed_of(["gone@x.org"], None)
    ses.do("PutAccountSuppressionAttributes", {})
    assert ses.do("GetAccount")["SuppressionAttributes"] == {"SuppressedReasons": []}
    assert refused(lambda: ses.do("PutAccountSuppressionAttributes", {"SuppressedReasons": ["X"]}))[0] == "BadRequestException"


def test_suppression_list_is_paged_and_filtered(ses: Checked) -> None:
    for n in range(7):
        ses.do("PutSuppressedDestination", {"EmailAddress": f"u{n}@x.org", "Reason": "BOUNCE" if n % 2 else "COMPLAINT"})
        ses.clock.now += 60
    found: list[str] = []
    query = "PageSize=3"
    while True:
        page = ses.do("ListSuppressedDestinations", query=query)
        found += [item["EmailAddress"] for item in page["SuppressedDestinationSummaries"]]
        if "NextToken" not in page:
            break
        query = f"PageSize=3&NextToken={page['NextToken']}"
    assert found == [f"u{n}@x.org" for n in range(7)]
    bounces = ses.do("ListSuppressedDestinations", query="Reason=BOUNCE")["SuppressedDestinationSummaries"]
    assert [item["EmailAddress"] for item in bounces] == ["u1@x.org", "u3@x.org", "u5@x.org"]
    both = ses.do("ListSuppressedDestinations", query="Reason=BOUNCE&Reason=COMPLAINT&StartDate=2025-06-15T15:10:00Z")
    assert [item["EmailAddress"] for item in both["SuppressedDestinationSummaries"]] == ["u4@x.org", "u5@x.org", "u6@x.org"]
    assert refused(lambda: ses.do("ListSuppressedDestinations", query="NextToken=x"))[0] == "InvalidNextTokenException"
    assert refused(lambda: ses.do("ListSuppressedDestinations", query="PageSize=0"))[0] == "BadRequestException"
    assert refused(lambda: ses.do("ListSuppressedDestinations", query="EndDate=x"))[0] == "BadRequestException"
    assert refused(lambda: ses.do("ListEmailTemplates", query="NextToken=x"))[0] == "BadRequestException"


def test_suppression_list_is_closed_in_the_sandbox() -> None:
    ses = simulator(production=False)
    body = {"EmailAddress": "a@x.org", "Reason": "BOUNCE"}
    assert refused(lambda: ses.do("PutSuppressedDestination", body))[0] == "BadRequestException"
    assert refused(lambda: simulator().do("PutSuppressedDestination", {**body, "Reason": "X"}))[0] == "BadRequestException"


# ---- identities ----------------------------------------------------------------------------------------------------


def test_identities(ses: Checked) -> None:
    assert refused(lambda: ses.do("SendEmail", simple(FromEmailAddress="a@New.org")))[0] == "MessageRejected"
    assert ses.do("CreateEmailIdentity", {"EmailIdentity": "New.org"})["IdentityType"] == "DOMAIN"
    ses.do("SendEmail", simple(FromEmailAddress="a@New.org"))
    assert refused(lambda: ses.do("CreateEmailIdentity", {"EmailIdentity": "new.org"}))[0] == "AlreadyExistsException"
    made = ses.do("CreateEmailIdentity", {"EmailIdentity": "Me@other.org", "Tags": [{"Key": "a", "Value": "b"}]})
    assert made["IdentityType"] == "EMAIL_ADDRESS"
    assert ses.do("GetEmailIdentity", label="Me@other.org")["Tags"] == [{"Key": "a", "Value": "b"}]
    listed = ses.do("ListEmailIdentities")["EmailIdentities"]
    assert [item["IdentityName"] for item in listed] == ["Me@other.org", "example.com", "new.org"]
    ses.do("DeleteEmailIdentity", label="new.org")
    assert refused(lambda: ses.do("GetEmailIdentity", label="new.org"))[0] == "NotFoundException"
    assert refused(lambda: ses.do("DeleteEmailIdentity", label="new.org"))[0] == "NotFoundException"
    assert refused(lambda: ses.do("CreateEmailIdentity", {"EmailIdentity": "not a domain"}))[0] == "BadRequestException"
    body = {"EmailIdentity": "x.org", "ConfigurationSetName": "no"}
    assert refused(lambda: ses.do("CreateEmailIdentity", body))[0] == "NotFoundException"


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_the_log_is_whole_and_the_mailroom_is_bounded() -> None:
    ses = simulator(keep=10, max_send_rate=10**6)
    for n in range(60):
        ses.do("SendBulkEmail", bulk(*[entry(f"u{n * 50 + i}@x.org") for i in range(50)]))
    assert len(ses.log) == 3000
    assert [logged.recipients[0] for logged in ses.log] == [f"u{n}@x.org" for n in range(3000)]
    total, page = ses.mailroom.page(0, 3)
    assert total == 10
    assert [message.to[0] for message in page] == ["u2999@x.org", "u2998@x.org", "u2997@x.org"]
    total, page = ses.mailroom.page(0, 5, "U2995@")
    assert (total, [message.to[0] for message in page]) == (1, ["u2995@x.org"])


def test_large_messages_push_older_ones_out(ses: Checked) -> None:
    ses.mailroom.keep_bytes = 10_000
    for _ in range(5):
        ses.do("SendEmail", with_simple(Body={"Text": {"Data": "x" * 4000}}))
    assert len(ses.mailroom) == 2
    assert len(ses.log) == 5


def test_reset(ses: Checked) -> None:
    ses.do("SendEmail", simple())
    ses.do("PutAccountSendingAttributes", {"SendingEnabled": False})
    ses.reset()
    assert (len(ses.log), len(ses.mailroom), ses.quota.used(), ses.sending_enabled) == (0, 0, 0, True)


# ---- faults --------------------------------------------------------------------------------------------------------


def test_entry_status_faults(ses: Checked) -> None:
    ses.faults.set([Fault(kind=Kind.ENTRY_STATUS, entry_status=Status.TRANSIENT_FAILURE, probability=0.5)])
    body = bulk(*[entry(f"u{n}@x.org") for n in range(50)])
    first = statuses(ses.do("SendBulkEmail", body))
    assert {"SUCCESS", "TRANSIENT_FAILURE"} == set(first)
    assert len(ses.log) == first.count("SUCCESS")
    ses.faults.set(ses.faults.rules)
    assert statuses(ses.do("SendBulkEmail", body)) == first  # the same seed, the same faults
    ses.faults.set([Fault(kind=Kind.ENTRY_STATUS, entry_status=Status.FAILED, count=2, nth=2)])
    assert statuses(ses.do("SendBulkEmail", body)) == ["SUCCESS"] * 50
    assert statuses(ses.do("SendBulkEmail", body)) == ["FAILED"] * 2 + ["SUCCESS"] * 48


def test_which_calls_a_fault_hits(ses: Checked) -> None:
    faults = ses.faults
    faults.set([Fault(kind=Kind.INTERNAL_ERROR, operation="SendEmail", nth=3), Fault(kind=Kind.LATENCY, seconds=2, count=1)])
    hits = [faults.on_call(name) for name in ("SendEmail", "GetAccount", "SendEmail", "SendEmail", "SendEmail")]
    assert [hit.refusal is not None for hit in hits] == [False, False, False, True, False]
    assert [hit.latency for hit in hits] == [2, 0, 0, 0, 0]
    assert faults.fired == {0: 1, 1: 1}
    faults.set([Fault(kind=Kind.ERROR, probability=0.3, code="X", status=418, message="m")])
    refusals = [hit.refusal for hit in (faults.on_call("SendEmail") for _ in range(1000)) if hit.refusal]
    assert 200 < len(refusals) < 400
    assert (refusals[0].code, refusals[0].http_status, refusals[0].text) == ("X", 418, "m")


@pytest.mark.parametrize(
    "rule", [{"kind": "nonsense"}, {"kind": "latency", "sec": 1}, {"kind": "entry_status", "entry_status": "SUCCESS"}]
)
def test_fault_rules_are_checked(rule: Json) -> None:
    with pytest.raises(ValueError):
        Fault.model_validate(rule)
