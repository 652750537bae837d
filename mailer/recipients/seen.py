"""The addresses that a campaign has had so far."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from types import TracebackType


class Seen:
    """first version"""

    def __init__(self, *, in_memory: int = 250_000) -> None:
        self._keys: set[str] = set()

    def repeats(self, keys: Sequence[str]) -> list[int]:
        """Which of `keys` were there before, in an earlier call or further left, by index; all of them are there afterwards."""
        fresh = set(keys)
        if len(fresh) == len(keys) and self._keys.isdisjoint(fresh):
            self._keys |= fresh
            return []
        result = []
        for index, key in enumerate(keys):
            if key in self._keys:
                result.append(index)
            else:
                self._keys.add(key)
        return result

    def close(self) -> None:
        self._keys.clear()

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
