"""docs/testing-your-app.md does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from fastapi.routing import APIRoute

from mailer.simulator import AccountChange, Fault, Kind, Simulator, SimulatorConfig, control
from mailer.simulator.__main__ import _parser

PAGE = (Path(__file__).parents[2] / "docs/testing-your-app.md").read_text(encoding="utf-8")


def test_the_example_tests_pass(tmp_path: Path) -> None:
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(code)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAILER_", "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110)
    assert (done.returncode, "3 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_every_control_is_in_the_table_and_nothing_else_is() -> None:
    documented = set(re.findall(r"^\| `(\w+ /_simulator\S*)` \|", PAGE, re.MULTILINE))
    routes = [route for route in control.router(Simulator(SimulatorConfig())).routes if isinstance(route, APIRoute)]
    assert documented == {f"{method} {route.path}" for route in routes for method in route.methods or ()}


def test_what_a_control_takes_and_a_message_has_is_named() -> None:
    for name in (*AccountChange.model_fields, *Fault.model_fields, *Kind):
        assert f"`{name}`" in PAGE, name


def test_every_option_of_the_simulator_that_the_page_names_is_there() -> None:
    options = {option for action in _parser()._actions for option in action.option_strings}
    assert {"--host", "--port", "--allow-host"} <= options & set(re.findall(r"--[\w-]+", PAGE))
