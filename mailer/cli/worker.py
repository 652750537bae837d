"""`mailer worker`: become one."""

from __future__ import annotations

import os

from ..program import other_worker, worker_command
from .output import hint


def worker() -> None:
    """Serve the lanes of MAILER_LANES. Health and metrics are on MAILER_HTTP_PORT."""
    # Become it, and not import it: the library and its commands know nothing of the worker's code.
    if other := other_worker():
        hint(f"{other} is another program, which `python -m worker` and arq would run here; this is the mailer's own worker")
    command = worker_command()
    os.execv(command[0], command)  # noqa: S606
