"""Senders that send from another account, region or endpoint: roles of STS, one limiter an account, one reason when it fails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from mailer import Email, Mailer, Sender, Settings
from mailer.errors import InvalidEmail
from mailer.ledger import Route
from mailer.ses.gateway import Gateway
from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator import serve as serve_ses
from worker.runtime import Runtime

from ..conftest import running_worker
from .test_delivery import finished, letter, rows, settled

OWN, OTHER = "111122223333", "444455556666"
ROLE = f"arn:aws:iam::{OTHER}:role/mailer"

IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{own}:user/w</Arn><UserId>U</UserId><Account>{own}</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""
ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASSUMED{n}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t{n}</SessionToken>
<Expiration>{until}</Expiration></Credentials><AssumedRoleUser><Arn>{role}</Arn><AssumedRoleId>A:mailer</AssumedRoleId>
</AssumedRoleUser></AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"""
DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>User is not authorized to perform: sts:AssumeRole</Message></Error><RequestId>r</RequestId></ErrorResponse>"""
ACCOUNT = {"SendQuota": {"Max24HourSend": 10, "MaxSendRate": 1, "SentLast24Hours": 0}, "SendingEnabled": True}


class Aws(ThreadingHTTPServer):
    """STS, and the one call of SES that shows whose credentials came with it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.own, self.lifetime_s, self.denied = OWN, 3600, False
        self.assumed: list[dict[str, str]] = []  # the parameters of each AssumeRole
        self.keys: list[str] = []  # access key of each GetAccount


class _Handler(BaseHTTPRequestHandler):
    server: Aws

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        fields = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        if fields["Action"] == "GetCallerIdentity":
            self._answer(200, IDENTITY.format(own=self.server.own))
        elif self.server.denied:
            self._answer(403, DENIED)
        else:
            self.server.assumed.append(fields)
            until = datetime.now(UTC) + timedelta(seconds=self.server.lifetime_s)
            text = ASSUMED.format(n=len(self.server.assumed), until=f"{until:%Y-%m-%dT%H:%M:%SZ}", role=fields["RoleArn"])
            self._answer(200, text)

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"].split("Credential=")[1].split("/")[0])
        self._answer(200, json.dumps(ACCOUNT))

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    server = Aws()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_role_is_taken_with_its_external_id_and_its_credentials_sign_the_calls(aws: Aws) -> None:
    async with Gateway(endpoint_url=aws.url, role_arn=ROLE, external_id="shared-secret") as gateway:
        for _ in range(3):
            await gateway.account()
    (asked,) = aws.assumed
    assert (asked["RoleArn"], asked["ExternalId"], asked["RoleSessionName"]) == (ROLE, "shared-secret", "mailer")
    assert aws.keys == ["ASSUMED1"] * 3


async def test_without_an_external_id_none_is_sent_and_without_a_role_no_role_is_taken(aws: Aws) -> None:
    async with Gateway(endpoint_url=aws.url, role_arn=ROLE) as gateway, Gateway(endpoint_url=aws.url) as own:
        await gateway.account()
        await own.account()
    assert "ExternalId" not in aws.assumed[0]
    assert aws.keys == ["ASSUMED1", "simulated"]


async def test_credentials_of_a_role_are_asked_for_anew_before_they_end(aws: Aws) -> None:
    aws.lifetime_s = 300  # botocore renews what has less than ten minutes left
    async with Gateway(endpoint_url=aws.url, role_arn=ROLE) as gateway:
        await gateway.account()
        await gateway.account()
    assert len(aws.assumed) >= 2
    assert aws.keys[1] != aws.keys[0]


# ---- in a worker ---------------------------------------------------------------------------------------------------


def with_sender(settings: Settings, **fields: Any) -> Settings:
    sender = Sender(**{"from": "other@example.com", **fields})
    return settings.model_copy(update={"senders": {"other": sender}})


async def test_a_sender_of_another_region_and_endpoint_goes_there_under_that_accounts_own_limits(
    settings: Settings, ses: Simulator
) -> None:
    there = Simulator(SimulatorConfig(region="eu-central-1", max_send_rate=50, max_24h=1000))
    async with serve_ses(there) as url:
        settings = with_sender(settings, region="eu-central-1", endpoint_url=url)
        async with running_worker(settings) as runtime, Mailer(settings) as mailer:
            id = await mailer.start_campaign(letter(from_=None, sender="other"), rows(120))
            here = await mailer.start_campaign(letter(), rows(10))
            assert (await finished(mailer, id)).counts == {"sent": 120}
            assert (await finished(mailer, here)).counts == {"sent": 10}
            assert there.counts["throttled"] == 0
            assert {ses_account.account for ses_account in runtime.ses_accounts.all()} == {"eu-west-1", "eu-central-1"}
    assert (len(there.log), len(ses.log)) == (120, 10)


@pytest.mark.parametrize(("own", "account"), [(OWN, f"{OTHER}:eu-west-1"), (OTHER, "eu-west-1")])
async def test_a_role_of_another_account_has_its_own_limiter_and_one_of_our_own_account_shares_ours(
    settings: Settings, ses: Simulator, aws: Aws, own: str, account: str
) -> None:
    aws.own = own
    settings = with_sender(settings, role_arn=ROLE, external_id="shared-secret")
    async with running_worker(settings) as runtime, Mailer(settings) as mailer:
        id = await mailer.send(Email(to="ana@example.org", sender="other", subject="s", text="t"))
        assert (await settled(mailer, id)).state == "sent"
        ses_account = await runtime.ses_accounts.get(Route(role_arn=ROLE, external_id="shared-secret"))
        assert ses_account.account == account
        assert len({found.account for found in runtime.ses_accounts.all()}) == (2 if own == OWN else 1)


async def test_a_role_that_may_not_be_taken_is_waited_for_with_the_reason(settings: Settings, ses: Simulator, aws: Aws) -> None:
    aws.denied = True
    settings = with_sender(settings, role_arn=ROLE)
    async with running_worker(settings), Mailer(settings) as mailer:
        id = await mailer.send(Email(to="ana@example.org", sender="other", subject="s", text="t"))
        reason = ""
        for _ in range(200):
            reason = (await mailer.status(id)).reason
            if "AssumeRole" in reason:
                break
            await asyncio.sleep(0.05)
    assert "AssumeRole: User is not authorized to perform: sts:AssumeRole" in reason
    assert len(ses.log) == 0


async def test_an_identity_of_another_region_is_refused_before_anything_is_stored(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = f"arn:aws:ses:eu-central-1:{OTHER}:identity/example.com"
    settings = with_sender(settings, identity_arn=arn)
    async with Mailer(settings) as mailer:
        with pytest.raises(InvalidEmail) as caught:
            await mailer.send(Email(to="ana@example.org", sender="other", subject="s", text="t"))
    assert str(caught.value) == (
        f"sender other: the identity {arn} is of region eu-central-1, and other@example.com is sent from region eu-west-1; "
        "both have to be the same"
    )


async def test_where_the_application_does_not_know_the_region_the_worker_says_it(
    runtime: Runtime, settings: Settings, ses: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_sender(settings, identity_arn=f"arn:aws:ses:eu-central-1:{OTHER}:identity/example.com")
    monkeypatch.delenv("AWS_REGION")
    async with Mailer(settings) as mailer:
        message = await mailer.send(Email(to="ana@example.org", sender="other", subject="s", text="t"))
        status = await settled(mailer, message)
    assert status.state == "rejected"
    assert "is of region eu-central-1, and other@example.com is sent from region eu-west-1" in status.reason
    assert len(ses.log) == 0


async def test_two_ways_to_one_account_share_its_limiter_and_its_bulk_calls(settings: Settings, ses: Simulator) -> None:
    settings = with_sender(settings, region="eu-west-1")
    async with running_worker(settings) as runtime, Mailer(settings) as mailer:
        id = await mailer.start_campaign(letter(from_=None, sender="other"), rows(200))
        assert (await finished(mailer, id)).counts == {"sent": 200}
        other = await runtime.ses_accounts.get(Route(region="eu-west-1"))
        assert (other.quota is runtime.own.quota, other.gateway is runtime.own.gateway) == (True, False)
    assert {entry.operation for entry in ses.log} == {"SendBulkEmail"}
