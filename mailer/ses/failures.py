"""The table of what is no answer of SES: exceptions of botocore, of aiohttp and of the operating system."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

import aiohttp
from botocore import exceptions as boto

from . import rules
from .rules import Kind

# Exceptions of botocore that are raised before there is a request, most special first.
BEFORE_REQUEST: Sequence[tuple[type[BaseException], Kind, str]] = (
    (boto.NoCredentialsError, Kind.CREDENTIALS, rules.DO_CREDENTIALS),
    (boto.PartialCredentialsError, Kind.CREDENTIALS, rules.DO_CREDENTIALS),
    (boto.CredentialRetrievalError, Kind.CREDENTIALS, rules.DO_CREDENTIALS),
    (boto.MetadataRetrievalError, Kind.CREDENTIALS, rules.DO_CREDENTIALS),
    (boto.TokenRetrievalError, Kind.CREDENTIALS, "sign in again: aws sso login"),
    (boto.SSOError, Kind.CREDENTIALS, "sign in again: aws sso login"),
    (boto.NoAuthTokenError, Kind.CREDENTIALS, rules.DO_CREDENTIALS),
    (boto.RefreshWithMFAUnsupportedError, Kind.CREDENTIALS, "use a role that needs no MFA code"),
    (boto.UnknownCredentialError, Kind.CREDENTIALS, rules.DO_CREDENTIALS),
    (boto.InvalidConfigError, Kind.CREDENTIALS, "correct the profile in AWS's configuration file"),
    (boto.ProfileNotFound, Kind.CREDENTIALS, "set AWS_PROFILE to a profile that exists, or unset it"),
    (boto.ConfigParseError, Kind.CREDENTIALS, "correct AWS's configuration file"),
    (boto.NoRegionError, Kind.CREDENTIALS, rules.DO_REGION),
    (boto.InvalidRegionError, Kind.CONFIG, "correct the region: AWS_REGION, or the sender's"),
    (boto.BaseEndpointResolverError, Kind.CONFIG, rules.DO_ENDPOINT),
    (boto.EndpointProviderError, Kind.CONFIG, rules.DO_ENDPOINT),
    (boto.InvalidEndpointConfigurationError, Kind.CONFIG, rules.DO_ENDPOINT),
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
