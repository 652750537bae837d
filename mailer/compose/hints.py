"""What would be sent as it is, and a reader would see wrongly: a sentence each, from the first rows as they are rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from ..errors import RenderFailed
from ..ledger.spec import Entry, Literal, Spec
from ..message.email import Lane
from ..templates import Pieces
from ..templates.blank import shows_nothing
from ..templates.names import EMAIL, GIVEN, LINK, SES_LINK, Names, Tested
from .addresses import address_hints, listed
from .link import BY_SES
from .message_builder import MessageBuilder
from .variables import own_variables

LOOKED_AT = 3  # rows that are rendered
CLIPPED = 102_000  # bytes of HTML: what Gmail shows of a message, which it calls 102 kB
NO_NAMES = Names(required=frozenset(), optional=frozenset())

_TRUE = frozenset(("true", "yes", "y", "1", "on", "x", "wahr", "ja", "j", "oui", "o", "vrai", "si", "sí", "verdadero"))
_FALSE = frozenset(("false", "no", "n", "0", "off", "falsch", "nein", "non", "faux", "falso", "null", "none", "nan", "n/a", "-"))
_WORDS = ("true", "false")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_NO_VALUES = frozenset(("NULL", "Null", "null", "None", "nan", "NaN", "#N/A", "N/A", "\\N", "undefined", "<NA>", "NaT"))
_LEFT_OVER = re.compile(
    r"\*\|[A-Za-z0-9_:.]{1,40}\|\*|%%[A-Za-z_]{1,40}%%|\[(?:FIRSTNAME|LASTNAME|FNAME|LNAME|EMAIL)\]|\{token\}"
)
_OTHER_FORMS = re.compile(r"(?<!\{)[$#]?\{\$?([\w .-]{1,40})\}(?!\})|\[\[([\w .-]{1,40})\]\]|%([A-Za-z_]\w{0,39})%")
_JINJA = re.compile(r"\{\{[^{}]{1,80}\}\}|\{%[^{}]{1,80}%\}")
_WAYS_OUT = re.compile(
    r"unsubscri|opt[ -]?out|preferences|abmeld|abbestell|austrag|d[ée]sabonn|d[ée]sinscri|darse de baja|cancelar|desuscri"
    r"|disiscri|cancella|uitschrijv|afmeld|avsluta|avregistr|avprenumer|frameld|meld(?:e)? (?:deg|dig) av|peruuta|wypisz|rezygn"
    r"|odhlás|leiratkoz|dezabon|отпис|відпис|配信停止|退订|取消订阅|수신거부",
    re.IGNORECASE,
)


def hints(material: MessageBuilder, entries: Sequence[Entry], names: Names = NO_NAMES) -> list[str]:
    """`entries` are the first rows that can be sent to, and `names` the variables of the template."""
    spec = material.spec
    found = [*_conditions(names, entries), *_absent(names, spec, entries), *_no_values(names, entries)]
    if isinstance(material.source, Literal):
        found += _not_a_template(spec, material.source)
    made, failed = _rendered(material, entries)
    if failed:
        which = f"{len(failed)} of the first {len(entries[:LOOKED_AT])} rows" if made else "the first rows"
        found.append(f"{which} would fail: {failed[0]}")
    bodies = [body for pieces in made for body in (_joined(pieces.html), _joined(pieces.text)) if body]
    html = [body for pieces in made if (body := _joined(pieces.html))]
    if any(map(shows_nothing, html)):
        found.append("a reader sees nothing of the HTML: all of it is empty or hidden")
    texts = [*bodies, *(pieces.subject for pieces in made)]
    found += [*_size(html), *address_hints(spec, html), *_left_over(spec, texts), *_one_brace(spec, entries, texts)]
    if bodies:
        found += _no_way_out(spec, bodies)
    return found


def _rendered(material: MessageBuilder, entries: Sequence[Entry]) -> tuple[list[Pieces], list[str]]:
    """Messages, and why rows have none."""
    made, failed = list[Pieces](), list[str]()
    for entry in entries[:LOOKED_AT]:
        try:
            content = material.item("", 0, entry, 1).content
        except RenderFailed as error:
            failed.append(str(error))
            continue
        if isinstance(content, Pieces):
            made.append(content)
    return made, failed


def _joined(pieces: list[str] | None) -> str:
    return "".join(pieces or ())


# ---- the rows --------------------------------------------------------------------------------------------------------


def _conditions(names: Names, entries: Sequence[Entry]) -> Iterator[str]:
    """A CSV's values are texts: every one but the empty is true, and none is equal to `true` or a number."""
    own = [own_variables(entry) for entry in entries]
    for one in sorted(names.tested, key=str):
        rows = [entry.data for entry in entries] if one.of_row else own
        texts = {value.strip() for row in rows if isinstance(value := row.get(one.name), str) and value.strip()}
        false = sorted(text for text in texts if text.lower() in _FALSE)
        true = sorted(text for text in texts if text.lower() in _TRUE)
        if one.constant is not None and one.constant not in _WORDS and texts and all(map(_NUMBER.fullmatch, texts)):
            written = one._replace(constant=None)
            yield f"{_never(one, min(texts))}; write {{% if {written}|float {one.sign} {one.constant} %}}"
        elif len(false) + len(true) >= len(texts):
            wanted = false if one.constant in ("false", "0") and false else true or ["TRUE"]
            better = one._replace(constant=f"'{wanted[0]}'")
            if one.constant is not None and texts:
                yield f"{_never(one, wanted[0])}; write {{% if {better} %}}"
            elif false:
                yield (
                    f"{{% if {one} %}} holds also for '{false[0]}', because that is a text, and only an empty one is false; "
                    f"write {{% if {better} %}}"
                )


def _never(one: Tested, text: str) -> str:
    return f"{{% if {one} %}} {'always' if one.differs else 'never'} holds for '{text}', because that is a text"


def _no_values(names: Names, entries: Sequence[Entry]) -> Iterator[str]:
    """What a database or a program wrote where there was nothing, as a text."""
    rows = [own_variables(entry) for entry in entries]
    for name in sorted(names.required | names.optional):
        words = [value for row in rows if isinstance(value := row.get(name), str) and value.strip() in _NO_VALUES]
        if words:
            yield f"the value of '{name}' is the word {words[0].strip()} in some rows, and is printed as that"


def _absent(names: Names, spec: Spec, entries: Sequence[Entry]) -> Iterator[str]:
    """What the template only asks for may be absent; where no row has it, but a name that is near, it is likely to be a slip."""
    there = {name for entry in entries for name in own_variables(entry)} | spec.data.keys() | GIVEN
    for name in sorted(names.optional - there) if entries else ():
        if near := get_close_matches(name, there, 1, 0.75):
            yield f"the template asks for '{name}', which none of the first rows has; is '{near[0]}' meant?"


# ---- the message -----------------------------------------------------------------------------------------------------


def _size(html: Sequence[str]) -> Iterator[str]:
    most = max((len(body.encode()) for body in html), default=0)
    if most > CLIPPED:
        yield f"the HTML has {most / 1000:,.0f} kB, and Gmail clips a message at 102 kB"


def _left_over(spec: Spec, texts: Sequence[str]) -> Iterator[str]:
    """What other services put a name in for, and here goes out as it stands."""
    if not spec.contact_list and spec.literal is None and any(BY_SES in text for text in texts):
        yield _only_by_ses(BY_SES)
    found = dict.fromkeys(match[0] for text in texts for match in _LEFT_OVER.finditer(text))
    if "{token}" in found:
        del found["{token}"]
        yield f"{{token}} stands in the mail as it is; the recipient's own link is {{{{ {LINK} }}}}"
    if found:
        yield f"{listed(found)} stands in the mail as it is, for it is another service's; here a value is {{{{ name }}}}"


def _one_brace(spec: Spec, entries: Sequence[Entry], texts: Sequence[str]) -> Iterator[str]:
    """A name of the data as other programs write it: `{name}`, `${name}`, `[[name]]`, `%name%`."""
    names = {EMAIL, *spec.data, *(name for entry in entries for name in own_variables(entry))}
    found = dict[str, str]()
    for text in texts:
        for match in _OTHER_FORMS.finditer(text):
            name = next(filter(None, match.groups())).strip()
            if name in names:
                found[match[0]] = name
    if found:
        name = min(found.values(), key=lambda one: (not one.isidentifier(), list(found.values()).index(one)))
        written = f"{{{{ {name} }}}}" if name.isidentifier() else f'{{{{ row["{name}"] }}}}'
        yield f"{listed(found)} stands in the mail as it is; a value stands in two braces, as {written}"


def _no_way_out(spec: Spec, bodies: Sequence[str]) -> Iterator[str]:
    """Where there is not even a header, or several recipients may not have one, the advice about that comes first."""
    together = len(spec.to) + len(spec.cc) + len(spec.bcc) > 1
    has_header = not together and (spec.unsubscribe_url or spec.unsubscribe_mailto or spec.contact_list)
    if spec.lane is Lane.BULK and has_header and not any(_WAYS_OUT.search(body) for body in bodies):
        own = f"; {{{{ {LINK} }}}} is the recipient's own" if spec.link_url else ""
        yield f"the mail has no unsubscribe link that a reader sees{own}"


def _not_a_template(spec: Spec, literal: Literal) -> Iterator[str]:
    parts = [part for part in (literal.subject, literal.html, literal.text) if part]
    found = dict.fromkeys(match[0] for part in parts for match in _JINJA.finditer(part))
    by_ses = [one for one in found if SES_LINK in one]
    for one in by_ses:
        del found[one]
    if by_ses and not spec.contact_list:
        yield _only_by_ses(by_ses[0])
    if found:
        yield f"{listed(found)} stands in the mail as it is: content without data is no template; give data, if only {{}}"


def _only_by_ses(written: str) -> str:
    return f"'{written}' stands in the mail as it is: SES fills it in only for a contact_list"
