"""Why a template does not compile, with what was probably meant: in other template languages, or in CSS, it is written so."""

from __future__ import annotations

import re
from difflib import get_close_matches

from jinja2.filters import FILTERS as JINJA_FILTERS

from .filters import FILTERS

MAX_QUOTED = 40  # characters of a template that an error repeats

_BLANKS = re.compile(r"\s+")
# Filters of other languages and libraries, and what does the same here.
_FILTERS = {
    **dict.fromkeys(("intcomma", "floatformat", "format_number", "numberformat", "decimal"), "`number`"),
    **dict.fromkeys(("dateformat", "format_date", "date_format"), "`date`"),
    **dict.fromkeys(("datetimeformat", "format_datetime"), "`datetime`"),
    **dict.fromkeys(("timeformat", "format_time"), "`time`"),
    **dict.fromkeys(("format_currency", "currencyformat"), "`currency`"),
    **dict.fromkeys(("upcase", "uppercase", "toUpperCase"), "`upper`"),
    **dict.fromkeys(("downcase", "lowercase", "toLowerCase"), "`lower`"),
    **dict.fromkeys(("titlecase", "capfirst"), "`capitalize` or `title`"),
    **dict.fromkeys(("strip", "strip_html", "strip_newlines"), "`trim` or `striptags`"),
    **dict.fromkeys(("size", "count_of"), "`length`"),
    "pluralize": "`{{ 's' if n != 1 }}`",
}
# Tags of other languages, whose they are, and what does the same here; "" where nothing does.
_TAGS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("unless", "endunless"), ("Liquid", "{% if not x %} … {% endif %}")),
    **dict.fromkeys(("elsif", "elseif"), ("Liquid", "{% elif x %}")),
    **dict.fromkeys(("case", "when", "endcase"), ("Liquid", "{% if x == 'a' %} … {% elif x == 'b' %} … {% endif %}")),
    "assign": ("Liquid", "{% set x = 1 %}"),
    **dict.fromkeys(("capture", "endcapture"), ("Liquid", "{% set x %} … {% endset %}")),
    **dict.fromkeys(("comment", "endcomment"), ("Liquid", "{# … #}")),
    **dict.fromkeys(("render", "include_relative"), ("Liquid", '{% include "header.html" %}')),
    **dict.fromkeys(("verbatim", "endverbatim"), ("Django", "{% raw %} … {% endraw %}")),
    **dict.fromkeys(("ifequal", "endifequal"), ("Django", "{% if a == b %} … {% endif %}")),
    **dict.fromkeys(("now", "cycle", "firstof"), ("Django", "{{ now|date }}, {{ loop.cycle('a', 'b') }} or {{ a or b }}")),
    "empty": ("Django", "{% else %}"),
    **dict.fromkeys(
        ("load", "csrf_token", "url", "static", "trans", "translate", "blocktrans", "blocktranslate"), ("Django", "")
    ),
    **dict.fromkeys(("tablerow", "increment", "decrement", "schema", "section"), ("Liquid", "")),
}
_OURS = "if, for, set, include, extends, block, macro, import, with, filter and raw"
_NO_FILTER = re.compile(r"No (filter|test) named '(\w+)'")
_NO_TAG = re.compile(r"Encountered unknown tag '(\w+)'")
_INNERMOST = re.compile(r"innermost block that needs to be closed is '(\w+)'")
_GOT = re.compile(r"expected token '[^']+', got '(.+)'|[Uu]nexpected(?: char)? ['\"](.+?)['\"](?: |,|$)")
_LACKS = re.compile(r"unexpected '.+', expected '(.)'")
_END = re.compile(r"[Uu]nexpected end of template")
_CSS = re.compile(r"\{\{\s*+[\w-]++\s*+:[^|{};\"']*+(?:;|\}{1,2})|\{%\s*+[\w-]++\s*+:[^|{}%]*+\}")
_PARTIAL = re.compile(r"\{\{~?>\s*+[\"']?([\w./-]++)[^{}]*+\}\}")
_OF_MUSTACHE = re.compile(r"\{\{~?[#/^&!@][^{}]*+\}\}")
_HANDLEBARS = {
    "/": "ends a block of Handlebars; here {% endif %} or {% endfor %} does",
    "#": "begins a block of Handlebars; here it is {% if x %} … {% endif %} or {% for x in list %} … {% endfor %}",
    "^": "is Handlebars' or Mustache's; here it is {% if not x %} … {% endif %}",
    "&": "is Handlebars' or Mustache's; here it is {{ x|safe }}",
    "!": "is a comment of Handlebars; here it is {# … #}",
    "@": "is Handlebars'; in {% for %}, loop.index counts from 1",
}
_SIGNS = {
    "|": "here `or` joins conditions, as in {{ name or 'reader' }}",
    "&": "here `and` joins conditions, as in {% if a and b %}",
    "?": "a choice is {{ 'a' if x else 'b' }} here, and a default {{ name|default('reader') }}",
    "!": "here it is `not x`, and a default is {{ name|default('reader') }}",
    "=": "two values are compared by `==`",
    "$": "a value has no `$` here, as in {{ name }}",
    "#": "the {{#if x}} of Handlebars is {% if x %} … {% endif %} here",
    ":": "what a filter is given stands in brackets, as in due|date('%d.%m.%Y')",
    '"': "text in quotes ends with the same quote",
    "'": "text in quotes ends with the same quote",
    "if": "`else if` is {% elif x %} here",
}


def quoted(text: str) -> str:
    """A piece of a template, for an error: one line, and not all of it."""
    text = _BLANKS.sub(" ", text).strip()
    return f"`{text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + '…'}`"


def meant(why: str, source: str, line: int) -> str:
    """What Jinja2 says of the template, in our own words where they help. `line` counts from 1."""
    if match := _NO_FILTER.match(why):
        return _no_filter(match[1], match[2])
    if match := _NO_TAG.match(why):
        return _css(source, line) or _no_tag(match[1], why)
    if _END.match(why):
        return _no_end(why)
    if why.startswith("expected token ':', got '}'"):
        return "a value stands in two braces, as in {{ name }}, and three begin an object"
    found = _GOT.match(why)
    sign = next(filter(None, found.groups())) if found else ""
    if said := _css(source, line) if sign in (":", ";") else _handlebars(source, line, sign):
        return said
    where = f"{quoted(sign)} cannot stand there" if sign and " " not in sign else why
    if lacks := _LACKS.search(why):
        return f"{where}; `{lacks[1]}` comes before it"
    if sign in _SIGNS:
        return f"{where}; {_SIGNS[sign]}"
    if sign == "end of print statement" or sign == "end of statement block" or why.startswith("Expected an expression"):
        return "a value is missing before the braces end"
    if sign.isidentifier() and "end of print statement" in why:
        return f'{where}; a column whose name has blanks is {{{{ row["First Name"] }}}}, and texts are joined by `~`'
    return where


def _line(source: str, number: int) -> str:
    """From the beginning of this line: what is wrong may be on the next one."""
    lines = source.split("\n")
    return "\n".join(lines[max(number - 1, 0) : number + 1])


def _no_filter(kind: str, name: str) -> str:
    if kind == "test":
        return f"there is no test `{name}`; to compare, write `==`"
    near = get_close_matches(name, [*FILTERS, *JINJA_FILTERS], 1, 0.75)
    instead = _FILTERS.get(name) or (f"`{near[0]}`" if near else "")
    return f"there is no filter `{name}`" + (f"; write {instead}" if instead else "")


def _no_tag(name: str, why: str) -> str:
    if name in _TAGS:
        language, instead = _TAGS[name]
        return f"there is no tag `{name}`; it is {language}'s" + (
            f", and here it is {instead}" if instead else ", and has no like here"
        )
    innermost = _INNERMOST.search(why)
    if name.startswith("end") or name in ("else", "elif"):
        open_ = f"; the block that is open is `{innermost[1]}`" if innermost else ""
        return f"`{name}` belongs to no block that is open there{open_}"
    return f"there is no tag `{name}`; there are {_OURS}"


def _no_end(why: str) -> str:
    if innermost := _INNERMOST.search(why):
        return f"the block `{innermost[1]}` never ends; write {{% end{innermost[1]} %}} behind it"
    return "a tag never ends; write }} or %} behind it"


def _css(source: str, line: int) -> str:
    if match := _CSS.search(_line(source, line)):
        kind = "an expression" if match[0].startswith("{{") else "a statement"
        return (
            f"{quoted(match[0])} begins as {kind} of Jinja2 does; in CSS, write one brace, or a blank after the first, or put "
            "the style between {% raw %} and {% endraw %}"
        )
    return ""


def _handlebars(source: str, line: int, sign: str) -> str:
    text = _line(source, line)
    if sign == ">" and (match := _PARTIAL.search(text)):
        name = match[1] if "." in match[1] else f"{match[1]}.html"
        return f'{quoted(match[0])} is a partial of Handlebars; here it is {{% include "{name}" %}}'
    if sign in _HANDLEBARS and (match := _OF_MUSTACHE.search(text)) and sign == match[0].lstrip("{~")[:1]:
        return f"{quoted(match[0])} {_HANDLEBARS[sign]}"
    return ""
