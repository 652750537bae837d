"""What the commands show. Data on standard output, everything else on standard error; colours on a terminal only."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from email.header import decode_header, make_header
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..data import plain
from ..ledger import CampaignStatus, MessageStatus, RecipientStatus
from ..message.email import Outcome
from ..printable import escaped_json, printable_text
from ..printable import one_line as one_line  # the commands have it from here
from ..printable import printable as printable
from ..report import LINE, guarded, header
from .streams import ReaderGone as ReaderGone
from .streams import is_terminal as is_terminal

REASONS_SHOWN = 3
PIPE_WIDTH = 100_000  # columns: what another program reads is neither wrapped nor cut


class _Safe(Console):
    """Whatever it is given to show, a terminal obeys nothing in it but rich's own."""

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            one if one.control else Segment(printable_text(one.text), one.style, one.control) for one in buffer
        )


class _Output(_Safe):
    def on_broken_pipe(self) -> None:
        raise ReaderGone


class _Messages(_Safe):
    def on_broken_pipe(self) -> None:
        self.quiet = True  # nobody reads what we say; that is no reason to stop what we do


def _width(terminal: bool) -> int | None:
    return None if terminal else PIPE_WIDTH


_out_tty, _err_tty = is_terminal(sys.stdout), is_terminal(sys.stderr)
out = _Output(highlight=False, force_terminal=_out_tty, width=_width(_out_tty))
err = _Messages(stderr=True, highlight=False, force_terminal=_err_tty, width=_width(_err_tty))

GOOD = {"sent", "delivered", "finished", "running"}
BAD = {"failed", "rejected", "bounced", "complained", "stopped", "unknown"}


def say(text: str, style: str | None = None) -> None:
    """To the human, on standard error."""
    err.print(text, style=style, markup=False, soft_wrap=True)


def hint(text: str) -> None:
    """What will be done, and is still likely to be a mistake."""
    say(f"hint: {one_line(text)}", "yellow")


def print_json(value: Any) -> None:
    sys.stdout.buffer.write(escaped_json(orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)))
    sys.stdout.buffer.flush()


def campaign_json(status: CampaignStatus) -> dict[str, Any]:
    return {**asdict(status), "state": status.state.value}


def message_json(status: MessageStatus) -> dict[str, Any]:
    """With the fields that are promised, and no others."""
    return {name: value for name, value in asdict(status).items() if name != "lane"}


def styled(state: str) -> Text:
    return Text(state, style="green" if state in GOOD else "red" if state in BAD else "yellow")


def when(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ") if moment else ""


def facts(pairs: Mapping[str, Any]) -> None:
    """Names and values, aligned."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in (None, ""):
            table.add_row(Text(name, style="dim"), value if isinstance(value, Text) else Text(str(value)))
    out.print(table)


def campaign_table(campaigns: list[CampaignStatus]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("ID", no_wrap=True, min_width=len(campaigns[0].id))  # to be copied whole, however narrow the terminal
    table.add_column("NAME", overflow="fold")
    for column in ("STATE", "CREATED"):
        table.add_column(column)
    for column in ("ROWS", "SENT", "LEFT"):
        table.add_column(column, justify="right")
    for c in campaigns:
        numbers = (f"{number:,}" for number in (c.rows, accepted(c), c.left))
        table.add_row(c.id, Text(c.name), styled(c.state), when(c.created_at), *numbers)
    out.print(table)


def accepted(status: CampaignStatus) -> int:
    """Recipients that SES has accepted."""
    return sum(status.counts.get(name, 0) for name in ("sent", "delivered", "bounced", "complained"))


def outcome_table(status: CampaignStatus) -> None:
    """The outcomes of a campaign; the last line is their sum, which is the rows that were read."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_footer=True, footer_style="bold")
    table.add_column("OUTCOME", footer="rows read")
    table.add_column("RECIPIENTS", justify="right", footer=f"{sum(status.counts.values()):,}")
    for name in Outcome:
        if status.counts.get(name):
            table.add_row(styled(name), f"{status.counts[name]:,}")
    out.print(table)


def reason_table(status: CampaignStatus) -> None:
    """The commonest reasons for which recipients do not get it."""
    if not status.reasons:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("WHY NOT", overflow="fold")
    table.add_column("RECIPIENTS", justify="right")
    for reason, n in list(status.reasons.items())[:REASONS_SHOWN]:
        table.add_row(Text(one_line(reason)), f"{n:,}")
    if more := sum(list(status.reasons.values())[REASONS_SHOWN:]):
        table.add_row(Text("other reasons", style="dim"), f"{more:,}")
    out.print()
    out.print(table)


def campaign_facts(status: CampaignStatus, workers: Text | None = None) -> None:
    """`workers`: who sends it, where it goes on."""
    facts(
        {
            "campaign": status.id,
            "name": status.name,
            "state": styled(status.state.value),
            "reason": status.reason,
            "workers": workers,
            "rate": f"{status.rate:,.1f} recipients/s" if status.rate else "",
            "created": when(status.created_at),
            "finished": when(status.finished_at),
            "sent to twice": f"{status.twice:,}" if status.twice else "",
            "delayed": f"{status.delayed:,}, to whom SES is still trying to deliver it" if status.delayed else "",
            "hard bounces": f"{status.reputation.bounced:,}" if status.counts.get("bounced") else "",
        }
    )
    out.print()
    outcome_table(status)
    reason_table(status)


class Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="cyan")


def progress_bar() -> Progress:
    """A live bar on a terminal, on standard error."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=err,
        disable=not err.is_terminal,
    )


def line_json(line: RecipientStatus) -> dict[str, Any]:
    return {name: getattr(line, name) for name in LINE}


def row_json(line: RecipientStatus) -> dict[str, Any]:
    """The line with its row: as NDJSON it can be read as a list again."""
    extras = {name: value for name in ("cc", "bcc", "tags") if (value := getattr(line, name))}
    return {**line_json(line), "email": _mailbox(line), "data": line.data, **extras}


def _mailbox(line: RecipientStatus) -> str:
    """The address with its name, as a list may have it: a report is a list again."""
    return f"{make_header(decode_header(line.name))} <{line.to}>" if line.name else line.to


class Report:
    """Lines of a campaign's report, as they come.

    `columns`: the variables of the rows, each of which gets a column in CSV; None: the report is without them. A column of the
    report that is called like a variable of the list then has `report_` before its name.
    """

    def __init__(self, format: str, columns: Sequence[str] | None = None) -> None:
        self._json = line_json if columns is None else row_json
        self._columns = columns
        # Every field in quotes: then no program takes a `;` or tab inside one for the end of it.
        self._csv = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL) if format == "csv" else None
        if self._csv and columns is None:
            self._csv.writerow(LINE)
        elif self._csv:
            assert columns is not None
            self._csv.writerow(header(columns))

    def add(self, line: RecipientStatus) -> None:
        if self._csv is None:
            option = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
            sys.stdout.buffer.write(escaped_json(plain(self._json(line), option)))
            return
        values = line_json(line) | {"updated_at": line.updated_at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        cells = [printable(_cell(values[name])) for name in LINE]
        if self._columns is not None:
            row = [_mailbox(line), *[line.data.get(name) for name in self._columns], ";".join(line.cc), ";".join(line.bcc)]
            given = [_cell(_flat(value)) for value in (*row, _tags(line.tags))]  # as in the list, where it is to be one again
            cells = ([printable(cell) for cell in given] if _out_tty else given) + cells
        self._csv.writerow(cells)

    def close(self) -> None:
        sys.stdout.flush()


def _tags(tags: Mapping[str, str]) -> str:
    return ";".join(f"{name}={value}" for name, value in tags.items())


def _flat(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else plain(value).decode()


def _cell(value: Any) -> str:
    """A text that a spreadsheet would run as a formula is kept a text: it came from somebody else's list."""
    return "" if value is None else guarded(str(value))
