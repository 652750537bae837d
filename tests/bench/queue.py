"""A stand-in for SQS that answers at once: ``python -m tests.bench.queue FILE`` has a message for each line of the file.

It keeps SQS's limits of ten messages a call, gives each message again where it was not deleted within the visibility
time-out, and looks at no more of a request than it must. Beside SQS's calls it answers `GET /count`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import orjson

VISIBILITY_S = 30.0
BATCH = 10


class Queue:
    def __init__(self, bodies: list[str]) -> None:
        self.bodies = bodies
        self.waiting = deque(range(len(bodies)))
        self.hidden: dict[int, float] = {}  # message → until when; in that order
        self.left = len(bodies)
        self.received = self.again = 0
        self.first = self.last = 0.0

    def answer(self, action: str, body: bytes) -> dict[str, Any]:
        asked = orjson.loads(body)
        if action == "ReceiveMessage":
            return {"Messages": self._receive(min(int(asked.get("MaxNumberOfMessages", 1)), BATCH))}
        if action == "DeleteMessageBatch":
            entries = asked["Entries"]
            for entry in entries[:BATCH]:
                self.left -= self.hidden.pop(int(entry["ReceiptHandle"]), None) is not None
            self.last = time.time()
            return {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}
        return {"Attributes": {"RedrivePolicy": '{"maxReceiveCount": 5}'}}

    def _receive(self, most: int) -> list[dict[str, Any]]:
        now = time.time()
        self.first = self.first or now
        while self.hidden:
            number, until = next(iter(self.hidden.items()))
            if until > now:
                break
            del self.hidden[number]
            self.waiting.append(number)
            self.again += 1
        numbers = [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]
        self.received += len(numbers)
        for number in numbers:
            self.hidden[number] = now + VISIBILITY_S
        return [
            {
                "MessageId": f"{number:032x}",
                "ReceiptHandle": str(number),
                "Body": self.bodies[number],
                "Attributes": {"ApproximateReceiveCount": "1"},
            }
            for number in numbers
        ]


async def serve(queue: Queue) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:] if line)
                body = await reader.readexactly(int(lines.get(b"content-length", b"0")))
                if head.startswith(b"GET /count"):
                    found = {name: getattr(queue, name) for name in ("left", "received", "again", "first", "last")}
                else:
                    action = head.lower().partition(b"x-amz-target: amazonsqs.")[2]
                    names = {b"receive": "ReceiveMessage", b"deletem": "DeleteMessageBatch"}
                    found = queue.answer(names.get(action[:7], "GetQueueAttributes"), body)
                    if found.get("Messages") == []:
                        await asyncio.sleep(0.2)
                packed = orjson.dumps(found)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n" % len(packed)
                    + packed
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Queue(Path(sys.argv[1]).read_text().splitlines())))
