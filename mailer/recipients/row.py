"""One row: a Recipient that can be sent to, or a BadRow that says why not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ..data import dumps
from ..errors import InvalidAddress
from ..message.address import normalise
from ..message.checks import MAX_RECIPIENTS, Tags, explain_validation
from ..message.email import Outcome

MAX_ROW_BYTES: Final = 256 * 1024  # of one row in its source: SES takes 262,144 characters of TemplateData
MAX_SHOWN: Final = 320  # characters of what a bad row shows of itself: SES's own limit for an address
MAX_REASON: Final = 500  # characters
TOO_LONG: Final = f"is longer than the {MAX_ROW_BYTES:,} bytes that a row may have"

MAX_DEPTH: Final = 100  # lists and objects in each other in a row's data; orjson writes 254, and a request is some around it

STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(rb"[\[\]{}]")
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
    data: dict[str, Any]  # by the names of the list; `data.dumps` can write every value, in MAX_ROW_BYTES
    cc: tuple[str, ...] = ()  # normalised; with bcc and the address itself at most 50
    bcc: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)  # names and values of A-Z a-z 0-9 _ -
    name: str = ""  # beside the address, as in `Ana <ana@example.com>`; one line, as a person reads it


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not sent to, and why. It costs nobody else anything."""

    row: int  # place in the source, from 1
    to: str  # what the source has for an address, else how the row begins; at most 320 characters, without control characters
    outcome: Outcome  # REJECTED or DUPLICATE
    reason: str  # half a sentence; for files it begins with `line N: `, the physical line on which the row starts


Row = Recipient | BadRow
Extras = tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]  # cc, bcc and tags


class Refused(Exception):
    """Why this row cannot be used, as half a sentence; it becomes the reason of a BadRow."""


def printable(text: str, limit: int = MAX_SHOWN) -> str:
    """`text` fit for a report and a terminal: cut, and control characters replaced."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:limit])


def rejected(row: int, to: str, where: str, why: str) -> BadRow:
    """`where` is `line N: ` for files, and empty for what has no lines."""
    return BadRow(row, printable(to), Outcome.REJECTED, printable(where + why, MAX_REASON))


def check_data(data: dict[str, Any]) -> int:
    """Bytes of `data` as it is kept. Raises Refused naming the first variable that cannot be kept."""
    try:
        written = dumps(data)
    except (TypeError, ValueError, RecursionError):  # orjson.JSONEncodeError is a TypeError
        raise Refused(_culprit(data)) from None
    if len(written) > MAX_ROW_BYTES:
        raise Refused(f"its data takes {len(written):,} bytes as JSON, and {MAX_ROW_BYTES:,} are the most that SES takes")
    check_depth(written)
    return len(written)


def _culprit(data: dict[str, Any]) -> str:
    for key, value in data.items():
        if not isinstance(key, str):
            return f"the name of a variable must be a text, and {key!r} is not"
        try:
            dumps({key: value})
        except RecursionError:
            return _too_deep()
        except (TypeError, ValueError) as error:
            why = _why(error)
            return _too_deep() if "ecursion" in why else f"`{printable(key, 80)}` cannot be written as JSON: {why}"
    return "its data cannot be written as JSON"


def _why(error: Exception) -> str:
    text = str(error.__cause__ or error)  # the cause is what `default` said of it
    return f"{text[:1].lower()}{text[1:]}"


def check_depth(text: bytes) -> None:
    """Raises Refused where lists and objects of this JSON stand in each other MAX_DEPTH times."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.findall(STRINGS.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Refused(_too_deep())


def _too_deep() -> str:
    return f"has more than {MAX_DEPTH} lists or objects in each other"


def extras(cc: Any, bcc: Any, tags: Any) -> Extras:
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
    """`k=v;k2=v2` → a dict; neither a name nor a value can have a comma in it, so that separates them, too."""
    tags: dict[str, str] = {}
    for part in filter(None, map(str.strip, re.split("[;,]", text))):
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
