"""Which column is which: found by its name in many languages, or said; nothing is taken for Cc that is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mailer.compose.variables import own_variables
from mailer.errors import InvalidAddress, InvalidEmail, NoEmailColumn, RecipientsError
from mailer.intake.chunks import entry_of
from mailer.message.address import cell
from mailer.recipients import BadRow, Format, Reading, Recipient, Role, Row, Understood, open_recipients
from mailer.recipients.names import looks_like_names, rank, variable
from mailer.recipients.understood import general

from .test_list_encodings import read
from .test_recipients_csv import addresses, reasons

ANA = Recipient(1, "ana@example.org", {"name": "Ana"})


def rows_of_program(items: list[Any], **reading: Any) -> tuple[list[Row], Understood]:
    async def opened() -> tuple[list[Row], Understood]:
        async with open_recipients(items, reading=Reading(**reading)) as recipients:
            return [row async for batch in recipients for row in batch], recipients.understood

    return asyncio.run(opened())


# ---- the column of addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "email", "Email", "E-Mail", "e-mail", " EMAIL ", "Email:", "Email Address", "email_address", "EmailAddress", "Mail",
        "E-mail Address", "Contact Email", "Primary Email", "E-mail 1 - Value", "E-Mail-Adresse", "Adresse de messagerie",
        "Adresse e-mail", "Courriel", "Correo electrónico", "Correo electronico", "Endereço de e-mail", "Indirizzo e-mail",
        "E-mailadres", "E-postadress", "Sähköposti", "Adres e-mail", "E-posta", "Электронная почта", "メールアドレス", "电子邮件",
        "이메일", "\ufeffE\u00adMail\u200b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["csv", "ndjson", "rows"])
def test_addresses_are_found_under_the_names_that_programs_give_them(name: str, form: str, tmp_path: Path) -> None:
    if form == "csv":
        rows, found = read(f"name;{name}\nAna;ana@example.org\n".encode(), tmp_path)
        assert found.named(Role.ADDRESS) == (name.strip(" \ufeff\u00ad\u200b"),)
    elif form == "ndjson":
        rows, _ = read(f'{{"name":"Ana","{name}":"ana@example.org"}}\n'.encode(), tmp_path, "list.ndjson")
    else:
        rows, _ = rows_of_program([{"name": "Ana", name: "ana@example.org"}])
    assert rows == [ANA]


@pytest.mark.parametrize(
    ("header", "column"),
    [("Email,Work Email", 0), ("Work Email,E-Mail", 1), ("Address,Email", 1), ("Mailing Address,Mail", 1), ("email,address", 0)],
)
def test_the_surer_name_comes_first(header: str, column: int, tmp_path: Path) -> None:
    cells = ["x@example.org", "x@example.org"]
    cells[column] = "ana@example.org"
    rows, _ = read(f"{header}\n{','.join(cells)}\n".encode(), tmp_path)
    assert addresses(rows) == ["ana@example.org"]


def test_a_column_called_address_holds_addresses_where_its_first_row_has_one(tmp_path: Path) -> None:
    rows, _ = read(b"address,name\nana@example.org,Ana\n", tmp_path)
    assert rows == [ANA]
    with pytest.raises(NoEmailColumn, match=r"its header row has: address, name\. Rename the column that holds the addresses"):
        read(b"address,name\n12 Long Street,Ana\n", tmp_path)


@pytest.mark.parametrize("said", ["Kontakt", "kontakt", "KON-TAKT"])
def test_the_column_can_be_said(said: str, tmp_path: Path) -> None:
    content = b"email,Kontakt,name\nold@example.org,ana@example.org,Ana\n"
    rows, found = read(content, tmp_path, email_column=said)
    assert rows == [Recipient(1, "ana@example.org", {"email": "old@example.org", "name": "Ana"})]
    assert found.named(Role.ADDRESS) == ("Kontakt",)
    assert rows_of_program([{"Kontakt": "ana@example.org", "name": "Ana"}], columns={"email": said})[0] == [ANA]


def test_the_exact_name_is_taken_where_two_differ_in_capitals(tmp_path: Path) -> None:
    rows, _ = read(b"Email,name,email\na@example.org,Ana,ana@example.org\n", tmp_path, email_column="email")
    assert addresses(rows) == ["ana@example.org"]


@pytest.mark.parametrize(
    ("content", "reading", "why"),
    [
        (b"mail,name\na@example.org,Ana\n", {"email_column": "kontakt"}, "has no column `kontakt`; its header row has: mail"),
        (b"a,Mail,b,Mail\n1,2,3,4\n", {"email_column": "mail"}, "has more than one column of addresses: `Mail`, `Mail`; rename"),
        (b"email,x\na@example.org,1\n", {"columns": {"name": "First"}}, "has no column `First` (--column name=…); its header"),
        (b"email,x,x\na@example.org,1,2\n", {"columns": {"y": "x"}}, "has two columns `x` (--column y=…); rename or remove one"),
        (b"email,send_at\na@example.org,1\n", {}, "has a column `send_at`, and a campaign is sent at one time; give"),
        (b"email,Send_At,SEND_AT\na@example.org,1,2\n", {}, "there are two columns `send_at`"),
        (b"x\na@example.org\n", {}, "has no column whose name says that it holds addresses, as `email` does, in its first line"),
        (b'"x"y,email\na@example.org,Ana\n', {}, "the header row on line 1 cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_columns_is_one_sentence(
    content: bytes, reading: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipientsError) as caught:
        read(content, tmp_path, **reading)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("reading", "why"),
    [
        ({"columns": {"email": ""}}, "`email` is the column with the addresses, which a list has to have"),
        ({"columns": {"email": "a"}, "email_column": "b"}, "`email` is the column with the addresses"),
        ({"columns": {"First Name": "x"}}, "`First Name` cannot be the name of a template variable"),
        ({"columns": {"name": ""}}, "`name` names no column; an empty one switches off cc, bcc, tags or send_at only"),
        ({"columns": {"send_at": "when"}}, "a campaign is sent at one time, so no column can be `send_at`"),
        ({"delimiter": ""}, "'' is not one character"),
        ({"delimiter": "ab"}, "'ab' is not one character"),
        ({"delimiter": '"'}, "is not one character that can stand between cells"),
        ({"delimiter": "a"}, "is not one character that can stand between cells"),
    ],
)
def test_what_is_said_of_a_list_is_checked(reading: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidEmail) as caught:
        Reading(**reading)
    assert why in str(caught.value)


@pytest.mark.parametrize("delimiter", [":", "tab", "TAB", "\\t", "~"])
def test_the_delimiter_can_be_said(delimiter: str, tmp_path: Path) -> None:
    char = {"tab": "\t", "\\t": "\t"}.get(delimiter.lower(), delimiter)
    rows, _ = read(f"email{char}name,x\nana@example.org{char}Ana\n".encode(), tmp_path, delimiter=delimiter)
    assert rows == [Recipient(1, "ana@example.org", {"name,x": "Ana"})]


# ---- cc, bcc and tags ----------------------------------------------------------------------------------------------


def test_a_mailchimp_export_has_countries_in_cc_and_words_in_tags(tmp_path: Path) -> None:
    content = b'Email Address,CC,TAGS\nana@example.org,CH,"""a"",""b"""\nbo@example.org,,\ncy@example.org,DE,"""a"""\n'
    rows, found = read(content, tmp_path)
    assert rows == [
        Recipient(1, "ana@example.org", {"CC": "CH", "TAGS": '"a","b"'}),
        Recipient(2, "bo@example.org", {"CC": "", "TAGS": ""}),
        Recipient(3, "cy@example.org", {"CC": "DE", "TAGS": '"a"'}),
    ]
    assert (found.named(Role.CC), found.named(Role.TAGS), found.named(Role.DATA)) == ((), (), ("CC", "TAGS"))
    assert "`CC`, `TAGS` taken for data" in found.sentences()[0]


@pytest.mark.parametrize("name", ["cc", "CC", "bcc", "Bcc"])
def test_addresses_in_the_first_value_make_the_column_ours(name: str, tmp_path: Path) -> None:
    content = f"email,{name}\nana@example.org,\nbo@example.org,c@example.org; d@example.org\ncy@example.org,CH\n"
    rows, found = read(content.encode(), tmp_path)
    assert addresses(rows) == ["ana@example.org", "bo@example.org"]
    ours = [getattr(row, name.lower()) for row in rows if isinstance(row, Recipient)]
    assert ours == [(), ("c@example.org", "d@example.org")]
    assert reasons(rows)[0][2] == f"line 4: `{name.lower()}` has 'CH': an email address must have an @-sign"
    assert found.named(Role(name.lower())) == (name,)


def test_an_address_in_a_column_that_was_data_is_not_left_out_in_silence(tmp_path: Path) -> None:
    content = b"email,CC\nana@example.org,CH\nbo@example.org,boss@example.org\ncy@example.org,DE\n"
    rows, _ = read(content, tmp_path)
    assert addresses(rows) == ["ana@example.org", "cy@example.org"]
    assert reasons(rows)[0][2] == (
        "line 3: `cc` has an address here, and had none in its first row; say --column cc=cc where it is for copies, "
        "and --column cc= where it is not"
    )
    rows, _ = read(content, tmp_path, columns={"cc": ""})
    assert [(row.cc, row.data) for row in rows if isinstance(row, Recipient)][1] == ((), {"CC": "boss@example.org"})
    rows, _ = read(content, tmp_path, columns={"cc": "CC"})
    assert addresses(rows) == ["bo@example.org"]


def test_a_mistake_in_a_column_that_is_called_as_it_is_documented_is_said(tmp_path: Path) -> None:
    rows, _ = read(b"email,cc\nana@example.org,boss at example.org\nbo@example.org,\n", tmp_path)
    assert addresses(rows) == ["bo@example.org"]
    rows, _ = rows_of_program([{"email": "ana@example.org", "cc": 5}])
    assert isinstance(rows[0], BadRow)


def test_columns_can_be_taken_and_given_names(tmp_path: Path) -> None:
    content = b"email,First Name,Manager,cc\nana@example.org,Ana,boss@example.org,CH\n"
    rows, found = read(content, tmp_path, columns={"name": "First Name", "cc": "Manager"})
    data = {"First Name": "Ana", "Manager": "boss@example.org", "cc": "CH", "name": "Ana"}
    assert rows == [Recipient(1, "ana@example.org", data, ("boss@example.org",))]
    assert [(column.name, column.role, column.variables) for column in found.columns] == [
        ("email", Role.ADDRESS, ("email",)),
        ("First Name", Role.DATA, ("first_name", "name")),
        ("Manager", Role.CC, ("Manager",)),
        ("cc", Role.DATA, ("cc",)),
    ]
    item = {"email": "ana@example.org", "First Name": "Ana", "Manager": "boss@example.org", "cc": "CH"}
    assert rows_of_program([item], columns={"name": "First Name", "cc": "Manager"})[0] == rows


def test_a_row_of_a_program_may_have_send_at_only_where_it_is_said_to_be_data() -> None:
    with pytest.raises(RecipientsError, match="a row has `send_at`, and a campaign is sent at one time"):
        rows_of_program([{"email": "ana@example.org", "send_at": "2026-12-24"}])
    rows, _ = rows_of_program([{"email": "ana@example.org"}, {"email": "bo@example.org", "send_at": "2026-12-24"}])
    assert addresses(rows) == ["ana@example.org"]
    rows, _ = rows_of_program([{"email": "ana@example.org", "send_at": "x"}], columns={"send_at": ""})
    assert rows == [Recipient(1, "ana@example.org", {"send_at": "x"})]
    rows, _ = rows_of_program([{"email": "ana@example.org", "data": {"send_at": "x"}}])
    assert rows == [Recipient(1, "ana@example.org", {"send_at": "x"})]


# ---- names in templates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("name", "name"), ("Vorname", "Vorname"), ("Prénom", "Prénom"), ("First Name", "first_name"), ("E-Mail", "e_mail"),
        ("  Zip / Code ", "zip_code"), ("1st order", "_1st_order"), ("Код клиента", "код_клиента"), ("%", ""), ("a" * 201, ""),
    ],
)  # fmt: skip
def test_a_column_has_a_word_for_templates(name: str, word: str) -> None:
    assert variable(name) == word


def test_a_template_has_words_for_names_that_are_none() -> None:
    data = {"First Name": "Ana", "city": "Bern", "Zip Code": "1", "zip-code": "2", "a b": 3, "a_b": 4}
    found = own_variables(entry_of(Recipient(1, "ana@example.org", data)))
    assert (found["city"], found["first_name"], found["First Name"]) == ("Bern", "Ana", "Ana")
    assert "zip_code" not in found, "two columns would have it"
    assert found["a_b"] == 4, "a column of that very name"


# ---- where the header row is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=;\t\t", "\ufeffsep=;"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_a_line_that_names_the_delimiter_is_obeyed(line: str, end: str, tmp_path: Path) -> None:
    rows, found = read(f"{line}{end}email;a,b{end}ana@example.org;x,y{end}nobody;1{end}".encode(), tmp_path)
    assert rows[0] == Recipient(1, "ana@example.org", {"a,b": "x,y"})
    lines = 2 if end == "\n\n" else 1
    assert (found.header_line, reasons(rows)[0][2].partition(":")[0]) == (1 + lines, f"line {1 + 3 * lines}")


def test_what_is_said_comes_before_such_a_line(tmp_path: Path) -> None:
    rows, _ = read(b"sep=,\nemail;name\nana@example.org;Ana\n", tmp_path, delimiter=";")
    assert rows == [ANA]


@pytest.mark.parametrize(
    "above", ["Newsletter list June 2026\n\n", "# exported by x\n# on Monday\n", "Title;;;\n", '"a ""list"""\n']
)
def test_lines_above_the_header_row_are_one_sentence(above: str, tmp_path: Path) -> None:
    content = f"{above}email,name\nana@example.org,Ana\n"
    with pytest.raises(
        RecipientsError, match=rf"its header row seems to be line {above.count(chr(10)) + 1}; remove the lines above"
    ):
        read(content.encode(), tmp_path)


# ---- there is none -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_of_addresses_needs_no_header_row(end: str, tmp_path: Path) -> None:
    lines = [
        "ana@example.org",
        "",
        "Bo Berg <bo@example.org>",
        '"Cole, Cy" <cy@example.org>',
        '"di@example.org"',
        "nobody",
        ANA.address,
    ]
    rows, found = read(end.join(lines).encode(), tmp_path, "list.txt")
    assert [(row.address, row.name, row.data) for row in rows if isinstance(row, Recipient)] == [
        ("ana@example.org", "", {}),
        ("bo@example.org", "Bo Berg", {}),
        ("cy@example.org", "Cole, Cy", {}),
        ("di@example.org", "", {}),
    ]
    assert [reason for _, _, reason in reasons(rows)] == [
        "line 6: an email address must have an @-sign",
        "line 7: same address as an earlier row",
    ]
    assert (found.format, found.header_line, found.delimiter) == (Format.ADDRESSES, None, None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("ana@example.org,Ana\nbo@example.org,Bo\n", "has no header row: line 1 has an address in it; put a line above it"),
        ("\n1;ana@example.org;Ana\n", "has no header row: line 2 has an address in it"),
        ("a@example.org, b@example.org, c@example.org\n", "has several addresses in its first line; write one a line"),
        ("Ana <a@example.org>; Bo <b@example.org>;\n", "has several addresses in its first line; write one a line"),
    ],
)
def test_a_list_of_several_columns_needs_one(content: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(RecipientsError) as caught:
        read(content.encode(), tmp_path)
    assert why in str(caught.value)


# ---- nobody's business ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1\n",
        "[default]\naws_secret_access_key = SECRET\n",
        "-----BEGIN PRIVATE KEY-----\nSECRET\n",
        "DB=postgres://u:SECRET@host/db,x=1\n",
        "127.0.0.1\tSECRET\n",
        '{"password":\n "SECRET"}\n',
        "SECRET\n",
        "x,SECRET=1\n",
    ],
)
def test_an_error_quotes_nothing_of_a_file_that_is_no_list(content: str, tmp_path: Path) -> None:
    with pytest.raises(RecipientsError) as caught:
        read(content.encode(), tmp_path, "file")
    assert "SECRET" not in str(caught.value)
    assert "/root" not in str(caught.value)


def test_only_names_are_shown_of_a_header_row() -> None:
    assert looks_like_names(["Name", "First Name", "E-Mail (work)", "Größe", ""])
    for cells in (["x"], ["127.0.0.1", "host"], ["a=b", "c"], ["a" * 200, "b"], ["", ""], ["-----BEGIN", "x"]):
        assert not looks_like_names(cells)


@pytest.mark.parametrize("name", ["Name", "Telefon", "Emailed at", "Email Opt-in", "Email Domain", "Anmeldung", "Male", "Post"])
def test_what_is_called_otherwise_is_no_address(name: str) -> None:
    assert rank(name) is None


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ana@exa(m)ple.com x", "the part after the @-sign contains invalid characters: '(', ')', SPACE"),
        ("ana@exa'm,p le.com", "the part after the @-sign contains invalid characters: \"'\", ',', SPACE"),
        ("an(a @example.com", "the email address contains invalid characters before the @-sign: '(', SPACE"),
        ("ana@exa\u200bmple.com", "the address has an invisible character inside: ZERO WIDTH SPACE"),
        ("josé@example.com", "Amazon SES takes only ASCII letters before the @-sign, not 'é'"),
    ],
)
def test_a_reason_that_is_counted_names_the_characters_that_an_address_must_not_have(address: str, why: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        cell(address)
    assert general(f"line 7: {caught.value}") == why


def test_a_reason_that_is_counted_leaves_out_what_the_row_has_in_it() -> None:
    assert general("line 7: 'Tuesday' is no tag; write name=value") == "… is no tag; write name=value"
