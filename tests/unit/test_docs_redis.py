"""docs/redis.md has every key and every field, each with the scripts that write it, and nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields as fields_of
from functools import cache
from pathlib import Path

import pytest

from mailer.ledger.keys import Keys
from mailer.message.email import Lane
from mailer.ses.questions import AccountState

from .. import lua_fields
from ..redis_page import FIELDS, KEYS, pattern, rows

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("mailer", "worker") for path in sorted((ROOT / folder).rglob("*.py"))]
GIVEN = {"lane": Lane.BULK, "key": "arq:job:1"}  # in the place of the parameter's name
SIDE_BY_SIDE = {"own bucket", "ses bucket"}  # tables of addresses, which the page tells of in words


# ---- keys ------------------------------------------------------------------------------------------------------------


def members() -> list[str]:
    return [name for name in vars(Keys) if not name.startswith("_") and name != "namespace"]


def made(name: str) -> str:
    """The key with `<…>` in the place of what it is given."""
    member, keys = inspect.getattr_static(Keys, name), Keys("mailer")
    if isinstance(member, property):
        return str(getattr(keys, name))
    parameters = inspect.signature(getattr(keys, name)).parameters.values()
    given = [GIVEN.get(parameter.name, f"<{parameter.name}>") for parameter in parameters]
    return str(getattr(keys, name)(*given))


def test_every_key_is_in_the_page_and_no_other() -> None:
    assert KEYS.keys() == set(members())


@pytest.mark.parametrize("name", members())
def test_the_name_in_redis_is_that_of_the_page(name: str) -> None:
    assert pattern(KEYS[name][1].strip("`").replace("…", "")).match(made(name)), made(name)


@pytest.mark.parametrize("name", members())
def test_its_type_is_that_of_keys_py(name: str) -> None:
    """The docstring begins with it: `Sorted set: …`, `String, there for a while …`."""
    kind, doc = KEYS[name][2], inspect.getdoc(inspect.getattr_static(Keys, name)) or ""
    if kind not in ("see below", "any"):
        assert re.match("hash|table" if kind == "hash" else kind, doc.lower()), doc


# ---- fields ----------------------------------------------------------------------------------------------------------


@cache
def in_lua() -> dict[str, dict[str, set[str]]]:
    """Key → field → where a script writes or removes it; nowhere, where it is only read."""
    found = defaultdict[str, dict[str, set[str]]](lambda: defaultdict(set))
    for script in lua_fields.scripts():
        for one in lua_fields.accesses(script):
            if one.key not in SIDE_BY_SIDE and one.field != "*":
                found[one.key][one.field] |= {one.where} if one.how != lua_fields.READ else set()
    return found


def test_every_hash_has_a_table_of_fields_and_nothing_else_has() -> None:
    assert FIELDS.keys() == {name for name, row in KEYS.items() if row[2] == "hash"} | {"sent_ids"}


@pytest.mark.parametrize("key", FIELDS)
def test_every_field_of_a_script_is_in_the_table_with_those_that_write_it(key: str) -> None:
    for field, writers in in_lua()[key].items():
        assert {one.strip("`") for one in FIELDS[key][field] if one.startswith("`")} == writers, field


@pytest.mark.parametrize("key", FIELDS)
def test_no_field_of_the_table_is_one_that_nobody_reads_or_writes(key: str) -> None:
    assert FIELDS[key].keys() == in_lua()[key].keys() | in_python()[key]


def test_who_writes_a_field_is_said_of_each() -> None:
    assert [(key, field) for key, found in FIELDS.items() for field, writers in found.items() if writers == [""]] == []


# ---- fields in Python ------------------------------------------------------------------------------------------------

COMMANDS = {"hget", "hmget", "hset", "hsetnx", "hincrby", "hdel", "hexists"}
# What a call names by an expression whose value only the program knows.
BY_VALUE = {
    "account": {"name"},
    "identities": {"_LISTED_AT", "identity.key", "keys", "*keys"},
    "told": {"gone", "*gone"},
    "untagged": {"what"},
}
# The same → the fields that these are.
THEN: dict[str, set[str]] = {
    "identities": {"listed_at", "<identity>"},
    "told": {"<campaign>", "account:<account>", "newest"},
    "untagged": {"matched", "lost"},
    "account": {one.name for one in fields_of(AccountState)},
    "details": {"<position>"},
}


@cache
def in_python() -> dict[str, set[str]]:
    found = defaultdict[str, set[str]](set)
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for key, fields in calls(tree):
            found[key] |= fields
        for key, fields in handed_to_scripts(tree):
            found[key] |= fields
    for key, fields in THEN.items():
        found[key] |= fields
    return found


def handed_to_scripts(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """The fields that `add`, `plan` and `turn` are given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and node.name in ("add_message", "plan_campaign"):
            dicts = [one for one in ast.walk(node) if isinstance(one, ast.Dict)]
            yield "container", {text(key) for one in dicts for key in one.keys if key is not None}
            stored = [one.slice for one in ast.walk(node) if isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Store)]
            yield "container", {text(one) for one in stored}
        elif isinstance(node, ast.FunctionDef) and node.name == "_expiry":
            yield "container", {text(key) for one in ast.walk(node) if isinstance(one, ast.Dict) for key in one.keys if key}
        elif isinstance(node, ast.FunctionDef) and node.name == "_ses_list":
            read = [one for one in ast.walk(node) if isinstance(one, ast.Call) and text(one.func) in ("text", "when")]
            yield "suppressed_ses", {text(one.args[0]) for one in read if isinstance(one.args[0], ast.Constant)}
        elif isinstance(node, ast.Call) and text(node.func).endswith("self._keep"):
            yield "suppressed_ses", {keyword.arg for keyword in node.keywords if keyword.arg}


def calls(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    constants = {text(one.targets[0]): one.value for one in tree.body if isinstance(one, ast.Assign) and len(one.targets) == 1}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in COMMANDS:
                    for key in keys(node.args[0], function, tree):
                        yield key, named(key, node, function, constants)


def keys(expression: ast.expr, function: ast.AST, tree: ast.AST) -> Sequence[str]:
    found = re.findall(r"\b(?:_?keys|k)\.(\w+)", text(expression))
    if found:
        return found[:1]
    for scope in (function, tree):
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign):
                pairs = zip(targets(node.targets[0]), targets(node.value), strict=False)
                for target, value in pairs:
                    if target == text(expression) and (found := re.findall(r"\b(?:_?keys|k)\.(\w+)", value)):
                        return found[:1]
    known = {"table": [], "key": ["held", "alike"]}  # a table's own number of entries; a key of Holds
    return known[text(expression)]


def targets(node: ast.expr) -> list[str]:
    return [text(one) for one in node.elts] if isinstance(node, ast.Tuple) else [text(node)]


def named(key: str, call: ast.Call, function: ast.AST, constants: dict[str, ast.expr]) -> set[str]:
    """The fields that a call names; those that it names by a value are in THEN."""
    arguments: list[ast.expr] = list(call.args[1:])
    if call.args[1:] and isinstance(call.func, ast.Attribute) and call.func.attr in ("hset", "hincrby", "hsetnx"):
        arguments = arguments[:1]
    for keyword in call.keywords:
        if keyword.arg == "mapping":
            arguments += mapping(keyword.value, function)
    found = set[str]()
    for argument in arguments:
        found |= value(key, argument, constants)
    return found


def mapping(node: ast.expr, function: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Dict):
        return [key for key in node.keys if key is not None]
    found = list[ast.expr]()
    for one in ast.walk(function):
        if isinstance(one, ast.Assign | ast.AnnAssign) and one.value is not None:
            target = one.targets[0] if isinstance(one, ast.Assign) else one.target
            if text(target) == text(node) and isinstance(one.value, ast.Dict):
                found += [key for key in one.value.keys if key is not None]
            if isinstance(target, ast.Subscript) and text(target.value) == text(node):
                found.append(target.slice)
    return found


def value(key: str, node: ast.expr, constants: dict[str, ast.expr]) -> set[str]:
    if isinstance(node, ast.Constant):
        return {state(str(node.value))}
    if isinstance(node, ast.Starred):
        return value(key, node.value, constants)
    if isinstance(node, ast.Tuple):
        return {field for one in node.elts for field in value(key, one, constants)}
    if isinstance(node, ast.Name) and node.id in constants:
        return value(key, constants[node.id], constants)
    if isinstance(node, ast.Name) and node.id == "JUDGED_BY":
        return {"n:<state>", "m:<state><manner>"}
    if isinstance(node, ast.GeneratorExp):
        return {"n:<state>"}
    assert text(node) in BY_VALUE[key], f"{key}: which field is {text(node)}?"
    return set()


def state(field: str) -> str:
    return next((name for start, name in lua_fields.PREFIXES.items() if field.startswith(start)), field)


def text(node: ast.AST) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


# ---- scripts ---------------------------------------------------------------------------------------------------------


def test_the_functions_that_scripts_share_are_listed_with_those_that_call_them() -> None:
    found = {name.strip("`()"): set(re.findall(r"`(\w+)`", scripts)) for name, scripts in rows("| function | scripts |")}
    reached = {
        function: {script for script in lua_fields.scripts() if f"{function}()" in lua_fields.bodies(script)}
        for function in found
    }
    assert found == reached
    assert {name for row in KEYS.values() for name in re.findall(r"`(\w+)\(\)`", row[4])} <= found.keys()
    assert {
        one.strip("`()") for key in FIELDS.values() for who in key.values() for one in who if one.endswith(")`")
    } <= found.keys()


def test_every_script_that_is_named_as_a_writer_is_there() -> None:
    named = {name for row in KEYS.values() for name in re.findall(r"`([a-z_]+)`", row[4])}
    assert named <= set(lua_fields.scripts()) | {"WAITAOF", "MAILER_INTAKE_FSYNC", "MAILER_SOFT_BOUNCES_SUPPRESS"}


def test_no_field_of_lua_stands_for_a_key_that_is_not_there() -> None:
    assert in_lua().keys() <= FIELDS.keys()
