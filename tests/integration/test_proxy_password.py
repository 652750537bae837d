"""A proxy's password is in no status, no report of the doctor or the account, no check of readiness and no log."""

from __future__ import annotations

import asyncio
import io

import pytest

from mailer import Email, Mailer, Settings
from mailer.accounts.access import SesAccounts
from mailer.accounts.overview import view_account
from mailer.doctor import Patient, examine
from mailer.errors import AccountUnknown
from mailer.ledger import Ledger
from mailer.log import configure_logging
from mailer.ses import gateway
from mailer.settings import LogFormat
from worker.readiness import ready

from ..conftest import running_worker
from .test_delivery import FROM, letter, parked_with, rows

FIRST, SECOND = "hunTERtwo", "swordFISH"


@pytest.mark.parametrize("special", ["/", "#", "@", "%"])
async def test_a_proxys_password_is_shown_nowhere(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch, special: str
) -> None:
    monkeypatch.setitem(gateway._ASKING, "retries", {"total_max_attempts": 1, "mode": "standard"})
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{FIRST}{special}{SECOND}@127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "https://ses.example")
    stream, shown = io.StringIO(), list[str]()
    configure_logging(LogFormat.JSON, "DEBUG", stream=stream)
    async with running_worker(settings) as runtime:
        message = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="s", text="t"))
        campaign = await mailer.start_campaign(letter(), rows(3))
        shown.append((await parked_with(mailer, campaign, "SES was not reached")).reason)
        async with asyncio.timeout(20):
            while "SES was not reached" not in (status := (await mailer.status(message)).reason):
                await asyncio.sleep(0.05)
        shown += [status, *(check.detail for check in (await ready(runtime)).values())]
        shown += [str(finding) for finding in await examine(Patient(settings=settings, senders={}))]
        async with SesAccounts(settings, runtime.ledger, asyncio.Event()) as ses_accounts:
            with pytest.raises(AccountUnknown) as caught:
                await view_account(settings, Ledger(runtime.redis, settings.namespace), ses_accounts.own, refresh=True)
        shown.append(str(caught.value))
    shown.append(stream.getvalue())
    for text in shown:
        assert FIRST not in text
        assert SECOND not in text
    if special in "/#":
        assert "HTTPS_PROXY cannot be read: there is one of / ? # in its user or password" in status
