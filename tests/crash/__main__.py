"""``python -m tests.crash``, as `make chaos` runs it: whole campaigns through every trouble, a line for each."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .chaos import Plan, Result, Trouble, run

SEEDS = 20
ROWS = 20_000
VARIANTS = (
    (Trouble.KILLS,),
    (Trouble.KILLS, Trouble.REDIS),
    (Trouble.KILLS, Trouble.KEYS),
    (Trouble.KILLS, Trouble.STOPS),
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # What the campaign is warned of is no news here.
    logging.getLogger("mailer").setLevel(logging.ERROR)
    variants = [one for one in VARIANTS if options.only is None or one[-1].name.lower() == options.only]
    plans = [
        Plan(seed=seed, events=events, troubles=troubles, rows=options.rows)
        for seed in range(options.first, options.first + options.seeds)
        for troubles in variants
        for events in (True, False)
    ]
    results = asyncio.run(_run_all(plans, options.jobs))
    failed = [result for result in results if result.wrong]
    recipients = sum(result.plan.rows for result in results)
    done = ", ".join(f"{sum(r.done[trouble] for r in results):,} × {trouble}" for trouble in Trouble)
    print(f"\n{len(results)} campaigns, {recipients:,} recipients; {done}; wrong: {len(failed)}")
    return 1 if failed else 0


async def _run_all(plans: Sequence[Plan], jobs: int) -> list[Result]:
    room = asyncio.Semaphore(jobs)

    async def one(plan: Plan) -> Result:
        async with room:
            folder = Path(tempfile.mkdtemp(prefix="mailer-chaos-"))
            result = await run(plan, folder)
            _show(result, folder)
            if not result.wrong:
                shutil.rmtree(folder)
            return result

    return list(await asyncio.gather(*map(one, plans)))


def _show(result: Result, folder: Path) -> None:
    done = ", ".join(f"{n} {trouble}" for trouble, n in result.done.items())
    said = f"{result.plan}: {done}; {len(result.accepted):,} accepted, {len(result.unknown):,} unknown"
    print(f"{said}, at most {result.doubted:,} in doubt; {result.took_s:.0f} s", flush=True)
    for what in result.wrong:
        print(f"  WRONG: {what} (logs: {folder})", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.crash", description="Campaigns through crashes, judged by SES's log.")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=ROWS, help="recipients of a campaign (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="campaigns at the same time (default: %(default)s)")
    parser.add_argument("--only", choices=[one.name.lower() for one in Trouble], help="this trouble only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
