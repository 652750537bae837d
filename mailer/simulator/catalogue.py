"""The operations that manage things: the account, templates, identities, suppressed addresses, configuration sets."""

from __future__ import annotations

from datetime import datetime
from email.message import EmailMessage

from ..templates import handlebars
from . import limits, refusals
from .listing import Query, listing
from .refusals import Code, Refusal, bad_request, constraint
from .sending import compile_parts
from .state import ConfigurationSet, Identity, State, StoredTemplate
from .suppression import REASONS, Suppressed
from .wire import Json, array, boolean, required, required_struct, string, struct, template_data

_TEMPLATES_PAGE = 100  # the largest PageSize of ListEmailTemplates; of the other lists, as far as it is known, it is 1000
_IDENTITY_KEYS = ("IDENTITY_NAME_CONTAINS", "IDENTITY_TYPE", "VERIFICATION_STATUS")
_SET_KEYS = ("CONFIGURATION_SET_NAME_CONTAINS",)


# ---- account -------------------------------------------------------------------------------------------------------


def get_account(state: State) -> Json:
    return {
        "DedicatedIpAutoWarmupEnabled": False,
        "EnforcementStatus": "SHUTDOWN" if state.suspended else state.enforcement,
        "ProductionAccessEnabled": state.production,
        "SendQuota": {
            "Max24HourSend": state.quota.limit,
            "MaxSendRate": state.rate.rate,
            "SentLast24Hours": float(state.quota.used()),
        },
        "SendingEnabled": state.sending_enabled and not state.suspended,
        "SuppressionAttributes": {"SuppressedReasons": list(state.suppressed_reasons)},
        "VdmAttributes": {"VdmEnabled": "DISABLED"},
    }


def put_account_sending_attributes(state: State, body: Json) -> Json:
    state.sending_enabled = boolean(body, "SendingEnabled", False)
    return {}


def put_account_suppression_attributes(state: State, body: Json) -> Json:
    state.suppressed_reasons = _reasons(body)
    return {}


def _reasons(body: Json) -> tuple[str, ...]:
    reasons = tuple(dict.fromkeys(array(body, "SuppressedReasons")))
    if not set(reasons) <= set(REASONS):
        raise constraint("suppressedReasons", f"Member must satisfy enum value set: [{', '.join(REASONS)}]")
    return reasons


# ---- templates -----------------------------------------------------------------------------------------------------


def create_email_template(state: State, body: Json) -> Json:
    name = required(body, "TemplateName")
    if not 1 <= len(name) <= limits.MAX_NAME:
        raise constraint("templateName", f"Member must have length between 1 and {limits.MAX_NAME}, inclusive")
    if name in state.templates:
        raise refusals.already_exists("Template", name)
    if len(state.templates) >= limits.MAX_TEMPLATES:
        raise Refusal(Code.LIMIT_EXCEEDED, f"There are {limits.MAX_TEMPLATES} templates already.")
    state.templates[name] = _stored(state, name, body, state.config.clock())
    return {}


def update_email_template(state: State, body: Json, name: str) -> Json:
    """Replaces all parts: one that is not given is gone."""
    state.templates[name] = _stored(state, name, body, _template(state, name).created)
    return {}


def _stored(state: State, name: str, body: Json, created: float) -> StoredTemplate:
    content = required_struct(body, "TemplateContent")
    source = {key: text for key in ("Subject", "Text", "Html") if (text := string(content, key)) is not None}
    if not source.get("Text") and not source.get("Html"):
        raise bad_request("The template must have a text or an HTML part.")
    if sum(len(text.encode()) for text in source.values()) > limits.MAX_STORED_TEMPLATE:
        raise bad_request("The template is larger than 500 KB.")
    try:
        return StoredTemplate(name, source, compile_parts(source), created)
    except handlebars.TemplateSyntaxError as error:
        raise bad_request(f"Invalid template: {error}") from None


def _template(state: State, name: str) -> StoredTemplate:
    found = state.templates.get(name)
    if found is None:
        raise refusals.not_found("Template", name)
    return found


def get_email_template(state: State, name: str) -> Json:
    return {"TemplateName": name, "TemplateContent": _template(state, name).source}


def delete_email_template(state: State, name: str) -> Json:
    _template(state, name)
    del state.templates[name]
    return {}


def list_email_templates(state: State, query: Query) -> Json:
    names, token = listing({}, query).page(sorted(state.templates), most=_TEMPLATES_PAGE)
    metadata = [{"TemplateName": name, "CreatedTimestamp": state.templates[name].created} for name in names]
    return {"TemplatesMetadata": metadata, **token}


def test_render_email_template(state: State, body: Json, name: str) -> Json:
    """Unlike sending, this says at once that a value is missing. The answer is a whole MIME message, as SES gives it."""
    parts = _template(state, name).parts
    data = template_data(required(body, "TemplateData"), "templateData", limits.MAX_TEMPLATE_DATA)
    if why := parts.why_not(data):
        raise bad_request(why)
    message = EmailMessage()
    message["Subject"] = " ".join((parts.subject.render(data) if parts.subject else "").splitlines())
    if parts.text:
        message.set_content(parts.text.render(data))
    if parts.html:
        html = parts.html.render(data)
        if parts.text:
            message.add_alternative(html, subtype="html")
        else:
            message.set_content(html, subtype="html")
    return {"RenderedTemplate": message.as_string()}


# ---- identities ----------------------------------------------------------------------------------------------------


def create_email_identity(state: State, body: Json) -> Json:
    """The simulator has no mailbox to confirm and no DNS to look at: an identity is verified when it is made."""
    name = limits.lower_domain(required(body, "EmailIdentity"))
    if "@" in name:
        limits.mailbox(name)
    elif "." not in name or not name.replace(".", "").replace("-", "").isalnum() or not name.isascii():
        raise bad_request(f"Invalid domain name {name}.")
    if name in state.identities:
        raise refusals.already_exists("Email identity", name)
    set_name = string(body, "ConfigurationSetName")
    if set_name is not None:
        _set(state, set_name)
    identity = Identity(name, True, array(body, "Tags"), set_name)
    state.identities[name] = identity
    return {"IdentityType": identity.kind, "VerifiedForSendingStatus": identity.verified, "DkimAttributes": _dkim(identity)}


def _dkim(identity: Identity) -> Json:
    enabled = identity.kind == "DOMAIN"
    return {"SigningEnabled": enabled, "Status": "SUCCESS" if enabled else "NOT_STARTED", "SigningAttributesOrigin": "AWS_SES"}


def _identity(state: State, name: str) -> Identity:
    found = state.identities.get(limits.lower_domain(name))
    if found is None:
        raise refusals.not_found("Email identity", name)
    return found


def get_email_identity(state: State, name: str) -> Json:
    identity = _identity(state, name)
    answer: Json = {
        "IdentityType": identity.kind,
        "FeedbackForwardingStatus": True,
        "VerifiedForSendingStatus": identity.verified,
        "VerificationStatus": identity.status,
        "DkimAttributes": _dkim(identity),
        "Policies": {},
        "Tags": identity.tags,
    }
    return answer if identity.configuration_set is None else {**answer, "ConfigurationSetName": identity.configuration_set}


def put_email_identity_configuration_set_attributes(state: State, body: Json, name: str) -> Json:
    """The set that sends as this identity use when they name none; without a name here, none."""
    identity, set_name = _identity(state, name), string(body, "ConfigurationSetName")
    identity.configuration_set = None if set_name is None else _set(state, set_name).name
    return {}


def delete_email_identity(state: State, name: str) -> Json:
    del state.identities[_identity(state, name).name]
    return {}


def list_email_identities(state: State, body: Json, query: Query) -> Json:
    asked = listing(body, query, _IDENTITY_KEYS)
    part, kind, status = (asked.filter.get(key) for key in _IDENTITY_KEYS)
    fitting = (
        name
        for name, item in state.identities.items()
        if (part or "").lower() in name and kind in (None, item.kind) and status in (None, item.status)
    )
    names, token = asked.page(sorted(fitting), least=0)
    found = [state.identities[name] for name in names]
    return {
        "EmailIdentities": [
            {
                "IdentityType": identity.kind,
                "IdentityName": identity.name,
                "SendingEnabled": identity.verified,
                "VerificationStatus": identity.status,
            }
            for identity in found
        ],
        **token,
    }


# ---- suppression ---------------------------------------------------------------------------------------------------


def put_suppressed_destination(state: State, body: Json) -> Json:
    if not state.production:  # SES developer guide: not while the account is in the sandbox
        raise bad_request("Your account is in the sandbox: addresses cannot be added to the account-level suppression list.")
    address, reason = limits.lower_domain(required(body, "EmailAddress")), required(body, "Reason")
    if reason not in REASONS:
        raise constraint("reason", f"Member must satisfy enum value set: [{', '.join(REASONS)}]")
    limits.mailbox(address)
    state.suppression_list(string(body, "TenantName")).put(address, reason)
    return {}


def get_suppressed_destination(state: State, address: str, query: Query) -> Json:
    tenant = _tenant(query)
    found = state.suppression_list(tenant).get(limits.lower_domain(address))
    if found is None:
        raise _not_suppressed(address)
    shown = _summary(found)
    return {"SuppressedDestination": shown if tenant is None else {**shown, "TenantName": tenant}}


def delete_suppressed_destination(state: State, address: str, query: Query) -> Json:
    if not state.suppression_list(_tenant(query)).remove(limits.lower_domain(address)):
        raise _not_suppressed(address)
    return {}


def _tenant(query: Query) -> str | None:
    return query["TenantName"][0] if "TenantName" in query else None


def _summary(item: Suppressed) -> Json:
    return {"EmailAddress": item.address, "Reason": item.reason, "LastUpdateTime": item.at}


def _not_suppressed(address: str) -> Refusal:
    return Refusal(Code.NOT_FOUND, f"Email address {address} does not exist on your suppression list.")


def list_suppressed_destinations(state: State, query: Query) -> Json:
    reasons = query.get("Reason") or REASONS
    start, end = _time(query, "StartDate", float("-inf")), _time(query, "EndDate", float("inf"))
    suppressed = state.suppression_list(_tenant(query))
    page, token = listing({}, query).page(suppressed.since(start), bad_token=Code.INVALID_NEXT_TOKEN)
    found = [item for address in page if (item := suppressed[address]).reason in reasons and item.at <= end]
    return {"SuppressedDestinationSummaries": [_summary(item) for item in found], **token}


def _time(query: Query, name: str, default: float) -> float:
    if name not in query:
        return default
    try:
        return datetime.fromisoformat(query[name][0].replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise bad_request(f"{name} is not a time: {query[name][0]}") from None


# ---- configuration sets --------------------------------------------------------------------------------------------


def create_configuration_set(state: State, body: Json) -> Json:
    name = required(body, "ConfigurationSetName")
    if not 1 <= len(name) <= limits.MAX_NAME or not name.isascii() or not name.replace("_", "").replace("-", "").isalnum():
        raise bad_request(f"Invalid configuration set name <{name}>: 1 to {limits.MAX_NAME} of letters, digits, '_' and '-'.")
    if name in state.configuration_sets:
        raise refusals.already_exists("Configuration set", f"<{name}>")
    suppression = struct(body, "SuppressionOptions")
    state.configuration_sets[name] = ConfigurationSet(
        name,
        boolean(struct(body, "SendingOptions") or {}, "SendingEnabled", True),
        None if suppression is None else _reasons(suppression),
        {
            key: body[key]
            for key in ("TrackingOptions", "DeliveryOptions", "ReputationOptions", "VdmOptions", "Tags")
            if body.get(key)
        },
    )
    return {}


def _set(state: State, name: str) -> ConfigurationSet:
    found = state.configuration_sets.get(name)
    if found is None:
        raise refusals.no_set(name)
    return found


def get_configuration_set(state: State, name: str) -> Json:
    found = _set(state, name)
    answer: Json = {
        "ConfigurationSetName": name,
        "SendingOptions": {"SendingEnabled": found.sending_enabled},
        "Tags": [],
        **{name: option for name, option in found.options.items() if name != _DESTINATIONS},
    }
    if found.suppressed_reasons is not None:
        answer["SuppressionOptions"] = {"SuppressedReasons": list(found.suppressed_reasons)}
    return answer


def delete_configuration_set(state: State, name: str) -> Json:
    del state.configuration_sets[_set(state, name).name]
    return {}


def list_configuration_sets(state: State, body: Json, query: Query) -> Json:
    asked = listing(body, query, _SET_KEYS)
    part = asked.filter.get(_SET_KEYS[0], "")
    names, token = asked.page(sorted(name for name in state.configuration_sets if part in name))
    return {"ConfigurationSets": names, **token}


def put_configuration_set_sending_options(state: State, body: Json, name: str) -> Json:
    _set(state, name).sending_enabled = boolean(body, "SendingEnabled", False)
    return {}


def put_configuration_set_suppression_options(state: State, body: Json, name: str) -> Json:
    """Without reasons this is an override that says "none", and not the end of the override: so SES has it."""
    _set(state, name).suppressed_reasons = _reasons(body)
    return {}


_DESTINATIONS = "EventDestinations"


def create_configuration_set_event_destination(state: State, body: Json, name: str) -> Json:
    """It is kept, and shown; the simulator publishes nothing by it."""
    options, called = _set(state, name).options, required(body, "EventDestinationName")
    there = get_configuration_set_event_destinations(state, name)[_DESTINATIONS]
    if any(one["Name"] == called for one in there):
        raise refusals.already_exists("Event destination", called)
    options[_DESTINATIONS] = [*there, {"Name": called, **required_struct(body, "EventDestination")}]
    return {}


def get_configuration_set_event_destinations(state: State, name: str) -> Json:
    return {_DESTINATIONS: _set(state, name).options.get(_DESTINATIONS, [])}
