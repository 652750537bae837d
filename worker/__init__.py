"""The worker. `python -m worker` is the supervised way to run it; arq's own command works, too, with one lane each:

arq worker.BulkSettings
arq worker.TransactionalSettings
"""

from __future__ import annotations

from typing import Any

_SETTINGS = {"BulkSettings": "bulk", "TransactionalSettings": "transactional"}


def __getattr__(name: str) -> Any:
    # Made when they are asked for: settings are read and a Redis pool is built only in a process that serves a lane this way.
    if name in _SETTINGS:
        from .arq_settings import worker_settings

        return worker_settings(_SETTINGS[name], name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
