"""What a message or campaign would become: the SES call, a reason for each choice, and the limits that it comes close to.

Everything is worked out from what was given: neither Redis nor SES is asked, so what only they know (the account's rate,
the variables of a template that is stored in SES) is named as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidEmail, RenderFailed
from ..ledger import Entry, Literal, Route, Spec
from ..ledger.contents import digest_of
from ..masking import masked
from ..message.email import Campaign, Email, Mode
from ..templates import Compiled, Content
from ..templates.names import Names, variables
from ..unsubscribe.tokens import Tokens, has_token
from .hints import NO_NAMES, hints
from .limits import MAX_ENTRIES
from .message_builder import MessageBuilder, StoredTemplate
from .nearness import Near, near_limits
from .plan import Choice, Planned, choose, plan
from .request import Item, Loaded, Mime, Operation

ROWS = 50  # of a campaign that are looked at: as many as one call can carry
SHOWN_ROWS = 3  # rows that would fail, in the reasons
_ID = "0" * 18  # stands for the part of an id that is made when something is sent
_STAND_IN = "stand-in"  # signs the tokens that are shown where there is no key
_UNSUBSCRIBE = re.compile(rb"^list-unsubscribe[ \t]*:", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`request` is the first call, as SES would get it; `reasons` has a sentence for each choice that was made."""

    operation: Operation
    mode: Mode
    reasons: tuple[str, ...]
    near: tuple[Near, ...]  # limits that are closer than 10 %
    hints: tuple[str, ...]  # what a reader would see wrongly
    request: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        return {
            "operation": self.operation.value,
            "mode": self.mode.value,
            "reasons": self.reasons,
            "near": [near._asdict() for near in self.near],
            "hints": self.hints,
            "request": self.request,
        }


def explain(
    given: Email | Campaign,
    spec: Spec,
    contents: Sequence[bytes],
    entries: Sequence[Entry],
    *,
    keys: list[str],
    unusable: Sequence[str] = (),
) -> Explanation:
    """`spec` and `contents` are what was prepared of `given`; `unusable` are the reasons of rows that were left out.

    Raises RenderFailed where no row fits the template, InvalidEmail where no call can carry the message.
    """
    by_digest = {digest_of(content): content for content in contents}
    files = [Loaded(file, by_digest[file.digest]) for file in spec.files]
    material = MessageBuilder(spec=spec, source=_source(spec, by_digest), files=tuple(files), tokens=Tokens(keys or [_STAND_IN]))
    items, failed = _items(given, material, entries)
    if failed and not items:
        raise failed[0][1]
    planned = plan(spec, items, files)
    if not planned.calls:
        raise InvalidEmail(field=type(given).__name__, why=planned.refused[0][1])
    first = planned.calls[0]
    why = _Reasons(given, spec, choose(spec), planned, by_digest.get(spec.raw or "", b""), bool(keys))
    lost = [f"row {row}: {error}" for row, error in failed]
    lost += [f"row {entries[item.position].row}: {reason}" for item, reason in planned.refused]
    return Explanation(
        operation=first.operation,
        mode=first.mode,
        reasons=(*why.sentences(), *_left_out(unusable, "cannot be used"), *_left_out(lost, "would fail")),
        near=near_limits(spec, planned.calls, files),
        hints=tuple(hints(material, entries, _names(spec, by_digest))),
        request=first.params,
    )


# ---- the messages ----------------------------------------------------------------------------------------------------


def _items(
    given: Email | Campaign, material: MessageBuilder, entries: Sequence[Entry]
) -> tuple[list[Item], list[tuple[int, RenderFailed]]]:
    """The messages as a worker would make them, and the rows that fail."""
    chunk = f"{'m' if isinstance(given, Email) else 'c'}{_ID}-0"
    items: list[Item] = []
    failed: list[tuple[int, RenderFailed]] = []
    for position, entry in enumerate(entries):
        try:
            items.append(material.item(chunk, position, entry, 1))
        except RenderFailed as error:
            failed.append((entry.row, error))
    return items, failed


def _source(spec: Spec, contents: Mapping[str, bytes]) -> Compiled | Literal | StoredTemplate | Mime:
    if spec.literal is not None:
        return spec.literal
    if spec.ses_template is not None:
        return StoredTemplate(spec.ses_template, None)
    if spec.raw is not None:
        return Mime(contents[spec.raw])
    return Compiled(Content.load(contents[spec.content or ""]))


def _names(spec: Spec, contents: Mapping[str, bytes]) -> Names:
    return variables(Content.load(contents[spec.content])) if spec.content else NO_NAMES


# ---- the reasons -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reasons:
    given: Email | Campaign
    spec: Spec
    choice: Choice
    planned: Planned
    mime: bytes  # the caller's own message; empty where there is none
    has_key: bool

    def sentences(self) -> Iterator[str]:
        yield f"Mode {self.planned.calls[0].mode}: {self.choice.why}."
        yield self._calls()
        yield self._from()
        if self.spec.route != Route():
            yield self._route()
        yield self._reply_to()
        if self.spec.feedback_address:
            arn = self.spec.feedback_identity_arn
            by = f", by the authorization of identity {arn}" if arn else ""
            yield f"Bounces and complaints are mailed to {self.spec.feedback_address}: of sender {self.given.sender}{by}."
        for header, address in self.spec.header_senders:
            where = ", where bounces and complaints are mailed" if header.lower() == "return-path" else ""
            yield f"Header {header} of the message names {address}{where}: SES wants it verified as From is."
        yield self._configuration_set()
        if self.spec.tenant:
            yield f"Tenant {self.spec.tenant}: of sender {self.given.sender}."
        yield self._tags()
        yield self._unsubscribe()
        if self.spec.ses_template is not None:
            yield (
                f"SES itself fills in template {self.spec.ses_template}; a worker reads it before the call, "
                "to see that no variable is missing."
            )
        yield from self._times()
        if isinstance(self.given, Campaign):
            yield from self._limits(self.given)

    @property
    def _kind(self) -> str:
        return "message" if isinstance(self.given, Email) else "campaign"

    def _origin(self, own: object) -> str:
        """Whose word it is: the message's or campaign's own comes first."""
        return f"the {self._kind}'s own" if own else f"of sender {self.given.sender}"

    def _calls(self) -> str:
        calls = self.planned.calls
        recipients = sum(call.recipients for call in calls)
        if isinstance(self.given, Email):
            return f"One {calls[0].operation} call, for {_count(recipients, 'recipient')}."
        bulk = [call for call in calls if call.operation is Operation.SEND_BULK_EMAIL]
        rows = _count(sum(len(call.items) for call in calls), "row")
        beginning = f"The first {rows} that can be sent to, {_count(recipients, 'recipient')}, take"
        if not bulk:
            return f"{beginning} {_count(len(calls), f'{calls[0].operation} call')}, one for each."
        singles = len(calls) - len(bulk)
        more = f" and {_count(singles, 'SendEmail call')}" if singles else ""
        full = _listed([len(call.items) for call in bulk])
        return (
            f"{beginning} {_count(len(bulk), 'SendBulkEmail call')} with {full} of at most {MAX_ENTRIES} entries{more}; "
            "a worker makes calls smaller where the account's rate is low."
        )

    def _from(self) -> str:
        arn = self.spec.identity_arn
        right = f"sent by the authorization of identity {arn}" if arn else "which has to be verified in the account that sends"
        return f"From {self.spec.from_address}: {self._origin(not self.given.sender)}, {right}."

    def _route(self) -> str:
        route = self.spec.route
        ways = (
            ("role", route.role_arn),
            ("external id", "given" if route.external_id else None),
            ("region", route.region),
            ("endpoint", masked(route.endpoint_url or "")),
        )
        return f"It goes through {', '.join(f'{name} {value}' for name, value in ways if value)}: of sender {self.given.sender}."

    def _reply_to(self) -> str:
        if self.spec.reply_to:
            return f"Reply-To {', '.join(self.spec.reply_to)}: {self._origin(self.given.reply_to)}."
        if self.mime:
            return "Reply-To: what the MIME message itself says."
        return "No Reply-To is named: answers go to From."

    def _configuration_set(self) -> str:
        name = self.spec.configuration_set
        if name is None:
            return "No configuration set is named: SES takes the identity's default, where it has one."
        return f"Configuration set {name}: {self._origin(self.given.configuration_set)}."

    def _tags(self) -> str:
        tags = [f"{name} ({self._origin(name in self.given.tags)})" for name in self.spec.tags]
        if any(item.tags for call in self.planned.calls for item in call.items):
            tags.append("those of the rows")
        return f"Tags: {', '.join(['mailer_id (made when it is sent, to know the message again)', *tags])}."

    def _unsubscribe(self) -> str:
        spec = self.spec
        if spec.contact_list:
            topic = f" and topic {spec.topic}" if spec.topic else ""
            return (
                f"List-Unsubscribe: SES writes it and keeps the list, because contact list {spec.contact_list}{topic} is named."
            )
        if self.mime and _UNSUBSCRIBE.search(self.mime.partition(b"\r\n\r\n")[0]):
            return "List-Unsubscribe: the header of the MIME message itself."
        if spec.unsubscribe_url or spec.unsubscribe_mailto:
            ways = [way for way, there in (("one click", spec.unsubscribe_url), ("mail", spec.unsubscribe_mailto)) if there]
            sentence = f"List-Unsubscribe by {' and by '.join(ways)}: of sender {self.given.sender}"
            if self._shared:
                return sentence + self._without_token()
            if not self.has_key and self._has_token:
                sentence += "; its token is a stand-in, because MAILER_SECRET_KEY is not set here, and a worker has to have it"
            return f"{sentence}."
        if "list-unsubscribe" in map(str.lower, spec.headers):
            return f"List-Unsubscribe: the {self._kind}'s own header, the same for every recipient."
        where = f"sender {self.given.sender} has no list_unsubscribe" if self.given.sender else "it has no sender profile"
        return f"No List-Unsubscribe: {where}, and no contact list is named."

    @property
    def _has_token(self) -> bool:
        return has_token(self.spec.unsubscribe_url) or has_token(self.spec.unsubscribe_mailto)

    @property
    def _shared(self) -> int:
        """Messages that have several recipients, and should have a token."""
        items = (item for call in self.planned.calls for item in call.items)
        return sum(item.recipients > 1 for item in items) if self._has_token else 0

    def _without_token(self) -> str:
        ways = (("one click", self.spec.unsubscribe_url), ("mail", self.spec.unsubscribe_mailto))
        lost = " and ".join(way for way, value in ways if has_token(value))
        where = "on this message" if isinstance(self.given, Email) else f"on {_count(self._shared, 'row')} with cc or bcc"
        return f"; {where} not by {lost}, because its token is one recipient's, and there are several."

    def _times(self) -> Iterator[str]:
        for moment, what in ((self.given.send_at, "Not sent before"), (self.given.expires_at, "Not sent after")):
            if moment is not None:
                yield f"{what} {moment:%Y-%m-%d %H:%M:%SZ}: the {self._kind} says so."

    @staticmethod
    def _limits(campaign: Campaign) -> Iterator[str]:
        if campaign.max_rate is not None:
            yield f"At most {campaign.max_rate:g} recipients a second, where the account has more: the campaign says so."
        shares = (("bounce", campaign.max_bounce_rate), ("are complained about", campaign.max_complaint_rate))
        limits = [f"more than {share * 100:.4g} % of its e-mails {what}" for what, share in shares if share < 1]
        if limits:
            known = _count(campaign.guard_after, "e-mail")
            yield f"Its guard pauses it when {' or '.join(limits)}, once the fate of {known} is known."
        else:
            yield "It has no guard: bounces and complaints do not pause it."


def _left_out(reasons: Sequence[str], what: str) -> Iterator[str]:
    if reasons:
        more = f" (and {len(reasons) - SHOWN_ROWS} more)" if len(reasons) > SHOWN_ROWS else ""
        listed = "; ".join(reason.rstrip(".") for reason in reasons[:SHOWN_ROWS])
        yield f"{_count(len(reasons), 'row')} {what}: {listed}{more}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
