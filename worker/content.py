"""Loading what the messages of a chunk are made from, once a shift: template, attachments, a caller's MIME."""

from __future__ import annotations

from mailer.accounts.access import SesAccount
from mailer.compose import Loaded, Mime
from mailer.compose.message_builder import MessageBuilder, StoredTemplate
from mailer.errors import MailerError
from mailer.ledger import File, Literal, Spec
from mailer.message.sender import misfit
from mailer.unsubscribe.tokens import Tokens

from .render import Far, Near
from .runtime import Runtime


class Unusable(MailerError):
    sentence = "{why}"


async def load(runtime: Runtime, ses_account: SesAccount, spec: Spec) -> MessageBuilder:
    """Raises MailerError where nothing of it can be sent, with the reason."""
    for arn, address in ((spec.identity_arn, spec.from_address), (spec.feedback_identity_arn, spec.feedback_address)):
        if arn and address and (why := misfit(arn, address, ses_account.gateway.region)):
            raise Unusable(why=why)
    material = MessageBuilder(
        spec=spec,
        source=await _source(runtime, ses_account, spec),
        files=tuple([await _file(runtime, file) for file in spec.files]),
        tokens=Tokens(runtime.settings.secret_keys),
    )
    material.check()
    return material


async def _source(runtime: Runtime, ses_account: SesAccount, spec: Spec) -> Near | Far | Literal | StoredTemplate | Mime:
    if spec.literal is not None:
        return spec.literal
    if spec.ses_template is not None:
        return await runtime.stored.get(ses_account, spec.ses_template)
    if spec.raw is not None:
        mime = await runtime.ledger.contents.get(spec.raw, "its MIME message")
        if mime is None:
            raise Unusable(why="its MIME message is not in Redis any more; send it again")
        return Mime(mime)
    template = await runtime.template(spec)
    if template is None:
        raise Unusable(why="its template is not in Redis any more; start it again")
    return template


async def _file(runtime: Runtime, file: File) -> Loaded:
    loaded = await runtime.loaded(file)
    if loaded is None:
        raise Unusable(why=f"its attachment {file.name} is not in Redis any more; start it again")
    return loaded
