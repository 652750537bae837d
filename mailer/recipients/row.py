"""One row: a Recipient that can be sent to, or a BadRow that says why not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ..address import normalise
from ..checks import MAX_RECIPIENTS, Tags, explain_validation
from ..data import dumps
from ..email import Outcome
from ..errors import InvalidAddress

MAX_ROW_BYTES: Final = 256 * 1024  # of one row in its source: SES takes 262,144 characters of TemplateData
MAX_SHOWN: Final = 320  # characters of what a bad row shows of itself: SES's own limit for an address
MAX_REASON: Final = 500  # characters
TOO_LONG: Final = f"is longer than the {MAX_ROW_BYTES:,} bytes that a row may have"

RESERVED: Final = frozenset(("email", "cc", "bcc", "tags"))  # what is not a template variable

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TAGS: TypeAdapter[dict[str, str]] = TypeAdapter(Tags)
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Recipient:
    """A row that can be sent to."""

    row: int  # place in the source, from 1; blank lines do not count
    address: str  # normalised: ASCII, domain in lower case; no two of a source are the same person
    data: dict[str, Any]  # template variables; orjson can write every value
    cc: tuple[str, ...] = ()  # normalised; with bcc and the address itself at most 50
    bcc: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)  # names and values of A-Z a-z 0-9 _ -


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not sent to, and why. It costs nobody else anything."""

    row: int  # place in the source, from 1
    to: str  # what the source has for an address, else how the row begins; at most 320 characters, without control characters
    outcome: Outcome  # REJECTED or DUPLICATE
    reason: str  # half a sentence; for files it begins with `line N: `, the physical line on which the row starts


Row = Recipient | BadRow


class Refused(Exception):
    """Why this row cannot be used, as half a sentence; it becomes the reason of a BadRow."""


def printable(text: str, limit: int = MAX_SHOWN) -> str:
    """`text` fit for a report and a terminal: cut, and control characters replaced."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:limit])


def rejected(row: int, to: str, where: str, why: str) -> BadRow:
    """`where` is `line N: ` for files, and empty for what has no lines."""
    return BadRow(row, printable(to), Outcome.REJECTED, printable(where + why, MAX_REASON))


def mapping_row(row: int, item: Mapping[str, Any], where: str) -> Row:
    """`{"email": …, "data": {…}}`, or flat, → a row. That JSON can hold its data is for the caller to know."""
    email: Any = None
    try:
        name = "email" if "email" in item else _email_in_another_case(item)
        email = item[name]
        if not isinstance(email, str):
            raise Refused(f"`email` is {kind(email)}, not a text")
        address, data = normalise(email), _data(item, name)
        if "cc" in item or "bcc" in item or "tags" in item:
            return Recipient(row, address, data, *extras(item.get("cc"), item.get("bcc"), item.get("tags")))
        return Recipient(row, address, data)
    except (InvalidAddress, Refused) as error:
        return rejected(row, email if isinstance(email, str) else "", where, str(error))


def _email_in_another_case(item: Mapping[str, Any]) -> str:
    for key in item:
        if isinstance(key, str) and key.strip().lower() == "email":
            return key
    raise Refused("has no `email`")


def _data(item: Mapping[str, Any], email: str) -> dict[str, Any]:
    """Everything that is not reserved is a variable; a mapping `data` holds variables, and wins over what is beside it."""
    data = {key: value for key, value in item.items() if key not in RESERVED}
    data.pop(email, None)
    inner = data.get("data")
    if inner is None:
        data.pop("data", None)
    elif isinstance(inner, Mapping):
        del data["data"]
        data.update(inner)
    return data


def check_data(data: dict[str, Any]) -> int:
    """Bytes of `data` as JSON. Raises Refused naming the first variable that JSON cannot hold."""
    try:
        size = len(dumps(data))
    except (TypeError, ValueError):  # orjson.JSONEncodeError is a TypeError
        raise Refused(_culprit(data)) from None
    if size > MAX_ROW_BYTES:
        raise Refused(f"its data takes {size:,} bytes as JSON, and {MAX_ROW_BYTES:,} are the most that SES takes")
    return size


def _culprit(data: dict[str, Any]) -> str:
    for key, value in data.items():
        if not isinstance(key, str):
            return f"the name of a variable must be a text, and {key!r} is not"
        try:
            dumps({key: value})
        except (TypeError, ValueError) as error:
            return f"`{key}` cannot be written as JSON: {str(error)[:1].lower()}{str(error)[1:]}"
    return "its data cannot be written as JSON"


def extras(cc: Any, bcc: Any, tags: Any) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """cc, bcc and tags as they stand in the source → checked. Raises Refused."""
    checked_cc, checked_bcc = _addresses("cc", cc), _addresses("bcc", bcc)
    count = 1 + len(checked_cc) + len(checked_bcc)
    if count > MAX_RECIPIENTS:
        raise Refused(f"{count} addresses with cc and bcc, and SES takes {MAX_RECIPIENTS} a message")
    return checked_cc, checked_bcc, _tags(tags)


def _addresses(name: str, value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = [part for part in re.split("[;,]", value) if part.strip()]
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes):
        raise Refused(f"`{name}` is {kind(value)}, not a text or a list of texts")
    result = []
    for part in value:
        if not isinstance(part, str):
            raise Refused(f"`{name}` has {kind(part)} in it, not a text")
        try:
            result.append(normalise(part))
        except InvalidAddress as error:
            raise Refused(f"`{name}` has {printable(part.strip(), 80)!r}: {error}") from None
    return tuple(result)


def _tags(value: Any) -> dict[str, str]:
    if not value:
        return {}
    if isinstance(value, str):
        value = _split_tags(value)
    if not isinstance(value, Mapping):
        raise Refused(f"`tags` is {kind(value)}, not an object of texts")
    try:
        return _TAGS.validate_python(dict(value))
    except ValidationError as error:
        raise Refused(explain_validation(error)) from None


def _split_tags(text: str) -> dict[str, str]:
    """`k=v;k2=v2` → a dict."""
    tags: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals:
            raise Refused(f"`tags` has {printable(part, 80)!r}, which is not name=value")
        if name in tags:
            raise Refused(f"`tags` has {printable(name, 80)!r} twice")
        tags[name] = value.strip()
    return tags


def kind(value: Any) -> str:
    """What a person calls the type of `value`."""
    return _KINDS.get(type(value)) or f"of type {type(value).__name__}"


@dataclass(slots=True)
class Group:
    """Consecutive rows on their way from a reader to a batch."""

    rows: list[Row]
    lines: list[int]  # the physical line of each row; empty where the source has no lines
    size: int  # bytes that they take in their source
