"""MIME that was made to do harm: it takes a time that grows with its size only, and makes neither a recipient nor a header."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from email import message_from_bytes
from email.message import Message
from email.mime.multipart import MIMEMultipart

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailer.errors import InvalidEmail
from mailer.intake.idempotency import idempotency_key
from mailer.message.email import Email
from mailer.message.mime import read_mime
from mailer.message.mime.structure import MAX_DEPTH, MAX_PARTS
from mailer.simulator import raw
from mailer.simulator.refusals import Refusal
from mailer.simulator.shown import read_mime as show

from ..hostile.mime import HEAD, HOSTILE, MULTIPART, hostile, nested, part, to

SIZES = 500_000, 2_000_000  # bytes
SIMULATED_SIZES = 100_000, 400_000  # of what the simulated SES gets: it reads with the standard library, which takes longer
MOST_TIMES = 9  # what grows with the size takes four times as long for the larger one; with its square, 16 times
MOST_S = 8, 16  # for the larger one, 20 times what the slowest takes
LEAST_S = 0.005  # less is not told from nothing


def grows_with_the_size_only(name: str, sizes: tuple[int, int], most_s: float, read: Callable[[bytes], None]) -> None:
    """By this process's own time, to which nothing adds but what it does itself; a second look where the first is not enough."""

    def seconds(size: int) -> float:
        mime = hostile(name, size)
        began = time.process_time()
        read(mime)
        return time.process_time() - began

    looks = [(max(seconds(sizes[0]), LEAST_S), seconds(sizes[1]))]
    while looks[-1][1] > MOST_TIMES * looks[-1][0] and len(looks) < 3:
        looks.append((max(seconds(sizes[0]), LEAST_S), seconds(sizes[1])))
    small, large = looks[-1]
    assert large <= MOST_TIMES * small, looks
    assert large < most_s


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_the_time_grows_with_the_size_only(name: str) -> None:
    why = ""

    def read(mime: bytes) -> None:
        nonlocal why
        try:
            idempotency_key("k", Email(raw=mime))
        except InvalidEmail as error:
            why = str(error)

    grows_with_the_size_only(name, SIZES, MOST_S[0], read)
    assert re.fullmatch(r"(Email: [^\n]{1,300})?", why)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_the_simulated_ses_takes_a_time_that_grows_with_the_size_only(name: str) -> None:
    def read(mime: bytes) -> None:
        with suppress(Refusal):
            raw.destination(raw.check(mime))
            raw.rewrite(mime, {"Date": "now"})
        show(mime)

    grows_with_the_size_only(name, SIMULATED_SIZES, MOST_S[1], read)


def attached(depth: int) -> Message:
    message = MIMEMultipart()
    for _ in range(depth):
        outer = MIMEMultipart()
        outer.attach(message)
        message = outer
    message["From"], message["To"] = "a@example.com", "b@example.com"
    return message


def twice(depth: int) -> Message:
    """2^depth parts, by `depth` objects."""
    message = MIMEMultipart()
    for _ in range(depth):
        outer = MIMEMultipart()
        outer.attach(message)
        outer.attach(message)
        message = outer
    return message


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (nested(1000, b"x"), "more than 100 parts inside each other"),
        (HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 1000 + b"x", "more than 100 parts inside each other"),
        (attached(1000), "more than 100 parts inside each other"),
        (twice(60), "more than 1,000 parts"),
        (MULTIPART + part(b"A: b") * (MAX_PARTS + 1), "more than 1,000 parts"),
        (HEAD + b"X: \r\n" * 2001 + b"\r\nx", "more than 2,000 headers"),
        (to(b"a@example.com,\r\n " * 1001), "more than 1,000 addresses in the header To"),
        (to(b"a@example.com,\r\n " * 10_000), "characters in the header To, and SES takes 50 recipients"),
        (to(b"a" * 980 + b"\r\n " + b"b" * 980 + b"@example.com"), "has an address of 1,973 characters in the header To"),
        (MULTIPART + part(b"Content-Type: a/b" + b";\r\n name=b" * 3000), "has a Content-Type of 30,004 characters in line 6"),
    ],
)
def test_too_much_of_anything_is_one_sentence(given: bytes | Message, why: str) -> None:
    with pytest.raises(InvalidEmail, match=r"^Email: `raw` has [^\n]{1,150}$") as caught:
        Email(raw=given)
    assert why in str(caught.value)


def test_as_many_parts_inside_each_other_as_are_taken() -> None:
    mime = nested(MAX_DEPTH - 1, "Grüße".encode())
    parsed = message_from_bytes(read_mime(mime).mime)
    while parsed.is_multipart():
        parsed = parsed.get_payload(0)  # type: ignore[assignment]
    assert parsed.get_payload(decode=True) == "Grüße".encode()


# ---- headers ---------------------------------------------------------------------------------------------------------

EVE = b"eve@evil.example"
BREAKS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\r\n",
    b"\n\r",
    b"\r\n ",
    b"\r\n\t",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x85",
    b"\xe2\x80\xa8",
]
NAMES = [b"Bcc: ", b"Cc: ", b"To: ", b"Bcc : ", b"Resent-Bcc:", b"From: ", b":"]
SIGNS = [b",", b";", b'"', b"<", b">", b"(", b")", b"\\", b" ", b"\t", b"\xc3\xa9", b"x", EVE]
WORDS = [b"=?utf-8?q?=0D=0ABcc=3A_eve=40evil=2Eexample?=", b"=?utf-8?b?DQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?="]
pieces = st.sampled_from([*BREAKS, *NAMES, *SIGNS, *WORDS])
values = st.lists(pieces, max_size=10).map(b"".join)


def headers_of(mime: bytes) -> list[tuple[bytes, bytes]]:
    """By the plainest reading: a line that does not begin with a blank begins a header, and CRLF or LF ends one."""
    head = re.split(rb"\r\n\r\n|\n\n|\r\n\n|\n\r\n", mime, maxsplit=1)[0]
    found = re.findall(rb"^([!-9;-~]+)[ \t]*:((?:[^\n]|\n[ \t])*)", head, re.MULTILINE)
    return [(name.lower(), value) for name, value in found]


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([b"Subject", b"X-A", b"Cc", b"Message-ID", b"Reply-To", b"Content-Type"]), values)
@example(b"Subject", b"Hi\rBcc: " + EVE)
@example(b"Subject", b"Hi\r\n\rBcc: " + EVE)
@example(b"Cc", b"a@example.com\x0bBcc: " + EVE)
def test_no_header_makes_a_recipient_or_another_header(name: bytes, value: bytes) -> None:
    mime = HEAD + name + b": " + value + b"\r\n\r\nx"
    given = headers_of(mime)
    try:
        email = Email(raw=mime)
    except InvalidEmail:
        return
    assert email.raw is not None
    named = b"".join(text for key, text in given if key in (b"to", b"cc", b"bcc"))
    for address in (*email.to, *email.cc, *email.bcc):
        assert address.encode() == b"a@example.com" or EVE in named or b"x" in named
    written = [key for key, _ in headers_of(email.raw)]
    # One that was not there is MIME's own, for what had to be encoded.
    ours = {b"mime-version", b"content-type", b"content-transfer-encoding"}
    assert [key for key in written if key not in ours] == [
        key for key, _ in given if key not in ours and key not in (b"bcc", b"resent-bcc")
    ]
    assert b"\r" not in email.raw.replace(b"\r\n", b"")
    parsed = {key.lower().encode() for key in message_from_bytes(email.raw).keys()}  # noqa: SIM118 - a message is no dict
    assert parsed <= set(written), "the library, to which a CR ends a line, finds no other either"


@settings(deadline=None, max_examples=200)
@given(values, values)
def test_recipients_that_are_given_are_the_only_ones(to: bytes, cc: bytes) -> None:
    mime = b"From: n@example.com\r\nTo: " + to + b"\r\nCc: " + cc + b"\r\n\r\nx"
    try:
        email = Email(raw=mime, from_="n@example.com", to="b@example.com")
    except InvalidEmail:
        return
    assert (email.to, email.cc, email.bcc) == (("b@example.com",), (), ())


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from([b"text/plain", b"multipart/mixed; boundary=b", b"message/rfc822", b"a/b"]))
def test_what_goes_out_is_what_ses_takes(body: bytes, kind: bytes) -> None:
    try:
        mime = read_mime(HEAD + b"Content-Type: " + kind + b"\r\n\r\n" + body).mime
    except ValueError:
        return
    assert mime.isascii()
    assert b"\0" not in mime
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", mime)
    assert read_mime(mime).mime == mime
    if kind == b"text/plain":
        same = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert message_from_bytes(mime).get_payload(decode=True) == same
