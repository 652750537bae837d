"""Which encoding a list is in; and from that to UTF-8, which is all that the readers know.

A byte order mark decides. Then what the caller says. Else the first 64 KiB from the first line on that is not ASCII:

 - Most of what is not ASCII there is UTF-8: so is the list.
 - Else, where it looks like Western European text: the list is in Windows-1252, as which Excel writes "CSV".
 - Else, where it is a quarter of the lines and more: it is refused, for nobody can tell what it is in.
 - Else it is UTF-8, and those lines are damaged.

Bytes that are none of the encoding cost the row that they are in, and no other. They become the byte 0xFF, which no UTF-8 has.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any, Final

from ..errors import NotUtf8
from .lines import Block, Stream, count_lines
from .western import examples

WINDOW: Final = 64 * 1024  # bytes, from the first line that is not ASCII, by which the encoding is guessed
MOST_RUNS: Final = 0.5  # of the letters outside ASCII may stand three or more in a row: in Cyrillic or Hebrew most do
MOST_ODD: Final = 0.3  # may be signs where a Western text has none: in Polish or Mac Roman, read so, more are
MOST_DAMAGED: Final = 0.25  # of the lines, before it is the list that is in another encoding, and no line that is damaged

BOM: Final = codecs.BOM_UTF8
_MARKS = (  # the longer ones first, as the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
# Browsers read these as Windows-1252, too: what says Latin-1 of itself has quotes and euro signs of Windows in it.
_WINDOWS = frozenset(("iso8859-1", "ascii", "cp1252"))
# Codecs of Python that are no encoding of files.
_NOT_OF_FILES = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem", "utf-7"))
_FOREIGN = re.compile("[\udc80-\udcff]")
_HIGH = re.compile(rb"[\x80-\xff]")
_RUN = re.compile(r"[^\x00-\x7f]{3,}")
_UMLAUTS = frozenset("äöüÄÖÜß")  # a test has them in a row
# Beside letters in any Western text: quotes, dashes, ordinals, signs of money and of trade.
_COMMON = "\xa0\xad«»‹›“”„‘’‚´¨…–—·•ªº°®™©¿¡€£§"
_ODD = re.compile(
    rf"(?:(?<=[^\W\d_])|(?=.[^\W\d_]))(?:[^\w\x00-\x7f{_COMMON}]|[ŠšŽžŸƒ¹²³])"  # a sign beside a letter
    r"|(?<=[^\W\d_])[“”„‚‘«»](?=[^\W\d_])"  # a quote within a word
    r"|[£¥](?=[^\W\d_])|(?<=[a-zß-öø-ÿ])[À-ÖØ-Þ]|ÿ|\udcff"  # a capital behind a small letter; what no language of the West has
)


class By(StrEnum):
    """What decided."""

    MARK = "its byte order mark"
    SAID = "what was said"
    LOOKS = "how it looks"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Encoding:
    name: str  # as people write it
    by: By
    examples: tuple[str, ...] = ()  # words as they were read, where it was guessed
    doubtful: bool = False  # they look like no language that is written in it


UTF_8: Final = Encoding("UTF-8", By.DEFAULT)
WINDOWS_1252: Final = "Windows-1252"


def _marked(error: UnicodeError) -> tuple[Any, int]:
    """What an encoding has no character for → the byte 0xFF of the UTF-8 that is made of it."""
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return b"\xff" * (error.end - error.start), error.end
    raise error


MARKED: Final = "mailer.marked"
codecs.register_error(MARKED, _marked)


def codec_of(name: str) -> str:
    """The codec of an encoding as a person names it. Raises ValueError with a sentence."""
    try:
        info = codecs.lookup(name.strip())
    except (LookupError, ValueError):  # ValueError: a NUL in it
        info = None
    if info is None or not getattr(info, "_is_text_encoding", True) or info.name in _NOT_OF_FILES:
        raise ValueError(f"there is no encoding {name!r}; some are utf-8, windows-1252, windows-1250, mac-roman and utf-16")
    return "cp1252" if info.name in _WINDOWS else info.name


def decided(head: bytes, said: str | None) -> tuple[str, Encoding] | None:
    """The codec and the encoding, by the first bytes and what was said; None where neither tells.

    Raises ValueError with half a sentence, where they are not of the encoding that was said.
    """
    if head.startswith(BOM):
        return "utf-8", Encoding("UTF-8", By.MARK)
    for mark, codec, name in _MARKS:
        if head.startswith(mark):
            return codec, Encoding(name, By.MARK)
    if said is not None:
        codec = codec_of(said)
        if codec in ("utf-16", "utf-32"):  # it has no mark
            codec = _order(head, codec)
            return codec, Encoding(codec[:6].upper(), By.SAID)
        return codec.removesuffix("-sig"), Encoding(WINDOWS_1252 if codec == "cp1252" else codec.upper(), By.SAID)
    nul = [byte == 0 for byte in head[:4]]
    if nul in ([False, True, False, True], [True, False, True, False]):  # ASCII in UTF-16
        return ("utf-16-le" if nul[1] else "utf-16-be"), Encoding("UTF-16", By.LOOKS)
    return None


def _order(head: bytes, codec: str) -> str:
    """Of UTF-16 or UTF-32 without a mark: its order of bytes, by ASCII's letters and signs. Raises ValueError."""
    found = {one: sum(map(str.isascii, head.decode(one, "ignore"))) for one in (f"{codec}-le", f"{codec}-be")}
    best = max(found, key=lambda one: found[one])
    size = len(head) // (4 if codec == "utf-32" else 2)
    if 2 * found[best] < size or not size:  # header rows, addresses and delimiters are ASCII
        raise ValueError(f"is not {codec.upper()}, as was said; leave the encoding out, or say another one")
    return best


class Recoded:
    """A stream of any encoding, as UTF-8."""

    def __init__(self, stream: Stream, codec: str) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder(codec)(MARKED).decode

    def read1(self, size: int, /) -> bytes:
        while True:
            data = self._stream.read1(size)
            text = self._decode(data, not data)
            if text or not data:
                return text.encode("utf-8", MARKED)


# ---- by how it looks -----------------------------------------------------------------------------------------------


def guessed(
    source: str, blocks: Iterator[Block], found: Callable[[Encoding], None], *, ascii_matters: bool = False
) -> Iterator[Block]:
    """Blocks in UTF-8 or Windows-1252, as it turns out, → blocks in UTF-8. Raises NotUtf8 where it is neither, unless it is
    only ASCII that matters."""
    waiting = list[Block]()
    start = size = 0
    for block in blocks:
        if not waiting and (block.too_long or block.data.isascii()):
            yield block
            continue
        if not waiting:
            start = _start(block.data)
        waiting.append(block)
        size += 0 if block.too_long else len(block.data)
        if size - start >= WINDOW:
            break
    if not waiting:
        return
    window = b"".join(block.data for block in waiting if not block.too_long)[start : start + WINDOW]
    if size - start > WINDOW:  # cut, perhaps within a character
        window = window[: 1 + max(window.rfind(b"\n"), window.rfind(b"\r"))] or window
    together: Iterator[Block] = chain(waiting, blocks)
    if not _is_utf8(window):
        if _is_western(window) or ascii_matters:
            found(Encoding(WINDOWS_1252, By.LOOKS, *examples(window.decode("cp1252", MARKED))))
            together = map(_from_windows, together)
        elif _is_all_over(window):
            line = waiting[0].line + count_lines(waiting[0].data[:start])
            raise NotUtf8(source=source, line=line, byte=f"0x{_HIGH.findall(window)[0][0]:02x}")
    yield from together


def _start(data: bytes) -> int:
    """Where the first line begins that is not ASCII."""
    match = _HIGH.search(data)
    at = len(data) if match is None else match.start()
    return 1 + max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at))


def _is_utf8(window: bytes) -> bool:
    """Of what is not ASCII, at least as much is UTF-8 as is not."""
    text = window.decode("utf-8", "surrogateescape")
    bad = len(_FOREIGN.findall(text))
    return bad == 0 or sum(not char.isascii() for char in text) - bad >= bad


def _is_western(window: bytes) -> bool:
    """Read as Windows-1252 it looks like text; another encoding read so has signs within words, or words of accents alone."""
    text = window.decode("cp1252", MARKED)
    high = sum(not char.isascii() for char in text)
    runs = sum(len(run) for run in _RUN.findall(text) if not _UMLAUTS.issuperset(run))
    return runs <= MOST_RUNS * high and len(_ODD.findall(text)) <= MOST_ODD * high


def _is_all_over(window: bytes) -> bool:
    lines = [line for line in window.splitlines() if line]
    damaged = sum(not line.isascii() for line in lines)
    return damaged > 1 and damaged > MOST_DAMAGED * len(lines)


def _from_windows(block: Block) -> Block:
    if block.too_long or block.data.isascii():
        return block
    lines = block.data.splitlines(keepends=True)
    return block.with_data(b"".join(line if line.isascii() else _line_from_windows(line) for line in lines))


def _line_from_windows(line: bytes) -> bytes:
    """A line that is UTF-8, in a list that is not, would come out as `JosÃ©`: its row is rejected, and not sent like that."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", MARKED).encode("utf-8", MARKED)
    return _HIGH.sub(b"\xff", line)


def why_broken(text: str, encoding: Encoding) -> str:
    """Why a row with `text` in it, decoded with surrogateescape, cannot be used; "" where all of it is as it should be."""
    match = _FOREIGN.search(text)
    if match is None:
        return ""
    if encoding.name == UTF_8.name:
        byte = f"0x{ord(match[0]) - 0xDC00:02x}"
        return f"has the byte {byte}, which is not UTF-8; save the list as UTF-8, in Excel as “CSV UTF-8”"
    return f"is not in {encoding.name}, as the rest of the list is; save all of it in one encoding"
