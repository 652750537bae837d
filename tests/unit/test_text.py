"""The text part is what a reader of plain text would want of the HTML, and is made in a time that grows with it and no faster."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.compose.shared_template import segments, text_segments
from mailer.templates import Compiled, Content, Pieces, Rendered
from mailer.templates.frame import frame
from mailer.templates.tags import Tag, attributes_of, tokens
from mailer.templates.text import MAX_HTML, TooMuch, html_to_text, text_part

from ..hostile.bodies import PIECES, body

_WORD = re.compile(r"(?<=>)[A-Z]\w+(?=[^<>{}]*</(?:a|p|td|th|li|span|div|h\d|b)>)")
NEWSLETTERS = sorted((Path(__file__).parent.parent / "newsletters").glob("*.html"))


@pytest.mark.parametrize("path", NEWSLETTERS, ids=lambda path: path.stem)
def test_the_text_of_a_newsletter_is_what_a_reader_wants(path: Path) -> None:
    assert html_to_text(path.read_text()) == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("path", NEWSLETTERS, ids=lambda path: path.stem)
def test_a_newsletter_with_values_in_it_has_the_same_text_in_a_bulk_call(path: Path) -> None:
    """Each word of some is a value, so that values stand in cells, lists, links and quotations."""
    words = iter("xyz" * 10_000)
    source = re.sub(
        r"(?<=>)[A-Z]\w+(?=[^<>{}]*</(?:a|p|td|th|li|span|div|h\d|b)>)", lambda _: f"{{{{ {next(words)} }}}}", path.read_text()
    )
    assert "{{ z }}" in source or path.stem in ("images", "digest")
    compiled = Compiled(Content.inline(subject="s", html=source, text=None))
    rows = [compiled.pieces({"x": x, "y": f"Y{x}", "z": "&"}).html or [] for x in ("Ana", "O'Neill & <Sons>", "1.")]
    found = text_segments(segments(rows), 3) or []
    texts = ["".join(part if isinstance(part, str) else part[row] for part in found) for row in range(3)]
    assert texts == [html_to_text("".join(row)) for row in rows]


# ---- what is shown ---------------------------------------------------------------------------------------------------

HIDDEN = [
    "<div style='display:none'>x</div>",
    "<div style='color:red;DISPLAY : None !important'>x</div>",
    "<span style='visibility:hidden'>x</span>",
    "<span style='opacity:0'>x</span>",
    "<span style='opacity: 0.0;'>x</span>",
    "<div style='max-height:0;overflow:hidden'>x</div>",
    "<div style='max-height:0px'>x</div>",
    "<div style='height:0;overflow:hidden'>x</div>",
    "<div style='font-size:0'>x</div>",
    "<div style='font-size:1px;line-height:1px'>x <b>y</b></div>",
    "<p style='display:block;display:none'>x</p>",
    "<p style='display:none!important;display:block'>x</p>",
    "<p style='display:/* here */none'>x</p>",
    "<div style='position:absolute;left:-9999px'>x</div>",
    "<div style='position: fixed; top: -1000em'>x</div>",
    "<div style='text-indent:-9999px'>x</div>",
    "<style>#Pre{display:none}</style><div id='pre'>x</div>",
    "<style>body .pre { display: none !important }</style><span class='pre'>x</span>",
    "<style>td.pre span { display: none }</style><table><tr><td class='a pre'><b><span>x</span></b></table>",
    "<style>#a .b p.c { display: none }</style><div id=a><i class='x b'><p class=c>x</p></i></div>",
    "<style>p { color: red } .pre { text-indent: -9999px }</style><p class=pre style='color:blue'>x</p>",
    "<style>.pre { display: none !important }</style><p class=pre style='display:block'>x</p>",
    "<style>.pre { display: none } #pre { display: block }</style><p class=pre>x</p>",
    "<style>center { display: none }</style><center>x</center>",
    "<p hidden>x</p>",
    "<p hidden=''>x</p>",
    "<p aria-hidden='true'>x</p>",
    "<style>.pre, p.b { display: none !important }</style><p class='a pre'>x</p>",
    "<style>@media print { .c { color: red } } .pre{visibility:hidden}</style><i class=PRE>x</i>",
    "<div style='display:none'><p>x</p><div>x</div>x</div>",
    "<p style='display:none'>x<div></div>",
    "<table><tr style='display:none'><td>x</td></tr></table>",
    "<img style='display:none' alt='x'>",
    "<style>x</style><script>x</script><title>x</title><textarea>x</textarea><select><option>x</select><svg><title>x</title></svg>",
    "<!-- x --><!--[if mso]><p>x</p><![endif]--><!--x",
    "<p>\u200b\u00ad\u034f&nbsp;</p>",
]
SHOWN = [
    "<div style='display:block'>x</div>",
    "<div style='max-height:0;position:relative;opacity:0.999'>x</div>",
    "<div style='opacity:0.01'>x</div>",
    "<div style='height:100px;overflow:hidden'>x</div>",
    "<td style='font-size:0px'><div style='font-size:14px'>x</div></td>",
    "<td style='font-size:0px'><div class='text'>x</div></td>",
    "<td style='font-size:0'><table><tr><td>x</td></tr></table></td>",
    "<td style='font-size:0'><img alt='x'></td>",
    "<a href='#' style='mso-hide:all'>x</a>",
    "<p style='mso-hide:all'>x</p>",  # Outlook alone hides it
    "<p style='display:none;display:block'>x</p>",
    "<p style='display:none;display:block !important'>x</p>",
    "<p style='left:-9999px'>x</p>",  # of what has no place of its own that says nothing
    "<p style='position:absolute;left:-5px'>x</p>",
    "<p style='text-indent:-20px'>x</p>",
    "<style>.n { display: none }</style><p class='n' style='display:block'>x</p>",
    "<style>.n { display: none } .n { display: block }</style><p class='n'>x</p>",
    "<style>.n { display: none } #n { display: block }</style><p class='n' id='n'>x</p>",
    "<style>#n { display: none }</style><p class='n'>x</p>",
    "<style>p.n { display: none }</style><span class='n'>x</span>",
    "<style>div > .n, .n:hover, .n + .n, [dir] .n { display: none }</style><div class='n'>x</div>",
    "<style>.a .b .n { display: none }</style><div class=b><div class=a><p class='n'>x</p></div></div>",
    "<div style='mso-hide:all'><a href='#'>x</a></div>",
    "<p aria-hidden='false'>x</p>",
    "<style>@media (max-width: 600px) { .m { display: none } }</style><p class='m'>x</p>",
    "<style>div .n { display: none }</style><p class='n'>x</p>",
    "<div style='display:none'>y</div>x",
    "<table style='display:none'><tr><td>y</table>x",
    "<div style='display:none'><p>y</div><p>x</p>",
    "<p style='display:none'>y<p>x</p>",
    "<!--[if !mso]><!--><p>x</p><!--<![endif]-->",
    "<![if !mso]><p>x</p><![endif]>",
    "<noscript>x</noscript>",
    "<o:p/>x",
    "</head></style></script></title>x",
]


@pytest.mark.parametrize("source", HIDDEN)
def test_what_a_mail_client_does_not_show_is_left_out(source: str) -> None:
    assert html_to_text(f"<p>a</p>{source}<p>b</p>" if "<!--x" not in source else f"<p>a</p><p>b</p>{source}") == "a\n\nb\n"
    assert text_part(source) is None


@pytest.mark.parametrize("source", SHOWN)
def test_what_a_mail_client_shows_is_kept(source: str) -> None:
    assert html_to_text(source) == "x\n"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<td>2</td><td>10.00</td>", "2 10.00"),
        ("<table><tr><td>2</td><td>10.00</td></tr><tr><td>Total<td>25.00</table>", "2 10.00\nTotal 25.00"),
        ("<table><tr><td><p>2</p></td><td><p>10.00</p></td></tr><tr><td><p>1<td><p>5.00</table>", "2 10.00\n1 5.00"),
        ("<table><td>a</td><td>b</td></table>", "a b"),
        ("<table><tr><td>a<br>b</td><td>c</td></tr></table>", "a\nb\nc"),
        ("<table><tr><td>a</td></tr><tr><td>b</td></tr></table>", "a\n\nb"),
        ("<table><tr><td></td><td>a</td><td> </td></tr><tr><td>b</table>", "a\n\nb"),
        ("<table><tr><td><table><tr><td>a</td><td>b</td></tr></table></td><td>c</td></tr></table>", "a b c"),
        ("<table><tr><td><ul><li>a</ul></td><td><ul><li>b</ul></td></tr></table>", "- a\n\n- b"),
        ("<h1>A</h1>text<h2>B</h2><p>c", "A\n\ntext\n\nB\n\nc"),
        ("a<br>b<br><br>c<br><br><br><br>d<br>", "a\nb\n\nc\n\nd"),
        ("<div>a</div><div><br></div><div>b</div>", "a\n\nb"),
        ("<ul><li>a<li>b<ol><li>c<li>d</ol></ul>", "- a\n- b\n  1. c\n  2. d"),
        ("<ul><li></li><li> </li><li>a</li></ul>", "- a"),
        ("<blockquote>a<br>b<p>c</p></blockquote>d", "> a\n> b\n>\n> c\n\nd"),
        ("<a href='https://e.com/'>e.com</a>, <a href=https://e.com/x>x</a>", "e.com, x (https://e.com/x)"),
        ("<a href=' https://e.com/a b&#10;c '>x</a>", "x (https://e.com/a%20bc)"),
        ("<a href='?a=1&timestamp=2&region=eu'>x</a>", "x (?a=1&timestamp=2&region=eu)"),
        ("<a href='?a&copy;b&copy&amp;c&lt'>x</a>", "x (?a©b©&c<)"),
        ("<a href=mailto:a@e.com?subject=x%20y>a@e.com</a> <a href='mailto:a%40e.com'>us</a>", "a@e.com us (a@e.com)"),
        ("<a href=u><img src=i></a>", "u"),
        ("<a href=u><img src=i></a><img alt='b'>", "u b"),
        ("<a href=u>a</a><a href=v>b</a>.", "a (u) b (v)."),
        ("<a href=u>a<a href=v>b</a>", "a (u) b (v)"),
        ("<a href=u>a", "a (u)"),
        ("<a name=x>a</a><a href=>b</a><a href=javascript:x>c</a><a href=data:x>d</a>", "abcd"),
        ("Bag <s>60.00</s><b>45.00</b>", "Bag ~~60.00~~ 45.00"),
        ("<del>$60</del><ins>$45</ins>", "~~$60~~ $45"),
        ("45<strike> 60 </strike>, (<s>70</s>)<s></s><s> </s>", "45 ~~60~~ , (~~70~~)"),
        ("<p style='text-decoration:red line-through'>60<b>.00</b></p>45", "~~60.00~~\n\n45"),
        ("<style>.old{text-decoration-line:line-through}</style><i class=old>60 <s>a</s></i>45", "~~60 a~~ 45"),
        ("<div style='display:none'><s>60</s></div><s hidden>60</s>45", "45"),
        ("<i style='display:inline-block;width:70%'>Total</i><i style='display:inline-block'>25.00</i>", "Total 25.00"),
        ("<b style=float:left>Total</b><b style=float:right>$25</b>", "Total $25"),
        ("<div style='display:flex'><span>Total</span><b>25</b>00</div>", "Total 25 00"),
        ("<style>.r{display:inline-block}</style><i class=r>Total</i><i class=r>25</i>", "Total 25"),
        ("<span style='display:block'>Total</span><span style='display:block'>25</span>", "Total\n25"),
        ("<i style=display:inline-block>(<b style=float:left>a</b>)</i>.", "(a)."),
        ("<img alt='Shirt 10'><img alt='20 Shoes'><img alt=''>!", "Shirt 10 20 Shoes!"),
        ("<label>Total</label><label>25</label><button>Buy</button><button>Sell</button>", "Total 25 Buy Sell"),
        ("<meter>3</meter><progress>4</progress>", "3 4"),
        ("<b>1</b><i>2</i><span>3</span>", "123"),
        ("<q>a</q> $19<sup>99</sup> m<sup>2</sup>", '"a" $19 99 m2'),
        ("<pre>a\n  b\n\n\nc</pre>d", "a\n  b\n\nc\n\nd"),
        ("<p style='white-space: pre-line'>a\nb</p>", "a\nb"),
        ("a\r\nb\rc", "a b c"),
        ("**a** _b_ # c [d](e) 1. f \\*", "**a** _b_ # c [d](e) 1. f \\*"),
        ("1 < 2 &lt; 3 & 4 &amp; 5 &copy &euro;&#8364;&#x20ac;", "1 < 2 < 3 & 4 & 5 © €€€"),
        ("a < b > c <3 </ x>d <a", "a < b > c <3 d"),
    ],
)
def test_it_reads_as_text(source: str, text: str) -> None:
    assert html_to_text(source) == text + "\n"


def test_a_mail_of_images_alone_has_their_links_and_one_of_nothing_has_no_text_part() -> None:
    pieces = Pieces("s", ["<img src=a>"], None)
    assert pieces.join() == Rendered("s", "<img src=a>", None)
    assert Pieces("s", ["<a href=u><img src=a></a>"], None).join().text == "u\n"
    assert text_segments(segments([["<img src=", a, ">"] for a in "ab"]), 2) is None


SHOP = """
<style>.old { text-decoration: line-through }</style>
<p>Shoes <s>{{ x }}</s><b>{{ y }}</b> <i class=old>{{ x }} USD</i>{{ z }}</p><img alt="Now">{{ y }}<br><label>Total</label>{{ x }}
<span style="display:inline-block">{{ y }}</span><span style="float:right">({{ z }})</span><del>was {{ y }}</del>{{ x }}.
"""


VALUE = st.sampled_from(["", "120.00", "$9", "9 €", " 5 ", ", x", "&", "Ana", "😀", "\u200b"])

WORDED = st.sampled_from(["120.00", "$9", "9 €", "Ana", "-5", "O'Neill & Sons"])  # of which the frame has the marks


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(VALUE, VALUE, VALUE), min_size=2) | st.lists(st.tuples(WORDED, WORDED, WORDED), min_size=2))
def test_struck_out_values_and_boxes_have_the_same_text_in_a_bulk_call(rows: list[tuple[str, str, str]]) -> None:
    compiled = Compiled(Content.inline(subject="s", html=SHOP, text=None))
    bodies = [compiled.pieces(dict(zip("xyz", row, strict=True))).html or [] for row in rows]
    found = text_segments(segments(bodies), len(rows))
    if found is not None:
        texts = ["".join(part if isinstance(part, str) else part[row] for part in found) for row in range(len(rows))]
        assert texts == [html_to_text("".join(body)) for body in bodies]


def test_struck_out_prices_do_not_make_a_bulk_call_slow() -> None:
    """One text part for all of its messages is made once."""
    compiled = Compiled(Content.inline(subject="s", html=SHOP, text=None))
    bodies = [compiled.pieces({"x": f"{n}.00", "y": f"${n}", "z": "Ana"}).html or [] for n in (10, 20)]
    framed = frame([part if isinstance(part, str) else None for part in segments(bodies)])
    assert framed is not None
    assert framed.takes([part for part in segments(bodies) if not isinstance(part, str)])


# ---- limits ----------------------------------------------------------------------------------------------------------


def seconds(html: str) -> float:
    """Of the processor's time, the best of two."""
    found = []
    for _ in range(2):
        began = time.thread_time()
        html_to_text(html)
        found.append(time.thread_time() - began)
    return min(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIECES)
def test_the_time_for_it_grows_with_the_length_and_no_faster(name: str) -> None:
    short, long = seconds(body(name, 8_000)), seconds(body(name, 64_000))
    assert long < max(0.04, 8 * short * 2.5), "8 times as long; 64 times the time would be quadratic"
    assert long < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", PIECES)
def test_the_text_is_not_much_longer_than_the_html(name: str) -> None:
    html = body(name, 50_000)
    assert len(html_to_text(html)) < 4 * len(html)


def test_html_that_is_too_large_goes_without_a_text_part() -> None:
    html = f"<p>{'w' * 121}</p>" * (MAX_HTML // 128)
    assert text_part(html) is not None
    with pytest.raises(TooMuch):
        html_to_text(html + "<")
    assert Pieces("s", [html, "<"], None).join().text is None
    assert text_segments([html, ("<", "<b>")], 2) is None


def test_html_that_takes_too_long_goes_without_a_text_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailer.templates.text.BUDGET_S", 0.0)
    assert text_part("<b>x</b>" * 10_000) is None


BITS = [*(piece for _, piece in PIECES.values()), "a", " ", "</li>", "</td>", "</tr>", "</table>", "</ul>"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(BITS)).map("".join))
def test_no_html_whatever_stops_it(source: str) -> None:
    text = html_to_text(source)
    assert text.endswith("\n")
    assert "\n\n\n" not in text.replace(">", "")


values = st.text(st.characters(exclude_characters='"&\r\x00'))


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), values, max_size=4))
def test_attributes_are_read_as_they_were_written(given: dict[str, str]) -> None:
    (tag,) = tokens("<a " + " ".join(f'{name}="{value}"' for name, value in given.items()) + ">")
    assert isinstance(tag, Tag)
    assert attributes_of(tag) == given
