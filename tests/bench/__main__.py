"""``python -m tests.bench [SECTION …]``: the table on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from . import servers
from .baselines import BASELINES
from .report import Report
from .rounds import Contender, Results, measure
from .servers import BenchError, Sink

SECTIONS = ("delivery", "intake", "latency", "memory", "calls", "quota", "lanes", "suppression", "events", "baselines")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures the figures of docs/benchmarks.md.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of: {', '.join(SECTIONS)}; all of them without one")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="a table for docs/benchmarks.md")
    form.add_argument("--json", action="store_true", help="every run and the machine")
    parser.add_argument("--only", metavar="NAME", nargs="+", help=f"of the baselines: {', '.join(b.key for b in BASELINES)}")
    parser.add_argument("--rounds", type=int, default=3, help="of each compared figure (default 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="that a compared run takes at least (default 5)")
    parser.add_argument("--latency", type=int, default=500, metavar="K", help="single messages (default 500)")
    parser.add_argument(
        "--memory", type=int, nargs="+", default=[10_000, 1_000_000], metavar="N", help="recipients of a campaign"
    )
    args = parser.parse_args(argv)
    for given, known in ((args.sections, SECTIONS), (args.only or (), [baseline.key for baseline in BASELINES])):
        if unknown := sorted(set(given) - set(known)):
            parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    args.sections = args.sections or list(SECTIONS)
    return args


def stop_once(*_: Any) -> None:
    """Ctrl-C and SIGTERM unwind the run, which ends its processes; a second one would cut that short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def contenders(args: argparse.Namespace) -> list[Contender]:
    """What is measured in rounds, in the order of the table."""
    chosen = []
    if "delivery" in args.sections or "intake" in args.sections:
        from . import pipeline  # here, so that the baselines can be measured without our own service

        chosen += [pipeline.DELIVERY, pipeline.DELIVERY_ALWAYS] if "delivery" in args.sections else []
        chosen += [pipeline.INTAKE, pipeline.INTAKE_OUTSIDE] if "intake" in args.sections else []
    if "baselines" in args.sections:
        chosen += [baseline for baseline in BASELINES if not args.only or baseline.key in args.only]
    return chosen


def add_rounds(report: Report, measured: Sequence[Contender], results: Results) -> None:
    """Delivery with what it is compared with, then intake with what that is compared with."""
    report.failures += results.failures
    ours = {key: results.median(key) for key in ("delivery", "intake")}
    labels = {contender.key: contender.label for contender in measured if results.runs[contender.key]}
    for key, label in labels.items():
        if not key.startswith("intake"):
            report.add_throughput(key, label, results.runs[key], None if key.startswith("delivery") else ours["delivery"])
    for key in ("intake", "intake_outside"):
        if key in labels:
            report.add_throughput(key, labels[key], results.runs[key], None)
    for key, label in (("arq", "arq, enqueueing one job an e-mail"), ("celery", "Celery, enqueueing one task an e-mail")):
        if key in labels:
            report.add_enqueueing(f"{key}_enqueue", label, results.runs[key], ours["intake"])


def add_single(report: Report, args: argparse.Namespace, target: Sink) -> None:
    """Figures of our own that nothing is compared with: latency, memory, the use of the quota, the suppression list, events."""
    if not {"latency", "memory", "calls", "quota", "lanes", "suppression", "events"} & set(args.sections):
        return
    from . import account, events, pipeline, suppression

    try:
        if "latency" in args.sections:
            print(f"latency: {args.latency} single messages", file=sys.stderr)
            report.add_latency(pipeline.latency(target, args.latency))
        for n in args.memory if "memory" in args.sections else ():
            print(f"memory: {n:,} recipients", file=sys.stderr)
            report.add_memory(pipeline.memory(target, n))
        if "memory" in args.sections:
            print(f"memory: {max(args.memory):,} recipients, payloads in a folder", file=sys.stderr)
            report.add_memory_outside(pipeline.memory_outside(target, max(args.memory)))
        if "calls" in args.sections:
            print("calls: one SendBulkEmail call a second", file=sys.stderr)
            report.add_calls([account.calls() for _ in range(args.rounds)])
        if "quota" in args.sections:
            print(f"quota: {account.PROCESSES} worker processes", file=sys.stderr)
            report.add_quota([account.processes() for _ in range(args.rounds)])
        if "lanes" in args.sections:
            print("lanes: single messages while a campaign uses the whole rate", file=sys.stderr)
            report.add_latency(account.beside_bulk(), beside_bulk=True)
        if "suppression" in args.sections:
            print("suppression: a million entries", file=sys.stderr)
            report.add_suppression(suppression.suppression())
        if "events" in args.sections:
            print(f"events: {events.EVENTS:,}, each one to three times", file=sys.stderr)
            report.add_events(events.events(target))
    except BenchError as error:
        print(f"  {error}", file=sys.stderr)
        report.failures.append(str(error).splitlines()[0])


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_once)
    report = Report(rounds=args.rounds, min_s=args.seconds)
    try:
        measured = contenders(args)
        with servers.sink() as target:
            add_rounds(report, measured, measure(measured, target, rounds=args.rounds, min_s=args.seconds))
            add_single(report, args, target)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing of it is left running", file=sys.stderr)
        return 130
    print(json.dumps(report.as_json(), indent=2) if args.json else report.as_markdown() if args.markdown else report.as_text())
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
