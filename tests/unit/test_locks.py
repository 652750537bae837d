"""The locks name versions and hashes, and no registry."""

from __future__ import annotations

import json
import re

import pytest

from ..documents import ROOT


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
