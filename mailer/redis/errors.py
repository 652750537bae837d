"""What an error of Redis means: why, what to do, whether it passes, and whether anything can have been stored."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

MAX_WORDS = 300  # characters of what Redis says


class NoSentinel(RedisConnectionError):
    """None of the Sentinels answers as one."""


class NotSentinel(RedisConnectionError):
    """What answers in the place of a Sentinel is a Redis."""


class UnknownService(RedisConnectionError):
    """The Sentinels know no master of this name."""


class Trouble(NamedTuple):
    """Two parts of a sentence."""

    why: str
    do: str


class _Refusal(NamedTuple):
    """What Redis answers in place of doing what it is asked for."""

    code: str  # that the answer begins with, where redis-py has no class for it
    kind: type[RedisError]
    why: str
    do: str
    passes: bool = True  # without anybody changing what is asked for, or who asks


_ROOM = "give it more maxmemory, or keep lists and archives outside with MAILER_STORE_URL=file:… or s3:…; noeviction stays"
_TO_MASTER = "set MAILER_REDIS_URL to the master, or wait for the end of the fail-over"
_REFUSALS = (
    _Refusal("", OutOfMemoryError, "its memory is full (maxmemory)", _ROOM),
    _Refusal("", BusyLoadingError, "it is still loading its data", "wait until it has"),
    _Refusal("", ReadOnlyError, "it is a replica, which cannot be written to", _TO_MASTER),
    _Refusal("UNBLOCKED", ResponseError, "it has just become a replica, which cannot be written to", _TO_MASTER),
    _Refusal("MASTERDOWN", ResponseError, "it is a replica without its master", _TO_MASTER),
    _Refusal("MISCONF", ResponseError, "it cannot write to its disk", "see its log, and whether the disk is full"),
    _Refusal("NOREPLICAS", ResponseError, "too few of its replicas are there", "start them, or see min-replicas-to-write"),
    _Refusal("BUSY", ResponseError, "a script has kept it busy for too long", "wait until it is over, or see who runs it"),
    _Refusal("max", RedisConnectionError, "it takes no more clients (maxclients)", "raise its maxclients, or end other clients"),
)
_NO_DATABASE = _Refusal(
    "",
    ResponseError,
    "it has no database of the number that MAILER_REDIS_URL names",
    "write another number at the end of MAILER_REDIS_URL, such as redis://host:6379/0; most servers have databases 0 to 15",
    passes=False,
)
_MOVED = ("MASTERDOWN", "UNBLOCKED")
_LOGIN = "put the right user and password into MAILER_REDIS_URL: redis://user:password@host:port/0, unix://user:password@/path"
_NOT_REDIS = "set MAILER_REDIS_URL to the host and port of a Redis or Valkey"
_NETWORK = "see network, firewall and address"


def explain_redis(error: BaseException) -> str:
    """Why Redis does not do it: a part of a sentence. It has nothing of the command that was refused, nor of the URL."""
    return _trouble(error).why


def advise_redis(error: BaseException) -> str:
    """What to do about it: a part of a sentence."""
    return _trouble(error).do


def is_refused(error: BaseException) -> bool:
    """Redis is there, and does not do what it is asked for."""
    return _refusal(error) is not None


def passes(error: BaseException) -> bool:
    """It may be asked for the same again: Redis is away, or refuses for a reason that is not in what it is asked for."""
    refusal = _refusal(error)
    return refusal is None or refusal.passes


def has_moved(error: BaseException) -> bool:
    """Whoever answers is not the master any more: behind the same name, or by Sentinel, there may be another one."""
    return isinstance(error, ReadOnlyError) or (isinstance(error, ResponseError) and _words(error).split(" ")[0] in _MOVED)


def not_stored(error: BaseException) -> bool:
    """Nothing of the command was stored: it never went out, or Redis refused it each time it did. Else it may have been; a script
    that failed on its way has stored a part."""
    if type(error) is ResponseError and "script" in str(error):
        return False
    return isinstance(error, RedisError | OSError) and getattr(error, "unanswered", 1) == 0


def unanswered(error: BaseException | None) -> int:
    """How often the command went out and was not answered before this was raised."""
    return int(getattr(error, "unanswered", 0))


def note_unanswered(error: BaseException, times: int) -> None:
    error.unanswered = times  # type: ignore[attr-defined]


def note_answered(error: BaseException) -> None:
    """That Redis had answered to this client before: what it is, and how it is spoken to, is right."""
    error.answered = True  # type: ignore[attr-defined]


def note_tls(error: BaseException) -> None:
    """That it is of a connection by TLS."""
    error.over_tls = True  # type: ignore[attr-defined]


def of_tls(error: BaseException) -> bool:
    """It is no outage: one side speaks TLS and the other does not, or does not trust it."""
    return any(_of_tls(one) is not None for one in _causes(error))


# ---- refusals ------------------------------------------------------------------------------------------------------


def _refusal(error: BaseException) -> _Refusal | None:
    login = next((one for one in _causes(error) if isinstance(one, AuthenticationError)), None)
    if login is not None:
        asked = "required" in _words(login)
        why = "it wants a user and password" if asked else "it does not take this user and password"
        return _Refusal("", AuthenticationError, why, _LOGIN)
    if isinstance(error, NoPermissionError) or _is_of_a_script(error):
        do = "allow this user what `mailer doctor` names, or put another one into MAILER_REDIS_URL"
        said = _words(error).removeprefix("ACL failure in script: ").partition(" script: ")[0]
        return _Refusal("", NoPermissionError, f"this user may not do that: {said}", do, passes=False)
    for one in _REFUSALS:
        if isinstance(error, one.kind) and (not one.code or _words(error).split(" ")[0] == one.code):
            return one
    if isinstance(error, ResponseError) and "DB index" in str(error):
        return _NO_DATABASE
    if isinstance(error, ResponseError) and "unknown command" in str(error):
        said = _words(error).partition(", with args")[0]  # the rest is what recipients are to be sent
        do = "if it is a Sentinel, write redis+sentinel://host:port/service/0 into MAILER_REDIS_URL; else see `mailer doctor`"
        return _Refusal("", ResponseError, f"it answers: {said}", do, passes=False)
    if isinstance(error, ResponseError):
        return _Refusal("", ResponseError, f"it answers: {_words(error)}", "see `mailer doctor`", passes=False)
    return None


def _is_of_a_script(error: BaseException) -> bool:
    """What a user may not do in a script is said in other words; Redis 7.0 has its own."""
    text = str(error)
    return isinstance(error, ResponseError) and ("ACL failure in script" in text or "user executing the script can't" in text)


def _words(error: BaseException) -> str:
    """What Redis said, on one line and without what a terminal would obey. redis-py puts the command that was refused before
    it, and in that is what recipients are to be sent."""
    text = str(error)
    if text.startswith("Command # "):
        _, said, rest = text.rpartition(" of pipeline caused error: ")
        text = rest.strip("(\"',)") if said else ""
    text = " ".join(text.split()).rstrip(".")[:MAX_WORDS]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those behind it: redis-py raises one of its own for what the system says."""
    seen, one = set[int](), error
    while id(one) not in seen:
        yield one
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__) or error


# ---- a Redis that cannot be reached ----------------------------------------------------------------------------------


def _trouble(error: BaseException) -> Trouble:
    if refusal := _refusal(error):
        return Trouble(refusal.why, refusal.do)
    for kind, trouble in _OF_SENTINELS.items():
        if isinstance(error, kind):
            return trouble
    for one in _causes(error):
        if found := _of_tls(one) or _of_the_system(one):
            return found
    if isinstance(error, InvalidResponse) or any(isinstance(one, InvalidResponse) for one in _causes(error)):
        return Trouble("what answers there is not Redis", _NOT_REDIS)
    text = _words(error)
    if "Connect call failed" in text or "Connection refused" in text:  # asyncio's, of a name that stands for several addresses
        return _REFUSED
    if "onnection closed" in text or any(isinstance(one, ConnectionResetError | BrokenPipeError) for one in _causes(error)):
        if getattr(error, "answered", False):
            return Trouble("it ended the connection", "see its log")
        return _ENDED_BY_TLS if getattr(error, "over_tls", False) else _ENDED
    if isinstance(error, RedisTimeoutError) and "connecting" in text:
        return Trouble("no connection to it is made in time", _NETWORK)
    if "No connection available" in text:
        return Trouble("all connections of this process are in use", "see its load, and whether Redis is slow")
    if isinstance(error, RedisTimeoutError | TimeoutError):
        return Trouble("it does not answer in time", f"see its log and load, and {_NETWORK}")
    return Trouble(text or type(error).__name__, _NETWORK)


_ENDED = Trouble(
    "it ends the connection unanswered, as a port for TLS does",
    "begin MAILER_REDIS_URL with rediss:// if it is one, else see its log",
)
_CERTIFICATE = "give it one: ?ssl_certfile=/path/cert.pem&ssl_keyfile=/path/key.pem at the end of MAILER_REDIS_URL"
_ENDED_BY_TLS = Trouble(
    "it ends the connection unanswered, as a server does that wants a certificate of this client",
    f"{_CERTIFICATE}; else see its log",
)
_REFUSED = Trouble("nothing answers there", "start it, or set MAILER_REDIS_URL")
_OF_SENTINELS: dict[type[RedisError], Trouble] = {
    NotSentinel: Trouble(
        "a Redis answers there, and no Sentinel",
        "name the Sentinels in MAILER_REDIS_URL (redis+sentinel://host:26379/service/0), or that Redis alone (redis://host:6379/0)",
    ),
    NoSentinel: Trouble("none of its Sentinels answers", "start them, or correct their hosts and ports in MAILER_REDIS_URL"),
    UnknownService: Trouble("its Sentinels know no master of this name", "correct the name of the service in MAILER_REDIS_URL"),
    MasterNotFoundError: Trouble("its Sentinels know no master that is up", "wait for the end of the fail-over, and try again"),
}


_NO_TLS = Trouble("what answers there does not speak TLS", "use its TLS port, or begin MAILER_REDIS_URL with redis://")


def _of_tls(error: BaseException) -> Trouble | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrusted(error)
    if isinstance(error, ConnectionAbortedError) and "SSL handshake" in str(error):
        return _NO_TLS
    if not isinstance(error, ssl.SSLError):
        return None
    reason = str(error.reason or error)
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return Trouble("it wants a certificate of this client", _CERTIFICATE)
    if "UNKNOWN_CA" in reason or "BAD_CERTIFICATE" in reason:
        return Trouble("it does not trust the certificate of this client", "see ssl_certfile in MAILER_REDIS_URL")
    if "VERSION" in reason and "WRONG_VERSION" not in reason:
        return Trouble("it speaks no version of TLS that is known here", "set its tls-protocols to TLSv1.2 or later")
    return _NO_TLS


def _distrusted(error: ssl.SSLCertVerificationError) -> Trouble:
    said = _words(Exception(error.verify_message or "it cannot be verified"))
    why = f"its certificate is not trusted: {said[:1].lower() if said[1:2].islower() else said[:1]}{said[1:]}"
    if "expired" in said or "not yet valid" in said:
        return Trouble(why, "renew the certificate, and see the clocks of both machines")
    if "ostname" in said or "IP address" in said:
        return Trouble(why, "use the name in MAILER_REDIS_URL that its certificate is for")
    return Trouble(why, "name the CA: ?ssl_ca_certs=/path/ca.pem at the end of MAILER_REDIS_URL, or the variable SSL_CERT_FILE")


def _of_the_system(error: BaseException) -> Trouble | None:
    match error:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return Trouble("its name cannot be looked up now", "see the name server of this machine")
        case socket.gaierror():
            return Trouble("there is no host of this name", "correct the host in MAILER_REDIS_URL")
        case ConnectionRefusedError():
            return _REFUSED
        case FileNotFoundError():
            return Trouble(
                "there is no socket of this path", "start it with `unixsocket`, or correct the path in MAILER_REDIS_URL"
            )
        case PermissionError():
            return Trouble("this process may not open its socket", "see the owner of the socket, and `unixsocketperm`")
        case OSError() if "unreachable" in str(error):
            return Trouble("no way leads there from this machine", _NETWORK)
    return None
