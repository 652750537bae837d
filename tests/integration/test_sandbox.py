"""The gates that know SES's identities and configuration sets: what they stop never reaches a call that sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

import pytest

from mailer import Campaign, Email, Mailer, Sender, Settings, State
from mailer.identities import lookup as register
from mailer.ledger import LeasedChunk, Ledger, RecipientStatus
from mailer.simulator import Fault, Kind, Simulator, SimulatorConfig, refusals
from mailer.simulator.state import ConfigurationSet, Identity
from mailer.suppression import check as suppression
from worker import gate, maintenance, settle
from worker.runtime import LEASE_MS, Runtime
from worker.settle import LeaseContext

from ..conftest import running_worker, simulated_ses
from .test_delivery import accepted, finished, letter, parked_with, rows, settled, until

OWN, OTHER = "123456789012", "444455556666"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for people and for AWS's limits."""
    monkeypatch.setattr(settle, "PARK_S", 0.2)
    monkeypatch.setattr(register, "ASK_EVERY_MS", 5)
    monkeypatch.setattr(register, "PAGE_PAUSE_S", 0.01)


@pytest.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    """An account in the sandbox, but for its quotas, which are not what is tested."""
    verified = ("example.com", "ana@example.org", "verified.example")
    config = SimulatorConfig(production=False, verified=verified, max_send_rate=5000, max_24h=1_000_000)
    async with simulated_ses(monkeypatch, config) as ses:
        yield ses


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Runtime, Mailer]]:
    async with running_worker(settings) as runtime, Mailer(settings) as mailer:
        yield runtime, mailer


def rarely(settings: Settings) -> Settings:
    """So that nothing is read again while the test runs but when it says so."""
    return settings.model_copy(update={"account_refresh_s": 60})


def sends(ses: Simulator) -> int:
    return ses.counts["SendEmail"] + ses.counts["SendBulkEmail"]


def email(to: Any = "bo@example.org", **more: Any) -> Email:
    return Email(**{"to": to, "from_": "letter@example.com", "subject": "s", "text": "t", **more})


def people(*addresses: str) -> list[dict[str, Any]]:
    return [{"email": address, "name": "x"} for address in addresses]


async def lines(mailer: Mailer, id: str) -> dict[str, RecipientStatus]:
    return {line.to: line async for line in mailer.outcomes(id)}


def denied(operation: str, action: str) -> Fault:
    message = f"User: arn:aws:iam::{OWN}:role/w is not authorized to perform: {action} on resource: *"
    return Fault(kind=Kind.ERROR, operation=operation, code="AccessDeniedException", status=403, message=message)


# ---- recipients in the sandbox -------------------------------------------------------------------------------------


async def test_whom_ses_would_refuse_is_rejected_without_a_call_and_told_what_to_do(
    settings: Settings, sandbox: Simulator
) -> None:
    async with serving(settings) as (_, mailer):
        status = await settled(mailer, await mailer.send(email()))
        assert (status.state, status.attempts) == ("rejected", 0)
        assert status.reason == (
            "the account is in the SES sandbox and bo@example.org is not verified: verify it or its domain in SES "
            "(region eu-west-1), for example with "
            "`aws sesv2 create-email-identity --region eu-west-1 --email-identity bo@example.org`, or ask for production access"
        )
    assert sends(sandbox) == 0


async def test_a_campaign_reaches_those_that_are_verified_and_no_call_has_another_in_it(
    settings: Settings, sandbox: Simulator
) -> None:
    good = ["ana@example.org", "ana+label@example.org", "ANA@example.org", "u@verified.example", "u@deep.verified.example"]
    good += ["success@simulator.amazonses.com", "bounce+x@simulator.amazonses.com"]
    # What a list has twice, in capitals, is one person.
    bad = [f"u{i}@example.org" for i in range(700)] + ["u@notverified.example", "u@example", "x@amazonses.com"]
    async with serving(settings) as (_, mailer):
        id = await mailer.start_campaign(letter(), people(*bad[:-2], *good))
        status = await finished(mailer, id)
        assert status.counts == {"sent": len(good) - 1, "rejected": len(bad) - 2, "duplicate": 1}
        assert {line.attempts for line in (await lines(mailer, id)).values() if line.state == "rejected"} == {0}
    assert sandbox.counts["accepted"] == len(good) - 1
    assert sandbox.counts["GetEmailIdentity"] <= 4  # of the sender; of the recipients it was the list that was asked


async def test_one_recipient_who_is_not_verified_rejects_the_message_whole_and_a_row_alone(
    settings: Settings, sandbox: Simulator
) -> None:
    source = [{"email": "ana@example.org", "name": "x", "cc": "bo@example.org"}, *people("u@verified.example")]
    async with serving(settings) as (_, mailer):
        status = await settled(mailer, await mailer.send(email("ana@example.org", bcc="Bo <bo@example.org>")))
        assert (status.state, "bo@example.org is not verified" in status.reason) == ("rejected", True)
        id = await mailer.start_campaign(letter(), source)
        assert (await finished(mailer, id)).counts == {"sent": 1, "rejected": 1}
    assert accepted(sandbox) == {"u@verified.example": 1}


async def test_what_was_verified_a_moment_ago_passes_and_what_was_withdrawn_is_rejected_after_a_refresh(
    settings: Settings, sandbox: Simulator
) -> None:
    async with serving(rarely(settings)) as (runtime, mailer):
        sandbox.identities["new@example.org"] = Identity("new@example.org", True)
        assert (await settled(mailer, await mailer.send(email("new@example.org")))).state == "sent"
        assert sandbox.counts["ListEmailIdentities"] == 1
        del sandbox.identities["ana@example.org"]
        await runtime.own.register.refresh()
        status = await settled(mailer, await mailer.send(email("ana@example.org")))
        assert (status.state, status.attempts) == ("rejected", 0)


async def test_what_ses_refuses_all_the_same_is_rejected_and_not_believed_again(settings: Settings, sandbox: Simulator) -> None:
    async with serving(rarely(settings)) as (_, mailer):
        del sandbox.identities["ana@example.org"]
        first = await settled(mailer, await mailer.send(email("ana@example.org")))
        again = await settled(mailer, await mailer.send(email("ana@example.org")))
        assert [(status.state, status.attempts) for status in (first, again)] == [("rejected", 1), ("rejected", 0)]
        assert sends(sandbox) == 1


async def test_the_identities_of_all_pages_count(settings: Settings, sandbox: Simulator) -> None:
    for i in range(2500):
        sandbox.identities[f"p{i}@many.example"] = Identity(f"p{i}@many.example", i % 2 == 0)
    async with serving(settings) as (_, mailer):
        id = await mailer.start_campaign(letter(), people(*(f"p{i}@many.example" for i in range(2500))))
        assert (await finished(mailer, id)).counts == {"sent": 1250, "rejected": 1250}
    assert {int(address[1:].partition("@")[0]) % 2 for address in accepted(sandbox)} == {0}
    assert sandbox.counts["accepted"] == 1250


async def test_identities_that_come_and_go_while_a_campaign_runs_let_nobody_through_who_never_was_one(
    settings: Settings, sandbox: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.intake.chunks.CHUNK_ROWS", 30)
    monkeypatch.setattr(register, "LIST_AGAIN_S", 0)
    sandbox.rate.change(1500)
    kinds = ("never.example", "verified.example", "flips.example")
    flips = sandbox.identities["flips.example"] = Identity("flips.example", True)

    async def flip() -> None:
        while True:
            await asyncio.sleep(0.03)
            flips.verified = not flips.verified

    async with serving(settings) as (_, mailer):
        flipping = asyncio.create_task(flip())
        id = await mailer.start_campaign(letter(), people(*(f"u{i}@{kinds[i % 3]}" for i in range(1500))))
        status = await finished(mailer, id)
        flipping.cancel()
        found = (await lines(mailer, id)).values()
    by_kind = {kind: {line.state for line in found if line.to.endswith(kind)} for kind in kinds}
    assert by_kind == {"never.example": {"rejected"}, "verified.example": {"sent"}, "flips.example": {"sent", "rejected"}}
    assert {line.attempts for line in found if line.to.endswith("never.example")} == {0}
    assert sum(status.counts.values()) == 1500
    assert set(accepted(sandbox).values()) == {1}


async def test_in_production_nobody_has_to_be_verified_but_the_sender(settings: Settings, ses: Simulator) -> None:
    async with serving(settings) as (_, mailer):
        assert (await finished(mailer, await mailer.start_campaign(letter(), rows(600)))).counts == {"sent": 600}
    assert ses.counts["GetEmailIdentity"] <= 2


# ---- the sender ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("production", [True, False])
@pytest.mark.parametrize("who", [{"from": "letter@elsewhere.example"}, {"feedback_address": "bounces@elsewhere.example"}])
async def test_a_sender_that_is_not_verified_stops_the_campaign_with_one_reason_and_without_a_call(
    settings: Settings, sandbox: Simulator, production: bool, who: dict[str, Any]
) -> None:
    sandbox.production = production
    settings = settings.model_copy(update={"senders": {"other": Sender(**{"from": "a@example.com", **who})}})
    async with serving(settings) as (_, mailer):
        id = await mailer.start_campaign(letter(from_=None, sender="other"), people("ana@example.org", "bo@example.org"))
        status = await until(mailer, id, State.STOPPED)
        message = await settled(mailer, await mailer.send(email("ana@example.org", from_=None, sender="other")))
    assert status.counts == {"queued": 2}
    assert status.reason == message.reason
    assert status.reason == (
        f"The sender {next(iter(who.values()))} is not verified in SES (region eu-west-1). Verify the address or its domain "
        "there, for example with `aws sesv2 create-email-identity --region eu-west-1 --email-identity elsewhere.example`."
    )
    assert (message.state, sends(sandbox)) == ("rejected", 0)


def with_headers(*headers: str, sender: str | None = None) -> Email:
    mime = "\r\n".join(["From: letter@example.com", "To: ana@example.org", *headers, "Subject: s", "", "x"])
    return Email(raw=mime.encode(), sender=sender)


@pytest.mark.parametrize("production", [True, False])
@pytest.mark.parametrize("header", ["Return-Path", "Sender"])
async def test_a_header_that_ses_wants_verified_is_named_where_it_is_not(
    settings: Settings, sandbox: Simulator, header: str, production: bool
) -> None:
    sandbox.production = production
    async with serving(settings) as (_, mailer):
        refused = await settled(mailer, await mailer.send(with_headers(f"{header}: List <bounces+1@lists.example>")))
        fine = await settled(mailer, await mailer.send(with_headers(f"{header}: <bounces+1@example.com>")))
    assert (refused.state, refused.attempts, fine.state) == ("rejected", 0, "sent")
    assert refused.reason == (
        f"The message's header {header} names bounces+1@lists.example, which is not verified in SES (region eu-west-1). SES "
        "checks this header as it checks From. Leave the header out, or verify the address or its domain there, for example with "
        "`aws sesv2 create-email-identity --region eu-west-1 --email-identity lists.example`."
    )
    assert sends(sandbox) == 1


@pytest.mark.parametrize("header", ["Return-Path", "Sender"])
async def test_a_header_that_ses_refuses_after_all_is_not_told_as_the_sandbox(
    settings: Settings, sandbox: Simulator, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate knows an identity from a minute ago, which SES has no more."""
    async with serving(rarely(settings)) as (_, mailer):
        await settled(mailer, await mailer.send(with_headers(f"{header}: a@verified.example")))
        del sandbox.identities["verified.example"]
        status = await settled(mailer, await mailer.send(with_headers(f"{header}: a@verified.example")))
    assert status.state == "rejected"
    assert "a@verified.example" in status.reason
    assert "sandbox" not in status.reason
    assert "verify the sender's address or domain in SES" in status.reason


async def test_an_authorised_identity_stands_for_the_header_sender_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = f"arn:aws:ses:eu-west-1:{OTHER}:identity/partner.example"
    senders = {"theirs": Sender(from_="a@partner.example", identity_arn=arn)}
    async with (
        simulated_ses(monkeypatch, SimulatorConfig(authorised=(arn,))) as ses,
        serving(settings.model_copy(update={"senders": senders})) as (_, mailer),
    ):
        fine = await settled(mailer, await mailer.send(with_headers("Sender: b@partner.example", sender="theirs")))
        other = await settled(mailer, await mailer.send(with_headers("Sender: b@elsewhere.example", sender="theirs")))
    assert (fine.state, other.state, "header Sender names b@elsewhere.example" in other.reason) == ("sent", "rejected", True)
    assert sends(ses) == 1


async def test_a_sender_that_was_verified_after_it_was_refused_is_let_through_before_the_next_refresh(
    settings: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.identities.sender.NO_AGAIN_MS", 0)
    async with serving(rarely(settings)) as (_, mailer):
        news = email(from_="news@new.example")
        assert (await settled(mailer, await mailer.send(news))).state == "rejected"
        ses.identities["new.example"] = Identity("new.example", True)
        assert (await settled(mailer, await mailer.send(news))).state == "sent"


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def own_account(_: object) -> str:
        return OWN

    monkeypatch.setattr("mailer.ses.gateway.Gateway.known_account", own_account)


async def test_another_accounts_identity_is_not_looked_up_and_an_own_one_is(
    settings: Settings, numbered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arns = {
        name: f"arn:aws:ses:eu-west-1:{number}:identity/partner.example" for name, number in (("own", OWN), ("theirs", OTHER))
    }
    senders = {name: Sender(from_="a@partner.example", identity_arn=arn) for name, arn in arns.items()}
    async with (
        simulated_ses(monkeypatch, SimulatorConfig(authorised=(arns["theirs"],))) as ses,
        serving(settings.model_copy(update={"senders": senders})) as (_, mailer),
    ):
        theirs = await settled(mailer, await mailer.send(email(from_=None, sender="theirs")))
        looked_up = ses.counts["GetEmailIdentity"]
        own = await settled(mailer, await mailer.send(email(from_=None, sender="own")))
        assert (theirs.state, looked_up) == ("sent", 0)
        assert (own.state, "The sender partner.example is not verified" in own.reason) == ("rejected", True)
        assert sends(ses) == 1


@pytest.mark.parametrize("asked", [False, True])
async def test_an_account_whose_number_nobody_tells_leaves_the_identities_of_arns_to_ses(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    arn, calls = f"arn:aws:ses:eu-west-1:{OTHER}:identity/partner.example", list[None]()

    async def own_account(_: object) -> str:
        calls.append(None)
        await asyncio.sleep(3600)
        return OWN

    monkeypatch.setattr("mailer.ses.gateway.Gateway.own_account", own_account)
    monkeypatch.setattr("mailer.ses.gateway.NUMBER_S", 0.1)
    if asked:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    sender = Sender(from_="a@partner.example", identity_arn=arn)
    async with (
        simulated_ses(monkeypatch, SimulatorConfig(authorised=(arn,), max_send_rate=100)) as ses,
        serving(settings.model_copy(update={"senders": {"theirs": sender}})) as (_, mailer),
    ):
        for _ in range(2):
            assert (await settled(mailer, await mailer.send(email(from_=None, sender="theirs")))).state == "sent"
        assert sends(ses) == 2
    assert len(calls) == (1 if asked else 0)


# ---- the configuration set -----------------------------------------------------------------------------------------


async def test_a_paused_set_parks_what_uses_it_and_nothing_else_and_goes_on_when_that_is_lifted(
    settings: Settings, ses: Simulator
) -> None:
    ses.configuration_sets |= {"news": ConfigurationSet("news", sending_enabled=False), "other": ConfigurationSet("other")}
    async with serving(settings) as (_, mailer):
        id = await mailer.start_campaign(letter(configuration_set="news"), rows(100))
        await parked_with(mailer, id, "waiting: sending is paused for the configuration set news")
        other = await mailer.start_campaign(letter(configuration_set="other"), rows(100))
        assert (await finished(mailer, other)).counts == {"sent": 100}
        assert (await mailer.campaign(id)).counts == {"queued": 100}
        ses.configuration_sets["news"].sending_enabled = True
        assert (await finished(mailer, id)).counts == {"sent": 100}
        assert {line.attempts for line in (await lines(mailer, id)).values()} == {1}
        assert ses.counts["SendBulkEmail"] == 4


async def test_a_set_that_ses_says_is_paused_parks_the_others_that_use_it_without_a_call(
    settings: Settings, ses: Simulator
) -> None:
    ses.configuration_sets["news"] = ConfigurationSet("news")
    async with serving(rarely(settings)) as (runtime, mailer):
        assert (await settled(mailer, await mailer.send(email(configuration_set="news")))).state == "sent"
        ses.configuration_sets["news"].sending_enabled = False
        first = await mailer.start_campaign(letter(configuration_set="news"), rows(10))
        await parked_with(mailer, first, "waiting: sending is paused for the configuration set news")
        calls = sends(ses)
        second = await mailer.start_campaign(letter(configuration_set="news"), rows(10))
        await parked_with(mailer, second, "waiting: sending is paused for the configuration set news")
        assert sends(ses) == calls
        ses.configuration_sets["news"].sending_enabled = True
        await runtime.own.register.refresh()
        for id in (first, second):
            assert (await finished(mailer, id)).counts == {"sent": 10}


@pytest.mark.parametrize("default", [False, True])
async def test_a_refusal_that_may_mean_the_set_or_the_account_holds_up_the_set_only_where_that_is_paused(
    settings: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch, default: bool
) -> None:
    monkeypatch.setattr(refusals, "set_paused", lambda _: refusals.account_paused())
    ses.configuration_sets |= {"news": ConfigurationSet("news"), "other": ConfigurationSet("other")}
    if default:
        ses.identities["letter@example.com"] = Identity("letter@example.com", True, configuration_set="news")
    by_news = email() if default else email(configuration_set="news")
    async with serving(rarely(settings)) as (runtime, mailer):
        assert (await settled(mailer, await mailer.send(by_news))).state == "sent"
        ses.configuration_sets["news"].sending_enabled = False
        id = await mailer.start_campaign(letter() if default else letter(configuration_set="news"), rows(10))
        await parked_with(mailer, id, "waiting: sending is paused for the configuration set news; resume it in SES")
        assert (await settled(mailer, await mailer.send(email(configuration_set="other")))).state == "sent"
        account = await runtime.accounts.load("eu-west-1")
        assert account is not None
        assert account.sending_enabled
        ses.sending_enabled = False
        other = await mailer.send(email(configuration_set="other"))
        async with asyncio.timeout(20):
            while account is None or account.sending_enabled:
                await asyncio.sleep(0.02)
                account = await runtime.accounts.load("eu-west-1")
        assert (await mailer.status(other)).state == "queued"


@pytest.mark.parametrize("whose", ["example.com", "letter@example.com"])
async def test_the_default_set_of_the_senders_identity_counts(settings: Settings, ses: Simulator, whose: str) -> None:
    ses.configuration_sets["news"] = ConfigurationSet("news", sending_enabled=False)
    ses.identities[whose] = Identity(whose, True, configuration_set="news")
    async with serving(rarely(settings)) as (runtime, mailer):
        id = await mailer.start_campaign(letter(), rows(10))
        await parked_with(mailer, id, "configuration set news")
        named = await settled(mailer, await mailer.send(email(from_="other@example.com", configuration_set="none")))
        assert "SES has no configuration set none (region eu-west-1)" in named.reason
        ses.configuration_sets["news"].sending_enabled = True
        await runtime.own.register.refresh()
        assert (await finished(mailer, id)).counts == {"sent": 10}
        looked_up = ses.counts["GetEmailIdentity"]
        del ses.configuration_sets["news"]
        await runtime.own.register.refresh()
        gone = await mailer.start_campaign(letter(), rows(10))
        assert "SES has no configuration set news" in (await until(mailer, gone, State.STOPPED)).reason
        ses.identities[whose].configuration_set = None
        await runtime.own.register.refresh()
        assert (await finished(mailer, await mailer.start_campaign(letter(), rows(10)))).counts == {"sent": 10}
        assert ses.counts["GetEmailIdentity"] <= looked_up + 4  # by the refreshes, and not by what was sent


# ---- what cannot be known ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "to", "action"),
    [
        (("ListEmailIdentities", "GetEmailIdentity"), ["bo@example.org"], "ses:GetEmailIdentity"),
        (("ListEmailIdentities",), [f"b{i}@example.org" for i in range(20)], "ses:ListEmailIdentities"),
        (("GetConfigurationSet",), ["ana@example.org"], "ses:GetConfigurationSet"),
    ],
)
async def test_a_permission_that_is_missing_is_waited_for_and_named(
    settings: Settings, sandbox: Simulator, operations: Sequence[str], to: Sequence[str], action: str
) -> None:
    sandbox.configuration_sets["news"] = ConfigurationSet("news")
    sandbox.faults.set([denied(operation, f"ses:{operation}") for operation in operations])
    async with serving(settings) as (_, mailer):
        id = await mailer.start_campaign(letter(configuration_set="news"), people(*to))
        status = await parked_with(mailer, id, f"(the worker's role needs {action})")
        assert (status.counts, sends(sandbox)) == ({"queued": len(to)}, 0)
        sandbox.faults.set([])
        counts = (await finished(mailer, id)).counts
        assert counts == ({"sent": 1} if to == ["ana@example.org"] else {"rejected": len(to)})


async def test_ses_that_does_not_answer_is_waited_for(settings: Settings, sandbox: Simulator) -> None:
    names = ("ListEmailIdentities", "GetEmailIdentity")
    sandbox.faults.set([Fault(kind=Kind.CUT_BEFORE, operation=name) for name in names])
    async with serving(settings) as (_, mailer):
        id = await mailer.send(email("ana@example.org"))
        async with asyncio.timeout(20):
            while not (reason := (await mailer.status(id)).reason):
                await asyncio.sleep(0.02)
        assert reason == (
            "waiting: no answer of SES was read: the server closed the connection "
            "(check the network, the proxy, AWS_REGION and AWS_ENDPOINT_URL_SESV2)"
        )
        assert sends(sandbox) == 0
        sandbox.faults.set([])
        assert (await settled(mailer, id)).state == "sent"


# ---- suppression: its place, and what becomes of a message of which some are left out -------------------------------

Suppress = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def suppress(monkeypatch: pytest.MonkeyPatch) -> Suppress:
    """A gate that suppresses these addresses; gives back what it is asked."""

    def set_up(*addresses: str) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        async def check(ledger: Ledger, **fields: Any) -> dict[str, str]:
            asked.append(fields)
            return {address: "it bounced" for address in fields["addresses"] if address in addresses}

        monkeypatch.setattr(suppression, "check", check)
        return asked

    return set_up


@pytest.mark.parametrize(("override", "reasons"), [(None, {"BOUNCE", "COMPLAINT"}), ((), set()), (("COMPLAINT",), {"COMPLAINT"})])
async def test_the_set_says_which_reasons_hold_and_the_account_where_it_does_not(
    settings: Settings, ses: Simulator, suppress: Suppress, override: tuple[str, ...] | None, reasons: set[str]
) -> None:
    ses.configuration_sets["news"] = ConfigurationSet("news", suppressed_reasons=override)
    asked = suppress("bo@example.org")
    sender = Sender(from_="a@example.com", configuration_set="news")
    async with serving(settings.model_copy(update={"senders": {"daily": sender}})) as (_, mailer):
        id = await mailer.send(email("Bo <bo@example.org>", from_=None, sender="daily"))
        status = await settled(mailer, id)
    assert (status.state, status.reason, status.attempts, sends(ses)) == ("suppressed", "it bounced", 0, 0)
    (first,) = asked
    assert first == {
        "account": "eu-west-1",
        "reasons": reasons,
        "stream": "daily",
        "addresses": ["bo@example.org"],
        "sync_s": settings.suppression_sync_s,
    }


def whole() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Cc"], message["Subject"] = (
        "a@example.com",
        "Ana <a@x.org>",
        "b@x.org, C <c@x.org>",
        "s",
    )
    message.set_content("t")
    return message


async def test_who_is_suppressed_is_left_out_of_the_envelope_and_the_others_get_it_in_every_mode(
    settings: Settings, ses: Simulator, suppress: Suppress
) -> None:
    everyone = {"a@x.org", "b@x.org", "c@x.org"}
    async with serving(settings) as (_, mailer):
        for gone in (("c@x.org",), ("a@x.org",), ("a@x.org", "b@x.org")):
            suppress(*gone)
            for mode in ("simple", "raw", "template", "bulk", "whole"):
                content: dict[str, Any] = {"subject": "s", "text": "t", "mode": mode}
                given = (
                    Email(raw=whole()) if mode == "whole" else email("Ana <a@x.org>", cc="b@x.org", bcc="C <c@x.org>", **content)
                )
                status = await settled(mailer, await mailer.send(given))
                assert (status.state, status.mode) == ("sent", "raw" if mode == "whole" else mode)
                assert status.reason == "sent without " + ", ".join(f"{address} (it bounced)" for address in gone)
                message = ses.mailroom.get(status.ses_message_id or "")
                assert message is not None
                assert {parseaddr(one)[1] for one in message.accepted.recipients} == everyone - set(gone), mode
                # What is put together here does not show them either; a caller's own message is not changed.
                assert mode == "whole" or not any(address in str(message.json()) for address in gone), mode


async def test_of_a_campaigns_rows_each_loses_its_own_and_one_that_has_nobody_left_is_suppressed(
    settings: Settings, ses: Simulator, suppress: Suppress
) -> None:
    suppress("gone@x.org", "gone-too@x.org")
    source = [
        {"email": "a@x.org", "cc": "gone@x.org", "name": "A"},
        {"email": "gone@x.org", "bcc": "b@x.org", "name": "B"},
        {"email": "gone-too@x.org", "cc": "gone@x.org", "name": "C"},
        {"email": "d@x.org", "name": "D"},
    ]
    async with serving(settings) as (_, mailer):
        id = await mailer.start_campaign(letter(), source)
        assert (await finished(mailer, id)).counts == {"sent": 3, "suppressed": 1}
        reasons = {to: line.reason for to, line in (await lines(mailer, id)).items()}
    assert reasons == {
        "a@x.org": "sent without gone@x.org (it bounced)",
        "gone@x.org": "sent without gone@x.org (it bounced)",
        "gone-too@x.org": "it bounced",
        "d@x.org": "",
    }
    assert accepted(ses) == {"a@x.org": 1, "b@x.org": 1, "d@x.org": 1}
    assert ses.counts["SendBulkEmail"] == 1


# ---- what it costs -------------------------------------------------------------------------------------------------


async def test_a_chunk_of_a_production_account_costs_two_round_trips(
    settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ses.configuration_sets["news"] = ConfigurationSet("news")
    ses.identities["example.com"].configuration_set = "news"
    id = await mailer.start_campaign(letter(), rows(500))
    async with Runtime(settings) as runtime:
        await maintenance.read_accounts(runtime)
        await maintenance.read_identities(runtime)
        await maintenance.read_suppression(runtime)
        await runtime.feed(id, Campaign(name="", from_="a@example.com", template="letter").lane)
        work = await runtime.ledger.work.take(f"{id}-0", owner="x", lease_ms=LEASE_MS)
        assert isinstance(work, LeasedChunk)
        trips: list[Any] = []
        execute: Any = runtime.redis.execute_command

        async def counted(*args: Any, **options: Any) -> Any:
            trips.append(args[0])
            return await execute(*args, **options)

        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError("a pipeline")

        for cold in (True, False):
            trips.clear()
            context = LeaseContext.of(work)
            context.ses_account = runtime.own
            if not cold:
                monkeypatch.setattr(runtime.redis, "execute_command", counted)
                monkeypatch.setattr(runtime.redis, "pipeline", refuse)
            assert await gate.gated(runtime, context)
            assert (len(context.queued), context.configuration_set) == (500, "news")
        assert trips == ["EVALSHA", "EVALSHA"]  # the sender and its set; the suppression lists
