"""What an application hands over as data comes back from the ledger as what it was, and hostile data costs nobody anything."""

from __future__ import annotations

import enum
import time as clock
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.data import MAX_DIGITS, dumps, loads, plain, read
from mailer.ledger import Entry, Spec
from mailer.ledger.archive import Chunk, pack, unpack
from mailer.ledger.records import Record
from mailer.ledger.spec import pack_entries, unpack_entries
from mailer.message.email import Lane, Outcome
from mailer.recipients import BadRow, Recipient
from mailer.recipients.iterable_rows import iterable_rows
from mailer.recipients.mappings import Mappings
from mailer.recipients.reading import AS_IT_IS
from mailer.recipients.reserved import Reserved

MAPPINGS = Mappings("what was given", AS_IT_IS, Reserved(AS_IT_IS))


class Colour(enum.Enum):
    RED = "red"
    PRICE = Decimal("1.50")


@dataclass
class Point:
    x: int = 1
    y: Any = 2**70


def decimals() -> st.SearchStrategy[Decimal]:
    return st.decimals(allow_nan=False, allow_infinity=False).filter(lambda one: abs(one.adjusted()) <= MAX_DIGITS)


zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.integers(-(2**200), 2**200), st.floats(allow_nan=False, allow_infinity=False)),
    *(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), decimals(), st.dates(), st.times()),
    *(st.datetimes(), st.datetimes(timezones=zones)),
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
rows = st.dictionaries(
    names,
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=12),
    max_size=4,
)


def same(found: Any, given: Any) -> bool:
    """Also of one type, and written alike: Decimal("1.50") is not Decimal("1.5")."""
    if isinstance(given, dict):
        return found.keys() == given.keys() and all(same(found[key], one) for key, one in given.items())
    if isinstance(given, list):
        return len(found) == len(given) and all(map(same, found, given))
    return type(found) is type(given) and found == given and str(found) == str(given)


@settings(deadline=None)
@given(rows)
def test_data_comes_back_as_it_was_given(data: dict[str, Any]) -> None:
    assert same(loads(dumps(data)), data)
    (entry,) = unpack_entries(pack_entries([[1, "ana@example.org", data]]))
    assert same(entry.data, data)
    spec = Spec.load(Spec(lane=Lane.BULK, from_address="a@example.com", ses_template="t", data=data).dump())
    assert same(spec.data, data)
    (archived,), _ = unpack(pack("c0-0", [Entry(1, "ana@example.org", data)], Chunk([Record(Outcome.SENT)], b"", {})))
    assert same(archived.data, data)


@settings(deadline=None)
@given(rows)
def test_plain_json_is_read_by_any_program_and_by_us_as_it_was_given(data: dict[str, Any]) -> None:
    text = plain(data)
    orjson.loads(text)
    whole = read(text)
    assert dumps(read(plain(whole))) == dumps(whole)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Colour.RED, "red"),
        (Colour.PRICE, Decimal("1.50")),
        (Point(), {"x": 1, "y": 2**70}),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({2**70, Decimal(1)}, [Decimal(1), 2**70]),
        ((1, (2**70,)), [1, [2**70]]),
        (float("nan"), None),
        (Decimal("NaN"), None),
        (Decimal("-Infinity"), None),
        (MappingProxyType({"a": 2**80}), {"a": 2**80}),
        (OrderedDict(a=1), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,  # a set has its members in another order in each process
)
def test_other_types_become_what_json_has_for_them(given: Any, kept: Any) -> None:
    assert same(loads(dumps({"v": given}))["v"], kept)


def test_numbers_of_other_programs_are_read_as_they_stand_there() -> None:
    text = b'{"tracking":9400110200881234567890,"id":18446744073709551616,"price":12.50,"e":1e3,"long":0.1234567890123456789}'
    data = read(text)
    assert [str(value) for value in data.values()] == [
        *("9400110200881234567890", "18446744073709551616", "12.5", "1000.0", "0.1234567890123456789"),
    ]
    assert same(loads(dumps(data)), data)
    assert read(b"[0.1000000000000000000]") == [0.1]
    assert read(b"[1." + b"9" * 9000 + b"]") == ["1." + "9" * 9000]
    with pytest.raises(orjson.JSONDecodeError):
        read(b'{"a": 12345678901234567890')


def test_what_cannot_be_kept_costs_its_row_and_is_named() -> None:
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    values = [b"x", timedelta(1), len, {1: "a"}, 10**5000, Decimal("1E+999999"), Decimal("1." + "1" * 5000), deep]
    (group,) = iterable_rows([{"email": f"a{n}@example.org", "v": v} for n, v in enumerate(values)], MAPPINGS, 100, 1 << 20)
    reasons = [row.reason for row in group.rows if isinstance(row, BadRow)]
    assert len(reasons) == len(values)
    assert reasons.pop() == "has more than 100 lists or objects in each other"
    assert all(reason.startswith("`v` cannot be written as JSON: ") for reason in reasons)
    assert reasons[4] == reasons[5] == reasons[6] == "`v` cannot be written as JSON: a number has more than 4,000 digits"
    (group,) = iterable_rows([{"email": "a@example.org", "v": Decimal("12.50")}], MAPPINGS, 100, 1 << 20)
    assert isinstance(group.rows[0], Recipient)
    assert same(group.rows[0].data, {"v": Decimal("12.50")})


def test_data_that_looks_like_our_own_writing_comes_back_as_it_was_given() -> None:
    for text in ("d12.50", "i5", "=", "=d1", "t2026-12-24", "", "x", "D2026-12-24"):
        for data in ({"\0": text}, {"v": {"\0": text}, "w": [{"\0": text}, 2**70, Decimal(1)]}, {"\0": {"\0": text}}):
            assert same(loads(dumps(data)), data)
            (entry,) = unpack_entries(pack_entries([[1, "ana@example.org", data]]))
            assert same(entry.data, data)
    assert same(loads(dumps({"\0": Decimal(0)})), {"\0": Decimal(0)})


@pytest.mark.parametrize(
    "text", ["", "x", "d", "dNaN", "d1E1000000000", "d1E99999999999999999", "i", "i" + "9" * 9000, "t1", 5, None, {}]
)
def test_a_row_that_looks_like_our_own_writing_is_harmless(text: Any) -> None:
    started = clock.monotonic()
    data = {"v": {"\0": text}, "w": Decimal("1.0")}
    assert loads(dumps(data)) == data
    assert clock.monotonic() - started < 1


def test_dates_of_other_libraries_come_back_as_dates() -> None:
    class Stamp(datetime):
        """As those of other libraries."""

    given = {"a": Stamp(2026, 12, 24, 18, tzinfo=UTC), "b": date(2026, 12, 24), "c": time(18, 0)}
    assert loads(dumps(given)) == given
    assert plain(given) == b'{"a":"2026-12-24T18:00:00+00:00","b":"2026-12-24","c":"18:00:00"}'
