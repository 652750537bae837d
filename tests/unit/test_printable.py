"""What others say is shown, and obeyed by no terminal."""

from __future__ import annotations

import io
import json
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailer.cli import output, streams
from mailer.printable import escaped, escaped_json, escaped_text, one_line, printable, printable_text

OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = ["\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\x90q\x9c", "a\rb", "\u202egnp.exe", "\x7f\x08", "\u2066x\u2069", "\ud800"]
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # rich's own colours


@given(st.text())
def test_nothing_that_is_obeyed_is_left_and_the_rest_is_as_it_was(text: str) -> None:
    for made in (printable(text), printable_text(text.replace("\t", "")), escaped(text), one_line(text)):
        assert not OBEYED.search(made)
    plain = "".join(char for char in text if not OBEYED.match(char) and char != "\n")
    assert printable(plain) == escaped(plain) == printable_text(plain) == plain
    assert escaped_text("a\n\tb\x9b") == "a\n\tb\\x9b"


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_means_the_same_and_holds_nothing_that_is_obeyed(value: object) -> None:
    try:
        packed = orjson.dumps(value)
    except TypeError:  # half a pair of surrogates
        return
    safe = escaped_json(packed)
    assert orjson.loads(safe) == json.loads(safe) == value
    assert not OBEYED.search(safe.decode())


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_command_shows_by_rich_is_safe(text: str, terminal: bool) -> None:
    stream = io.StringIO()
    console = output._Messages(file=stream, force_terminal=terminal, width=60, highlight=False)
    assert isinstance(console, Console)
    table = Table("NAME")
    table.add_row(text)
    table.add_row(Text(text, style="red"))
    console.print(text, markup=False)
    console.print(Text(f"x{text}", style="bold"))
    console.print(table)
    shown = stream.getvalue()
    assert ("\x1b[" in shown) is terminal
    assert not OBEYED.search(ANSI.sub("", shown))


def test_what_is_written_to_standard_error_past_rich_is_safe_and_rich_keeps_its_colours() -> None:
    stream = io.StringIO()
    plain = streams.Plain(stream)
    plain.write("no such option: \x1b[2J\x9b\n")
    console = Console(file=plain, force_terminal=True)  # type: ignore[arg-type]
    console.print(Text("red", style="red"))
    first, second = stream.getvalue().splitlines()
    assert first == "no such option: \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"
    assert second == "\x1b[31mred\x1b[0m"
