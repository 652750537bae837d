"""CSV: what is right comes out as it was written, and what is wrong costs its own row only."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.errors import EmptyRecipients, NoEmailColumn, RecipientsError
from mailer.message.email import Outcome
from mailer.recipients import MAX_ROW_BYTES, BadRow, Reading, Recipient, Row, open_recipients
from mailer.recipients.blocks import ByteSource
from mailer.recipients.csv_rows import csv_rows
from mailer.recipients.lines import CHUNK_BYTES, Block
from mailer.recipients.reserved import Reserved


def rows_of(content: str | bytes, folder: Path, name: str = "list.csv", **reading: Any) -> list[Row]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)

    async def read() -> list[Row]:
        async with open_recipients(path, reading=Reading(**reading)) as recipients:
            return [row async for batch in recipients for row in batch]

    return asyncio.run(read())


def rows_of_blocks(blocks: list[bytes]) -> list[Row]:
    """The same without a disk, and with the cuts between blocks where the test wants them."""
    file, reading = ByteSource("list.csv", io.BytesIO(), None), Reading()
    _, groups = csv_rows(file, iter(_numbered(blocks)), reading, Reserved(reading))
    return [row for group in groups for row in group.rows]


def _numbered(blocks: list[bytes]) -> Iterator[Block]:
    line = 1
    for data in blocks:
        yield Block(line, data)
        line += len(io.StringIO(data.decode(), newline="").readlines())


def reasons(rows: list[Row]) -> list[tuple[int, str, str]]:
    return [(row.row, row.to, row.reason) for row in rows if isinstance(row, BadRow)]


def addresses(rows: list[Row]) -> list[str]:
    return [row.address for row in rows if isinstance(row, Recipient)]


# ---- what is right -------------------------------------------------------------------------------------------------


def test_a_row_has_its_address_and_the_other_columns_as_variables(tmp_path: Path) -> None:
    rows = rows_of("email,name,city\nana@example.com,Ana,Lisboa\nBo@EXAMPLE.com,Bo,\n", tmp_path)
    assert rows == [
        Recipient(1, "ana@example.com", {"name": "Ana", "city": "Lisboa"}),
        Recipient(2, "Bo@example.com", {"name": "Bo", "city": ""}),
    ]


@pytest.mark.parametrize(
    "header", ["email,name", "Email,name", " EMAIL , name", "\ufeffemail,name", '"email","name"', "\n \nemail,name"]
)
def test_the_header_is_found_with_a_bom_blanks_capitals_and_quotes(header: str, tmp_path: Path) -> None:
    assert rows_of(f"{header}\nana@example.com,Ana\n", tmp_path) == [Recipient(1, "ana@example.com", {"name": "Ana"})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_commas_semicolons_tabs_and_bars_are_told_by_the_header(delimiter: str, tmp_path: Path) -> None:
    content = (
        delimiter.join(["name", "email", '"x,y;z\tw|"'])
        + "\n"
        + delimiter.join(["Ana", "ana@example.com", '"1;2,3\t4|5"'])
        + "\n"
    )
    assert rows_of(content, tmp_path) == [Recipient(1, "ana@example.com", {"name": "Ana", "x,y;z\tw|": "1;2,3\t4|5"})]


def test_quoted_headers_with_semicolons_are_no_mistake(tmp_path: Path) -> None:
    assert rows_of('"name";"email"\n"Ana";"ana@example.com"\n', tmp_path) == [Recipient(1, "ana@example.com", {"name": "Ana"})]


def test_a_list_of_addresses_alone_is_a_list(tmp_path: Path) -> None:
    assert addresses(rows_of("email\nana@example.com\nbo@example.com", tmp_path)) == ["ana@example.com", "bo@example.com"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_every_kind_of_line_end_is_one(end: str, quote: str, tmp_path: Path) -> None:
    content = end.join(["email,name", f"ana@example.com,{quote}Ana{quote}", "", "nobody,Bo", "cy@example.com,Cy"])
    rows = rows_of(content, tmp_path)
    assert addresses(rows) == ["ana@example.com", "cy@example.com"]
    assert reasons(rows)[0][2].startswith("line 4: ")


def test_quoted_commas_line_breaks_and_doubled_quotes_are_part_of_the_value(tmp_path: Path) -> None:
    rows = rows_of('email,a,b,c\nana@example.com,"x, y","1\r\n2\n3","she said ""hi"""\n', tmp_path)
    assert rows == [Recipient(1, "ana@example.com", {"a": "x, y", "b": "1\r\n2\n3", "c": 'she said "hi"'})]


def test_blank_lines_do_not_count_but_the_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    rows = rows_of('email,note\n\nana@example.com,"a\nb"\n   \nnobody,x\n\n', tmp_path)
    assert [row.row for row in rows] == [1, 2]
    assert reasons(rows) == [(2, "nobody", "line 6: an email address must have an @-sign")]


def test_cc_bcc_and_tags_are_columns_of_their_own(tmp_path: Path) -> None:
    content = (
        "email,CC,bcc,Tags,name\n"
        "ana@example.com,b@example.com; C@EXAMPLE.com,d@example.com,plan=plus; wave=2,Ana\n"
        "bo@example.com,,,,Bo\n"
    )
    rows = rows_of(content, tmp_path)
    assert rows == [
        Recipient(
            1,
            "ana@example.com",
            {"name": "Ana"},
            ("b@example.com", "C@example.com"),
            ("d@example.com",),
            {"plan": "plus", "wave": "2"},
        ),
        Recipient(2, "bo@example.com", {"name": "Bo"}),
    ]


def test_a_column_without_a_name_is_left_out(tmp_path: Path) -> None:
    assert rows_of("email,name,,\nana@example.com,Ana,x,\n", tmp_path) == [Recipient(1, "ana@example.com", {"name": "Ana"})]


def test_a_column_named_data_is_a_variable_like_others(tmp_path: Path) -> None:
    assert rows_of("email,data\nana@example.com,x\n", tmp_path) == [Recipient(1, "ana@example.com", {"data": "x"})]


_field = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
_special = st.text('",;\t\r\n\u2028\x0b\x1c a"', max_size=12)
_table = st.lists(st.lists(_field | _special, min_size=2, max_size=2), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    _table,
    st.sampled_from([",", ";", "\t", "|"]),
    # Up to Python 3.12 the module leaves a \r unquoted where rows end with \n, and cannot read that itself.
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]),
    st.randoms(use_true_random=False),
)
def test_what_the_csv_module_writes_is_read_as_it_was(
    table: list[list[str]], delimiter: str, style: tuple[str, Any], rnd: Random
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=style[0], quoting=style[1])
    writer.writerow(["a", "email", "b"])
    for number, (a, b) in enumerate(table):
        writer.writerow([a, f"user{number}@example.com", b])
    # Blocks are cut at any line end, also one that is inside a field.
    blocks, block = [], b""
    for line in io.StringIO(out.getvalue(), newline="").readlines():
        block += line.encode()
        if rnd.random() < 0.5:
            blocks.append(block)
            block = b""
    blocks.append(block)
    assert rows_of_blocks(blocks) == [
        Recipient(number + 1, f"user{number}@example.com", {"a": a.strip(), "b": b.strip()})
        for number, (a, b) in enumerate(table)
    ]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(" ab,\r\n", max_size=20), max_size=20))
def test_without_quotes_splitting_gives_what_the_csv_module_gives(parts: list[str]) -> None:
    body = "\n".join(parts) + "\n"
    rows = rows_of_blocks([b"email,x\n", body.encode()])
    expected = [[field.strip() for field in fields] for fields in csv.reader(io.StringIO(body, newline=""))]
    expected = [fields for fields in expected if any(fields)]
    assert [row.row for row in rows] == list(range(1, len(expected) + 1))
    assert [row.to for row in rows if isinstance(row, BadRow)] == [fields[0] for fields in expected]


# ---- what is wrong with one row ------------------------------------------------------------------------------------


def test_a_row_with_too_many_fields_is_rejected_with_the_counts(tmp_path: Path) -> None:
    rows = rows_of("email,name\nana@example.com,Ana,x\nbo@example.com\ncy@example.com,Cy,,\n", tmp_path)
    assert reasons(rows) == [(1, "ana@example.com", "line 2: has 3 fields, and the header row has 2")]
    assert addresses(rows) == ["bo@example.com", "cy@example.com"]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_missing_and_surplus_empty_cells_and_empty_rows_cost_nothing(quote: str, end: str, tmp_path: Path) -> None:
    name = f"{quote}Ana{quote}"
    lines = [
        "email,name,note,",
        f"ana@example.com,{name},,",
        ",,,",
        f"bo@example.com,{name}",
        " , ,\xa0,,,,",
        "cy@example.com",
        f"di@example.com,{name},x,,,,,,,,",
        ',"",',
        f"ed@example.com,{name},x, , ,",
    ]
    rows = rows_of(end.join(lines) + end, tmp_path)
    assert [(row.row, row.address, list(row.data.values())) for row in rows if isinstance(row, Recipient)] == [
        (1, "ana@example.com", ["Ana", ""]),
        (2, "bo@example.com", ["Ana", ""]),
        (3, "cy@example.com", ["", ""]),
        (4, "di@example.com", ["Ana", "x"]),
        (5, "ed@example.com", ["Ana", "x"]),
    ]


def test_a_row_over_several_lines_may_lack_its_last_cells_and_have_empty_ones_too_many(tmp_path: Path) -> None:
    rows = rows_of('email,a,b\nana@example.com,"1\n2"\nbo@example.com,"3\n4",5,,\ncy@example.com,"6\n7",,,\n', tmp_path)
    assert [(row.address, row.data) for row in rows if isinstance(row, Recipient)] == [
        ("ana@example.com", {"a": "1\n2", "b": ""}),
        ("bo@example.com", {"a": "3\n4", "b": "5"}),
        ("cy@example.com", {"a": "6\n7", "b": ""}),
    ]


def test_a_stray_quote_does_not_swallow_rows_where_cells_may_be_missing(tmp_path: Path) -> None:
    rows = rows_of('email,a,b\nana@example.com,"1\nbo@example.com,2"\ncy@example.com,3,4\n', tmp_path)
    assert [row for row, _, _ in reasons(rows)] == [1]
    assert reasons(rows)[0][2].startswith("line 2: has 2 fields, and the header row has 3, read over 2 lines")
    assert addresses(rows) == ["bo@example.com", "cy@example.com"]


def test_values_have_no_blanks_around_them_and_quotes_behind_a_blank_are_quotes(tmp_path: Path) -> None:
    rows = rows_of('email , name ,note\n ana@example.com ,  "Ana, B.", x \xa0\n bo@example.com, Bo ,"  y\n"\n', tmp_path)
    assert rows == [
        Recipient(1, "ana@example.com", {"name": "Ana, B.", "note": "x"}),
        Recipient(2, "bo@example.com", {"name": "Bo", "note": "y"}),
    ]


def test_what_a_bad_row_shows_is_cut_and_printable(tmp_path: Path) -> None:
    rows = rows_of("email,n\n" + "x\x1b[31m\x7f" + "y" * 5000 + ",1\n", tmp_path)
    [(_, to, reason)] = reasons(rows)
    assert len(to) == 320
    assert to.startswith("x\ufffd[31m\ufffdyyy")
    assert to.isprintable()
    assert reason.isprintable()
    assert len(reason) <= 500


def test_a_nul_byte_costs_its_row(tmp_path: Path) -> None:
    rows = rows_of("email,name\nana@example.com,A\x00na\nbo@example.com,Bo\n\x00,\x00\n", tmp_path)
    assert addresses(rows) == ["bo@example.com"]
    assert [reason for _, _, reason in reasons(rows)] == ["line 2: has a NUL byte in it", "line 4: has a NUL byte in it"]


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("nobody,,", "`cc` has 'nobody': an email address must have an @-sign"),
        (",US,", "`bcc` has 'US': an email address must have an @-sign"),
        (",josé@example.com,", "`bcc` has 'josé@example.com': Amazon SES takes only ASCII letters before the @-sign, not 'é'"),
        (",,plan", "`tags` has 'plan', which is not name=value"),
        (",,plan=a b", "tag 'plan': SES takes A-Z a-z 0-9 _ - and at most 256 characters, for name and value"),
        (",,a=1;a=2", "`tags` has 'a' twice"),
        (",,mailer_id=1", "tag 'mailer_id' is the one that this service puts on every message itself"),
        (";".join(f"u{n}@example.com" for n in range(50)) + ",,", "51 addresses with cc and bcc, and SES takes 50 a message"),
    ],
)
def test_cc_bcc_and_tags_that_ses_would_refuse_cost_their_row(extra: str, why: str, tmp_path: Path) -> None:
    first = "zoe@example.com,c@example.com,b@example.com,plan=plus"
    rows = rows_of(f"email,cc,bcc,tags\n{first}\nana@example.com,{extra}\nbo@example.com,,,\n", tmp_path)
    assert reasons(rows) == [(2, "ana@example.com", f"line 3: {why}")]
    assert addresses(rows) == ["zoe@example.com", "bo@example.com"]


def test_fifty_addresses_are_not_too_many(tmp_path: Path) -> None:
    [row] = rows_of(f"email,cc\nana@example.com,{';'.join(f'u{n}@example.com' for n in range(49))}\n", tmp_path)
    assert isinstance(row, Recipient)
    assert len(row.cc) == 49


def test_a_second_row_for_an_address_is_a_duplicate_whatever_its_capitals(tmp_path: Path) -> None:
    rows = rows_of("email\nana@example.com\nANA@EXAMPLE.COM\nana@bücher.example.com\nana@xn--bcher-kva.example.com\n", tmp_path)
    assert [(row.row, row.outcome, row.reason) for row in rows if isinstance(row, BadRow)] == [
        (2, Outcome.DUPLICATE, "line 3: same address as an earlier row"),
        (4, Outcome.DUPLICATE, "line 5: same address as an earlier row"),
    ]


def test_a_rejected_row_does_not_make_a_later_good_one_a_duplicate(tmp_path: Path) -> None:
    rows = rows_of("email,n\nana@example.com,1,2\nana@example.com,1\n", tmp_path)
    assert addresses(rows) == ["ana@example.com"]


# ---- quotes and lengths: nothing is swallowed ----------------------------------------------------------------------


def test_an_open_quote_at_the_end_is_rejected_with_its_line_and_the_rows_in_it_are_read(tmp_path: Path) -> None:
    rows = rows_of('email,name\nana@example.com,Ana\nbo@example.com,"Bo\ncy@example.com,Cy\ndi@example.com,Di\n', tmp_path)
    assert reasons(rows) == [(2, 'bo@example.com,"Bo', "line 3: opens a quote and does not close it")]
    assert addresses(rows) == ["ana@example.com", "cy@example.com", "di@example.com"]


def test_an_open_quote_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    lines = [f"user{n}@example.com,User {n}" for n in range(30_000)]
    lines[5000] = 'user5000@example.com,"User 5000'
    rows = rows_of("email,name\n" + "\n".join(lines) + "\n", tmp_path)
    [(row, to, reason)] = reasons(rows)
    assert (row, to) == (5001, lines[5000])
    assert reason == "line 5002: opens a quote and does not close it within 262,144 characters"
    assert len(rows) == 30_000


def test_an_open_quote_that_a_later_quote_seems_to_close_costs_its_own_row_and_that_one_is_read(tmp_path: Path) -> None:
    rows = rows_of('email,name\nana@example.com,"Ana\nbo@example.com,Bo\ncy@example.com,"Cy, PhD"\ndi@example.com,Di\n', tmp_path)
    assert [row for row, _, _ in reasons(rows)] == [1]
    assert reasons(rows)[0][2].startswith("line 2: its quotes are not as CSV has them")
    assert addresses(rows) == ["bo@example.com", "cy@example.com", "di@example.com"]


def test_a_row_over_several_lines_with_the_wrong_number_of_fields_does_not_swallow_them(tmp_path: Path) -> None:
    rows = rows_of('email,name\nana@example.com,"Ana\nbo@example.com,Bo\ncy@example.com,",x\ndi@example.com,Di\n', tmp_path)
    assert reasons(rows)[0] == (
        1,
        'ana@example.com,"Ana',
        "line 2: has 3 fields, and the header row has 2, read over 3 lines; is a quote missing?",
    )
    assert "bo@example.com" in addresses(rows)
    assert "di@example.com" in addresses(rows)


def test_text_behind_a_closing_quote_costs_its_row(tmp_path: Path) -> None:
    rows = rows_of('email,name\nana@example.com,"Ana" Silva\nbo@example.com,Bo\n', tmp_path)
    assert [row for row, _, _ in reasons(rows)] == [1]
    assert addresses(rows) == ["bo@example.com"]


def test_every_row_with_an_open_quote_is_rejected_by_itself(tmp_path: Path) -> None:
    rows = rows_of("email,name\n" + "".join(f'user{n}@example.com,"User\n' for n in range(3000)), tmp_path)
    assert len(rows) == 3000
    assert all(isinstance(row, BadRow) for row in rows)


@pytest.mark.parametrize("size", [MAX_ROW_BYTES, 1_000_000])
def test_a_row_that_is_too_long_is_one_rejected_row_and_reading_goes_on(size: int, tmp_path: Path) -> None:
    rows = rows_of(f"email,name\nana@example.com,Ana\nbo@example.com,{'x' * size}\ncy@example.com,Cy\nnobody,Di\n", tmp_path)
    assert addresses(rows) == ["ana@example.com", "cy@example.com"]
    assert [(row, reason) for row, _, reason in reasons(rows)] == [
        (2, "line 3: is longer than the 262,144 bytes that a row may have"),
        (4, "line 5: an email address must have an @-sign"),
    ]


@pytest.mark.parametrize("size", [CHUNK_BYTES - 30, CHUNK_BYTES, 2 * CHUNK_BYTES + 1, MAX_ROW_BYTES - 40])
def test_a_row_that_is_just_short_enough_is_read(size: int, tmp_path: Path) -> None:
    rows = rows_of(f"email,name\nana@example.com,{'x' * size}\nbo@example.com,Bo\n", tmp_path)
    assert rows == [Recipient(1, "ana@example.com", {"name": "x" * size}), Recipient(2, "bo@example.com", {"name": "Bo"})]


def test_a_value_over_many_lines_is_read_up_to_the_limit(tmp_path: Path) -> None:
    value = "a line of it\n" * 15_000  # 195,000 bytes, over four blocks
    rows = rows_of(f'email,name\nana@example.com,"{value}"\nbo@example.com,Bo\n', tmp_path)
    assert rows == [Recipient(1, "ana@example.com", {"name": value.strip()}), Recipient(2, "bo@example.com", {"name": "Bo"})]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from(['"', '"', ",", "\n", "\r", " ", "a@example.com", "b@example.com,x\n", '"y"', "\x00", "\u2028"]),
        max_size=40,
    )
)
def test_no_text_is_read_in_another_way_because_of_where_blocks_end(pieces: list[str]) -> None:
    lines = io.StringIO("email,name\n" + "".join(pieces), newline="").readlines()
    at_once = rows_of_blocks(["".join(lines).encode()])
    assert rows_of_blocks([line.encode() for line in lines]) == at_once
    assert [row.row for row in at_once] == list(range(1, len(at_once) + 1))
    by_themselves = sum(line in ("b@example.com,x\n", "b@example.com,x\r\n") for line in lines[1:])
    assert addresses(at_once).count("b@example.com") >= by_themselves or '"' in "".join(pieces)


# ---- what is wrong with the whole file -----------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", "email,name\n", "email", "\ufeffemail\n\n  \n"])
def test_a_file_without_rows_is_empty(content: str, tmp_path: Path) -> None:
    with pytest.raises(EmptyRecipients):
        rows_of(content, tmp_path)


def test_a_file_without_a_column_email_says_which_columns_it_has(tmp_path: Path) -> None:
    with pytest.raises(NoEmailColumn) as caught:
        rows_of("post;name;e-post-box\na;b;c\n", tmp_path)
    assert "its header row has: post, name, e-post-box. Rename the column" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("email,Email", "has more than one column of addresses: `email`, `Email`; say which it is with --email-column"),
        ("E-Mail,x,E-Mail", "has more than one column of addresses: `E-Mail`, `E-Mail`; rename or remove one"),
        ("Mail,Work Email", "has more than one column of addresses: `Mail`, `Work Email`; say which it is with --email-column"),
        ("email,cc,CC", "there are two columns `cc`; rename or remove one, or switch it off with --column cc="),
    ],
)
def test_two_columns_for_one_thing_of_ours_are_an_error(header: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(RecipientsError) as caught:
        rows_of(f"{header}\nana@example.com,1,2\n", tmp_path)
    assert str(caught.value) == f"{tmp_path}/list.csv: {why}"


def test_two_columns_of_another_name_are_no_error_and_no_variable(tmp_path: Path) -> None:
    rows = rows_of("email,Address,name,Address\nana@example.com,Street 1,Ana,Town\n", tmp_path)
    assert rows == [Recipient(1, "ana@example.com", {"name": "Ana"})]


def test_a_header_that_never_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match="line 1 is too long for a header row"):
        rows_of("email," + "x" * 1_000_000, tmp_path)
    with pytest.raises(RecipientsError, match="the header row on line 2 opens a quote and never closes it"):
        rows_of('\nemail,"name\nana@example.com,Ana\n', tmp_path)


def test_a_header_over_two_lines_is_read_even_where_a_block_ends_between_them() -> None:
    assert rows_of_blocks([b'email,"first\n', b'name"\nana@example.com,Ana\n']) == [
        Recipient(1, "ana@example.com", {"first\nname": "Ana"})
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_blanks_between_a_closing_quote_and_the_delimiter_are_no_part_of_the_row(delimiter: str, tmp_path: Path) -> None:
    lines = [
        "email,name,city",
        '"ana@example.com" ,"Ana" , "Rome"  ',
        'bo@example.com,"Bo ""B"" , jr" ,',
        '"cy@example.com",Cy,"Kiel"',
        'di@example.com,"Di" x,Bern',  # what this is, nobody can tell
        'ed@example.com,"Ed" ,"',
    ]
    parts = [line if line.startswith("bo") else line.replace(",", delimiter) for line in lines]
    parts[2] = f'bo@example.com{delimiter}"Bo ""B"" , jr" {delimiter}'
    rows = rows_of("\r\n".join(parts), tmp_path, delimiter=delimiter)
    found = [(row.address, row.data["name"], row.data["city"]) for row in rows if isinstance(row, Recipient)]
    assert found == [
        ("ana@example.com", "Ana", "Rome"),
        ("bo@example.com", 'Bo "B" , jr', ""),
        ("cy@example.com", "Cy", "Kiel"),
    ]
    assert [line.row for line in rows if isinstance(line, BadRow)] == [4, 5]


@given(st.lists(st.lists(st.tuples(st.text('a ",;\t', max_size=6), st.sampled_from(["", " ", "  "])), min_size=3, max_size=3)))
def test_blanks_behind_quotes_change_no_value(rows: list[list[tuple[str, str]]]) -> None:
    def written(blanks: bool) -> bytes:
        cells = (
            ",".join('"' + value.replace('"', '""') + '"' + blank * blanks for value, blank in row)
            for row in [*rows, [("z", "")] * 3]
        )
        return "".join(["email,name,city\n", *(f"a@example.com,{row}\n" for row in cells)]).replace("city", "city,x").encode()

    values = [[row.data for row in rows_of_blocks([written(blanks)]) if isinstance(row, Recipient)] for blanks in (True, False)]
    assert values[0] == values[1]
    assert len(values[0]) == len(rows) + 1


def test_blanks_behind_quotes_take_no_more_time_than_their_length(tmp_path: Path) -> None:
    started = time.process_time()
    rows_of("email,name\n" + ('a@example.com,"' + '","' * 20_000 + '" x\n') * 3, tmp_path)
    rows_of("email,name\n" + ('a@example.com,"' + '" ' * 20_000 + "\n") * 3, tmp_path)
    assert time.process_time() - started < 5


def test_a_list_in_single_quotes_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match="has its cells in single quotes, and a CSV has double quotes"):
        rows_of("'email','name'\n'ana@example.org','Ana'\n", tmp_path)


def test_a_formula_by_which_excel_keeps_a_text_is_that_text(tmp_path: Path) -> None:
    (row,) = rows_of('email,zip,plain\n="ana@example.org","=""01234""",=1\n', tmp_path)
    assert isinstance(row, Recipient)
    assert (row.address, row.data) == ("ana@example.org", {"zip": "01234", "plain": "=1"})


@pytest.mark.parametrize("tags", ["a=1, b=2", "a=1;b=2", "a=1,b=2;"])
def test_tags_may_have_a_comma_between_them(tags: str, tmp_path: Path) -> None:
    (row,) = rows_of(f'email,tags\nana@example.org,"{tags}"\n', tmp_path)
    assert isinstance(row, Recipient)
    assert row.tags == {"a": "1", "b": "2"}
