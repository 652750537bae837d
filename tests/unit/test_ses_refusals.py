"""The error table: what AWS documents, what botocore declares, and what the network really does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aioboto3
import aiohttp
import botocore
import pytest
from botocore import exceptions as boto
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from mailer.ses import refusals
from mailer.ses.gateway import Gateway
from mailer.ses.refusals import Kind, Refusal, Written, classify, classify_entry, classify_question

FROM = "news@example.com"
LISTED = "Email address is not verified. The following identities failed the check in region EU-WEST-1: "
FORBIDDEN = (
    "User `arn:aws:iam::123456789012:user/app' is not authorized to perform `ses:SendRawEmail' on resource "
    "`arn:aws:ses:eu-west-1:123456789012:identity/example.com'"
)


def answer(code: str, status: int, text: str, operation: str = "SendEmail") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (answer("AccessDeniedException", 403, "no", "GetEmailIdentity"), "no (the worker's role needs ses:GetEmailIdentity)"),
        (answer("TooManyRequestsException", 429, "Too many requests", "GetEmailIdentity"), "Too many requests"),
        (answer("InternalFailure", 500, "broken", "GetEmailIdentity"), "broken"),
        (boto.NoCredentialsError(), classify(boto.NoCredentialsError()).reason),
    ],
)
def test_of_a_question_the_reason_names_the_permission_and_nothing_that_was_to_be_sent(error: Exception, reason: str) -> None:
    assert classify_question(error, action="ses:GetEmailIdentity").reason == reason


# ---- every documented answer ---------------------------------------------------------------------------------------
# code, HTTP status, SES's text, the kind

ANSWERS: list[tuple[str, int, str, Kind]] = [
    ("TooManyRequestsException", 429, "Maximum sending rate exceeded.", Kind.RATE),
    ("TooManyRequestsException", 429, "Too many requests", Kind.CALLS),
    ("TooManyRequestsException", 429, "Daily message quota exceeded.", Kind.DAILY),
    ("ThrottlingException", 400, "Maximum sending rate exceeded", Kind.RATE),
    ("ThrottlingException", 400, "Daily message quota exceeded", Kind.DAILY),
    ("Throttling", 400, "Daily message quota exceeded", Kind.DAILY),
    ("Throttling", 400, "Rate exceeded", Kind.CALLS),
    ("LimitExceededException", 400, "Daily message quota exceeded.", Kind.DAILY),
    ("LimitExceededException", 400, "Maximum sending rate exceeded.", Kind.RATE),
    ("LimitExceededException", 400, "Too many instances of the resource", Kind.CONFIG),
    ("SendingPausedException", 400, "Sending paused for this account. For more information, please check the inbox", Kind.PAUSED),
    ("SendingPausedException", 400, "Sending paused for configuration set news.", Kind.PAUSED_SET),
    ("AccountSuspendedException", 400, "Account is suspended.", Kind.SUSPENDED),
    ("MessageRejected", 400, LISTED + "news@example.com, ana@example.org", Kind.CONFIG),
    ("MessageRejected", 400, LISTED + "ana@example.org, News <News@Example.com>", Kind.CONFIG),
    ("MessageRejected", 400, LISTED + "arn:aws:ses:eu-west-1:123456789012:identity/example.com", Kind.CONFIG),
    ("MessageRejected", 400, LISTED + "ana@example.org", Kind.SANDBOX),
    ("MessageRejected", 400, LISTED + "ana@example.com", Kind.SANDBOX),  # our domain, but not our address
    ("MessageRejected", 400, LISTED + "my-news@example.com, news@example.com.au…", Kind.SANDBOX),
    ("MessageRejected", 400, "Email address is not verified.", Kind.CONFIG),
    ("MessageRejected", 400, "Message contains a virus.", Kind.MESSAGE),
    ("MailFromDomainNotVerifiedException", 400, "Mail FROM domain is not verified", Kind.CONFIG),
    ("MessageRejected", 400, "Mail FROM domain is not verified", Kind.CONFIG),
    ("NotFoundException", 404, "Configuration set <news> does not exist.", Kind.CONFIG),
    ("NotFoundException", 404, "Template june does not exist.", Kind.CONFIG),
    ("BadRequestException", 400, "Missing final '@domain'", Kind.MESSAGE),
    ("BadRequestException", 400, "Local address contains control or whitespace", Kind.MESSAGE),
    ("BadRequestException", 400, "Missing domain", Kind.MESSAGE),
    ("BadRequestException", 400, "Domain contains control or whitespace", Kind.MESSAGE),
    ("BadRequestException", 400, "Invalid email address<ana@@example.org>.", Kind.MESSAGE),
    ("BadRequestException", 400, "Invalid email address<tenant>.", Kind.MESSAGE),
    ("BadRequestException", 400, "Invalid email address: configuration-set@example.org", Kind.MESSAGE),
    ("BadRequestException", 400, "Invalid email address<news@example.com>.", Kind.CONFIG),
    ("BadRequestException", 400, "Invalid From address provided.", Kind.CONFIG),
    ("BadRequestException", 400, "Reply-To address is invalid.", Kind.CONFIG),
    ("BadRequestException", 400, "The configuration set of the identity was deleted.", Kind.CONFIG),
    (
        "BadRequestException",
        400,
        "1 validation error detected: Value at 'content.simple.headers.1.member.name' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: ^[!-9;-@A-~]+$",
        Kind.MESSAGE,
    ),
    (
        "BadRequestException",
        400,
        "1 validation error detected: Value at 'configurationSetName' failed to satisfy constraint: …",
        Kind.CONFIG,
    ),
    (
        "BadRequestException",
        400,
        "1 validation error detected: Value at 'defaultContent.template.templateData' failed to satisfy constraint: …",
        Kind.CONFIG,
    ),
    ("AccessDeniedException", 403, FORBIDDEN, Kind.CONFIG),
    ("AccessDenied", 400, FORBIDDEN, Kind.CONFIG),
    ("ExpiredTokenException", 403, "The security token included in the request is expired", Kind.CREDENTIALS),
    ("UnrecognizedClientException", 403, "The security token included in the request is invalid.", Kind.CREDENTIALS),
    ("InvalidClientTokenId", 403, "The security token included in the request is invalid.", Kind.CREDENTIALS),
    ("IncompleteSignature", 400, "Authorization header requires 'Signature' parameter.", Kind.CREDENTIALS),
    ("SignatureDoesNotMatch", 403, "The request signature we calculated does not match", Kind.CREDENTIALS),
    ("InvalidSignatureException", 403, "Signature expired: 20261123T2200Z is now earlier than 20261123T2245Z", Kind.CREDENTIALS),
    ("RequestExpired", 400, "Request has expired.", Kind.CREDENTIALS),
    ("NotAuthorized", 401, "You do not have permission to perform this action.", Kind.CREDENTIALS),
    ("OptInRequired", 403, "The AWS access key id needs a subscription for the service", Kind.CREDENTIALS),
    ("SubscriptionRequiredException", 403, "The AWS Access Key Id needs a subscription for the service", Kind.CREDENTIALS),
    ("ValidationError", 400, "The input fails to satisfy the constraints", Kind.MESSAGE),
    ("MalformedHttpRequestException", 400, "bad", Kind.MESSAGE),
    ("SerializationException", 400, "NUMBER_VALUE can not be converted to a String", Kind.MESSAGE),
    ("RequestEntityTooLargeException", 413, "too large", Kind.MESSAGE),
    ("RequestTimeoutException", 408, "The request was not received in time", Kind.RETRY),
    ("InternalFailure", 500, "", Kind.AMBIGUOUS),
    ("InternalServerErrorException", 500, "", Kind.AMBIGUOUS),
    ("ServiceUnavailable", 503, "", Kind.AMBIGUOUS),
    ("RequestAbortedException", 400, "", Kind.AMBIGUOUS),
    ("502", 502, "Bad Gateway", Kind.AMBIGUOUS),
    ("504", 504, "Gateway Timeout", Kind.AMBIGUOUS),
    # SES v1's names
    ("ConfigurationSetDoesNotExist", 400, "Configuration set <news> does not exist.", Kind.CONFIG),
    ("TemplateDoesNotExist", 400, "Template june does not exist.", Kind.CONFIG),
    ("ConfigurationSetSendingPausedException", 400, "", Kind.PAUSED_SET),
    ("AccountSendingPausedException", 400, "", Kind.PAUSED),
    ("InvalidParameterValue", 400, "Missing final '@domain'", Kind.MESSAGE),
    # codes that nobody declared: the text decides, then the status
    ("400", 400, LISTED + "ana@example.org", Kind.SANDBOX),
    ("400", 400, "Daily message quota exceeded.", Kind.DAILY),
    ("404", 404, "Template june does not exist.", Kind.CONFIG),
    ("403", 403, "", Kind.CONFIG),
    ("401", 401, "", Kind.CREDENTIALS),
    ("405", 405, "", Kind.CONFIG),
    ("407", 407, "", Kind.CONFIG),
    ("413", 413, "", Kind.MESSAGE),
    ("429", 429, "", Kind.CALLS),
    ("BrandNewException", 400, "something new", Kind.RETRY),
    ("BrandNewException", 500, "Daily message quota exceeded.", Kind.AMBIGUOUS),
    ("301", 301, "", Kind.AMBIGUOUS),
]


@pytest.mark.parametrize(("code", "status", "text", "kind"), ANSWERS)
def test_every_documented_answer_has_its_kind_and_keeps_its_text(code: str, status: int, text: str, kind: Kind) -> None:
    refusal = classify(answer(code, status, text), from_address=f'"News, weekly" <{FROM}>')
    assert (refusal.kind, refusal.code) == (kind, code)
    assert refusal.reason.startswith(text[:200] or code)


def test_the_feedback_address_counts_as_ours() -> None:
    error = answer("MessageRejected", 400, LISTED + "bounces@example.net")
    assert classify(error, from_address=f"{FROM}, bounces@example.net").kind is Kind.CONFIG
    assert classify(error, from_address=FROM).kind is Kind.SANDBOX


def test_an_answer_without_any_detail_is_still_classified() -> None:
    assert classify(ClientError({}, "SendEmail")).kind is Kind.AMBIGUOUS
    assert classify(ClientError({"ResponseMetadata": {"HTTPStatusCode": 400}}, "SendEmail")) == Refusal(
        kind=Kind.RETRY, code="400", reason="400"
    )


@pytest.mark.parametrize("operation", ["AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials"])
def test_a_refusal_of_our_role_says_nothing_about_the_message(operation: str) -> None:
    refusal = classify(answer("AccessDenied", 403, "not authorized to perform: sts:AssumeRole", operation))
    assert refusal.kind is Kind.CREDENTIALS
    assert operation in refusal.reason


# ---- botocore's own model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    folder = Path(botocore.__file__).parent / "data" / "sesv2"
    [path] = folder.glob("*/service-2.json*")
    data = path.read_bytes()
    loaded: dict[str, Any] = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return loaded


@pytest.mark.parametrize("operation", ["SendEmail", "SendBulkEmail"])
def test_every_error_that_botocore_declares_has_a_row_and_a_text(model: dict[str, Any], operation: str) -> None:
    declared = {error["shape"]: model["shapes"][error["shape"]] for error in model["operations"][operation]["errors"]}
    assert declared
    assert {name.removesuffix("Exception") for name in declared} <= set(refusals.CODES)
    rows = {(code, status) for code, status, _, _ in ANSWERS}
    assert {(name, shape["error"]["httpStatusCode"]) for name, shape in declared.items()} <= rows


def test_every_bulk_status_that_botocore_declares_has_a_row(model: dict[str, Any]) -> None:
    assert set(model["shapes"]["BulkEmailStatus"]["enum"]) <= set(refusals.STATUSES)


def test_every_row_of_the_table_is_tested_and_decides_for_every_text() -> None:
    tested = {code.removesuffix("Exception").removesuffix("Error") for code, _, _, _ in ANSWERS}
    spellings = {"RequestThrottled", "RequestLimitExceeded", "SlowDown", "UnauthorizedOperation", "MissingAuthenticationToken"}
    spellings |= {"RequestTimeTooSkewed", "UnknownOperation", "InternalService"}
    assert set(refusals.CODES) - tested <= spellings
    assert set(refusals.HTTP) <= {status for _, status, _, _ in ANSWERS}
    for rules in (*refusals.CODES.values(), *(rules for status, rules in refusals.STATUSES.items() if status != "SUCCESS")):
        assert (rules[-1].says, rules[-1].ours) == ("", False)
        assert all(re.compile(rule.says) for rule in rules)


# ---- the entries of SendBulkEmail ----------------------------------------------------------------------------------

ENTRIES: list[tuple[str, str, Kind]] = [
    ("MESSAGE_REJECTED", "Message contains a virus.", Kind.MESSAGE),
    ("MESSAGE_REJECTED", LISTED + FROM, Kind.CONFIG),
    ("MESSAGE_REJECTED", LISTED + "ana@example.org", Kind.SANDBOX),
    ("MESSAGE_REJECTED", FORBIDDEN, Kind.CONFIG),
    ("FAILED", FORBIDDEN, Kind.CONFIG),
    ("FAILED", "Tenant example does not exist.", Kind.CONFIG),
    ("MAIL_FROM_DOMAIN_NOT_VERIFIED", "", Kind.CONFIG),
    ("CONFIGURATION_SET_NOT_FOUND", "", Kind.CONFIG),
    ("CONFIGURATION_SET_DOES_NOT_EXIST", "", Kind.CONFIG),
    ("TEMPLATE_NOT_FOUND", "", Kind.CONFIG),
    ("TEMPLATE_DOES_NOT_EXIST", "", Kind.CONFIG),
    ("ACCOUNT_SUSPENDED", "", Kind.SUSPENDED),
    ("ACCOUNT_THROTTLED", "Maximum sending rate exceeded.", Kind.RATE),
    ("ACCOUNT_DAILY_QUOTA_EXCEEDED", "Daily message quota exceeded.", Kind.DAILY),
    ("INVALID_SENDING_POOL_NAME", "", Kind.CONFIG),
    ("ACCOUNT_SENDING_PAUSED", "", Kind.PAUSED),
    ("CONFIGURATION_SET_SENDING_PAUSED", "", Kind.PAUSED_SET),
    ("INVALID_PARAMETER", "Missing final '@domain'", Kind.MESSAGE),
    ("INVALID_PARAMETER_VALUE", "Missing final '@domain'", Kind.MESSAGE),
    ("TRANSIENT_FAILURE", "", Kind.RETRY),
    ("FAILED", "", Kind.RETRY),
    ("FAILED", "Daily message quota exceeded.", Kind.DAILY),
    ("SOMETHING_NEW", "who knows", Kind.RETRY),
]


@pytest.mark.parametrize(("status", "text", "kind"), ENTRIES)
def test_every_bulk_status_has_its_kind(status: str, text: str, kind: Kind) -> None:
    refusal = classify_entry({"Status": status, "Error": text}, from_address=FROM)
    assert refusal is not None
    assert (refusal.kind, refusal.code) == (kind, status)
    assert refusal.reason.startswith(text or status)


def test_every_bulk_status_is_tested() -> None:
    assert set(refusals.STATUSES) - {"SUCCESS"} <= {status for status, _, _ in ENTRIES}


def test_success_is_no_refusal() -> None:
    assert classify_entry({"Status": "SUCCESS", "MessageId": "m-1"}) is None


@pytest.mark.parametrize("result", [{}, {"MessageId": "m-1"}, {"Status": "SOMETHING_NEW", "MessageId": "m-1"}, {"Status": None}])
def test_an_entry_that_may_have_been_accepted_is_not_sent_again(result: dict[str, Any]) -> None:
    refusal = classify_entry(result)
    assert refusal is not None
    assert refusal.kind is Kind.AMBIGUOUS


# ---- exceptions that need no network -------------------------------------------------------------------------------

URL = "https://email.eu-west-1.amazonaws.com/"
_REQUEST_INFO = aiohttp.RequestInfo(url=None, method="CONNECT", headers=None, real_url=None)  # type: ignore[arg-type]

RAISED: list[tuple[BaseException, Kind]] = [
    (boto.NoCredentialsError(), Kind.CREDENTIALS),
    (boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), Kind.CREDENTIALS),
    (boto.CredentialRetrievalError(provider="custom-process", error_msg="exit 1"), Kind.CREDENTIALS),
    (boto.TokenRetrievalError(provider="sso", error_msg="Token has expired"), Kind.CREDENTIALS),
    (boto.UnauthorizedSSOTokenError(), Kind.CREDENTIALS),
    (boto.SSOTokenLoadError(error_msg="no token"), Kind.CREDENTIALS),
    (boto.NoAuthTokenError(), Kind.CREDENTIALS),
    (boto.MetadataRetrievalError(error_msg="timeout"), Kind.CREDENTIALS),
    (boto.RefreshWithMFAUnsupportedError(), Kind.CREDENTIALS),
    (boto.UnknownCredentialError(name="x"), Kind.CREDENTIALS),
    (boto.InfiniteLoopConfigError(source_profile="a", visited_profiles=["a"]), Kind.CREDENTIALS),
    (boto.ProfileNotFound(profile="prod"), Kind.CREDENTIALS),
    (boto.ConfigParseError(path="~/.aws/config"), Kind.CREDENTIALS),
    (boto.NoRegionError(), Kind.CREDENTIALS),
    (boto.InvalidRegionError(region_name="eu west 1"), Kind.CONFIG),
    (boto.UnknownEndpointError(service_name="sesv2", region_name="x"), Kind.CONFIG),
    (boto.EndpointResolutionError(msg="no"), Kind.CONFIG),
    (boto.InvalidEndpointConfigurationError(msg="no"), Kind.CONFIG),
    (boto.InvalidProxiesConfigError(), Kind.CONFIG),
    (boto.MissingDependencyException(msg="Missing Dependency: awscrt"), Kind.CONFIG),
    (boto.ParamValidationError(report="Missing required parameter"), Kind.MESSAGE),
    (boto.RangeError(value=1, param="p", min_value=2, max_value=3), Kind.MESSAGE),
    (boto.ConnectTimeoutError(endpoint_url=URL, error=aiohttp.ConnectionTimeoutError("Connection timeout")), Kind.UNREACHABLE),
    (boto.ProxyConnectionError(proxy_url="http://p", error=aiohttp.ClientHttpProxyError(_REQUEST_INFO, ())), Kind.UNREACHABLE),
    (aiohttp.InvalidURL("http://"), Kind.UNREACHABLE),
    (ConnectionRefusedError(111, "Connection refused"), Kind.UNREACHABLE),
    (socket.gaierror(-2, "Name or service not known"), Kind.UNREACHABLE),
    (boto.ReadTimeoutError(endpoint_url="https://sts.eu-west-1.amazonaws.com/", error=TimeoutError()), Kind.CREDENTIALS),
    (boto.ReadTimeoutError(endpoint_url=URL, error=TimeoutError()), Kind.AMBIGUOUS),
    (boto.EndpointConnectionError(endpoint_url=URL, error=aiohttp.ClientOSError(104, "reset")), Kind.AMBIGUOUS),
    (boto.EndpointConnectionError(endpoint_url=URL), Kind.AMBIGUOUS),  # as botocore's name promises, but without the proof
    (boto.ConnectTimeoutError(endpoint_url=URL), Kind.AMBIGUOUS),
    (boto.ConnectionClosedError(endpoint_url=URL), Kind.AMBIGUOUS),
    (boto.HTTPClientError(error=ValueError("x")), Kind.AMBIGUOUS),
    (boto.ResponseStreamingError(error="x"), Kind.AMBIGUOUS),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), Kind.AMBIGUOUS),
    (ResponseParserError("Unable to parse"), Kind.AMBIGUOUS),
    (aiohttp.ClientPayloadError("not completed"), Kind.AMBIGUOUS),
    (aiohttp.ServerDisconnectedError(), Kind.AMBIGUOUS),
    (aiohttp.SocketTimeoutError(), Kind.AMBIGUOUS),
    (TimeoutError(), Kind.AMBIGUOUS),
    (asyncio.CancelledError(), Kind.AMBIGUOUS),
    (ConnectionResetError(104, "Connection reset by peer"), Kind.AMBIGUOUS),
    (BrokenPipeError(32, "Broken pipe"), Kind.AMBIGUOUS),
    (OSError("?"), Kind.AMBIGUOUS),
    (RuntimeError("Session is closed"), Kind.AMBIGUOUS),
    (KeyError("anything else"), Kind.AMBIGUOUS),
]


@pytest.mark.parametrize(
    ("error", "kind"), RAISED, ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else ""
)
def test_only_a_failure_before_the_request_may_be_sent_again(error: BaseException, kind: Kind) -> None:
    refusal = classify(error)
    assert (refusal.kind, refusal.code) == (kind, type(error).__name__)
    assert refusal.reason


def test_every_exception_of_the_table_is_tested() -> None:
    assert {cls for cls, _, _ in refusals.BEFORE_REQUEST} <= {base for error, _ in RAISED for base in type(error).__mro__}


def test_an_answer_that_says_nothing_is_ambiguous() -> None:
    refusal = refusals.unusable("49 results for 50 entries")
    assert (refusal.kind, refusal.code) == (Kind.AMBIGUOUS, "UnusableAnswer")
    assert refusal.reason.startswith("49 results for 50 entries")


# ---- the reason ----------------------------------------------------------------------------------------------------


def test_a_reason_is_one_short_line_that_still_says_what_to_do() -> None:
    refusal = classify(answer("MessageRejected\n" + "x" * 500, 400, LISTED + "ana@example.org,\r\n\x00\x1b[31m " + "b" * 9_999))
    assert len(refusal.reason) == refusals.MAX_REASON
    assert len(refusal.code) == refusals.MAX_CODE
    assert (refusal.reason + refusal.code).isprintable()
    assert refusal.reason.endswith("… (the account is in the SES sandbox: verify the recipient, or ask for production access)")


SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEAoaCWV1LXdlc3QtMSJHMEUCIQD" * 4


@pytest.mark.parametrize(
    "error",
    [
        answer(
            "SignatureDoesNotMatch", 403, f"No match.\n\nThe Canonical String should have been\n'x-amz-security-token:{TOKEN}'"
        ),
        answer(
            "IncompleteSignature", 400, f"Authorization=AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/2026, Signature={TOKEN}"
        ),
        answer("InvalidClientTokenId", 403, "The key AKIAIOSFODNN7EXAMPLE is not valid"),
        boto.CredentialRetrievalError(provider="custom-process", error_msg=f'{{"SecretAccessKey": "{SECRET}"}}'),
        boto.CredentialRetrievalError(provider="custom-process", error_msg=f"printed {SECRET} and {TOKEN}"),
        boto.ProxyConnectionError(proxy_url="http://proxy", error=aiohttp.InvalidURL("http://user:wJalrXUtnFEMI@proxy")),
        boto.EndpointConnectionError(endpoint_url="http://user:wJalrXUtnFEMI@ses/", error=aiohttp.ClientOSError(1, "x")),
    ],
)
def test_a_reason_never_holds_a_credential(error: BaseException) -> None:
    reason = classify(error).reason
    assert not re.search("wJalrXUtnFEMI|IQoJb3JpZ2lu|IOSFODNN7", reason), reason


@pytest.mark.parametrize(
    "piece", ["a", "<", "token", "=:", "@", "not verified, failed the check ", "sending paused configuration set "]
)
def test_a_gateways_page_is_classified_in_no_time(piece: str) -> None:
    text = piece * 200_000
    start = time.process_time()
    classify(answer("BadRequestException", 400, text), from_address=FROM)
    assert time.process_time() - start < 0.5


# ---- what the network really does to a client ----------------------------------------------------------------------
# A real client against a real socket: what aiobotocore makes of aiohttp's failures is no part of anybody's contract.

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TIMEOUT_S = 0.5
BIG = 3_000_000  # bytes: more than the socket buffers of both sides take


def serves(data: bytes = b"", *, read: bool = True, linger: float = 0.0, reset: bool = False) -> Handler:
    """A server of one answer: reads the request (or does not), sends `data`, waits `linger` seconds, closes (or resets)."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if read:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(linger)
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    return handle


def says(status: int, body: bytes, kind: bytes = b"application/json", header: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d -\r\ncontent-type: %s\r\n%scontent-length: %d\r\n\r\n" % (status, kind, header, len(body))
    return head + body


def fails(status: int, code: str, text: str) -> bytes:
    return says(status, json.dumps({"message": text}).encode(), header=f"x-amzn-ErrorType: {code}\r\n".encode())


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@contextlib.asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port; when the block ends, so does every connection that it still has."""
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            running.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running)


@contextlib.asynccontextmanager
async def client(url: str, *, verify: bool = True, **config: Any) -> AsyncIterator[Any]:
    settings = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        parameter_validation=False,
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        **config,
    )
    session = aioboto3.Session(region_name="eu-west-1")
    async with session.client("sesv2", endpoint_url=url, verify=verify, config=settings) as made:
        yield made


async def send(ses: Any, size: int = 10) -> Any:
    body = {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "x" * size}}}
    return await ses.send_email(FromEmailAddress=FROM, Destination={"ToAddresses": ["a@b.example"]}, Content={"Simple": body})


async def refused(url: str, *, size: int = 10, **config: Any) -> tuple[str, Refusal]:
    async with client(url, **config) as ses:
        with pytest.raises(Exception) as raised:
            await send(ses, size)
    return type(raised.value).__name__, classify(raised.value, from_address=FROM)


CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
HTML = b"text/html"

EITHER = "ConnectionClosedError|EndpointConnectionError"  # whichever of FIN and RST is seen first

# What the server does; the size of the body; what aiobotocore raises; the kind.
BROKEN: dict[str, tuple[Handler, int, str, Kind]] = {
    "closes before reading": (serves(read=False), 10, EITHER, Kind.AMBIGUOUS),
    "resets before reading": (serves(read=False, reset=True), 10, "EndpointConnectionError", Kind.AMBIGUOUS),
    "resets while reading": (serves(read=False, linger=0.05, reset=True), BIG, "EndpointConnectionError", Kind.AMBIGUOUS),
    "closes after reading": (serves(), 10, "ConnectionClosedError", Kind.AMBIGUOUS),
    "resets after reading": (serves(reset=True), 10, "EndpointConnectionError", Kind.AMBIGUOUS),
    "half a head": (serves(CUT[:30]), 10, "ConnectionClosedError", Kind.AMBIGUOUS),
    "half a body": (serves(CUT), 10, "ConnectionClosedError", Kind.AMBIGUOUS),
    "half a body, then reset": (serves(CUT, linger=0.05, reset=True), 10, "ConnectionClosedError", Kind.AMBIGUOUS),
    "100 continue, then closes": (serves(b"HTTP/1.1 100 Continue\r\n\r\n"), 10, "ConnectionClosedError", Kind.AMBIGUOUS),
    "no HTTP": (serves(b"220 mail.example.com ESMTP\r\n\r\n"), 10, "HTTPClientError", Kind.AMBIGUOUS),
    "a broken header": (serves(b"HTTP/1.1 200 OK\r\n:::\x00\r\n\r\n"), 10, "HTTPClientError", Kind.AMBIGUOUS),
    "JSON of another shape": (serves(says(200, b"[]")), 10, "AttributeError", Kind.AMBIGUOUS),
    "no answer": (serves(linger=1), 10, "ReadTimeoutError", Kind.AMBIGUOUS),
    "half an answer, then nothing": (serves(CUT, linger=1), 10, "ReadTimeoutError", Kind.AMBIGUOUS),
    "502 of a gateway": (serves(says(502, b"<html>Bad Gateway</html>", HTML)), 10, "ClientError", Kind.AMBIGUOUS),
    "502 of another": (serves(says(502, b"<!DOCTYPE html>Bad Gateway", HTML)), 10, "ClientError", Kind.AMBIGUOUS),
    "503 without a body": (serves(says(503, b"")), 10, "ClientError", Kind.AMBIGUOUS),
    "500": (serves(fails(500, "InternalFailure", "")), 10, "ClientError", Kind.AMBIGUOUS),
    "503": (serves(fails(503, "ServiceUnavailable", "")), 10, "ClientError", Kind.AMBIGUOUS),
    "413": (serves(says(413, b"<html>Too Large</html>", HTML)), 10, "ClientError", Kind.MESSAGE),
    "403 of a gateway": (serves(says(403, b"<html>No</html>", HTML)), 10, "ClientError", Kind.UNREACHABLE),
    "404 without a body": (serves(says(404, b"")), 10, "ClientError", Kind.CONFIG),
    "429": (
        serves(fails(429, "TooManyRequestsException", "Maximum sending rate exceeded.")),
        10,
        "TooManyRequestsException",
        Kind.RATE,
    ),
    "a code with decoration": (
        serves(fails(400, "aws#LimitExceededException:http://x/", "Daily message quota exceeded.")),
        10,
        "LimitExceededException",
        Kind.DAILY,
    ),
    "the code in the body": (
        serves(says(400, json.dumps({"__type": "MessageRejected", "Message": LISTED + FROM}).encode())),
        10,
        "MessageRejected",
        Kind.CONFIG,
    ),
}


@pytest.mark.usefixtures("environment")
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, from 1 MiB
@pytest.mark.parametrize("what", BROKEN)
async def test_what_a_server_does_after_the_connection_stands(what: str) -> None:
    handler, size, raised, kind = BROKEN[what]
    async with listening(handler) as port:
        name, refusal = await refused(f"http://127.0.0.1:{port}", size=size)
    assert refusal.kind is kind, refusal
    assert name in raised.split("|"), refusal


@pytest.mark.parametrize("written", list(Written))
@pytest.mark.parametrize(
    ("cause", "of_a_part"),
    [
        (aiohttp.ServerDisconnectedError(), Kind.UNREACHABLE),
        (aiohttp.ClientOSError(104, "reset"), Kind.UNREACHABLE),
        (TimeoutError("stalled"), Kind.AMBIGUOUS),  # our own doing: a connection that is closed may still send what it holds
        (aiohttp.SocketTimeoutError("read"), Kind.AMBIGUOUS),
        (aiohttp.ClientConnectionError("something else"), Kind.AMBIGUOUS),
    ],
)
def test_a_request_that_went_out_in_part_is_sent_again_only_where_the_other_side_broke_it_off(
    written: Written, cause: Exception, of_a_part: Kind
) -> None:
    error = boto.ReadTimeoutError(endpoint_url="https://email.eu-west-1.amazonaws.com", error=cause)
    kinds = {Written.NOTHING: Kind.UNREACHABLE, Written.PART: of_a_part, Written.ALL: Kind.AMBIGUOUS}
    assert classify(error, written=written).kind is kinds[written]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("body", [b"", b"<html>login here</html>", b'{"MessageId": '])
async def test_botocore_takes_any_text_for_an_answer_so_the_message_id_must_be_looked_for(body: bytes) -> None:
    async with listening(serves(says(200, body))) as port, client(f"http://127.0.0.1:{port}") as ses:
        assert "MessageId" not in await send(ses)  # hence `unusable`


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that another SYN gets no answer."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.mark.usefixtures("environment")
async def test_a_connection_that_never_stood_can_be_tried_again(unused_port: int, full_port: int) -> None:
    dead = f"http://127.0.0.1:{unused_port}"
    for url, proxies, raised in (
        (dead, {}, "EndpointConnectionError"),
        ("http://no-such-host.invalid", {}, "EndpointConnectionError"),
        (f"http://127.0.0.1:{full_port}", {}, "ConnectTimeoutError"),
        (URL, {"https": dead}, "ProxyConnectionError"),
    ):
        name, refusal = await refused(url, proxies=proxies)
        assert (name, refusal.kind) == (raised, Kind.UNREACHABLE), (url, refusal)


@pytest.mark.usefixtures("environment")
async def test_a_proxy_that_refuses_can_be_tried_again_and_keeps_its_password() -> None:
    async with listening(serves(b"HTTP/1.1 407 -\r\ncontent-length: 0\r\n\r\n")) as port:
        name, refusal = await refused(URL, proxies={"https": f"http://me:opensesame@127.0.0.1:{port}"})
    assert (name, refusal.kind) == ("ProxyConnectionError", Kind.UNREACHABLE), refusal
    assert "opensesame" not in refusal.reason


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("handler", "raised"),
    [
        (serves(b"HTTP/1.1 400 Bad Request\r\n\r\n", read=False, linger=0.1), "SSLError"),
        (serves(read=False), "EndpointConnectionError"),
        (serves(read=False, reset=True), "EndpointConnectionError"),
        (serves(read=False, linger=1), "ConnectTimeoutError"),
    ],
    ids=["plain HTTP", "closes", "resets", "hangs"],
)
async def test_a_handshake_that_fails_can_be_tried_again(handler: Handler, raised: str) -> None:
    async with listening(handler) as port:
        name, refusal = await refused(f"https://127.0.0.1:{port}")
    assert (name, refusal.kind) == (raised, Kind.UNREACHABLE), refusal


# An own certificate for 127.0.0.1, signed by nobody; its key is as public as this file.
SELF_SIGNED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOJ/5trycqJvHEUgw
uXf+hk1kUMkm+0Rf70y7HlteO7ihRANCAATX0xuVOxATcBz2GyiWIYS7e3dRUf5D
aeV5Es62FO1OrdDLS17Ncaj++Mh0rgjOQYADSoYQo2sFPSt3LnPHz8zG
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBkDCCATagAwIBAgIUIHhBw3inrQrU9DUbIntqVTzosx0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMzIzMDQ0N1oYDzIxMjYxMDMw
MjMwNDQ3WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATX0xuVOxATcBz2GyiWIYS7e3dRUf5DaeV5Es62FO1OrdDLS17Ncaj+
+Mh0rgjOQYADSoYQo2sFPSt3LnPHz8zGo2QwYjAdBgNVHQ4EFgQUpAfX6yLCyDNq
eZRaNIAzByASOAswHwYDVR0jBBgwFoAUpAfX6yLCyDNqeZRaNIAzByASOAswDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUC
IEW1ImCId6Qj0aLv5OIXbmNxu/HrhY69fnIamUZMDRa8AiEA1DGdW0HLWqQ4yYrO
npz4a/9eDJN2ummPU/psSKzcYzg=
-----END CERTIFICATE-----
"""


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    pem = tmp_path / "self-signed.pem"
    pem.write_text(SELF_SIGNED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.mark.usefixtures("environment")
async def test_tls_a_certificate_that_is_not_trusted_and_a_reset_after_the_request(tls: ssl.SSLContext) -> None:
    async with listening(serves(reset=True), tls) as port:
        name, refusal = await refused(f"https://127.0.0.1:{port}")
        assert (name, refusal.kind) == ("SSLError", Kind.UNREACHABLE), refusal
        async with client(f"https://127.0.0.1:{port}", verify=False) as ses:
            with pytest.raises(boto.EndpointConnectionError) as raised:
                await send(ses)
        assert classify(raised.value).kind is Kind.AMBIGUOUS


@pytest.mark.usefixtures("environment")
async def test_a_kept_connection_that_the_server_drops_under_the_next_request_is_ambiguous() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says(200, b'{"MessageId": "m-1"}'))
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"POST ")

    async with listening(once) as port, client(f"http://127.0.0.1:{port}") as ses:
        assert (await send(ses))["MessageId"] == "m-1"
        with pytest.raises((boto.ConnectionClosedError, boto.EndpointConnectionError)) as raised:
            await send(ses)
    assert classify(raised.value).kind is Kind.AMBIGUOUS


@pytest.mark.usefixtures("environment")
async def test_a_call_that_is_cancelled_while_it_waits_is_ambiguous() -> None:
    async with listening(serves(linger=1)) as port, client(f"http://127.0.0.1:{port}") as ses:
        with pytest.raises(TimeoutError) as raised:
            await asyncio.wait_for(send(ses), 0.1)
    assert classify(raised.value).kind is Kind.AMBIGUOUS


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("count", [0, 1, 49, 51])
async def test_a_bulk_answer_of_another_length_leaves_every_message_in_doubt(count: int) -> None:
    results = [{"Status": "SUCCESS", "MessageId": f"m{n}"} for n in range(count)]
    body = json.dumps({"BulkEmailEntryResults": results}).encode()
    params = {"FromEmailAddress": FROM, "BulkEmailEntries": [{"Destination": {"ToAddresses": ["a@b.example"]}}] * 50}
    async with (
        listening(serves(says(200, body))) as port,
        Gateway(region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}") as gateway,
    ):
        answers, _ = await gateway.send("SendBulkEmail", params, json.dumps(params).encode())
    assert [(answer.message_id, answer.refusal and answer.refusal.kind) for answer in answers] == [(None, Kind.AMBIGUOUS)] * 50
