"""A message of which the parts that SES would not take are encoded, and all the rest stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from .addresses import ADDRESS_FIELDS, read_addresses, written
from .fields import Field, needs_repair, new_field, parameters, repaired, with_parameters
from .files import check_file_name
from .structure import ENCODING, TYPE, Part, walk
from .transfer import IDENTITY, charset_of, decode, encode, fault

_NO_CHARSETS = frozenset(("", "us-ascii", "ascii"))  # in which text that is not ASCII cannot be


@dataclass(slots=True, kw_only=True)
class Parts:
    """`data` has CRLF for line breaks; a CR that stands alone in it is a character of its line."""

    data: bytes
    line: int = 1  # of what was given, at which `data` begins
    is_text: bool = False  # it was given as a str: what is not ASCII in it is UTF-8, whatever a part says
    same_breaks: bool = True  # no line break was changed for `data`
    fields: list[Field] = field(default_factory=list)  # of the message itself, as SES takes them
    changed: list[str] = field(default_factory=list)  # what was wrong and has been put right
    _edits: list[tuple[int, int, bytes]] = field(default_factory=list)
    _body: int = 0  # where the message's own body begins

    def read(self) -> None:
        """Checks every part, and fills in `fields` and `changed`. Raises ValueError with half a sentence."""
        clean = fault(self.data) is None
        for part in walk(self.data, self.line):
            if part.place.depth == 0:
                self.fields, self._body = part.fields, part.body
                self._check_head(part)
            for name in part.file_names:
                check_file_name(name)
            if not clean:
                self._put_right(part)

    def body(self) -> bytes:
        """What stands behind the empty line, with all that has been changed."""
        pieces, place = list[bytes](), self._body
        for start, end, new in sorted(self._edits):
            pieces += [self.data[place:start], new]
            place = end
        return b"".join([*pieces, self.data[place:]])

    def _check_head(self, part: Part) -> None:
        if not self.data.startswith(b"\r\n\r\n", part.body - 4) or not part.fields:
            if b"\r\n\r\n" not in self.data or self.data.startswith(b"\r\n"):
                raise ValueError("must have headers, an empty line and a body")
            line = self.data[part.body :].partition(b"\r\n")[0][:60].decode("utf-8", "replace").strip()
            raise ValueError(f"its header block has a line that is no header: {line!r}")

    def _line_of(self, place: int) -> int:
        return self.line + self.data.count(b"\r\n", 0, place)

    def _put_right(self, part: Part) -> None:
        for start, end in part.gaps:
            if wrong := fault(self.data[start:end]):
                self.changed.append(wrong.told(self._line_of(start + wrong.at)))
                self._edits.append((start, end, b""))
        fields = part.fields
        if not part.inner:
            fields = self._encoded(part)
        elif part.encoding in ("8bit", "binary"):
            fields = _labelled(fields, "7bit")
        fields = [self._repaired(one, part) if needs_repair(one) else one for one in fields]
        if part.place.depth == 0:
            if fields != part.fields and "mime-version" not in part.first:
                fields = [*fields, new_field("MIME-Version", "1.0")]
            self.fields = fields
        elif fields != part.fields:
            head = b"".join(one.written() for one in fields)
            self._edits.append((part.place.start, part.body, head + b"\r\n"))

    def _repaired(self, one: Field, part: Part) -> Field:
        what = f"has characters that are not ASCII, or a line that is too long, in line {one.line}"
        if part.place.signed:
            raise ValueError(f"{what}, in a part that is signed; encode it before it is signed")
        self.changed.append(what)
        if one.key in ADDRESS_FIELDS:
            try:
                addresses = written(read_addresses(one), one)
            except ValueError:
                if not one.value.isascii():
                    raise
            else:
                return one._replace(value=b" " + ",\r\n ".join(addresses).encode("ascii"))
        return repaired(one, parameters(part.first.get(TYPE)).get("charset", ""))

    def _encoded(self, part: Part) -> list[Field]:
        """Encodes the content where that has to be; gives the fields that it has then."""
        content = self.data[part.body : part.place.end]
        wrong = fault(content)
        if wrong is None:
            return part.fields
        what, plain_so_far = wrong.told(self._line_of(part.body + wrong.at)), part.encoding in IDENTITY
        text = part.kind.startswith(("text/", "message/"))
        if part.place.signed:
            raise ValueError(f"{what}, in a part that is signed; encode it before it is signed")
        if part.kind.startswith("multipart/"):
            raise ValueError(f"{what}, in a {part.kind} whose parts cannot be told apart")
        if plain_so_far and not text and not self.same_breaks:  # other line breaks, or bytes that are none
            raise ValueError(f"{what}, in a file of type {part.kind}; encode that part in base64")
        plain = content if plain_so_far else decode(content, part.encoding)
        if plain is None:
            why = f"in a part whose encoding {part.encoding[:40]!r} cannot be read; encode that part in base64"
            raise ValueError(f"{what}, {why}")
        encoding, new = encode(plain, text=text)
        self.changed.append(what)
        self._edits.append((part.body, part.place.end, new))
        fields = _labelled(part.fields, encoding)
        if plain_so_far and part.kind.startswith("text/") and not plain.isascii():
            fields = self._with_charset(fields, part.first.get(TYPE), plain)
        return fields

    def _with_charset(self, fields: list[Field], said: Field | None, plain: bytes) -> list[Field]:
        charset = parameters(said).get("charset", "").lower()
        right = "utf-8" if self.is_text else charset_of(plain) if charset in _NO_CHARSETS else charset
        if right == charset:
            return fields
        new = new_field("Content-Type", with_parameters(said.text if said else "text/plain", {"charset": right}))
        return [*fields, new] if said is None else [new if one is said else one for one in fields]


def _labelled(fields: list[Field], encoding: str) -> list[Field]:
    return [*(one for one in fields if one.key != ENCODING), new_field("Content-Transfer-Encoding", encoding)]
