"""A caller's MIME as people have it: 8-bit, exported, forwarded, made by Django. Whatever its form, the same goes out."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes, message_from_string, policy
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

from mailer.errors import InvalidEmail
from mailer.message.attachment import Attachment
from mailer.message.email import Email
from mailer.message.mime import header_senders, read_mime

from .test_mime import HEAD, well_formed

Form = Callable[[bytes], bytes | Message]
FORMS: dict[str, Form] = {
    "bytes": lambda data: data,
    "with LF": lambda data: data.replace(b"\r\n", b"\n"),
    "parsed": message_from_bytes,
    "parsed by the new policy": lambda data: message_from_bytes(data, policy=policy.default),
    "parsed for SMTP": lambda data: message_from_bytes(data, policy=policy.SMTP),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def read(given: bytes | str | Message) -> EmailMessage:
    """What the recipient's program makes of it."""
    mime = read_mime(given).mime
    well_formed(mime)
    assert b"unknown-8bit" not in mime.lower()
    assert read_mime(mime).mime == mime
    found = message_from_bytes(mime, _class=EmailMessage, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def refused(given: bytes | str | Message) -> str:
    with pytest.raises(ValueError) as caught:
        read_mime(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def text(charset: str | None, content: bytes, encoding: str = "8bit") -> bytes:
    said = "" if charset is None else f"; charset={charset}"
    return (
        HEAD
        + f"MIME-Version: 1.0\r\nContent-Type: text/plain{said}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        + content
    )


# ---- bodies that are not 7-bit ---------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("encoding", ["8bit", "7bit", "binary"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1252", "koi8-r"])
def test_an_8_bit_file_goes_out_as_it_reads(form: Form, charset: str, encoding: str) -> None:
    words = "Привет\r\n" if charset == "koi8-r" else "Grüße aus Köln\r\n" * 3
    assert read(form(text(charset, words.encode(charset), encoding))).get_content().replace("\r\n", "\n") == words.replace(
        "\r\n", "\n"
    )


@pytest.mark.parametrize("charset", [None, "us-ascii", '"ascii"'])
@pytest.mark.parametrize("used", ["utf-8", "windows-1252"])
def test_text_that_says_no_charset_gets_the_one_it_is_in(charset: str | None, used: str) -> None:
    assert read(text(charset, "„Grüße“\r\n".encode(used))).get_content() == "„Grüße“\r\n"


def test_a_charset_that_nobody_knows_stays_with_its_bytes() -> None:
    found = read(text("nobody-knows", b"\xff\xfe\r\n"))
    assert (found.get_content_charset(), found.get_payload(decode=True)) == ("nobody-knows", b"\xff\xfe\r\n")


def test_a_message_without_mime_headers_gets_them() -> None:
    found = read(HEAD + "\r\nGrüße\r\n".encode())
    assert (found["MIME-Version"], found["Content-Type"]) == ("1.0", 'text/plain; charset="utf-8"')
    assert found.get_content() == "Grüße\r\n"


def test_text_that_is_given_as_str_is_utf_8_whatever_it_says() -> None:
    assert read(text("iso-8859-1", "Grüße €\r\n".encode()).decode()).get_content() == "Grüße €\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"<p>" + b"x" * 3000 + b"\r\n",
        b"progress 10%\rprogress 20%\r\n",
        b"he\0llo\r\n",
        b"a" * 998 + b"\r\n" + b"b" * 999,
        "ü \r\n.\r\n\r\nFrom me\r\n= \t\r\n".encode(),
    ],
)
def test_a_body_that_smtp_does_not_carry_is_encoded_to_the_letter(content: bytes) -> None:
    assert read(text("utf-8", content)).get_payload(decode=True) == content


def test_a_body_that_smtp_carries_stays_as_it_is() -> None:
    for content in (b"a" * 998 + b"\r\n", b".\r\n\x0c\x1b[0m\x7f\r\n", b"", b"=ff=\r\n"):
        assert read_mime(text("utf-8", content)).mime.endswith(b"\r\n\r\n" + content)


@pytest.mark.parametrize(
    ("encoding", "given", "content"),
    [
        ("base64", b"QUJD" * 500, b"ABC" * 500),
        ("base64", b"QUJD\rREVG\r\n", b"ABCDEF"),
        ("quoted-printable", b"=41" * 500, b"A" * 500),
        ("quoted-printable", "=41ü\r\n".encode(), "Aü\r\n".encode()),
        ("Quoted-Printable ", b"a\0b\r\n", b"a\0b\r\n"),
    ],
)
def test_a_body_that_is_badly_encoded_is_encoded_anew(encoding: str, given: bytes, content: bytes) -> None:
    assert read(text("utf-8", given, encoding)).get_payload(decode=True) == content


@pytest.mark.parametrize(("encoding", "given"), [("base64", b"!" * 1000), ("base64", b"\xc3\xa9"), ("x-uuencode", b"\xff")])
def test_a_body_whose_encoding_cannot_be_read_is_refused(encoding: str, given: bytes) -> None:
    assert f"in a part whose encoding {encoding!r} cannot be read" in refused(text("utf-8", given, encoding))


MULTIPART = HEAD + b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'


@every_form
def test_only_the_parts_that_need_it_are_encoded(form: Form) -> None:
    plain = b"--b\r\nContent-Type: text/plain\r\nX-Odd:  kept \r\n\r\nplain\r\n"
    parts = plain + b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Gr\xc3\xbc\xc3\x9fe</p>\r\n--b--\r\n"
    found = read(form(MULTIPART + parts))
    assert found["Content-Transfer-Encoding"] == "7bit"
    first, second = found.iter_parts()
    assert (first.get_content(), second.get_content()) == ("plain", "<p>Grüße</p>")
    if form is FORMS["bytes"]:
        assert plain in read_mime(MULTIPART + parts).mime


def test_what_nobody_reads_between_the_parts_is_left_out_where_ses_would_not_take_it() -> None:
    mime = MULTIPART + "prä\r\n--b\r\n\r\nx\r\n--b--\r\nepi\r\n".encode()
    assert read_mime(mime).mime == MULTIPART.replace(b"8bit", b"7bit") + b"\r\n--b\r\n\r\nx\r\n--b--\r\nepi\r\n"


@every_form
def test_a_message_that_is_attached_is_put_right_inside(form: Form) -> None:
    inner = "From: Zoë <zoe@example.net>\r\nSubject: Grüße\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n".encode()
    found = read(form(MULTIPART + b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n"))
    (part,) = found.iter_parts()
    attached = part.get_content()
    assert (attached["Subject"], attached["From"].addresses[0].display_name) == ("Grüße", "Zoë")
    assert attached.get_content().strip() == "Grüße"


def test_a_file_keeps_its_bytes_or_is_refused() -> None:
    part = b"--b\r\nContent-Type: application/pdf\r\n\r\n%PDF\xe2\r\n\0\r\r\n\r\n--b--\r\n"
    (found,) = read(MULTIPART + part).iter_parts()
    assert found.get_content() == b"%PDF\xe2\r\n\0\r\r\n"
    # Other line breaks in the whole: those of the file may have been changed with them, or may be none.
    assert "in a file of type application/pdf; encode that part in base64" in refused((MULTIPART + part).replace(b"\r\n", b"\n"))
    assert "in a file of type application/pdf; encode that part in base64" in refused(message_from_bytes(MULTIPART + part))


def test_what_is_signed_is_not_changed() -> None:
    signed = HEAD + b'Content-Type: multipart/signed; boundary="b"; protocol="application/pgp-signature"\r\n\r\n'
    good = signed + b"--b\r\nContent-Type: text/plain\r\n\r\nGruesse\r\n"
    good += b"--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
    assert read_mime(good).mime == good
    assert "in line 9, in a part that is signed; encode it before it is signed" in refused(good.replace(b"ue", b"\xc3\xbc", 1))
    by_dkim = b"DKIM-Signature: v=1; b=x\r\n" + text("utf-8", "Grüße\r\n".encode())
    assert "line 9, and encoding it would break its DKIM-Signature" in refused(by_dkim)
    assert read_mime(by_dkim.replace("ü".encode(), b"u").replace("ß".encode(), b"s")).mime.startswith(
        b"DKIM-Signature: v=1; b=x\r\n"
    )


@pytest.mark.parametrize("kind", [b"multipart/mixed", b'multipart/mixed; boundary=""', b'multipart/mixed; boundary="none"'])
def test_parts_that_cannot_be_told_apart_are_not_guessed_at(kind: bytes) -> None:
    mime = HEAD + b"Content-Type: " + kind + b"\r\n\r\n--b\r\n\r\nx"
    assert read_mime(mime).mime == mime
    assert "is not 7-bit text in line 8, in a multipart/mixed whose parts cannot be told apart" in refused(mime + b"\xff")


# ---- headers that are not ASCII, or too long ---------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("charset", ["utf-8", "windows-1252"])
def test_a_subject_in_bytes_is_encoded(form: Form, charset: str) -> None:
    mime = b"From: news@example.com\r\nTo: a@example.com\r\nSubject: " + "Grüße – an alle".encode(charset) + b"\r\n\r\nx"
    assert read(form(mime))["Subject"] == "Grüße – an alle"


def test_a_subject_keeps_the_words_that_are_encoded_already() -> None:
    subject = "=?iso-8859-1?q?Gr=FC=DFe?=\r\n =?utf-8?b?IGFu?= Zoë =?x?"
    mime = f"From: n@example.com\r\nTo: a@example.com\r\nSubject: {subject}\r\n\r\nx".encode()
    assert read(mime)["Subject"] == "Grüße an Zoë =?x?"


@every_form
def test_names_and_domains_of_addresses_are_encoded(form: Form) -> None:
    mime = 'From: "Größe, Söhne" <news@example.com>\r\nTo: Zoë <zoe@bücher.example>, "B, C" <b@example.com>\r\n\r\nx'.encode()
    found = read(form(mime))
    assert found["From"].addresses[0].display_name == "Größe, Söhne"
    assert [(one.display_name, one.addr_spec) for one in found["To"].addresses] == [
        ("Zoë", "zoe@xn--bcher-kva.example"),
        ("B, C", "b@example.com"),
    ]
    email = Email(raw=form(mime))
    assert email.to == ("=?utf-8?q?Zo=C3=AB?= <zoe@xn--bcher-kva.example>", '"B, C" <b@example.com>')


def test_an_address_that_is_not_ascii_is_refused() -> None:
    mime = "From: n@example.com\r\nTo: a@example.com\r\nCc: größe@example.com\r\n\r\nx".encode()
    assert "has an address that is not ASCII in line 3, in the header Cc" in refused(mime)


@pytest.mark.parametrize(
    "header",
    [
        'attachment; filename="résumé 1.pdf"',
        "attachment;\r\n filename=résumé 1.pdf",
        "attachment; size=1; filename*=utf-8''r%C3%A9sum%C3%A9%201.pdf",
    ],
)
def test_the_name_of_a_file_is_encoded(header: str) -> None:
    mime = MULTIPART + f"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: {header}\r\n\r\nx\r\n--b--\r\n".encode()
    (part,) = read(mime).iter_parts()
    assert part.get_filename() in ("résumé 1.pdf", "résumé")  # without quotes it ends at the blank
    assert part.get_content_disposition() == "attachment"


@pytest.mark.parametrize(
    "header",
    [
        'attachment; filename="böse.js"',
        "attachment; filename*=utf-8''b%C3%B6se%2Ejs",
        "attachment; filename*0*=utf-8''b%C3%B6; filename*1=se.js",
        'attachment; filename="=?utf-8?q?b=C3=B6se=2Ejs?="',
        'attachment; filename="=?utf-8?b?YsO2cw==?= =?utf-8?b?ZS5qcw==?="',
        'attachment; filename=a.txt; filename="böse.js"',
    ],
)
def test_a_blocked_file_is_found_however_its_name_is_written(header: str) -> None:
    mime = MULTIPART + f"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: {header}\r\n\r\nx\r\n--b--\r\n".encode()
    assert "SES refuses .js files" in refused(mime)


def test_a_long_list_of_addresses_is_folded() -> None:
    people = [f"u{number}@example.com" for number in range(49)]
    for separator in (", ", ","):
        mime = f"From: n@example.com\r\nTo: a@example.com\r\nCc: {separator.join(people)}\r\n\r\nx".encode()
        assert Email(raw=mime).cc == tuple(people)
        assert [one.addr_spec for one in read(mime)["Cc"].addresses] == people
    with pytest.raises(InvalidEmail, match=r"^Email: 61 recipients; SES takes 50 a message"):
        Email(raw=f"From: n@example.com\r\nTo: a@example.com\r\nCc: {', '.join([*people, *people[:11]])}\r\n\r\nx".encode())


def test_a_long_header_is_folded_at_its_blanks() -> None:
    mime = HEAD.replace(b"Hi", b"word " * 400 + b"end") + b"\r\nx"
    assert read(mime)["Subject"] == "word " * 400 + "end"


# ---- what stands around the message ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\n\n",
        b"From news@example.com Mon Jan  5 03:00:00 2026\n",
        b">From a@b Mon Jan  5 2026\r\n",
        b"\r\n\xef\xbb\xbf",
    ],
)
def test_what_programs_put_before_a_message_is_left_out(before: bytes) -> None:
    assert read_mime(before + HEAD + b"\r\nHello").mime == HEAD + b"\r\nHello"


def test_a_line_is_counted_from_where_the_file_begins() -> None:
    assert "in the middle of line 5" in refused(b"From a@b Mon Jan  5 2026\r\n" + HEAD + b"X-A: a\rb\r\n\r\nx")


def test_a_blank_before_the_colon_and_lines_of_blanks_are_left_out() -> None:
    """Programs do not agree on where such headers begin and end."""
    assert read_mime(HEAD + b"X-A \t: b\r\n \t\r\n  c\r\n\r\nx").mime == HEAD + b"X-A: b\r\n  c\r\n\r\nx"


# ---- Sender and Return-Path --------------------------------------------------------------------------------------------


def test_whom_else_ses_wants_verified_is_read_from_the_headers() -> None:
    mime = HEAD + b"sender: Owner <owner@lists.example.net>\r\nReturn-Path: <bounces+1@example.net>\r\n\r\nx"
    assert header_senders(read_mime(mime).mime) == (
        ("sender", "owner@lists.example.net"),
        ("Return-Path", "bounces+1@example.net"),
    )
    assert header_senders(read_mime(HEAD + b"Return-Path: <>\r\n\r\nSender: x@example.com").mime) == ()


# ---- messages of Django and of older code --------------------------------------------------------------------------------


def test_messages_of_django_are_taken() -> None:
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from django.core.mail import EmailMessage as DjangoMessage
    from django.core.mail import EmailMultiAlternatives

    plain = DjangoMessage(
        "Grüße", "Grüße aus Köln\n" + "x" * 1200, "Zoë <news@example.com>", ["a@example.com"], cc=["c@example.com"]
    )
    for given in (plain.message(), plain.message().as_bytes(), plain.message().as_string()):
        email = Email(raw=given)
        assert (email.from_, email.to, email.cc) == (
            "=?utf-8?q?Zo=C3=AB?= <news@example.com>",
            ("a@example.com",),
            ("c@example.com",),
        )
        found = read(given)
        assert found["Subject"] == "Grüße"
        assert found.get_content().splitlines() == ["Grüße aus Köln", "x" * 1200]
    both = EmailMultiAlternatives("Grüße", "Grüße\n", "news@example.com", ["Zoë <a@example.com>"])
    both.attach_alternative("<p>Grüße</p>\n", "text/html")
    both.attach("Übersicht.pdf", b"\xff\0\r\n", "application/pdf")
    both.attach("notes.txt", "Grüße\n", "text/plain")
    found = read(both.message())
    html, text = found.get_body(("html",)), found.get_body(("plain",))
    assert html is not None
    assert text is not None
    assert (html.get_content().strip(), text.get_content().strip()) == ("<p>Grüße</p>", "Grüße")
    files = {part.get_filename(): part.get_content() for part in found.iter_attachments()}
    assert {name: content if isinstance(content, bytes) else content.strip() for name, content in files.items()} == {
        "Übersicht.pdf": b"\xff\0\r\n",
        "notes.txt": "Grüße",
    }


def test_older_message_objects_in_8_bit_are_taken() -> None:
    made = MIMEMultipart()
    made["From"], made["To"], made["Subject"] = "n@example.com", "a@example.com", "Grüße"
    part = MIMEText("", "plain")
    del part["Content-Transfer-Encoding"]
    part.set_payload(b"Gr\xfc\xdfe\n".decode("ascii", "surrogateescape"))
    part.set_param("charset", "iso-8859-1")
    made.attach(part)
    found = read(made)
    assert found["Subject"] == "Grüße"
    (inner,) = found.iter_parts()
    assert inner.get_content().strip() == "Grüße"


def test_a_message_parsed_from_str_is_taken() -> None:
    mime = "From: n@example.com\nTo: a@example.com\nSubject: Grüße\n\nx\n"
    for rules in (policy.compat32, policy.default):
        assert read(message_from_string(mime, policy=rules))["Subject"] == "Grüße"


def test_a_header_with_a_line_break_in_it_is_refused_also_where_it_is_8_bit() -> None:
    for value in ("a\udcc3\r\nBcc: eve@example.com", "a\udcc3\nBcc: eve@example.com", "a\udcc3\rBcc: eve@example.com"):
        made = Message()
        made["From"], made["To"], made["Subject"] = "a@example.com", "b@example.com", value
        made.set_payload("x")
        assert refused(made) == "has a line break in the header 'Subject'"


def test_an_attached_message_in_8_bit_is_taken() -> None:
    given = Attachment(name="old.eml", content="From: a@example.com\r\nSubject: Grüße\r\n\r\nGrüße\r\n".encode())
    well_formed(given.content)
    found = message_from_bytes(given.content, _class=EmailMessage, policy=policy.default)
    assert isinstance(found, EmailMessage)
    assert (found["Subject"], found.get_content()) == ("Grüße", "Grüße\r\n")
