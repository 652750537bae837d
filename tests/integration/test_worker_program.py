"""An application has a worker.py of its own: `mailer worker` is still the mailer's, and says what is in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import worker
from mailer.doctor import local as here
from mailer.program import other_worker

MAILER = str(Path(sys.executable).with_name("mailer"))
THEIRS = 'print("this is the application\'s own worker")\n'
NO_REDIS = "redis://127.0.0.1:1/0"


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "MAILER_REDIS_URL": NO_REDIS, "MAILER_LOG_FORMAT": "json", **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60)


@pytest.fixture(params=["worker.py", "worker/__init__.py"])
def application(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    file = tmp_path / str(request.param)
    file.parent.mkdir(exist_ok=True)
    file.write_text(THEIRS)
    if file.name == "__init__.py":
        (file.parent / "__main__.py").write_text(THEIRS)
    return file


@pytest.mark.parametrize("path", ["", ".", "here"])
def test_mailer_worker_runs_ours_and_says_which_file_is_in_the_way(application: Path, tmp_path: Path, path: str) -> None:
    environment = {"PYTHONPATH": str(tmp_path) if path == "here" else path}
    assert "own worker" in run(tmp_path, sys.executable, "-m", "worker", **environment).stdout  # what it is about
    done = run(tmp_path, MAILER, "worker", **environment)
    assert done.returncode == 1
    assert "own worker\n" not in done.stdout
    first, *rest = done.stderr.splitlines()
    what = f"{application} is another program, which `python -m worker` and arq would run here"
    assert first == f"hint: {what}; this is the mailer's own worker"
    assert rest[-1].startswith("mailer: Redis at redis://127.0.0.1:1/0 cannot be used")


def test_without_another_worker_there_is_no_word_of_it(tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()  # a folder of other things, which gives way
    done = run(tmp_path, MAILER, "worker", PYTHONPATH=".")
    assert done.returncode == 1
    assert "hint" not in done.stderr
    assert "Redis at" in done.stderr


def test_the_stack_runs_ours_too(application: Path, tmp_path: Path) -> None:
    done = run(tmp_path, MAILER, "demo", "--rate", "2000", "--json", PYTHONPATH=str(tmp_path), TMPDIR=str(tmp_path))
    assert (done.returncode, '"state":"finished"' in done.stdout) == (0, True), done.stderr


def test_the_doctor_names_the_file(application: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert other_worker() == application
    (finding,) = here.worker_program()
    assert str(application) in finding.found
    assert "`mailer worker`" in (finding.do or "")
    monkeypatch.chdir(Path(worker.__file__).parent.parent)  # a checkout: what is here is ours
    assert here.worker_program() == []
