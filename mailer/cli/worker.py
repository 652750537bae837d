"""`mailer worker`: become one."""

from __future__ import annotations

import os

from ..program import other_worker, worker_command
from .output import hint


def worker() -> None:
    """Run a worker, which sends what is queued.

    It serves the lanes of MAILER_LANES, and health and metrics on MAILER_HTTP_PORT.

    Exit status 0 after SIGTERM or Ctrl-C, 1 if it cannot start.
    """
    # Become it, and not import it: the library and its commands know nothing of the worker's code.
    if other := other_worker():
        hint(f"{other} is another program, which `python -m worker` and arq would run here; this is the mailer's own worker")
    command = worker_command()
    os.execv(command[0], command)  # noqa: S606
