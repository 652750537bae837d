"""Which mode a message goes in, why, and what may not; each limit of SES that botocore does not know, at it and one past it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from mailer import compose
from mailer.compose import Call, Choice, Item, Loaded, Mime, Operation, Planned, Values, choose
from mailer.compose.limits import MAX_DATA_CHARS, MAX_INLINE_REQUEST, MAX_MESSAGE, MAX_RAW
from mailer.compose.nearness import near_limits
from mailer.errors import InvalidEmail, ModeRefused
from mailer.intake.spec_builder import SpecBuilder
from mailer.ledger.spec import File, Spec
from mailer.message.attachment import Attachment
from mailer.message.email import Campaign, Email, Lane, Mode
from mailer.message.mime import BLOCKED_EXTENSIONS
from mailer.message.sender import Sender
from mailer.settings import Settings
from mailer.templates import Pieces

from .test_plan import model

ARN = "arn:aws:ses:eu-west-1:123456789012:template/welcome"
MIME = b"From: news@example.com\r\nTo: u0@example.com\r\nSubject: Hi\r\n\r\nHello\r\n"
ICS = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"


def file(name: str = "a.pdf", *, size: int = 3, content: bytes | None = None, **fields: Any) -> Loaded:
    content = b"x" * size if content is None else content
    made = {"content_type": "application/pdf", "content_id": None, "description": None, "inline": False, **fields}
    return Loaded(File(name=name, digest=hashlib.sha256(content).hexdigest(), size=len(content), **made), content)


INVITATION = file("invite.ics", content=ICS, content_type='text/calendar; charset="utf-8"; method=REQUEST')
MESSAGE = file("old.eml", content=MIME, content_type="message/rfc822")
LONG_TYPE = file(content_type=f"application/pdf; name={'x' * 57}")
HEADERS = {f"X-{i}": "v" for i in range(16)}

CONTENTS: dict[str, dict[str, Any]] = {
    "inline": {"content": "digest"},
    "stored": {"ses_template": "welcome"},
    "raw": {"raw": "digest"},
    "headers": {"content": "digest", "headers": HEADERS},
    "long header": {"content": "digest", "headers": {"X-A": "v " * 436}},
    "invitation": {"content": "digest", "files": (INVITATION.file,)},
    "message": {"content": "digest", "files": (MESSAGE.file,)},
    "long type": {"content": "digest", "files": (LONG_TYPE.file,)},
    "stored + headers": {"ses_template": "welcome", "headers": HEADERS},
    "stored + invitation": {"ses_template": "welcome", "files": (INVITATION.file,)},
    "list": {"content": "digest", "contact_list": "customers"},
    "stored + list": {"ses_template": "welcome", "contact_list": "customers"},
    "big file": {"content": "digest", "files": (file(size=900_000).file,)},
    "stored + big file": {"ses_template": "welcome", "files": (file(size=900_000).file,)},
    "huge file": {"content": "digest", "files": (file(size=24_000_000).file,)},
}


def spec(kind: str = "inline", **fields: Any) -> Spec:
    return Spec(**{"lane": Lane.BULK, "from_address": "news@example.com", **CONTENTS[kind], **fields})


def item(i: int = 0, kind: str = "inline", **fields: Any) -> Item:
    content: Pieces | Values | Mime = Pieces(f"Hi {i}", ["<p>", f"Name {i}", "</p>"], None)
    if kind.startswith("stored"):
        content = Values(json.dumps({"name": f"Name {i}"}))
    elif kind == "raw":
        content = Mime(MIME)
    return Item(**{"position": i, "attempt": 1, "tag": f"c0-0-{i}-1", "to": (f"u{i}@example.com",), "content": content, **fields})


def takes(call: Call) -> int:
    """Bytes of the body of a request, after making sure that botocore takes it and would have written the same."""
    params = json.loads(json.dumps(call.params))
    content = params.get("Content", {})
    blobs = [(content["Raw"], "Data")] if "Raw" in content else []
    structured = content.get("Simple") or content.get("Template") or params.get("DefaultContent", {}).get("Template") or {}
    blobs += [(one, "RawContent") for one in structured.get("Attachments", [])]
    for owner, name in blobs:
        owner[name] = base64.b64decode(owner[name], validate=True)
    report = ParamValidator().validate(params, model(call).input_shape)
    assert not report.has_errors(), report.generate_report()
    by_botocore = create_serializer("rest-json").serialize_to_request(params, model(call))["body"]
    assert json.loads(call.body) == json.loads(by_botocore)
    return len(call.body)


def plan(made: Spec, items: Sequence[Item], files: Sequence[Loaded] = (), **options: Any) -> Planned:
    planned = compose.plan(made, items, files, **options)
    for call in planned.calls:
        takes(call)
    placed = [one.position for call in planned.calls for one in call.items] + [one.position for one, _ in planned.refused]
    assert sorted(placed) == [one.position for one in items], "each message is in one call, or refused"
    return planned


# ---- which mode ------------------------------------------------------------------------------------------------------

SINGLE, SHARED = False, True
CHOICES: list[tuple[str, Mode, Mode, bool, str]] = [
    # content, asked → a message alone, may share a call, why
    ("inline", Mode.AUTO, Mode.SIMPLE, SHARED, "several share a SendBulkEmail call"),
    ("inline", Mode.SIMPLE, Mode.SIMPLE, SINGLE, "mode simple was asked for"),
    ("inline", Mode.RAW, Mode.RAW, SINGLE, "mode raw was asked for"),
    ("inline", Mode.TEMPLATE, Mode.TEMPLATE, SINGLE, "mode template was asked for"),
    ("inline", Mode.BULK, Mode.SIMPLE, SHARED, "mode bulk was asked for"),
    ("stored", Mode.AUTO, Mode.TEMPLATE, SHARED, "stored in SES: one message goes as SendEmail template"),
    ("stored", Mode.TEMPLATE, Mode.TEMPLATE, SINGLE, "mode template was asked for"),
    ("stored", Mode.BULK, Mode.TEMPLATE, SHARED, "mode bulk was asked for"),
    *[("raw", asked, Mode.RAW, SINGLE, "which only SendEmail raw carries") for asked in (Mode.AUTO, Mode.RAW)],
    *[("headers", asked, Mode.RAW, SINGLE, "16 headers (a structured call has at most 15)") for asked in (Mode.AUTO, Mode.RAW)],
    ("long header", Mode.AUTO, Mode.RAW, SINGLE, "header X-A has 872 characters (a structured call takes 870)"),
    ("invitation", Mode.AUTO, Mode.RAW, SINGLE, "invite.ics is a calendar invitation"),
    ("message", Mode.AUTO, Mode.RAW, SINGLE, "old.eml is a message inside the message"),
    ("long type", Mode.AUTO, Mode.RAW, SINGLE, "content type of a.pdf has 79 characters (a structured call takes 78)"),
    ("list", Mode.AUTO, Mode.SIMPLE, SINGLE, "SES manages the contact list"),
    ("list", Mode.TEMPLATE, Mode.TEMPLATE, SINGLE, "mode template was asked for"),
    ("list", Mode.RAW, Mode.RAW, SINGLE, "mode raw was asked for"),
    ("stored + list", Mode.AUTO, Mode.TEMPLATE, SINGLE, "SES manages the contact list"),
    ("big file", Mode.AUTO, Mode.SIMPLE, SINGLE, "its attachments have 1,200,000 bytes"),
    ("big file", Mode.RAW, Mode.RAW, SINGLE, "mode raw was asked for"),
    ("stored + big file", Mode.AUTO, Mode.TEMPLATE, SHARED, "stored in SES"),
    ("stored + big file", Mode.BULK, Mode.TEMPLATE, SHARED, "mode bulk was asked for"),
    ("huge file", Mode.AUTO, Mode.SIMPLE, SINGLE, "its attachments have 32,000,000 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "asked", "single", "bulk", "why"), CHOICES)
def test_the_mode_of_a_content(kind: str, asked: Mode, single: Mode, bulk: bool, why: str) -> None:
    choice = choose(spec(kind, mode=asked))
    assert choice == Choice(single=single, bulk=bulk, always_bulk=asked is Mode.BULK, why=choice.why)
    assert why in choice.why
    assert "\n" not in choice.why


REFUSALS: list[tuple[str, list[Mode], str]] = [
    ("raw", [Mode.SIMPLE, Mode.TEMPLATE, Mode.BULK], "the content is a whole MIME message, so it goes as raw"),
    ("headers", [Mode.SIMPLE, Mode.TEMPLATE, Mode.BULK], "it has 16 headers"),
    ("long header", [Mode.SIMPLE, Mode.TEMPLATE, Mode.BULK], "its header X-A has 872 characters"),
    ("invitation", [Mode.SIMPLE, Mode.TEMPLATE, Mode.BULK], "is a calendar invitation"),
    ("message", [Mode.SIMPLE, Mode.TEMPLATE, Mode.BULK], "is a message inside the message"),
    ("long type", [Mode.SIMPLE, Mode.TEMPLATE, Mode.BULK], "has 79 characters"),
    *[(kind, [Mode.SIMPLE], "goes as template or bulk") for kind in ("stored", "stored + list", "stored + big file")],
    *[(kind, [Mode.RAW], "SES itself fills in a stored template") for kind in ("stored", "stored + list", "stored + big file")],
    ("stored + headers", list(Mode), "raw takes no template of SES"),
    ("stored + invitation", list(Mode), "raw takes no template of SES"),
    ("list", [Mode.BULK], "SES manages a contact list for SendEmail only"),
    ("stored + list", [Mode.BULK], "SES manages a contact list for SendEmail only"),
    ("huge file", [Mode.TEMPLATE, Mode.BULK], "32,000,000 bytes (a request that has the template in it takes 1,000,000)"),
    ("big file", [Mode.TEMPLATE, Mode.BULK], "1,200,000 bytes (a request that has the template in it takes 1,000,000)"),
    ("huge file", [Mode.RAW], "32,000,000 bytes in MIME, and SES takes 31,457,280"),
]


@pytest.mark.parametrize(("kind", "asked", "why"), [(kind, asked, why) for kind, modes, why in REFUSALS for asked in modes])
def test_a_mode_that_cannot_carry_the_content_is_refused_in_one_sentence(kind: str, asked: Mode, why: str) -> None:
    with pytest.raises(ModeRefused) as caught:
        choose(spec(kind, mode=asked))
    text = str(caught.value)
    assert text.startswith("This content cannot go in mode ")
    assert why in text
    assert len(text) < 250
    assert text.endswith(".")
    assert "\n" not in text


def test_every_content_and_every_mode_has_a_row() -> None:
    """What is not refused above is chosen: nothing in between, and no other error."""
    refused = {(kind, asked) for kind, modes, _ in REFUSALS for asked in modes}
    for kind in CONTENTS:
        for asked in Mode:
            if (kind, asked) not in refused:
                choice = choose(spec(kind, mode=asked))
                assert asked in (Mode.AUTO, Mode.BULK if choice.always_bulk else choice.single)


SENDS: list[tuple[str, Mode, int, bool, list[tuple[Mode, int]]]] = [
    # content, asked, messages, bulk calls to be had → (mode, messages) of each call
    ("inline", Mode.AUTO, 1, True, [(Mode.SIMPLE, 1)]),
    ("inline", Mode.AUTO, 2, True, [(Mode.BULK, 2)]),
    ("inline", Mode.AUTO, 51, True, [(Mode.BULK, 50), (Mode.SIMPLE, 1)]),
    ("inline", Mode.AUTO, 3, False, [(Mode.SIMPLE, 1)] * 3),
    ("inline", Mode.BULK, 1, True, [(Mode.BULK, 1)]),
    ("inline", Mode.BULK, 51, False, [(Mode.BULK, 50), (Mode.BULK, 1)]),
    ("inline", Mode.SIMPLE, 2, True, [(Mode.SIMPLE, 1)] * 2),
    ("inline", Mode.TEMPLATE, 2, True, [(Mode.TEMPLATE, 1)] * 2),
    ("inline", Mode.RAW, 2, True, [(Mode.RAW, 1)] * 2),
    ("stored", Mode.AUTO, 1, True, [(Mode.TEMPLATE, 1)]),
    ("stored", Mode.AUTO, 2, True, [(Mode.BULK, 2)]),
    ("stored", Mode.AUTO, 2, False, [(Mode.TEMPLATE, 1)] * 2),
    ("stored", Mode.BULK, 1, True, [(Mode.BULK, 1)]),
    ("stored", Mode.TEMPLATE, 2, True, [(Mode.TEMPLATE, 1)] * 2),
    ("raw", Mode.AUTO, 2, True, [(Mode.RAW, 1)] * 2),
    ("headers", Mode.AUTO, 2, True, [(Mode.RAW, 1)] * 2),
    ("list", Mode.AUTO, 2, True, [(Mode.SIMPLE, 1)] * 2),
    ("stored + list", Mode.AUTO, 2, True, [(Mode.TEMPLATE, 1)] * 2),
    *[(kind, asked, 0, True, []) for kind, asked in (("inline", Mode.AUTO), ("inline", Mode.BULK), ("raw", Mode.AUTO))],
]


@pytest.mark.parametrize(("kind", "asked", "count", "bulk", "calls"), SENDS)
def test_the_calls_of_a_content(kind: str, asked: Mode, count: int, bulk: bool, calls: list[tuple[Mode, int]]) -> None:
    planned = plan(spec(kind, mode=asked), [item(i, kind) for i in range(count)], bulk=bulk)
    assert planned.refused == []
    assert [(call.mode, len(call.items)) for call in planned.calls] == calls
    for call in planned.calls:
        assert (call.operation is Operation.SEND_BULK_EMAIL) is (call.mode is Mode.BULK)


def test_an_unsubscribe_header_counts_once_also_where_the_message_has_it() -> None:
    fourteen = {f"X-{i}": "v" for i in range(14)}
    rules: list[tuple[dict[str, Any], Mode]] = [
        ({"unsubscribe_mailto": "u@e.example"}, Mode.SIMPLE),
        ({"unsubscribe_url": "https://e.example/{token}"}, Mode.RAW),
        ({"unsubscribe_url": "https://e.example/{token}", "headers": {**fourteen, "list-unsubscribe-post": "x"}}, Mode.RAW),
        ({"unsubscribe_mailto": "u@e.example", "headers": {**fourteen, "list-unsubscribe": "x"}}, Mode.SIMPLE),
    ]
    for fields, single in rules:
        assert choose(spec(**{"headers": fourteen, **fields})).single is single


@pytest.mark.parametrize("content_type", ["text/calendar", "text/calendar; x-method=REQUEST", "application/ics; method=REQUEST"])
def test_a_calendar_without_a_method_is_a_file_like_any_other(content_type: str) -> None:
    assert choose(spec(files=(file("a.ics", content_type=content_type).file,))).single is Mode.SIMPLE


# ---- what is on the calls of each mode ---------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "from_address": "News <news@example.com>",
    "reply_to": ("a@example.com",),
    "feedback_address": "bounces@example.com",
    "identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com",
    "feedback_identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/bounces@example.com",
    "configuration_set": "marketing",
    "tenant": "tenant-1",
    "tags": {"campaign": "june"},
    "headers": {"X-One": "1", "List-Unsubscribe": "<https://example.com/all>"},
}
FILES = (
    file("é.pdf", description="Zoë's", content=bytes(range(256))),
    file("logo.png", content_type="image/png", content_id="logo", inline=True),
    file("empty.txt", content=b"", content_type="text/plain"),
)
OWN = {"List-Unsubscribe": "<https://example.com/me>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("kind", "asked", "mode"),
    [
        ("inline", Mode.SIMPLE, Mode.SIMPLE),
        ("inline", Mode.TEMPLATE, Mode.TEMPLATE),
        ("inline", Mode.BULK, Mode.BULK),
        ("inline", Mode.RAW, Mode.RAW),
        ("stored", Mode.AUTO, Mode.TEMPLATE),
        ("stored", Mode.BULK, Mode.BULK),
        ("raw", Mode.AUTO, Mode.RAW),
    ],
)
def test_everything_is_on_the_call_of_every_mode(kind: str, asked: Mode, mode: Mode, listed: bool) -> None:
    if listed and mode is Mode.BULK:
        return
    fields = {**FULL, "mode": asked, "files": tuple(one.file for one in FILES)}
    if kind == "raw":
        fields |= {"headers": {}, "files": ()}
    if listed:
        fields |= {"contact_list": "customers", "topic": "news"}
    made = item(0, kind, cc=("c@example.com",), bcc=("d@example.com",), tags={"campaign": "row"}, headers=OWN)
    (call,) = plan(spec(kind, **fields), [made], () if kind == "raw" else FILES).calls
    assert call.mode is mode
    assert call.recipients == 3
    params = dict(call.params)
    common = {
        "FromEmailAddress": "News <news@example.com>",
        "FromEmailAddressIdentityArn": FULL["identity_arn"],
        "FeedbackForwardingEmailAddress": "bounces@example.com",
        "FeedbackForwardingEmailAddressIdentityArn": FULL["feedback_identity_arn"],
        "ConfigurationSetName": "marketing",
        "TenantName": "tenant-1",
    }
    assert {name: params.pop(name) for name in common} == common
    # A header of MIME that is made here says it already.
    assert params.pop("ReplyToAddresses", None) == (None if (kind, mode) == ("inline", Mode.RAW) else ["a@example.com"])
    options = {"ContactListName": "customers", "TopicName": "news"} if listed else None
    assert params.pop("ListManagementOptions", None) == options
    entry = params.pop("BulkEmailEntries")[0] if mode is Mode.BULK else params
    assert entry.pop("Destination") == {
        "ToAddresses": ["u0@example.com"],
        "CcAddresses": ["c@example.com"],
        "BccAddresses": ["d@example.com"],
    }
    tags = entry.pop("ReplacementTags" if mode is Mode.BULK else "EmailTags")
    assert tags == [{"Name": "mailer_id", "Value": made.tag}, {"Name": "campaign", "Value": "row"}]
    content = params.pop("DefaultContent" if mode is Mode.BULK else "Content")
    assert params == {} or mode is Mode.BULK, "and nothing else"
    if mode is Mode.RAW:
        data = base64.b64decode(content["Raw"]["Data"])
        assert b"\r\nBcc:" not in data
        assert b"<https://example.com/me>" in data
        assert b"<https://example.com/all>" not in data
        return
    (structured,) = content.values()
    own = [{"Name": name, "Value": value} for name, value in OWN.items()]
    one = {"Name": "X-One", "Value": "1"}
    if mode is Mode.BULK:
        assert structured["Headers"] == [one, {"Name": "List-Unsubscribe", "Value": "<https://example.com/all>"}]
        assert entry["ReplacementHeaders"] == own
    else:
        assert structured["Headers"] == [one, *own]
    assert structured["Attachments"] == [
        {
            "RawContent": base64.b64encode(bytes(range(256))).decode(),
            "FileName": "é.pdf",
            "ContentType": "application/pdf",
            "ContentDisposition": "ATTACHMENT",
            "ContentDescription": "Zoë's",
            "ContentTransferEncoding": "BASE64",
        },
        {
            "RawContent": "eHh4",
            "FileName": "logo.png",
            "ContentType": "image/png",
            "ContentDisposition": "INLINE",
            "ContentId": "logo",
            "ContentTransferEncoding": "BASE64",
        },
        {
            "RawContent": "",
            "FileName": "empty.txt",
            "ContentType": "text/plain",
            "ContentDisposition": "ATTACHMENT",
            "ContentTransferEncoding": "BASE64",
        },
    ]


def test_simple_content_says_utf_8() -> None:
    (call,) = plan(spec(), [item(content=Pieces("é", ["<p>é</p>"], ["é"]))]).calls
    assert call.params["Content"]["Simple"] == {
        "Subject": {"Data": "é", "Charset": "UTF-8"},
        "Body": {"Html": {"Data": "<p>é</p>", "Charset": "UTF-8"}, "Text": {"Data": "é", "Charset": "UTF-8"}},
    }


@pytest.mark.parametrize(("template", "member"), [("welcome", "TemplateName"), (ARN, "TemplateArn")])
def test_a_stored_template_is_named_and_its_data_is_json(template: str, member: str) -> None:
    made = spec("stored", ses_template=template)
    (call,) = plan(made, [item(0, "stored")]).calls
    assert call.params["Content"] == {"Template": {member: template, "TemplateData": '{"name": "Name 0"}'}}
    (call,) = plan(made, [item(i, "stored") for i in range(2)]).calls
    assert call.params["DefaultContent"] == {"Template": {member: template, "TemplateData": "{}"}}
    assert [entry["ReplacementEmailContent"] for entry in call.params["BulkEmailEntries"]] == [
        {"ReplacementTemplate": {"ReplacementTemplateData": f'{{"name": "Name {i}"}}'}} for i in range(2)
    ]


# ---- limits that botocore does not check -------------------------------------------------------------------------------


def test_fifty_entries_a_call() -> None:
    for kind in ("inline", "stored"):
        for count, sizes in ((50, [50]), (51, [50, 1])):
            assert [len(call.items) for call in plan(spec(kind), [item(i, kind) for i in range(count)]).calls] == sizes


@pytest.mark.parametrize("asked", [Mode.AUTO, Mode.BULK, Mode.TEMPLATE])
def test_a_row_with_more_data_than_ses_takes_is_rejected_alone(asked: Mode) -> None:
    room = MAX_DATA_CHARS - len('{"a":""}')
    for extra in (0, 1):
        data = [
            Values(json.dumps({"a": "é" * length}, ensure_ascii=False, separators=(",", ":"))) for length in (1, room + extra, 2)
        ]
        items = [item(i, "stored", content=values) for i, values in enumerate(data)]
        planned = plan(spec("stored", mode=asked), items)
        if extra:
            ((one, why),) = planned.refused
            assert one is items[1]
            assert why == "its template data has more than the 262,144 characters that SES takes"
        else:
            assert planned.refused == []


def test_an_inline_template_with_its_request_has_one_megabyte() -> None:
    def planned(length: int) -> Planned:
        return plan(spec(mode=Mode.TEMPLATE), [item(content=Pieces("s", None, ["x" * length, "é"]))])

    room = MAX_DATA_CHARS - len('{"v0":""}') - 1
    assert len(planned(room).calls) == 1
    files = (file(size=600_000),)
    made = spec(mode=Mode.TEMPLATE, files=(files[0].file,))
    size = takes(plan(made, [item(content=Pieces("s", ["<p>"], ["t"]))], files).calls[0])
    for extra in (0, 1):
        html = ["<p>" + "x" * (MAX_INLINE_REQUEST - size + extra)]
        planned_ = plan(spec(mode=Mode.TEMPLATE, files=(files[0].file,)), [item(content=Pieces("s", html, ["t"]))], files)
        html_is_value = planned_.refused and "262,144" in planned_.refused[0][1]
        assert not html_is_value
        assert (len(planned_.calls), len(planned_.refused)) == ((0, 1) if extra else (1, 0))
        if extra:
            assert planned_.refused[0][1] == "with its template it has 1,000,001 bytes, and SES takes 1,000,000; use mode simple"
        else:
            assert takes(planned_.calls[0]) == MAX_INLINE_REQUEST


def test_attachments_leave_room_for_an_inline_template_or_are_kept_out_of_bulk_before_anything_is_built() -> None:
    for size, bulk in ((750_000, True), (750_001, False)):
        assert choose(spec(files=(file(size=size).file,))).bulk is bulk


def test_attachments_of_a_stored_template_are_not_of_its_megabyte() -> None:
    files = (file(size=3_000_000),)
    (call,) = plan(spec("stored", files=(files[0].file,)), [item(i, "stored") for i in range(50)], files).calls
    assert (call.mode, len(call.items)) == (Mode.BULK, 50)


def test_forty_megabytes_a_message() -> None:
    half = file(size=(MAX_MESSAGE - 8000) // 8 * 3)
    files = (half, Loaded(half.file, half.content))
    room = (MAX_MESSAGE - 2 * len(half.base64) - len("cw==")) // 4 * 3  # bytes of the bodies, which are sent in base64
    html = "é" * (room // 12 * 3)
    made = spec(mode=Mode.SIMPLE, files=(half.file,) * 2)
    for extra in (0, 1):
        planned = compose.plan(made, [item(content=Pieces("s", [html], ["x" * (room - 2 * len(html) + extra)]))], files)
        assert (len(planned.calls), len(planned.refused)) == ((0, 1) if extra else (1, 0))
        if not extra:
            (near,) = near_limits(made, planned.calls, files)
            assert (near.name, MAX_MESSAGE - near.used < 4) == ("message", True), "both count alike"
    assert planned.refused[0][1] == "in base64 it has more than the 41,943,040 bytes that SES takes"


def test_forty_megabytes_of_base64_a_mime_message() -> None:
    head = MIME + b"x" * 900 + b"\r\n"
    full = Mime(head + b"\r\n" * ((MAX_RAW - len(head)) // 2))
    assert MAX_RAW - len(full.data) in (0, 1)
    for content, refused in ((full, 0), (Mime(full.data + b"\r\n"), 1)):
        planned = compose.plan(spec("raw"), [item(content=content)])
        assert len(planned.refused) == refused
    assert "which are 40 MB in base64" in planned.refused[0][1]
    # What is made here grows by base64, too, and the attachments' own size does not tell.
    files = (file(size=23_200_000),)
    planned = compose.plan(spec(mode=Mode.RAW, files=(files[0].file,)), [item()], files)
    assert "bytes as MIME" in planned.refused[0][1]


def test_attachments_together() -> None:
    content = bytes(MAX_MESSAGE // 8 * 3)
    two = [Attachment(name=name, content=content) for name in ("a", "b")]
    fields: dict[str, Any] = {"from": "a@example.com", "subject": "s", "text": "t"}
    assert len(Campaign(**fields, attachments=two).attachments) == 2
    with pytest.raises(InvalidEmail, match="larger than the 40 MB that SES takes"):
        Campaign(**fields, attachments=[*two, Attachment(name="c", content=b"x")])


@pytest.mark.parametrize("kind", ["inline", "stored"])
def test_fifteen_headers_and_870_characters_in_a_structured_call(kind: str) -> None:
    for headers, fits in (
        ({f"X-{i}": "v" for i in range(15)}, True),
        ({f"X-{i}": "v" for i in range(16)}, False),
        ({"X" * 126: "v" * 870}, True),
        ({"X-A": "v " * 435 + "v"}, False),
    ):
        if fits:
            assert choose(spec(kind, headers=headers)).single is not Mode.RAW
        elif kind == "inline":
            assert choose(spec(headers=headers)).single is Mode.RAW
        else:
            with pytest.raises(ModeRefused):
                choose(spec(kind, headers=headers))


# ---- attachments ------------------------------------------------------------------------------------------------------


def attachment(**fields: Any) -> Attachment:
    return Attachment(**{"name": "a.txt", "content": b"x", **fields})


@pytest.mark.parametrize(
    ("field", "longest"),
    [
        ("name", "n" * 255),
        ("description", "d" * 1000),
        ("content_id", "c" * 78),
        ("content_type", f"application/{'x' * 243}"),
    ],
)
def test_an_attachments_fields_to_the_limit_and_one_past(field: str, longest: str) -> None:
    assert getattr(attachment(**{field: longest}), field) == longest
    for wrong in (longest + "x", ""):
        with pytest.raises(InvalidEmail, match=f"Attachment: `{field}` "):
            attachment(**{field: wrong})


def test_a_content_type_of_78_characters_goes_structured() -> None:
    for length, mode in ((78, Mode.SIMPLE), (79, Mode.RAW)):
        content_type = f"application/{'x' * (length - 12)}"
        assert choose(spec(files=(file(content_type=content_type).file,))).single is mode


@pytest.mark.parametrize("extension", sorted(BLOCKED_EXTENSIONS))
def test_files_that_ses_refuses(extension: str) -> None:
    for name in (f"a.{extension}", f"a.txt.{extension.upper()}", f".{extension}"):
        with pytest.raises(InvalidEmail, match=r"send a link, or the file in a \.zip"):
            attachment(name=name)
    for name in (extension, f"a.{extension}.zip", f"a{extension}"):
        assert attachment(name=name).name == name


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.pdf", "application/pdf"),
        ("A.PNG", "image/png"),
        ("list.csv.gz", "application/gzip"),
        ("list.tar.bz2", "application/octet-stream"),
        ("none", "application/octet-stream"),
        ("a.unknown-thing", "application/octet-stream"),
    ],
)
def test_a_type_is_guessed_by_the_name(name: str, content_type: str) -> None:
    assert attachment(name=name).content_type == content_type


@pytest.mark.parametrize(
    "content_type",
    ["pdf", "a/b/c", "a/b; c", "a/b; c=d e", "text/html\r\nX: y", "é/b", "multipart/mixed", "message/partial", "a/b;c=\"d\"e"],
)  # fmt: skip
def test_what_is_no_content_type_of_one_file_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidEmail, match="`content_type`"):
        attachment(content_type=content_type)


def test_a_content_id_makes_an_attachment_inline_and_is_there_once() -> None:
    logo = attachment(content_id="logo")
    assert (logo.inline, attachment().inline, attachment(content_id="x", inline=False).inline) == (True, False, False)
    with pytest.raises(InvalidEmail, match="two attachments have the same `content_id`"):
        Email(from_="a@example.com", to="b@example.com", subject="s", text="t", attachments=[logo, logo])
    for wrong in ("<logo>", "a b", "é", "a\n"):
        with pytest.raises(InvalidEmail, match="`content_id`"):
            attachment(content_id=wrong)


# ---- from what a caller says to the spec -------------------------------------------------------------------------------

SENDERS = {"news": Sender(from_="news@example.com", configuration_set="sender", reply_to="help@example.com")}


@pytest.mark.parametrize(
    ("given", "configuration_set"),
    [({}, "sender"), ({"configuration_set": "message"}, "message"), ({"from": "a@example.com"}, None)],
)
def test_a_messages_configuration_set_comes_before_the_senders(given: dict[str, Any], configuration_set: str | None) -> None:
    fields: dict[str, Any] = {"sender": "news", **given} if "from" not in given else given
    made, _ = SpecBuilder(Settings(senders=SENDERS)).message(Email(to="a@example.com", subject="s", text="t", **fields))
    assert made.configuration_set == configuration_set
    (call,) = plan(made, [item()]).calls
    assert call.params.get("ConfigurationSetName") == configuration_set


@pytest.mark.parametrize(
    ("given", "reply_to"),
    [
        ({}, ("help@example.com",)),
        ({"reply_to": "me@example.com"}, ("me@example.com",)),
        ({"raw": MIME}, ("help@example.com",)),
        ({"raw": b"Reply-To: own@example.com\r\n" + MIME}, ()),
        ({"raw": b"Reply-To: own@example.com\r\n" + MIME, "reply_to": "me@example.com"}, ("me@example.com",)),
    ],
)
def test_whose_reply_to_it_is(given: dict[str, Any], reply_to: tuple[str, ...]) -> None:
    content: dict[str, Any] = {} if "raw" in given else {"subject": "s", "text": "t"}
    made, _ = SpecBuilder(Settings(senders=SENDERS)).message(Email(sender="news", to="a@example.com", **content, **given))
    assert made.reply_to == reply_to


@pytest.mark.parametrize("kind", [Email, Campaign])
def test_a_mode_is_refused_before_anything_is_stored(kind: type[Email] | type[Campaign]) -> None:
    to: dict[str, Any] = {"to": "a@example.com"} if kind is Email else {}
    given = kind(**{"from": "a@example.com", "ses_template": "welcome", "mode": "raw", **to})
    preparation = SpecBuilder(Settings())
    with pytest.raises(ModeRefused, match=r"^This content cannot go in mode raw: SES itself fills in a stored template\.$"):
        preparation.message(given) if isinstance(given, Email) else preparation.campaign(given)


@pytest.mark.parametrize("template", ["welcome", "t" * 64, ARN])
def test_a_stored_templates_name(template: str) -> None:
    assert Campaign(from_="a@example.com", ses_template=template).ses_template == template
    for wrong in ("t" * 65, "", "a b", f"{ARN}{'x' * 60}", "arn:aws:ses:eu-west-1:1:template/x"):
        with pytest.raises(InvalidEmail, match="`ses_template`"):
            Campaign(from_="a@example.com", ses_template=wrong)
