"""Which SES call carries which messages, and why.

In order: the caller's own MIME, or what no structured call can say → `SendEmail` raw; a template that is stored in SES, one
message → `SendEmail` template; two or more messages that share everything outside their data → `SendBulkEmail`; else, and
where a message does not fit into one, `SendEmail` simple. A caller may ask for a mode; one that cannot carry the content is
refused before anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ModeRefused
from ..ledger.spec import Spec
from ..message.attachment import is_message
from ..message.email import Mode
from ..templates.render import Pieces, Rendered
from .bulk import bulk_call
from .limits import (
    MAX_DATA_CHARS,
    MAX_ENTRIES,
    MAX_INLINE_REQUEST,
    MAX_MESSAGE,
    MAX_RAW,
    MAX_STRUCTURED_HEADERS,
    MAX_STRUCTURED_TYPE,
    MAX_STRUCTURED_VALUE,
)
from .raw import assemble, is_invitation, raw_call, with_headers
from .request import Call, Item, Loaded, Mime
from .shared_template import TextElsewhere
from .simple import simple_call
from .template import template_call


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the messages of a spec go."""

    single: Mode  # of one message alone: simple, raw or template
    bulk: bool  # whether several may share a call
    always_bulk: bool = False  # the caller asked for it: also one alone
    why: str  # one sentence


@dataclass(frozen=True, slots=True)
class Planned:
    calls: list[Call]
    refused: list[tuple[Item, str]]  # what no call can carry, and why


def choose(spec: Spec) -> Choice:
    """Raises ModeRefused where the mode that was asked for cannot carry this content, or no mode can."""
    if (raw := _raw(spec)) is not None:
        return raw
    asked, stored = spec.mode, spec.ses_template is not None
    if asked is Mode.SIMPLE and stored:
        raise ModeRefused(mode=asked, why="a template that is stored in SES goes as template or bulk")
    if asked in (Mode.TEMPLATE, Mode.BULK) and (too_large := _too_large_inline(spec)):
        raise ModeRefused(mode=asked, why=f"{too_large}; use mode simple")
    single = Mode.TEMPLATE if stored or asked is Mode.TEMPLATE else Mode.SIMPLE
    if asked in (Mode.SIMPLE, Mode.TEMPLATE):
        return Choice(single=single, bulk=False, why=f"mode {asked} was asked for: a SendEmail call for each message")
    if spec.contact_list is not None:
        if asked is Mode.BULK:
            raise ModeRefused(mode=asked, why="SES manages a contact list for SendEmail only")
        return Choice(single=single, bulk=False, why="SES manages the contact list, which SendBulkEmail has no member for")
    if asked is Mode.BULK:
        return Choice(single=single, bulk=True, always_bulk=True, why="mode bulk was asked for")
    if too_large := _too_large_inline(spec):
        return Choice(single=single, bulk=False, why=f"{too_large}, so each message goes as SendEmail {single}")
    alone = "a template that is stored in SES" if stored else "subject and bodies of its own"
    return Choice(
        single=single, bulk=True, why=f"{alone}: one message goes as SendEmail {single}, several share a SendBulkEmail call"
    )


def _raw(spec: Spec) -> Choice | None:
    """Where the content has to go as MIME, or was asked to."""
    asked, whole = spec.mode, "the content is a whole MIME message"
    if spec.raw is not None:
        _only_raw(asked, whole)
        return Choice(single=Mode.RAW, bulk=False, why=f"{whole}, which only SendEmail raw carries")
    if unsayable := _unsayable(spec):
        if spec.ses_template is not None:
            raise ModeRefused(mode=Mode.TEMPLATE, why=f"{unsayable}, which only raw says, and raw takes no template of SES")
        _only_raw(asked, unsayable)
        why = f"{unsayable}, which no structured call says, so the MIME is made here"
    elif asked is Mode.RAW:
        if spec.ses_template is not None:
            raise ModeRefused(mode=asked, why="SES itself fills in a stored template")
        why = "mode raw was asked for, so the MIME is made here"
    else:
        return None
    if (size := _base64(spec)) > MAX_RAW:
        raise ModeRefused(mode=Mode.RAW, why=f"its attachments have {size:,} bytes in MIME, and SES takes {MAX_RAW:,}")
    return Choice(single=Mode.RAW, bulk=False, why=why)


def _only_raw(asked: Mode, why: str) -> None:
    if asked not in (Mode.AUTO, Mode.RAW):
        raise ModeRefused(mode=asked, why=f"{why}, so it goes as raw")


def _too_large_inline(spec: Spec) -> str:
    """Attachments beside which no inline template has room."""
    size = _base64(spec)
    if spec.ses_template is not None or size <= MAX_INLINE_REQUEST:
        return ""
    return f"its attachments have {size:,} bytes (a request that has the template in it takes {MAX_INLINE_REQUEST:,})"


def _base64(spec: Spec) -> int:
    """Bytes of all attachments."""
    return sum((file.size + 2) // 3 * 4 for file in spec.files)


def _unsayable(spec: Spec) -> str:
    """What of this a structured call cannot say; "" where it can say it all."""
    names = {name.lower() for name in spec.headers}
    if spec.unsubscribe_url is not None or spec.unsubscribe_mailto is not None:
        names.add("list-unsubscribe")
    if spec.unsubscribe_url is not None:
        names.add("list-unsubscribe-post")
    if len(names) > MAX_STRUCTURED_HEADERS:
        return f"it has {len(names)} headers (a structured call has at most {MAX_STRUCTURED_HEADERS})"
    for name, value in spec.headers.items():
        if len(value) > MAX_STRUCTURED_VALUE:
            return f"its header {name} has {len(value)} characters (a structured call takes {MAX_STRUCTURED_VALUE})"
    for file in spec.files:
        if is_invitation(file):
            return f"{file.name} is a calendar invitation, an alternative of the body"
        if is_message(file.content_type):
            return f"{file.name} is a message inside the message"
        if (length := len(file.content_type)) > MAX_STRUCTURED_TYPE:
            return f"the content type of {file.name} has {length} characters (a structured call takes {MAX_STRUCTURED_TYPE})"
    return ""


def plan(
    spec: Spec, items: Sequence[Item], files: Sequence[Loaded] = (), *, bulk: bool = True, most_text: int | None = None
) -> Planned:
    """The calls that carry these messages, each message in exactly one; `bulk` False: each in one of its own.

    Raises TextElsewhere where text parts have to be made of more than `most_text` characters of HTML.
    """
    choice = choose(spec)
    planner = _Planner(spec, choice, files, most_text)
    if not choice.bulk or not (bulk or choice.always_bulk):
        for item in items:
            planner.single(item)
        return planner.planned
    for first in range(0, len(items), MAX_ENTRIES):
        planner.bulk(items[first : first + MAX_ENTRIES])
    return planner.planned


@dataclass(slots=True)
class _Planner:
    spec: Spec
    choice: Choice
    files: Sequence[Loaded]
    most_text: int | None  # what is left of it
    planned: Planned = field(default_factory=lambda: Planned([], []))

    def bulk(self, items: Sequence[Item]) -> None:
        if len(items) < 2 and not self.choice.always_bulk:
            self.single(items[0])
            return
        call = bulk_call(self.spec, items, self.files, self.most_text)
        if call is not None:
            self.planned.calls.append(call)
        elif len(items) < 2:
            self.single(items[0])
        else:
            half = len(items) // 2
            self.bulk(items[:half])
            self.bulk(items[half:])

    def single(self, item: Item) -> None:
        call = self._call(item)
        if isinstance(call, Call):
            self.planned.calls.append(call)
        else:
            self.planned.refused.append((item, call))

    def _call(self, item: Item) -> Call | str:
        """The call, or why there can be none."""
        spec, mode = self.spec, self.choice.single
        if isinstance(item.content, Mime):
            return _raw_call(spec, item, with_headers(item.content.data, item.headers), reply_to=True)
        if mode is Mode.TEMPLATE:
            call = template_call(spec, item, self.files, self.most_text)
            if call is None:
                return f"its template data has more than the {MAX_DATA_CHARS:,} characters that SES takes"
            if spec.ses_template is None and len(call.body) > MAX_INLINE_REQUEST:
                return f"with its template it has {len(call.body):,} bytes, and SES takes {MAX_INLINE_REQUEST:,}; use mode simple"
            return call
        assert isinstance(item.content, Pieces)
        rendered = self._joined(item.content)
        if mode is Mode.RAW:
            return _raw_call(spec, item, assemble(spec, item, rendered, self.files), reply_to=False)
        call = simple_call(spec, item, rendered, self.files)
        return call or f"in base64 it has more than the {MAX_MESSAGE:,} bytes that SES takes"

    def _joined(self, content: Pieces) -> Rendered:
        if content.text is None and self.most_text is not None:
            self.most_text -= sum(map(len, content.html or ()))
            if self.most_text < 0:
                raise TextElsewhere
        return content.join()


def _raw_call(spec: Spec, item: Item, mime: bytes, *, reply_to: bool) -> Call | str:
    if len(mime) > MAX_RAW:
        return f"it has {len(mime):,} bytes as MIME, and SES takes {MAX_RAW:,}, which are 40 MB in base64"
    return raw_call(spec, item, mime, reply_to=reply_to)
