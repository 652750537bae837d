"""The README and the program say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mailer import Campaign, Email, Sender, Settings
from mailer.cli.app import app
from mailer.redis.access import rule

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
IN_TOML_ONLY = {"senders"}


def documented_settings() -> dict[str, str]:
    """Variable → its default, from the table of settings."""
    found: dict[str, Any] = {}
    for names, default in re.findall(r"^\| ((?:`MAILER_\w+`(?:, )?)+) \| (.*?) \|", README, re.MULTILINE):
        variables = re.findall(r"MAILER_\w+", names)
        for variable, value in zip(variables, re.split(r"[,;] (?=`)", default) if len(variables) > 1 else [default], strict=True):
            found[variable] = value.strip("`")
    return found


def test_every_setting_is_in_the_table_and_nothing_else_is() -> None:
    fields = {f"MAILER_{name.upper()}" for name in Settings.model_fields.keys() - IN_TOML_ONLY}
    assert documented_settings().keys() == fields


def test_the_defaults_in_the_table_are_the_defaults() -> None:
    table = documented_settings()
    for name, field in Settings.model_fields.items():
        if name in IN_TOML_ONLY or name.startswith("log_"):
            continue
        default = field.default
        text = "unset" if default is None else ",".join(default) or "empty" if isinstance(default, tuple) else f"{default}"
        text = text.lower() if isinstance(default, bool) else text
        assert table[f"MAILER_{name.upper()}"] == text, name


def test_every_key_of_a_sender_is_named() -> None:
    section = README[README.index("[senders.news]") : README.index("## How it works")]
    names = {field.alias or name for name, field in Sender.model_fields.items()}
    assert {name for name in names if not re.search(rf"\b{name}\b", section)} == set()


def commands(group: Any, prefix: str = "mailer") -> dict[str, Any]:
    """`mailer campaign start` → the command, for every command there is."""
    found: dict[str, Any] = {}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        words = f"{prefix} {name}"
        found |= commands(command, words) if hasattr(command, "commands") else {words: command}
    return found


THERE = commands(typer.main.get_command(app))


def test_every_command_is_named_and_every_named_command_is_there() -> None:
    table = README[README.index("## Commands") : README.index("## Settings")].replace("\\|", "|")
    groups = re.findall(r"`mailer (campaign|suppression) ([^`]*)`", table)
    named = {f"mailer {group} {name.strip()}" for group, names in groups for name in names.split("|")}
    named |= {f"mailer {name}" for name in re.findall(r"`mailer (\w+)(?: ID)?`", table)}
    assert named == THERE.keys()


def test_every_option_in_an_example_is_there() -> None:
    lines = re.findall(r"^\$ (mailer (?:send|explain|campaign \w+|suppression \w+)(?:.*\\\n)*.*)$", README, re.MULTILINE)
    assert len(lines) > 12
    for line in lines:
        words = line.split()
        command = THERE.get(" ".join(words[:3])) or THERE[" ".join(words[:2])]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z]+)\b(?=[` ])", README))))
def test_every_make_target_that_is_named_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_the_python_example_is_python_and_its_models_take_what_it_gives() -> None:
    source = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert source is not None
    body = "\n".join(f"    {line}" for line in source[1].splitlines())
    compile(f"async def example():\n{body}\n", "README.md", "exec")
    Email(to="ana@example.org", from_="you@your-domain.com", template="welcome", data={"name": "Ana"})
    Campaign(name="June", from_="news@your-domain.com", template="newsletter")


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("*.lock")))
def test_a_lock_names_versions_and_hashes_and_no_registry(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    packages = re.split(r"\n(?! )", text.strip())
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9._-]+(\[[a-z0-9,]+\])?==\S+.*\\\n +--hash=sha256:", package), package


def test_the_lock_of_npm_names_versions_and_hashes_and_no_registry() -> None:
    packages = json.loads((ROOT / "tests/interop/package-lock.json").read_text())["packages"]
    project = packages.pop("")
    assert {f"node_modules/{name}" for name in project["dependencies"]} <= packages.keys()
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert package["version"]
        assert package["integrity"].startswith("sha512-")


def test_the_readme_has_the_least_rights_of_a_user_of_redis() -> None:
    assert f"\n{rule('mailer')}\n" in README
