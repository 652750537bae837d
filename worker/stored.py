"""Templates that are stored in SES: fetched once, and again when an edit could have changed them.

Where one cannot be read (no permission, another account's, helpers that are not known here) nothing of it is checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from mailer.accounts.access import SesAccount
from mailer.compose.message_builder import StoredTemplate
from mailer.errors import MailerError
from mailer.ses.refusals import Kind, classify_question
from mailer.templates.handlebars import Template, TemplateSyntaxError, compile_template

log = structlog.get_logger()

KEPT_S = 60.0  # an edit in SES is seen within a minute; GetEmailTemplate may be called once a second
UNKNOWN_KEPT_S = 5.0  # where it could not be read for a reason that may pass
_ARN = ":template/"
_PASSING = {Kind.RATE, Kind.CALLS, Kind.RETRY, Kind.UNREACHABLE, Kind.AMBIGUOUS, Kind.CREDENTIALS}


class TemplateGone(MailerError):
    sentence = "There is no template {name} in SES in region {region}; store it there, or correct the name."


@dataclass(slots=True)
class _Kept:
    """A template as it was read last, if it was. One chunk reads it at a time, and the others wait for that."""

    until: float = 0.0  # of time.monotonic()
    template: StoredTemplate | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class StoredTemplates:
    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}

    async def get(self, ses_account: SesAccount, name: str) -> StoredTemplate:
        """Raises TemplateGone."""
        kept = self._kept.setdefault((ses_account.account, name), _Kept())
        async with kept.reading:
            if kept.template is None or time.monotonic() > kept.until:
                await self._read(ses_account, name, kept)
        assert kept.template is not None
        return kept.template

    async def _read(self, ses_account: SesAccount, name: str, kept: _Kept) -> None:
        unknown, keep_s = StoredTemplate(name, None), KEPT_S
        try:
            kept.template = await self._fetch(ses_account, name) or unknown
        except TemplateSyntaxError as error:
            kept.template = unknown
            log.info("a stored template is not checked", template=name, why=str(error))
        except Exception as error:
            refusal = classify_question(error)
            if refusal.kind is Kind.CONFIG and refusal.code == "NotFoundException":
                raise TemplateGone(name=name, region=ses_account.gateway.region) from None
            passing = refusal.kind in _PASSING
            kept.template = (kept.template if passing else None) or unknown
            keep_s = UNKNOWN_KEPT_S if passing else KEPT_S
            log.warning("a stored template cannot be read", template=name, code=refusal.code)
        kept.until = time.monotonic() + keep_s

    @staticmethod
    async def _fetch(ses_account: SesAccount, name: str) -> StoredTemplate | None:
        """None where it is another account's: SES reads templates by name, of the caller's own account."""
        if _ARN in name:
            try:
                own = [ses_account.gateway.region, await ses_account.gateway.own_account()]
            except Exception as error:
                log.warning("the account's number is not known", code=classify_question(error).code)
                return None
            if name.split(":")[3:5] != own:
                return None
        content = await ses_account.gateway.template(name.rpartition(_ARN)[2])
        sources = tuple(content.values())
        return StoredTemplate(name, await asyncio.to_thread(_compiled, sources), sources)


def _compiled(sources: Sequence[str]) -> tuple[Template, ...]:
    return tuple(map(compile_template, sources))
