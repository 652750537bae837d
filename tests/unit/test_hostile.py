"""Whatever is given to a public constructor or call, only a MailerError comes out, in one sentence that can be printed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mailer import Attachment, Campaign, Email, ListUnsubscribe, Mailer, MailerError, Sender, Settings
from mailer.intake.idempotency import idempotency_key
from mailer.intake.spec_builder import SpecBuilder
from mailer.message.checks import Model

from .test_fields import WHOLE

DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]
ROUND: list[Any] = []
ROUND.append(ROUND)


FILE = Attachment(name="a", content=b"")


class Nowhere(tzinfo):
    """A time zone that says nothing."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None


class Unreadable(Message):
    """A message that breaks when it is written."""

    def as_bytes(self, *_: Any, **__: Any) -> bytes:
        raise IndexError("of a library")


def numbers() -> Iterator[int]:
    yield 1
    raise RuntimeError("half-way")


EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=14))
EARLIEST, LATEST = datetime.min, datetime.max  # noqa: DTZ901
NUMBERS = [True, 0, -1, 1, 10**400, 1e308, 1e-300, 1e-15, math.nan, math.inf, -math.inf, Decimal("1e999999"), Decimal("nan")]
TEXTS = [
    "",
    " ",
    "\0",
    "\n",
    "\r\n",
    "a\r\nBcc: eve@example.org",
    "\ud83d",
    "a\udcffb",
    "\u202e",
    "nul\0l",
    "/",
    ".",
    "../../etc/passwd",
]
NAMES = ["/", ".", "../../etc/passwd"]
LONG = ["x" * 20_000, " " * 2_400 + "<a", '"' * 500, "(" * 500, "<" * 500, "a@" + "b." * 500, "0" * 100_000, "\U0001f600" * 300]
ADDRESSES = ["a@b", "ana@example.org", "<ana@example.org>", "=?utf-8?b?/?=", "=?x?q?=FF?="]
TEMPLATES = ["{{", "{#", "{% for x in y %}", "{{ x }}", "{{ 1/0 }}", "{% include 'x' %}", "{{ ''.__class__ }}"]
BYTES = [b"", b"\0", b"\xff\xfe", b"From: a@example.com\r\n\r\n", b"\r\n" * 500, b"a" * 5_000, bytearray(b"x"), memoryview(b"x")]
MANY = [[], {}, (), set(), [None], [1], ["a@example.org", None], DEEP, ROUND, numbers, numbers(), iter([1]), range(3)]
HALF = {"name": "a", "content": "\ud83d"}
MAPPINGS = [
    {"a": None},
    {None: "a"},
    {1: 2},
    {"a": "b\n"},
    {"\ud83d": "\ud83d"},
    {"name": "a"},
    {"name": "a", "content": "\ud83d"},
]
DATA = [{"x": one} for one in (DEEP, ROUND, {1, 2}, object(), math.nan, 10**400, 10**5000, b"", Decimal("1e999999999"), "\ud83d")]
TIMES = [EARLIEST, LATEST, EARLIEST.replace(tzinfo=EAST), LATEST.replace(tzinfo=WEST), datetime.now(UTC), date.min, timedelta.max]
WRITTEN_TIMES = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e400", "99999999999999999", "2026-12-24T09:00[]"]
ZONES = [f"2026-12-24 09:00 {zone}" for zone in ("Europe/Berlin", "../../etc", "Europe", "UTC")]
OBJECTS = [None, UUID(int=0), Path("x"), object(), object, lambda: 1, Ellipsis, LATEST.replace(tzinfo=Nowhere())]
MESSAGES = [EmailMessage(), Message(), Unreadable(), FILE, [FILE] * 3]
VALUES: list[Any] = [
    *(NUMBERS + TEXTS + NAMES + LONG + ADDRESSES + TEMPLATES + BYTES + MANY + MAPPINGS + DATA),
    *(TIMES + WRITTEN_TIMES + ZONES + OBJECTS + MESSAGES),
]
FIELDS = [(model, name) for model in (Email, Campaign, Attachment, Sender, ListUnsubscribe) for name in model.model_fields]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(max_size=30) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def told(error: MailerError) -> None:
    """What a person reads of it."""
    text = str(error)
    text.encode()
    assert "\n" not in text
    assert 3 < len(text) < 2_000, text[:200]
    assert "Traceback" not in text
    assert "pydantic" not in text


def tried(model: type[Model], fields: dict[str, Any]) -> None:
    try:
        made = model(**fields)
        preparation = SpecBuilder(Settings())
        if isinstance(made, Email):
            preparation.message(made)
            idempotency_key("key", made)
        elif isinstance(made, Campaign):
            preparation.campaign(made)
            idempotency_key("key", made)
    except MailerError as error:
        told(error)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "name"), FIELDS, ids=lambda one: getattr(one, "__name__", one))
def test_a_hostile_value_of_a_field_is_refused_in_a_sentence_or_taken(model: type[Model], name: str) -> None:
    for value in VALUES:
        tried(model, {**WHOLE[model], name: value})
        if name in ("template", "ses_template", "raw"):
            alone = {key: one for key, one in WHOLE[model].items() if key not in ("subject", "text")}
            tried(model, {**alone, name: value})


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FIELDS), anything)
@example((Email, "send_at"), EARLIEST)
@example((Campaign, "data"), {"a": "\ud800"})
def test_anything_at_all_is_refused_in_a_sentence_or_taken(field: tuple[type[Model], str], value: Any) -> None:
    model, name = field
    tried(model, {**WHOLE[model], name: value})


@pytest.mark.slow
@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_hostile_setting_is_refused_in_a_sentence_or_taken(name: str) -> None:
    for value in VALUES:
        try:
            Settings(**{name: value})
        except MailerError as error:
            told(error)


def test_a_hostile_key_is_refused_in_a_sentence_or_taken() -> None:
    for key in VALUES:
        try:
            idempotency_key(key, Email(**WHOLE[Email]))
        except MailerError as error:
            told(error)
        else:
            assert key is None or key.encode()


CALLS: dict[str, Any] = {
    "explain": lambda mailer, value: mailer.explain(value),
    "advice": lambda mailer, value: mailer.advice(value),
    "preview": lambda mailer, value: mailer.preview(value, {}),
    "preview data": lambda mailer, value: mailer.preview("letter", value),
    "unsubscribed": lambda mailer, value: mailer.unsubscribed(value),
    "timeout": lambda _, value: Mailer(Settings(), timeout=value),
    "from_path": lambda _, value: Attachment.from_path(value),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_hostile_argument_is_refused_in_a_sentence_or_taken(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "templates" / "letter"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("Hello")
    (folder / "body.txt").write_text("Dear {{ name }}")
    mailer = Mailer(Settings(templates_dir=folder.parent, secret_key="key-" * 8))
    for value in VALUES:
        try:
            CALLS[name](mailer, value)
        except MailerError as error:
            told(error)
