"""A point in time as people write it: ISO 8601 with an offset, or a local time and the name of its zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

HOW = "write it as 2026-12-24T18:00:00+01:00, …T17:00:00Z or 2026-12-24 18:00 Europe/Berlin"
_NAMED = re.compile(r"(.*[0-9Zz])\s*(?:\[([^\[\]]*)\]|\s([A-Za-z][A-Za-z0-9_+/-]*))")
_LONGEST = 100  # characters of a time with a zone's name
_SHOWN = 60  # characters of what was given, in an error


def read_time(text: str) -> datetime:
    """In UTC. Raises NoTime with half a sentence that begins with what was given."""
    try:
        return in_utc(read_named(text) or _iso(text.strip(), text))
    except NoTime as error:
        why = str(error)
        raise NoTime(why if why.startswith(_shown(text)) else f"{_shown(text)} {why}") from None


class NoTime(ValueError):
    """Half a sentence says why."""


def read_named(text: str) -> datetime | None:
    """`2026-12-24 09:00 Europe/Berlin`, or `…T09:00[Europe/Berlin]`; None where it names no zone. Raises NoTime."""
    match = _NAMED.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        return None
    name = match[2] if match[2] is not None else match[3]
    moment = _iso(match[1], text)
    if moment.tzinfo is not None:
        raise NoTime(f"{_shown(text)} has two time zones; leave one out")
    return _local(moment, _zone(name, text), name, text)


def _iso(part: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(part)
    except ValueError:
        raise NoTime(f"{_shown(text)} is not a time; {HOW}") from None


def in_utc(moment: datetime) -> datetime:
    """Raises NoTime with half a sentence."""
    if moment.utcoffset() is None:
        raise NoTime(f"needs a time zone; {HOW}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise NoTime("is no time that there is in UTC; give a year between 2 and 9998") from None


def _zone(name: str, text: str) -> tzinfo:
    if name.upper() in ("UTC", "GMT", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a path, a folder of zones, nothing
        names = {zone.lower(): zone for zone in available_timezones()}
        near = get_close_matches(name.lower(), names, 1, 0.75)
        meant = f"is {names[near[0]]} meant?" if near else "as Europe/Berlin is one"
        raise NoTime(f"{_shown(text)}: there is no time zone {_shown(name)}; {meant}") from None


def _local(moment: datetime, zone: tzinfo, name: str, text: str) -> datetime:
    """The clocks of a zone leave out an hour a year, and show one twice: neither is guessed."""
    try:
        first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        if first.utcoffset() == second.utcoffset():
            return first
        if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment:
            raise NoTime(f"{_shown(text)} is not on the clocks in {name}: they go forward at that time; give another one")
    except OverflowError:
        raise NoTime(f"{_shown(text)} is no time that there is in UTC; give a year between 2 and 9998") from None
    both = " or ".join(one.isoformat() for one in (first, second))
    raise NoTime(f"{_shown(text)} is there twice in {name}, because the clocks go back; write {both}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
