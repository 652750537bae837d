"""How entries of the suppression list are written down: in Redis, and in files."""

from __future__ import annotations

import bz2
import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import InvalidEmail, RecipientsError
from mailer.recipients import Reading
from mailer.recipients.blocks import ByteSource, open_path
from mailer.suppression.entries import new_entry
from mailer.suppression.files import Format, Line, List, Subscribed, Unusable, Writer, as_row, create, format_of, read
from mailer.suppression.lists import (
    OwnEntry,
    Reason,
    SesEntry,
    capitals,
    fold,
    ms_of,
    pack_stream,
    place,
    spelled,
    unpack_own,
    unpack_ses,
)
from mailer.suppression.writer import SES_REASON

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # with halves of characters


def moments(first: int, last: int) -> st.SearchStrategy[datetime]:
    start, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1e6) for year in (first, last))
    return st.integers(start, end).map(lambda us: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us))


# ---- in Redis ----------------------------------------------------------------------------------------------------------


@given(TEXT)
def test_a_spelling_comes_back_exactly(spelling: str) -> None:
    assert spelled(fold(spelling), capitals(spelling)) == spelling.strip()


@given(TEXT)
def test_the_form_in_the_tables_does_not_depend_on_the_case_of_ascii(address: str) -> None:
    flipped = "".join(c.swapcase() if c.isascii() else c for c in address)
    assert fold(flipped) == fold(address)
    assert 0 <= place(fold(address)) < 1 << 25


def test_letters_that_only_look_like_ascii_in_lower_case_are_others() -> None:
    assert fold("\u212a@example.org") != fold("k@example.org")  # the Kelvin sign


@given(st.lists(st.tuples(st.sampled_from(Reason), TEXT, st.integers(0, 4_000_000_000)), min_size=1, max_size=5))
def test_our_own_items_come_back_exactly(items: list[tuple[Reason, str, int]]) -> None:
    packed = " ".join(f"{reason.value[0]}{seconds}:{pack_stream(stream)}" for reason, stream, seconds in items)
    expected = [OwnEntry("a@x.org", reason, stream, datetime.fromtimestamp(s, UTC)) for reason, stream, s in items]
    assert unpack_own(b"a@x.org", packed.encode("ascii")) == expected


@given(TEXT)
def test_a_packed_stream_cannot_be_taken_for_anything_else(stream: str) -> None:
    packed = pack_stream(stream)
    assert packed.isascii()
    assert not set(packed) & set(" :*\n\0")
    assert len({reason.value[0] for reason in Reason}) == len(Reason)


@given(moments(2019, 2200))
def test_a_time_is_kept_to_the_millisecond(moment: datetime) -> None:
    [entry] = unpack_ses(b"a@x.org", f"B{ms_of(moment)}.3.".encode())
    assert abs(entry.updated_at - moment) < timedelta(milliseconds=1)


@pytest.mark.parametrize("packed", [b"x", b"B1", b"B1.2", b"Z1.2.", b"B1.2.  B1.2.", b"b1:", b"B1.2.g", b"\xff", b"B1.2.\n"])
def test_what_is_no_entry_is_an_error(packed: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_ses(b"a@x.org", packed)


@pytest.mark.parametrize("packed", [b"x", b"b1", b"z1:", b"b:", b"b1:a b", b"b1: ", b"B1.2.", b"\xff"])
def test_what_is_no_entry_of_ours_is_an_error(packed: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_own(b"a@x.org", packed)


def test_every_reason_of_ours_is_one_of_ses() -> None:
    assert SES_REASON == {"bounce": "BOUNCE", "manual": "BOUNCE", "complaint": "COMPLAINT", "unsubscribe": "COMPLAINT"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nobody", "bounce", ""), "'nobody': an email address must have an @-sign"),
        (("a@example.org", "spam", ""), "reason: 'spam' is not one of bounce, complaint, unsubscribe, manual"),
        (("a@example.org", "bounce", "a\0"), "stream: must be one line without control characters"),
        (("a@example.org", "bounce", "é" * 65), "stream: a stream's name has at most 128 bytes"),
    ],
)
def test_what_a_caller_gives_is_checked(words: tuple[str, str, str], why: str) -> None:
    with pytest.raises(InvalidEmail) as caught:
        new_entry(*words)
    assert str(caught.value) == why


def test_blanks_around_a_stream_are_no_part_of_it() -> None:
    found = [new_entry("a@example.org", "bounce", stream).stream for stream in (" news ", " ")]
    assert found == ["news", ""]


# ---- files ---------------------------------------------------------------------------------------------------------------


def lines(content: bytes, path: Path, format: Format | None = None, **reading: str) -> list[Line | Unusable | Subscribed]:
    path.write_bytes(content)
    source = open_path(str(path))
    try:
        return list(read(source, format or format_of(source.name), Reading(**reading)))  # type: ignore[arg-type]
    finally:
        source.close()


def line(number: int, address: str, reason: Reason | None = None, stream: str | None = None, *, unknown: bool = False) -> Line:
    return Line(number, address, reason, stream, None, None, unknown)


HEADED = b'Email,Reason,stream,other\r\n"a@x.org",bounce,news,1\r\n\r\nB@X.org,,,\nc@x.org'
SES_CSV = b"a@x.org,BOUNCE\nb@x.org,COMPLAINT\n"
NDJSON = b'{"email": "a@x.org", "stream": "n", "x": 1}\n\n{"emailAddress": "B@x.org", "reason": "COMPLAINT", "stream": null}\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", HEADED, [line(2, "a@x.org", Reason.BOUNCE, "news"), line(4, "B@x.org"), line(5, "c@x.org")]),
        ("a", HEADED.replace(b",", b";"), [line(2, "a@x.org", Reason.BOUNCE, "news"), line(4, "B@x.org"), line(5, "c@x.org")]),
        ("a", b"\xef\xbb\xbf" + SES_CSV, [line(1, "a@x.org", Reason.BOUNCE), line(2, "b@x.org", Reason.COMPLAINT)]),
        ("a.csv.gz", gzip.compress(SES_CSV, mtime=0), [line(1, "a@x.org", Reason.BOUNCE), line(2, "b@x.org", Reason.COMPLAINT)]),
        ("a.txt", b"a@x.org\nb@x.org", [line(1, "a@x.org"), line(2, "b@x.org")]),
        ("a", NDJSON, [line(1, "a@x.org", None, "n"), line(3, "B@x.org", Reason.COMPLAINT)]),
        ("a.jsonl", NDJSON, [line(1, "a@x.org", None, "n"), line(3, "B@x.org", Reason.COMPLAINT)]),
        ("a.csv", b"", []),
        ("a.csv", b"email\n", []),
    ],
)
def test_the_forms_that_a_file_may_have(name: str, content: bytes, expected: list[Line], tmp_path: Path) -> None:
    assert lines(content, tmp_path / name) == expected


def test_a_line_that_cannot_be_used_costs_no_other(tmp_path: Path) -> None:
    bad = {
        2: (b"nobody,,,,", "'nobody': an email address must have an @-sign"),
        3: (b",bounce,,,", "the address is empty"),
        4: (b'"a" b,,,,', "its quotes are not as CSV has them: ',' expected after '\"'"),
        5: (b"a\xff@x.org,,,,", "'aÿ@x.org': Amazon SES takes only ASCII letters before the @-sign, not 'ÿ'"),
        6: (b"a,,,,,6,7", "has 7 fields, and the header row has 5"),
    }
    content = b"\n".join([b"email,reason,stream,since,list", *(text for text, _ in bad.values()), b"good@x.org"])
    *unusable, good = lines(content, tmp_path / "a.csv")
    assert unusable == [Unusable(number, why) for number, (_, why) in bad.items()]
    assert good == line(7, "good@x.org")


DAMAGE = {
    "a quote within": b'"a" b@x.org,,,,',
    "a quote that is not closed": b'b@x.org,"bounce,,,',
    "a quote before it": b'"b@x.org,bounce,,,',
    "fields too many": b"b@x.org,,,,,6,7",
    "a delimiter too many before it": b"Ana,b@x.org,,,,6,7",
    "a byte of another encoding": b"b@x.org,\xff,,,",
    "a row that is too long": b"b@x.org," + b"x" * 300_000,
    "a reason that is none": b"b@x.org,550,,,",
    "a stream that is none": b"b@x.org,," + b"s" * 129 + b",,",
    "a time that is none": b"b@x.org,,,yesterday,",
    "a list of others": b"b@x.org,,,,Newsletter",
    "a name beside it": b'"Bo <b@x.org>",,,,',
    "a formula": b'"=""b@x.org""",,,,',
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_address_is_taken_whatever_else_is_wrong_with_its_row(kind: str, tmp_path: Path) -> None:
    found = lines(b"email,reason,stream,since,list\na@x.org\n" + DAMAGE[kind] + b"\nc@x.org\n", tmp_path / "a.csv")
    assert [one.address for one in found if isinstance(one, Line)] == ["a@x.org", "b@x.org", "c@x.org"]


@pytest.mark.parametrize("cell", ["a@x.org;b@x.org", "a@x.org / b@x.org", "Ana <a@x.org>, b@x.org (Bo)"])
def test_several_addresses_of_a_cell_count_each(cell: str, tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", f'email,name\n"{cell}",x\n'),
        ("b.csv", f"q@x.org\n{cell}\n"),
        ("c.ndjson", f'{{"address": "{cell}"}}'),
    ):
        found = lines(content.encode(), tmp_path / name)
        assert [one.address for one in found if isinstance(one, Line)][-2:] == ["a@x.org", "b@x.org"]
        assert len({one.number for one in found}) == (2 if name == "b.csv" else 1)


def test_a_line_of_ndjson_that_cannot_be_used_costs_no_other(tmp_path: Path) -> None:
    content = b'{\n[]\n{"email": 1}\n{"reason": "bounce"}\n{"email": "a@x.org"}'
    *unusable, good = lines(content, tmp_path / "a.ndjson")
    whys = [one.why for one in unusable if isinstance(one, Unusable)]
    assert whys[0].startswith("is not JSON: ")
    assert whys[1:] == ["is not a JSON object", "`email` is a number, not a text", "has no `email`"]
    assert good == line(5, "a@x.org")


@pytest.mark.parametrize(
    "text",
    [
        '{"address": "a@x.org", "code": "550", "error": "x", "created_at": "Fri, 21 Oct 2011 11:02:55 UTC"}',
        '{"E-Mail-Adresse": "a@x.org"}',
        '{"email": "a@x.org", "reason": 550}',
        '{"email": "a@x.org", "reason": {"code": 5}, "stream": [1], "since": 17.5, "list": ["x"]}',
        '{"email": "a@x.org", "since": "2026-13-01", "list": true}',
        '{"email": ["a@x.org"]}',
        '{"email": "a@x.org", "name": "\udcff"}',
        '{"email": "a@x.org", "name": "x",}',
    ],
)
def test_a_line_of_ndjson_is_taken_under_any_name_and_whatever_else_it_has(text: str, tmp_path: Path) -> None:
    (found,) = lines(text.encode(errors="surrogateescape"), tmp_path / "a.ndjson")
    assert isinstance(found, Line)
    assert (found.address, found.reason, found.stream, found.since, found.list) == ("a@x.org", None, None, None, None)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 10:00:00", datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("2026-01-01T10:00:00+02:00", datetime(2026, 1, 1, 8, tzinfo=UTC)),
        ("some day", None),
    ],
)
def test_a_time_is_read_as_exports_have_it(text: str, since: datetime | None, tmp_path: Path) -> None:
    (found,) = lines(f"email,since\na@x.org,{text}\n".encode(), tmp_path / "a.csv")
    assert isinstance(found, Line)
    assert (found.since, found.left_out) == (since, since is None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"Email Address,Status\na@x.org,Subscribed\nb@x.org,Unsubscribed\nc@x.org,Cleaned\nd@x.org,Non-Subscribed\n",
            [Subscribed(2), line(3, "b@x.org", Reason.UNSUBSCRIBE), line(4, "c@x.org", Reason.BOUNCE), line(5, "d@x.org")],
        ),
        (
            b'uuid,email,name,attributes,status\n1,a@x.org,A,"{""a"": 1}",blocklisted\n2,b@x.org,B,{},enabled\n',
            [line(2, "a@x.org"), Subscribed(3)],
        ),
        (b'{"email": "a@x.org", "status": "subscribed"}\n{"email": "b@x.org", "status": 5}', [Subscribed(1), line(2, "b@x.org")]),
    ],
)
def test_who_is_subscribed_in_an_export_of_all_is_not_suppressed(
    content: bytes, expected: list[Line | Subscribed], tmp_path: Path
) -> None:
    assert lines(content, tmp_path / "a") == expected


@pytest.mark.parametrize("content", [b"name,reason\nAna,bounce", b"x" * 300_000, b"hello"])
def test_a_file_without_addresses_is_refused_whole(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match=r"has no column whose name says|too long for a header row"):
        lines(content, tmp_path / "a.csv")


ADDRESSES = st.from_regex(r"[=+\-'a-z][a-z0-9'+]{0,10}@[a-z]{1,8}\.org", fullmatch=True)
STREAMS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20).map(str.strip)
MOMENTS = moments(2000, 2100)
ENTRIES = st.one_of(
    st.builds(OwnEntry, ADDRESSES, st.sampled_from(Reason), STREAMS, MOMENTS.map(lambda moment: moment.replace(microsecond=0))),
    st.builds(SesEntry, ADDRESSES, st.sampled_from(["BOUNCE", "COMPLAINT"]), MOMENTS),
)


@given(st.lists(ENTRIES, max_size=20), st.sampled_from(Format))
def test_what_was_exported_is_imported_as_it_was(entries: list[OwnEntry | SesEntry], format: Format) -> None:
    file = io.BytesIO()
    writer = Writer(file, format)
    for entry in entries:
        writer.add(as_row(entry))
    read_back = list(read(ByteSource("x", io.BytesIO(file.getvalue()), None), format))
    assert len(read_back) == len(entries)
    for entry, found in zip(entries, read_back, strict=True):
        assert isinstance(found, Line)
        assert found.since is not None
        if isinstance(entry, OwnEntry):
            expected = (entry.address, entry.reason, entry.stream or None, entry.since, List.OWN)
            assert (found.address, found.reason, found.stream, found.since, found.list) == expected
        else:
            assert (found.address, found.reason, found.list) == (entry.address, Reason(entry.reason.lower()), List.SES)
            assert abs(found.since - entry.updated_at) < timedelta(milliseconds=1)


EXPORTS = {
    "mailchimp.csv": (
        b'"Email Address","First Name",UNSUB_TIME,UNSUB_REASON,LEID\nana@x.org,Ana,"2024-01-01 10:00:00",OTHER,1\n',
        [line(2, "ana@x.org")],
    ),
    "postmark.csv": (
        b'"EmailAddress","SuppressionReason","Origin","CreatedAt"\na@x.org,HardBounce,Recipient,2024-01-01T00:00:00Z\n'
        b"b@x.org,SpamComplaint,Recipient,2024-01-01T00:00:00Z\nc@x.org,ManualSuppression,Customer,2024-01-01T00:00:00Z\n",
        [line(2, "a@x.org", Reason.BOUNCE), line(3, "b@x.org", Reason.COMPLAINT), line(4, "c@x.org", Reason.MANUAL)],
    ),
    "sendgrid.csv": (
        b'status,reason,email,created\r\n5.1.1,"550 no\r\nsuch user",a@x.org,1700000000\r\n'
        b'4.2.2,"mailbox full",b@x.org,1700000001\r\n',
        [line(2, "a@x.org", unknown=True), line(4, "b@x.org", unknown=True)],
    ),
    "listmonk.csv": (b"email,name\na@x.org,\nb@x.org,\n", [line(2, "a@x.org"), line(3, "b@x.org")]),
    "mailgun.csv": (
        b'address,code,error,created_at\na@x.org,550,"5.1.1 The email account, that you tried",2024-01-01 10:00:00 UTC\n',
        [line(2, "a@x.org")],
    ),
    "brevo.csv": (
        b"\xef\xbb\xbfCONTACT ID;EMAIL;LASTNAME;ADDED_TIME\n1;a@x.org;M\xc3\xbcller;01-01-2024 10:00:00\n",
        [line(2, "a@x.org")],
    ),
    "excel.csv": ("E-Mail;Grund\r\nana@x.org;Rückläufer\r\n".encode("cp1252"), [line(2, "ana@x.org")]),
    "unicode.txt": (
        "sep=\t\r\nE-Mail\treason\r\nAna <ana@x.org>\thard bounce\r\n".encode("utf-16"),
        [line(3, "ana@x.org", Reason.BOUNCE)],
    ),
    "lists.csv": (
        b"email,list,reason\na@x.org,Newsletter,unsubscribed\n'=b@x.org,,\n",
        [line(2, "a@x.org", Reason.UNSUBSCRIBE), line(3, "=b@x.org")],
    ),
    "contacts.ndjson": (b'{"Email Address": "a@x.org", "reason": "spam"}\n', [line(1, "a@x.org", Reason.COMPLAINT)]),
    "damaged.csv": (b"email,name\na@x.org,\xc3\xa9\nb@x.org,\xff\n", [line(2, "a@x.org"), line(3, "b@x.org")]),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_what_other_services_export_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    content, expected = EXPORTS[name]
    assert lines(content, tmp_path / name) == expected


def test_what_a_file_does_not_say_can_be_said(tmp_path: Path) -> None:
    content = "Wer:Grund\rjörg@x.org:bounce\rana@x.org:bounce\r".encode("mac-roman")
    found = lines(content, tmp_path / "a.csv", email_column="wer", delimiter=":", encoding="mac-roman")
    assert found == [
        Unusable(2, "'jörg@x.org': Amazon SES takes only ASCII letters before the @-sign, not 'ö'"),
        Line(3, "ana@x.org", None, None, None, None),
    ]


def test_an_archive_is_told_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RecipientsError, match="is packed with bzip2; unpack it"):
        lines(bz2.compress(SES_CSV), tmp_path / "a.csv")


def test_a_spreadsheet_does_not_run_what_was_exported() -> None:
    file = io.BytesIO()
    Writer(file, Format.CSV).add(as_row(OwnEntry("=cmd@x.org", Reason.MANUAL, "@sum", NOW)))
    assert file.getvalue().splitlines()[1] == b"'=cmd@x.org,own,manual,'@sum,2026-03-04T05:06:07Z"


def test_a_name_in_gz_is_gzipped(tmp_path: Path) -> None:
    with create(tmp_path / "a.csv.gz") as file:
        file.write(b"x")
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == b"x"
