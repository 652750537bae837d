"""A campaign's message for one row of its list, as somebody may look at it before the list gets it."""

from __future__ import annotations

from typing import NamedTuple

from ..ledger import Entry
from ..message.email import Campaign, Email
from ..recipients import Source, Understood
from ..templates import Pieces
from . import spec_builder
from .chunks import entry_of, first_usable
from .handover import Handover, Start


class Trial(NamedTuple):
    email: Email  # to whoever looks at it
    address: str  # whose row it is
    subject: str | None  # as it would be sent; None where SES renders it
    understood: Understood  # how the list was read so far


async def trial_of(handover: Handover, campaign: Campaign, recipients: Source, to: str, how: Start) -> Trial:
    """Of the first row that would be sent to. Raises RecipientsError, NotFound, and what `Mailer.send` raises of content."""
    async with handover.open_list(recipients, spec_builder.expected(Campaign, campaign), how) as rows:
        row = await first_usable(rows)
        email = spec_builder.as_test(campaign, entry_of(row), to)
        return Trial(email, row.address, _subject(handover.specs, email), rows.understood)


def _subject(specs: spec_builder.SpecBuilder, email: Email) -> str | None:
    spec, blobs = specs.message(email)
    if spec.content is None:
        return None
    content = specs.material(spec, blobs).item("", 0, Entry(1, ", ".join(spec.to)), 1).content
    return content.subject if isinstance(content, Pieces) else None
