"""Files and folders with addresses in them are for their owner only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer import private
from mailer.cli import ports
from mailer.cli.processes import Stack
from mailer.errors import ConfigError
from mailer.ledger.store import FileObjects
from mailer.suppression import files

OTHER = 4711  # no user has it


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


async def test_a_store_is_for_its_owner_only(tmp_path: Path) -> None:
    objects = FileObjects(tmp_path / "store")
    await objects.check()
    await objects.put({"c1/0.json.z": b"ana@example.org"})
    assert modes(tmp_path / "store") == {"store": 0o700, "c1": 0o700, "0.json.z": 0o600}
    assert await objects.get("c1/0.json.z") == b"ana@example.org"
    await objects.close()


@pytest.mark.parametrize("name", ["list.csv", "list.csv.gz"])
def test_an_export_is_for_its_owner_only_unless_it_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for wanted in (0o600, 0o640):
        with files.create(path) as file:
            file.write(b"ana@example.org")
        assert path.stat().st_mode & 0o777 == wanted
        path.chmod(0o640)  # whoever has said who may read it is obeyed


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that belongs to somebody else."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, OTHER, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: OTHER)
    return folder


async def test_a_store_that_belongs_to_somebody_else_is_refused_with_their_names(foreign: Path) -> None:
    objects = FileObjects(foreign)
    with pytest.raises(
        ConfigError, match=r"^MAILER_STORE_URL: \S+ belongs to \S+( \d+)?, and this process runs as \S+( \d+)?; "
    ) as caught:
        await objects.check()
    assert str(caught.value).endswith("name a folder of its own, or give it this one with chown")
    assert list(foreign.iterdir()) == []
    await objects.close()


async def test_a_folder_of_somebody_else_is_none_for_mailer_dev(foreign: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"/theirs: belongs to .+, and this process runs as .+; name another folder with --dir$"
    ):
        async with Stack(foreign, max_send_rate=1):
            raise AssertionError("it was used")
    assert list(foreign.iterdir()) == []


def test_a_volume_that_root_has_given_to_our_group_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        assert private.why_not_ours(Path("/")) is None
    else:
        monkeypatch.setattr("os.geteuid", lambda: OTHER)
        assert private.why_not_ours(tmp_path) is None


# ---- ports ---------------------------------------------------------------------------------------------------------------


async def _listen(port: int) -> asyncio.Server:
    return await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)


async def test_the_usual_port_is_taken_where_it_is_free_and_another_one_with_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual = ports.free_port()
    assert ports.choose(None, usual, "--ses-port", "the simulated SES") == usual
    assert ports.choose(0, usual, "--ses-port", "the simulated SES") != 0
    assert capsys.readouterr().err == ""
    server = await _listen(usual)
    async with server:
        other = ports.choose(None, usual, "--ses-port", "the simulated SES")
        assert other != usual
        expected = f"port {usual} is taken, so the simulated SES listens on {other}; --ses-port names another one\n"
        assert capsys.readouterr().err == expected
        with pytest.raises(
            ConfigError, match=rf"^--ses-port: port {usual} cannot be listened on \(Address already in use\); name"
        ):
            ports.choose(usual, 1, "--ses-port", "the simulated SES")


async def test_a_port_whose_last_connections_are_not_forgotten_yet_is_free() -> None:
    server = await _listen(0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read()  # the server closes first, which keeps the port for a minute
    writer.close()
    server.close()
    await server.wait_closed()
    assert ports.choose(port, 1, "--ses-port", "the simulated SES") == port
