"""What the messages of a chunk are made from, loaded once a shift: template, attachments, a caller's MIME."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mailer.compose import Item, Loaded, Mime, Values
from mailer.errors import MailerError, RenderFailed
from mailer.ids import Attempt, chunk_number, container_of
from mailer.ledger import Entry, File, Literal, Spec
from mailer.sender import misfit
from mailer.templates import Compiled, Pieces
from mailer.templates.handlebars import MissingAttribute
from mailer.unsubscribe import Tokens, unsubscribe_headers

from .reach import Reach
from .runtime import Runtime
from .stored import StoredTemplate


class Unusable(MailerError):
    """{why}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    spec: Spec
    source: Compiled | Literal | StoredTemplate | Mime
    files: tuple[Loaded, ...]
    tokens: Tokens

    def item(self, chunk: str, position: int, entry: Entry, attempt: int) -> Item:
        """One recipient's message. Raises RenderFailed where its data does not fit the template."""
        spec = self.spec
        to = spec.to or ((entry.to,) if not (spec.cc or spec.bcc) else ())
        return Item(
            position=position,
            attempt=attempt,
            tag=str(Attempt(container_of(chunk), chunk_number(chunk), position, attempt)),
            to=to,
            cc=spec.cc or tuple(entry.cc),
            bcc=spec.bcc or tuple(entry.bcc),
            tags=entry.tags,
            headers=self._unsubscribe(entry.to if not spec.to else spec.to[0]),
            content=self._content(entry),
        )

    def _content(self, entry: Entry) -> Pieces | Values | Mime:
        source = self.source
        if isinstance(source, Mime):
            return source
        if isinstance(source, Literal):
            html = [source.html] if source.html is not None else None
            return Pieces(source.subject, html, [source.text] if source.text is not None else None)
        data = {"email": entry.to, **self.spec.data, **entry.data}
        return source.pieces(data) if isinstance(source, Compiled) else _values(source, data)

    def _unsubscribe(self, address: str) -> Mapping[str, str]:
        spec = self.spec
        if spec.unsubscribe_url is None and spec.unsubscribe_mailto is None:
            return {}
        token = self.tokens.make(address, spec.stream)
        return unsubscribe_headers(spec.unsubscribe_url, spec.unsubscribe_mailto, token)


def _values(source: StoredTemplate, data: dict[str, Any]) -> Values:
    if source.parts is not None:
        try:
            for part in source.parts:
                part.check(data)
        except MissingAttribute as error:
            why = f"the template {source.name} uses '{error.path}', which this row does not have"
            raise RenderFailed(name=source.name, why=why) from None
    return Values(orjson.dumps(data).decode())


async def load(runtime: Runtime, reach: Reach, spec: Spec) -> Material:
    """Raises MailerError where nothing of it can be sent, with the reason."""
    for arn, address in ((spec.identity_arn, spec.from_address), (spec.feedback_identity_arn, spec.feedback_address)):
        if arn and address and (why := misfit(arn, address, reach.gateway.region)):
            raise Unusable(why=why)
    tokens = Tokens(runtime.settings.secret_keys)
    if "{token}" in f"{spec.unsubscribe_url}{spec.unsubscribe_mailto}":
        tokens.make("", "")  # raises where there is no key, here and not once for each row
    return Material(
        spec=spec,
        source=await _source(runtime, reach, spec),
        files=tuple([await _file(runtime, file) for file in spec.files]),
        tokens=tokens,
    )


async def _source(runtime: Runtime, reach: Reach, spec: Spec) -> Compiled | Literal | StoredTemplate | Mime:
    if spec.literal is not None:
        return spec.literal
    if spec.ses_template is not None:
        return await runtime.stored.get(reach, spec.ses_template)
    if spec.raw is not None:
        mime = await runtime.ledger.get_content(spec.raw)
        if mime is None:
            raise Unusable(why="its MIME message is not in Redis any more; send it again")
        return Mime(mime)
    compiled = await runtime.compiled(spec)
    if compiled is None:
        raise Unusable(why="its template is not in Redis any more; start it again")
    return compiled


async def _file(runtime: Runtime, file: File) -> Loaded:
    loaded = await runtime.loaded(file)
    if loaded is None:
        raise Unusable(why=f"its attachment {file.name} is not in Redis any more; start it again")
    return loaded
