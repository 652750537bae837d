"""HTML whose text part is hard to make: by name, the piece that is repeated, and what stands before it."""

from __future__ import annotations

PIECES: dict[str, tuple[str, str]] = {
    "an attribute whose quote does not end": ("", "<a b='"),
    "attributes whose quotes end each other": ("", "<a b='<a c=\""),
    "comments that do not end": ("", "<!--"),
    "declarations that do not end": ("", "<!"),
    "tags that do not end": ("", "<img "),
    "equals signs": ("", "<a ="),
    "lists in lists": ("", "<ul><li>x"),
    "numbered lists in lists": ("", "<ol><li>x"),
    "formatting in formatting": ("", "<b>x"),
    "formatting that is misnested": ("", "<a href=x><b><i></a>"),
    "tables in tables": ("", "<table><tr><td>x"),
    "rows that part the cells around them": ("", "<tr><td>a<td><table>"),
    "tables without rows": ("", "<table>"),
    "cells of one row": ("<table><tr>", "<td>x"),
    "links in links": ("", "<a href=x><table><td>y"),
    "links": ("", "<a href=http://e.com/>y</a>"),
    "areas": ("", "<area href=x alt=y>"),
    "quotations in quotations": ("", "<blockquote>x"),
    "paragraphs": ("", "<p>x"),
    "line ends": ("", "<br>"),
    "end tags of nothing": ("", "</p>"),
    "end tags beyond a bound": ("", "<i><table><td><b></i>"),
    "end tags that are looked for": ("<i><table><td>" + "<b>" * 500, "</i>"),
    "hidden elements": ("", "<i style='display:none'>"),
    "elements that hide from Outlook": ("", "<i style=mso-hide:all>"),
    "sizes": ("", "<i style='font-size:0'>x"),
    "a style of zeros": ("", "<i style='width:" + "0" * 900 + "x'>"),
    "comments of a style": ("<style>", "/* "),
    "rules in rules": ("<style>", "a{"),
    "rules that are empty": ("<style>", ".a{display:none}"),
    "selectors": ("<style>.a", ",.a"),
    "a style without a colon": ("<p style='", "a"),
    "declarations of a style": ("<p style='", "display:a;"),
    "rules for what stands in others": ("<style>", ".a .b .c{display:none}"),
    "elements that rules for what stands in others may mean": (
        "<style>" + "".join(f".x .a{n} .b{{display:none}}" for n in range(60)) + "</style>" + "<i class=c>" * 40,
        "<i class=b>",
    ),
    "struck-out text": ("", "<s>1</s>"),
    "struck-out text in struck-out text": ("", "<s>1"),
    "boxes in boxes": ("", "<label>x"),
    "images": ("", "<img alt=x>"),
    "styles that do not end": ("", "<style>"),
    "titles": ("", "<title>x</title>"),
    "raised numbers": ("", "1<sup>2"),
    "quotes": ("", "<q>x"),
    "preformatted lines": ("<pre>", "x\n"),
    "blanks": ("", "&nbsp; "),
    "references": ("", "&amp;"),
    "names that are no references": ("", "&" + "a" * 40),
    "numbers that are no characters": ("", "&#" + "1" * 4000 + ";"),
    "references in an attribute": ("<a href='", "&copy"),
    "signs": ("", "< "),
    "signs without a blank": ("", "<"),
    "line ends of a Mac": ("", "a\r"),
}


def body(name: str, size: int) -> str:
    """So many characters of it, or a little less."""
    before, piece = PIECES[name]
    return before + piece * ((size - len(before)) // len(piece))
