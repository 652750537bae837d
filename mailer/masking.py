"""User and password of a URL, out of every text that a person or a log may see.

A library quotes the URL that it was given, or the part that it stumbled over: a password with `/` in it ends the host, and what
stands before it is taken for a port. So what stands in this process's own URLs is looked for as it is, whole and in parts; and
whatever looks like a login in front of a host goes, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass

MASK = "…"
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_ENDPOINTS = ("", "_SESV2", "_SQS", "_S3", "_STS")
_NAMES = (*_PROXIES, *map(str.lower, _PROXIES), *(f"AWS_ENDPOINT_URL{name}" for name in _ENDPOINTS))
_LEAST = 4  # characters of a part that is looked for: a shorter one would tear holes into every text
_SCHEME = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://")  # else the "://" is of the password
_LOGIN = re.compile(r"(?<=://)[^\s]*@")
_PARTS = re.compile(r"[/?#@:%\\\s'\"]+")  # a quote in it may be escaped where it is quoted
ENCODE = "write them in percent-encoding (/ is %2F, ? is %3F, # is %23, @ is %40, % is %25)"

_told = set[str]()  # URLs that came from elsewhere than the environment


def keep_secret(url: str | None) -> None:
    """A URL of the settings; those of the environment are known."""
    if url is not None and "@" in url:
        _told.add(url)


def masked(text: str) -> str:
    """The text without users and passwords of URLs."""
    for secret in _secrets(_known()):
        if secret in text:
            text = text.replace(secret, MASK)
    return _LOGIN.sub(f"{MASK}@", text)


def proxy_trouble(url: str = "") -> str:
    """Why the proxy by which this URL is reached cannot be used as it is written: a sentence, in which nothing of it is quoted;
    "" where it can. Without a URL: any proxy."""
    scheme, host = urlsplit(url).scheme if url else "", urlsplit(url).hostname or "" if url else ""
    if host and proxy_bypass(host):
        return ""
    for name in (f"{scheme}_proxy",) if scheme else ("https_proxy", "http_proxy"):
        for spelled in (name, name.upper()):
            if value := os.environ.get(spelled, ""):
                if why := _misread(value):
                    return f"{spelled} {why}"
                break
    return ""


def _misread(proxy: str) -> str:
    """Why a proxy's URL is read otherwise than it is meant."""
    rest = proxy.partition("://")[2] or proxy
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :]:
        return f"cannot be read: there is one of / ? # in its user or password; {ENCODE}"
    if any(character.isspace() for character in rest.strip()):
        return f"cannot be read: there is white space in it; {ENCODE}"
    host, _, port = authority.rpartition("@")[2].rpartition(":")
    if host and not host.endswith("]") and "]" not in port and not (port.isascii() and port.isdigit()):
        return "cannot be read: its port is no number; write http://user:password@host:port"
    return ""


def _known() -> tuple[str, ...]:
    """Every URL with a login that this process was given."""
    return (*(url for name in _NAMES if "@" in (url := os.environ.get(name, ""))), *sorted(_told))


@lru_cache(maxsize=64)
def _secrets(urls: tuple[str, ...]) -> tuple[str, ...]:
    """What must not be shown, the longest first."""
    found = {one for url in urls for one in _of(url)}
    return tuple(sorted(found, key=len, reverse=True))


def _of(url: str) -> Iterator[str]:
    login = _SCHEME.sub("", url, count=1).rpartition("@")[0]
    password = login.partition(":")[2]
    for secret in (login, unquote(login), password, unquote(password), *_PARTS.split(password), *_PARTS.split(unquote(password))):
        if len(secret) >= _LEAST:
            yield secret
