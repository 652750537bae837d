"""A template cannot make much of little, neither where an application compiles it nor where it is rendered."""

from __future__ import annotations

import resource
import time
from contextlib import suppress

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailer.errors import MailerError, RenderFailed, TemplateBroken
from mailer.templates import Compiled, Content
from mailer.templates.bounds import MAX_CHARS

from ..hostile import templates as hostile

WORDS = ("it makes a ", "it fills ", "it rounds ", "it uses `translate`", "the message is larger ")


def compiled(html: str) -> Compiled:
    return Compiled(Content.inline(subject="s", html=html, text=None))


def timed(began: float, most: float) -> None:
    assert time.thread_time() - began < most


@pytest.mark.parametrize("name", hostile.SIZES)
def test_what_one_operation_makes_is_bounded(name: str) -> None:
    began, room = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RenderFailed) as caught:
        compiled(hostile.SIZES[name]).pieces(hostile.DATA)
    timed(began, 3.0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - room < 100 << 10, "kilobytes"
    said = str(caught.value)
    assert said.startswith("the template failed on this row"), said
    assert any(
        words in said for words in ("it makes a", "it fills", "it rounds", "it uses `translate`", "the message is larger")
    ), said


@pytest.mark.slow
@pytest.mark.parametrize("name", hostile.STEPS)
def test_loops_and_calls_end(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(RenderFailed, match="its loops and calls take more than 1,000,000 steps"):
        compiled(hostile.STEPS[name]).pieces(hostile.DATA)
    timed(began, 15.0)


@pytest.mark.parametrize("name", hostile.CONSTANTS)
def test_nothing_is_worked_out_while_it_is_compiled(name: str) -> None:
    began = time.thread_time()
    with suppress(TemplateBroken):  # autoescape takes nothing that had to be worked out
        compiled(hostile.CONSTANTS[name])
    timed(began, 2.0)


@pytest.mark.parametrize("name", hostile.SOURCES)
def test_a_source_that_is_too_much_is_refused_in_one_sentence(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(TemplateBroken, match=r"are the most|more than 40,000 words and signs|stand too deep in each other"):
        compiled(hostile.SOURCES[name])
    timed(began, 2.0)


ORDINARY = [
    ("{{ 'ab' * 3 }}{{ [1] * 2 }}{{ 3 * 4 }}{{ 1.5 * 2 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 7 % 4 }}", "ababab[1, 1]123.010240.53"),
    ("{{ 'a' + 'b' }}{{ [1] + [2] }}{{ 1 + 2 }}{{ 'a' ~ 1 ~ [2] }}", "ab[1, 2]3a1[2]"),
    ("{{ 'x'|center(5) }}|{{ 'x'.ljust(3) }}|{{ '7'.zfill(3) }}|{{ 'a\tb'.expandtabs(4) }}", "  x  |x  |007|a   b"),
    ("{{ '%05.1f|%-3s|%%' % (2.25, 'a') }}{{ '%(a)s' % {'a': 1} }}{{ '%s %s'|format(1, 'b') }}", "002.2|a  |%11 b"),
    ("{{ '{:>5}|{a:.2f}|{b[0]}'.format('x', a=1.234, b=['c']) }}{{ '{a}'.format_map({'a': 1}) }}", "    x|1.23|c1"),
    ("{{ 'aXa'.replace('a', 'bb') }}{{ 'aaa'.replace('a', 'b', 1) }}{{ 'aaa'|replace('a', 'b', 2) }}", "bbXbbbaabba"),
    ("{{ ', '.join(['a', 'b']) }}{{ '-'.join('ab') }}{{ [1, 2]|join('-') }}", "a, ba-b1-2"),
    ("{{ [{'a': 1}]|join('', attribute='a') }}{{ [1, 2, 3]|batch(2, 0)|list }}", "1[[1, 2], [3, 0]]"),
    ("{{ [1, 2]|slice(2)|list }}{{ 2.345|round(2) }}{{ 2.5|round }}", "[[1], [2]]2.352.0"),
    ("{{ 'a\nb'|indent(2) }}{{ 'a b'|wordwrap(1) }}{{ [1]|tojson }}{{ {'a': [1]}|tojson(indent=1) }}", None),
    ("{% for a in [1, 2] %}{{ loop.index }}/{{ loop.length }}{% else %}x{% endfor %}", "1/22/2"),
    ("{% for a in '' %}{% else %}y{% endfor %}", "y"),
    ("{% for a in [[1], []] recursive %}({{ loop(a) if a is iterable }}){% endfor %}", "(())()"),
    ("{% for a, b in {'x': 1}.items() %}{{ a }}{{ b }}{% endfor %}", "x1"),
    ("{% for a in (1, 2) if a > 1 %}{{ a }}{{ loop.last }}{% endfor %}", "2True"),
    ("{{ name|upper|replace('A', 'b') }}{{ name.upper() }}{{ '<'|e }}{{ ('<' ~ '>') }}", "bNbANA&lt;&lt;&gt;"),
    ("{{ ('<b>{}</b>'|safe).format('<') }}{{ ('<b>%s</b>'|safe) % '<' }}", "<b>&lt;</b><b>&lt;</b>"),
]


@pytest.mark.parametrize(("source", "wanted"), ORDINARY)
def test_what_is_ordinary_is_as_jinja2_has_it(source: str, wanted: str | None) -> None:
    ours = "".join(compiled("." + source).pieces({"name": "Ana"}).html or [])[1:]
    theirs = ImmutableSandboxedEnvironment(autoescape=True).from_string(source).render(name="Ana")
    assert ours == theirs
    assert wanted is None or ours == wanted


def test_a_message_may_be_as_large_as_said_and_no_larger() -> None:
    half = "x" * (MAX_CHARS // 2)
    assert len("".join(compiled("{{ a }}{{ b }}").pieces({"a": half, "b": half}).html or [])) == MAX_CHARS
    with pytest.raises(RenderFailed, match=r"the message is larger than 4,194,304 characters"):
        compiled("{{ a }}{{ b }}").pieces({"a": half, "b": half + "x"})


def test_each_row_has_the_steps_for_itself() -> None:
    loops = compiled("{% for a in range(90000) %}{% endfor %}x")
    for _ in range(30):
        loops.pieces({})


@pytest.mark.parametrize("name", [*hostile.SLOW, *hostile.MEMORY])
def test_what_only_a_process_of_its_own_can_end_is_compiled_all_the_same(name: str) -> None:
    try:
        compiled({**hostile.SLOW, **hostile.MEMORY}[name])
    except MailerError as error:
        pytest.fail(str(error))
