"""All the commands, and the one that becomes a worker."""

from __future__ import annotations

import os
import sys

import typer

from . import account, campaign, explain, message, stack, suppression

app = typer.Typer(
    help="Send through Amazon SES v2: one message, or one to each of millions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def worker() -> None:
    """Serve the lanes of MAILER_LANES. Health and metrics are on MAILER_HTTP_PORT."""
    # Become it, and not import it: the library and its commands know nothing of the worker's code.
    # -P, so that a file worker.py of the folder that the user is in is not taken for it.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker"])  # noqa: S606


app.command("send")(message.send)
app.command("status")(message.status)
app.command("explain")(explain.explain)
app.add_typer(campaign.app, name="campaign")
app.command("account")(account.account)
app.add_typer(suppression.app, name="suppression")
app.command("demo")(stack.demo)
app.command("dev")(stack.dev)
