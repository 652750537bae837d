"""What `mailer` exports is imported when it is first used, and looks to checkers and editors as if it were all there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import mailer


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_a_checker_sees_is_what_a_program_gets() -> None:
    tree = ast.parse(Path(mailer.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: f"mailer.{node.module}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    del seen["import_module"]
    assert seen.keys() == set(mailer.__all__)
    assert len(seen) == len(mailer.__all__)
    for name, home in seen.items():
        __import__(home)
        assert getattr(mailer, name) is getattr(sys.modules[home], name)


def test_an_editor_is_told_of_each_name_before_it_is_used() -> None:
    assert python("import mailer; print(set(mailer.__all__) <= set(dir(mailer)))") == "True\n"


@pytest.mark.slow
def test_each_name_can_be_imported_and_each_module_of_them_first() -> None:
    program = """
import sys
from mailer import _HOME as homes
for name in {home: name for name, home in homes.items()}.values():
    for module in [module for module in sys.modules if module.split(".")[0] == "mailer"]:
        del sys.modules[module]
    exec(f"from mailer import {name}")
for name in homes:
    exec(f"from mailer import {name}")
    print(name)
"""
    assert sorted(python(program).split()) == sorted(mailer.__all__)


def test_all_of_them_at_once() -> None:
    assert python("from mailer import *\nimport mailer\nprint(set(mailer.__all__) <= set(globals()))") == "True\n"


def test_the_package_itself_imports_nothing() -> None:
    assert python("import sys; old = set(sys.modules); import mailer; print(set(sys.modules) - old)") == "{'mailer'}\n"


def test_a_module_of_exports_is_there_without_an_import_of_its_own() -> None:
    assert python("import mailer; print(mailer.errors.NotFound is mailer.NotFound)") == "True\n"


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match=r"^module 'mailer' has no attribute 'Emial'$"):
        getattr(mailer, "Emial")  # noqa: B009  # a checker would refuse it
    with pytest.raises(ImportError, match="cannot import name 'Emial' from 'mailer'"):
        exec("from mailer import Emial")


def test_a_command_imports_nothing_of_weight_before_it_hears_ctrl_c() -> None:
    heavy = "{name.split('.')[0] for name in set(sys.modules) - old} - set(sys.stdlib_module_names)"
    ours = "{name for name in sys.modules if name.startswith('mailer')}"
    program = f"import sys; old = set(sys.modules)\nfrom mailer.cli import main\nprint({heavy}, sorted({ours}))"
    assert python(program) == "{'mailer'} ['mailer', 'mailer.cli', 'mailer.interrupt']\n"


def test_a_command_is_imported_when_it_is_asked_for_and_its_line_is_its_own() -> None:
    from mailer.cli.app import COMMANDS, app

    for name, later in COMMANDS.items():
        command = later.load(name)
        assert command.get_short_help_str(100).rstrip(".") == later.help.rstrip(".")
    assert list(COMMANDS) == typer.main.get_command(app).list_commands(None)  # type: ignore[attr-defined]
