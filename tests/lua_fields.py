"""Which field of which hash a Lua script reads or writes, as its text says it.

A name of a variable stands for the same key in all scripts; where it does not, the tables below say so. What they do not know
is an error, so that a new script cannot be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .unit.test_lua import calls, split, tokens

_FILES = {path: path.read_text() for path in (Path(__file__).parents[1] / "mailer").rglob("*.lua")}
LIBRARIES = {path: text for path, text in _FILES.items() if path.parent.name == "lib" or path.stem in ("common", "clock")}
SCRIPTS = {path.stem: text for path, text in _FILES.items() if path not in LIBRARIES}
READ, WRITTEN, REMOVED = "read", "written", "removed"
COMMANDS = {
    **dict.fromkeys(("HGET", "HMGET", "HEXISTS", "HGETALL", "HKEYS"), READ),
    **dict.fromkeys(("HSET", "HSETNX", "HINCRBY"), WRITTEN),
    "HDEL": REMOVED,
}
# The name of a variable → the key of keys.py.
NAMES = {
    **{name: name for name in ("container", "chunk", "details", "limiter", "account", "history", "identities")},
    "calls_key": "calls",
    "ses": "suppressed_ses",
    "own": "suppressed_own",
    "removed": "suppressed_removed",
    "keys.chunk": "chunk",
    "prefix..day": "sent_ids",
    "prefix..set": "configuration_set",
}
BUCKETS = {"suppressed_own", "suppressed_ses"}  # whose fields are addresses, beside those of the key itself
# (script, expression) → keys, where the name alone does not say it.
ELSEWHERE: Mapping[tuple[str, str], Sequence[str]] = {
    ("add", "key"): ["idempotency"],
    ("plan", "key"): ["idempotency"],
    ("plan", "prefix..earlier[1]"): ["container"],
    ("abandon", "c[5]"): ["idempotency"],
    ("reap", "ARGV[3]..chunk_id"): ["chunk"],
    ("resume", "prefix..chunk_id"): ["chunk"],
    ("locate", "prefix..day"): ["sent_ids"],
    ("alike", "key"): ["alike"],
    ("hold", "key"): ["held"],
    ("gate", "key"): ["held", "alike"],
    ("suppressed", "own..name"): ["own bucket"],
    ("suppressed", "ses..name"): ["ses bucket"],
    **{(script, "key"): ["own bucket"] for script in ("suppress", "unsuppress", "resubscribe")},
    **{(script, "key"): ["ses bucket"] for script in ("delisted", "listed", "sweep_listed")},
    ("walk", "addresses..bucket(number)"): ["own bucket", "ses bucket"],
}
# An expression → the fields that it stands for; `None`: those that Python hands over.
FIELDS: Mapping[str, Sequence[str] | None] = {
    "digits(position)": ["<position>"],
    "'0'": ["<position>"],
    "digits(slot)": ["<slot>"],
    "old": ["<slot>"],
    "digits(number)": ["<number>"],
    "address": ["<address>"],
    "all[i]": ["<address>"],
    "note": ["k<position>"],
    "unpack(ARGV,3)": None,
    "unpack(ARGV,5)": None,
    "unpack(ARGV,8)": None,
    "unpack(ARGV,2)": None,
}
# The same of one script or function.
OWN_FIELDS: Mapping[tuple[str, str], Sequence[str]] = {
    ("count_why()", "field"): ["why:<reason>"],
    ("note_duplicate()", "field"): ["d<position>"],
    ("gate", "unpack(ARGV,5)"): ["<identity>"],
    ("settle", "'i'..position"): ["i<position>"],
    ("alike", "'m'..recipient"): ["m<recipient>"],
}
PREFIXES = {"n:": "n:<state>", "m:": "m:<state><manner>"}


class Access(NamedTuple):
    where: str  # a script, or with brackets a function that scripts share: `finish()`
    key: str
    field: str  # `*`: those that Python hands over
    how: str


_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end$", re.MULTILINE | re.DOTALL)
SHARED = {match[1]: tokens(match[0]) for text in LIBRARIES.values() for match in _FUNCTION.finditer(text)}


def bodies(script: str) -> dict[str, list[str]]:
    """What runs where the script does: its own text, and as `finish()` the shared functions that this comes to call."""
    own = tokens(SCRIPTS[script])
    found, waiting = {script: own}, [own]
    while waiting:
        for token in waiting.pop():
            if token in SHARED and f"{token}()" not in found:
                found[f"{token}()"] = SHARED[token]
                waiting.append(SHARED[token])
    return found


def accesses(script: str) -> Iterator[Access]:
    for body, found in bodies(script).items():
        for call in calls(found):
            name, *arguments = split(call, ",")
            command = "".join(name).strip("'")
            if command in COMMANDS:
                key, *rest = ("".join(argument) for argument in arguments)
                for one in keys(script, body, key):
                    for field in fields(body, command, rest):
                        yield Access(body, one, field, COMMANDS[command])


def keys(script: str, body: str, expression: str) -> Sequence[str]:
    if (script, expression) in ELSEWHERE:
        return ELSEWHERE[script, expression]
    if expression in NAMES:
        return [NAMES[expression]]
    raise LookupError(f"{script}.lua, {body}: which key is {expression}?")


def fields(body: str, command: str, arguments: Sequence[str]) -> Iterator[str]:
    if command in ("HGETALL", "HKEYS"):
        return
    if command == "HSET":
        last = arguments[-1]
        if last.startswith("unpack("):
            yield from field(body, last)
            arguments = arguments[:-1]
        arguments = arguments[::2]
    elif command in ("HSETNX", "HINCRBY"):
        arguments = arguments[:1]
    for argument in arguments:
        yield from field(body, argument)


def field(body: str, expression: str) -> Sequence[str]:
    if (body, expression) in OWN_FIELDS:
        return OWN_FIELDS[body, expression]
    if expression in FIELDS:
        return FIELDS[expression] or ["*"]
    if match := re.fullmatch(r"'([^']*)'", expression):
        return [next((name for start, name in PREFIXES.items() if match[1].startswith(start)), match[1])]
    if match := re.match(r"'([^']+)'\.\.", expression):
        return [PREFIXES.get(match[1], f"{match[1]}<position>")]
    raise LookupError(f"{body}: which field is {expression}?")


def scripts() -> list[str]:
    return sorted(SCRIPTS)
