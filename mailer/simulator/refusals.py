"""How SES says no: the error codes with their HTTP status, and the status that a bulk entry gets for the same reason.

Codes and HTTP statuses: SES v2 API model, and the common errors of the API reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Code(StrEnum):
    """The error codes that this simulator answers with."""

    ACCESS_DENIED = "AccessDeniedException"
    ACCOUNT_SUSPENDED = "AccountSuspendedException"
    ALREADY_EXISTS = "AlreadyExistsException"
    BAD_REQUEST = "BadRequestException"
    INTERNAL_FAILURE = "InternalFailure"
    INVALID_NEXT_TOKEN = "InvalidNextTokenException"  # noqa: S105 - the name of an error, not a credential
    LIMIT_EXCEEDED = "LimitExceededException"
    MESSAGE_REJECTED = "MessageRejected"
    NOT_FOUND = "NotFoundException"
    SENDING_PAUSED = "SendingPausedException"
    SERIALIZATION = "SerializationException"
    THROTTLING = "ThrottlingException"
    TOO_LARGE = "RequestEntityTooLargeException"
    TOO_MANY_REQUESTS = "TooManyRequestsException"
    UNKNOWN_OPERATION = "UnknownOperationException"


HTTP_STATUS = {
    Code.ACCESS_DENIED: 403,
    Code.INTERNAL_FAILURE: 500,
    Code.NOT_FOUND: 404,
    Code.TOO_LARGE: 413,
    Code.TOO_MANY_REQUESTS: 429,
    Code.UNKNOWN_OPERATION: 404,
}  # every other code: 400


class Status(StrEnum):
    """BulkEmailStatus of the SES v2 model: what became of one entry of a SendBulkEmail call."""

    SUCCESS = "SUCCESS"
    MESSAGE_REJECTED = "MESSAGE_REJECTED"
    MAIL_FROM_DOMAIN_NOT_VERIFIED = "MAIL_FROM_DOMAIN_NOT_VERIFIED"
    CONFIGURATION_SET_NOT_FOUND = "CONFIGURATION_SET_NOT_FOUND"
    TEMPLATE_NOT_FOUND = "TEMPLATE_NOT_FOUND"
    ACCOUNT_SUSPENDED = "ACCOUNT_SUSPENDED"
    ACCOUNT_THROTTLED = "ACCOUNT_THROTTLED"
    ACCOUNT_DAILY_QUOTA_EXCEEDED = "ACCOUNT_DAILY_QUOTA_EXCEEDED"
    INVALID_SENDING_POOL_NAME = "INVALID_SENDING_POOL_NAME"
    ACCOUNT_SENDING_PAUSED = "ACCOUNT_SENDING_PAUSED"
    CONFIGURATION_SET_SENDING_PAUSED = "CONFIGURATION_SET_SENDING_PAUSED"
    INVALID_PARAMETER = "INVALID_PARAMETER"
    TRANSIENT_FAILURE = "TRANSIENT_FAILURE"
    FAILED = "FAILED"


class Refusal(Exception):
    """SES refuses a call, or, with `bulk` as its status, one entry of a bulk call."""

    def __init__(self, code: str, text: str, *, bulk: Status = Status.FAILED, http_status: int | None = None) -> None:
        super().__init__(code, text)
        self.code = str(code)
        self.text = text
        self.bulk = bulk
        self.http_status = http_status or HTTP_STATUS.get(Code(code), 400)


def bad_request(text: str) -> Refusal:
    return Refusal(Code.BAD_REQUEST, text, bulk=Status.INVALID_PARAMETER)


def constraint(where: str, rule: str) -> Refusal:
    """A constraint of the API model does not hold. `where` is the path as SES spells it: ``content.simple.subject``."""
    return bad_request(f"1 validation error detected: Value at '{where}' failed to satisfy constraint: {rule}")


def wrong_type(where: str) -> Refusal:
    return Refusal(Code.SERIALIZATION, f"{where} does not have the type that the API model says", bulk=Status.INVALID_PARAMETER)


def not_found(what: str, name: str, bulk: Status = Status.FAILED) -> Refusal:
    return Refusal(Code.NOT_FOUND, f"{what} {name} does not exist.", bulk=bulk)


def no_set(name: str, bulk: Status = Status.FAILED) -> Refusal:
    """SES puts the name of a configuration set, and of nothing else, in angle brackets."""
    return not_found("Configuration set", f"<{name}>", bulk)


def no_operation(method: str, path: str) -> Refusal:
    return Refusal(Code.UNKNOWN_OPERATION, f"The simulator has no operation at {method} {path[:200]}.")


def already_exists(what: str, name: str) -> Refusal:
    return Refusal(Code.ALREADY_EXISTS, f"{what} {name} already exists.")


def not_verified(identities: Iterable[str], region: str) -> Refusal:
    text = "Email address is not verified. The following identities failed the check in region {}: {}"
    return Refusal(Code.MESSAGE_REJECTED, text.format(region.upper(), ", ".join(identities)), bulk=Status.MESSAGE_REJECTED)


def rate_exceeded() -> Refusal:
    return Refusal(Code.TOO_MANY_REQUESTS, "Maximum sending rate exceeded.", bulk=Status.ACCOUNT_THROTTLED)


def calls_exceeded() -> Refusal:
    return Refusal(Code.TOO_MANY_REQUESTS, "Too many requests")


def quota_exceeded(code: str) -> Refusal:
    return Refusal(code, "Daily message quota exceeded.", bulk=Status.ACCOUNT_DAILY_QUOTA_EXCEEDED)


def account_paused() -> Refusal:
    text = (
        "Sending paused for this account. For more information, please check the inbox of the email address associated with "
        "your AWS account."
    )
    return Refusal(Code.SENDING_PAUSED, text, bulk=Status.ACCOUNT_SENDING_PAUSED)


def set_not_found(name: str, *, default: bool) -> Refusal:
    """A set that the call names, or the identity's default, which was deleted since."""
    if not default:
        return no_set(name, Status.CONFIGURATION_SET_NOT_FOUND)
    text = f"Configuration set <{name}>, the default of the identity, does not exist."
    return Refusal(Code.BAD_REQUEST, text, bulk=Status.CONFIGURATION_SET_NOT_FOUND)


def set_paused(name: str) -> Refusal:
    text = f"Sending paused for configuration set {name}."
    return Refusal(Code.SENDING_PAUSED, text, bulk=Status.CONFIGURATION_SET_SENDING_PAUSED)


def account_suspended() -> Refusal:
    text = "Your account's ability to send email has been permanently restricted."
    return Refusal(Code.ACCOUNT_SUSPENDED, text, bulk=Status.ACCOUNT_SUSPENDED)


def access_denied(account: str, action: str, resource: str) -> Refusal:
    text = f"User `arn:aws:iam::{account}:user/simulator' is not authorized to perform `ses:{action}' on resource `{resource}'"
    return Refusal(Code.ACCESS_DENIED, text, bulk=Status.MESSAGE_REJECTED)
