"""Which variables a template needs: a list is refused where no row has one, so no row may do without it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import RenderFailed
from mailer.templates import Compiled, Content
from mailer.templates.names import variables


def content(text: str, **files: str) -> Content:
    return Content(name="t", files={"t.txt": text, "s.txt": "s", **files}, subject="s.txt", html=None, text="t.txt")


@pytest.mark.parametrize(
    ("text", "required", "optional"),
    [
        ("{{ a }} {{ b.c }} {{ d['e f'] }}", "abd", ""),
        ("{% if a %}{{ b }}{% else %}{{ c }}{% endif %}", "", "abc"),
        ("{% if a == 'x' %}{{ b }}{% endif %}", "a", "b"),
        ("{{ b if a > 1 else c }}", "a", "bc"),
        ("{{ a or b }}", "", "ab"),
        ("{{ a|default(b) }}", "", "ab"),
        ("{% for x in a %}{{ x }}{{ b }}{% else %}{{ c }}{% endfor %}", "a", "bc"),
        ("{% set x = a %}{{ x }}{% with y = b %}{{ y }}{{ c }}{% endwith %}", "c", "ab"),
        ("{% macro m(x) %}{{ x }}{{ b }}{% endmacro %}{{ m(a) }}{{ m(c.d) }}", "c", "ab"),
        ("{% if a %}{{ b }}{% endif %}{{ b }}", "b", "a"),
        ("{% include 'part' %}", "p", ""),
        ("{% if a %}{% include 'part' %}{% endif %}", "", "ap"),
        ("{% extends 'base' %}{% block one %}{{ a }}{% endblock %}", "b", "acp"),
    ],
)
def test_a_variable_is_required_where_every_row_comes_to_it(text: str, required: str, optional: str) -> None:
    base = "{{ b }}{% block one %}{{ c }}{% endblock %}{% if a %}{% include 'part' %}{% endif %}"
    files = {
        name: source for name, source in {"part": "{{ p }}", "base": base}.items() if f"'{name}'" in text or "'base'" in text
    }
    found = variables(content(text, **files))
    assert ("".join(sorted(found.required)), "".join(sorted(found.optional))) == (required, optional)


NAMES = st.sampled_from("abcde")
LEAVES = st.one_of(
    NAMES.map("{{{{ {} }}}}".format),
    st.tuples(NAMES, NAMES).map(lambda names: "{{{{ {} or {} }}}}".format(*names)),
    st.tuples(NAMES, NAMES).map(lambda names: "{{{{ {} and {} }}}}".format(*names)),
    st.tuples(NAMES, NAMES).map(lambda names: "{{{{ {}|default({}) }}}}".format(*names)),
    st.tuples(NAMES, NAMES, NAMES).map(lambda names: "{{{{ {} if {} else {} }}}}".format(*names)),
    st.tuples(NAMES, NAMES).map(lambda names: "{{{{ {} if {} is defined }}}}".format(*names)),
    st.just("{% include 'part' %}"),
)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(NAMES, inner, inner).map(lambda parts: "{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format(*parts)),
        st.tuples(NAMES, inner).map(lambda parts: "{{% for x in {} %}}{}{{% endfor %}}".format(*parts)),
        st.tuples(NAMES, inner).map(lambda parts: "{{% with y = {} %}}{}{{% endwith %}}".format(*parts)),
        st.tuples(NAMES, inner).map(lambda parts: "{{% set y = {} %}}{}".format(*parts)),
        st.tuples(inner, NAMES).map(lambda parts: "{{% macro m(x) %}}{}{{% endmacro %}}{{{{ m({}) }}}}".format(*parts)),
    )


@given(
    text=st.recursive(LEAVES, nested, max_leaves=6),
    part=LEAVES.filter(lambda leaf: "include" not in leaf),
    data=st.fixed_dictionaries({}, optional=dict.fromkeys("abcde", st.sampled_from(["", "x", "xy"]))),
)
def test_no_row_does_without_a_variable_that_is_required(text: str, part: str, data: dict[str, Any]) -> None:
    compiled = content(text, part=part)
    for name in variables(compiled).required:
        with pytest.raises(RenderFailed):
            Compiled(compiled).pieces({one: value for one, value in data.items() if one != name}, {})
