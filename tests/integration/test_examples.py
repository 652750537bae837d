"""The examples of README.md and docs/, taken from there and run: real commands, a real Redis, a worker, a simulated SES.

Those of a page are run in turn, in one folder, as a reader would run them. What a page shows as the output of a command is
compared with what it printed: line by line, in order, where `…` stands for anything and a number for any other. An id that a
page shows stands for the one that was printed, also in the commands that follow.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
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
from ..documents import PAGES, ROOT, Block, all_blocks, blocks, steps
from ..servers import RedisServer

WAYS = "docs/sending.md"  # each of its sections is run by itself, and what SES got is looked at
SECRET = "a long random text of 32 characters"
PDF, PNG = b"%PDF-1.4\n\x00\xff", b"\x89PNG\r\n\x1a\n\x00\xff"
ICS = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
MIME = "From: News <news@example.com>\nTo: ana@example.org\nBcc: cy@example.org\nSubject: Whole\n\nDear Ana\n"
FILES = {
    "list.csv": b"email,name\nana@example.org,Ana\nbo@example.org,Bo\n",
    "templates/newsletter/subject.txt": b"News for {{ name }}\n",
    "templates/newsletter/body.html": "<p>Dear {{ name }}, …</p>\n".encode(),
    "templates/welcome/subject.txt": b"Welcome, {{ name }}\n",
    "templates/welcome/body.txt": b"Dear {{ name }}\n",
    "invoice.pdf": PDF,
    "terms.pdf": PDF,
    "logo.png": PNG,
    "lunch.ics": ICS,
    "hallo.txt": b"Hallo {{ Vorname }},\nwir sind umgezogen.\n",
    "message.eml": MIME.encode(),
}
ID = r"\b[mc]1[a-z0-9]{17}(?:-\d+)*\b"
_SES_ID = r"\b[0-9a-f]{16}-[0-9a-f-]{20,}\b"
_NUMBER = r"\d[\d,.:TZ+-]*"


@dataclass(frozen=True, slots=True)
class Ran:
    out: str
    err: str


@dataclass(slots=True)
class Reader:
    """Somebody who works through a page."""

    ids: dict[str, str] = field(default_factory=dict)  # as the page shows it → as it was printed
    of_django: str = ""  # the settings of a project

    async def read(self, block: Block) -> list[Ran]:
        if block.not_run or block.language not in ("console", "python"):
            return []
        if block.language == "python":
            return await self._read_python(block.source)
        found = []
        for command, shown in steps(block):
            ran = await run(self._real(command), fails=any(line.startswith("mailer: ") for line in shown))
            self._compare(f"{block}: {command!r}", shown, ran)
            found.append(ran)
        return found

    async def _read_python(self, source: str) -> list[Ran]:
        if source.startswith("EMAIL_BACKEND"):
            self.of_django = source
            return []
        if source.startswith("from django"):
            return [await run(_DJANGO.format(settings=self.of_django, source=source), python=True)]
        return [await run(_program(self._real(source)), python=True)]

    def _real(self, source: str) -> str:
        return re.sub(ID, lambda match: self.ids.get(match[0], match[0]), source)

    def _compare(self, what: str, shown: Sequence[str], ran: Ran) -> None:
        left = [ran.err.splitlines(), ran.out.splitlines()]  # which of them a reader sees first is not told
        for line in filter(lambda line: line.strip("… "), shown):
            for lines in left:
                if (place := _place(line, lines)) is not None:
                    self.ids |= zip(re.findall(ID, line), re.findall(ID, lines[place]), strict=False)
                    del lines[: place + 1]
                    break
            else:
                raise AssertionError(f"{what} does not print {line!r}, or not there:\n{ran.out}{ran.err}")


def _place(line: str, lines: Sequence[str]) -> int | None:
    """Of the first of the lines that it stands for."""
    pattern = re.compile(".*".join(re.escape(_plain(piece)) for piece in line.split("…")))
    return next((place for place, other in enumerate(lines) if pattern.fullmatch(_plain(other))), None)


def _plain(line: str) -> str:
    line = re.sub(_SES_ID, "SES-ID", re.sub(ID, "ID", line))
    return " ".join(re.sub(_NUMBER, "#", line).split())


_DJANGO = """\
from django.conf import settings
{settings}
settings.configure(**{{name: value for name, value in dict(vars()).items() if name.isupper()}})
{source}
"""
_PROGRAM = """\
import asyncio
from types import SimpleNamespace
from mailer import Attachment, Campaign, Email, Mailer

users = [SimpleNamespace(email="ana@example.org", name="Ana"), SimpleNamespace(email="bo@example.org", name="Bo")]

async def example(mailer, users, token):
{body}

async def main():
    async with Mailer() as mailer:
        await example(mailer, users, mailer.unsubscribe_url("ana@example.org", "news").rpartition("/")[2])

asyncio.run(main())
"""


def _program(source: str) -> str:
    """The example, with what its page says is there: a Mailer that is open, users, an unsubscribe token."""
    return _PROGRAM.format(body=textwrap.indent(source, " " * 4))


async def run(source: str, *, python: bool = False, fails: bool = False) -> Ran:
    """`fails`: the page shows that it ends with a sentence, and so with exit status 1."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = [sys.executable, "-c", source] if python else ["bash", "-c", source]
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*words, stdin=none, stdout=pipe, stderr=pipe, env={**os.environ, "PATH": here})
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == int(fails), f"{source}\n{out.decode()}{err.decode()}"
    return Ran(out.decode(), err.decode())


@pytest.fixture
async def installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: RedisServer, namespace: str
) -> AsyncIterator[Simulator]:
    """The documents' own sender, the files that the examples name, and the account that they assume."""
    (toml,) = [block.source for block in blocks(WAYS) if block.language == "toml"]
    (tmp_path / "mailer.toml").write_text(toml)
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    shutil.copy(ROOT / "tests/lists/excel-german.csv", tmp_path / "kunden.csv")
    for name, value in {
        "MAILER_REDIS_URL": server.url,
        "MAILER_NAMESPACE": namespace,
        "MAILER_SECRET_KEY": SECRET,
        "MAILER_ACCOUNT_REFRESH_S": "1",
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    settings: Settings = load_settings(bulk_calls_per_s="unlimited")
    sender = settings.senders["news"]
    sets = (sender.configuration_set,) if sender.configuration_set else ()
    config = SimulatorConfig(
        max_send_rate=5000, configuration_sets=sets, contact_lists=("readers",), verified=("example.com", "your-domain.com")
    )
    async with simulated_ses(monkeypatch, config) as ses:
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


def sections(page: str) -> dict[str, list[Block]]:
    """The blocks that are run, by the heading above them."""
    found: dict[str, list[Block]] = {}
    for block in blocks(page):
        if not block.not_run and block.language in ("console", "python"):
            found.setdefault(block.heading, []).append(block)
    return found


SECTIONS = sections(WAYS)
OTHERS = [page for page in PAGES if page != WAYS and sections(page)]


def test_every_way_to_send_is_run() -> None:
    assert SECTIONS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("heading", SECTIONS)
async def test_the_examples_do_what_their_heading_says(installation: Simulator, heading: str) -> None:
    count, check = EXPECTED[heading]
    reader = Reader()
    ran = [one for block in SECTIONS[heading] for one in await reader.read(block)]
    async with asyncio.timeout(20):
        while len(installation.log) < count:
            await asyncio.sleep(0.02)
    check(list(reversed(list(installation.mailroom))), ran)
    assert len(installation.log) == count


@pytest.mark.parametrize("page", OTHERS)
async def test_the_examples_of_a_page_run_one_after_the_other(installation: Simulator, page: str) -> None:
    reader = Reader()
    for block in blocks(page):
        await reader.read(block)


def test_no_example_is_written_here_again() -> None:
    own = Path(__file__).read_text(encoding="utf-8")
    for block in (*all_blocks("console"), *all_blocks("python")):
        assert block.source.strip() not in own
