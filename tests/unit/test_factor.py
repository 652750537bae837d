"""What a bulk call says once and what it says for each: put together again, it is every message as it was rendered."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailer.compose.shared_template import Segment, Slots, segments, template, text_segments
from mailer.templates import Compiled, Content
from mailer.templates.handlebars import compile_template
from mailer.templates.text import html_to_text

# What Handlebars, HTML or the seams between pieces could trip over.
NASTY = [
    "{",
    "}",
    "{{",
    "}}",
    "{{{",
    "}}}",
    "\\",
    "\\\\",
    "\\{{",
    "{{x}}",
    "{{v0}}",
    "{{!--",
    "{{~",
    "{{#if x}}",
    "&",
    "<b>",
    '"',
    "'",
]
NASTY += ["\n", "\r\n", "\t", " ", "\x00", "\u2028", "é", "😀", "\ue000", "\ue0000\ue001", "\ue0001\ue000", "\uf8ff", "1. ", "—"]
pieces = st.one_of(st.sampled_from(["", *NASTY]), st.text(max_size=4), st.lists(st.sampled_from(NASTY), max_size=4).map("".join))


@st.composite
def messages(draw: st.DrawFn) -> list[list[str]]:
    """Rows of pieces as a template makes them: most columns the same for all; sometimes of different lengths."""
    count = draw(st.integers(1, 5))
    if draw(st.integers(0, 5)) == 0:
        return draw(st.lists(st.lists(pieces, max_size=5), min_size=count, max_size=count))
    same = pieces.map(lambda text: [text] * count)
    columns = draw(st.lists(st.one_of(same, st.lists(pieces, min_size=count, max_size=count)), max_size=10))
    return [[column[i] for column in columns] for i in range(count)]


def assembled(source: str, data: dict[str, str]) -> str:
    """Inline Handlebars in a few lines, stricter than the real one: any brace pair or escape that is not `{{vN}}` fails."""
    parts = re.split(r"\{\{(v\d+)\}\}", source)
    for i, text in enumerate(parts[::2]):
        assert "{{" not in text
        assert i == 0 or not text.startswith("}"), "a brace that would belong to the tag before it"
        assert i == len(parts) // 2 or not text.endswith(("{", "\\")), "a brace or escape that would belong to the tag after it"
    return "".join(data[text] if i % 2 else text for i, text in enumerate(parts))


def each(parts: Sequence[Segment], count: int) -> list[str]:
    return ["".join(part if isinstance(part, str) else part[i] for part in parts) for i in range(count)]


@settings(max_examples=400, deadline=None)
@given(messages())
@example([["{", "a"], ["{", "b"]])
@example([["\\", "a", "}"], ["\\", "b", "}"]])
@example([["a{{", "x", "}}{"], ["a{{", "y", "}}{"]])
@example([["{{{{{"], ["{{{{{"]])
@example([["\\\\\\{{"], ["\\\\\\{{"]])
@example([["a", "}", "b", "{", "\\"], ["c", "}", "d", "{", "\\"]])
@example([["a"], ["a", "b"]])
def test_handlebars_gives_back_every_message_exactly(rows: list[list[str]]) -> None:
    slots, count = Slots(), len(rows)
    source = template(segments(rows), count, slots)
    compiled = compile_template(source, inline=True)
    for i, row in enumerate(rows):
        data = {name: values[i] for name, values in slots.values.items()}
        assert compiled.render(data) == "".join(row)
        assert assembled(source, data) == "".join(row)


@settings(deadline=None)
@given(st.lists(messages(), min_size=1, max_size=3))
def test_parts_that_share_slots_do_not_disturb_each_other(parts: list[list[list[str]]]) -> None:
    count = min(map(len, parts))
    slots = Slots()
    sources = [template(segments(rows[:count]), count, slots) for rows in parts]
    for i in range(count):
        data = {name: values[i] for name, values in slots.values.items()}
        assert [compile_template(s, inline=True).render(data) for s in sources] == ["".join(rows[i]) for rows in parts]
    assert len(set(slots.values.values())) == len(slots.values), "two slots that vary in the same way are one"


def test_what_is_the_same_in_all_messages_is_said_once() -> None:
    slots = Slots()
    rows = [["<p>Dear ", name, ", of ", "Acme", "</p>", name] for name in ("Ana", "Bob")]
    assert template(segments(rows), 2, slots) == "<p>Dear {{v0}}, of Acme</p>{{v0}}"
    assert slots.values == {"v0": ("Ana", "Bob")}


def test_a_value_that_all_rows_share_does_not_escape_the_html_before_it() -> None:
    """Jinja2 hands escaped values out as Markup, and `"<p>" + Markup("Acme")` is `&lt;p&gt;Acme`."""
    compiled = Compiled(Content.inline(subject="s", html="<p>{{ company }}</p><b>{{ name }}</b>{{ company }}</i>", text=None))
    data = [{"company": "A & B <i>", "name": name} for name in ("Ana", "Bob <x>")]
    slots = Slots()
    source = template(segments([compiled.pieces(row).html or [] for row in data]), 2, slots)
    for i, row in enumerate(data):
        values = {name: values[i] for name, values in slots.values.items()}
        assert assembled(source, values) == compiled.render(row).html


# ---- the text part ---------------------------------------------------------------------------------------------------

FRAMES = [
    "<p>Dear {{ x }}, hello</p>",
    "<h1>{{ x }}</h1><p>Bye {{ y }}.</p>",
    "<ul><li>{{ x }}</li><li>{{ y }}</li></ul><ol start=3><li>{{ x }}</li></ol>",
    "<table><tr><td>{{ x }}</td><td>{{ y }}</td></tr></table>",
    "<blockquote>{{ x }}<br>{{ y }}</blockquote>",
    '<a href="https://example.com/{{ x }}?a=1&amp;b={{ y }}">go {{ y }}</a>',
    "<a href='{{ x }}'>{{ y }} (here)</a>",
    '<a href="/a(b)[c]" title="{{ y }}">{{ x }}</a>',
    '<img src="x.png" alt="{{ x }} (logo)"> <a href="u"><img src="y.png" alt="{{ y }}"></a>',
    "<head><title>{{ x }}</title><style>p { color: red }</style></head><body>{{ y }}</body>",
    "<!-- {{ x }} --><p style='color: {{ x }}'><b>{{ y }}</b><i>!</i> <code>{{ x }}</code></p>",
    "{{ x }}",
    "{{ x }}{{ y }}",
    "1. {{ x }}<br>- {{ y }}<br>+ a",
    "<p>\ue000\ue0000\ue001 &#xe001;0&#xe001; &#57346;1&#57346; {{ x }} \ue0005\ue000 {{ y }}</p>",
    "<pre>{{ x }}\n  {{ y }}</pre>",
    "<h{{ n }}>{{ x }}</h{{ n }}>{{ y }}",
    '<ol start="{{ n }}"><li>{{ x }}</li></ol>{{ y }}',
]
BROKEN = "</style></head>{{ x }}<![x[{{ y }}"  # nothing but its tags is taken out
INVISIBLE = "\u00ad\u034f\u200b\u2060\ufeff"
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=INVISIBLE), min_size=1, max_size=6)
names = st.one_of(
    st.lists(words, min_size=1, max_size=3).map(" ".join),
    st.sampled_from(
        [
            "O'Neill & <Sons>",
            "1.",
            "- x",
            "a\\*b",
            "{{x}}",
            "a\u2028\nb",
            "[a](b)",
            "#",
            "\ue0000\ue000",
            "&amp;",
            "&nbsp;",
            "*",
            "_x_",
        ]
    ),
)


def bulk_texts(source: str, data: Sequence[dict[str, str]]) -> tuple[list[str], list[str]]:
    """The text part of each row: as the bulk call's segments make it, and as the whole HTML makes it."""
    compiled = Compiled(Content.inline(subject="s", html=source, text=None))
    rows = [compiled.pieces(row).html or [] for row in data]
    found = text_segments(segments(rows), len(rows))
    return each(found or ["\n"], len(rows)), [html_to_text("".join(row)) for row in rows]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize("source", FRAMES)
@given(rows=st.lists(st.tuples(names, names, st.integers(1, 6).map(str)), min_size=1, max_size=3))
def test_text_of_a_bulk_message_is_that_of_its_whole_html(source: str, rows: list[tuple[str, str, str]]) -> None:
    found, wanted = bulk_texts(source, [{"x": x, "y": y, "n": n} for x, y, n in rows])
    assert found == wanted


def test_a_link_of_whose_address_or_text_a_part_is_a_value_is_written_as_each_message_needs_it() -> None:
    rows = [
        {"x": "https://e.com/?a=1&b=2", "y": "here"},
        {"x": "#top", "y": "up"},
        {"x": "https://e.com", "y": "e.com"},
        {"x": "https://e.com/a", "y": ""},
    ]
    found, wanted = bulk_texts("<a href='{{ x }}'>{{ y }}</a> <a href='{{ x }}'>{{ x }}</a> <a href='/u?{{ y }}'>z</a>.", rows)
    assert found == wanted
    assert found[:2] == ["here (https://e.com/?a=1&b=2) https://e.com/?a=1&b=2 z (/u?here).\n", "up #top z (/u?up).\n"]
    assert found[3:] == ["https://e.com/a https://e.com/a z (/u?).\n"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([BROKEN, *(frame for frame in FRAMES if "href='{{" not in frame)]),
    st.lists(st.tuples(pieces, pieces), min_size=1, max_size=3),
)
def test_text_with_odd_blanks_differs_in_nothing_but_blanks(source: str, rows: list[tuple[str, str]]) -> None:
    found, wanted = bulk_texts(f".{source}", [{"x": x, "y": y, "n": "1"} for x, y in rows])
    assert [re.sub(r"\s", "", text) for text in found] == [re.sub(r"\s", "", text) for text in wanted]


def test_blanks_at_the_edges_of_a_value_keep_words_apart() -> None:
    found, _ = bulk_texts("Dear{{ x }}and{{ y }}!", [{"x": " Ana & Bob ", "y": "\nEve\t"}, {"x": " ", "y": " & "}])
    assert found == ["Dear Ana & Bob and Eve !\n", "Dear and & !\n"]


@pytest.mark.parametrize(
    ("source", "row", "text"),
    [
        ("<p>Hi{% if vip %} <b>gold</b> member{% else %}<i>!</i>{% endif %} bye</p>", {"vip": True}, "Hi gold member bye\n"),
        ("<p>{% if vip %}<a href='https://e.com/'>{% else %}<a href='https://e.org/'>{% endif %}go</a>", {"vip": 1}, "go (https://e.com/)\n"),
        ("<p>a{{ x|safe }}b</p>", {"vip": 0, "x": "<br>&lt;c&gt;&nbsp;&copy;"}, "a\n<c> ©b\n"),
        ("<a href='{{ x|safe }}'>b</a>", {"vip": 0, "x": "https://e.com/?a=1&b=2"}, "b (https://e.com/?a=1&b=2)\n"),
        ("<p>{{ x|safe }}</p>", {"vip": 0, "x": "<![x[>&#" + "1" * 5000 + ";</style>"}, "\ufffd\n"),
        ("<a href='/{{ x|safe }}'>b</a>", {"vip": 0, "x": "' hidden title='c"}, "\n"),
        ("<p style='{{ x }}'>b</p>", {"vip": 0, "x": "display: none"}, "\n"),
        ("<p title={{ x }}>b</p>", {"vip": 0, "x": "a hidden"}, "\n"),
        ("<pre>{{ x }}</pre>", {"vip": 0, "x": "a\n  b"}, "a\n  b\n"),
        ("<!-- {{ x }}>c-->d", {"vip": 0, "x": "--"}, "c-->d\n"),
        ("<b>19<sup>{{ x }}</sup></b>", {"vip": 0, "x": "99"}, "19 99\n"),
        ("<a href='/?a=1&{{ x }}=2'>b</a>", {"vip": 0, "x": "copy"}, "b (/?a=1&copy=2)\n"),
    ],
)  # fmt: skip
def test_values_with_markup_are_read_in_their_place(source: str, row: dict[str, str], text: str) -> None:
    found, wanted = bulk_texts(source, [row, {**row, "vip": "", "x": "<i>z</i>"}, row])
    assert found == wanted
    assert found[0] == found[2] == text


BITS = [
    "<",
    ">",
    "/",
    "!",
    "[",
    "]",
    "-",
    "--",
    "&",
    "#",
    "x",
    "9",
    ";",
    "a",
    " ",
    "=",
    "'",
    '"',
    "\n",
    "b",
    "?",
    "cdata[",
    "href",
]
BITS += ["abbr", "ol", "li", "style", "head", "pre", "p", "table", "td", "title", "script", "q", "blockquote"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(BITS), max_size=25).map("".join))
def test_no_html_however_broken_stops_the_text_part(source: str) -> None:
    assert html_to_text(source).endswith("\n")
    found, wanted = bulk_texts("<p>.{{ x|safe }}</p>", [{"x": source}, {"x": "<b>"}])
    assert found == wanted


def test_text_uses_no_character_of_the_text_as_its_mark() -> None:
    """Private-use characters, written out or as references, in front of slots that they would name."""
    everything = "".join(map(chr, range(0xE000, 0xF900)))
    for text in ("\ue0000\ue000", "&#xE000;0&#xe000;", "&#57344;1&#57344;", everything):
        found, wanted = bulk_texts(
            f"{text} {{{{ x }}}} and {{{{ y }}}}", [{"x": "Ana", "y": "\ue0011\ue001"}, {"x": "B", "y": "C"}]
        )
        assert found == wanted


def test_a_link_and_a_number_are_readable_as_they_are() -> None:
    assert html_to_text("<p>1. a\\*b <a href='https://e.com/a_(b)[c]'>x (y)</a> <img src=i alt='c (d)'>") == (
        "1. a\\*b x (y) (https://e.com/a_(b)[c]) c (d)\n"
    )  # fmt: skip


def test_an_end_tag_too_many_silences_nothing_and_a_tooltip_is_not_text() -> None:
    assert html_to_text("</head></style></script><p>a</p><style>b</style><a href='u' title='c'>d</a>") == "a\n\nd (u)\n"
