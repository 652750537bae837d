"""The page behind an unsubscribe link, `/unsubscribe/{token}`.

To look at it changes nothing: link scanners open every address of a mail. To post to it unsubscribes, whether its button did
or a mailbox provider's one click (RFC 8058), which sends no cookies and follows no redirect. The token is all that it asks
for. A young unsubscription can be taken back by the same token; an older one, or one for another reason, cannot.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parseaddr
from functools import cache
from importlib.resources import files
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect

from ...errors import ConfigError, MailerError
from ...message.sender import Sender
from ...suppression.entries import new_entry
from ...suppression.lists import Reason, SuppressionLists
from ..tokens import Tokens, Unsubscribed

# What is cut off, or has a slash too many, gets the page, too.
_PATHS = ("/unsubscribe", "/unsubscribe/{token:path}")
MAX_TOKEN = 2_000  # characters; the longest address and sender name make 600
MAX_BODY = 8_192  # bytes; what is posted has some thirty
BODY_TIMEOUT_S = 5.0
REDIS_TIMEOUT_S = 5.0
RETRY_AFTER_S = 60
UNDO_S = 3_600  # after which a forwarded mail does not subscribe its reader again

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Button:
    text: str
    field: str  # what it posts
    kind: str = "main"
    above: str = ""


UNSUBSCRIBE = Button("Unsubscribe", "unsubscribe")
AGAIN = Button("Try again", "unsubscribe")
UNDO = Button("Subscribe again", "undo", "other", "Was this a mistake?")


class UnsubscribePage:
    """Raises ConfigError where there is no key: every link would be one that is not valid."""

    def __init__(self, suppressed: SuppressionLists, keys: list[str], senders: Mapping[str, Sender]) -> None:
        if not keys:
            why = "it needs MAILER_SECRET_KEY, which signs the links that lead to the page"
            raise ConfigError(where="MAILER_UNSUBSCRIBE_PAGE", why=why)
        self._suppressed = suppressed
        self._tokens = Tokens(keys)
        self._senders = senders

    def router(self) -> APIRouter:
        routes = APIRouter(default_response_class=HTMLResponse)

        async def look(request: Request) -> Response:
            who = self._who(request)
            return _no_link() if who is None else self._asking(who)

        async def post(request: Request) -> Response:
            who = self._who(request)
            if who is None:
                return _no_link()
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    body = await _body(request)
            except (TimeoutError, ClientDisconnect):
                return _page("This request did not arrive whole", ["Nothing has changed. Please try again."], AGAIN, status=408)
            if body is None:
                return _page(
                    "This request is too large", ["Nothing has changed. Please use the button."], UNSUBSCRIBE, status=413
                )
            return await self._saved(who, undo="undo" in parse_qs(body.decode(errors="replace")))

        for path in _PATHS:
            routes.add_api_route(path, look, methods=["GET", "HEAD"])
            routes.add_api_route(path, post, methods=["POST"])
        return routes

    def _who(self, request: Request) -> Unsubscribed | None:
        """None where the token is not one of ours, in whatever way."""
        token = str(request.path_params.get("token", ""))
        if len(token) > MAX_TOKEN:
            return None
        try:
            who = self._tokens.read(token)
            new_entry(who.address, Reason.UNSUBSCRIBE, who.stream)
        except MailerError:
            return None
        return who

    async def _saved(self, who: Unsubscribed, *, undo: bool) -> Response:
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                return await (self._undone(who) if undo else self._unsubscribed(who))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("an unsubscription could not be saved, and was told so", error=type(error).__name__)
            button = UNDO if undo else AGAIN
            return _page("This could not be saved just now", ["Please try again in a minute."], button, status=503)

    async def _unsubscribed(self, who: Unsubscribed) -> Response:
        entry = new_entry(who.address, Reason.UNSUBSCRIBE, who.stream)
        (new,) = await self._suppressed.add([entry])
        if new:
            log.info("somebody unsubscribed", stream=who.stream)
        young = await self._suppressed.is_young(entry, UNDO_S)
        sentences = [
            f"{who.address} gets no more mail from {self._name(who)}.",
            "A message that is on its way already may still arrive.",
        ]
        return _page("You are unsubscribed", sentences, UNDO if young else None)

    async def _undone(self, who: Unsubscribed) -> Response:
        if await self._suppressed.resubscribe(who.address, who.stream, within_s=UNDO_S):
            log.info("somebody took an unsubscription back", stream=who.stream)
            return _page("You are subscribed again", [f"{who.address} gets mail from {self._name(who)} again."], UNSUBSCRIBE)
        sentences = [
            "There is nothing to take back, or it is too long ago.",
            f"To get mail again, please write to {self._name(who)}.",
        ]
        return _page("This was not changed", sentences, status=409)

    def _asking(self, who: Unsubscribed) -> Response:
        return _page(
            f"Unsubscribe from {self._name(who)}?", [f"{who.address} will get no more mail from this sender."], UNSUBSCRIBE
        )

    def _name(self, who: Unsubscribed) -> str:
        """What the recipient knows the sender by. Its profile may be gone by now."""
        sender = self._senders.get(who.stream)
        if sender is None:
            return "this sender"
        name, address = parseaddr(sender.from_)
        try:
            return str(make_header(decode_header(name))).strip() or address
        except (HeaderParseError, LookupError, UnicodeError, ValueError):
            return address


def _no_link() -> Response:
    sentences = ["It is cut off, or was changed on its way. Open it from the mail again, or copy the whole of it."]
    return _page("This link is not valid", sentences, status=404)


async def _body(request: Request) -> bytes | None:
    """None where it is too large; no more than that is kept."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


# ---- HTML ------------------------------------------------------------------------------------------------------------


def _page(title: str, sentences: list[str], button: Button | None = None, *, status: int = 200) -> Response:
    template, style, headers = _assets()
    html = template.render(title=title, sentences=sentences, button=button, style=style)
    if status == 503:
        headers = {**headers, "retry-after": str(RETRY_AFTER_S)}
    return HTMLResponse(html, status, headers)


@cache
def _assets() -> tuple[Template, Markup, dict[str, str]]:
    """The page, its style, and the headers: nothing from elsewhere, no script, no frame, and not a word to a search engine."""
    folder = files(__name__)
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = [
        *("default-src 'none'", f"style-src 'sha256-{digest}'", "img-src data:", "form-action 'self'", "base-uri 'none'"),
        "frame-ancestors 'none'",
    ]
    headers = {
        "content-security-policy": "; ".join(policy),
        "referrer-policy": "no-referrer",
        "x-robots-tag": "noindex, nofollow",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = env.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    return template, Markup(style), headers  # noqa: S704  # a file of ours
