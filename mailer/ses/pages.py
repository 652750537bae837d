"""Answers that are not SES's: the page of a firewall, a proxy, a load balancer or a captive portal, or of another service.

SES names every answer by a header, `x-amzn-RequestId`, and speaks JSON. A page says nothing of the message but this: one with
a status below 500 was not sent on. Above, the request may have been, and only its answer got lost.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

SIGNS = ("x-amzn-requestid", "x-amzn-errortype", "x-amz-request-id")  # headers of AWS's own answers
MAX_BODY = 20_000  # bytes of a page that are looked at
MAX_TITLE = 80  # characters
MAX_SAID = 200
# Statuses that say of themselves that nothing was sent on: RFC 9110, RFC 6585 (511), and Cloudflare's own.
_KEPT = frozenset((501, 505, 511, 521, 523, 525, 526))
# What is said where no server was found to send a request on to. A 503 alone does not say that: Envoy, for one, answers so
# also where the server was lost after it had the request.
_NO_SERVER = re.compile(
    rb"no server is available|no healthy upstream|connection (failure|refused)|err_(connect_fail|dns_fail|cannot_forward)"
    rb"|could not be (resolved|reached)|unable to (connect|resolve|forward)|host not found",
    re.IGNORECASE,
)
# Whose a page is, by what stands in it or in its headers. The first that is found; those that stand before others come first.
_MAKERS: Mapping[str, bytes] = {
    "Zscaler": rb"\bzscaler\b",
    "Fortinet": rb"forti(guard|gate|net|web)",
    "Palo Alto Networks": rb"palo ?alto|pan-?os",
    "Check Point": rb"check ?point",
    "Sophos": rb"\bsophos\b",
    "Cisco": rb"\b(cisco|opendns)\b",
    "Symantec": rb"blue ?coat|symantec",
    "McAfee": rb"mcafee|skyhigh",
    "Netskope": rb"\bnetskope\b",
    "Barracuda": rb"\bbarracuda\b",
    "Imperva": rb"imperva|incapsula",
    "Akamai": rb"\bakamai\b",
    "Cloudflare": rb"\bcloudflare\b",
    "CloudFront": rb"\bcloudfront\b",
    "Squid": rb"\bsquid\b",
    "Envoy": rb"envoy|upstream connect error",
    "Varnish": rb"\bvarnish\b",
    "an AWS load balancer": rb"awselb",
    "HAProxy": rb"haproxy|no server is available to handle this request",
    "Traefik": rb"\btraefik\b",
    "nginx": rb"nginx|openresty",
    "Apache": rb"\bapache\b",
    "IIS": rb"microsoft-iis",
    "moto": rb"werkzeug",
}
_TITLE = re.compile(r"<(title|h1)[^>]{0,200}>(.{0,500}?)</\1>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,500}>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer that is not SES's."""

    status: int
    looks: str  # what it looks like, for a human: whose it is, its title; may be empty
    sent_on: bool  # the request may have reached SES all the same
    operation: str = ""
    endpoint: str = ""

    def __str__(self) -> str:
        looks = f": {self.looks}" if self.looks else ""
        said = f"{self.endpoint or 'the endpoint'} answered {self.operation} with status {self.status}"
        return f"{said}, and that is no answer of SES{looks}"


class NotSes(Exception):
    """What answers at the endpoint is not SES."""

    def __init__(self, page: Page) -> None:
        super().__init__(str(page))
        self.page = page


def foreign(status: int, headers: Mapping[str, str], body: bytes, *, question: bool = False) -> Page | None:
    """The page that this is; None where it may be an answer of SES. Header names are looked up in lower case.

    An error that has a text and no code is that of a stand-in for SES. `question`: of a call that only asks, which it lacks then.
    """
    if any(sign in headers for sign in SIGNS):
        return None
    text = body[:MAX_BODY].strip()
    is_html = "html" in headers.get("content-type", "") or text.startswith(b"<")
    if status < 300 and not is_html:
        if not text or isinstance(_json(body), dict):  # what is needed of it is looked for afterwards
            return None
        return Page(status=status, looks="it is not JSON, or no object", sent_on=True)
    found = _json(body) if status >= 300 else None
    if isinstance(found, dict):
        message = found.get("message") or found.get("Message")
        if any(found.get(name) for name in ("__type", "code", "Code")) or (message and not question):
            return None
        if message:
            return Page(status=status, looks=f"it says '{' '.join(str(message).split())[:MAX_SAID]}'", sent_on=False)
    return page(status, headers, text)


def page(status: int, headers: Mapping[str, str], text: bytes) -> Page:
    known = b"\n".join((*(f"{name}: {value}".encode() for name, value in headers.items()), text))[:MAX_BODY]
    sent_on = status >= 500 and status not in _KEPT and _NO_SERVER.search(known) is None
    return Page(status=status, looks=_looks(headers, known, text), sent_on=sent_on)


def _json(body: bytes) -> Any:
    """None where it is none."""
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _looks(headers: Mapping[str, str], known: bytes, text: bytes) -> str:
    maker = next((name for name, sign in _MAKERS.items() if re.search(sign, known, re.IGNORECASE)), "")
    found = _TITLE.search(text.decode(errors="replace"))
    title = " ".join(_TAG.sub(" ", html.unescape(found[2])).split())[:MAX_TITLE] if found else ""
    whose = f"it looks like one of {maker}" if maker else ""
    if not maker and (server := headers.get("server") or headers.get("via")):
        whose = f"its server calls itself '{server[:MAX_TITLE]}'"
    return ", ".join(filter(None, (whose, f"its title is '{title}'" if title else "")))
