"""Lists of recipients that would take hours, or all memory: by name, what makes the bytes of the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from mailer.recipients import MAX_ROW_BYTES
from mailer.recipients.header import MAX_COLUMNS

HEAD = b"email,name\n"
WIDE = b"email," + b",".join(b"c%0200d" % number for number in range(MAX_COLUMNS - 1)) + b"\n"
NARROW = b"email," + b",".join(b"c%d" % number for number in range(MAX_COLUMNS - 1)) + b"\n"


def ndjson(value: bytes, count: int = 8) -> bytes:
    return b"".join(b'{"email":"u%d@example.org","x":%s}\n' % (number, value) for number in range(count))


def filled(piece: bytes) -> bytes:
    return b"[" + piece * ((MAX_ROW_BYTES - 200) // len(piece)) + b"0]"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "quotes in one line": lambda: HEAD + b'x","' * 65_536,
    "a quote that each line opens and closes": lambda: HEAD + b'x","\n' * 32_768,
    "the same with long lines": lambda: HEAD + (b'x","' * 20 + b"\n") * 8192,
    "a quote that each line opens": lambda: HEAD + b'a@example.org,"b\n' * 20_000,
    "rows over two lines with a field too many": lambda: HEAD + b'a@example.org,"b\nc",d\n' * 20_000,
    "rows over two lines with a field too few": lambda: b"email,a,b\n" + b'a@example.org,"1\nb@example.org,2"\n' * 30_000,
    "one quote that is never closed": lambda: HEAD + b'"' + b"a@example.org,b\n" * 60_000,
    "quotes alone": lambda: HEAD + b'"\n' * 60_000,
    "a row of delimiters": lambda: HEAD + b"a@example.org" + b"," * 200_000 + b"\nb@example.org,B\n",
    "a thousand long names": lambda: WIDE + b"".join(b"u%d@example.org\n" % number for number in range(3000)),
    "a thousand short names": lambda: NARROW + b"".join(b"u%d@example.org\n" % number for number in range(3000)),
    "a thousand names, gzipped": lambda: gzip.compress(WIDE + b"".join(b"u%d@example.org\n" % n for n in range(3000))),
    "names that nobody gave": lambda: b"email" + b"," * 200_000 + b"\n" + (b"a@example.org" + b"," * 200_000 + b"\n") * 5,
    "rows of nothing": lambda: HEAD + b",\n" * 400_000,
    "addresses that take long": lambda: HEAD + (b" " * 200 + b"<a,x\n") * 4000,
    "lists in a list": lambda: ndjson(filled(b"[],")),
    "objects in a list": lambda: ndjson(filled(b"{},")),
    "numbers of many digits": lambda: ndjson(filled(b"1.2345678901234567890,"), 4),
    "brackets in brackets": lambda: ndjson(b"[" * 100_000 + b"]" * 100_000),
    "one number": lambda: ndjson(b"9" * 250_000),
    "many names": lambda: b"".join(
        b'{"email":"u%d@example.org",' % number + b",".join(b'"k%d_%d":0' % (number, key) for key in range(15_000)) + b"}\n"
        for number in range(8)
    ),
    "byte order marks": lambda: b"\xef\xbb\xbf" * 300_000,
    "bytes of no encoding": lambda: HEAD + b"".join(b"u%d@example.org,\xff\xfe\x81\n" % number for number in range(20_000)),
}
