"""Unsubscribe headers, and the token in them that nobody else can make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from mailer.compose import Mime
from mailer.compose.message_builder import MessageBuilder
from mailer.errors import ConfigError, InvalidToken
from mailer.intake.spec_builder import SpecBuilder, advice
from mailer.ledger import Entry, Literal
from mailer.message.attachment import Attachment
from mailer.message.email import MAX_SENDER_NAME, Campaign, Email
from mailer.message.sender import Sender
from mailer.settings import Settings
from mailer.unsubscribe.tokens import MAX_VALUE, Tokens, unsubscribe_headers

OLD, NEW = "old-" * 8, "new-" * 8
LONGEST = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 49}.example.com"
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_the_longest_address_is_one() -> None:
    assert len(LONGEST) == 254
    assert Email(to=LONGEST, from_="a@example.com", subject="s", text="t").to == (LONGEST,)


@settings(deadline=None)
@given(local=st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}", fullmatch=True), stream=text)
def test_a_token_tells_who_and_from_which_stream(local: str, stream: str) -> None:
    tokens, address = Tokens(["secret"]), f"{local}@example.com"
    token = tokens.make(address, stream)
    assert tokens.read(token) == (address, stream)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."), "goes into any URL as it is"


@pytest.mark.parametrize(
    "given", ["Ana <ana@example.com>", '"Ana, \\"A\\"" <ana@example.com>', "=?utf-8?q?=C3=A9?= <ana@example.com>"]
)
def test_a_token_holds_the_address_and_not_the_name(given: str) -> None:
    tokens = Tokens(["secret"])
    assert tokens.read(tokens.make(given, "news")).address == "ana@example.com"


@settings(deadline=None)
@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    token = Tokens(["secret"]).make("ana@example.com", "news")
    place = data.draw(st.integers(0, len(token) - 2))  # the last character has bits that base64 does not use
    other = data.draw(st.characters(exclude_categories=["Cs"]).filter(lambda char: char != token[place]))
    with pytest.raises(InvalidToken, match="not signed"):
        Tokens(["secret"]).read(token[:place] + other + token[place + 1 :])


def test_forged_and_cut_tokens_are_refused() -> None:
    tokens = Tokens(["secret"])
    token = tokens.make("ana@example.com", "news")
    signed_otherwise = URLSafeSerializer("secret", salt="mailer.unsubscribe")
    for forged in (
        *(token[:length] for length in range(len(token))),
        token + "x",
        f" {token}",
        "\ud83d",
        "é",
        "." * 1000,
        Tokens(["other"]).make("ana@example.com", "news"),
        URLSafeSerializer("secret", salt="session").dumps(["ana@example.com", "news"]),
        signed_otherwise.dumps(["ana@example.com"]),
        signed_otherwise.dumps(5),
    ):
        with pytest.raises(InvalidToken):
            tokens.read(str(forged))


def test_a_key_can_be_replaced() -> None:
    old, both, new = Tokens(["old"]), Tokens(["old", "new"]), Tokens(["new"])
    earlier, later = old.make("ana@example.com", "news"), both.make("ana@example.com", "news")
    assert both.read(earlier) == both.read(later) == new.read(later) == ("ana@example.com", "news")
    for tokens, token in ((new, earlier), (old, later)):
        with pytest.raises(InvalidToken):
            tokens.read(token)
    assert Settings(secret_key=f"{OLD}, {NEW}").secret_keys == [OLD, NEW]


def test_without_a_key_the_error_names_the_variable() -> None:
    for use in (lambda: Tokens([]).make("a@example.com", ""), lambda: Tokens([]).read("x")):
        with pytest.raises(ConfigError, match="MAILER_SECRET_KEY"):
            use()


# ---- headers ---------------------------------------------------------------------------------------------------------


def test_one_click_needs_https() -> None:
    assert unsubscribe_headers("https://e.example/{token}", None, "t") == {
        "List-Unsubscribe": "<https://e.example/t>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert unsubscribe_headers(None, "u@e.example?subject={token}", "t") == {
        "List-Unsubscribe": "<mailto:u@e.example?subject=t>",
    }
    assert unsubscribe_headers("https://e.example/{token}", "u@e.example", "t")["List-Unsubscribe"] == (
        "<https://e.example/t>, <mailto:u@e.example>"
    )
    assert unsubscribe_headers(None, None, "t") == {}


@pytest.mark.parametrize("stream", ["", "n" * MAX_SENDER_NAME, "é" * (MAX_SENDER_NAME // 2), "😀" * (MAX_SENDER_NAME // 4)])
@pytest.mark.parametrize("has_url", [True, False])
@pytest.mark.parametrize("has_mailto", [True, False])
def test_the_header_fits_always(stream: str, has_url: bool, has_mailto: bool) -> None:
    url = f"https://e.example/{{token}}/{'u' * 274}" if has_url else None
    mailto = f"u@e.example?subject={{token}}{'m' * 273}" if has_mailto else None
    assert {len(url or mailto or 300 * "x"), len(mailto or url or 300 * "x")} == {300}
    token = Tokens(["secret"]).make(LONGEST, stream)
    headers = unsubscribe_headers(url, mailto, token)
    assert all(1 <= len(value) <= MAX_VALUE for value in headers.values())
    assert ("List-Unsubscribe-Post" in headers) is has_url
    if has_url:
        assert headers["List-Unsubscribe"].startswith("<https://"), "one click is kept when there is not room for both"


# ---- which message carries them ----------------------------------------------------------------------------------------

PROFILE = Sender(from_="news@example.com", list_unsubscribe={"url": "https://e.example/{token}", "mailto": "u@e.example"})
WAYS: dict[str, Any] = {
    "plain": None,
    "click": {"url": "https://e.example/{token}"},
    "mail": {"mailto": "u@e.example?subject={token}"},
    "same": {"mailto": "u@e.example"},  # the same for everybody
}
OTHERS = {name: Sender(**{"from": "a@example.com", "list_unsubscribe": ways}) for name, ways in WAYS.items()}
PREPARATION = SpecBuilder(Settings(senders={"news": PROFILE, **OTHERS}))
MIME = b"From: news@example.com\r\nTo: a@example.com\r\n%s\r\nHello\r\n"


@pytest.mark.parametrize(
    ("fields", "ours"),
    [
        ({}, True),
        ({"headers": {"X-A": "b"}}, True),
        ({"headers": {"list-unsubscribe": "<mailto:stop@example.com>"}}, False),  # with ours, one click would go nowhere
        ({"contact_list": "customers"}, False),  # SES writes them
    ],
)
def test_the_profiles_unsubscribe_headers_go_on_what_has_none(fields: dict[str, Any], ours: bool) -> None:
    campaign = Campaign(sender="news", subject="s", text="t", **fields)
    spec, _ = PREPARATION.campaign(campaign)
    assert (spec.unsubscribe_url is not None, spec.unsubscribe_mailto is not None) == (ours, ours)
    assert advice(campaign, spec) == []


@pytest.mark.parametrize(("header", "ours"), [(b"", True), (b"list-Unsubscribe: <mailto:stop@example.com>\r\n", False)])
def test_a_whole_message_with_headers_of_its_own_keeps_them(header: bytes, ours: bool) -> None:
    spec, _ = PREPARATION.message(Email(sender="news", raw=MIME % header))
    assert (spec.unsubscribe_url is not None) is ours


def test_bulk_mail_without_any_gets_advice() -> None:
    files = [Attachment(name="a.txt", content=b"x")]
    (sentence,) = advised(Campaign(sender="plain", subject="s", text="t", attachments=files))
    assert "List-Unsubscribe" in sentence
    assert advised(Email(sender="plain", to="a@example.com", subject="s", text="t")) == []
    assert advised(Email(sender="plain", raw=MIME % b"", lane="bulk")) == [sentence]
    own = Email(sender="plain", raw=MIME % b"List-unsubscribe: <mailto:stop@example.com>\r\n", lane="bulk")
    assert advised(own) == []


def advised(given: Email | Campaign) -> Sequence[str]:
    spec, _ = PREPARATION.message(given) if isinstance(given, Email) else PREPARATION.campaign(given)
    return advice(given, spec)


# ---- a token is one recipient's ------------------------------------------------------------------------------------------


def headers_of(given: Email | Campaign, entry: Entry) -> Mapping[str, str]:
    spec, _ = PREPARATION.message(given) if isinstance(given, Email) else PREPARATION.campaign(given)
    source = Literal(subject="s", html=None, text="t")
    material = MessageBuilder(spec=spec, source=source, files=(), tokens=Tokens([] if isinstance(given, Email) else ["key"]))
    material.check()
    return material.item("m01k8x7t3q9r5v2m0ab-0", 0, entry, 1).headers


@pytest.mark.parametrize(
    "more", [{"cc": "b@example.com"}, {"bcc": "b@example.com"}, {"to": ["a@example.com", "b@example.com"]}], ids=str
)
def test_no_token_goes_on_a_message_to_several(more: dict[str, Any]) -> None:
    for sender, left in (("news", {"List-Unsubscribe": "<mailto:u@e.example>"}), ("click", {}), ("mail", {})):
        email = Email(**{"sender": sender, "to": "a@example.com", "subject": "s", "text": "t", "lane": "bulk", **more})
        assert headers_of(email, Entry(1, "a@example.com")) == left
        (sentence,) = advised(email)
        assert "goes to 2 recipients" in sentence
    email = Email(**{"sender": "same", "to": "a@example.com", "subject": "s", "text": "t", **more})
    assert headers_of(email, Entry(1, "a@example.com")) == {"List-Unsubscribe": "<mailto:u@e.example>"}
    assert advised(email) == []


def test_no_token_goes_on_a_row_with_cc_or_bcc() -> None:
    campaign = Campaign(sender="news", subject="s", text="t")
    alone = headers_of(campaign, Entry(1, "a@example.com"))
    assert alone.keys() == {"List-Unsubscribe", "List-Unsubscribe-Post"}
    for cc, bcc in ((["b@example.com"], []), ([], ["b@example.com"])):
        assert headers_of(campaign, Entry(1, "a@example.com", {}, cc, bcc)) == {"List-Unsubscribe": "<mailto:u@e.example>"}


def test_a_whole_message_to_one_in_its_cc_gets_that_ones_token() -> None:
    email = Email(sender="click", raw=MIME.replace(b"To:", b"Cc:") % b"")
    spec, _ = PREPARATION.message(email)
    tokens = Tokens(["key"])
    item = MessageBuilder(spec=spec, source=Mime(email.raw or b""), files=(), tokens=tokens).item("m0-0", 0, Entry(1, ""), 1)
    token = item.headers["List-Unsubscribe"].removeprefix("<https://e.example/").removesuffix(">")
    assert tokens.read(token).address == "a@example.com"


def test_what_is_no_text_is_no_token_and_is_not_read() -> None:
    never_read: Any = (1 / number for number in [0])
    with pytest.raises(InvalidToken):
        Tokens(["a long random text of 32 characters"]).read(never_read)
