"""Only what is cheap for any row is rendered where everything waits for it, and what is ordinary is among that."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from jinja2 import TemplateSyntaxError

from mailer.data import dumps
from mailer.errors import RenderFailed, TemplateBroken
from mailer.templates import Compiled, Content
from mailer.templates.cost import MAX_COST, Cost, longest, measure

from ..hostile import templates as hostile

FILES = {
    "base.html": "<html>{% block head %}{{ site }}{% endblock %}<body>{% block body %}{% endblock %}</html>",
    "part.html": "<hr>{{ site }}",
    "looped.html": "{% for b in big %}{{ b }}{% endfor %}",
    "again.html": "{% include 'body.html' %}",
    "twice.html": "{% include 'part.html' %}{% include 'part.html' %}",
}
CHEAP = [
    "<p>Dear {{ name }},</p>",
    "{{ name or 'reader' }} {{ name|default('reader') }} {{ name|upper }} {{ name.strip() }} {{ name|e }} {{ name|safe }}",
    "{{ a.b.c }} {{ a['b'] }} {{ a[0] }} {{ a[:3] }} {{ -n }} {{ n + 1 }} {{ n - 1 }} {{ n / 2 }} {{ first ~ ' ' ~ last }}",
    "{% if vip %}<b>{{ name }}</b>{% elif n > 3 and not x %}{{ a }}{% else %}{{ b }}{% endif %}{{ 'a' if x else 'b' }}",
    "{% for i in items %}{{ loop.index }} {{ i.name }}{% if not loop.last %}, {% endif %}{% else %}nothing{% endfor %}",
    "{% for k, v in order.items() %}{{ k }}: {{ v }}{% endfor %}{% for i in items if i.n > 3 %}{{ loop.index % 2 }}{% endfor %}",
    "{{ due|date('d. MMMM yyyy', locale='de') }} {{ price|currency('EUR') }} {{ n|number(2) }} {{ now|date }}",
    "{{ items|join(', ') }} {{ items|length }} {{ name|truncate(20) }} {{ name|replace('a', 'b') }} {{ url|urlencode }}",
    "{% extends 'base.html' %}{% block head %}{{ super() }}!{% endblock %}{% block body %}Dear {{ name }}{% endblock %}",
    "{% include 'part.html' %}{% for i in items %}{% include 'part.html' %}{% endfor %}",
    "{% set who = name %}{{ who }}{% for p in ('a', 'b') %}{{ p }}{% endfor %}{% if x in ('a', 'b') %}y{% endif %}",
]
NOT_CHEAP = [
    "{% macro f() %}{% endmacro %}{{ f() }}",
    "{% import 'part.html' as p %}",
    "{% from 'part.html' import x %}",
    "{% call(x) f() %}{% endcall %}",
    "{% filter upper %}{{ x }}{% endfilter %}",
    "{% set x %}{{ y }}{{ y }}{% endset %}",
    "{% set x = y ~ y %}",
    "{% set ns = namespace(x=1) %}",
    "{% for a in b %}{% for c in d %}{% endfor %}{% endfor %}",
    "{% for a in b %}{% include 'looped.html' %}{% endfor %}",
    "{% for a in b recursive %}{{ loop(a) }}{% endfor %}",
    "{% for a in range(10) %}{% endfor %}",
    "{% for a in b.split(',') %}{% endfor %}",
    "{% for a in b|sort %}{% endfor %}",
    "{% for a in [b, b, b] %}{{ a }}{% endfor %}",
    "{{ 'x' * n }}",
    "{{ n ** n }}",
    "{{ a % b }}",
    "{{ '%s'|format(a) }}",
    "{{ '{}'.format(a) }}",
    "{{ a|center(80) }}",
    "{{ a|replace(b, c) }}",
    "{{ a|join(b) }}",
    "{{ a|wordwrap(3) }}",
    "{{ a|striptags }}",
    "{{ a|map('upper') }}",
    "{{ a|date(locale=b) }}",
    "{{ a|date(locale='de') }}{{ a|date(locale='fr') }}{{ a|date(locale='it') }}{{ a|date(locale='es') }}"
    "{{ a|date(locale='pl') }}{{ a|date(locale='nl') }}{{ a|date(locale='sv') }}",
    "{{ a" + "|urlencode" * 5 + " }}",
    "{{ f(a) }}",
    "{{ a.b() }}",
    "{{ self.head() }}",
    "{% include 'again.html' %}",
    "{% include name %}",
    "{% autoescape false %}{{ a }}{% endautoescape %}",
    "{{ a }}" * 2000,
    "x" * 70_000,
]


def content(html: str) -> Content:
    inline = Content.inline(subject="s", html=html, text=None)
    return replace(inline, files={**FILES, **inline.files})


@pytest.mark.parametrize("source", CHEAP)
def test_what_mails_are_made_of_is_cheap(source: str) -> None:
    cost = measure(content(source))
    assert cost is not None
    assert cost.room(10) >= 1_000


@pytest.mark.parametrize("source", NOT_CHEAP)
def test_what_is_not_known_to_be_cheap_is_not(source: str) -> None:
    assert measure(content(source)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*hostile.SIZES, *hostile.STEPS, *hostile.SLOW, *hostile.MEMORY, *hostile.CONSTANTS, *hostile.SOURCES]
)
def test_nothing_hostile_is_cheap(name: str) -> None:
    groups = (hostile.SIZES, hostile.STEPS, hostile.SLOW, hostile.MEMORY, hostile.CONSTANTS, hostile.SOURCES)
    source = next(group[name] for group in groups if name in group)
    try:
        cost = measure(content(source))
        Compiled(content(source))
    except (TemplateBroken, TemplateSyntaxError, RecursionError):
        return
    if cost is not None:  # it was only expensive to compile, or is because of its row
        assert name in hostile.CONSTANTS or len(dumps(hostile.DATA)) > cost.room(longest(hostile.DATA))


def test_the_row_decides_with_the_template() -> None:
    plain, looped = measure(content("{{ a }}")), measure(content("{% for i in items %}{{ big }}{% endfor %}"))
    assert plain is not None
    assert looped is not None
    assert plain.room(0) >= 50_000
    assert plain.room(0) < 200_000
    assert looped.room(20) >= 1_000
    assert looped.room(20_000) < 1_000
    assert looped.room(20) < 100_000


def test_an_item_of_the_loop_counts_once_and_what_is_outside_of_it_counts_each_time() -> None:
    own, outer = (
        measure(content("{% for i in items %}{{ i }}{% endfor %}")),
        measure(content("{% for i in a %}{{ b }}{% endfor %}")),
    )
    hidden = measure(content("{% for i in a %}{% set i = b %}{{ i }}{% endfor %}"))
    included = measure(content("{% for site in a %}{% include 'part.html' %}{% endfor %}"))
    for cost in (own, outer, hidden, included):
        assert cost is not None
    assert own is not None
    assert own.round_data == 0
    assert all(cost is not None and cost.round_data > 0 for cost in (outer, hidden, included))


def test_the_longest_list_is_found_wherever_it_is() -> None:
    assert longest({"a": {"b": [1, [2, 3, 4]], "c": "12345"}, "d": (1,)}) == 5
    assert longest({"a": [[]] * 7}) == 7
    assert longest({}) == 0


# Rows that make the most of a template, each about as large as is rendered here.
WORST: list[tuple[str, dict[str, Any]]] = [
    ("{{ a }}", {"a": "'" * 90_000}),
    ("{{ a }}", {"a": [["'"] * 10] * 1_900}),
    ("{{ a }}" * 700, {"a": "'" * 10}),
    ("{% for i in items %}{{ i }}{% endfor %}", {"items": ["'"] * 2_000}),
    ("{% for i in items %}{{ loop.index }}{{ loop.last }}{% endfor %}", {"items": [1] * 1_500}),
    ("{% for i in items %}{% if i in big %}{% endif %}{% endfor %}x", {"items": ["x" * 9] * 40, "big": "x" * 400}),
    ("{% for i in items %}{{ i.a.b.c.d }}{% endfor %}", {"items": [{"a": {"b": {"c": {"d": 1}}}}] * 800}),
    ("{{ a|tojson }}{{ a|upper|title }}{{ a|urlencode }}", {"a": "ß" * 2_000}),
    ("{{ due|date('full') }}{{ n|currency('EUR', locale='de') }}" * 150, {"due": "2026-12-24", "n": 1234.5}),
    ("{% for i in items %}{{ i|number(2) }}{% endfor %}", {"items": [1234.5] * 250}),
    ("{% include 'part.html' %}" * 300, {"site": "x"}),
]


@pytest.mark.parametrize(("source", "row"), WORST, ids=range(len(WORST)))
def test_what_counts_as_cheap_holds_nobody_up(source: str, row: dict[str, Any]) -> None:
    cost, compiled = measure(content(source)), Compiled(content(source))
    assert cost is not None
    assert len(dumps(row)) <= cost.room(longest(row))
    took = []
    for _ in range(3):
        began = time.thread_time()
        try:
            compiled.pieces(row)
        except RenderFailed as error:
            pytest.fail(str(error))
        took.append(time.thread_time() - began)
    assert min(took) < 0.05


def test_the_limit_is_what_it_says() -> None:
    assert Cost(MAX_COST - 1_000, 1, 0, 0, 0, 0).room(1_000) == 1_000
    assert Cost(MAX_COST - 3_000, 1, 10, 1, 0, 0).room(100) == 2_000 // 101
    assert Cost(MAX_COST - 3_000, 1, 10, 1, 5, 100).room() == 2_000 // 101 - 5
    assert Cost(MAX_COST + 1, 0, 0, 0, 0, 0).room() < 0
