"""Templates that are stored in SES: fetched once, and again when an edit could have changed them.

Where one cannot be read (no permission, another account's, helpers that are not known here) nothing of it is checked.
"""

from __future__ import annotations

import time

import structlog

from mailer.compose.material import StoredTemplate
from mailer.errors import MailerError
from mailer.ses.refusals import Kind, classify
from mailer.templates.handlebars import TemplateSyntaxError, compile_template

from .reach import Reach

log = structlog.get_logger()

KEPT_S = 60.0  # an edit in SES is seen within a minute; GetEmailTemplate may be called once a second
_ARN = ":template/"


class TemplateGone(MailerError):
    """There is no template {name} in SES in region {region}; store it there, or correct the name."""


class StoredTemplates:
    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[float, StoredTemplate]] = {}

    async def get(self, reach: Reach, name: str) -> StoredTemplate:
        """Raises TemplateGone."""
        key, now = (reach.account, name), time.monotonic()
        known = self._found.get(key)
        if known is None or now - known[0] > KEPT_S:
            known = self._found[key] = (now, await self._fetch(reach, name))
        return known[1]

    async def _fetch(self, reach: Reach, name: str) -> StoredTemplate:
        # SES reads templates by name, of the caller's own account: another's ARN cannot be looked up.
        if _ARN in name and not self._is_own(reach, name):
            return StoredTemplate(name, None)
        try:
            content = await reach.gateway.template(name.rpartition(_ARN)[2])
            return StoredTemplate(name, tuple(compile_template(source) for source in content.values()))
        except TemplateSyntaxError as error:
            log.info("a stored template is not checked", template=name, why=str(error))
        except Exception as error:
            refusal = classify(error)
            if refusal.kind is Kind.CONFIG and refusal.code == "NotFoundException":
                raise TemplateGone(name=name, region=reach.gateway.region) from None
            log.warning("a stored template cannot be read, so it is not checked", template=name, code=refusal.code)
        return StoredTemplate(name, None)

    @staticmethod
    def _is_own(reach: Reach, arn: str) -> bool:
        """As far as it can be told: the account's number is known where a role was taken."""
        number, _, region = reach.account.rpartition(":")
        return bool(number) and arn.split(":")[3:5] == [region, number]
