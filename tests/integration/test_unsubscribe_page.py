"""The page behind an unsubscribe link, over a socket: who posts to it is left alone, and nothing else changes anything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailer import Campaign, ConfigError, Email, Mailer, Sender, Settings
from mailer.ledger import Ledger
from mailer.queue import connect, disconnect
from mailer.simulator import Simulator
from mailer.suppression.lists import NewEntry, OwnEntry, Reason, SuppressionLists
from mailer.unsubscribe import page as page_module
from mailer.unsubscribe.page import MAX_BODY, UNDO_S, UnsubscribePage
from mailer.unsubscribe.tokens import Tokens
from worker import __main__ as worker_main
from worker.http import Check, create_app, serve
from worker.runtime import Runtime

from ..conftest import running_worker
from ..servers import RedisServer

KEYS = ["old", "key"]
SENDERS = {
    "news": Sender(from_="Example News <news@example.com>"),
    "shop": Sender(from_="=?utf-8?b?R3LDtsOfZSAmIDxiPlPDtmhuZTwvYj4=?= <shop@example.com>"),
    "bare": Sender(from_="bare@example.com"),
}
TOKENS = Tokens(KEYS)
ONE_CLICK: dict[str, Any] = {"data": {"List-Unsubscribe": "One-Click"}}
BUTTON: dict[str, Any] = {"data": {"unsubscribe": "1"}}
UNDO: dict[str, Any] = {"data": {"undo": "1"}}


async def nothing() -> Mapping[str, Check]:
    return {}


def link(address: str = "ana@example.org", stream: str = "news") -> str:
    return f"/unsubscribe/{TOKENS.make(address, stream)}"


@asynccontextmanager
async def visiting(ledger: Ledger) -> AsyncIterator[httpx.AsyncClient]:
    routes = UnsubscribePage(SuppressionLists(ledger), KEYS, SENDERS).router()
    app = create_app(alive=dict, ready=nothing, collect=nothing, pages=[routes])  # type: ignore[arg-type]
    async with (
        serve(app, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


@pytest.fixture
async def client(ledger: Ledger) -> AsyncIterator[httpx.AsyncClient]:
    async with visiting(ledger) as client:
        yield client


async def entries(ledger: Ledger, address: str = "ana@example.org") -> set[tuple[Reason, str]]:
    hits = (await SuppressionLists(ledger).check([address], account=None)).hits
    return {(entry.reason, entry.stream) for entry in (hits[0].own if hits else ())}


async def add(ledger: Ledger, reason: Reason, stream: str, *, ago_s: float = 0) -> None:
    since = datetime.now(UTC) - timedelta(seconds=ago_s)
    await SuppressionLists(ledger).add([NewEntry("ana@example.org", reason, stream, since)])


# ---- looking ---------------------------------------------------------------------------------------------------------


async def test_looking_shows_one_button_and_the_senders_name_and_changes_nothing(
    client: httpx.AsyncClient, ledger: Ledger
) -> None:
    for _ in range(3):
        response = await client.get(link())
        head = await client.head(link())
        assert (response.status_code, head.status_code, head.content) == (200, 200, b"")
        assert response.headers["content-security-policy"] == head.headers["content-security-policy"]
    html = response.text
    assert "<h1>Unsubscribe from Example News?</h1>" in html
    assert "ana@example.org will get no more mail" in html
    assert html.count("<button") == html.count('<form method="post">') == 1
    assert await entries(ledger) == set()
    assert await SuppressionLists(ledger).own_entries() == 0


async def test_the_page_needs_nothing_from_elsewhere_and_says_so(client: httpx.AsyncClient) -> None:
    response = await client.get(link())
    headers, html = response.headers, response.text
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "set-cookie" not in headers
    assert not re.search(r"<script|\son\w+=|javascript:|https?://|url\(|@import", html)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        ("shop", "Größe &amp; &lt;b&gt;Söhne&lt;/b&gt;"),
        ("bare", "bare@example.com"),
        ("gone", "this sender"),
        ("", "this sender"),
    ],
)
async def test_names_are_shown_as_text(client: httpx.AsyncClient, stream: str, name: str) -> None:
    assert f"<h1>Unsubscribe from {name}?</h1>" in (await client.get(link("o'brien&co@example.org", stream))).text
    assert "o&#39;brien&amp;co@example.org" in (await client.get(link("o'brien&co@example.org", stream))).text


# ---- posting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        ONE_CLICK,
        {"files": {"List-Unsubscribe": (None, "One-Click")}},  # multipart/form-data, the other form of RFC 8058
        BUTTON,
        {"content": b""},
        {"content": b"List-Unsubscribe=One-Click", "headers": {"content-type": "text/plain"}},
        {"content": b"\xff\xfe=%%%&&&"},
    ],
    ids=["one click", "multipart", "button", "empty", "no content type", "garbage"],
)
async def test_posting_unsubscribes_from_that_sender_only_without_a_redirect(
    client: httpx.AsyncClient, ledger: Ledger, body: dict[str, Any]
) -> None:
    for _ in range(2):  # a provider may repeat it
        response = await client.post(link(), **body)
        assert (response.status_code, response.is_redirect, "set-cookie" in response.headers) == (200, False, False)
        assert "<h1>You are unsubscribed</h1>" in response.text
        assert await entries(ledger) == {(Reason.UNSUBSCRIBE, "news")}
    assert await entries(ledger, "bo@example.org") == set()
    assert await SuppressionLists(ledger).own_entries() == 1


async def test_what_is_written_is_what_the_gate_asks_for(client: httpx.AsyncClient, ledger: Ledger) -> None:
    await client.post(link("Ana@Example.org"), **ONE_CLICK)
    (hit,) = (await SuppressionLists(ledger).check(["ana@example.org"], account=None)).hits.values()
    (entry,) = hit.own
    assert isinstance(entry, OwnEntry)
    assert (entry.address, entry.reason, entry.stream) == ("ana@example.org", Reason.UNSUBSCRIBE, "news")
    assert abs(datetime.now(UTC) - entry.since) < timedelta(minutes=1)


async def test_every_signed_token_is_taken_also_one_of_an_older_key(client: httpx.AsyncClient, ledger: Ledger) -> None:
    await client.post(f"/unsubscribe/{Tokens(['old']).make('ana@example.org', 'news')}", **ONE_CLICK)
    assert await entries(ledger) == {(Reason.UNSUBSCRIBE, "news")}


# ---- taking it back --------------------------------------------------------------------------------------------------


async def test_an_unsubscription_can_be_taken_back_at_once(client: httpx.AsyncClient, ledger: Ledger) -> None:
    done = await client.post(link(), **BUTTON)
    assert 'name="undo"' in done.text
    back = await client.post(link(), **UNDO)
    assert (back.status_code, "<h1>You are subscribed again</h1>" in back.text) == (200, True)
    assert await entries(ledger) == set()
    assert await SuppressionLists(ledger).own_entries() == 0
    assert (await client.post(link(), **UNDO)).status_code == 409, "there is nothing to take back"
    await client.post(link(), **BUTTON)
    assert await entries(ledger) == {(Reason.UNSUBSCRIBE, "news")}


async def test_only_a_young_unsubscription_of_that_sender_is_taken_back(client: httpx.AsyncClient, ledger: Ledger) -> None:
    for reason in Reason:
        await add(ledger, reason, "")
        await add(ledger, reason, "shop")
    for reason in (Reason.BOUNCE, Reason.COMPLAINT, Reason.MANUAL):
        await add(ledger, reason, "news")
    await add(ledger, Reason.UNSUBSCRIBE, "news", ago_s=UNDO_S + 60)
    before = await entries(ledger)
    assert 'name="undo"' not in (await client.post(link(), **BUTTON)).text, "no button that would not work"
    response = await client.post(link(), **UNDO)
    assert (response.status_code, "please write to Example News" in response.text) == (409, True)
    assert await entries(ledger) == before
    assert await SuppressionLists(ledger).own_entries() == len(before)
    await SuppressionLists(ledger).remove("ana@example.org", "news")
    await add(ledger, Reason.COMPLAINT, "news")
    await add(ledger, Reason.UNSUBSCRIBE, "news", ago_s=UNDO_S - 60)
    assert (await client.post(link(), **UNDO)).status_code == 200
    assert await entries(ledger) == before - {(reason, "news") for reason in Reason} | {(Reason.COMPLAINT, "news")}


async def test_undo_has_to_be_asked_for_by_its_own_button(client: httpx.AsyncClient, ledger: Ledger) -> None:
    await client.post(link(), **BUTTON)
    for body in (
        {"content": b"x=undo"},
        {"params": {"undo": "1"}, "data": {"unsubscribe": "1"}},
        {"files": {"undo": (None, "1")}},
    ):
        await client.post(link(), **body)
        assert await entries(ledger) == {(Reason.UNSUBSCRIBE, "news")}


# ---- what is refused -------------------------------------------------------------------------------------------------


def forged() -> list[str]:
    token = TOKENS.make("ana@example.org", "news")
    other = Tokens(["other"])
    return [
        *("x", ".", "..x", "a.b.c", "%00", "%ff", "\u00e9", "<script>", "'", "x" * 5000, "." * 1999, "A" * 30000),
        *(token[:-1], token + "x", token[1:], token.swapcase(), token.replace(".", "", 1), token.partition(".")[0]),
        *(other.make("ana@example.org", "news"), TOKENS.make("nobody", "news"), TOKENS.make("", "")),
        *(TOKENS.make("a@b.example", "s" * 500), "", "a/b", f"{token}/", f"{token}/x"),
    ]  # fmt: skip


async def test_all_that_is_no_token_gets_the_same_clear_answer(client: httpx.AsyncClient, ledger: Ledger) -> None:
    answers = set()
    for token in forged():
        for method in ("GET", "POST"):
            response = await client.request(method, f"/unsubscribe/{token}")
            answers.add((response.status_code, response.text))
    assert len(answers) == 1, "nobody can tell from the answer what was wrong"
    ((status, text),) = answers
    assert (status, "<h1>This link is not valid</h1>" in text, "<button" in text) == (404, True, False)
    assert await SuppressionLists(ledger).own_entries() == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_change_nothing(client: httpx.AsyncClient, ledger: Ledger, method: str) -> None:
    assert (await client.request(method, link())).status_code == 405
    assert await SuppressionLists(ledger).own_entries() == 0


async def test_a_body_has_a_bound(client: httpx.AsyncClient, ledger: Ledger) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000

    for content in (b"x" * (MAX_BODY + 1), endless()):
        assert (await client.post(link(), content=content)).status_code == 413
    assert await SuppressionLists(ledger).own_entries() == 0
    assert (await client.post(link(), content=b"x" * MAX_BODY)).status_code == 200


async def test_a_body_that_never_ends_is_given_up(
    client: httpx.AsyncClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "BODY_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(f"POST {link()} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nList-".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert await SuppressionLists(ledger).own_entries() == 0


async def test_without_redis_it_says_so_and_a_provider_comes_again(own_server: RedisServer, namespace: str) -> None:
    redis = connect(Settings(redis_url=own_server.url))
    ledger = Ledger(redis, namespace)
    async with visiting(ledger) as client:
        assert (await client.post(link(), **ONE_CLICK)).status_code == 200
        own_server.stop()
        assert (await client.get(link())).status_code == 200, "to look at it needs no Redis"
        for body, field in ((ONE_CLICK, "unsubscribe"), (UNDO, "undo")):
            response = await client.post(link("bo@example.org"), **body)
            assert (response.status_code, response.headers["retry-after"]) == (503, "60")
            assert "<h1>This could not be saved just now</h1>" in response.text
            assert f'name="{field}"' in response.text
        own_server.start()
        assert (await client.post(link("bo@example.org"), **ONE_CLICK)).status_code == 200
    await disconnect(redis)


async def test_a_redis_that_hangs_is_given_up(client: httpx.AsyncClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(page_module, "REDIS_TIMEOUT_S", 0.1)
    monkeypatch.setattr(type(SuppressionLists(ledger)), "add", hang)
    assert (await client.post(link(), **ONE_CLICK)).status_code == 503


# ---- in a worker -----------------------------------------------------------------------------------------------------


async def test_a_worker_with_the_page_and_no_key_ends_with_one_sentence(settings: Settings, ses: Simulator) -> None:
    with pytest.raises(
        ConfigError, match=r"^MAILER_UNSUBSCRIBE_PAGE: it needs MAILER_SECRET_KEY, which signs the links that lead"
    ):
        await worker_main.serve(settings.model_copy(update={"unsubscribe_page": True}))


async def test_from_the_mail_to_the_next_campaign(settings: Settings, ses: Simulator, templates: Path) -> None:
    """The link of a mail, the same in body and header, leads to the page; whoever posts gets no more of that sender."""
    (templates / "letter" / "body.html").write_text('<p>Dear {{ name }} <a href="{{ unsubscribe_url }}">stop</a></p>')
    (templates / "letter" / "body.txt").write_text("Dear {{ name }}\nStop: {{ unsubscribe_url }}\n")
    ways = {"url": "https://mail.example.com/unsubscribe/{token}"}
    senders = {name: Sender(from_=f"{name} <{name}@example.com>", list_unsubscribe=ways) for name in ("news", "shop")}
    settings = settings.model_copy(update={"secret_key": None, "senders": senders, "unsubscribe_page": True})
    settings = Settings(**{**settings.model_dump(exclude={"senders"}), "senders": senders, "secret_key": "k" * 40})
    off = settings.model_copy(update={"unsubscribe_page": False})
    people = [{"email": f"{name.lower()}@example.org", "name": name} for name in ("Ana", "Bo", "Cy")]
    async with running_worker(settings) as runtime, Mailer(settings) as mailer:
        assert worker_main._pages(await _like(runtime, off)) == []

        async def send(sender: str, **more: Any) -> dict[str, int]:
            id = await mailer.start_campaign(Campaign(sender=sender, template="letter"), people)
            return dict((await mailer.wait(id, every_s=0.02)).counts)

        assert await send("news") == {"sent": 3}
        single = await mailer.send(Email(sender="news", to="di@example.org", template="letter", data={"name": "Di"}))
        while (await mailer.status(single)).state != "sent":
            await asyncio.sleep(0.02)
        links = {}
        for message in ses.mailroom:
            shown = message.json()
            (url,) = re.findall(r'href="([^"]+)"', shown["html"])
            assert f"Stop: {url}" in shown["text"]
            assert shown["headers"]["List-Unsubscribe"] == f"<{url}>"
            links[shown["to"][0]] = url
            assert mailer.unsubscribe_url(shown["to"][0], "news") == url
        assert len(set(links.values())) == 4
        app = create_app(alive=dict, ready=nothing, collect=nothing, pages=worker_main._pages(runtime))  # type: ignore[arg-type]
        async with serve(app, "127.0.0.1", 0) as port, httpx.AsyncClient(trust_env=False) as client:
            url = links["bo@example.org"].replace("https://mail.example.com", f"http://127.0.0.1:{port}")
            assert "Unsubscribe from news?" in (await client.get(url)).text
            assert await send("news") == {"sent": 3}, "nobody has asked for it yet"
            assert (await client.post(url, **ONE_CLICK)).status_code == 200
        assert await send("news") == {"sent": 2, "suppressed": 1}
        assert await send("shop") == {"sent": 3}


async def _like(runtime: Runtime, settings: Settings) -> Any:
    class Other:
        pass

    other: Any = Other()
    other.settings, other.ledger = settings, runtime.ledger
    return other
