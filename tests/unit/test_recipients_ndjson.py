"""NDJSON: one object a line, and one bad line is one bad row."""

from __future__ import annotations

import asyncio
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import EmptyRecipients, RecipientsError
from mailer.recipients import MAX_ROW_BYTES, BadRow, Reading, Recipient, Role, Row, Understood, open_recipients
from mailer.recipients.blocks import ByteSource
from mailer.recipients.lines import Block
from mailer.recipients.mappings import Mappings
from mailer.recipients.names import rank
from mailer.recipients.ndjson_rows import ndjson_rows
from mailer.recipients.reserved import Reserved

from .test_recipients_csv import addresses, reasons
from .test_recipients_csv import rows_of as rows_of_file


def rows_of(content: str | bytes, folder: Path) -> list[Row]:
    return rows_of_file(content, folder, "list.ndjson")


def test_variables_are_in_data_or_beside_the_address(tmp_path: Path) -> None:
    rows = rows_of(
        '{"email":"ana@example.com","data":{"name":"Ana","n":[1,{"x":null}]}}\n'
        '{"email":"bo@example.com","name":"Bo","age":41}\n'
        '{"email":"cy@example.com"}\n'
        '{"email":"di@example.com","data":null}\n'
        '{"email":"ed@example.com","data":"flat"}\n'
        '{"email":"fi@example.com","id":7,"data":{"name":"Fi"}}\n',
        tmp_path,
    )
    assert [row.data for row in rows if isinstance(row, Recipient)] == [
        {"name": "Ana", "n": [1, {"x": None}]},
        {"name": "Bo", "age": 41},
        {},
        {},
        {"data": "flat"},
        {"id": 7, "name": "Fi"},
    ]


def test_cc_bcc_and_tags_are_texts_lists_and_objects(tmp_path: Path) -> None:
    [row] = rows_of(
        '{"email":"ana@example.com","cc":["b@example.com","c@example.com"],"bcc":"d@example.com","tags":{"plan":"plus"},"name":"Ana"}',
        tmp_path,
    )
    assert row == Recipient(
        1, "ana@example.com", {"name": "Ana"}, ("b@example.com", "c@example.com"), ("d@example.com",), {"plan": "plus"}
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is not JSON: "),
        ('{"email":"a@example.com",}', "is not JSON: "),
        ('{"email":"\\ud800@example.com"}', "is not JSON: "),
        ("x" * 2000, "is not JSON: "),
        ("[1]", "is a list, not an object"),
        ('"ana@example.com"', "is a text, not an object"),
        ("null", "is null, not an object"),
        ('{"name":"Ana"}', "has no `email`"),
        ('{"email":5}', "`email` is a number, not a text"),
        ('{"email":null}', "`email` is null, not a text"),
        ('{"email":["a@example.com"]}', "`email` is a list, not a text"),
        ('{"email":"nobody"}', "an email address must have an @-sign"),
        ('{"email":"a@example.com","cc":5}', "`cc` is a number, not a text or a list of texts"),
        ('{"email":"a@example.com","cc":[5]}', "`cc` has a number in it, not a text"),
        ('{"email":"a@example.com","cc":{"a":1}}', "`cc` is an object, not a text or a list of texts"),
        ('{"email":"a@example.com","tags":["x"]}', "`tags` is a list, not an object of texts"),
        ('{"email":"a@example.com","send_at":"2026-12-24"}', "a row has `send_at`, and a campaign is sent at one time"),
        ('{"mail":"a@example.com","E-Mail 1":"b@example.com"}', "has more than one address: `mail`, `E-Mail 1`; say which"),
        ('{"email":"a@example.com","x":' + "[" * 300 + "]" * 300 + "}", "has more than 100 lists or objects in each other"),
        ('{"email":"a@example.com","x":1e400}', "has a number in it that is too large; write it as a text, in quotes"),
        ('{"email":"a@example.com","tags":{"a":5}}', "`a` "),
        ('{"email":"a@example.com","tags":{"ä":"b"}}', "tag 'ä': SES takes"),
    ],
)
def test_one_bad_line_is_one_rejected_row(line: str, why: str, tmp_path: Path) -> None:
    first = '{"email":"z@example.com","cc":"c@example.com","tags":{"plan":"plus"}}'
    rows = rows_of(f'{first}\n\n{line}\n{{"email":"y@example.com"}}\n', tmp_path)
    [(row, to, reason)] = reasons(rows)
    assert row == 2
    assert len(to) <= 320
    assert reason.startswith(f"line 3: {why}")
    assert addresses(rows) == ["z@example.com", "y@example.com"]


def test_a_line_that_is_too_long_is_one_rejected_row(tmp_path: Path) -> None:
    rows = rows_of(
        b'{"email":"a@example.com"}\n{"x":"' + b"\xff" * 2 * MAX_ROW_BYTES + b'"}\n{"email":"b@example.com"}', tmp_path
    )
    assert [(row, reason) for row, _, reason in reasons(rows)] == [
        (2, "line 2: is longer than the 262,144 bytes that a row may have")
    ]
    assert addresses(rows) == ["a@example.com", "b@example.com"]


def test_a_byte_that_is_not_utf8_costs_its_line(tmp_path: Path) -> None:
    lines = [b'{"email":"a@example.com","n":"\xc3\xa9"}', b'{"email":"b@example.com","n":"\xe9"}', b'{"email":"c@example.com"}']
    rows = rows_of(b"\n".join(lines), tmp_path)
    assert addresses(rows) == ["a@example.com", "c@example.com"]
    [(_, _, reason)] = reasons(rows)
    assert reason == "line 2: has the byte 0xe9, which is not UTF-8; save the list as UTF-8, in Excel as “CSV UTF-8”"


def test_a_file_of_blank_lines_is_empty(tmp_path: Path) -> None:
    with pytest.raises(EmptyRecipients):
        rows_of("\n  \n", tmp_path)


def test_a_json_array_is_told_from_ndjson(tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match="is one JSON array"):
        rows_of_file('[{"email":"a@example.com"}]', tmp_path, "list.json")


def test_numbers_that_a_double_would_change_are_kept_exactly(tmp_path: Path) -> None:
    [row] = rows_of(
        '{"email":"ana@example.com","id":9400110200881234567890,"max":18446744073709551615,"sum":12345678901234567890.12,'
        '"pi":3.14159265358979323846,"third":0.3333333333333333,"e":1e3,"text":"12345678901234567890"}\n',
        tmp_path,
    )
    assert isinstance(row, Recipient)
    assert row.data == {
        "id": Decimal("9400110200881234567890"),
        "max": 18446744073709551615,
        "sum": Decimal("12345678901234567890.12"),
        "pi": Decimal("3.14159265358979323846"),
        "third": 0.3333333333333333,
        "e": 1000.0,
        "text": "12345678901234567890",
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('[\n {"email": "a@example.com"}\n]', "is one JSON array, and a list has one object a line"),
        ('{\n "email": "a@example.com"\n}\n{\n "email": "b@example.com"\n}\n', "is JSON over several lines"),
        ('{"contacts": [\n {"email": "a@example.com"}\n]}', "is JSON over several lines"),
        ('{"contacts": [{"email": "a@example.com"}]}', "is one JSON object with the list inside.*jq -c '.contacts\\[\\]' FILE"),
        ('{"x": "' + "y" * 300_000 + '"}', "its first line is longer than 262,144 bytes; it is JSON over several lines"),
        ('"email": "a@example.com"}\n{"email": "b@example.com"}\n', "begins with a line that is no JSON object"),
    ],
)
def test_json_of_another_kind_is_told_as_what_it_is(content: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match=why):
        rows_of(content, tmp_path)


@pytest.mark.parametrize(
    "line", ['{"email":"a@example.com"},', '\x1e{"email":"a@example.com"}', '  {"email":"a@example.com"}  \r']
)
def test_what_programs_put_around_a_line_does_not_matter(line: str, tmp_path: Path) -> None:
    assert addresses(rows_of(f"{line}\n{line.replace('a@', 'b@')}\n", tmp_path)) == ["a@example.com", "b@example.com"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_key = st.text().filter(lambda key: key not in {"data", "cc", "bcc", "tags", "send_at"} and rank(key) is None)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.dictionaries(_key, _json, max_size=4), st.booleans()), min_size=1, max_size=20))
def test_what_was_written_is_read_as_it_was(table: list[tuple[dict[str, Any], bool]]) -> None:
    lines = [
        orjson.dumps({"email": f"user{n}@example.com", **({"data": data} if nested else data)})
        for n, (data, nested) in enumerate(table)
    ]
    reading = Reading()
    mappings = Mappings("list", reading, Reserved(reading))
    groups = list(ndjson_rows(ByteSource("list", io.BytesIO(), None), iter([Block(1, b"\n".join(lines) + b"\n")]), mappings))
    assert [row for group in groups for row in group.rows] == [
        Recipient(n + 1, f"user{n}@example.com", data) for n, (data, _) in enumerate(table)
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("NaN", "has NaN in it, which JSON does not have; write null"),
        ("[1, -Infinity]", "has -Infinity in it, which JSON does not have; write null"),
        ("1e400", "has a number in it that is too large; write it as a text, in quotes"),
        ('"NaN",,', "is not JSON: "),
    ],
)
def test_what_json_does_not_have_is_named(value: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.ndjson").write_text(f'{{"email": "a@example.org", "x": {value}}}\n')
    rows, _ = understood(tmp_path / "list.ndjson")
    (row,) = rows
    assert isinstance(row, BadRow)
    assert row.reason.startswith(f"line 1: {said}")


@pytest.mark.parametrize("key", ["email", "Email Address", "address", "E-Mail"])
def test_the_key_of_the_addresses_is_said_as_the_list_has_it(key: str, tmp_path: Path) -> None:
    (tmp_path / "list.ndjson").write_text(json.dumps({key: "a@example.org", "name": "Ana"}) + "\n")
    _, found = understood(tmp_path / "list.ndjson")
    assert found.named(Role.ADDRESS) == (key,)
    assert found.named(Role.DATA) == ("name",)
    assert f"address in `{key}`" in found.sentences()[0]


def understood(path: Path) -> tuple[list[Row], Understood]:
    async def read() -> tuple[list[Row], Understood]:
        async with open_recipients(path) as recipients:
            return [row async for batch in recipients for row in batch], recipients.understood

    return asyncio.run(read())
