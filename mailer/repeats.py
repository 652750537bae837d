"""Log lines that would repeat: a thing is told when it begins, now and then while it lasts, and when it is over."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

EVERY_S = 60.0
KEPT = 1000  # things that are kept in mind; of more the oldest are told anew


@dataclass(slots=True)
class _Said:
    what: Hashable
    at: float
    unsaid: int = 0  # times since then


class Repeats:
    """`key` names a thing, such as a campaign or a dependency, and `what` its state. `say` is a method of a logger."""

    def __init__(self, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._said: OrderedDict[Hashable, _Said] = OrderedDict()

    def tell(
        self,
        say: Callable[..., Any],
        key: Hashable,
        text: str,
        what: Hashable = None,
        *,
        every_s: float | None = None,
        **fields: Any,
    ) -> bool:
        """Log it where it is new, has another state than before, or was told `every_s` ago; `times`: how often it was since then.
        True where it was logged."""
        now, said = self._clock(), self._said.get(key)
        if said is not None and said.what == what and now - said.at < (every_s or self._every_s):
            said.unsaid += 1
            return False
        if said is not None and said.what == what and said.unsaid:
            fields["times"] = said.unsaid + 1
        self._remember(key, _Said(what, now))
        say(text, **fields)
        return True

    def change(self, say: Callable[..., Any], key: Hashable, text: str, what: Hashable, **fields: Any) -> bool:
        """Log it where its state is another than the last one, however long ago that was told. True where it was logged."""
        said = self._said.get(key)
        if said is not None and said.what == what:
            self._said.move_to_end(key)
            return False
        self._remember(key, _Said(what, self._clock()))
        say(text, **fields)
        return True

    def over(self, say: Callable[..., Any], key: Hashable, text: str, **fields: Any) -> bool:
        """Log that it is over, once, where it was told. True where it was logged."""
        if self._said.pop(key, None) is None:
            return False
        say(text, **fields)
        return True

    def seen(self, key: Hashable) -> Hashable:
        """The state that was told last; None where there is none."""
        said = self._said.get(key)
        return None if said is None else said.what

    def _remember(self, key: Hashable, said: _Said) -> None:
        self._said[key] = said
        self._said.move_to_end(key)
        while len(self._said) > KEPT:
            self._said.popitem(last=False)
