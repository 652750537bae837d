"""`cc`, `bcc` and `tags` of a list: ours, or somebody else's columns of that name.

A Mailchimp export has a column CC, of countries, and one TAGS, of words. So the first value of such a column decides for the
whole list: addresses, or name=value, are ours; else the column is data. A column that is called just `cc` or `bcc`, as it is
documented, is data only where its first value is a country's code: a mistake in it is said, and not taken for something else.
What a caller says comes before that. An address that comes up later in a column that was taken for data costs its row: nobody
is left out of Cc, or put there, by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .reading import Reading
from .row import Refused

NAMES: Final = ("cc", "bcc", "tags")
_COUNTRY = re.compile(r"[A-Za-z]{2,3}")
_PAIR = re.compile(r"\s*[A-Za-z0-9_-]+\s*=")


class Reserved:
    """What is known of the three columns so far."""

    def __init__(self, reading: Reading) -> None:
        self._ours = {name: bool(reading.columns[name]) for name in NAMES if name in reading.columns}
        self._said = frozenset(self._ours)

    def is_ours(self, name: str, value: Any, *, documented: bool = True) -> bool:
        """Whether this value of the column is ours; the first that is not empty decides. Raises Refused.

        `documented`: the column is called as it is documented, and not `CC`.
        """
        ours = self._ours.get(name)
        if ours is None:
            if _is_empty(value):
                return False
            ours = self._ours[name] = looks_ours(name, value) or (documented and name != "tags" and not _is_country(value))
        elif not ours and name != "tags" and name not in self._said and looks_ours(name, value):
            how = f"say --column {name}={name} where it is for copies, and --column {name}= where it is not"
            raise Refused(f"`{name}` has an address here, and had none in its first row; {how}")
        return ours

    def known(self, name: str) -> bool | None:
        """Whether the column is ours; None where no row has had a value in it."""
        return self._ours.get(name)


def looks_ours(name: str, value: Any) -> bool:
    if name == "tags":
        return isinstance(value, Mapping) or (isinstance(value, str) and _PAIR.match(value) is not None)
    if isinstance(value, str):
        return "@" in value
    return (
        isinstance(value, Iterable)
        and not isinstance(value, Mapping | bytes)
        and any(isinstance(one, str) and "@" in one for one in value)
    )


def _is_country(value: Any) -> bool:
    return isinstance(value, str) and _COUNTRY.fullmatch(value.strip()) is not None


def _is_empty(value: Any) -> bool:
    return (
        value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, list | tuple | dict) and not value)
    )
