"""The processes that render for a worker: how they are started, asked and replaced, and who has to wait for whom.

Each lane has one for templates of which nothing bad is known. A row that takes longer than QUICK_S there is left, and its
template goes on in a process for slow ones that all lanes share: there a row has FULL_S. So what is slow waits for what is
slow, and never holds up the rest for more than a moment. What a process dies of costs the row that it was at.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from mmap import mmap
from typing import Any, NamedTuple

import orjson
import structlog

from mailer.compose.shared_template import Segment
from mailer.errors import MailerError
from mailer.message.email import Lane
from mailer.templates import Pieces

from .child import LENGTH, PROGRAM, PROGRESS, ROOM_BYTES
from .renderer import TOO_SLOW
from .room import Busy

log = structlog.get_logger()

QUICK_S = 0.25  # of the processor's time, for a row
FULL_S = 2.0
QUICK_STILL_S, FULL_STILL_S = 1.5, 12.0  # without a step: on a busy machine it gets less of the processor than it asks for
START_S = 30.0
LAST_S = 1.0  # for a process to end that has closed its output
MAX_WAITING = {Lane.TRANSACTIONAL: 8, Lane.BULK: 4}  # chunks, of those that a lane works on at a time
MAX_WAITING_SLOW = 2
PATIENCE_S = 2.0  # of a chunk that waits for its turn
AGAIN_S = (0.5, 30.0)  # a chunk that finds no place is looked at again after so long: when its turn should come, the most
FIRST_S = 0.1  # that an answer is taken to need before one is known
FORGIVEN_AFTER = 20  # quick answers after which a template counts as quick again
SLOW_KEPT = 1000  # templates that are known to be slow
MAX_ANSWER = 64 << 20  # bytes
NICE, SLOW_NICE = 5, 15  # the worker itself goes first, and what is slow last
_ENVIRONMENT = ("PATH", "TZ", "TZDIR", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT")


class Ended(Exception):
    """A process ended, or had to be ended, at this row."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(row, why)
        self.row, self.why = row, why


class Broken(MailerError):
    """Nothing can be made of a template."""

    sentence = "{why}"


class Child:
    """One process. It is asked by one at a time."""

    def __init__(self, process: asyncio.subprocess.Process, progress: mmap) -> None:
        self._process, self._progress = process, progress
        self._stopped = False  # by us, as it took no step

    @classmethod
    async def start(cls, nice: int) -> Child:
        """Raises OSError where there is none to be had."""
        with tempfile.TemporaryFile() as file:
            file.truncate(PROGRESS.size)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", PROGRAM, str(file.fileno()), str(nice)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=(file.fileno(),),
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith("PYTHON")},
                limit=1 << 20,
            )
            child = cls(process, mmap(file.fileno(), PROGRESS.size))
        try:
            async with asyncio.timeout(START_S):
                await child._answer()
        except (TimeoutError, Ended) as error:
            await child.end()
            raise OSError(f"a process to render in does not start ({process.returncode})") from error
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def lives(self) -> bool:
        return self._process.returncode is None

    async def ask(self, header: Mapping[str, Any], content: bytes, body: bytes, *, still_s: float) -> dict[str, Any]:
        """Raises Ended. Where this is cancelled, the process has to be ended."""
        stdin = self._process.stdin
        assert stdin is not None
        PROGRESS.pack_into(self._progress, 0, 0, 0)
        with suppress(OSError, RuntimeError):  # it has ended: the answer tells
            for part in (orjson.dumps(header), content, body):
                stdin.write(LENGTH.pack(len(part)))
                stdin.write(part)
            await stdin.drain()
        reading = asyncio.create_task(self._answer())
        try:
            step = self._step
            while not (await asyncio.wait({reading}, timeout=still_s))[0]:
                if step == (step := self._step):
                    self._stopped = True
                    self._kill()
            return await reading
        finally:
            reading.cancel()

    async def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            length = LENGTH.unpack(await stdout.readexactly(LENGTH.size))[0]
            if length > MAX_ANSWER:
                raise Ended(self._row, _ended(None))
            answer: dict[str, Any] = orjson.loads(await stdout.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, orjson.JSONDecodeError):
            code = await self._end_of_process()
            raise Ended(self._row, _ended(-signal.SIGXCPU if self._stopped else code)) from None
        return answer

    @property
    def _row(self) -> int:
        return int(PROGRESS.unpack_from(self._progress)[0])

    @property
    def _step(self) -> int:
        return int(PROGRESS.unpack_from(self._progress)[1])

    async def _end_of_process(self) -> int:
        """Its return code. One that gives no more answers but lives is killed."""
        try:
            async with asyncio.timeout(LAST_S):
                return await self._process.wait()
        except TimeoutError:
            self._kill()
            return await self._process.wait()

    def _kill(self) -> None:
        # Not by Process.kill(): it would first take the return code of one that has just ended, and asyncio would not get it.
        if self.lives:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        self._kill()
        await self._process.wait()
        self._process._transport.close()  # type: ignore[attr-defined]  # else its pipes are closed when somebody collects them
        self._progress.close()


def _ended(code: int | None) -> str:
    if code == -signal.SIGXCPU:
        return TOO_SLOW.format(seconds=FULL_S)
    return f"the template needs more memory than {ROOM_BYTES >> 20} MB for this row, or ends the process that renders it"


class Place:
    """Where requests wait for one process, in turn. Who finds too many waiting is told when to come again."""

    def __init__(self, *, seconds: float, still_s: float, most: int, nice: int) -> None:
        self.seconds, self._still_s, self._most, self._nice = seconds, still_s, most, nice
        self._turn, self._waiting = asyncio.Lock(), 0
        self._needs_s = FIRST_S  # for an answer, lately
        self._booked = 0.0  # until then there is somebody for each moment, of those who wait and those who come again
        self._starting: asyncio.Task[Child] | None = None
        self._closed = False

    def start(self) -> asyncio.Task[Child]:
        """Have a process; the first who asks for one waits for it to start."""
        if self._starting is None:
            self._starting = asyncio.create_task(Child.start(self._nice))
            self._starting.add_done_callback(_heard)
        return self._starting

    async def ask(self, header: Mapping[str, Any], content: bytes, body: bytes) -> dict[str, Any]:
        """Raises Busy and Ended."""
        if self._waiting >= self._most:
            raise Busy(self._again_s())
        self._waiting += 1
        try:
            await self._take_turn()
        finally:
            self._waiting -= 1
        began = time.monotonic()
        try:
            return await self._ask({**header, "seconds": self.seconds}, content, body)
        finally:
            self._turn.release()
            self._needs_s += (time.monotonic() - began - self._needs_s) / 8

    async def _take_turn(self) -> None:
        """Raises Busy."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._turn.acquire()
        except TimeoutError:
            raise Busy(self._again_s()) from None

    def _again_s(self) -> float:
        """One after the other, so that nobody asks in vain again and again."""
        now, (least, most) = time.monotonic(), AGAIN_S
        self._booked = max(self._booked, now + self._waiting * self._needs_s) + self._needs_s
        return min(max(self._booked - now, least), most) * random.uniform(0.9, 1.1)

    async def _ask(self, header: Mapping[str, Any], content: bytes, body: bytes) -> dict[str, Any]:
        child, retires = await self._child(), True
        try:
            answer = await child.ask(header, b"", body, still_s=self._still_s)
            if answer.get("need"):
                answer = await child.ask(header, content, body, still_s=self._still_s)
            retires = answer["retires"]
        finally:
            if retires:
                self._starting = None
                if not self._closed:
                    self.start()
                await child.end()
        return answer

    async def _child(self) -> Child:
        """One that lives. Raises Busy where there is none to be had."""
        try:
            child = await asyncio.shield(self.start())
            if not child.lives:  # somebody ended it while it had nothing to do
                await child.end()
                self._starting = None
                child = await asyncio.shield(self.start())
        except OSError as error:
            self._starting = None
            log.error("templates wait for a process to render in", reason=str(error))
            raise Busy(AGAIN_S[1]) from None
        return child

    async def close(self) -> None:
        self._closed = True
        starting, self._starting = self._starting, None
        if starting is not None:
            with suppress(OSError, asyncio.CancelledError):
                starting.cancel()
                await (await starting).end()


def _heard(task: asyncio.Task[Child]) -> None:
    """Whoever waits for it tells; nobody may."""
    if not task.cancelled():
        task.exception()


class Made(NamedTuple):
    """What became of the first `done` rows of a request; the others are to be asked for again."""

    done: int
    pieces: Mapping[int, Pieces]  # by place
    failed: Mapping[int, str]  # by place, why
    hopeless: int = 0  # rows in turn, of this template, that failed after a long time, or for too much memory


class Children:
    """What renders for one worker. A process is started when it is asked for first: many workers need none. `close` it."""

    def __init__(self) -> None:
        self._quick = {
            lane: Place(seconds=QUICK_S, still_s=QUICK_STILL_S, most=most, nice=NICE) for lane, most in MAX_WAITING.items()
        }
        self._slow = Place(seconds=FULL_S, still_s=FULL_STILL_S, most=MAX_WAITING_SLOW, nice=SLOW_NICE)
        self._known: OrderedDict[str, int] = OrderedDict()  # slow template → quick answers until it is forgiven
        self._hopeless: dict[str, int] = {}

    async def close(self) -> None:
        for place in (*self._quick.values(), self._slow):
            await place.close()

    async def render(self, lane: Lane, digest: str, content: bytes, shared: bytes, rows: Sequence[bytes]) -> Made:
        """Render rows, given as JSON, as many as there is time for; one at least. Raises Busy, and Broken where nothing can be
        made of the template."""
        place = self._slow if digest in self._known else self._quick[lane]
        body = b'{"shared":%b,"rows":[%b]}' % (shared, b",".join(rows))
        try:
            answer = await place.ask({"do": "render", "digest": digest}, content, body)
        except Ended as ended:
            self._suspect(digest)
            if ended.row:  # those before it have nothing to do with it
                return await self.render(lane, digest, content, shared, rows[: ended.row])
            if place is not self._slow or len(rows) > 1:  # it may be the machine that ended it: alone it shows
                return await self.render(lane, digest, content, shared, rows[:1])
            return self._hopeless_row(digest, ended.why)
        if "broken" in answer:
            raise Broken(why=answer["broken"])
        if "crowded" in answer:
            some = rows[: len(rows) // 2]
            return await self.render(lane, digest, content, shared, some) if some else self._hopeless_row(digest, _ended(None))
        if answer["slow"]:
            self._suspect(digest)
            if not answer["done"] and place is not self._slow:
                return await self.render(lane, digest, content, shared, rows[:1])
            if not answer["done"] and answer.get("compiling"):
                raise Broken(why=f"its template takes longer than {FULL_S:g} s to be compiled")
            if not answer["done"]:
                return self._hopeless_row(digest, TOO_SLOW.format(seconds=FULL_S))
        elif answer["longest"] < QUICK_S:
            self._forgive(digest)
        if len(answer["failed"]) == answer["done"] and answer["longest"] >= QUICK_S:  # other limits end it before its time is up
            return _made(answer)._replace(hopeless=self._without_hope(digest, answer["done"]))
        self._hopeless.pop(digest, None)
        return _made(answer)

    async def text(self, lane: Lane, html: Sequence[Segment]) -> tuple[list[Segment], int]:
        """The text parts of messages whose HTML is given in segments, and of how many: of as many as there is time for, and one
        at least. Without segments there is no text part. Raises Busy."""
        count = next((len(part) for part in html if isinstance(part, tuple)), 1)
        try:
            answer = await self._quick[lane].ask({"do": "text"}, b"", orjson.dumps(html))
        except Ended:
            return [], count
        if "crowded" in answer:
            return ([], 1) if count == 1 else await self.text(lane, [one if isinstance(one, str) else one[:1] for one in html])
        return _segments(answer["text"]), answer["made"]

    async def check(self, lane: Lane, digest: str, sources: bytes, rows: Sequence[bytes]) -> Made:
        """Whether rows have the variables of a template that SES has, whose parts are given as JSON; `failed` has those that are
        missing. As `render` otherwise."""
        place = self._slow if digest in self._known else self._quick[lane]
        body = b'{"rows":[%b]}' % b",".join(rows)
        try:
            answer = await place.ask({"do": "check", "digest": digest}, sources, body)
        except Ended as ended:
            answer = {"done": ended.row, "slow": True, "failed": {}}
        if answer.get("slow", True):
            self._suspect(digest)
            if not answer.get("done") and place is not self._slow:
                return await self.check(lane, digest, sources, rows[:1])
            if not answer.get("done"):
                return self._hopeless_row(digest, "")
        self._hopeless.pop(digest, None)
        return Made(answer["done"], {}, {int(place): path for place, path in answer["failed"].items()})

    # ---- what is known of templates ------------------------------------------------------------------

    def _suspect(self, digest: str) -> None:
        self._known[digest] = FORGIVEN_AFTER
        self._known.move_to_end(digest)
        if len(self._known) > SLOW_KEPT:
            self._known.popitem(last=False)

    def _forgive(self, digest: str) -> None:
        if digest in self._known:
            self._known[digest] -= 1
            if not self._known[digest]:
                del self._known[digest]

    def _hopeless_row(self, digest: str, why: str) -> Made:
        return Made(1, {}, {0: why}, self._without_hope(digest, 1))

    def _without_hope(self, digest: str, more: int) -> int:
        """How many rows in turn have failed after a long time, or for too much memory, with these."""
        if len(self._hopeless) > SLOW_KEPT:
            self._hopeless.clear()
        self._hopeless[digest] = self._hopeless.get(digest, 0) + more
        return self._hopeless[digest]


def _made(answer: Mapping[str, Any]) -> Made:
    failed = {int(place): why for place, why in answer["failed"].items()}
    fine = [place for place in range(answer["done"]) if place not in failed]
    made, html, text = answer["made"], _segments(answer.get("html")), _segments(answer.get("text"))
    pieces = {
        place: Pieces(
            answer["subject"][number],
            _row(html, number) if answer["html"] is not None else None,
            _row(text, number),
        )
        for number, place in enumerate(fine[:made])
    }
    done = fine[made] if made < len(fine) else answer["done"]
    return Made(done, pieces, {place: why for place, why in failed.items() if place < done})


def _segments(parts: Iterable[Any] | None) -> list[Segment]:
    return [part if isinstance(part, str) else tuple(part) for part in parts or ()]


def _row(parts: Iterable[Segment], number: int) -> list[str]:
    return [part if isinstance(part, str) else part[number] for part in parts]
