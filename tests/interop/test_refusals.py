"""What other people's servers answer when they refuse is understood: a kind for every message, and nothing raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from mailer.ses.gateway import Gateway
from mailer.ses.questions import AccountState
from mailer.ses.refusals import Kind, classify_question

from .messages import CASES, TWO, Case
from .sending import ByHand, Request, send
from .servers import ACCOUNT, Ability, Mailbox, Moto, Server, SesLocal

pytestmark = pytest.mark.asyncio(loop_scope="session")
SIMPLE = Case(name="", way=Ability.SIMPLE, text="x")
BULK = Case(name="", way=Ability.BULK_INLINE, text="{{ n }}", rows=TWO)
STRANGER = Mailbox("News", "news@unverified.example")
SENT = None


class Refused(NamedTuple):
    """Requests, and for each of their messages the kind of the refusal, its code and a word of its reason; or SENT."""

    by: type[Server]
    what: str
    requests: Sequence[Request]
    answers: Sequence[tuple[Kind, str, str] | None]


def by_hand(operation: str = "SendEmail", **members: Any) -> list[Request]:
    [call] = SIMPLE.calls()
    return [ByHand(operation, {**call.params, **members})]


def bulk_by_hand(template: Mapping[str, Any], *data: str) -> list[Request]:
    entries = [
        {
            "Destination": {"ToAddresses": ["a@example.org"]},
            "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": one}},
        }
        for one in data
    ]
    params = {"FromEmailAddress": "news@example.com", "DefaultContent": {"Template": template}, "BulkEmailEntries": entries}
    return [ByHand("SendBulkEmail", params)]


MISSING = {"TemplateName": "nobody", "TemplateData": "{}"}
FIFTY_ONE = [Mailbox("", f"r{i}@example.org") for i in range(51)]
REFUSED = (
    Refused(
        Moto,
        "a sender that is not verified",
        replace(SIMPLE, sender=STRANGER).calls(),
        [(Kind.CONFIG, "MessageRejected", "verify the sender's address or domain")],
    ),
    Refused(
        Moto,
        "too many recipients",
        replace(SIMPLE, to=FIFTY_ONE).calls(),
        [(Kind.MESSAGE, "MessageRejected", "Too many recipients.")],
    ),
    Refused(
        Moto,
        "no address",
        by_hand(Destination={"ToAddresses": ["nobody"]}),
        [(Kind.MESSAGE, "InvalidParameterValue", "Missing domain")],
    ),
    Refused(Moto, "an operation that is not known", BULK.calls(), [(Kind.UNREACHABLE, "404", "AWS_ENDPOINT_URL_SESV2")] * 2),
    Refused(Moto, "an error inside", by_hand(Content={}), [(Kind.AMBIGUOUS, "500", "SES may have accepted it")]),
    Refused(SesLocal, "a request without content", by_hand(Content={}), [(Kind.RETRY, "400", "Bad Request Exception")]),
    Refused(SesLocal, "a type that is not the right one", by_hand(Content=1), [(Kind.RETRY, "400", "Bad Request Exception")]),
    Refused(
        SesLocal, "a stored template not there", by_hand(Content={"Template": MISSING}), [(Kind.CONFIG, "404", "doesn't exist")]
    ),
    Refused(SesLocal, "the same in bulk", bulk_by_hand(MISSING, "{}", "{}", "{}"), [(Kind.CONFIG, "404", "doesn't exist")] * 3),
    Refused(
        SesLocal,
        "an inline template that does not compile",
        bulk_by_hand({"TemplateContent": {"Subject": "{{#if x}}", "Text": "x"}}, "{}", "{}"),
        [(Kind.RETRY, "400", "Bad Request Exception")] * 2,
    ),
    Refused(
        SesLocal,
        "one entry of three",
        bulk_by_hand({"TemplateContent": {"Subject": "x", "Text": "{{v0}}"}}, '{"v0":"1"}', "[]", '{"v0":"3"}'),
        [SENT, (Kind.RETRY, "FAILED", "must be a JSON object"), SENT],
    ),
)


TABLE = [pytest.param(one.by.name, one, id=f"{one.by.name}: {one.what}") for one in REFUSED]


@pytest.mark.parametrize(("server", "refused"), TABLE, indirect=["server"])
async def test_a_refusal_is_told_apart(server: Server, gateway: Gateway, refused: Refused) -> None:
    answers = await send(gateway, refused.requests)
    for answer, expected in zip(answers, refused.answers, strict=True):
        if expected is SENT:
            assert answer.message_id in server.held()
            continue
        kind, code, word = expected
        assert answer.message_id is None
        assert answer.refusal is not None
        assert (answer.refusal.kind, answer.refusal.code) == (kind, code)
        assert word in answer.refusal.reason


@pytest.mark.parametrize("case", [case for case in CASES if case.name in ("both", "two")], ids=lambda case: case.name)
async def test_an_endpoint_with_a_wrong_path_is_waited_for_with_one_reason(server: Server, case: Case) -> None:
    async with Gateway(endpoint_url=f"{server.url}/elsewhere") as gateway:
        answers = await send(gateway, case.calls())
    assert len(answers) == len(case.rows)
    [refusal] = {answer.refusal for answer in answers}
    assert refusal is not None
    assert (refusal.kind, refusal.code) == (Kind.UNREACHABLE, "404")
    assert "AWS_ENDPOINT_URL_SESV2" in refusal.reason


@pytest.mark.parametrize("server", [SesLocal.name], indirect=True)
async def test_the_account_is_read(server: Server, gateway: Gateway) -> None:
    quota = ACCOUNT["SendQuota"]
    assert await gateway.account() == AccountState(
        region="eu-west-1",
        production=True,
        sending_enabled=True,
        enforcement="HEALTHY",
        max_send_rate=quota["MaxSendRate"],
        max_24h=quota["Max24HourSend"],
        sent_24h=quota["SentLast24Hours"],
        suppressed_reasons=tuple(ACCOUNT["SuppressionAttributes"]["SuppressedReasons"]),
    )


@pytest.mark.parametrize("server", [Moto.name], indirect=True)
async def test_an_account_that_cannot_be_read_is_told_by_operation_status_and_endpoint(server: Server, gateway: Gateway) -> None:
    with pytest.raises(Exception, match="404") as error:
        await gateway.account()
    reason = classify_question(error.value).reason
    assert reason.startswith(f"{server.url} answered GetAccount with status 404, and that is no answer of SES")
