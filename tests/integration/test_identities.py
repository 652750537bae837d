"""What processes share about an account's identities and configuration sets, on each kind of server there is."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from mailer.errors import NotKnown
from mailer.identities import lookup as register
from mailer.identities.cache import Identities, KnownSet
from mailer.identities.lookup import IdentityLookup
from mailer.ledger import Ledger
from mailer.quota.state import AccountStates
from mailer.ses.gateway import Gateway
from mailer.simulator import Fault, Kind, Simulator

A = "eu-west-1"


@pytest.fixture
def identities(ledger: Ledger) -> Identities:
    return Identities(ledger, A, keep_s=100)


async def glance_set(identities: Identities, *names: str, named: str | None = None) -> tuple[str, KnownSet | None]:
    glance = await identities.glance(names, defaults=len(names), named_set=named, stale_ms=1000)
    return glance.set_name, glance.set_state


async def test_a_list_takes_the_place_of_everything_but_what_was_looked_up_and_is_used(identities: Identities) -> None:
    await identities.replace({"Old.example": True, "used.example": True, "gone.example": True})
    for name in ("used.example", "gone.example", "unused.example"):
        await identities.store(name, True, "news")
    await glance_set(identities, "used.example", "gone.example")
    await identities.replace({"USED.example": True, "unused.example": True, "New.example": False})
    found = await identities.find(["old.example", "USED.example", "gone.example", "unused.EXAMPLE", "new.example"])
    assert {key: (one.verified, one.configuration_set) for key, one in found.identities.items()} == {
        "used.example": (True, "news"),
        "unused.example": (True, ""),
        "new.example": (False, ""),
    }
    assert found.identities["new.example"].name == "New.example"


async def test_of_two_spellings_the_verified_one_counts(identities: Identities) -> None:
    await identities.replace({"ana@example.com": True, "Ana@example.com": False})
    assert (await identities.find(["ANA@example.com"])).identities["ana@example.com"].verified


async def test_what_nobody_refreshes_vanishes_also_when_more_is_looked_up(identities: Identities, ledger: Ledger) -> None:
    await identities.replace({"a.example": True})
    key = ledger.keys.identities(A)
    await ledger.redis.expire(key, 7)
    await identities.store("b.example", True, None)
    assert await ledger.redis.ttl(key) <= 7
    await identities.forget(["A.example", "b.example"])
    await ledger.redis.delete(key)
    await identities.store("b.example", True, None)
    assert 90 < await ledger.redis.ttl(key) <= 100
    await identities.store_set("news", KnownSet(sending_enabled=True, suppressed_reasons=None))
    assert 90 < await ledger.redis.ttl(ledger.keys.configuration_set(A, "news")) <= 100


async def test_the_default_set_is_that_of_the_most_special_identity_that_has_one(identities: Identities) -> None:
    for name, verified, default in (("a@x.example", False, "no"), ("x.example", True, ""), ("example", True, "top")):
        await identities.store(name, verified, default)
    names = ("a@x.example", "x.example", "example")
    assert await glance_set(identities, *names) == ("top", None)
    state = KnownSet(sending_enabled=True, suppressed_reasons=frozenset({"BOUNCE"}))
    await identities.store_set("top", state)
    assert await glance_set(identities, *names) == ("top", state)
    assert (await glance_set(identities, *names, named="own"))[0] == "own"
    assert [sorted(used) for used in await identities.in_use()] == [["example", "x.example"], ["own", "top"]]


@pytest.mark.parametrize("reasons", [None, frozenset(), frozenset({"BOUNCE"}), frozenset({"BOUNCE", "COMPLAINT"})])
async def test_no_override_and_an_empty_one_are_two_things_also_for_a_set_that_is_paused(
    identities: Identities, reasons: frozenset[str] | None
) -> None:
    await identities.store_set("news", KnownSet(sending_enabled=True, suppressed_reasons=reasons))
    await identities.pause_set("news")
    assert await identities.find_set("news") == KnownSet(sending_enabled=False, suppressed_reasons=reasons)


async def test_an_account_whose_state_is_old_or_not_there_is_not_believed(identities: Identities, ledger: Ledger) -> None:
    assert not (await identities.glance([], defaults=0, named_set=None, stale_ms=1000)).believed
    fields: dict[str, str | float | int] = {"production": 1, "suppressed_reasons": "BOUNCE,COMPLAINT"}
    await AccountStates(ledger).store(A, fields, answered=0)
    glance = await identities.glance([], defaults=0, named_set=None, stale_ms=60_000)
    assert (glance.believed, glance.production, glance.suppressed_reasons) == (True, True, frozenset({"BOUNCE", "COMPLAINT"}))
    await ledger.redis.hincrby(ledger.keys.account(A), "refreshed_at", -61_000)
    assert not (await identities.glance([], defaults=0, named_set=None, stale_ms=60_000)).believed


async def test_many_that_ask_at_once_cost_one_call_and_different_ones_keep_their_distance(
    identities: Identities, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "ASK_EVERY_MS", 40)
    async with Gateway() as gateway:
        asked = IdentityLookup(identities, gateway, refresh_s=1, stale_ms=3000)
        assert {one.verified for one in await asyncio.gather(*(asked.look_up("example.com") for _ in range(20)))} == {True}
        assert ses.counts["GetEmailIdentity"] == 1
        await asyncio.gather(*(asked.list_anew() for _ in range(20)))
        assert ses.counts["ListEmailIdentities"] == 1
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(asked.look_up(f"{i}.example") for i in range(4)))
        assert asyncio.get_running_loop().time() - started >= 3 * 0.04


async def test_a_list_that_one_could_not_get_is_not_asked_for_by_all(identities: Identities, ses: Simulator) -> None:
    ses.faults.set([Fault(kind=Kind.ERROR, operation="ListEmailIdentities", code="AccessDeniedException", status=403)])
    async with Gateway() as gateway:
        asked = IdentityLookup(identities, gateway, refresh_s=1, stale_ms=3000)
        found = await asyncio.gather(*(asked.list_anew() for _ in range(10)), return_exceptions=True)
    assert {str(error) for error in found} == {"Injected by a fault rule. (the worker's role needs ses:ListEmailIdentities)"}
    assert {type(error) for error in found} == {NotKnown}
    assert ses.counts["ListEmailIdentities"] <= 1


async def test_calls_that_ses_does_not_answer_are_told_once_with_the_reason_and_once_when_it_answers_again(
    identities: Identities, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "ASK_EVERY_MS", 1)
    fault = Fault(kind=Kind.ERROR, code="TooManyRequestsException", status=429, message="Slow down, call 17.")

    async with Gateway() as gateway:
        asked = IdentityLookup(identities, gateway, refresh_s=1, stale_ms=3000)

        async def ask() -> list[object]:
            calls = (asked.look_up("example.com"), asked.look_up_set("news"), asked._list())
            return [type(found) for found in await asyncio.gather(*calls, return_exceptions=True)]

        with capture_logs() as lines:
            for _ in range(3):  # they fail, are answered, and fail again: at most one line a minute tells that they do
                ses.faults.set([fault])
                for _ in range(4):
                    assert await ask() == [NotKnown] * 3
                ses.faults.set([])
                assert NotKnown not in await ask()
                await identities.forget(["example.com"])
                await identities._redis.delete(identities._keys.configuration_set(A, "news"))
    text = "what must be known before sending"
    assert [line["event"] for line in lines] == [
        f"SES does not answer {text}; it is asked again",
        f"SES answers again {text}",
    ]
    assert (lines[0]["region"], "Slow down, call 17." in lines[0]["reason"]) == (A, True)


async def test_another_reason_why_ses_does_not_answer_is_told_at_once(identities: Identities, ses: Simulator) -> None:
    async with Gateway() as gateway:
        asked = IdentityLookup(identities, gateway, refresh_s=1, stale_ms=3000)
        with capture_logs() as lines:
            for text in ("one thing", "another thing"):
                fault = Fault(kind=Kind.ERROR, code="BadRequestException", status=400, message=text)
                ses.faults.set([fault])
                with pytest.raises(NotKnown):
                    await asked._list()
    assert [line["reason"] for line in lines] == ["one thing", "another thing"]


async def test_one_process_of_all_refreshes_and_one_that_is_stopped_in_the_middle_leaves_it_to_the_next(
    identities: Identities, ses: Simulator
) -> None:
    async with Gateway() as gateway:
        one, other = (IdentityLookup(identities, gateway, refresh_s=60, stale_ms=3000) for _ in range(2))
        ses.faults.set([Fault(kind=Kind.LATENCY, operation="ListEmailIdentities", seconds=30)])
        first = asyncio.create_task(one.refresh_when_due())
        async with asyncio.timeout(5):
            while not await identities._redis.exists(identities._keys.identities_turn(A)):
                await asyncio.sleep(0.01)
        await other.refresh_when_due()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        ses.faults.set([])
        await other.refresh_when_due()
    assert (await identities.find([])).listed_ms > 0
