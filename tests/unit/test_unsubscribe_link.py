"""The unsubscribe link in the body: the recipient's own, the same as in the header, and one sentence where there is none."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from mailer import Campaign, Email, Mailer, Settings
from mailer.compose.message_builder import MessageBuilder, StoredTemplate
from mailer.compose.request import Item, Values
from mailer.errors import ConfigError, InvalidEmail, MailerError, RenderFailed, UnknownSender
from mailer.intake.fitting import check_rows, names_of
from mailer.intake.spec_builder import SpecBuilder
from mailer.ledger import Entry, Spec
from mailer.message.sender import Sender
from mailer.recipients import Recipient
from mailer.templates import Compiled, Content
from mailer.templates.handlebars import compile_template
from mailer.templates.names import variables
from mailer.unsubscribe.tokens import Tokens

URL = "https://e.example/u?t={token}&x=1"
FROM = "news@example.com"
MAILTO = "u@e.example?subject={token}"
SETTINGS = Settings(
    secret_key="key-" * 8,
    senders={
        "news": Sender(from_=FROM, list_unsubscribe={"url": URL, "mailto": MAILTO}),
        "mail": Sender(from_=FROM, list_unsubscribe={"mailto": MAILTO}),
        "plain": Sender(from_=FROM),
    },
)
PREPARATION = SpecBuilder(SETTINGS)
LINK = "<p>Hi {{ name }} <a href='{{ unsubscribe_url }}'>stop</a></p>"
NO_LINK = "the template uses 'unsubscribe_url', and there is no such address; give the sender a list_unsubscribe with a `url`"
TOKENS = Tokens(["key-" * 8])


def campaign(**fields: Any) -> tuple[Spec, list[bytes]]:
    basis = {"sender": "news", "subject": "s", "html": LINK, "text": "{{ unsubscribe_url }}"}
    return PREPARATION.campaign(Campaign(**{**basis, **fields}))


def message(**fields: Any) -> tuple[Spec, list[bytes]]:
    basis = {"sender": "news", "to": "ana@example.org", "subject": "s", "html": LINK, "data": {"name": "Ana"}}
    return PREPARATION.message(Email(**{**basis, **fields}))


def item(spec: Spec, blobs: list[bytes], entry: Entry, tokens: Tokens = TOKENS) -> Item:
    (content,) = (Content.load(blob) for blob in blobs)
    material = MessageBuilder(spec=spec, source=Compiled(content), files=(), tokens=tokens)
    material.check()
    return material.item("m01k8x7t3q9r5v2m0ab-0", 0, entry, 1)


def entry(to: str = "ana@example.org", **data: Any) -> Entry:
    return Entry(1, to, {"name": "Ana", **data})


def parts(made: Item) -> tuple[str, str]:
    rendered = made.content.join()  # type: ignore[union-attr]
    return rendered.html or "", rendered.text or ""


def header_url(made: Item) -> str:
    match = re.match(r"<(https://[^>]+)>", made.headers["List-Unsubscribe"])
    assert match is not None
    return match[1]


def token_in(url: str) -> str:
    match = re.fullmatch(r"https://e\.example/u\?t=([\w.-]+)&x=1", url)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("given", [campaign, message])
def test_the_link_is_the_recipients_own_and_the_one_of_the_header(given: Any) -> None:
    spec, blobs = given()
    made = item(spec, blobs, entry("Ana <ana@example.org>" if given is campaign else "ana@example.org"))
    html, text = parts(made)
    url = header_url(made)
    assert f"href='{url.replace('&', '&amp;')}'" in html
    assert url in text
    assert TOKENS.read(token_in(url)) == ("ana@example.org", "news")


def test_each_row_of_a_campaign_has_its_own_link() -> None:
    spec, blobs = campaign()
    urls = {header_url(item(spec, blobs, entry(f"p{n}@example.org"))) for n in range(5)}
    assert {TOKENS.read(token_in(url)).address for url in urls} == {f"p{n}@example.org" for n in range(5)}


def test_a_message_with_its_own_header_still_has_its_senders_link_in_the_body() -> None:
    made = item(*message(headers={"List-Unsubscribe": "<mailto:stop@example.com>"}), entry())
    assert dict(made.headers) == {}
    assert TOKENS.read(token_in(re.findall(r"href='([^']+)'", parts(made)[0])[0].replace("&amp;", "&"))).stream == "news"


def test_what_a_row_or_campaign_calls_so_itself_comes_first() -> None:
    own = "https://own.example/1"
    assert f"href='{own}'" in parts(item(*campaign(), entry(unsubscribe_url=own)))[0]
    spec, blobs = campaign(sender="plain", data={"unsubscribe_url": own})
    assert f"href='{own}'" in parts(item(spec, blobs, entry()))[0]
    assert (
        f"href='{own}'"
        in parts(item(*message(sender="plain", data={"name": "A", "unsubscribe_url": own}), Entry(1, "a@b.example", {})))[0]
    )


@pytest.mark.parametrize("sender", [{"sender": "plain"}, {"sender": "mail"}, {"sender": None, "from": "news@example.com"}])
def test_one_sentence_where_there_is_no_address(sender: dict[str, Any]) -> None:
    with pytest.raises(InvalidEmail, match=f"^Email: {re.escape(NO_LINK)}"):
        message(**sender)
    spec, blobs = campaign(**sender)
    with pytest.raises(RenderFailed, match=f"^{re.escape(NO_LINK)}"):
        item(spec, blobs, entry())
    needed = names_of(spec, blobs)
    with pytest.raises(InvalidEmail, match=f"^Campaign: {re.escape(NO_LINK)}"):
        check_rows(spec, needed, [Recipient(1, "ana@example.org", {"name": "Ana"})])
    check_rows(spec, needed, [Recipient(1, "ana@example.org", {"name": "Ana", "unsubscribe_url": "https://own.example/1"})])
    check_rows(spec, needed, [])


def test_a_template_that_only_asks_for_the_link_does_without() -> None:
    asks = "<p>x</p>{% if unsubscribe_url %}<a href='{{ unsubscribe_url }}'>stop</a>{% endif %}{{ unsubscribe_url|default('-') }}"
    spec, blobs = message(sender="plain", html=asks)
    assert parts(item(spec, blobs, entry()))[0] == "<p>x</p>-"
    assert not names_of(spec, blobs).required
    made = item(*message(html=asks), entry())
    assert token_in(header_url(made)) in parts(made)[0]


def test_no_link_goes_to_several_recipients() -> None:
    why = "the template uses 'unsubscribe_url', which is one recipient's, and this message goes to several; send each"
    for several in ({"cc": "b@example.com"}, {"bcc": "b@example.com"}, {"to": ["a@example.com", "b@example.com"]}):
        with pytest.raises(InvalidEmail, match=why):
            message(**several)
    spec, blobs = campaign()
    with pytest.raises(RenderFailed, match=f"^{why}"):
        item(spec, blobs, Entry(1, "ana@example.org", {"name": "Ana"}, ["b@example.com"]))
    assert item(spec, blobs, entry()).headers


def test_what_is_not_used_is_not_made() -> None:
    """A campaign whose header has no token and whose template has no link signs nothing, and so needs no key."""
    spec, blobs = campaign(headers={"List-Unsubscribe": "<mailto:stop@example.com>"}, html="<p>{{ name }}</p>", text=None)
    assert item(spec, blobs, entry(), Tokens([])).content
    spec, blobs = campaign(headers={"List-Unsubscribe": "<mailto:stop@example.com>"})
    with pytest.raises(ConfigError, match="MAILER_SECRET_KEY"):
        item(spec, blobs, entry(), Tokens([]))


# ---- SES's own -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["{{amazonSESUnsubscribeUrl}}", "{{ amazonSESUnsubscribeUrl }}", "{{ unsubscribe_url }}"])
def test_sess_own_link_passes_with_a_contact_list(source: str) -> None:
    html = f"<a href='{source}'>stop</a>"
    for given in (campaign, message):
        made = item(*given(html=html, contact_list="readers"), entry())
        assert parts(made)[0] == "<a href='{{amazonSESUnsubscribeUrl}}'>stop</a>"
        assert dict(made.headers) == {}


def test_sess_own_link_without_a_contact_list_is_refused_with_what_to_do() -> None:
    why = "the template uses 'amazonSESUnsubscribeUrl', which SES fills in only for a contact_list; name one, or use"
    html = "<a href='{{amazonSESUnsubscribeUrl}}'>stop</a>"
    with pytest.raises(InvalidEmail, match=why):
        message(html=html)
    spec, blobs = campaign(html=html, text=None)
    with pytest.raises(InvalidEmail, match=why):
        check_rows(spec, names_of(spec, blobs), [Recipient(1, "ana@example.org", {"name": "Ana"})])
    with pytest.raises(RenderFailed, match=why):
        item(spec, blobs, entry())


@pytest.mark.parametrize(
    ("source", "known"), [("{{name}} {{unsubscribe_url}}", True), ("{{#if x}}{{name}}{{/if}}", True), ("", False)]
)
def test_a_template_that_ses_stores_gets_the_link(source: str, known: bool) -> None:
    spec, _ = PREPARATION.campaign(Campaign(sender="news", ses_template="welcome"))
    template = StoredTemplate("welcome", (compile_template(source),) if known else None)
    made = MessageBuilder(spec=spec, source=template, files=(), tokens=TOKENS).item("m0-0", 0, entry(), 1)
    assert isinstance(made.content, Values)
    assert orjson.loads(made.content.json)["unsubscribe_url"] == header_url(made)
    spec, _ = PREPARATION.campaign(Campaign(sender="plain", ses_template="welcome"))
    material = MessageBuilder(spec=spec, source=template, files=(), tokens=TOKENS)
    if "unsubscribe_url" in source:
        with pytest.raises(RenderFailed, match=re.escape(NO_LINK)):
            material.item("m0-0", 0, entry(), 1)
    else:
        assert material.item("m0-0", 0, entry(), 1).content


# ---- from code -------------------------------------------------------------------------------------------------------


async def test_an_application_gets_the_same_link() -> None:
    mailer = Mailer(SETTINGS)
    try:
        email = Email(sender="news", to="Ana <ana@example.org>", subject="s", html=LINK, data={"name": "Ana"})
        made = item(*PREPARATION.message(email), entry())
        assert mailer.unsubscribe_url(email) == header_url(made)
        assert (
            mailer.unsubscribe_url("ana@example.org", "news")
            == mailer.unsubscribe_url("Ana <ana@EXAMPLE.org>", "news")
            == header_url(made)
        )
        assert mailer.unsubscribed(token_in(mailer.unsubscribe_url("bo@example.org", "news"))) == ("bo@example.org", "news")
        wrong: list[tuple[Any, Any, type[MailerError], str]] = [
            ("ana@example.org", None, InvalidEmail, "give the name of a sender profile"),
            ("ana@example.org", "plain", InvalidEmail, "sender plain has no list_unsubscribe with a `url`"),
            ("ana@example.org", "mail", InvalidEmail, "sender mail has no list_unsubscribe with a `url`"),
            ("ana@example.org", "nobody", UnknownSender, "There is no sender 'nobody'"),
            ("nobody", "news", InvalidEmail, "'nobody': "),
            (Email(sender="news", to=["a@b.example", "c@b.example"], subject="s", text="t"), None, InvalidEmail, "has 2"),
        ]
        for wanted, sender, kind, why in wrong:
            with pytest.raises(kind, match=re.escape(why)):
                mailer.unsubscribe_url(wanted, sender)
        with pytest.raises(ConfigError, match="MAILER_SECRET_KEY"):
            SpecBuilder(SETTINGS.model_copy(update={"secret_key": None})).unsubscribe_url("ana@example.org", "news")
    finally:
        await mailer.aclose()


# ---- the variables of a template -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "required", "optional", "conditions"),
    [
        ("{{ a }}{{ b.c }}{{ d|upper }}", "a b d", "", ""),
        ("{% if a %}{{ a }}{% endif %}{{ 'x' if b and not c else d }}", "", "a b c d", "a b c"),
        ("{{ a or 'x' }}{{ b|default('x') }}{% if c is defined and c > 3 %}{% endif %}", "", "a b c", ""),
        ("{% if a > 3 %}{% elif b %}{% endif %}{{ c and 1 }}", "a c", "b", "b"),
        ("{% set a = 1 %}{{ a }}{% for b in c %}{{ b }}{{ loop.index }}{% endfor %}{{ range(3) }}", "c", "", ""),
        ("{% macro f(a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ email }}", "email", "b", ""),
    ],
)
def test_the_variables_of_a_template_are_known(source: str, required: str, optional: str, conditions: str) -> None:
    found = variables(Content.inline(subject="s", html=source, text=None))
    assert (found.required, found.optional, frozenset(map(str, found.tested))) == tuple(
        map(frozenset, map(str.split, (required, optional, conditions)))
    )
