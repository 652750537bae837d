"""What a path names is a file, or it is refused at once: nothing waits for a pipe, and nothing reads a device to its end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mailer import Attachment
from mailer.errors import InvalidEmail
from mailer.message.mime import MAX_RAW
from mailer.regular import NotAFile, open_regular


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, str]:
    """What it is in place of a file → its path."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    return {"a pipe": f"{tmp_path}/link", "a socket": f"{tmp_path}/socket", "a device": "/dev/zero", "a folder": str(tmp_path)}


@pytest.mark.timeout(10)
def test_pipes_sockets_devices_and_folders_are_no_files(odd: dict[str, str]) -> None:
    for kind, path in odd.items():
        with pytest.raises(NotAFile) as caught:
            open_regular(path)
        assert caught.value.strerror == f"it is {kind}, not a file"
        with pytest.raises(InvalidEmail, match=f"{path} cannot be read: it is {kind}, not a file"):
            Attachment.from_path(path)


def test_no_descriptor_is_left_open(odd: dict[str, str]) -> None:
    before = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else []
    for path in odd.values():
        with pytest.raises(NotAFile):
            open_regular(path)
    assert before == (os.listdir("/proc/self/fd") if before else [])


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content := os.urandom(3_000_000))
    opened, size = open_regular(tmp_path / "a.bin")
    with opened:
        assert (opened.read(), size) == (content, len(content))
    assert Attachment.from_path(tmp_path / "a.bin").content == content


@pytest.mark.parametrize(
    ("path", "why"), [("", "it is a folder"), ("none", "there is no such file"), ("a\x00b", "this is not the name of a file")]
)
def test_what_is_not_there_gets_a_sentence(path: str, why: str) -> None:
    with pytest.raises(InvalidEmail, match=f"cannot be read: {why}"):
        Attachment.from_path(path)


def test_no_more_of_a_file_is_read_than_ses_takes(tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as file:
        file.truncate(1 << 40)  # a file of holes: a terabyte that takes no room
    with pytest.raises(InvalidEmail, match=f"has {1 << 40:,} bytes, and SES takes {MAX_RAW:,}"):
        Attachment.from_path(tmp_path / "a.bin")
