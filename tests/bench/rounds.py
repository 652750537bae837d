"""Runs of the contenders, in turn: A B C, A B C, …, so that a machine that slows down slows all of them down."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from .servers import BenchError, Process, Sink

GROW_TO = 1.4  # times the shortest duration: what a run that was too short is enlarged for
GROW_MAX = 20.0  # times at once; a short run's rate says little about a long one's


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measurement of one contender. Start-up is not in it: the clock runs from the first accepted call."""

    messages: int
    seconds: float
    cpu_us: float | None = None  # of the sending processes, per message; None where it cannot be read
    enqueue_per_s: float | None = None  # messages; None for a contender without a queue

    @property
    def per_s(self) -> float:
        return self.messages / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    key: str
    label: str
    first_n: int  # messages of its first run; raised where that run is too short
    run: Callable[[Sink, int], Run]


class Watch:
    """Follows a sender through the sink until the last of n recipients is accepted."""

    POLL_S = 0.05  # how often to poll: an answer costs the sink less than a call does
    STALL_S = 60.0  # without a new recipient: the sender hangs

    def __init__(self, target: Sink, sender: Process, n: int) -> None:
        self._target, self._sender, self._n = target, sender, n
        self._count = target.count()
        self._moved = time.monotonic()
        self._cpu_from: tuple[float, float | None] | None = None  # recipients, CPU seconds when the first had arrived

    def poll(self) -> bool:
        """True when all have been accepted. Raises when the sender has died, hangs, or sends what it should not."""
        before, self._count = self._count, self._target.count()
        got = self._count["recipients"]
        if got and self._cpu_from is None:
            self._cpu_from = got, self._sender.cpu_s()
        if got > before["recipients"]:
            self._moved = time.monotonic()
        if got > self._n:
            raise BenchError(f"{self._sender.name}: the sink accepted {got:.0f} recipients of {self._n}")
        if got == self._n:
            return True
        self._sender.check()
        if time.monotonic() - self._moved > self.STALL_S:
            why = f"{got:.0f} of {self._n} recipients accepted, none for {self.STALL_S:.0f} s"
            raise BenchError(f"{self._sender.name}: {why}\n{self._sender.tail()}")
        return False

    def run(self, end: float | None = None) -> Run:
        """The finished run; `end` (time.time()) where the last accepted call was not the end of the work."""
        return Run(
            messages=self._n - int(self._count["first_recipients"]),  # the first call only starts the clock
            seconds=(end or self._count["last"]) - self._count["first"],
            cpu_us=self._cpu_us(),
        )

    def _cpu_us(self) -> float | None:
        if self._cpu_from is None:
            return None
        (got, used), now = self._cpu_from, self._sender.cpu_s()
        return None if used is None or now is None or got == self._n else (now - used) / (self._n - got) * 1e6


@dataclass(slots=True)
class Results:
    runs: dict[str, list[Run]] = field(default_factory=dict)  # of each contender, in order
    failures: list[str] = field(default_factory=list)

    def median(self, key: str) -> float | None:
        """The median rate of a contender; None when it was not measured."""
        rates = [run.per_s for run in self.runs.get(key, ())]
        return median(rates) if rates else None


def measure(contenders: Sequence[Contender], target: Sink, *, rounds: int, min_s: float) -> Results:
    """Every contender once a round. One that fails is left out of the rounds that follow, and said so."""
    results = Results({contender.key: [] for contender in contenders})
    sizes = {contender.key: contender.first_n for contender in contenders}
    entered = list(contenders)
    for number in range(1, rounds + 1):
        for contender in tuple(entered):
            print(f"round {number} of {rounds}: {contender.label}", file=sys.stderr)
            try:
                run, sizes[contender.key] = _long_enough(contender, target, sizes[contender.key], min_s)
            except BenchError as error:
                print(f"  {error}", file=sys.stderr)
                results.failures.append(f"{contender.label}: {str(error).splitlines()[0]}")
                entered.remove(contender)
                continue
            print(f"  {run.messages:,} in {run.seconds:.1f} s: {run.per_s:,.0f}/s", file=sys.stderr)
            results.runs[contender.key].append(run)
    return results


def _long_enough(contender: Contender, target: Sink, n: int, min_s: float) -> tuple[Run, int]:
    """A run of at least min_s seconds, and its size. A shorter one is thrown away and made again, larger."""
    while (run := contender.run(target, n)).seconds < min_s:
        factor = min(GROW_MAX, max(1.1, GROW_TO * min_s / max(run.seconds, 0.01)))
        print(f"  {n:,} took {run.seconds:.1f} s, which is too short; again with {int(n * factor):,}", file=sys.stderr)
        n = int(n * factor)
    return run, n
