"""The simulator over HTTP: a real aioboto3 client, cut connections, the pages, the controls, the command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape
from typing import Any

import aioboto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.simulator import AccountChange, Fault, Kind, Simulator, SimulatorConfig, change_account, create_app, serve
from mailer.simulator.links import Links
from mailer.simulator.operations import OPERATIONS
from mailer.unsubscribe.tokens import Tokens

HTML = "<p>Hello {{name}}</p><script>alert(1)</script>"


class Running:
    """A served simulator, and a client of each kind."""

    def __init__(self, simulator: Simulator, url: str, ses: Any, http: httpx.AsyncClient) -> None:
        self.simulator, self.url, self.ses, self.http = simulator, url, ses, http


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        simulator = Simulator(SimulatorConfig(max_send_rate=100_000))
        url = await stack.enter_async_context(serve(simulator))
        session = aioboto3.Session(aws_access_key_id="id", aws_secret_access_key="key", region_name="eu-west-1")
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
        ses = await stack.enter_async_context(session.client("sesv2", endpoint_url=url, config=config))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        yield Running(simulator, url, ses, http)


def simple(to: str = "ana@example.org") -> dict[str, Any]:
    return {
        "FromEmailAddress": "news@example.com",
        "Destination": {"ToAddresses": [to]},
        "Content": {"Simple": {"Subject": {"Data": "Grüße"}, "Body": {"Text": {"Data": "Hallo"}, "Html": {"Data": "<p>Hallo"}}}},
    }


def bulk(count: int) -> dict[str, Any]:
    return {
        "FromEmailAddress": "news@example.com",
        "DefaultContent": {"Template": {"TemplateContent": {"Subject": "Hi {{name}}", "Html": HTML}, "TemplateData": "{}"}},
        "BulkEmailEntries": [
            {
                "Destination": {"ToAddresses": [f"u{n}@example.org"]},
                "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": json.dumps({"name": f"<{n}>"})}},
            }
            for n in range(count)
        ],
    }


async def test_every_operation_through_a_client(running: Running) -> None:
    ses = running.ses
    await ses.create_email_identity(EmailIdentity="me@other.org", Tags=[{"Key": "a", "Value": "b"}])
    assert (await ses.get_email_identity(EmailIdentity="me@other.org"))["VerifiedForSendingStatus"] is True
    names = [item["IdentityName"] for item in (await ses.list_email_identities())["EmailIdentities"]]
    assert names == ["example.com", "me@other.org"]
    await ses.delete_email_identity(EmailIdentity="me@other.org")
    await ses.create_email_template(TemplateName="t", TemplateContent={"Subject": "s", "Text": "a {{x}}"})
    await ses.update_email_template(TemplateName="t", TemplateContent={"Subject": "s", "Text": "b {{x}}"})
    assert (await ses.get_email_template(TemplateName="t"))["TemplateContent"]["Text"] == "b {{x}}"
    assert (await ses.list_email_templates())["TemplatesMetadata"][0]["CreatedTimestamp"].year >= 2024
    rendered = await ses.test_render_email_template(TemplateName="t", TemplateData='{"x": 1}')
    assert rendered["RenderedTemplate"].endswith("b 1\n")
    await ses.create_configuration_set(ConfigurationSetName="c")
    await ses.put_email_identity_configuration_set_attributes(EmailIdentity="example.com", ConfigurationSetName="c")
    assert (await ses.get_email_identity(EmailIdentity="example.com"))["ConfigurationSetName"] == "c"
    await ses.put_email_identity_configuration_set_attributes(EmailIdentity="example.com")
    await ses.put_configuration_set_sending_options(ConfigurationSetName="c", SendingEnabled=True)
    assert (await ses.get_configuration_set(ConfigurationSetName="c"))["SendingOptions"] == {"SendingEnabled": True}
    await ses.put_configuration_set_suppression_options(ConfigurationSetName="c", SuppressedReasons=["COMPLAINT"])
    events: Any = {"Enabled": True, "MatchingEventTypes": ["BOUNCE"], "SnsDestination": {"TopicArn": "arn:aws:sns:x:1:events"}}
    new: Any = {"ConfigurationSetName": "c", "EventDestinationName": "e", "EventDestination": events}
    await ses.create_configuration_set_event_destination(**new)
    with pytest.raises(ClientError, match="AlreadyExists"):
        await ses.create_configuration_set_event_destination(**new)
    there = await ses.get_configuration_set_event_destinations(ConfigurationSetName="c")
    assert there["EventDestinations"] == [{"Name": "e", **events}]
    assert "EventDestinations" not in await ses.get_configuration_set(ConfigurationSetName="c")
    await ses.put_account_suppression_attributes(SuppressedReasons=["BOUNCE"])
    assert (await ses.list_configuration_sets())["ConfigurationSets"] == ["c"]
    sent = await ses.send_email(**simple(), ConfigurationSetName="c", EmailTags=[{"Name": "n", "Value": "v"}])
    assert sent["MessageId"].endswith("-000000")
    assert [item["Status"] for item in (await ses.send_bulk_email(**bulk(3)))["BulkEmailEntryResults"]] == ["SUCCESS"] * 3
    odd = "a/b+c%d@example.org"  # a path segment that must be quoted
    await ses.put_suppressed_destination(EmailAddress=odd, Reason="COMPLAINT")
    found = (await ses.get_suppressed_destination(EmailAddress=odd))["SuppressedDestination"]
    assert (found["EmailAddress"], found["Reason"], found["LastUpdateTime"].year >= 2024) == (odd, "COMPLAINT", True)
    listed = await ses.list_suppressed_destinations(Reasons=["COMPLAINT"], PageSize=10, StartDate=found["LastUpdateTime"])
    assert len(listed["SuppressedDestinationSummaries"]) == 1
    await ses.delete_suppressed_destination(EmailAddress=odd)
    await ses.put_account_sending_attributes(SendingEnabled=True)
    account = await ses.get_account()
    assert account["SendQuota"] == {"Max24HourSend": 50000.0, "MaxSendRate": 100000.0, "SentLast24Hours": 4.0}
    await ses.delete_email_template(TemplateName="t")
    await ses.delete_configuration_set(ConfigurationSetName="c")
    assert {operation.name for operation in OPERATIONS} == {name for name in running.simulator.counts if name[0].isupper()}


async def test_errors_arrive_as_botocore_knows_them(running: Running) -> None:
    ses = running.ses
    with pytest.raises(ses.exceptions.MessageRejected, match=r"failed the check in region EU-WEST-1: x@other\.org"):
        await ses.send_email(**{**simple(), "FromEmailAddress": "x@other.org"})
    with pytest.raises(ses.exceptions.NotFoundException):
        await ses.get_email_template(TemplateName="no")
    with pytest.raises(ses.exceptions.BadRequestException):
        await ses.send_email(**{**simple(), "Content": {}})
    change_account(running.simulator, AccountChange(max_send_rate=0))
    with pytest.raises(ses.exceptions.TooManyRequestsException, match=r"Maximum sending rate exceeded\.") as caught:
        await ses.send_email(**simple())
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    change_account(running.simulator, AccountChange(max_24h=0))
    with pytest.raises(ses.exceptions.LimitExceededException, match=r"Daily message quota exceeded\."):
        await ses.send_email(**simple())
    with pytest.raises(ClientError) as unknown:
        await ses.list_contact_lists()
    assert unknown.value.response["Error"]["Code"] == "UnknownOperationException"


@pytest.mark.parametrize(("kind", "accepted"), [(Kind.CUT_BEFORE, 0), (Kind.CUT_AFTER, 5)])
async def test_cut_connection(running: Running, kind: Kind, accepted: int) -> None:
    running.simulator.faults.set([Fault(kind=kind, count=2)])
    with pytest.raises(HTTPClientError) as caught:
        await running.ses.send_bulk_email(**bulk(5))
    assert isinstance(caught.value, BotoCoreError)
    assert len(running.simulator.log) == accepted
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
    body = json.dumps(simple()).encode()
    head = f"POST /v2/email/outbound-emails HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""  # not one byte of an answer
    writer.close()
    await running.ses.send_bulk_email(**bulk(1))  # and the next connection is served


async def test_faults_over_http(running: Running) -> None:
    rules: list[dict[str, Any]] = [
        {"kind": "error", "operation": "SendEmail", "nth": 1, "code": "ThrottlingException", "status": 400, "message": "no"}
    ]
    rules += [{"kind": "internal_error", "operation": "SendEmail", "count": 1}, {"kind": "latency", "seconds": 0.2}]
    assert (await running.http.post("/_simulator/faults", json=rules)).status_code == 200
    start = asyncio.get_running_loop().time()
    with pytest.raises(ClientError, match=r"ThrottlingException.*: no"):
        await running.ses.send_email(**simple())
    assert asyncio.get_running_loop().time() - start >= 0.2
    await running.ses.send_email(**simple())
    fired = (await running.http.get("/_simulator/stats")).json()["faults"]
    assert [(item["rule"]["kind"], item["fired"]) for item in fired] == [("error", 1), ("internal_error", 1), ("latency", 2)]
    assert (await running.http.post("/_simulator/faults", json=[{"kind": "nonsense"}])).status_code == 422


async def test_controls(running: Running) -> None:
    http, ses = running.http, running.ses
    await ses.send_bulk_email(**bulk(50))
    await ses.send_email(**simple())
    page = (await http.get("/_simulator/messages", params={"offset": 1, "limit": 2})).json()
    assert (page["total"], [message["subject"] for message in page["messages"]]) == (51, ["Hi <49>", "Hi <48>"])
    found = (await http.get("/_simulator/messages", params={"to": "U7@"})).json()["messages"]
    assert [message["to"] for message in found] == [["u7@example.org"]]
    assert (await http.get(f"/_simulator/messages/{found[0]['id']}")).json() == found[0]
    assert (await http.get("/_simulator/messages/none")).status_code == 404
    log = (await http.get("/_simulator/log")).text.splitlines()
    assert [json.loads(line)["recipients"][0] for line in log] == [*[f"u{n}@example.org" for n in range(50)], "ana@example.org"]
    changed = (await http.post("/_simulator/account", json={"production": False, "max_24h": 60, "sent_24h": 60})).json()
    assert changed["ProductionAccessEnabled"] is False
    assert changed["SendQuota"]["SentLast24Hours"] == 60
    with pytest.raises(ses.exceptions.LimitExceededException):
        await ses.send_email(**simple("a@example.com"))
    assert (await http.post("/_simulator/account", json={"nonsense": 1})).status_code == 422
    assert (await http.post("/_simulator/reset")).json()["accepted"] == 0
    await ses.send_email(**simple())


async def test_the_whole_message(running: Running) -> None:
    """Sent through a client with all that structured content has, and downloaded as the recipient's server gets it."""
    http, ses = running.http, running.ses
    request = simple("=?utf-8?q?=C3=84na?= <ana@example.org>")
    request["Content"]["Simple"]["Body"]["Html"]["Data"] = "<img src='cid:logo'><img src='cid:other'>"
    request["Content"]["Simple"] |= {
        "Headers": [{"Name": "List-Unsubscribe", "Value": f"<https://example.com/{'x' * 300}>"}],
        "Attachments": [
            {"FileName": "Preis<b>.pdf", "RawContent": bytes(range(256)), "ContentTransferEncoding": "BASE64"},
            {"FileName": "logo.png", "RawContent": b"png" * 1000, "ContentDisposition": "INLINE", "ContentId": "logo"},
        ],
    }
    message_id = (await ses.send_email(**request))["MessageId"]
    answer = await http.get(f"/_simulator/messages/{message_id}/mime")
    assert answer.headers["content-type"] == "message/rfc822"
    assert answer.headers["content-disposition"] == f'attachment; filename="{message_id}.eml"'
    message = message_from_bytes(answer.content, _class=EmailMessage, policy=policy.default)
    assert message["Subject"] == "Grüße"
    assert message["To"].addresses[0].display_name == "Äna"
    assert message["List-Unsubscribe"] == request["Content"]["Simple"]["Headers"][0]["Value"]
    files = {part.get_filename(): part.get_payload(decode=True) for part in message.walk() if part.get_filename()}
    assert files == {"Preis<b>.pdf": bytes(range(256)), "logo.png": b"png" * 1000}
    page = (await http.get(f"/messages/{message_id}")).text
    assert f'href="/_simulator/messages/{message_id}/mime"' in page
    for shown in ("Preis&lt;b&gt;.pdf", "application/pdf", "256 bytes", "logo.png", "3.0 kB", "cid:logo"):
        assert shown in page
    assert f"data:image/png;base64,{b64encode(b'png' * 1000).decode()}" in page
    failed = {"TemplateContent": {"Subject": "s", "Text": "{{missing}}"}}
    message_id = (await ses.send_email(**{**request, "Content": {"Template": failed}}))["MessageId"]
    assert (await http.get(f"/_simulator/messages/{message_id}/mime")).status_code == 404
    assert "/mime" not in (await http.get(f"/messages/{message_id}")).text
    assert (await http.get("/_simulator/messages/none/mime")).status_code == 404


async def test_pages(running: Running) -> None:
    http, ses = running.http, running.ses
    assert "Nothing has been sent yet" in (await http.get("/")).text
    answer = await ses.send_bulk_email(**bulk(50))
    await ses.put_suppressed_destination(EmailAddress="ana@example.org", Reason="BOUNCE")
    await ses.send_email(**simple())
    first = await http.get("/")
    assert "Grüße" in first.text
    assert "suppressed" in first.text
    assert "Hi &lt;49&gt;" in first.text
    assert "<49>" not in first.text
    assert "Hi &lt;0&gt;" in (await http.get("/", params={"offset": 50})).text
    assert "No message here" in (await http.get("/", params={"to": '"><script>'})).text
    assert '"><script>' not in (await http.get("/", params={"to": '"><script>'})).text
    message_id = answer["BulkEmailEntryResults"][3]["MessageId"]
    page = await http.get(f"/messages/{message_id}")
    assert 'sandbox srcdoc="&lt;p&gt;Hello &lt;3&gt;' in page.text
    assert "<script" not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert (await http.get("/messages/none")).status_code == 404


KEYS = ("k" * 32,)
PAGE = "http://127.0.0.1:8006/unsubscribe/"


async def shown_with(html: str, text: str, header: str, page: str | None = PAGE) -> str:
    """The page of a message that has these."""
    simulator = Simulator(SimulatorConfig(unsubscribe_page=page, unsubscribe_keys=KEYS))
    async with serve(simulator) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        body = {
            "FromEmailAddress": "news@example.com",
            "Destination": {"ToAddresses": ["ana@example.org"]},
            "Content": {
                "Simple": {
                    "Subject": {"Data": "s"},
                    "Body": {"Html": {"Data": html}, "Text": {"Data": text}},
                    "Headers": [{"Name": "List-Unsubscribe", "Value": header}],
                }
            },
        }
        id = (await http.post("/v2/email/outbound-emails", json=body)).json()["MessageId"]
        return (await http.get(f"/messages/{id}")).text


@given(st.emails(), st.text(min_size=1, max_size=100).filter(str.isprintable))
@settings(max_examples=50)
def test_an_unsubscribe_link_with_a_token_of_ours_leads_here(address: str, stream: str) -> None:
    token = Tokens(list(KEYS)).make(address, stream)
    links = Links(PAGE, KEYS)
    for url in (f"https://example.com/u/{token}", f"https://example.com/?t={token}&amp;x=1", f"https://example.com/{token}/"):
        assert links.here(url) == f"{PAGE}{token}"
        assert f'href="{PAGE}{token}"' in links.in_html(f'<a class=x href="{url}">')
    assert links.here(f"https://example.com/u/{token[:-5]}{'a' if token[-5] != 'a' else 'b'}{token[-4:]}") is None
    assert Links(PAGE, ("o" * 32,)).here(f"https://example.com/u/{token}") is None


async def test_the_unsubscribe_links_of_a_message_can_be_clicked_and_no_others() -> None:
    token = Tokens(list(KEYS)).make("ana@example.org", "news")
    url, forged = f"https://example.com/unsubscribe/{token}", f"https://example.com/unsubscribe/{token[:-4]}AAAA"
    html = f'<p data-href="{url}"><a href="{url}">stop</a> <a href=\'{forged}\'>no</a> <a href="https://example.com/">shop</a>'
    page = await shown_with(html, f"<b> {url} or {forged} & so on", f"<{url}>, <mailto:u@example.com>")
    here = f'href="{PAGE}{token}" target="_blank" rel="noopener">'
    assert f"{here}Open its page on this machine</a>" in page
    frame = unescape(re.findall(r'srcdoc="(.*?)"', page)[0])
    assert frame == html.replace(f'<a href="{url}">', f'<a target="_blank" rel="noopener" href="{PAGE}{token}">')
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox" srcdoc' in page
    assert f"&lt;b&gt; <a {here}{url}</a> or {forged} &amp; so on</pre>" in page
    assert f"<dd>&lt;<a {here}{url}</a>&gt;, &lt;mailto:u@example.com&gt;</dd>" in page
    assert f'href="{PAGE}{token[:-4]}AAAA' not in page
    for without in (await shown_with(html, url, f"<{url}>", page=None), await shown_with("<p>Hi", "Hi", "<https://x.org/1>")):
        assert PAGE not in without
        assert "sandbox srcdoc" in without


def test_a_text_made_to_be_slow_is_not() -> None:
    links, began = Links(PAGE, KEYS), time.monotonic()
    for text in ("https://" + "WyI" * 300_000, ("https://WyI" + "a" * 1990 + " ") * 500, "href=https://WyI." * 50_000):
        links.in_text(text)
        links.in_html(text)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"origin": "https://evil.example"}]
)
async def test_requests_from_elsewhere_are_refused(running: Running, headers: dict[str, str]) -> None:
    for path in ("/", "/_simulator/stats", "/v2/email/account"):
        assert (await running.http.get(path, headers=headers)).status_code == 403


async def test_a_refused_name_is_told_with_the_option_that_allows_it(running: Running) -> None:
    answer = await running.http.get("/v2/email/account", headers={"host": "ses:8005"})
    assert answer.headers["x-amzn-errortype"] == "AccessDeniedException"
    assert answer.json()["message"] == (
        "The simulator answers requests to this machine only, and the Host of this one is 'ses'. "
        "Start it with --allow-host and that name, if it is one of yours."
    )


@pytest.mark.parametrize("host", ["ses:8005", "SES", "localhost", "127.0.0.1:8005"])
async def test_allowed_names_are_served(host: str) -> None:
    async with serve(Simulator(SimulatorConfig()), allowed=["ses"]) as url, httpx.AsyncClient(trust_env=False) as http:
        headers = {"host": host, "origin": f"http://{host}"}
        assert (await http.get(f"{url}/v2/email/account", headers=headers)).status_code == 200
        for other in ({"host": "sess"}, {"host": "x.ses"}, {"host": "ses", "origin": "https://evil.example"}):
            assert (await http.get(f"{url}/v2/email/account", headers=other)).status_code == 403


async def test_allowed_names_hold_on_every_interface() -> None:
    simulator = Simulator(SimulatorConfig())
    async with serve(simulator, "0.0.0.0", allowed=["ses"]) as url, httpx.AsyncClient(trust_env=False) as http:
        local = url.replace("0.0.0.0", "127.0.0.1")
        codes = [(await http.get(f"{local}/", headers={"host": host})).status_code for host in ("ses:8005", "evil.example")]
    assert codes == [200, 403]


V1 = "{http://ses.amazonaws.com/doc/2010-12-01/}"


async def test_a_client_of_ses_v1_reads_that_this_is_v2_only(running: Running) -> None:
    session = aioboto3.Session(aws_access_key_id="id", aws_secret_access_key="key", region_name="eu-west-1")
    async with session.client("ses", endpoint_url=running.url) as old:
        for call in (old.get_send_quota(), old.send_raw_email(RawMessage={"Data": b"x"})):
            with pytest.raises(ClientError) as caught:
                await call
            assert caught.value.response["Error"]["Code"] == "InvalidAction"
            text = caught.value.response["Error"]["Message"]
            assert re.fullmatch(r"The simulated SES is SES v2 only, and \w+ is an operation of SES v1\. Use .+ for sesv2\.", text)
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    async with session.client("sts", endpoint_url=running.url) as other:
        with pytest.raises(ClientError, match=r"no operation GetCallerIdentity\. It is SES v2 only"):
            await other.get_caller_identity()


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "POST", "content": b"Action=%3Cx%3E%00%0d%26&Version=2010-12-01"},
        {"method": "POST", "content": b"\xff\xfe"},
        {"method": "POST"},
        {"method": "POST", "content": b"Action=" + b"a" * 200_000},
        {"method": "GET", "params": {"Action": "SendEmail", "Version": "2010-12-01"}},
    ],
)
async def test_what_is_no_call_of_v2_is_refused_in_xml(running: Running, asked: dict[str, Any]) -> None:
    answer = await running.http.request(url="/", **asked)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/xml; charset=utf-8")
    assert len(answer.content) < 1000
    (message,) = ElementTree.fromstring(answer.content).iter(f"{V1}Message")
    assert "SES v2" in str(message.text)


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "DELETE", "PROPFIND", "TRACE"])
@pytest.mark.parametrize(
    "path", ["/v2/email/account", "/v2/email/nothing", "/v1/email/x", "/", "/messages/1", "/_simulator/reset"]
)
async def test_other_methods_and_paths_are_refused_in_the_form_of_ses(running: Running, method: str, path: str) -> None:
    answer = await running.http.request(method, path)
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    assert answer.json() == {"message": f"The simulator has no operation at {method} {path}."}
    assert answer.headers["x-amzn-requestid"]


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:9", "[::1]:80", "ses.localhost"])
async def test_local_names_are_served(running: Running, host: str) -> None:
    headers = {"host": host, "origin": f"http://{host}"}
    assert (await running.http.get("/v2/email/account", headers=headers)).status_code == 200


async def test_application_without_the_server() -> None:
    """`create_app` is plain ASGI; only cutting needs the server."""
    simulator = Simulator(SimulatorConfig())
    transport = httpx.ASGITransport(create_app(simulator))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.get("/v2/email/account")).json()["ProductionAccessEnabled"] is True
        simulator.faults.set([Fault(kind=Kind.CUT_AFTER)])
        with pytest.raises(RuntimeError, match=r"mailer\.simulator\.serve"):
            await http.get("/v2/email/account")


async def test_stopping_does_not_wait_for_a_slow_answer(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator(SimulatorConfig())
    simulator.faults.set([Fault(kind=Kind.LATENCY, seconds=3600)])
    async with serve(simulator) as url:
        http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=None)
        waiting = asyncio.create_task(http.get("/v2/email/account"))
        while not simulator.faults.fired:
            await asyncio.sleep(0.01)
    with pytest.raises(httpx.TransportError):
        await waiting
    await http.aclose()
    assert not [record for record in caplog.records if record.exc_info]


async def test_oversized_request(running: Running) -> None:
    answer = await running.http.post("/v2/email/outbound-emails", content=b" " * 60_000_001)
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_command(number: signal.Signals) -> None:
    words = "--port 0 --max-send-rate 7 --max-24h -1 --sandbox --verified a.org,b@c.org --bulk-calls-per-s 2 --region us-east-1"
    words += " --allow-host ses"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailer.simulator", *words.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = json.loads(await process.stdout.readline())["url"]
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        shown = (await http.get("/_simulator/stats", headers={"host": "ses:8005"})).json()["account"]
        process.send_signal(number)  # while a connection is open
        rest, errors = await process.communicate()
    assert (shown["region"], shown["ProductionAccessEnabled"]) == ("us-east-1", False)
    assert shown["SendQuota"] == {"Max24HourSend": -1.0, "MaxSendRate": 7.0, "SentLast24Hours": 0.0}
    assert (process.returncode, rest, errors) == (0, b"", b"")


async def test_command_when_the_port_is_taken(running: Running) -> None:
    port = running.url.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailer.simulator", "--port", port, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.startswith(b"cannot listen on 127.0.0.1:")
