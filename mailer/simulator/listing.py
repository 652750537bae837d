"""The pages of what the List operations answer.

SES reads the same members in the query string of a GET, and in the body of the POST that current SDKs make of it.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .refusals import Code, Refusal, constraint, wrong_type
from .wire import Json, string, struct

Query = dict[str, list[str]]
_PAGE = 100  # items, when no PageSize is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a List call asks for."""

    size: int | None = None  # as given; each list has limits of its own
    token: str = ""
    filter: Mapping[str, str]  # by the keys of the API model

    def page(
        self, names: Sequence[str], *, least: int = 1, most: int = 1000, bad_token: Code = Code.BAD_REQUEST
    ) -> tuple[list[str], Json]:
        """A page of sorted names. The token is the last name seen, so that adding and deleting between pages skips nothing."""
        size = self._size(least, most)
        first = bisect_right(names, self._after(bad_token))
        page = list(names[first : first + size])
        if len(names) <= first + size:
            return page, {}
        return page, {"NextToken": base64.urlsafe_b64encode(page[-1].encode()).decode()}

    def _size(self, least: int, most: int) -> int:
        size = _PAGE if self.size is None else self.size
        if size < least:
            raise constraint("pageSize", f"Member must have value greater than or equal to {least}")
        if size > most:
            raise constraint("pageSize", f"Member must have value less than or equal to {most}")
        return size or _PAGE

    def _after(self, bad_token: Code) -> str:
        try:
            return base64.b64decode(self.token.encode(), b"-_", validate=True).decode()
        except (binascii.Error, UnicodeError):
            raise Refusal(bad_token, "The next token is not valid.") from None


def listing(body: Json, query: Query, keys: Sequence[str] = ()) -> Listing:
    """`keys`: those that the list can be filtered by. Raises Refusal."""
    given = struct(body, "Filter") or {}
    for key, value in given.items():
        if key not in keys:
            allowed = f"[Member must satisfy enum value set: [{', '.join(keys)}]]"
            raise constraint("filter", f"Map keys must satisfy constraint: {allowed}")
        if not isinstance(value, str):
            raise wrong_type("Filter")
    size = body.get("PageSize")
    if size is None and "PageSize" in query:
        text = query["PageSize"][0]
        size = int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else text
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        raise wrong_type("PageSize")
    token = string(body, "NextToken") or query.get("NextToken", [""])[0]
    return Listing(size=size, token=token, filter=given)
