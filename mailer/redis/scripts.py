"""Lua scripts, each in a file of its own. Every one runs atomically in Redis, in one round trip, on Redis's clock.

They take lists of keys of one installation, so they run on one Redis (or one Sentinel set), not on a Cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError, RedisError

from .client import RedisClient
from .errors import note_unanswered, unanswered

_KEYS = re.compile(r"^-- KEYS: ([a-z_]+(?:, [a-z_]+)*)(?:, \.\.\.)?$", re.MULTILINE)
_INCLUDE = "-- include "  # then a path from the folder that has `mailer`; that file stands in place of the line, once
CLOCK = "mailer/redis/lua/lib/clock.lua"


class Scripts:
    """The scripts of one room, by the names of the files in its folder `lua`. `clock` is Lua that defines now_us(); tests put a
    clock of their own in the place of Redis's."""

    def __init__(self, redis: RedisClient, room: str, clock: str | None = None) -> None:
        self._redis = redis
        self._clock = clock
        time = clock or _read(CLOCK)
        self._script = {name: redis.register_script(time + text) for name, text in texts(room).items()}

    def of(self, room: str) -> Scripts:
        """Those of another room, on the same Redis and by the same clock."""
        return Scripts(self._redis, room, self._clock)

    async def run(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        """A server that does not know the script is given its text, in one step: when a replica has become the master, the next
        command may meet another server than this one."""
        script = self._script[name]
        try:
            return await self._redis.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError as unknown:
            try:
                return await self._redis.eval(script.script, len(keys), *keys, *args)
            except (RedisError, OSError) as error:
                note_unanswered(error, unanswered(error) + unanswered(unknown))
                raise

    async def queue(self, pipe: Pipeline, name: str, keys: Sequence[str], args: Sequence[Any]) -> None:
        """To be run with the other commands of a pipeline."""
        await self._script[name](keys=keys, args=args, client=pipe)

    async def now_ms(self) -> int:
        """The time of the scripts. O(1)."""
        return int(await self.run("now", []))


@cache
def texts(room: str) -> Mapping[str, str]:
    """Name → text of each script of a room, and of those that all rooms have, with what it includes but the clock."""
    folders = [files(package) / "lua" for package in dict.fromkeys(("mailer.redis", room))]
    paths = [path for folder in folders for path in folder.iterdir() if path.name.endswith(".lua")]
    return {path.name.removesuffix(".lua"): _whole(_with_keys(path.read_text()), set()) for path in paths}


def _with_keys(text: str) -> str:
    """Behind the line `-- KEYS: a, b` each key is a local of its name; where the script says `keys`, that is a table of them."""

    def named(match: re.Match[str]) -> str:
        names = match[1].split(", ")
        lines = [match[0], f"local {match[1]} = unpack(KEYS, 1, {len(names)})"]
        if re.search(r"\bkeys\b", text[match.end() :]):
            lines.append(f"local keys = {{{', '.join(f'{name} = {name}' for name in names)}}}")
        return "\n".join(lines)

    return _KEYS.sub(named, text, count=1)


def _whole(text: str, there: set[str]) -> str:
    """`there`: what is included already."""
    lines = []
    for line in text.splitlines(keepends=True):
        if not line.startswith(_INCLUDE):
            lines.append(line)
        elif (path := line.removeprefix(_INCLUDE).strip()) not in there:
            there.add(path)
            lines.append(_whole(_read(path), there))
    return "".join(lines)


@cache
def _read(path: str) -> str:
    return files("mailer").joinpath(*path.split("/")[1:]).read_text()


def flat(fields: Mapping[Any, Any]) -> list[Any]:
    """Field, value, field, value …, as scripts take them."""
    return [part for pair in fields.items() for part in pair]
