"""Dates, times, numbers and money as a reader writes them; errors that say what to write; nothing that grows without end."""

from __future__ import annotations

import time as clock
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from babel import localedata
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailer.errors import RenderFailed, TemplateBroken
from mailer.templates import filters
from mailer.templates.filters import FILTERS, MAX_LOCALES, MAX_PATTERN

from .test_template_values import failure, shown
from .test_templates import inline

DATA: dict[str, Any] = {
    "due": "2026-12-24",
    "at": "2026-12-24T18:00:00+01:00",
    "z": "2026-12-24T18:00:00Z",
    "naive": "2026-12-24 18:00",
    "clock": "18:05",
    "unix": 1798128000,
    "day": date(2026, 12, 24),
    "stamp": datetime(2026, 12, 24, 18, 0, tzinfo=UTC),
    "time": time(18, 5),
    "price": 1234.5,
    "text": "1234.5",
    "dec": Decimal("12.505"),
    "n": 3,
    "lang": "de",
    "null": None,
    "empty": " ",
}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("due|date", "Dec 24, 2026"),
        ("due|date('short')", "12/24/26"),
        ("due|date('full', 'fr')", "jeudi 24 décembre 2026"),
        ("due|date('long', locale=lang)", "24. Dezember 2026"),
        ("due|date('d. MMMM yyyy', locale='de-AT')", "24. Dezember 2026"),
        ("due|date('%d.%m.%Y')", "24.12.2026"),
        ("due|date('%-d %B %Y', 'es')", "24 diciembre 2026"),
        ("due|date(\"yyyy-MM-dd'T'\")", "2026-12-24T"),
        ("due|strftime('%d.%m.%Y')", "24.12.2026"),
        ("due|strftime('%A, %d. %B', locale='de')", "Donnerstag, 24. Dezember"),
        ("due|strftime('%Y 100%% of it')", "2026 100% of it"),
        ("day.strftime('%d/%m/%y')", "24/12/26"),
        ("stamp.strftime('%H:%M %p')", "18:00 PM"),
        ("day|date ~ stamp|date ~ at|date", "Dec 24, 2026Dec 24, 2026Dec 24, 2026"),
        ("at|datetime", "Dec 24, 2026, 6:00:00 PM"),
        ("at|datetime('short', tz='UTC')", "12/24/26, 5:00 PM"),
        ("at|datetime('%d.%m.%Y %H:%M', tz='Europe/London')", "24.12.2026 17:00"),
        ("due|datetime('%H:%M')", "00:00"),
        ("at|time", "6:00 PM"),
        ("at|time('HH:mm')", "18:00"),
        ("z|time('%H:%M', tz='America/New_York')", "13:00"),
        ("naive|time('HH:mm', tz='America/New_York')", "18:00"),
        ("clock|time('short', 'de') ~ time|time('HH.mm')", "18:0518.05"),
        ("unix|date ~ '1798128000'|datetime('short')", "Dec 24, 202612/24/26, 4:00 PM"),
        ("1798128000000|datetime('short') ~ '1798128000000'|date", "12/24/26, 4:00 PMDec 24, 2026"),
        ("20261224|date ~ '20261224'|date ~ 20261224.0|date ~ 19800131|date", "Dec 24, 2026Dec 24, 2026Dec 24, 2026Jan 31, 1980"),
        ("946684800|date ~ 4133980799|date", "Jan 1, 2000Dec 31, 2100"),
        ("'183015'|time('HH:mm:ss') ~ '1830'|time('HH:mm')", "18:30:1518:30"),
        ("price|number", "1,234.5"),
        ("price|number(2)", "1,234.50"),
        ("price|number(2, 'de')", "1.234,50"),
        ("text|number('#,##0.000')", "1,234.500"),
        ("12345678901234567890123|number", "12,345,678,901,234,567,890,123"),
        ("2.5|number(0) ~ ' ' ~ 1.005|number(2) ~ ' ' ~ (-0.001)|number(2)", "3 1.01 0.00"),
        ("0.053|percent ~ 0.053|percent(1) ~ 0.0535|percent(1, 'de')", "5%5.3%5,4\u00a0%"),
        ("price|currency('EUR')", "€1,234.50"),
        ("price|currency('EUR', locale='de')", "1.234,50\u00a0€"),
        ("price|money('eur', decimals=0) ~ price|currency('JPY') ~ dec|currency('USD')", "€1,235¥1,235$12.51"),
        ("null|date ~ empty|date ~ null|number ~ empty|currency('EUR') ~ null|time ~ null|datetime ~ null|percent", ""),
        ("null|date|default('soon') ~ empty|number|default('-')", "soon-"),
        ("due|date(locale=null)", "Dec 24, 2026"),
    ],
)
def test_values_are_written_as_a_reader_writes_them(source: str, wanted: str) -> None:
    assert shown("{{ (" + source + ")|safe }}", **DATA) == wanted


WRITE = "; write it as d. MMMM yyyy, HH:mm or %d.%m.%Y %H:%M"
NO_NUMBER = (
    "takes the number of a day as 20261224, or seconds or milliseconds since 1970 in the years 2000 to 2100, and '{}' is neither"
)
OF_EXCEL = ", which looks like a count of days as Excel has it; write the date as 2026-12-24"
NO_DATE = "takes a date as 2026-12-24 or 2026-12-24T18:00:00Z, and {} is none"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("'24.12.2026'|date", "`date` " + NO_DATE.format("'24.12.2026'")),
        ("'soon'|datetime", "`datetime` " + NO_DATE.format("'soon'")),
        ("[1]|date", "`date` " + NO_DATE.format("a list")),
        ("true|date", "`date` " + NO_DATE.format("true or false")),
        *((f"{n}|date", "`date` " + NO_NUMBER.format(n)) for n in (1, 0, 99999999999, 946684799, 4133980800, 17980101, 20261399)),
        ("'315532800'|datetime", "`datetime` " + NO_NUMBER.format("315532800")),
        ("1e300|date", "`date` " + NO_NUMBER.format("1e+300")),
        ("46380|date", "`date` is given '46380'" + OF_EXCEL),
        ("'46380'|date", "`date` is given '46380'" + OF_EXCEL),
        ("46380.75|time", "`time` is given '46380.75'" + OF_EXCEL),
        ("20261224|time", "`time` is given the date 2026-12-24, which has no time"),
        ("due|time", "`time` is given the date 2026-12-24, which has no time"),
        ("clock|date", "`date` is given the time 18:05:00, which has no date"),
        ("due|date('d.m.Y')", "the format 'd.m.Y': `m` is the minute, and `M` the month" + WRITE),
        ("due|date('MM/DD/YYYY')", "the format 'MM/DD/YYYY': `D` is the day of the year, and `d` the day of the month" + WRITE),
        ("due|date('dd.MM.YYYY')", "the format 'dd.MM.YYYY': `Y` is the year of a week, and `y` the year" + WRITE),
        ("at|time('H:i')", "the format 'H:i': `i` is not known to `time`" + WRITE),
        ("at|time('HH:MM')", "the format 'HH:MM': `M` is the month, and `m` the minute" + WRITE),
        ("due|date('%Q')", "%Q is not known; there are: %d %e %m %y"),
        ("due|strftime('d')", "`strftime` wants a format as %d.%m.%Y is one"),
        ("due|date(format=7)", "a format is a text of 1 to 60 characters, as medium, d. MMMM yyyy or %d.%m.%Y is one"),
        ("due|date('%H:%M')", "the format '%H:%M' does not fit the value"),
        ("due|date(locale='xx')", "'xx' is no locale; write it as en, de or pt_BR"),
        ("at|time(tz='Mars')", "'Mars' is no time zone; write it as Europe/Berlin or UTC"),
        ("at|time(tz='../../etc/passwd')", "'../../etc/passwd' is no time zone; write it as Europe/Berlin or UTC"),
        ("'1.234,50'|number", "`number` takes a number as 1234.5 is one, and '1.234,50' is none"),
        ("'12 EUR'|currency('EUR')", "`currency` takes a number as 1234.5 is one, and '12 EUR' is none"),
        ("1e300|number", "`number` takes numbers of up to 30 digits"),
        ("price|number('abc')", "'abc' is no format of a number; write it as #,##0.00"),
        ("price|number(99)", "the number of decimals is a whole number from 0 to 15, and '99' is not"),
        ("price|currency('EURO')", "'EURO' is no currency; write its three letters, as in price|currency('EUR')"),
        ("price|money(null)", "null is no currency; write its three letters, as in price|currency('EUR')"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_what_to_write(source: str, why: str) -> None:
    reason = failure("{{ " + source + " }}", **DATA)
    assert reason.startswith(f"the template failed on this row, in line 1 of body.html: {why[:200]}")


@pytest.mark.parametrize("name", [name for name in FILTERS if name not in ("currency", "money")])
def test_what_is_not_there_is_named_also_as_an_argument(name: str) -> None:
    missing = "the template uses 'x', which this row does not have"
    assert failure("{{ x|%s }}" % name) == failure("{{ '1'|number(locale=x) }}") == missing  # noqa: UP031
    assert failure("{{ x|currency('EUR') }}") == missing


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ price|currency }}", r"the filter `currency` has no currency; write it as price\|currency\('EUR'\)"),
        ("{{ price|intcomma }}", "there is no filter `intcomma`; write `number`"),
        ("{{ n|pluralize }}", "there is no filter `pluralize`; write `{{ 's' if n != 1 }}`"),
        ("{{ due|dat }}", "there is no filter `dat`; write `date`"),
        ("{{ due|nosuchthing }}", r"there is no filter `nosuchthing`\.$"),
        ("{{ due|date:'d' }}", "what a filter is given stands in brackets"),
        ("{{{due}}}", r"a value stands in two braces, as in \{\{ name \}\}, and three begin an object"),
        ("{{#if due}}x{{/if}}", r"`\{\{#if due\}\}` begins a block of Handlebars; here it is \{% if x %\} … \{% endif %\} or"),
    ],
)
def test_what_another_language_has_is_refused_before_the_start_with_what_to_write(source: str, why: str) -> None:
    with pytest.raises(TemplateBroken, match=why):
        inline(source)


def test_now_is_now_as_a_value_and_as_a_call() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    found = shown(
        "{{ now }}|{{ now() }}|{{ now.year }}|{{ now().year }}|{{ now|date('%Y-%m-%d') }}|{{ now('Asia/Tokyo')|time('HH') }}"
    )
    moment, same, *years, day, hour = found.split("|")
    assert before <= datetime.fromisoformat(moment) <= datetime.now(UTC)
    assert moment == same
    assert years == [day[:4], day[:4]] == [moment[:4], moment[:4]]
    assert int(hour) == (datetime.fromisoformat(moment) + timedelta(hours=9)).hour
    assert shown("{{ now }}", now="mine") == "mine", "the row's own comes first"
    assert shown("{{ (now - stamp).days > 0 }}", stamp=datetime(2020, 1, 1, tzinfo=UTC)) == "True"


# ---- bounds ----------------------------------------------------------------------------------------------------------

anything = st.one_of(
    *(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=90),
        st.dates(),
        st.times(),
        st.decimals(allow_nan=False),
    ),
    *(st.datetimes(), st.datetimes(timezones=st.just(timezone(timedelta(hours=14)))), st.lists(st.none(), max_size=2)),
)
formats = st.one_of(
    *(st.none(), st.integers(), st.text(max_size=90), st.text("GyYMLdDEecQqwabBhHkKmsSzZvVxXO%-#0,.;E@'", max_size=70)),
    st.sampled_from(["short", "medium", "long", "full", "%d" * 30, "S" * MAX_PATTERN, "y" * MAX_PATTERN, "#" * MAX_PATTERN]),
)


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(sorted(FILTERS)), anything, formats, st.sampled_from(["en", "ar", "fa", "zh_Hant", "hi", "th", "xx", None, 5])
)
@example("number", 10**29, "0" * MAX_PATTERN, "en")
@example("number", Decimal("1E+999999"), None, "en")
@example("date", -1, "short", "en")
@example("date", date.max, "full", "th")
@example("datetime", datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))), "full", "en")
def test_no_value_and_no_format_does_anything_but_print_a_little_or_fail_its_row(
    name: str, value: Any, format: Any, locale: Any
) -> None:
    compiled = inline("x{{ v|%s(f, locale=l) }}{{ v|datetime(tz='Asia/Tokyo')|default }}" % name)  # noqa: UP031
    began = clock.perf_counter()
    try:
        html = compiled.render({"v": value, "f": format, "l": locale}).html or ""
    except RenderFailed:
        html = ""
    assert len(html) < 600
    assert clock.perf_counter() - began < 2


@pytest.mark.parametrize("method", ["strftime", "__format__", "strptime", "ctime", "fromisoformat", "tzinfo", "astimezone"])
def test_no_method_of_a_date_makes_a_text_of_any_length(method: str) -> None:
    for use in ("day.METHOD('%999999999d')", "(day|attr('METHOD'))('%999999999d')", "[day]|map('attr', 'METHOD')|first|string"):
        began = clock.perf_counter()
        assert failure("{{ " + use.replace("METHOD", method) + " }}", day=datetime(2026, 12, 24, tzinfo=UTC))
        assert clock.perf_counter() - began < 1


def test_the_locales_that_are_kept_have_a_bound() -> None:
    names = [name for name in sorted(localedata.locale_identifiers()) if "_" not in name][: MAX_LOCALES + 20]
    assert len(names) > MAX_LOCALES
    compiled = inline("{{ '2026-12-24'|date(locale=l) }}")
    for name in names:
        assert compiled.render({"l": name}).html
        assert len(filters._kept) <= MAX_LOCALES
        assert len(localedata._cache) <= 2 * MAX_LOCALES + 2
