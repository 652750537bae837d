"""What a template makes of a row's values: null, keys, numbers, what is not there; and how it says what it cannot do."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import RenderFailed
from mailer.templates import Compiled, Content

from .test_templates import inline

VALUES: list[Any] = [{}, [], "", 1, 1.5]
METHODS = sorted({name for value in VALUES for name in dir(value) if not name.startswith("__")})


def shown(source: str, **data: Any) -> str:
    """What the HTML part shows."""
    html = inline(f".{source}").render(data).html
    assert html is not None
    return html[1:]


def failure(source: str, **data: Any) -> str:
    with pytest.raises(RenderFailed) as caught:
        inline(source).render(data)
    return str(caught.value)


# ---- null ------------------------------------------------------------------------------------------------------------

NULLS: list[Any] = [None, float("nan")]


@pytest.mark.parametrize("null", NULLS, ids=str)
@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("Dear {{ x }},", "Dear ,"),
        ("{{ x ~ '!' }}{{ '!' ~ x }}", "!!"),
        ("{{ x|upper }}{{ x|title }}{{ x|trim }}{{ x|e }}{{ x|string }}{{ x|safe }}{{ x|urlencode }}", ""),
        ("{{ x|replace('a', 'b') }}{{ x|capitalize }}{{ x|lower }}{{ x|striptags }}", ""),
        ("{{ [x, 'a', x]|join('-') }}", "-a-"),
        ("{{ '%s'|format(x) }}{{ '{}'.format(x) }}{{ '{:>5}'.format(x) }}", ""),
        ("{{ x|default('reader') }}{{ x|d('reader') }}", "readerreader"),
        ("{{ x or 'reader' }}", "reader"),
        ("{% if x %}a{% else %}b{% endif %}{{ 'a' if x else 'b' }}{{ 'a' if not x else 'b' }}", "bba"),
        ("{{ x is none }}{{ x == none }}{{ x is defined }}{{ x is not none }}", "TrueTrueTrueFalse"),
        ("{% for one in x %}a{% else %}b{% endfor %}{{ x|length }}{{ x|list|length }}", "b00"),
        ("{{ x|int }}{{ x|float }}", "00.0"),
        ("{{ {'a': x}|tojson }}", '{"a": null}'),
        ("{% set y = x %}{{ y }}{% macro f(z) %}{{ z }}{% endmacro %}{{ f(x) }}", ""),
        ("{{ o.x }}{{ o['x'] }}{{ l[0] }}{{ l|first }}{% for one in l %}{{ one ~ one }}{% endfor %}", ""),
        ("{{ none }}{{ o.get('nothing') }}", ""),
    ],
)
def test_null_prints_nothing_and_default_stands_in_for_it(source: str, wanted: str, null: Any) -> None:
    data = {"x": null, "o": {"x": null}, "l": [null]}
    assert shown(source, **data) == wanted
    assert inline(text=f".{source}").render(data).text == f".{wanted}"
    assert inline(subject=f".{source}").render(data).subject == f".{wanted}".strip()


def test_null_is_an_error_where_nothing_would_be_wrong() -> None:
    assert failure("{{ x.name }}", x=None) == "the template uses 'name' of a value that is null for this row"
    assert failure("{{ x + 1 }}", x=None).endswith(": it cannot work out null + a number")
    assert failure("{% if x > 1 %}{% endif %}", x=None).endswith(": it compares null with a number by >")


# ---- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{{ x or 'reader' }}", "reader"),
        ("{{ x|default('reader') }}", "reader"),
        ("{% if x %}a{% else %}b{% endif %}", "b"),
        ("{{ 'a' if x else 'b' }}{{ 'a' if not x else 'b' }}", "ba"),
        ("{% if x and y %}a{% else %}b{% endif %}{% if x or 1 %}a{% endif %}", "ba"),
        ("{% if x is defined and x > 3 %}a{% else %}b{% endif %}", "b"),
        ("{{ o.x or 'reader' }}{{ o['x'] or 'reader' }}{{ l[9] or 'none' }}", "readerreadernone"),
        ("{{ 'VIP' if x }}", ""),
    ],
)
def test_what_is_not_there_is_false(source: str, wanted: str) -> None:
    assert shown(source, o={}, l=[]) == wanted


@pytest.mark.parametrize(
    "source",
    [
        *("{{ x }}", "{{ x ~ 'a' }}", "{{ x|upper }}", "{{ x|e }}", "{{ x|safe }}", "{{ x|join }}", "{{ [x]|join }}"),
        *("{% for one in x %}{% endfor %}", "{% if x > 1 %}{% endif %}", "{% if x == 1 %}{% endif %}", "{{ 'a' ~ x }}"),
        *("{{ x and 1 }}", "{{ 0 or x }}", "{{ x.y }}", "{{ x.y or 'a' }}", "{{ x[0] }}", "{{ x() }}", "{{ x|length }}"),
        *("{{ x + 1 }}", "{% if 1 in x %}{% endif %}"),
        *("{% set y = x %}{{ y }}", "{% macro f(z) %}{{ z }}{% endmacro %}{{ f(x) }}", "{{ '%s'|format(x) }}", "{{ x|tojson }}"),
        *("{{ x|int }}", "{{ x|float }}", "{{ -x }}", "{{ 'a' if x is defined else x }}", "{{ '{}'.format(x) }}"),
    ],
)  # fmt: skip
def test_any_other_use_of_what_is_not_there_names_it(source: str) -> None:
    assert failure(source) == "the template uses 'x', which this row does not have"


def test_a_key_that_is_not_there_is_named_with_one_that_is_near() -> None:
    data = {"user": {"first_name": "Ana"}, "l": [1], "t": "text"}
    assert failure("{{ user.frist_name }}", **data) == (
        "the template uses 'frist_name' of an object that does not have it; is 'first_name' meant?"
    )
    assert failure("{{ user['age'] }}", **data) == "the template uses 'age' of an object that does not have it"
    assert failure("{{ l[3] }}", **data) == "the template uses item 3 of a list that does not have it"
    assert failure("{{ token }}").endswith("this row does not have; the recipient's own link is {{ unsubscribe_url }}")
    assert failure("{{ unsubscribe_link }}").endswith("; the recipient's own link is {{ unsubscribe_url }}")
    assert failure("{{ due.strftime('%d') }}", due="2026-12-24").endswith("; write it as a filter, due|strftime('%d.%m.%Y')")
    assert failure("{{ o.city }}", o='{"city": "Bern"}').endswith("; JSON in a cell of a CSV is a text, and NDJSON has objects")
    assert failure("{{ t.nothing }}", **data) == "the template uses 'nothing' of a text that does not have it"
    assert failure("{{ []|first }}", **data) == "the template takes the first of a list that is empty"


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_key_comes_before_a_method_of_its_name(name: str) -> None:
    order = {name: ["a", "b"]}
    assert shown("{{ o.NAME|join('-') }}{% for one in o.NAME %}{{ one }}{% endfor %}".replace("NAME", name), o=order) == "a-bab"
    assert shown("{{ l|map(attribute='NAME')|first|join }}".replace("NAME", name), l=[order]) == "ab"
    assert failure("{{ o['NAME'] }}".replace("NAME", name), o={"z": 1}).startswith(f"the template uses '{name}' of an object")


def test_methods_are_there_where_no_key_is() -> None:
    assert (
        shown("{% for k, v in o.items() %}{{ k }}{{ v }}{% endfor %}{{ o.get('b', 2) }}{{ o.keys()|list|length }}", o={"a": 1})
        == "a121"
    )


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ o.items }}", "it prints the function `items` and not what that gives; write `items()` for that"),
        ("{{ t.title }}", "it prints the function `title` and not what that gives; write `title()` for that"),
        ("{{ range }}", "it prints the function `range` and not what that gives; write `range()` for that"),
        ("{% macro f() %}{% endmacro %}{{ f }}", "it prints the function `f` and not what that gives; write `f()` for that"),
        ("{{ o.items ~ '' }}", "it prints the function `items` and not what that gives; write `items()` for that"),
        ("{{ [t.format]|join }}", "it prints the function `format` and not what that gives; write `format()` for that"),
        ("{{ (t|attr('title'))|string }}", "it prints the function `title` and not what that gives; write `title()` for that"),
        ("{{ [o.items] }}", "it prints the function `items` and not what that gives; write `items()` for that"),
        ("{{ range ~ '' }}", "it prints the function `range` and not what that gives; write `range()` for that"),
        ("{{ joiner() }}", "it prints a function; a filter such as `join` makes a text of it"),
        ("{{ namespace() }}", "it prints something that is no value; a filter such as `join` makes a text of it"),
    ],
)
def test_no_address_in_memory_gets_into_a_mail(source: str, why: str) -> None:
    reason = failure(source, o={"a": 1}, t="text", l=["a"])
    assert reason == f"the template failed on this row, in line 1 of body.html: {why}"


@pytest.mark.parametrize(
    "filter", ["batch(2)", "map('string')", "reject('none')", "reverse", "select('string')", "slice(2)", "unique", "items"]
)
def test_a_filter_that_gives_several_values_gives_a_list(filter: str) -> None:
    values: Any = {"a": "b"} if filter == "items" else ["a", "b", "c"]
    assert "0x" not in shown("{{ v|" + filter + " }}{{ v|" + filter + " ~ '' }}", v=values)
    assert int(shown("{{ v|" + filter + "|length }}", v=values)) > 0


# ---- numbers and dates -----------------------------------------------------------------------------------------------


def test_numbers_print_as_they_were_given_and_can_be_worked_with() -> None:
    data = {"n": 9400110200881234567890, "price": Decimal("12.50"), "half": 0.5, "t": "3"}
    assert (
        shown("{{ n }} {{ n + 1 }} {{ price }} {{ price > 12 }}", **data)
        == "9400110200881234567890 9400110200881234567891 12.50 True"
    )
    assert shown("{{ price * 1.2 }} {{ 1.2 * price }} {{ price - 0.1 }} {{ price / half }} {{ price * 2 }}", **data) == (
        "15.000 15.000 12.40 25.0 25.00"
    )
    assert shown(
        "{{ {'p': price, 'd': day, 'w': whole}|tojson }}", price=Decimal("12.50"), day=date(2026, 1, 2), whole=Decimal(3)
    ) == ('{"d": "2026-01-02", "p": 12.5, "w": 3}')


def test_dates_of_an_application_stay_dates() -> None:
    data = {"at": datetime(2026, 12, 24, 18, 5, tzinfo=UTC), "day": date(2026, 12, 24), "clock": time(18, 5)}
    assert (
        shown("{{ at.year }} {{ at.weekday() }} {{ day.month }} {{ clock.hour }} {{ at.date() == day }}", **data)
        == "2026 3 12 18 True"
    )
    assert shown("{{ day }} {{ clock }} {{ at }}", **data) == "2026-12-24 18:05:00 2026-12-24 18:05:00+00:00"


# ---- why it failed ---------------------------------------------------------------------------------------------------

PYTHON = re.compile(
    r"\b(?:[A-Z]\w*Error|NoneType|instances? of|object has|not supported|'str'|'int'|'dict')\b|"
    r"\b(?:operand|iterable|callable|positional)\b"
)
DATA = {
    "points": "12",
    "n": 3,
    "l": [1],
    "o": {"a": 1},
    "nothing": None,
    "price": Decimal("1.5"),
    "day": date(2026, 1, 2),
    "yes": True,
}
NUMBER = "; for a number, write `|int` or `|float` behind the text"
FAILURES = [
    ("{% if points > 10 %}{% endif %}", f"it compares a text with a number by >{NUMBER}"),
    ("{% if l < o %}{% endif %}", "it compares a list with an object by <"),
    ("{{ [1, 2]|sort(attribute='x') }}", "the template uses 'x' of a number that does not have it"),
    ("{{ [1, 'a']|sort }}", f"it compares a text with a number by <{NUMBER}"),
    ("{{ n + points }}", f"it cannot work out a number + a text{NUMBER}"),
    ("{{ points + n }}", f"it cannot work out a text + a number{NUMBER}; to join texts, write `~`"),
    ("{{ points * 1.5 }}", f"it multiplies a text or a list by what is no whole number{NUMBER}"),
    ("{{ points / 2 }}", f"it cannot work out a text / a number{NUMBER}"),
    ("{{ o - 1 }}", "it cannot work out an object - a number"),
    ("{{ -points }}", f"it calculates with a text{NUMBER}"),
    ("{{ points|round }}", f"it uses `round` on a text{NUMBER}"),
    ("{{ points|abs }}", f"it calculates with a text{NUMBER}"),
    ("{{ '%.2f'|format(points) }}", f"it formats as a number what is none{NUMBER}"),
    ("{{ '{:.2f}'.format(points) }}", f"it formats as a number what is none{NUMBER}"),
    ("{{ '%d'|format(points) }}", f"it formats as a number what is none{NUMBER}"),
    ("{{ '%s %s'|format(n) }}", "its format wants more or fewer values"),
    ("{{ '%s'|format(n, n) }}", "its format wants more or fewer values"),
    ("{{ '{} {}'.format(n) }}{{ '{x}'.format() }}", "it uses a name or a place that is not there"),
    ("{% for x in n %}{% endfor %}", "it goes through a number, and only a list can be gone through"),
    ("{{ n|length }}", "it asks for the length of a number"),
    ("{{ points() }}", "it calls a text as if it were a function"),
    ("{{ 1 in n }}", "it uses `in` on values that it is not for"),
    ("{{ 1 in points }}", "it uses `in` on values that it is not for"),
    ("{{ n / 0 }}", "it divides by zero"),
    ("{{ n % 0 }}", "it divides by zero"),
    ("{{ price / 0 }}", "it divides by zero"),
    ("{{ points|dictsort }}", "it uses 'items' of a text that does not have it"),
    ("{{ points|replace('a') }}", "`replace` is used without a value that it needs"),
    ("{{ points|round(wide=1) }}", "`round` has nothing called `wide`"),
    ("{{ points|upper(1, 2) }}", "`upper` is given too many values"),
    ("{{ range(10**9)|list }}", "it counts through more than 100,000 numbers"),
    ("{{ (10**5000) }}", "it makes a number of more than 4,000 digits"),
    ("{{ day < n }}", "it compares a date with a number by <"),
    ("{{ day + n }}", "it cannot work out a date + a number"),
    ("{{ points.__class__ }}", "the template uses '__class__', which no template may"),
    ("{{ l.append(1) }}", "the template uses 'append', which no template may"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "why"), FAILURES)
def test_a_failure_is_told_in_words_of_templates_not_of_python(source: str, why: str) -> None:
    reason = failure(f"\n{source}", **DATA)
    assert reason == (
        why if why.startswith("the template ") else f"the template failed on this row, in line 2 of body.html: {why}"
    )
    assert not PYTHON.search(reason)


OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "<", ">=", "in", "~", "and"]
FILTERS = [
    *(
        "abs",
        "batch(2)",
        "capitalize",
        "center",
        "count",
        "dictsort",
        "filesizeformat",
        "first",
        "float",
        "format(n)",
        "groupby('a')",
    ),
    *(
        "indent",
        "int",
        "items",
        "join",
        "last",
        "list",
        "map('upper')",
        "max",
        "min",
        "pprint",
        "random",
        "reverse",
        "round",
        "sort",
    ),
    *("slice(2)", "sum", "title", "tojson", "truncate(3)", "unique", "upper", "urlencode", "urlize", "wordcount", "wordwrap"),
    "xmlattr",
]


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(sorted(DATA)),
    st.sampled_from(sorted(DATA)),
    st.sampled_from([f"{{{{ (a {one} b) }}}}" for one in OPERATORS] + [f"{{{{ a|{one} }}}}" for one in FILTERS]),
)
def test_no_operator_or_filter_on_any_value_speaks_python(left: str, right: str, source: str) -> None:
    reason = ""
    try:
        inline(f"x{source}").render({"a": DATA[left], "b": DATA[right], "n": 1})
    except RenderFailed as error:
        reason = str(error)
    assert not PYTHON.search(reason), reason
    assert "cannot be worked out" not in reason
    assert len(reason) <= 300


def test_the_place_is_the_innermost_file() -> None:
    files = {"m.html": "\n\n{% macro f(x) %}\n{{ x + 1 }}{% endmacro %}", "p.html": "{% import 'm.html' as m %}\n{{ m.f('a') }}"}
    with pytest.raises(RenderFailed, match=r"in line 4 of m\.html: it cannot work out a text \+ a number"):
        inline("\n{% include 'p.html' %}", files=files).render({})


# ---- escaping --------------------------------------------------------------------------------------------------------


def test_the_part_decides_about_escaping_not_the_name_of_an_included_file() -> None:
    uses = "{% include 'part.txt' %}{% include 'part.html' %}{% import 'macros.txt' as m %}{{ m.f(x) }}{{ m.f(x)|upper }}"
    files = {"part.txt": "{{ x }}", "part.html": "{{ x }}", "macros.txt": "{% macro f(x) %}{{ x }}{% endmacro %}"}
    content = Content.inline(subject=uses, html=uses, text=uses)
    compiled = Compiled(
        Content(name="t", files={**files, **content.files}, subject="subject.txt", html="body.html", text="body.txt")
    )
    rendered = compiled.render({"x": "<b>&"})
    assert rendered.html == "&lt;b&gt;&amp;" * 3 + "&LT;B&GT;&AMP;"
    assert rendered.subject == rendered.text == "<b>&" * 3 + "<B>&"
