"""What `mailer doctor` says of this machine's packages, and of errors."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from mailer.doctor import State
from mailer.doctor import local as here
from mailer.doctor.finding import told
from mailer.errors import ConfigError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_the_packages_and_pythons_that_it_knows_are_those_of_the_project() -> None:
    first, beyond = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert ((3, int(first)), (3, int(beyond) - 1)) == here.PYTHONS
    wanted = {re.match(r"[A-Za-z0-9-]+", text)[0]: text for text in PROJECT["dependencies"]}  # type: ignore[index]
    for package, start in here.PACKAGES.items():
        assert re.search(rf">={re.escape(start.rstrip('.'))}\b", wanted[package]), package


def test_packages_and_a_python_that_were_not_tried_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert here.versions().state is State.OK
    monkeypatch.setitem(here.PACKAGES, "arq", "0.29.")
    assert "not tried with arq 0.28" in here.versions().found
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert here.versions().do == "use Python 3.11, 3.12 or 3.13"


@pytest.mark.parametrize(
    ("why", "found", "do"),
    [
        ("it is broken; mend it", "X: it is broken", "mend it"),
        ("it is broken; it is old; mend it.", "X: it is broken; it is old", "mend it"),
        ("it is broken", "X: it is broken", "mend that, and run `mailer doctor` again"),
    ],
)
def test_an_error_says_what_was_found_and_what_to_do(why: str, found: str, do: str) -> None:
    one = told("store", ConfigError(where="X", why=why))
    assert (one.state, one.found, one.do) == (State.WRONG, found, do)
