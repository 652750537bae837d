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
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import getaddresses
from enum import Enum
from typing import Any

import aiohttp
from botocore import exceptions as boto

MAX_REASON = 500  # characters; a reason is kept for every recipient, so it is bounded
MAX_TEXT = 20_000  # characters of an answer that are looked at: 50 addresses of 320 fit; a gateway's page need not
MAX_CODE = 80  # characters; the longest code that SES declares has 33


class Kind(Enum):
    """What a refusal means for the message and for those behind it. The value is its metrics label."""

    RATE = "rate"  # over the send rate; SES drops such a message: send slower, send it again
    CALLS = "calls"  # over the limit of SendBulkEmail calls, which is not the send rate: fewer such calls, others meanwhile
    DAILY = "daily"  # the rolling 24-hour quota is used up: wait until it frees, costs the message no attempt
    MESSAGE = "message"  # this message will never be accepted: reject its recipients, go on with the others
    SANDBOX = "sandbox"  # the account is in the sandbox and a recipient is not verified: reject the recipient
    CONFIG = "config"  # sender, configuration set, template or permission: every further message fails alike: stop the campaign
    CREDENTIALS = "credentials"  # credentials, clock or AWS set-up of this process: park, nothing is lost
    PAUSED = "paused"  # sending is paused for the account: park until GetAccount says SendingEnabled
    PAUSED_SET = "paused_set"  # sending is paused for the configuration set: park the campaigns that use it
    SUSPENDED = "suspended"  # the account is shut down: park everything, a human has to talk to AWS
    UNREACHABLE = "unreachable"  # no connection to SES could be made: park, costs the message no attempt
    RETRY = "retry"  # provably not accepted: again with backoff, a bounded number of times, then it has failed
    AMBIGUOUS = "ambiguous"  # may have been accepted: unknown, never sent again unless a stated policy says so


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

    @property
    def said(self) -> str:
        """The reason without what to do."""
        return self.reason.removesuffix(f" ({self.do})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: of the rules of a code, the first whose `says` is found in SES's text decides."""

    kind: Kind
    says: str = ""  # regular expression, searched without case; "" fits every text
    ours: bool = False  # and the text names one of our own addresses, or its domain
    do: str = ""  # what a human can do about it

    def fits(self, text: str, named: bool) -> bool:
        """`text` with the addresses masked, whether it `named` one of ours."""
        return (named or not self.ours) and re.search(self.says, text, re.IGNORECASE | re.DOTALL) is not None


# ---- what a human can do -------------------------------------------------------------------------------------------

_DO_SENDER = "verify the sender's address or domain in SES, in this region"
_DO_SANDBOX = "the account is in the SES sandbox: verify the recipient, or ask for production access"
_DO_DAILY = "sending goes on as the rolling 24-hour window frees"
_DO_RATE = "sent again more slowly"
_DO_INCIDENT = "neither the send rate nor the daily quota is named; see the AWS Health Dashboard if it lasts"
_DO_PAUSED = "see the account's inbox and the SES console, and resume sending there"
_DO_PAUSED_SET = "resume sending in the configuration set"
_DO_SUSPENDED = "answer the case in the AWS Support Center"
_DO_MAIL_FROM = "publish the MX record of the custom MAIL FROM domain, or let SES use its default on failure"
_DO_EXISTS = "create it in this account and region, or correct the name"
_DO_POOL = "give the configuration set an IP pool that exists"
_DO_PERMIT = (
    "check that the role may call ses:SendEmail, ses:SendRawEmail, ses:SendTemplatedEmail, ses:SendBulkEmail and "
    "ses:SendBulkTemplatedEmail on that resource"
)
_DO_ALLOW = "allow the role that action, on resource *"
_DO_CREDENTIALS = "give this process valid AWS credentials: AWS_PROFILE, a role or a key pair"
_DO_CLOCK = "set this machine's clock: AWS takes a difference of 15 minutes at most"
_DO_REGION = "set AWS_REGION"
_DO_ENDPOINT = "check AWS_REGION and AWS_ENDPOINT_URL_SESV2"
_DO_NETWORK = "check the network, the proxy, AWS_REGION and AWS_ENDPOINT_URL_SESV2"
_DO_TLS = "check AWS_CA_BUNDLE, the proxy and AWS_ENDPOINT_URL_SESV2"
_DO_OPEN = "SES may have accepted it"
_OF_MESSAGES = (_DO_RATE, _DO_INCIDENT, _DO_OPEN)

# ---- rules by text -------------------------------------------------------------------------------------------------
# SES uses one code for several things; its text says which. Texts: "Errors related to the sending quotas",
# "Amazon SES email sending errors" (developer guide).

_DAILY = Rule(kind=Kind.DAILY, says=r"daily (message|sending) quota", do=_DO_DAILY)
_RATE = Rule(kind=Kind.RATE, says=r"sending rate", do=_DO_RATE)
_PAUSED_SET = Rule(
    kind=Kind.PAUSED_SET, says=r"sending paused.{0,200}configuration[ -]set|configuration[ -]set.{0,200}paused", do=_DO_PAUSED_SET
)
_PAUSED = Rule(kind=Kind.PAUSED, says=r"sending paused", do=_DO_PAUSED)
_MAIL_FROM = Rule(kind=Kind.CONFIG, says=r"MAIL FROM domain is not verified", do=_DO_MAIL_FROM)
_FORBIDDEN = Rule(kind=Kind.CONFIG, says=r"not authorized to perform", do=_DO_PERMIT)
# "The following identities failed the check in region EU-WEST-1: a@x, b@y", and the list may be cut with "…".
# Order matters: both the sender and, in the sandbox, the recipients can be in it, and the sender stops everything.
_NOT_VERIFIED = (
    Rule(kind=Kind.CONFIG, says=r"not verified", ours=True, do=_DO_SENDER),
    Rule(kind=Kind.SANDBOX, says=r"identities failed the check[^:]{0,80}:\s*\S", do=_DO_SANDBOX),
    Rule(kind=Kind.CONFIG, says=r"not verified", do=_DO_SENDER),
)
# AWS names the action that it checked; those that do not send are not in the list of _DO_PERMIT.
_NOT_SENDING = Rule(kind=Kind.CONFIG, says=r"not authorized to perform:? [`'\"]?ses:(?!Send)", do=_DO_ALLOW)
_ABSENT = Rule(
    kind=Kind.CONFIG, says=r"\b(configuration[ -]set|template|tenant|contact list)\b.{0,200} (not exist|not found)", do=_DO_EXISTS
)
# Parts of a request that are the same for every message of a campaign; a fault in one of them is nobody's bad row.
_SHARED = (
    Rule(kind=Kind.CONFIG, says=r"invalid from\b|\bfrom address\b", do=_DO_SENDER),
    Rule(kind=Kind.CONFIG, says=r"\breply-?\s?to address|\bfeedback ?(forwarding|address)|\breturn-?\s?path\b"),
    Rule(kind=Kind.CONFIG, says=r"\b(configuration[ -]set|tenant|identity arn|endpoint ?id)\b"),
    Rule(kind=Kind.CONFIG, says=r"value at '(from|replyTo|feedback|configurationSet|tenant|endpointId)"),
    Rule(kind=Kind.CONFIG, says=r"value at '(defaultContent|content\.template\.template(Name|Arn))"),
    Rule(kind=Kind.CONFIG, says=r"address|domain|identit", ours=True, do=_DO_SENDER),
)
# For a code or a status that this table does not know.
_ANY_CODE = (_DAILY, _RATE, _PAUSED_SET, _PAUSED, _FORBIDDEN, _MAIL_FROM, *_NOT_VERIFIED, _ABSENT)


def _always(kind: Kind, do: str = "") -> tuple[Rule, ...]:
    return (Rule(kind=kind, do=do),)


_THROTTLED = (_DAILY, _RATE, *_always(Kind.CALLS, _DO_INCIDENT))
_REFUSED = (_FORBIDDEN, _MAIL_FROM, *_NOT_VERIFIED, *_always(Kind.MESSAGE))
_BAD = (*_NOT_VERIFIED, _ABSENT, *_SHARED, *_always(Kind.MESSAGE))
_SIGNED = (
    Rule(kind=Kind.CREDENTIALS, says=r"expired|not yet|clock|skew", do=_DO_CLOCK),
    *_always(Kind.CREDENTIALS, _DO_CREDENTIALS),
)

# ---- the table -----------------------------------------------------------------------------------------------------
# Codes of SES v2 (API reference, "SendEmail", "SendBulkEmail", "Common Errors"), with the spellings of v1 and of gateways
# beside them. The suffixes "Exception" and "Error" are left off: AWS pages and services do not agree on them.

CODES: Mapping[str, tuple[Rule, ...]] = {
    # declared on SendEmail and SendBulkEmail
    "TooManyRequests": (_DAILY, _RATE, *_always(Kind.CALLS, _DO_RATE)),
    "LimitExceeded": (_DAILY, _RATE, *_always(Kind.CONFIG, "raise the quota that is named, in the Service Quotas console")),
    "AccountSuspended": _always(Kind.SUSPENDED, _DO_SUSPENDED),
    "SendingPaused": (_PAUSED_SET, *_always(Kind.PAUSED, _DO_PAUSED)),
    "MessageRejected": _REFUSED,
    "MailFromDomainNotVerified": _always(Kind.CONFIG, _DO_MAIL_FROM),
    "NotFound": _always(Kind.CONFIG, _DO_EXISTS),
    "BadRequest": _BAD,
    # throttling under its other names
    "Throttling": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "SlowDown": _THROTTLED,
    # permission
    "AccessDenied": (_NOT_SENDING, *_always(Kind.CONFIG, _DO_PERMIT)),
    "UnauthorizedOperation": _always(Kind.CONFIG, _DO_PERMIT),
    # credentials and clock
    "ExpiredToken": _always(Kind.CREDENTIALS, _DO_CREDENTIALS),
    "UnrecognizedClient": _always(Kind.CREDENTIALS, _DO_CREDENTIALS),
    "InvalidClientTokenId": _always(Kind.CREDENTIALS, _DO_CREDENTIALS),
    "MissingAuthenticationToken": _always(Kind.CREDENTIALS, _DO_CREDENTIALS),
    "NotAuthorized": _always(Kind.CREDENTIALS, _DO_CREDENTIALS),
    "OptInRequired": _always(Kind.CREDENTIALS, "the key's account is not signed up for SES"),
    "IncompleteSignature": _SIGNED,
    "InvalidSignature": _SIGNED,
    "SignatureDoesNotMatch": _SIGNED,
    "RequestExpired": _always(Kind.CREDENTIALS, _DO_CLOCK),
    "RequestTimeTooSkewed": _always(Kind.CREDENTIALS, _DO_CLOCK),
    # a request that is not what SES takes
    "Validation": _BAD,
    "InvalidParameterValue": _BAD,
    "MalformedHttpRequest": _always(Kind.MESSAGE),
    "Serialization": _always(Kind.MESSAGE),
    "RequestEntityTooLarge": _always(Kind.MESSAGE, "make the message smaller: SES takes 40 MB, attachments in base64 included"),
    "UnknownOperation": _always(Kind.CONFIG, _DO_ENDPOINT),
    # v1's names for what v2 puts under a common code
    "ConfigurationSetDoesNotExist": _always(Kind.CONFIG, _DO_EXISTS),
    "TemplateDoesNotExist": _always(Kind.CONFIG, _DO_EXISTS),
    "ConfigurationSetSendingPaused": _always(Kind.PAUSED_SET, _DO_PAUSED_SET),
    "AccountSendingPaused": _always(Kind.PAUSED, _DO_PAUSED),
    # temporary; the last one is sent although the request may have been taken
    "RequestTimeout": _always(Kind.RETRY),
    "InternalFailure": _always(Kind.AMBIGUOUS, _DO_OPEN),
    "InternalServer": _always(Kind.AMBIGUOUS, _DO_OPEN),
    "InternalService": _always(Kind.AMBIGUOUS, _DO_OPEN),
    "ServiceUnavailable": _always(Kind.AMBIGUOUS, _DO_OPEN),
    "RequestAborted": _always(Kind.AMBIGUOUS, _DO_OPEN),
}

# A 4xx whose code and text are both unknown, often of a proxy. It was not accepted. Should it hold for one message only, a
# few tries end it; should it hold for all, no million recipients are rejected on the first word: hence RETRY, not MESSAGE.
HTTP: Mapping[int, Rule] = {
    401: Rule(kind=Kind.CREDENTIALS, do=_DO_CREDENTIALS),
    403: Rule(kind=Kind.CONFIG, do=_DO_PERMIT),
    404: Rule(kind=Kind.CONFIG, do=_DO_ENDPOINT),
    405: Rule(kind=Kind.CONFIG, do=_DO_ENDPOINT),
    407: Rule(kind=Kind.CONFIG, do="give the proxy its credentials in HTTPS_PROXY"),
    413: Rule(kind=Kind.MESSAGE, do="make the message smaller: SES takes 40 MB, attachments in base64 included"),
    429: Rule(kind=Kind.CALLS, do=_DO_RATE),
}

# BulkEmailEntryResult.Status (API reference). The reference's prose spells three of them differently.
STATUSES: Mapping[str, tuple[Rule, ...]] = {
    "SUCCESS": (),
    "MESSAGE_REJECTED": _REFUSED,
    "MAIL_FROM_DOMAIN_NOT_VERIFIED": _always(Kind.CONFIG, _DO_MAIL_FROM),
    "CONFIGURATION_SET_NOT_FOUND": _always(Kind.CONFIG, _DO_EXISTS),
    "CONFIGURATION_SET_DOES_NOT_EXIST": _always(Kind.CONFIG, _DO_EXISTS),
    "TEMPLATE_NOT_FOUND": _always(Kind.CONFIG, _DO_EXISTS),
    "TEMPLATE_DOES_NOT_EXIST": _always(Kind.CONFIG, _DO_EXISTS),
    "ACCOUNT_SUSPENDED": _always(Kind.SUSPENDED, _DO_SUSPENDED),
    "ACCOUNT_THROTTLED": (_DAILY, *_always(Kind.RATE, _DO_RATE)),
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": _always(Kind.DAILY, _DO_DAILY),
    "INVALID_SENDING_POOL_NAME": _always(Kind.CONFIG, _DO_POOL),
    "ACCOUNT_SENDING_PAUSED": _always(Kind.PAUSED, _DO_PAUSED),
    "CONFIGURATION_SET_SENDING_PAUSED": _always(Kind.PAUSED_SET, _DO_PAUSED_SET),
    "INVALID_PARAMETER": _BAD,
    "INVALID_PARAMETER_VALUE": _BAD,
    "TRANSIENT_FAILURE": _always(Kind.RETRY),
    "FAILED": (*_ANY_CODE, *_always(Kind.RETRY)),  # unspecified, but said to be not accepted, unlike a lost response
}

# Exceptions of botocore that are raised before there is a request, most special first.
BEFORE_REQUEST: Sequence[tuple[type[BaseException], Kind, str]] = (
    (boto.NoCredentialsError, Kind.CREDENTIALS, _DO_CREDENTIALS),
    (boto.PartialCredentialsError, Kind.CREDENTIALS, _DO_CREDENTIALS),
    (boto.CredentialRetrievalError, Kind.CREDENTIALS, _DO_CREDENTIALS),
    (boto.MetadataRetrievalError, Kind.CREDENTIALS, _DO_CREDENTIALS),
    (boto.TokenRetrievalError, Kind.CREDENTIALS, "sign in again: aws sso login"),
    (boto.SSOError, Kind.CREDENTIALS, "sign in again: aws sso login"),
    (boto.NoAuthTokenError, Kind.CREDENTIALS, _DO_CREDENTIALS),
    (boto.RefreshWithMFAUnsupportedError, Kind.CREDENTIALS, "use a role that needs no MFA code"),
    (boto.UnknownCredentialError, Kind.CREDENTIALS, _DO_CREDENTIALS),
    (boto.InvalidConfigError, Kind.CREDENTIALS, "correct the profile in AWS's configuration file"),
    (boto.ProfileNotFound, Kind.CREDENTIALS, "set AWS_PROFILE to a profile that exists, or unset it"),
    (boto.ConfigParseError, Kind.CREDENTIALS, "correct AWS's configuration file"),
    (boto.NoRegionError, Kind.CREDENTIALS, _DO_REGION),
    (boto.InvalidRegionError, Kind.CONFIG, "correct the region: AWS_REGION, or the sender's"),
    (boto.BaseEndpointResolverError, Kind.CONFIG, _DO_ENDPOINT),
    (boto.EndpointProviderError, Kind.CONFIG, _DO_ENDPOINT),
    (boto.InvalidEndpointConfigurationError, Kind.CONFIG, _DO_ENDPOINT),
    (boto.InvalidProxiesConfigError, Kind.CONFIG, "correct HTTPS_PROXY"),
    (boto.MissingDependencyException, Kind.CONFIG, "a global endpoint (EndpointId) needs the package awscrt"),
    (boto.ParamValidationError, Kind.MESSAGE, ""),
    (boto.ValidationError, Kind.MESSAGE, ""),
)

# aiohttp and the operating system, while the connection was being made: nothing was written yet.
# aiobotocore cannot be asked: its EndpointConnectionError ("Could not connect…") stands for every ClientConnectionError of
# aiohttp, and so also for a connection that was reset after the request had gone out. A kept-alive connection that the
# server closed at the moment we wrote to it looks the same as one that was closed instead of an answer: both stay open.
# (The connection can be one that a redirect led to; a redirect is not an acceptance either.)
WHILE_CONNECTING: tuple[type[BaseException], ...] = (
    aiohttp.ClientConnectorError,  # refused, unreachable, DNS, TLS handshake, certificate, proxy
    aiohttp.ConnectionTimeoutError,  # also the wait for a place in the pool
    aiohttp.ClientHttpProxyError,  # the proxy refused CONNECT
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    ConnectionRefusedError,
    socket.gaierror,
)

# The other side broke the connection. A time-out is not among them: closing a connection may still send what it holds.
BROKEN: tuple[type[BaseException], ...] = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)

# Calls that boto makes on its own to get credentials, in the middle of ours. Theirs is not an answer about a message.
CREDENTIAL_CALLS = frozenset(
    ("AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetSessionToken", "GetRoleCredentials", "CreateToken")
)
CREDENTIAL_HOSTS = re.compile(r"^https?://(sts|oidc|portal\.sso)\.")  # STS, and IAM Identity Center


# ---- the functions -------------------------------------------------------------------------------------------------


def classify(error: BaseException, *, from_address: str = "", action: str = "", written: Written = Written.ALL) -> Refusal:
    """What an exception out of a call of aioboto3's `sesv2` client means. Raises nothing.

    `action`: the IAM action of a call that only asks; where it is missing, the reason names it.
    `written`: less than ALL only where that is certain.

    `from_address`: our own addresses of the call (From, and the feedback address if there is one, comma-separated),
    in any form that a header takes. They tell an unverified sender from an unverified recipient.
    The client must have been built with `total_max_attempts=1`: a retry inside botocore would hide an earlier attempt.
    """
    if isinstance(error, boto.ClientError):
        return _answered(error, _pattern(from_address), action)
    code = type(error).__name__
    for cls, kind, do in BEFORE_REQUEST:
        if isinstance(error, cls):
            return _refusal(kind, code, str(error), do)
    if CREDENTIAL_HOSTS.match(str(getattr(error, "kwargs", {}).get("endpoint_url", ""))):
        return _refusal(Kind.CREDENTIALS, code, str(error), _DO_NETWORK)
    cause = _cause(error)
    if isinstance(cause, WHILE_CONNECTING):
        do = _DO_TLS if isinstance(cause, aiohttp.ClientSSLError) else _DO_NETWORK
        return _refusal(Kind.UNREACHABLE, code, f"SES was not reached: {cause}", do)
    if written is Written.NOTHING or (written is Written.PART and isinstance(cause, BROKEN)):
        return _refusal(Kind.UNREACHABLE, code, f"SES did not get the whole request: {_told(cause)}", _DO_NETWORK)
    return _refusal(Kind.AMBIGUOUS, code, f"no answer of SES was read: {_told(cause)}", _do(_DO_OPEN, action))


def unusable(why: str) -> Refusal:
    """An answer with a status below 300 that does not say what became of the message: without a MessageId, or with another
    number of results than there were entries. botocore takes any text with status 200 for an empty answer."""
    return _refusal(Kind.AMBIGUOUS, "UnusableAnswer", why, _DO_OPEN)


def classify_entry(result: Mapping[str, Any], *, from_address: str = "") -> Refusal | None:
    """What one BulkEmailEntryResult (`{Status, Error, MessageId}`) means; None = accepted. `from_address` as in `classify`.

    A status that is not known counts as FAILED, for SES names no other way to say "accepted" than SUCCESS; but not when
    it comes with a MessageId, or when there is no status at all.
    """
    status, text = str(result.get("Status") or ""), str(result.get("Error") or "")
    if status == "SUCCESS":
        return None
    if status not in STATUSES and (result.get("MessageId") or not status):
        return _refusal(Kind.AMBIGUOUS, status or "no status", text, _DO_OPEN)
    rule = _first(STATUSES.get(status, STATUSES["FAILED"]), text, _pattern(from_address))
    return _refusal(rule.kind, status, text, rule.do)


def _do(do: str, action: str) -> str:
    """What a human can do where the call only asks something: it may lack one permission, and there is no message."""
    if not action:
        return do
    return f"the worker's role needs {action}" if do in (_DO_PERMIT, _DO_ALLOW) else "" if do in _OF_MESSAGES else do


def _answered(error: Any, ours: re.Pattern[str] | None, action: str) -> Refusal:
    """A response of SES, or of something between SES and us, with an error status."""
    body = error.response.get("Error") or {}
    status = (error.response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0
    code, text = str(body.get("Code") or status), str(body.get("Message") or "")
    if error.operation_name in CREDENTIAL_CALLS:
        return _refusal(Kind.CREDENTIALS, code, f"{error.operation_name}: {text}", _DO_CREDENTIALS)
    rules = CODES.get(code.removesuffix("Exception").removesuffix("Error"))
    if rules is None:
        refused = 400 <= status < 500
        rules = (*_ANY_CODE, HTTP.get(status, Rule(kind=Kind.RETRY))) if refused else _always(Kind.AMBIGUOUS, _DO_OPEN)
    rule = _first(rules, text, ours)
    return _refusal(rule.kind, code, text, _do(rule.do, action))


_ADDRESS = re.compile(r"<[^<>]{0,320}>|[^\s<>,;:'\"]{0,320}@[^\s<>,;:'\"]*")


def _first(rules: Sequence[Rule], text: str, ours: re.Pattern[str] | None) -> Rule:
    """The rule that decides. Every sequence ends with one that fits every text."""
    text = text[:MAX_TEXT]
    named = ours is not None and ours.search(text) is not None
    masked = _ADDRESS.sub("@", text)  # a recipient `reply-to@…` must not look like a fault in our Reply-To
    return next(rule for rule in rules if rule.fits(masked, named))


def _pattern(addresses: str) -> re.Pattern[str] | None:
    """Finds one of our addresses in a text, or the domain of one where it stands alone; None without an address."""
    bare = [address for _, address in getaddresses([addresses]) if "@" in address]
    words = [*bare, *(address.rpartition("@")[2] for address in bare)]
    if not words:
        return None
    return re.compile(rf"(?<![\w.+@-])({'|'.join(map(re.escape, words))})(?![\w-]|\.\w)", re.IGNORECASE)


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
    (re.compile(r"(?<=://)[^/\s@]+@"), "…@"),
)
_LONG_TOKEN = re.compile(r"(?<![\w/+=])[A-Za-z0-9/+=]{40,}(?![\w/+=])")  # a secret key has 40 characters, a token more


def _refusal(kind: Kind, code: str, text: str, do: str) -> Refusal:
    """Puts the sentence together: SES's own text, cut if need be, then what to do about it."""
    said = text[:MAX_TEXT]
    for pattern, replacement in _SECRETS:
        said = pattern.sub(replacement, said)
    if kind is Kind.CREDENTIALS:
        said = _LONG_TOKEN.sub("…", said)
    code = _CONTROL.sub(" ", code).strip()[:MAX_CODE]
    said = _CONTROL.sub(" ", said).strip() or code
    hint = f" ({do})" if do else ""
    room = MAX_REASON - len(hint)
    said = said if len(said) <= room else said[: room - 1] + "…"
    return Refusal(kind=kind, code=code, reason=said + hint, do=do)
