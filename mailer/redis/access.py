"""What a user of Redis has to be allowed for all that the service does: no more, and a server that does not know one lacks it.

The doctor prints it as one command, and finds out which of it this user is not allowed. No channel is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

_OF_CONNECTIONS = ("ping", "select", "time", "watch", "unwatch", "multi", "exec")  # in this order they undo each other
_OF_SCRIPTS = ("eval", "evalsha", "script|exists", "script|load")
_OF_KEYS = ("del", "unlink", "exists", "expire", "pexpire", "persist", "pttl")
_OF_STRINGS = (
    *("get", "set", "mset", "psetex", "incrby", "strlen"),
    *("getrange", "setrange", "setbit", "bitfield_ro"),
)
_OF_HASHES = ("hexists", "hget", "hmget", "hgetall", "hkeys", "hset", "hsetnx", "hincrby", "hdel")
_OF_SETS = (
    *("sadd", "srem", "scard", "smembers"),
    *("zadd", "zrem", "zcard", "zcount", "zscore", "zrange", "zrevrange", "zrangebyscore", "zremrangebyscore"),
)
_OF_STREAMS = (
    *("xadd", "xack", "xdel", "xtrim", "xreadgroup", "xautoclaim"),
    *("xgroup|create", "xgroup|delconsumer", "xinfo|consumers"),
)
OPTIONAL = ("waitaof", "info", "config|get")  # all is sent without: they are for MAILER_INTAKE_FSYNC and the doctor
COMMANDS = (*_OF_CONNECTIONS, *_OF_SCRIPTS, *_OF_KEYS, *_OF_STRINGS, *_OF_HASHES, *_OF_SETS, *_OF_STREAMS, *OPTIONAL)
LATER: Mapping[str, str] = {"waitaof": "7.2"}  # in Redis since; an older one takes no rule that names it


def rule(namespace: str, user: str | None = None, *, without: Collection[str] = ()) -> str:
    """The command that makes such a user. `without`: those of LATER that the server does not know."""
    allowed = " ".join(f"+{name}" for name in COMMANDS if name not in without)
    return f"ACL SETUSER {user or 'mailer'} on >PASSWORD resetkeys ~{namespace}:* resetchannels -@all {allowed}"


# ---- what a user is not allowed --------------------------------------------------------------------------------------

# Redis says whether a user may run a command before it looks at what the key holds. So each is run on one key, whatever that
# holds by then, with arguments that neither wait nor change anything else. `KEY`, `DB`: the key, and the database in use.
_TRIED: Mapping[str, str] = {
    "ping": "",
    "select": "DB",
    "time": "",
    "unwatch": "",
    "multi": "",
    "exec": "",
    "eval": "return 0",
    "evalsha": "0 0",
    "script|exists": "0",
    "script|load": "return",
    "set": "KEY 1",
    "mset": "KEY 1",
    "psetex": "KEY 1 1",
    "incrby": "KEY 1",
    "expire": "KEY 1",
    "pexpire": "KEY 1",
    "getrange": "KEY 0 0",
    "setrange": "KEY 0 1",
    "setbit": "KEY 0 0",
    "bitfield_ro": "KEY GET u1 0",
    "hexists": "KEY f",
    "hget": "KEY f",
    "hmget": "KEY f",
    "hset": "KEY f 1",
    "hsetnx": "KEY f 1",
    "hincrby": "KEY f 1",
    "hdel": "KEY f",
    "sadd": "KEY 1",
    "srem": "KEY 1",
    "zadd": "KEY 1 1",
    "zrem": "KEY 1",
    "zscore": "KEY 1",
    "zcount": "KEY 0 0",
    "zrange": "KEY 0 0",
    "zrevrange": "KEY 0 0",
    "zrangebyscore": "KEY 0 0",
    "zremrangebyscore": "KEY 0 0",
    "xadd": "KEY * f 1",
    "xack": "KEY g 0-1",
    "xdel": "KEY 0-1",
    "xtrim": "KEY MAXLEN 0",
    "xreadgroup": "GROUP g c STREAMS KEY >",
    "xautoclaim": "KEY g c 0 0",
    "xgroup|create": "KEY g 0",
    "xgroup|delconsumer": "KEY g c",
    "xinfo|consumers": "KEY g",
    "waitaof": "0 0 1",
    "info": "server",
    "config|get": "save",
}  # of the others: the key


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a user lacks."""

    commands: Sequence[str]
    keys: bool  # the namespace's
    unknown: Sequence[str]  # to the server


async def access(redis: Redis, key: str) -> Access:
    """What this user may not do, found out on a key that is not there before or afterwards. One round trip. Raises what
    redis-py raises where Redis does not answer."""
    database = str(redis.connection_pool.connection_kwargs.get("db", 0))
    refused, unknown, keys = list[str](), list[str](), False
    async with redis.pipeline(transaction=False) as pipe:
        stage: Callable[..., object] = pipe.pipeline_execute_command  # which runs WATCH at its place, too
        for name in COMMANDS:
            words = _TRIED.get(name, "KEY").split(" ") if _TRIED.get(name, "KEY") else []
            args = [{"KEY": key, "DB": database}.get(word, word) for word in words]
            stage(*name.upper().split("|"), *args)
        stage("UNLINK", key)
        answers = await pipe.execute(raise_on_error=False)
    for name, answer in zip(COMMANDS, answers, strict=False):
        # Of EXEC it says so in other words: it aborts a transaction that there is not.
        lacks = isinstance(answer, NoPermissionError) or (isinstance(answer, ResponseError) and "NOPERM" in str(answer))
        if lacks and "to access" in str(answer):
            keys = True
        elif lacks:
            refused.append(name)
        elif isinstance(answer, ResponseError) and "unknown command" in str(answer):
            unknown.append(name)
    return Access(commands=refused, keys=keys, unknown=unknown)
