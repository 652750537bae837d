"""The error table: what SES, botocore or the network said about a send → what kind of refusal it is.

Two rules decide everything here.
 - A *response* of SES that is an error below 500 says that nothing was accepted (Amazon SES API v2 reference,
   "SendEmail": errors). A 5xx does not say so, because the request may have been queued before it broke.
 - Without a response, only a failure that happened while the connection was being made proves that nothing was accepted,
   and a connection that the other side broke before it had taken in the whole request. Whatever comes after that, even a
   reset before the first byte of an answer, leaves it open.
SES takes no idempotency token, so a mistake on the careless side is a second copy in somebody's inbox.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import getaddresses
from enum import Enum
from http import HTTPStatus
from typing import Any

import aiohttp
from botocore import exceptions as boto

from ..masking import masked, proxy_trouble
from ..message.address import identities_of
from .failures import BEFORE_REQUEST, BROKEN, CREDENTIAL_CALLS, CREDENTIAL_HOSTS, WHILE_CONNECTING
from .pages import NotSes, Page, page
from .rules import (
    ANY_CODE,
    CODES,
    DO_ALLOW,
    DO_BETWEEN,
    DO_CREDENTIALS,
    DO_NETWORK,
    DO_OPEN,
    DO_PERMIT,
    DO_TLS,
    HTTP,
    OF_MESSAGE,
    OF_MESSAGES,
    SENTENCES,
    STATUSES,
    TO_RECIPIENT,
    WHOLE,
    Kind,
    Rule,
    always,
)
from .setup import trouble_of

__all__ = [
    "ANY_CODE",
    "BEFORE_REQUEST",
    "CODES",
    "HTTP",
    "MAX_CODE",
    "MAX_REASON",
    "STATUSES",
    "Kind",
    "Refusal",
    "Written",
    "classify",
    "classify_call",
    "classify_entry",
    "classify_question",
    "unusable",
]

MAX_REASON = 500  # characters; a reason is kept for every recipient, so it is bounded
MAX_TEXT = 20_000  # characters of an answer that are looked at: 50 addresses of 320 fit; a gateway's page need not
MAX_CODE = 80  # characters; the longest code that SES declares has 33


class Written(Enum):
    """How much of a request was handed to the connection when it failed, as far as is known."""

    NOTHING = "nothing"
    PART = "part"  # the connection had not taken in the end of it
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why SES did not (or may not) have taken a message."""

    kind: Kind
    code: str  # SES's code or bulk status, or the class of the exception; at most MAX_CODE characters
    reason: str  # one sentence for a human, one line, at most MAX_REASON characters; never holds a credential
    do: str = ""  # what a human can do about it; the reason ends with it
    named: bool = False  # it names a recipient of the message
    alone: bool = False  # it is about one recipient, so it says nothing of the others
    foreign: bool = False  # somebody else answered in the place of SES

    @property
    def said(self) -> str:
        """The reason without what to do."""
        return self.reason.removesuffix(f" ({self.do})")

    @property
    def alike(self) -> str:
        """The same for refusals that differ only in whom and which request they name."""
        masked = _NUMBERED.sub("#", _ADDRESS.sub("@", self.said))
        return hashlib.sha256(f"{self.code} {masked}".encode()).hexdigest()[:16]


# ---- the functions -------------------------------------------------------------------------------------------------


def classify(
    error: BaseException, *, from_address: str = "", to: Collection[str] = (), written: Written = Written.ALL
) -> Refusal:
    """What an exception out of a call that sends means. Raises nothing.

    `written`: less than ALL only where that is certain.

    `from_address`: our own addresses of the call (From, and the feedback address if there is one, comma-separated),
    in any form that a header takes. They tell an unverified sender from an unverified recipient.
    `to`: the addresses of the recipients, without names. A refusal that names one of them is about that one.
    The client must have been built with `total_max_attempts=1`: a retry inside botocore would hide an earlier attempt.
    """
    return _classify(error, _Sending.of(from_address, to, written))


def classify_question(error: BaseException, *, action: str = "") -> Refusal:
    """What an exception out of a call that sends nothing means: no message is in doubt by it. Raises nothing.

    `action`: the IAM action that the call needs; where it is missing, the reason names it.
    """
    return _classify(error, None, action)


def classify_call(
    error: BaseException, *, from_address: str, to: Sequence[Collection[str]], written: Written = Written.ALL
) -> list[Refusal]:
    """What an exception out of a call means for each of its messages, whose recipients are `to`; the others as in `classify`.

    What is refused for one message's sake is refused for all of the call; the others are sent without it. Where SES does not
    say whose fault it is, each of them is to be sent alone.
    """
    whole = classify(error, from_address=from_address, to=to[0] if len(to) == 1 else (), written=written)
    if len(to) == 1 or whole.kind is Kind.AMBIGUOUS:
        return [whole] * len(to)
    each = [classify(error, from_address=from_address, to=one, written=written) for one in to]
    if whole.kind is Kind.MESSAGE or any(one.named for one in each):
        beside = _refusal(Kind.BESIDE, whole.code, f"another message of its call was refused: {whole.said}", "")
        return [one if one.named else beside for one in each]
    return [whole] * len(to)


def _classify(error: BaseException, sending: _Sending | None, action: str = "") -> Refusal:
    """`sending`: None where nothing was to be sent."""
    if isinstance(error, NotSes):
        return _not_ses(error.page, sending)
    if isinstance(error, boto.ClientError):
        return _answered(error, sending, action)
    code, cause = type(error).__name__, _cause(error)
    if (trouble := trouble_of(cause)) is not None:
        return _refusal(Kind.CREDENTIALS, code, trouble.why, trouble.do)
    for cls, kind, do in BEFORE_REQUEST:
        if isinstance(error, cls):
            return _refusal(kind, code, str(error), do)
    if CREDENTIAL_HOSTS.match(str(getattr(error, "kwargs", {}).get("endpoint_url", ""))):
        return _refusal(Kind.CREDENTIALS, code, str(error), DO_NETWORK)
    if isinstance(cause, aiohttp.InvalidURL | aiohttp.ClientConnectorError) and (why := _proxy_trouble(error)):
        return _refusal(Kind.UNREACHABLE, code, f"SES was not reached: {why}", "")
    if isinstance(cause, WHILE_CONNECTING):
        do = DO_TLS if isinstance(cause, aiohttp.ClientSSLError) else DO_NETWORK
        return _refusal(Kind.UNREACHABLE, code, f"SES was not reached: {cause}", do)
    if sending is None:
        return _refusal(Kind.RETRY, code, f"no answer of SES was read: {_told(cause)}", DO_NETWORK)
    if sending.written is Written.NOTHING or (sending.written is Written.PART and isinstance(cause, BROKEN)):
        return _refusal(Kind.UNREACHABLE, code, f"SES did not get the whole request: {_told(cause)}", DO_NETWORK)
    return _refusal(Kind.AMBIGUOUS, code, f"no answer of SES was read: {_told(cause)}", DO_OPEN)


def _proxy_trouble(error: BaseException) -> str:
    return proxy_trouble(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))


def unusable(why: str) -> Refusal:
    """An answer with a status below 300 that does not say what became of the message: without a MessageId, or with another
    number of results than there were entries. botocore takes any text with status 200 for an empty answer."""
    return _refusal(Kind.AMBIGUOUS, "UnusableAnswer", why, DO_OPEN, foreign=True)


def _not_ses(page: Page, sending: _Sending | None) -> Refusal:
    if page.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and sending is not None:
        return _refusal(Kind.MESSAGE, str(page.status), str(page), HTTP[page.status].do)
    if page.sent_on and sending is not None:
        return _refusal(Kind.AMBIGUOUS, str(page.status), str(page), DO_OPEN, foreign=True)
    return _refusal(Kind.UNREACHABLE, str(page.status), str(page), DO_BETWEEN, foreign=True)


def classify_entry(result: Mapping[str, Any], *, from_address: str = "", to: Collection[str] = ()) -> Refusal | None:
    """What one BulkEmailEntryResult (`{Status, Error, MessageId}`) means; None = accepted. The others as in `classify`.

    A status that is not known counts as FAILED, for SES names no other way to say "accepted" than SUCCESS; but not when
    it comes with a MessageId, or when there is no status at all.
    """
    status, text = str(result.get("Status") or ""), str(result.get("Error") or "")
    if status == "SUCCESS":
        return None
    if status not in STATUSES and (result.get("MessageId") or not status):
        return _refusal(Kind.AMBIGUOUS, status or "no status", text, DO_OPEN)
    sending = _Sending.of(from_address, to)
    return _ruled(_first(STATUSES.get(status, STATUSES["FAILED"]), text, sending), status, text, sending)


def _of_question(rule: Rule, action: str) -> tuple[Kind, str]:
    """Kind, and what a human can do, where nothing was to be sent: the call may lack one permission, and there is no message."""
    kind = Kind.RETRY if rule.kind is Kind.AMBIGUOUS else rule.kind
    if rule.do in (DO_PERMIT, DO_ALLOW):
        return kind, f"the worker's role needs {action}" if action else DO_ALLOW
    return kind, "" if rule.do in OF_MESSAGES else rule.do


def _answered(error: Any, sending: _Sending | None, action: str) -> Refusal:
    """A response of SES, or of something between SES and us, with an error status."""
    body = error.response.get("Error") or {}
    status = (error.response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0
    code, text = str(body.get("Code") or status), str(body.get("Message") or "")
    if code == str(status) and text.lstrip().startswith("<"):
        return _not_ses(replace(page(status, {}, text.encode()), operation=error.operation_name), sending)
    if error.operation_name in CREDENTIAL_CALLS:
        return _refusal(Kind.CREDENTIALS, code, f"{error.operation_name}: {text}", DO_CREDENTIALS)
    rules = CODES.get(code.removesuffix("Exception").removesuffix("Error"))
    if rules is None:
        refused = 400 <= status < 500
        rules = (*ANY_CODE, HTTP.get(status, Rule(kind=Kind.RETRY))) if refused else always(Kind.AMBIGUOUS, DO_OPEN)
    rule = _first(rules, text, sending or _NOBODY)
    if sending is not None:
        return _ruled(rule, code, text, sending)
    kind, do = _of_question(rule, action)
    return _refusal(kind, code, text, do)


def _ruled(rule: Rule, code: str, text: str, sending: _Sending) -> Refusal:
    if rule.do in (DO_PERMIT, DO_ALLOW) and sending.lacks_recipient(text):
        return _refusal(TO_RECIPIENT.kind, code, text, TO_RECIPIENT.do, named=True)
    named = sending.named(text)
    return _refusal(rule.kind, code, text, rule.do, named=named, alone=rule.alone or named)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    """A call that sends, or one message of it."""

    ours: frozenset[str]  # our own addresses, in lower case
    theirs: frozenset[str]  # addresses of the recipients, in lower case
    written: Written = Written.ALL

    @classmethod
    def of(cls, from_address: str, to: Collection[str], written: Written = Written.ALL) -> _Sending:
        ours = (address.lower() for _, address in getaddresses([from_address]) if "@" in address)
        return cls(ours=frozenset(ours), theirs=frozenset(map(str.lower, filter(None, to))), written=written)

    def names_us(self, text: str) -> bool:
        """The text names one of our addresses, or the domain of one where it stands alone."""
        return _mentions(text, (*self.ours, *(address.rpartition("@")[2] for address in self.ours)))

    def named(self, text: str) -> bool:
        """The text names a recipient."""
        return _mentions(text, self.theirs)

    def lacks_recipient(self, text: str) -> bool:
        """The text is of a permission that lacks on identities of recipients, and on nothing else."""
        found = _RESOURCE.findall(text[:MAX_TEXT].lower())
        names = {name.rstrip(".") for kind, name in found if kind == "identity"}
        ours = {name for address in self.ours for name in identities_of(address)}
        theirs = {name for address in self.theirs for name in identities_of(address)}
        return bool(names) and len(found) == len([kind for kind, _ in found if kind == "identity"]) and names <= theirs - ours


_NOBODY = _Sending(ours=frozenset(), theirs=frozenset())
_RESOURCE = re.compile(r"\barn:[\w-]{1,20}:ses:[\w-]{0,40}:\d{0,12}:([a-z-]{1,40})/([^\s'\"`,;)\]]{1,320})")


def _mentions(text: str, words: Collection[str]) -> bool:
    """One of these addresses or domains stands there, and is not a part of a longer one."""
    lower = text[:MAX_TEXT].lower()
    return any(word in lower and re.search(rf"(?<![\w.+@-]){re.escape(word)}(?![\w-]|\.\w)", lower) for word in words)


_ADDRESS = re.compile(r"<[^<>]{0,320}>|[^\s<>,;:'\"]{0,320}@[^\s<>,;:'\"]*")


_QUOTED = re.compile(r"""(?<!\w)(['"`])[^'"`]*['"`](?!\w)""")  # what a caller or a list has put into the request
_STATE = re.compile(r"['\"`]([A-Z]{4,20})['\"`]")  # SES's own name of a state: the status is "SUSPENDED"
_CAPITALS = re.compile(r"\b[A-Z]{2,40}(?:_[A-Z]{2,40}){1,9}\b")  # ACCOUNT_SENDING_PAUSED
_NUMBERED = re.compile(r"\S*\d\S*")  # an id, a time, a place in the request


def _of_all(text: str) -> str:
    """What may hold for more than one message: without what is quoted, and the sentences that are about a part of a message."""
    said = _QUOTED.sub(lambda quoted: state[1] if (state := _STATE.fullmatch(quoted[0])) else "''", text)
    named = _CAPITALS.sub(lambda name: name[0].replace("_", " "), said)
    return " ".join(one for one in SENTENCES.split(named) if not OF_MESSAGE.search(one))


def _first(rules: Sequence[Rule], text: str, sending: _Sending) -> Rule:
    """The rule that decides. Every sequence ends with one that fits every text.

    A text that names the recipient is about the recipient, whatever else there is in it: a list can put words into it.
    """
    text = text[:MAX_TEXT]
    named = sending.names_us(text)
    masked = _ADDRESS.sub("@", text)  # a recipient `reply-to@…` must not look like a fault in our Reply-To
    last = rules[-1].kind
    if last is not Kind.AMBIGUOUS and not (last is Kind.MESSAGE and sending.named(text)):
        spoken = _of_all(masked)
        if found := next((rule for rule in WHOLE if rule.fits(spoken, named)), None):
            return found
    return next(rule for rule in rules if rule.fits(masked, named))


def _cause(error: BaseException) -> BaseException:
    """aiohttp's exception inside one of botocore's, where there is one."""
    inner = getattr(error, "kwargs", {}).get("error")
    return inner if isinstance(inner, BaseException) else error


def _told(cause: BaseException) -> str:
    if isinstance(cause, asyncio.CancelledError):
        return "the call was cancelled"
    if isinstance(cause, aiohttp.ServerDisconnectedError):  # its text is a dump of the half answer
        return "the server closed the connection"
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


# ---- the reason ----------------------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")
# The text of a signature error repeats the request that was signed, its session token included; a credential process
# prints what it likes; an endpoint or a proxy may be written as http://user:password@host.
_SECRETS = (
    (re.compile(r"(The )?(Canonical String|String-to-Sign).*", re.DOTALL), "…"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}\b"), r"\1…"),
    (
        re.compile(r"((?:secret|token|signature|credential|password)\w{0,40}['\"]?\s*[=:]\s*)['\"]?[^\s,'\"]+", re.IGNORECASE),
        r"\1…",
    ),
)
_LONG_TOKEN = re.compile(r"(?<![\w/+=])[A-Za-z0-9/+=]{40,}(?![\w/+=])")  # a secret key has 40 characters, a token more


def _refusal(
    kind: Kind, code: str, text: str, do: str, *, named: bool = False, alone: bool = False, foreign: bool = False
) -> Refusal:
    """Puts the sentence together: SES's own text, cut if need be, then what to do about it."""
    said = masked(text[:MAX_TEXT])
    for pattern, replacement in _SECRETS:
        said = pattern.sub(replacement, said)
    if kind is Kind.CREDENTIALS:
        said = _LONG_TOKEN.sub("…", said)
    code = _CONTROL.sub(" ", code).strip()[:MAX_CODE]
    said = _CONTROL.sub(" ", said).strip() or code
    hint = f" ({do})" if do else ""
    room = MAX_REASON - len(hint)
    said = said if len(said) <= room else said[: room - 1] + "…"
    return Refusal(kind=kind, code=code, reason=said + hint, do=do, named=named, alone=alone, foreign=foreign)
