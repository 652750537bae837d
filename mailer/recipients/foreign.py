"""Files that are no lists: what each of them is, and what to do about it. Nothing of what is in them is shown."""

from __future__ import annotations

import re
from typing import Final

HEAD_BYTES: Final = 4096  # of a file that are looked at
MOST_CONTROL: Final = 0.1  # of them may be control characters in a text

_AS_CSV = "save it as “CSV UTF-8 (Comma delimited)” and give that file"
_UNPACK = "unpack it and give the file that is inside, or that file with gzip"
_BEGINNINGS: Final = (
    (b"BZh", f"is packed with bzip2; {_UNPACK}"),
    (b"\xfd7zXZ\x00", f"is packed with xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"is packed with zstd; {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"is a 7z archive; {_UNPACK}"),
    (b"Rar!\x1a\x07", f"is a RAR archive; {_UNPACK}"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"is an Excel workbook, an old one (.xls) or one with a password; in Excel {_AS_CSV}"),
    (b"%PDF-", "is a PDF; export the list as CSV from where it is kept"),
    (b"\x89PNG", "is an image; export the list as CSV from where it is kept"),
    (b"\xff\xd8\xff", "is an image; export the list as CSV from where it is kept"),
    (b"SQLite format 3\x00", "is an SQLite database; export the table as CSV"),
    (b"PAR1", "is a Parquet file; export it as CSV"),
)
# In the first names that a zip archive has inside.
_IN_ZIP: Final = (
    (b"application/vnd.oasis.opendocument.spreadsheet", f"is a LibreOffice spreadsheet (.ods); in LibreOffice {_AS_CSV}"),
    (b"Index/", "is a Numbers document; in Numbers choose File, Export To, CSV, and give that file"),
    (b"word/", "is a Word document; keep the list in a spreadsheet and save it as CSV"),
    (b"xl/", f"is an Excel workbook (.xlsx); in Excel {_AS_CSV}"),
    (b"[Content_Types].xml", f"is an Excel workbook (.xlsx); in Excel {_AS_CSV}"),
)
_BY_NAME: Final = {
    ".xlsx": f"is an Excel workbook (.xlsx); in Excel {_AS_CSV}",
    ".xlsm": f"is an Excel workbook (.xlsm); in Excel {_AS_CSV}",
    ".ods": f"is a LibreOffice spreadsheet (.ods); in LibreOffice {_AS_CSV}",
    ".numbers": "is a Numbers document; in Numbers choose File, Export To, CSV, and give that file",
}
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1d\x1f\x7f]")
_TEXTS: Final = (
    (re.compile(rb"<\?xml(?![\s\S]*<html)", re.IGNORECASE), "is XML, not a list; export the list as CSV"),
    (re.compile(rb"<(?:!doctype|html|head|body|table|meta|script|div|!--|\?xml)", re.IGNORECASE),
     "is a web page (HTML), not a list; it may be a page to sign in at, in place of the download: export the list again, as CSV"),
    (re.compile(rb"\{\\rtf"), "is a text document (RTF); keep the list in a spreadsheet and save it as CSV"),
    (re.compile(rb"BEGIN:VCARD", re.IGNORECASE), "is a file of contacts (vCard); export the contacts as CSV"),
    (re.compile(rb"(?:version: *1\s+)?dn:", re.IGNORECASE), "is an LDIF file; export the address book as CSV (comma separated)"),
)  # fmt: skip


def foreign(head: bytes, suffix: str) -> str | None:
    """What the first bytes of a file are of, where that is no list; `suffix` is the end of its name, as `.xlsx`."""
    for beginning, why in _BEGINNINGS:
        if head.startswith(beginning):
            return why
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        inside = next((why for name, why in _IN_ZIP if name in head), None)
        return _BY_NAME.get(suffix) or inside or f"is a zip archive; {_UNPACK}"
    if head[257:262] == b"ustar":
        return f"is a tar archive; {_UNPACK}"
    return None


def foreign_text(head: bytes) -> str | None:
    """The same of the first bytes of a text in UTF-8."""
    if len(_CONTROL.findall(head)) > max(1, MOST_CONTROL * len(head)):
        return "is no text, so it is no list; export the list as CSV"
    beginning = head.lstrip()
    return next((why for pattern, why in _TEXTS if pattern.match(beginning)), None)
