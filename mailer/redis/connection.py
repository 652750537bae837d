"""Connections to Redis, and their pool.

What redis-py 5.3 does otherwise:
 - nothing is repeated in here: a command is repeated whole, with a time limit, by `commands.py`;
 - when a server says that it is not the master any more, all connections that were made before are made anew before their next
   use, also those of other pools that share the `Era`: behind the same name there is another one, or Sentinel knows it;
 - an error tells whether the command that it is of had gone out: `unanswered` of `errors.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, ConnectionPool, RedisSSLContext
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .errors import NoSentinel, NotSentinel, UnknownService, has_moved, is_refused, note_tls, note_unanswered
from .url import RedisUrl

SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
HANDSHAKE = 0.8  # of that time, for TLS
MAX_CONNECTIONS = 64
POOL_TIMEOUT_S = 20  # wait for a free connection
HEALTH_S = 30  # a connection that was idle for so long is tried before it is used


class Era:
    """What the connections to one Redis have found out. Those of an era that is over are not used any more."""

    def __init__(self) -> None:
        self.number = 0
        self.answered = False  # a command was, once
        self.silent_until = 0.0  # of the event loop: the time of a command was over before it was answered

    def end(self, number: int) -> None:
        if number == self.number:  # else another connection has found out before
            self.number += 1


class _Sends(AbstractConnection):
    """A connection that writes without `asyncio.wait_for`.

    redis-py 5.3 makes a task of every write by it, which on Python 3.11 can swallow a cancellation: a worker would not
    stop on SIGTERM, nor a command on Ctrl-C. Writing under `asyncio.timeout` loses none, and is a tenth faster.
    """

    def __init__(self, *, era: Era, **options: Any) -> None:
        super().__init__(**options)
        self._era = era
        self._born = era.number
        self._aside = False  # what goes over it now is its own, and no caller's command

    @property
    def is_over(self) -> bool:
        return self.is_connected and self._born != self._era.number

    async def connect(self) -> None:
        if self.is_connected:
            return
        self._aside, born = True, self._era.number
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        finally:
            self._aside = False
        self._born = born

    async def check_health(self) -> None:
        """Not while it is being connected: what fails then is repeated from within, a connection in each connection."""
        if self._aside:
            return
        self._aside = True
        try:
            await super().check_health()  # type: ignore[no-untyped-call]
        finally:
            self._aside = False

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()
        if isinstance(command, str):
            command = command.encode()
        try:
            await self._write([command] if isinstance(command, bytes) else command)
        except BaseException as error:
            await self.disconnect(nowait=True)  # half a command may be on its way
            self._note(error)
            raise

    async def _write(self, parts: Iterable[bytes]) -> None:
        writer: Any = self._writer
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines(parts)
                await writer.drain()
        except TimeoutError:
            raise RedisTimeoutError("Timeout writing to socket") from None
        except OSError as error:
            raise RedisConnectionError(f"Error while writing to socket: {error}") from error

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            # Not `super()`: a connection by Sentinel would hide what the server said behind an error of its own.
            return await AbstractConnection.read_response(self, *args, **options)
        except ResponseError as error:
            if has_moved(error):
                self._era.end(self._born)
            raise
        except BaseException as error:
            self._note(error)
            raise

    def _note(self, error: BaseException) -> None:
        """That a command went out and was not answered."""
        if isinstance(self, SSLConnection):
            note_tls(error)
        if not self._aside and not (isinstance(error, RedisError) and is_refused(error)):
            note_unanswered(error, 1)


class _TCP(_Sends, Connection): ...


class _Handshakes(SSLConnection):
    def _connection_arguments(self) -> Mapping[str, Any]:
        """A port without TLS often says nothing to it: that is told apart from a host that does not answer."""
        return {
            **super()._connection_arguments(),
            "ssl_handshake_timeout": (self.socket_connect_timeout or CONNECT_TIMEOUT_S) * HANDSHAKE,
        }


class _TLS(_Sends, _Handshakes): ...


class _Unix(_Sends, UnixDomainSocketConnection):
    async def _connect(self) -> None:
        """redis-py logs in here, too, and hides what Redis says to that."""
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(path=self.path)


class _Managed(_Sends, SentinelManagedConnection): ...


class _ManagedTLS(_Sends, SentinelManagedConnection, _Handshakes): ...


class _Renews(ConnectionPool):
    _seen = 0  # the number of the era in which a connection was asked for last

    async def ensure_connection(self, connection: Any) -> None:
        number = self.connection_kwargs["era"].number
        if self._seen != number:
            self._seen = number
            await self.disconnect(inuse_connections=False)
        if connection.is_over:
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)


class _Sentinels(Sentinel):
    """redis-py makes one error of three things: nobody answers, nobody knows the name, no master is up. A Redis that is named
    in the place of a Sentinel is passed over where another one answers."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        silent, others, known = list[RedisError](), list[RedisError](), False
        for number, sentinel in enumerate(self.sentinels):
            try:
                masters = await sentinel.sentinel_masters()  # type: ignore[no-untyped-call]
            except (RedisConnectionError, RedisTimeoutError) as error:
                silent.append(error)
                continue
            except ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                others.append(error)
                continue
            known = known or service_name in masters
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):
                self.sentinels[0], self.sentinels[number] = sentinel, self.sentinels[0]  # it is asked first from now on
                return state["ip"], state["port"]
        if len(silent) + len(others) == len(self.sentinels):
            if others:
                raise NotSentinel from others[0]
            raise NoSentinel from silent[0]
        raise MasterNotFoundError if known else UnknownService


class _Pool(_Renews, BlockingConnectionPool): ...


class _SentinelPool(_Renews, BlockingConnectionPool, SentinelConnectionPool): ...


def open_pool(url: RedisUrl, era: Era, *, timeout: float | None) -> ConnectionPool:
    """`timeout`: of a command, in seconds, where there is one. Raises ValueError where a file of TLS cannot be used."""
    options: dict[str, Any] = {
        "socket_timeout": min(SOCKET_TIMEOUT_S, timeout or SOCKET_TIMEOUT_S),
        "socket_connect_timeout": min(CONNECT_TIMEOUT_S, timeout or CONNECT_TIMEOUT_S),
        "health_check_interval": HEALTH_S,
        # Nothing needs to be known of this client, and a server before 7.2 does not know the command.
        "lib_name": None,
        "lib_version": None,
        **url.options,
    }
    most = options.pop("max_connections", MAX_CONNECTIONS)
    once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "retry_on_error": []}
    login: dict[str, Any] = {"username": url.username, "password": url.password}
    pool: dict[str, Any] = {
        "max_connections": most,
        "timeout": POOL_TIMEOUT_S,
        **options,
        **once,
        **login,
        "db": url.database,
        "era": era,
    }
    if url.tls:
        _check_files(options)
    if url.of_sentinels:
        asked = url.sentinel_username is not None or url.sentinel_password is not None
        theirs: dict[str, Any] = {"username": url.sentinel_username, "password": url.sentinel_password} if asked else login
        theirs |= {**options, **once, "health_check_interval": 0, "ssl": url.tls}
        sentinel = _Sentinels(url.hosts, sentinel_kwargs=theirs)  # type: ignore[no-untyped-call]
        kind = _ManagedTLS if url.tls else _Managed
        return _SentinelPool(connection_class=kind, service_name=url.service, sentinel_manager=sentinel, is_master=True, **pool)
    if url.path:
        return _Pool(connection_class=_Unix, path=url.path, **pool)
    ((host, port),) = url.hosts
    return _Pool(connection_class=_TLS if url.tls else _TCP, host=host, port=port, **pool)


def _check_files(options: Mapping[str, Any]) -> None:
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        path = options.get(name)
        if path is not None and not os.path.isfile(path):
            raise ValueError(f"{name} names {path}, and there is no such file")
    tls = {name.removeprefix("ssl_"): value for name, value in options.items() if name.startswith("ssl_")}
    try:
        RedisSSLContext(**{"cert_reqs": "required", **tls}).get()
    except (OSError, ValueError):
        raise ValueError(
            "ssl_ca_certs, ssl_certfile and ssl_keyfile must name PEM files that this process may read, and the key must be "
            "that of the certificate"
        ) from None


def is_transient(error: BaseException) -> bool:
    """Of the connection, or of a server that is not ready yet; not what it said of user and password."""
    if isinstance(error, BusyLoadingError):
        return True
    return isinstance(error, RedisConnectionError | RedisTimeoutError) and not isinstance(error, AuthenticationError)
