"""How often certificates are fetched: AWS is not to be flooded from here, and nobody is to be locked out by made-up names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

PER_MINUTE: Final = 24  # fetches of any name
RESERVED_PER_MINUTE: Final = 4  # of the name that was refused most often: SNS repeats its messages, and each names the same file
KEPT: Final = 1000  # names that are kept in mind


class _Bucket:
    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = float(per_minute), clock
        self._left, self._at = self._most, clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._most / 60)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Budget:
    """Whoever makes names up can take all of PER_MINUTE with a new one each time. The name of a certificate that is SNS's is
    asked for again and again, and a name that could not be fetched has no part in what is reserved for such."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._new, self._reserved = _Bucket(PER_MINUTE, clock), _Bucket(RESERVED_PER_MINUTE, clock)
        self._refused: OrderedDict[str, int] = OrderedDict()  # name → how often; 0: it was fetched, in vain

    def may_fetch(self, name: str) -> bool:
        if self._new.take() or (self._is_first_in_line(name) and self._reserved.take()):
            return True
        if self._refused.get(name) != 0:
            self._note(name, self._refused.get(name, 0) + 1)
        return False

    def failed(self, name: str) -> None:
        """It was fetched, and there is no certificate."""
        self._note(name, 0)

    def _is_first_in_line(self, name: str) -> bool:
        times = self._refused.get(name, 0)
        return times > 0 and times == max(self._refused.values())

    def _note(self, name: str, times: int) -> None:
        self._refused[name] = times
        self._refused.move_to_end(name)
        while len(self._refused) > KEPT:
            # One that was refused often is not pushed out by many that were refused once.
            del self._refused[next((one for one, n in self._refused.items() if n < 2), next(iter(self._refused)))]
