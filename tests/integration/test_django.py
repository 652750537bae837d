"""Django's mail, as Django's own functions send it, through ledger, worker and the simulated SES."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage as PythonMessage
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core import mail
from django.core.mail import BadHeaderError, EmailMessage, EmailMultiAlternatives, send_mail, send_mass_mail
from django.test import override_settings
from django.utils.translation import gettext_lazy

import mailer.django as backend
from mailer import InvalidEmail, KeyReused, MailerError, RedisUnavailable, Settings, SyncMailer, UnknownSender
from mailer.message.sender import Sender
from mailer.simulator import Message, Simulator
from mailer.simulator.journal import RawContent
from mailer.simulator.mime import assemble
from worker.runtime import Runtime

from ..servers import RedisServer

if not django_settings.configured:
    django_settings.configure(
        EMAIL_BACKEND="mailer.django.EmailBackend",
        DEFAULT_FROM_EMAIL="Shop <shop@example.com>",
        SERVER_EMAIL="server@example.com",
        ADMINS=[("Ada", "ada@example.org")],
        USE_TZ=True,
    )
    django.setup()

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
SENDERS = {
    "accounts": Sender(from_="Accounts <accounts@example.com>", tags={"stream": "accounts"}, reply_to="help@example.com"),
    "news": Sender(from_="News <news@example.com>"),
}


@pytest.fixture
def settings(server: RedisServer, namespace: str, templates: Path) -> Settings:
    return Settings(redis_url=server.url, namespace=namespace, templates_dir=templates, account_refresh_s=1, senders=SENDERS)


@pytest.fixture(autouse=True)
def shared(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncMailer]:
    """What all backends share, as it would be with these settings in the environment."""
    with SyncMailer(settings) as mailer:
        monkeypatch.setattr(backend, "_shared", mailer)
        yield mailer


Post = Callable[..., Any]


@pytest.fixture
async def got(runtime: Runtime, ses: Simulator) -> Post:
    """Send in a thread, as a view does; the messages that SES got, in the order of their subjects."""

    async def post(send: Callable[[], int]) -> list[Message]:
        before = len(ses.log)
        count = await asyncio.to_thread(send)
        async with asyncio.timeout(20):
            while len(ses.log) < before + count:
                await asyncio.sleep(0.02)
        return sorted(list(ses.mailroom)[: len(ses.log) - before], key=lambda message: message.content.show().subject)

    return post


def whole(message: Message) -> PythonMessage:
    """As the recipient's server gets it."""
    if isinstance(message.content, RawContent):
        return message_from_bytes(message.content.mime, _class=PythonMessage, policy=policy.default)
    mime = assemble(message, "eu-west-1")
    assert mime is not None
    return message_from_bytes(mime, _class=PythonMessage, policy=policy.default)


# ---- what arrives ----------------------------------------------------------------------------------------------------


async def test_send_mail_arrives_as_text_and_html_and_is_counted(got: Post, ses: Simulator) -> None:
    (message,) = await got(
        lambda: send_mail("Grüße", "Liebe Ana", None, ["Ana Größe <ana@example.org>"], html_message="<p>Liebe Ana</p>")
    )
    shown = message.content.show()
    assert (shown.subject, shown.text, shown.html) == ("Grüße", "Liebe Ana", "<p>Liebe Ana</p>")
    assert message.accepted.recipients == ("=?utf-8?b?QW5hIEdyw7bDn2U=?= <ana@example.org>",)
    assert message.accepted.operation == "SendEmail"
    assert not isinstance(message.content, RawContent)


async def test_all_of_a_message_arrives(got: Post) -> None:
    email = EmailMultiAlternatives(
        gettext_lazy("Order 42"),
        "Dear Ana",
        "Bills <bills@example.com>",
        ["ana@example.org", "bo@example.org"],
        bcc=["di@example.org"],
        cc=["cy@example.org"],
        reply_to=["help@example.com", "Boss <boss@example.com>"],
        headers={"X-Order": 42, "References": "<a@b>"},
        attachments=[("bill.pdf", b"%PDF", "application/pdf"), ("terms.txt", "Größe", None)],
    )
    email.attach_alternative("<p>Dear Ana</p>", "text/html")
    (message,) = await got(email.send)
    found = whole(message)
    assert (found["From"], found["Subject"]) == ("Bills <bills@example.com>", "Order 42")
    assert (found["To"], found["Cc"]) == ("ana@example.org, bo@example.org", "cy@example.org")
    assert found["Reply-To"] == "help@example.com, Boss <boss@example.com>"
    assert (found["X-Order"], found["References"]) == ("42", "<a@b>")
    assert sorted(message.accepted.recipients) == [f"{name}@example.org" for name in ("ana", "bo", "cy", "di")]
    files = {part.get_filename(): part.get_content() for part in found.iter_attachments()}
    assert files == {"bill.pdf": b"%PDF", "terms.txt": "Größe"}
    assert not isinstance(message.content, RawContent)


async def test_what_no_structured_call_says_goes_as_django_puts_it_together(got: Post) -> None:
    email = EmailMultiAlternatives("Logo", "Grüße", None, ["ana@example.org"], headers={"X-Mailer-Tags": "kind=logo"})
    email.mixed_subtype = "related"
    email.attach_alternative('<img src="cid:logo">', "text/html")
    image = MIMEImage(PNG, "png")
    image.add_header("Content-ID", "<logo>")
    image.add_header("Content-Disposition", "inline", filename="logo.png")
    email.attach(image)
    (message,) = await got(email.send)
    assert isinstance(message.content, RawContent)
    found = whole(message)
    assert found.get_content_type() == "multipart/related"
    (logo,) = [part for part in found.walk() if part["Content-ID"] == "<logo>"]
    assert logo.get_content() == PNG
    assert message.accepted.tags["kind"] == "logo"
    assert "X-Mailer" not in message.content.mime.decode()
    assert "Grüße" in [part.get_content().strip() for part in found.walk() if part.get_content_type() == "text/plain"]


class Signed(EmailMessage):  # type: ignore[misc]
    """As packages that sign or encrypt do it."""

    def message(self, *args: Any, **more: Any) -> Any:
        made = super().message(*args, **more)
        made["X-Signed"] = "yes"
        return made


def nested() -> EmailMessage:
    return EmailMessage("s", "b", None, ["ana@example.org"], attachments=[(None, EmailMessage("in", "ner"), "message/rfc822")])


def with_alternative(kind: str) -> EmailMessage:
    email = EmailMultiAlternatives("s", "b", None, ["ana@example.org"])
    email.attach_alternative("BEGIN:VCALENDAR", kind)
    return email


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (lambda: Signed("s", "b", None, ["ana@example.org"]), lambda found: found["X-Signed"] == "yes"),
        (lambda: EmailMessage("s", "b", None, bcc=["ana@example.org"]), lambda found: found["To"] is None),
        (
            lambda: EmailMessage("s", "b", None, ["ana@example.org"], headers={"To": "all:;"}),
            lambda found: str(found["To"]).startswith("all:"),
        ),
        (nested, lambda found: "Subject: in" in found.as_string()),
        (lambda: with_alternative("text/calendar"), lambda found: "text/calendar" in found.as_string()),
        (
            lambda: EmailMessage("s", "b", None, ["ana@example.org"], attachments=[MIMEText("a part", "plain", "us-ascii")]),
            lambda found: "a part" in found.as_string(),
        ),
    ],
)
async def test_unusual_messages_arrive_whole_and_at_the_right_people(
    got: Post, make: Callable[[], EmailMessage], check: Callable[[PythonMessage], bool]
) -> None:
    (message,) = await got(make().send)
    assert isinstance(message.content, RawContent)
    assert check(whole(message))
    assert message.accepted.recipients == ("ana@example.org",)


async def test_an_html_body_is_no_text(got: Post) -> None:
    email = EmailMessage("s", "<p>Hi</p>", None, ["ana@example.org"])
    email.content_subtype = "html"
    (message,) = await got(email.send)
    assert message.content.show().html == "<p>Hi</p>"
    assert not isinstance(message.content, RawContent)


# ---- sender, lane, tags, key -----------------------------------------------------------------------------------------


def one(**more: Any) -> EmailMessage:
    return EmailMessage("s", "b", **{"to": ["ana@example.org"], **more})


def with_options(email: EmailMessage, **options: Any) -> EmailMessage:
    email.mailer = options
    return email


@pytest.mark.parametrize("way", ["attribute", "headers", "connection", "setting"])
async def test_sender_and_tags_are_said_in_four_ways(got: Post, way: str) -> None:
    options = {"sender": "accounts", "tags": {"kind": "welcome"}}
    headers = {"X-Mailer-Sender": "accounts", "x-mailer-tags": "kind=welcome"}
    with override_settings(MAILER_DEFAULTS=options if way == "setting" else {}):
        connection = mail.get_connection(**options) if way == "connection" else None
        email = one(headers=headers if way == "headers" else None, connection=connection)
        (message,) = await got((with_options(email, **options) if way == "attribute" else email).send)
    found = whole(message)
    assert (found["From"], found["Reply-To"]) == ("Accounts <accounts@example.com>", "help@example.com")
    assert {"stream": "accounts", "kind": "welcome"}.items() <= message.accepted.tags.items()
    assert not [name for name in found if name.lower().startswith("x-mailer")]


async def test_what_is_nearer_to_the_message_counts(got: Post) -> None:
    with override_settings(MAILER_DEFAULTS={"sender": "news", "tags": {"a": "1", "b": "1"}}):
        (by_default,) = await got(one().send)
        assert whole(by_default)["From"] == "News <news@example.com>"
        (given,) = await got(one(from_email="own@example.com").send)
        assert whole(given)["From"] == "own@example.com"
        said = with_options(one(headers={"X-Mailer-Sender": "news"}), sender="accounts", tags={"b": "2"})
        (message,) = await got(said.send)
        assert whole(message)["From"] == "Accounts <accounts@example.com>"
        assert {"a": "1", "b": "2"}.items() <= message.accepted.tags.items()
    raw = with_options(one(attachments=[MIMEText("x")]), sender="accounts")
    (message,) = await got(raw.send)
    assert isinstance(message.content, RawContent)
    assert whole(message)["From"] == "Accounts <accounts@example.com>"


def test_a_key_stores_a_message_once_and_the_id_is_told(shared: SyncMailer) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    headers = {"X-Mailer-Idempotency-Key": "signup-42", "X-Mailer-Send-At": later, "X-Mailer-Lane": "bulk"}
    first, second = one(headers=headers), one(headers=headers)
    assert (first.send(), second.send()) == (1, 1)
    assert first.mailer_id == second.mailer_id
    status = shared.status(first.mailer_id)
    assert (status.state, status.reason.startswith("to be sent at ")) == ("queued", True)
    with pytest.raises(KeyReused):
        one(headers={**headers, "X-Order": "43"}).send()
    # What Django makes anew each time it puts a message together, its Date and Message-ID, does not make another one of it.
    raw = [with_options(one(attachments=[MIMEText("x")]), idempotency_key="raw") for _ in range(2)]
    assert [email.send() for email in raw] == [1, 1]
    assert raw[0].mailer_id == raw[1].mailer_id


# ---- many, and at the same time --------------------------------------------------------------------------------------


async def test_many_messages_go_together_and_are_counted(got: Post, ses: Simulator) -> None:
    many = [(f"s{number:03}", "b", None, [f"u{number}@example.org"]) for number in range(120)]
    found = await got(lambda: send_mass_mail([*many, ("nobody", "b", None, [])]))
    assert [message.content.show().subject for message in found] == [subject for subject, *_ in many]


async def test_threads_and_asgi_share_one_connection_pool(got: Post, ses: Simulator, shared: SyncMailer) -> None:
    before = [thread for thread in threading.enumerate() if thread.name == "mailer"]

    def views() -> int:
        with ThreadPoolExecutor(8) as pool:
            return sum(pool.map(lambda number: send_mail(f"s{number}", "b", None, ["ana@example.org"]), range(40)))

    assert len(await got(views)) == 40
    assert send_mail("in the loop", "b", None, ["ana@example.org"]) == 1  # a sync call in an async view
    assert await sync_to_async(send_mail)("beside it", "b", None, ["ana@example.org"]) == 1
    assert [thread for thread in threading.enumerate() if thread.name == "mailer"] == before


async def test_mail_to_admins_arrives(got: Post) -> None:
    def to_admins() -> int:
        mail.mail_admins("Disk full", "It is")
        return 1

    (message,) = await got(to_admins)
    assert whole(message)["From"] == "server@example.com"
    assert message.accepted.recipients == ("ada@example.org",)


# ---- what is wrong ---------------------------------------------------------------------------------------------------

SETTINGS = "; set DEFAULT_FROM_EMAIL, and SERVER_EMAIL for mail to ADMINS, in Django's settings"
NO_HEADER = "there is no header X-Mailer-Sendr of this service; is X-Mailer-Sender meant?"
BOTH = "EmailMessage: it has the sender 'news' and the from_email 'own@example.com'; give one of them"
MANY = [f"u{number}@example.org" for number in range(51)]
BAD: list[tuple[Callable[[], EmailMessage], type[MailerError], str]] = [
    (lambda: one(to=["nobody"]), InvalidEmail, "Email: `to` 'nobody': an email address must have an @-sign"),
    (lambda: one(to=MANY), InvalidEmail, "51 recipients; SES takes 50 a message"),
    (lambda: one(from_email="webmaster@localhost"), InvalidEmail, SETTINGS),
    (lambda: one(headers={"X-Mailer-Sendr": "x"}), InvalidEmail, NO_HEADER),
    (lambda: one(headers={"X-Mailer-Send-At": "tomorrow"}), InvalidEmail, "Email: `send_at` "),
    (lambda: one(attachments=[("virus.exe", b"MZ", None)]), InvalidEmail, "SES refuses .exe files"),
    (
        lambda: with_options(one(), sendr="x"),
        InvalidEmail,
        "message.mailer: there is no `sendr`; there are: sender, lane, tags, ",
    ),
    (lambda: with_options(one(), sender="none"), UnknownSender, "There is no sender 'none'; there are: accounts, news."),
    (lambda: with_options(one(), lane="fast"), InvalidEmail, "Email: `lane` input should be 'transactional' or 'bulk'"),
    (lambda: with_options(one(from_email="own@example.com"), sender="news"), InvalidEmail, BOTH),
]


@pytest.mark.parametrize(("make", "kind", "text"), BAD)
def test_what_cannot_be_sent_is_one_sentence_and_silence_is_kept(
    shared: SyncMailer, make: Callable[[], EmailMessage], kind: type[MailerError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        make().send()
    assert text in str(caught.value)
    assert make().send(fail_silently=True) == 0
    # The others of its batch are stored where it is to be silent, and none of them where it is not.
    silent = mail.get_connection(fail_silently=True)
    good = one()
    assert silent.send_messages([make(), good]) == 1
    assert shared.status(good.mailer_id).state == "queued"
    other = one()
    with pytest.raises(kind):
        mail.get_connection().send_messages([other, make()])
    assert not hasattr(other, "mailer_id")


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(
    "more",
    [{"headers": {"X-A": "a\nBcc: eve@example.org"}}, {"to": ["ana@example.org\r\n"]}, {"from_email": "a@example.com\nX: y"}],
)
def test_a_line_break_in_a_header_is_django_s_own_error(more: dict[str, Any], silent: bool) -> None:
    with pytest.raises(BadHeaderError, match="Header values can't contain newlines"):
        one(**more).send(fail_silently=silent)


def test_redis_away_is_an_error_that_says_that_nothing_was_stored_or_silence(unused_tcp_port: int) -> None:
    with closing(SyncMailer(Settings(redis_url=f"redis://127.0.0.1:{unused_tcp_port}/0"))) as away:
        with pytest.raises(RedisUnavailable, match="Nothing was stored"):
            mail.get_connection(mailer=away).send_messages([one()])
        assert mail.get_connection(mailer=away, fail_silently=True).send_messages([one(), one()]) == 0


def test_defaults_that_are_wrong_are_told_when_the_backend_is_made() -> None:
    with (
        override_settings(MAILER_DEFAULTS={"sendr": "x"}),
        pytest.raises(InvalidEmail, match="MAILER_DEFAULTS: there is no `sendr`"),
    ):
        mail.get_connection()
    with override_settings(MAILER_DEFAULTS="news"), pytest.raises(InvalidEmail, match="MAILER_DEFAULTS: must be a dict"):
        mail.get_connection()
    with pytest.raises(InvalidEmail, match="EmailBackend: there is no `colour`"):
        mail.get_connection(colour="red")
    assert mail.get_connection(username="u", password="p", host="h", port=25, use_tls=True).send_messages([]) == 0


def test_without_django_the_import_says_so() -> None:
    def python(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    ran = python("import sys; sys.modules['django'] = None\nimport mailer.django")
    said = "ImportError: mailer.django is for Django, which is not installed here: pip install django"
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, said)
    assert python("import sys, mailer; assert 'django' not in sys.modules").returncode == 0
