"""Answers that are not SES's: pages of what stands between, and bodies that are no answer. Waited for, and nobody is rejected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailer import Email, Mailer, Settings
from mailer.simulator import Simulator, SimulatorConfig
from worker import settle

from ..conftest import running_worker
from ..front import Front, Said, in_front_of, page
from .test_delivery import FROM, accepted, finished, letter, parked_with, rows, settled

SQUID = "<html><head><title>ERROR: The requested URL could not be retrieved</title></head><body>squid/5.7</body></html>"
FORTI = "<!DOCTYPE html><html><head><title>Web Filter Violation</title></head><body>Powered by FortiGuard</body></html>"
LOGIN = "<html><head><title>Welcome to Hotel WiFi</title></head><body><form action='/login'></form></body></html>"
# The page; what the reason says of it.
KEPT: dict[str, tuple[Said, str]] = {
    "403 of a firewall": (page(403, FORTI), "it looks like one of Fortinet, its title is 'Web Filter Violation'"),
    "403 without a word": (Said(403, b"", {"content-type": "text/plain"}), "status 403"),
    "404 of nginx": (page(404, "<html><h1>404 Not Found</h1><hr>nginx/1.24</html>"), "it looks like one of nginx"),
    "405 of a load balancer": (page(405, "<h1>405 Not Allowed</h1>", Server="awselb/2.0"), "an AWS load balancer"),
    "407 of a proxy": (page(407, SQUID, Via="1.1 proxy (squid/5.7)"), "it looks like one of Squid"),
    "401 of a portal": (page(401, LOGIN), "its title is 'Welcome to Hotel WiFi'"),
    "429 of a firewall": (page(429, "<h1>Slow down</h1>", Server="cloudflare"), "it looks like one of Cloudflare"),
    "400 of a web server": (page(400, "<title>The plain HTTP request was sent to HTTPS port</title>"), "plain HTTP request"),
    "403 in Windows' own encoding": (Said(403, "<html>Zugriff gesperrt für Sie".encode("cp1252"), {}), "status 403"),
    "403 of a service that speaks JSON": (Said(403, b'{"error": "no"}', {"content-type": "application/json"}), "status 403"),
    "200 of a captive portal": (page(200, LOGIN), "its title is 'Welcome to Hotel WiFi'"),
    "511 of a captive portal": (page(511, LOGIN), "status 511"),
    "503 without a server behind it": (page(503, "<h1>503</h1>No server is available to handle this request."), "HAProxy"),
    "503 of a proxy that does not find SES": (page(503, SQUID, X_Squid_Error="ERR_DNS_FAIL 0"), "Squid"),
}
SENT_ON: dict[str, tuple[Said, str]] = {
    "502 of a gateway": (page(502, "<html><h1>502 Bad Gateway</h1><hr>nginx</html>"), "it looks like one of nginx"),
    "503 of a proxy": (Said(503, b"upstream connect error. reset reason: connection termination", {}), "Envoy"),
    "504 of a load balancer": (page(504, "<h1>504 Gateway Time-out</h1>", Server="awselb/2.0"), "an AWS load balancer"),
    "200 without a message id": (Said(200, b"{}", {"content-type": "application/json"}), "SES answered without"),
    "200 with a list": (Said(200, b"[]", {"content-type": "application/json"}), "no answer of SES: it is not JSON"),
    "200 with half a JSON": (
        Said(200, b'{"MessageId": ', {"content-type": "application/json"}),
        "no answer of SES: it is not JSON",
    ),
    "200 with another type": (Said(200, b'{"MessageId": 5, "BulkEmailEntryResults": ["x"]}', {}), "SES's answer cannot be read"),
    "200 that is not UTF-8": (Said(200, b"\xff\xfe\x00", {}), "no answer of SES: it is not JSON"),
    "200 of SES that is cut": (Said(200, b'{"Mess', {"x-amzn-RequestId": "r"}), "SES answered without"),
    "200 of SES that is not UTF-8": (Said(200, b"\xff\xfe", {"x-amzn-RequestId": "r"}), "SES's answer cannot be read"),
}


@pytest.fixture
async def front(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Front]:
    monkeypatch.setattr(settle, "PARK_S", 0.5)
    simulator = Simulator(SimulatorConfig(max_send_rate=5000, max_24h=1_000_000))
    async with in_front_of(monkeypatch, simulator) as front, running_worker(settings):
        yield front


@pytest.mark.parametrize(
    ("what", "everything"), [*((what, False) for what in KEPT), ("403 of a firewall", True), ("200 of a captive portal", True)]
)
async def test_a_page_of_what_stands_between_is_waited_for_and_nobody_is_lost(
    front: Front, mailer: Mailer, what: str, everything: bool
) -> None:
    said, words = KEPT[what]
    message = await mailer.send(Email(to="first@example.org", from_=FROM, subject="s", text="t"))
    assert (await settled(mailer, message)).state == "sent"
    front.answers = lambda asked: said if asked.sends or everything else None
    id = await mailer.start_campaign(letter(), rows(200))
    message = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="s", text="t"))
    status = await parked_with(mailer, id, words)
    assert "see what stands between here and SES" in status.reason
    assert "<" not in status.reason
    assert (status.counts, (await mailer.status(message)).state) == ({"queued": 200}, "queued")
    front.answers = lambda _: None
    assert (await finished(mailer, id)).counts == {"sent": 200}
    assert (await settled(mailer, message)).state == "sent"
    assert set(accepted(front.simulator).values()) == {1}


@pytest.mark.parametrize("what", SENT_ON)
async def test_a_page_behind_which_ses_may_have_accepted_leaves_few_in_doubt_and_is_waited_for(
    front: Front, mailer: Mailer, what: str
) -> None:
    said, words = SENT_ON[what]
    front.answers = lambda asked: said if asked.sends else None
    id = await mailer.start_campaign(letter(), rows(1000))
    async with asyncio.timeout(20):
        while not (await mailer.campaign(id)).counts.get("unknown"):
            await asyncio.sleep(0.02)
    await asyncio.sleep(1)
    front.answers = lambda _: None
    counts = (await finished(mailer, id)).counts
    assert (set(counts), sum(counts.values())) == ({"sent", "unknown"}, 1000)
    assert counts["unknown"] <= 300
    lines = [line async for line in mailer.outcomes(id) if line.state == "unknown"]
    assert all(words in line.reason and "SES may have accepted it" in line.reason for line in lines)
    assert set(accepted(front.simulator).values()) == {1}


async def test_pages_that_come_now_and_then_slow_nothing_down(front: Front, mailer: Mailer) -> None:
    said, calls = page(502, "<h1>502 Bad Gateway</h1>"), 0

    def answers(asked: object) -> Said | None:
        nonlocal calls
        calls += 1
        return said if calls % 40 == 0 else None

    front.answers = answers
    id = await mailer.start_campaign(letter(mode="simple"), rows(300))
    counts = (await finished(mailer, id)).counts
    assert (counts.keys() <= {"sent", "unknown"}, counts["sent"] > 250) == (True, True)
