"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import MailerError

_MEND = "mend that, and run `mailer doctor` again"


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"  # something can be sent, and there is something to know
    WRONG = "wrong"  # nothing can be sent, or not by this sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    check: str
    state: State
    found: str
    do: str = ""  # what to do about it; empty where it is ok


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, state=State.OK, found=found)


def warning(check: str, found: str, do: str) -> Finding:
    return Finding(check=check, state=State.WARNING, found=found, do=do)


def wrong(check: str, found: str, do: str = "") -> Finding:
    return Finding(check=check, state=State.WRONG, found=found.rstrip("."), do=do or _MEND)


def told(check: str, error: MailerError) -> Finding:
    """Of an error whose sentence has both in it, with a semicolon between them."""
    found, _, do = str(error).rstrip(".").rpartition("; ")
    return wrong(check, found or do, do if found else "")
