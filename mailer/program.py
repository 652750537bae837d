"""The worker's program, whatever else is called `worker` in the folder where it is started, or on PYTHONPATH.

Many applications have a worker.py of their own. `python -m worker` runs that one, and so does arq's command.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from .interrupt import leave_at_once

_OURS = Path(__file__).parent.parent / "worker" / "__init__.py"


def worker_command() -> list[str]:
    # -P, so that what this folder has is not taken for the packages that the program itself needs.
    return [sys.executable, "-P", "-m", __name__, "worker"]


def other_worker() -> Path | None:
    """What `python -m worker` would run here in the place of ours."""
    places = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    for place in places:
        found = PathFinder.find_spec("worker", [os.path.abspath(place)])
        if found is not None and found.origin is not None:  # a folder without __init__.py gives way to ours
            path = Path(found.origin).resolve()
            return None if path == _OURS.resolve() else path
    return None


def _run() -> None:
    """Become the worker: the package that lies beside this one, under its own name."""
    leave_at_once()  # until it listens to signals itself
    spec = spec_from_file_location("worker", _OURS)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["worker"] = package = module_from_spec(spec)
    spec.loader.exec_module(package)
    runpy.run_module("worker", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run()
