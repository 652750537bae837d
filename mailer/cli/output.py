"""What the commands show. Data on standard output, everything else on standard error; colours on a terminal only."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..ledger import CampaignStatus, MessageStatus, RecipientStatus

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

GOOD = {"sent", "delivered", "finished", "running"}
BAD = {"failed", "rejected", "bounced", "complained", "stopped", "unknown"}
# Outcomes in the order of a message's way, as every table shows them.
ORDER = (
    "queued claimed sent delivered bounced complained suppressed rejected failed duplicate expired cancelled unknown".split()
)


def print_json(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def campaign_json(status: CampaignStatus) -> dict[str, Any]:
    return {**asdict(status), "state": status.state.value}


def message_json(status: MessageStatus) -> dict[str, Any]:
    return asdict(status)


def styled(state: str) -> Text:
    return Text(state, style="green" if state in GOOD else "red" if state in BAD else "yellow")


def when(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ") if moment else ""


def facts(pairs: Mapping[str, Any]) -> None:
    """Names and values, aligned."""
    table = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        if value not in (None, ""):
            table.add_row(Text(name, style="dim"), value if isinstance(value, Text) else Text(str(value)))
    out.print(table)


def campaign_table(campaigns: list[CampaignStatus]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("ID", "NAME", "STATE", "CREATED"):
        table.add_column(column)
    for column in ("ROWS", "SENT", "LEFT"):
        table.add_column(column, justify="right")
    for c in campaigns:
        left = c.counts.get("queued", 0) + c.counts.get("claimed", 0)
        table.add_row(c.id, c.name, styled(c.state.value), when(c.created_at), f"{c.rows:,}", f"{accepted(c):,}", f"{left:,}")
    out.print(table)


def accepted(status: CampaignStatus) -> int:
    """Recipients that SES has accepted."""
    return sum(status.counts.get(name, 0) for name in ("sent", "delivered", "bounced", "complained"))


def outcome_table(status: CampaignStatus) -> None:
    """The outcomes of a campaign; the last line is their sum, which is the rows that were read."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_footer=True, footer_style="bold")
    table.add_column("OUTCOME", footer="rows read")
    table.add_column("RECIPIENTS", justify="right", footer=f"{sum(status.counts.values()):,}")
    for name in ORDER:
        if status.counts.get(name):
            table.add_row(styled(name), f"{status.counts[name]:,}")
    out.print(table)


def campaign_facts(status: CampaignStatus) -> None:
    facts(
        {
            "campaign": status.id,
            "name": status.name,
            "state": styled(status.state.value),
            "reason": status.reason,
            "rate": f"{status.rate:,.1f} recipients/s" if status.rate else "",
            "created": when(status.created_at),
            "finished": when(status.finished_at),
        }
    )
    out.print()
    outcome_table(status)


class Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="cyan")


def progress_bar(unit: bool = True) -> Progress:
    """A live bar on a terminal, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        *([MofNCompleteColumn()] if unit else [TextColumn("{task.percentage:>3.0f} %")]),
        Speed(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=err,
        disable=not err.is_terminal,
    )


class Report:
    """Lines of a campaign's report, as they come."""

    FIELDS = ("id", "row", "to", "state", "ses_message_id", "reason", "attempts", "updated_at")

    def __init__(self, format: str) -> None:
        self._csv = csv.writer(sys.stdout, lineterminator="\n") if format == "csv" else None
        if self._csv:
            self._csv.writerow(self.FIELDS)

    def add(self, line: RecipientStatus) -> None:
        if self._csv is None:
            sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))
            return
        values = asdict(line)
        values["updated_at"] = line.updated_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._csv.writerow([_cell(values[name]) for name in self.FIELDS])

    def close(self) -> None:
        sys.stdout.flush()


def _cell(value: Any) -> str:
    """A text that a spreadsheet would run as a formula is kept a text: it came from somebody else's list."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
