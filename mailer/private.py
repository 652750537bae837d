"""Files and folders with people's addresses in them: nobody but their owner may read them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import BinaryIO

FOLDER, FILE = 0o700, 0o600
UMASK = 0o077  # of programs that write such files


def make_folder(path: Path, *, parents: bool = False) -> None:
    """One that is there already stays as it is. Raises OSError."""
    path.mkdir(mode=FOLDER, parents=parents, exist_ok=True)


def close_to_others(path: Path) -> None:
    """A folder that is there already, made by an older version or by hand. Raises OSError."""
    if path.stat().st_mode & UMASK and path.stat().st_uid == os.geteuid():
        path.chmod(FOLDER)


def create(path: Path) -> BinaryIO:
    """A new file to write to. Raises FileExistsError, OSError."""
    return _open(path, os.O_EXCL)


def write_anew(path: Path) -> BinaryIO:
    """A file to write to, which is empty; one that is there keeps its mode. Raises OSError."""
    return _open(path, os.O_TRUNC)


def _open(path: Path, flag: int) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, FILE), "wb")


def why_not_ours(path: Path) -> str | None:
    """Half a sentence where somebody else could read and change what is in a folder or file. Raises OSError.

    One that root has given to a group of this process, as Kubernetes does with a volume, is as good as our own.
    """
    owner, own = path.stat().st_uid, os.geteuid()
    if owner in (own, 0):
        return None
    return f"belongs to {_name(owner)}, and this process runs as {_name(own)}"


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user, which has no name there
        return f"user {number}"
