"""SendEmail and SendBulkEmail.

The order of the checks is SES's, as far as it is known: shapes and From first, then ARN and template, then account,
configuration set and sender, and per message the recipients, the sandbox, the quotas.
"""

from __future__ import annotations

import re
from typing import Any

from ..templates import handlebars
from . import attachments, limits, raw, refusals
from .faults import Hit
from .journal import Accepted, Message, Parts, RawContent, SimpleContent, Subscription, TemplatedContent
from .limits import Headers
from .refusals import Refusal, Status, bad_request, constraint
from .state import Envelope, State
from .wire import Json, array, null, required, required_struct, string, struct, template_data

Recipients = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # To, Cc, Bcc
_ACTIONS = {"Simple": "SendEmail", "Raw": "SendRawEmail", "Template": "SendTemplatedEmail"}  # IAM checks these, not the operation
_FEATURE = ("ENABLED", "DISABLED")
_TEMPLATE_ARN = re.compile(r"arn:aws[\w-]*:ses:([\w-]+):(\d{12}):template/(.+)")


# ---- SendEmail -----------------------------------------------------------------------------------------------------


def send_email(state: State, body: Json, size: int) -> Json:
    content = required_struct(body, "Content")
    kinds = [kind for kind in _ACTIONS if struct(content, kind) is not None]
    if len(kinds) != 1:
        raise bad_request("Exactly one of Simple, Raw, or Template must be specified in Content.")
    kind = kinds[0]
    if kind == "Raw":
        return {"MessageId": _send_raw(state, body, size)}
    tags = limits.tags(array(body, "EmailTags"), "emailTags")
    if string(body, "FromEmailAddress") is None:
        raise bad_request("Invalid From address provided.")
    envelope = _envelope(state, body, "SendEmail", _ACTIONS[kind])
    to_cc_bcc = limits.destination(struct(body, "Destination") or {})
    state.authorise(envelope)
    ready: SimpleContent | TemplatedContent
    if kind == "Simple":
        ready = _simple(content["Simple"])
    else:
        template = content["Template"]
        _check_template(template, "content.template", size)
        data = _data(template, "TemplateData", "content.template")
        ready = _templated(template, _parts(state, template, envelope.action), data, "content.template")
    state.admit_tenant(envelope.tenant)
    subscription = _subscription(state, struct(body, "ListManagementOptions"), to_cc_bcc)
    state.admit_call(envelope)
    return {"MessageId": _accept(state, envelope, to_cc_bcc, tags, ready, size, subscription)}


def _simple(simple: Json) -> SimpleContent:
    subject = required(required_struct(simple, "Subject", "content.simple"), "Data", "content.simple.subject")
    body = required_struct(simple, "Body", "content.simple")
    parts = [_part(body, kind) for kind in ("Html", "Text")]
    if parts == [None, None]:
        raise bad_request("The message body must have a text or an HTML part.")
    headers = limits.headers(array(simple, "Headers"), "content.simple.headers")
    files = attachments.attachments(array(simple, "Attachments"), "content.simple.attachments")
    limits.total_size(sum(len((text or "").encode()) for text in (subject, *parts)) + sum(item.encoded for item in files))
    return SimpleContent(subject=subject, html=parts[0], text=parts[1], headers=headers, attachments=files)


def _part(body: Json, kind: str) -> str | None:
    part = struct(body, kind)
    return None if part is None else required(part, "Data", f"content.simple.body.{kind.lower()}")


# ---- raw -----------------------------------------------------------------------------------------------------------


def _send_raw(state: State, body: Json, size: int) -> str:
    encoded = required(struct(body, "Content")["Raw"], "Data", "content.raw")  # type: ignore[index]
    limits.total_size(len(encoded))
    mime = attachments.blob(encoded, "content.raw.data")
    parsed = raw.check(mime)
    given = {key: value for key, value in body.items() if value}
    body = {**raw.parameters(parsed), **given}
    if string(body, "FromEmailAddress") is None:
        raise bad_request("Missing required header 'From'.")
    tags = limits.tags(array(body, "EmailTags"), "emailTags")
    envelope = _envelope(state, body, "SendEmail", _ACTIONS["Raw"])._replace(sender=raw.sender(parsed))
    to_cc_bcc = limits.destination(struct(body, "Destination") or raw.destination(parsed))
    state.authorise(envelope)
    state.admit_tenant(envelope.tenant)
    subscription = _subscription(state, struct(body, "ListManagementOptions"), to_cc_bcc)
    state.admit_call(envelope)
    content = RawContent(mime=mime, from_=string(given, "FromEmailAddress"))
    return _accept(state, envelope, to_cc_bcc, tags, content, size, subscription)


# ---- SendBulkEmail -------------------------------------------------------------------------------------------------


def send_bulk_email(state: State, body: Json, size: int, hit: Hit) -> Json:
    if not state.bulk_calls.take(1):
        state.counts["throttled_calls"] += 1
        raise refusals.calls_exceeded()
    bulk = _Bulk(state, body, size, hit)
    return {"BulkEmailEntryResults": [bulk.entry(item) for item in bulk.entries]}


class _Bulk:
    """One call: what its entries share is checked when it is made, and raises when SES refuses the whole call for it."""

    def __init__(self, state: State, body: Json, size: int, hit: Hit) -> None:
        self.state, self.hit = state, hit
        self.template = required_struct(required_struct(body, "DefaultContent"), "Template", "defaultContent")
        self.entries = array(body, "BulkEmailEntries")
        if body.get("BulkEmailEntries") is None:
            raise null("", "BulkEmailEntries")
        if not 1 <= len(self.entries) <= limits.MAX_ENTRIES:
            raise bad_request(f"A call must have 1 to {limits.MAX_ENTRIES} bulk email entries; this one has {len(self.entries)}.")
        _check_bulk_from(body)
        _check_template(self.template, where := "defaultContent.template", size)
        self.envelope = _envelope(state, body, "SendBulkEmail", "SendBulkTemplatedEmail", reply_to=False)
        state.authorise(self.envelope)
        self.headers = [_entry_headers(item, index) for index, item in enumerate(self.entries, 1)]
        self.parts = _parts(state, self.template, self.envelope.action)
        self.content = _templated(self.template, self.parts, _data(self.template, "TemplateData", where), where)
        self.files = sum(item.encoded for item in self.content.attachments)
        self.share = (size - self.files) // len(self.entries)
        state.admit_tenant(self.envelope.tenant)
        self.place = 0
        self.default_tags: dict[str, str] = {}
        self.refusal = self._shared_refusal(body)

    def _shared_refusal(self, body: Json) -> Refusal | None:
        """What SES says once for every entry, with HTTP 200."""
        try:
            for address in array(body, "ReplyToAddresses"):
                limits.mailbox(address if isinstance(address, str) else "")
            self.default_tags = limits.tags(array(body, "DefaultEmailTags"), "defaultEmailTags")
            self.state.admit_call(self.envelope)
        except Refusal as refusal:
            return refusal
        return None

    def entry(self, item: Json) -> Json:
        self.place += 1
        try:
            if refusal := self.refusal or self.state.faults.on_entry(self.hit):
                raise refusal
            return {"Status": Status.SUCCESS, "MessageId": self._send(item)}
        except Refusal as refusal:
            return {"Status": refusal.bulk, "Error": refusal.text}

    def _send(self, item: Json) -> str:
        to_cc_bcc = limits.destination(required_struct(item, "Destination", f"bulkEmailEntries.{self.place}.member"))
        # An entry's tag replaces the default of its name, as its headers do; AWS does not say whether others stay.
        tags = {**self.default_tags, **limits.tags(array(item, "ReplacementTags"), "replacementTags")}
        replacement = struct(struct(item, "ReplacementEmailContent") or {}, "ReplacementTemplate") or {}
        data = _data(replacement, "ReplacementTemplateData", "replacementTemplate")
        content = TemplatedContent(
            parts=self.parts,
            data=handlebars.merge(self.content.data, data) if self.content.data else data,
            headers=_merge_headers(self.content.headers, self.headers[self.place - 1]),
            attachments=self.content.attachments,
        )
        # The first that is accepted counts for the files of all, so that what is kept is counted if the others are refused.
        message_id = _accept(self.state, self.envelope, to_cc_bcc, tags, content, self.share + self.files)
        self.files = 0
        return message_id


def _check_bulk_from(body: Json) -> None:
    for key in ("FromEmailAddress", "FeedbackForwardingEmailAddress"):
        address = string(body, key)
        try:
            if address is not None or key == "FromEmailAddress":
                limits.mailbox(address or "")
        except Refusal:
            raise bad_request(f"Invalid email address<{address or ''}>.") from None


def _entry_headers(item: Any, index: int) -> Headers:
    if not isinstance(item, dict):
        raise refusals.wrong_type("BulkEmailEntries")
    where = f"bulkEmailEntries.{index}.member"
    if item.get("Destination") is None:
        raise null(where, "Destination")
    return limits.headers(array(item, "ReplacementHeaders"), f"{where}.replacementHeaders")


def _merge_headers(template: Headers, entry: Headers) -> Headers:
    """An entry's header replaces the template's of the same name, whatever its case."""
    if not entry:
        return template
    replaced = {name.lower() for name, _ in entry}
    return (*(pair for pair in template if pair[0].lower() not in replaced), *entry)


# ---- shared --------------------------------------------------------------------------------------------------------


def _envelope(state: State, body: Json, operation: str, action: str, *, reply_to: bool = True) -> Envelope:
    from_ = required(body, "FromEmailAddress")
    feedback = string(body, "FeedbackForwardingEmailAddress")
    replies = tuple(array(body, "ReplyToAddresses"))
    if reply_to:
        for address in replies:
            limits.mailbox(address if isinstance(address, str) else "")
    if feedback is not None:
        limits.mailbox(feedback)
    sender = limits.mailbox(from_)
    arn, configuration_set = string(body, "FromEmailAddressIdentityArn"), string(body, "ConfigurationSetName")
    return Envelope(
        operation=operation,
        action=action,
        from_=from_,
        reply_to=replies,
        identity_arn=arn,
        feedback=feedback,
        feedback_arn=string(body, "FeedbackForwardingEmailAddressIdentityArn"),
        configuration_set=configuration_set or state.default_set(sender, arn),
        set_is_default=not configuration_set,
        tenant=string(body, "TenantName"),
        overrides=_overrides(body),
    )


def _overrides(body: Json) -> Json | None:
    """ConfigurationOverrides: kept and shown. The simulator tracks nothing that they could switch on or off."""
    given = struct(body, "ConfigurationOverrides")
    tracking = struct(given or {}, "Tracking") or {}
    for name in ("OpenTrackingEnabled", "ClickTrackingEnabled"):
        if string(tracking, name) not in (None, *_FEATURE):
            where = f"configurationOverrides.tracking.{name[0].lower()}{name[1:]}"
            raise constraint(where, f"Member must satisfy enum value set: [{', '.join(_FEATURE)}]")
    return given


def _check_template(template: Json, where: str, size: int) -> None:
    sources = [string(template, "TemplateName"), string(template, "TemplateArn"), struct(template, "TemplateContent")]
    if sum(source is not None for source in sources) != 1:
        raise bad_request("Exactly one of TemplateName, TemplateArn, or TemplateContent must be specified.")
    if sources[2] is not None:
        if size > limits.MAX_INLINE_REQUEST:
            raise bad_request(f"A request with an inline template must not be larger than 1 MB; this one has {size} bytes.")
        if not any(string(struct(template, "TemplateContent") or {}, part) for part in ("Text", "Html")):
            raise bad_request("The template must have a text or an HTML part.")
    elif not (sources[0] or sources[1]):
        raise refusals.constraint(f"{where}.templateName", "Member must have length greater than or equal to 1")


def _parts(state: State, template: Json, action: str) -> Parts:
    inline = struct(template, "TemplateContent")
    if inline is not None:
        return inline_parts(inline)
    name = string(template, "TemplateName")
    if name is None:
        name = _named_by(state, string(template, "TemplateArn") or "", action)
    stored = state.templates.get(name)
    if stored is None:
        raise refusals.not_found("Template", name, Status.TEMPLATE_NOT_FOUND)
    return stored.parts


def _named_by(state: State, arn: str, action: str) -> str:
    """The name of the template. One of another account or region must be authorised; the one of that name here stands for it."""
    match = _TEMPLATE_ARN.fullmatch(arn)
    if match is None:
        raise bad_request(f"Invalid template ARN <{arn}>.")
    region, account, name = match.groups()
    if (region, account) != (state.config.region, state.config.account) and arn not in state.config.authorised:
        raise refusals.access_denied(state.config.account, action, arn)
    return name


def inline_parts(source: Json) -> Parts:
    """A fault in an inline template does not stop the call: SES accepts it and fails to render."""
    try:
        return compile_parts(source, inline=True)
    except handlebars.TemplateSyntaxError as error:
        return Parts(subject=None, html=None, text=None, error=str(error))


def compile_parts(source: Json, *, inline: bool = False) -> Parts:
    """Raises TemplateSyntaxError."""
    subject, html, text = (
        None if part is None else handlebars.compile_template(part, inline=inline)
        for part in (string(source, key) for key in ("Subject", "Html", "Text"))
    )
    return Parts(subject=subject, html=html, text=text)


def _data(body: Json, key: str, where: str) -> Json:
    return template_data(string(body, key), f"{where}.{key[0].lower()}{key[1:]}", limits.MAX_TEMPLATE_DATA)


def _templated(template: Json, parts: Parts, data: Json, where: str) -> TemplatedContent:
    headers = limits.headers(array(template, "Headers"), f"{where}.headers")
    files = attachments.attachments(array(template, "Attachments"), f"{where}.attachments")
    limits.total_size(sum(item.encoded for item in files))
    return TemplatedContent(parts=parts, data=data, headers=headers, attachments=files)


def _subscription(state: State, options: Json | None, to_cc_bcc: Recipients) -> Subscription | None:
    """Which list the recipient can leave. SES manages lists for messages to one recipient only."""
    if options is None:
        return None
    name = required(options, "ContactListName", "listManagementOptions")
    if name not in state.config.contact_lists:
        raise refusals.not_found("List", name)
    if (count := sum(map(len, to_cc_bcc))) != 1:
        raise bad_request(f"List management is for messages to one recipient; this one has {count}.")
    return Subscription(contact_list=name, topic=string(options, "TopicName"))


def _accept(
    state: State,
    envelope: Envelope,
    to_cc_bcc: Recipients,
    tags: dict[str, str],
    content: SimpleContent | TemplatedContent | RawContent,
    size: int,
    subscription: Subscription | None = None,
) -> str:
    to, cc, bcc = to_cc_bcc
    recipients = to + cc + bcc
    if not isinstance(content, RawContent):
        # What SES does with a header that it writes itself is not documented; that no message may have it twice is.
        written = limits.WRITTEN | {"reply-to"} if envelope.reply_to else limits.WRITTEN
        limits.once([name for name, _ in content.headers], written)
    state.admit_recipients(recipients)
    now = state.config.clock()
    accepted = Accepted(
        id=state.message_id(now),
        at=now,
        operation=envelope.operation,
        sender=envelope.from_,
        recipients=recipients,
        tags=tags,
        configuration_set=envelope.configuration_set,
        suppressed=state.suppressed_of(recipients, envelope.configuration_set),
        failure=content.parts.why_not(content.data) if isinstance(content, TemplatedContent) else None,
    )
    return state.accept(
        Message(
            accepted=accepted,
            to=to,
            cc=cc,
            bcc=bcc,
            reply_to=envelope.reply_to,
            content=content,
            size=size,
            subscription=subscription,
            overrides=envelope.overrides,
        )
    )
