"""MIME that was made to do harm: by name, what comes before, what is there as often as it fits in, and what comes behind."""

from __future__ import annotations

from mailer.message.mime.structure import MAX_DEPTH

HEAD = b"From: News <news@example.com>\r\nTo: a@example.com\r\n"
MULTIPART = HEAD + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'


def to(value: bytes) -> bytes:
    return b"From: n@example.com\r\nTo: " + value + b"\r\n\r\nx"


def nested(depth: int, inside: bytes) -> bytes:
    levels = [b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level) for level in range(depth)]
    return HEAD + b"".join(levels) + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + inside


def part(header: bytes) -> bytes:
    return b"--b\r\n" + header + b"\r\n\r\n"


PARAMETERS = part(b'Content-Type: text/plain;\r\n name*0*="\\' + b';\r\n name*1*="\\' * 900)
# (what comes before, what is there as often as it fits in, what comes behind)
HOSTILE = {
    "continuation lines": (HEAD + b"X-A: b\r\n", b" c\r\n", b"\r\nx"),
    "lines of blanks in a header": (HEAD + b"X-A: b\r\n", b" \r\n", b"\r\nx"),
    "headers": (HEAD, b"X: \r\n", b"\r\nx"),
    "8-bit subject": (HEAD + b"Subject: ", "é\r\n ".encode(), b"x\r\n\r\nx"),
    "half encoded words": (HEAD + b"Subject: \xc3\xa9", b"=?a?q?", b"\r\n\r\nx"),
    "words in a codec of n squared": (HEAD + b"Subject: \xc3\xa9", b"=?punycode?q?" + b"a" * 480 + b"?= ", b"\r\n\r\nx"),
    "blanks to fold at": (HEAD + b"Subject: ", b"a  ", b"\r\n\r\nx"),
    "CRs in a body": (HEAD + b"\r\n", b"\r", b""),
    "LFs": (HEAD + b"\r\n", b"\n", b""),
    "8-bit lines": (HEAD + b"\r\n", b"aaaaaaaaaaaaaaa\xff\r\n", b""),
    "one line": (HEAD + b"\r\n", b"x", b""),
    "parts in parts": (nested(MAX_DEPTH - 2, b""), b"\xc3\xa9\r\n", b""),
    "parts": (MULTIPART, part(b"A: b"), b""),
    "lines like a boundary": (MULTIPART + b"--b\r\n\r\n", b"--bx\r\n", b""),
    "parameters": (MULTIPART, PARAMETERS, b""),
    "commas": (HEAD.removesuffix(b"\r\n"), b",\r\n ", b"b@example.com\r\n\r\nx"),
    "comments": (HEAD.removesuffix(b"\r\n"), b"(\r\n ", b"b@example.com\r\n\r\nx"),
    "quotes": (HEAD.removesuffix(b"\r\n") + (b'"' * 990 + b",\r\n ") * 95, b"", b"b@example.com\r\n\r\nx"),
    "boundaries": (HEAD + b"\r\n", b"boundary=012345678901\r\n--012345678901\r\n", b""),
}


def hostile(name: str, size: int) -> bytes:
    before, unit, behind = HOSTILE[name]
    return before + unit * (size // max(len(unit), 1)) + behind
