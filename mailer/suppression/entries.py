"""What a caller gives of an entry, checked."""

from __future__ import annotations

from datetime import datetime

from ..errors import InvalidAddress, InvalidEmail
from ..message.address import normalise
from ..message.checks import one_line
from .lists import NewEntry, Reason, pack_stream

MAX_SHOWN = 60  # characters of what cannot be used


def new_entry(address: str, reason: Reason | str, stream: str = "", since: datetime | None = None) -> NewEntry:
    """What a caller gives, checked. Raises InvalidEmail."""
    if not isinstance(reason, str):
        raise InvalidEmail(field="reason", why=f"must be one of {', '.join(Reason)}")
    try:
        return NewEntry(checked_address(address), Reason(reason), checked_stream(stream), since)
    except ValueError:
        raise InvalidEmail(field="reason", why=f"{shown(str(reason))} is not one of {', '.join(Reason)}") from None


def checked_address(address: str) -> str:
    """As it is stored, and so as it has to be looked up: with the domain in Punycode. Raises InvalidEmail."""
    if not isinstance(address, str):
        raise InvalidEmail(field="address", why=f"must be a text, not {type(address).__name__}")
    try:
        return normalise(address)
    except InvalidAddress as error:
        raise InvalidEmail(field=shown(address), why=str(error)) from None


def checked_stream(stream: str) -> str:
    """Without blanks around it, as it is read from a file. Raises InvalidEmail."""
    if not isinstance(stream, str):
        raise InvalidEmail(field="stream", why=f"must be a text, not {type(stream).__name__}")
    stream = stream.strip()
    try:
        pack_stream(one_line(stream))
    except ValueError as error:
        raise InvalidEmail(field="stream", why=str(error)) from None
    return stream


def shown(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")
