"""The error table: SES's code or bulk status, and its text → what kind of refusal that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


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
    BESIDE = "beside"  # another message of the same call was refused: again, without that one, or alone
    RETRY = "retry"  # provably not accepted: again with backoff, a bounded number of times, then it has failed
    AMBIGUOUS = "ambiguous"  # may have been accepted: unknown, never sent again unless a stated policy says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: of the rules of a code, the first that fits SES's text decides. Expressions are searched without case."""

    kind: Kind
    says: str = ""  # regular expression; "" fits every text
    about: tuple[str, ...] = ()  # and there is one sentence that has each of these, in any order,
    unless: str = ""  # and not this
    ours: bool = False  # and the text names one of our own addresses, or its domain
    alone: bool = False  # it is about one recipient, so it says nothing of the others
    do: str = ""  # what a human can do about it

    def fits(self, text: str, named: bool) -> bool:
        """`text` with the addresses masked, whether it `named` one of ours."""
        if (self.ours and not named) or not _found(self.says, text):
            return False
        return not self.about or any(
            all(_found(word, sentence) for word in self.about) and not (self.unless and _found(self.unless, sentence))
            for sentence in SENTENCES.split(text)
        )


def _found(expression: str, text: str) -> bool:
    return re.search(expression, text, re.IGNORECASE | re.DOTALL) is not None


SENTENCES = re.compile(r"(?<=[.!?;])\s+|[\r\n]+")


# ---- what a human can do -------------------------------------------------------------------------------------------

DO_SENDER = "verify the sender's address or domain in SES, in this region"
DO_SANDBOX = "the account is in the SES sandbox: verify the recipient, or ask for production access"
DO_DAILY = "sending goes on as the rolling 24-hour window frees"
DO_RATE = "sent again more slowly"
DO_INCIDENT = "neither the send rate nor the daily quota is named; see the AWS Health Dashboard if it lasts"
DO_PAUSED = "see the account's inbox and the SES console, and resume sending there"
DO_PAUSED_SET = "resume sending in the configuration set"
DO_PAUSED_TENANT = "see the tenant in the SES console, and resume its sending there"
DO_SUSPENDED = "answer the case in the AWS Support Center"
DO_MAIL_FROM = "publish the MX record of the custom MAIL FROM domain, or let SES use its default on failure"
DO_EXISTS = "create it in this account and region, or correct the name"
DO_POOL = "give the configuration set an IP pool that exists"
DO_PERMIT = (
    "check that the role may call ses:SendEmail, ses:SendRawEmail, ses:SendTemplatedEmail, ses:SendBulkEmail and "
    "ses:SendBulkTemplatedEmail on that resource"
)
DO_PERMIT_TO = "SES checks a recipient's identity of the same account, too: allow the role those actions on it, or on resource *"
DO_ALLOW = "allow the role that action, on resource *"
DO_CREDENTIALS = "give this process valid AWS credentials: AWS_PROFILE, a role or a key pair"
DO_CLOCK = "set this machine's clock: AWS takes a difference of 15 minutes at most"
DO_REGION = "set AWS_REGION"
DO_SCOPE = "the request was signed for another region or service than the endpoint's: check AWS_REGION and AWS_ENDPOINT_URL_SESV2"
DO_SIGN_UP = "the account is not signed up for SES in this region: open the SES console there once, or correct AWS_REGION"
DO_ENDPOINT = "check AWS_REGION and AWS_ENDPOINT_URL_SESV2"
DO_NETWORK = "check the network, the proxy, AWS_REGION and AWS_ENDPOINT_URL_SESV2"
DO_BETWEEN = "see what stands between here and SES: firewall, proxy, load balancer; check AWS_REGION and AWS_ENDPOINT_URL_SESV2"
DO_TLS = "check AWS_CA_BUNDLE, the proxy and AWS_ENDPOINT_URL_SESV2"
DO_OPEN = "SES may have accepted it"
OF_MESSAGES = (DO_RATE, DO_INCIDENT, DO_OPEN)

# ---- rules by text -------------------------------------------------------------------------------------------------
# SES uses one code for several things; its text says which. Texts: "Errors related to the sending quotas",
# "Amazon SES email sending errors" (developer guide).

# SES words one thing in many ways, and documents few of them. So the rules look for what a sentence is about and what is said
# of it, in any order.
_ABLE = r"\babilit(y|ies) to (send|use|deliver)\b|\b(sending|your) (privileges?|permissions?|access)\b"
_SENDER = rf"\baccount(s|'s)?\b|{_ABLE}|\bsending\b|\bto send\b"
_HALTED = r"\b(paus(ed?|ing)|suspen(d(ed)?|sion)|disabled|shut ?down)\b|\b(under|in|pending) (\w+ ){0,2}review\b"
_CLOSED = r"\b(blocked|restricted|on hold|closed|deactivated|terminated|banned|revoked|stopped|halted)\b"
_NOT_ABLE = r"\b(not (currently |yet )?(enabled|active|allowed|permitted|able)|inactive|unavailable)\b"
_FOR_GOOD = r"\b(suspen(d(ed)?|sion)|shut ?down|terminated|closed|banned|permanently)\b"
_PER_DAY = r"\b(daily|today|24[- ]?h(ou)?r?s?|(per|a|each|one|this) (24[- ]?hours?|day))\b"
_RATE_OF = (
    r"(?<!bounce )(?<!complaint )\brates?\b(?! of (bounces|complaints))|\b(per|a|each) (second|minute)\b|\btoo (fast|quickly)\b"
)
_SENT = r"\b(send|sending|sent|e-?mails?|messages?|recipients|accounts?)\b"
_EXCEEDED = r"\b(exceed(s|ed|ing)?|reached|hit|used up|exhausted|too (many|much|high|fast|quickly)|throttl(ed?|ing))\b"
_LIMIT = rf"\b(quotas?|limits?|maximum)\b|{_EXCEEDED}"
# What has a limit of its own, in each message or in the account.
_OTHER_LIMIT = (
    r"\b(size|length|larger|bytes|[kmg]i?b|depth|parts?|lines?|recipients?|destinations?|addresses|attachments?|headers?"
    r"|templates?|identit(y|ies)|contacts?|bounces?|complaints?|spam)\b"
)
# A sentence with one of these is about one message or recipient, and may have words in it that a list or a caller has written.
OF_MESSAGE = re.compile(
    r"\b(attachment|file|file ?names?|header|subject(?! to)|tags?|characters?|recipient|mailbox|attribute|variable|rendering)\b"
    r"|\bcontent (mentions|contains|has|was|is|flagged|rejected)\b|\btried to reach\b"
    r"|\b(value|constraint) (at|')|\b(illegal|invalid|malformed|bad) (e-?mail )?address"
    r"|\b(to|of) (this|that|the|an) (address|domain)\b"
    r"|[\w)\]}]\.(pdf|docx?|xlsx?|pptx?|odt|ods|txt|rtf|csv|zip|png|jpe?g|gif|svg|webp|html?|eml|ics|vcf|js|xml|json|mp[34])\b",
    re.IGNORECASE,
)

_DAILY = (
    Rule(
        kind=Kind.DAILY,
        says=r"\bmax24hoursend\b|daily (message |sending |send |e-?mail )?(quota|limit)"
        r"|\b24[- ]?h(ou)?r?s?\b[^.]{0,40}\b(quota|limit)"
        r"|\b(quota|limit)\b[^.]{0,40}\b24[- ]?h(ou)?r",
        do=DO_DAILY,
    ),
    Rule(
        kind=Kind.DAILY,
        about=(_PER_DAY, _LIMIT, rf"{_SENT}|\b(quotas?|allowance)\b"),
        unless=r"\b(bounces?|complaints?|old)\b",
        do=DO_DAILY,
    ),
)
_RATE = (
    Rule(kind=Kind.RATE, says=r"\b(sending|send|message) rate\b|\bmaxsendrate\b", do=DO_RATE),
    Rule(kind=Kind.RATE, about=(_RATE_OF, _SENT, _LIMIT), do=DO_RATE),
    Rule(kind=Kind.RATE, about=(r"\bthrottl", r"\b(sending|accounts?|e-?mails|messages)\b"), unless=r"\bquotas?\b", do=DO_RATE),
)
# Neither the day nor the rate is named. SES calls the one of 24 hours "the sending quota".
_QUOTA = (
    Rule(kind=Kind.DAILY, about=(r"\bquotas?\b", _EXCEEDED), unless=_OTHER_LIMIT, do=DO_DAILY),
    Rule(
        kind=Kind.DAILY,
        about=(r"\b(limits?|maximum|too many)\b", _EXCEEDED, r"\b(sending|accounts?|messages|e-?mails|message limit|to send)\b"),
        unless=_OTHER_LIMIT,
        do=DO_DAILY,
    ),
)
_OF_SET = r"\bconfiguration[ -]set\b"
_PAUSED_SET = (
    Rule(
        kind=Kind.PAUSED_SET,
        says=r"sending\b[^.]{0,40}\b(paused|disabled)\b.{0,200}configuration[ -]set"
        r"|configuration[ -]set.{0,200}(paused|sending\b[^.]{0,40}\bdisabled)",
        do=DO_PAUSED_SET,
    ),
    Rule(kind=Kind.PAUSED_SET, about=(_OF_SET, r"\b(paused?|suspended)\b"), do=DO_PAUSED_SET),
    Rule(kind=Kind.PAUSED_SET, about=(_OF_SET, _SENDER, _HALTED), do=DO_PAUSED_SET),
)
_PAUSED_TENANT = (
    Rule(
        kind=Kind.PAUSED,
        says=r"\btenant\b.{0,200}\b(paused|disabled|suspended)\b|\b(paused|disabled|suspended)\b.{0,200}\btenant\b",
        do=DO_PAUSED_TENANT,
    ),
    Rule(kind=Kind.PAUSED, about=(r"\btenant(s|'s)?\b", _HALTED), do=DO_PAUSED_TENANT),
)
_ACCOUNT = r"\baccount(s|'s)?\b"
_SUSPENDED = Rule(kind=Kind.SUSPENDED, about=(_ACCOUNT, _FOR_GOOD), unless=r"\btemporar", do=DO_SUSPENDED)
_PAUSED = (
    Rule(kind=Kind.PAUSED, about=(_SENDER, _HALTED), do=DO_PAUSED),
    Rule(kind=Kind.PAUSED, about=(rf"{_ACCOUNT}|{_ABLE}", _CLOSED), do=DO_PAUSED),
    Rule(kind=Kind.PAUSED, about=(_ACCOUNT, _NOT_ABLE, r"\b(send|sending|active|inactive)\b"), do=DO_PAUSED),
)
_CALLS = (
    Rule(kind=Kind.CALLS, says=r"\brate exceeded\b|\btoo many requests\b|\bthrottl(e|ed|ing)\b|\bslow ?down\b", do=DO_RATE),
    Rule(
        kind=Kind.CALLS, about=(rf"{_RATE_OF}|\brequests\b|\brequest (limit|quota)", _EXCEEDED), unless=_OTHER_LIMIT, do=DO_RATE
    ),
)
# These hold for more than the message, and SES tells them under the codes of a message, too ("MessageRejected: Sending paused
# for this account"). So they are looked for first, whatever the code is.
WHOLE = (*_DAILY, *_RATE, *_QUOTA, *_PAUSED_SET, *_PAUSED_TENANT, _SUSPENDED, *_PAUSED, *_CALLS)
_POOL = Rule(kind=Kind.CONFIG, says=r"\b(sending|dedicated|ip) (ip )?pool\b", do=DO_POOL)
# Of one recipient. Nothing of what a sender, an account or a quota may be worded by.
_ONE = (
    Rule(
        kind=Kind.MESSAGE,
        says=r"\A(?!.*\b(from|senders?|source|reply|return|your|accounts?|identit|tenant|quota|limit)\b)"
        r".*\b(address|recipient|mailbox|destination|domain|missing final)\b",
        alone=True,
    ),
    Rule(kind=Kind.MESSAGE, says=r"value at '(destination|bulkEmailEntries)", alone=True),
)
_MAIL_FROM = Rule(kind=Kind.CONFIG, says=r"MAIL FROM domain is not verified", do=DO_MAIL_FROM)
_FORBIDDEN = Rule(kind=Kind.CONFIG, says=r"not authorized to perform", do=DO_PERMIT)
# "The following identities failed the check in region EU-WEST-1: a@x, b@y", and the list may be cut with "…".
# Order matters: both the sender and, in the sandbox, the recipients can be in it, and the sender stops everything.
_NOT_VERIFIED = (
    Rule(kind=Kind.CONFIG, says=r"not verified", ours=True, do=DO_SENDER),
    Rule(kind=Kind.SANDBOX, says=r"identities failed the check[^:]{0,80}:\s*\S", do=DO_SANDBOX),
    Rule(kind=Kind.CONFIG, says=r"not verified", do=DO_SENDER),
)
# AWS names the action that it checked; those that do not send are not in the list of DO_PERMIT.
_NOT_SENDING = Rule(kind=Kind.CONFIG, says=r"not authorized to perform:? [`'\"]?ses:(?!Send)", do=DO_ALLOW)
_ABSENT = Rule(
    kind=Kind.CONFIG, says=r"\b(configuration[ -]set|template|tenant|contact list)\b.{0,200} (not exist|not found)", do=DO_EXISTS
)
# Parts of a request that are the same for every message of a campaign; a fault in one of them is nobody's bad row.
_SHARED = (
    Rule(kind=Kind.CONFIG, says=r"invalid from\b|\bfrom address\b", do=DO_SENDER),
    Rule(kind=Kind.CONFIG, says=r"\breply-?\s?to address|\bfeedback ?(forwarding|address)|\breturn-?\s?path\b"),
    Rule(kind=Kind.CONFIG, says=r"\b(configuration[ -]set|tenant|identity arn|endpoint ?id)\b"),
    Rule(kind=Kind.CONFIG, says=r"value at '(from|replyTo|feedback|configurationSet|tenant|endpointId)"),
    Rule(kind=Kind.CONFIG, says=r"value at '(defaultContent|content\.template\.template(Name|Arn))"),
    Rule(kind=Kind.CONFIG, says=r"address|domain|identit", ours=True, do=DO_SENDER),
)
# Not in the table, for it depends on who sends and who is sent to: the permission that lacks is one on a recipient's identity.
TO_RECIPIENT = Rule(kind=Kind.MESSAGE, do=DO_PERMIT_TO)
_SCOPED = Rule(kind=Kind.CREDENTIALS, says=r"\bscoped to\b", do=DO_SCOPE)
# For a code or a status that this table does not know.
ANY_CODE = (_SCOPED, _FORBIDDEN, _MAIL_FROM, *_NOT_VERIFIED, _ABSENT, _POOL)


def always(kind: Kind, do: str = "") -> tuple[Rule, ...]:
    return (Rule(kind=kind, do=do),)


_THROTTLED = always(Kind.CALLS, DO_INCIDENT)
_REFUSED = (*ANY_CODE, *_ONE, *always(Kind.MESSAGE))
_BAD = (*ANY_CODE, *_SHARED, *_ONE, *always(Kind.MESSAGE))
_SIGNED = (
    _SCOPED,
    Rule(kind=Kind.CREDENTIALS, says=r"expired|not yet|clock|skew", do=DO_CLOCK),
    *always(Kind.CREDENTIALS, DO_CREDENTIALS),
)

# ---- the table -----------------------------------------------------------------------------------------------------
# Codes of SES v2 (API reference, "SendEmail", "SendBulkEmail", "Common Errors"), with the spellings of v1 and of gateways
# beside them. The suffixes "Exception" and "Error" are left off: AWS pages and services do not agree on them.

CODES: Mapping[str, tuple[Rule, ...]] = {
    # declared on SendEmail and SendBulkEmail
    "TooManyRequests": always(Kind.CALLS, DO_RATE),
    "LimitExceeded": always(Kind.CONFIG, "raise the quota that is named, in the Service Quotas console"),
    "AccountSuspended": always(Kind.SUSPENDED, DO_SUSPENDED),
    "SendingPaused": always(Kind.PAUSED, DO_PAUSED),
    "MessageRejected": _REFUSED,
    "MailFromDomainNotVerified": always(Kind.CONFIG, DO_MAIL_FROM),
    "NotFound": always(Kind.CONFIG, DO_EXISTS),
    "BadRequest": _BAD,
    # throttling under its other names
    "Throttling": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "SlowDown": _THROTTLED,
    # permission
    "AccessDenied": (_NOT_SENDING, *always(Kind.CONFIG, DO_PERMIT)),
    "UnauthorizedOperation": always(Kind.CONFIG, DO_PERMIT),
    # credentials and clock
    "ExpiredToken": always(Kind.CREDENTIALS, DO_CREDENTIALS),
    "UnrecognizedClient": (_SCOPED, *always(Kind.CREDENTIALS, DO_CREDENTIALS)),
    "InvalidClientTokenId": (_SCOPED, *always(Kind.CREDENTIALS, DO_CREDENTIALS)),
    "MissingAuthenticationToken": always(Kind.CREDENTIALS, DO_CREDENTIALS),
    "NotAuthorized": always(Kind.CREDENTIALS, DO_CREDENTIALS),
    "OptInRequired": always(Kind.CREDENTIALS, DO_SIGN_UP),
    "SubscriptionRequired": always(Kind.CREDENTIALS, DO_SIGN_UP),
    "IncompleteSignature": _SIGNED,
    "InvalidSignature": _SIGNED,
    "SignatureDoesNotMatch": _SIGNED,
    "RequestExpired": always(Kind.CREDENTIALS, DO_CLOCK),
    "RequestTimeTooSkewed": always(Kind.CREDENTIALS, DO_CLOCK),
    # a request that is not what SES takes
    "Validation": _BAD,
    "InvalidParameterValue": _BAD,
    "MalformedHttpRequest": always(Kind.MESSAGE),
    "Serialization": always(Kind.MESSAGE),
    "RequestEntityTooLarge": always(Kind.MESSAGE, "make the message smaller: SES takes 40 MB, attachments in base64 included"),
    "UnknownOperation": always(Kind.CONFIG, DO_ENDPOINT),
    # v1's names for what v2 puts under a common code
    "ConfigurationSetDoesNotExist": always(Kind.CONFIG, DO_EXISTS),
    "TemplateDoesNotExist": always(Kind.CONFIG, DO_EXISTS),
    "ConfigurationSetSendingPaused": always(Kind.PAUSED_SET, DO_PAUSED_SET),
    "AccountSendingPaused": always(Kind.PAUSED, DO_PAUSED),
    # temporary; the last one is sent although the request may have been taken
    "RequestTimeout": always(Kind.RETRY),
    "InternalFailure": always(Kind.AMBIGUOUS, DO_OPEN),
    "InternalServer": always(Kind.AMBIGUOUS, DO_OPEN),
    "InternalService": always(Kind.AMBIGUOUS, DO_OPEN),
    "ServiceUnavailable": always(Kind.AMBIGUOUS, DO_OPEN),
    "RequestAborted": always(Kind.AMBIGUOUS, DO_OPEN),
}

# A 4xx whose code and text are both unknown, often of a proxy. It was not accepted. Should it hold for one message only, a
# few tries end it; should it hold for all, no million recipients are rejected on the first word: hence RETRY, not MESSAGE.
HTTP: Mapping[int, Rule] = {
    401: Rule(kind=Kind.CREDENTIALS, do=DO_CREDENTIALS),
    403: Rule(kind=Kind.CONFIG, do=DO_PERMIT),
    404: Rule(kind=Kind.CONFIG, do=DO_ENDPOINT),
    405: Rule(kind=Kind.CONFIG, do=DO_ENDPOINT),
    407: Rule(kind=Kind.CONFIG, do="give the proxy its credentials in HTTPS_PROXY"),
    413: Rule(kind=Kind.MESSAGE, do="make the message smaller: SES takes 40 MB, attachments in base64 included"),
    429: Rule(kind=Kind.CALLS, do=DO_RATE),
}

# BulkEmailEntryResult.Status (API reference). The reference's prose spells three of them differently.
STATUSES: Mapping[str, tuple[Rule, ...]] = {
    "SUCCESS": (),
    "MESSAGE_REJECTED": _REFUSED,
    "MAIL_FROM_DOMAIN_NOT_VERIFIED": always(Kind.CONFIG, DO_MAIL_FROM),
    "CONFIGURATION_SET_NOT_FOUND": always(Kind.CONFIG, DO_EXISTS),
    "CONFIGURATION_SET_DOES_NOT_EXIST": always(Kind.CONFIG, DO_EXISTS),
    "TEMPLATE_NOT_FOUND": always(Kind.CONFIG, DO_EXISTS),
    "TEMPLATE_DOES_NOT_EXIST": always(Kind.CONFIG, DO_EXISTS),
    "ACCOUNT_SUSPENDED": always(Kind.SUSPENDED, DO_SUSPENDED),
    "ACCOUNT_THROTTLED": always(Kind.RATE, DO_RATE),
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": always(Kind.DAILY, DO_DAILY),
    "INVALID_SENDING_POOL_NAME": always(Kind.CONFIG, DO_POOL),
    "ACCOUNT_SENDING_PAUSED": always(Kind.PAUSED, DO_PAUSED),
    "CONFIGURATION_SET_SENDING_PAUSED": always(Kind.PAUSED_SET, DO_PAUSED_SET),
    "INVALID_PARAMETER": _BAD,
    "INVALID_PARAMETER_VALUE": _BAD,
    "TRANSIENT_FAILURE": always(Kind.RETRY),
    "FAILED": (*ANY_CODE, *always(Kind.RETRY)),  # unspecified, but said to be not accepted, unlike a lost response
}
