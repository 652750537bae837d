"""Mappings, from lines of NDJSON or from a program → rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from ..errors import InvalidAddress, RecipientsError
from ..message.address import cell
from ..report import LINE
from .names import SEND_AT, listed, rank, squeezed
from .reading import Reading
from .reserved import NAMES, Reserved
from .row import Extras, Recipient, Refused, Row, extras, kind, printable, rejected

NO_SEND_AT: Final = (
    "a row has `send_at`, and a campaign is sent at one time; give that for all (--send-at), or put it into `data`"
)


KEYS_OF_ROWS: Final = 20  # rows whose keys are kept to be shown
MOST_KEYS: Final = 100  # of a row


_OF_A_REPORT: Final = frozenset(LINE)  # what became of the row: no data, where the report of a campaign is a list again


class Mappings:
    """The mappings of one list, in their order."""

    OWN = True  # the reading was said of this list, and not of another one beside it

    def __init__(self, source: str, reading: Reading, reserved: Reserved) -> None:
        self._source = source
        self._reading = reading
        self._reserved = reserved
        self._seen = 0  # rows that were looked at for `keys`
        self._email = "email"  # the key of the address in the row before
        self.addressed: dict[str, None] = {}  # the keys that rows have their address in, in order
        self.keys: dict[str, None] = {}  # of the first rows, whether they can be used or not

    def row(self, number: int, item: Mapping[str, Any], where: str) -> Row:
        """`{"email": …, "data": {…}}`, or flat, → a row. That JSON can hold its data is for the caller to know."""
        given: Any = None
        try:
            key = self.email_key(item)
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

    def damaged(self, number: int, line: bytes) -> Row | None:
        """What can be made of a line that is no object of JSON; None: nothing."""
        return None

    def email_key(self, item: Mapping[str, Any]) -> str:
        """The key of a row's address. Raises Refused."""
        if self._seen == KEYS_OF_ROWS and "email" in item and "email" in self.addressed and self._reading.email_column is None:
            return "email"  # nearly every row
        self._keep_keys(item)
        found = self._email_keys(item)
        if len(found) > 1:
            raise Refused(f"has more than one address: {listed(map(printable, found))}; say which it is with --email-column")
        self._email = found[0]
        if self._email not in self.addressed and len(self.addressed) < MOST_KEYS:
            self.addressed[self._email] = None
        return self._email

    def email_keys(self, item: Mapping[str, Any]) -> list[str]:
        """The keys of all its addresses. Raises Refused."""
        self._keep_keys(item)
        return self._email_keys(item)

    def _keep_keys(self, item: Mapping[str, Any]) -> None:
        if self._seen < KEYS_OF_ROWS:
            self._seen += 1
            self.keys.update(dict.fromkeys(islice((key for key in item if isinstance(key, str)), MOST_KEYS)))

    def _email_keys(self, item: Mapping[str, Any]) -> list[str]:
        """The keys that say most surely that they hold the address, one at least. Raises Refused."""
        said = self._reading.email_column
        if said is not None and (self.OWN or said in item):
            if said in item:
                return [said]
            found = [key for key in item if isinstance(key, str) and squeezed(key) == squeezed(said)]
            if len(found) != 1:
                raise Refused(f"has no `{printable(said, 80)}`")
            return found
        for key in ("email", self._email):
            if key in item:
                return [key]
        ranks = {key: surely for key in item if isinstance(key, str) and (surely := rank(key)) is not None}
        ranks = {key: surely for key, surely in ranks.items() if surely < 2 or (isinstance(item[key], str) and "@" in item[key])}
        best = [key for key, surely in ranks.items() if surely == min(ranks.values())]
        if not best:
            raise Refused("has no `email`")
        return best

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
        if isinstance(inner, Mapping) and data.keys() >= _OF_A_REPORT:
            data = {"data": inner}
        if inner is None:
            data.pop("data", None)
        elif isinstance(inner, Mapping):
            del data["data"]
            data.update(inner)
        for ours, column in self._reading.columns.items():
            if column in data and ours not in NAMES:
                data[ours] = data[column]
        return data
