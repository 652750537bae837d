"""Which of two ways a content is rendered: here, where nothing of it can hold the event loop up, or by a child.

Here: a template whose source shows that each row is cheap (`templates/cost.py`), rows that are not too large for it, and text
parts of a little HTML. All else is a child's. A row that fails, fails alone, whichever way it went.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from jinja2 import Undefined
from markupsafe import Markup

from mailer.compose import MAX_ENTRIES, Item
from mailer.compose.message_builder import Elsewhere, MessageBuilder, StoredTemplate
from mailer.compose.request import Values
from mailer.compose.shared_template import segments
from mailer.data import dumps, plain
from mailer.errors import RenderFailed
from mailer.ledger import Entry
from mailer.message.email import Lane
from mailer.templates import Compiled, Content, Pieces
from mailer.templates.cost import Cost, longest, measure
from mailer.templates.names import GIVEN
from mailer.templates.text import MAX_HTML

from .children import Children, Made

TURN_S = 0.01  # for which rows are rendered here before the rest of the process has its turn
MOST_CHARS = 8 << 20  # of the messages of one batch, but for the first
REQUEST_BYTES = 4 << 20  # of rows that a child is asked for at a time, but for the last
TEXT_CHARS = 1 << 14  # of HTML that is read here for text parts, in one plan: some milliseconds
HOPELESS = 10  # rows in turn that take too long, or too much memory; then the campaign stops
_GIVEN = 1000  # bytes that the service may add to a row's data
TOO_DEEP = "its data is nested too deep to be rendered"


class Near(Compiled):
    """A template that is rendered here, where its row is not too large."""

    def __init__(self, content: Content, digest: str, packed: bytes, cost: Cost) -> None:
        super().__init__(content)
        self.digest, self.packed, self.cost = digest, packed, cost


@dataclass(frozen=True, slots=True)
class Far(Elsewhere):
    """A template that a child renders."""

    digest: str
    packed: bytes


class Row(NamedTuple):
    """A recipient whose message is to be made."""

    position: int
    entry: Entry
    attempt: int
    leave_out: Sequence[str] = ()


@dataclass(slots=True)
class Batch:
    """The messages that were made, and what is to be known of them."""

    items: list[Item] = field(default_factory=list)
    failed: list[tuple[Row, str]] = field(default_factory=list)  # with the reason
    left: Sequence[Row] = ()  # for which there was no time
    chars: int = 0  # of the messages
    hopeless: str = ""  # why the whole campaign has no hope


def choose(digest: str, packed: bytes) -> Near | Far:
    """What a stored content is rendered by. Takes as long as the template is compiled, so not in the event loop."""
    content = Content.load(packed)
    cost = measure(content)
    if cost is not None:
        return Near(content, digest, packed, cost)
    mentions = frozenset(name for name in GIVEN if any(name in source for source in content.files.values()))
    return Far(mentions, digest, packed)


class Rendering:
    def __init__(self) -> None:
        self.children = Children()

    async def batch(self, lane: Lane, chunk: str, material: MessageBuilder, rows: Sequence[Row]) -> Batch:
        """The messages of these recipients, as many as there is time and room for; one at least. Raises Busy and Broken."""
        source = material.source
        if isinstance(source, Near):
            fitting = _fitting(source.cost, material, rows)
            if fitting:
                return await self._here(chunk, material, rows, fitting)
            return await self._elsewhere(lane, chunk, material, Far(source.mentions, source.digest, source.packed), rows)
        if isinstance(source, Far):
            return await self._elsewhere(lane, chunk, material, source, rows)
        if isinstance(source, StoredTemplate) and source.has_blocks:
            return await self._checked(lane, chunk, material, source, rows)
        return await self._here(chunk, material, rows, len(rows))

    async def with_texts(self, lane: Lane, items: Sequence[Item]) -> list[Item]:
        """The same messages, with text parts where those have to be made of their HTML. Raises Busy."""
        waiting, done = list(items), list[Item]()
        while waiting:
            some = _alike(waiting)
            pieces = [item.content for item in some if isinstance(item.content, Pieces)]
            if not pieces or pieces[0].text is not None:
                done += some
            elif sum(map(len, pieces[0].html or ())) > MAX_HTML:
                some = some[:1]
                done.append(_with_text(some[0], []))
            else:
                texts, made = await self.children.text(lane, segments([one.html or [] for one in pieces]))
                some = some[:made]
                rows = ([part if isinstance(part, str) else part[number] for part in texts] for number in range(made))
                done += map(_with_text, some, rows)
            del waiting[: len(some)]
        return done

    # ---- here --------------------------------------------------------------------------------------

    async def _here(self, chunk: str, material: MessageBuilder, rows: Sequence[Row], fitting: int) -> Batch:
        batch, turn = Batch(left=rows[fitting:]), time.monotonic()
        for number, row in enumerate(rows[:fitting]):
            if time.monotonic() - turn > TURN_S:
                await asyncio.sleep(0)
                turn = time.monotonic()
            if number and batch.chars > MOST_CHARS:
                batch.left = rows[number:]
                break
            try:
                item = material.item(chunk, row.position, row.entry, row.attempt, row.leave_out)
            except RenderFailed as error:
                batch.failed.append((row, str(error)))
            else:
                batch.items.append(item)
                batch.chars += chars(item)
        return batch

    # ---- by a child ----------------------------------------------------------------------------------

    async def _elsewhere(self, lane: Lane, chunk: str, material: MessageBuilder, source: Far, rows: Sequence[Row]) -> Batch:
        batch, packed, size = Batch(), list[bytes](), 0
        for number, row in enumerate(rows):
            if number and size > REQUEST_BYTES:
                rows, batch.left = rows[:number], rows[number:]
                break
            try:
                packed.append(_packed(material.data(row.entry)))
                size += len(packed[-1])
            except (TypeError, ValueError):
                batch.failed.append((row, TOO_DEEP))
                rows, batch.left = rows[:number], rows[number + 1 :]
                break
        if not packed:
            return batch
        made = await self.children.render(lane, source.digest, source.packed, dumps(material.spec.data), packed)
        batch.left = [*rows[made.done :], *batch.left]
        for number, row in enumerate(rows[: made.done]):
            if why := made.failed.get(number):
                batch.failed.append((row, why))
            else:
                content = made.pieces[number]
                batch.items.append(material.item(chunk, row.position, row.entry, row.attempt, row.leave_out, content))
                batch.chars += chars(batch.items[-1])
        _judge(batch, made)
        return batch

    async def _checked(
        self, lane: Lane, chunk: str, material: MessageBuilder, source: StoredTemplate, rows: Sequence[Row]
    ) -> Batch:
        """Messages of a template that SES has: whether each has every variable is all that is to be found out."""
        data = [material.all_data(row.entry) for row in rows]
        sources = orjson.dumps(source.sources)
        digest = hashlib.sha256(sources).hexdigest()
        made = await self.children.check(lane, digest, sources, [dumps(one) for one in data])
        batch = Batch(left=rows[made.done :])
        for number, row in enumerate(rows[: made.done]):
            path = made.failed.get(number)
            if path is None:
                content = Values(plain(data[number]).decode())
                batch.items.append(material.item(chunk, row.position, row.entry, row.attempt, row.leave_out, content))
            else:
                batch.failed.append((row, str(source.lacks(path)) if path else f"the template {source.name} has too much to do"))
        _judge(batch, made)
        return batch


def _judge(batch: Batch, made: Made) -> None:
    if made.hopeless >= HOPELESS:
        why = next(iter(made.failed.values()), "")
        batch.hopeless = f"{HOPELESS} recipients in a row failed, and each took long: {why}"


def _fitting(cost: Cost, material: MessageBuilder, rows: Sequence[Row]) -> int:
    """How many of these rows, from the first, are cheap."""
    shared = material.spec.data
    given, most = _GIVEN + (len(dumps(shared)) if shared else 0), longest(shared) if cost.has_loops else 0
    room = cost.room(most) - given
    if not cost.has_loops and _together_below(room, rows):
        return len(rows)
    for number, row in enumerate(rows):
        data = row.entry.data
        try:
            if cost.has_loops:
                room = cost.room(max(most, longest(data))) - given
            if len(dumps(data)) > room:
                return number
        except (TypeError, ValueError, RecursionError):  # too deep to be written
            return number
    return len(rows)


def _together_below(room: int, rows: Sequence[Row]) -> bool:
    """Whether the data of all these rows together has no more bytes than one may have: so it is of most lists."""
    try:
        return len(dumps([row.entry.data for row in rows])) <= room
    except (TypeError, ValueError, RecursionError):
        return False


def _packed(data: Mapping[str, Any]) -> bytes:
    """A row for a child: its data, what it lacks and why, and texts that are not to be escaped. Raises TypeError, ValueError."""
    missing = {name: value._undefined_hint for name, value in data.items() if isinstance(value, Undefined)}
    markup = {name: str(value) for name, value in data.items() if isinstance(value, Markup)}
    if not missing and not markup:
        return dumps({"data": data})
    rest = {name: value for name, value in data.items() if name not in missing and name not in markup}
    return dumps({"data": rest, "missing": missing, "markup": markup})


def chars(item: Item) -> int:
    """How many a message has, without what is attached."""
    content = item.content
    if not isinstance(content, Pieces):
        return 0
    return sum(map(len, content.html or ())) + sum(map(len, content.text or ()))


def _alike(items: Sequence[Item]) -> list[Item]:
    """The first messages, as many as may be read together: those of one content, and not too many characters."""
    some, length = list[Item](), 0
    for item in items:
        length += chars(item)
        if some and (length > MOST_CHARS or len(some) == MAX_ENTRIES):
            break
        some.append(item)
    return some


def _with_text(item: Item, text: list[str]) -> Item:
    assert isinstance(item.content, Pieces)
    return item._replace(content=Pieces(item.content.subject, item.content.html, text))
