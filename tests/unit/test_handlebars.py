"""SES's template language."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.templates.handlebars import MAX_DEPTH, MissingAttribute, TemplateSyntaxError, compile_template, merge

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(lambda name: name not in {"this", "else"})
literal = st.text().map(lambda text: text.replace("{", "(").replace("\\", "/"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def render(source: str, data: dict[str, Any], *, inline: bool = False) -> str:
    return compile_template(source, inline=inline).render(data)


@given(names, st.text(), literal, literal)
def test_substitution_is_verbatim(name: str, value: str, before: str, after: str) -> None:
    assert render(f"{before}{{{{{name}}}}}{after}", {name: value}, inline=True) == before + value + after


@given(literal)
def test_text_without_braces_is_left_alone(text: str) -> None:
    assert render(text, {}) == text


# Pieces of the language in any order: random characters seldom make a tag.
WORDS = [
    " ",
    *re.split(
        r"\s{2,}",
        r"""{{  }}  {{~  ~}}  {{{  }}}  \{{  \\{{  {{!  {{!--  --}}  [  ]  ~  #  /  >  *  "  '  =  (  )  |  a  b  x
        {{a}}  {{a.b}}  {{a.0}}  {{this}}  {{.}}  {{../a}}  {{@index}}  {{@key}}  {{amazonSESUnsubscribeUrl}}  {{f a}}
        {{else}}  {{^}}  {{#if a}}  {{#if}}  {{else if b}}  {{/if}}  {{#unless b}}  {{/unless}}  {{#each a}}  {{else each b}}
        {{/each}}  {{#with a}}  {{/with}}  {{#a}}  {{/a}}  {{#*inline "p"}}  {{#* inline 'q'}}  {{/inline}}  {{> p}}  {{>q}}
        {{> "p"}}""",
    ),
]
sources = st.text() | st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=25).map("".join)
values = st.fixed_dictionaries({}, optional={"a": json_values, "b": json_values, "x": json_values}) | st.dictionaries(
    names, json_values
)


@pytest.mark.slow
@given(sources, values)
@settings(max_examples=500)
def test_any_source_compiles_or_is_refused(source: str, data: dict[str, Any]) -> None:
    """And nothing else: a missing value is all that can go wrong with a template that was taken."""
    with contextlib.suppress(TemplateSyntaxError, MissingAttribute):
        compile_template(source).render(data)
    with contextlib.suppress(TemplateSyntaxError, MissingAttribute):
        compile_template(source, inline=True).render(data)


@pytest.mark.slow
@given(sources, values)
@settings(max_examples=500)
def test_check_says_what_render_would(source: str, data: dict[str, Any]) -> None:
    try:
        template = compile_template(source)
    except TemplateSyntaxError:
        return
    said = []
    for act in (template.check, template.render):
        try:
            act(data)
        except MissingAttribute as error:
            said.append(error.path)
    assert len(said) in {0, 2}
    assert len(set(said)) <= 1


@pytest.mark.slow
@given(st.dictionaries(names, json_values), st.dictionaries(names, json_values))
def test_merge(defaults: dict[str, Any], entry: dict[str, Any]) -> None:
    merged = merge(defaults, entry)
    assert merged.keys() == defaults.keys() | entry.keys()
    for key, value in merged.items():
        if key not in entry:
            assert value == defaults[key]
        elif isinstance(entry[key], dict) and isinstance(defaults.get(key), dict):
            assert value == merge(defaults[key], entry[key])
        else:
            assert value == entry[key]
    assert merge(defaults, {}) == defaults


@pytest.mark.parametrize(
    ("source", "data", "expected"),
    [
        ("{{ a.b.c }}", {"a": {"b": {"c": "x"}}}, "x"),
        ("{{a.[b c]}}", {"a": {"b c": "x"}}, "x"),
        ("{{a.1}}", {"a": ["x", "y"]}, "y"),
        ("{{a}}", {"a": "<b>&amp;</b>"}, "<b>&amp;</b>"),
        ("{{a}}", {"a": "{{b}}"}, "{{b}}"),
        ("{{a}}/{{b}}/{{c}}/{{d}}", {"a": 1, "b": 1.5, "c": True, "d": None}, "1/1.5/true/"),
        (r"\{{a}} {{a}}", {"a": "x"}, "{{a}} x"),
        (r"\{{a}} \{{b}}", {}, "{{a}} {{b}}"),
        (r"\\{{a}}", {"a": "x"}, r"\x"),
        ("a{{! nothing }}b{{!-- }} --}}c", {}, "abc"),
        ("}} { {", {}, "}} { {"),
        ("{{#if a}}yes{{else}}no{{/if}}", {"a": [1]}, "yes"),
        ("{{#if a}}yes{{else}}no{{/if}}", {"a": []}, "no"),
        ("{{#if a}}yes{{else}}no{{/if}}", {"a": {}}, "yes"),
        ("{{#if a}}{{a}}{{else}}no{{/if}}", {}, "no"),
        ("{{#if a}}{{#if b}}2{{/if}}1{{/if}}", {"a": 1, "b": 1}, "21"),
        ("{{#each a}}{{@index}}:{{this}}{{#if @last}}.{{else}}, {{/if}}{{/each}}", {"a": ["x", "y"]}, "0:x, 1:y."),
        ("{{#each a}}{{name}}{{this.name}}{{../b}};{{/each}}", {"a": [{"name": "x"}, {"name": "y"}], "b": "z"}, "xxz;yyz;"),
        ("{{#each a}}{{@key}}={{this}} {{/each}}", {"a": {"x": 1, "y": 2}}, "x=1 y=2 "),
        ("{{#each a}}x{{else}}none{{/each}}", {"a": []}, "none"),
        ("{{#each a}}{{#each this}}{{../../b}}{{this}}{{/each}}|{{/each}}", {"a": [[1, 2], [3]], "b": "-"}, "-1-2|-3|"),
        ("{{#unless a}}no{{else}}yes{{/unless}}", {"a": 1}, "yes"),
        ("{{#unless a}}no{{/unless}}", {}, "no"),
        ("{{#with a}}{{b}}{{../c}}{{else}}none{{/with}}", {"a": {"b": 1}, "c": 2}, "12"),
        ("{{#with a}}{{this}}{{else}}none{{/with}}", {"a": 0}, "0"),
        ("{{#with a}}x{{else}}none{{/with}}", {"a": []}, "none"),
        ("{{#with a}}x{{else}}none{{/with}}", {}, "none"),
        ("{{#each l}}{{#with this}}{{@index}}{{x}}{{/with}}{{/each}}", {"l": [{"x": "a"}, {"x": "b"}]}, "0a1b"),
        ("{{#if a}}1{{else if b}}2{{else}}3{{/if}}", {"a": 1, "b": 1}, "1"),
        ("{{#if a}}1{{else if b}}2{{else}}3{{/if}}", {"b": 1}, "2"),
        ("{{#if a}}1{{else if b}}2{{else if c}}3{{else}}4{{/if}}", {}, "4"),
        ("{{#if a}}1{{else each b}}{{this}}{{/if}}", {"b": [2, 3]}, "23"),
        ("{{#if\n a}}1{{else\tif b}}2{{/ if}}", {"b": 1}, "2"),
        ('{{#* inline "n"}}{{f}} {{l}}{{/inline}}Hi {{> n}}!', {"f": "A", "l": "B"}, "Hi A B!"),
        ("{{>n}}{{#*inline 'n'}}{{#if a}}{{a}}{{else}}-{{/if}}{{/inline}}", {"a": "x"}, "x"),
        ('{{#*inline "a b"}}{{x}}{{/inline}}{{#each l}}{{> "a b"}}{{/each}}', {"l": [{"x": 1}, {"x": 2}]}, "12"),
        ('{{#*inline "a"}}({{> b}}){{/inline}}{{#*inline "b"}}{{x}}{{/inline}}{{> a}}{{> b}}', {"x": 1}, "(1)1"),
        ("a {{~b~}} c {{d~}} \n e", {"b": "B", "d": "D"}, "aBc De"),
        ("a {{~! note ~}} b {{!-- note --~}} c", {}, "ab c"),
        ("{{#if a~}} x {{~else~}} y {{~/if}} z", {"a": 1}, "x z"),
        (r"\{{a}}  {{~b}}", {"b": "x"}, "{{a}}x"),
        ("{{!--}}x{{!-- --}}", {}, "x"),
        ("{{amazonSESUnsubscribeUrl}} {{ses:openTracker}}", {}, "{{amazonSESUnsubscribeUrl}} {{ses:openTracker}}"),
    ],
)
def test_render(source: str, data: dict[str, Any], expected: str) -> None:
    assert render(source, data) == expected


@pytest.mark.parametrize(
    ("source", "data", "path"),
    [
        ("{{a}}", {}, "a"),
        ("{{a.b}}", {"a": "x"}, "a.b"),
        ("{{A}}", {"a": "x"}, "A"),
        ("{{#each l}}{{c}}{{/each}}", {"l": [{}], "c": "x"}, "c"),
        ("{{../a}}", {"a": "x"}, "../a"),
        ("{{@index}}", {"index": 1}, "@index"),
        ("{{a.5}}", {"a": [1]}, "a.5"),
        (f"{{{{a.{'9' * 5000}}}}}", {"a": [1]}, f"a.{'9' * 5000}"),
        ("{{#with a}}{{c}}{{/with}}", {"a": {"b": 1}, "c": 1}, "c"),
        ("{{#if a}}x{{else}}{{b}}{{/if}}", {}, "b"),
        ('{{#*inline "n"}}{{x}}{{/inline}}{{> n}}', {}, "x"),
    ],
)
def test_missing_value(source: str, data: dict[str, Any], path: str) -> None:
    template = compile_template(source)
    for act in (template.render, template.check):
        with pytest.raises(MissingAttribute) as error:
            act(data)
        assert str(error.value) == f"Attribute '{path}' is not present in the rendering data."
        assert error.value.path == path


@pytest.mark.parametrize(
    "source",
    [
        "{{{a}}}",
        "{{a",
        "{{#if a}}",
        "{{#if a}}{{/each}}",
        "{{/if}}",
        "{{else}}",
        "{{> part}}",
        '{{#*inline "n"}}{{/inline}}{{> n a}}',
        '{{#*inline "n"}}{{/inline}}{{> n a=1}}',
        '{{#*inline "n"}}{{else}}{{/inline}}',
        '{{#*inline "n"}}1{{/inline}}{{#*inline "n"}}2{{/inline}}',
        '{{#*inline "n"}}x{{> n}}{{/inline}}{{> n}}',
        '{{#*inline "n"}}{{> m}}{{/inline}}{{#*inline "m"}}{{> n}}{{/inline}}{{> n}}',
        "{{#*inline n}}{{/inline}}{{> n}}",
        "{{#> layout}}{{/layout}}",
        "{{~{a}~}}",
        "{{~}}",
        "{{#if a}}1{{else if b}}2{{/unless}}",
        "{{#if a}}1{{else}}2{{else if b}}3{{/if}}",
        "{{#if a}}1{{else f b}}2{{/if}}",
        "{{#with a as |b|}}{{/with}}",
        "{{#each a as |b|}}{{/each}}",
        "{{#lookup a b}}{{/lookup}}",
        "{{!-- never closed }}",
        "{{f a}}",
        "{{}}",
        "{{#if a}}{{else}}{{else}}{{/if}}",
        "{{#if}}x{{/if}}",
        "{{a b=1}}",
        "{{&a}}",
    ],
)
def test_refused(source: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        compile_template(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{#if a}}x{{/if}}",
        "{{#each a}}x{{/each}}",
        "{{this}}",
        "{{this.a}}",
        "{{@index}}",
        "{{../a}}",
        "{{~a}}",
        "{{a~}}",
        "{{#*inline 'n'}}{{/inline}}{{> n}}",
    ],
)
def test_inline_templates_substitute_only(source: str) -> None:
    compile_template(source)
    with pytest.raises(TemplateSyntaxError):
        compile_template(source, inline=True)


def nested(depth: int) -> str:
    return "{{#if a}}" * depth + "x" + "{{/if}}" * depth


def chained(depth: int) -> str:
    """Partials that are each part of the next."""
    partials = "".join(f"{{{{#*inline 'p{n}'}}}}{{{{> p{n - 1}}}}}{{{{/inline}}}}" for n in range(1, depth))
    return f"{{{{#*inline 'p0'}}}}x{{{{/inline}}}}{partials}{{{{> p{depth - 1}}}}}"


@pytest.mark.parametrize("make", [nested, chained])
def test_depth_is_bounded(make: Callable[[int], str]) -> None:
    assert render(make(MAX_DEPTH), {"a": 1}) == "x"
    for depth in (MAX_DEPTH + 1, 20_000):
        with pytest.raises(TemplateSyntaxError, match=str(MAX_DEPTH)):
            compile_template(make(depth))


def test_partials_that_double_each_other_are_bounded() -> None:
    """Forty lines that would make a trillion parts."""
    partials = "".join(f"{{{{#*inline 'p{n}'}}}}{{{{> p{n - 1}}}}}{{{{> p{n - 1}}}}}{{{{/inline}}}}" for n in range(1, 40))
    with pytest.raises(TemplateSyntaxError, match="parts"):
        compile_template(f"{{{{#*inline 'p0'}}}}x{{{{/inline}}}}{partials}{{{{> p39}}}}")


def test_data_that_is_nested_deeper_than_json_is_written() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    assert render("{{a}}", {"a": value}) == "[object Object]"
    compile_template("{{a}}").check({"a": value})
