"""``python -m tests.integration.forks``: commands of `mailer`, each in a process of its own that need not import anything.

Starting Python and importing takes most of a second, and there are a hundred commands to be tried. A line of JSON on standard
input says what is to be run; a line on standard output says how it ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..aws_models import read_before_forks


class Forks:
    """The server, and a client for it. A context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def close(self) -> None:
        self._process.communicate(timeout=30)

    def run(self, words: tuple[str, ...], folder: Path, environment: Mapping[str, str], stdin: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        with tempfile.TemporaryDirectory() as place:
            files = [os.path.join(place, name) for name in ("in", "out", "err")]
            Path(files[0]).write_text(stdin, encoding="utf-8")
            assert self._process.stdin
            assert self._process.stdout
            request = {"words": words, "folder": str(folder), "environment": dict(environment), "files": files}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = json.loads(self._process.stdout.readline())
            out, err = (Path(name).read_text(encoding="utf-8") for name in files[1:])
        return status, out, err


def _become(request: dict[str, object]) -> None:
    """In the child: be a fresh `mailer` as far as it can tell. Never returns."""
    from mailer.cli import main

    status = 70
    try:
        words, folder, environment, files = (request[name] for name in ("words", "folder", "environment", "files"))
        assert isinstance(words, list)
        assert isinstance(environment, dict)
        assert isinstance(files, list)
        for number, (name, mode) in enumerate(
            zip(files, (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT), strict=True)
        ):
            os.dup2(os.open(name, mode, 0o600), number)
        os.chdir(str(folder))
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["mailer", *words]
        main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def serve() -> None:
    from mailer.cli.app import COMMANDS

    for name, later in COMMANDS.items():  # what the commands need, once
        later.load(name)

    read_before_forks()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
