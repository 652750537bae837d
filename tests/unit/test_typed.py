"""Whoever uses mypy --strict or pyright, without a plugin, reads errors about their own code only."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailer import Mailer, SyncMailer

from ..documents import ROOT, Block, all_blocks

CALLS = ROOT / "tests/typed/calls.py"
BIN = Path(sys.executable).parent
HEAD = """\
from __future__ import annotations

from typing import Any

from mailer import Attachment, Campaign, Email, Mailer


async def example(mailer: Mailer, users: list[Any], token: str) -> None:
"""
# What a checker has to find: a comment marks each line.
WRONG = """\
import mailer
from mailer import Attachment, Campaign, Email, Mailer, Sender

Email(to="ana@example.org", form="you@example.com")  # wrong
Email(to=5)  # wrong
Email(to="ana@example.org", lane="fast")  # wrong
Email(headers=["X-A: b"])  # wrong
Campaign(to="ana@example.org")  # wrong
Attachment(filename="a.txt", content=b"")  # wrong
Attachment(name="a.txt")  # wrong
Sender()  # wrong
Mailer().send(Email(to="ana@example.org"), key="x")  # wrong
Email(to="ana@example.org").to.append("b")  # wrong
mailer.Emial  # wrong
"""


def examples() -> dict[str, str]:
    """The Python of README and docs, each block in a function that has what its text says is there."""
    blocks = [block for block in all_blocks("python") if not block.not_typed]
    return {f"{_name(block)}.py": HEAD + textwrap.indent(block.source, " " * 4) for block in blocks}


def _name(block: Block) -> str:
    return re.sub(r"\W", "_", f"{Path(block.page).stem}_{block.line}")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name, source in {**examples(), "calls.py": CALLS.read_text(encoding="utf-8"), "wrong.py": WRONG}.items():
        (folder / name).write_text(source, encoding="utf-8")
    return folder


def found(command: Sequence[str | Path], folder: Path) -> set[tuple[str, int]]:
    """File and line of each error."""
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110)
    lines = re.findall(r"(\w+\.py):(\d+):(?:\d+)?.*?\berror\b(.*)", ran.stdout)
    assert lines, ran.stdout + ran.stderr
    for name, line, text in lines:
        if name != "wrong.py":
            print(f"{name}:{line}{text}")
    return {(name, int(line)) for name, line, _ in lines}


def expected() -> set[tuple[str, int]]:
    return {("wrong.py", number) for number, line in enumerate(WRONG.splitlines(), 1) if "# wrong" in line}


@pytest.mark.slow
def test_mypy_in_strict_mode_finds_what_is_wrong_and_nothing_else(programs: Path) -> None:
    cache = ROOT / ".mypy_cache/without-plugins"  # of the installed packages: a second run takes a second
    options = [
        "--strict",
        "--config-file=",
        "--hide-error-context",
        f"--cache-dir={cache}",
        f"--python-executable={sys.executable}",
    ]
    assert found([BIN / "mypy", *options, *sorted(path.name for path in programs.glob("*.py"))], programs) == expected()


@pytest.mark.slow
def test_pyright_finds_what_is_wrong_and_nothing_else(programs: Path) -> None:
    (programs / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard"}))
    assert found([BIN / "basedpyright", "--pythonpath", sys.executable, "."], programs) == expected()


def test_every_public_call_is_among_the_calls_that_are_checked() -> None:
    source = CALLS.read_text(encoding="utf-8")
    for kind, called in ((Mailer, "mailer"), (SyncMailer, "sync")):
        methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        assert {name for name in methods if not re.search(rf"\b{called}\.{name}\(", source)} == set()


def test_the_python_blocks_of_readme_and_docs_are_checked() -> None:
    assert len(examples()) >= 10


def test_the_wheel_says_that_it_is_typed_and_has_all_files(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", "mailer", "worker"], cwd=ROOT, capture_output=True, text=True)
    assert "mailer/py.typed" in names
    assert tracked.returncode != 0 or set(tracked.stdout.split()) <= names
