"""SES's template language."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.templates.handlebars import MissingAttribute, TemplateSyntaxError, compile_template, merge

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


@given(st.text())
def test_any_source_compiles_or_is_refused(source: str) -> None:
    with contextlib.suppress(TemplateSyntaxError):  # and nothing else
        compile_template(source)


@given(st.text(alphabet="{}\\#/ifeachtsx.@ "), st.dictionaries(names, json_values))
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
            said.append(str(error))
    assert len(said) in {0, 2}


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
    ],
)
def test_missing_value(source: str, data: dict[str, Any], path: str) -> None:
    template = compile_template(source)
    for act in (template.render, template.check):
        with pytest.raises(MissingAttribute) as error:
            act(data)
        assert str(error.value) == f"Attribute '{path}' is not present in the rendering data."


@pytest.mark.parametrize(
    "source",
    [
        "{{{a}}}",
        "{{a",
        "{{#if a}}",
        "{{#if a}}{{/each}}",
        "{{/if}}",
        "{{else}}",
        "{{#unless a}}{{/unless}}",
        "{{> part}}",
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
    "source", ["{{#if a}}x{{/if}}", "{{#each a}}x{{/each}}", "{{this}}", "{{this.a}}", "{{@index}}", "{{../a}}"]
)
def test_inline_templates_substitute_only(source: str) -> None:
    compile_template(source)
    with pytest.raises(TemplateSyntaxError):
        compile_template(source, inline=True)
