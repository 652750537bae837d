"""Every mode of sending, from what a caller says to what the simulated SES received over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.compose import Item, Loaded, Mime, Values, plan
from mailer.ids import Attempt
from mailer.intake.spec_builder import SpecBuilder
from mailer.ledger.contents import digest_of
from mailer.ledger.spec import Spec
from mailer.message.attachment import Attachment
from mailer.message.email import Campaign, Email, Mode
from mailer.message.sender import Sender
from mailer.ses.gateway import Gateway
from mailer.settings import Settings
from mailer.simulator import Message, Simulator, SimulatorConfig
from mailer.simulator.journal import RawContent
from mailer.simulator.mime import assemble
from mailer.templates import Compiled, Content, Pieces

from ..conftest import simulated_ses

SENDER = Sender(
    from_="Größe & Söhne <news@example.com>",
    reply_to="help@example.com",
    feedback_address="bounces@example.com",
    tags={"campaign": "june"},
)
PREPARATION = SpecBuilder(Settings(senders={"news": SENDER}))
OWN = {"List-Unsubscribe": f"<https://example.com/{'u' * 600}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
FILES = [
    Attachment(name="Übersicht (1).pdf", content=bytes(range(256)), description="Zoë's"),
    Attachment(name="logo.png", content=b"PNG", content_id="logo@x"),
    Attachment(name="empty.txt", content=b""),
]
ICS = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"


@pytest.fixture
async def gateway(ses: Simulator) -> AsyncIterator[Gateway]:
    async with Gateway() as gateway:
        yield gateway


async def send(
    gateway: Gateway, ses: Simulator, given: Email | Campaign, mode: Mode, rows: Sequence[dict[str, Any]] = ({},)
) -> list[Message]:
    """What SES holds for each of the rows, after making sure that they went in this mode."""
    spec, blobs = PREPARATION.message(given) if isinstance(given, Email) else PREPARATION.campaign(given)
    spec = Spec.load(spec.dump())
    stored = {digest_of(blob): blob for blob in blobs}
    files = [Loaded(file, stored[file.digest]) for file in spec.files]
    items = []
    for i, row in enumerate(rows):
        to = spec.to or ((f"u{i}@example.org",) if not spec.bcc else ())
        tag = str(Attempt("c01k8x7t3q9r5v2m0ab", 7, i, 1))
        content = _content(spec, stored, {**spec.data, **row})
        items.append(
            Item(position=i, attempt=1, tag=tag, to=to, cc=spec.cc, bcc=spec.bcc, headers=OWN if i % 2 else {}, content=content)
        )
    planned = plan(spec, items, files)
    assert planned.refused == []
    found: list[Message] = []
    for call in planned.calls:
        assert call.mode is mode
        answers, _ = await gateway.send(call.operation.value, call.params, call.body)
        assert [answer.refusal for answer in answers] == [None] * len(call.items)
        for item, answer in zip(call.items, answers, strict=True):
            message = ses.mailroom.get(str(answer.message_id))
            assert message is not None
            assert (message.to, message.cc, message.bcc) == (item.to, item.cc, item.bcc)
            assert message.accepted.failure is None
            assert message.accepted.tags == {"mailer_id": item.tag, **spec.tags}
            found.append(message)
    return found


def _content(spec: Spec, stored: dict[str, bytes], data: dict[str, Any]) -> Pieces | Values | Mime:
    if spec.raw is not None:
        return Mime(stored[spec.raw])
    if spec.ses_template is not None:
        return Values(orjson.dumps(data).decode())
    if spec.literal is not None:
        literal = spec.literal
        return Pieces(literal.subject, [literal.html] if literal.html else None, [literal.text] if literal.text else None)
    assert spec.content is not None
    return Compiled(Content.load(stored[spec.content])).pieces(data)


def mime_of(message: Message) -> EmailMessage:
    assert isinstance(message.content, RawContent)
    data = message.content.mime
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    parsed = message_from_bytes(data, _class=EmailMessage, policy=policy.default)
    assert parsed["Bcc"] is None
    return parsed


ROWS = [{"name": name} for name in ("Ana", "Zoë & co", "{{x}}", "株式会社")]
CAMPAIGN: dict[str, Any] = {"sender": "news", "subject": "Hi {{ name }}", "html": "<p>{{ name }}, hello: <img src='cid:logo@x'>"}


@pytest.mark.parametrize(
    ("asked", "count", "mode"),
    [
        ("auto", 1, Mode.SIMPLE),
        ("auto", 4, Mode.BULK),
        ("simple", 4, Mode.SIMPLE),
        ("template", 4, Mode.TEMPLATE),
        ("bulk", 1, Mode.BULK),
        ("bulk", 4, Mode.BULK),
        ("raw", 4, Mode.RAW),
    ],
)
async def test_a_campaign_arrives_the_same_in_every_mode(
    gateway: Gateway, ses: Simulator, asked: Any, count: int, mode: Mode
) -> None:
    campaign = Campaign(**CAMPAIGN, mode=asked, attachments=FILES, headers={"X-A": "Grüße"})
    messages = await send(gateway, ses, campaign, mode, ROWS[:count])
    for i, (message, row) in enumerate(zip(messages, ROWS, strict=False)):
        rendered = Compiled(Content.inline(subject=campaign.subject or "", html=campaign.html, text=None)).render(row)
        shown = message.content.show()
        assert shown.subject == rendered.subject
        own = OWN if i % 2 else {}
        if mode is Mode.RAW:
            assert {name: shown.headers.get(name) for name in OWN} == {name: own.get(name) for name in OWN}
            assert shown.headers["X-A"] == "Grüße"
            assert shown.headers["Reply-To"] == "help@example.com"
            assert (str(shown.html).rstrip(), str(shown.text).rstrip()) == (
                str(rendered.html).rstrip(),
                str(rendered.text).rstrip(),
            )
            parts = [part for part in mime_of(message).walk() if part.get_content_disposition()]
            assert {part.get_filename(): part.get_payload(decode=True) for part in parts} == {
                file.name: file.content for file in FILES
            }
            continue
        assert (shown.html, shown.text) == (rendered.html, rendered.text)
        assert shown.headers == {"X-A": "=?utf-8?b?R3LDvMOfZQ==?=", **own}
        assert message.reply_to == ("help@example.com",)
        received = message.content.attachments  # type: ignore[union-attr]
        assert [(one.name, one.content, one.content_id, one.encoding) for one in received] == [
            (file.name, file.content, file.content_id, "BASE64") for file in FILES
        ]


@pytest.mark.parametrize(
    ("asked", "count", "mode"), [("auto", 1, Mode.TEMPLATE), ("auto", 3, Mode.BULK), ("template", 3, Mode.TEMPLATE)]
)
async def test_a_template_that_ses_has(gateway: Gateway, ses: Simulator, asked: Any, count: int, mode: Mode) -> None:
    async with gateway._session.client("sesv2") as client:
        await client.create_email_template(
            TemplateName="welcome", TemplateContent={"Subject": "Hi {{name}}", "Html": "<p>{{name}}{{#if vip}}!{{/if}}</p>"}
        )
    campaign = Campaign(sender="news", ses_template="welcome", mode=asked, data={"vip": True}, attachments=FILES[0])
    messages = await send(gateway, ses, campaign, mode, ROWS[:count])
    assert [(shown.subject, shown.html) for shown in (message.content.show() for message in messages)] == [
        (f"Hi {row['name']}", f"<p>{row['name']}!</p>") for row in ROWS[:count]
    ]


async def test_a_callers_mime_arrives_to_the_letter(gateway: Gateway, ses: Simulator) -> None:
    mime = (
        b"From: Own <own@example.com>\r\nTo: Ana <a@example.com>\r\n"
        b"X-Odd:   spaced \r\n\tout\r\nSubject: =?utf-8?q?Zo=C3=AB?=\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n"
    )
    given = mime.replace(b"\r\nSubject", b"\r\nBcc: b@example.com\r\nX-SES-MESSAGE-TAGS: a=1\r\nSubject")
    (message,) = await send(gateway, ses, Email(raw=given), Mode.RAW)
    assert isinstance(message.content, RawContent)
    assert message.content.mime == mime
    assert (message.to, message.bcc) == (("Ana <a@example.com>",), ("b@example.com",))
    assert message.content.show().text == "Grüße\r\n"


async def test_a_message_object_arrives(gateway: Gateway, ses: Simulator) -> None:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Zoë <news@example.com>", "a@example.com", "Grüße"
    made.set_content("Grüße\n", charset="iso-8859-1", cte="8bit")
    made.add_attachment("é", filename="é.txt")
    (message,) = await send(gateway, ses, Email(raw=made), Mode.RAW)
    parsed = mime_of(message)
    assert parsed["Subject"] == "Grüße"
    assert [part.get_content().splitlines() for part in parsed.iter_parts()] == [["Grüße"], ["é"]]


async def test_what_no_structured_call_says_goes_as_mime(gateway: Gateway, ses: Simulator) -> None:
    inner = b"From: x@example.com\r\nSubject: inner\r\n\r\nInner\r\n"
    email = Email(
        sender="news",
        to="Zoë <a@example.com>",
        cc="c@example.com",
        bcc="b@example.com",
        subject="Einladung für Zoë",
        html="<p>Grüße",
        text="Grüße",
        headers={f"X-{i}": f"v{i}" for i in range(20)},
        attachments=[
            Attachment(name="invite.ics", content=ICS, content_type="text/calendar; method=REQUEST"),
            Attachment(name="old.eml", content=inner),
        ],
    )
    (message,) = await send(gateway, ses, email, Mode.RAW)
    parsed = mime_of(message)
    assert (parsed["Subject"], parsed["X-19"]) == ("Einladung für Zoë", "v19")
    assert [part.get_content_type() for part in parsed.walk()] == [
        *("multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/calendar", "text/calendar"),
        *("message/rfc822", "text/plain"),
    ]
    assert message.content.mime.count(inner) == 1  # type: ignore[union-attr]


async def test_a_contact_list_goes_with_single_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimulatorConfig(max_send_rate=5000, max_24h=1_000_000, contact_lists=("customers",))
    async with simulated_ses(monkeypatch, config) as ses, Gateway() as gateway:
        campaign = Campaign(**CAMPAIGN, contact_list="customers", topic="news")
        assert len(await send(gateway, ses, campaign, Mode.SIMPLE, ROWS)) == len(ROWS)


characters = st.characters(exclude_categories=["Cs", "Cc"])
one_line = st.text(characters, min_size=1, max_size=60) | st.sampled_from(
    ["=?utf-8?q?=41?=", "a =?utf-8?b?QQ==?= b", "=?", "{{x}}"]
)
body = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
local_part = st.from_regex(r"[A-Za-z0-9!#$%&'*/=?^_`{|}~-]{1,10}(\.[a-z0-9'_-]{1,10})?(\+[a-z0-9=_-]{1,10})?", fullmatch=True)
domain = st.sampled_from(
    ["example.com", "mail.example.org", "bücher.example", "bücher.日本語.example.com", "xn--bcher-kva.example"]
)
attachments: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    name=st.text(characters, min_size=1, max_size=40).map(lambda name: f"{name}.txt"),
    content=st.binary(max_size=300),
    inline=st.booleans(),
    description=st.none() | one_line,
)


def lines(part: Any) -> list[bytes]:
    """However they end, and whether the last one does. Of bytes: a page break, to `str`, is the end of a line, too."""
    return bytes(part.get_payload(decode=True)).splitlines()


def delivered(message: Message) -> EmailMessage:
    """What the recipient's server gets of it, read by the standard library."""
    data = assemble(message, "eu-west-1")
    assert data is not None
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    return message_from_bytes(data, _class=EmailMessage, policy=policy.default)


def named(header: str) -> tuple[str, str]:
    """The library's newer parser puts a blank between the parts of a long encoded name; its older one does not."""
    name, address = parseaddr("".join(header.splitlines()))
    return str(make_header(decode_header(name))), address


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    subject=one_line,
    text=body,
    html=body,
    name=one_line.filter(str.strip),
    local=local_part,
    domain=domain,
    files=st.lists(attachments, max_size=3),
    shown=st.integers(0, 3),
)
async def test_whatever_goes_in_is_received(
    gateway: Gateway,
    ses: Simulator,
    subject: str,
    text: str,
    html: str,
    name: str,
    local: str,
    domain: str,
    files: list[dict[str, Any]],
    shown: int,
) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    given = [Attachment(**one, content_id=f"{i}@x" if i < shown else None) for i, one in enumerate(files)]
    fields: dict[str, Any] = {"sender": "news", "to": f'"{quoted}" <{local}@{domain}>', "subject": subject, "text": text}
    punycode = domain.encode("idna").decode()
    for mode in (Mode.SIMPLE, Mode.TEMPLATE, Mode.BULK, Mode.RAW):
        (message,) = await send(gateway, ses, Email(**fields, html=html, mode=mode, attachments=given), mode)
        if mode is not Mode.RAW:
            assert (message.show().subject, message.show().text, message.show().html) == (subject, text, html)
        parsed = delivered(message)
        assert parsed["Subject"] == subject
        ((_, to),) = [(key, value) for key, value in parsed.raw_items() if key == "To"]
        assert named(to) == (" ".join(name.split()), f"{local}@{punycode}")
        assert Email(raw=parsed).to == message.to, "and we read it as we wrote it"
        for kind, typed in (("plain", text), ("html", html)):
            part = parsed.get_body((kind,))
            assert part is not None
            assert lines(part) == typed.encode().splitlines()
        parts = [part for part in parsed.walk() if part.get_content_disposition()]
        assert sorted(map(described, parts)) == sorted(
            (one.name, one.content, f"<{one.content_id}>" if one.content_id else "", one.inline) for one in given
        )


def described(part: Any) -> tuple[str, bytes, str, bool]:
    """Not by `get_filename`, which takes quotes off once more."""
    disposition = part["Content-Disposition"]
    return (
        disposition.params["filename"],
        part.get_payload(decode=True),
        str(part["Content-ID"] or ""),
        disposition.content_disposition == "inline",
    )
