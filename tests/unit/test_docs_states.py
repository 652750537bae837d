"""docs/states.md has every outcome, every campaign state and every script that writes one. What each script does to each state
is tried on a server: tests/integration/test_docs_states.py."""

from __future__ import annotations

import re

import pytest

from mailer.ledger.records import LETTERS
from mailer.message.email import Outcome, State

from .. import lua_fields
from ..states_page import Arrow, changes, diagram, rows, section
from .test_lua import calls, split

SECTIONS = ("Recipient", "Chunk", "Campaign")
# Scripts that change no state of one. What is taken away and put back stays as it was. `add` and `cancel_message` are of
# messages, of which the page tells by their recipient. `count_out` is of campaigns that are cancelled, and stay so.
NOT_ON_AN_ARROW = {"Recipient": {"unarchive", "archive_drop"}, "Campaign": {"add", "cancel_message", "count_out"}}
FROM_NOTHING = {"Recipient": {"add", "put"}, "Chunk": {"add", "put"}, "Campaign": {"plan"}}


def scripts_that_write(what: str) -> set[str]:
    """Those that come to a call of Redis by which it is changed: records, or the state of a container."""
    found = set[str]()
    for script in lua_fields.scripts():
        for body in lua_fields.bodies(script).values():
            for call in calls(body):
                command, *rest = ("".join(argument) for argument in split(call, ","))
                records = command in ("'SET'", "'SETRANGE'", "'DEL'") and "records" in rest
                state = command == "'HSET'" and "'state'" in rest[1::2] and rest[0] == "container"
                if records if what == "Recipient" else state:
                    found.add(script)
    return found


def on_arrows(title: str) -> set[str]:
    table = changes(title) if title != "Chunk" else set[Arrow]()
    return {arrow.script for arrow in diagram(title) | diagram(title, first=True) | table}


def test_every_outcome_is_in_the_table_with_its_byte_and_no_other() -> None:
    found = {row[0].strip("`"): row[1].strip("`") for row in rows("Recipient", "outcome")}
    assert found == {outcome.value: LETTERS[outcome] for outcome in Outcome}


def test_every_campaign_state_is_in_the_table_and_no_other() -> None:
    assert {row[0].strip("`") for row in rows("Campaign", "state")} == {state.value for state in State}


@pytest.mark.parametrize("head", ["outcome", "state"])
def test_each_says_what_it_means_and_what_can_be_done(head: str) -> None:
    for row in rows("Recipient" if head == "outcome" else "Campaign", head):
        assert len(row[-2]) > 10, row
        assert len(row[-1]) > 5, row


@pytest.mark.parametrize("title", ["Recipient", "Campaign"])
def test_the_states_of_the_diagram_are_those_of_the_table(title: str) -> None:
    named = {row[0].strip("`") for row in rows(title, "outcome" if title == "Recipient" else "state")}
    arrows = diagram(title) | diagram(title, first=True)
    assert {state for arrow in arrows for state in (arrow.was, arrow.now)} - {"[*]"} == named


@pytest.mark.parametrize("title", SECTIONS)
def test_every_script_on_an_arrow_is_there(title: str) -> None:
    assert on_arrows(title) <= set(lua_fields.scripts())
    named = set(re.findall(r"^ +\S+ --> \S+: (.+)$", section(title), re.MULTILINE))
    assert {script.strip() for scripts in named for script in scripts.split(",")} <= set(lua_fields.scripts())


@pytest.mark.parametrize("title", ["Recipient", "Campaign"])
def test_every_script_that_writes_a_state_is_on_an_arrow(title: str) -> None:
    assert scripts_that_write(title) - on_arrows(title) == NOT_ON_AN_ARROW[title]


@pytest.mark.parametrize("title", SECTIONS)
def test_the_first_arrows_are_of_the_scripts_that_store_something_new(title: str) -> None:
    assert {arrow.script for arrow in diagram(title, first=True)} == FROM_NOTHING[title]


def test_what_is_written_for_a_state_is_one_of_the_states() -> None:
    """The letters and words that stand in the scripts themselves."""
    texts = [*lua_fields.SCRIPTS.values(), *lua_fields.LIBRARIES.values()]
    letters = {one for text in texts for one in re.findall(r"record\('(.)'", text)}
    words = {one for text in texts for one in re.findall(r"HSET', \w+, 'state', '(\w+)'", text)}
    assert letters <= set(LETTERS.values())
    assert words <= {state.value for state in State}
    assert letters
    assert words
