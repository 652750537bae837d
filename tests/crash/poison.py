"""What makes a worker die or hang at some recipients, and does so soon: where their messages are planned, a bug would."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

from mailer.compose import Item, plan
from worker import __main__ as program
from worker import deliver, make
from worker.watchdog import Watchdog

LEASE_MS = 1500
HANGS_AFTER_S = 3.0
POISON = "poison"  # in an address: whoever plans a message to it dies, or hangs


def take(how: str) -> None:
    """`dies` or `hangs`."""
    patches: list[tuple[ModuleType, str, Any]] = [
        (deliver, "LEASE_MS", LEASE_MS),
        (program, "Watchdog", partial(Watchdog, hangs_after_s=HANGS_AFTER_S)),
    ]

    def poisoned(spec: Any, items: Sequence[Item], *args: Any, **more: Any) -> Any:
        if any(POISON in address for item in items for address in item.to):
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return plan(spec, items, *args, **more)

    for module, name, value in (*patches, (make, "plan", poisoned)):
        setattr(module, name, value)
