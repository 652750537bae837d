"""Redis: whether it is one that the ledger can be kept in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ..errors import ConfigError
from ..ledger import Ledger
from ..ledger.disk import Disk
from ..queue import advise_redis, explain_redis, safe_url
from ..redis.access import OPTIONAL, access, rule
from ..redis.client import RedisClient
from ..settings import Settings
from .finding import Finding, ok, told, warning, wrong

LEAST = {"Redis": (7, 0), "Valkey": (7, 2)}
FULL = 0.8  # of maxmemory
CLOCK_S = 5.0  # between this machine and Redis: `send_at` and the reports go by both
CLOCK_LOOKS = 5
BY_HAND = (
    "look by hand: Redis 7.0 or Valkey 7.2 at least, no cluster, appendonly yes with appendfsync everysec or always, "
    "maxmemory-policy noeviction"
)
Info = Mapping[str, Any]


async def redis(settings: Settings, client: RedisClient) -> list[Finding]:
    """Whatever can be read off the server itself."""
    url = safe_url(settings.redis_url)
    try:
        info: Info = await client.info()
    except NoPermissionError:
        return [warning("redis", f"{url} answers, and does not let this user see INFO", BY_HAND)]
    except ResponseError as error:
        if "unknown command" in str(error):  # whoever runs it for us has taken it away
            return [warning("redis", f"{url} answers, and does not let this user see INFO", BY_HAND)]
        return [unanswered("redis", url, error)]
    except (RedisError, OSError) as error:
        return [unanswered("redis", url, error)]
    save, policy = await _config(client, "save"), await _config(client, "appendfsync")
    return [
        _server(url, info),
        *_role(info),
        _persistence(info, policy=policy, save=save),
        _memory(info),
    ]


def unanswered(check: str, what: str, error: Exception) -> Finding:
    why = explain_redis(error)
    return wrong(check, f"{what}: {why}" if what else why, advise_redis(error), cause=f"redis: {why}")


async def _config(client: RedisClient, name: str) -> str | None:
    """None where whoever runs the server forbids CONFIG."""
    try:
        found = (await client.config_get(name)).get(name)
    except ResponseError:
        return None
    return None if found is None else str(found)


def _server(url: str, info: Info) -> Finding:
    kind = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    text = str(info.get("valkey_version" if kind == "Valkey" else "redis_version", "?"))
    least = LEAST[kind]
    found = f"{url} answers: {kind} {text}"
    if info.get("loading"):
        return wrong("redis", f"{found}, which is still loading its data", "wait until it has")
    try:
        number = tuple(int(part) for part in text.split(".")[:2])
    except ValueError:
        return warning("redis", f"{found}, whose version cannot be read", "use Redis 7.0 or Valkey 7.2, or a later one")
    if number < least:
        return wrong("redis", f"{found} is too old", f"use {kind} {least[0]}.{least[1]} or a later one")
    return ok("redis", found)


def _role(info: Info) -> Iterator[Finding]:
    if info.get("role", "master") != "master":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        yield wrong(
            "redis role", f"this is a replica, which cannot be written to, of {master}", "set MAILER_REDIS_URL to the master"
        )
    if info.get("cluster_enabled"):
        yield wrong(
            "redis role", "cluster mode is on, and the scripts take keys of several slots", "use one without it, or Sentinel"
        )


def _persistence(info: Info, *, policy: str | None, save: str | None) -> Finding:
    name = "redis persistence"
    if not info.get("aof_enabled"):
        return _without_file(name, info, save)
    if info.get("aof_last_write_status", "ok") != "ok":
        return wrong(name, "the last write to the append-only file failed", "see the server's log, and whether its disk is full")
    if policy is None:
        do = "CONFIG is forbidden here: see by hand that appendfsync is everysec or always"
        return warning(name, "there is an append-only file; how often it is synced cannot be seen", do)
    if policy == "no":
        found = "append-only file, appendfsync no: a power cut takes some 30 s with it"
        return warning(name, found, "set appendfsync everysec, or always")
    if info.get("aof_last_bgrewrite_status", "ok") != "ok":
        return warning(name, "the last rewrite of the append-only file failed, so it grows", "see the server's log, and its disk")
    lost = "nothing" if policy == "always" else "the last second, two where the disk is slow"
    return ok(name, f"append-only file, appendfsync {policy}: a power cut takes {lost}")


def _without_file(name: str, info: Info, save: str | None) -> Finding:
    do = "set appendonly yes (CONFIG SET appendonly yes, and in its configuration file)"
    if save == "":
        return wrong(name, "nothing is written to the disk: a restart forgets every message and campaign", do)
    if save and info.get("rdb_last_bgsave_status", "ok") != "ok":
        return wrong(
            name, "the last snapshot failed, so Redis may refuse to write", f"see the server's log and its disk, and {do}"
        )
    if save is None:
        return warning(name, "no append-only file, and whether there are snapshots cannot be seen: CONFIG is forbidden", do)
    return warning(name, "snapshots only: a crash forgets what came since the last one, and who was sent to", do)


def _memory(info: Info) -> Finding:
    name, used, most = "redis memory", int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", "?"))
    text = f"{used / 1e6:,.1f} MB of {most / 1e6:,.0f} MB, {policy}" if most else f"{used / 1e6:,.1f} MB, no maxmemory, {policy}"
    if policy != "noeviction":
        do = "set maxmemory-policy noeviction"
        found = f"{text}: when it is full, it throws away parts of what is to be sent"
        return (
            wrong(name, found, do)
            if most
            else warning(name, f"{text}: with a maxmemory it would throw away parts of the ledger", do)
        )
    if most and used > most:
        return wrong(name, f"{text}: it is full, and takes nothing more", "give it more maxmemory")
    if most and used > most * FULL:
        return warning(name, f"{text}: when it is full, nothing more can be stored", "give it more maxmemory")
    return ok(name, text)


async def scripts(ledger: Ledger, client: RedisClient) -> Finding:
    """Whether this user may do what the service does: run its commands and scripts, and write keys of the namespace."""
    name, namespace = "redis commands", ledger.keys.namespace
    try:
        may = await access(client, ledger.keys.trial)
        if may.keys or any(one not in OPTIONAL for one in may.commands):
            what = f"use the keys {namespace}:*" if may.keys else f"run: {', '.join(may.commands)}"
            user = client.connection_pool.connection_kwargs.get("username")
            return wrong(name, f"this user may not {what}", f"run: {rule(namespace, user, without=may.unknown)}")
        await ledger.now_ms()
        await client.set(ledger.keys.mark, 1, ex=60)
    except (RedisError, OSError) as error:
        return unanswered(name, "scripts and writes cannot be tried", error)
    return ok(name, f"scripts run, and {namespace}:* can be written")


async def clock(client: RedisClient) -> Finding:
    name = "redis clock"
    looks = list[tuple[float, float]]()  # how long it took, how far apart they are
    try:
        for _ in range(CLOCK_LOOKS):
            before = time.time()
            seconds, micros = await client.time()
            after = time.time()
            looks.append((after - before, seconds + micros / 1e6 - (before + after) / 2))
    except (RedisError, OSError) as error:
        return unanswered(name, "cannot be read", error)
    apart_s = min(looks)[1]  # of the quickest: other checks keep this process busy meanwhile
    if abs(apart_s) > CLOCK_S:
        found = f"{abs(apart_s):,.0f} s {'before' if apart_s > 0 else 'behind'} this machine's"
        return warning(name, found, "let both take their time from NTP: quotas go by Redis's clock, signatures by this one")
    return ok(name, f"as this machine's, within {max(0.1, abs(apart_s)):.1f} s")


async def intake(ledger: Ledger, client: RedisClient, settings: Settings) -> Finding:
    name = "intake on disk"
    if not settings.intake_fsync:
        return ok(name, "MAILER_INTAKE_FSYNC is not set: what is handed over is on the disk when appendfsync says so")
    try:
        await Disk(client, ledger.keys).began()
    except ConfigError as error:
        return told(name, error)
    except (RedisError, OSError) as error:
        return unanswered(name, "cannot be tried", error)
    if await _config(client, "appendfsync") == "no":
        return warning(name, "with appendfsync no each call waits for some 30 s, and gives up before", "set appendfsync everysec")
    return ok(name, "Redis can say what is on its disk (WAITAOF)")
