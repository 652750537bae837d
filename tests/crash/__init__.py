"""Processes that are killed, stopped and cut off, and what is found afterwards."""

from __future__ import annotations

import os


def full() -> bool:
    """Whether everything is to be tried (`CHAOS=full`), which takes minutes, or a sample of it."""
    return os.environ.get("CHAOS") == "full"
