"""Whether a template and the rows of a list fit together: which variables the one needs, and the others have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from ..compose.hints import NO_NAMES
from ..compose.link import why_no_link
from ..errors import DoubledColumn, InvalidEmail, MissingVariables
from ..ledger import Spec
from ..ledger.contents import digest_of
from ..recipients import Recipient, Row
from ..recipients.names import variable
from ..templates import Compiled, Content
from ..templates.names import GIVEN, LINK, ROW, SES_LINK, Names, variables

LINKS = frozenset((LINK, SES_LINK))
SHOWN_NAMES = 5


def names_of(spec: Spec, blobs: Sequence[bytes]) -> Names:
    """The variables of its template; none, where the content is not one of ours."""
    packed = next((blob for blob in blobs if spec.content and digest_of(blob) == spec.content), None)
    return NO_NAMES if packed is None else variables(Content.load(packed))


def links_needed(spec: Spec, blobs: Sequence[bytes]) -> frozenset[str]:
    """The unsubscribe links without which no message of this content can be made: of `unsubscribe_url` and SES's own."""
    return names_of(spec, blobs).required & LINKS


def names_in(to_name: str) -> Names:
    """The variables of what To calls a recipient. Raises TemplateBroken."""
    content = Content.inline(subject=to_name, html=None, text="-", name="to_name")
    Compiled(content)
    return variables(content)


def check_rows(spec: Spec, names: Names, rows: Sequence[Row], *, doubled: Sequence[str] = (), what: str = "The template") -> None:
    """Whether the template of a campaign can be filled in at all, by the first rows of its list. `doubled`: what several of its
    columns are called; `what` has these names, as an error says it.

    Raises MissingVariables, which names columns that are likely to be meant; InvalidEmail where a link is lacking.
    """
    found = [row.data.keys() for row in rows if isinstance(row, Recipient)]
    if not found:
        return
    columns = frozenset().union(*found)
    have = columns | {word for name in columns if (word := variable(name))}
    if why := why_no_link(spec, (names.required & LINKS) - have, 1):
        raise InvalidEmail(field="Campaign", why=why)
    missing = sorted(names.required - have - spec.data.keys() - GIVEN)
    keys = [] if ROW in have or ROW in spec.data else sorted(names.keys - columns)  # a row may have something else of that name
    if several := [name for name in doubled if name in keys or name in missing or variable(name) in missing]:
        raise DoubledColumn(what=what, column=several[0])
    if missing:
        raise MissingVariables(what=what, variables=_listed(missing), known=_meant(missing, sorted(have)))
    if keys:
        missing = list(map(_of_row, keys))
        raise MissingVariables(what=what, variables=_listed(missing), known=_meant(missing, list(map(_of_row, sorted(columns)))))


def _of_row(name: str) -> str:
    return f'{ROW}["{name}"]'


def _listed(names: Sequence[str]) -> str:
    shown = [f"`{name}`" for name in names[:SHOWN_NAMES]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


def _meant(missing: Sequence[str], have: Sequence[str]) -> str:
    """What the list has, and which of it is near to what is missing."""
    by_key = {_key(name): name for name in reversed(have)}
    near = {name: match for name in missing if (match := next(iter(get_close_matches(_key(name), by_key, 1, 0.7)), None))}
    if near:
        pairs = ", ".join(f"`{by_key[match]}` for `{name}`" for name, match in list(near.items())[:SHOWN_NAMES])
        return f"did you mean {pairs}?"
    return f"its rows have: {_listed(have)}." if have else "its rows have nothing but an address."


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.removeprefix(f"{ROW}[")).lower()
