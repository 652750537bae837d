"""What other people's servers understand of the service's requests is what was put in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mailer.ses.gateway import Gateway

from .messages import CASES, STORED_NAME, Case
from .sending import can, compare, deliver, losses, refused, way
from .servers import SERVERS, Server

pytestmark = pytest.mark.asyncio(loop_scope="session")


def table(able: bool) -> Sequence[object]:
    """Every case with every server, as far as the server can (or cannot) do it."""
    return [
        pytest.param(name, case, id=f"{name}: {case.way}: {case.name}")
        for name, kind in SERVERS.items()
        for case in CASES
        if can(kind, case.abilities) is able
    ]


@pytest.mark.parametrize(("server", "case"), table(able=True), indirect=["server"])
async def test_a_message_arrives_as_it_was_put_in(server: Server, gateway: Gateway, case: Case) -> None:
    if case.stored:
        server.store_template(STORED_NAME, subject=case.subject, html=case.html, text=case.text)
    calls = case.calls()
    assert {way(call) for call in calls} == {case.way}
    held = await deliver(server, gateway, calls)
    for one, message in zip(held, case.messages(), strict=True):
        compare(one, message, losses(type(server), case.abilities))


@pytest.mark.parametrize(("server", "case"), table(able=False), indirect=["server"])
async def test_what_a_server_cannot_do_is_refused_for_every_message(server: Server, gateway: Gateway, case: Case) -> None:
    if case.stored:
        server.store_template(STORED_NAME, subject=case.subject, html=case.html, text=case.text)
    calls = case.calls()
    assert {way(call) for call in calls} == {case.way}
    await refused(server, gateway, calls, case.abilities)
