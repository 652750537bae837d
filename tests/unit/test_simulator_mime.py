"""The messages that the simulated SES assembles, read back with the standard library's parser."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formataddr, parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mailer.simulator import mime, raw
from mailer.simulator.attachments import BLOCKED_EXTENSIONS
from mailer.simulator.limits import MAX_ADDRESS
from mailer.simulator.refusals import Refusal
from mailer.simulator.shown import read_mime

from .checked_ses import Checked, Clock, Json, bulk, entry, simple, simulator, with_simple
from .checked_ses import raw as raw_request


@pytest.fixture
def ses() -> Checked:
    return simulator(contact_lists=("main",))


def whole(ses: Checked, message_id: str) -> bytes:
    message = ses.mailroom.get(message_id)
    assert message is not None
    assembled = mime.assemble(message, "eu-west-1")
    assert assembled is not None
    return assembled


def sent(ses: Checked, body: Json) -> EmailMessage:
    """The message that comes of a SendEmail request."""
    return parse(whole(ses, ses.do("SendEmail", body)["MessageId"]))


def parse(content: bytes) -> EmailMessage:
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert b"\n" not in content.replace(b"\r\n", b"")
    message = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
    assert not [defect for part in message.walk() for defect in part.defects]
    return message


def lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def body_of(message: EmailMessage, kind: str) -> str | None:
    bodies = (part for part in message.walk() if part.get_content_type() == f"text/{kind}" and not part.get_content_disposition())
    part = next(bodies, None)
    return None if part is None else lines(part.get_content())


def structure(part: Any) -> Any:
    """``("multipart/mixed", ["text/plain", "image/png"])``"""
    kind = part.get_content_type()
    return (kind, [structure(inner) for inner in part.iter_parts()]) if part.is_multipart() else kind


# ---- structured content --------------------------------------------------------------------------------------------

NASTY = ["\r", "\n", "\r\n", "=?utf-8?q?a?=", "=", "=\n", ".", "From ", " ", "\t", '"', "\\", "--", "=_mix_", "ü", "\u2028"]
NASTY += ["\x85", "😀", "\x00", "%", "'", ";", "<", ">", ","]
texts = st.text() | st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=30).map("".join)
texts |= st.builds(str.__mul__, st.sampled_from(["x", "ü", "日", "a b ", "=", " "]), st.integers(900, 3000))
names = (st.text(min_size=1, max_size=60) | st.sampled_from(["Ana", "Example, Ana", 'A "B" C', "Ünä", "李 小龙"])).map(
    lambda name: re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+", " ", name).strip()
)
file_names = (
    (st.text(min_size=1, max_size=255) | st.lists(st.sampled_from(NASTY) | st.text(max_size=5), min_size=1).map("".join))
    .map(lambda name: re.sub(r"[\x00-\x1f\x7f]", "_", name)[:255])
    .filter(lambda name: name != "" and name.rpartition(".")[2].lower() not in BLOCKED_EXTENSIONS)
)
files = st.fixed_dictionaries(
    {
        "FileName": file_names,
        "RawContent": st.binary() | st.text(alphabet="ab \r\n.=-", max_size=3000).map(str.encode) | st.just(b"x" * 1200),
    },
    optional={
        "ContentType": st.sampled_from(
            ["application/pdf", "text/plain", "text/calendar; method=REQUEST", "image/png", "nonsense"]
        ),
        "ContentTransferEncoding": st.sampled_from(["BASE64", "QUOTED_PRINTABLE", "SEVEN_BIT"]),
        "ContentDisposition": st.sampled_from(["ATTACHMENT", "INLINE"]),
        "ContentId": st.text(alphabet="abc.@-_1", min_size=1, max_size=78),
        "ContentDescription": texts.map(lambda text: re.sub(r"[\x00-\x1f\x7f]", " ", text)[:1000]),
    },
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    subject=texts,
    html=st.none() | texts,
    text=st.none() | texts,
    sender=names,
    others=st.lists(names, min_size=1, max_size=4),
    attached=st.lists(files, max_size=4),
)
@example(subject="=?utf-8?q?a?=", html=None, text="", sender="", others=[""], attached=[])
@example(subject="a\r\nBcc: x@y.org", html="<p>", text=None, sender="A", others=["B"], attached=[])
def test_what_goes_in_comes_out(
    subject: str, html: str | None, text: str | None, sender: str, others: list[str], attached: list[Json]
) -> None:
    if html is None and text is None:
        text = "x"
    parts = {kind: {"Data": data, "Charset": "UTF-8"} for kind, data in (("Html", html), ("Text", text)) if data is not None}
    content = {"Subject": {"Data": subject, "Charset": "UTF-8"}, "Body": parts, "Attachments": attached}
    addresses = [formataddr((name, f"u{n}@example.org"), "utf-8") for n, name in enumerate(others)]
    request = simple(
        FromEmailAddress=formataddr((sender, "news@example.com"), "utf-8"),
        Destination={"ToAddresses": addresses[:1], "CcAddresses": addresses[1:]},
        ReplyToAddresses=addresses,
        Content={"Simple": content},
    )
    assume(max(map(len, [*addresses, request["FromEmailAddress"]])) <= MAX_ADDRESS)
    message = sent(simulator(), request)
    assert message["Subject"] == subject
    assert [item.display_name for item in message["From"].addresses] == [sender]
    assert [item.display_name for item in message["Reply-To"].addresses] == others
    found = [*message["To"].addresses, *(message["Cc"].addresses if "Cc" in message else ())]
    assert [(item.display_name, item.addr_spec) for item in found] == [
        (name, f"u{n}@example.org") for n, name in enumerate(others)
    ]
    assert body_of(message, "plain") == (None if text is None else lines(text))
    assert body_of(message, "html") == (None if html is None else lines(html))
    leaves = [part for part in message.walk() if part.get_content_disposition()]
    inline = [item for item in attached if item.get("ContentDisposition") == "INLINE" and "ContentId" in item]
    related = [] if html is None else inline
    for part, item in zip(leaves, [*related, *(item for item in attached if item not in related)], strict=True):
        assert part["Content-Disposition"].params["filename"] == item["FileName"]
        assert part.get_payload(decode=True) == item["RawContent"]
        assert part.get_content_disposition() == item.get("ContentDisposition", "ATTACHMENT").lower()
        if item.get("ContentDescription"):
            assert part["Content-Description"] == item["ContentDescription"]
        if "ContentId" in item:
            assert part["Content-ID"] == f"<{item['ContentId']}>"


PNG = {"FileName": "logo.png", "RawContent": b"\x89PNG", "ContentDisposition": "INLINE", "ContentId": "logo"}
PDF = {"FileName": "a.pdf", "RawContent": b"%PDF\x00"}
ALTERNATIVE = ("multipart/alternative", ["text/plain", "text/html"])


@pytest.mark.parametrize(
    ("parts", "attached", "expected"),
    [
        (("Text",), [], "text/plain"),
        (("Html",), [], "text/html"),
        (("Text", "Html"), [], ALTERNATIVE),
        (("Html",), [PNG], ("multipart/related", ["text/html", "image/png"])),
        (("Text", "Html"), [PNG], ("multipart/related", [ALTERNATIVE, "image/png"])),
        (("Text", "Html"), [PDF], ("multipart/mixed", [ALTERNATIVE, "application/pdf"])),
        (
            ("Text", "Html"),
            [PDF, PNG],
            ("multipart/mixed", [("multipart/related", [ALTERNATIVE, "image/png"]), "application/pdf"]),
        ),
        # What no HTML can refer to stands with the other files.
        (("Text",), [PNG], ("multipart/mixed", ["text/plain", "image/png"])),
        (("Html",), [{**PNG, "ContentId": None}], ("multipart/mixed", ["text/html", "image/png"])),
        (("Html",), [{**PNG, "ContentDisposition": None}], ("multipart/mixed", ["text/html", "image/png"])),
    ],
)
def test_structure(ses: Checked, parts: tuple[str, ...], attached: list[Json], expected: Any) -> None:
    message = sent(ses, with_simple(Body={part: {"Data": f"<p>{part} ü"} for part in parts}, Attachments=attached))
    assert structure(message) == expected
    assert {part.get_content_charset() for part in message.walk() if part.get_content_maintype() == "text"} == {"utf-8"}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("a.pdf", None, "application/pdf"),
        ("A.JPG", None, "image/jpeg"),
        ("notes", None, "application/octet-stream"),
        ("a.pdf", "text/calendar; method=REQUEST; charset=utf-8", "text/calendar; method=REQUEST; charset=utf-8"),
        ("report", "message/delivery-status", "message/delivery-status"),
        ("letter.eml", "message/rfc822", "message/rfc822"),
        ("x", "multipart/mixed", "multipart/mixed"),
        ("x", "nonsense", "nonsense"),
    ],
)
def test_type_of_an_attachment(ses: Checked, name: str, given: str | None, expected: str) -> None:
    """As given, or as the name says; a type that the standard library reads more into is written all the same."""
    files = [{"FileName": name, "RawContent": b"x\x00\xff", "ContentType": given}]
    content = whole(ses, ses.do("SendEmail", with_simple(Attachments=files))["MessageId"])
    part = content.split(b"--=_mix_")[2]
    assert f"\r\nContent-Type: {expected}\r\n".encode() in part
    assert b"\r\n\r\neAD/\r\n" in part


@pytest.mark.parametrize(
    ("content", "encoding", "written"),
    [
        (b"plain\r\ntext", "SEVEN_BIT", b"7bit\r\n"),
        (b"plain\r\ntext", None, b"7bit\r\n"),
        (b"unix\ntext", None, b"base64\r\n"),
        (b"\xff", "SEVEN_BIT", b"base64\r\n"),
        (b"x" * 999, "SEVEN_BIT", b"base64\r\n"),
        (b"x" * 998, "SEVEN_BIT", b"7bit\r\n"),
        (b"text", "BASE64", b"base64\r\n"),
        (b"\xff\n", "QUOTED_PRINTABLE", b"quoted-printable\r\n"),
    ],
)
def test_transfer_encoding(ses: Checked, content: bytes, encoding: str | None, written: bytes) -> None:
    files = [{"FileName": "f", "RawContent": content, "ContentTransferEncoding": encoding}]
    assembled = whole(ses, ses.do("SendEmail", with_simple(Attachments=files))["MessageId"])
    assert b"Content-Transfer-Encoding: " + written in assembled.split(b"--=_mix_")[2]
    (part,) = parse(assembled).iter_attachments()
    assert part.get_payload(decode=True) == content


def test_headers(ses: Checked) -> None:
    link = f"<https://example.com/u?t={'x' * 500}>, <mailto:u+{'y' * 200}@example.com?subject=unsubscribe>"
    name = "=?utf-8?q?=C3=9Cn=C3=A4?="
    body = with_simple(
        Headers=[
            {"Name": "List-Unsubscribe", "Value": link},
            {"Name": "X-Two", "Value": "1"},
            {"Name": "X-Two", "Value": "2"},
            {"Name": "X" * 126, "Value": "v" * 870},
            {"Name": "message-id", "Value": "<mine@example.com>"},
            {"Name": "Date", "Value": "yesterday"},
            {"Name": "Bcc", "Value": "secret@example.org"},
            {"Name": "X-SES-CONFIGURATION-SET", "Value": "none"},
        ]
    )
    destination = {"ToAddresses": ["Ana <a@example.org>"], "CcAddresses": ["c@example.org"], "BccAddresses": ["b@example.org"]}
    body |= {"FromEmailAddress": f"{name} <n@example.com>", "Destination": destination}
    message_id = ses.do("SendEmail", body)["MessageId"]
    content = whole(ses, message_id)
    head = content.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head == [
        f"From: {name} <n@example.com>",
        "To: Ana <a@example.org>",
        "Cc: c@example.org",
        "Subject: Hi",
        "Date: Sun, 15 Jun 2025 15:06:40 +0000",
        f"Message-ID: <{message_id}@eu-west-1.amazonses.com>",
        f"List-Unsubscribe: {link}",
        "X-Two: 1",
        "X-Two: 2",
        f"{'X' * 126}: {'v' * 870}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
    ]
    message = parse(content)
    assert message["List-Unsubscribe"] == link
    assert message["From"].addresses[0].display_name == "Ünä"
    assert parsedate_to_datetime(message["Date"]) == datetime.fromtimestamp(Clock.now, UTC)


def test_names_that_came_without_an_encoding(ses: Checked) -> None:
    message = sent(ses, simple(FromEmailAddress='"Ünä \\"x\\"" <n@example.com>', ReplyToAddresses=["李 <r@example.org>"]))
    assert message["From"].addresses[0].display_name == 'Ünä "x"'
    assert message["Reply-To"].addresses[0].display_name == "李"


def test_fifty_long_addresses(ses: Checked) -> None:
    addresses = [f'"{"N" * 290}" <u{n}@example.org>' for n in range(50)]
    message = sent(ses, simple(Destination={"ToAddresses": addresses}))
    assert [item.addr_spec for item in message["To"].addresses] == [f"u{n}@example.org" for n in range(50)]


def test_only_in_blind_copy(ses: Checked) -> None:
    message = sent(ses, simple(Destination={"BccAddresses": ["b@example.org"]}))
    assert "To" not in message
    assert "b@example.org" not in message.as_string()


def test_each_entry_of_a_bulk_call_is_a_message_of_its_own(ses: Checked) -> None:
    template = {
        "TemplateContent": {"Subject": "Hi {{name}}", "Html": "<p>{{name}}", "Text": "{{name}}"},
        "Headers": [{"Name": "X-One", "Value": "1"}, {"Name": "X-Two", "Value": "2"}],
        "Attachments": [PDF, PNG],
    }
    entries = [
        entry("a@example.org", {"name": "Ä"}, ReplacementHeaders=[{"Name": "x-two", "Value": "two"}]),
        entry("b@example.org", {"name": "B"}),
        entry("c@example.org", {}),
    ]
    results = ses.do("SendBulkEmail", bulk(*entries, template=template))["BulkEmailEntryResults"]
    first, second = (parse(whole(ses, result["MessageId"])) for result in results[:2])
    for message, name in ((first, "Ä"), (second, "B")):
        assert (message["Subject"], body_of(message, "plain"), body_of(message, "html")) == (f"Hi {name}", name, f"<p>{name}")
        assert [part.get_filename() for part in message.walk() if part.get_filename()] == ["logo.png", "a.pdf"]
    assert (first["X-One"], first.get_all("X-Two"), second["X-Two"]) == ("1", ["two"], "2")
    failed = ses.mailroom.get(results[2]["MessageId"])
    assert failed is not None
    assert mime.assemble(failed, "eu-west-1") is None
    assert [item["name"] for item in failed.json()["attachments"]] == ["a.pdf", "logo.png"]


# ---- raw content ---------------------------------------------------------------------------------------------------


def test_what_becomes_of_a_raw_message(ses: Checked) -> None:
    received = (
        b"Received: by a\r\nFrom: old@example.com\r\nTo: a@example.org\r\nBcc: b@example.org,\r\n c@example.org\r\n"
        b"Message-Id: <mine@example.com>\r\nDate: yesterday\r\nReturn-Path: <bounces@example.com>\r\nX-Odd:odd\r\n\tfolded \r\n"
        b"X-SES-MESSAGE-TAGS: a=1\r\nx-ses-configuration-set: set\r\nReply-To: old@example.com\r\nSubject: S\r\n\r\n"
        b"Bcc: in the body\r\n\xff\xfe lone \r and \n\r\n.\r\n"
    )
    ses.do("CreateConfigurationSet", {"ConfigurationSetName": "set"})
    body = raw_request(received, FromEmailAddress="Ü <new@example.com>", ReplyToAddresses=["r@example.com", "s@example.com"])
    message_id = ses.do("SendEmail", body)["MessageId"]
    assert whole(ses, message_id) == (
        b"Received: by a\r\nFrom: =?utf-8?b?w5w=?= <new@example.com>\r\nTo: a@example.org\r\n"
        b"Message-ID: <" + message_id.encode() + b"@eu-west-1.amazonses.com>\r\nDate: Sun, 15 Jun 2025 15:06:40 +0000\r\n"
        b"X-Odd:odd\r\n\tfolded \r\n"
        b"Reply-To: r@example.com,\r\n s@example.com\r\nSubject: S\r\n\r\n"
        b"Bcc: in the body\r\n\xff\xfe lone \r and \n\r\n.\r\n"
    )
    kept = ses.mailroom.get(message_id)
    assert kept is not None
    assert kept.accepted.recipients == ("a@example.org", "b@example.org", "c@example.org")
    assert kept.json()["raw"] == received.decode("utf-8", "replace")


def test_a_raw_message_keeps_its_own_headers_and_line_ends(ses: Checked) -> None:
    message_id = ses.do("SendEmail", raw_request(b"From: n@example.com\nTo: a@example.org\n\nx\n"))["MessageId"]
    assert whole(ses, message_id) == (
        b"From: n@example.com\nTo: a@example.org\nDate: Sun, 15 Jun 2025 15:06:40 +0000\n"
        b"Message-ID: <" + message_id.encode() + b"@eu-west-1.amazonses.com>\n\nx\n"
    )


header_lines = st.one_of(
    st.tuples(
        st.sampled_from([b"X-A", b"Bcc", b"bcc", b"X-SES-TENANT", b"Date", b"Received", b"Content-Type", b"Subject", b"Bcc "]),
        st.sampled_from([b":", b": "]),
        st.binary(max_size=20).map(lambda value: re.sub(rb"[\r\n]", b"", value)),
        st.sampled_from([b"", b"\r\n folded", b"\n\tfolded"]),
    ).map(b"".join),
    st.sampled_from([b"nonsense", b"From here", b": x", b" folded"]),
)


@given(st.lists(header_lines, max_size=8), st.sampled_from([b"\r\n", b"\n", b"\r"]), st.binary())
def test_nothing_else_of_a_raw_message_changes(fields: list[bytes], newline: bytes, body: bytes) -> None:
    received = newline.join([b"From: n@example.com", *fields, b"", body])
    try:
        raw.check(received)
    except Refusal:
        return
    assembled = raw.rewrite(received, {"Date": "now", "Message-ID": "<id>"})
    before, after = message_from_bytes(received), message_from_bytes(assembled)
    gone = {"bcc", "date", "message-id", "x-ses-tenant"}
    kept = [(name, str(value)) for name, value in before.items() if name.lower() not in gone]
    assert [(name, str(value)) for name, value in after.items() if name.lower() not in gone] == kept
    assert {name.lower(): value for name, value in after.items() if name.lower() in gone} == {"date": "now", "message-id": "<id>"}
    assert after.get_payload() == before.get_payload()
    assert assembled.endswith(body)


@given(st.binary() | st.tuples(st.lists(header_lines, max_size=8).map(b"\r\n".join), st.binary()).map(b"\n\n".join))
def test_any_raw_message_is_shown_or_refused(content: bytes) -> None:
    read_mime(content)
    ses = simulator()
    try:
        message_id = ses.do("SendEmail", raw_request(content, Destination={"ToAddresses": ["a@example.org"]}))["MessageId"]
    except Refusal:
        return
    message = ses.mailroom.get(message_id)
    assert message is not None
    json.dumps(message.json())
    assert mime.assemble(message, "eu-west-1")
