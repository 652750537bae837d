"""Mappings that a program hands over → rows."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from .mappings import Mappings
from .row import BadRow, Group, Refused, check_data, kind, rejected


class _Gathering:
    """Items → groups of at most `rows` rows or some `size` bytes."""

    def __init__(self, mappings: Mappings, rows: int, size: int) -> None:
        self._mappings = mappings
        self._rows, self._size = rows, size
        self._row = 0
        self._group = Group([], [], 0)

    def add(self, item: Any) -> bool:
        """Whether the group is full."""
        self._row += 1
        group = self._group
        if not isinstance(item, Mapping):
            to = item if isinstance(item, str) else ""
            group.rows.append(rejected(self._row, to, "", f"is {kind(item)}, not a mapping with `email`"))
        else:
            checked = self._mappings.row(self._row, item, "")
            if not isinstance(checked, BadRow):
                try:
                    group.size += check_data(checked.data)
                except Refused as error:
                    checked = rejected(self._row, checked.address, "", str(error))
            group.rows.append(checked)
        return len(group.rows) >= self._rows or group.size >= self._size

    def take(self) -> Group | None:
        """What has been gathered since; None where that is nothing."""
        group, self._group = self._group, Group([], [], 0)
        return group if group.rows else None


def iterable_rows(source: Iterable[Any], mappings: Mappings, rows: int, size: int) -> Iterator[Group]:
    """Groups of at most `rows` rows, fewer where they are longer than `size` bytes together. Closes a generator."""
    gathering = _Gathering(mappings, rows, size)
    items = iter(source)
    try:
        for item in items:
            if gathering.add(item) and (group := gathering.take()):
                yield group
        if group := gathering.take():
            yield group
    finally:
        if hasattr(items, "close"):
            items.close()


async def async_rows(source: AsyncIterable[Any], mappings: Mappings, rows: int, size: int) -> AsyncIterator[Group]:
    """The same of an async iterable."""
    gathering = _Gathering(mappings, rows, size)
    items = aiter(source)
    try:
        async for item in items:
            if gathering.add(item) and (group := gathering.take()):
                yield group
        if group := gathering.take():
            yield group
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()
