"""What a check found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..errors import MailerError

_MEND = "mend that, and run `mailer doctor` again"


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"  # something can be sent, and there is something to know
    WRONG = "wrong"  # nothing can be sent, or not by this sender
    UNKNOWN = "unknown"  # it cannot be seen before something else is mended


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    check: str
    state: State
    found: str
    do: str = ""  # what to do about it; empty where it is ok or unknown
    cause: str = ""  # the same of all findings that one thing is behind


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, state=State.OK, found=found)


def warning(check: str, found: str, do: str) -> Finding:
    return Finding(check=check, state=State.WARNING, found=found, do=do)


def wrong(check: str, found: str, do: str = "", cause: str = "") -> Finding:
    """`cause`: what is found, and to be done, is of this; else of nothing but itself."""
    found, do = found.rstrip("."), do or _MEND
    return Finding(check=check, state=State.WRONG, found=found, do=do, cause=cause or because(found, do))


def because(found: str, do: str) -> str:
    """A cause by its words."""
    return f"{found.rstrip('.')} → {do}"


def told(check: str, error: MailerError) -> Finding:
    """Of an error that says what is wrong, and behind a semicolon or in the next sentence what to do."""
    text = str(error).rstrip(".")
    found, _, do = text.rpartition("; ")
    if not found:
        found, _, do = text.partition(". ")
        do = do[:1].lower() + do[1:]
    return wrong(check, found, do)


def each_once(findings: Sequence[Finding]) -> Iterator[Finding]:
    """One thing that is behind several findings is said by the first of them; the others are unknown."""
    first: dict[str, str] = {}
    for one in findings:
        if one.state is State.WRONG and first.setdefault(one.cause, one.check) != one.check:
            yield replace(one, state=State.UNKNOWN, found=f"not known: see `{first[one.cause]}`", do="")
        else:
            yield one
