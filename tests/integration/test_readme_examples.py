"""The examples of the README's "Ways to send", taken from it and run: real commands, a real Redis, a worker, a simulated SES."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path

import pytest

from mailer import Settings, load_settings
from mailer.simulator import Message, Simulator, SimulatorConfig
from mailer.simulator.catalogue import create_email_template
from mailer.simulator.journal import RawContent, SimpleContent, TemplatedContent
from mailer.unsubscribe.tokens import Tokens

from ..conftest import running_worker, simulated_ses
from ..servers import RedisServer

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
WAYS = README[README.index("\n## Ways to send") : README.index("\n## Commands")]
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", WAYS, re.MULTILINE | re.DOTALL))
SECRET = "a long random text of 32 characters"
PDF, PNG = b"%PDF-1.4\n\x00\xff", b"\x89PNG\r\n\x1a\n\x00\xff"
ICS = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
MIME = "From: News <news@example.com>\nTo: ana@example.org\nBcc: cy@example.org\nSubject: Whole\n\nDear Ana\n"


@dataclass(frozen=True, slots=True)
class Ran:
    out: str
    err: str


def blocks(section: str) -> list[tuple[str, str]]:
    """(language, source) of each block; of a console the commands, without what stands for their output."""
    found = []
    for language, source in re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        if language == "console":
            found += [(language, command) for command in re.findall(r"^\$ ((?:.*\\\n)*.*)$", source, re.MULTILINE)]
        else:
            found.append((language, source))
    return found


def script(language: str, source: str) -> list[str]:
    if language == "console":
        return ["bash", "-c", source]
    body = textwrap.indent(source, " " * 8)
    head = "import asyncio\nfrom mailer import Attachment, Campaign, Email, Mailer\n"
    main = f"async def main():\n    async with Mailer() as mailer:\n{body}\nasyncio.run(main())\n"
    return [sys.executable, "-c", head + main]


async def run(language: str, source: str) -> Ran:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *script(language, source), stdout=pipe, stderr=pipe, env={**os.environ, "PATH": here}
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return Ran(out.decode(), err.decode())


@pytest.fixture
async def installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: RedisServer, namespace: str
) -> AsyncIterator[Simulator]:
    """The README's own sender, template and list, the files that the examples name, and the account that they assume."""
    toml = re.search(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert toml is not None
    (tmp_path / "mailer.toml").write_text(toml[1])
    for name, content in {
        "invoice.pdf": PDF,
        "terms.pdf": PDF,
        "logo.png": PNG,
        "lunch.ics": ICS,
        "message.eml": MIME.encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
    campaign = README[README.index("### A campaign") : README.index("### From Python")]
    for language, source in blocks(campaign):
        if not source.startswith("mailer "):
            await run(language, source)
    for name, value in {
        "MAILER_REDIS_URL": server.url,
        "MAILER_NAMESPACE": namespace,
        "MAILER_SECRET_KEY": SECRET,
        "MAILER_ACCOUNT_REFRESH_S": "1",
    }.items():
        monkeypatch.setenv(name, value)
    settings: Settings = load_settings(bulk_calls_per_s="unlimited")
    sender = settings.senders["news"]
    sets = (sender.configuration_set,) if sender.configuration_set else ()
    async with simulated_ses(
        monkeypatch, SimulatorConfig(max_send_rate=5000, configuration_sets=sets, contact_lists=("readers",))
    ) as ses:
        parts = {"Subject": "Welcome, {{name}}", "Text": "Dear {{name}}, …"}
        create_email_template(ses, {"TemplateName": "welcome", "TemplateContent": parts})
        async with running_worker(settings):
            yield ses


# ---- what SES got ----------------------------------------------------------------------------------------------------


def to(message: Message) -> str:
    return parseaddr(message.accepted.recipients[0])[1]


def parsed(message: Message) -> EmailMessage:
    assert isinstance(message.content, RawContent)
    return message_from_bytes(message.content.mime, _class=EmailMessage, policy=policy.default)


def calls(messages: Sequence[Message]) -> set[tuple[str, type]]:
    return {(message.accepted.operation, type(message.content)) for message in messages}


SIMPLE = ("SendEmail", SimpleContent)
RAW = ("SendEmail", RawContent)
TEMPLATE = ("SendEmail", TemplatedContent)
BULK = ("SendBulkEmail", TemplatedContent)


def simple(messages: list[Message], ran: list[Ran]) -> None:
    (message,) = messages
    assert calls(messages) == {SIMPLE}
    shown = message.content.show()
    assert shown.subject
    assert (shown.html, shown.text) != (None, None)
    assert (len(message.to), len(message.cc), message.accepted.configuration_set) == (1, 1, "news")
    assert message.accepted.tags["stream"] == "news"


def attachments(messages: list[Message], ran: list[Ran]) -> None:
    assert len(messages) == 2  # by the command and by Python, and both the same
    assert calls(messages) == {SIMPLE}
    for message in messages:
        assert isinstance(message.content, SimpleContent)
        assert [item.name for item in message.content.attachments] == ["invoice.pdf", "logo.png"]
        assert [item.encoded for item in message.content.attachments] == [len(base64.b64encode(file)) for file in (PDF, PNG)]
        assert "cid:logo" in (message.content.html or "")


def raw(messages: list[Message], ran: list[Ran]) -> None:
    assert calls(messages) == {RAW}
    assert sorted((message.accepted.recipients, parsed(message)["Subject"]) for message in messages) == [
        (("ana@example.org",), "Hello"),
        (("ana@example.org", "cy@example.org"), "Whole"),
        (("bo@example.org",), "Whole"),
    ]
    assert all(parsed(message)["Bcc"] is None for message in messages)


def invitation(messages: list[Message], ran: list[Ran]) -> None:
    (message,) = messages
    mail = parsed(message)
    assert mail.get_content_type() == "multipart/mixed"  # for those who do not show invitations it is a file, too
    parts = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
    assert parts[0].get_param("method") == "REQUEST"
    assert all(part.get_payload(decode=True) == ICS for part in parts)


def stored(messages: list[Message], ran: list[Ran]) -> None:
    assert calls(messages) == {TEMPLATE}
    assert [message.content.show().subject for message in messages] == ["Welcome, Ana"]


def bulk(messages: list[Message], ran: list[Ran]) -> None:
    assert calls(messages) == {BULK}
    shown = [(to(message), message.content.show()) for message in messages]
    own = {address: [one for to_, one in shown if to_ == address] for address in ("ana@example.org", "bo@example.org")}
    for address, name in (("ana@example.org", "Ana"), ("bo@example.org", "Bo")):
        assert len(own[address]) == 3
        assert all(name in (one.text or "") for one in own[address])
        assert sorted([file.name for file in one.attachments] for one in own[address]) == [[], [], ["terms.pdf"]]
    assert ran[-1].out == "{'sent': 2}\n"


def unsubscribe(messages: list[Message], ran: list[Ran]) -> None:
    own, kept_by_ses = sorted(messages, key=to)
    headers = own.content.show().headers
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    token = re.findall(r"https://[^>]+/([^/>]+)>", headers["List-Unsubscribe"])[0]
    assert Tokens([SECRET]).read(token) == ("ana@example.org", "news")
    assert "hint" not in "".join(one.err for one in ran)
    assert token not in str(kept_by_ses.content.show().headers)  # those that SES writes are not ours


def later(messages: list[Message], ran: list[Ran]) -> None:
    assert sorted(map(to, messages)) == ["ana@example.org", "bo@example.org"]  # each once
    assert "it is to be sent at " in ran[0].err
    assert ran[1].out == "True\n"


def explained(messages: list[Message], ran: list[Ran]) -> None:
    assert messages == []
    assert "SendEmail" in ran[0].out
    assert json.loads(ran[1].out)["operation"] == "SendBulkEmail"


EXPECTED: dict[str, tuple[int, Callable[[list[Message], list[Ran]], None]]] = {
    "Simple": (1, simple),
    "Attachments, and images inside the HTML": (2, attachments),
    "Raw: a whole message": (3, raw),
    "Calendar invitation": (1, invitation),
    "A template that SES stores": (1, stored),
    "Bulk: one content, many recipients": (6, bulk),
    "List-Unsubscribe": (2, unsubscribe),
    "Later, not too late, and once": (2, later),
    "What would become of it": (0, explained),
}


def test_every_way_to_send_is_run() -> None:
    assert SECTIONS.keys() == EXPECTED.keys()
    assert all(blocks(section) for section in SECTIONS.values())


@pytest.mark.parametrize("heading", SECTIONS)
async def test_the_examples_do_what_their_heading_says(installation: Simulator, heading: str) -> None:
    count, check = EXPECTED[heading]
    ran = [await run(*block) for block in blocks(SECTIONS[heading])]
    async with asyncio.timeout(20):
        while len(installation.log) < count:
            await asyncio.sleep(0.02)
    check(list(reversed(list(installation.mailroom))), ran)
    assert len(installation.log) == count


def test_no_example_is_written_here_again() -> None:
    own = Path(__file__).read_text(encoding="utf-8")
    for _, source in (block for section in SECTIONS.values() for block in blocks(section)):
        assert source.strip() not in own
