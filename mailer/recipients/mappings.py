"""Mappings, from lines of NDJSON or from a program → rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..address import cell
from ..errors import InvalidAddress, RecipientsError
from .names import SEND_AT, listed, rank, squeezed
from .reading import Reading
from .reserved import NAMES, Reserved
from .row import Extras, Recipient, Refused, Row, extras, kind, printable, rejected

NO_SEND_AT: Final = (
    "a row has `send_at`, and a campaign is sent at one time; give that for all (--send-at), or put it into `data`"
)


class Mappings:
    """The mappings of one list, in their order."""

    def __init__(self, source: str, reading: Reading, reserved: Reserved) -> None:
        self._source = source
        self._reading = reading
        self._reserved = reserved
        self._email = "email"  # the key of the address in the row before

    def row(self, number: int, item: Mapping[str, Any], where: str) -> Row:
        """`{"email": …, "data": {…}}`, or flat, → a row. That JSON can hold its data is for the caller to know."""
        given: Any = None
        try:
            key = self._email_key(item)
            given = item[key]
            if not isinstance(given, str):
                raise Refused(f"`{printable(key, 80)}` is {kind(given)}, not a text")
            if SEND_AT in item and SEND_AT not in self._reading.columns:
                if number == 1:
                    raise RecipientsError(source=self._source, why=NO_SEND_AT)
                raise Refused(NO_SEND_AT)
            (cc, bcc, tags), taken = self._extras(item)
            name, address = cell(given)
            return Recipient(number, address, self._data(item, {key, *taken}), cc, bcc, tags, name)
        except (InvalidAddress, Refused) as error:
            return rejected(number, given if isinstance(given, str) else "", where, str(error))

    def _email_key(self, item: Mapping[str, Any]) -> str:
        said = self._reading.email_column
        if said is not None:
            if said in item:
                return said
            found = [key for key in item if isinstance(key, str) and squeezed(key) == squeezed(said)]
            if len(found) != 1:
                raise Refused(f"has no `{printable(said, 80)}`")
            return found[0]
        for key in ("email", self._email):
            if key in item:
                return key
        ranks = {key: surely for key in item if isinstance(key, str) and (surely := rank(key)) is not None}
        ranks = {key: surely for key, surely in ranks.items() if surely < 2 or (isinstance(item[key], str) and "@" in item[key])}
        best = [key for key, surely in ranks.items() if surely == min(ranks.values())]
        if not best:
            raise Refused("has no `email`")
        if len(best) > 1:
            raise Refused(f"has more than one address: {listed(map(printable, best))}; say which it is with --email-column")
        self._email = best[0]
        return best[0]

    def _extras(self, item: Mapping[str, Any]) -> tuple[Extras, list[str]]:
        """cc, bcc and tags, checked; and the keys that are no data, then."""
        if not any(name in item for name in NAMES) and not self._reading.columns:
            return ((), (), {}), []
        values, taken = dict[str, Any].fromkeys(NAMES), list[str]()
        for name in NAMES:
            key = self._reading.columns.get(name, name) or name
            value = item.get(key)
            if key in item and self._reserved.is_ours(name, value):
                values[name] = value
                if key == name:
                    taken.append(key)
        return extras(*values.values()), taken

    def _data(self, item: Mapping[str, Any], without: set[str]) -> dict[str, Any]:
        """Everything else is a variable; a mapping `data` holds variables, and wins over what is beside it."""
        data = {key: value for key, value in item.items() if key not in without}
        inner = data.get("data")
        if inner is None:
            data.pop("data", None)
        elif isinstance(inner, Mapping):
            del data["data"]
            data.update(inner)
        for ours, column in self._reading.columns.items():
            if column in data and ours not in NAMES:
                data[ours] = data[column]
        return data
