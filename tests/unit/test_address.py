"""The short way through `normalise` comes to the same answers as email-validator, and every refusal says what is wrong."""

from __future__ import annotations

import string
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from email.header import decode_header, make_header

import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailer.errors import InvalidAddress
from mailer.message.address import _by_library, bare, cell, dedup_key, normalise
from mailer.message.checks import display_name, mailbox


def by_library(text: str) -> str | None:
    try:
        result = validate_email(
            text.strip(), check_deliverability=False, allow_smtputf8=False, strict=True, allow_quoted_local=True
        )
    except EmailNotValidError:
        return None
    if result.local_part.startswith('"') and set(result.local_part) & set("<>,;:@()[]\\"):
        return None  # ours alone
    return f"{result.local_part}@{result.ascii_domain}"


def by_us(text: str) -> str | None:
    try:
        return normalise(text)
    except InvalidAddress:
        return None


# Near-valid: what an address is made of, and what goes wrong at its seams.
_ATEXT = string.ascii_letters + string.digits + "_!#$%&'*+-/=?^`{|}~"
_piece = st.one_of(
    st.text(_ATEXT, min_size=1, max_size=12),
    st.sampled_from(
        [*CASE_INSENSITIVE_MAILBOX_NAMES, "PostMaster", "INFO", '"', '"a b"', "(c)", "a,b", " ", "é", "\u212a", "\x00", "\\"]
    ),
    st.text(_ATEXT, min_size=58, max_size=66),
)
_label = st.one_of(
    st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=10),
    st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=10),
    st.text(string.ascii_letters + "-", min_size=60, max_size=65),
    st.sampled_from(
        [
            "example",
            "com",
            "COM",
            "xn--bcher-kva",
            "xn--p1ai",
            "xn--zz",
            "XN--a",
            "a--b",
            "ab--c",
            "-a",
            "a-",
            "a_b",
            "bücher",
            "1",
            "c1",
        ]
    ),
    st.sampled_from([*SPECIAL_USE_DOMAIN_NAMES, *map(str.upper, SPECIAL_USE_DOMAIN_NAMES), "contest", "nolocal", "\u212aelvin"]),
)
_local = st.lists(_piece, min_size=1, max_size=4).map(".".join)
_domain = st.lists(_label, min_size=1, max_size=6).map(".".join)
_seam = st.sampled_from(["@"] * 12 + ["", "@@", " @", "@.", ".@", "@-", "＠"])
_edge = st.sampled_from([""] * 12 + [" ", "\n", "\t", ".", "<", ">", "\u00a0", "\x1c"])
near_valid = st.tuples(_edge, _local, _seam, _domain, _edge).map("".join)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(near_valid)
@example("a@\u212aelvin.com")
@example("Ana@Example.COM")
@example("WWW@Example.com")
@example("a@example.com\n")
def test_the_short_way_and_the_library_agree(text: str) -> None:
    assert by_us(text) == by_library(text)


_atom = st.text(string.ascii_lowercase + string.digits + "_!#$%&'*+-/=?^`{|}~", min_size=1, max_size=6)
_plain_label = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=5)
_tld = st.text(string.ascii_lowercase, min_size=1, max_size=5) | st.sampled_from(SPECIAL_USE_DOMAIN_NAMES)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(
    st.lists(_atom, min_size=1, max_size=4).map(".".join),
    st.lists(st.lists(_plain_label, min_size=1, max_size=3).map("-".join), min_size=1, max_size=3).map(".".join),
    _tld,
    st.booleans(),
)
def test_plain_addresses_of_every_kind_are_what_the_library_says(local: str, domain: str, tld: str, shout: bool) -> None:
    text = f"{local}@{domain}.{tld}"
    text = text.upper() if shout else text
    assert by_us(text) == by_library(text)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text('a@."<>()[]\\ é\ud800\x00', max_size=30), st.text(min_size=250, max_size=400)))
def test_no_text_raises_anything_but_invalid_address(text: str) -> None:
    if (address := by_us(text)) is not None:
        assert address.isascii()
        assert normalise(address) == address, "normalising is done once and for all"


def test_plain_addresses_do_not_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def long_way(text: str) -> str:
        raise AssertionError(text)

    monkeypatch.setattr("mailer.message.address._by_library", long_way)
    for text in ("ana@example.com", "o'neill+list_2@mail-1.example.co.uk", " Ana.Silva@EXAMPLE.org\n", "Info@example.com"):
        normalise(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ana@example.com", "ana@example.com"),
        ("Ana.Silva+list@EXAMPLE.Org", "Ana.Silva+list@example.org"),
        ("  ana@example.net\r\n", "ana@example.net"),
        ("PostMaster@example.com", "postmaster@example.com"),
        ("ana@bücher.example.com", "ana@xn--bcher-kva.example.com"),
        ("ana@BÜCHER.example.com", "ana@xn--bcher-kva.example.com"),
        ("ana@news.example", "ana@news.example"),
        ('"ana silva"@example.com', '"ana silva"@example.com'),
        ('"ana"@example.com', "ana@example.com"),
        ("\u200b\u202aana@example.com\u202c\xa0\ufeff", "ana@example.com"),
        ("ana@i❤️.example.com", "ana@xn--i-7iq.example.com"),
        ("ana@XN--I-7IQ.example.com", "ana@xn--i-7iq.example.com"),
        ("ana@ü💌.BÜCHER.example.com", "ana@xn--tda0986w.xn--bcher-kva.example.com"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    ],
)
def test_the_local_part_is_kept_and_the_domain_is_lower_case_punycode(text: str, address: str) -> None:
    assert normalise(text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the address is empty"),
        (" \t", "the address is empty"),
        ("ana.example.com", "an email address must have an @-sign"),
        ("@example.com", "there must be something before the @-sign"),
        ("ana@", "there must be something after the @-sign"),
        ("josé@example.com", "Amazon SES takes only ASCII letters before the @-sign, not 'é'"),
        ('"a<b"@example.com', "a quoted part before the @-sign may have letters, digits, periods and blanks, and no brackets"),
        ("user..name@example.com", "an email address cannot have two periods in a row"),
        ("ana@foo_bar.example.com", "the part after the @-sign contains invalid characters: '_'"),
        ("ana@exa\u200bmple.com", "the address has an invisible character inside: ZERO WIDTH SPACE"),
        ("ana@💌_.example.com", "the part after the @-sign contains invalid characters: '_'"),
        ("ana@[192.0.2.1]", "a bracketed IP address after the @-sign is not allowed here"),
        ("ana@[IPv6:2001:db8::1]", "a bracketed IP address after the @-sign is not allowed here"),
        ("Ana <ana@example.com>", "a display name and angle brackets around the email address are not permitted here"),
        ("ana@example", "the part after the @-sign is not valid; it should have a period"),
        ("ana@localhost", "the part after the @-sign is not valid; it should have a period"),
        ("ana@host.test", "the part after the @-sign is a special-use or reserved name that cannot be used with email"),
        ("ana@host.invalid", "the part after the @-sign is a special-use or reserved name that cannot be used with email"),
        ("ana@192.0.2.1", "the part after the @-sign is not valid; it is not within a valid top-level domain"),
        ("a" * 65 + "@example.com", "the email address is too long before the @-sign (1 character too many)"),
        ("a" * 300_000 + "@example.com", "the address has 300012 characters, and 254 are the most that there can be"),
    ],
)
def test_a_refusal_is_half_a_sentence_that_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        normalise(text)
    assert str(caught.value) == why


def test_an_application_that_changes_the_defaults_of_the_library_changes_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("email_validator.ALLOW_DOMAIN_LITERAL", True)
    monkeypatch.setattr("email_validator.TEST_ENVIRONMENT", True)
    for text in ("ana@[192.0.2.1]", "ana@host.test"):
        with pytest.raises(InvalidAddress):
            _by_library(text)


def test_capitals_do_not_make_another_person() -> None:
    assert dedup_key("Ana.Silva@example.com") == dedup_key("ANA.SILVA@example.com") == "ana.silva@example.com"
    assert dedup_key("ana+a@example.com") != dedup_key("ana+b@example.com")


# ---- cells of a list -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("Ana <ana@example.com>", "Ana", "ana@example.com"),
        (' "Berg, Bo" <Bo@Example.com> ', "Berg, Bo", "Bo@example.com"),
        ("Berg, Bo <bo@example.com>", "Berg, Bo", "bo@example.com"),
        ("'Cy <C> Cole' <cy@example.com>", "Cy <C> Cole", "cy@example.com"),
        ('"di \\"d\\" dee"<di@example.com>', 'di "d" dee', "di@example.com"),
        ("ed@example.com <ed@example.com>", "", "ed@example.com"),
        ("Fi\r\nBcc: \u202efi\x00 <fi@example.com>", "Fi Bcc: fi", "fi@example.com"),
        ("سارا\u200cجان <gu@example.com>", "سارا\u200cجان", "gu@example.com"),
        ("<ha@example.com>", "", "ha@example.com"),
        ("mailto:in@example.com", "", "in@example.com"),
        ("jo@example.com;", "", "jo@example.com"),
        ("K" * 500 + " <ka@example.com>", "K" * 200, "ka@example.com"),
    ],
)
def test_a_cell_may_have_a_name_beside_the_address(text: str, name: str, address: str) -> None:
    assert cell(text) == (name, address)


@pytest.mark.parametrize(
    ("text", "many"),
    [
        ("a@example.com; b@example.com", "two"),
        ("a@example.com,b@example.com,c@example.com", "three"),
        ("a@example.com b@example.com", "two"),
        ("Ana <a@example.com>; Bo <b@example.com>;", "two"),
        ("a@example.com / b@example.com", "two"),
        (";".join(["a@example.com"] * 12), "12"),
    ],
)
def test_two_addresses_in_a_cell_are_called_so(text: str, many: str) -> None:
    with pytest.raises(InvalidAddress, match=f"^there are {many} addresses in one cell; give each of them a row of its own$"):
        cell(text)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text("a@.\"<>()[]\\ ,;'é\u200b\ud800\x00\n💌", max_size=40), near_valid))
def test_a_cell_gives_a_name_in_one_line_and_an_address_that_is_one(text: str) -> None:
    try:
        name, address = cell(text)
    except InvalidAddress:
        return
    assert normalise(address) == address
    assert name == name.strip()
    assert not any(unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs") for one in name)
    header = display_name(name, address)
    assert header.isascii()
    mailbox = f"{header} <{address}>" if header else address
    assert bare(mailbox) == address
    assert len(mailbox) <= 320
    assert str(make_header(decode_header(header))) in (name, f'"{name}"') or '"' in header


HOSTILE = [" " * 2400 + "<a", "<", '"', "\\", "\u200b", "a@", "a@b;", "💌", ".", "x-", '" <', "(", "\ud800"]


SHAPES = ["{}", "{}x", "x{}x", "{}@example.com", "a@{}.com", '"{}" <a@example.com>', "{} <a@example.com>"]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("take", [cell, mailbox, normalise])
def test_no_text_takes_longer_than_its_length_allows(take: Callable[[str], object], piece: str) -> None:
    began = time.thread_time()  # of this thread alone: what else the machine does is not in it
    for shape in SHAPES:
        for length in (240, 990, 262_144):
            with suppress(InvalidAddress, ValueError):
                take(shape.format(piece * (length // len(piece))))
    assert time.thread_time() - began < 0.5
