"""The unsubscribe link in a body: `{{ unsubscribe_url }}`, and SES's own `{{amazonSESUnsubscribeUrl}}`.

The first is the address of the message's List-Unsubscribe header, with the same token, which is one recipient's. Where the
message names a contact list, SES keeps the list and fills in the link itself, after everything else: then both are SES's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from markupsafe import Markup

from ..ledger.spec import Spec
from ..message.sender import TOKEN
from ..templates.names import LINK, SES_LINK
from ..templates.values import Missing
from ..unsubscribe.tokens import has_token

BY_SES = f"{{{{{SES_LINK}}}}}"  # SES fills in the first two of a message
NO_LINK = (
    f"the template uses '{LINK}', and there is no such address; give the sender a list_unsubscribe with a `url`, as "
    f"https://example.com/unsubscribe/{TOKEN} is one"
)
SHARED = (
    f"the template uses '{LINK}', which is one recipient's, and this message goes to several; send each of them a message of "
    "their own"
)
NOT_BY_SES = f"the template uses '{SES_LINK}', which SES fills in only for a contact_list; name one, or use '{LINK}'"


def link_needs_token(spec: Spec, used: Collection[str]) -> bool:
    return LINK in used and has_token(spec.link_url)


def given_links(spec: Spec, used: Collection[str], token: str) -> dict[str, Any]:
    """The variables for one recipient's message, of those that are used. `token` is empty where there are several recipients."""
    found = dict[str, Any]()
    if LINK in used:
        found[LINK] = Missing(hint=why) if (why := _why_none(spec, token)) else _link(spec, token)
    if SES_LINK in used:
        found[SES_LINK] = Markup(BY_SES) if spec.contact_list else Missing(hint=NOT_BY_SES)  # noqa: S704  # a constant
    return found


def _link(spec: Spec, token: str) -> str:
    assert spec.link_url is not None
    return spec.link_url.replace(TOKEN, token)


def _why_none(spec: Spec, token: str) -> str | None:
    if spec.link_url is None:
        return NO_LINK
    return SHARED if has_token(spec.link_url) and not token else None


def why_no_link(spec: Spec, required: Collection[str], recipients: int) -> str | None:
    """Why a message or campaign of this template cannot have the link that it needs, as far as that is known before the rows."""
    needed = set(required) - spec.data.keys()
    if SES_LINK in needed and not spec.contact_list:
        return NOT_BY_SES
    return _why_none(spec, "x" if recipients < 2 else "") if LINK in needed else None
