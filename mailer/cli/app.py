"""All the commands. Each is imported when it is asked for: the modules of all of them take most of a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

_HELP = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A command that is not imported yet: its place, and the line that the list of commands has of it."""

    module: str
    name: str
    help: str

    def load(self, name: str) -> Any:
        found = getattr(import_module(f".{self.module}", __package__), self.name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, context_settings=_HELP, rich_markup_mode=None)
            single.command(name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = name
        return command


COMMANDS = {
    "worker": Later(module="worker", name="worker", help="Run a worker, which sends what is queued."),
    "send": Later(module="message", name="send", help="Send one message and print its id."),
    "status": Later(module="status", name="status", help="Show one message, campaign or recipient."),
    "cancel": Later(module="status", name="cancel", help="Cancel a message or campaign: nothing more of it is sent."),
    "explain": Later(module="explain", name="explain", help="Show which SES call a message would become, and why."),
    "campaign": Later(module="campaign", name="app", help="Send one content to many recipients."),
    "suppression": Later(module="suppression", name="app", help="Manage the addresses that nothing is sent to."),
    "account": Later(module="account", name="account", help="Show the state, quota and use of the SES account, and what waits."),
    "doctor": Later(module="doctor", name="doctor", help="Check everything that a first real send needs."),
    "demo": Later(module="stack", name="demo", help="Send the sample campaign through a simulated SES."),
    "dev": Later(module="stack", name="dev", help="Run the whole service with a simulated SES, for other programs."),
}


class _Loaded(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        return COMMANDS[name].load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"commands": _Loaded()})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, later.help) for name, later in COMMANDS.items()])


app = typer.Typer(
    cls=_Commands,
    help="Send through Amazon SES v2: one message, or one to each of millions.",
    no_args_is_help=True,
    context_settings=_HELP,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mailer {version('mailer')}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.", show_default=False),
    ] = False,
) -> None:
    """Send through Amazon SES v2: one message, or one to each of millions."""
