"""docs/cli.md, from the Typer application."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import typer.main

from mailer.cli.app import app

from .markdown import code, codes, fill, paragraphs, table, with_code

_CHOICE = re.compile(r"\[([\w|]+)\]")


def commands(command: Any = None, words: str = "mailer") -> Iterator[tuple[str, Any]]:
    """`mailer campaign start` and its command, for every group and command; a group before what is in it."""
    command = typer.main.get_command(app) if command is None else command
    yield words, command
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from commands(command.get_command(None, name), f"{words} {name}")


def page(text: str) -> str:
    return fill(text, {"commands": "\n".join(_command(words, command) for words, command in commands())})


def _command(words: str, command: Any) -> str:
    depth = len(words.split())
    parts = [f"{'#' * max(2, depth)} `{words}`\n", f"{paragraphs(with_code(command.help))}\n"]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    if hasattr(command, "list_commands"):
        parts.append(_contents(words, command))
    else:
        usage = " ".join([words, *(["[OPTIONS]"] if options else []), *(_named(one) for one in arguments)])
        parts.append(f"```\n{usage}\n```\n")
    if arguments:
        parts.append(table(("argument", "meaning"), [(code(_named(one)), _meaning(one)) for one in arguments]))
    if options:
        parts.append(table(("option", "default", "meaning"), [(_option(one), _default(one), _meaning(one)) for one in options]))
    return "\n".join(parts)


def _contents(words: str, group: Any) -> str:
    """The commands of a group, each with its first sentence."""
    names = [(f"{words} {name}", group.get_command(None, name)) for name in group.list_commands(None)]
    rows = [(f"[{code(name)}](#{name.replace(' ', '-')})", with_code(one.help.partition("\n\n")[0])) for name, one in names]
    return table(("command", "does"), rows)


def _named(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option(option: Any) -> str:
    names = codes([*option.opts, *option.secondary_opts])
    if option.is_flag or _CHOICE.fullmatch(option.metavar or ""):
        return names
    return f"{names[:-1]} {option.metavar}`" if option.metavar else names


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return with_code(option.show_default)
    default = option.default() if callable(option.default) else option.default
    if default in (None, False, "") or (isinstance(default, Sequence) and not default):
        return ""
    return code(default.value if isinstance(default, StrEnum) else f"{default:g}" if isinstance(default, float) else str(default))


def _meaning(one: Any) -> str:
    choice = _CHOICE.fullmatch(one.metavar or "")
    known = f" One of {codes(choice[1].split('|'))}." if choice else ""
    return with_code(one.help or "") + known
