"""Regular files. A path that somebody typed may name a pipe, a device or a folder, of which a read has no end or never begins."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFile(OSError):
    """`strerror` says what it is in place of a file."""

    def __init__(self, kind: str) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a file")
        self.kind = kind


def open_regular(path: str | Path) -> tuple[BinaryIO, int]:
    """The file and its size in bytes. Raises NotAFile, and OSError with a sentence for people."""
    try:
        # O_NONBLOCK: to open a pipe waits for whoever writes to it. To a regular file it makes no difference.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError:
        raise OSError(errno.EINVAL, "this is not the name of a file") from None
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "there is no such file") from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NotAFile("a socket") from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(_KINDS.get(stat.S_IFMT(status.st_mode), "something else"))
        return open(fd, "rb"), status.st_size
    except BaseException:
        os.close(fd)
        raise
