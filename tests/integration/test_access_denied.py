"""A permission that lacks: on a recipient's identity it costs that recipient, on the sender's it stops the campaign."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailer import Email, Mailer, Settings, State
from mailer.ses.refusals import Kind, classify, classify_call, classify_entry
from mailer.simulator import Simulator, SimulatorConfig
from worker import alike, settle

from ..conftest import running_worker
from ..front import Answers, Asked, Front, Said, in_front_of, refuses
from ..unit.test_ses_refusals import FROM, answer
from .test_delivery import accepted, finished, letter, rows, settled, until

DENIED = "User `arn:aws:sts::123456789012:assumed-role/app/i-1' is not authorized to perform `ses:{}' on resource `{}'"
CURRENT = (
    "User: arn:aws:sts::123456789012:assumed-role/app/i-1 is not authorized to perform: ses:{} on resource: {} because no "
    "identity-based policy allows the ses:{} action"
)


def arn(identity: str) -> str:
    return f"arn:aws:ses:eu-west-1:123456789012:identity/{identity}"


@pytest.mark.parametrize("text", [DENIED, CURRENT])
@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        (arn("example.org"), Kind.MESSAGE),
        (arn("ana@example.org"), Kind.MESSAGE),
        (arn("EXAMPLE.org"), Kind.MESSAGE),
        (arn("example.com"), Kind.CONFIG),  # the sender's
        (arn("news@example.com"), Kind.CONFIG),
        (arn("example.net"), Kind.CONFIG),  # nobody's
        (f"{arn('example.org')}, {arn('example.com')}", Kind.CONFIG),
        (f"{arn('example.org')}, arn:aws:ses:eu-west-1:123456789012:configuration-set/news", Kind.CONFIG),
        ("arn:aws:ses:eu-west-1:123456789012:template/example.org", Kind.CONFIG),
        ("*", Kind.CONFIG),
    ],
)
def test_whose_identity_a_permission_lacks_on(text: str, resource: str, kind: Kind) -> None:
    said = text.format("SendEmail", resource, "SendEmail")
    to = ["ana@mail.example.org"] if "ana@" not in resource else ["ana@example.org"]
    for code in ("AccessDeniedException", "AccessDenied", "MessageRejected"):
        assert classify(answer(code, 403, said), from_address=FROM, to=to).kind is kind
    refusal = classify_entry({"Status": "MESSAGE_REJECTED", "Error": said}, from_address=FROM, to=to)
    assert refusal is not None
    assert refusal.kind is kind
    assert (
        classify(answer("AccessDeniedException", 403, said), from_address=FROM, to=["bo@elsewhere.example"]).kind is Kind.CONFIG
    )


def test_an_identity_that_covers_sender_and_recipient_is_the_senders() -> None:
    error = answer("AccessDeniedException", 403, DENIED.format("SendEmail", arn("example.com")))
    assert classify(error, from_address="news@mail.example.com", to=["ana@example.com"]).kind is Kind.CONFIG


def test_of_a_call_only_those_at_that_identity_are_refused() -> None:
    error = answer("AccessDeniedException", 403, DENIED.format("SendBulkEmail", arn("example.org")), "SendBulkEmail")
    found = classify_call(error, from_address=FROM, to=[["a@example.net"], ["b@example.org"], ["c@example.net"]])
    assert [one.kind for one in found] == [Kind.BESIDE, Kind.MESSAGE, Kind.BESIDE]


# ---- through a worker --------------------------------------------------------------------------------------------------


@pytest.fixture
async def front(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Front]:
    monkeypatch.setattr(settle, "PARK_S", 0.3)
    monkeypatch.setattr(alike, "AGAIN_S", (0.05, 0.2))
    simulator = Simulator(SimulatorConfig(max_send_rate=5000, max_24h=1_000_000))
    async with in_front_of(monkeypatch, simulator) as front, running_worker(settings):
        yield front


def denies(domain: str, resource: str) -> Answers:
    """AWS refuses each call with a recipient at this domain."""

    def answers(asked: Asked) -> Said | None:
        if asked.sends and any(address.endswith(f"@{domain}") for to in asked.messages for address in to):
            return refuses("AccessDeniedException", DENIED.format("SendEmail", resource), 403)
        return None

    return answers


@pytest.mark.parametrize("mode", ["bulk", "simple", "auto"])
async def test_rows_at_an_identity_that_the_role_may_not_use_are_rejected_and_the_others_go_on(
    front: Front, mailer: Mailer, mode: str
) -> None:
    front.answers = denies("ours.example", arn("ours.example"))
    inside = [{"email": f"in{i}@ours.example", "name": "x"} for i in range(14)]
    source = [*rows(60), inside[0], *rows(120)[60:], *inside[1:], *rows(200)[120:]]
    id = await mailer.start_campaign(letter(mode=mode), source)
    assert (await finished(mailer, id, 40)).counts == {"sent": 200, "rejected": 14}
    lines = [line async for line in mailer.outcomes(id) if line.state == "rejected"]
    assert {line.to.partition("@")[2] for line in lines} == {"ours.example"}
    assert all("SES checks a recipient's identity" in line.reason for line in lines)
    assert set(accepted(front.simulator).values()) == {1}


async def test_a_message_to_such_an_identity_is_rejected_with_what_to_do(front: Front, mailer: Mailer) -> None:
    front.answers = denies("ours.example", arn("ours.example"))
    email = Email(to="in@ours.example", from_="letter@example.com", subject="s", text="t")
    status = await settled(mailer, await mailer.send(email))
    assert (status.state, "allow the role those actions on it" in status.reason) == ("rejected", True)


async def test_a_permission_that_lacks_on_the_senders_identity_still_stops_the_campaign(front: Front, mailer: Mailer) -> None:
    front.answers = denies("example.org", arn("example.com"))
    id = await mailer.start_campaign(letter(), rows(200))
    status = await until(mailer, id, State.STOPPED)
    assert "check that the role may call ses:SendEmail" in status.reason
    async with asyncio.timeout(10):
        while (await mailer.campaign(id)).counts != {"queued": 200}:
            await asyncio.sleep(0.02)
