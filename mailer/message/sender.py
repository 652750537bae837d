"""Sender: the named profile under which something is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import parseaddr
from typing import TYPE_CHECKING, Annotated, Any, Required, TypedDict, Unpack

from pydantic import AfterValidator, Field, model_validator

from .checks import Arn, Mailbox, Mailboxes, Model, Name, OneLine, Tags, documented, written

TOKEN = "{token}"  # noqa: S105  # where an unsubscribe address takes the recipient's token
_MAILTO = re.compile(r"[^@\s<>,]+@[^@\s<>,?]+(\?[^\s<>,]*)?")


def _https(value: str) -> str:
    if not re.fullmatch(r"https://[!-~]+", value) or re.search(r"[<>,\"]", value):
        raise ValueError("must be an https:// address without blanks, < > , or quotes; RFC 8058 takes no other")
    if value.count(TOKEN) != 1:
        raise ValueError(f"must have {TOKEN} once, where the recipient's token goes")
    return value


def _mailto(value: str) -> str:
    value = value.removeprefix("mailto:")
    address, _, fields = value.partition("?")
    if not value.isascii() or not _MAILTO.fullmatch(value) or TOKEN in address or fields.count(TOKEN) > 1:
        raise ValueError(f"must be an address, with ?subject={TOKEN} behind it where the recipient is to be told apart")
    return value


class ListUnsubscribeFields(TypedDict, total=False):
    """What the constructor of a ListUnsubscribe takes; a test holds it and the model together."""

    url: str | None
    mailto: str | None


@documented
class ListUnsubscribe(Model):
    """Where a recipient unsubscribes (RFC 2369, RFC 8058): `url` by one click, `mailto` by mail, or both."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[ListUnsubscribeFields]) -> None: ...

    url: Annotated[OneLine, Field(max_length=300), AfterValidator(_https)] | None = Field(
        None,
        examples=["https://example.com/unsubscribe/{token}"],
        description="`https://` address for one-click unsubscribing. `{token}` stands for the recipient's token.",
    )
    mailto: Annotated[OneLine, Field(max_length=300), AfterValidator(_mailto)] | None = Field(
        None,
        examples=["unsubscribe@example.com?subject={token}"],
        description="Address for unsubscribing by mail. `?subject={token}` behind it names the recipient.",
    )

    @model_validator(mode="after")
    def _something(self) -> ListUnsubscribe:
        if self.url is None and self.mailto is None:
            raise ValueError("give `url` or `mailto`, or both")
        return self

    @property
    def has_token(self) -> bool:
        return self.url is not None or TOKEN in (self.mailto or "")


RoleArn = Annotated[
    str,
    written(
        r"arn:[a-z-]+:iam::[0-9]{12}:role/[!-~]+",
        "must be the ARN of an IAM role, as arn:aws:iam::123456789012:role/mailer is one",
    ),
]
# STS API reference, AssumeRole.
ExternalId = Annotated[
    str, written(r"[A-Za-z0-9+=,.@:/_-]{2,1224}", "must have 2 to 1,224 characters, each of A-Z a-z 0-9 + = , . @ : / _ -")
]
Region = Annotated[str, written(r"[a-z]{2}(-[a-z]+)+-[0-9]+", "must be the code of an AWS region, as eu-west-1 is one")]
EndpointUrl = Annotated[str, written(r"https?://[!-~]+", "must be an http:// or https:// address without blanks")]


class SenderFields(TypedDict, total=False):
    """What the constructor of a Sender takes; a test holds it and the model together."""

    from_: Required[str]
    reply_to: str | Iterable[str] | None
    feedback_address: str | None
    identity_arn: str | None
    feedback_identity_arn: str | None
    configuration_set: str | None
    tenant: str | None
    tags: Mapping[str, str]
    list_unsubscribe: ListUnsubscribe | Mapping[str, Any] | None
    role_arn: str | None
    external_id: str | None
    region: str | None
    endpoint_url: str | None


@documented
class Sender(Model):
    """A named profile: what goes on every message that is sent under it, and the account that sends it."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[SenderFields]) -> None: ...

    from_: Mailbox = Field(
        alias="from",
        examples=["Example News <news@example.com>"],
        description="From address of every message, with or without a name.",
    )
    reply_to: Mailboxes = Field(
        (),
        examples=[["editors@example.com"]],
        description="Reply-To addresses of messages that have none of their own. By default replies go to the From address.",
    )
    feedback_address: Mailbox | None = Field(
        None,
        examples=["bounces@example.com"],
        description="Address to which SES mails bounces and complaints. Unset, it is left to SES.",
    )
    identity_arn: Arn | None = Field(
        None,
        examples=["arn:aws:ses:eu-west-1:123456789012:identity/example.com"],
        description=(
            "ARN of the SES identity that covers `from`, for sending authorization: the identity may belong to another account. "
            "Unset, an identity of the sending account is used."
        ),
    )
    feedback_identity_arn: Arn | None = Field(
        None,
        examples=["arn:aws:ses:eu-west-1:123456789012:identity/example.com"],
        description="ARN of the SES identity that covers `feedback_address`, in the same way.",
    )
    configuration_set: Name | None = Field(
        None,
        examples=["news"],
        description=(
            "SES configuration set of messages that name none. Unset, SES uses the default set of the identity, if it has one."
        ),
    )
    tenant: Name | None = Field(
        None, examples=["example"], description="SES tenant that the messages belong to. Unset, they belong to none."
    )
    tags: Tags = Field(
        default_factory=dict,
        examples=[{"stream": "news"}],
        description="SES message tags of every message. A message's own tag of the same name replaces one.",
    )
    list_unsubscribe: ListUnsubscribe | None = Field(
        None,
        examples=[{"url": "https://example.com/unsubscribe/{token}", "mailto": "unsubscribe@example.com?subject={token}"}],
        description=(
            "Addresses for unsubscribing: `url`, `mailto` or both, with `{token}` where the recipient's token goes. They become "
            "the List-Unsubscribe headers. Unset, messages have none."
        ),
    )
    role_arn: RoleArn | None = Field(
        None,
        examples=["arn:aws:iam::210987654321:role/mailer"],
        description=(
            "ARN of the IAM role that a worker assumes to send, so that another account sends. Unset, a worker sends with "
            "its own credentials."
        ),
    )
    external_id: ExternalId | None = Field(
        None,
        examples=["shared-secret"],
        description="External id for assuming `role_arn`, if the role's trust policy asks for one.",
    )
    region: Region | None = Field(
        None, examples=["eu-west-1"], description="AWS region that sends. Unset, AWS's own variables decide."
    )
    endpoint_url: EndpointUrl | None = Field(
        None,
        examples=["https://vpce-0a1b2c.email.eu-west-1.vpce.amazonaws.com"],
        description="URL of the SES API, such as a VPC endpoint. Unset, AWS's own variables decide.",
    )

    @model_validator(mode="after")
    def _identities_fit(self) -> Sender:
        for arn, address, name in (
            (self.identity_arn, self.from_, "from"),
            (self.feedback_identity_arn, self.feedback_address, "feedback_address"),
        ):
            if arn is not None and address is None:
                raise ValueError(f"`feedback_identity_arn` {arn} needs a `{name}`")
            if arn is not None and address is not None and (why := misfit(arn, address, self.region)):
                raise ValueError(why)
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("`external_id` goes with `role_arn`")
        return self


def misfit(arn: str, address: str, region: str | None) -> str | None:
    """Why this identity cannot stand for this address in this region; None where it can, or the region is not known.

    An identity serves its own region only, and covers its own address with whatever label (`ana+label@`), or every address
    at the domain and below it (developer guide, "Sending authorization", "Verified identities").
    """
    bare = parseaddr(address)[1]
    local, _, domain = bare.rpartition("@")
    arn_region, identity = arn.split(":", 5)[3], arn.split("identity/", 1)[1]
    at, _, identity_domain = identity.rpartition("@")
    identity_domain = identity_domain.lower()
    if at:
        covered = domain == identity_domain and at in (local, local.partition("+")[0])
    else:
        covered = f".{domain}".endswith(f".{identity_domain}")
    if not covered:
        return f"the identity {arn} does not cover the address {bare}; it has to be the one of that address or its domain"
    if region is not None and region != arn_region:
        return f"the identity {arn} is of region {arn_region}, and {bare} is sent from region {region}; both have to be the same"
    return None
