"""The ports of `mailer dev`: the usual ones, so that what was pasted into another terminal holds after a restart."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from dataclasses import dataclass

from ..errors import ConfigError
from .output import say

SES, HTTP, REDIS = 8005, 8006, 8007  # nobody else's by custom
_OURS, _TRIES = (20_000, 32_000), 20
_dice = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """As they were asked for: None is the usual one, or any where that is taken; 0 is any that is free."""

    ses: int | None = None
    http: int | None = None
    redis: int | None = None


ANY = Ports(ses=0, http=0, redis=0)


def choose(asked: int | None, usual: int, option: str, what: str) -> int:
    """The port that `what` is to listen on. Raises ConfigError where the one that was asked for cannot be had."""
    if asked == 0:
        return free_port()
    try:
        return _bind(usual if asked is None else asked)
    except OSError as error:
        if asked is not None:
            why = f"port {asked} cannot be listened on ({error.strerror}); name another one, or 0 for any that is free"
            raise ConfigError(where=option, why=why) from None
    port = free_port()
    say(f"port {usual} is taken, so {what} listens on {port}; {option} names another one", "yellow")
    return port


def free_port() -> int:
    """One that stays free until its server starts: below those that the system gives to connections (Linux: from 32768 on)."""
    for _ in range(_TRIES):
        with suppress(OSError):
            return _bind(_dice.randrange(*_OURS))
    return _bind(0)


def hold(port: int) -> socket.socket:
    """So that nobody else is given the port before what it is for has started. Raises OSError."""
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: their last connections do not matter
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        raise
    return holder


def _bind(port: int) -> int:
    """Raises OSError."""
    with hold(port) as holder:
        return int(holder.getsockname()[1])
