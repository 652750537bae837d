"""A campaign through everything that can go wrong, by seed; SES's own log is the judge.

Three worker processes send it through a simulated SES that is slow at times (5 % of the calls), fails (1 % with HTTP 500, 1 %
with the connection cut after it accepted the whole call) and refuses for the rate (2 %). Meanwhile workers are killed, Redis is
killed, arq's keys are deleted, or everything is stopped for longer than every time-out.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
from redis.exceptions import RedisError

from mailer import Campaign, Mailer, Settings, State
from mailer.ledger import CampaignStatus, RecipientStatus
from mailer.queue import connect, disconnect

from ..servers import RedisServer
from .workers import Worker, Workers

WORKERS = 3
KILL_EVERY_S = (0.3, 1.5)  # a worker, chosen at random
REDIS_EVERY_S = (3.0, 6.0)
KEYS_EVERY_S = (0.5, 1.5)
STOP_EVERY_S = (1.0, 6.0)
STOP_S = 65.0  # longer than a lease (15 s), a call to SES (20 s), the patience of a wake-up (20 s) and a job of arq (60 s)
VISIBILITY_S = 3.0  # events that a killed worker had received come again after this
GRACE_S = 15.0  # of who is in doubt: many times what an event takes
TAKING_IN_S = 60.0  # what is left of the events, once nothing goes wrong any more
LIMIT_S = 400.0  # a campaign that takes longer has got stuck
CALLS = ("SendEmail", "SendBulkEmail")


class Trouble(StrEnum):
    KILLS = "workers killed"
    REDIS = "redis killed"
    KEYS = "arq's keys deleted"
    STOPS = "all workers stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seed: int
    events: bool  # SES reports what became of each message, and who stays in doubt is sent to again
    troubles: Sequence[Trouble] = (Trouble.KILLS,)
    rows: int = 20_000
    rate: float = 4000.0  # recipients per second that SES takes: when nothing goes wrong, they are sent in five seconds
    troubled_s: float = LIMIT_S  # then nothing more goes wrong
    stops: int = 2
    stop_s: float = STOP_S

    def __str__(self) -> str:
        return f"{', '.join(self.troubles)}; events {'on' if self.events else 'off'}; seed {self.seed}"


@dataclass(slots=True)
class Result:
    """What was done, what came of it, and what of that must not be."""

    plan: Plan
    took_s: float = 0.0
    done: Counter[Trouble] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)  # address → how often, as SES's log has it
    lines: list[RecipientStatus] = field(default_factory=list)
    doubted: int = 0  # the most that were `unknown` at the same time
    wrong: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> set[str]:
        return {line.to for line in self.lines if line.state == "unknown"}


# ---- the stage -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SES:
    """The simulated one, in a process of its own."""

    url: str
    events: str | None  # URL of the queue of its events

    async def post(self, path: str, body: object) -> None:
        request = Request(f"{self.url}/_simulator/{path}", orjson.dumps(body), {"content-type": "application/json"})
        await asyncio.to_thread(lambda: urlopen(request, timeout=10).read())

    async def log(self) -> list[dict[str, Any]]:
        def read() -> bytes:
            with urlopen(f"{self.url}/_simulator/log", timeout=30) as answer:
                found: bytes = answer.read()
                return found

        return [orjson.loads(line) for line in (await asyncio.to_thread(read)).splitlines()]

    async def stats(self) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            with urlopen(f"{self.url}/_simulator/stats", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found

        return await asyncio.to_thread(read)

    async def told_all(self) -> None:
        """Wait until every event has been taken in, or has been given up."""
        async with asyncio.timeout(TAKING_IN_S):
            while (queue := (await self.stats())["events"]) and queue["waiting"] + queue["in_flight"] + queue["delayed"]:
                await asyncio.sleep(0.2)


@asynccontextmanager
async def simulated_ses(plan: Plan) -> AsyncIterator[SES]:
    options = ["--max-send-rate", str(plan.rate), "--max-24h", "-1"]
    if plan.events:
        options += ["--events", "--events-visibility", str(VISIBILITY_S)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailer.simulator", *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        said = json.loads(await process.stdout.readline())
        ses = SES(said["url"], said.get("events"))
        await ses.post("faults", [fault for call in CALLS for fault in _faults(call)])
        yield ses
    finally:
        process.terminate()
        await process.wait()


def _faults(call: str) -> list[dict[str, object]]:
    rate = {"code": "TooManyRequestsException", "status": 429, "message": "Maximum sending rate exceeded."}
    return [
        {"operation": call, "kind": "latency", "probability": 0.05, "seconds": 0.7},
        {"operation": call, "kind": "internal_error", "probability": 0.01},
        {"operation": call, "kind": "cut_after", "probability": 0.01},
        {"operation": call, "kind": "error", "probability": 0.02, **rate},
    ]


# ---- the play ------------------------------------------------------------------------------------------------------


class Play:
    def __init__(self, plan: Plan, settings: Settings, server: RedisServer, workers: Workers, variables: dict[str, str]) -> None:
        self._plan, self._settings, self._server, self._workers = plan, settings, server, workers
        self._variables = variables
        self._random = random.Random(plan.seed)
        self._running: list[Worker] = []
        self.still = asyncio.Lock()  # held by the trouble that is going on
        self.logs: set[Path] = set()
        self.done: Counter[Trouble] = Counter()

    async def start_worker(self) -> None:
        one = await self._workers.start(self._settings, **self._variables)
        self._running.append(one)
        self.logs.add(one.log)

    async def trouble(self, what: Trouble) -> None:
        """Make it again and again."""
        make, (least, most), times = {
            Trouble.KILLS: (self._kill, KILL_EVERY_S, sys.maxsize),
            Trouble.REDIS: (self._kill_redis, REDIS_EVERY_S, sys.maxsize),
            Trouble.KEYS: (self._delete_keys, KEYS_EVERY_S, sys.maxsize),
            Trouble.STOPS: (self._stop_all, STOP_EVERY_S, self._plan.stops),
        }[what]
        started = time.monotonic()
        for _ in range(times):
            await asyncio.sleep(self._random.uniform(least, most))
            async with self.still:
                if time.monotonic() - started > self._plan.troubled_s:
                    return
                await make()
            self.done[what] += 1

    async def _kill(self) -> None:
        one = self._running.pop(self._random.randrange(len(self._running)))
        one.signal(signal.SIGKILL)
        await one.ended()
        await self.start_worker()

    async def _kill_redis(self) -> None:
        await asyncio.to_thread(self._server.stop, signal.SIGKILL)
        await asyncio.sleep(self._random.uniform(0, 0.5))
        await asyncio.to_thread(self._server.start)

    async def _delete_keys(self) -> None:
        redis = connect(self._settings)
        for pattern in (f"{self._settings.namespace}:arq:*", f"{self._settings.namespace}:queue:*"):
            async for key in redis.scan_iter(pattern, count=1000):
                await redis.delete(key)
        await disconnect(redis)

    async def _stop_all(self) -> None:
        for one in self._running:
            one.signal(signal.SIGSTOP)
        await asyncio.sleep(self._plan.stop_s)
        for one in self._running:
            one.signal(signal.SIGCONT)


async def run(plan: Plan, folder: Path) -> Result:
    """Play it once and judge it. The logs of the workers are left in the folder."""
    templates = folder / "templates" / "letter"
    templates.mkdir(parents=True)
    (templates / "subject.txt").write_text("Hello {{ name }}\n")
    (templates / "body.html").write_text("<p>Dear {{ name }}</p>\n")
    server = RedisServer(appendfsync="always")
    await asyncio.to_thread(server.start)
    settings = Settings(redis_url=server.url, namespace="chaos", templates_dir=templates.parent)
    result, started = Result(plan), time.monotonic()
    try:
        async with simulated_ses(plan) as ses, Workers(folder) as workers:
            play = Play(plan, settings, server, workers, _variables(plan, ses))
            await asyncio.gather(*(play.start_worker() for _ in range(WORKERS)))
            id = await _start(settings, plan.rows)
            async with asyncio.timeout(LIMIT_S):
                await _disturbed(play, plan, settings, id, result)
            await ses.told_all()
            async with Mailer(settings) as mailer:
                status = await mailer.campaign(id)
                result.lines = [line async for line in mailer.outcomes(id)]
            result.done = play.done
            _judge(result, status, await ses.log(), await ses.stats())
            result.wrong += [f"a traceback in {log}" for log in play.logs if "Traceback" in log.read_text()]
    except TimeoutError:
        result.wrong.append(f"not over after {LIMIT_S:g} s")
    finally:
        result.took_s = time.monotonic() - started
        await asyncio.to_thread(server.remove)
    return result


def _variables(plan: Plan, ses: SES) -> dict[str, str]:
    aws = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "simulated", "AWS_SECRET_ACCESS_KEY": "simulated"}
    no_files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
    ours = {"MAILER_UNKNOWN_BULK": "resend", "MAILER_UNKNOWN_GRACE_S": str(GRACE_S)} if plan.events else {}
    if ses.events is not None:
        ours |= {"MAILER_EVENTS_SQS_URL": ses.events, "AWS_ENDPOINT_URL_SQS": ses.url}
    return {**aws, **no_files, **ours, "AWS_ENDPOINT_URL_SESV2": ses.url, "MAILER_BULK_CALLS_PER_S": "unlimited"}


async def _start(settings: Settings, rows: int) -> str:
    campaign = Campaign(name="June", from_="letter@example.com", template="letter")
    async with Mailer(settings) as mailer:
        return await mailer.start_campaign(campaign, ({"email": address(i), "name": f"N{i}"} for i in range(rows)))


def address(i: int) -> str:
    return f"u{i}@example.org"


async def _disturbed(play: Play, plan: Plan, settings: Settings, id: str, result: Result) -> None:
    """Make trouble until nothing more becomes of the campaign."""
    async with asyncio.TaskGroup() as group, Mailer(settings) as mailer:
        troubles = [group.create_task(play.trouble(what)) for what in plan.troubles]
        while True:
            with suppress(RedisError, OSError):
                status = await mailer.campaign(id)
                unknown = status.counts.get("unknown", 0)
                result.doubted = max(result.doubted, unknown)
                if status.state is State.FINISHED and not (plan.events and unknown):
                    break
            await asyncio.sleep(0.25)
        async with play.still:  # Redis answers and everybody runs
            for task in troubles:
                task.cancel()


# ---- the judgement -------------------------------------------------------------------------------------------------


def _judge(result: Result, status: CampaignStatus, log: Sequence[dict[str, Any]], stats: dict[str, Any]) -> None:
    """Everybody once, and SES's last word of each; without events nobody twice, and who was not accepted is `unknown`."""
    plan, wrong = result.plan, result.wrong
    ids: dict[str, object] = {}
    for entry in log:
        for to in entry["recipients"]:
            result.accepted[to] += 1
            ids[to] = entry["id"]
    everybody = {address(i) for i in range(plan.rows)}
    missing = everybody - set(result.accepted)
    by_state = Counter(line.state for line in result.lines)
    if twice := [to for to, n in result.accepted.items() if n > 1]:
        wrong.append(f"{len(twice)} were sent to twice, as {twice[0]}")
    if lost := missing if plan.events else missing - result.unknown:
        wrong.append(f"{len(lost)} were lost, as {min(lost)}")
    if set(result.accepted) - everybody or {line.to for line in result.lines} != everybody:
        wrong.append("the report is not of those who were to be sent to")
    if false := [line.to for line in result.lines if line.state != "unknown" and line.to in missing]:
        wrong.append(f"{len(false)} are said to be sent who were not, as {false[0]}")
    if strange := set(by_state) - ({"delivered"} if plan.events else {"sent", "unknown"}):
        wrong.append(f"states that nothing here leads to: {', '.join(sorted(strange))}")
    if false_ids := [line.to for line in result.lines if line.ses_message_id not in (None, ids.get(line.to))]:
        wrong.append(f"{len(false_ids)} have a message id that is not SES's, as {false_ids[0]}")
    if status.counts != dict(by_state):
        wrong.append(f"the counts {status.counts} are not those of the report {dict(by_state)}")
    if status.twice:
        wrong.append(f"{status.twice} are counted as sent to twice")
    if stats["events"] and stats["events"]["dead"] + stats["events"]["dropped"]:
        wrong.append(f"events were given up: {stats['events']}")
    if stats["throttled"]:  # those of the faults are not counted
        wrong.append(f"the rate was exceeded by {stats['throttled']}")
