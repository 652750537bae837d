"""A command is repeated until it is answered, for as long as it may be. Every script of the ledger may be repeated.

A connection that broke is made again some times. A fail-over, in which whoever answers is a replica, loads its data or is no
master that Sentinel knows, is waited out. Where commands have a time limit, so is an outage of a Redis that was there before.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .connection import Era, is_transient
from .errors import NoSentinel, NotSentinel, UnknownService, has_moved, note_answered, note_unanswered, of_tls, unanswered

FAILOVER_S = 5.0  # that a command waits for another master, where it has no time limit
SILENT_S = 0.5  # the limit of a command after one whose time was over, so that a call of several ends soon after it
SILENT_FOR_S = 2.0  # for so long: a Redis that is slow, and not away, has all of its time again
LAST_S = 0.1  # of a time limit, as a part: then the last error is told, and not that the time is over
_BACKOFF = ExponentialBackoff(cap=0.5, base=0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the commands of a client are repeated."""

    retries: int = 3  # of a connection that breaks or cannot be made
    timeout: float | None = None  # seconds for a command, all its tries together
    era: Era = field(default_factory=Era)
    of_sentinels: bool = False  # who names another master soon, where the one that they named does not answer


class Tries:
    """Those of one command."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._failures = 0
        self._unanswered = 0
        self._limit = patience.timeout
        if self._limit is not None and self._began < patience.era.silent_until:
            self._limit = min(self._limit, SILENT_S)

    def within(self) -> AbstractAsyncContextManager[Any]:
        """Around one try: the time that is left. Raises TimeoutError when it is over."""
        return nullcontext() if self._limit is None else asyncio.timeout_at(self._began + self._limit)

    def done(self) -> None:
        self._patience.era.answered, self._patience.era.silent_until = True, 0.0

    async def failed(self, error: RedisError | OSError, *, again: bool = True) -> None:
        """Return when it is time for the next try; raises the error where there is none, with what is known of it."""
        self._failures += 1
        self._unanswered += unanswered(error)
        if isinstance(error, TimeoutError) and self._limit is not None:
            self._unanswered += unanswered(error.__cause__)
            self._over()
            over = RedisTimeoutError(f"Timeout: no answer within {self._limit:g} s")
            note_unanswered(over, self._unanswered)
            raise over from error
        note_unanswered(error, self._unanswered)
        if self._patience.era.answered:
            note_answered(error)
        pause = _BACKOFF.compute(self._failures)
        if not again or not self._may_try(error, self._clock() - self._began + pause):
            raise error
        await asyncio.sleep(pause)

    def _may_try(self, error: BaseException, after_s: float) -> bool:
        patience, era = self._patience, self._patience.era
        moving = has_moved(error) or isinstance(error, BusyLoadingError | MasterNotFoundError)
        if not patience.retries or not (moving or is_transient(error)):
            return False
        if not era.answered and of_tls(error):
            return False
        awaited = moving or (patience.of_sentinels and not isinstance(error, NoSentinel | NotSentinel | UnknownService))
        if awaited or (self._limit is not None and era.answered):
            if after_s < (FAILOVER_S if self._limit is None else self._limit * (1 - LAST_S)):
                return True
            self._over()
            return False
        return self._failures <= patience.retries

    def _over(self) -> None:
        """What was given half a second only says nothing of the next ones."""
        if self._limit == self._patience.timeout:
            self._patience.era.silent_until = self._clock() + SILENT_FOR_S


class Patient(Redis):
    """A client whose commands and pipelines go by its `patience`."""

    patience: Patience

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        tries = Tries(self.patience)
        while True:
            try:
                async with tries.within():
                    found = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except (RedisError, OSError) as error:
                await tries.failed(error)
            else:
                tries.done()
                return found

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> PatientPipeline:
        return PatientPipeline(self, transaction)


class PatientPipeline(Pipeline):
    """While keys are watched nothing is repeated: what was read under the watch may be different."""

    def __init__(self, client: Patient, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self.patience = client.patience
        self._running = False

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, scripts, explicit = self.command_stack, self.scripts, self.explicit_transaction
        again, tries = not self.watching, Tries(self.patience)
        self._running = True
        try:
            while True:
                try:
                    async with tries.within():
                        found: list[Any] = await super().execute(raise_on_error)
                except (RedisError, OSError) as error:
                    await tries.failed(error, again=again)
                    self.command_stack, self.scripts, self.explicit_transaction = stack, scripts, explicit
                else:
                    tries.done()
                    return found
        finally:
            self._running = False

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        run: Any = super().immediate_execute_command
        if self._running:  # within `execute`, which is repeated whole
            return await run(*args, **options)
        again, tries = not self.watching, Tries(self.patience)
        while True:
            try:
                async with tries.within():
                    found = await run(*args, **options)
            except (RedisError, OSError) as error:
                await tries.failed(error, again=again)
            else:
                tries.done()
                return found
