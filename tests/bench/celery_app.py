"""Celery and boto3 as usually written: one task an e-mail. A baseline, not ours; it runs in an environment of its own.

``python -m tests.bench.celery_app N`` enqueues N e-mails; ``python -m celery -A tests.bench.celery_app worker`` sends them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import cache
from typing import Any

import boto3
from celery import Celery

from .body import SENDER, Renderer, rows

app = Celery("bench", broker=os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.task_ignore_result = True


@cache
def tools() -> tuple[Any, Renderer]:
    """The client and the template, made once in each process of the pool."""
    return boto3.client("sesv2"), Renderer()


def _send_mail(recipient: dict[str, str]) -> str:
    ses, render = tools()
    subject, html = render(recipient)
    response = ses.send_email(
        FromEmailAddress=SENDER,
        Destination={"ToAddresses": [recipient["email"]]},
        Content={
            "Simple": {
                "Subject": {"Data": subject, "Charset": "UTF-8"},
                "Body": {"Html": {"Data": html, "Charset": "UTF-8"}},
            }
        },
    )
    return str(response["MessageId"])


send_mail = app.task(name="send_mail")(_send_mail)


def enqueue(n: int) -> float:
    """Returns the seconds that it took."""
    start = time.perf_counter()
    for recipient in rows(n):
        send_mail.delay(recipient)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(enqueue(int(sys.argv[1]))))
