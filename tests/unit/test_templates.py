"""Templates: what Jinja2 makes of them is what is sent; what they must not do they cannot; errors name what to mend."""

from __future__ import annotations

import hashlib
import os
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailer.errors import IncludeNotFound, RenderFailed, TemplateBroken, TemplateError, TemplateNotFound, TemplateOutside
from mailer.templates import Compiled, Content, Rendered, TemplateFolder

FILES = {
    "base.html": "<html>{% block head %}<title>{{ site }}</title>{% endblock %}<body>{% block body %}{% endblock %}</html>\n",
    "footer.html": "<hr>{{ site }} & {{ name }}",
    "macros.html": "{% macro link(url, t='m') %}<a href='{{ url }}'>{{ t }}</a>{{ caller() if caller is defined }}{% endmacro %}",
}
BODIES = [
    "plain <b>text</b> & entities &amp; {{ '{{' }}",
    "{{ name }}",
    "{{ name }}{{ name }} {{ name|upper }} {{ name|e }} {{ name|safe }} {{ name|length }}",
    "{% extends 'base.html' %}{% block body %}Dear {{ name }}{{ self.head() }}{{ super() }}{% endblock %}",
    "{% include 'footer.html' %}{% for item in items %}{% include 'footer.html' %}{% endfor %}",
    "{% import 'macros.html' as m %}{{ m.link(url) }}{% from 'macros.html' import link %}{{ link(url, name) }}",
    "{% import 'macros.html' as m with context %}{% call m.link(url) %}<i>{{ name }}</i>{% endcall %}",
    "{% set who = name ~ '!' %}{% set long %}<p>{{ who }}</p>{% endset %}{{ long }}{{ who }}",
    "{% for item in items %}{{ loop.index }}{{ item }}{% if not loop.last %}, {% endif %}{% else %}0{% endfor %}",
    "{% if vip %}<b>{{ name }}</b>{% elif items %}{{ items[0] }}{% else %}{{ missing|default('-') }}{% endif %}",
    "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(name) }}{{ f(name)|upper }}{% filter upper %}{{ name }}{% endfilter %}",
    "{% autoescape false %}{{ name }}{% endautoescape %}{{ name }}{% autoescape true %}{{ name }}{% endautoescape %}",
    "{{ items|join(', ') }} {{ data.a.b }} {{ data['a'].b }} {{ 7 // 2 }} {{ '%05.1f'|format(2.25) }} {{ [name] }}",
    "{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ data }}",
    "{% set c = cycler('a', name) %}{% for i in range(3) %}{{ c.next() }}{% endfor %}{{ joiner('|')() }}{{ dict(a=1) }}",
    "{# comment #}{%- if true -%}  x  {%- endif -%}\n\n{% raw %}{{ raw }}{% endraw %}\n",
]  # fmt: skip
DATA: list[dict[str, Any]] = [
    {"name": "Ana", "vip": True, "items": ["x", "<y>"], "url": "https://e.com/?a=1&b=2", "site": "S", "data": {"a": {"b": 1}}},
    {
        "name": '<b>O\'N & "{{ x }}"</b> 😀\ue000',
        "vip": False,
        "items": [],
        "url": "'\"><i>",
        "site": "é<",
        "data": {"a": {"b": "<"}},
    },
]


def inline(html: str = "x", *, subject: str = "s", text: str | None = None, files: Mapping[str, str] | None = None) -> Compiled:
    """`html` as a template among `files`."""
    content = Content.inline(subject=subject, html=html, text=text)
    return Compiled(replace(content, name="t", files={**(files or {}), **content.files}))


def ordinary(name: str, source: str, data: Mapping[str, Any]) -> str:
    env = ImmutableSandboxedEnvironment(
        loader=jinja2.DictLoader({**FILES, name: source}), autoescape=name.endswith(".html"), undefined=jinja2.StrictUndefined
    )
    return env.get_template(name).render(data)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("source", BODIES)
def test_pieces_joined_are_what_jinja2_renders(source: str, data: dict[str, Any]) -> None:
    compiled = inline(source, text=source, files=FILES)
    pieces = compiled.pieces(data)
    assert pieces.html is not None
    assert pieces.text is not None
    assert {type(piece) for piece in pieces.html + pieces.text} <= {str}, "Markup escapes what it is added to"
    assert "".join(pieces.html) == ordinary("body.html", source, data)
    assert "".join(pieces.text) == ordinary("body.txt", source, data)
    assert compiled.render(data) == Rendered("s", "".join(pieces.html), "".join(pieces.text))


def test_values_are_escaped_in_html_and_in_nothing_that_is_read_as_text() -> None:
    rendered = inline("{{ x }}", subject="{{ x }}", text="{{ x }}").render({"x": "<a> & 'b'"})
    assert rendered == Rendered("<a> & 'b'", "&lt;a&gt; &amp; &#39;b&#39;", "<a> & 'b'")


def test_html_without_a_text_body_gets_a_text_part_and_text_alone_gets_no_html() -> None:
    assert inline("<p>Hi <b>{{ x }}</b>").render({"x": "A & B"}).text == "Hi A & B\n"
    compiled = Compiled(Content.inline(subject="s", html=None, text="{{ x }}"))
    assert compiled.render({"x": "<"}) == Rendered("s", None, "<")


ATTACKS = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ name.__init__.__globals__ }}",
    "{{ range.__globals__ }}{{ cycler.__init__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self.__init__ }}{{ self._TemplateReference__context }}",
    "{{ '{0.__class__.__mro__}'.format(name) }}",
    "{{ '{x.__class__}'.format_map({'x': name}) }}",
    "{{ ('{0.__class__}'|attr('format'))(name) }}",
    "{{ ['{0.__class__.__init__}']|map('format', name)|first ~ ('{0.__class__}'.format)(name) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(name) }}",
    "{{ range(10**9)|list|length }}",
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{{ items.append(1) }}",
    "{{ items.clear() }}",
    "{{ data.update({'a': 1}) }}",
    "{{ data.pop('a') }}",
    "{{ data.__setitem__('a', 1) }}",
    "{{ items.sort() }}",
    "{% macro f() %}{% endmacro %}{{ f.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ (items|map(attribute='__class__')|list)[0].__base__ }}",
    "{{ lipsum }}",
    "{{ config }}{{ request }}",
    "{% include '../secret.txt' %}",
    "{% include '/etc/passwd' %}",
    "{% include name %}",
    "{% import 'os' as os %}",
]


@pytest.mark.parametrize("source", ATTACKS)
def test_the_sandbox_refuses(source: str) -> None:
    row = {"name": "Ana", "items": [3, 1], "data": {"a": 0}}
    with pytest.raises(RenderFailed) as caught:
        inline(source).render(row)
    assert row == {"name": "Ana", "items": [3, 1], "data": {"a": 0}}
    assert len(str(caught.value)) < 400
    assert "object at 0x" not in str(caught.value)


def test_nothing_of_one_row_is_seen_by_the_next() -> None:
    macros = "{% set ns = namespace(last='nobody') %}{% set c = cycler('a', 'b') %}" \
             "{% macro f(x) %}{{ ns.last }}{{ c.next() }}{% set ns.last = x %}{% endmacro %}"  # fmt: skip
    for how in ("", " with context"):
        compiled = inline("{% import 'm.html' as m" + how + " %}{{ m.f(name) }}", files={"m.html": macros})
        assert [compiled.render({"name": name}).html for name in ("Ana", "Bob")] == ["nobodya", "nobodya"]
    compiled = inline("{% set who = name %}{% if first %}{% set leak = name %}{% endif %}{{ who }}{{ leak|default('-') }}")
    assert [compiled.render({"name": n, "first": n == "Ana"}).html for n in ("Ana", "Bob")] == ["AnaAna", "Bob-"]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("{{ frist_name }}", "'frist_name'"),
        ("{% for x in frist_name %}{% endfor %}x", "'frist_name'"),
        ("{{ frist_name.x.y }}", "'frist_name'"),
        ("{{ data.frist_name }}", "'frist_name'"),
        ("{{ data['frist_name'] }}", "'frist_name'"),
        ("{{ name.frist_name }}", "'frist_name'"),
        ("{{ frist_name ~ 'x' }}", "'frist_name'"),
        ("{{ frist_name|upper }}", "'frist_name'"),
        ("{{ items[9] }}", "9"),
        ("{% import 'm.html' as m %}{{ m.f() }}", "'frist_name'"),
    ],
)
def test_a_missing_value_is_named_and_costs_its_row_only(source: str, named: str) -> None:
    files = {"m.html": "{% macro f() %}{{ frist_name }}{% endmacro %}"}
    compiled = inline(source, files=files)
    with pytest.raises(RenderFailed, match=named) as caught:
        compiled.render({"name": "Ana", "data": {}, "items": []})
    assert str(caught.value).startswith("the template uses ")
    if "import" not in source:  # macros see what is imported with context only
        whole = {"frist_name": {"x": {"y": 1}}, "data": {"frist_name": 1}, "items": list(range(10))}
        if "name.frist" not in source:
            compiled.render(whole)


characters = st.characters(exclude_categories=["Cs"])
CONTROLS = ["\r", "\n", "\r\n", "\x00", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\nBcc: eve@example.com"]


@settings(deadline=None)
@given(st.text(characters, max_size=8), st.sampled_from(CONTROLS), st.text(characters, max_size=8))
def test_no_line_break_or_control_character_remains_in_a_subject(before: str, control: str, after: str) -> None:
    subject = inline(subject="{{ x }}\n").render({"x": f"a{before}{control}{after}b"}).subject
    assert subject[0] == "a"
    assert subject[-1] == "b"
    assert all(unicodedata.category(one) not in ("Cc", "Zl", "Zp") for one in subject)
    assert len(subject.splitlines()) == 1
    assert "  " not in subject


@pytest.mark.parametrize(
    ("source", "value", "subject"),
    [
        ("News\nfor\n{{ x }}\n", "Ana", "News for Ana"),
        ("{% if x %}\r\n  Hi {{ x }}\r\n{% else %}\r\n  Hi\r\n{% endif %}\r\n", "Ana", "Hi Ana"),
        ("{{ x }}", "Bo\nBerg", "Bo Berg"),  # Alt+Enter in Excel
        ("{{ x }}", "tab\there", "tab here"),
        ("{{ x }}", "Ka\u2028sep", "Ka sep"),
        ("{{ x }}", "a\x00\x1bb \x7f c", "ab c"),
        ("{{ x }}", "Bonjour\u00a0! 100\u202f€ あ\u3000い", "Bonjour\u00a0! 100\u202f€ あ\u3000い"),
        ("\n  {{ x }} \r\n", " Hello  you\n", "Hello you"),
    ],
)
def test_white_space_in_a_subject_is_one_blank(source: str, value: str, subject: str) -> None:
    assert inline(subject=source).render({"x": value}).subject == subject


def test_a_subject_is_not_empty() -> None:
    compiled = inline(subject="\n  {{ x }} \r\n")
    for empty in ("", " \n\t ", "\x00", None):
        with pytest.raises(RenderFailed, match="subject is empty"):
            compiled.render({"x": empty})


@pytest.mark.parametrize(
    "source", ["{{ 1 / zero }}", "{{ name() }}", "{{ name + 1 }}", "{{ 'x' * 10**18 }}", "{{ items|first|sum }}"]
)
def test_whatever_fails_in_a_template_is_the_rows_failure(source: str) -> None:
    with pytest.raises(RenderFailed, match=r"^the template failed on this row, in line 1 of body\.html: it "):
        inline(source).render({"zero": 0, "name": "Ana", "items": [1]})


@pytest.mark.parametrize("source", [r"{{ '\ud83d\ude00' }}", "{{ '%c'|format(code) }}"])
@pytest.mark.parametrize("part", ["subject", "html", "text"])
def test_half_a_character_fails_its_row_and_not_the_call(source: str, part: str) -> None:
    with pytest.raises(RenderFailed, match=r"half a character for this row: U\+D83D"):
        inline(**{part: source}).render({"code": 0xD83D})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [
        "{% extends 'body.html' %}",
        "{% include 'body.html' %}",
        "{% import 'body.html' as x %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_that_uses_itself_ends_at_once(source: str) -> None:
    started = time.monotonic()
    with pytest.raises(RenderFailed, match="itself without end"):
        inline(source).render({})
    assert time.monotonic() - started < 2


# ---- compiling -------------------------------------------------------------------------------------------------------

BROKEN = [
    ("a\n{% if x %}", 2),
    ("a\n\n{{ x", 3),
    ("{{ x|nosuch }}", 1),
    ("\n{% for %}", 2),
    ("{% block a %}{% endblock %}\n{% block a %}{% endblock %}", 2),
    ("{% nosuch %}", 1),
    ("{{ " + "(" * 3000 + "1", 1),
    ("{{ " + "1" * 5000 + " }}", 1),
    ("{% for a in x %}" * 25 + "{% endfor %}" * 25, 1),
]


@pytest.mark.parametrize(("source", "line"), BROKEN)
def test_a_template_that_does_not_compile_names_file_and_line(source: str, line: int) -> None:
    with pytest.raises(TemplateBroken, match=rf"^Template t does not compile: body\.html, line {line}: .+\.$") as caught:
        inline(source)
    assert not str(caught.value).endswith("..")
    with pytest.raises(TemplateBroken, match=r"used\.html, line"):
        inline("{% include 'used.html' %}", files={"used.html": source})


CSS_IDS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,8}|-[a-z]{1,4}", fullmatch=True)


@settings(deadline=None)
@given(CSS_IDS, st.sampled_from(["", "<p>{# a comment #}</p>", "<p>{#- a comment -#}</p>{{ name }}", "{# {#", "#}"]))
def test_an_id_in_css_without_blanks_never_takes_half_the_mail_away(id: str, after: str) -> None:
    css = f"@media(max-width:600px){{#{id}{{width:100%}}}}"
    html = "\r\n<style>{}</style><p>Hi {{{{ name }}}}</p>"
    named = rf"body\.html, line 2: .*`\{{#-?{id.strip('-')}.*; in CSS, write a blank after the brace, `\{{ #hero`"
    with pytest.raises(TemplateBroken, match=named):
        inline(html.format(css) + after)
    for mended in (css.replace("{#", "{ #"), "{% raw %}" + css + "{% endraw %}"):
        assert (inline(html.format(mended)).render({"name": "Ana"}).html or "").endswith("</style><p>Hi Ana</p>")


@pytest.mark.parametrize("inside", ["<p>old</p>", "{{ name }}", "{% if x %}", "a } b"])
@pytest.mark.parametrize("part", ["subject", "html", "text"])
def test_a_comment_that_would_take_markup_out_of_the_mail_is_refused(inside: str, part: str) -> None:
    with pytest.raises(TemplateBroken, match=r"line 2: the comment `\{# .* holds \{, \} or <.*write \{% if false %\}"):
        inline(**{part: f"x\n{{# {inside} #}}y"})  # type: ignore[arg-type]
    assert inline("a{# a comment: (x) = > 'y' #}b{#- another -#} c").render({}).html == "abc"


@pytest.mark.parametrize("source", ["", " \n<!-- {{ name }} -->", "{% if vip %}<p>Hi</p>{% endif %}", "<style>a{}</style>"])
def test_a_row_of_which_a_reader_would_see_nothing_fails(source: str) -> None:
    for compiled in (inline(source or " "), inline(source or " ", text="{% if vip %}Hi{% endif %}\n")):
        with pytest.raises(RenderFailed, match=r"^the message is empty for this row: "):
            compiled.render({"name": "Ana", "vip": False})
    assert inline(source or " ", text="{{ name }}").render({"name": "Ana", "vip": False}).text == "Ana"


# ---- content ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=4),
    st.none() | st.text(max_size=3),
    st.none() | st.text(max_size=3),
)
def test_content_round_trips_and_equal_content_has_one_digest(files: dict[str, str], html: str | None, text: str | None) -> None:
    content = Content(name="n", files=files, subject="s", html=html, text=text)
    again = Content.load(content.dump())
    assert again == content
    turned = Content(name="n", files=dict(reversed(files.items())), subject="s", html=html, text=text)
    assert (
        hashlib.sha256(turned.dump()).digest() == hashlib.sha256(again.dump()).digest() == hashlib.sha256(content.dump()).digest()
    )


def test_content_that_differs_anywhere_has_another_digest() -> None:
    base = Content(name="n", files={"a": "b"}, subject="s", html=None, text="t")
    others = [
        *(replace(base, name="m"), replace(base, files={"a": "c"}), replace(base, files={"c": "b"})),
        *(replace(base, subject="t"), replace(base, html="t", text=None)),
    ]
    assert len({content.dump() for content in (base, *others)}) == 6


# ---- the folder ------------------------------------------------------------------------------------------------------


def write(root: Path, files: Mapping[str, str | bytes]) -> TemplateFolder:
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return TemplateFolder(root)


def letter(root: Path, html: str | bytes, **files: str | bytes) -> TemplateFolder:
    named = {name.replace("__", "."): source for name, source in files.items()}
    return write(root, {"letter/subject.txt": "s", "letter/body.html": html, **named})


def test_content_holds_the_template_with_all_that_it_uses_and_nothing_else(tmp_path: Path) -> None:
    source = (
        "{% extends 'base.html' %}{% block body %}{% import 'macros.html' as m %}{% include 'letter/part.html' %}{% endblock %}"
    )
    folder = letter(tmp_path, source, **FILES)
    write(tmp_path, {"letter/part.html": "{% include 'footer.html' %}", "other.html": "x", "letter/notes.md": "x"})
    content = folder.read("letter")
    assert sorted(content.files) == [
        "base.html",
        "footer.html",
        "letter/body.html",
        "letter/part.html",
        "letter/subject.txt",
        "macros.html",
    ]
    (tmp_path / "base.html").write_text("edited in the middle of the campaign")
    rendered = Compiled(Content.load(content.dump())).render(DATA[0])
    assert rendered.html == "<html><title>S</title><body><hr>S & Ana</html>"


def test_names_are_the_folders_with_a_subject(tmp_path: Path) -> None:
    folder = letter(tmp_path, "x")
    write(tmp_path, {"subject.txt": "of no template", "base.html": "", "nosubject/body.html": "x", "a/b/subject.txt": "x"})
    assert folder.names() == ["a/b", "letter"]
    assert TemplateFolder(tmp_path / "none").names() == []


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A templates folder with a secret beside it."""
    root = tmp_path / "templates"
    write(
        tmp_path,
        {"secret": "secret", "outside/subject.txt": "secret", "outside/body.html": "secret", "templates2/x.html": "secret"},
    )
    letter(root, "x")
    return root


@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "letter/../../outside", "/etc", "..", ".", "", "linked", "loop", "a\x00b", "\ud800"),
        *("x" * 300, "x" * 300 + "/../../outside", "x/" * 5000),
    ],
)
def test_no_name_of_a_template_leads_outside_the_folder(inside: Path, name: str) -> None:
    (inside / "linked").symlink_to(inside.parent / "outside")
    (inside / "loop").symlink_to(inside / "loop")
    with pytest.raises((TemplateOutside, TemplateNotFound)):
        TemplateFolder(inside).read(name)
    absolute = str(inside.parent / "outside")
    with pytest.raises(TemplateOutside, match="reaches outside"):
        TemplateFolder(inside).read(absolute)


@pytest.mark.parametrize(
    "file",
    [
        *("../secret", "letter/../../secret", "{outside}/body.html", "../templates2/x.html", "letter/../.."),
        *("linked.html", "linkeddir/body.html", "loop.html", "a\\x00b"),
    ],
)
@pytest.mark.parametrize(
    "tag",
    ["include '{}'", "extends '{}'", "import '{}' as x", "from '{}' import x", "include ['{}']", "include '{}' ignore missing"],
)
def test_nothing_that_a_template_uses_lies_outside_the_folder(inside: Path, file: str, tag: str) -> None:
    (inside / "linked.html").symlink_to(inside.parent / "secret")
    (inside / "linkeddir").symlink_to(inside.parent / "outside")
    (inside / "loop.html").symlink_to(inside / "loop.html")
    file = file.format(outside=inside.parent / "outside")
    folder = letter(inside, "{% " + tag.format(file) + " %}")
    with pytest.raises(TemplateOutside, match="Template letter reaches outside the templates folder"):
        folder.read("letter")


def test_a_link_inside_the_folder_is_followed_and_so_is_a_linked_root(inside: Path) -> None:
    (inside / "again.html").symlink_to(inside / "letter" / "body.html")
    (inside.parent / "root").symlink_to(inside)
    letter(inside, "secretless")
    write(inside, {"two/subject.txt": "s", "two/body.html": "{% include 'again.html' %}"})
    assert Compiled(TemplateFolder(inside.parent / "root").read("two")).render({}).html == "secretless"


@pytest.mark.parametrize("tag", ["include name", "extends name ~ '.html'", "import name as x", "include ['a.html', name]"])
def test_a_computed_name_of_a_file_is_refused(tmp_path: Path, tag: str) -> None:
    folder = letter(tmp_path, "{% " + tag + " %}", **{"a.html": "x"})
    with pytest.raises(TemplateBroken, match=r"letter/body\.html.*must name its file, not compute it"):
        folder.read("letter")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    folder = letter(tmp_path, "{% include 'footer.html' %}")
    with pytest.raises(IncludeNotFound) as caught:
        folder.read("letter")
    assert str(caught.value) == f"Template letter: letter/body.html, line 1, uses 'footer.html', which is not in {tmp_path}."
    write(tmp_path, {"letter/footer.html": "x"})
    for file in ("footer.html", "./footer.html"):
        letter(tmp_path, "\n{% include '" + file + "' %}")
        with pytest.raises(
            IncludeNotFound, match=r"line 2, uses .*; write 'letter/footer\.html', because names count from there\.$"
        ):
            folder.read("letter")
    with pytest.raises(TemplateNotFound, match=r"no template 'leter' .*; it has: letter\."):
        folder.read("leter")
    with pytest.raises(TemplateNotFound) as lacking:
        write(tmp_path, {"bare/body.html": "x", "bare/betreff.txt": "x"}).read("bare")
    assert str(lacking.value) == (
        f"Template bare has no subject.txt; add it to {tmp_path / 'bare'}, which has: betreff.txt, body.html."
    )
    with pytest.raises(TemplateNotFound, match=r"has no body\.html and no body\.txt; .* has: body\.htm, subject\.txt\.$"):
        write(tmp_path, {"half/subject.txt": "x", "half/body.htm": "x"}).read("half")
    with pytest.raises(TemplateBroken, match=r"empty/subject\.txt, line 1: it is empty"):
        Compiled(write(tmp_path, {"empty/subject.txt": "\n", "empty/body.html": "x"}).read("empty"))
    with pytest.raises(TemplateNotFound, match="MAILER_TEMPLATES_DIR"):
        TemplateFolder(tmp_path / "none").read("letter")
    with pytest.raises(TemplateNotFound):
        folder.read("letter/body.html")


@pytest.mark.parametrize(
    ("source", "used", "shown"),
    [
        ("{% include 'nothere.html' ignore missing %}ok", [], "ok"),
        ("{% include 'part.html' ignore missing %}ok", ["part.html"], "partok"),
        ("{% include ['nothere.html', 'part.html'] %}", ["part.html"], "part"),
        ("{% include ('other.html', 'part.html') %}", ["other.html", "part.html"], "other"),
        ("{% include ['nothere.html', 'nor.html'] ignore missing with context %}ok", [], "ok"),
        ("{% include 'part.html' if lang == 'de' else 'other.html' %}", ["other.html", "part.html"], "part"),
        ("{% extends 'part.html' if lang == 'en' else 'other.html' %}", ["other.html", "part.html"], "other"),
        ("{% include ['part.html' if lang == 'en' else 'nothere.html', 'other.html'] %}", ["other.html", "part.html"], "other"),
        ("{% set x = 1 %}{% import 'macros.html' as m %}{{ m.link('u') }}", ["macros.html"], "<a href='u'>m</a>"),
    ],
)
def test_includes_that_may_be_missing_and_choices_of_files_work(tmp_path: Path, source: str, used: list[str], shown: str) -> None:
    folder = letter(tmp_path, source, **{"part.html": "part", "other.html": "other", "macros.html": FILES["macros.html"]})
    content = folder.read("letter")
    assert sorted(content.files.keys() - {"letter/body.html", "letter/subject.txt"}) == used
    assert Compiled(Content.load(content.dump())).render({"lang": "de"}).html == shown


@pytest.mark.parametrize(
    ("tag", "missing"),
    [
        ("include ['a.html', 'b.html']", "'a.html', 'b.html'"),
        ("include 'a.html' if x else 'b.html'", "'a.html', 'b.html'"),
        ("extends 'a.html'", "'a.html'"),
        ("import 'a.html' as a", "'a.html'"),
        ("from 'a.html' import a", "'a.html'"),
    ],
)
def test_the_files_that_are_missing_are_named_with_the_line(tmp_path: Path, tag: str, missing: str) -> None:
    folder = letter(tmp_path, "{% include 'used.html' %}", **{"used.html": "\n\n{% " + tag + " %}"})
    with pytest.raises(IncludeNotFound, match=rf"^Template letter: used\.html, line 3, uses {missing}, which is not in "):
        folder.read("letter")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateBroken, match=r"letter/body\.html.*is not UTF-8"):
        letter(tmp_path, "Grüße".encode("latin-1")).read("letter")
    with pytest.raises(TemplateBroken, match=r"letter.*cannot be read \(Is a directory\)"):
        letter(tmp_path, "{% include 'letter' %}").read("letter")


def test_the_mark_that_windows_editors_write_does_not_get_into_the_mail(tmp_path: Path) -> None:
    folder = write(tmp_path, {"letter/subject.txt": b"\xef\xbb\xbfHi\r\n", "letter/body.txt": b"\xef\xbb\xbfline\r\nline\r\n"})
    assert Compiled(folder.read("letter")).render({}) == Rendered("Hi", None, "line\nline")


@pytest.mark.parametrize(("source", "line"), BROKEN)
def test_the_folder_names_file_and_line_too(tmp_path: Path, source: str, line: int) -> None:
    folder = letter(tmp_path, "{% include 'used.html' %}", **{"used.html": source})
    with pytest.raises(TemplateBroken, match=rf"Template letter does not compile: used\.html, line {line}: "):
        Compiled(folder.read("letter"))


@pytest.mark.parametrize("tag", ["extends", "include"])
def test_files_that_use_each_other_are_read_once_and_fail_at_once(tmp_path: Path, tag: str) -> None:
    started = time.monotonic()
    folder = letter(
        tmp_path, f"{{% {tag} 'a.html' %}}", **{"a.html": f"{{% {tag} 'b.html' %}}", "b.html": f"{{% {tag} 'a.html' %}}"}
    )
    content = folder.read("letter")
    assert len(content.files) == 4
    with pytest.raises(RenderFailed, match="itself without end"):
        Compiled(content).render({})
    assert time.monotonic() - started < 2


@settings(deadline=None)
@given(st.text(max_size=12))
def test_no_name_makes_anything_but_a_template_error(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp()
    with pytest.raises(TemplateError):
        TemplateFolder(root / "templates-of-nobody").read(name + os.sep)


def test_of_many_templates_those_that_are_called_nearly_so_are_named_first(tmp_path: Path) -> None:
    for name in (*(f"campaign-{number:02}" for number in range(40)), "welcome", "flat-sale"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "subject.txt").write_text("x")
    with pytest.raises(TemplateNotFound) as caught:
        TemplateFolder(tmp_path).read("wellcome")
    known = str(caught.value).partition("it has: ")[2]
    assert known.startswith("welcome, campaign-00, ")
    assert (known.count(", "), known.endswith(" and 32 more.")) == (9, True)
