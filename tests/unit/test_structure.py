"""The check of the house finds what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import structure


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(structure, "ROOT", tmp_path)
    for package in structure.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    return tmp_path / "mailer"


def test_a_cycle_of_imports_is_told(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (house / "a.py").write_text("from .b import x\n")
    (house / "b.py").write_text("import mailer.c\n")
    (house / "c.py").write_text("from . import a\n")
    assert structure.main() == 1
    assert "import each other: mailer." in capsys.readouterr().err


def test_what_is_imported_later_or_for_types_only_is_no_cycle(house: Path) -> None:
    (house / "a.py").write_text("from .b import x\n")
    later = "def f():\n    from .a import y\n"
    (house / "b.py").write_text(f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import y\n{later}")
    assert structure.main() == 0


def test_a_module_that_is_too_long_is_told(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (house / "a.py").write_text("x = 1\n" * (structure.MOST_LINES + 1))
    assert structure.main() == 1
    assert "mailer/a.py has 401 lines" in capsys.readouterr().err
