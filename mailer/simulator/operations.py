"""The operations, by method and path as in the SES v2 API model (tests compare this table with botocore's, old and new)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from . import catalogue, sending
from .faults import Hit
from .limits import MAX_REQUEST
from .refusals import Code, Refusal, no_operation
from .state import State
from .wire import Json, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, read."""

    state: State
    body: Json
    label: str  # the variable part of the path, unquoted; "" where there is none
    query: dict[str, list[str]]
    size: int  # bytes of the request body
    hit: Hit


class Operation(NamedTuple):
    name: str
    method: str
    path: str
    function: Callable[..., Json]
    takes: str  # the attributes of Call that the function takes, in order
    older: tuple[str, str] | None = None  # method and path by which SDKs called it until 2026; both are answered

    @property
    def routes(self) -> list[tuple[str, str]]:
        return [(self.method, self.path), *([self.older] if self.older else [])]

    def run(self, call: Call) -> Json:
        return self.function(*(getattr(call, name) for name in self.takes.split()))


_SET, _TEMPLATE = "/v2/email/configuration-sets", "/v2/email/templates"
_IDENTITY, _SUPPRESSED = "/v2/email/identities", "/v2/email/suppression/addresses"
_ONE_SET, _ONE_TEMPLATE = f"{_SET}/{{ConfigurationSetName}}", f"{_TEMPLATE}/{{TemplateName}}"
_ONE_IDENTITY, _ONE_SUPPRESSED = f"{_IDENTITY}/{{EmailIdentity}}", f"{_SUPPRESSED}/{{EmailAddress}}"

OPERATIONS = (
    Operation("SendEmail", "POST", "/v2/email/outbound-emails", sending.send_email, "state body size"),
    Operation("SendBulkEmail", "POST", "/v2/email/outbound-bulk-emails", sending.send_bulk_email, "state body size hit"),
    Operation("GetAccount", "GET", "/v2/email/account", catalogue.get_account, "state"),
    Operation(
        "PutAccountSendingAttributes", "PUT", "/v2/email/account/sending", catalogue.put_account_sending_attributes, "state body"
    ),
    Operation(
        "PutAccountSuppressionAttributes",
        "PUT",
        "/v2/email/account/suppression",
        catalogue.put_account_suppression_attributes,
        "state body",
    ),
    Operation("CreateEmailTemplate", "POST", _TEMPLATE, catalogue.create_email_template, "state body"),
    Operation("ListEmailTemplates", "GET", _TEMPLATE, catalogue.list_email_templates, "state query"),
    Operation("GetEmailTemplate", "GET", _ONE_TEMPLATE, catalogue.get_email_template, "state label"),
    Operation("UpdateEmailTemplate", "PUT", _ONE_TEMPLATE, catalogue.update_email_template, "state body label"),
    Operation("DeleteEmailTemplate", "DELETE", _ONE_TEMPLATE, catalogue.delete_email_template, "state label"),
    Operation(
        "TestRenderEmailTemplate", "POST", f"{_ONE_TEMPLATE}/render", catalogue.test_render_email_template, "state body label"
    ),
    Operation("CreateEmailIdentity", "POST", _IDENTITY, catalogue.create_email_identity, "state body"),
    Operation(
        "ListEmailIdentities",
        "POST",
        "/v2/email/list-identities",
        catalogue.list_email_identities,
        "state body query",
        ("GET", _IDENTITY),
    ),
    Operation("GetEmailIdentity", "GET", _ONE_IDENTITY, catalogue.get_email_identity, "state label"),
    Operation("DeleteEmailIdentity", "DELETE", _ONE_IDENTITY, catalogue.delete_email_identity, "state label"),
    Operation(
        "PutEmailIdentityConfigurationSetAttributes",
        "PUT",
        f"{_ONE_IDENTITY}/configuration-set",
        catalogue.put_email_identity_configuration_set_attributes,
        "state body label",
    ),
    Operation("PutSuppressedDestination", "PUT", _SUPPRESSED, catalogue.put_suppressed_destination, "state body"),
    Operation("ListSuppressedDestinations", "GET", _SUPPRESSED, catalogue.list_suppressed_destinations, "state query"),
    Operation("GetSuppressedDestination", "GET", _ONE_SUPPRESSED, catalogue.get_suppressed_destination, "state label query"),
    Operation(
        "DeleteSuppressedDestination", "DELETE", _ONE_SUPPRESSED, catalogue.delete_suppressed_destination, "state label query"
    ),
    Operation("CreateConfigurationSet", "POST", _SET, catalogue.create_configuration_set, "state body"),
    Operation(
        "ListConfigurationSets",
        "POST",
        "/v2/email/list-configuration-sets",
        catalogue.list_configuration_sets,
        "state body query",
        ("GET", _SET),
    ),
    Operation("GetConfigurationSet", "GET", _ONE_SET, catalogue.get_configuration_set, "state label"),
    Operation("DeleteConfigurationSet", "DELETE", _ONE_SET, catalogue.delete_configuration_set, "state label"),
    Operation(
        "CreateConfigurationSetEventDestination",
        "POST",
        f"{_ONE_SET}/event-destinations",
        catalogue.create_configuration_set_event_destination,
        "state body label",
    ),
    Operation(
        "GetConfigurationSetEventDestinations",
        "GET",
        f"{_ONE_SET}/event-destinations",
        catalogue.get_configuration_set_event_destinations,
        "state label",
    ),
    Operation(
        "PutConfigurationSetSendingOptions",
        "PUT",
        f"{_ONE_SET}/sending",
        catalogue.put_configuration_set_sending_options,
        "state body label",
    ),
    Operation(
        "PutConfigurationSetSuppressionOptions",
        "PUT",
        f"{_ONE_SET}/suppression-options",
        catalogue.put_configuration_set_suppression_options,
        "state body label",
    ),
)
_LABEL = "{}"
_ROUTES = {
    (method, tuple(_LABEL if part.startswith("{") else part for part in path.split("/"))): operation
    for operation in OPERATIONS
    for method, path in operation.routes
}


def route(method: str, raw_path: str) -> tuple[Operation, str]:
    """The operation, and the variable part of its path. `raw_path` is still quoted: an address may hold a quoted slash."""
    parts = raw_path.split("/")
    found = _ROUTES.get((method, tuple(parts)))
    if found is not None:
        return found, ""
    for place in range(4, len(parts)):  # no path of the API has two variable parts
        found = _ROUTES.get((method, (*parts[:place], _LABEL, *parts[place + 1 :])))
        if found is not None:
            return found, unquote(parts[place])
    raise no_operation(method, raw_path)


class Simulator(State):
    """A simulated SES account. `call` is one request of the API, without HTTP."""

    def call(self, operation: Operation, raw: bytes = b"", label: str = "", query: str = "", hit: Hit | None = None) -> Json:
        """The answer's body. Raises Refusal."""
        self.counts[operation.name] += 1
        if len(raw) > MAX_REQUEST:
            raise Refusal(Code.TOO_LARGE, f"The request is larger than {MAX_REQUEST} bytes.")
        return operation.run(
            Call(
                state=self,
                body=parse(raw),
                label=label,
                query=parse_qs(query, keep_blank_values=True),
                size=len(raw),
                hit=hit or Hit(),
            )
        )
