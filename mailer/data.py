"""The data of rows and messages as JSON, with the types that JSON has no word for.

A number of any length, a Decimal, a date and a time come back from the ledger as what they were: a template can work with
them, and prints what was given. `dumps` writes each as an object with the one key NUL, such as ``{"\\u0000": "d12.50"}``. `plain`
writes what other programs read: numbers as numbers, dates and times as ISO 8601. `read` reads what other programs wrote.

In both, UUIDs and enums become their texts and values; sets, in order, and tuples become lists; NaN becomes null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

import orjson

MAX_DIGITS = 4_000  # of a number; Python itself writes 4,300

_KEY = "\0"
_MARK = b'{"\\u0000":"'  # how orjson begins an object that has this key first
_LONG_NUMBER = re.compile(rb"[0-9][0-9.]{15}")  # a float has 15 digits for certain
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1  # the whole numbers that orjson writes by itself


def dumps(value: Any) -> bytes:
    """Raises TypeError or ValueError, as orjson does, for what cannot be kept."""
    packed = _written(value, _kept, orjson.OPT_PASSTHROUGH_DATETIME)
    if _MARK in packed and _has_mark(value):
        return _written(_prepared(value, escape=True), _kept, orjson.OPT_PASSTHROUGH_DATETIME)
    return packed


def loads(packed: bytes) -> Any:
    """What `dumps` wrote."""
    value = orjson.loads(packed)
    return _read(value) if _MARK in packed else value


def read(text: bytes) -> Any:
    """JSON of other programs, with its numbers as they stand there. Raises orjson.JSONDecodeError."""
    value = orjson.loads(text)
    if _LONG_NUMBER.search(text):  # orjson makes the nearest float of it
        with suppress(RecursionError):  # as deep as that, only orjson reads it
            return json.loads(text, parse_int=_whole_number, parse_float=_decimal_number)
    return value


def plain(value: Any, option: int = 0) -> bytes:
    """JSON for other programs, with orjson's options. Raises TypeError or ValueError for what cannot be written."""
    return _written(value, _plain, option)


def _written(value: Any, default: Callable[[Any], Any], option: int) -> bytes:
    try:
        return orjson.dumps(value, default, option)
    except TypeError as error:
        if isinstance(error.__cause__, ValueError):  # of `default`
            raise error.__cause__ from None
        if "Dict key" in str(error):
            raise ValueError("A name in an object must be a text") from None
        try:
            value = _prepared(value)
        except RecursionError:
            raise error from None
        return orjson.dumps(value, default, option)


class _Long:
    """A whole number that orjson does not write by itself. It asks nobody about an int, but does about an object."""

    def __init__(self, number: int) -> None:
        self.digits = _digits(number)


def _kept(value: Any) -> Any:
    match value:
        case _Long():
            return {_KEY: f"i{value.digits}"}
        case Decimal():
            return {_KEY: f"d{_digits(value)}"} if value.is_finite() else None
        case datetime():
            return {_KEY: f"t{value.isoformat()}"} if value == value else None  # pandas has one that is not
        case date():
            return {_KEY: f"D{value.isoformat()}"}
        case time():
            return {_KEY: f"T{value.isoformat()}"}
    return _listed(value)


def _plain(value: Any) -> Any:
    match value:
        case _Long():
            return orjson.Fragment(value.digits)
        case Decimal():
            return orjson.Fragment(_digits(value)) if value.is_finite() else None
        case date() | time():
            return value.isoformat()
    return _listed(value)


def _listed(value: Any) -> Any:
    match value:
        case set() | frozenset():
            return _in_order(value)
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise ValueError("It has bytes; make a text of them first, as with `value.decode()`")
    raise ValueError(f"It has a value of the class {type(value).__name__}; give a text, number, date, list or object")


def _in_order(values: Iterable[Any]) -> list[Any]:
    """So that the same set is always written alike."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def _digits(number: int | Decimal) -> str:
    """Raises ValueError."""
    size = number.bit_length() / 4 if isinstance(number, int) else max(len(number.as_tuple().digits), abs(number.adjusted()))
    if size > MAX_DIGITS:
        raise ValueError(f"A number has more than {MAX_DIGITS:,} digits")
    return str(number)


def _whole_number(text: str) -> int | str:
    return int(text) if len(text) <= MAX_DIGITS else text


def _decimal_number(text: str) -> float | Decimal | str:
    """A float where it says the same; else a Decimal, or the text of what is too long for one."""
    nearest = float(text)
    try:
        exact = _decimal(text)
    except ValueError:
        return text
    return nearest if isfinite(nearest) and Decimal(repr(nearest)) == exact else exact


def _prepared(value: Any, *, escape: bool = False) -> Any:
    """The same, with each whole number in a form that orjson writes; with `escape` also what looks like our own writing."""
    match value:
        case bool() | str() | float() | None:
            return value
        case int():
            return value if _LEAST <= value <= _MOST else _Long(value)
        case Mapping():
            if escape and _is_mark(value):
                return {_KEY: f"={value[_KEY]}"}
            return {key: _prepared(one, escape=escape) for key, one in value.items()}
        case list() | tuple():
            return [_prepared(one, escape=escape) for one in value]
        case set() | frozenset():
            return [_prepared(one, escape=escape) for one in _in_order(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _prepared(getattr(value, field.name), escape=escape) for field in fields(value)}
    return value


def _is_mark(value: Mapping[Any, Any]) -> bool:
    return value.keys() == {_KEY} and isinstance(value[_KEY], str)


def _has_mark(value: Any) -> bool:
    """Whether what was given has an object in it that looks like our own writing."""
    if isinstance(value, Mapping):
        return _is_mark(value) or any(map(_has_mark, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_mark, value))
    if is_dataclass(value) and not isinstance(value, type):
        return any(_has_mark(getattr(value, field.name)) for field in fields(value))
    return False


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(one) for one in value]
    if not isinstance(value, dict):
        return value
    if _is_mark(value):
        return _value_of(value)
    return {key: _read(one) for key, one in value.items()}


def _decimal(text: str) -> Decimal:
    """Raises ValueError. A few characters can stand for a number that would fill the memory as an int."""
    number = Decimal(text)
    if not number.is_finite() or max(abs(number.adjusted()), len(text)) > MAX_DIGITS:
        raise ValueError
    return number


_READERS: dict[str, Callable[[str], Any]] = {
    "=": lambda text: {_KEY: text},  # an object that the data itself has
    "i": int,
    "d": _decimal,
    "t": datetime.fromisoformat,
    "D": date.fromisoformat,
    "T": time.fromisoformat,
}


def _value_of(kept: dict[str, Any]) -> Any:
    """Of what was kept before there was `=`, what stands for nothing is given back as it is."""
    text = kept[_KEY]
    try:
        return _READERS[text[:1]](text[1:])
    except (LookupError, TypeError, ValueError, InvalidOperation):
        return kept
