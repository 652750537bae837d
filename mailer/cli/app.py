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
    "worker": Later(module="worker", name="worker", help="Serve the lanes of MAILER_LANES."),
    "send": Later(module="message", name="send", help="Send one message; prints its id."),
    "status": Later(module="status", name="status", help="Show one message, campaign or recipient."),
    "cancel": Later(module="status", name="cancel", help="Send a message or campaign to nobody any more."),
    "explain": Later(module="explain", name="explain", help="Show which SES call a message would become, and why."),
    "campaign": Later(module="campaign", name="app", help="One content to many recipients."),
    "suppression": Later(module="suppression", name="app", help="Addresses that nothing is sent to."),
    "account": Later(module="account", name="account", help="Show what the SES account may do, and what of it is used."),
    "doctor": Later(module="doctor", name="doctor", help="Check everything that a first real send needs."),
    "demo": Later(module="stack", name="demo", help="Send the sample list through a simulated SES."),
    "dev": Later(module="stack", name="dev", help="Keep the same stack running."),
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
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.", show_default=False)
    ] = False,
) -> None:
    """Send through Amazon SES v2: one message, or one to each of millions."""
