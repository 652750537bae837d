"""What the simulated SES refuses in a message's content, and what hangs on it: lists, default sets, templates of others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mailer.message.mime.structure import MAX_DEPTH
from mailer.simulator import attachments, mime
from mailer.simulator.limits import ONCE

from .checked_ses import MODEL, Checked, Json, bulk, entry, raw, refused, simple, simulator, statuses, to, with_file, with_simple


@pytest.fixture
def ses() -> Checked:
    return simulator(contact_lists=("main",), configuration_sets=("own", "domain"))


def headers_of(ses: Checked, message_id: str) -> list[tuple[str, str]]:
    message = ses.mailroom.get(message_id)
    assert message is not None
    content = mime.assemble(message, "eu-west-1")
    assert content is not None
    head = content.partition(b"\r\n\r\n")[0].decode()
    return [(name, value) for name, _, value in (line.partition(": ") for line in head.split("\r\n"))]


# ---- attachments ---------------------------------------------------------------------------------------------------


def test_limits_of_attachments_are_the_models() -> None:
    members = MODEL.shape_for("Attachment").members
    for name, (low, high) in attachments.LENGTHS.items():
        assert members[name].metadata["max"] == high
        assert members[name].metadata.get("min", low) == low
    for name, values in attachments.ENUMS.items():
        assert list(values) == members[name].enum


@pytest.mark.parametrize(
    ("field", "longest"), [("FileName", 255), ("ContentDescription", 1000), ("ContentId", 78), ("ContentType", 78)]
)
def test_lengths(ses: Checked, field: str, longest: int) -> None:
    ses.do("SendEmail", with_file(**{field: "x" * longest}))
    for text in ("x" * (longest + 1), *([""] if field != "ContentDescription" else [])):
        code, why = refused(lambda text=text: ses.do("SendEmail", with_file(**{field: text})))  # type: ignore[misc]
        assert code == "BadRequestException"
        assert f"'content.simple.attachments.1.member.{field[0].lower()}{field[1:]}'" in why
        assert f"and {longest}, inclusive" in why


@pytest.mark.parametrize(("field", "values"), attachments.ENUMS.items())
def test_enums(ses: Checked, field: str, values: tuple[str, ...]) -> None:
    for value in values:
        ses.do("SendEmail", with_file(**{field: value}))
    for value in (values[0].lower(), "8BIT", ""):
        assert "enum value set" in refused(lambda value=value: ses.do("SendEmail", with_file(**{field: value})))[1]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("FileName", "a.pdf\r\nX: y"),
        ("FileName", "a\x00.pdf"),
        ("ContentDescription", "a\nb"),
        ("ContentId", "a>\r\n"),
        ("ContentId", "ü"),
        ("ContentType", "text/plain\r\nX: y"),
        ("ContentType", "text/ü"),
    ],
)
def test_nothing_can_end_a_header(ses: Checked, field: str, value: str) -> None:
    code, why = refused(lambda: ses.do("SendEmail", with_file(**{field: value})))
    assert (code, why) == ("BadRequestException", f"Illegal character in {field} <{value}>.")


def test_base64_is_ascii(ses: Checked) -> None:
    assert "is not base64" in refused(lambda: ses.do("SendEmail", with_file(RawContent="ü")))[1]


def test_kept_files_are_counted_once_however_many_entries_are_accepted(ses: Checked) -> None:
    """A call's files are held by each of its messages, so they count in full when all but one were refused."""
    template = {"TemplateContent": {"Subject": "s", "Text": "t"}, "Attachments": [{"FileName": "a", "RawContent": b"x" * 90_000}]}
    ses.mailroom.keep_bytes = 1_000_000
    for _ in range(20):
        answer = ses.do("SendBulkEmail", bulk(entry(), *[entry("broken")] * 49, template=template))
        assert statuses(answer).count("SUCCESS") == 1
    assert len(ses.mailroom) == 8
    ses.reset()
    ses.mailroom.keep_bytes = 1_000_000
    for _ in range(3):
        ses.do("SendBulkEmail", bulk(*[entry()] * 50, template=template))
    assert len(ses.mailroom) == 150


# ---- headers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ONCE.values()))
def test_headers_that_a_raw_message_may_have_once(ses: Checked, name: str) -> None:
    others = "" if name == "From" else "From: news@example.com\r\n"
    value = "news@example.com" if name in {"From", "Return-Path", "Sender"} else "x"
    once = f"{others}To: a@example.org\r\n{name}: {value}\r\n"
    ses.do("SendEmail", raw(f"{once}\r\nx".encode()))
    code, why = refused(lambda: ses.do("SendEmail", raw(f"{once}{name.upper()}: {value}\r\n\r\nx".encode())))
    assert (code, why) == ("BadRequestException", f"Duplicate header '{name}'.")


def test_headers_that_a_raw_message_may_have_twice(ses: Checked) -> None:
    head = b"From: news@example.com\r\nTo: a@example.org\r\nTo: b@example.org\r\n"
    received = head + b"Received: 1\r\nReceived: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nx"
    kept = ses.mailroom.get(ses.do("SendEmail", raw(received))["MessageId"])
    assert kept is not None
    assert kept.to == ("a@example.org", "b@example.org")
    assert kept.json()["headers"]["Received"] == "1, 2"


@pytest.mark.parametrize(
    "names",
    [("List-Id", "list-id"), ("Subject",), ("FROM",), ("content-type",), ("Content-Transfer-Encoding",), ("MIME-Version",)],
)
def test_custom_headers_that_would_be_there_twice(ses: Checked, names: tuple[str, ...]) -> None:
    given = [{"Name": name, "Value": "x"} for name in names]
    expected = ("BadRequestException", f"Duplicate header '{ONCE[names[0].lower()]}'.")
    assert refused(lambda: ses.do("SendEmail", with_simple(Headers=given))) == expected
    template = {"TemplateContent": {"Subject": "s", "Text": "t"}}
    answer = ses.do("SendBulkEmail", bulk(entry(ReplacementHeaders=given), entry(), template=template))
    assert answer["BulkEmailEntryResults"][0] == {"Status": "INVALID_PARAMETER", "Error": expected[1]}
    assert answer["BulkEmailEntryResults"][1]["Status"] == "SUCCESS"
    assert ses.quota.used() == 1


def test_reply_to_is_given_in_one_way(ses: Checked) -> None:
    body = with_simple(Headers=[{"Name": "Reply-To", "Value": "help@example.com"}])
    assert ("Reply-To", "help@example.com") in headers_of(ses, ses.do("SendEmail", body)["MessageId"])
    both = {**body, "ReplyToAddresses": ["other@example.com"]}
    assert refused(lambda: ses.do("SendEmail", both)) == ("BadRequestException", "Duplicate header 'Reply-To'.")


# ---- raw content ---------------------------------------------------------------------------------------------------


def lines(*body: bytes) -> Json:
    return raw(b"From: news@example.com\r\nTo: a@example.org\r\n\r\n" + b"\r\n".join(body))


def test_lines_of_raw_messages(ses: Checked) -> None:
    ses.do("SendEmail", lines(b"Gr\xc3\xbc\xc3\x9fe", b"\xff" * 1000))  # 8 bits are no reason to refuse it
    assert "longer than 1000" in refused(lambda: ses.do("SendEmail", lines(b"\xff" * 1001)))[1]
    assert "longer than 1000" in refused(lambda: ses.do("SendEmail", lines(b"ok", b"x" * 1001, b"ok")))[1]


@pytest.mark.parametrize(
    "mime",
    [
        b"From: news@example.com\r\nno header\r\n\r\nx",
        b"From: news@example.com\r\nX : y\r\n\r\nx",
        b" From: news@example.com\r\n\r\nx",
        b"\r\nFrom: news@example.com\r\n\r\nx",
        b"",
    ],
)
def test_malformed_header_blocks(ses: Checked, mime: bytes) -> None:
    code, why = refused(lambda: ses.do("SendEmail", raw(mime, Destination={"ToAddresses": ["a@example.org"]})))
    assert (code, why) == ("BadRequestException", "The message must have headers, an empty line and a body.")


def nested(depth: int) -> Json:
    part = b"\r\nx"
    for n in range(depth - 1):
        part = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%s\r\n--b%d--" % (n, n, part, n)
    return raw(b"From: news@example.com\r\nTo: a@example.org\r\n" + part)


def test_parts_in_parts_in_parts(ses: Checked) -> None:
    kept = ses.mailroom.get(ses.do("SendEmail", nested(MAX_DEPTH))["MessageId"])
    assert kept is not None
    assert kept.json()["text"] == "x"
    for depth in (MAX_DEPTH + 1, 2000):
        code, why = refused(lambda depth=depth: ses.do("SendEmail", nested(depth)))  # type: ignore[misc]
        assert (code, why) == ("BadRequestException", "The message has more than 100 parts inside each other.")


def test_folded_headers_are_read(ses: Checked) -> None:
    mime = b"From: =?utf-8?q?=C3=9C?=\r\n <news@example.com>\r\nTo: A\r\n <a@example.org>,\r\n\tb@example.org\r\n\r\nx"
    kept = ses.mailroom.get(ses.do("SendEmail", raw(mime))["MessageId"])
    assert kept is not None
    assert kept.accepted.sender == "=?utf-8?q?=C3=9C?= <news@example.com>"
    assert kept.to == ("a@example.org", "b@example.org")


PARTNER = "arn:aws:ses:eu-west-1:999999999999:identity/partner.org"


def test_return_path_of_a_raw_message() -> None:
    head = b"From: news@example.com\r\nTo: a@example.org\r\nReturn-Path: <b@partner.org>\r\n"
    code, why = refused(lambda: simulator().do("SendEmail", raw(head + b"\r\nx")))
    assert (code, why.endswith(": <b@partner.org>")) == ("MessageRejected", True)
    arn = b"X-SES-RETURN-PATH-ARN: " + PARTNER.encode() + b"\r\n"
    assert refused(lambda: simulator().do("SendEmail", raw(head + arn + b"\r\nx")))[0] == "AccessDeniedException"
    simulator(authorised=(PARTNER,)).do("SendEmail", raw(head + arn + b"\r\nx"))
    simulator().do("SendEmail", raw(head + b"\r\nx", FeedbackForwardingEmailAddress="b@example.com"))  # the parameter stands
    simulator().do("SendEmail", raw(head.replace(b"<b@partner.org>", b"<>") + b"\r\nx"))


def test_attached_files_of_a_raw_message(ses: Checked) -> None:
    mime = b"\r\n".join(
        [
            b"From: news@example.com\r\nTo: a@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n",
            b"--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n--b\r\nContent-Type: image/png; name=x\r\nContent-ID: <logo>",
            b"Content-Disposition: inline; filename*=utf-8''%C3%BC.png\r\nContent-Transfer-Encoding: base64\r\n\r\neHg=",
            b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner text\r\n--b--",
        ]
    )
    kept = ses.mailroom.get(ses.do("SendEmail", raw(mime))["MessageId"])
    assert kept is not None
    shown = kept.json()
    assert shown["text"] == "Hello"
    image, letter = shown["attachments"]
    assert image == {"name": "ü.png", "content_type": "image/png", "size": 2, "content_id": "logo", "inline": True}
    assert (letter["name"], letter["content_type"]) == ("message/rfc822", "message/rfc822")
    blocked = mime.replace(b"filename*=utf-8''%C3%BC.png", b'filename="=?utf-8?q?x=2Eexe?="')
    assert refused(lambda: ses.do("SendEmail", raw(blocked))) == ("BadRequestException", "Illegal filename 'x.exe'.")


# ---- list management -----------------------------------------------------------------------------------------------

MAIN = {"ContactListName": "main", "TopicName": "sports & more"}


def managed(body: Json, **options: str) -> Json:
    return {**body, "ListManagementOptions": {**MAIN, **options}}


def test_list_management(ses: Checked) -> None:
    body = with_simple(
        Body={"Text": {"Data": "{{amazonSESUnsubscribeUrl}} " * 3}, "Html": {"Data": "<a href='{{amazonSESUnsubscribeUrl}}'>"}},
        Headers=[{"Name": "list-unsubscribe", "Value": "<mailto:mine@example.com>"}],
    )
    message_id = ses.do("SendEmail", managed(body))["MessageId"]
    link = f"https://simulated-ses.invalid/unsubscribe?list=main&message={message_id}&topic=sports+%26+more"
    found = [(name, value) for name, value in headers_of(ses, message_id) if name.lower().startswith("list-")]
    assert found == [("List-Unsubscribe", f"<{link}>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")]
    kept = ses.mailroom.get(message_id)
    assert kept is not None
    assert kept.json()["text"] == f"{link} {link} {{{{amazonSESUnsubscribeUrl}}}} "
    assert kept.json()["html"] == f"<a href='{link}'>"


def test_list_management_of_a_template(ses: Checked) -> None:
    template = {"TemplateContent": {"Subject": "{{a}}", "Text": "{{amazonSESUnsubscribeUrl}}"}, "TemplateData": '{"a": "b"}'}
    kept = ses.mailroom.get(ses.do("SendEmail", managed(simple(Content={"Template": template})))["MessageId"])
    assert kept is not None
    assert kept.accepted.failure is None
    assert kept.json()["text"].startswith("https://")


@pytest.mark.parametrize("options", [{}, {"ListManagementOptions": MAIN}])
def test_list_management_of_a_raw_message(ses: Checked, options: Json) -> None:
    head = b"From: news@example.com\r\nTo: a@example.org\r\nList-Unsubscribe: <mailto:x>\r\n"
    control = b"" if options else b"X-SES-LIST-MANAGEMENT-OPTIONS: main; topic=sports & more\r\n"
    found = dict(headers_of(ses, ses.do("SendEmail", raw(head + control + b"\r\nx", **options))["MessageId"]))
    assert found["List-Unsubscribe"].startswith("<https://simulated-ses.invalid/unsubscribe?list=main")
    assert found["List-Unsubscribe"].endswith("&topic=sports+%26+more>")
    assert found["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert not [name for name in found if name.upper().startswith("X-SES-")]


def test_what_list_management_refuses(ses: Checked) -> None:
    no_list = managed(simple(), ContactListName="other")
    assert refused(lambda: ses.do("SendEmail", no_list)) == ("NotFoundException", "List other does not exist.")
    code, why = refused(lambda: ses.do("SendEmail", managed(to("a@example.org", "b@example.org"))))
    assert (code, why) == ("BadRequestException", "List management is for messages to one recipient; this one has 2.")
    nothing = {**simple(), "ListManagementOptions": {"TopicName": "x"}}
    assert "'listManagementOptions.contactListName'" in refused(lambda: ses.do("SendEmail", nothing))[1]
    assert len(ses.log) == 0


# ---- an identity's default configuration set -----------------------------------------------------------------------


def default(ses: Checked, identity: str, name: str | None) -> None:
    ses.do("PutEmailIdentityConfigurationSetAttributes", {"ConfigurationSetName": name} if name else {}, identity)


def last_set(ses: Checked) -> str | None:
    return list(ses.log)[-1].configuration_set


def test_default_configuration_set(ses: Checked) -> None:
    ses.do("CreateEmailIdentity", {"EmailIdentity": "me@example.com", "ConfigurationSetName": "own"})
    default(ses, "example.com", "domain")
    assert ses.do("GetEmailIdentity", label="example.com")["ConfigurationSetName"] == "domain"
    for sender, expected in (("me@example.com", "own"), ("a@example.com", "domain"), ("a@sub.example.com", "domain")):
        ses.do("SendEmail", simple(FromEmailAddress=f"X <{sender}>"))
        assert last_set(ses) == expected
        ses.do("SendBulkEmail", bulk(entry(), FromEmailAddress=sender))
        assert last_set(ses) == expected
        ses.do("SendEmail", raw(f"From: {sender}\nTo: a@example.org\n\nx".encode()))
        assert last_set(ses) == expected
    ses.do("SendEmail", simple(FromEmailAddress="me@example.com", ConfigurationSetName="domain"))
    assert last_set(ses) == "domain"  # the call's beats the identity's
    default(ses, "example.com", None)
    ses.do("SendEmail", simple())
    assert last_set(ses) is None
    with_unknown = {"ConfigurationSetName": "no"}
    operation = "PutEmailIdentityConfigurationSetAttributes"
    assert refused(lambda: ses.do(operation, with_unknown, "example.com"))[0] == "NotFoundException"
    assert refused(lambda: ses.do(operation, {}, "other.org"))[0] == "NotFoundException"


def test_default_configuration_set_that_is_gone_or_paused(ses: Checked) -> None:
    default(ses, "example.com", "domain")
    ses.do("PutConfigurationSetSendingOptions", {"SendingEnabled": False}, "domain")
    assert refused(lambda: ses.do("SendEmail", simple()))[0] == "SendingPausedException"
    ses.do("DeleteConfigurationSet", label="domain")
    code, why = refused(lambda: ses.do("SendEmail", simple()))
    assert (code, why) == ("BadRequestException", "Configuration set <domain>, the default of the identity, does not exist.")
    assert statuses(ses.do("SendBulkEmail", bulk(entry()))) == ["CONFIGURATION_SET_NOT_FOUND"]
    ses.do("SendEmail", simple(ConfigurationSetName="own"))


def test_suppression_of_the_default_set(ses: Checked) -> None:
    ses.do("CreateConfigurationSet", {"ConfigurationSetName": "all", "SuppressionOptions": {"SuppressedReasons": []}})
    ses.do("PutSuppressedDestination", {"EmailAddress": "gone@x.org", "Reason": "BOUNCE"})
    ses.do("SendEmail", to("gone@x.org"))
    default(ses, "example.com", "all")
    ses.do("SendEmail", to("gone@x.org"))
    assert [bool(logged.suppressed) for logged in ses.log] == [True, False]


def test_identity_of_another_account_has_no_default_set_here() -> None:
    ses = simulator(authorised=(PARTNER,), verified=("partner.org",), configuration_sets=("own",))
    default(ses, "partner.org", "own")
    ses.do("SendEmail", simple(FromEmailAddress="a@partner.org", FromEmailAddressIdentityArn=PARTNER))
    assert last_set(ses) is None
    ses.do("SendEmail", simple(FromEmailAddress="a@partner.org"))
    assert last_set(ses) == "own"


# ---- stored templates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("region", "account"), [("eu-west-1", "999999999999"), ("us-east-1", "123456789012")])
def test_templates_of_others(region: str, account: str) -> None:
    arn = f"arn:aws:ses:{region}:{account}:template/t"

    def requests(**template: Any) -> list[tuple[str, Json, str]]:
        one, many = simple(Content={"Template": template}), bulk(entry(), template=template)
        return [("SendEmail", one, "SendTemplatedEmail"), ("SendBulkEmail", many, "SendBulkTemplatedEmail")]

    for ses in (simulator(), simulator(authorised=(arn,))):
        ses.do("CreateEmailTemplate", {"TemplateName": "t", "TemplateContent": {"Subject": "s", "Text": "x"}})
        for operation, body, action in requests(TemplateArn=arn):
            if ses.config.authorised:
                ses.do(operation, body)
                continue
            code, text = refused(lambda ses=ses, operation=operation, body=body: ses.do(operation, body))  # type: ignore[misc]
            assert code == "AccessDeniedException"
            assert f"`ses:{action}' on resource `{arn}'" in text


def test_stored_template_with_a_missing_variable_is_accepted(ses: Checked) -> None:
    content = {"Subject": "Hi", "Text": "{{#if a}}{{b.c}}{{/if}}{{> foot}}{{#*inline 'foot'}}{{d}}{{/inline}}"}
    ses.do("CreateEmailTemplate", {"TemplateName": "t", "TemplateContent": content})
    for data, missing in (({"a": 1}, "b.c"), ({}, "d"), ({"a": 1, "b": {"c": ""}, "d": 1}, None)):
        template = {"TemplateName": "t", "TemplateData": json.dumps(data)}
        ses.do("SendEmail", simple(Content={"Template": template}))
        expected = missing and f"Attribute '{missing}' is not present in the rendering data."
        assert list(ses.log)[-1].failure == expected
        if expected:
            found = refused(lambda data=data: ses.do("TestRenderEmailTemplate", {"TemplateData": json.dumps(data)}, "t"))  # type: ignore[misc]
            assert found == ("BadRequestException", expected)
    assert ses.counts["rendering_failures"] == 2
