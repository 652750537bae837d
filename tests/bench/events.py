"""SES's events through an SQS stand-in and one worker process: how fast they come in, and whether what stays is the model's.

Each event comes one to three times, all of them shuffled, some before the answer that they are about.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailer import Settings
from mailer.ids import Attempt, chunk_id, new_campaign_id
from mailer.ledger import LeasedChunk, Ledger, Settlement, Spec
from mailer.ledger.intake import CHUNK_ROWS, NewChunk
from mailer.message.email import Lane, Mode, Outcome
from mailer.queue import connect, disconnect

from ..ses_events import in_sns, published
from . import servers
from .servers import BenchError, Sink

EVENTS = 100_000  # that differ
PATIENCE_S = 300.0
LEASE_MS = 3_600_000
FATES = {  # what SES says of a recipient, and how often
    ("Send", "Delivery"): 70,
    ("Send",): 8,
    ("Delivery",): 5,
    ("Send", "DeliveryDelay", "Delivery"): 5,
    ("Send", "Bounce"): 6,
    ("Send", "Delivery", "Bounce"): 2,
    ("Send", "Delivery", "Complaint"): 2,
    ("Rendering Failure",): 1,
    ("Send", "Reject"): 1,
}
STATES = {
    "Send": "sent", "DeliveryDelay": "sent", "Delivery": "delivered", "Bounce": "bounced", "Complaint": "complained",
    "Reject": "rejected", "Rendering Failure": "failed",
}  # fmt: skip
STRENGTH = ("sent", "rejected", "failed", "delivered", "bounced", "complained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    events: int  # that differ
    messages: int  # of the queue
    seconds: float
    cpu_s: float | None  # of the worker
    again: int  # messages that the queue gave out a second time
    wrong: int  # recipients whose state is not the model's, and counts that do not add up

    @property
    def per_s(self) -> float:
        return self.messages / self.seconds


def ses_id(position: int) -> str:
    return f"0106018a1b2c3d4e-1f2e3d4c-1234-5678-9abc-{position:012d}-000000"


def made(id: str, n: int, chance: random.Random) -> tuple[list[str], list[str]]:
    """Bodies of messages in which `n` different events are, as they come; and the state of each recipient in the end."""
    bodies, model = list[str](), list[str]()
    left = n
    while left > 0:
        (fate,) = chance.choices(list(FATES), list(FATES.values()))
        row = len(model)
        model.append(max((STATES[type] for type in fate), key=STRENGTH.index))
        attempt = Attempt(id, row // CHUNK_ROWS, row % CHUNK_ROWS, 1)
        for type in fate:
            bodies += [json.dumps(in_sns(json.dumps(_event(type, attempt, row))))] * chance.choice((1, 2, 3))
            left -= 1
    chance.shuffle(bodies)
    return bodies, model


def _event(type: str, attempt: Attempt, row: int) -> dict[str, Any]:
    found = published(type)
    to = f"u{row}@example.net"
    found["mail"] |= {"messageId": ses_id(row), "destination": [to]}
    found["mail"]["tags"] |= {"mailer_id": [str(attempt)]}
    for key, list_ in (
        ("bounce", "bouncedRecipients"),
        ("complaint", "complainedRecipients"),
        ("deliveryDelay", "delayedRecipients"),
    ):
        if key in found:
            found[key][list_] = [{**one, "emailAddress": to} for one in found[key][list_]]
    if "delivery" in found:
        found["delivery"]["recipients"] = [to]
    return found


async def claimed(ledger: Ledger, id: str, n: int) -> list[LeasedChunk]:
    """A campaign of `n` recipients, all of whom are on their way to SES."""
    await ledger.intake.plan_campaign(id, Spec(lane=Lane.BULK, from_address="a@example.com", name="events", content="none"))
    sizes = [min(CHUNK_ROWS, n - first) for first in range(0, n, CHUNK_ROWS)]
    for number, size in enumerate(sizes):
        rows = [[number * CHUNK_ROWS + i + 1, f"u{number * CHUNK_ROWS + i}@example.net", {}] for i in range(size)]
        await ledger.intake.add_chunks(id, number, [NewChunk(rows, [Outcome.QUEUED] * size, {})])
    await ledger.intake.start_campaign(id, rows=n, chunks=len(sizes), counts=Counter({Outcome.QUEUED: n}))
    works = list[LeasedChunk]()
    for number, size in enumerate(sizes):
        work = await ledger.work.take(chunk_id(id, number), owner="bench", lease_ms=LEASE_MS)
        assert isinstance(work, LeasedChunk)
        await ledger.work.claim(work.chunk, fence=work.fence, mode=Mode.BULK, rows=[(i, 1) for i in range(size)])
        works.append(work)
    return works


async def answer(ledger: Ledger, works: list[LeasedChunk], chance: random.Random) -> None:
    """SES's answers are stored, in an order that has nothing to do with that of the events."""
    chance.shuffle(works)
    for work in works:
        first = int(work.chunk.rpartition("-")[2]) * CHUNK_ROWS
        size = len(work.entries)
        for at in range(0, size, 50):
            rows = [
                Settlement(position=i, attempt=1, outcome=Outcome.SENT, message_id=ses_id(first + i))
                for i in range(at, min(at + 50, size))
            ]
            await ledger.work.settle(work.chunk, rows)
            await asyncio.sleep(0.005)


def events(target: Sink, n: int = EVENTS) -> Events:
    id, chance = new_campaign_id(), random.Random(n)
    bodies, model = made(id, n, chance)
    with servers.valkey() as redis_url, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bodies")
        path.write_text("\n".join(bodies))
        argv = [sys.executable, "-m", "tests.bench.queue", str(path)]
        with servers.process("the queue", argv, pipe=True) as running:
            assert running.child.stdout
            queue = Sink(json.loads(running.child.stdout.readline())["url"])
            return asyncio.run(_measure(target, redis_url, queue, id, len(bodies), model, chance, n))


async def _measure(
    target: Sink, redis_url: str, queue: Sink, id: str, messages: int, model: list[str], chance: random.Random, n: int
) -> Events:
    redis = connect(Settings(redis_url=redis_url))
    ledger = Ledger(redis, "mailer")
    works = await claimed(ledger, id, len(model))
    extra = {"MAILER_EVENTS_SQS_URL": f"{queue.url}/123456789012/events", "AWS_ENDPOINT_URL_SQS": queue.url}
    with servers.worker(redis_url, target, **extra) as worker:
        before = worker.cpu_s()
        answering = asyncio.create_task(answer(ledger, works, chance))
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while (count := queue.count())["left"]:
            worker.check()
            if asyncio.get_running_loop().time() > deadline:
                raise BenchError(
                    f"{count['left']:.0f} of {messages} messages were left after {PATIENCE_S:.0f} s\n{worker.tail()}"
                )
            await asyncio.sleep(0.2)
        after = worker.cpu_s()
        await answering
    states = [line.state async for line in ledger.report.lines(id)]
    status = await ledger.report.campaign(id)
    wrong = sum(a != b for a, b in zip(states, model, strict=True)) + (status.counts != dict(Counter(model))) + status.twice
    await disconnect(redis)
    cpu_s = after - before if before is not None and after is not None else None
    seconds = count["last"] - count["first"]
    return Events(events=n, messages=messages, seconds=seconds, cpu_s=cpu_s, again=int(count["again"]), wrong=int(wrong))
