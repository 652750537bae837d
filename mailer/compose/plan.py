"""Which SES call carries which messages, and why.

In order: the caller's own MIME, or what no structured call can say → `SendEmail` raw; a template that is stored in SES, one
message → `SendEmail` template; two or more messages that share everything outside their data → `SendBulkEmail`; else, and
where a message does not fit into one, `SendEmail` simple. A caller may ask for a mode; one that cannot carry the content is
refused before anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..email import Mode
from ..errors import ModeRefused
from ..ledger.spec import Spec
from ..templates.render import Pieces
from .bulk import bulk_call
from .limits import (
    MAX_DATA_CHARS,
    MAX_ENTRIES,
    MAX_INLINE_REQUEST,
    MAX_STRUCTURED_HEADERS,
    MAX_STRUCTURED_TYPE,
    MAX_STRUCTURED_VALUE,
)
from .raw import assemble, raw_call, with_headers
from .request import Call, Item, Loaded, Mime
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
    asked = spec.mode
    unsayable = _unsayable(spec)
    if spec.raw is not None:
        _only(asked, Mode.RAW, "the content is a whole MIME message")
        return Choice(single=Mode.RAW, bulk=False, why="the content is a whole MIME message, which only SendEmail raw carries")
    if unsayable:
        if spec.ses_template is not None:
            raise ModeRefused(mode=Mode.TEMPLATE, why=f"{unsayable}, which only raw says, and raw takes no template of SES")
        _only(asked, Mode.RAW, unsayable)
        return Choice(single=Mode.RAW, bulk=False, why=f"{unsayable}, which no structured call says, so the MIME is made here")
    if asked is Mode.RAW:
        if spec.ses_template is not None:
            raise ModeRefused(mode=asked, why="SES itself fills in a stored template")
        return Choice(single=Mode.RAW, bulk=False, why="mode raw was asked for, so the MIME is made here")
    if asked is Mode.SIMPLE and spec.ses_template is not None:
        raise ModeRefused(mode=asked, why="a template that is stored in SES goes as template or bulk")
    single = Mode.TEMPLATE if spec.ses_template is not None or asked is Mode.TEMPLATE else Mode.SIMPLE
    if asked in (Mode.SIMPLE, Mode.TEMPLATE):
        return Choice(single=single, bulk=False, why=f"mode {asked} was asked for: a SendEmail call for each message")
    if spec.contact_list is not None:
        if asked is Mode.BULK:
            raise ModeRefused(mode=asked, why="SES manages a contact list for SendEmail only")
        return Choice(single=single, bulk=False, why="SES manages the contact list, which SendBulkEmail has no member for")
    if asked is Mode.BULK:
        return Choice(single=single, bulk=True, always_bulk=True, why="mode bulk was asked for")
    alone = "a template that is stored in SES" if spec.ses_template is not None else "subject and bodies of its own"
    return Choice(
        single=single, bulk=True, why=f"{alone}: one message goes as SendEmail {single}, several share a SendBulkEmail call"
    )


def _only(asked: Mode, possible: Mode, why: str) -> None:
    if asked not in (Mode.AUTO, possible):
        raise ModeRefused(mode=asked, why=f"{why}, so it goes as {possible}")


def _unsayable(spec: Spec) -> str:
    """What of this a structured call cannot say; "" where it can say it all."""
    unsubscribe = (spec.unsubscribe_url is not None) * 2 or (spec.unsubscribe_mailto is not None) * 1
    count = len(spec.headers) + unsubscribe
    if count > MAX_STRUCTURED_HEADERS:
        return f"it has {count} headers (a structured call has at most {MAX_STRUCTURED_HEADERS})"
    for name, value in spec.headers.items():
        if len(value) > MAX_STRUCTURED_VALUE:
            return f"its header {name} has {len(value)} characters (a structured call takes {MAX_STRUCTURED_VALUE})"
    for file in spec.files:
        kind = file.content_type.lower()
        if kind.startswith("text/calendar") and "method=" in kind:
            return f"{file.name} is a calendar invitation, an alternative of the body"
        if kind.startswith("message/"):
            return f"{file.name} is a message inside the message"
        if len(kind) > MAX_STRUCTURED_TYPE:
            return f"the content type of {file.name} has {len(kind)} characters (a structured call takes {MAX_STRUCTURED_TYPE})"
    return ""


def plan(spec: Spec, items: Sequence[Item], files: Sequence[Loaded] = (), *, bulk: bool = True) -> Planned:
    """The calls that carry these messages, each message in exactly one; `bulk` False: each in one of its own."""
    choice = choose(spec)
    planned = Planned([], [])
    if not choice.bulk or not (bulk or choice.always_bulk):
        for item in items:
            _single(spec, choice.single, item, files, planned)
        return planned
    for first in range(0, len(items), MAX_ENTRIES):
        _bulk(spec, choice, items[first : first + MAX_ENTRIES], files, planned)
    return planned


def _bulk(spec: Spec, choice: Choice, items: Sequence[Item], files: Sequence[Loaded], planned: Planned) -> None:
    if len(items) < 2 and not choice.always_bulk:
        _single(spec, choice.single, items[0], files, planned)
        return
    call = bulk_call(spec, items, files)
    if call is not None:
        planned.calls.append(call)
    elif len(items) < 2:
        _single(spec, choice.single, items[0], files, planned)
    else:
        half = len(items) // 2
        _bulk(spec, choice, items[:half], files, planned)
        _bulk(spec, choice, items[half:], files, planned)


def _single(spec: Spec, mode: Mode, item: Item, files: Sequence[Loaded], planned: Planned) -> None:
    call = _call(spec, mode, item, files)
    if isinstance(call, Call):
        planned.calls.append(call)
    else:
        planned.refused.append((item, call))


def _call(spec: Spec, mode: Mode, item: Item, files: Sequence[Loaded]) -> Call | str:
    """The call, or why there can be none."""
    if isinstance(item.content, Mime):
        has_reply_to = bool(spec.reply_to)
        return raw_call(spec, item, with_headers(item.content.data, item.headers), reply_to=has_reply_to)
    if mode is Mode.TEMPLATE:
        call = template_call(spec, item, files)
        if call is None:
            return f"its template data has more than the {MAX_DATA_CHARS:,} characters that SES takes"
        if spec.ses_template is None and len(call.body) > MAX_INLINE_REQUEST:
            return f"with its template it has {len(call.body):,} bytes, and SES takes {MAX_INLINE_REQUEST:,}; use mode simple"
        return call
    assert isinstance(item.content, Pieces)
    rendered = item.content.join()
    if mode is Mode.RAW:
        return raw_call(spec, item, assemble(spec, item, rendered, files), reply_to=False)
    return simple_call(spec, item, rendered, files)
