"""Unsubscribe headers (RFC 2369, RFC 8058), with a token that tells who wants to be left alone, and cannot be made up.

The token is signed and not encrypted: it holds the recipient's address and the name of the stream, in base64. It has no
end, because a mail may be read, and its reader had enough of it, years later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from itsdangerous import BadData, URLSafeSerializer

from ..errors import ConfigError, InvalidToken
from ..message.address import bare
from ..message.sender import TOKEN

MAX_VALUE = 870  # characters of a header in a structured call, SES v2 model
_SALT = "mailer.unsubscribe"


def has_token(way: str | None) -> bool:
    return TOKEN in (way or "")


class Unsubscribed(NamedTuple):
    address: str
    stream: str  # the sender profile that it came from


class Tokens:
    """`keys`: the last one signs, all of them verify, so that a key can be replaced."""

    def __init__(self, keys: list[str]) -> None:
        self._serializer = URLSafeSerializer(keys, salt=_SALT, serializer_kwargs={"ensure_ascii": False}) if keys else None

    def make(self, address: str, stream: str) -> str:
        """`address` may have a name with it. Raises ConfigError where there is no key."""
        return str(self._needed().dumps([bare(address), stream]))

    def read(self, token: str) -> Unsubscribed:
        """Raises InvalidToken where it was not signed with one of the keys; ConfigError where there is none."""
        if not isinstance(token, str):
            raise InvalidToken
        try:
            address, stream = self._needed().loads(token)
            return Unsubscribed(str(address), str(stream))
        except (BadData, ValueError, TypeError):
            raise InvalidToken from None

    def _needed(self) -> URLSafeSerializer:
        if self._serializer is None:
            why = "list_unsubscribe needs it to sign its tokens; set it to a long random text, the same for every process"
            raise ConfigError(where="MAILER_SECRET_KEY", why=why)
        return self._serializer


def unsubscribe_headers(url: str | None, mailto: str | None, token: str) -> Mapping[str, str]:
    """The headers of one recipient's message. `url` and `mailto` may have `{token}` in them."""
    if url is None and mailto is None:
        return {}
    web = f"<{url.replace(TOKEN, token)}>" if url else ""
    mail = f"<mailto:{mailto.replace(TOKEN, token)}>" if mailto else ""
    value = ", ".join(filter(None, (web, mail)))
    if len(value) > MAX_VALUE and web:
        value = web  # one click is what mailbox providers ask for
    headers = {"List-Unsubscribe": value}
    if web:
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers
