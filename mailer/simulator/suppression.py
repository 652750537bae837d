"""Suppression lists: the account's, and one of each tenant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

REASONS = ("BOUNCE", "COMPLAINT")


@dataclass(slots=True)
class Suppressed:
    address: str
    reason: str
    at: float


class SuppressionList(Mapping[str, Suppressed]):
    """By the address as it was put, of which the case tells two apart; the one that was put last is the last."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, Suppressed] = {}
        self._lower: dict[str, set[str]] = {}  # sending matches without regard to case
        self._since: dict[float, list[str]] = {}  # start → addresses: a list may be long, and is asked for by pages

    def __getitem__(self, address: str) -> Suppressed:
        return self._entries[address]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, address: str, reason: str) -> None:
        at = round(self._clock(), 3)  # milliseconds, which a client can give back exactly
        self._entries.pop(address, None)
        self._entries[address] = Suppressed(address, reason, at)
        self._since.clear()
        self._lower.setdefault(address.lower(), set()).add(address)

    def remove(self, address: str) -> bool:
        """Whether it was there."""
        if self._entries.pop(address, None) is None:
            return False
        self._since.clear()
        same = self._lower[address.lower()]  # `Foo@x` and `foo@x` are two entries and one recipient
        same.remove(address)
        if not same:
            del self._lower[address.lower()]
        return True

    def stops(self, address: str, reasons: Collection[str]) -> bool:
        """Whether SES does not deliver to this recipient."""
        return any(self._entries[put].reason in reasons for put in self._lower.get(address.lower(), ()))

    def since(self, start: float) -> list[str]:
        """Sorted; what was put before `start` is left out."""
        found = self._since.get(start)
        if found is None:
            newest_first = takewhile(lambda item: item.at >= start, reversed(self._entries.values()))
            found = self._since[start] = sorted(item.address for item in newest_first)
        return found
