"""What a child does: renders rows, makes text parts of HTML, and checks rows against templates that SES has.

Each row has a deadline, in time of the processor, so that a slow machine fails nobody. Where Python itself does not come back to
look at it, the system ends the process soon after.
"""

from __future__ import annotations

import resource
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from types import FrameType
from typing import Any

import orjson
from markupsafe import Markup

from mailer.compose.shared_template import Segment, opened, segments
from mailer.data import loads
from mailer.errors import MailerError, RenderFailed
from mailer.templates.content import Content
from mailer.templates.frame import TooMuch, frame
from mailer.templates.handlebars import MissingAttribute, Template, compile_template
from mailer.templates.render import Compiled, Pieces
from mailer.templates.text import text_part
from mailer.templates.values import Missing, seen

SLICE_S = 1.0  # for which the rows of one request are worked on; the others are handed back
MAX_BATCH_CHARS = 8 << 20  # of the messages of one answer, but for the first
CHECKED_KEPT = 8  # templates of SES
KEPT_CHARS = 4 << 20  # of the sources of templates that are kept compiled
DEATH_S = 2  # after its deadline a row that does not look at the time ends the process
TOO_SLOW = "the template took longer than {seconds:g} s for this row"


class _TimeUp(BaseException):
    """Not an Exception: templates and their filters catch those."""


class _Kept:
    def __init__(self, compiled: Compiled, size: int) -> None:
        self.compiled, self.size = compiled, size


class Renderer:
    """`at` is told which row is being worked on."""

    def __init__(self, at: Callable[[int], None]) -> None:
        self._at = at
        self._contents: OrderedDict[str, _Kept] = OrderedDict()
        self._checked: OrderedDict[str, list[Template]] = OrderedDict()
        self._armed = False
        signal.signal(signal.SIGPROF, self._time_up)

    def answer(self, header: bytes, content: bytes, body: bytes) -> dict[str, Any]:
        """The answer to a request."""
        asked, given = orjson.loads(header), loads(body)
        self._at(0)
        try:
            if asked["do"] == "render":
                return self._render(asked["digest"], content, given, asked["seconds"])
            if asked["do"] == "text":
                return self._text(given)
            return self._check(asked["digest"], content, given["rows"], asked["seconds"])
        except MailerError as error:
            return {"broken": str(error)}
        except MemoryError:
            return {"crowded": True}

    # ---- time --------------------------------------------------------------------------------------

    def _time_up(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise _TimeUp

    @contextmanager
    def _limit(self, seconds: float) -> Iterator[None]:
        """Raises _TimeUp inside."""
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (ceil(time.process_time() + seconds) + DEATH_S, hard))
        self._armed = True
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            yield
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_PROF, 0)

    # ---- templates -----------------------------------------------------------------------------------

    def _render(self, digest: str, packed: bytes, given: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """`done` rows; of them those that failed, by place; the others in segments. `slow`: the next is too slow."""
        if digest not in self._contents and not packed:
            return {"need": True}
        try:
            with self._limit(seconds):
                compiled = self._compiled(digest, packed)
        except _TimeUp:
            return {"done": 0, "slow": True, "compiling": True}
        values, rows, until = seen(given["shared"]), given["rows"], time.process_time() + SLICE_S
        made, failed, chars, slow, longest = list[Pieces](), dict[str, str](), 0, False, 0.0
        began = time.process_time()
        for place, row in enumerate(rows):
            self._at(place)
            now = time.process_time()
            longest, began = max(longest, now - began), now
            if place and (now > until or chars > MAX_BATCH_CHARS):
                rows = rows[:place]
                break
            try:
                with self._limit(seconds):
                    pieces = compiled.pieces(_unpacked(row), values)
            except RenderFailed as error:
                failed[str(place)] = str(error)
            except _TimeUp:
                rows, slow = rows[:place], True
                break
            else:
                chars += sum(map(len, (*(pieces.html or ()), *(pieces.text or ()))))
                made.append(pieces)
        longest = max(longest, time.process_time() - began)
        return {"done": len(rows), "failed": failed, "slow": slow, "longest": longest, **self._parts(made, until)}

    def _compiled(self, digest: str, packed: bytes) -> Compiled:
        kept = self._contents.get(digest)
        if kept is None:
            content = Content.load(packed)
            kept = self._contents[digest] = _Kept(Compiled(content), sum(map(len, content.files.values())))
            while len(self._contents) > 1 and sum(one.size for one in self._contents.values()) > KEPT_CHARS:
                self._contents.popitem(last=False)
        self._contents.move_to_end(digest)
        return kept.compiled

    def _parts(self, made: Sequence[Pieces], until: float) -> dict[str, Any]:
        """The messages in segments, as many as text parts could be made of. `made`: how many that are."""
        if not made:
            return {"made": 0}
        html = None if made[0].html is None else segments([one.html or [] for one in made])
        count = len(made)
        if made[0].text is not None:
            text: list[Segment] = segments([one.text or [] for one in made])
        else:
            text, count = self._texts(html or [], len(made), until)
            html = None if html is None else _first(html, count)
        return {"made": count, "subject": [one.subject for one in made[:count]], "html": html, "text": text}

    # ---- text parts ----------------------------------------------------------------------------------

    def _text(self, html: list[Segment]) -> dict[str, Any]:
        """The text parts of messages whose HTML is given in segments."""
        html = [part if isinstance(part, str) else tuple(part) for part in html]
        count = next((len(part) for part in html if isinstance(part, tuple)), 1)
        text, made = self._texts(html, count, time.process_time() + SLICE_S)
        return {"made": made, "text": text}

    def _texts(self, html: list[Segment], count: int, until: float) -> tuple[list[Segment], int]:
        """Text parts, and of how many of the messages: where each has to be read for itself, of as many as there is time for, and
        one at least. Empty where there is none."""
        html = opened(html)
        values = [part for part in html if isinstance(part, tuple)]
        try:
            found = frame([None if isinstance(part, tuple) else part for part in html])
            if found is not None and found.takes(values):
                return found.segments(values), count
        except TooMuch:
            return [], count
        columns = [part if isinstance(part, tuple) else (part,) * count for part in html]
        texts: list[str] = []
        for row in zip(*columns, strict=True):
            if texts and time.process_time() > until:
                break
            self._at(count - 1)
            texts.append(text_part("".join(row)) or "")
        return [tuple(texts)] if any(texts) else [], len(texts)

    # ---- templates that SES has ----------------------------------------------------------------------

    def _check(self, digest: str, sources: bytes, rows: Sequence[Any], seconds: float) -> dict[str, Any]:
        """As with templates of ours, but that nothing is made: only whether a row has every variable."""
        parts = self._checked.get(digest)
        if parts is None and not sources:
            return {"need": True}
        if parts is None:
            parts = self._checked[digest] = [compile_template(source) for source in orjson.loads(sources)]
            if len(self._checked) > CHECKED_KEPT:
                self._checked.popitem(last=False)
        failed, until = dict[str, str](), time.process_time() + SLICE_S
        for place, row in enumerate(rows):
            self._at(place)
            if place and time.process_time() > until:
                return {"done": place, "failed": failed, "slow": False}
            try:
                with self._limit(seconds):
                    for part in parts:
                        part.check(row)
            except MissingAttribute as error:
                failed[str(place)] = error.path
            except _TimeUp:
                return {"done": place, "failed": failed, "slow": True}
        return {"done": len(rows), "failed": failed, "slow": False}


def _first(parts: list[Segment], count: int) -> list[Segment]:
    """The segments of the first so many messages."""
    return [part if isinstance(part, str) else part[:count] for part in parts]


def _unpacked(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `render.py` packed."""
    data: dict[str, Any] = row["data"]
    data |= {name: Missing(hint=why) for name, why in row.get("missing", {}).items()}
    data |= {name: Markup(text) for name, text in row.get("markup", {}).items()}  # noqa: S704  # a constant of ours
    return data
