"""Which encoding a list is in is found out by a rule, and said; what does not fit costs its row; nobody gets `JosÃ©`."""

from __future__ import annotations

import asyncio
import codecs
import csv
import gzip
import io
from contextlib import suppress
from encodings.aliases import aliases
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import InvalidEmail, NotUtf8, RecipientsError
from mailer.recipients import BadRow, Reading, Recipient, Row, Understood, open_recipients
from mailer.recipients.blocks import ByteSource
from mailer.recipients.csv_rows import csv_rows
from mailer.recipients.encoding import WINDOW, By
from mailer.recipients.reserved import Reserved
from mailer.recipients.western import is_strange

from .test_recipients_csv import addresses, reasons

GERMAN = "E-Mail;Vorname;Ort\r\nana@example.org;Jörg;Köln\r\nbo@example.org;Zoé;Besançon\r\n"


def read(content: bytes, folder: Path, name: str = "list.csv", **reading: Any) -> tuple[list[Row], Understood]:
    path = folder / name
    path.write_bytes(content)

    async def opened() -> tuple[list[Row], Understood]:
        async with open_recipients(path, reading=Reading(**reading)) as recipients:
            return [row async for batch in recipients for row in batch], recipients.understood

    return asyncio.run(opened())


def names(rows: list[Row]) -> list[str]:
    return [row.data["Vorname"] for row in rows if isinstance(row, Recipient)]


# ---- marks, and what is said ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("marks", [1, 2])
@pytest.mark.parametrize(
    ("encoding", "mark", "shown"),
    [
        ("utf-8", codecs.BOM_UTF8, "UTF-8"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "UTF-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "UTF-32"),
        ("utf-32-be", codecs.BOM_UTF32_BE, "UTF-32"),
    ],
)
def test_a_byte_order_mark_decides_also_where_it_is_there_twice(
    encoding: str, mark: bytes, shown: str, marks: int, packed: bool, tmp_path: Path
) -> None:
    content = mark * marks + GERMAN.encode(encoding)
    rows, found = read(gzip.compress(content) if packed else content, tmp_path, encoding="mac-roman")
    assert names(rows) == ["Jörg", "Zoé"]
    assert (found.encoding, found.encoding_by) == (shown, By.MARK)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_known_by_its_zeros(encoding: str, tmp_path: Path) -> None:
    rows, found = read(GERMAN.encode(encoding), tmp_path)
    assert names(rows) == ["Jörg", "Zoé"]
    assert (found.encoding, found.encoding_by) == ("UTF-16", By.LOOKS)


@pytest.mark.parametrize(
    "encoding", ["mac-roman", "cp1250", "windows-1251", "shift-jis", "gb18030", "utf-16", "utf-8", "latin-1", "CP437", "koi8-r"]
)
def test_what_is_said_is_taken(encoding: str, tmp_path: Path) -> None:
    first = "Иван" if encoding in ("windows-1251", "koi8-r") else "山田" if encoding in ("shift-jis", "gb18030") else "Zoé"
    content = f"email;Vorname\rana@example.org;{first}\rbo@example.org;Bo\r".encode(encoding)
    rows, _ = read(content, tmp_path, encoding=encoding)
    assert names(rows) == [first, "Bo"]


@pytest.mark.parametrize("name", ["klingon", "rot13", "base64", "zlib", "idna", "unicode_escape", "undefined", "", "x\x00y"])
def test_what_is_no_encoding_of_files_is_refused_before_the_list_is_opened(name: str) -> None:
    with pytest.raises(InvalidEmail, match=r"there is no encoding .*; some are utf-8, windows-1252"):
        Reading(encoding=name)


def test_what_says_latin_1_of_itself_has_the_quotes_of_windows(tmp_path: Path) -> None:
    rows, _ = read("email;Vorname\nana@example.org;“Ana” 5 €\n".encode("cp1252"), tmp_path, encoding="iso-8859-1")
    assert names(rows) == ["“Ana” 5 €"]


# ---- how it looks --------------------------------------------------------------------------------------------------

WESTERN = {
    "German": "Jörg Müller;Köln\nGroß;Düsseldorf\näöüß ÄÖÜ;5 €",
    "French": "François;Orléans\nCœur;“Été”\nÉMILIE;SAINT-ÉTIENNE\nNoël;d’Œx\n«André»;n° 5",
    "Spanish": "José Peña;¿Qué? ¡Sí!\nÁngel;A Coruña 1º",
    "Portuguese": "João;São Paulo\nConceição;Évora",
    "Swedish": "Åsa Öberg;Malmö",
    "Icelandic": "Þórður;Ísafjörður",
    "Catalan": "Núria;col·legi",
    "one name": "Zoé;Paris",
}
OTHERS = {
    "Russian": ("Иван;Москва\nОльга Петрова;Санкт-Петербург", "cp1251"),
    "Greek": ("Γιώργος;Αθήνα\nΜαρία;Θεσσαλονίκη", "cp1253"),
    "Hebrew": ("דוד;תל אביב\nשרה;חיפה", "cp1255"),
    "Polish": ("Michał;Łódź\nPaweł Wałęsa;Kraków\nŻaneta;Gdańsk", "cp1250"),
    "Slovene": ("Žiga;Škofja Loka\nBoštjan;Črnomelj", "cp1250"),
    "Japanese": ("山田太郎;東京\n佐藤;大阪", "shift-jis"),
    "Chinese": ("王伟;北京\n李娜;上海", "gbk"),
    "a Mac": ("Jörg;Köln\nZoé;Besançon", "mac-roman"),
    "DOS": ("Jörg;Köln\nZoé;Besançon", "cp850"),
}


def listed(people: str) -> str:
    lines = [f"u{number}@example.org;{line}" for number, line in enumerate(people.split("\n"))]
    return "email;Vorname;Ort\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("language", WESTERN)
def test_a_list_in_windows_1252_is_read_and_said_to_be_guessed(language: str, packed: bool, tmp_path: Path) -> None:
    content = listed(WESTERN[language]).encode("cp1252")
    rows, found = read(gzip.compress(content) if packed else content, tmp_path)
    assert names(rows) == [line.partition(";")[0] for line in WESTERN[language].split("\n")]
    assert (found.encoding, found.encoding_by) == ("Windows-1252", By.LOOKS)
    shown = ", ".join(found.examples)
    assert any(word in WESTERN[language] for word in found.examples)
    assert f"Windows-1252 (guessed, for instance: {shown}; --encoding says another)" in found.sentences()[0]
    assert found.doubtful == (language == "Icelandic")


WRONG = {
    "Turkish": ("Ayşe Yıldız\nIşık Güneş\nÇağlar Öz", "cp1254"),
    "Croatian": ("Ivan Horvatić\nĐuro Kovačić\nTena Jurić", "cp1250"),
    "Croatian, some": ("Ana Babić\nJosip Ivić\nMarko Ban\nMiro Novak", "cp1250"),
    "Hungarian": ("Erdős Gergő\nSzűcs Jenő\nKovács Béla\nTóth Ágnes", "cp1250"),
    "Romanian": ("Ștefan Țepeș\nBrânză\nMihăilă".translate(str.maketrans("ȘșȚț", "ŞşŢţ")), "cp1250"),
    "Romanian, some": ("Mihăilă\nBăsescu", "cp1250"),
    "Lithuanian": ("Žydrūnas\nRūta Šimkutė", "cp1257"),
    "Czech": ("Antonín Dvořák\nJiří Černý", "cp1250"),
    "Slovene": ("Luka Dončić\nAna Kovač Čeh\nMaja Kučan", "cp1250"),
}
RIGHT = (
    "Zoë Noël Héloïse Lœuillet Saint-Étienne Orléans Citroën Françoise Jérôme Mathäus Grüße Strauß Müller-Sørensen Kjær Åsa "
    "Öberg Malmö Hämäläinen Mª José Núñez Nº 1º Peña Güell Núria Conceição João Simões Magalhães Guimarães Irmã São "
    "Niccolò Città perché Žižek Škoda Siân Seán Óscar Ángel Björk Besançon "
    "ÉMILIE DÜSSELDORF ÅRHUS Ærø Bæk Häagen façade Aïcha Prishtinë"
)


@pytest.mark.parametrize("language", WRONG)
def test_what_no_western_language_writes_like_that_is_in_doubt(language: str, tmp_path: Path) -> None:
    people, encoding = WRONG[language]
    _, found = read(listed(people).encode(encoding), tmp_path)
    assert (found.encoding, found.encoding_by, found.doubtful) == ("Windows-1252", By.LOOKS, True)
    assert found.examples


def test_the_words_of_western_languages_are_not_in_doubt_nor_a_guest_among_them(tmp_path: Path) -> None:
    words = RIGHT.split()
    assert [word for word in words if is_strange(word)] == []
    _, found = read(listed("\n".join([*words, "Novotný"])).encode("cp1252"), tmp_path)
    assert not found.doubtful
    assert found.examples[0] == "Novotný"  # shown all the same


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_what_is_said_to_be_utf16_needs_no_mark(encoding: str, order: str, tmp_path: Path) -> None:
    rows, found = read(GERMAN.encode(f"{encoding}-{order}"), tmp_path, encoding=encoding)
    assert names(rows) == ["Jörg", "Zoé"]
    assert (found.encoding, found.encoding_by) == (encoding.upper(), By.SAID)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("content", [GERMAN.encode(), b"e", b"email\n" * 9000, bytes(range(256))])
def test_what_is_said_to_be_utf16_and_is_not_is_one_sentence(encoding: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match=r"is not UTF-\d\d, as was said; leave the encoding out|is no text"):
        read(content, tmp_path, encoding=encoding)


@pytest.mark.parametrize("codec", sorted(set(aliases.values())))
@pytest.mark.parametrize("content", [GERMAN.encode(), GERMAN.encode("utf-16-le"), bytes(range(256)) * 4, b"\x1b$B\xff\x1b(~{\n"])
def test_no_encoding_that_can_be_said_lets_an_error_of_python_out(codec: str, content: bytes, tmp_path: Path) -> None:
    with suppress(RecipientsError, InvalidEmail):
        read(content, tmp_path, encoding=codec)


@pytest.mark.parametrize("language", WESTERN)
def test_the_same_in_utf8_is_utf8(language: str, tmp_path: Path) -> None:
    rows, found = read(listed(WESTERN[language]).encode(), tmp_path)
    assert names(rows) == [line.partition(";")[0] for line in WESTERN[language].split("\n")]
    assert (found.encoding, found.encoding_by) == ("UTF-8", By.DEFAULT)


@pytest.mark.parametrize("language", OTHERS)
def test_a_list_in_another_encoding_is_refused_and_not_sent_garbled(language: str, tmp_path: Path) -> None:
    people, encoding = OTHERS[language]
    with pytest.raises(NotUtf8) as caught:
        read(listed(people).encode(encoding), tmp_path)
    sentence = str(caught.value)
    assert "is not UTF-8 (line 2 has the byte 0x" in sentence
    assert "in Excel as “CSV UTF-8”, or name its encoding with --encoding" in sentence
    rows, _ = read(listed(people).encode(encoding), tmp_path, encoding=encoding)
    assert names(rows) == [line.partition(";")[0] for line in people.split("\n")]


@pytest.mark.parametrize("at", [0, 10_000, 30_000])
def test_how_far_down_the_first_letter_outside_ascii_is_does_not_matter(at: int, tmp_path: Path) -> None:
    lines = [f"u{number}@example.org;{'José' if number >= at else 'Bo'}" for number in range(40_000)]
    rows, found = read(("email;Vorname\n" + "\n".join(lines)).encode("cp1252"), tmp_path)
    assert (names(rows)[at], len(rows), found.rejected) == ("José", 40_000, 0)


# ---- what does not fit costs its row -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("bad", [b"\xff", b"\xf6", b"\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf"])
@pytest.mark.parametrize("quote", [b"", b'"'])
def test_a_byte_in_a_list_of_utf8_that_is_not_costs_its_row(bad: bytes, quote: bytes, tmp_path: Path) -> None:
    good = b"".join(b"u%d@example.org,%sJos\xc3\xa9%s\n" % (number, quote, quote) for number in range(5000))
    content = b"email,Vorname\n" + good + b"x@example.org," + quote + b"J" + bad + b"x" + quote + b"\n" + good.replace(b"u", b"v")
    rows, found = read(content, tmp_path)
    assert len(names(rows)) == 10_000
    assert set(names(rows)) == {"José"}
    [(row, to, reason)] = reasons(rows)
    assert (row, to) == (5001, "x@example.org")
    assert reason == (
        f"line 5002: has the byte 0x{bad[0]:02x}, which is not UTF-8; save the list as UTF-8, in Excel as “CSV UTF-8”"
    )
    assert found.reasons[0].first == (5002,)


@pytest.mark.parametrize("bad", [b"Jos\xc3", b"\xff", b"J\x81rg", b"B\x9ar"])
def test_damage_in_a_list_of_ascii_costs_its_row(bad: bytes, tmp_path: Path) -> None:
    content = b"email,Vorname\n" + b"".join(b"u%d@example.org,Bo\n" % n for n in range(20_000)) + b"x@example.org," + bad + b"\n"
    rows, _ = read(content, tmp_path)
    assert len(addresses(rows)) == 20_000
    assert [reason.partition(",")[0] for _, _, reason in reasons(rows)] == [
        f"line 20002: has the byte 0x{next(byte for byte in bad if byte > 127):02x}"
    ]


def test_rows_in_utf8_below_rows_in_windows_1252_are_rejected_and_not_sent_garbled(tmp_path: Path) -> None:
    western = "".join(f"u{n}@example.org;José\n" for n in range(5000)).encode("cp1252")
    rows, _ = read(b"email;Vorname\n" + western + "v@example.org;José\n".encode() + b"w@example.org;Andr\x81\n", tmp_path)
    assert set(names(rows)) == {"José"}
    assert [(to, reason) for _, to, reason in reasons(rows)] == [
        ("v@example.org", "line 5002: is not in Windows-1252, as the rest of the list is; save all of it in one encoding"),
        ("w@example.org", "line 5003: is not in Windows-1252, as the rest of the list is; save all of it in one encoding"),
    ]


def test_half_a_character_of_utf16_costs_its_row(tmp_path: Path) -> None:
    lines = ["email;Vorname", "ana@example.org;Ana", "bo@example.org;B\ud800", "cy@example.org;Cy"]
    rows, _ = read("\n".join(["\ufeff" + lines[0], *lines[1:]]).encode("utf-16-le", "surrogatepass"), tmp_path)
    assert names(rows) == ["Ana", "Cy"]
    assert reasons(rows)[0][2].startswith("line 3: is not in UTF-16, as the rest of the list is")


def test_a_line_that_is_too_long_does_not_decide_what_the_list_is_in(tmp_path: Path) -> None:
    content = b"email,Vorname\nx@example.org," + b"\xff" * 300_000 + b"\n" + "ana@example.org,Zoé\n".encode()
    rows, found = read(content, tmp_path)
    assert (names(rows), found.encoding, len(reasons(rows))) == (["Zoé"], "UTF-8", 1)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"\xe9", b"\xc3\xa9", b"\xff", b"\n", b"\r\n", b",", b'"']), max_size=60), st.data())
def test_the_encoding_does_not_depend_on_how_the_bytes_arrive(pieces: list[bytes], data: st.DataObject) -> None:
    content = b"email,x\n" + b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=9))

    class Cut(io.BytesIO):
        turn = 0

        def read1(self, size: int | None = -1) -> bytes:
            self.turn += 1
            return super().read(min(size or 0, cuts[self.turn % len(cuts)]))

    assert outcome(Cut(content)) == outcome(io.BytesIO(content))


def outcome(stream: io.BytesIO) -> list[Row] | str:
    file, reading = ByteSource("list", stream, None), Reading()
    try:
        _, groups = csv_rows(file, file.blocks(), reading, Reserved(reading))
        return [row for group in groups for row in group.rows]
    except RecipientsError as error:
        return str(error)


# ---- as Python's own reader has it ---------------------------------------------------------------------------------

_value = st.text(st.characters(codec="cp1252", exclude_categories=["Cc"]), max_size=20).map(str.strip)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(_value, _value), min_size=1, max_size=20),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252"]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
def test_what_is_well_formed_is_read_as_python_reads_it(
    table: list[tuple[str, str]], encoding: str, delimiter: str, end: str, quoting: Any, sep: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["first", "E-Mail Address", "second"])
    writer.writerows([a, f"u{number}@example.org", b] for number, (a, b) in enumerate(table))
    head = f"sep={delimiter}{end}" if sep else ""
    content = (head + text.getvalue()).encode(encoding)
    # What was not said and cannot be told from the bytes is said.
    said = encoding if encoding in ("cp1252", "utf-16-be") else None
    file, reading = ByteSource("list.csv", io.BytesIO(content), None), Reading(encoding=said)
    _, groups = csv_rows(file, file.blocks(said), reading, Reserved(reading))
    found = [row for group in groups for row in group.rows]
    expected = list(csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter=delimiter))[1:]
    assert [row for row in found if isinstance(row, BadRow)] == []
    assert [(row.data["first"], row.address, row.data["second"]) for row in found if isinstance(row, Recipient)] == [
        (first.strip(), address, second.strip()) for first, address, second in expected
    ]


def test_the_window_is_as_it_is_documented() -> None:
    assert WINDOW == 64 * 1024
