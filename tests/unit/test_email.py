"""What a caller may hand over: SES's limits to the character, no way into a header, and errors that name the field."""

from __future__ import annotations

import re
from email import message_from_string, policy
from email.header import decode_header, make_header
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mailer.errors import InvalidEmail
from mailer.intake.spec_builder import SpecBuilder
from mailer.message.checks import RESERVED_TAG, mailbox
from mailer.message.email import Campaign, Email, Lane
from mailer.message.sender import ListUnsubscribe, Sender
from mailer.settings import Settings
from mailer.simulator.limits import mailbox as ses_mailbox

BASE: dict[str, Any] = {"from": "news@example.com", "to": "ana@example.com", "subject": "s", "text": "t"}


def email(**fields: Any) -> Email:
    return Email(**{**BASE, **fields})


def refused(**fields: Any) -> str:
    """The error's text; it is one sentence."""
    with pytest.raises(InvalidEmail) as caught:
        email(**fields)
    return sentence(str(caught.value))


def sentence(text: str) -> str:
    """One line that a person can read: no report of pydantic's, no class names, no repeated words."""
    assert "\n" not in text
    assert len(text) < 300
    assert "validation error" not in text
    assert "pydantic" not in text
    assert "Value error" not in text
    assert "Input should" not in text
    return text


# ---- header injection ------------------------------------------------------------------------------------------------

CONTROLS = [chr(code) for code in (*range(32), 127)]
around = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", "{}"),
        ("from", "{} <news@example.com>"),
        ("from", '"{}" <news@example.com>'),
        ("from", "news{}@example.com"),
        ("from", "News <news@example.com{}>"),
        ("from", "News <news@example.com>{}"),
        ("to", "Ana{} <ana@example.com>"),
        ("to", ["bob@example.com", "ana@example.com{}"]),
        ("cc", "Ana{} <ana@example.com>"),
        ("bcc", "{}ana@example.com"),
        ("reply_to", "{} <ana@example.com>"),
        ("headers", {"X-A": "{}"}),
        ("headers", {"X-A{}": "b"}),
        ("tags", {"a": "{}"}),
        ("tags", {"a{}": "b"}),
        ("configuration_set", "{}"),
        ("template", "{}"),
        ("ses_template", "{}"),
        ("sender", "{}"),
        ("contact_list", "{}"),
        ("topic", "{}"),
        *[("attachments", {field: "{}"}) for field in ("name", "content_type", "content_id", "description")],
    ],
)
@settings(deadline=None)
@given(before=around, control=st.sampled_from(CONTROLS), after=around)
@example(before="a", control="\r\n", after="Bcc: eve@example.com")
@example(before="a", control="\n", after="")
@example(before="", control="\x00", after="")
def test_no_control_character_gets_into_a_header(field: str, value: Any, before: str, control: str, after: str) -> None:
    bad = before + control + after

    def put(text: str) -> str:
        return text.replace("{}", bad)

    if isinstance(value, dict):
        value = {put(name): put(text) for name, text in value.items()}
    else:
        value = [put(text) for text in value] if isinstance(value, list) else put(value)
    fields: dict[str, Any] = {**BASE, field: value}
    if field in ("template", "ses_template"):
        del fields["subject"], fields["text"]
    if field == "attachments":
        field, fields = next(iter(value)), {**BASE, "attachments": {"name": "a", "content": b"x", **value}}
    for kind in (Email, Campaign):
        if kind is Campaign:
            if {"to", "cc", "bcc"} & {field}:
                continue
            del fields["to"]
        with pytest.raises(InvalidEmail, match=f"[`.]{field}"):
            kind(**fields)


@settings(deadline=None)
@given(
    st.sampled_from(
        [
            *("from", "reply_to", "feedback_address", "configuration_set", "tenant", "identity_arn", "role_arn", "external_id"),
            *("region", "endpoint_url", "feedback_identity_arn"),
        ]
    ),
    st.sampled_from(CONTROLS),
)
def test_no_control_character_gets_into_a_sender(field: str, control: str) -> None:
    good: dict[str, str] = {
        "from": "News {}<news@example.com>",
        "reply_to": "News {}<news@example.com>",
        "feedback_address": "news@example.com{}",
        "configuration_set": "set{}",
        "tenant": "t{}",
        "identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com{}",
        "feedback_identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/{}example.com",
        "role_arn": "arn:aws:iam::123456789012:role/mailer{}",
        "external_id": "four{}",
        "region": "eu-west-1{}",
        "endpoint_url": "https://example.com/{}",
    }
    fields = {"from": "a@example.com", "feedback_address": "b@example.com", "role_arn": good["role_arn"], field: good[field]}
    Sender(**dict[str, Any]({name: value.replace("{}", "") for name, value in fields.items()}))
    with pytest.raises(InvalidEmail):
        Sender(**dict[str, Any]({name: value.replace("{}", control) for name, value in fields.items()}))


@pytest.mark.parametrize("control", CONTROLS)
def test_no_control_character_gets_into_an_unsubscribe_header(control: str) -> None:
    for name, value in (("url", "https://e.example/{token}{}"), ("mailto", "u@e.example?subject={token}{}")):
        ListUnsubscribe(**{name: value.replace("{}", "")})
        with pytest.raises(InvalidEmail, match="one line without control characters"):
            ListUnsubscribe(**{name: value.replace("{}", control)})


@settings(deadline=None)
@given(st.text(max_size=60))
@example("\x850\u2028 \u3000é\x85")
def test_whatever_a_mailbox_is_taken_for_is_one_address_in_one_ascii_line(text: str) -> None:
    for value in (text, f"{text} <ana@example.com>", f'"{text}" <ana@example.com>', f"Ana <ana@example.com>{text}"):
        try:
            result = mailbox(value)
        except ValueError:
            continue
        assert re.fullmatch("[ -~]{1,320}", result)
        message = message_from_string(f"To: {result}\n\n", policy=policy.default)
        assert [(address.username, address.domain) for address in message["to"].addresses] == [("ana", "example.com")]
        assert ses_mailbox(result) == "ana@example.com"
        assert mailbox(result) == result, "taken again, as a sender profile is, it stays what it is"


# ---- addresses -------------------------------------------------------------------------------------------------------

name = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(lambda text: text.strip())


def shown(value: str) -> str:
    return str(make_header(decode_header(parseaddr(value)[0])))


@settings(deadline=None)
@given(name)
@example("株式会社とても長い名前のとても長い会社")
@example('Ana "the \\ boss" O\'Neill, <x@y> (Sales); CEO')
@example("Zoë")
@example("😀" * 20)
@example("a,b")
def test_a_display_name_comes_out_as_it_went_in(name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    result = mailbox(f'"{quoted}" <ana@example.com>')
    assert parseaddr(result)[1] == "ana@example.com"
    assert shown(result).split() == name.split()
    for word in re.findall(r"=\?[^?]*\?[^?]*\?[^?]*\?=", result):
        assert len(word) <= 75, "RFC 2047 allows no longer encoded word"


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ("ana@example.com", "ana@example.com"),
        ("  ana@EXAMPLE.com ", "ana@example.com"),
        ("Ana <ana@example.com>", "Ana <ana@example.com>"),
        ("<ana@example.com>", "ana@example.com"),
        ('"" <ana@example.com>', "ana@example.com"),
        ("Ana Maria O'Neill <ana@example.com>", "Ana Maria O'Neill <ana@example.com>"),
        ('"Doe, Ana" <ana@example.com>', '"Doe, Ana" <ana@example.com>'),
        ("Ana (Sales) <ana@example.com>", '"Ana (Sales)" <ana@example.com>'),
        ("ana@example.com <ana@example.com>", '"ana@example.com" <ana@example.com>'),
        ("Zoë <zoe@bücher.example>", "=?utf-8?q?Zo=C3=AB?= <zoe@xn--bcher-kva.example>"),
        ("=?utf-8?q?A?= <ana@example.com>", "=?utf-8?b?PT91dGYtOD9xP0E/PQ==?= <ana@example.com>"),  # as it was typed
        ("=?utf-8?q?Zo=C3=AB?= <ana@example.com>", "=?utf-8?q?Zo=C3=AB?= <ana@example.com>"),  # as we write it ourselves
    ],
)
def test_mailboxes(given: str, result: str) -> None:
    assert email(to=given).to == (result,)


@pytest.mark.parametrize(
    "value",
    [
        "Ana <ana@example.com>, Bob <bob@example.com>",
        "Ana <ana@example.com>; bob@example.com",
        "ana@example.com, bob@example.com",
        "Ana <ana@example.com> bob@example.com",
        "Ana <ana@example.com> <bob@example.com>",
        "Doe, Ana <ana@example.com>",
        "Team: ana@example.com;",
        "Team: Ana <ana@example.com>;",
        '"Ana <ana@example.com>',
        "Ana <ana@example.com",
        "ana@example.com>",
        "Ana <>",
        "",
        "<>",
        "ana",
        "Ana ana@example.com",
        "josé@example.com",
        "ana@localhost",
    ],
)
def test_what_is_not_exactly_one_address_is_refused_and_nobody_is_dropped(value: str) -> None:
    assert refused(to=value).startswith("Email: `to` ")


def test_an_address_is_at_most_320_characters_with_its_name() -> None:
    address = " <ana@example.com>"
    assert len(email(to="x" * (320 - len(address)) + address).to[0]) == 320
    assert "320 characters" in refused(to="x" * (321 - len(address)) + address)
    assert "320 characters" in refused(to="é" * 200 + address)  # short as typed, long as sent


def test_a_message_goes_to_at_most_fifty() -> None:
    fifty = [f"u{i}@example.com" for i in range(50)]
    assert len(email(to=fifty).to) == 50
    assert email(to=fifty[:1], cc=fifty[1:30], bcc=fifty[30:]).bcc[-1] == "u49@example.com"
    for fields in ({"to": [*fifty, "a@example.com"]}, {"to": fifty, "cc": "a@example.com"}, {"to": fifty[:1], "bcc": fifty}):
        assert "51 recipients; SES takes 50" in refused(**fields)
    assert "`to`" in refused(to=[])
    assert "`to` is empty" in refused_without("to")


def refused_without(name: str) -> str:
    with pytest.raises(InvalidEmail) as caught:
        Email(**{key: value for key, value in BASE.items() if key != name})
    return sentence(str(caught.value))


# ---- headers and tags ------------------------------------------------------------------------------------------------


def test_headers_to_the_limit_and_one_past() -> None:
    hundred = {f"X-{i}": "v" for i in range(100)}
    assert len(email(headers=hundred).headers) == 100
    assert "101 headers; 100 are the most" in refused(headers={**hundred, "X-100": "v"})
    assert email(headers={"X" * 126: "v" * 870}).headers
    assert len(email(headers={"X-A": "1234 " * 1999 + "12345"}).headers["X-A"]) == 10_000
    assert "1 to 10000 characters" in refused(headers={"X-A": "1234 " * 1999 + "123456"})
    for value in ("v" * 871, f"a {'v' * 870}", f"a{' ' * 870}b"):
        assert "more than 870 characters that no line break can part" in refused(headers={"X-A": value})
    assert email(headers={"X-A": "  a  b  "}).headers == {"X-A": "a  b"}, "blanks around a value reach nobody"
    assert "x-a is given twice" in refused(headers={"X-A": "v", "x-a": "w"})
    assert "1 to 126" in refused(headers={"X" * 127: "v"})
    assert "1 to 126" in refused(headers={"": "v"})
    for value in ("", " ", "\x7f", "a\r\nBcc: e@example.com", "a\tb"):
        assert "`headers` header X-A must " in refused(headers={"X-A": value})
    for name in ("X A", "X:A", "É", "X\u2028"):
        assert "header name" in refused(headers={name: "v"})


@pytest.mark.parametrize(
    "name",
    [
        *("From", "TO", "cc", "Bcc", "Subject", "reply-to", "Sender", "Return-Path", "Message-ID", "Date", "MIME-Version"),
        *("Content-Type", "Content-Transfer-Encoding", "DKIM-Signature", "Received"),
        *("X-SES-SOURCE-ARN", "x-ses-configuration-set", "X-SES-Message-Tags"),
    ],
)
def test_headers_with_a_field_of_their_own_are_refused(name: str) -> None:
    assert f"header {name} is set from its own field" in refused(headers={name: "v"})


@pytest.mark.parametrize(
    "name", ["List-Unsubscribe", "List-Unsubscribe-Post", "X-SESSION", "In-Reply-To", "Auto-Submitted", "Tomato"]
)
def test_other_headers_are_not(name: str) -> None:
    assert email(headers={name: "v"}).headers == {name: "v"}


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80))
@example("é  è")  # Python's own writer makes one blank of two
@example("\u2028é")
@example("日本語" * 40)
def test_a_header_that_is_not_ascii_comes_out_as_it_went_in(text: str) -> None:
    if text.isascii():
        return
    value = email(headers={"X-A": text}).headers["X-A"]
    assert re.fullmatch(r"(=\?utf-8\?[bq]\?[!->@-~]+\?=( (?==)|$))+", value), value
    assert all(len(word) <= 75 for word in value.split(" "))
    assert str(make_header(decode_header(value))) == text.strip(" ")


def test_a_sender_profiles_name_is_short_enough_for_an_unsubscribe_token() -> None:
    for name in ("n" * 128, "é" * 64):
        assert Email(sender=name, to="a@example.com", template="x").sender == name
        with pytest.raises(InvalidEmail, match="`sender` is longer than 128 bytes"):
            Email(sender=name + "n", to="a@example.com", template="x")


def test_tags_to_the_limit_and_one_past() -> None:
    assert email(tags={"a" * 256: "b" * 256, "A-Za_z-09": "-"}).tags
    for tags in (
        {"a" * 257: "b"},
        {"a": "b" * 257},
        {"": "b"},
        {"a": ""},
        {"a b": "c"},
        {"a": "b.c"},
        {"é": "b"},
        {"a": "٣"},
        {"a": "b\n"},
    ):
        assert "at most 256 characters" in refused(tags=tags)
    assert "this service puts on every message itself" in refused(tags={RESERVED_TAG: "x"})
    with pytest.raises(InvalidEmail, match="every message itself"):
        Sender(from_="a@example.com", tags={RESERVED_TAG: "x"})


# ---- content ---------------------------------------------------------------------------------------------------------

CONTENT = [{}, {"subject": "s"}, {"html": "h"}, {"text": "t"}, {"subject": "s", "html": "h"}, {"subject": "s", "text": "t"},
           {"subject": "s", "html": "h", "text": "t"}, {"html": "h", "text": "t"}]  # fmt: skip


@pytest.mark.parametrize("template", [None, "letter"])
@pytest.mark.parametrize("parts", CONTENT)
@pytest.mark.parametrize("kind", [Email, Campaign])
def test_a_message_has_exactly_one_content(
    kind: type[Email] | type[Campaign], parts: dict[str, str], template: str | None
) -> None:
    fields: dict[str, Any] = {"from": "a@example.com", **parts, **({"template": template} if template else {})}
    if kind is Email:
        fields["to"] = "b@example.com"
    good = not parts if template else "subject" in parts and len(parts) > 1
    if good:
        assert kind(**fields).template == template
        return
    with pytest.raises(InvalidEmail, match=r"`template`.*`subject` with `html` or `text`") as caught:
        kind(**fields)
    assert sentence(str(caught.value)).startswith(kind.__name__)


def test_a_message_is_from_an_address_or_a_sender() -> None:
    assert "either `from` or `sender`" in refused(sender="news")
    assert "either `from` or `sender`" in refused_without("from")
    assert Email(sender="news", to="a@example.com", template="x").from_ is None
    assert Email(from_="a@example.com", to="a@example.com", template="x").from_ == "a@example.com"


def test_lanes() -> None:
    assert email().lane is Lane.TRANSACTIONAL
    assert Campaign(sender="x", template="y").lane is Lane.BULK
    assert email(lane="bulk").lane is Lane.BULK
    assert "`lane` input should be 'transactional' or 'bulk'" in refused(lane="fast")


NO_JSON = "Email: `data` cannot be written as JSON: "


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"subject": 5}, "Email: `subject` input should be a valid string"),
        ({"to": 5}, "Email: `to` input should be a valid tuple"),
        ({"to": ["ana@example.com", 5]}, "Email: `to` input should be a valid string"),
        ({"subject": "a\nb"}, "Email: `subject` must be one line without control characters"),
        ({"subject": "a\nb", "from": "x"}, "Email: `from` an email address must have an @-sign (and 1 more)"),
        ({"configuration_set": "a b"}, "Email: `configuration_set` 'a b' must have 1 to 64 characters, each of A-Z a-z 0-9 _ -"),
        (
            {"attachments": [{"name": "a", "content": b"", "content_id": "<a b>"}]},
            "Email: `attachments.content_id` '<a b>' must have 1 to 78 visible ASCII characters, "
            "without blanks and without < and >",
        ),
        ({"subject": "\ud83d"}, "Email: `subject` has half a character in it (a lone surrogate)"),
        ({"html": "\ud83d"}, "Email: `html` has half a character in it (a lone surrogate)"),
        ({"text": "\ude00"}, "Email: `text` has half a character in it (a lone surrogate)"),
        ({"to": "\ud83d <ana@example.com>"}, "Email: `to` has half a character in it (a lone surrogate)"),
        ({"data": {"x": b"1"}}, f"{NO_JSON}It has bytes; make a text of them first, as with `value.decode()`"),
        ({"data": {"x": [{1j}]}}, f"{NO_JSON}It has a value of the class complex; give a text, number, date, list or object"),
        ({"data": {"x": {1: 2}}}, f"{NO_JSON}A name in an object must be a text"),
        ({"data": {"x": 10**5000}}, "Email: `data` cannot be written as JSON: A number has more than 4,000 digits"),
    ],
)
def test_an_error_is_one_sentence_that_names_the_field(fields: dict[str, Any], text: str) -> None:
    assert refused(**fields) == text


def test_a_body_may_hold_anything_that_is_text() -> None:
    body = "\x00\r\n😀\ue000{{ }}\u2028"
    assert email(html=body, text=body).html == body


def test_what_has_been_checked_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(email(), "subject", "a\nb")  # noqa: B010


@pytest.mark.parametrize("name", ["=?utf-8?q?=41?=", "a =?b?=  c", "Zoë =?", "Größe & Söhne"])
def test_a_name_reads_back_as_it_was_typed_and_is_encoded_once(name: str) -> None:
    given = email(to=f"{name} <ana@example.com>", **{"from": f'"{name}" <news@example.com>'})
    spec, _ = SpecBuilder(Settings()).message(given)
    for address in (*spec.to, spec.from_address):
        assert address.isascii()
        assert str(make_header(decode_header(parseaddr(address)[0]))) == " ".join(name.split())


def test_of_several_addresses_the_one_that_is_wrong_is_named() -> None:
    with pytest.raises(InvalidEmail) as caught:
        Email(to=["ana@example.org", "bad"], from_="a@example.org", subject="x", text="x")
    assert str(caught.value) == "Email: `to` 'bad': an email address must have an @-sign"
