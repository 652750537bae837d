"""A message of which a reader sees nothing is told from one that shows anything at all."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.templates.blank import MAX_LOOKED_AT, MAX_READ, is_blank, shows_nothing

from ..hostile.bodies import PIECES

NOTHING = [
    *("", " \n\t", "   \n<!-- nothing -->\n", "<p></p>", "<a href='https://e.com'></a>", "\u200b\ufeff&nbsp;&zwnj;&#8203;&#xA0;"),
    "<!doctype html><html><head><title>News</title><style>a > b { top: 0 }</style></head><body><table><tr><td>&nbsp;</td></tr>"
    "</table><script>if (a > b) c()</script></body></html>",
    *("<STYLE>x</StyLe >", "<!--[if mso]><p>for Outlook</p><![endif]-->", "<![if !mso]><![endif]>", "<?xml version='1.0'?><br>"),
]
SOMETHING = [
    *("x", "<p>x", "<3", "a < b", "&amp;", "&nbsp;&eacute;", "<title/>x", "<title/><p>x</p>", "<p>&nbsp;</p>."),
    *("<img src='https://e.com/a.png'>", "<IMG SRC=x>", "<svg></svg>", "<hr>", "<v:rect></v:rect>", "<button></button>"),
    *("<td background='https://e.com/a.png'></td>", "<div style=\"background-image:url(x)\"></div>"),
    *("<style>a{}</style><p>x", "<!-- a --> x <!-- b -->", "<head><meta charset=utf-8><body>x", "<a title='>'>x</a>"),
]  # fmt: skip
HIDDEN = [
    *(
        "<div style='display:none'>x</div>",
        "<p hidden>x</p>",
        "<div style='font-size:0'>x <b>y</b></div>",
        "<p hidden><p hidden>x",
    ),
    *("<div style='display:none'>a<div>b</div>c<img src='x.png'></div>\n", "<span style='opacity:0'>x<!-- > -->y</span>"),
    *("<img src='o.gif' width='1' height='1'>", "<IMG width=1px height=0 src=o>", "<img src=x style='display:none'>"),
    *("<div hidden>a < b <style>x</style>", "<div style='display:none'>{}</div><p>&nbsp;</p><img width=1 height=1>"),
    *("<div style='text-indent:-9999px'>x</div>", "<table><tr><td style='display:none'>x<td></table>"),
]
BESIDE_HIDDEN = [
    *(
        "<div style='display:none'>x</div>y",
        "<div style='display:none'><div>a</div>b</div><p>y",
        "<p hidden>x<p>y",
        "<p hidden>x<div>y",
    ),
    *("<table><tr><td hidden>x<td>y</table>", "<table><tr><td><i hidden>x</td><td>y</table>", "<i style='mso-hide:all'>x</i>"),
    *("<td style='font-size:0'><div style='font-size:13px'>x</div></td>", "<td style='font-size:0px'><img src=x></td>"),
    *("<td style='font-size:0'><div class=a>x</div></td>", "<td style='font-size:0'><table><tr><td>x</table>"),
    *("<p aria-hidden='true'>x</p>", "<img src=x width=1 height=200>", "<img src=x width=1>", "<img width=1 height=1>x"),
    *(
        "<p style='display:none;display:block'>x",
        "<img style='font-size:0' src=x>",
        "<div hidden>x</div><select><option>x</select>",
    ),
    *("<div hidden>x</div><textarea>x</textarea>", "<div hidden>x</div><td background='a.png'>"),
]
UNSURE = ["<style>never ends", "<!-- never ends", "<p title='never ends", "<", "<im"]


@pytest.mark.parametrize("html", NOTHING + HIDDEN)
def test_html_that_shows_nothing_is_blank(html: str) -> None:
    assert is_blank([html], None)
    assert is_blank([html], [" \n", "\u200b"])
    assert not is_blank([html], ["", "x"])


@pytest.mark.parametrize("html", SOMETHING + UNSURE + BESIDE_HIDDEN)
def test_html_that_shows_anything_or_may_is_not_blank(html: str) -> None:
    assert not is_blank([html], None)
    assert not is_blank([html], [""])


def test_text_alone_is_blank_where_it_has_no_character_that_is_seen() -> None:
    assert is_blank(None, [])
    assert is_blank(None, [" ", "\r\n\u00a0"])
    assert not is_blank(None, [" ", "."])


@settings(deadline=None)
@given(st.sampled_from(SOMETHING + BESIDE_HIDDEN), st.data())
def test_however_it_is_cut_what_shows_anything_is_never_taken_for_blank(html: str, data: st.DataObject) -> None:
    between_words = [n for n in range(len(html) + 1) if not (0 < n < len(html) and html[n - 1 : n + 1].isalnum())]
    cuts = sorted(data.draw(st.lists(st.sampled_from(between_words), max_size=6)))
    pieces = [html[a:b] for a, b in zip([0, *cuts], [*cuts, len(html)], strict=True)]
    assert "".join(pieces) == html
    assert not is_blank(pieces, None)
    assert not is_blank([*NOTHING, *pieces], None)
    assert not is_blank(["<div style='display:none'>preview</div>", *pieces], None)


@settings(deadline=None)
@given(st.lists(st.sampled_from(NOTHING), max_size=5))
def test_several_pieces_that_show_nothing_show_nothing(pieces: list[str]) -> None:
    assert is_blank(pieces, pieces[:0])


def test_hidden_text_is_nothing_also_where_a_value_stands_in_it() -> None:
    begins, ends = "<div style='display:none'>", "</div><p>&nbsp;</p>"
    assert is_blank([begins, "Ana", ends], None)
    assert not is_blank([begins, "Ana", ends, "x"], None)
    assert not is_blank([begins, "Ana", ends], ["x"])
    assert not is_blank(["<style>#a{display:none}</style><p id=a>x</p>"], None), "hints tell of it, from the first rows"


@pytest.mark.parametrize(
    "html", ["<style>#a{display:none}</style><p id=a>x</p>", "<body style='background-color:red'><p hidden>x"]
)
def test_html_of_which_a_reader_sees_nothing_is_known_also_by_its_style(html: str) -> None:
    assert shows_nothing(html)
    assert not shows_nothing(html + "<p>y</p>")
    assert not shows_nothing(html + " " * MAX_LOOKED_AT), "too long to be read"


@pytest.fixture
def frozen() -> Iterator[None]:
    """What the other tests have left is not gone through by a collection meanwhile; a worker does the same when it starts."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_no_message_holds_up_what_waits_for_it(frozen: None) -> None:
    for before, piece in PIECES.values():
        began = time.thread_time()
        is_blank(["<div style='display:none'>", before + piece * (8_000 // len(piece)), "</div>"], None)
        assert time.thread_time() - began < 0.1
    assert not is_blank(["<div style='display:none'>" + "x" * MAX_READ + "</div>"], None), "too long to be read"
