"""What pyproject.toml says of the project is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from trove_classifiers import classifiers

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_license_is_the_one_that_the_project_declares() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")


def test_every_classifier_is_one_that_there_is() -> None:
    assert set(PROJECT["classifiers"]) <= classifiers


def test_the_classifiers_name_the_pythons_that_the_project_runs_on() -> None:
    named = {int(one) for one in re.findall(r":: 3\.(\d+)'", str(PROJECT["classifiers"]))}
    least, most = map(int, re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert named == set(range(least, most))


def test_the_image_is_made_with_what_the_project_names() -> None:
    """Without the license there is no wheel."""
    dockerfile, ignored = ((ROOT / name).read_text() for name in ("deploy/Dockerfile", ".dockerignore"))
    for name in (PROJECT["readme"], *PROJECT["license-files"]):
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", dockerfile, re.MULTILINE)
        assert f"!{name}\n" in ignored
