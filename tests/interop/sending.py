"""Send through the service's own gateway, and compare what a server holds with what was put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, Protocol

import orjson

from mailer.ses.answers import Answer
from mailer.ses.gateway import Gateway

from .servers import Ability, Held, Message, Server

FIELDS = frozenset(field.name for field in fields(Message))


class Request(Protocol):
    """What is needed of `mailer.compose.Call`."""

    @property
    def operation(self) -> str: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def body(self) -> bytes: ...


class ByHand(NamedTuple):
    operation: str
    params: Mapping[str, Any]

    @property
    def body(self) -> bytes:
        return orjson.dumps(self.params)


def way(request: Request) -> Ability:
    """How a request carries its messages."""
    bulk = "BulkEmailEntries" in request.params
    content = request.params["DefaultContent" if bulk else "Content"]
    if "Template" not in content:
        return Ability.RAW if "Raw" in content else Ability.SIMPLE
    inline = "TemplateContent" in content["Template"]
    if bulk:
        return Ability.BULK_INLINE if inline else Ability.BULK_STORED
    return Ability.INLINE if inline else Ability.STORED


async def send(gateway: Gateway, requests: Sequence[Request]) -> list[Answer]:
    found: list[Answer] = []
    for request in requests:
        answers, _ = await gateway.send(request.operation, request.params, request.body)
        found += answers
    return found


async def deliver(server: Server, gateway: Gateway, requests: Sequence[Request]) -> list[Held]:
    """What the server holds of each message, in their order; and it holds nothing else that is new."""
    before = server.held()
    answers = await send(gateway, requests)
    assert [answer.refusal for answer in answers] == [None] * len(answers)
    held = server.held()
    assert held.keys() - before.keys() == {answer.message_id for answer in answers}
    return [held[str(answer.message_id)] for answer in answers]


def losses(kind: type[Server], abilities: Sequence[Ability]) -> Mapping[str, str]:
    return {name: why for ability in abilities for name, why in kind.loses.get(ability, {}).items()}


def compare(held: Held, message: Message, losses: Mapping[str, str]) -> None:
    """Every field of the message is held as it was put in, or is declared as lost, and then it is not."""
    assert held.keys() | losses.keys() >= FIELDS
    for name, value in held.items():
        expected = getattr(message, name)
        if name not in losses:
            assert value == expected, name
        elif expected:
            assert value != expected, f"{name} is kept, although it is declared as lost: {losses[name]}"


async def refused(server: Server, gateway: Gateway, requests: Sequence[Request], abilities: Sequence[Ability]) -> None:
    """Every message is refused as the server is declared to refuse what it cannot do, and it holds nothing new."""
    before = server.held()
    answers = await send(gateway, requests)
    declared = {(server.cannot[ability].kind, server.cannot[ability].code) for ability in abilities if ability in server.cannot}
    assert {answer.refusal and (answer.refusal.kind, answer.refusal.code) for answer in answers} <= declared
    assert server.held() == before


def can(kind: type[Server], abilities: Sequence[Ability]) -> bool:
    return not any(ability in kind.cannot for ability in abilities)
