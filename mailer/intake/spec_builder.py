"""From what a caller said to what the ledger keeps: the content stored, the sender's profile applied, the mode checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

from ..compose import choose
from ..compose.hints import NO_NAMES, hints
from ..compose.link import BY_SES, why_no_link
from ..compose.message_builder import MessageBuilder, StoredTemplate
from ..compose.variables import own_variables
from ..data import plain
from ..errors import InvalidEmail, RenderFailed
from ..ledger import Entry, File, Guard, Literal, Route, Spec
from ..ledger.contents import digest_of
from ..message.checks import data_of, mailbox, shown
from ..message.email import Campaign, Email
from ..message.mime import header_senders
from ..message.sender import TOKEN, Sender, misfit
from ..recipients import Recipient
from ..settings import Settings
from ..templates import Compiled, Content, Pieces, Rendered, TemplateFolder
from ..templates.cost import Cost, longest, measure
from ..templates.folder import PARTS
from ..templates.names import EMAIL, GIVEN, ROW, variables
from ..times import NoTime, in_utc, read_time
from ..unsubscribe.tokens import Tokens, has_token
from .chunks import entry_of
from .fitting import links_needed
from .selection import Naming

T = TypeVar("T")

PAST = timedelta(minutes=5)  # clocks differ, and a command takes its time
AHEAD = timedelta(days=36_525)  # what is later is a mistake


COMPILED = 32  # templates, the last ones used: compiling one takes longer than all the rest of a call
MAX_KEPT = 1 << 16  # bytes of one of them, compressed
STAND_IN = "stand-in"  # signs the tokens of messages that are only made to be looked at


class SpecBuilder:
    """Each method gives a spec, and the contents that have to be stored beside it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = TemplateFolder(settings.templates_dir)

    def message(self, email: Email) -> tuple[Spec, list[bytes]]:
        """Raises UnknownSender, TemplateError (RenderFailed where `data` does not fit), ModeRefused, InvalidEmail."""
        sender, blobs = self._sender(expected(Email, email)), list[bytes]()
        more: dict[str, Any] = {"data": email.data or {}, "to": email.to, "cc": email.cc, "bcc": email.bcc}
        if email.raw is not None:
            more["raw"] = _keep(email.raw, blobs)
            # Of two places for bounces SES takes the parameter's.
            named = header_senders(email.raw)
            more["header_senders"] = tuple(one for one in named if one[0].lower() != "return-path" or not sender.feedback_address)
        elif email.subject is not None and email.data is None:
            more["literal"] = Literal(subject=email.subject, html=email.html, text=email.text)
        elif email.ses_template is None:
            more["content"] = self._content(email, blobs)
        spec = self._spec(email, sender, blobs, more)
        if why := why_no_link(spec, links_needed(spec, blobs), len(email.to) + len(email.cc) + len(email.bcc)):
            raise InvalidEmail(field="Email", why=why)
        if spec.content is not None:
            self._check_data(spec, blobs[0])
        return spec, blobs

    def _check_data(self, spec: Spec, packed: bytes) -> None:
        """Render it once, as a worker will: template and data are both here, and whoever gave them hears what is missing.

        Rendering takes a hundredth of what compiling does, and knows what no look at the source does: a variable that only some
        branch uses, `default`, a key of an object. What could take long is left to a worker, which has processes for it, and only
        its variables are looked for. Raises RenderFailed.
        """
        if not _is_cheap(spec, packed):
            self._check_names(spec, packed)
            return
        tokens = Tokens(self._settings.secret_keys or [STAND_IN])
        try:
            MessageBuilder(spec=spec, source=_compiled(packed), files=(), tokens=tokens).item(
                "", 0, Entry(1, ", ".join(spec.to)), 1
            )
        except RenderFailed as error:
            raise RenderFailed(**{**error.fields, "why": error.fields["why"].replace("this row", "its `data`")}) from None

    @staticmethod
    def _check_names(spec: Spec, packed: bytes) -> None:
        content = Content.load(packed)
        for name in sorted(variables(content).required - spec.data.keys() - GIVEN):
            raise RenderFailed(name=content.name, why=f"the template uses '{name}', which its `data` does not have")

    def campaign(self, campaign: Campaign) -> tuple[Spec, list[bytes]]:
        """Raises UnknownSender, TemplateError, ModeRefused, InvalidEmail."""
        sender, blobs = self._sender(expected(Campaign, campaign)), list[bytes]()
        more: dict[str, Any] = {"name": campaign.name, "data": campaign.data, "max_rate": campaign.max_rate}
        if campaign.ses_template is None:
            more["content"] = self._content(campaign, blobs)
        return self._spec(campaign, sender, blobs, more), blobs  # whether a link is lacking, its rows tell

    def _content(self, given: Email | Campaign, blobs: list[bytes]) -> str:
        """Check that it compiles, here and not in a worker. Raises TemplateError."""
        if given.template is not None:
            return _keep(self.template(given.template), blobs)
        assert given.subject is not None
        packed = Content.inline(subject=given.subject, html=given.html, text=given.text).dump()
        _compiled(packed)
        return _keep(packed, blobs)

    def material(self, spec: Spec, blobs: Sequence[bytes]) -> MessageBuilder:
        """What a campaign's messages are made from, without its attachments; of a template that SES has, without the template."""
        packed = next((blob for blob in blobs if spec.content and digest_of(blob) == spec.content), None)
        source = StoredTemplate(spec.ses_template or "", None) if packed is None else _compiled(packed)
        return MessageBuilder(spec=spec, source=source, files=(), tokens=Tokens(self._settings.secret_keys or [STAND_IN]))

    def naming(self, campaign: Campaign) -> Naming | None:
        """What To calls a recipient, where the campaign says it. Raises TemplateBroken."""
        if campaign.to_name is None:
            return None
        compiled = _compiled(Content.inline(subject=campaign.to_name, html=None, text="-", name="to_name").dump())
        spec = Spec(lane=campaign.lane, from_address="", content="", data=campaign.data)
        material = MessageBuilder(spec=spec, source=compiled, files=(), tokens=Tokens([STAND_IN]))

        def name(row: Recipient) -> str:
            content = material.item("", 0, entry_of(row), 1).content
            assert isinstance(content, Pieces)
            return content.subject

        return name

    def unsubscribe_url(self, to: Email | str, sender: str | None) -> str:
        """Raises UnknownSender, ConfigError, InvalidEmail."""
        name = sender if isinstance(to, str) else sender or to.sender
        addresses = (checked_mailbox(to),) if isinstance(to, str) else (*to.to, *to.cc, *to.bcc)
        if len(addresses) != 1:
            raise InvalidEmail(field="unsubscribe_url", why=f"the link is one recipient's, and this message has {len(addresses)}")
        unsubscribe = self._settings.sender(name).list_unsubscribe if name else None
        if unsubscribe is None or unsubscribe.url is None:
            why = f"sender {name} has no list_unsubscribe with a `url`" if name else "give the name of a sender profile"
            raise InvalidEmail(field="unsubscribe_url", why=why)
        return unsubscribe.url.replace(TOKEN, Tokens(self._settings.secret_keys).make(addresses[0], name or ""))

    def hints(self, given: Email | Campaign, spec: Spec, blobs: Sequence[bytes], entries: Sequence[Entry]) -> list[str]:
        """What a reader would see wrongly: of a message, or of a campaign's first rows."""
        packed = next((blob for blob in blobs if spec.content and digest_of(blob) == spec.content), None)
        source = spec.literal if packed is None else _compiled(packed)
        found = []
        if given.template is not None and (unused := self._folder.unused(given.template)):
            why = "AMP is not supported" if any(".amp." in name for name in unused) else "its parts are " + ", ".join(PARTS)
            found.append(f"{', '.join(unused)} of template {given.template} is not sent: {why}")
        if source is None:  # SES has the template, or the message is the caller's own
            return found
        if isinstance(given, Email):
            entries = [Entry(1, ", ".join(spec.to))]
        material = MessageBuilder(spec=spec, source=source, files=(), tokens=Tokens(self._settings.secret_keys or [STAND_IN]))
        return [*found, *hints(material, entries, NO_NAMES if packed is None else variables(Content.load(packed)))]

    def preview(self, template: str, data: Mapping[str, Any]) -> Rendered:
        """Raises TemplateError, InvalidEmail."""
        try:
            given = data_of(dict(data))
        except (TypeError, ValueError) as error:
            raise InvalidEmail(field="data", why=f"must be a mapping that can be written as JSON: {error}") from None
        return _compiled(self.template(template)).render(given)

    def template(self, name: str) -> bytes:
        """A template of the folder, packed. Raises TemplateError, InvalidEmail."""
        if not isinstance(name, str):
            raise InvalidEmail(field="template", why=f"must be a text, not {type(name).__name__}")
        packed = self._folder.read(name).dump()
        _compiled(packed)
        return packed

    def _spec(self, given: Email | Campaign, sender: Sender, blobs: list[bytes], more: dict[str, Any]) -> Spec:
        """What goes on every message: the message's or campaign's own word first, the sender profile's after it."""
        raw = given.raw if isinstance(given, Email) else None
        expires = given.expires_at
        if expires is not None and expires <= datetime.now(UTC):
            raise InvalidEmail(field=type(given).__name__, why="`expires_at` is in the past, so nothing would be sent")
        if given.send_at is not None:
            checked_send_at(given.send_at)
        unsubscribe = sender.list_unsubscribe
        link_url = BY_SES if given.contact_list is not None else unsubscribe.url if unsubscribe else None
        # SES writes these headers itself for a contact list; and the message's own word comes before its sender's.
        if given.contact_list is not None or _names_header(given.headers, raw, "list-unsubscribe"):
            unsubscribe = None
        spec = Spec(
            lane=given.lane,
            from_address=sender.from_,
            mode=given.mode,
            # A whole message says itself where answers go.
            reply_to=given.reply_to or (() if _names_header({}, raw, "reply-to") else sender.reply_to),
            feedback_address=sender.feedback_address,
            identity_arn=sender.identity_arn,
            feedback_identity_arn=sender.feedback_identity_arn,
            configuration_set=given.configuration_set or sender.configuration_set,
            tenant=sender.tenant,
            tags={**sender.tags, **given.tags},
            headers=given.headers,
            ses_template=given.ses_template,
            files=tuple(
                File(
                    name=file.name,
                    content_type=file.content_type,
                    content_id=file.content_id,
                    description=file.description,
                    inline=file.inline,
                    digest=_keep(file.content, blobs),
                    size=len(file.content),
                )
                for file in given.attachments
            ),
            contact_list=given.contact_list,
            topic=given.topic,
            unsubscribe_url=unsubscribe.url if unsubscribe else None,
            unsubscribe_mailto=unsubscribe.mailto if unsubscribe else None,
            link_url=link_url,
            stream=given.sender or "",
            route=Route.of(sender),
            expires_ms=None if expires is None else int(expires.timestamp() * 1000),
            **more,
        )
        choose(spec)
        return spec

    def _sender(self, given: Email | Campaign) -> Sender:
        if given.sender is None:
            assert given.from_ is not None
            return Sender(from_=given.from_)
        sender = self._settings.sender(given.sender)
        region = sender.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        for arn, address in ((sender.identity_arn, sender.from_), (sender.feedback_identity_arn, sender.feedback_address)):
            if arn and address and (why := misfit(arn, address, region)):
                raise InvalidEmail(field=f"sender {given.sender}", why=why)
        return sender


def checked_mailbox(text: str) -> str:
    """Raises InvalidEmail."""
    try:
        return mailbox(text)
    except ValueError as error:
        raise InvalidEmail(field=repr(text[:60]), why=str(error)) from None


def _compiled(packed: bytes) -> Compiled:
    """Raises TemplateBroken."""
    return _kept(packed) if len(packed) <= MAX_KEPT else Compiled(Content.load(packed))


def _is_cheap(spec: Spec, packed: bytes) -> bool:
    cost = _cost(packed) if len(packed) <= MAX_KEPT else None
    return cost is not None and len(plain(spec.data)) <= cost.room(longest(spec.data) if cost.has_loops else 0)


@lru_cache(COMPILED)
def _cost(packed: bytes) -> Cost | None:
    return measure(Content.load(packed))


@lru_cache(COMPILED)
def _kept(packed: bytes) -> Compiled:
    return Compiled(Content.load(packed))


_OF_BOTH = (
    *(
        "from_",
        "sender",
        "subject",
        "html",
        "text",
        "template",
        "ses_template",
        "mode",
        "attachments",
        "reply_to",
        "headers",
        "tags",
    ),
    *("configuration_set", "contact_list", "topic"),
)


def as_test(campaign: Campaign, entry: Entry, to: str) -> Email:
    """The campaign's message for this row, to another address. Raises InvalidEmail."""
    fields: dict[str, Any] = {name: getattr(campaign, name) for name in _OF_BOTH}
    data = {EMAIL: entry.to, ROW: entry.data, **campaign.data, **own_variables(entry)}
    return Email(**fields, to=to, data=data)


def expected(kind: type[T], given: T) -> T:
    """Raises InvalidEmail where a program hands over something else."""
    if not isinstance(given, kind):
        raise InvalidEmail(field=kind.__name__, why=f"give an object of this class, not one of {type(given).__name__}")
    return given


def guard_of(campaign: Campaign) -> Guard:
    return Guard(
        max_bounce_rate=campaign.max_bounce_rate, max_complaint_rate=campaign.max_complaint_rate, after=campaign.guard_after
    )


def checked_send_at(given: datetime | str) -> datetime:
    """Raises InvalidEmail. It is for the first call: one that repeats it with the same idempotency key is found before this."""
    if not isinstance(given, str | datetime):
        raise InvalidEmail(field="send_at", why=f"{shown(given)} is not a time")
    try:
        moment = read_time(given) if isinstance(given, str) else in_utc(given)
    except NoTime as error:
        raise InvalidEmail(field="send_at", why=str(error)) from None
    now = datetime.now(UTC)
    if moment < now - PAST:
        raise InvalidEmail(field="send_at", why=f"{moment.isoformat()} is over; give a time that is still to come")
    if moment > now + AHEAD:
        raise InvalidEmail(field="send_at", why=f"{moment.isoformat()} is more than 100 years ahead; give an earlier time")
    return moment


def _keep(content: bytes, blobs: list[bytes]) -> str:
    blobs.append(content)
    return digest_of(content)


def _names_header(headers: Mapping[str, str], mime: bytes | None, name: str) -> bool:
    head = (mime or b"").partition(b"\r\n\r\n")[0]
    there = re.search(rb"^" + name.encode() + rb"[ \t]*:", head, re.MULTILINE | re.IGNORECASE)
    return there is not None or name in map(str.lower, headers)


def advice(given: Email | Campaign, spec: Spec) -> Sequence[str]:
    """What is allowed, and still likely to be a mistake. `spec` is what was prepared of `given`."""
    found = []
    raw = given.raw if isinstance(given, Email) else None
    own = _names_header(given.headers, raw, "list-unsubscribe")
    ways = (spec.unsubscribe_url, spec.unsubscribe_mailto)
    recipients = len(spec.to) + len(spec.cc) + len(spec.bcc)
    if recipients > 1 and any(has_token(way) for way in ways):
        found.append(
            f"this message goes to {recipients} recipients, and an unsubscribe token is one recipient's, so no "
            "unsubscribe address with a token goes on it; send each of them a message of their own"
        )
    elif spec.lane == "bulk" and not (own or spec.contact_list or any(ways)):
        found.append(
            "these messages carry no List-Unsubscribe header, which Gmail and Yahoo ask of bulk mail; "
            "set list_unsubscribe in the sender profile, or contact_list"
        )
    return found
