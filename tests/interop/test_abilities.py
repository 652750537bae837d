"""What each server can do, by the smallest request for it, written by hand: the declarations of `servers` are true."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email import policy
from email.message import EmailMessage
from typing import Any, NamedTuple

import pytest

from mailer.ses.gateway import Gateway

from .messages import MIME
from .sending import ByHand, can, compare, deliver, losses, refused, way
from .servers import SERVERS, Ability, Attachment, Mailbox, Message, Server

WITH_REPLY_TO = f"Reply-To: r@example.org\n{MIME}"
DATA = '{"name":"Zoë"}'
SUBJECT, TEXT, HTML = "Grüße, {{name}}", "{{name}}\n", "<p>{{name}}</p>\n"
INLINE = {"TemplateContent": {"Subject": SUBJECT, "Text": TEXT, "Html": HTML}, "TemplateData": DATA}
STORED = {"TemplateName": "greeting", "TemplateData": DATA}
BESIDE = {
    "Headers": [{"Name": "X-Mailing", "Value": "june"}],
    "Attachments": [{"FileName": "a.txt", "RawContent": base64.b64encode(b"hi").decode(), "ContentType": "text/plain"}],
}
TO = {"ToAddresses": ["a@example.org"], "CcAddresses": ["c@example.org"], "BccAddresses": ["b@example.org"]}
FROM = {"FromEmailAddress": "news@example.com", "ReplyToAddresses": ["r@example.org"]}

ARRIVES = Message(
    sender=Mailbox("", "news@example.com"),
    to=(Mailbox("", "a@example.org"),),
    cc=(Mailbox("", "c@example.org"),),
    bcc=(Mailbox("", "b@example.org"),),
    reply_to=(Mailbox("", "r@example.org"),),
    subject="Grüße, Zoë",
    text="Zoë\n",
    html="<p>Zoë</p>\n",
    headers={"X-Mailing": "june"},
    tags={"stream": "news"},
    attachments=(Attachment("a.txt", "text/plain", b"hi"),),
)


class Smallest(NamedTuple):
    request: ByHand
    arrives: Sequence[Message]


def single(content: Mapping[str, Any], message: Message = ARRIVES) -> Smallest:
    tags = [{"Name": "stream", "Value": "news"}]
    return Smallest(ByHand("SendEmail", {**FROM, "Destination": TO, "Content": content, "EmailTags": tags}), [message])


def bulk(template: Mapping[str, Any], destination: Mapping[str, Any] = TO, message: Message = ARRIVES) -> Smallest:
    """Two entries, of which the first takes what the call has in common, and the second has its own."""
    tags = [{"Name": "stream", "Value": "news"}]
    entries = [
        {"Destination": destination, "ReplacementTags": tags},
        {
            "Destination": destination,
            "ReplacementTags": tags,
            "ReplacementHeaders": [{"Name": "X-Mailing", "Value": "july"}, {"Name": "X-New", "Value": "1"}],
            "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": '{"name":"{{name}}"}'}},
        },
    ]
    own = replace(
        message,
        subject="Grüße, {{name}}",
        text="{{name}}\n",
        html="<p>{{name}}</p>\n",
        headers={"X-Mailing": "july", "X-New": "1"},
    )
    params = {**FROM, "DefaultContent": {"Template": {**template, **BESIDE}}, "BulkEmailEntries": entries}
    return Smallest(ByHand("SendBulkEmail", params), [message, own])


def image() -> Smallest:
    mime = EmailMessage(policy=policy.SMTP)
    for name, value in {"From": "news@example.com", "To": "a@example.org", "Subject": "x"}.items():
        mime[name] = value
    mime.set_content('<img src="cid:logo@x">', subtype="html")
    mime.add_related(b"png", "image", "png", filename="logo.png", cid="<logo@x>")
    message = Message(
        sender=ARRIVES.sender,
        to=ARRIVES.to,
        subject="x",
        html='<img src="cid:logo@x">\n',
        attachments=(Attachment("logo.png", "image/png", b"png", "logo@x"),),
    )
    params = {"FromEmailAddress": "news@example.com", "Destination": {"ToAddresses": ["a@example.org"]}}
    raw = {"Raw": {"Data": base64.b64encode(mime.as_bytes()).decode()}}
    return Smallest(ByHand("SendEmail", {**params, "Content": raw}), [message])


SIMPLE = {"Subject": {"Data": ARRIVES.subject}, "Body": {"Text": {"Data": ARRIVES.text}, "Html": {"Data": ARRIVES.html}}}
SMALLEST: Mapping[Ability, Smallest] = {
    Ability.SIMPLE: single({"Simple": {**SIMPLE, **BESIDE}}),
    Ability.RAW: single(
        {"Raw": {"Data": base64.b64encode(WITH_REPLY_TO.replace("\n", "\r\n").encode()).decode()}},
        replace(ARRIVES, subject="Grüße"),
    ),
    Ability.STORED: single({"Template": {**STORED, **BESIDE}}),
    Ability.INLINE: single({"Template": {**INLINE, **BESIDE}}),
    Ability.BULK_STORED: bulk(STORED),
    Ability.BULK_INLINE: bulk(INLINE),
    Ability.BULK_TO_NAMES: bulk(
        INLINE, {"ToAddresses": ["Ana <a@example.org>"]}, replace(ARRIVES, to=(Mailbox("Ana", "a@example.org"),), cc=(), bcc=())
    ),
    Ability.RAW_IMAGES: image(),
}


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("ability", Ability)
async def test_a_server_does_what_it_is_said_to_and_nothing_more(server: Server, gateway: Gateway, ability: Ability) -> None:
    request, arrives = SMALLEST[ability]
    server.store_template("greeting", subject=SUBJECT, text=TEXT, html=HTML)
    if not can(type(server), [ability]):
        await refused(server, gateway, [request], [ability])
        return
    for held, message in zip(await deliver(server, gateway, [request]), arrives, strict=True):
        compare(held, message, losses(type(server), [way(request), ability]))


@pytest.mark.parametrize("kind", SERVERS.values(), ids=SERVERS)
def test_every_way_is_declared_as_lossy_or_as_refused_and_with_a_reason(kind: type[Server]) -> None:
    ways = set(Ability) - {Ability.BULK_TO_NAMES, Ability.RAW_IMAGES}
    assert kind.loses.keys() >= ways - kind.cannot.keys()
    assert not kind.loses.keys() & kind.cannot.keys()
    assert all(cannot.why for cannot in kind.cannot.values())
