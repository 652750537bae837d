"""Iterables and async iterables of mappings: the same rows, never more in memory than a batch, and the loop goes on."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import threading
import uuid
from collections import UserDict
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from mailer.errors import EmptyRecipients, RecipientsError
from mailer.recipients import BATCH_ROWS, BadRow, Recipient, Row, open_recipients
from mailer.recipients.stream import BATCH_BYTES, Source


async def rows_of(source: Source) -> list[Row]:
    async with open_recipients(source) as recipients:
        return [row async for batch in recipients for row in batch]


async def asynchronous(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.mark.parametrize("kind", [list, tuple, iter, asynchronous])
async def test_every_kind_of_iterable_gives_the_same_rows(kind: Any) -> None:
    items = [
        {"email": "Ana@EXAMPLE.com", "data": {"name": "Ana"}},
        {"email": "bo@example.com", "name": "Bo", "cc": ["c@example.com"], "tags": {"a": "b"}},
        UserDict({" Email ": "cy@example.com", "n": 1}),
        {"email": "ana@example.com"},
    ]
    rows = await rows_of(kind(items))
    assert rows[:3] == [
        Recipient(1, "Ana@example.com", {"name": "Ana"}),
        Recipient(2, "bo@example.com", {"name": "Bo"}, ("c@example.com",), (), {"a": "b"}),
        Recipient(3, "cy@example.com", {"n": 1}),
    ]
    assert isinstance(rows[3], BadRow)
    assert rows[3].reason == "same address as an earlier row", "no line number where there are no lines"


async def test_what_json_can_hold_is_taken_as_it_is() -> None:
    data = {"at": datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC), "id": uuid.uuid4(), "list": [1, 2.5, None, {"x": True}]}
    assert await rows_of([{"email": "ana@example.com", **data}]) == [Recipient(1, "ana@example.com", data)]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


async def test_numbers_of_too_many_digits_for_a_double_are_kept_exactly() -> None:
    data = {"id": 2**70, "price": decimal.Decimal("12345678901234567890.10"), "list": [-(2**64)], "small": 2**63}
    [row] = await rows_of([{"email": "ana@example.com", **data}])
    assert isinstance(row, Recipient)
    assert row.data == data
    assert [str(value) for value in row.data.values()][:2] == ["1180591620717411303424", "12345678901234567890.10"]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"email": "a@example.com", "ok": 1, "price": b"1"}, "`price` cannot be written as JSON: "),
        ({"email": "a@example.com", "data": {"x": {"y": object()}}}, "`x` cannot be written as JSON: "),
        ({"email": "a@example.com", "x": "\ud800"}, "`x` cannot be written as JSON: "),
        ({"email": "a@example.com", "x": 10**5000}, "`x` cannot be written as JSON: "),
        ({"email": "a@example.com", "x": nested(150)}, "has more than 100 lists or objects in each other"),
        ({"email": "a@example.com", "x": nested(5000)}, "has more than 100 lists or objects in each other"),
        ({"email": "a@example.com", 5: "x"}, "the name of a variable must be a text, and 5 is not"),
        ({"email": "a@example.com", "x": "y" * 300_000}, "its data takes 300,008 bytes as JSON, and 262,144 are the most"),
        ({"name": "Ana"}, "has no `email`"),
        ({"email": b"a@example.com"}, "`email` is of type bytes, not a text"),
        ({"email": "nobody\n"}, "an email address must have an @-sign"),
        ("ana@example.com", "is a text, not a mapping with `email`"),
        (None, "is null, not a mapping with `email`"),
    ],
)
async def test_a_bad_item_costs_its_row_and_says_what_is_wrong(item: Any, why: str) -> None:
    rows = await rows_of([{"email": "z@example.com"}, item, {"email": "y@example.com"}])
    assert [row.row for row in rows] == [1, 2, 3]
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert bad.reason.startswith(why)
    assert isinstance(rows[0], Recipient)
    assert isinstance(rows[2], Recipient)


@pytest.mark.parametrize("source", [[], iter(()), asynchronous([])])
async def test_an_iterable_without_rows_is_empty(source: Any) -> None:
    with pytest.raises(EmptyRecipients, match=r"has no recipients; give it at least one row, as \{'email': …\}\."):
        await rows_of(source)


@pytest.mark.parametrize("source", [{"email": "ana@example.com"}, b"list.csv", 5, None])
async def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(RecipientsError, match="give a path, or an iterable of mappings with `email`"):
        await rows_of(source)


def endless(taken: list[int], size: int = 1) -> Iterator[dict[str, Any]]:
    while True:
        taken.append(1)
        yield {"email": f"user{len(taken)}@example.com", "x": "y" * size}


async def endless_async(taken: list[int]) -> AsyncIterator[dict[str, Any]]:
    for item in endless(taken):
        yield item


@pytest.mark.parametrize("kind", [endless, endless_async])
async def test_no_more_is_taken_from_an_endless_source_than_is_asked_for(kind: Any) -> None:
    taken: list[int] = []
    async with open_recipients(kind(taken)) as recipients:
        for count in range(1, 4):
            batch = await anext(recipients)
            assert len(batch) == BATCH_ROWS
            assert len(taken) == count * BATCH_ROWS
            assert recipients.rows == count * BATCH_ROWS
            assert recipients.progress() == (0, None)


async def test_a_batch_of_long_rows_is_shorter() -> None:
    async with open_recipients(endless([], size=100_000)) as recipients:
        assert len(await anext(recipients)) == -(-BATCH_BYTES // 100_009)


async def test_a_source_that_blocks_does_not_stop_the_loop() -> None:
    released = threading.Event()

    def blocking() -> Iterator[dict[str, Any]]:
        assert released.wait(timeout=10), "the event loop could not go on"
        yield {"email": "ana@example.com"}

    async def release() -> None:
        released.set()

    rows, _ = await asyncio.gather(rows_of(blocking()), release())
    assert len(rows) == 1


async def test_a_generator_sees_one_thread_and_the_context_of_its_caller_and_is_closed() -> None:
    threads, closed = set(), []
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("set")

    def generator() -> Iterator[dict[str, Any]]:
        try:
            for number in range(10_000):
                threads.add(threading.get_ident())
                yield {"email": f"user{number}@example.com", "x": variable.get()}
        finally:
            closed.append(threading.get_ident())

    async with open_recipients(generator()) as recipients:
        await anext(recipients)
        await anext(recipients)
        assert not closed
    assert len(threads) == 1
    assert closed == list(threads)
    assert threading.get_ident() not in threads


async def test_an_async_generator_is_closed_when_its_reader_leaves() -> None:
    closed = []

    async def generator() -> AsyncIterator[dict[str, Any]]:
        try:
            async for item in endless_async([]):
                yield item
        finally:
            closed.append(True)

    async with open_recipients(generator()) as recipients:
        await anext(recipients)
        assert not closed
    assert closed


@pytest.mark.parametrize("kind", [list, asynchronous])
async def test_what_an_iterable_raises_comes_out_as_it_is(kind: Any) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        for number in range(BATCH_ROWS + 1):
            yield {"email": f"user{number}@example.com"}
        raise LookupError("the database is gone")

    with pytest.raises(LookupError, match="the database is gone"):
        await rows_of(asynchronous(broken()) if kind is asynchronous else broken())


async def test_a_reader_that_is_cancelled_leaves_nothing_behind() -> None:
    entered, release, closed = threading.Event(), threading.Event(), threading.Event()

    def generator() -> Iterator[dict[str, Any]]:
        try:
            entered.set()
            release.wait(timeout=10)
            yield {"email": "ana@example.com"}
        finally:
            closed.set()

    task = asyncio.create_task(rows_of(generator()))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    asyncio.get_running_loop().call_later(0.01, release.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(closed.wait, 10)


async def test_reading_before_opening_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="open it first"):
        await anext(open_recipients([{"email": "ana@example.com"}]))
