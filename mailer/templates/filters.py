"""The filters of dates, times, numbers and money, and `now`.

A value is a date or number of the data, or a text as a CSV has it: `2026-12-24`, `2026-12-24T18:00:00+01:00`, `1234.5`. What is
null or empty gives null, so that `default` can stand in for it. Formats are CLDR's (`short`, `medium`, `long`, `full`, or a
pattern such as `d. MMMM yyyy`) or strftime's (`%d.%m.%Y`), both in the words of the `locale`.

Each costs some ten microseconds, and a locale some milliseconds when it is first used. Raises Unfit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError, localedata
from babel.dates import format_date, format_datetime, format_time
from babel.numbers import NumberPattern, get_currency_precision, parse_pattern
from jinja2 import Undefined

from .values import NULL, Null, Unfit, kind_of

MAX_PATTERN = 60  # characters
MAX_DECIMALS = 15
MAX_NUMBER = Decimal(10) ** 30
MAX_LOCALES = 64  # that are kept; each takes some 300 kB
LOCALE = "en"

_NAMED = ("short", "medium", "long", "full")
# A number is the seconds or milliseconds since 1970 where that gives one of these years, or a day as 20261224 is one.
_FIRST_YEAR, _LAST_YEAR, _FIRST_DAY = 2000, 2100, 1900_01_01
_SINCE, _UNTIL = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (_FIRST_YEAR, _LAST_YEAR + 1))
_DAYS_OF_EXCEL = range(36_526, 73_416)  # the same years in a cell of Excel: days since 1900
_COUNT = re.compile(r"[0-9]{5,13}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2})?")
_QUOTED = re.compile(r"'[^']*'")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_ROUNDING = Context(prec=60, rounding=ROUND_HALF_UP)  # as on a bill, not as in statistics


# ---- dates and times -------------------------------------------------------------------------------------------------


def date_filter(value: Any, format: str = "medium", locale: str = LOCALE, tz: str | None = None) -> Any:
    """`{{ due|date }}`, `{{ due|date("long", locale="de") }}`, `{{ due|date("%d.%m.%Y") }}`."""
    moment = _moment("date", value, tz)
    if moment is NULL:
        return moment
    if isinstance(moment, time):
        raise Unfit(f"`date` is given the time {moment.isoformat()}, which has no date")
    return _written(lambda: format_date(moment, _format("date", format), _locale(locale)), format)


def time_filter(value: Any, format: str = "short", locale: str = LOCALE, tz: str | None = None) -> Any:
    """`{{ at|time }}`, `{{ at|time("%H:%M", tz="Europe/Berlin") }}`."""
    moment = _moment("time", value, tz)
    if moment is NULL:
        return moment
    if not isinstance(moment, datetime | time):
        raise Unfit(f"`time` is given the date {moment.isoformat()}, which has no time")
    return _written(lambda: format_time(moment, _format("time", format), locale=_locale(locale)), format)


def datetime_filter(value: Any, format: str = "medium", locale: str = LOCALE, tz: str | None = None) -> Any:
    """`{{ at|datetime }}`, `{{ at|datetime("short", locale="fr", tz="Europe/Paris") }}`."""
    moment = _moment("datetime", value, tz)
    if moment is NULL:
        return moment
    if isinstance(moment, time):
        raise Unfit(f"`datetime` is given the time {moment.isoformat()}, which has no date")
    whole = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
    return _written(lambda: format_datetime(whole, _format("datetime", format), locale=_locale(locale)), format)


def strftime(value: Any, format: str = "%Y-%m-%d", locale: str = LOCALE, tz: str | None = None) -> Any:
    """`{{ due|strftime("%d. %B %Y", locale="de") }}`; also the method of a date, in English."""
    if not isinstance(format, str) or "%" not in format:
        raise Unfit("`strftime` wants a format as %d.%m.%Y is one")
    moment = _moment("strftime", value, tz)
    return time_filter(moment, format, locale) if isinstance(moment, time) else datetime_filter(moment, format, locale)


class Now(datetime):
    """`{{ now|date }}`, `{{ now().year }}`, `{{ now("Europe/Berlin")|time }}`."""

    def __call__(self, tz: str | None = None) -> datetime:
        return self if tz is None else self.astimezone(_zone(tz))


def now() -> Now:
    return Now.now(UTC).replace(microsecond=0)


def _moment(name: str, value: Any, tz: str | None) -> Any:
    """A date, datetime or time, moved to the zone where it has one of its own; NULL where there is none."""
    if isinstance(value, Undefined):
        str(value)  # which says what is not there
    if isinstance(value, Null) or value is None or (isinstance(value, str) and not value.strip()):
        return NULL
    moment = value if isinstance(value, date | time) else _read(name, value)
    if tz is not None and isinstance(moment, datetime):
        moment = moment.astimezone(_zone(tz)) if moment.tzinfo else moment.replace(tzinfo=_zone(tz))
    return moment


def _read(name: str, value: Any) -> date | time:
    if isinstance(value, str) and len(value) <= MAX_PATTERN:
        text = value.strip()
        for read in (_date, _count, datetime.fromisoformat, time.fromisoformat):
            try:
                return read(text)
            except (ValueError, OverflowError):
                continue
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            return _of_number(value)
        except (ValueError, OverflowError):
            raise Unfit(f"`{name}` {_no_day(value)}") from None
    if isinstance(value, str) and _COUNT.fullmatch(value.strip()):
        raise Unfit(f"`{name}` {_no_day(int(value))}")
    raise Unfit(f"`{name}` takes a date as 2026-12-24 or 2026-12-24T18:00:00Z, and {_short(value)} is none")


def _date(text: str) -> date:
    if len(text) != len("2026-12-24"):
        raise ValueError
    return date.fromisoformat(text)


def _count(text: str) -> date:
    """A number in a text. Raises ValueError, also for a year or a time as `1830`, which ISO 8601 writes so."""
    if not _COUNT.fullmatch(text):
        raise ValueError
    return _of_number(int(text))


def _of_number(value: float | Decimal) -> date:
    """A day as 20261224, or a time in seconds or milliseconds since 1970. Raises ValueError, OverflowError."""
    if value == int(value) and _FIRST_DAY <= value < (_LAST_YEAR + 1) * 10_000:
        return date.fromisoformat(str(int(value)))
    for seconds in (float(value), float(value) / 1000):
        if _SINCE <= seconds < _UNTIL:
            return datetime.fromtimestamp(seconds, UTC)
    raise ValueError


def _no_day(value: float | Decimal) -> str:
    """What is wrong with a number that is no date."""
    if value == value and 0 < value < _DAYS_OF_EXCEL.stop and int(value) in _DAYS_OF_EXCEL:
        return f"is given {_short(value)}, which looks like a count of days as Excel has it; write the date as 2026-12-24"
    return (
        "takes the number of a day as 20261224, or seconds or milliseconds since 1970 in the years "
        f"{_FIRST_YEAR} to {_LAST_YEAR}, and {_short(value)} is neither"
    )


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, TypeError, OSError):
        raise Unfit(f"{_short(name)} is no time zone; write it as Europe/Berlin or UTC") from None


def _written(write: Callable[[], str], format: str) -> str:
    try:
        return write().replace("\u202f", " ")  # in front of AM and PM, where few fonts have it
    except (ValueError, KeyError, AttributeError, OverflowError) as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit(f"the format {_short(format)} does not fit the value") from None


# ---- formats of dates ------------------------------------------------------------------------------------------------

_DATES, _TIMES = frozenset("GyMLdEecQqw"), frozenset("abBhHkKmsSzZvVxXO")
_LETTERS = {"date": _DATES, "time": _TIMES, "datetime": _DATES | _TIMES}
_MISTAKEN = {
    "m": "`m` is the minute, and `M` the month",
    "Y": "`Y` is the year of a week, and `y` the year",
    "D": "`D` is the day of the year, and `d` the day of the month",
    "M": "`M` is the month, and `m` the minute",
}
# strftime's directive and CLDR's field, alternately.
_FIELDS = """
    d dd  e d  m MM  y yy  Y yyyy  B MMMM  b MMM  h MMM  A EEEE  a EEE  j DDD  V ww  G YYYY  u e  F yyyy-MM-dd  -d d  -m M  -j D
    H HH  k H  I hh  l h  M mm  S ss  f SSSSSS  p a  Z z  z Z  T HH:mm:ss  R HH:mm  -H H  -I h  -M m  -S s  % %
"""
_STRFTIME = dict(zip(_FIELDS.split()[::2], _FIELDS.split()[1::2], strict=True))
_DIRECTIVE = re.compile(r"%(-?.)|([^%]+)|%", re.DOTALL)


def _format(kind: str, format: Any) -> str:
    """A named format, or a pattern of CLDR. Raises Unfit."""
    if not isinstance(format, str) or not 1 <= len(format) <= MAX_PATTERN:
        raise Unfit(f"a format is a text of 1 to {MAX_PATTERN} characters, as medium, d. MMMM yyyy or %d.%m.%Y is one")
    return format if format in _NAMED else _pattern(kind, format)


@lru_cache(maxsize=256)
def _pattern(kind: str, format: str) -> str:
    if "%" in format:
        return "".join(_translated(match) for match in _DIRECTIVE.finditer(format))
    if format.count("'") % 2:
        raise Unfit(f"the format {_short(format)} has a quote that does not end")
    for letter in _QUOTED.sub("", format):
        if letter.isalpha() and letter not in _LETTERS[kind]:
            why = _MISTAKEN.get(letter, f"`{letter}` is not known to `{kind}`")
            raise Unfit(f"the format {_short(format)}: {why}; write it as d. MMMM yyyy, HH:mm or %d.%m.%Y %H:%M")
    return format


def _translated(match: re.Match[str]) -> str:
    """A piece of strftime's format as CLDR has it."""
    directive, text = match.groups()
    if text is not None:
        return "'" + text.replace("'", "''") + "'"
    if directive not in _STRFTIME:
        raise Unfit(f"%{directive or ''} is not known; there are: {' '.join(f'%{one}' for one in _STRFTIME)}")
    return _STRFTIME[directive]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def number(value: Any, format: int | str | None = None, locale: str = LOCALE) -> Any:
    """`{{ n|number }}`, `{{ n|number(2, locale="de") }}` with two decimals, `{{ n|number("#,##0.00") }}`."""
    found, place = _amount("number", value), _locale(locale)
    if found is NULL:
        return found
    pattern = _number_pattern(format) if isinstance(format, str) else _with_decimals(place.decimal_formats[None], format)
    return _written_number(pattern, found, place)


def percent(value: Any, decimals: int = 0, locale: str = LOCALE) -> Any:
    """`{{ 0.053|percent(1) }}` is 5.3%."""
    found, place = _amount("percent", value), _locale(locale)
    if found is NULL:
        return found
    return _written_number(_with_decimals(place.percent_formats[None], decimals), found, place)


def money(value: Any, currency: str = "", locale: str = LOCALE, decimals: int | None = None) -> Any:
    """`{{ price|currency("EUR", locale="de") }}`; also called `money`."""
    found, place = _amount("currency", value), _locale(locale)
    code = currency.upper() if isinstance(currency, str) else ""
    if not _CURRENCY.fullmatch(code) or code not in place.currencies:
        raise Unfit(f"{_short(currency)} is no currency; write its three letters, as in price|currency('EUR')")
    if found is NULL:
        return found
    pattern = _with_decimals(place.currency_formats["standard"], get_currency_precision(code) if decimals is None else decimals)
    return _written_number(pattern, found, place, code)


def _amount(name: str, value: Any) -> Any:
    """A Decimal of a bearable size; NULL where there is none."""
    if isinstance(value, Undefined):
        str(value)  # which says what is not there
    if isinstance(value, Null) or value is None or (isinstance(value, str) and not value.strip()):
        return NULL
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        found = Decimal(value.strip())
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    else:
        raise Unfit(f"`{name}` takes a number as 1234.5 is one, and {_short(value)} is none")
    if not found.is_finite() or abs(found) >= MAX_NUMBER:
        raise Unfit(f"`{name}` takes numbers of up to 30 digits")
    return found


def _with_decimals(pattern: NumberPattern, decimals: Any) -> NumberPattern:
    if decimals is None:
        return pattern
    if not isinstance(decimals, int) or isinstance(decimals, bool) or not 0 <= decimals <= MAX_DECIMALS:
        raise Unfit(f"the number of decimals is a whole number from 0 to {MAX_DECIMALS}, and {_short(decimals)} is not")
    return _decimals_of(pattern.pattern, decimals)


@lru_cache(maxsize=256)
def _decimals_of(source: str, decimals: int) -> NumberPattern:
    pattern = parse_pattern(source)
    pattern.frac_prec = (decimals, decimals)
    return pattern


@lru_cache(maxsize=256)
def _number_pattern(source: str) -> NumberPattern:
    if not 1 <= len(source) <= MAX_PATTERN or not re.search("[0#]", source):
        raise Unfit(f"{_short(source)} is no format of a number; write it as #,##0.00")
    try:
        return parse_pattern(source)
    except (ValueError, AttributeError, TypeError):
        raise Unfit(f"{_short(source)} is no format of a number; write it as #,##0.00") from None


def _written_number(pattern: NumberPattern, value: Decimal, locale: Locale, currency: str | None = None) -> str:
    with localcontext(_ROUNDING):
        if not pattern.exp_prec and "@" not in pattern.pattern:  # those count digits from the left
            value = value.quantize(Decimal(1).scaleb(-pattern.frac_prec[1] - pattern.scale)) + 0  # and -0 is 0
        return str(pattern.apply(value, locale, currency=currency, currency_digits=False))


# ---- locales ---------------------------------------------------------------------------------------------------------

_kept: dict[str, Locale] = {}


def _locale(name: Any) -> Locale:
    """`de`, `pt_BR` or `pt-BR`; null is English. Raises Unfit."""
    if isinstance(name, Undefined):
        str(name)  # which says what is not there
    if not name:
        name = LOCALE
    found = _kept.get(name) if isinstance(name, str) else None
    if found is not None:
        return found
    try:
        if not isinstance(name, str) or len(name) > MAX_PATTERN:
            raise ValueError
        found = Locale.parse(name.replace("-", "_"))
    except (ValueError, TypeError, UnknownLocaleError):
        raise Unfit(f"{_short(name)} is no locale; write it as en, de or pt_BR") from None
    if len(_kept) >= MAX_LOCALES:
        _kept.clear()
        localedata._cache.clear()  # babel itself keeps all that it has ever read, 200 MB in the end
    _kept[name] = found
    return found


def _short(value: Any) -> str:
    """A value in an error."""
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        text = str(value)
        return f"'{text if len(text) <= 40 else text[:40] + '…'}'"
    return kind_of(value)


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "date": date_filter,
    "time": time_filter,
    "datetime": datetime_filter,
    "strftime": strftime,
    "number": number,
    "percent": percent,
    "currency": money,
    "money": money,
}
