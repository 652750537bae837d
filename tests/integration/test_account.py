"""What `mailer account` knows: what the workers read last, and SES's own word where that is too old or is asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mailer import Mailer, Settings
from mailer.accounts.access import SesAccounts
from mailer.accounts.overview import AccountView, read_account, view_account
from mailer.cli.account import account_json
from mailer.errors import AccountUnknown
from mailer.ledger import Ledger
from mailer.message.email import Lane
from mailer.queue import connect, disconnect
from mailer.quota.limiter import Limiter, Limits
from mailer.quota.state import AccountStates
from mailer.simulator import AccountChange, Simulator, change_account

from ..conftest import running_worker
from .limiter import wish
from .test_delivery import letter, rows
from .test_reach import OWN, Aws, aws

__all__ = ["aws"]  # a fixture


@pytest.fixture
async def own_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    redis = connect(settings)
    yield Ledger(redis, settings.namespace)
    await disconnect(redis)


async def view(settings: Settings, ledger: Ledger, *, refresh: bool = False) -> AccountView:
    async with SesAccounts(settings, ledger, asyncio.Event()) as ses_accounts:
        return await view_account(settings, ledger, ses_accounts.own, refresh=refresh)


def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:1")


async def test_it_is_what_get_account_says_with_the_names_of_the_contract(
    settings: Settings, own_ledger: Ledger, ses: Simulator, aws: Aws
) -> None:
    change_account(ses, AccountChange(production=False, max_24h=-1, max_send_rate=14, sent_24h=7, enforcement="PROBATION"))
    settings = settings.model_copy(update={"max_send_rate": 10.0})
    shown = account_json(await view(settings, own_ledger))
    expected: dict[str, Any] = {
        "account": OWN, "region": "eu-west-1", "production": False, "sending_enabled": True, "enforcement": "PROBATION",
        "max_send_rate": 14.0, "max_24h": -1.0, "sent_24h": 7.0, "used_24h": 7.0, "counted_since_refresh": 0,
        "effective_rate": 10.0, "suppressed_reasons": ["BOUNCE", "COMPLAINT"], "stale": False, "trouble": "",
        "lanes": {"transactional": 0, "bulk": 0}, "in_doubt": 0, "campaigns": [],
    }  # fmt: skip
    assert {name: shown[name] for name in expected} == expected
    assert shown["refreshed_at"].utcoffset() is not None
    stored = await AccountStates(own_ledger).load("eu-west-1")
    assert stored is not None
    assert (stored.max_send_rate, stored.max_24h) == (14, -1)  # for the workers, too


async def test_what_workers_have_just_read_is_not_asked_for_again_unless_it_is_wished(
    settings: Settings, own_ledger: Ledger, ses: Simulator
) -> None:
    settings = settings.model_copy(update={"account_refresh_s": 60.0})
    first = await view(settings, own_ledger)
    change_account(ses, AccountChange(max_send_rate=3))
    again = await view(settings, own_ledger)
    assert (again.known.refreshed_at, again.known.max_send_rate) == (first.known.refreshed_at, 5000)
    assert (await view(settings, own_ledger, refresh=True)).known.max_send_rate == 3


async def test_what_is_too_old_for_workers_is_asked_for_again(settings: Settings, own_ledger: Ledger, ses: Simulator) -> None:
    await view(settings, own_ledger)
    change_account(ses, AccountChange(max_send_rate=3))
    await own_ledger.redis.hincrby(own_ledger.keys.account("eu-west-1"), "refreshed_at", -3100)
    found = await view(settings, own_ledger)
    assert (found.known.max_send_rate, found.stale) == (3, False)


async def test_where_ses_cannot_be_asked_what_is_old_is_shown_with_a_warning_and_nothing_known_is_an_error(
    settings: Settings, own_ledger: Ledger, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await view(settings, own_ledger)
    await own_ledger.redis.hincrby(own_ledger.keys.account("eu-west-1"), "refreshed_at", -7_300_000)
    gone(monkeypatch)
    found = await view(settings, own_ledger)
    assert (found.stale, found.known.max_send_rate, 7299 < found.age_s < 7320) == (True, 5000, True)
    assert "SES was not reached" in found.warning
    assert account_json(found)["trouble"] == found.warning
    # A worker's credentials may be others: what failed here is not what its campaigns wait for.
    accounts = AccountStates(own_ledger)
    assert await accounts.why_stale("eu-west-1") == ""

    await own_ledger.redis.delete(own_ledger.keys.account("eu-west-1"))
    with pytest.raises(AccountUnknown, match="SES in eu-west-1 does not tell the state of the account"):
        await view(settings, own_ledger)


async def test_an_account_number_that_nobody_tells_is_null_and_not_waited_for(
    settings: Settings, own_ledger: Ledger, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    assert (await view(settings, own_ledger)).number is None  # a simulated SES: nobody is asked
    assert time.monotonic() - started < 2

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr("mailer.ses.gateway.NUMBER_S", 0.2)
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
        started = time.monotonic()
        assert (await view(settings, own_ledger)).number is None
        assert time.monotonic() - started < 2
        silent.close()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    assert (await view(settings, own_ledger)).number is None


async def test_what_waits_and_why_is_shown_beside_it(settings: Settings, own_ledger: Ledger, ses: Simulator) -> None:
    async with Mailer(settings) as mailer:
        change_account(ses, AccountChange(sending_enabled=False))
        first = await mailer.start_campaign(letter(), rows(600))
        paused = await mailer.start_campaign(letter(), rows(3))
        await mailer.pause(paused)
        cancelled = await mailer.start_campaign(letter(), rows(3))
        await mailer.cancel(cancelled)
        found = account_json(await view(settings, own_ledger))
        assert found["lanes"] == {"transactional": 0, "bulk": 4}
        waiting = {one["id"]: (one["state"], one["left"]) for one in found["campaigns"]}
        assert waiting == {first: ("running", 600), paused: ("paused", 3)}
        async with running_worker(settings):
            async with asyncio.timeout(10):
                while (found := account_json(await view(settings, own_ledger)))["campaigns"][-1]["state"] != "parked":
                    await asyncio.sleep(0.05)
        (parked,) = [one for one in found["campaigns"] if one["id"] == first]
        assert "sending is paused for this SES account" in parked["reason"]
        key = own_ledger.keys.container(first)
        await own_ledger.redis.hset(key, mapping={"n:d": 90, "n:b": 8, "n:m": 2})
        reputation = account_json(await view(settings, own_ledger))["reputation"]
        assert reputation == {"known": 100, "bounced": 8, "complained": 2}


async def test_what_a_command_reads_counts_what_is_on_its_way_as_a_worker_s_reading_does(
    settings: Settings, own_ledger: Ledger, ses: Simulator
) -> None:
    await view(settings, own_ledger)
    await Limiter(own_ledger, "eu-west-1", Limits()).admit(wish(40))
    found = await view(settings, own_ledger, refresh=True)
    assert (found.known.since, found.known.used_24h) == (40, 40)  # SES has not answered for them, and has not counted them
    async with SesAccounts(settings, own_ledger, asyncio.Event()) as ses_accounts:
        await read_account(AccountStates(own_ledger), ses_accounts.own)
    assert found.lanes.keys() == set(Lane)
