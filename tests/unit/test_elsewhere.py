"""Why a template does not compile is told in plain words, with what to write instead."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import TemplateBroken
from mailer.templates import Compiled, Content
from mailer.templates.elsewhere import meant

CSS = "{} does; in CSS, write one brace, or a blank after the first, or put the style between {{% raw %}} and {{% endraw %}}"
PYTHON = re.compile(r"Encountered|Jinja was|token|unexpected|Unexpected|innermost|statement block|print statement|char ")


def said(source: str) -> str:
    with pytest.raises(TemplateBroken) as caught:
        Compiled(Content.inline(subject="s", html=source, text=None))
    return str(caught.value).partition(": body.html, line ")[2].partition(": ")[2].removesuffix(".")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("<style>.a{{color:red}}</style>", CSS.format("`{{color:red}}` begins as an expression of Jinja2")),
        (
            "<style>\n.a{{ font-size : 1px; top:0 }}</style>",
            CSS.format("`{{ font-size : 1px;` begins as an expression of Jinja2"),
        ),
        ("<style>.a{%color:red}</style>", CSS.format("`{%color:red}` begins as a statement of Jinja2")),
        ("{{ x|date:'d' }}", "`:` cannot stand there; what a filter is given stands in brackets, as in due|date('%d.%m.%Y')"),
        (
            "{% unless x %}a{% endunless %}",
            "there is no tag `unless`; it is Liquid's, and here it is {% if not x %} … {% endif %}",
        ),
        ("{% if a %}{% elsif b %}{% endif %}", "there is no tag `elsif`; it is Liquid's, and here it is {% elif x %}"),
        ("{% load i18n %}", "there is no tag `load`; it is Django's, and has no like here"),
        (
            "{% foo %}",
            "there is no tag `foo`; there are if, for, set, include, extends, block, macro, import, with, filter and raw",
        ),
        ("{{> header}}", '`{{> header}}` is a partial of Handlebars; here it is {% include "header.html" %}'),
        (
            'x\n{{>"parts/header.txt" a=b}}',
            '`{{>"parts/header.txt" a=b}}` is a partial of Handlebars; here it is {% include "parts/header.txt" %}',
        ),
        ("{{/if}}", "`{{/if}}` ends a block of Handlebars; here {% endif %} or {% endfor %} does"),
        ("{{^x}}", "`{{^x}}` is Handlebars' or Mustache's; here it is {% if not x %} … {% endif %}"),
        ("{{! note }}", "`{{! note }}` is a comment of Handlebars; here it is {# … #}"),
        ("{{ a || 'b' }}", "`|` cannot stand there; here `or` joins conditions, as in {{ name or 'reader' }}"),
        ("{% if a && b %}{% endif %}", "`&` cannot stand there; here `and` joins conditions, as in {% if a and b %}"),
        ("{% if a = 1 %}{% endif %}", "`=` cannot stand there; two values are compared by `==`"),
        ("{% if a %}{% else if b %}{% endif %}", "`if` cannot stand there; `else if` is {% elif x %} here"),
        (
            "{{ first name }}",
            '`name` cannot stand there; a column whose name has blanks is {{ row["First Name"] }}, and texts are joined by `~`',
        ),
        ("{{ x[1 }}", "`}` cannot stand there; `]` comes before it"),
        ("{{ 'x }}", "`'` cannot stand there; text in quotes ends with the same quote"),
        ("{{ x", "a tag never ends; write }} or %} behind it"),
        ("{{ }}", "a value is missing before the braces end"),
        ("{% for a in b %}", "the block `for` never ends; write {% endfor %} behind it"),
        ("{% for a in b %}{% endif %}", "`endif` belongs to no block that is open there; the block that is open is `for`"),
        ("{% endif %}", "`endif` belongs to no block that is open there"),
        ("{{ x is foo }}", "there is no test `foo`; to compare, write `==`"),
        ("{{ x|upcase }}", "there is no filter `upcase`; write `upper`"),
    ],
)
def test_why_a_template_does_not_compile_is_told_in_plain_words(source: str, why: str) -> None:
    assert said(source) == why
    assert not PYTHON.search(why)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["{{>a", "{{a:", "{{#", "{%a:", "{{", "a", " ", "{{ ", ":", "{{>'"]),
    st.sampled_from([":", ">", "#", "|", "?"]),
)
def test_no_source_keeps_the_sentence_waiting(piece: str, sign: str) -> None:
    began = time.thread_time()
    meant(f"unexpected '{sign}'", piece * (200_000 // len(piece)), 1)
    assert time.thread_time() - began < 0.5
