"""A message of which a reader sees nothing is told from one that shows anything at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.templates.blank import is_blank

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
UNSURE = ["<style>never ends", "<!-- never ends", "<p title='never ends", "<", "<im"]


@pytest.mark.parametrize("html", NOTHING)
def test_html_that_shows_nothing_is_blank(html: str) -> None:
    assert is_blank([html], None)
    assert is_blank([html], [" \n", "\u200b"])
    assert not is_blank([html], ["", "x"])


@pytest.mark.parametrize("html", SOMETHING + UNSURE)
def test_html_that_shows_anything_or_may_is_not_blank(html: str) -> None:
    assert not is_blank([html], None)
    assert not is_blank([html], [""])


def test_text_alone_is_blank_where_it_has_no_character_that_is_seen() -> None:
    assert is_blank(None, [])
    assert is_blank(None, [" ", "\r\n\u00a0"])
    assert not is_blank(None, [" ", "."])


@settings(deadline=None)
@given(st.sampled_from(SOMETHING), st.data())
def test_however_it_is_cut_what_shows_anything_is_never_taken_for_blank(html: str, data: st.DataObject) -> None:
    between_words = [n for n in range(len(html) + 1) if not (0 < n < len(html) and html[n - 1 : n + 1].isalnum())]
    cuts = sorted(data.draw(st.lists(st.sampled_from(between_words), max_size=6)))
    pieces = [html[a:b] for a, b in zip([0, *cuts], [*cuts, len(html)], strict=True)]
    assert "".join(pieces) == html
    assert not is_blank(pieces, None)
    assert not is_blank([*NOTHING, *pieces], None)


@settings(deadline=None)
@given(st.lists(st.sampled_from(NOTHING), max_size=5))
def test_several_pieces_that_show_nothing_show_nothing(pieces: list[str]) -> None:
    assert is_blank(pieces, pieces[:0])
