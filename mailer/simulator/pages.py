"""The web pages: what the account looks like and what it accepted. Rendered here, without scripts and outside assets."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..message.mime.words import decode_words
from . import v1
from .control import stats
from .links import Links
from .operations import Simulator
from .shown import File

PER_PAGE = 50  # messages
MAX_IMAGE = 1_000_000  # bytes of an inline image that is shown
# A message's HTML is shown in a sandboxed srcdoc frame, which inherits this: no scripts, no forms, nothing from elsewhere.
SECURITY = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


_CID = re.compile(r"cid:([^\s\"'<>()]+)", re.IGNORECASE)
_IMAGE = re.compile(r"image/[\w.+-]+")


def router(simulator: Simulator) -> APIRouter:
    routes = APIRouter(default_response_class=HTMLResponse)
    templates = Environment(
        loader=PackageLoader(__package__ or "mailer.simulator", "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(time=_time, number=_number, bytes=_bytes, with_images=_with_images, words=decode_words)
    links = Links(simulator.config.unsubscribe_page, simulator.config.unsubscribe_keys)

    def page(name: str, status: int = 200, **values: object) -> HTMLResponse:
        html = templates.get_template(name).render(stats=stats(simulator), **values)
        return HTMLResponse(html, status, SECURITY)

    @routes.get("/")
    async def messages(request: Request, offset: Annotated[int, Query(ge=0)] = 0, to: str = "") -> Response:
        if "Action" in request.query_params:
            return Response(v1.refusal(request.url.query), 400, media_type=v1.CONTENT_TYPE)
        total, found = simulator.mailroom.page(offset, PER_PAGE, to)
        rows = [(message, message.show()) for message in found]
        return page("messages.html", rows=rows, total=total, offset=offset, to=to, per_page=PER_PAGE)

    @routes.get("/messages/{message_id}")
    async def message(message_id: str) -> HTMLResponse:
        found = simulator.mailroom.get(message_id)
        if found is None:
            return page("missing.html", 404, message_id=message_id)
        shown = found.show()
        has_mime = found.accepted.failure is None
        return page("message.html", message=found, shown=shown, has_mime=has_mime, links=links, unsubscribe=links.of(shown))

    return routes


def _with_images(html: str, files: Sequence[File]) -> str:
    """The HTML with its inline images in it, as a browser has no other way to them."""
    images = {
        item.content_id: f"data:{item.content_type.partition(';')[0]};base64,{b64encode(item.content).decode()}"
        for item in files
        if item.content_id and _IMAGE.fullmatch(item.content_type.partition(";")[0]) and item.size <= MAX_IMAGE
    }
    return _CID.sub(lambda match: images.get(unquote(match[1]), match[0]), html) if images else html


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(value: float) -> str:
    """1234567.0 → 1,234,567, and 0.5 as it is."""
    return f"{int(value):,}" if value == int(value) else f"{value:,.2f}"


def _bytes(count: int) -> str:
    """1 → 1 byte, 1234 → 1.2 kB."""
    if count < 1000:
        return f"{count} byte{'' if count == 1 else 's'}"
    return f"{count / 1000:,.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:,.1f} MB"
