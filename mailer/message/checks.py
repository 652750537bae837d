"""The checked strings that the models at the edge are made of: addresses, header values, tags, ARNs.

Everything that a caller typed is checked here, once, with SES's own limits (SES v2 API model; developer guide, "Service
quotas"), and nothing behind it needs to check it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from email.charset import Charset
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import formataddr
from itertools import repeat
from math import inf
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ..data import dumps
from ..errors import ConfigError, InvalidAddress, InvalidEmail
from ..times import in_utc, read_named
from .address import MAX_CELL, normalise, stripped

MAX_BODY = 1 << 22  # characters of HTML or text: what a template may make, too, and forty times what Gmail shows
MAX_DATA = 1 << 20  # bytes of the data of a message, or of what all rows of a campaign have
MAX_RECIPIENTS = 50  # To + Cc + Bcc of one message, SES quota
MAX_HEADERS = 100  # custom headers of one message; SES v2 takes 15 in a structured call, and what has more goes as MIME
MAX_TAG_LEN = 256  # characters of a tag's name and of its value, SES v2 API reference
MAX_HEADER_VALUE = 10_000  # characters; SES v2 takes 870 in a structured call, and its events show 10 KB of all headers
MAX_HEADER_WORD = 870  # characters without a place to fold: with the longest name they fill a line, 998 (RFC 5322 2.1.1)
MAX_ADDRESS = 320  # characters of `Name <address>`, what SES answers beyond it
TOO_DEEP = "a value has too many lists or objects in each other"
MAX_WORD = 75  # characters of an encoded word, RFC 2047 section 2

M = TypeVar("M", bound=BaseModel)

_short = Repr()
_short.maxstring = 80  # characters of what was given, in an error


def documented(model: type[M]) -> type[M]:
    """Add the descriptions of its fields to a model's docstring, so that `help` shows them."""
    if model.__doc__:  # not under python -OO
        lines = [f"    {field.alias or name}: {field.description}" for name, field in model.model_fields.items()]
        model.__doc__ += "\n\nFields:\n" + "\n".join(lines)
    return model


def shown(value: object) -> str:
    """What was given, for an error: short, whatever it is."""
    try:
        return _short.repr(value)
    except Exception:  # as of a number with more digits than Python writes
        return f"a value of {type(value).__name__}"


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UTF_8 = Charset("utf-8")
_HALF = re.compile(r"[\ud800-\udfff]")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BARE = re.compile(r'(?:[^"<>,;][^<>,;]*)?')
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_HEADER_NAME = re.compile(r"[!-9;-@A-~]{1,126}")
# Written by SES or by this service from their own fields; a second copy would be refused or, worse, believed.
_RESERVED = """
    bcc cc content-type content-transfer-encoding content-disposition content-id date dkim-signature from message-id
    mime-version received reply-to return-path sender subject to
"""
_RESERVED_HEADERS = frozenset(_RESERVED.split())
RESERVED_TAG = "mailer_id"  # the tag that carries our own id on every message


def written(form: str, rule: str) -> AfterValidator:
    """What is written in this form, a regular expression; `rule` says the same to a person."""
    pattern = re.compile(form)

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{shown(value)} {rule}")
        return value

    return AfterValidator(check)


def one_line(value: str) -> str:
    """Header injection ends here: CR, LF, NUL and their like are refused, never stripped."""
    if _CONTROL.search(value):
        raise ValueError("must be one line without control characters")
    return whole(value)


def mailbox(value: str) -> str:
    """``ana@example.com`` or ``Ana <ana@example.com>`` → the form that SES takes: ASCII, RFC 2047 name, Punycode domain."""
    one_line(value)
    value = stripped(value)
    if len(value) > MAX_CELL:
        raise ValueError(f"longer than the {MAX_ADDRESS} characters that SES takes for an address")
    name, address = _named(value) if "<" in value else ("", value)
    try:
        result = formataddr((name, normalise(address)))
    except InvalidAddress as error:
        raise ValueError(str(error)) from None
    if len(result) > MAX_ADDRESS:
        raise ValueError(f"longer than the {MAX_ADDRESS} characters that SES takes for an address")
    return one_line(result)


def _named(value: str) -> tuple[str, str]:
    """`Name <address>` → the name, encoded where it is not plain ASCII, and the address. More than one address is refused."""
    before, _, address = value.removesuffix(">").rpartition("<")
    before = before.strip()
    quoted = _QUOTED.fullmatch(before)
    if not value.endswith(">") or ">" in address or not (quoted or _BARE.fullmatch(before)):
        raise ValueError('must be one address, as in `Ana <ana@example.com>`; a name with , ; < or > stands in "quotes"')
    name = before if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    return _encoded_name(" ".join(name.split())), address


def display_name(name: str, address: str) -> str:
    """What stands before `<address>` in a header: ASCII, quoted or in encoded words where it has to be.

    "" where there is no name, and where the whole is longer than SES takes: a person is worth more than a name.
    """
    if not name:
        return ""
    result = formataddr((_encoded_name(one_line(name)), address))
    return result.removesuffix(f" <{address}>") if len(result) <= MAX_ADDRESS else ""


def _encoded_name(name: str) -> str:
    """In encoded words also where a reader would take what was typed for some; once, as a sender profile is taken again."""
    if "=?" not in name:
        return encoded_words(name)
    try:
        text = str(make_header(decode_header(name)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return all_encoded(name)
    ours = ("=?" in text or not text.isascii()) and all_encoded(text) == name
    return name if ours else all_encoded(name)


def whole(value: str) -> str:
    """Half a character, as a broken `\\ud83d` leaves it, fits into no request."""
    if not value.isascii() and _HALF.search(value):
        raise ValueError("has half a character in it (a lone surrogate)")
    return value


def data_of(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError where it cannot be written as JSON."""
    try:
        size = len(dumps([[[[value]]]]))  # it is kept inside of other values
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    if size > MAX_DATA:
        raise ValueError(f"has {size:,} bytes as JSON, and {MAX_DATA:,} are the most")
    return value


def _body(value: str) -> str:
    if len(value) > MAX_BODY:
        raise ValueError(f"has {len(value):,} characters, and {MAX_BODY:,} are the most; attach what is larger, or send a link")
    return whole(value)


def _tags(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _TAG.fullmatch(name) or not _TAG.fullmatch(text):
            raise ValueError(
                f"tag {shown(name)}: SES takes A-Z a-z 0-9 _ - and at most {MAX_TAG_LEN} characters, for name and value"
            )
        if name == RESERVED_TAG:
            raise ValueError(f"tag {name!r} is the one that this service puts on every message itself")
    return value


def is_reserved_header(name: str) -> bool:
    """It is written from a field of its own, or by SES."""
    return name.lower() in _RESERVED_HEADERS or name.lower().startswith("x-ses-")


def _headers(value: dict[str, str]) -> dict[str, str]:
    """Custom headers with their values as they are written: ASCII, RFC 2047 where they were not."""
    if len(value) > MAX_HEADERS:
        raise ValueError(f"{len(value)} headers; {MAX_HEADERS} are the most")
    seen: set[str] = set()
    for name in value:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"header name {shown(name)} must be 1 to 126 visible ASCII characters without a colon")
        if is_reserved_header(name):
            raise ValueError(f"header {name} is set from its own field, not from headers")
        if name.lower() in seen:
            raise ValueError(f"header {name} is given twice")
        seen.add(name.lower())
    return {name: _header_value(name, text) for name, text in value.items()}


def _header_value(name: str, text: str) -> str:
    try:
        encoded = encoded_words(one_line(text).strip(" "))
    except ValueError as error:
        raise ValueError(f"header {name} {error}") from None
    if not 1 <= len(encoded) <= MAX_HEADER_VALUE:
        raise ValueError(f"header {name} must have 1 to {MAX_HEADER_VALUE} characters")
    if max(map(len, foldable(encoded))) > MAX_HEADER_WORD:
        raise ValueError(f"header {name} has more than {MAX_HEADER_WORD} characters that no line break can part")
    return encoded


def encoded_words(text: str) -> str:
    """Text for a header: as it is where it is ASCII, else in encoded words (RFC 2047), in one line."""
    return text if text.isascii() else all_encoded(text)


def all_encoded(text: str) -> str:
    return " ".join(filter(None, _UTF_8.header_encode_lines(text, repeat(MAX_WORD))))


def foldable(text: str) -> list[str]:
    """The pieces of a header's value: a line may be broken before each of them but the first (RFC 5322 2.2.3)."""
    return re.split(r"(?<=[^ ])(?= +[^ ])", text)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


def _named_zone(value: Any) -> Any:
    """Pydantic reads the other forms."""
    return (read_named(value) or value) if isinstance(value, str) else value


OneLine = Annotated[str, AfterValidator(one_line)]
Text = Annotated[str, AfterValidator(_body)]
Data = Annotated[dict[str, Any], AfterValidator(data_of)]
Mailbox = Annotated[str, AfterValidator(mailbox)]
Mailboxes = Annotated[tuple[Mailbox, ...], BeforeValidator(_listed)]
Tags = Annotated[dict[str, str], AfterValidator(_tags)]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]
Moment = Annotated[datetime, BeforeValidator(_named_zone), AfterValidator(in_utc)]
# Of a configuration set or tenant, SES v2 model.
Name = Annotated[str, written(r"[A-Za-z0-9_-]{1,64}", "must have 1 to 64 characters, each of A-Z a-z 0-9 _ -")]
Arn = Annotated[
    str,
    written(
        r"arn:[a-z-]+:ses:[a-z0-9-]+:[0-9]{12}:identity/[!-~]+",
        "must be the ARN of an SES identity, as arn:aws:ses:eu-west-1:123456789012:identity/example.com is one",
    ),
]


# What other libraries and SES itself call a field, without capitals and underscores.
_MEANT = {
    "name": "filename",
    "content_type": "mimetype type mime",
    "content": "data body",
    "content_id": "cid",
    "inline": "disposition contentdisposition",
    "to": "recipient recipients toaddress toaddresses toemail toemails destination",
    "from": "fromaddress fromemail fromemailaddress senderemail",
    "reply_to": "replytoaddresses",
    "html": "htmlbody bodyhtml htmlmessage htmlcontent",
    "text": "body message content textbody bodytext plain plaintext",
    "data": "context variables vars params substitutions templatedata",
    "template": "templatename templateid",
    "headers": "extraheaders",
    "configuration_set": "configset configurationsetname",
    "tags": "labels metadata emailtags",
    "send_at": "schedule scheduled scheduledat sendtime eta",
    "expires_at": "expires",
}


class Model(BaseModel):
    """What is given at the edge: checked once, and not changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def __init__(self, **fields: Any) -> None:
        """Raises InvalidEmail. Pydantic does not come here for a model inside another one, which tells where in it that is."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidEmail(field=type(self).__name__, why=explain_validation(error)) from None
        except RecursionError:
            raise InvalidEmail(field=type(self).__name__, why=TOO_DEEP) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # what RootModel's own constructor says

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, fields: Any) -> Any:
        known = {field.alias or name for name, field in cls.model_fields.items()} | cls.model_fields.keys()
        for name in fields if isinstance(fields, Mapping) else ():
            if name not in known:
                raise PydanticCustomError("no_such_name", "{why}", {"why": _no_such_name(str(name), cls)})
        return fields


def _no_such_name(name: str, model: type[Model]) -> str:
    """`there is no `filename`; use `name``."""
    names = [field.alias or known for known, field in model.model_fields.items()]
    plain = {known.replace("_", ""): known for known in names}
    meant = {word: known for known in names for word in _MEANT.get(known, "").split()} | plain
    typed = re.sub(r"[^a-z]", "", name.lower())
    near = [typed] if typed in meant else get_close_matches(typed, plain, 1)
    if not near:
        return f"there is no {_shown_name(name)}; there are: {', '.join(names)}"
    found = meant[near[0]]
    return f"there is no {_shown_name(name)}; use `{found}`" + (", in Python `from_`" if found == "from" else "")


def _shown_name(name: str) -> str:
    return f"`{name}`" if name.isidentifier() and len(name) <= _short.maxstring else shown(name)


def explain_validation(error: ValidationError) -> str:
    """Pydantic's first complaint as half a sentence: where, and what is wrong there."""
    first: Mapping[str, Any] = error.errors(include_url=False)[0]
    where = ".".join(part.rstrip("_") for part in first["loc"] if isinstance(part, str))
    text = str(first["msg"])
    if first["type"] == "value_error":
        text = text.removeprefix("Value error, ")
        given, place = first["input"], first["loc"][-1:]
        if place and isinstance(place[0], int) and isinstance(given, str) and given.isprintable():  # one of several
            text = f"{shown(given)}: {text}"
    elif first["type"] == "extra_forbidden":
        text = "is not a name that is known here"
    elif first["type"] == "missing":
        text = "is missing"
    elif first["type"] != "no_such_name":
        text = text[:1].lower() + text[1:]
    more = error.error_count() - 1
    colon = ":" if first["type"] == "no_such_name" else ""  # there it is the model that is named, and not its field
    return (f"`{where}`{colon} {text}" if where else text) + (f" (and {more} more)" if more else "")


def seconds(name: str, value: float) -> float:
    """A length of time that a program gives. Raises ConfigError."""
    if not isinstance(value, int | float) or not 0 < value < inf:
        raise ConfigError(where=name, why=f"{shown(value)} must be a number of seconds above 0")
    return value
