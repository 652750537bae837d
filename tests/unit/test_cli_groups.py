"""A command whose parameters are dataclasses of options has each field as an option of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from mailer.cli.groups import given, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    to: Annotated[list[str] | None, typer.Option("--to", help="Recipient.")] = None
    from_: Annotated[str, typer.Option("--from", help="From.")] = "me"


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    rate: Annotated[int | None, typer.Option("--rate", help="Rate.")] = None


@spread
def command(who: Who, how: How, wait: Annotated[bool, typer.Option("--wait", help="Wait.")] = False) -> None:
    """Send."""
    typer.echo(json.dumps([asdict(who), asdict(how), wait, given(who), given(how)]))


def said(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


def test_each_field_is_an_option_and_arrives_in_its_group() -> None:
    code, out = said("--to", "a", "--to", "b", "--rate", "3", "--wait")
    assert code == 0
    assert json.loads(out) == [{"to": ["a", "b"], "from_": "me"}, {"rate": 3}, True, ["to", "from_"], ["rate"]]


def test_what_is_not_given_is_the_fields_default() -> None:
    assert json.loads(said()[1]) == [{"to": None, "from_": "me"}, {"rate": None}, False, ["from_"], []]


def test_help_has_each_field_and_what_is_wrong_is_said_of_its_option() -> None:
    assert all(option in said("--help")[1] for option in ("--to", "--from", "--rate", "--wait", "Send."))
    code, out = said("--rate", "x")
    assert (code, "--rate" in out) == (2, True)
