"""Before a campaign is started, or sent again: what it will do is said, and on a terminal somebody is asked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import NotLookedAt
from ..intake.summary import Summary
from .output import hint, one_line, print_json, say, when
from .run import on_interrupt

SHOWN_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    dry_run: bool
    yes: bool  # nobody is asked
    as_json: bool
    hints: Callable[[Summary], Sequence[str]] = lambda summary: ()  # what is likely to be a mistake

    async def confirm(self, summary: Summary) -> bool:
        for sentence in sentences(summary):
            say(one_line(sentence))
        for sentence in self.hints(summary):
            hint(one_line(sentence))
        if summary.doubts and self.yes and not self.dry_run:
            raise NotLookedAt(why=summary.doubts[0])
        for sentence in summary.doubts:
            say(one_line(sentence), "yellow")
        if self.dry_run:
            if self.as_json:
                print_json(summary_json(summary))
            say("nothing was sent: it was a dry run")
            return False
        return self.yes or await agreed("send it?")


def sentences(summary: Summary) -> Iterator[str]:
    """How the list was read, who gets it and who does not, and for how long it goes."""
    yield summary.understood.sentences()[0]
    counts = [f"{summary.to_send:,} of {summary.rows:,} rows will be sent to"]
    counts += [f"{n:,} {label}" for label, n in summary.counts.items() if label != "queued"]
    yield ", ".join(counts)
    for one in summary.left_out:
        rows = "1 address" if one.addresses == 1 else f"{one.addresses:,} addresses"
        yield f"to be left out: {rows} of {one.source}"
    for reason, n in list(summary.reasons.items())[:SHOWN_REASONS]:
        yield f"not {n:,}: {reason}"
    parts = [f"from {summary.from_address}"]
    if summary.subject is not None:
        parts.append(f"subject of the first: {summary.subject}")
    if summary.send_at is not None:
        parts.append(f"at {when(summary.send_at)}")
    if summary.seconds is not None:
        parts.append(_about(summary.seconds))
    yield ", ".join(parts)


def summary_json(summary: Summary) -> dict[str, Any]:
    found = summary.understood
    return {
        "name": summary.name,
        "from": summary.from_address,
        "subject": summary.subject,
        "rows": summary.rows,
        "to_send": summary.to_send,
        "counts": dict(summary.counts),
        "reasons": dict(summary.reasons),
        "send_at": summary.send_at,
        "rate": summary.rate,
        "seconds": summary.seconds,
        "left_out": [
            {"source": one.source, "addresses": one.addresses, "rows": one.rows, "unusable": one.unusable}
            for one in summary.left_out
        ],
        "doubts": list(summary.doubts),
        "list": {
            "source": found.source,
            "format": found.format.value,
            "encoding": found.encoding,
            "delimiter": found.delimiter,
            "columns": [
                {"name": column.name, "role": column.role.value, "variables": column.variables} for column in found.columns
            ],
        },
    }


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:,.0f} min" if seconds < 90 * 60 else f"about {seconds / 3600:,.1f} h"


async def agreed(question: str) -> bool:
    """The answer of whoever sits at the terminal. The loop goes on meanwhile: Redis is told that the list is still wanted."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    loop, line = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), line.set)
    try:
        with on_interrupt("\nstopped; nothing was sent"):
            await line.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in ("y", "yes")
