"""Django's mail through the ledger: `EMAIL_BACKEND = "mailer.django.EmailBackend"`.

A message is stored and queued, and workers send it. What belongs to this service and not to the message is said in
`message.mailer`, or in headers that do not go out:

    message = EmailMessage("Hello", "Dear Ana", to=["ana@example.org"])
    message.mailer = {"sender": "accounts", "tags": {"kind": "welcome"}, "idempotency_key": "signup-42"}
    EmailMessage("Hello", "Dear Ana", to=["ana@example.org"], headers={"X-Mailer-Sender": "accounts"})

Defaults for all messages are a dict of the same names in the Django setting `MAILER_DEFAULTS`, or arguments of
`get_connection`. Redis, senders and the rest are set as everywhere, by MAILER_… variables and mailer.toml.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from email import message_from_bytes
from email.message import Message
from typing import Any

try:
    from django.conf import settings
    from django.core.mail import BadHeaderError, EmailMessage, EmailMultiAlternatives
    from django.core.mail.backends.base import BaseEmailBackend
except ImportError as error:
    raise ImportError("mailer.django is for Django, which is not installed here: pip install django") from error

from .client import Mailer
from .errors import InvalidEmail, MailerError
from .message.attachment import Attachment
from .message.checks import is_reserved_header
from .message.email import Email
from .settings import Settings
from .sync import SyncMailer

BATCH = 50  # messages that are checked, and then stored, at the same time
# What `message.mailer`, MAILER_DEFAULTS and `get_connection` may say: fields of Email, and the argument of `send`.
OPTIONS = ("sender", "lane", "tags", "configuration_set", "contact_list", "topic", "send_at", "expires_at", "idempotency_key")
HEADERS = {f"x-mailer-{option.replace('_', '-')}": option for option in OPTIONS}
# Arguments for SMTP that Django gives to every backend, as send_mail(auth_user=…) does.
_OF_SMTP = frozenset(
    ("host", "port", "username", "password", "use_tls", "use_ssl", "timeout", "ssl_keyfile", "ssl_certfile", "alias")
)
# The methods by which a message is put together: where a class has its own, the message is sent as they put it together.
_MAKING = ("message", "_create_message", "_create_attachments", "_create_attachment", "_create_alternatives")
_NOT_SET = frozenset(("webmaster@localhost", "root@localhost"))  # Django's DEFAULT_FROM_EMAIL and SERVER_EMAIL

_lock = threading.Lock()
_shared: SyncMailer | None = None


def shared_mailer() -> SyncMailer:
    """One for the whole process, with one pool of connections: Django makes a backend for each `send_mail`."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = SyncMailer()
        return _shared


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]  # Django has no types
    """Queues messages. Each gets `mailer_id`, by which `SyncMailer.status` and `mailer status` find it.

    Raises MailerError where a message cannot be sent or stored, unless `fail_silently`; BadHeaderError, as Django's other
    backends do, where a header has a line break. `mailer`: a SyncMailer in place of the one that all backends share.
    """

    def __init__(self, fail_silently: bool = False, mailer: SyncMailer | None = None, **options: Any) -> None:
        super().__init__(fail_silently=fail_silently)
        given = {name: value for name, value in options.items() if name not in _OF_SMTP}
        everywhere = _options(getattr(settings, "MAILER_DEFAULTS", None), "MAILER_DEFAULTS")
        self._defaults = _joined(everywhere, _options(given, "EmailBackend"))
        self._mailer = mailer

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """How many were stored. 50 at a time: of these all are checked before one is stored."""
        messages = [message for message in email_messages or () if message.recipients()]
        return sum(self._send(messages[first : first + BATCH]) for first in range(0, len(messages), BATCH))

    def _send(self, messages: Sequence[EmailMessage]) -> int:
        try:
            mailer = self._mailer or shared_mailer()
            ready = list(self._ready(messages, mailer.settings))
            found = mailer._ask(lambda mailer: _together(mailer, [one[1:] for one in ready]))
        except MailerError:
            if not self.fail_silently:
                raise
            return 0
        for (message, _, _), id in zip(ready, found, strict=True):
            if isinstance(id, str):
                message.mailer_id = id
            elif not (self.fail_silently and isinstance(id, MailerError)):
                raise id
        return sum(isinstance(id, str) for id in found)

    def _ready(self, messages: Sequence[EmailMessage], own: Settings) -> Iterator[tuple[EmailMessage, Email, str | None]]:
        for message in messages:
            try:
                email, key = as_email(message, self._defaults, own)
            except MailerError:
                if not self.fail_silently:
                    raise
            else:
                yield message, email, key


async def _together(mailer: Mailer, ready: Sequence[tuple[Email, str | None]]) -> Sequence[str | BaseException]:
    sending = (mailer.send(email, idempotency_key=key) for email, key in ready)
    return await asyncio.gather(*sending, return_exceptions=True)


# ---- what is said beside the message -------------------------------------------------------------------------------------


def _options(given: Any, where: str) -> dict[str, Any]:
    """Raises InvalidEmail."""
    if not isinstance(given, Mapping | None):
        raise InvalidEmail(
            field=where, why=f"must be a dict, as {{'sender': 'accounts'}} is one; there may be: {', '.join(OPTIONS)}"
        )
    for name in given or ():
        if name not in OPTIONS:
            raise InvalidEmail(field=where, why=f"there is no `{name}`; there are: {', '.join(OPTIONS)}")
    return dict(given or {})


def _joined(*options: Mapping[str, Any]) -> dict[str, Any]:
    """The later ones count; tags are put together."""
    tags = {name: text for one in options for name, text in (one.get("tags") or {}).items()}
    return {**{name: value for one in options for name, value in one.items()}, **({"tags": tags} if tags else {})}


def _apart(message: EmailMessage) -> tuple[dict[str, str], dict[str, Any]]:
    """The extra headers that go out, and what those say that do not. Raises InvalidEmail."""
    headers, said = dict[str, str](), dict[str, Any]()
    for name, value in message.extra_headers.items():
        option = HEADERS.get(name.lower())
        if option is not None:
            said[option] = _tags(str(value)) if option == "tags" else str(value)
        elif name.lower().startswith("x-mailer-") and (near := get_close_matches(name.lower(), HEADERS, 1, 0.85)):
            why = f"there is no header {name} of this service; is {near[0].title()} meant?"
            raise InvalidEmail(field="EmailMessage", why=why)
        else:
            headers[name] = str(value)
    return headers, said


def _tags(text: str) -> dict[str, str]:
    """`a=1, b=2`, as in X-SES-MESSAGE-TAGS."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _check_lines(message: EmailMessage) -> None:
    """Raises BadHeaderError, which programs expect of whatever backend there is."""
    fields = {"Subject": [message.subject], "From": [message.from_email], "To": message.to, "Cc": message.cc}
    fields |= {"Bcc": message.bcc, "Reply-To": message.reply_to}
    fields |= {name: [value] for name, value in message.extra_headers.items()}
    for name, values in fields.items():
        for value in (name, *map(str, values)):
            if "\n" in value or "\r" in value:
                raise BadHeaderError(f"Header values can't contain newlines (got {value!r} for header {name!r})")


# ---- the message -----------------------------------------------------------------------------------------------------------


def as_email(message: EmailMessage, defaults: Mapping[str, Any], own: Settings) -> tuple[Email, str | None]:
    """The same as our own, and its idempotency key. Raises MailerError, BadHeaderError.

    It is made of its fields where they say all of it; else it is the MIME message that Django makes of it.
    """
    _check_lines(message)
    headers, said = _apart(message)
    said = _joined(said, _options(getattr(message, "mailer", None), "message.mailer"))
    options = _joined(defaults, said)
    key = options.pop("idempotency_key", None)
    whose = _whose(message, headers, said.get("sender"), options.get("sender"))
    profile = own.sender(whose["sender"]) if whose["sender"] else None
    fields = {
        **options,
        **whose,
        "to": [str(to) for to in message.to if to],
        "cc": [str(cc) for cc in message.cc if cc],
        "bcc": [str(bcc) for bcc in message.bcc if bcc],
    }
    if _says_all(message, headers):
        fields |= _content(message, headers)
    else:
        fields["raw"] = _mime(message, profile.from_ if profile else None)
    try:
        return Email(**fields), key
    except InvalidEmail as error:
        if fields["from_"] not in _NOT_SET:
            raise
        why = f"{error.fields['why']}; set DEFAULT_FROM_EMAIL, and SERVER_EMAIL for mail to ADMINS, in Django's settings"
        raise InvalidEmail(field=error.fields["field"], why=why) from None


def _whose(message: EmailMessage, headers: Mapping[str, str], said: str | None, default: str | None) -> dict[str, str | None]:
    """A sender that the message names, the From address that it was given, the default sender, Django's default address."""
    given = {name.lower(): value for name, value in headers.items()}.get("from", str(message.from_email))
    chosen = given not in (settings.DEFAULT_FROM_EMAIL, *_NOT_SET)
    if said is not None and chosen:
        raise InvalidEmail(field="EmailMessage", why=f"it has the sender {said!r} and the from_email {given!r}; give one of them")
    sender = said or (None if chosen else default)
    return {"sender": sender, "from_": None if sender else given}


def _says_all(message: EmailMessage, headers: Mapping[str, str]) -> bool:
    """Whether nothing is lost where the message is made of its fields."""
    plain = EmailMultiAlternatives if isinstance(message, EmailMultiAlternatives) else EmailMessage
    alternatives = getattr(message, "alternatives", [])
    return (
        all(getattr(type(message), name, None) is getattr(plain, name, None) for name in _MAKING)
        and not vars(message).keys() & set(_MAKING)
        and any(message.to)
        and not any(is_reserved_header(name) for name in headers if name.lower() != "from")
        and str(message.encoding or settings.DEFAULT_CHARSET).lower() in ("utf-8", "utf8")
        and (message.content_subtype, message.mixed_subtype) in (("plain", "mixed"), ("html", "mixed"))
        and getattr(message, "alternative_subtype", "alternative") == "alternative"
        and len(alternatives) <= (message.content_subtype == "plain")
        and all(mimetype == "text/html" and isinstance(content, str) for content, mimetype in alternatives)
        and all(_is_file(one) for one in message.attachments)
    )


def _is_file(attachment: Any) -> bool:
    """(name, content, type), and not a part that is put together already or a message of its own."""
    if not isinstance(attachment, tuple):
        return False
    name, content, mimetype = attachment
    return bool(name) and isinstance(content, str | bytes) and not str(mimetype).startswith(("message/", "multipart/"))


def _content(message: EmailMessage, headers: Mapping[str, str]) -> dict[str, Any]:
    body, alternatives = str(message.body), [content for content, _ in getattr(message, "alternatives", [])]
    html = body if message.content_subtype == "html" else alternatives[0] if alternatives else None
    return {
        "subject": str(message.subject),
        "text": None if message.content_subtype == "html" or (html and not body) else body,
        "html": html,
        "reply_to": [str(one) for one in message.reply_to],
        "headers": {name: value for name, value in headers.items() if name.lower() != "from"},
        "attachments": [_attachment(*one) for one in message.attachments],
    }


def _attachment(name: str, content: str | bytes, mimetype: str | None) -> Attachment:
    if isinstance(content, str) and mimetype and mimetype.startswith("text/") and "charset" not in mimetype:
        mimetype += "; charset=utf-8"
    return Attachment(name=name, content=content, content_type=mimetype)


def _mime(message: EmailMessage, sender_address: str | None) -> Message:
    """As Django puts it together, without what is for this service."""
    made = message.message()
    for name in HEADERS:
        del made[name]
    if sender_address is not None:
        del made["From"]
        made["From"] = sender_address
    return message_from_bytes(made.as_bytes())  # Django's own class cannot be written in 7 bits
