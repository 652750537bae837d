"""No text has the user or password of a URL in it: of a proxy, or of an endpoint."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable

import aiohttp
import pytest
from botocore import exceptions as boto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.masking import masked, proxy_trouble
from mailer.ses.refusals import classify, classify_question

FIRST, SECOND = "hunTERtwo", "swordFISH"  # halves of a password: neither may be seen
SPECIAL = st.text(st.sampled_from("/?#@:%&=+!$'\"()*,;[]\\^`{}|~<> -._"), min_size=0, max_size=4)
PASSWORDS = st.builds(lambda special, more: f"{FIRST}{special}{SECOND}{more}", SPECIAL, SPECIAL)
SCHEMES = st.sampled_from(["http://", "https://", "socks5://", "HTTP://", ""])
HOSTS = st.sampled_from(
    ["proxy.example:3128", "127.0.0.1:1", "[::1]:8080", "proxy.example", "proxy.example:port", "proxy:3128/", ""]
)
NAMES = st.sampled_from(["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "all_proxy", "AWS_ENDPOINT_URL_SESV2", "AWS_ENDPOINT_URL"])
QUOTES: list[Callable[[str], str]] = [
    lambda url: f"Cannot connect to proxy {url}",
    lambda url: f'Failed to connect to proxy URL: "{url}"',
    lambda url: f"Invalid endpoint: {url}; it must be a URL",
    lambda url: f"<InvalidURL {url}>",
    lambda url: f"{{'proxy': '{url}', 'error': None}}",
    # What a parser stumbles over: the part of the login before or behind the character that it takes for the end.
    lambda url: f"Port could not be cast to integer value as {url.partition('://')[2].partition('/')[0].rpartition(':')[2]!r}",
    lambda url: f"Cannot connect to host {url.partition('://')[2].partition('/')[0]} ssl:default [Name or service not known]",
    lambda url: f"invalid path {url.partition('://')[2].partition('/')[2]}",
]


@given(scheme=SCHEMES, password=PASSWORDS, encoded=st.booleans(), host=HOSTS, name=NAMES, quote=st.sampled_from(QUOTES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
def test_no_form_of_a_url_shows_its_password(
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    password: str,
    encoded: bool,
    host: str,
    name: str,
    quote: Callable[[str], str],
) -> None:
    url = f"{scheme}me:{urllib.parse.quote(password, safe='') if encoded else password}@{host}"
    with monkeypatch.context() as patch:
        patch.setenv(name, url)
        texts = [
            masked(quote(url)),
            masked(quote(urllib.parse.unquote(url))),
            proxy_trouble(),
            proxy_trouble("https://email.eu-west-1.amazonaws.com"),
            classify_question(boto.HTTPClientError(error=aiohttp.InvalidURL(url))).reason,
            classify(boto.HTTPClientError(error=aiohttp.InvalidURL(url, "not a URL"))).reason,
            classify(ValueError(quote(url))).reason,
            classify_question(boto.ProxyConnectionError(proxy_url=url, error=OSError(quote(url)))).reason,
        ]
    for text in texts:
        assert FIRST not in text
        assert SECOND not in text


@given(password=PASSWORDS, quote=st.sampled_from(QUOTES[:5]))
def test_a_url_of_the_settings_is_masked_where_it_is_quoted_whole(password: str, quote: Callable[[str], str]) -> None:
    url = f"https://me:{''.join(password.split())}@ses.example"
    assert FIRST not in masked(quote(url))


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("http://me:pass/word@proxy:3128", "HTTPS_PROXY cannot be read: there is one of / ? # in its user or password"),
        ("http://me:pass#word@proxy:3128", "HTTPS_PROXY cannot be read: there is one of / ? # in its user or password"),
        ("http://m?e:password@proxy:3128", "HTTPS_PROXY cannot be read: there is one of / ? # in its user or password"),
        ("me:pass/word@proxy:3128", "HTTPS_PROXY cannot be read: there is one of / ? # in its user or password"),
        ("http://me:pass word@proxy:3128", "HTTPS_PROXY cannot be read: there is white space in it"),
        ("http://proxy:port", "HTTPS_PROXY cannot be read: its port is no number"),
        ("http://me:pass@word@proxy:3128", ""),
        ("http://me:pass%word@proxy:3128", ""),
        ("http://me:pass%2Fword@proxy:3128/", ""),
        ("http://proxy", ""),
        ("proxy:3128", ""),
        ("http://[::1]:3128", ""),
        ("http://[::1]", ""),
    ],
)
def test_a_proxy_that_is_read_otherwise_than_it_is_meant_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, proxy: str, why: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    url = "https://email.eu-west-1.amazonaws.com"
    assert proxy_trouble(url).startswith(why)
    assert bool(proxy_trouble(url)) == bool(why)
    assert proxy_trouble("http://127.0.0.1:9100") == ""
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    assert proxy_trouble(url) == ""


def test_what_has_no_login_in_it_stays_as_it_is() -> None:
    for text in (
        "http://127.0.0.1:9100 answered",
        "ana@example.org is not verified",
        "arn:aws:ses:eu-west-1:1:identity/a@b.example",
    ):
        assert masked(text) == text


def test_a_quote_in_a_password_may_be_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    password = f"{FIRST}'\"{SECOND}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{password}@proxy.example")
    text = masked(f"Port could not be cast to integer value as {password + '@proxy.example'!r}")
    assert FIRST not in text
    assert SECOND not in text


def test_a_password_may_look_like_the_end_of_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"me:{FIRST}{SECOND}://@proxy.example:3128"  # without a scheme of its own
    monkeypatch.setenv("HTTPS_PROXY", url)
    assert FIRST not in masked(f"Cannot connect to proxy {url}")
