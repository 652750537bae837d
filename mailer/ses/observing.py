"""Tells somebody of each call that a client makes, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from .refusals import classify_question

ACCEPTED = "accepted"
Observer = Callable[[str, str, float], None]  # the operation as SES names it, ACCEPTED or the value of a Kind, seconds
_BEGAN = "mailer_began"


def observe(client: Any, observer: Observer) -> None:
    """By botocore's hooks, which see every operation of the client: once, however often botocore tried it."""

    def begin(context: dict[str, Any], **_: Any) -> None:
        context[_BEGAN] = time.monotonic()

    def answered(http_response: Any, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        refused = http_response.status_code >= 300
        result = classify_question(ClientError(parsed, model.name)).kind.value if refused else ACCEPTED
        observer(model.name, result, time.monotonic() - context[_BEGAN])

    def failed(exception: BaseException, context: dict[str, Any], event_name: str, **_: Any) -> None:
        observer(event_name.rpartition(".")[2], classify_question(exception).kind.value, time.monotonic() - context[_BEGAN])

    client.meta.events.register("before-call.sesv2", begin)
    client.meta.events.register("after-call.sesv2", answered)
    client.meta.events.register("after-call-error.sesv2", failed)
