"""Templates that SES has: a variable that is missing is caught before the call, by name, and costs one row."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mailer import Campaign, Email, Mailer, State
from mailer.simulator import Fault, Kind, Simulator
from mailer.simulator.catalogue import create_email_template, delete_email_template, update_email_template
from worker.runtime import Runtime

from .test_delivery import FROM, finished, rows, settled, until
from .test_reach import Aws
from .test_reach import aws as aws

CONTENT = {"Subject": "Hello {{name}}", "Html": "<p>{{#if city}}{{city}}{{/if}} {{name}}</p>"}
ARN = "arn:aws:ses:eu-west-1:{account}:template/welcome"


@pytest.fixture
def template(ses: Simulator) -> str:
    create_email_template(ses, {"TemplateName": "welcome", "TemplateContent": CONTENT})
    return "welcome"


def campaign(template: str, **more: Any) -> Campaign:
    return Campaign(**{"name": "June", "from_": FROM, "ses_template": template, **more})


async def test_a_campaign_goes_in_bulk_and_a_row_that_lacks_a_variable_fails_alone_and_names_it(
    runtime: Runtime, ses: Simulator, mailer: Mailer, template: str
) -> None:
    people = [*rows(60), {"email": "nobody@example.org", "city": "Lisbon"}]
    id = await mailer.start_campaign(campaign(template), people)
    status = await finished(mailer, id)
    assert status.counts == {"sent": 60, "failed": 1}
    (failed,) = [line async for line in mailer.outcomes(id) if line.state == "failed"]
    assert failed.reason == "the template welcome uses 'name', which this row does not have"
    assert {entry.operation for entry in ses.log} == {"SendBulkEmail"}
    assert ses.counts["rendering_failures"] == 0


async def test_the_template_is_fetched_once_and_seen_anew_after_an_edit(
    runtime: Runtime, ses: Simulator, mailer: Mailer, template: str
) -> None:
    assert (await finished(mailer, await mailer.start_campaign(campaign(template), rows(1500)))).counts == {"sent": 1500}
    assert ses.counts["GetEmailTemplate"] == 1
    update_email_template(ses, {"TemplateContent": {"Subject": "{{new}}", "Text": "x"}}, template)
    runtime.stored._kept[(runtime.own.account, template)].until = 0  # a minute later
    assert (await finished(mailer, await mailer.start_campaign(campaign(template), rows(2)))).counts == {"failed": 2}


async def test_a_template_that_is_not_there_stops_the_campaign_and_refuses_a_message_with_what_to_do(
    runtime: Runtime, ses: Simulator, mailer: Mailer, template: str
) -> None:
    delete_email_template(ses, template)
    status = await until(mailer, await mailer.start_campaign(campaign(template), rows(20)), State.STOPPED)
    why = "There is no template welcome in SES in region eu-west-1; store it there, or correct the name."
    assert (status.reason, status.counts) == (why, {"queued": 20})
    email = Email(to="ana@example.org", from_=FROM, ses_template=template, data={"name": "Ana"})
    message = await settled(mailer, await mailer.send(email))
    assert (message.state, message.reason) == ("rejected", why)
    assert len(ses.log) == 0


@pytest.mark.parametrize("why", ["no permission", "a helper that is not known here"])
async def test_what_cannot_be_read_is_not_checked_and_ses_decides(
    runtime: Runtime, ses: Simulator, mailer: Mailer, template: str, why: str
) -> None:
    if why == "no permission":
        ses.faults.set([Fault(kind=Kind.ERROR, operation="GetEmailTemplate", code="AccessDeniedException", status=403)])
    else:
        ses.templates[template].source["Subject"] = "{{upper name}}"
    status = await finished(mailer, await mailer.start_campaign(campaign(template), [{"email": "a@example.org"}, *rows(2)]))
    assert status.counts == {"sent": 3}
    assert ses.counts["rendering_failures"] == 1


async def test_a_template_by_its_arn_is_sent_by_its_arn_and_checked_where_it_is_our_own(
    runtime: Runtime, ses: Simulator, mailer: Mailer, template: str, aws: Aws
) -> None:
    aws.own = ses.config.account
    email = Email(to="ana@example.org", from_=FROM, ses_template=ARN.format(account=aws.own), data={"name": "Ana"})
    status = await settled(mailer, await mailer.send(email))
    assert (status.state, status.mode) == ("sent", "template")
    status = await settled(mailer, await mailer.send(email.model_copy(update={"data": {}})))
    assert (status.state, "uses 'name', which this row does not have" in status.reason) == ("failed", True)


async def test_one_chunk_reads_a_template_for_all_and_a_passing_failure_does_not_switch_the_check_off(
    runtime: Runtime, ses: Simulator, template: str
) -> None:
    found = await asyncio.gather(*(runtime.stored.get(runtime.own, template) for _ in range(12)))
    assert all(one.parts for one in found)
    assert ses.counts["GetEmailTemplate"] == 1
    runtime.stored._kept[(runtime.own.account, template)].until = 0
    ses.faults.set([Fault(kind=Kind.ERROR, operation="GetEmailTemplate", code="TooManyRequestsException", status=429)])
    assert (await runtime.stored.get(runtime.own, template)).parts
