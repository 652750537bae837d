"""How fast aioboto3 itself can hand recipients to `send_bulk_email`: no queue, no ledger, no templates, no checks.

``python -m tests.bench.ceiling whole|values N`` sends N recipients and then waits to be ended.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Iterator
from html import escape
from itertools import cycle, islice
from typing import Any, Literal

import aioboto3
from botocore.config import Config

from .body import SENDER, Renderer, rows, source
from .sink import loop_factory

ENTRIES = 50  # of a call: SES's limit
IN_FLIGHT = 12  # calls; more made no difference to one process
READY = 40  # calls that are made beforehand and then sent over and over

Kind = Literal["whole", "values"]


def _template(kind: Kind) -> dict[str, str]:
    if kind == "whole":  # the entry's data is the message
        return {"Subject": "{{s}}", "Html": "{{h}}"}
    # The text is said once a call. SES's engine is Handlebars and escapes nothing by our word: the values arrive escaped.
    files = {"Subject": "subject.txt", "Html": "body.html"}
    return {part: re.sub(r"\{\{ (\w+) \}\}", r"{{\1}}", source(file)) for part, file in files.items()}


def ready_calls(kind: Kind) -> list[dict[str, Any]]:
    render = Renderer()

    def data(recipient: dict[str, str]) -> str:
        if kind == "values":
            return json.dumps({name: escape(value) for name, value in recipient.items() if name != "email"})
        subject, html = render(recipient)
        return json.dumps({"s": subject, "h": html})

    def call(recipients: Iterator[dict[str, str]]) -> dict[str, Any]:
        return {
            "FromEmailAddress": SENDER,
            "DefaultContent": {"Template": {"TemplateContent": _template(kind), "TemplateData": "{}"}},
            "BulkEmailEntries": [
                {
                    "Destination": {"ToAddresses": [recipient["email"]]},
                    "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data(recipient)}},
                }
                for recipient in recipients
            ],
        }

    return [call(rows(ENTRIES, start)) for start in range(0, READY * ENTRIES, ENTRIES)]


async def send(kind: Kind, n: int) -> None:
    calls = islice(cycle(ready_calls(kind)), -(-n // ENTRIES))
    config = Config(parameter_validation=False, max_pool_connections=IN_FLIGHT)
    async with aioboto3.Session().client("sesv2", config=config) as ses:

        async def lane() -> None:
            for call in calls:  # one iterator for all lanes
                await ses.send_bulk_email(**call)

        await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))


def main(kind: Kind, n: int) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(send(kind, n))
    signal.pause()  # the parent still reads this process's CPU time


if __name__ == "__main__":
    main("values" if sys.argv[1] == "values" else "whole", int(sys.argv[2]))
