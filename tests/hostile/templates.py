"""Templates that would take hours or all memory: by name, the source of the HTML. `DATA` is the row that all of them get."""

from __future__ import annotations

from typing import Any

DATA: dict[str, Any] = {"name": "Ana", "big": "x" * 20_000, "items": list(range(500)), "tree": [[1, [2, [3]]]]}

# Texts, lists and numbers that one operation makes.
SIZES = {
    "a text times a number": "{{ 'x' * 10**10 }}",
    "a list times a number": "{{ [0] * 10**10 }}",
    "a power": "{{ 9**99999999 }}",
    "a power of a power": "{{ (9**9999)**9999 }}",
    "the filter center": "{{ 'x'|center(2000000000) }}",
    "the method center": "{{ 'x'.center(2000000000) }}",
    "the method ljust": "{{ 'x'.ljust(10**10) }}",
    "the method zfill": "{{ name.zfill(10**10) }}",
    "the method expandtabs": "{{ 'a\t'.expandtabs(10**9) }}",
    "many tabs": "{{ ('\t' * 99999).expandtabs(999) }}",
    "the method to_bytes": "{{ (5).to_bytes(10**9, 'big') }}",
    "the method translate": "{{ big.translate({120: big}) }}",
    "the method replace": "{{ big.replace('x', big) }}",
    "the filter replace": "{{ big|replace('x', big) }}",
    "the method join": "{{ big.join(big) }}",
    "the method join of a list": "{{ big.join(items * 100) }}",
    "the filter join": "{{ range(99999)|join(big) }}",
    "a format's width": "{{ '{:>2000000000}'.format(1) }}",
    "a format's width that is a value": "{{ '{:>{w}}'.format(1, w=2000000000) }}",
    "a format's precision": "{{ '{:.2000000000f}'.format(1.5) }}",
    "a format of a mapping": "{{ '{x:>99999}'.format_map({'x': 1}) }}",
    "a format that repeats a value": "{{ ('{0}' * 9999).format(big) }}",
    "a width of %": "{{ '%99999999d' % 1 }}",
    "a width of % that is a value": "{{ '%*d' % (10**9, 1) }}",
    "a width of the filter format": "{{ '%.99999999f'|format(1.5) }}",
    "% that repeats a value": "{{ ('%(a)s' * 9999) % {'a': big} }}",
    "the filter batch": "{{ [1]|batch(10**9, 1)|list }}",
    "the filter slice": "{{ [1]|slice(10**9)|list }}",
    "the filter indent": "{{ 'a\nb'|indent(10**9) }}",
    "the filter indent of many lines": "{{ ('\n' * 9999)|indent(999) }}",
    "the filter indent by a text": "{{ 'a\nb'|indent(big) }}",
    "the filter wordwrap": "{{ big|wordwrap(1, true, big) }}",
    "the filter round": "{{ 1.5|round(10**9, 'ceil') }}",
    "the filter tojson": "{{ items|tojson(10**9) }}",
    "a text that doubles by +": "{% set n = namespace(x=big) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a text that doubles by ~": "{% set n = namespace(x=big) %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a text that doubles by {{": "{% set n = namespace(x=big) %}"
    "{% for i in range(99) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}",
    "a list that doubles": "{% set n = namespace(x=items) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a list that doubles by nesting": "{% set n = namespace(x=items) %}"
    "{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "a text of such a list": "{% set n = namespace(x=items) %}"
    "{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ 'a' ~ n.x }}",
    "a number that is squared": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "a macro that doubles": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + "{{ " + "f(" * 30 + "big" + ")" * 30 + " }}",
    "a list of one long text": "{{ [big] * 9999 }}",
    "a message that is too long": "{% for i in items %}{{ big }}{% endfor %}",
}

# Loops and calls without an end in sight.
STEPS = {
    "two loops": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "two loops that print nothing": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop with a condition": "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}x{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a loop that calls itself": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}{% endfor %}",
    "a loop that calls itself on much": "{% for a in [1] recursive %}{{ loop(range(99999)) if loop.depth < 4 }}{% endfor %}",
    "includes of includes": "{% set n = n|default(0) + 1 %}"
    "{% if n < 30 %}{% include 'body.html' %}{% include 'body.html' %}{% endif %}x",
}

# What takes long inside of one operation of Python, where nothing can look at the clock.
SLOW = {
    "texts that are sorted": "{% for i in range(99) %}{{ (big * 200)|list|sort|length }}{% endfor %}",
    "tags that are stripped": "{% for i in range(9999) %}{{ ('<!---->' * 9999)|striptags }}{% endfor %}x",
    "links that are looked for": "{% for i in range(99999) %}{{ ('http://a.b ' * 9999)|urlize|length }}{% endfor %}",
    "numbers that are read": "{% for i in range(99999) %}{{ ('9' * 4000)|int }}{% endfor %}",
    "lists that are summed": "{% for i in range(99) %}{{ ([items] * 9999)|sum(start=[])|length }}{% endfor %}",
    "punycode": "{% for i in range(99) %}{{ ('\u00e9\u0101' * 99999).encode('punycode')|length }}{% endfor %}",
}

# What fills the memory in spite of each bound.
MEMORY = {
    "long texts that are kept": "{% set n = namespace(x=[]) %}{% for i in range(9999) %}"
    "{% set n.x = [n.x, (big * 200) ~ i] %}{% endfor %}x",
    "lists of characters that are kept": "{% set n = namespace(x=[]) %}{% for i in range(9999) %}"
    "{% set n.x = [n.x, (big * 100)|list] %}{% endfor %}x",
}

# Worked out while it is compiled, if somebody does.
CONSTANTS = {
    "a constant width": "{{ 'x'|center(2000000000) }}",
    "a constant product": "{{ ('x' * 10**9) * 10**9 }}",
    "a constant condition": "{% if 'x'|center(2000000000) %}{% endif %}",
    "a constant argument": "{{ name|replace('x'|center(2000000000), 'a') }}",
    "a constant of autoescape": "{% autoescape 'x'|center(2000000000) %}{% endautoescape %}",
    "a constant include": "{% include 'x'|center(2000000000) %}",
    "a long sum": "{{ a" + " + a" * 150 + " }}",
    "many long sums": ("{{ a" + " - a" * 60 + " }}") * 200,
    "a long or": "{{ a" + " or a" * 150 + " }}",
    "filters behind filters": "{{ a" + "|upper" * 150 + " }}",
}

# More than is compiled.
SOURCES = {
    "too many characters": "x" * 1_100_000,
    "too many tags": "{{ a }}" * 9_000,
    "too long a list": "{{ [" + "a," * 30_000 + "] }}",
    "too long a tag behind a text": "{{ '}}' ~ [" + "a," * 30_000 + "] }}",
    "too many comments": "{# a #}" * 30_000,
    "brackets in brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "a sum without end": "{{ a" + " + a" * 3000 + " }}",
    "conditions in conditions": "{% if a %}" * 200 + "{% endif %}" * 200,
    "else after else": "{% if a %}" + "{% elif a %}x" * 4000 + "{% endif %}",
    "negations": "{{ " + "not " * 3000 + "a }}",
    "attributes of attributes": "{{ a" + ".a" * 3000 + " }}",
}
