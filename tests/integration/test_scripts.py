"""What the scripts hand to Redis, on the server that the run is on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailer.ledger import Ledger

from .. import lua
from ..servers import RedisServer

FORMAT = lua.numbers() + "return {digits(tonumber(ARGV[1])), fraction(tonumber(ARGV[1])), digits(-tonumber(ARGV[1]))}"
WHOLE = st.integers(-(2**53), 2**53)


@contextmanager
def client(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@example(0)
@example(1_732_950_000_000_000)  # microseconds: Lua writes 1.73295e+15
@example(2**53)
@given(WHOLE)
@settings(max_examples=200, deadline=None)
def test_a_whole_number_is_its_digits_also_the_negative_of_none(server: RedisServer, number: int) -> None:
    with client(server) as redis:
        assert redis.eval("local now_us " + FORMAT, 0, number) == [b"%d" % number, b"%d" % number, b"%d" % -number]


@example(1e-15)
@example(0.1)
@example(-0.0)
@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200, deadline=None)
def test_a_number_with_a_fraction_comes_back_as_it_was(server: RedisServer, number: float) -> None:
    with client(server) as redis:
        whole, exact, _ = redis.eval("local now_us " + FORMAT, 0, repr(number))
    assert float(exact) == number
    assert abs(int(whole) - number) <= 0.5 + math.ulp(number)


@example(-0.0)
@example(0.0)
@given(WHOLE.map(float))
@settings(max_examples=100, deadline=None)
def test_every_command_that_counts_takes_the_digits(server: RedisServer, number: float) -> None:
    script = f"local now_us {lua.numbers()} local n = digits(tonumber(ARGV[1]))"
    script += "redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])"
    script += "redis.call('HINCRBY', KEYS[1], 'n', n) redis.call('INCRBY', KEYS[2], n) redis.call('ZADD', KEYS[3], n, 'a')"
    script += "return {redis.call('HGET', KEYS[1], 'n'), redis.call('GET', KEYS[2]), redis.call('ZCOUNT', KEYS[3], n, n)}"
    with client(server) as redis:
        digits = b"%d" % number
        assert redis.eval(script, 3, "t:hash", "t:string", "t:set", repr(number)) == [digits, digits, 1]


async def test_a_script_of_the_tests_may_not_hand_redis_a_number(ledger: Ledger) -> None:
    for number in ("7200", "-0", "1 / 3"):
        with pytest.raises(redis.ResponseError, match="handed to EXPIRE as number"):
            await ledger.redis.eval(f"{lua.clock()} return redis.call('EXPIRE', 'nothing', {number})", 0)
    assert await ledger.redis.eval(f"{lua.clock()} return redis.call('EXPIRE', 'nothing', '7200')", 0) == 0
