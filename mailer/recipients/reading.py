"""How a list is to be read, where it does not say so itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InvalidEmail
from .encoding import codec_of
from .names import RESERVED, SEND_AT

_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_NO_DELIMITERS = '"\r\n @._-+'  # what addresses and quotes have in them


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All of it may be left out: then the list decides. Raises InvalidEmail.

    `columns` maps a name of ours to a column of the list: `cc`, `bcc`, `tags` (where to copy to, and the tags of a row), or a
    name for templates. An empty column switches `cc`, `bcc`, `tags` or `send_at` off: a column of that name is data.
    """

    encoding: str | None = None  # as Python knows it; a byte order mark comes before it
    delimiter: str | None = None  # of a CSV: one character, or `tab`
    email_column: str | None = None  # the column with the addresses
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {name.strip(): column.strip() for name, column in self.columns.items()}
        address = columns.pop("email", None)
        if address is not None:
            if not address or (self.email_column or address) != address:
                raise _wrong("columns", "`email` is the column with the addresses, which a list has to have; see email_column")
            object.__setattr__(self, "email_column", address)
        for name, column in columns.items():
            if not name.isidentifier():
                raise _wrong("columns", f"`{name[:80]}` cannot be the name of a template variable; take letters, digits and _")
            if not column and name not in RESERVED and name != SEND_AT:
                raise _wrong("columns", f"`{name}` names no column; an empty one switches off cc, bcc, tags or send_at only")
            if column and name == SEND_AT:
                raise _wrong("columns", "a campaign is sent at one time, so no column can be `send_at`")
        object.__setattr__(self, "columns", columns)
        if self.encoding is not None:
            try:
                codec_of(self.encoding)
            except ValueError as error:
                raise _wrong("encoding", str(error)) from None
        if self.delimiter is not None:
            delimiter = _WORDS.get(self.delimiter.lower(), self.delimiter)
            if len(delimiter) != 1 or delimiter.isalnum() or delimiter in _NO_DELIMITERS:
                raise _wrong(
                    "delimiter", f"{self.delimiter[:80]!r} is not one character that can stand between cells, as ; is one"
                )
            object.__setattr__(self, "delimiter", delimiter)


def _wrong(field: str, why: str) -> InvalidEmail:
    return InvalidEmail(field=f"Reading.{field}", why=why)


AS_IT_IS = Reading()
