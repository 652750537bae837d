"""The operations, by method and path as in the SES v2 API model (a test compares this table with botocore's)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from . import catalogue, sending
from .faults import Hit
from .limits import MAX_REQUEST
from .refusals import Code, Refusal
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
    run: Callable[[Call], Json]


OPERATIONS = tuple(
    Operation(*row)
    for row in (
        ("SendEmail", "POST", "/v2/email/outbound-emails", lambda c: sending.send_email(c.state, c.body, c.size)),
        (
            "SendBulkEmail",
            "POST",
            "/v2/email/outbound-bulk-emails",
            lambda c: sending.send_bulk_email(c.state, c.body, c.size, c.hit),
        ),
        ("GetAccount", "GET", "/v2/email/account", lambda c: catalogue.get_account(c.state)),
        (
            "PutAccountSendingAttributes",
            "PUT",
            "/v2/email/account/sending",
            lambda c: catalogue.put_account_sending_attributes(c.state, c.body),
        ),
        ("CreateEmailTemplate", "POST", "/v2/email/templates", lambda c: catalogue.create_email_template(c.state, c.body)),
        ("ListEmailTemplates", "GET", "/v2/email/templates", lambda c: catalogue.list_email_templates(c.state, c.query)),
        (
            "GetEmailTemplate",
            "GET",
            "/v2/email/templates/{TemplateName}",
            lambda c: catalogue.get_email_template(c.state, c.label),
        ),
        (
            "UpdateEmailTemplate",
            "PUT",
            "/v2/email/templates/{TemplateName}",
            lambda c: catalogue.update_email_template(c.state, c.body, c.label),
        ),
        (
            "DeleteEmailTemplate",
            "DELETE",
            "/v2/email/templates/{TemplateName}",
            lambda c: catalogue.delete_email_template(c.state, c.label),
        ),
        (
            "TestRenderEmailTemplate",
            "POST",
            "/v2/email/templates/{TemplateName}/render",
            lambda c: catalogue.test_render_email_template(c.state, c.body, c.label),
        ),
        ("CreateEmailIdentity", "POST", "/v2/email/identities", lambda c: catalogue.create_email_identity(c.state, c.body)),
        ("ListEmailIdentities", "GET", "/v2/email/identities", lambda c: catalogue.list_email_identities(c.state, c.query)),
        (
            "GetEmailIdentity",
            "GET",
            "/v2/email/identities/{EmailIdentity}",
            lambda c: catalogue.get_email_identity(c.state, c.label),
        ),
        (
            "DeleteEmailIdentity",
            "DELETE",
            "/v2/email/identities/{EmailIdentity}",
            lambda c: catalogue.delete_email_identity(c.state, c.label),
        ),
        (
            "PutSuppressedDestination",
            "PUT",
            "/v2/email/suppression/addresses",
            lambda c: catalogue.put_suppressed_destination(c.state, c.body),
        ),
        (
            "ListSuppressedDestinations",
            "GET",
            "/v2/email/suppression/addresses",
            lambda c: catalogue.list_suppressed_destinations(c.state, c.query),
        ),
        (
            "GetSuppressedDestination",
            "GET",
            "/v2/email/suppression/addresses/{EmailAddress}",
            lambda c: catalogue.get_suppressed_destination(c.state, c.label),
        ),
        (
            "DeleteSuppressedDestination",
            "DELETE",
            "/v2/email/suppression/addresses/{EmailAddress}",
            lambda c: catalogue.delete_suppressed_destination(c.state, c.label),
        ),
        (
            "CreateConfigurationSet",
            "POST",
            "/v2/email/configuration-sets",
            lambda c: catalogue.create_configuration_set(c.state, c.body),
        ),
        (
            "ListConfigurationSets",
            "GET",
            "/v2/email/configuration-sets",
            lambda c: catalogue.list_configuration_sets(c.state, c.query),
        ),
        (
            "GetConfigurationSet",
            "GET",
            "/v2/email/configuration-sets/{ConfigurationSetName}",
            lambda c: catalogue.get_configuration_set(c.state, c.label),
        ),
        (
            "DeleteConfigurationSet",
            "DELETE",
            "/v2/email/configuration-sets/{ConfigurationSetName}",
            lambda c: catalogue.delete_configuration_set(c.state, c.label),
        ),
        (
            "PutConfigurationSetSendingOptions",
            "PUT",
            "/v2/email/configuration-sets/{ConfigurationSetName}/sending",
            lambda c: catalogue.put_configuration_set_sending_options(c.state, c.body, c.label),
        ),
    )
)
_LABEL = "{}"
_ROUTES = {
    (operation.method, tuple(_LABEL if part.startswith("{") else part for part in operation.path.split("/"))): operation
    for operation in OPERATIONS
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
    raise Refusal(Code.UNKNOWN_OPERATION, f"The simulator has no operation at {method} {raw_path}.")


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
