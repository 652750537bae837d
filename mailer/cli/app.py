"""All the commands, and the one that becomes a worker."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..program import other_worker, worker_command
from . import account, campaign, doctor, explain, message, stack, status
from .output import hint


class _Commands(TyperGroup):
    """`suppression` is imported when it is asked for: it needs boto, which would make every command a third of a second later."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), "suppression"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name != "suppression":
            return super().get_command(ctx, cmd_name)
        from . import suppression

        command = typer.main.get_command(suppression.app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    help="Send through Amazon SES v2: one message, or one to each of millions.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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


@app.command()
def worker() -> None:
    """Serve the lanes of MAILER_LANES. Health and metrics are on MAILER_HTTP_PORT."""
    # Become it, and not import it: the library and its commands know nothing of the worker's code.
    if other := other_worker():
        hint(f"{other} is another program, which `python -m worker` and arq would run here; this is the mailer's own worker")
    command = worker_command()
    os.execv(command[0], command)  # noqa: S606


app.command("send")(message.send)
app.command("status")(status.status)
app.command("explain")(explain.explain)
app.add_typer(campaign.app, name="campaign")
app.command("account")(account.account)
app.command("doctor")(doctor.doctor)
app.command("demo")(stack.demo)
app.command("dev")(stack.dev)
