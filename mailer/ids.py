"""Ids that say where a thing lives.

    campaign   c01k8x7t3q9r5v2m0ab            message   m01k8x7t3q9r5v2m0ab
    chunk      <campaign or message>-<n>      n from 0
    recipient  <chunk>-<position>             position in the chunk, from 0
    attempt    <recipient>-<attempt>          attempt from 1; the value of the tag `mailer_id` on every message

Campaign and message ids sort by the time they were made. All of them fit SES's rule for tags, `[A-Za-z0-9_-]`.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import NewType

from .errors import NotFound

# Both are plain text; a type checker knows by them what is waited for.
CampaignId = NewType("CampaignId", str)
MessageId = NewType("MessageId", str)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing in it can be mistaken for something else
_TIME_CHARS = 9  # 45 bits of milliseconds: until the year 3084
_RANDOM_CHARS = 9  # 45 random bits for each millisecond
_ATTEMPT = re.compile(r"([cm][0-9a-z]+)-(0|[1-9][0-9]*)-(0|[1-9][0-9]*)-([1-9][0-9]*)")


def _base32(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(length)))


def _new(prefix: str) -> str:
    milliseconds, random = time.time_ns() // 1_000_000, secrets.randbits(5 * _RANDOM_CHARS)
    return prefix + _base32(milliseconds, _TIME_CHARS) + _base32(random, _RANDOM_CHARS)


def new_campaign_id() -> CampaignId:
    return CampaignId(_new("c"))


def new_message_id() -> MessageId:
    return MessageId(_new("m"))


def known_form(id: str) -> str:
    """The id; raises NotFound for what can be none, as a number or half a character can."""
    if not isinstance(id, str) or not id.isascii() or not id.isprintable():
        raise NotFound(id=id)
    return id


def is_message(container: str) -> bool:
    return container.startswith("m")


def is_container(text: str) -> bool:
    """Whether it has the form of a campaign's or message's id."""
    return re.fullmatch(f"[cm][{_ALPHABET}]{{{_TIME_CHARS + _RANDOM_CHARS}}}", text) is not None


def chunk_id(container: str, number: int) -> str:
    return f"{container}-{number}"


def container_of(chunk: str) -> str:
    return chunk.partition("-")[0]


def chunk_number(chunk: str) -> int:
    return int(chunk.partition("-")[2])


MAX_CHUNK = (1 << 27) - 1  # the tokens of a campaign's archives are one string of Redis: 512 MB, four bytes a chunk
_DIGITS = len(str(MAX_CHUNK))
MAX_NUMBER = 0xFFFF  # a position, and the number of an attempt: two bytes each in the ledger


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send to one recipient: what the tag `mailer_id` carries through SES and back in its events."""

    container: str
    chunk: int
    position: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.container}-{self.chunk}-{self.position}-{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> Attempt:
        """Raises ValueError where the text is not one of ours, also where a number is larger than the ledger has them."""
        match = _ATTEMPT.fullmatch(text)
        if match is None or max(map(len, match.groups()[1:])) > _DIGITS:
            raise ValueError(f"not an attempt id: {text!r}")
        found = cls(match[1], int(match[2]), int(match[3]), int(match[4]))
        if found.chunk > MAX_CHUNK or found.position > MAX_NUMBER or found.attempt > MAX_NUMBER:
            raise ValueError(f"not an attempt id: {text!r}")
        return found


def place_of(recipient: str) -> tuple[str, int] | None:
    """The chunk and the position that a recipient's id names; None where it does not have the form of one."""
    try:
        found = Attempt.parse(f"{recipient}-1")
    except ValueError:
        return None
    return chunk_id(found.container, found.chunk), found.position
