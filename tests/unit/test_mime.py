"""A caller's own MIME: taken to the letter where SES takes it, and refused with the line where it does not.

And the MIME that is put together here: what goes in comes out of the standard library's parser.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage, Message, MIMEPart
from email.mime.text import MIMEText
from typing import Any

import orjson
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from mailer.compose import Item, Loaded
from mailer.compose.raw import assemble, with_headers
from mailer.errors import InvalidEmail
from mailer.intake.idempotency import idempotency_key
from mailer.intake.spec_builder import SpecBuilder
from mailer.ledger.spec import File, Spec
from mailer.message.attachment import Attachment
from mailer.message.checks import mailbox
from mailer.message.email import Email, Lane
from mailer.message.mime import MAX_RAW, ONCE, read_mime
from mailer.message.sender import ListUnsubscribe, Sender
from mailer.settings import Settings
from mailer.simulator.limits import ONCE as SES_ONCE
from mailer.templates import Pieces, Rendered
from mailer.unsubscribe.tokens import Tokens, unsubscribe_headers

HEAD = b"From: News <news@example.com>\r\nTo: a@example.com\r\nSubject: Hi\r\n"


def refused(mime: bytes | Message) -> str:
    with pytest.raises(ValueError) as caught:
        read_mime(mime)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 200
    return text


def well_formed(mime: bytes) -> None:
    """What SES asks of every message."""
    assert mime.isascii()
    assert b"\0" not in mime
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", mime)
    assert max(map(len, mime.split(b"\r\n"))) <= 998
    parsed = message_from_bytes(mime, policy=policy.default)
    assert "Bcc" not in parsed
    assert parsed.defects == []


# ---- a caller's bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line_break", [b"\r\n", b"\n"])
def test_any_line_break_becomes_crlf(line_break: bytes) -> None:
    raw = read_mime((HEAD + b"\r\nHello\r\n\r\n.\r\n").replace(b"\r\n", line_break))
    assert raw.mime == HEAD + b"\r\nHello\r\n\r\n.\r\n"


# A CR that stands alone would have to be encoded.
lines = st.lists(
    st.binary(max_size=40).map(lambda data: bytes(byte & 127 or 32 for byte in data).replace(b"\r", b"")), max_size=8
)


@settings(deadline=None)
@given(lines.map(b"\r\n".join))
def test_the_body_is_kept_to_the_letter(body: bytes) -> None:
    body = re.sub(rb"\r\n|\n", b"\r\n", body)
    assert read_mime(HEAD + b"X-A:  b \r\n\t c\r\n\r\n" + body).mime == HEAD + b"X-A:  b \r\n\t c\r\n\r\n" + body


def test_bcc_and_control_headers_become_parameters() -> None:
    more = (
        b"bCC: c@example.com,\r\n d@example.com\r\nX-SES-CONFIGURATION-SET: marketing\r\nX-SES-MESSAGE-TAGS: a=1,\r\n b=2\r\n"
        b"X-SES-LIST-MANAGEMENT-OPTIONS: customers; topic=news\r\nX-SES-Whatever: x\r\nX-A: b\r\n"
    )
    more += b"Resent-bcc: e@example.com\r\n"
    raw = read_mime(HEAD + more + b"\r\nBcc: in the body\r\n")
    assert raw.mime == HEAD + b"X-A: b\r\n\r\nBcc: in the body\r\n"
    assert raw.addresses("Bcc") == ("c@example.com", "d@example.com")
    assert (raw.configuration_set, raw.contact_list, raw.topic) == ("marketing", "customers", "news")
    assert raw.tags == {"a": "1", "b": "2"}
    email = Email(raw=HEAD + more.replace(b"LIST-MANAGEMENT", b"X") + b"\r\nHello")
    assert email.bcc == ("c@example.com", "d@example.com")
    assert (email.configuration_set, email.tags) == ("marketing", {"a": "1", "b": "2"})


def test_of_a_control_header_the_first_counts() -> None:
    both = b"X-SES-CONFIGURATION-SET: one\r\nX-SES-CONFIGURATION-SET: two\r\n"
    assert read_mime(HEAD + both + b"\r\nHello").configuration_set == "one"


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (b"X-SES-SOURCE-ARN", "identity_arn"),
        (b"x-ses-from-arn", "identity_arn"),
        (b"X-SES-RETURN-PATH-ARN", "feedback_identity_arn"),
        (b"X-SES-TENANT", "tenant"),
    ],
)
def test_what_a_sender_profile_says_is_not_taken_from_a_message(header: bytes, field: str) -> None:
    assert f"name it in the sender profile instead, as {field}" in refused(HEAD + header + b": x\r\n\r\nHello")


@pytest.mark.parametrize(
    ("mime", "why"),
    [
        (b"", "must have headers, an empty line and a body"),
        (b"Hello", "must have headers, an empty line and a body"),
        (HEAD, "must have headers, an empty line and a body"),
        (b"\r\nHello", "must have headers, an empty line and a body"),
        (b"\r\n", "must have headers, an empty line and a body"),
        ((HEAD + b"\r\nHello").replace(b"\r\n", b"\r"), "lines that end with a carriage return (CR) alone"),
        ("Subject: Hi\n\nHello".encode("utf-16"), "is UTF-16 text"),
        (b"Bcc: a@example.com\r\nX-SES-A: b\r\n\r\nHello", "has no headers but those for SES"),
        (b"\r\n\r\nHello", "must have headers, an empty line and a body"),
        (HEAD + b"no header\r\n\r\nHello", "has a line that is no header: 'no header'"),
        (b" folded\r\n" + HEAD + b"\r\nHello", "has a line that is no header: 'folded'"),
        (HEAD + b": x\r\n\r\nHello", "has a line that is no header: ': x'"),
        (HEAD + b"X-\xc3\xa9: x\r\n\r\nHello", "has a line that is no header: 'X-é: x'"),
        (HEAD + b"X-A: a\rBcc: eve@example.com\r\n\r\nHello", "has a carriage return (CR) in the middle of line 4"),
        (HEAD + b"X-A: a\0b\r\n\r\nHello", "has a control character in line 4"),
        (HEAD + b"X-A: a\x0bb\r\n\r\nHello", "has a control character in line 4"),
        (HEAD + b"X-A: " + b"x" * 994 + b"\r\n\r\nHello", "in line 4, in the header X-A, and no blank at which it could go on"),
        (
            HEAD + b"List-Unsubscribe: <https://example.com/\xc3\xa9>\r\n\r\nx",
            "not ASCII in line 4, in the header List-Unsubscribe",
        ),
        (HEAD + b"subject: again\r\n\r\nHello", "has the header Subject 2 times"),
        (HEAD + b"TO: b@example.com\r\n\r\nHello", "has the header To 2 times"),
        (HEAD + b"List-Unsubscribe: <a>\r\n" * 3 + b"\r\nHello", "has the header List-Unsubscribe 3 times"),
        (HEAD + b"Sender: nobody\r\n\r\nHello", "has a header Sender that is not a list of addresses: 'nobody'"),
        (HEAD + b"Return-Path: <a@example.com>, <b@example.com>\r\n\r\nx", "has 2 addresses in the header Return-Path"),
        (HEAD + b"Content-Disposition: attachment; filename=a.exe\r\n\r\nHello", "SES refuses .exe files"),
    ],
)
def test_what_ses_would_not_take_is_refused_and_says_where(mime: bytes, why: str) -> None:
    assert why in refused(mime)


@pytest.mark.parametrize("name", sorted(ONCE))
def test_once_only_headers(name: str) -> None:
    header = name.upper().encode() + b": a@example.com\r\n"
    assert read_mime(b"X-A: b\r\nX-A: c\r\n" + header + b"\r\nHello").mime
    assert f"has the header {ONCE[name]} 2 times, and SES takes it once; leave out" in refused(
        header + header.lower() + b"\r\nHello"
    )


def test_the_headers_that_may_be_there_once_are_those_of_the_simulated_ses() -> None:
    assert ONCE == {**SES_ONCE, "to": "To", "cc": "Cc", "bcc": "Bcc"}  # RFC 5322 has these, and SES reads but one of each


def test_the_limits_of_a_line_and_of_a_message() -> None:
    line = HEAD + b"\r\n" + b"x" * 998
    assert read_mime(line).mime == line
    head = HEAD + b"\r\n"
    full = head + (b"x" * 98 + b"\r\n") * ((MAX_RAW - len(head)) // 100)
    full += b"x" * (MAX_RAW - len(full))
    assert len(read_mime(full).mime) == MAX_RAW
    assert "31,457,281 bytes; SES takes 31,457,280" in refused(full + b"x")


@pytest.mark.parametrize("disposition", [b'attachment; filename="a.EXE"', b"attachment; filename*=utf-8''a%2Eexe"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_blocked_file_is_found_wherever_it_is(disposition: bytes, nested: bool) -> None:
    part = b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\nMZ\r\n--b--\r\n"
    if nested:
        part = b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + part.replace(b"--b\r\n", b"", 1)
    assert "SES refuses .exe files" in refused(HEAD + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + part)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                *(
                    b"From: ",
                    b"To:",
                    b"a@b.com",
                    b"\r\n",
                    b"\n",
                    b"\r\n\r\n",
                    b"<",
                    b">",
                    b'"',
                    b"=?utf-8?q?",
                    b"?=",
                    b",",
                    b"@",
                    b";",
                ),
                *(b"Content-Type: multipart/mixed; boundary=", b"x", b"--x", b"\\", b"(", b":", b" ", b"X-SES-MESSAGE-TAGS: a=b"),
                *(b"Content-Disposition: attachment; filename*0*=", b"'", b"%", b"\xff", b"\0", b"Bcc: ", b"[", b"]", b"."),
            ]
        ),
        max_size=30,
    ).map(b"".join)
)
@example(b"To: a@example.com, bob@\r\n\r\n")
@example(b"To: =?utf-8?q?a=0D=0AB?= <a@example.com>\r\n\r\n")
def test_whatever_the_bytes_are_it_is_taken_or_refused(data: bytes) -> None:
    for mime in (data, HEAD + data, HEAD + data + b"\r\n\r\n"):
        try:
            raw = read_mime(mime)
        except ValueError:
            continue
        assert read_mime(raw.mime).mime == raw.mime
        assert not re.match(rb"(?is)(.*\n)?((resent-)?bcc|x-ses-[^:\s]*)[ \t]*:", raw.mime.partition(b"\r\n\r\n")[0])
        try:
            Email(raw=mime)
        except InvalidEmail as error:
            text = str(error)
            ok = text.startswith("Email: ") and "\n" not in text
        else:
            ok = True
        assert ok


# ---- recipients and From out of the headers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "addresses"),
    [
        ("a@example.com", ["a@example.com"]),
        ("Ana <a@example.com>,\r\n Bob <b@example.com>", ["Ana <a@example.com>", "Bob <b@example.com>"]),
        ('"Doe, Ana" <a@example.com>', ['"Doe, Ana" <a@example.com>']),
        ("J. Doe <a@example.com>", ['"J. Doe" <a@example.com>']),
        ("=?utf-8?q?Zo=C3=AB?= <a@EXAMPLE.com>", ["=?utf-8?q?Zo=C3=AB?= <a@example.com>"]),
        ("=?utf-8?q?Zo?= =?utf-8?q?=C3=AB?=\r\n =?utf-8?q?_J.?= <a@example.com>", ["=?utf-8?b?Wm/DqyBKLg==?= <a@example.com>"]),
        ("=?iso-8859-1?b?Wm/r?= <a@example.com>", ["=?utf-8?q?Zo=C3=AB?= <a@example.com>"]),
        ("Team: a@example.com, b@example.com;", ["a@example.com", "b@example.com"]),
        ("a@example.com (Ana), , b@example.com", ["a@example.com", "b@example.com"]),
    ],
)
def test_recipients_are_read_from_the_headers(header: str, addresses: list[str]) -> None:
    mime = f"From: news@example.com\r\nTo: {header}\r\n\r\nHello".encode()
    assert list(Email(raw=mime).to) == addresses
    only_bcc = f"From: news@example.com\r\nBcc: {header}\r\nTo: undisclosed-recipients:;\r\n\r\nHello".encode()
    assert list(Email(raw=only_bcc).bcc) == addresses


@pytest.mark.parametrize(
    "header",
    [
        "a@example.com; b@example.com",
        "a@example.com b@example.com",
        "Ana <a@example.com> b@example.com",
        "Doe, Ana <a@example.com>",
        '"Ana <a@example.com>',
        "Ana <a@example.com",
        "a@example.com, bob@",
        "ana",
        "<>",
        "=?utf-8?q?a=0D=0ABcc=3A_eve=40example.com?= <a@example.com>",
    ],
)
def test_a_header_with_anything_but_addresses_is_refused_and_nobody_is_dropped(header: str) -> None:
    mime = f"From: news@example.com\r\nTo: {header}\r\n\r\nHello".encode()
    with pytest.raises(InvalidEmail, match=r"`raw` has a header To that|`to` must be one line"):
        Email(raw=mime)
    assert Email(raw=mime, to="b@example.com").to == ("b@example.com",), "it is only text where the recipients are given"


def test_what_is_given_comes_before_the_headers() -> None:
    mime = b"From: Own <own@example.com>\r\nTo: a@example.com\r\nCc: c@example.com\r\nX-SES-MESSAGE-TAGS: a=1\r\n" + (
        b"X-SES-CONFIGURATION-SET: own\r\n\r\nHello"
    )
    own = Email(raw=mime)
    assert (own.from_, own.to, own.cc, own.bcc) == ("Own <own@example.com>", ("a@example.com",), ("c@example.com",), ())
    assert (own.tags, own.configuration_set) == ({"a": "1"}, "own")
    given = Email(raw=mime, bcc="d@example.com", from_="news@example.com", tags={"b": "2"}, configuration_set="given")
    assert (given.from_, given.to, given.cc, given.bcc) == ("news@example.com", (), (), ("d@example.com",))
    assert (given.tags, given.configuration_set) == ({"b": "2"}, "given")
    assert Email(raw=mime, sender="news").from_ is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"raw": b"To: a@example.com\r\n\r\nHello"}, "has no From addresses"),
        ({"raw": b"From: a@example.com, b@example.com\r\nTo: a@example.com\r\n\r\nx"}, "has 2 From addresses"),
        ({"raw": b"From: a@example.com\r\n\r\nHello"}, "names no recipient in its headers To, Cc and Bcc; give `to`"),
        ({"raw": b"From: a@example.com\r\nTo: undisclosed-recipients:;\r\n\r\nHello"}, "names no recipient in its headers"),
        ({"raw": HEAD + b"\r\nx", "subject": "s", "text": "t"}, "give one content"),
        ({"raw": HEAD + b"\r\nx", "headers": {"X-A": "b"}}, "put headers and attachments into it"),
        ({"raw": HEAD + b"\r\nx", "attachments": {"name": "a", "content": b"x"}}, "put headers and attachments into it"),
        ({"raw": HEAD + b"\r\nx", "data": {}}, "leave `data` out"),
        ({"raw": 5}, "`raw` must be bytes, text or a message object"),
        ({"raw": HEAD.decode() + "\r\n\ud83d"}, "`raw` has half a character in it"),
        ({"raw": HEAD + b"X-SES-MESSAGE-TAGS: a b\r\n\r\nx"}, "`tags`"),
        ({"raw": HEAD + b"X-SES-MESSAGE-TAGS: a=b\r\n\r\nx", "tags": "x"}, "`tags`"),
        ({"raw": HEAD + b"X-SES-CONFIGURATION-SET: a b\r\n\r\nx"}, "`configuration_set`"),
        ({"raw": HEAD + b"Cc: " + b",\r\n ".join(b"u%d@example.com" % i for i in range(50)) + b"\r\n\r\nx"}, "51 recipients"),
    ],
)
def test_a_whole_message_that_cannot_be_sent(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidEmail) as caught:
        Email(**fields)
    assert why in str(caught.value)


# ---- an EmailMessage --------------------------------------------------------------------------------------------------


def message(charset: str = "utf-8", text: str = "Grüße\n") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Zoë <news@example.com>", "Ana <a@example.com>", "Grüße an alle"
    made.set_content(text, charset=charset)
    return made


@pytest.mark.parametrize("cte", [None, "8bit", "base64", "quoted-printable"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "cp1252", "utf-7"])
def test_a_message_object_becomes_7_bit_and_reads_the_same(charset: str, cte: str | None) -> None:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Zoë <news@example.com>", "Ana <a@example.com>", "Grüße an alle"
    made.set_content("Grüße\n", charset=charset, cte=cte)
    email = Email(raw=made)
    assert email.raw is not None
    well_formed(email.raw)
    parsed = message_from_bytes(email.raw, _class=EmailMessage, policy=policy.default)
    assert parsed["Subject"] == "Grüße an alle"
    assert parsed.get_content().replace("\r\n", "\n") == "Grüße\n"
    assert (email.from_, email.to) == ("=?utf-8?q?Zo=C3=AB?= <news@example.com>", ("Ana <a@example.com>",))


def test_older_message_objects_are_taken_too() -> None:
    old = MIMEText("Grüße", "plain", "iso-8859-1")
    old["From"], old["To"], old["Subject"] = "a@example.com", "b@example.com", "Hi"
    assert message_from_bytes(Email(raw=old).raw or b"").get_payload(decode=True) == "Grüße".encode("latin-1")


def test_a_message_object_with_everything_in_it_survives() -> None:
    made = message()
    made.add_alternative("<img src='cid:logo'>é", subtype="html")
    made.get_payload()[1].add_related(b"\x89PNG\xff", "image", "png", cid="<logo>")  # type: ignore[index, union-attr]
    made.add_attachment(b"\x00\xff" * 2000, maintype="application", subtype="pdf", filename="Übersicht.pdf")
    made["List-Unsubscribe"] = f"<https://example.com/{'u' * 600}>"
    email = Email(raw=made)
    assert email.raw is not None
    well_formed(email.raw)
    parsed = message_from_bytes(email.raw, _class=EmailMessage, policy=policy.default)
    assert [part.get_content_type() for part in parsed.walk()] == [part.get_content_type() for part in made.walk()]
    (attached,) = parsed.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("Übersicht.pdf", b"\x00\xff" * 2000)
    assert b"List-Unsubscribe: <https://example.com/uuu" in email.raw, "a long address is not folded into encoded words"


def injected(value: str) -> Callable[[], Message]:
    def make() -> Message:
        made = Message()
        made["From"], made["To"], made["Subject"] = "a@example.com", "b@example.com", value
        made.set_payload("x")
        return made

    return make


@pytest.mark.parametrize(
    "make",
    [
        injected("a\r\nBcc: eve@example.com"),
        injected("a\nBcc: eve@example.com"),
        injected("a\n\nBody"),
        EmailMessage,
    ],
)
def test_a_message_object_that_cannot_be_written_is_refused(make: Callable[[], Message]) -> None:
    with pytest.raises(InvalidEmail, match=r"^Email: `raw` "):
        Email(raw=make())


def test_the_same_message_object_has_the_same_idempotency_key() -> None:
    def made(text: str) -> Email:
        built = message(text=text)
        built.add_attachment(b"x", maintype="application", subtype="pdf", filename="a.pdf")
        return Email(raw=built.as_bytes())

    keys = [idempotency_key("k", made(text)) for text in ("a", "a", "b")]
    assert made("a").raw != made("a").raw, "the library makes up boundaries"
    assert keys[0] == keys[1] != keys[2]


# ---- a whole message with headers of ours ---------------------------------------------------------------------------------


def test_headers_are_put_in_front_of_a_whole_message_unless_it_has_them() -> None:
    mime = HEAD + b"list-unsubscribe: <mailto:own@example.com>\r\n\r\nX-A: body\r\n"
    assert with_headers(mime, {"List-Unsubscribe": "x", "X-A": "b"}) == b"X-A: b\r\n" + mime


# ---- the MIME that is put together here -------------------------------------------------------------------------------------

SPEC = Spec(lane=Lane.BULK, from_address=mailbox("Größe & Söhne <news@example.com>"), reply_to=("help@example.com",))
no_half = st.characters(exclude_categories=["Cs"])
one_line = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=120)
bodies = st.none() | st.text(no_half, max_size=300) | st.text("x=. \n\r\tFé", max_size=1500)
file_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60) | st.text(
    "a\"\\;'% é=*日.", min_size=1, max_size=255
)
files: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    name=file_names,
    content=st.binary(max_size=400),
    content_type=st.sampled_from(
        ["application/pdf", "text/plain", 'text/csv; charset="utf-8"; header=present', "image/png", "a/b"]
    ),
    content_id=st.none() | st.from_regex(r"[!-;=?-~]{1,78}", fullmatch=True),
    description=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300),
    inline=st.booleans(),
)
header_values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200) | st.text("ab ", min_size=1)
custom = st.dictionaries(st.from_regex("X-[A-Za-z]{1,40}", fullmatch=True), header_values, max_size=4)


def loaded(**fields: Any) -> Loaded:
    given = Attachment(**fields)
    described = {name: getattr(given, name) for name in ("name", "content_type", "content_id", "description", "inline")}
    return Loaded(File(digest="x", size=len(given.content), **described), given.content)


def build(
    *,
    subject: str = "Hi",
    html: str | None = None,
    text: str | None = "x",
    attached: Sequence[Loaded] = (),
    **fields: Any,
) -> tuple[bytes, MIMEPart]:
    item = Item(
        **{
            "position": 0,
            "attempt": 1,
            "tag": "c0-0-0-1",
            "to": ("Ana <a@example.com>",),
            "cc": ("c@example.com",),
            "bcc": ("hidden@example.com",),
            "content": Pieces("", None, None),
            **fields,
        }
    )
    mime = assemble(SPEC, item, Rendered(subject, html, text), attached)
    well_formed(mime)
    assert b"hidden" not in mime
    assert read_mime(mime).mime == mime, "as good as any that a caller could give"
    return mime, message_from_bytes(mime, _class=EmailMessage, policy=policy.default)


def same_text(part: MIMEPart | None, text: str) -> bool:
    assert part is not None
    found = part.get_payload(decode=True).decode()  # type: ignore[union-attr]
    return re.sub(r"\r\n?", "\n", found).removesuffix("\n") == re.sub(r"\r\n?", "\n", text).removesuffix("\n")


@settings(deadline=None, max_examples=120, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink])
@given(
    subject=one_line,
    html=bodies,
    text=bodies,
    given=st.lists(files, max_size=3),
    headers=custom,
)
@example(subject="=?utf-8?q?x?=", html=None, text="", given=[], headers={})
@example(subject="x" * 3000, html="", text=None, given=[], headers={})
@example(subject=f"a{' ' * 2000}b", html="h", text="t", given=[], headers={})
@example(subject=" é  è ", html="h", text="t", given=[], headers={})
@example(subject="s", html=None, text="From me\n.\n..\n", given=[], headers={"X-A": "b" * 870})
@example(subject="s", html="h", text="x" * 2000 + " \n=\n", given=[], headers={"X-" + "n" * 124: "b" * 870})
def test_what_goes_into_mime_comes_out_of_it(
    subject: str, html: str | None, text: str | None, given: list[dict[str, Any]], headers: dict[str, str]
) -> None:
    if html is None and text is None:
        text = "t"
    try:
        checked = Email(from_="a@example.com", to="b@example.com", subject="s", text="t", headers=headers).headers
        attached = [loaded(**one) for one in given]
    except InvalidEmail:
        return  # a blocked extension, a header of blanks or one that is there twice
    _, parsed = build(subject=subject, html=html, text=text, attached=attached, headers=checked)
    assert isinstance(parsed, EmailMessage)
    assert parsed["Subject"] == subject
    assert [(one.display_name, one.addr_spec) for one in parsed["From"].addresses] == [("Größe & Söhne", "news@example.com")]
    assert (str(parsed["To"]), str(parsed["Cc"]), str(parsed["Reply-To"])) == (
        "Ana <a@example.com>",
        "c@example.com",
        "help@example.com",
    )
    for name, value in headers.items():
        assert "=?" in value or parsed[name] == value.strip(" ")
    assert html is None or same_text(parsed.get_body(("html",)), html)
    assert text is None or same_text(parsed.get_body(("plain",)), text)
    parts = [part for part in parsed.walk() if part.get_content_disposition()]
    in_html = [one for one in attached if html is not None and one.file.inline and one.file.content_id]
    order = in_html + [one for one in attached if one not in in_html]
    assert len(parts) == len(attached)
    for part, one in zip(parts, order, strict=True):
        file = one.file
        assert part.get_payload(decode=True) == one.content
        assert part["Content-Disposition"].params["filename"] == file.name  # `get_filename` unquotes it once more
        assert part.get_content_type() == file.content_type.partition(";")[0]
        assert part.get_content_disposition() == ("inline" if file.inline else "attachment")
        assert part.get("Content-ID") == (f"<{file.content_id}>" if file.content_id else None)
        assert part.get("Content-Description") == file.description
    assert parsed.get_content_type().startswith("multipart/mixed") is bool(len(attached) - len(in_html))


def test_a_long_unsubscribe_address_stays_as_it_is() -> None:
    place = ListUnsubscribe(url=f"https://example.com/{{token}}/{'u' * 270}", mailto="u@example.com")
    token = Tokens(["secret"]).make(f"{'a' * 64}@{'b' * 60}.example.com", "news")
    headers = unsubscribe_headers(place.url, place.mailto, token)
    mime, parsed = build(headers=headers)
    assert parsed["List-Unsubscribe"] == headers["List-Unsubscribe"]
    assert f"<https://example.com/{token}/".encode() in mime, "no encoded words in it, and no line break"
    assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_fifty_recipients_are_folded() -> None:
    people = tuple(mailbox(f'"Zoë, {i}" <u{i}@example.com>') for i in range(50))
    _, parsed = build(to=people)
    assert [f"{one.display_name}|{one.addr_spec}" for one in parsed["To"].addresses] == [
        f"Zoë, {i}|u{i}@example.com" for i in range(50)
    ]


ICS = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nSUMMARY:Grüße\r\nEND:VCALENDAR\r\n".encode()


@pytest.mark.parametrize("content_type", ["text/calendar; method=REQUEST", 'text/calendar; charset="UTF-8"; method="REQUEST"'])
@pytest.mark.parametrize(("html", "text"), [("<p>h</p>", "t"), ("<p>h</p>", None), (None, "t")])
def test_an_invitation_is_an_alternative_of_the_body_and_a_file(content_type: str, html: str | None, text: str | None) -> None:
    logo = {"name": "logo.png", "content": b"PNG", "content_id": "logo"}
    _, parsed = build(
        html=html, text=text, attached=[loaded(name="i.ics", content=ICS, content_type=content_type), loaded(**logo)]
    )
    assert parsed.get_content_type() == "multipart/mixed"
    alternative, *attached = list(parsed.iter_parts())
    assert alternative.get_content_type() == "multipart/alternative"
    kinds = [part.get_content_type() for part in alternative.iter_parts()]
    assert kinds == [
        *(["text/plain"] if text else []),
        *(["multipart/related"] if html else []),
        "text/calendar",
    ]
    invitation = list(alternative.iter_parts())[-1]
    assert (invitation.get_param("method"), invitation.get_content_charset()) == ("REQUEST", "utf-8")
    assert invitation.get_content_disposition() is None
    assert invitation.get_payload(decode=True) == ICS
    assert [part.get_filename() for part in attached] == (["i.ics"] if html else ["i.ics", "logo.png"])


def test_an_inline_image_is_beside_the_html_that_shows_it() -> None:
    _, parsed = build(
        html='<img src="cid:logo@x">', text="t", attached=[loaded(name="l.png", content=b"PNG", content_id="logo@x")]
    )
    assert parsed.get_content_type() == "multipart/alternative"
    related = list(parsed.iter_parts())[1]
    assert (related.get_content_type(), related.get_param("type")) == ("multipart/related", "text/html")
    html, image = related.iter_parts()
    assert html.get_content_type() == "text/html"
    assert (image["Content-ID"], image.get_content_disposition(), image.get_content()) == ("<logo@x>", "inline", b"PNG")


@pytest.mark.parametrize("line_break", [b"\r\n", b"\n"])
def test_a_message_inside_the_message_survives_to_the_letter(line_break: bytes) -> None:
    inner = (
        b"From: a@example.com\r\nTo: b@example.com\r\nSubject:   =?utf-8?q?Zo=C3=AB?=\r\n"
        b"DKIM-Signature: v=1;\r\n\tb=%s\r\n\r\nFrom me\r\n" % (b"x" * 300)
    )
    mime, parsed = build(attached=[loaded(name="old.eml", content=inner.replace(b"\r\n", line_break))])
    assert inner in mime
    part = list(parsed.iter_parts())[1]
    assert part.get_content_type() == "message/rfc822"
    assert part.get_content()["Subject"] == "Zoë"
    assert part.get_filename() == "old.eml"


def test_an_8_bit_message_inside_the_message_becomes_7_bit() -> None:
    inner = b"From: a@example.com\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    inner += b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n"
    _, parsed = build(attached=[loaded(name="old.eml", content=inner)])
    assert list(parsed.iter_parts())[1].get_content().get_content().split() == ["Grüße"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no message", "must have headers, an empty line and a body"),
        (b"From: a@example.com\rTo: b@example.com\r\n\r\nx", "a carriage return (CR) in the middle of line 1"),
        (b"From: a@example.com\r\nno header\r\n\r\nx", "no header"),
    ],
)
def test_what_cannot_be_a_message_inside_a_message_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(InvalidEmail, match=r"^Attachment: `content` ") as caught:
        Attachment(name="old.eml", content=content)
    assert why in str(caught.value)
    assert Attachment(name="old.eml", content=content, content_type="application/octet-stream").content == content


def test_the_stored_message_is_what_was_checked() -> None:
    spec, blobs = SpecBuilder(Settings()).message(Email(raw=(HEAD + b"Bcc: c@example.com\r\n\r\nHello").replace(b"\r\n", b"\n")))
    assert blobs == [HEAD + b"\r\nHello"]
    assert (spec.to, spec.bcc) == (("a@example.com",), ("c@example.com",))


def test_whom_the_headers_name_beside_from_goes_into_the_spec() -> None:
    mime = HEAD + b"Sender: s@example.net\r\nReturn-Path: <r@example.net>\r\n\r\nHello"
    senders = {
        "news": Sender(from_="n@example.com"),
        "back": Sender(from_="n@example.com", feedback_address="b@example.com"),
    }
    preparation = SpecBuilder(Settings(senders=senders))
    both = (("Sender", "s@example.net"), ("Return-Path", "r@example.net"))
    for name, named in (("news", both), ("back", both[:1])):  # of two places for bounces SES takes the parameter's
        spec, _ = preparation.message(Email(raw=mime, sender=name))
        assert spec.header_senders == Spec.load(spec.dump()).header_senders == named


def test_a_spec_of_an_older_version_is_read() -> None:
    fields = orjson.loads(zlib.decompress(SPEC.dump()))
    del fields["header_senders"]
    assert Spec.load(zlib.compress(orjson.dumps(fields))) == SPEC
