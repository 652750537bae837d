"""The Lua scripts as text: Redis is handed strings only, and a number becomes one in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest

from .. import lua

SCRIPTS = lua.FILES
LIBRARIES = "".join(text for path, text in SCRIPTS.items() if "/lib/" in path)
FORMATTERS = {"digits", "fraction"}  # of numbers.lua; what they return is text
NUMBERS = {"tonumber", "now_ms", "now_us", "math.", "struct.unpack", "select", ":byte", ":find", ":len"}
ARITHMETIC = set("+-*/%^#")
COUNTED = (["position"], ["number"])  # whole numbers from 0 up to some thousands, which may stand in a name as they are

Tokens = Sequence[str]
_TOKEN = re.compile(
    r"--[^\n]*|(?P<token>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|[A-Za-z_]\w*|0x[0-9a-fA-F]+|\d+(?:\.\d+)?|\.\.\.|\.\.|[=~<>]=|\S)"
)
_OPEN, _CLOSE = "({[", ")}]"
_NAME = re.compile(r"[A-Za-z_]\w*")
_KEYWORDS = frozenset(
    re.findall(
        r"\w+", "and break do else elseif end false for function if in local nil not or repeat return then true until while"
    )
)


def tokens(text: str) -> list[str]:
    return [match["token"] for match in _TOKEN.finditer(text) if match["token"]]


def closing(found: Tokens, opening: int) -> int:
    """The place of the bracket that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(found)):
        depth += (found[place] in _OPEN) - (found[place] in _CLOSE)
        if depth == 0:
            return place
    raise ValueError("a bracket is not closed")


def split(found: Tokens, *separators: str) -> list[Tokens]:
    """The parts between separators that stand in no bracket."""
    parts, depth, first = list[Tokens](), 0, 0
    for place, token in enumerate(found):
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0 and token in separators:
            parts.append(found[first:place])
            first = place + 1
    return [*parts, found[first:]] if found else []


def is_number(expression: Tokens, numbers: set[str]) -> bool:
    """Whether Lua has a number there, as far as the text of the script says it."""
    if expression[:1] == ["("] and closing(expression, 0) == len(expression) - 1:
        return is_number(expression[1:-1], numbers)
    if len(either := split(expression, "and", "or")) > 1:
        return any(is_number(part, numbers) for part in either[1:] if part)
    if len(split(expression, "..")) > 1:
        return False
    if any(token in ARITHMETIC for token in _outside(expression)):
        return True
    head = "".join(_outside(expression))
    if expression[:1] and expression[0] in FORMATTERS:
        return False
    if re.fullmatch(r"\d+(\.\d+)?|0x[0-9a-fA-F]+", head):
        return True
    called = expression[-1:] == [")"]
    if called and any(head.startswith(name) if name[0] != ":" else name in head for name in NUMBERS):
        return True
    return head in numbers and (called or _NAME.fullmatch("".join(expression)) is not None)


def _outside(expression: Tokens) -> list[str]:
    """What stands in no bracket."""
    outside, depth = list[str](), 0
    for token in expression:
        depth -= token in _CLOSE
        if depth == 0 and token not in _OPEN and token not in _CLOSE:
            outside.append(token)
        depth += token in _OPEN
    return outside


def numbers_of(found: Tokens) -> set[str]:
    """The variables that are given a number anywhere in the script, and the functions that return one."""
    numbers, before = set[str](), -1
    while len(numbers) > before:
        before = len(numbers)
        for names, values in _given(found):
            numbers |= {name for name, value in zip(names, values, strict=False) if value and is_number(value, numbers)}
    return numbers


def _given(found: Tokens) -> Iterator[tuple[list[str], list[Tokens]]]:
    function = ""
    for place, token in enumerate(found):
        if token == "function" and found[place + 1] != "(":
            function = found[place + 1]
        elif token == "return" and function:
            yield [function], split(_expressions(found, place + 1), ",")[:1]
        elif token == "for" and found[place + 2] == "=":
            yield [found[place + 1]], [["0"]]
        elif token == "=":
            names = list[str]()
            at = place - 1
            while _NAME.fullmatch(found[at]) and found[at] not in _KEYWORDS and found[at - 1] not in (".", ")", "]"):
                names.insert(0, found[at])
                if found[at - 1] != ",":
                    break
                at -= 2
            yield names, split(_expressions(found, place + 1), ",")


def _expressions(found: Tokens, first: int) -> Tokens:
    """The list of expressions that begins there. Two operands without an operator between them are two statements."""
    depth = 0
    for place in range(first, len(found)):
        token, before = found[place], found[place - 1] if place > first else ""
        if depth == 0 and token in _KEYWORDS - {"and", "or", "not", "true", "false", "nil", "function"}:
            return found[first:place]
        operand = re.match(r"[\w'\"]", token) and token not in ("and", "or")
        after = (re.match(r"[\w'\"]", before) and before not in ("and", "or", "not")) or before in (")", "}", "]")
        if depth == 0 and before and operand and after:
            return found[first:place]
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth < 0 or token == ";":
            return found[first:place]
    return found[first:]


def calls(found: Tokens) -> Iterator[Tokens]:
    """The arguments of each `redis.call`."""
    for place in range(len(found) - 3):
        if found[place : place + 2] == ["redis", "."] and found[place + 2] in ("call", "pcall") and found[place + 3] == "(":
            yield found[place + 4 : closing(found, place + 3)]


def handed_as_numbers(text: str) -> list[str]:
    """The arguments, and parts of arguments, with which a script would hand Redis a number of Lua's."""
    found = tokens(text)
    common = numbers_of(tokens(LIBRARIES))
    numbers = numbers_of(found) | {name for name in common if f"function {name}(" in LIBRARIES}
    arguments = [argument for call in calls(found) for argument in split(call, ",")]
    return ["".join(part) for argument in arguments for part in _parts(argument) if part and is_number(part, numbers)]


def _parts(argument: Tokens) -> list[Tokens]:
    """What an argument is put together from, without the places that are counted from 0."""
    parts = split(argument, "..")
    return [part for part in parts if len(parts) == 1 or list(part) not in COUNTED]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_hands_redis_no_number_that_it_has_not_made_a_text_of(name: str) -> None:
    assert handed_as_numbers(SCRIPTS[name]) == []


@pytest.mark.parametrize(
    "line",
    [
        "redis.call('HINCRBY', KEYS[1], 'entries', -gone)",
        "local n = tonumber(ARGV[1]) redis.call('HSET', KEYS[1], 'n', n)",
        "local n = #ARGV\nredis.call('HSET', KEYS[1], 'n', n)",
        "local a, b = 'x', 2 * 3\nredis.call('SET', a, b)",
        "local n = 1\nn = n + 1\nredis.call('SET', KEYS[1], 'a' .. n)",
        "redis.call('EXPIRE', KEYS[1], 7200)",
        "redis.call('SET', KEYS[1], found and #found or '')",
        "redis.pcall('SET', KEYS[1], math.floor(x))",
        "redis.call('SET', KEYS[1], now_ms())",
        "for i = 1, 3 do redis.call('SET', KEYS[1], i) end",
        "local function cost(x) return x / 2 end redis.call('SET', KEYS[1], cost(ARGV[1]))",
        "redis.call('SET', KEYS[1], text:byte(1))",
    ],
)
def test_what_would_hand_redis_a_number_is_seen(line: str) -> None:
    assert handed_as_numbers(line) != []


@pytest.mark.parametrize(
    "line",
    [
        "redis.call('HINCRBY', KEYS[1], 'entries', digits(-gone))",
        "local n = tonumber(ARGV[1]) redis.call('HSET', KEYS[1], 'n', digits(n), 'rate', fraction(n / 3))",
        "local a, b = 'x', 2 * 3\nredis.call('SET', a, digits(b) .. ':' .. a)",
        "redis.call('SET', KEYS[1], all:sub(at + 1, at + 9), ARGV[at + 1], unpack(ARGV, 3))",
        "local c = redis.call('HMGET', KEYS[1], 'a')\nredis.call('SET', KEYS[2], c[1] or '0')",
    ],
)
def test_what_hands_redis_a_text_is_let_through(line: str) -> None:
    assert handed_as_numbers(line) == []
